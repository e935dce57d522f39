"""What is compared, whoever measured it: what one run tells of one case, and the runs of a side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nameplate.base.messages import Message, message
from nameplate.stats.interval import Interval

# achieved: throughput. normalized: that ÷ what tells of the conditions meanwhile. efficiency: that ÷ nominal.
Basis = Literal["achieved", "normalized", "efficiency"]
State = Literal["ok", "wrong", "failed", "skipped", "missing"]
HELD_CLOCK = "held clock"  # the yardstick of a GPU


@dataclass(frozen=True)
class Figure:
    """A figure of which more is better, with its 95 % interval, and its unit."""

    value: Interval
    unit: str


@dataclass(frozen=True)
class Look:
    """What one run tells of one case on one device; `reason` says why there is no figure.

    `work` is what a launch does, in words: figures of two works aren't compared. `yardstick` is what the
    normalized figure is normalized by, with all that it depends on. A GPU's `clock_mhz` was held meanwhile.
    `doubt` are the verdicts that stand against the record; empty: it may be believed by itself.
    """

    case: str
    device: str
    kind: str
    part: str
    state: State = "ok"
    reason: Message | None = None
    work: str = ""
    figures: Mapping[Basis, Figure] = field(default_factory=dict)
    yardstick: str | None = None
    clock_mhz: float | None = None
    doubt: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """One run, or one file: how it was measured, what it tells of each case, what its figures depend on."""

    name: str
    way: str
    looks: tuple[Look, ...]
    facts: Mapping[str, str]
    problems: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Side:
    """Base or new: one or several runs, in order."""

    name: str
    runs: tuple[Taken, ...]

    def facts(self) -> dict[str, str]:
        """What its figures depend on, by name; where runs differ, each value."""
        found: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for name, value in run.facts.items():
                found.setdefault(name, {})[value] = None
        return {name: ", ".join(values) for name, values in found.items()}

    @property
    def problems(self) -> list[Message]:
        """What could not be read."""
        return [
            message("run_problem", run=run.name, problem=problem)
            for run in self.runs
            for problem in run.problems
        ]
