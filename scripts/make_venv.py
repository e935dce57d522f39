"""Make .venv, in which Nameplate runs and is tested: `python3 scripts/make_venv.py [FOLDER]`.

This file only checks that the Python it is run by will do, so its syntax and its imports stay those of Python
3.6: an old Python has to get far enough to say what is wrong. The work is in venv_steps.py, which decides
nothing, and venv_plan.py, which does nothing but decide.
"""

import importlib.util
import os
import sys

if False:  # for type checkers alone: Python 3.6 has no such import at run time
    from collections.abc import Callable

MINIMUM = (3, 11)


def python_fault(
    version: "tuple[int, ...]", executable: str, has_module: "Callable[[str], bool]"
) -> "str | None":
    """Say in one sentence why this Python can't make the environment; None where it can.

    `version` is (major, minor, ...), `executable` its path; `has_module` tells whether it has a module.
    """
    if tuple(version[:2]) < MINIMUM:
        return (
            "Python: {} is Python {}.{}, but Nameplate needs {}.{} or newer; install one and name it: "
            "make PYTHON=/path/to/python3 run"
        ).format(executable, version[0], version[1], *MINIMUM)
    missing = [name for name in ("venv", "ensurepip") if not has_module(name)]
    if missing:
        return (
            "Python: {} lacks its module {}, but making .venv needs both venv and ensurepip; add it "
            "(on Debian and Ubuntu: apt install python3-venv) or name another Python: "
            "make PYTHON=/path/to/python3 run"
        ).format(executable, " and ".join(missing))
    return None


def has_module(name: str) -> bool:
    """Tell whether this Python has the module, without importing it."""
    return importlib.util.find_spec(name) is not None


def main(arguments: "list[str]") -> int:
    """Check this Python, then set up; returns the exit status."""
    fault = python_fault(tuple(sys.version_info[:2]), sys.executable, has_module)
    if fault is None and len(arguments) > 1:
        fault = "make_venv.py: got {} arguments, expected at most one, the folder".format(len(arguments))  # noqa: UP032
    if fault is not None:
        sys.stderr.write(fault + "\n")
        return 2

    # Beside this file, whatever PYTHONSAFEPATH says.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import venv_steps

    return venv_steps.set_up(arguments[0] if arguments else ".venv")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
