"""A few cases measured in turn: in each round every one of them draws its batches, in random order.

So drift favours none, a ratio between two cases is taken round by round, and what disturbs the machine for a
moment disturbs all alike. On a device that a probe speaks for, the probe has its turn too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np

from nameplate.device.protocol import Counters, Device
from nameplate.engine.case_run import CaseRun, TimedBatch
from nameplate.engine.ceiling import Calibration, Ceiling, Ceilings, ProbeTrial, by_clock, by_probe
from nameplate.engine.conditions import Conditions, conditions_between, of_batches
from nameplate.engine.launching import replay
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import SHORTEST_WINDOW_S, Measurement, record_failure, record_of
from nameplate.engine.window import Window
from nameplate.record import Record
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.stats.settling import SHORTEST_S, Settling, find_settling, trim_to_whole_periods
from nameplate.suite import Case

# Batches that a window is cut into. More than `stats.BATCHES`, so that a slow one doesn't leave too few.
AIMED_BATCHES = 25
# … where the window may begin late: what comes before the device has settled is left out.
SETTLING_BATCHES = 60
STOP_HALF_WIDTH = 0.005
# A look at whether a course has settled costs some milliseconds: it is worth one when so much has come.
_LOOK_AGAIN = 1.05
# A slow change looks steady at first. In a device that has been at work for longer than that, what set-up let
# recover is the clock, and clocks at a power limit swing for about 3 s.
_SHORTEST_AT_WORK_S = 3.0
_WARM_UP_SHARE = 0.1
_LONGEST_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Allowance:
    """Seconds a group may take: `share_s` is its fair part, `limit_s` what can't be exceeded at all."""

    share_s: float
    limit_s: float


@dataclass
class Group:
    """Cases on one device, and how far they have come. `name` is what their records share."""

    name: str
    cases: Sequence[Case]
    device: Device
    pilots: Pilots
    ceilings: Ceilings
    allowance: Allowance
    busy_s: float = 0.0  # seconds for which the device has been at work before
    trials: list[CaseRun] = field(default_factory=list)
    probes: dict[str, ProbeTrial] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    window_begin_s: float = 0.0
    settling: Settling | None = None
    _latest: CaseRun | None = None  # whose batch was drawn last; None after a probe

    def __post_init__(self) -> None:
        """Note when it began, and make the order of its turns repeatable."""
        self._begin_s = self.device.clock()
        self._order = random.Random(f"{self.pilots.seed} {self.name}")
        self._settles = any(map(_is_sustained, self.cases))

    def measure(self) -> list[Record]:
        """Measure every case and return their records, in order."""
        self.prepare()
        if self.alive:
            self._calibrate()
            window_s = self._window_s()
            rounds = self._plan(window_s)
            before = self.device.counters()
            self._draw(window_s, rounds)
            conditions = conditions_between(before, self.device.counters(), self.device.cores)
            rows = self.device.timeline(before.at_s)
            self._finish()
            return [self._record(trial, conditions, rows) for trial in self.trials]
        return [self._ended(trial) for trial in self.trials]

    @property
    def alive(self) -> list[CaseRun]:
        """The cases that may still get a figure."""
        return [trial for trial in self.trials if trial.alive]

    @property
    def spent_s(self) -> float:
        """Seconds since the group began."""
        return self.device.clock() - self._begin_s

    def left_s(self) -> float:
        """Seconds another case may take when those already prepared get the fewest batches they need."""
        promised = sum(FEWEST_BATCHES * trial.sampler.least_batch_s for trial in self.alive if trial.prepared)
        return self.allowance.limit_s - self.spent_s - promised

    def prepare(self) -> None:
        """Prepare every case and warm it up."""
        weight = sum(case.weight for case in self.cases)
        for case in self.cases:
            trial = CaseRun(case, self.device, takes_turns=self._takes_turns(case))
            share_s = self.allowance.share_s * case.weight / weight
            trial.attempt(partial(trial.prepare, self.pilots, self.left_s))
            self.trials.append(trial)  # only now: what it needs itself isn't taken from what is left for it
            trial.attempt(partial(trial.warm_up, min(_WARM_UP_SHARE * share_s, _LONGEST_WARM_UP_S)))

    def _takes_turns(self, case: Case) -> bool:
        """Whether other work, another case's or a probe's, may run between the batches of this case."""
        return len(self.cases) > 1 or self.ceilings.probe(case.workload.dtype) is not None

    def _calibrate(self) -> None:
        """Find the probe of each dtype measured here, and what it is calibrated to."""
        for dtype in dict.fromkeys(trial.case.workload.dtype for trial in self.alive if _computes(trial)):
            with suppress(Exception):  # a library may fail in any way; what breaks a probe is no case's end
                calibration = self.ceilings.calibration(dtype, self.allowance.share_s, self.left_s())
                probe = None if calibration is None else self.ceilings.probe(dtype)
                if probe is not None and calibration is not None:
                    self.probes[dtype] = ProbeTrial(probe, self.device)
                    self.calibrations[dtype] = calibration

    def _window_s(self) -> float:
        """Seconds to draw for: what is left of the share, but enough to judge contention by."""
        least = SHORTEST_WINDOW_S * len(self.alive)
        return min(
            max(self.allowance.share_s - self.spent_s, least), max(self.allowance.limit_s - self.spent_s, 0.0)
        )

    def _plan(self, window_s: float) -> dict[str, int]:
        """Size every batch; return how many each case draws in a round.

        Rounds are as many as the slowest case can draw batches in its share; the others draw several a round.
        """
        aimed = SETTLING_BATCHES if self._settles else AIMED_BATCHES
        share_s = self._shares(window_s)
        possible = {
            trial.case.id: min(
                max(int(share_s[trial.case.id] / trial.sampler.least_batch_s), FEWEST_BATCHES), aimed
            )
            for trial in self.alive
        }
        rounds = min(possible.values())
        turns = {case: max(1, round(number / rounds)) for case, number in possible.items()}
        for trial in self.alive:
            trial.sampler.size(share_s[trial.case.id] / rounds / turns[trial.case.id])
        round_s = sum(turns[trial.case.id] * trial.sampler.batch_cost_s for trial in self.alive)
        room_s = (self.allowance.limit_s - self.spent_s) / rounds - round_s
        for dtype, probe in self.probes.items():
            usual_s = median(t.sampler.batch_cost_s for t in self.alive if t.case.workload.dtype == dtype)
            probe.size(min(usual_s, room_s / len(self.probes)))
        return turns

    def _shares(self, window_s: float) -> dict[str, float]:
        """Seconds for each case, by weight; less where the slow ones' fewest batches would pass the limit."""
        weight = sum(trial.case.weight for trial in self.alive) * (1 + len(self.probes) / len(self.alive))
        share_s = {trial.case.id: window_s * trial.case.weight / weight for trial in self.alive}
        least_s = {trial.case.id: FEWEST_BATCHES * trial.sampler.least_batch_s for trial in self.alive}
        spare_s = self.allowance.limit_s - self.spent_s - window_s
        over_s = sum(max(least_s[case] - share_s[case], 0.0) for case in share_s) - spare_s
        roomy = [case for case in share_s if share_s[case] > least_s[case]]
        if over_s <= 0 or not roomy:
            return share_s
        kept = max(1 - over_s / sum(share_s[case] for case in roomy), 0.0)
        return share_s | {case: max(kept * share_s[case], least_s[case]) for case in roomy}

    def _draw(self, window_s: float, turns: dict[str, int]) -> None:
        """Draw rounds until every interval is narrow, the window has passed, or another would pass the limit.

        Never fewer than `stats.FEWEST_BATCHES`; never narrow before `stats.BATCHES` and `SHORTEST_WINDOW_S`.
        """
        begin, number, look = self.device.clock(), 0, 0
        while self.alive:
            for turn in self._turns(number, turns):
                turn()
            number += 1
            passed_s = self.device.clock() - begin
            is_over = passed_s >= window_s or self.spent_s + passed_s / number > self.allowance.limit_s
            if self._settles and self.alive and (is_over or number >= look):
                self._settle(begin)
                look = math.ceil(number * _LOOK_AGAIN)
            if number >= FEWEST_BATCHES and (is_over or self._narrow()):
                return

    def _turns(self, number: int, turns: dict[str, int]) -> list[Callable[[], object]]:
        """The draws of one round, in random order."""
        drawing: list[Callable[[], object]] = [
            partial(self._draw_batch, trial, number)
            for trial in self.alive
            for _ in range(turns[trial.case.id])
        ]
        drawing += [partial(self._probe, dtype, number) for dtype in self.probes]
        self._order.shuffle(drawing)
        return drawing

    def _draw_batch(self, trial: CaseRun, number: int) -> None:
        """Draw a batch that finds the caches as the case's own launches leave them, whatever ran before."""
        if self._latest is not trial:
            trial.attempt(trial.rewarm)
        trial.attempt(partial(trial.draw, number))
        self._latest = trial

    def _probe(self, dtype: str, number: int) -> None:
        self._latest = None
        try:
            self.probes[dtype].draw(number)
        except Exception:  # a library may fail in any way: there is then no ceiling by it
            del self.probes[dtype]

    def _settle(self, begin_s: float) -> None:
        """Look where the course of all cases together, each relative to its own median, has settled."""
        points = sorted(
            (middle - begin_s, relative) for trial in self.alive for middle, relative in _relative(trial)
        )
        at_s, launch_s = zip(*points, strict=True)
        shortest_s = SHORTEST_S if self.busy_s < SHORTEST_S else _SHORTEST_AT_WORK_S
        self.settling = find_settling(np.asarray(at_s), np.asarray(launch_s), shortest_s)
        # Of what still moves the later half stands in; what is too noisy or too short to tell counts whole.
        # The records say so.
        begins_s = at_s[-1] / 2 if self.settling.is_changing else self.settling.settled_s or 0.0
        self.window_begin_s = begin_s + begins_s

    def _narrow(self) -> bool:
        return all(self._is_narrow(trial) for trial in self.alive)

    def _is_narrow(self, trial: CaseRun) -> bool:
        if _is_sustained(trial.case) and (self.settling is None or self.settling.settled_s is None):
            return False
        window = self.window(trial)
        return (
            len(window.drawn) >= BATCHES
            and window.elapsed_s >= SHORTEST_WINDOW_S
            and window.interval().relative_half_width <= STOP_HALF_WIDTH
        )

    def window(self, trial: CaseRun) -> Window:
        """The batches a case's figure is of: all, or for a sustained one those since it settled, in whole
        periods.
        """
        drawn: Sequence[TimedBatch] = trial.drawn
        settling = self.settling if _is_sustained(trial.case) else None
        if settling is not None:
            since = [each for each in drawn if each.timing.start_s >= self.window_begin_s]
            drawn = since if len(since) >= FEWEST_BATCHES else drawn[-FEWEST_BATCHES:]
            middle_s = np.asarray([(each.timing.start_s + each.timing.end_s) / 2 for each in drawn])
            whole = drawn[trim_to_whole_periods(middle_s, settling.period_s) :]
            drawn = whole if len(whole) >= FEWEST_BATCHES else drawn
        return Window(drawn, trial.sampler.resolution_s, settling)

    def _finish(self) -> None:
        """Check every result; where the host may be what was timed, time the launches without it.

        Last, name the kernels that ran.
        """
        for trial in self.alive:
            trial.attempt(trial.verify)
            trial.attempt(partial(self._replay, trial))
        for trial in self.alive:
            trial.attempt(partial(trial.name_kernels, self.allowance.limit_s - self.spent_s))

    def _replay(self, trial: CaseRun) -> None:
        with suppress(Exception):  # what can't be replayed was measured all the same
            replay(trial, self.window(trial).enqueue_share)

    def _record(self, trial: CaseRun, conditions: Conditions, rows: Sequence[Counters]) -> Record:
        if not trial.alive:
            return self._ended(trial)
        window = self.window(trial)
        own = of_batches(conditions, rows, window.spans)
        settled = True if window.settling is None else has_settled(window.settling)
        evidence = Measurement(trial, window, own, self.name, self._ceiling(trial, window, own), settled)
        return record_of(evidence, trial.cost_s)

    def _ended(self, trial: CaseRun) -> Record:
        assert trial.ended is not None
        return record_failure(trial, trial.ended, self.name)

    def _ceiling(self, trial: CaseRun, window: Window, conditions: Conditions) -> Ceiling | None:
        work, rating = trial.case.workload, self.device.rating
        if work.flops is None:
            return None
        if work.dtype in self.probes and _computes(trial):
            nominal = rating.nominal_for(work.dtype).tflops
            probe, calibration = self.probes[work.dtype], self.calibrations[work.dtype]
            return by_probe(window, work.flops, probe, calibration, nominal)
        achieved = window.interval().inverted(work.flops / 1e12)
        return by_clock(achieved, rating, work.dtype, conditions.gpu)


def has_settled(settling: Settling) -> bool | None:
    """Whether a course has settled; None where that can't be told."""
    if settling.settled_s is not None:
        return True
    return False if settling.is_changing else None


def _is_sustained(case: Case) -> bool:
    return case.phase == "sustained"


def _computes(trial: CaseRun) -> bool:
    """Whether arithmetic is what bounds it; a product says nothing of what memory could do."""
    work = trial.case.workload
    return (work.flops or 0) > work.bytes


def _relative(trial: CaseRun) -> list[tuple[float, float]]:
    """The middle of each batch and its seconds a launch ÷ their median."""
    each = [d.timing.elapsed_s / d.timing.launches for d in trial.drawn]
    usual = median(each) if each else 1.0
    return [
        ((d.timing.start_s + d.timing.end_s) / 2, launch_s / usual)
        for d, launch_s in zip(trial.drawn, each, strict=True)
    ]
