"""Draws batches of one prepared case: first launches, warm-up, and the sizes of samples and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.device.protocol import Device, Timing
from nameplate.workload import Launch

# A sample lasts at least this many steps of the clock, so that quantisation stays under 0.1 % of a sample.
TIMER_STEPS = 1000
# … and at least this long, so that the loop around the launches (some 0.1 µs on a CPU) stays under 0.1 %.
SHORTEST_SAMPLE_S = 100e-6
MOST_SAMPLES = 1000  # per batch; limits memory and events
# A longer launch isn't repeated to warm the caches: that would double the time of its batches, while cold
# caches cost it little (filling 32 MiB at 20 GB/s takes 1.7 ms, 0.7 % of the shortest such launch).
LONGEST_REWARM_S = 0.25
# A GPU's batch of launches up to this long has two at least: an untimed one then comes first (`CudaDevice`),
# without which the way to the first kernel would be up to 0.5 % of a launch.
_LONGEST_PAIRED_S = 5e-3
# Where the time allows a batch has so many launches for the untimed one before it: of a batch of one launch
# the caches' state would take half the time.
_LAUNCHES_A_REWARM = 4


@dataclass
class Sampler:
    """Times the launches of one case on one device.

    `launches` has one launcher per buffer set. They are used in turn, continued from batch to batch, so that
    each set is used again only after all the others. `flush` empties the caches before each sample.
    """

    device: Device
    launches: Sequence[Launch]
    flush: bool = False
    takes_turns: bool = False  # whether other work runs between its batches
    batches_a_turn: int = 1  # how many are drawn before other work runs again
    per_sample: int = 1
    samples: int = 1
    launch_s: float = math.inf  # seconds per launch in the latest part of the warm-up
    cost_s: float = math.inf  # … and the same with flushes
    _next: int = 0  # index of the next buffer set

    def launch_first(self, left_s: float, predicted_s: float | None) -> float:
        """Launch once, and again unless the first was as fast as predicted; return the seconds of a launch.

        The first launch of its kind may load and compile code; the second is representative.
        """
        self._time_launches(1)
        as_predicted = predicted_s is not None and self.cost_s <= predicted_s
        if not as_predicted and self.cost_s < left_s:
            self._time_launches(1)
        return self.cost_s

    def warm_up(self, seconds: float) -> None:
        """Launch until `seconds` have passed.

        The number of launches timed together doubles, so that short launches aren't timed one by one.
        """
        deadline, count = self.device.clock() + seconds, 1
        most, longest_s = 0, 0.0
        while (left_s := deadline - self.device.clock()) > 0:
            if math.isfinite(self.cost_s):
                count = min(count, math.ceil(left_s / max(self.cost_s, 1e-9)))
            known = self.launch_s, self.cost_s
            self._time_launches(count)
            part_s = count * self.cost_s
            if count < most / 2 and part_s < longest_s / 2:
                self.launch_s, self.cost_s = known  # the last part is short, at worst a single launch
            most, longest_s = max(most, count), max(longest_s, part_s)
            count *= 2

    def learn(self, timing: Timing) -> None:
        """Take the seconds per launch, without and with flushes, from a batch that was drawn."""
        self.launch_s = max(timing.elapsed_s, self.device.timer_resolution_s) / timing.launches
        self.cost_s = max((timing.end_s - timing.start_s) / timing.launches, self.launch_s)

    def _time_launches(self, count: int) -> None:
        """Launch `count` times and keep the seconds per launch, without and with flushes."""
        begin = self.device.clock()
        timing = self._time(count, 1) if self.flush else self._time(1, count)
        # A time of 0 by the clock may have been up to one of its steps.
        self.launch_s = max(timing.elapsed_s, self.device.timer_resolution_s) / count
        self.cost_s = max(self.device.clock() - begin, self.launch_s * count) / count

    def _time(self, samples: int, per_sample: int) -> Timing:
        """Time a batch that begins with the next buffer set."""
        in_turn = [*self.launches[self._next :], *self.launches[: self._next]]
        self._next = (self._next + samples * per_sample) % len(self.launches)
        return self.device.time_batch(in_turn, samples=samples, per_sample=per_sample, flush=self.flush)

    @property
    def rewarms(self) -> bool:
        """Whether an untimed launch comes before each batch, so that the case's own data is in the caches.

        With several buffer sets or a flush, the state of the caches doesn't depend on what ran before.
        """
        one_set = len(self.launches) == 1 and not self.flush
        return self.takes_turns and one_set and self.launch_s <= LONGEST_REWARM_S

    def rewarm(self) -> None:
        """Launch once, untimed, where other work may have evicted the case's data from the caches."""
        if self.rewarms:
            self._time(1, 1)

    def choose_size(self, batch_s: float) -> None:
        """Choose launches per sample and samples per batch so that a batch takes about `batch_s`.

        Launches are taken to last as long as in the warm-up. A flushed sample is one launch: for a second one
        the cache would be warm.
        """
        shortest = max(TIMER_STEPS * self.device.timer_resolution_s, SHORTEST_SAMPLE_S)
        self.per_sample = 1 if self.flush else max(1, math.ceil(shortest / self.launch_s))
        timed_s = batch_s - self._rewarm_s
        fewest = (
            2 if self.device.kind == "cuda" and not self.flush and self.cost_s <= _LONGEST_PAIRED_S else 1
        )
        self.samples = min(max(fewest, int(timed_s / (self.cost_s * self.per_sample))), MOST_SAMPLES)

    @property
    def fewest_samples(self) -> int:
        """Samples of the smallest batch."""
        is_paired = self.device.kind == "cuda" and not self.flush and self.cost_s <= _LONGEST_PAIRED_S
        return 2 if is_paired else 1

    @property
    def batch_cost_s(self) -> float:
        """Seconds a batch of that size is expected to take, flushes and the untimed launch included."""
        return self.cost_s * self.per_sample * self.samples + self._rewarm_s

    @property
    def least_launches(self) -> int:
        """Launches in the shortest batch, the untimed one included."""
        return 2 if self.rewarms else 1

    @property
    def least_batch_s(self) -> float:
        """Seconds that the shortest batch is expected to take."""
        return self.cost_s * self.least_launches

    @property
    def thrifty_batch_s(self) -> float:
        """Seconds of a batch whose untimed launch is a small part of it."""
        return self.cost_s * (1 + _LAUNCHES_A_REWARM if self.rewarms else 1)

    @property
    def _rewarm_s(self) -> float:
        """What a batch has of the untimed launch, which comes once a turn."""
        return self.cost_s / self.batches_a_turn if self.rewarms else 0.0

    def draw(self) -> Timing:
        """Draw one batch."""
        return self._time(self.samples, self.per_sample)

    @property
    def resolution_s(self) -> float:
        """The error that the clock's step may add to a batch.

        Back-to-back samples share their clock readings; flushed samples have their own.
        """
        return (self.samples if self.flush else 1) * self.device.timer_resolution_s
