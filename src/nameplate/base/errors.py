"""What a user can be told: every error the harness raises on purpose.

A sentence says what is wrong, where, what was got and what was expected. The command line prints the
sentence and exits with the class's `exit_status`; a library user catches `NameplateError`.
"""

from __future__ import annotations

from typing import ClassVar

from nameplate.base.exit_status import ExitStatus, is_write_error


class NameplateError(Exception):
    """Base of all deliberate errors; its text is one sentence fit for a user."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.UNFORESEEN


class CheckFailed(NameplateError):
    """A check that was asked for failed: a regression, a bound, `--strict`. Exit status 1."""

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
        """Build the sentence from its parts; each part left out is left out of the sentence."""
        self.what, self.where, self.got, self.expected = what, where, got, expected
        sentence = f"{where}: {what}" if where else what
        if got is not None:
            sentence += f"; got {got!r}"
        if expected is not None:
            sentence += f"; expected {expected}"
        super().__init__(sentence)


class OutputError(NameplateError):
    """Output can't be written: its disk or device takes no more. Exit status 70."""

    exit_status = ExitStatus.UNFORESEEN


class RunIncomplete(NameplateError):
    """A run had to end before its last case; what was finished is kept. Exit status 3."""

    exit_status = ExitStatus.INCOMPLETE


class Unsupported(NameplateError):
    """A case can't run here, for a reason that belongs in its record; never ends a run.

    `reason` is a message of `nameplate.base.messages`, or text.
    """

    def __init__(self, reason: object = "") -> None:
        """Keep the reason; as text it is English."""
        super().__init__(str(reason))
        self.reason = reason


def write_error(
    what: str, error: OSError, *, where: str, got: object = None, expected: str = "a folder"
) -> InputError | OutputError:
    """The error of a file that can't be written, from what the system says of it.

    An OutputError where writing failed (a full disk), an InputError where the path can't be written to.
    """
    said = f"{what}: {error.strerror}"
    if is_write_error(error):
        return OutputError(f"{where}: {said}" if got is None else f"{where}: {said} ({got})")
    return InputError(said, where=where, got=got, expected=expected)
