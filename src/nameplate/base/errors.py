"""Every error that the harness raises on purpose.

The text of an error is one sentence for the user: what is wrong, where, got, expected. The command line
prints it and exits with the class's `exit_status`; a library user catches `NameplateError`.
"""

from __future__ import annotations

from typing import ClassVar

from nameplate.base.exit_status import ExitStatus, is_write_error

_MOST_QUOTED = 400  # characters of what was given: the sentence must stay one that can be read


def _quote(got: object) -> str:
    try:
        said = repr(got)
    except Exception:  # a whole number of 5,000 digits has no text; an object may refuse one
        said = f"something of type {type(got).__name__}"
    return said if len(said) <= _MOST_QUOTED else f"{said[:_MOST_QUOTED]}…"


class NameplateError(Exception):
    """Base of all deliberate errors; its text is one sentence for the user."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.UNFORESEEN


class CheckFailed(NameplateError):
    """A check failed that the user asked for: a regression, a bound, `--strict`. Exit status 1."""

    exit_status = ExitStatus.CHECK_FAILED


class InputError(NameplateError):
    """Something given from outside (flag, file, environment) can't be used. Exit status 2."""

    exit_status = ExitStatus.BAD_INPUT

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: str | None = None,
    ) -> None:
        """Build the sentence from the parts that are given."""
        self.what, self.where, self.got, self.expected = what, where, got, expected
        sentence = f"{where}: {what}" if where else what
        if got is not None:
            sentence += f"; got {_quote(got)}"
        if expected is not None:
            sentence += f"; expected {expected}"
        super().__init__(sentence)


class OutputError(NameplateError):
    """Output can't be written: the disk is full, or the device failed. Exit status 70."""

    exit_status = ExitStatus.UNFORESEEN


class RunIncomplete(NameplateError):
    """A run ended before its last case; finished records are kept. Exit status 3."""

    exit_status = ExitStatus.INCOMPLETE


class Unsupported(NameplateError):
    """A case can't run here. The reason goes into its record, and the run goes on.

    `reason` is a message of `nameplate.base.messages`, or text.
    """

    def __init__(self, reason: object = "") -> None:
        """Keep the reason; as text it is English."""
        super().__init__(str(reason))
        self.reason = reason


def write_error(
    what: str, error: OSError, *, where: str, got: object = None, expected: str = "a folder"
) -> InputError | OutputError:
    """Make the error for a file that can't be written, from the system's error.

    It is an OutputError where writing failed (a full disk), an InputError where the path can't be used.
    """
    said = f"{what}: {error.strerror}"
    if is_write_error(error):
        return OutputError(f"{where}: {said}" if got is None else f"{where}: {said} ({got})")
    return InputError(said, where=where, got=got, expected=expected)
