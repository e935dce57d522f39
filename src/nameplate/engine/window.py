"""The stretch of a trial that its figure is of: which batches, when they ran, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nameplate.engine.case_run import TimedBatch
from nameplate.stats.estimate import launch_time
from nameplate.stats.interval import Interval
from nameplate.stats.settling import Settling

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Batches in the order they ran. `settling` is what the whole course showed; None: not asked."""

    drawn: Sequence[TimedBatch]
    resolution_s: float
    settling: Settling | None = None

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Begin and end of each batch, in seconds on the device's clock."""
        return [(each.timing.start_s, each.timing.end_s) for each in self.drawn]

    @property
    def elapsed_s(self) -> float:
        """Timed seconds."""
        return sum(each.timing.elapsed_s for each in self.drawn)

    @property
    def launches(self) -> int:
        """Launches timed."""
        return sum(each.timing.launches for each in self.drawn)

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of this process during the batches; None where they aren't known."""
        spent = [each.timing.cpu_s for each in self.drawn]
        return None if None in spent else float(sum(each for each in spent if each is not None))

    @property
    def middle_s(self) -> Floats:
        """The middle of each batch, in seconds on the device's clock."""
        return np.asarray([(begin + end) / 2 for begin, end in self.spans])

    @property
    def launch_s(self) -> Floats:
        """Mean seconds a launch of each batch."""
        return np.asarray([each.timing.elapsed_s / each.timing.launches for each in self.drawn])

    @property
    def samples_s(self) -> list[Floats]:
        """Seconds a launch of each sample, by batch."""
        return [each.timing.sample_s / each.timing.per_sample for each in self.drawn]

    @property
    def median_s(self) -> float:
        """The median sample, in seconds a launch."""
        return float(np.median(np.concatenate(self.samples_s)))

    def interval(self) -> Interval:
        """Mean seconds a launch with its 95 % interval."""
        return launch_time(
            [each.timing.elapsed_s for each in self.drawn],
            [each.timing.launches for each in self.drawn],
            self.resolution_s,
            at_s=self.middle_s,
            samples_s=self.samples_s,
        )

    @property
    def enqueue_share(self) -> float | None:
        """Of the batches' time, what the host took to hand them over; None where that doesn't show."""
        handed = [each.timing.enqueue_s for each in self.drawn if each.timing.enqueue_s is not None]
        return sum(handed) / self.elapsed_s if handed else None

    def by_round(self) -> dict[int, float]:
        """Mean seconds a launch of each round."""
        elapsed: dict[int, float] = {}
        launches: dict[int, int] = {}
        for each in self.drawn:
            elapsed[each.round] = elapsed.get(each.round, 0.0) + each.timing.elapsed_s
            launches[each.round] = launches.get(each.round, 0) + each.timing.launches
        return {number: elapsed[number] / launches[number] for number in elapsed}
