"""Draws batches of one prepared case: first launches, warm-up, and the sizes of samples and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.device.protocol import Device, Timing
from nameplate.workload import Launch

# A sample lasts at least this many steps of the clock: quantisation then stays under 0.1 % of a sample.
TIMER_STEPS = 1000
# … and at least this long, so that the loop around the launches (some 0.1 µs on a CPU) stays under 0.1 %.
SHORTEST_SAMPLE_S = 100e-6
MOST_SAMPLES = 1000  # a batch; bounds memory and events
# A longer launch isn't repeated: that would double the time of its batches, while cold caches cost it little
# (32 MiB at 20 GB/s are filled in 1.7 ms, 0.7 % of the shortest such launch).
LONGEST_REWARM_S = 0.25


@dataclass
class Sampler:
    """What times the launches of one case on one device.

    `launches` are used in turn, from batch to batch: a case with several buffer sets meets each set again
    only after all the others, however short its batches are. `flush` empties the caches before each sample.
    """

    device: Device
    launches: Sequence[Launch]
    flush: bool = False
    takes_turns: bool = False  # whether other work runs between its batches
    per_sample: int = 1
    samples: int = 1
    launch_s: float = math.inf  # what the latest stretch of warm-up took a launch
    cost_s: float = math.inf  # … and what it cost a launch, flushes included
    _next: int = 0  # the buffer set whose turn it is

    def first_launches(self, left_s: float, predicted_s: float | None) -> float:
        """Launch once, and once more unless the first was as fast as predicted; seconds a launch costs.

        The first launch of a kind may load and compile; the second is what the others will be like.
        """
        self._stretch(1)
        as_predicted = predicted_s is not None and self.cost_s <= predicted_s
        if not as_predicted and self.cost_s < left_s:
            self._stretch(1)
        return self.cost_s

    def warm_up(self, seconds: float) -> None:
        """Launch until `seconds` have passed, in stretches that double, so that short launches aren't timed
        one by one.
        """
        deadline, count = self.device.clock() + seconds, 1
        most, longest_s = 0, 0.0
        while (left_s := deadline - self.device.clock()) > 0:
            if math.isfinite(self.cost_s):
                count = min(count, math.ceil(left_s / max(self.cost_s, 1e-9)))
            known = self.launch_s, self.cost_s
            self._stretch(count)
            stretch_s = count * self.cost_s
            if count < most / 2 and stretch_s < longest_s / 2:
                self.launch_s, self.cost_s = known  # the last is cut short, to one launch at worst
            most, longest_s = max(most, count), max(longest_s, stretch_s)
            count *= 2

    def _stretch(self, count: int) -> None:
        """Launch `count` times and keep what one launch takes, and what it costs with a flush before it."""
        begin = self.device.clock()
        timing = self._time(count, 1) if self.flush else self._time(1, count)
        # What falls between two steps of the clock took up to one.
        self.launch_s = max(timing.elapsed_s, self.device.timer_resolution_s) / count
        self.cost_s = max(self.device.clock() - begin, self.launch_s * count) / count

    def _time(self, samples: int, per_sample: int) -> Timing:
        """Time a batch that begins with the buffer set whose turn it is."""
        in_turn = [*self.launches[self._next :], *self.launches[: self._next]]
        self._next = (self._next + samples * per_sample) % len(self.launches)
        return self.device.time_batch(in_turn, samples=samples, per_sample=per_sample, flush=self.flush)

    @property
    def rewarms(self) -> bool:
        """Whether each batch needs an untimed launch first, to find caches as its own launches leave them.

        Several buffer sets, or a flush, already make the caches the same whatever ran before.
        """
        one_set = len(self.launches) == 1 and not self.flush
        return self.takes_turns and one_set and self.launch_s <= LONGEST_REWARM_S

    def rewarm(self) -> None:
        """Launch once, untimed, where other work may have replaced what the caches held."""
        if self.rewarms:
            self._time(1, 1)

    def size(self, batch_s: float) -> None:
        """Choose launches a sample and samples a batch of about `batch_s`, for launches as warm-up found
        them.

        A flushed sample is one launch: the second would find the cache warm.
        """
        shortest = max(TIMER_STEPS * self.device.timer_resolution_s, SHORTEST_SAMPLE_S)
        self.per_sample = 1 if self.flush else max(1, math.ceil(shortest / self.launch_s))
        timed_s = batch_s - self._rewarm_s
        self.samples = min(max(1, int(timed_s / (self.cost_s * self.per_sample))), MOST_SAMPLES)

    @property
    def batch_cost_s(self) -> float:
        """Seconds a batch of that size is expected to take, flushes and the untimed launch included."""
        return self.cost_s * self.per_sample * self.samples + self._rewarm_s

    @property
    def least_launches(self) -> int:
        """Launches that a batch of one timed launch takes."""
        return 2 if self.rewarms else 1

    @property
    def least_batch_s(self) -> float:
        """Seconds that a batch of one timed launch is expected to take."""
        return self.cost_s * self.least_launches

    @property
    def _rewarm_s(self) -> float:
        return self.cost_s if self.rewarms else 0.0

    def batch(self) -> Timing:
        """Draw one batch."""
        return self._time(self.samples, self.per_sample)

    @property
    def resolution_s(self) -> float:
        """What the clock's steps may add to a batch: back-to-back samples share their readings of the clock,
        between flushed ones each has its own.
        """
        return (self.samples if self.flush else 1) * self.device.timer_resolution_s
