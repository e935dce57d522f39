"""A group: cases measured together on one device, in one process, from set-up to what was found.

There are two kinds: `Rounds` measures cases in turn, `Soak` one workload continuously from idle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nameplate.device.protocol import Counters, Device
from nameplate.engine.case_run import CaseRun, OnStep, tell_nobody
from nameplate.engine.ceiling import ProbeChoice, ProbeData
from nameplate.engine.conditions import add_idle_readings, conditions_between
from nameplate.engine.group_data import CaseData, GroupData
from nameplate.engine.pilot import Pilots
from nameplate.engine.window import Window
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.settling import UNDETERMINED, Settling
from nameplate.suite import Case
from nameplate.telemetry.gpu import GpuReading

# The share of a case's time for measuring the host's part in it, and the least and most for it in seconds.
_PARTS_SHARE = 0.05  # … and for timing the parts of a launch
_HOST_SHARE, _LEAST_HOST_S, _MOST_HOST_S = 0.05, 0.2, 10.0


# A process draws for at least this share of its set-up's time. More processes tell more than longer ones do:
# what a process keeps outweighs what batches scatter by.
_LEAST_OF_SETUP = 0.5
# NVML's utilization is of the last second at most (nvml.h: "between 1 second and 1/6 second").
IDLE_S = 1.2
# The largest share of a group's time that may be spent so before anything is measured.
_IDLE_SHARE = 0.1
# Telemetry waits for twenty minutes to be fetched (`Device.timeline`). This many rows take some tens of
# milliseconds, a pause between two batches.
_FETCH_S = 5 * 60.0


@dataclass(frozen=True)
class Allowance:
    """Seconds a group may take: `share_s` is its fair share, `limit_s` must never be exceeded."""

    share_s: float
    limit_s: float


@dataclass
class Group(ABC):
    """Cases on one device, and how far they have come. `name` stands in the record of each.

    `busy_s` is how long the device has been at work before; 0.0 for the first group in a process.
    """

    name: str
    cases: Sequence[Case]
    device: Device
    pilots: Pilots
    probe_choice: ProbeChoice
    allowance: Allowance
    busy_s: float = 0.0
    on_step: OnStep = tell_nobody
    process: int = 1  # the number of this process, of those that measure the group
    sharing: int = 1  # how many processes share the allowance, this one included
    verified: frozenset[str] = frozenset()  # cases whose result another process has checked, bit by bit
    has_settled: bool = False  # whether an earlier process, or group, found the device settled
    opened_s: float = 0.0  # what it took to start this process and to open its device
    traces: Path | None = None  # where traces of a launch are to be kept; None: nobody asked for them
    runs: list[CaseRun] = field(default_factory=list, init=False)
    settling: Settling = field(default=UNDETERMINED, init=False)

    def __post_init__(self) -> None:
        """Note when it began."""
        self._begin_s = self._drawn_since_s = self._fetched_s = self.device.clock()
        self._once_s = 0.0
        self.setup_s = 0.0

    def measure(self) -> GroupData:
        """Measure every case in this process and return what was found, in order."""
        idle = self._look_for_company() if self._may_begin_idle() else []
        self.prepare()
        if not self.active:
            return GroupData({run.case.id: run.data() for run in self.finished_runs()})
        self.on_step(None, self.left_s())  # choosing probes takes a part of the group's time
        self.get_ready()
        self.on_step(None, 0.0)
        self.setup_s = self.opened_s + self.spent_s - self.once_s
        before = self.device.counters()
        self._drawn_since_s = self._fetched_s = before.at_s
        self.draw()
        after = self.device.counters()
        rows = self.device.timeline(before.at_s)
        verify_s = self.device.clock()
        for run in self.active:
            self.verify(run)
        conditions = conditions_between(before, after, self.device.cores)
        if self.process == 1:
            self._finish_first()
            conditions = add_idle_readings(conditions, [*idle, *self._look_for_company()])
        else:
            self.setup_s += self.device.clock() - verify_s
        return GroupData(
            {run.case.id: self.case_data(run, rows) for run in self.finished_runs()},
            conditions,
            before.at_s,
            after.at_s,
            rows,
            self.probe_data(),
            self.setup_s,
            self.least_s,
        )

    def _finish_first(self) -> None:
        """Measure what one process is enough for: the host's part in a launch, and its kernels."""
        for run in self.active:
            run.attempt(partial(self._measure_host_share, run))
            run.attempt(partial(self._time_parts, run))
        for run in self.active:  # last, because the profiler slows down later launches
            run.attempt(partial(run.name_kernels, self.allowance.limit_s - self.spent_s))
        if self.traces is not None:
            for run in self.active:
                run.attempt(partial(run.take_profile, self.traces))

    def _may_begin_idle(self) -> bool:
        """Whether nothing has been measured yet, and there is ample time for a pause before that.

        Opening a GPU, or a process that this one replaces, has used it a moment ago, so the pause is needed.
        """
        return self.process == 1 and self.busy_s == 0.0 and _IDLE_SHARE * self.allowance.share_s >= IDLE_S

    def _look_for_company(self) -> list[GpuReading]:
        """Leave a GPU idle and read it, where process ids don't tell who else uses it.

        Nothing where they do, and where the pause doesn't fit the time.
        """
        if self.device.kind != "cuda" or self.allowance.limit_s - self.spent_s < IDLE_S:
            return []
        with suppress(Exception):  # a device that has failed raises anything; its cases say so
            now = self.device.counters().gpu
            if now is not None and now.other_processes is None and "*" not in now.absent:
                self.on_step(None, IDLE_S)
                self.device.idle(IDLE_S)
                now = self.device.counters().gpu
                return [] if now is None else [now]
        return []

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the case runs, with `prepare_case`."""

    @abstractmethod
    def get_ready(self) -> None:
        """Do what comes last before the batches."""

    @abstractmethod
    def draw(self) -> None:
        """Draw the batches of every active case run."""

    def fetch_telemetry(self) -> None:
        """Fetch, every few minutes between two batches, what was sampled: a sampler drops what is old."""
        if self.device.clock() - self._fetched_s >= _FETCH_S:
            self.device.timeline(self._drawn_since_s)  # the device keeps it
            self._fetched_s = self.device.clock()

    @abstractmethod
    def window(self, run: CaseRun, rows: Sequence[Counters] = ()) -> Window:
        """Return the batches that a case's figure is taken from; `rows` is the device's timeline."""

    def verify(self, run: CaseRun) -> None:
        """Compare a case's result with its reference."""
        run.attempt(run.verify)

    def _measure_host_share(self, run: CaseRun) -> None:
        """Measure the host's part in a launch, in a small part of the case's time, never past the limit."""
        share_s = self.allowance.share_s * run.case.weight / sum(case.weight for case in self.cases)
        allowed_s = min(max(_HOST_SHARE * share_s, _LEAST_HOST_S), _MOST_HOST_S)
        window = self.window(run)
        launch_s, left_s = window.elapsed_s / window.launches, self.allowance.limit_s - self.spent_s
        if launch_s <= left_s:
            self.on_step(run.case.id, launch_s + allowed_s)
            run.measure_host_share(launch_s, min(allowed_s, left_s))

    def _time_parts(self, run: CaseRun) -> None:
        """Time a launch part by part, in a small part of the case's time, never past the limit."""
        share_s = self.allowance.share_s * run.case.weight / sum(case.weight for case in self.cases)
        window = self.window(run)
        left_s = self.allowance.limit_s - self.spent_s
        run.time_parts(window.elapsed_s / window.launches, _PARTS_SHARE * share_s, left_s)

    def finished_runs(self) -> list[CaseRun]:
        """Return one case run per case, in order."""
        return self.runs

    def prepare_case(self, case: Case, *, takes_turns: bool = False) -> CaseRun:
        """Prepare one case and add it to `runs`."""
        run = CaseRun(
            case,
            self.device,
            takes_turns=takes_turns,
            process=self.process,
            is_verified=case.id in self.verified,
            on_step=self.on_step,
        )
        run.attempt(partial(run.prepare, self.pilots, self.left_s))
        self.runs.append(run)  # only now: `left_s` reserves time for those in it
        return run

    @property
    def active(self) -> list[CaseRun]:
        """The case runs that may still get a figure."""
        return [run for run in self.runs if run.is_active]

    @property
    def once_s(self) -> float:
        """Seconds spent so far on what another process of the group needn't do again."""
        return self._once_s + sum(run.once_s for run in self.runs)

    @property
    def least_s(self) -> float:
        """The fewest seconds of batches that make a process worth its set-up, and enough for an interval."""
        return max(self.fewest_batches_s, _LEAST_OF_SETUP * self.setup_s)

    @property
    def fewest_batches_s(self) -> float:
        """Seconds of the fewest batches that give every case an interval."""
        return sum(self.fewest_rounds * run.sampler.least_batch_s for run in self.active)

    @property
    def fewest_rounds(self) -> int:
        """How many batches of each case this process draws at least."""
        return FEWEST_BATCHES

    @property
    def spent_s(self) -> float:
        """Seconds since the group began."""
        return self.device.clock() - self._begin_s

    def left_s(self) -> float:
        """Return the seconds another case may take if those already prepared get their fewest batches."""
        reserved = sum(self.fewest_rounds * run.sampler.least_batch_s for run in self.active if run.prepared)
        return self.allowance.limit_s - self.spent_s - reserved

    def case_data(self, run: CaseRun, rows: Sequence[Counters]) -> CaseData:
        """Return what was found of a case; `rows` is the device's timeline."""
        return run.data(self.window(run, rows), self.other_spans(run)) if run.is_active else run.data()

    def probe_data(self) -> dict[str, ProbeData]:
        """Return what probes measured between the batches, by dtype; none here."""
        return {}

    def other_spans(self, run: CaseRun) -> list[tuple[float, float]]:
        """Return when other work of the group ran: begin and end of each of its batches."""
        # Copies of one run share their batches.
        others = [other.batches for other in self.runs if other.batches is not run.batches]
        return [(each.timing.start_s, each.timing.end_s) for batches in others for each in batches]
