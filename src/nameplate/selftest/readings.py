"""What other tools would report of the same launches, each by its own rule and at its defaults.

Each rule is a function of one trace: seconds of each launch, back to back, from a cold start, and the
resolution of the clock they are read with. It returns seconds a launch, or None where the trace is too short
or the clock too coarse for that tool to report anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Seconds of each launch, and the resolution of the clock."""

    launch_s: Floats
    resolution_s: float = 0.0

    @cached_property
    def _stamps_s(self) -> Floats:
        """The clock's reading before the first launch and after each, rounded down to whole steps."""
        stamps_s = np.concatenate(([0.0], np.cumsum(self.launch_s)))
        step_s = self.resolution_s
        return np.floor(stamps_s / step_s) * step_s if step_s else stamps_s

    def blocks(self, first: int, blocks: int, launches: int = 1) -> Floats:
        """Return seconds of up to `blocks` whole blocks of `launches` each, from launch `first` on."""
        return np.diff(self._stamps_s[first::launches][: blocks + 1])

    def block_lasting(self, shortest_s: float) -> int:
        """Return the smallest power of ten of launches, from the first on, that takes `shortest_s`."""
        launches, most = 1, self.launch_s.size
        while launches < most and self._stamps_s[launches] < shortest_s:
            launches *= 10
        return launches


Reading = Callable[[Trace], float | None]  # a trace → seconds a launch


def mean_of_100(trace: Trace) -> float | None:
    """Mean of 100 launches after 50, each between its own two readings of the clock: mamf-finder's mean."""
    return _mean(trace.blocks(50, 100))


def best_of_100(trace: Trace) -> float | None:
    """Fastest of those 100: mamf-finder's headline."""
    timed = trace.blocks(50, 100)
    return _known_s(float(timed.min())) if timed.size else None


def median_of_blocks(trace: Trace) -> float | None:
    """Median of as many blocks as fill 0.2 s: torch's Timer.blocked_autorange.

    A block is the smallest power of ten of launches that takes 0.2 ms (min_run_time ÷ 1000).
    """
    launches = trace.block_lasting(0.2e-3)
    timed = trace.blocks(launches, trace.launch_s.size, launches)
    filled = int(np.searchsorted(np.cumsum(timed), 0.2)) + 1
    return _known_s(float(np.median(timed[:filled])) / launches) if timed.size else None


def mean_over_100_ms(trace: Trace) -> float | None:
    """Mean of 100 ms after 25 ms, their launches estimated from the first five: triton's do_bench."""
    estimate_s = _mean(trace.blocks(0, 5))
    if estimate_s is None:
        return None
    warm_up, timed = (max(1, int(seconds / estimate_s)) for seconds in (0.025, 0.1))
    return _mean(trace.blocks(5 + warm_up, timed))


def five_rounds(trace: Trace) -> float | None:
    """Mean of five rounds, the fewest that pytest-benchmark takes.

    A round lasts at least 5 µs and ten steps of the clock (min_time, calibration_precision).
    """
    launches = trace.block_lasting(max(5e-6, 10 * trace.resolution_s))
    mean_s = _mean(trace.blocks(launches, 5, launches))
    return None if mean_s is None else mean_s / launches


READINGS: Mapping[str, Reading] = {
    "mean of 100 after 50": mean_of_100,
    "best of 100": best_of_100,
    "median of 0.2 s blocks": median_of_blocks,
    "mean over 100 ms": mean_over_100_ms,
    "five rounds": five_rounds,
}


def _mean(timed_s: Floats) -> float | None:
    return _known_s(float(timed_s.mean())) if timed_s.size else None


def _known_s(seconds: float) -> float | None:
    """Return seconds above 0; None where the clock didn't move."""
    return seconds if seconds > 0 and math.isfinite(seconds) else None
