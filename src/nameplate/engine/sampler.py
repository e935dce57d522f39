"""Draws batches of one prepared case: warm-up, sizes of samples and batches, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nameplate.device.interface import Device, Timing
from nameplate.stats import BATCHES, FEWEST_BATCHES, Interval, launch_time
from nameplate.workload import Launch

# A sample lasts at least this many steps of the clock: quantisation then stays under 0.1 % of a sample.
TIMER_STEPS = 1000
# … and at least this long, so that the loop around the launches (some 0.1 µs on a CPU) stays under 0.1 %.
SHORTEST_SAMPLE_S = 100e-6
MOST_SAMPLES = 1000  # a batch; bounds memory and events
# Batches that a window is cut into. More than `stats.BATCHES`, so that a slow one doesn't leave too few.
AIMED_BATCHES = 25
STOP_HALF_WIDTH = 0.005
# The kernel counts CPU time in steps of 10 ms; contention of 5 % of two cores needs a window of this length
# to show above that. No case stops sooner, however narrow its interval.
SHORTEST_WINDOW_S = 0.8


@dataclass
class Sampler:
    """The batches of one case on one device, in the order they were drawn."""

    device: Device
    launches: Sequence[Launch]
    flush: bool = False
    per_sample: int = 1
    samples: int = 1
    batches: list[Timing] = field(default_factory=list)
    launch_s: float = math.inf  # what the latest stretch of warm-up took a launch
    cost_s: float = math.inf  # … and what it cost a launch, flushes included

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
        while (left_s := deadline - self.device.clock()) > 0:
            if math.isfinite(self.cost_s):
                count = min(count, math.ceil(left_s / max(self.cost_s, 1e-9)))
            self._stretch(count)
            count *= 2

    def _stretch(self, count: int) -> None:
        """Launch `count` times and keep what one launch takes, and what it costs with a flush before it."""
        begin = self.device.clock()
        if self.flush:
            timing = self.device.time_batch(self.launches, samples=count, per_sample=1, flush=True)
        else:
            timing = self.device.time_batch(self.launches, samples=1, per_sample=count)
        self.launch_s = timing.elapsed_s / count
        self.cost_s = max(self.device.clock() - begin, timing.elapsed_s) / count

    def size(self, window_s: float) -> None:
        """Choose launches a sample and samples a batch, for launches as warm-up found them.

        A flushed sample is one launch: the second would find the cache warm.
        """
        shortest = max(TIMER_STEPS * self.device.timer_resolution_s, SHORTEST_SAMPLE_S)
        self.per_sample = 1 if self.flush else max(1, math.ceil(shortest / self.launch_s))
        batch_s = window_s / AIMED_BATCHES
        self.samples = min(max(1, int(batch_s / (self.cost_s * self.per_sample))), MOST_SAMPLES)

    def batch(self) -> Timing:
        """Draw one more batch."""
        timing = self.device.time_batch(
            self.launches, samples=self.samples, per_sample=self.per_sample, flush=self.flush
        )
        self.batches.append(timing)
        return timing

    def interval(self) -> Interval:
        """Mean seconds a launch so far, with its 95 % interval."""
        # Back-to-back samples share their readings of the clock; between flushed ones each has its own.
        readings = self.samples if self.flush else 1
        return launch_time(
            [batch.elapsed_s for batch in self.batches],
            [batch.launches for batch in self.batches],
            readings * self.device.timer_resolution_s,
        )

    def fill_window(self, window_s: float) -> None:
        """Draw batches until the interval is narrow or the window has passed, whichever comes first.

        Never fewer than `stats.FEWEST_BATCHES`; never narrow before `stats.BATCHES` and `SHORTEST_WINDOW_S`.
        """
        begin = self.device.clock()
        while True:
            self.batch()
            passed = self.device.clock() - begin
            if len(self.batches) >= FEWEST_BATCHES and passed >= window_s:
                return
            if len(self.batches) >= BATCHES and passed >= SHORTEST_WINDOW_S and self._narrow():
                return

    def _narrow(self) -> bool:
        return self.interval().relative_half_width <= STOP_HALF_WIDTH
