"""Finds the fastest point of a grid in a few per cent of the time that measuring all of it would take.

Throughput of a matrix product is nearly a product of one factor for each of M, N, K and the layout, times how
well its tiles fill the device. So its logarithm is nearly a sum, which ridge regression learns from some
dozens of points:

1. *explore*: points at random, one look each;
2. *predict*: the model is fitted, the points that it predicts fastest are looked at, and so on;
3. *confirm*: the fastest few are looked at again in turn, in random order, until the differences between
   neighbours in time tell which is fastest. Only these looks choose the winner: the best of many single looks
   is partly the luckiest one.

A host that interrupts a look makes it slower, by a little or by half, and never faster. So the model is
fitted by Huber's weights, and the bound on unseen points follows from the looks that were faster than it
predicts.

`bench selftest --search` shows on simulated surfaces how near the winner comes to the true best, and how
often the bound holds. The figure of the winner itself isn't taken from any of these looks: it is measured
anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median_high, stdev
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr

from nameplate.search.space import Space

Stage = Literal["explore", "predict", "confirm"]

# Shares of the time. Chosen on simulated surfaces (`bench selftest --search`): a smaller first share leaves
# values of the axes unseen, a smaller last one lets noise choose among the finalists.
_EXPLORE_SHARE, _CONFIRM_SHARE = 0.25, 0.25
_AT_ONCE = 6  # points looked at between two fits
_FINALISTS = 8
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 12
_CLEARLY_SLOWER = 2.5  # standard errors of the mean difference after which a finalist is given up
# How much effects are shrunk: of each fit, what predicts looks that were left out best.
_RIDGES = (0.3, 1.0, 3.0)
# A look further from the model than so many robust standard deviations pulls as one that is so far away.
_HUBER, _REWEIGHTINGS = 1.5, 4
_EPOCH_LOOKS = 12  # the device is as fast throughout so many looks
_MAD_TO_DEVIATION = 1.4826  # median absolute deviation → standard deviation of a normal law
_BOUND = 0.95
_FEWEST_FASTER = 4  # looks above their prediction that tell how far such looks lie
_LEAST_DEVIATION = 1e-4
# Deviations from the model have longer tails than a normal law. With this factor the bound holds in 95 of 100
# simulated surfaces and more (`bench selftest --search`).
_TAIL_FACTOR = 1.3


@dataclass(frozen=True)
class Look:
    """One short measurement of a point: when it began and what it took, in seconds, and its throughput.

    `tflops` is None for a point that can't be measured.
    """

    point: int
    stage: Stage
    begin_s: float
    cost_s: float
    tflops: float | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found: its winner, the finalists by their throughput, and every look in order.

    `unseen_gain` is by how much an unseen point may be faster than the winner (0.02: 2 %), with 95 %
    confidence as far as the model's own errors tell; None where too few points were seen to tell.
    `grid_s` is the predicted time of one look at every point.
    """

    winner: int
    finalists: tuple[int, ...]
    looks: tuple[Look, ...]
    unseen_gain: float | None
    grid_s: float

    @property
    def seen(self) -> int:
        """How many different points were measured."""
        return len({look.point for look in self.looks if look.tflops is not None})

    @property
    def cost_s(self) -> float:
        """Seconds of all looks."""
        return math.fsum(look.cost_s for look in self.looks)


def search(
    space: Space,
    look: Callable[[int], float | None],
    clock: Callable[[], float],
    budget_s: float,
    seed: int,
    *,
    least_look_s: float = 0.0,
    exhaustive: bool = False,
    to_beat: float = 0.0,
) -> SearchResult | None:
    """Search `space` for the point with the highest throughput; None where no point could be measured.

    `look` measures a point and returns its TFLOPS, None where it can't be measured. `budget_s` counts on
    `clock` from now; a look takes `least_look_s` at least. With `exhaustive` every point is looked at, for as
    long as the time holds, before the finalists are confirmed. `to_beat`, in TFLOPS, is what the best point
    must reach to be of use: the search ends as soon as neither a seen point nor, within the bound, an unseen
    one does.
    """
    return _Search(space, look, clock, budget_s, seed, least_look_s, to_beat).run(exhaustive=exhaustive)


@dataclass
class _Search:
    space: Space
    measure: Callable[[int], float | None]
    clock: Callable[[], float]
    budget_s: float
    seed: int
    least_look_s: float
    to_beat: float = 0.0
    looks: list[Look] = field(default_factory=list)
    values: dict[int, list[float]] = field(default_factory=dict)  # log TFLOPS of each point that has some

    def run(self, *, exhaustive: bool) -> SearchResult | None:
        self._begin_s = self.clock()
        self._random = np.random.default_rng(self.seed)
        order = [int(each) for each in self._random.permutation(self.space.size)]
        confirm_s = (1 - _CONFIRM_SHARE) * self.budget_s
        self._explore(order, confirm_s if exhaustive else _EXPLORE_SHARE * self.budget_s)
        if not self.values:
            return None
        while not exhaustive and self.spent_s < confirm_s and len(self.tried) < self.space.size:
            if self._is_hopeless():
                break
            self._look_at_predicted(confirm_s)
        finalists = [max(self.values, key=self._mean)] if self._is_hopeless() else self._confirm()
        model = self._fit()
        return SearchResult(
            finalists[0],
            tuple(finalists),
            tuple(self.looks),
            self._bound_unseen(model, finalists[0]),
            # By least squares: shapes that are slow for good take their time too.
            self._predict_grid_s(self._fit(robust=False)),
        )

    @property
    def spent_s(self) -> float:
        return self.clock() - self._begin_s

    @property
    def tried(self) -> set[int]:
        return {look.point for look in self.looks}

    def _look(self, point: int, stage: Stage) -> float | None:
        begin_s = self.clock()
        tflops = self.measure(point)
        self.looks.append(Look(point, stage, begin_s - self._begin_s, self.clock() - begin_s, tflops))
        if tflops is None:
            return None
        value = math.log(tflops)
        self.values.setdefault(point, []).append(value)
        return value

    def _explore(self, order: Sequence[int], until_s: float) -> None:
        """Look at points at random; at one at least that can be measured, while the time holds."""
        for point in order:
            if self.spent_s >= (until_s if self.values else self.budget_s):
                return
            self._look(point, "explore")

    def _look_at_predicted(self, until_s: float) -> None:
        predicted = self._fit().predicted.copy()
        predicted[list(self.tried)] = -np.inf
        count = min(_AT_ONCE, int(np.isfinite(predicted).sum()))
        for point in np.argsort(-predicted)[:count]:
            if self.spent_s >= until_s:
                return
            self._look(int(point), "predict")

    def _mean(self, point: int) -> float:
        return fmean(self.values[point])

    def _is_hopeless(self) -> bool:
        """Whether no point reaches what is to be beaten, as far as the bound on unseen ones tells."""
        best = max(self.values, key=self._mean)
        if math.exp(self._mean(best)) >= self.to_beat:
            return False
        model = self._fit()
        gain = self._bound_unseen(model, best)
        return gain is not None and math.exp(model.level_of(best)) * (1 + gain) < self.to_beat

    def _confirm(self) -> list[int]:
        """Look at the finalists again, in turn, and return them, fastest first."""
        ranked = sorted(self.values, key=self._fit().level_of, reverse=True)[:_FINALISTS]
        seen: dict[int, list[float]] = {point: [] for point in ranked}
        active = list(ranked)
        for number in range(1, _MOST_ROUNDS + 1):
            if len(active) < 2 or self.spent_s + sum(map(self._cost_of, active)) > self.budget_s:
                break
            for place in self._random.permutation(len(active)):
                point = active[int(place)]
                value = self._look(point, "confirm")
                seen[point].append(-math.inf if value is None else value)
            if number >= _FEWEST_ROUNDS:
                active = list(_drop_slower(active, seen))

        def rank(point: int) -> tuple[int, float]:
            # Whoever was in turn to the end comes first, by the confirming looks alone where there are any.
            # Of two looks the faster one counts: a host makes them slower.
            return len(seen[point]), median_high(seen[point] or [self._mean(point)])

        return sorted(ranked, key=rank, reverse=True)

    def _cost_of(self, point: int) -> float:
        return max(look.cost_s for look in self.looks if look.point == point)

    def _fit(self, *, robust: bool = True) -> _Model:
        looks = [(look.point, math.log(look.tflops)) for look in self.looks if look.tflops is not None]
        points, values = (np.array(each) for each in zip(*looks, strict=True))
        fits = [_fit_ridge(self.space, points, values, ridge, robust=robust) for ridge in _RIDGES]
        return min(fits, key=lambda fit: float(np.abs(fit.residuals).mean()))

    def _bound_unseen(self, model: _Model, winner: int) -> float | None:
        """Return by how much an unseen point may be faster than the winner.

        Above the prediction the unseen points' logarithms are taken as independent and normally distributed,
        with the root mean square of the left-out residuals above it as their standard deviation, widened: the
        bound b is where P(no unseen point lies above winner + b) = 95 %. What lies below the prediction says
        nothing of that: an interrupted look, or a shape that a library does badly.
        """
        unseen = np.delete(model.predicted, list(self.tried))
        if not unseen.size:
            return 0.0
        faster = model.residuals[model.residuals > 0]
        if faster.size < _FEWEST_FASTER:
            return None
        deviation = _TAIL_FACTOR * max(float(np.sqrt(np.mean(faster**2))), _LEAST_DEVIATION)
        level = model.level_of(winner)

        def log_chance(gain: float) -> float:
            return float(log_ndtr((level + gain - unseen) / deviation).sum() - math.log(_BOUND))

        if log_chance(0.0) >= 0:
            return 0.0
        most = float(max(unseen.max() - level, 0.0) + 10 * deviation)
        return math.expm1(float(brentq(log_chance, 0.0, most)))

    def _predict_grid_s(self, model: _Model) -> float:
        seconds = self.space.work / 1e12 / np.exp(model.predicted)
        return float(np.maximum(seconds, self.least_look_s).sum())


def _drop_slower(active: Sequence[int], seen: dict[int, list[float]]) -> Iterator[int]:
    """Yield the finalists that aren't clearly slower than the fastest, by differences within a round."""
    lead = max(active, key=lambda point: fmean(seen[point]))
    for point in active:
        behind = [best - own for best, own in zip(seen[lead], seen[point], strict=True)]
        if not all(map(math.isfinite, behind)):  # a look failed
            continue
        error = max(stdev(behind), _LEAST_DEVIATION) / math.sqrt(len(behind))
        if fmean(behind) < _CLEARLY_SLOWER * error:
            yield point


@dataclass(frozen=True)
class _Model:
    """A ridge regression of log TFLOPS: what every point would reach now, and each look's left-out residual.

    `levels` are the looks as they would have been now: without what the device did faster or slower then.
    """

    predicted: NDArray[np.float64]
    residuals: NDArray[np.float64]
    points: NDArray[np.intp]
    levels: NDArray[np.float64]

    def level_of(self, point: int) -> float:
        """The median of a point's looks, as they would have been now."""
        return float(np.median(self.levels[self.points == point]))


def _fit_ridge(
    space: Space, points: NDArray[np.intp], values: NDArray[np.float64], ridge: float, *, robust: bool
) -> _Model:
    """Fit the additive model by least squares; or, `robust`, by Huber's weights, which single looks far from
    it hardly move.

    The looks come in order: each dozen has an effect of its own too, for a device that settles at its power
    limit, or a host that gets busy, is faster or slower for all shapes alike.

    P. J. Huber, Robust Statistics, 1981, section 7.8: least squares, again with the weights that its errors
    give. Left-out residuals by the hat matrix (Hastie, Tibshirani and Friedman,
    The Elements of Statistical Learning, 2nd ed., equation 7.64).
    """
    epochs = max(values.size // _EPOCH_LOOKS, 1) if robust else 1
    epoch = np.minimum(np.arange(values.size) // _EPOCH_LOOKS, epochs - 1)
    rows = np.hstack([space.design[points], np.equal.outer(epoch, np.arange(epochs)).astype(float)])
    weights = np.ones(values.size)
    for _ in range(_REWEIGHTINGS if robust else 1):
        mean = float(np.average(values, weights=weights))
        weighted = rows * weights[:, None]
        inverse = np.linalg.inv(weighted.T @ rows + ridge * np.eye(rows.shape[1]))
        effects = inverse @ (weighted.T @ (values - mean))
        errors = values - mean - rows @ effects
        leverage = weights * np.einsum("ij,ij->i", rows @ inverse, rows)
        reach = max(_HUBER * _MAD_TO_DEVIATION * float(np.median(np.abs(errors))), _LEAST_DEVIATION)
        weights = reach / np.maximum(np.abs(errors), reach)
    of_epochs = effects[-epochs:]
    predicted = space.design @ effects[:-epochs] + mean + of_epochs[-1]
    levels = values - of_epochs[epoch] + of_epochs[-1]
    return _Model(predicted, errors / np.maximum(1 - leverage, 0.05), points, levels)
