"""What a user can be told: every error the harness raises on purpose.

A sentence says what is wrong, where, what was got and what was expected. The command line prints the
sentence and exits with the class's `exit_status`; a library user catches `NameplateError`.
"""

from __future__ import annotations


class NameplateError(Exception):
    """Base of all deliberate errors; its text is one sentence fit for a user."""

    exit_status = 1


class InputError(NameplateError):
    """Something given from outside (flag, file, environment) can't be used. Exit status 2."""

    exit_status = 2

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


class RunIncomplete(NameplateError):
    """A run had to end before its last case; what was finished is kept. Exit status 3."""

    exit_status = 3


class Unsupported(NameplateError):
    """A case can't run here, for a reason that belongs in its record; never ends a run."""
