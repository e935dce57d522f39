"""How long a measuring process may take for what it does, and how it says what it is doing.

A call into a driver may never return, and then no code of that process runs any more. So before every step
each process writes into a note which case is in hand and by when the step must be done. The pool reads the
note when that time has come, and ends a process whose note has stood still. A step is allowed a grace, and a
multiple of what it is expected to take; a group the limit of its allowance, and the grace. Nothing is sent
for this: waking the parent would take CPU time from a CPU that is being measured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from nameplate.base.environment import READY_VARIABLE, read_seconds
from nameplate.base.shared_note import SharedNote

# Environment variable, beside READY_VARIABLE: seconds that replace the default below.
GRACE_VARIABLE = "NAMEPLATE_STEP_DEADLINE_S"
# Starting Python, loading torch and opening a GPU takes 5 to 20 s; from a cold network file system, minutes.
_READY_S = 300.0
# A first launch loads libraries and compiles kernels, which no prediction covers.
_GRACE_S = 60.0
# All processes start to measure together, but one that hangs while it gets ready mustn't use up the others'
# budget.
_TOGETHER_S = 60.0
_SHARE_OF_WAITING = 0.25  # the largest share of a run's time for waiting
_PATIENCE = 10.0  # how many times the expected seconds a step may take: other work may be on the machine


@dataclass(frozen=True)
class Deadlines:
    """Seconds for getting ready, for a step beyond what is expected of it, and to wait for slower ones."""

    ready_s: float = _READY_S
    grace_s: float = _GRACE_S
    together_s: float = _TOGETHER_S

    @classmethod
    def from_environment(cls) -> Self:
        """Return the limits of the environment, else the defaults. Raises InputError for a bad one."""
        return cls(read_seconds(READY_VARIABLE, _READY_S), read_seconds(GRACE_VARIABLE, _GRACE_S))

    def whole_run_s(self, limit_s: float) -> float:
        """Return how long a whole run may take that measures for `limit_s` at most.

        Beside it there are two starts (a process that hung is replaced), and three steps that hang; as much
        again as the limit is for a commit whose own budget counted otherwise.
        """
        return 2 * limit_s + 2 * self.ready_s + self.together_s + 3 * self.grace_s

    def within_budget(self, budget_s: float) -> Self:
        """Return them with a wait for slower processes that leaves most of the budget."""
        return replace(self, together_s=min(self.together_s, _SHARE_OF_WAITING * budget_s))


@dataclass(frozen=True)
class Step:
    """What a process does: the case in hand (None: no single one), since when and until when.

    Both are seconds of time.monotonic, which the processes of one host share.
    """

    case: str | None
    since_s: float
    until_s: float

    @classmethod
    def read(cls, note: SharedNote) -> Self | None:
        """Return what a note says; None where it says nothing."""
        return cls._parse(note.read() or {})

    @classmethod
    def _parse(cls, found: Mapping[str, Any]) -> Self | None:
        with suppress(KeyError, TypeError, ValueError):
            return cls(found["case"], float(found["since_s"]), float(found["until_s"]))
        return None


@dataclass(frozen=True)
class GroupNote:
    """By when a group must be done, on time.monotonic, and its case where it has only one."""

    end_s: float = 0.0
    only: str | None = None


class StepNotes:
    """Writes a process's steps into its note; without a note it does nothing."""

    def __init__(self, note: SharedNote | None, grace_s: float) -> None:
        """Begin with no group."""
        self._note, self._grace_s = note, grace_s
        self.group = GroupNote()

    def begin_group(self, cases: Sequence[str], limit_s: float) -> None:
        """Say that a group begins, which takes `limit_s` at most."""
        end_s = time.monotonic() + max(limit_s, 0.0) + self._grace_s
        self.enter(GroupNote(end_s, cases[0] if len(cases) == 1 else None))

    def enter(self, group: GroupNote) -> None:
        """Go on in a group, which another process may have begun."""
        self.group = group
        self(None, 0.0)

    def __call__(self, case: str | None, expected_s: float) -> None:
        """Say that a step begins; see `engine.case_run.OnStep`."""
        if self._note is None:
            return
        now_s = time.monotonic()
        # A step that begins in the last moment of its group still has the grace.
        end_s = max(self.group.end_s, now_s + self._grace_s)
        until_s = min(now_s + self._grace_s + _PATIENCE * expected_s, end_s)
        self._note.write({"case": case or self.group.only, "since_s": now_s, "until_s": until_s})
