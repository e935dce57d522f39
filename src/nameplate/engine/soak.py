"""A soak: one workload run continuously from idle, for burst figure, time series and sustained figure.

Burst is what a device delivers at full speed, before heat and the power limit take effect; sustained is what
remains once it has settled. Both are windows of one run without a pause, so they differ only in time. The run
begins with short batches: a GPU's clock climbs for some 50 ms, and its power limit may take effect a few
tenths of a second later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from statistics import median

import numpy as np

from nameplate.device.protocol import Counters
from nameplate.engine.case_run import CaseRun
from nameplate.engine.group import Group
from nameplate.engine.group_data import CaseData
from nameplate.engine.thresholds import thresholds
from nameplate.engine.window import (
    SHORTEST_WINDOW_S,
    Floats,
    TimedBatch,
    Window,
    keep_whole_periods,
    sum_known,
)
from nameplate.record import Derate, Moment
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.onset import Onset, find_onset
from nameplate.stats.settling import STEP_MARGIN_S, bin_launch_times, find_settling, launch_time_around
from nameplate.suite import Case
from nameplate.telemetry.timeline import REACH_S
from nameplate.workload import Workload

# Idle before the start: clocks recover within a second, and set-up warms the device little.
_IDLE_SHARE, _LONGEST_IDLE_S = 0.05, 5.0
# The first seconds are drawn in short batches, to see the clock climb and a limit take effect.
_ONSET_S, _ONSET_BATCH_S = 2.0, 0.005
_BATCH_S = 0.1  # later: fine enough for a time series, and for a window that ends where it settles
_FEWEST_IN_RUN = 1000  # batches of a whole run; below 100 s they are therefore shorter than _BATCH_S
_LOOK_S = 1.0  # seconds between tests whether the series has settled
_LOOK_AGAIN = 1.1  # … and that factor on the time of the last test: a longer series takes longer to test
# A relaxation with time constant τ has settled after 5 τ. A burst window of a fifth of τ is therefore wrong
# by at most a tenth of the whole change.
_BURST_OF_SETTLED = 0.04
_LONGEST_BURST_S = 1.0  # of a device that slows down later: what counts is what it does at first
# Readings this close together show when the clock is up, and it is up within this fraction of its highest.
_CLOSE_READINGS_S, _CLOCK_STEP = 0.05, 0.01
_MOST_BATCHES = 100  # of a record; neighbours are merged
DERATES_S = (1.0, 10.0, 60.0, 600.0)
# A run that ends within 5 % of such a moment counts there: set-up and idle come out of the same budget.
_NEARLY = 0.95


def is_soak(cases: Sequence[Case]) -> bool:
    """Whether the cases are measured from idle, because one of them asks for the burst figure."""
    return any(case.phase == "burst" for case in cases)


@dataclass
class Soak(Group):
    """One workload's burst case, and its sustained case where that is asked for.

    With both, the run takes its whole share; with the burst case alone it ends once it has settled.
    """

    _onset: Onset = field(default=Onset(0, 0, False), init=False)
    _onset_batches: int = field(default=0, init=False)  # how many were drawn short, at the start

    def prepare(self) -> None:
        """Prepare the workload once, for both phases.

        Raises ValueError for cases that aren't phases of one workload.
        """
        if len({replace(case, phase=None).id for case in self.cases}) > 1:
            raise ValueError("a run from idle is of one workload: its burst and its sustained case")
        self.prepare_case(self.cases[0])

    def get_ready(self) -> None:
        """Let the device idle."""
        fewest_s = FEWEST_BATCHES * self._run.sampler.cost_s
        spare_s = max(self.allowance.limit_s - self.spent_s - fewest_s, 0.0)
        self.device.idle(min(_IDLE_SHARE * self.allowance.share_s, _LONGEST_IDLE_S, spare_s))

    def draw(self) -> None:
        """Draw batches without a pause until the share has passed, or nothing more is to be learned."""
        self._run.attempt(self._draw)

    def finished_runs(self) -> list[CaseRun]:
        """Return the one run once for each phase."""
        return [replace(self._run, case=case) for case in self.cases]

    @property
    def _run(self) -> CaseRun:
        return self.runs[0]

    @property
    def _whole(self) -> Window:
        """Every batch drawn; those of the onset are merged to about the length of the others."""
        onset, later = self._run.batches[: self._onset_batches], self._run.batches[self._onset_batches :]
        size = max(1, round(_mean_s(later) / _mean_s(onset))) if onset and later else 1
        return Window([*_merge_by(size, onset), *later], self._run.sampler.resolution_s)

    @property
    def _start_s(self) -> float:
        return self._run.batches[0].timing.start_s

    def _middle_s(self) -> Floats:
        """The middle of each of these batches, in seconds from the first one's start."""
        return self._whole.middle_s - self._start_s

    def _draw(self) -> None:
        batches, limit_s = self._run.batches, self.allowance.limit_s - self.spent_s
        window_s = min(max(self.allowance.share_s - self.spent_s, SHORTEST_WINDOW_S), limit_s)
        begin_s, looked_s = self.device.clock(), 0.0
        self._draw_onset(min(_ONSET_S, window_s / 2), limit_s)
        self._run.sampler.choose_size(min(_BATCH_S, window_s / _FEWEST_IN_RUN))
        while True:
            passed_s = self.device.clock() - begin_s
            # A test is a pause. With a sustained case the run takes its whole share: one at the end suffices.
            look = len(self.cases) == 1 and passed_s >= max(looked_s + _LOOK_S, _LOOK_AGAIN * looked_s)
            self._run.draw(len(batches))
            self.fetch_telemetry()
            if look:
                looked_s = passed_s
                self._update_settling()
            passed_s = self.device.clock() - begin_s
            is_over = passed_s >= window_s or passed_s + _mean_s(batches[-1:]) > limit_s
            if len(batches) >= FEWEST_BATCHES and (is_over or (look and self._is_burst_known(passed_s))):
                break
        self._update_settling()

    def _draw_onset(self, onset_s: float, limit_s: float) -> None:
        """Draw the short batches of the onset, without digests: each would be a pause, in which it cools."""
        batches, sampler = self._run.batches, self._run.sampler
        self.device.hasten_telemetry(_ONSET_S)
        sampler.choose_size(_ONSET_BATCH_S)
        begin_s = self.device.clock()
        passed_s = batch_s = 0.0
        while passed_s < onset_s and passed_s + batch_s <= limit_s:
            self._run.draw(len(batches), takes_digest=False)
            now_s = self.device.clock() - begin_s
            passed_s, batch_s = now_s, now_s - passed_s
            sampler.learn(batches[-1].timing)
            is_near = _ONSET_BATCH_S / 2 < batch_s < _ONSET_BATCH_S * 2
            if not is_near or sampler.samples < sampler.fewest_samples:  # the clock was another before
                sampler.choose_size(_ONSET_BATCH_S)
        self._onset_batches = len(batches)
        if batches:
            onset = Window(batches, sampler.resolution_s)
            self._onset = find_onset(onset.middle_s, onset.launch_s)

    def _update_settling(self) -> None:
        """Find when the series settles: after the climb and, where throughput fell at once, after that."""
        begin_s = self._fallen_s if self._onset.has_fallen else self._full_speed_s
        series = self._whole
        since = series.middle_s - self._start_s >= begin_s
        if since.sum() < FEWEST_BATCHES:
            return
        found = find_settling(self._middle_s()[since], series.launch_s[since])
        if self._onset.has_fallen and found.settled_s is not None:
            # A fall is a change like any other, and has settled as a step has.
            found = replace(found, settled_s=max(found.settled_s, self._fallen_s + STEP_MARGIN_S))
        self.settling = found

    @property
    def _full_speed_s(self) -> float:
        """Seconds from the start to full speed."""
        batches = self._run.batches
        return batches[min(self._onset.first, len(batches) - 1)].timing.start_s - self._start_s

    @property
    def _fallen_s(self) -> float:
        """Seconds from the start to the last batch at full speed, before a limit takes effect."""
        batches = self._run.batches
        return batches[min(self._onset.end, len(batches)) - 1].timing.end_s - self._start_s

    def _is_burst_known(self, passed_s: float) -> bool:
        """Whether the series has settled, and the burst's interval is narrow or can't get narrower."""
        settled_s = self.settling.settled_s
        if settled_s is None or passed_s < settled_s + _LOOK_S:
            return False
        # A settling time above 0: the burst has ended, and a longer run doesn't lengthen its window.
        return settled_s > 0 or self._burst_window(()).is_narrow

    def window(self, run: CaseRun, rows: Sequence[Counters] = ()) -> Window:
        """Return the batches of the burst or of the sustained phase; neighbours are merged to at most 100."""
        return self._burst_window(rows) if run.case.phase == "burst" else self._sustained_window()

    def _burst_window(self, rows: Sequence[Counters]) -> Window:
        """Return the batches at full speed, until a limit takes effect by the driver or by the series.

        Where a limit leaves too few of them, it is those around full speed, and the burst isn't told.
        """
        begin_s, limited_s = self._full_speed_s, self._limited_s(rows)
        first = self._onset.first
        if first < (up := self._index_at(self._clock_up_s(rows))):
            first = up if self._count_between(up, limited_s) >= FEWEST_BATCHES else first
        is_told = self._count_between(first, limited_s) >= FEWEST_BATCHES or limited_s == math.inf
        end_s = min(begin_s + self._burst_length_s(), limited_s)
        count = max(self._count_between(first, end_s), FEWEST_BATCHES)
        first = max(min(first, len(self._run.batches) - count), 0)
        batches = _merge_neighbours(self._run.batches[first : first + count])
        return Window(batches, self._run.sampler.resolution_s, self.settling, is_told)

    def _index_at(self, seconds: float) -> int:
        """Return the first batch that begins so long after the start, or later."""
        begins_s = (each.timing.start_s - self._start_s for each in self._run.batches)
        return next((index for index, begin_s in enumerate(begins_s) if begin_s >= seconds), 0)

    def _count_between(self, first: int, end_s: float) -> int:
        """Count the batches from `first` on that end by `end_s`."""
        return sum(each.timing.end_s - self._start_s <= end_s for each in self._run.batches[first:])

    def _burst_length_s(self) -> float:
        """Seconds of the burst, by the series as a whole; a limit may end it sooner."""
        last_s, settled_s = float(self._middle_s()[-1]), self.settling.settled_s
        if settled_s == 0.0:
            return last_s / 3
        return min(_LONGEST_BURST_S, last_s / 3, self._burst_end_s(settled_s))

    def _burst_end_s(self, settled_s: float | None) -> float:
        """Seconds from the start until a change that settles by then is felt."""
        if settled_s is None or self._onset.has_fallen:
            return math.inf
        if self.settling.time_constant_s is None:
            # A step: keep the margin before its middle that `settled_s` keeps after it.
            return max(settled_s - 2 * STEP_MARGIN_S, _BURST_OF_SETTLED * settled_s)
        return _BURST_OF_SETTLED * settled_s

    def _limited_s(self, rows: Sequence[Counters]) -> float:
        """Seconds from the start to where a limit takes effect, by the series or the driver; inf: it doesn't.

        The driver's is the last reading at full speed before the first that shows a limit. Where there is no
        such reading, the driver limits the clock all the time, which the verdict says.
        """
        fallen_s = self._fallen_s if self._onset.has_fallen else math.inf
        up_s = self._start_s + self._full_speed_s
        readings = [row for row in rows if row.gpu is not None and row.at_s >= up_s]
        free = list(takewhile(lambda row: not _is_limited(row), readings))
        if not free or len(free) == len(readings):
            return fallen_s
        return min(fallen_s, free[-1].at_s - self._start_s)

    def _clock_up_s(self, rows: Sequence[Counters]) -> float:
        """Seconds from the start to the first reading at the onset's highest clock.

        0.0 where the readings are too far apart to tell.
        """
        readings = [
            (row.at_s - self._start_s, row.gpu.sm_clock_mhz)
            for row in rows
            if row.gpu is not None and row.gpu.sm_clock_mhz and 0 <= row.at_s - self._start_s <= _ONSET_S
        ]
        gaps_s = [after[0] - before[0] for before, after in pairwise(readings)]
        if not gaps_s or median(gaps_s) > _CLOSE_READINGS_S:
            return 0.0
        highest = max(clock for _, clock in readings)
        return next(at_s for at_s, clock in readings if clock >= (1 - _CLOCK_STEP) * highest)

    def _sustained_window(self) -> Window:
        """Return the batches since the series settled, in whole periods; if it hasn't, the last third."""
        series, settled_s = self._whole.batches, self.settling.settled_s
        middle_s = self._middle_s()
        begin_s = middle_s[-1] * 2 / 3 if settled_s is None else max(settled_s, self._full_speed_s)
        first = min(int(np.searchsorted(middle_s, begin_s)), len(middle_s) - FEWEST_BATCHES)
        batches = keep_whole_periods(series[max(first, 0) :], self.settling.period_s)
        return Window(_merge_neighbours(batches), self._run.sampler.resolution_s, self.settling, goes_on=True)

    def case_data(self, run: CaseRun, rows: Sequence[Counters]) -> CaseData:
        """Return what was found of a phase; the burst's has the time series and the derates."""
        found = replace(super().case_data(run, rows), cost_s=run.cost_s / len(self.cases))
        if run.case.phase != "burst" or found.window is None:
            return found
        work = run.case.workload
        return replace(
            found,
            course=self._time_series(work, rows),
            derates=self._find_derates(work, found.window.interval().value),
        )

    def _time_series(self, work: Workload, rows: Sequence[Counters]) -> tuple[Moment, ...]:
        """Return throughput over time, with the telemetry at each of its points."""
        if work.flops is None:
            return ()
        at_s, launch_s = bin_launch_times(self._middle_s(), *self._whole.totals())
        figures = ("sm_clock_mhz", "power_w", "temperature_c")
        telemetry = {name: self._interpolate_telemetry(name, rows, at_s) for name in figures}
        return tuple(
            Moment(
                at_s=float(at),
                tflops=work.flops / float(each) / 1e12,
                **{name: values[n] for name, values in telemetry.items()},
            )
            for n, (at, each) in enumerate(zip(at_s, launch_s, strict=True))
        )

    def _interpolate_telemetry(self, name: str, rows: Sequence[Counters], at_s: Floats) -> list[float | None]:
        """Return a GPU's figure at these seconds from the start; None where no reading is near.

        Near is `REACH_S`, or half the distance of the points where they are further apart.
        """
        known = [
            (row.at_s - self._start_s, value)
            for row in rows
            if row.gpu is not None and (value := getattr(row.gpu, name)) is not None
        ]
        if not known:
            return [None] * at_s.size
        times_N, values_N = np.asarray(sorted(known), dtype=float).T
        reach_s = max(REACH_S, float(np.median(np.diff(at_s))) / 2 if at_s.size > 1 else 0.0)
        after = np.searchsorted(times_N, at_s).clip(0, times_N.size - 1)
        nearest_s = np.minimum(abs(times_N[after] - at_s), abs(at_s - times_N[(after - 1).clip(0)]))
        found = np.interp(at_s, times_N, values_N)
        return [float(each) if near else None for each, near in zip(found, nearest_s <= reach_s, strict=True)]

    def _find_derates(self, work: Workload, burst_launch_s: float) -> tuple[Derate, ...]:
        """Return what is left of the burst at the moments that people quote."""
        if work.flops is None:
            return ()
        nominal = self.device.rating.nominal_for(work.dtype).tflops
        middle_s, totals = self._middle_s(), self._whole.totals()
        last_s = float(middle_s[-1])
        found = []
        for quoted_s in DERATES_S:
            at_s = last_s if _NEARLY * quoted_s <= last_s < quoted_s else quoted_s
            launch_s = launch_time_around(middle_s, *totals, at_s)
            if launch_s is not None:
                tflops = work.flops / launch_s / 1e12
                efficiency = tflops / nominal if nominal else None
                of_burst = burst_launch_s / launch_s
                found.append(Derate(at_s=at_s, tflops=tflops, efficiency=efficiency, of_burst=of_burst))
        return tuple(found)


def _is_limited(row: Counters) -> bool:
    """Whether a reading shows that power or heat holds the clock down."""
    faults, capped = thresholds().throttled, thresholds().power_capped
    reasons = set((row.gpu.clock_event_reasons if row.gpu else None) or ())
    return bool(reasons & (faults.reasons | faults.lasting_reasons | capped.reasons))


def _merge_neighbours(batches: Sequence[TimedBatch]) -> list[TimedBatch]:
    """Merge neighbouring batches until there are at most 100; short ones are only for the time series.

    None is left out: the window may be of whole periods.
    """
    count = len(batches) // max(-(-len(batches) // _MOST_BATCHES), 1)
    ends = [len(batches) * number // count for number in range(count + 1)] if count else []
    return [_merge(batches[begin:end]) for begin, end in pairwise(ends)]


def _merge_by(size: int, batches: Sequence[TimedBatch]) -> list[TimedBatch]:
    """Merge so many neighbours into one each; what is left over at the end is left out."""
    return [_merge(batches[n : n + size]) for n in range(0, len(batches) - size + 1, size)]


def _mean_s(batches: Sequence[TimedBatch]) -> float:
    """Return the mean length of the batches."""
    return sum(each.timing.end_s - each.timing.start_s for each in batches) / len(batches)


def _merge(batches: Sequence[TimedBatch]) -> TimedBatch:
    timings = [each.timing for each in batches]
    merged = replace(
        timings[0],
        sample_s=np.concatenate([timing.sample_s for timing in timings]),
        end_s=timings[-1].end_s,
        cpu_s=sum_known([timing.cpu_s for timing in timings]),
    )
    digest = next((each.digest for each in reversed(batches) if each.digest is not None), None)
    return replace(
        batches[0], timing=merged, digest=digest, idle_s=sum_known([each.idle_s for each in batches])
    )
