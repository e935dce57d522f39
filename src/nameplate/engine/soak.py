"""One workload run continuously from idle: its burst figure, the curve after it, and where it settles.

Burst is what a device delivers before heat and the power limit bite; sustained is what is left when it has
settled. Both are windows of one unbroken run, so nothing but time lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nameplate.device.protocol import Counters, Device
from nameplate.engine.case_run import CaseRun, TimedBatch
from nameplate.engine.ceiling import Ceiling, Ceilings, by_clock
from nameplate.engine.conditions import Conditions, conditions_between, of_batches
from nameplate.engine.group import STOP_HALF_WIDTH, Allowance, has_settled
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import SHORTEST_WINDOW_S, Measurement, record_failure, record_of
from nameplate.engine.verdict import thresholds
from nameplate.engine.window import Floats, Window
from nameplate.record import Derate, Moment, Record
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.stats.settling import (
    STEP_MARGIN_S,
    Settling,
    bin_launch_times,
    find_settling,
    launch_time_around,
    trim_to_whole_periods,
)
from nameplate.suite import Case
from nameplate.workload import Workload

# Idle before the onset: clocks come back within a second; what set-up has warmed is little.
_IDLE_SHARE, _LONGEST_IDLE_S = 0.05, 5.0
_BATCH_S = 0.1  # fine enough for a curve, and for a window that ends where a limit bites
_FINEST = 1000  # batches in a whole run, at least; below 100 s they are shorter than _BATCH_S
_LOOK_S = 1.0  # between looks at whether it has settled
_LOOK_AGAIN = 1.1  # … and times the time of the last: a longer course takes longer to look at
# A relaxation with time constant τ is settled after 5 τ: a burst window of a fifth of τ is off by a tenth of
# the whole change at the most.
_BURST_OF_SETTLED = 0.04
_MOST_BATCHES = 100  # of a record; neighbours are put together
DERATES_S = (1.0, 10.0, 60.0, 600.0)
_NEARLY = 0.95


def begins_from_idle(cases: Sequence[Case]) -> bool:
    """Whether these cases are one workload's burst, and perhaps sustained, figure."""
    return any(case.phase == "burst" for case in cases)


@dataclass
class Soak:
    """The phases of one workload: `cases` are its burst case, and its sustained one where that is asked for.

    With both the run takes its whole share; for the burst figure alone it ends when it has settled.
    """

    name: str
    cases: Sequence[Case]
    device: Device
    pilots: Pilots
    ceilings: Ceilings
    allowance: Allowance
    settling: Settling | None = None

    def __post_init__(self) -> None:
        """Begin with its first case; the others are windows of the same run."""
        self._trial = CaseRun(self.cases[0], self.device)

    def measure(self) -> list[Record]:
        """Measure and return the records, in the order of the cases.

        Raises ValueError for cases that aren't phases of one workload.
        """
        if len({replace(case, phase=None).id for case in self.cases}) > 1:
            raise ValueError("a run from idle is of one workload: its burst and its sustained case")
        begin_s = self.device.clock()

        def left_s() -> float:
            return self.allowance.limit_s - (self.device.clock() - begin_s)

        trial = self._trial
        trial.attempt(lambda: trial.prepare(self.pilots, left_s))
        if not trial.alive:
            return [self._ended(case) for case in self.cases]
        spare_s = max(left_s() - FEWEST_BATCHES * trial.sampler.cost_s, 0.0)
        self.device.idle(min(_IDLE_SHARE * self.allowance.share_s, _LONGEST_IDLE_S, spare_s))
        before = self.device.counters()
        trial.attempt(lambda: self._draw(self.allowance.share_s - (self.device.clock() - begin_s), left_s()))
        after = self.device.counters()
        trial.attempt(trial.verify)
        trial.attempt(lambda: trial.name_kernels(left_s()))
        if not trial.alive:
            return [self._ended(case) for case in self.cases]
        rows = self.device.timeline(before.at_s)
        conditions = conditions_between(before, after, self.device.cores)
        return self._records(conditions, rows)

    @property
    def _drawn(self) -> list[TimedBatch]:
        return self._trial.drawn

    def _ended(self, case: Case) -> Record:
        assert self._trial.ended is not None
        return record_failure(replace(self._trial, case=case), self._trial.ended, self.name)

    def _draw(self, window_s: float, limit_s: float) -> None:
        """Draw batches without a pause until the share has passed, or all there is to see has been seen."""
        window_s = min(max(window_s, SHORTEST_WINDOW_S), limit_s)
        self._trial.sampler.size(min(_BATCH_S, window_s / _FINEST))
        begin, looked = self.device.clock(), 0.0
        while True:
            passed_s = self.device.clock() - begin
            # Looking is a pause: with a sustained case, which takes the whole share, once at the end will do.
            look = len(self.cases) == 1 and passed_s >= max(looked + _LOOK_S, _LOOK_AGAIN * looked)
            self._trial.draw(len(self._drawn))
            if look:
                looked = passed_s
                self._look()
            passed_s = self.device.clock() - begin
            is_over = passed_s >= window_s or passed_s + passed_s / len(self._drawn) > limit_s
            if len(self._drawn) >= FEWEST_BATCHES and (is_over or (look and self._seen(passed_s))):
                break
        self._look()

    def _look(self) -> None:
        if len(self._drawn) >= FEWEST_BATCHES:
            self.settling = find_settling(self._middle_s(), self._launch_s())

    def _seen(self, passed_s: float) -> bool:
        """Whether a burst figure alone needs no more: it has settled, and the burst's interval is narrow."""
        if self.settling is None or self.settling.settled_s is None:
            return False
        if passed_s < self.settling.settled_s + _LOOK_S:
            return False
        if self.settling.settled_s > 0:
            return True  # where the burst ends is known: it gets no longer, and its interval no narrower
        burst = self._burst(())
        long_enough = burst.elapsed_s >= SHORTEST_WINDOW_S and len(burst.drawn) >= BATCHES
        return long_enough and burst.interval().relative_half_width <= STOP_HALF_WIDTH

    @property
    def _onset_s(self) -> float:
        return self._drawn[0].timing.start_s

    def _middle_s(self) -> Floats:
        """The middle of each batch, in seconds from the onset."""
        return np.asarray([(d.timing.start_s + d.timing.end_s) / 2 - self._onset_s for d in self._drawn])

    def _launch_s(self) -> Floats:
        return np.asarray([d.timing.elapsed_s / d.timing.launches for d in self._drawn])

    def _burst(self, rows: Sequence[Counters]) -> Window:
        """From the onset until a limit bites, as the driver tells or as the curve shows it; where neither
        does, a third of the course.
        """
        last_s = self._middle_s()[-1]
        settled_s = self.settling.settled_s if self.settling else None
        if settled_s is None:
            end_s = min(1.0, last_s / 3)
        elif settled_s == 0.0:
            end_s = last_s / 3
        elif self.settling and self.settling.time_constant_s is None:  # a step: as long before it as after
            end_s = max(settled_s - 2 * STEP_MARGIN_S, _BURST_OF_SETTLED * settled_s)
        else:
            end_s = _BURST_OF_SETTLED * settled_s
        end_s = min(end_s, self._free_until_s(rows))
        drawn = [d for d in self._drawn if d.timing.end_s - self._onset_s <= end_s]
        if len(drawn) < FEWEST_BATCHES:
            drawn = self._drawn[:FEWEST_BATCHES]
        return Window(_coalesced(drawn), self._trial.sampler.resolution_s)

    def _free_until_s(self, rows: Sequence[Counters]) -> float:
        """The last reading, in seconds from the onset, before one that shows a limit: it bites in between."""
        readings = [row for row in rows if row.gpu is not None]
        first = next((number for number, row in enumerate(readings) if _is_limited(row)), None)
        return math.inf if first is None else readings[max(first - 1, 0)].at_s - self._onset_s

    def _sustained(self) -> Window:
        """Since it has settled, in whole periods; where it hasn't, the last third."""
        middle_s = self._middle_s()
        settled_s = self.settling.settled_s if self.settling else None
        begin_s = middle_s[-1] * 2 / 3 if settled_s is None else settled_s
        first = min(int(np.searchsorted(middle_s, begin_s)), len(self._drawn) - FEWEST_BATCHES)
        drawn = self._drawn[first:]
        whole = drawn[
            trim_to_whole_periods(middle_s[first:], self.settling.period_s if self.settling else None) :
        ]
        drawn = whole if len(whole) >= FEWEST_BATCHES else drawn
        return Window(_coalesced(drawn), self._trial.sampler.resolution_s, self.settling)

    def _records(self, conditions: Conditions, rows: Sequence[Counters]) -> list[Record]:
        burst = self._burst(rows)
        return [
            record_of(
                self._burst_evidence(case, burst, conditions, rows)
                if case.phase == "burst"
                else self._sustained_evidence(case, conditions, rows),
                self._trial.cost_s / len(self.cases),
            )
            for case in self.cases
        ]

    def _burst_evidence(
        self, case: Case, window: Window, conditions: Conditions, rows: Sequence[Counters]
    ) -> Measurement:
        held = of_batches(_of_the_beginning(conditions), rows, window.spans)
        return Measurement(
            replace(self._trial, case=case),
            replace(window, settling=self.settling),
            held,
            self.name,
            self._ceiling(case, window, held),
            course=self._moments(case.workload.flops, rows),
            derates=self._derates(case.workload, window),
        )

    def _sustained_evidence(
        self, case: Case, conditions: Conditions, rows: Sequence[Counters]
    ) -> Measurement:
        window = self._sustained()
        held = of_batches(conditions, rows, window.spans)
        settled = None if self.settling is None else has_settled(self.settling)
        ceiling = self._ceiling(case, window, held)
        return Measurement(replace(self._trial, case=case), window, held, self.name, ceiling, settled)

    def _ceiling(self, case: Case, window: Window, conditions: Conditions) -> Ceiling | None:
        """By the clock; a probe would have its turn in the middle of what must not be interrupted."""
        work = case.workload
        if work.flops is None:
            return None
        achieved = window.interval().inverted(work.flops / 1e12)
        return by_clock(achieved, self.device.rating, work.dtype, conditions.gpu)

    def _moments(self, flops: int | None, rows: Sequence[Counters]) -> tuple[Moment, ...]:
        """The curve, with what telemetry shows at each of its points."""
        if flops is None:
            return ()
        elapsed_s = np.asarray([d.timing.elapsed_s for d in self._drawn])
        launches = np.asarray([d.timing.launches for d in self._drawn])
        at_s, launch_s = bin_launch_times(self._middle_s(), elapsed_s, launches)
        shown = {name: self._shown(name, rows, at_s) for name in ("sm_clock_mhz", "power_w", "temperature_c")}
        return tuple(
            Moment(
                at_s=float(at),
                tflops=flops / float(each) / 1e12,
                **{name: None if values is None else float(values[n]) for name, values in shown.items()},
            )
            for n, (at, each) in enumerate(zip(at_s, launch_s, strict=True))
        )

    def _shown(self, name: str, rows: Sequence[Counters], at_s: Floats) -> Floats | None:
        """A GPU's figure at moments of the curve, from its readings; None where it has none."""
        known = [
            (row.at_s - self._onset_s, value)
            for row in rows
            if row.gpu is not None and (value := getattr(row.gpu, name)) is not None
        ]
        if not known:
            return None
        times, values = zip(*known, strict=True)
        return np.asarray(np.interp(at_s, times, values))

    def _derates(self, work: Workload, burst: Window) -> tuple[Derate, ...]:
        """What is left at the moments that people quote."""
        if work.flops is None:
            return ()
        elapsed_s = np.asarray([d.timing.elapsed_s for d in self._drawn])
        launches = np.asarray([d.timing.launches for d in self._drawn])
        nominal = self.device.rating.nominal_for(work.dtype).tflops
        first_s = burst.interval().value
        found = []
        last_s = float(self._middle_s()[-1])
        for asked_s in DERATES_S:
            # Set-up and idle come out of a budget that is the last moment itself.
            at_s = last_s if _NEARLY * asked_s <= last_s < asked_s else asked_s
            launch_s = launch_time_around(self._middle_s(), elapsed_s, launches, at_s)
            if launch_s is not None:
                tflops = work.flops / launch_s / 1e12
                efficiency = tflops / nominal if nominal else None
                found.append(
                    Derate(at_s=at_s, tflops=tflops, efficiency=efficiency, of_burst=first_s / launch_s)
                )
        return tuple(found)


def _is_limited(row: Counters) -> bool:
    """Whether a reading shows that power or heat holds the clock."""
    limited = thresholds().throttled
    reasons = set((row.gpu.clock_event_reasons if row.gpu else None) or ())
    return bool(reasons & (limited.reasons | limited.lasting_reasons | {"sw_power_cap"}))


def _of_the_beginning(conditions: Conditions) -> Conditions:
    """Leave out what the reading at the end of the run shows: a burst was over long before."""
    gpu = conditions.gpu
    if gpu is None:
        return conditions
    after = gpu.after.model_copy(update={"clock_event_reasons": gpu.before.clock_event_reasons})
    return replace(conditions, gpu=replace(gpu, after=after))


def _coalesced(drawn: Sequence[TimedBatch]) -> list[TimedBatch]:
    """Put neighbouring batches together until they are few: fine ones are for the curve."""
    size = -(-len(drawn) // _MOST_BATCHES)
    return [_joined(drawn[n : n + size]) for n in range(0, len(drawn) - size + 1, size)]


def _joined(drawn: Sequence[TimedBatch]) -> TimedBatch:
    timings = [d.timing for d in drawn]
    cpu_s = [timing.cpu_s for timing in timings]
    enqueue_s = [timing.enqueue_s for timing in timings]
    joined = replace(
        timings[0],
        sample_s=np.concatenate([timing.sample_s for timing in timings]),
        end_s=timings[-1].end_s,
        cpu_s=None if None in cpu_s else sum(each for each in cpu_s if each is not None),
        enqueue_s=None if None in enqueue_s else sum(each for each in enqueue_s if each is not None),
    )
    digest = next((d.digest for d in reversed(drawn) if d.digest is not None), None)
    return TimedBatch(drawn[0].round, joined, digest)
