"""Parts of simulated devices: how a factor on launches, a clock or a load on cores goes over virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Given instants in virtual seconds: the value at each.
Course = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Drift:
    """A course that grows by `per_s` of its value at 0, each second."""

    per_s: float

    def __call__(self, at_s: Floats) -> Floats:
        """The factor at each instant."""
        return 1 + self.per_s * at_s


@dataclass(frozen=True)
class Decay:
    """A clock that falls from 1 to `settled` with time constant `tau_s`, and swings about that on the way.

    The swing grows as the fall does, so that the clock never passes 1.
    """

    settled: float
    tau_s: float
    amplitude: float = 0.0
    period_s: float = 1.0

    def __call__(self, at_s: Floats) -> Floats:
        """The clock at each instant, as a fraction of the rated one."""
        fallen = -np.expm1(-at_s / self.tau_s)
        swing = self.amplitude * np.sin(2 * math.pi / self.period_s * at_s)
        return np.asarray(1 - (1 - self.settled - swing) * fallen)


class Steps:
    """A course in steps: `levels[i]` from `begins_s[i]` on; the first from ever, the last for ever."""

    def __init__(self, begins_s: Sequence[float] | Floats, levels: Sequence[float] | Floats) -> None:
        self._begins_s = np.asarray(begins_s, dtype=float)
        self._levels = np.asarray(levels, dtype=float)
        self._areas = np.concatenate(([0.0], np.cumsum(self._levels[:-1] * np.diff(self._begins_s))))

    def __call__(self, at_s: Floats) -> Floats:
        """The level at each instant."""
        return np.asarray(self._levels[self._step(at_s)])

    def area(self, begin_s: float, end_s: ArrayLike) -> Floats:
        """The integral from `begin_s` to each of `end_s`: a number of cores gives CPU seconds."""
        return self._area_to(np.asarray(end_s)) - self._area_to(np.asarray(begin_s))

    def switches(self, begin_s: float, end_s: float) -> int:
        """How often it changes in between."""
        return int(np.count_nonzero((self._begins_s[1:] > begin_s) & (self._begins_s[1:] <= end_s)))

    def _step(self, at_s: Floats) -> NDArray[np.intp]:
        return np.maximum(np.searchsorted(self._begins_s, at_s, side="right") - 1, 0)

    def _area_to(self, at_s: Floats) -> Floats:
        step = self._step(at_s)
        return np.asarray(self._areas[step] + self._levels[step] * (at_s - self._begins_s[step]))


def constant(level: float) -> Steps:
    """A course that never changes."""
    return Steps([0.0], [level])


def switching(
    levels: Sequence[float], dwell_s: Sequence[float], until_s: float, generator: np.random.Generator
) -> Steps:
    """Go round `levels` from a random one, staying at level i for `dwell_s[i]` × a uniform 0.5 … 1.5.

    Uniform, so that how often it switches in a given time has a floor; the first stay is cut at a random
    point, as if it had begun before.
    """
    first = int(generator.integers(len(levels)))
    shortest_s = 0.5 * sum(dwell_s) / len(dwell_s)
    order = (first + np.arange(math.ceil(until_s / shortest_s) + 2)) % len(levels)
    stays_s = np.asarray(dwell_s)[order] * generator.uniform(0.5, 1.5, order.size)
    stays_s[0] *= generator.random()
    return Steps(np.concatenate(([0.0], np.cumsum(stays_s)[:-1])), np.asarray(levels)[order])


# Given the virtual time in seconds, a number of launches and a generator: seconds of each launch.
Durations = Callable[[float, int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Noise:
    """What one launch takes beside what it should, independent of its neighbours; 1 on average.

    A launch is at one of `levels`, each as likely, with a Gaussian body of relative standard deviation `sd`;
    a share `tail_share` of launches is interrupted for an exponential time of mean `tail_excess` (of a
    launch). All of it is then divided by its own mean.
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
        """Draw `count` factors of mean 1. A body beyond 1 ± 0.99 is cut there: no launch takes no time."""
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
    """Seconds of a launch: `launch_s` × what `course` was while it ran × `noise`."""

    launch_s: float
    noise: Noise = field(default_factory=Noise)
    course: Course | None = None

    def __call__(self, now_s: float, count: int, generator: np.random.Generator) -> Floats:
        """Draw launches that all begin at one moment: `Durations`, as any function of one's own."""
        course = 1.0 if self.course is None else float(self.course(np.asarray(now_s)))
        return self.launch_s * course * self.noise.factors(count, generator)


def steady(launch_s: float, relative_noise: float = 0.0) -> Law:
    """Every launch takes `launch_s`, with Gaussian noise of that relative standard deviation."""
    return Law(launch_s, Noise(relative_noise))
