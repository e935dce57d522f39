"""What is said of a device's health: by each way of judging, and by all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nameplate.base.language import N_
from nameplate.base.messages import Message

# Gravest first. What isn't known is graver than what is fit: it is never called so.
Verdict = Literal["unfit", "degraded", "unknown", "fit"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
# The ways of judging: its errors and faults; its rating and published figures; the other devices of its node;
# its own earlier runs. Each but the first is of its speed.
Way = Literal["errors", "rating", "siblings", "past"]
ERRORS: Way = "errors"
WAYS: tuple[Way, ...] = get_args(Way)
WAY_NAMES = {
    "errors": N_("errors and faults"),
    "rating": N_("rating and published figures"),
    "siblings": N_("the node's other devices"),
    "past": N_("its own earlier runs"),
}
_WRONG: tuple[Verdict, ...] = ("unfit", "degraded")


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the gravest verdict; `unknown` of none."""
    return min(verdicts, key=VERDICTS.index, default="unknown")


@dataclass(frozen=True)
class Statement:
    """What one way of judging says, and why. A reason is there for every verdict, `fit` included."""

    way: Way
    verdict: Verdict
    reasons: tuple[Message, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with English sentences."""
        return {"way": self.way, "verdict": self.verdict, "reasons": [str(each) for each in self.reasons]}


@dataclass(frozen=True)
class DeviceHealth:
    """The health of one device of a run: what each way of judging says, and the verdict of all together.

    `index` is torch's, `name` what the device calls itself. `measured` is false for a twin.
    """

    device: str
    host: str
    name: str
    part: str | None
    index: int | None
    uuid: str | None
    measured: bool
    statements: tuple[Statement, ...]

    @property
    def verdict(self) -> Verdict:
        """The gravest fault that any way found.

        Without one, `fit` needs a way that has found the device's speed right, and errors that could be read;
        else nothing is known.
        """
        found = gravest(each.verdict for each in self.statements)
        if found in _WRONG:
            return found
        errors = gravest(each.verdict for each in self.statements if each.way == ERRORS)
        speeds = [each.verdict for each in self.statements if each.way != ERRORS]
        return "fit" if errors == "fit" and "fit" in speeds else "unknown"

    @property
    def reasons(self) -> tuple[Message, ...]:
        """Why the verdict is what it is: the reasons of the ways that have it; each once."""
        own = self.verdict
        found = [reason for each in self.statements if each.verdict == own for reason in each.reasons]
        return tuple(dict.fromkeys(found))

    def statement(self, way: Way) -> Statement:
        """Return what one way says."""
        return next(each for each in self.statements if each.way == way)
