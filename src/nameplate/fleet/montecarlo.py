"""Draws of uncertain inputs, figures made of them, and which inputs a figure's spread comes from.

A million draws over all fleets take about a second: draws are 32-bit floats and every formula works on whole
arrays. Rounding to 32 bits moves a figure by 6e-8; a quantile of a million draws is itself uncertain by a
thousandth of the spread. The draws of an input are stratified (a latin hypercube: McKay, Beckman and Conover,
Technometrics 21, 1979, p. 239): one from the middle of each of equally probable slices, in random order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nameplate.base.errors import InputError
from nameplate.base.formatting import count
from nameplate.chain.link import Link, SharedVariance
from nameplate.stats.uncertain import Draws, Number, Uncertain

DRAWS = 100_000
FEWEST_DRAWS = 1_000
MOST_DRAWS = 10_000_000
_QUANTILES = (0.05, 0.50, 0.95)
_ROUNDING = 1e-6  # of draws of 32 bits, a few operations later
# A sensitivity index takes at most so many draws, in so many slices; it is then uncertain by ± 0.01.
_RANKED_DRAWS = 1 << 16
_SLICES = 64


@dataclass(frozen=True)
class Estimate:
    """A figure: the 5 %, 50 % and 95 % points of its draws.

    `p50` is None where only a range is known (a mix of parts in unknown shares).
    """

    p5: float
    p50: float | None
    p95: float

    @property
    def value(self) -> float | None:
        """The figure that is stated: p50, so that its interval is around it."""
        return self.p50

    def around(self, middle: float) -> Estimate:
        """The same ends around another middle; without spread, that middle."""
        return exact_estimate(middle) if self.p5 == self.p95 else Estimate(self.p5, middle, self.p95)

    def scaled(self, factor: float) -> Estimate:
        """The estimate times an exact factor above 0."""
        middle = None if self.p50 is None else self.p50 * factor
        return Estimate(self.p5 * factor, middle, self.p95 * factor)


def exact_estimate(value: float) -> Estimate:
    """A figure without spread."""
    return Estimate(value, value, value)


def enclose(estimates: Sequence[Estimate]) -> Estimate:
    """The range of a figure over every mix of parts, from its estimates for each part alone.

    A figure of a mix is linear in the shares of its parts, so its extremes are those of the parts.
    """
    return Estimate(min(each.p5 for each in estimates), None, max(each.p95 for each in estimates))


@dataclass(frozen=True)
class Quantity:
    """A figure at its inputs' values together with its draws; arithmetic applies to both alike."""

    value: float
    draws: Number

    def __mul__(self, other: Quantity | float) -> Quantity:
        by = as_quantity(other)
        return Quantity(self.value * by.value, self.draws * by.draws)

    def __truediv__(self, other: Quantity | float) -> Quantity:
        by = as_quantity(other)
        return Quantity(self.value / by.value, self.draws / by.draws)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.value + other.value, self.draws + other.draws)

    def __pow__(self, power: float) -> Quantity:
        return Quantity(self.value**power, self.draws**power)

    def floor(self) -> Quantity:
        """Rounded down to a whole number; one that division left a millionth short counts as whole."""
        draws: Number = np.floor(np.round(self.draws, 6))
        return Quantity(math.floor(round(self.value, 6)), draws)

    @property
    def estimate(self) -> Estimate:
        """The 5 %, 50 % and 95 % points of the draws, each the nearest draw.

        Any number between the two middle draws is their median. So the value is p50 where it lies there, as
        it does for a figure of one uncertain input.
        """
        if isinstance(self.draws, float | int):
            return exact_estimate(self.value)
        places = [math.ceil(q * self.draws.size) - 1 for q in _QUANTILES]
        above = min(places[1] + 1, self.draws.size - 1)
        # A partition puts these places in order as a sort would, in half the time.
        p5, p50, next_to_it, p95 = np.partition(self.draws, [*places, above])[
            [places[0], places[1], above, places[2]]
        ].tolist()
        if p50 - _ROUNDING * abs(p50) <= self.value <= next_to_it + _ROUNDING * abs(next_to_it):
            p50 = self.value
        return Estimate(min(p5, p50), p50, max(p95, p50))


def as_quantity(figure: Quantity | float) -> Quantity:
    """A plain number as a quantity, which has that value in every draw."""
    return figure if isinstance(figure, Quantity) else Quantity(figure, figure)


def find_shares_of_largest(quantities: Sequence[Quantity]) -> list[float]:
    """The share of the draws in which each quantity is the largest; of equal ones the first."""
    if not quantities:
        return []
    largest = np.argmax(np.stack(np.broadcast_arrays(*(each.draws for each in quantities))), axis=0)
    return [float(np.mean(largest == index)) for index in range(len(quantities))]


@dataclass(frozen=True)
class SensitivityIndex:
    """The share of a figure's variance that comes from one input."""

    input: str
    share: float


class DrawnInput(Protocol):
    """An input with a spread. Inputs with the same `draws_name` have the same draws."""

    @property
    def draws_name(self) -> str:
        """The name of its draws."""

    @property
    def label(self) -> str:
        """Its name where the spread of a figure is traced to inputs."""

    @property
    def uncertain(self) -> Uncertain:
        """Its value with its spread."""


@dataclass
class MonteCarlo:
    """Draws by the name of an input. Each name has its own stream, so another input changes no draws.

    Fleets share the draws of an input, so that it cancels where they are compared. The same seed gives the
    same figures. InputError for a number of draws or a seed that can't be used.
    """

    draws: int = DRAWS
    seed: int = 0
    _uniform: dict[str, Draws] = field(default_factory=dict, init=False, repr=False)
    _order: dict[str, NDArray[np.intp]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.draws, bool) or not FEWEST_DRAWS <= self.draws <= MOST_DRAWS:
            expected = f"{count(FEWEST_DRAWS)} to {count(MOST_DRAWS)}"
            raise InputError("not a number of draws", where="--draws", got=self.draws, expected=expected)
        if isinstance(self.seed, bool) or self.seed < 0:
            raise InputError("not a seed", where="--seed", got=self.seed, expected="a whole number from 0 on")

    def draw(self, name: str, uncertain: Uncertain) -> Number:
        """The draws of the input of that name; its value if it is exact."""
        if uncertain.law == "exact":
            return uncertain.value
        return uncertain.quantiles(self._uniform_draws(name))

    def draw_link(self, link: Link) -> Number:
        """The draws of a link's ratio; those of ratios that share variance are correlated."""
        if link.shared_variance is not None and link.draws_name not in self._uniform:
            self._uniform[link.draws_name] = self._correlate(link.draws_name, link.shared_variance)
        return self.draw(link.draws_name, link.uncertain) * link.speed_at_limit

    def _correlate(self, name: str, shared: SharedVariance) -> Draws:
        """Uniform draws whose normal quantiles have `shared.variance` of their variance in common."""
        common, own = (ndtri(self._uniform_draws(each)) for each in (shared.name, f"{name}, its own"))
        mixed = math.sqrt(shared.variance) * common + math.sqrt(1 - shared.variance) * own
        ranks = np.empty(self.draws)
        ranks[np.argsort(mixed)] = np.arange(self.draws)
        drawn: Draws = np.clip(((ranks + 0.5) / self.draws).astype(np.float32), 2.0**-24, 1 - 2.0**-24)
        return drawn

    def _uniform_draws(self, name: str) -> Draws:
        if name not in self._uniform:
            stream = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
            order = np.random.Generator(np.random.SFC64(stream)).permutation(self.draws)
            u = ((order + 0.5) / self.draws).astype(np.float32)
            self._uniform[name] = np.clip(u, 2.0**-24, 1 - 2.0**-24)
        return self._uniform[name]

    def rank_inputs(self, output: Number, inputs: Iterable[DrawnInput]) -> tuple[SensitivityIndex, ...]:
        """The sensitivity index of each input with a spread, the largest first; () if the output has none.

        It is the first-order index Var(E[output | input]) ÷ Var(output): the share of the variance that would
        go if the input were known (Saltelli et al., Global Sensitivity Analysis, 2008, ch. 4). E[output |
        input] is the mean over slices of the input's draws (Plischke et al., EJOR 226, 2013, p. 536).
        """
        if isinstance(output, float | int) or float(np.ptp(output)) == 0.0:
            return ()
        labels = {each.draws_name: each.label for each in inputs if each.uncertain.law != "exact"}
        found = [SensitivityIndex(label, self._index(name, output)) for name, label in labels.items()]
        return tuple(sorted(found, key=lambda each: -each.share))

    def _index(self, name: str, output: Draws) -> float:
        if name not in self._order:
            self._order[name] = np.argsort(self._uniform_draws(name)[:_RANKED_DRAWS])
        order = self._order[name]
        slices = min(_SLICES, math.isqrt(order.size))
        per_slice = order.size // slices
        sliced = output[order[: slices * per_slice]].astype(np.float64).reshape(slices, per_slice)
        total = float(sliced.var())
        # The unbiased variance takes off the index that mere noise would have, as an adjusted R² does.
        within = float(sliced.var(axis=1, ddof=1).mean())
        n = sliced.size
        return max(1 - within / (total * n / (n - 1)), 0.0) if total else 0.0


def montecarlo_of(options: Mapping[str, Any]) -> MonteCarlo:
    """The draws that these options of `cost` ask for."""
    return MonteCarlo(options.get("draws", DRAWS), options.get("seed", 0))
