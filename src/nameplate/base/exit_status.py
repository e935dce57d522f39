"""How a process ends: exit statuses, ends by a signal, and the report of an unforeseen error.

The command line and the measuring processes both use it, so it imports nothing heavy.
"""

from __future__ import annotations

import errno
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType

from nameplate.base.text import plain

_ENDING = (signal.SIGTERM, signal.SIGHUP)  # what asks a process to end, beside SIGINT
_TOGETHER_S = 1.0  # signals so close to each other are one request
_LONGEST = 300  # characters that a sentence quotes of the text of an unforeseen error

# Errors of a disk or device that accepts no more data, unlike those of a path that can't be written to.
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ExitStatus(IntEnum):
    """The exit statuses of commands and measuring processes; ended by another signal: 128 + its number."""

    DONE = 0  # skipped cases included, each with its reason
    CHECK_FAILED = 1  # a check that the user asked for: a regression, a self-test, --strict
    BAD_INPUT = 2  # a flag, file or device can't be used; one sentence says why
    INCOMPLETE = 3  # a run has failed or missing cases, or measured nothing
    UNFORESEEN = 70  # an unforeseen error, or output that can't be written
    HANGUP = 128 + signal.SIGHUP
    INTERRUPTED = 128 + signal.SIGINT
    CLOSED_PIPE = 128 + signal.SIGPIPE
    TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end. It is handled like Ctrl-C, clean-up included."""

    def __init__(self, number: int) -> None:
        """Keep the exit status that belongs to signal `number`."""
        super().__init__(signal.Signals(number).name)
        self.exit_status = ExitStatus(128 + number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise Terminated inside the block on SIGTERM and SIGHUP, as Python raises KeyboardInterrupt on SIGINT.

    A signal that is ignored (nohup) stays ignored. What comes within a second of the first belongs to it (a
    terminal that is closed sends SIGHUP twice: the system and the shell); a later one ends the process at
    once. Only the main thread receives signals, so in another thread this does nothing.
    """
    first_s: float | None = None

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal first_s
        if first_s is None:
            first_s = time.monotonic()
            raise Terminated(number)
        if time.monotonic() - first_s > _TOGETHER_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with signals_handled(end, find_default(*_ENDING)):
        yield


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back what asks this process to end while the block cleans up; it comes after the block.

    Where an error or another signal is ending the process already, it is dropped.
    """
    held: list[int] = []
    ending = sys.exc_info()[1] is not None
    numbers = [each for each in (signal.SIGINT, *_ENDING) if signal.getsignal(each) is not signal.SIG_IGN]
    # A handler of ours, not SIG_IGN, which programs that the block starts would inherit.
    with signals_handled(lambda number, _frame: held.append(number), numbers):
        yield
    for number in () if ending else held:
        signal.raise_signal(number)


def find_default(*numbers: signal.Signals) -> list[signal.Signals]:
    """Return those of the signals that nobody handles or ignores."""
    return [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]


@contextmanager
def signals_handled(
    handler: Callable[[int, FrameType | None], object], numbers: Iterable[signal.Signals]
) -> Iterator[None]:
    """Handle signals so inside the block; in another thread than the main one this does nothing."""
    before = {}
    try:
        with suppress(ValueError):
            for number in numbers:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def is_write_error(error: OSError) -> bool:
    """Tell whether writing failed (a full disk) rather than the path (a missing folder)."""
    return error.errno in _WRITE_ERRORS


def report_unforeseen(error: BaseException, what: str | None = None) -> ExitStatus:
    """Print one sentence on standard error and save the traceback; returns the exit status.

    `what` is the sentence, by default the error's name and text. The traceback goes into a file in the
    system's temporary folder, or below the sentence where that can't be written.
    """
    said = what or f"unforeseen {type(error).__name__}: {_shorten(error)}"
    trace = "".join(traceback.format_exception(error))
    try:
        descriptor, path = tempfile.mkstemp(prefix="nameplate-traceback-", suffix=".txt", text=True)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
    except OSError:
        print_error(f"{said}; its traceback can't be kept:\n{trace.rstrip()}")
    else:
        print_error(f"{said}; its traceback is in {path}")
    return ExitStatus.UNFORESEEN


def _shorten(error: BaseException) -> str:
    text = plain(error)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def print_error(sentence: str) -> None:
    """Print `bench: sentence` on standard error, if anybody can read it."""
    with suppress(OSError):
        print(f"bench: {sentence}", file=sys.stderr, flush=True)
