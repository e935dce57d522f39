"""Who measures a group in a process: this one, or (`run/forks.py`) one that is started for it.

runner.measure(GroupTask("1", cases, allowance))    # a GroupData
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nameplate.device.protocol import Device, MeasuredDevice
from nameplate.engine.best_case import SearchData, find_best
from nameplate.engine.case_run import OnStep, tell_nobody
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance, Group
from nameplate.engine.group_data import GroupData
from nameplate.engine.largest_batch import find_largest_batch
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import Rounds
from nameplate.engine.soak import Soak, is_soak
from nameplate.record import LargestBatch
from nameplate.search.space import Point
from nameplate.suite import Case


@dataclass(frozen=True)
class GroupTask:
    """What one process is to measure: cases of the group `name`, in the time that the group has left.

    It is process `number` of the group, from 1, and the first of `sharing` that share that time. `busy_s` is
    how long the device has been at work before; `verified` and `has_settled` are what earlier processes
    found.
    """

    name: str
    cases: Sequence[Case]
    allowance: Allowance
    busy_s: float = 0.0
    number: int = 1
    sharing: int = 1
    verified: frozenset[str] = frozenset()
    has_settled: bool = False


class Runner(Protocol):
    """Measures groups, each task in a process of its own where it can."""

    @property
    def device(self) -> MeasuredDevice:
        """The device that it measures."""

    def clock(self) -> float:
        """Return seconds on the device's clock."""

    def measure(self, task: GroupTask) -> GroupData:
        """Measure one task. KeyboardInterrupt and ContextLost pass through."""

    def search(self, case: Case, budget_s: float, to_beat: float = 0.0) -> SearchData:
        """Find the workload of a case that stands for the fastest of many, in about `budget_s` seconds; in
        less where none of them reaches `to_beat` (TFLOPS).
        """

    def find_largest_batch(self, case: Case, budget_s: float) -> LargestBatch | None:
        """Find a case's largest batch that fits the memory, in about `budget_s` seconds; None: unknown."""

    def adopt(self, case: Case, point: Point) -> None:
        """Have processes that measure the case know the point that another case's search has found."""


@dataclass
class InThisProcess:
    """Measures every task in this process, on a device that is open in it; `traces` as `make_group` has it.

    A simulated device begins a new simulated process for each.
    """

    device: Device
    pilots: Pilots
    probe_choice: ProbeChoice
    on_step: OnStep = tell_nobody
    traces: Path | None = None

    def clock(self) -> float:
        """Return seconds on the device's clock."""
        return self.device.clock()

    def measure(self, task: GroupTask) -> GroupData:
        """Measure one task."""
        begin_s = self.device.clock()
        self.device.begin_process()
        opened_s = self.device.clock() - begin_s
        known = self.device, self.pilots, self.probe_choice
        return make_group(task, *known, self.on_step, opened_s, self.traces).measure()

    def search(self, case: Case, budget_s: float, to_beat: float = 0.0) -> SearchData:
        """Search in this process."""
        self.device.begin_process()
        return find_best(case, self.device, self.pilots.seed, budget_s, self.on_step, to_beat)

    def find_largest_batch(self, case: Case, budget_s: float) -> LargestBatch | None:
        """Search in this process."""
        self.device.begin_process()
        return find_largest_batch(case, self.device, self.pilots.seed, budget_s, self.on_step)

    def adopt(self, case: Case, point: Point) -> None:
        """Do nothing: this process knows all points."""


def make_group(
    task: GroupTask,
    device: Device,
    pilots: Pilots,
    probe_choice: ProbeChoice,
    on_step: OnStep = tell_nobody,
    opened_s: float = 0.0,
    traces: Path | None = None,
) -> Group:
    """Return the group that does a task; starting the process and opening its device took `opened_s`.

    `traces` is the folder for traces of a launch, where they are asked for.
    """
    kind = Soak if is_soak(task.cases) else Rounds
    return kind(
        name=task.name,
        cases=task.cases,
        device=device,
        pilots=pilots,
        probe_choice=probe_choice,
        allowance=task.allowance,
        busy_s=task.busy_s,
        on_step=on_step,
        process=task.number,
        sharing=task.sharing,
        verified=task.verified,
        has_settled=task.has_settled,
        opened_s=opened_s,
        traces=traces,
    )
