"""Timed batches, and the window of them that a figure is taken from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nameplate.device.protocol import Timing
from nameplate.stats.between import estimate_run_to_run, widen
from nameplate.stats.estimate import (
    BATCHES,
    FEWEST_BATCHES,
    fit_trend,
    launch_time,
    means_by_process,
    split_by_process,
)
from nameplate.stats.interval import Interval
from nameplate.stats.settling import Settling, mean_left_of_change, trim_to_whole_periods

# The shortest window that can be judged. The kernel counts CPU time in steps of 10 ms, and contention of 5 %
# of two cores exceeds such a step only in a window of this length.
SHORTEST_WINDOW_S = 0.8
# A process stops early where every interval within it is this narrow (half-width ÷ value): more batches would
# say more of this process alone. The number of processes does not depend on it: only further ones narrow the
# run-to-run interval.
STOP_HALF_WIDTH = 0.005
# The time constant, in windows, of a relaxation that `find_settling` doesn't find, since it is small or hides
# in a swing: launches may go on changing by as much again as in the window. Where one was found, that one has
# mostly passed, and another beside it is taken to be half as slow.
_SLOWEST_UNSEEN, _SLOWEST_BESIDE = 1.0, 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimedBatch:
    """One batch, the round it was drawn in, by which process (from 1), and its digest where one was taken.

    `idle_s` is how long the device had nothing of the case to do, from the end of its batch before to the end
    of this one; None where that isn't known, and where other work ran in between.
    """

    round: int
    timing: Timing
    digest: str | None = None
    process: int = 1
    idle_s: float | None = None

    @property
    def middle_s(self) -> float:
        """The middle of the batch, in seconds on the device's clock."""
        return (self.timing.start_s + self.timing.end_s) / 2

    @property
    def launch_s(self) -> float:
        """Mean seconds per launch."""
        return self.timing.elapsed_s / self.timing.launches


@dataclass(frozen=True)
class Window:
    """Batches in the order they ran.

    `resolution_s` is what the clock's step may add to a batch. `settling` is how the whole time series
    settled; None where that wasn't asked. `is_told` is False for a burst that a limit ended too soon: the
    batches are then of its neighbourhood. `has_turns`: the batches of one round are a turn of the case,
    between turns of others. `goes_on`: the figure is to hold for what comes after the window, as a sustained
    one does. `earlier` has the batches that a process left out since by itself it didn't show them settled.
    """

    batches: Sequence[TimedBatch]
    resolution_s: float
    settling: Settling | None = None
    is_told: bool = True
    has_turns: bool = False
    goes_on: bool = False
    earlier: Sequence[TimedBatch] = ()

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Start and end of each batch, in seconds on the device's clock."""
        return [(each.timing.start_s, each.timing.end_s) for each in self.batches]

    @property
    def elapsed_s(self) -> float:
        """Timed seconds in all."""
        return sum(each.timing.elapsed_s for each in self.batches)

    @property
    def launches(self) -> int:
        """Launches timed in all."""
        return sum(each.timing.launches for each in self.batches)

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of this process during the batches; None where they aren't known."""
        return sum_known([each.timing.cpu_s for each in self.batches])

    @property
    def system_share(self) -> float | None:
        """The kernel's share of the CPU time of this process during the batches; None where it isn't known.

        Mostly it makes pages for memory that a launch allocates anew.
        """
        system_s = sum_known([each.timing.system_s for each in self.batches])
        return None if system_s is None or not self.cpu_s else min(system_s / self.cpu_s, 1.0)

    @property
    def middle_s(self) -> Floats:
        """The middle of each batch, in seconds on the device's clock."""
        return np.asarray([each.middle_s for each in self.batches])

    @property
    def launch_s(self) -> Floats:
        """Mean seconds per launch of each batch."""
        return np.asarray([each.launch_s for each in self.batches])

    @property
    def samples_s(self) -> list[Floats]:
        """Seconds per launch of each sample, by batch."""
        return [each.timing.sample_s / each.timing.per_sample for each in self.batches]

    @property
    def median_s(self) -> float:
        """The median sample, in seconds per launch."""
        return float(np.median(np.concatenate(self.samples_s)))

    def renumbered(self, first: int) -> Self:
        """Return the same window with its rounds numbered from `first` on."""
        if first == 0:
            return self
        batches, earlier = (
            [replace(each, round=first + each.round) for each in some]
            for some in (self.batches, self.earlier)
        )
        return replace(self, batches=batches, earlier=earlier)

    @property
    def whole(self) -> list[TimedBatch]:
        """Every batch that counts, also those that a process by itself left out, in the order they ran."""
        return sorted([*self.earlier, *self.batches], key=lambda each: each.timing.start_s)

    def since(self, seconds: float, settling: Settling) -> Self:
        """Return the window of every batch from then on, on the device's clock, as one that settled so.

        The latest few are always in it.
        """
        whole = self.whole
        later = [each for each in whole if each.timing.start_s >= seconds]
        kept = later if len(later) >= FEWEST_BATCHES else whole[-FEWEST_BATCHES:]
        return replace(self, batches=kept, earlier=whole[: len(whole) - len(kept)], settling=settling)

    def totals(self) -> tuple[Floats, Floats]:
        """Return the timed seconds and the launches of each batch."""
        elapsed_s = [each.timing.elapsed_s for each in self.batches]
        launches = [each.timing.launches for each in self.batches]
        return np.asarray(elapsed_s), np.asarray(launches)

    @property
    def process(self) -> list[int]:
        """The number of the process that drew each batch."""
        return [each.process for each in self.batches]

    def means_s(self) -> list[float]:
        """Return the mean seconds per launch of each process."""
        elapsed_s, launches = self.totals()
        return [float(each) for each in means_by_process(elapsed_s / launches, self.process, launches)]

    def interval(self) -> Interval:
        """Return mean seconds per launch with its 95 % interval within the processes that drew them.

        Batches of a turn have the same part of the clock's swing and begin at the clock that the case before
        left, so the interval is never narrower than the one that follows from the turns' means. Where the
        figure goes on, the interval reaches to where the window is still heading (`_change_to_come`), and to
        what is left without the pauses between batches (`idle_share`).
        """
        elapsed_s, launches = self.totals()
        within = launch_time(
            elapsed_s,
            launches,
            self.resolution_s,
            at_s=self.middle_s,
            samples_s=self.samples_s,
            process=self.process,
            off=self._find_bias() if self.goes_on else (0.0, 0.0),
        )
        turns_s = list(self.launch_s_by_round().values()) if self.has_turns else []
        return widen(within, estimate_run_to_run(turns_s).log_half_width) if len(turns_s) > 1 else within

    def _find_bias(self) -> tuple[float, float]:
        """Return by what fraction launches without pauses may in the end be shorter and longer than here."""
        change = self._change_to_come()
        return max(-change, 0.0), max(change, 0.0) + self.idle_share

    @property
    def idle_share(self) -> float:
        """How long the device had nothing to do between and in the batches, ÷ the time that they took.

        That bounds what a launch takes without pauses: it lies between the time found, t, and t·(1 + share).
        A device below its limits takes t. One at a power limit makes up for a pause at a higher clock: as
        power is left over, launches are faster than without pauses. But at a higher clock a launch takes more
        energy, never less, so that the same power, pauses included, never makes more launches than without.
        """
        known = [(each.idle_s, each.timing.elapsed_s) for each in self.batches if each.idle_s is not None]
        elapsed_s = sum(elapsed for _, elapsed in known)
        return max(sum(idle for idle, _ in known) / elapsed_s, 0.0) if elapsed_s else 0.0

    def _change_to_come(self) -> float:
        """Return by what fraction launches will in the end take longer than they do on average here.

        That is the mean change over each process's own window, less what noise explains of it, × what a
        relaxation has left of such a change: the slowest that was found, or one that may be unseen.
        """
        trends, spans_s = [], []
        for its in split_by_process(self.process, len(self.batches)):
            at_s = self.middle_s[its]
            if its.size >= FEWEST_BATCHES and at_s[-1] > at_s[0]:
                trends.append(fit_trend(at_s, self.launch_s[its]))
                spans_s.append((at_s[-1] - at_s[0]) * its.size / (its.size - 1))
        if not trends:
            return 0.0
        change = sum(each.change for each in trends) / len(trends)
        noise = math.hypot(*(each.error for each in trends)) / len(trends)
        constant_s = self.settling.time_constant_s if self.settling else None
        windows = _SLOWEST_UNSEEN
        if constant_s is not None:
            windows = max(constant_s / float(np.mean(spans_s)), _SLOWEST_BESIDE)
        seen = math.sqrt(max(change**2 - noise**2, 0.0))
        return math.copysign(seen * mean_left_of_change(windows), change)

    @property
    def is_narrow(self) -> bool:
        """Whether no more batches are needed: there are enough, and the interval is narrow."""
        return self.is_narrow_for(1)

    def is_narrow_for(self, processes: int) -> bool:
        """Whether one of so many processes needs no more: all together then have a narrow interval."""
        fewest = max(math.ceil(BATCHES / processes), FEWEST_BATCHES)
        enough = len(self.batches) >= fewest and self.elapsed_s >= SHORTEST_WINDOW_S / processes
        return enough and self.interval().relative_half_width <= STOP_HALF_WIDTH * math.sqrt(processes)

    def launch_s_by_round(self) -> dict[int, float]:
        """Return the mean seconds per launch of each round."""
        elapsed: dict[int, float] = {}
        launches: dict[int, int] = {}
        for each in self.batches:
            elapsed[each.round] = elapsed.get(each.round, 0.0) + each.timing.elapsed_s
            launches[each.round] = launches.get(each.round, 0) + each.timing.launches
        return {number: elapsed[number] / launches[number] for number in elapsed}

    def process_by_round(self) -> dict[int, int]:
        """Return the number of the process that drew each round."""
        return {each.round: each.process for each in self.batches}


def merge_windows(windows: Sequence[Window]) -> Window:
    """Return the windows of one case in several processes as one, in the order they ran.

    It has settled where each of them has.
    """
    if len(windows) == 1:
        return windows[0]
    settlings = [each.settling for each in windows if each.settling is not None]
    unsettled = sorted(
        (each for each in settlings if not each.is_settled), key=lambda each: not each.is_changing
    )
    return Window(
        [batch for each in windows for batch in each.batches],
        max(each.resolution_s for each in windows),
        next(iter(unsettled), settlings[0]) if settlings else None,
        all(each.is_told for each in windows),
        any(each.has_turns for each in windows),
        any(each.goes_on for each in windows),
        [batch for each in windows for batch in each.earlier],
    )


def keep_whole_periods(batches: Sequence[TimedBatch], period_s: float | None) -> Sequence[TimedBatch]:
    """Drop the oldest batches so that whole periods remain, unless too few batches would be left."""
    whole = batches[trim_to_whole_periods([each.middle_s for each in batches], period_s) :]
    return whole if len(whole) >= FEWEST_BATCHES else batches


def relative_times(batches: Sequence[TimedBatch], begin_s: float) -> list[tuple[float, float]]:
    """Return the middle of each batch in seconds since `begin_s`, and its seconds per launch ÷ their median:
    a series to which several cases can belong.
    """
    usual = median(each.launch_s for each in batches) if batches else 1.0
    return [(each.middle_s - begin_s, each.launch_s / usual) for each in batches]


def find_idle_s(before: Timing, after: Timing) -> float | None:
    """Return how long a device was idle from the end of one batch to the end of the next; None: not known."""
    return None if after.idle_s is None else after.start_s - before.end_s + after.idle_s


def sum_known(values: Sequence[float | None]) -> float | None:
    """Return the sum of the values; None where one of them isn't known."""
    return None if None in values else float(sum(each for each in values if each is not None))
