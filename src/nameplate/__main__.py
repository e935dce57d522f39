"""`python -m nameplate` is the command `bench`, and this is where it begins and ends."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the command line and run it.

    While it loads, and after its end, there is nothing to tell or to clean up: Ctrl-C then ends the process
    by its signal, as it does any other program, where Python would print a traceback. A SIGINT that is
    ignored (a job in a shell's background) stays ignored.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_pythons_own = handler is signal.default_int_handler
    if is_pythons_own:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from nameplate.cli import main as run

    if is_pythons_own:
        signal.signal(signal.SIGINT, handler)
    try:
        run()
    finally:
        if is_pythons_own:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
