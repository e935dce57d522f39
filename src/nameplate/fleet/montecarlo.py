"""Draws of uncertain inputs; an output's 5 %, 50 % and 95 %, and where its spread comes from.

A million draws over all fleets take about a second: draws are 32-bit floats (a quantile of a million draws is
itself unsure by a thousandth of the spread; the rounding is 6e-8), and everything is an array at once.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nameplate.base.errors import InputError
from nameplate.base.formatting import count
from nameplate.stats.uncertain import Draws, Uncertain

DRAWS = 100_000
FEWEST_DRAWS = 1_000
MOST_DRAWS = 10_000_000
_QUANTILES = (0.05, 0.50, 0.95)
# Inputs are ranked by this many draws at most, in slices of an input's range: a share is then sure to ± 0.01.
_RANKED_DRAWS = 1 << 16
_SLICES = 64

Figure = float | Draws


@dataclass(frozen=True)
class Estimate:
    """A figure at its inputs' values, and the 5 %, 50 % and 95 % points of its draws.

    The first is None, and so is `p50`, where only a range is known (a mix of parts in unknown shares).
    """

    value: float | None
    p5: float
    p50: float | None
    p95: float

    def scaled(self, factor: float) -> Estimate:
        """Times an exact factor above 0."""
        value, p50 = (None if each is None else each * factor for each in (self.value, self.p50))
        return Estimate(value, self.p5 * factor, p50, self.p95 * factor)

    def at(self, value: float) -> Estimate:
        """The same draws around a value computed by itself; without spread, that value throughout."""
        return Estimate(value, value, value, value) if self.p5 == self.p95 else replace(self, value=value)


@dataclass(frozen=True)
class Share:
    """How much of an output's variance one input brings."""

    input: str
    share: float


@dataclass
class MonteCarlo:
    """Draws by input: each input has a stream of its own, so that another one more or less changes none.

    Inputs under one name share their draws, in whatever fleet they stand: what two fleets have in common
    cancels where they are compared. Identical seeds give identical figures. InputError for a number of draws
    or a seed that can't be used.
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

    def draw(self, name: str, of: Uncertain) -> Figure:
        """The draws of the input of that name; its value alone where it is exact."""
        return of.quantiles(self._uniform_draws(name)) if of.law != "exact" else of.value

    def _uniform_draws(self, name: str) -> Draws:
        if name not in self._uniform:
            stream = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
            u = np.random.Generator(np.random.SFC64(stream)).random(self.draws, dtype=np.float32)
            np.clip(u, 2.0**-24, 1 - 2.0**-24, out=u)
            self._uniform[name] = u
        return self._uniform[name]

    def shares(self, output: Figure, inputs: Iterable[str]) -> tuple[Share, ...]:
        """Which drawn inputs an output's variance comes from, the largest first; () for one without spread.

        The share is the first-order index Var(E[output | input]) ÷ Var(output): what of the variance would
        go if that input were known (Saltelli et al., Global Sensitivity Analysis, 2008, ch. 4). E[output |
        input] is the mean over slices of the input's draws (Plischke et al., EJOR 226, 2013, p. 536); what
        slices of mere noise would show is taken off, as in an adjusted R².
        """
        if isinstance(output, float | int) or float(np.ptp(output)) == 0.0:
            return ()
        found = [Share(name, self._share(name, output)) for name in dict.fromkeys(inputs)]
        return tuple(sorted(found, key=lambda share: -share.share))

    def _share(self, name: str, output: Draws) -> float:
        if name not in self._order:
            self._order[name] = np.argsort(self._uniform_draws(name)[:_RANKED_DRAWS])
        order = self._order[name]
        slices = min(_SLICES, math.isqrt(order.size))
        each = order.size // slices
        sliced = output[order[: slices * each]].astype(np.float64).reshape(slices, each)
        total = float(sliced.var())
        within = float(sliced.var(axis=1, ddof=1).mean())
        n = sliced.size
        return max(1 - within / (total * n / (n - 1)), 0.0) if total else 0.0


def estimate(value: float, drawn: Figure) -> Estimate:
    """The value beside the 5 %, 50 % and 95 % points of the draws (the nearest draw, not between two)."""
    if isinstance(drawn, float | int):
        return Estimate(value, value, value, value)
    places = [math.ceil(q * drawn.size) - 1 for q in _QUANTILES]
    p5, p50, p95 = np.partition(drawn, places)[places].tolist()  # in place as after a sort, in half the time
    return Estimate(value, p5, p50, p95)
