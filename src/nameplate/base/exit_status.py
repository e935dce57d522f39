"""How a process ends: the exit statuses, ends by a signal, and the message of an unforeseen error.

It imports nothing heavy: the command line and the processes that measure end by it alike.
"""

from __future__ import annotations

import errno
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType

from nameplate.base.text import plain

_LONGEST = 300  # characters of a foreign error's text that a sentence quotes

# What a disk or a device answers that takes no more, as against a path that can't be written at all.
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ExitStatus(IntEnum):
    """With what a command, or a process that measures, ends; by another signal it's 128 + its number."""

    DONE = 0  # skipped cases included, each with its reason
    CHECK_FAILED = 1  # a check that was asked for: a regression, a self-test, --strict
    BAD_INPUT = 2  # something given from outside can't be used; one sentence says what
    INCOMPLETE = 3  # a run ended with failed or missing cases, or measured nothing
    UNFORESEEN = 70  # an error nobody foresaw, or output that can't be written
    HANGUP = 128 + signal.SIGHUP
    INTERRUPTED = 128 + signal.SIGINT
    CLOSED_PIPE = 128 + signal.SIGPIPE
    TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end; what cleans up after Ctrl-C cleans up after it."""

    def __init__(self, number: int) -> None:
        """`number` is the signal's."""
        super().__init__(signal.Signals(number).name)
        self.exit_status = ExitStatus(128 + number)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise Terminated here, as SIGINT raises KeyboardInterrupt.

    One that is ignored (nohup) stays ignored, and a second one ends the process at once. Only the main
    thread receives signals: in another one this does nothing.
    """
    before = {}
    with suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(number)


def is_write_error(error: OSError) -> bool:
    """Whether a write failed, rather than the path it was meant for: a full disk, not a missing folder."""
    return error.errno in _WRITE_ERRORS


def report_unforeseen(error: BaseException, what: str | None = None) -> ExitStatus:
    """Say on standard error what happened and where its traceback is; returns the exit status.

    `what` is the sentence, by default the error's own name and text. The traceback is a file in the
    system's folder for temporary ones, or stands below the sentence where that can't be written.
    """
    said = what or f"unforeseen {type(error).__name__}: {_shortened(error)}"
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


def _shortened(error: BaseException) -> str:
    text = plain(error)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def print_error(sentence: str) -> None:
    """Print `bench: sentence` on standard error, if anybody can read it."""
    with suppress(OSError):
        print(f"bench: {sentence}", file=sys.stderr, flush=True)
