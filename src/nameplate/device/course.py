"""Parts of simulated devices: how a factor on launches, a clock or a load on cores goes over virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
