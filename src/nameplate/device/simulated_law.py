"""The truth of a simulated device: how long launches take, and factors and loads that change over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# From instants in virtual seconds to the value at each.
TimeSeries = Callable[[Floats], Floats]
# From virtual time in seconds, a number of launches and a generator to the seconds of each launch.
Durations = Callable[[float, int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Drift:
    """A time series that grows by `per_s` of its value at 0, each second."""

    per_s: float

    def __call__(self, at_s: Floats) -> Floats:
        """Return the factor at each instant."""
        return 1 + self.per_s * at_s


@dataclass(frozen=True)
class Decay:
    """A clock that falls from 1 to `settled` with time constant `tau_s`, and oscillates about that curve.

    The oscillation grows with the fall, so that the clock never exceeds 1.
    """

    settled: float
    tau_s: float
    amplitude: float = 0.0
    period_s: float = 1.0

    def __call__(self, at_s: Floats) -> Floats:
        """Return the clock at each instant, as a fraction of the rated one."""
        fallen = -np.expm1(-at_s / self.tau_s)
        swing = self.amplitude * np.sin(2 * math.pi / self.period_s * at_s)
        return np.asarray(1 - (1 - self.settled - swing) * fallen)


class Steps:
    """A time series in steps: `levels[i]` from `begins_s[i]` on; the first also before, the last for ever."""

    def __init__(self, begins_s: Sequence[float] | Floats, levels: Sequence[float] | Floats) -> None:
        self._begins_s = np.asarray(begins_s, dtype=float)
        self._levels = np.asarray(levels, dtype=float)
        self._areas = np.concatenate(([0.0], np.cumsum(self._levels[:-1] * np.diff(self._begins_s))))

    def __call__(self, at_s: Floats) -> Floats:
        """Return the level at each instant."""
        return np.asarray(self._levels[self._index(at_s)])

    def area(self, begin_s: float, end_s: ArrayLike) -> Floats:
        """Return the integral from `begin_s` to each of `end_s`: CPU seconds where the level is in cores."""
        return self._area_to(np.asarray(end_s)) - self._area_to(np.asarray(begin_s))

    def switches(self, begin_s: float, end_s: float) -> int:
        """Return the number of changes of level in between."""
        return int(np.count_nonzero((self._begins_s[1:] > begin_s) & (self._begins_s[1:] <= end_s)))

    def _index(self, at_s: Floats) -> NDArray[np.intp]:
        return np.maximum(np.searchsorted(self._begins_s, at_s, side="right") - 1, 0)

    def _area_to(self, at_s: Floats) -> Floats:
        index = self._index(at_s)
        return np.asarray(self._areas[index] + self._levels[index] * (at_s - self._begins_s[index]))


def make_constant(level: float) -> Steps:
    """Return a time series that never changes."""
    return Steps([0.0], [level])


def make_switching(
    levels: Sequence[float], dwell_s: Sequence[float], until_s: float, generator: np.random.Generator
) -> Steps:
    """Return a time series that cycles through `levels` from a random one until `until_s`.

    It stays at level i for `dwell_s[i]` × a uniform draw from 0.5 to 1.5. The first stay is cut at a random
    point, as if it had begun before.
    """
    # Uniform draws, so that the number of switches in a given time has a lower bound.
    first = int(generator.integers(len(levels)))
    shortest_s = 0.5 * sum(dwell_s) / len(dwell_s)
    order = (first + np.arange(math.ceil(until_s / shortest_s) + 2)) % len(levels)
    stays_s = np.asarray(dwell_s)[order] * generator.uniform(0.5, 1.5, order.size)
    stays_s[0] *= generator.random()
    return Steps(np.concatenate(([0.0], np.cumsum(stays_s)[:-1])), np.asarray(levels)[order])


@dataclass(frozen=True)
class Noise:
    """The random factor of each launch, independent of its neighbours, with mean 1.

    A launch is at one of `levels`, each equally likely, with Gaussian noise of relative standard deviation
    `sd`. A share `tail_share` of launches is interrupted for an exponential time of mean `tail_excess` (of a
    launch). The sum is divided by its own mean.
    """

    sd: float = 0.0
    levels: tuple[float, ...] = (1.0,)
    tail_share: float = 0.0
    tail_excess: float = 0.0

    @cached_property
    def relative_sd(self) -> float:
        """Standard deviation of one launch ÷ its mean."""
        levels = np.asarray(self.levels)
        body = levels.var() + self.sd**2 * (levels**2).mean()
        tail = 2 * self.tail_share * self.tail_excess**2 - (self.tail_share * self.tail_excess) ** 2
        return math.sqrt(body + tail) / self._mean

    @cached_property
    def _mean(self) -> float:
        return float(np.mean(self.levels)) + self.tail_share * self.tail_excess

    def factors(self, count: int, generator: np.random.Generator) -> Floats:
        """Draw `count` factors of mean 1. Gaussian noise is cut at −0.99: every launch takes time."""
        drawn = np.ones(count)
        if self.sd:
            drawn += generator.standard_normal(count) * self.sd
            np.maximum(drawn, 0.01, out=drawn)
        if len(self.levels) > 1:
            drawn *= np.asarray(self.levels)[generator.integers(len(self.levels), size=count)]
        if self.tail_share:
            hit = np.flatnonzero(generator.random(count) < self.tail_share)
            drawn[hit] += generator.exponential(self.tail_excess, hit.size)
        drawn /= self._mean
        return drawn


@dataclass(frozen=True)
class Law:
    """Seconds of a launch: `launch_s` × the value of `time_series` while it runs × `noise`."""

    launch_s: float
    noise: Noise = field(default_factory=Noise)
    time_series: TimeSeries | None = None

    def __call__(self, now_s: float, count: int, generator: np.random.Generator) -> Floats:
        """Draw the seconds of launches that all begin at one moment."""
        factor = 1.0 if self.time_series is None else float(self.time_series(np.asarray(now_s)))
        return self.launch_s * factor * self.noise.factors(count, generator)


def make_steady(launch_s: float, relative_noise: float = 0.0) -> Law:
    """Return a law in which every launch takes `launch_s`, with Gaussian noise of that relative SD."""
    return Law(launch_s, Noise(relative_noise))
