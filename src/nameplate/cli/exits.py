"""How `bench` ends: the sentence on standard error, and the exit status.

The statuses themselves, and what is said of an unforeseen error, are in `base.exit_status`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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

# The base class of click's usage errors. typer exports only subclasses of it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_SHOULD_BE = "Input should be "  # how pydantic begins what it expects
_NO_COMMAND = re.compile(r"No such command '(.*?)'")


def run(command: Callable[[], object]) -> int:
    """Run a command and return its exit status. Where that isn't 0, standard error says why."""
    _open_closed_streams()
    with _output_waits():
        return _run(command)


def _run(command: Callable[[], object]) -> int:
    try:
        with raise_on_signals():
            try:
                _check_working_directory()
                command()
            finally:
                # Output comes before the sentence on standard error. An error of this flush means that
                # output can't be written, and must be caught below.
                sys.stdout.flush()
    except BaseException as error:
        return _report(error)
    finally:
        _discard_unwritable_output()
    return ExitStatus.DONE


def _report(error: BaseException) -> int:
    """Print the sentence of the error that ended a command, if it has one; return the exit status."""
    match error:
        case typer.Exit():
            return error.exit_code
        case _UsageError():
            return _report_ours(explain_usage_error(error, sys.argv[1:]))
        case NameplateError():
            return _report_ours(error)
        case KeyboardInterrupt() | typer.Abort():  # Terminated is a KeyboardInterrupt
            return getattr(error, "exit_status", ExitStatus.INTERRUPTED)
        case (
            BrokenPipeError() | SystemExit(__context__=BrokenPipeError())
        ):  # rich turns the first into the second
            return ExitStatus.CLOSED_PIPE
        case OSError() if error.filename is None and is_write_error(error):
            return report_unforeseen(error, f"output can't be written: {error.strerror}")
    return report_unforeseen(error)


def _report_ours(error: NameplateError) -> ExitStatus:
    # The sentence may quote unprintable text of a file or a name: hence `plain`.
    if error.exit_status == ExitStatus.UNFORESEEN:
        return report_unforeseen(error, plain(error))
    print_error(plain(error))
    return error.exit_status


def explain_usage_error(error: Any, arguments: Sequence[str]) -> InputError:
    """Turn typer's error about the command line into one sentence: what, where, got, expected.

    Errors are told apart by their attributes, because their classes depend on typer's version.
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
        return _explain_value(parameter, error.message, command, arguments)
    said = " ".join(error.format_message().split())
    if found := _NO_COMMAND.match(said):
        known = error.ctx.command.list_commands(error.ctx)
        near = " or ".join(difflib.get_close_matches(found[1], known))
        return InputError("no such command", where=where, got=found[1], expected=near or listed)
    return InputError(f"{said[:1].lower()}{said[1:].rstrip('.')}", where=where, expected=listed)


def _explain_value(parameter: Any, message: str, command: str | None, arguments: Sequence[str]) -> InputError:
    """Return the error of a value that its parameter doesn't accept."""
    flags = [*parameter.opts, *parameter.secondary_opts]
    where = flags[0] if flags[0].startswith("-") else f"{command} {parameter.human_readable_name}"
    got = _find_given_value(flags, arguments)
    if message.startswith(_SHOULD_BE):  # a message of pydantic; those of click already name the value
        expected = message.removeprefix(_SHOULD_BE).partition(", unable")[0]
        return InputError("can't be used", where=where, got=got, expected=expected)
    return InputError(message.rstrip("."), where=where)


def _find_given_value(flags: Sequence[str], arguments: Sequence[str]) -> str | None:
    """Return the value given to one of the flags; None for an argument, which has no flag."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in flags:
            return value if equals else next(iter(arguments[place + 1 :]), None)
    return None


def _check_working_directory() -> None:
    """Raise InputError where the working directory was deleted: then nothing can be loaded."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the working directory can't be read: {error.strerror}", expected="to be run in one that exists"
        ) from error


def _open_closed_streams() -> None:
    """Open each standard stream that the caller closed (`>&-`), which Python represents as None.

    Otherwise output would be lost without an error, and the next opened file would get the stream's number.
    Standard output becomes a descriptor that can't be written to, so that printing fails visibly.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # a process that measures has the same streams
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


@contextmanager
def _output_waits() -> Iterator[None]:
    """Let writes to standard output wait for its reader, while the block runs, also where its caller has set
    it not to wait: else a document that is longer than a pipe holds would break off in the middle.
    """
    number = None
    with suppress(OSError, ValueError):  # a stream in memory
        if not os.get_blocking(sys.stdout.fileno()):
            number = sys.stdout.fileno()
            os.set_blocking(number, True)
    try:
        yield
    finally:
        with suppress(OSError):
            if number is not None:
                os.set_blocking(number, False)


def _discard_unwritable_output() -> None:
    """Discard output that can't be written: Python flushes again at its end, and would report it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
