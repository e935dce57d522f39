"""How `bench` ends: what it says on standard error, and with which exit status."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import typer

from nameplate.base.errors import InputError, NameplateError
from nameplate.base.exit_status import (
    ExitStatus,
    is_write_error,
    print_error,
    raise_on_signals,
    report_unforeseen,
)
from nameplate.base.text import plain

# typer names this one of its errors; its base is that of all that say a command line can't be used.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_SHOULD_BE = "Input should be "
_NO_COMMAND = re.compile(r"No such command '(.*?)'")


def run(command: Callable[[], object]) -> int:
    """Run a command to its end; returns the exit status, and says why where it isn't 0."""
    _open_closed_streams()
    try:
        with raise_on_signals():
            try:
                _check_working_directory()
                command()
            finally:
                # What was printed comes before a sentence that says why it ended; and only here can be said
                # that it couldn't be written.
                sys.stdout.flush()
    except BaseException as error:
        return _status_of(error)
    finally:
        _drop_what_cannot_be_written()
    return ExitStatus.DONE


def _status_of(error: BaseException) -> int:
    """The exit status of a command that ended with this error, which is said where there's more to say."""
    match error:
        case typer.Exit():
            return error.exit_code
        case _UsageError():
            return _say(usage_error(error, sys.argv[1:]))
        case NameplateError():
            return _say(error)
        case KeyboardInterrupt() | typer.Abort():  # Terminated among them
            return getattr(error, "exit_status", ExitStatus.INTERRUPTED)
        case BrokenPipeError() | SystemExit(__context__=BrokenPipeError()):  # rich makes the latter of it
            return ExitStatus.CLOSED_PIPE
        case SystemExit(code=None | 0):
            return ExitStatus.DONE
        case OSError() if error.filename is None and is_write_error(error):
            return report_unforeseen(error, f"output can't be written: {error.strerror}")
    return report_unforeseen(error)


def _say(error: NameplateError) -> ExitStatus:
    # A sentence may quote a file or a name from outside.
    if error.exit_status == ExitStatus.UNFORESEEN:
        return report_unforeseen(error, plain(error))
    print_error(plain(error))
    return error.exit_status


def usage_error(error: Any, arguments: Sequence[str]) -> InputError:
    """What typer says of a command line that can't be used, as one sentence: what, where, got, expected.

    Its errors are read by what they hold, for which classes they are depends on typer's version.
    """
    command = error.ctx.command_path if error.ctx is not None else None
    where = None if command == "bench" else command
    listed = command and f"what `{command} --help` lists"
    if type(error).__name__ == "NoArgsIsHelpError":
        with suppress(OSError):
            print(error.ctx.get_help(), file=sys.stderr)
        return InputError("no command was given", where=where, expected="one of those above")
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        near = " or ".join(sorted(error.possibilities or ()))
        return InputError("no such option", where=where, got=error.option_name, expected=near or listed)
    if (parameter := getattr(error, "param", None)) is not None and error.message:
        return _unusable(parameter, error.message, command, arguments)
    said = " ".join(error.format_message().split())
    if found := _NO_COMMAND.match(said):
        known = error.ctx.command.list_commands(error.ctx)
        near = " or ".join(difflib.get_close_matches(found[1], known))
        return InputError("no such command", where=where, got=found[1], expected=near or listed)
    return InputError(f"{said[:1].lower()}{said[1:].rstrip('.')}", where=where, expected=listed)


def _unusable(parameter: Any, message: str, command: str | None, arguments: Sequence[str]) -> InputError:
    """A value that its parameter can't take."""
    flags = [*parameter.opts, *parameter.secondary_opts]
    where = flags[0] if flags[0].startswith("-") else f"{command} {parameter.human_readable_name}"
    got = _given(flags, arguments)
    if message.startswith(_SHOULD_BE):  # pydantic's words, which typer passes on; click's own name the value
        expected = message.removeprefix(_SHOULD_BE).partition(", unable")[0]
        return InputError("can't be used", where=where, got=got, expected=expected)
    return InputError(message.rstrip("."), where=where)


def _given(flags: Sequence[str], arguments: Sequence[str]) -> str | None:
    """The value that one of the flags was given; None for an argument, which has no name to find it by."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in flags:
            return value if equals else next(iter(arguments[place + 1 :]), None)
    return None


def _check_working_directory() -> None:
    """Nothing can be found or loaded from a working directory that was deleted, torch's libraries neither."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the working directory can't be read: {error.strerror}", expected="to be run in one that exists"
        ) from error


def _open_closed_streams() -> None:
    """A standard stream that the caller closed (`>&-`) is None in Python, and what is printed is lost unsaid.

    So that it isn't, and that no other file gets its number, standard output becomes one that takes nothing.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _drop_what_cannot_be_written() -> None:
    """Python flushes once more as it ends, and would complain again of what was said already."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
