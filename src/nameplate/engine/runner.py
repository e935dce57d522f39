"""Who measures a group in a process: this one, or (`run/forks.py`) one that is started for it.

runner.measure(GroupTask("1", cases, allowance))    # a GroupData
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nameplate.device.protocol import Device, MeasuredDevice
from nameplate.engine.case_run import OnStep, tell_nobody
from nameplate.engine.ceiling import Ceilings
from nameplate.engine.group import Allowance, Group
from nameplate.engine.group_data import GroupData
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import Rounds
from nameplate.engine.soak import Soak, is_soak
from nameplate.suite import Case


@dataclass(frozen=True)
class GroupTask:
    """What one process is to measure: cases of the group `name`, in the time that the group has left.

    It is process `number` of the group, from 1; `busy_s` is how long the device has been at work before.
    """

    name: str
    cases: Sequence[Case]
    allowance: Allowance
    busy_s: float = 0.0
    number: int = 1


class Runner(Protocol):
    """Measures groups, each task in a process of its own where it can."""

    @property
    def device(self) -> MeasuredDevice:
        """The device that it measures."""

    def clock(self) -> float:
        """Return seconds on the device's clock."""

    def measure(self, task: GroupTask) -> GroupData:
        """Measure one task. KeyboardInterrupt and ContextLost pass through."""


@dataclass
class InThisProcess:
    """Measures every task in this process, on a device that is open in it.

    A simulated device begins a new simulated process for each.
    """

    device: Device
    pilots: Pilots
    ceilings: Ceilings
    on_step: OnStep = tell_nobody

    def clock(self) -> float:
        """Return seconds on the device's clock."""
        return self.device.clock()

    def measure(self, task: GroupTask) -> GroupData:
        """Measure one task."""
        self.device.begin_process()
        return self._make_group(task).measure()

    def _make_group(self, task: GroupTask) -> Group:
        kind = Soak if is_soak(task.cases) else Rounds
        return kind(
            task.name,
            task.cases,
            self.device,
            self.pilots,
            self.ceilings,
            task.allowance,
            task.busy_s,
            self.on_step,
            task.number,
        )
