"""One check of a card, and how it can end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nameplate.base.language import N_


class Outcome(StrEnum):
    """How a check ended; the words are English messages."""

    PASSED = N_("yes")
    FAILED = N_("NO")
    UNKNOWN = N_("not told")
    LEFT_OUT = N_("left out")

    @classmethod
    def of(cls, passed: bool | None) -> Outcome:
        """None: it couldn't be told."""
        if passed is None:
            return cls.UNKNOWN
        return cls.PASSED if passed else cls.FAILED


@dataclass(frozen=True)
class Check:
    """One line: what was seen, the bound that it is held to, and the outcome, with its reason if not passed.

    `name` is an English message, which also identifies the check for programs; the other texts are in the
    reader's language.
    """

    name: str
    figure: str
    bound: str
    outcome: Outcome
    why: str = ""
