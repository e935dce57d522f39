"""The ratio of two sides with its interval: from runs of their own, or from runs taken in pairs.

All on a log scale: a ratio and its inverse are then as far from 1, and errors of figures add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from nameplate.stats.interval import CONFIDENCE, Interval

# With fewer runs their scatter is known so badly that Student's factor makes nothing of it: 12.7 for two.
FEWEST_MEASURED = 3


@dataclass(frozen=True)
class _Mean:
    """The mean of a side's logarithms, its variance, and the degrees of freedom that this is known by."""

    value: float
    variance: float
    freedom: float = math.inf


def shared_confidence(intervals: int, share: float = 1.0) -> float:
    """The confidence of each of so many intervals, so that in 95 of 100 comparisons all of them hold.

    Of the 5, this look at them may use a `share`. Bonferroni's: it asks nothing of how intervals depend on
    each other, and those of one run, or of one look and the next, do.
    """
    return 1 - (1 - CONFIDENCE) * share / max(intervals, 1)


def independent(
    base: Sequence[Interval], new: Sequence[Interval], spread: float, confidence: float
) -> Interval:
    """New ÷ base, from one figure a run, each with its own 95 % interval.

    Where a side has three runs or more, they show how far runs scatter, whatever from (Welch, Biometrika 34,
    1947, p. 28, on logarithms). Where the other has fewer, its runs are taken to scatter as much. Where both
    have fewer, `spread` (a standard deviation) is allowed for each run beside its own interval, and counts as
    known. Raises ValueError for a side without figures.
    """
    scatters = [_scatter(side) for side in (base, new)]
    known = next((each for each in scatters if each is not None), None)
    one, other = (
        _allowed(side, spread) if known is None else _shown(side, own or known)
        for side, own in zip((base, new), scatters, strict=True)
    )
    freedom = _freedom([one, other]) if None not in scatters else min(one.freedom, other.freedom)
    error = math.sqrt(one.variance + other.variance)
    return _around(other.value - one.value, error, freedom, confidence)


def paired(logarithms: Sequence[float], confidence: float) -> Interval:
    """New ÷ base, from the logarithm of that ratio in each pair of runs: Student's interval of their mean.

    What both runs of a pair share (the hour, a neighbour) cancels. One pair alone gives no interval: its ends
    are 0 and infinity. Raises ValueError for none.
    """
    if not logarithms:
        raise ValueError("a ratio needs at least one pair")
    each = np.asarray(logarithms)
    error = float(each.std(ddof=1)) / math.sqrt(each.size) if each.size > 1 else math.inf
    return _around(float(each.mean()), error, each.size - 1, confidence)


@dataclass(frozen=True)
class _Scatter:
    """The variance of one run's logarithm, and its degrees of freedom."""

    variance: float
    freedom: int


def _scatter(figures: Sequence[Interval]) -> _Scatter | None:
    """What runs show themselves; None where they are too few."""
    if len(figures) < FEWEST_MEASURED:
        return None
    return _Scatter(float(_logarithms(figures).var(ddof=1)), len(figures) - 1)


def _shown(figures: Sequence[Interval], scatter: _Scatter) -> _Mean:
    return _Mean(float(_logarithms(figures).mean()), scatter.variance / len(figures), scatter.freedom)


def _allowed(figures: Sequence[Interval], spread: float) -> _Mean:
    errors = [spread**2 + _error(figure) ** 2 for figure in figures]
    return _Mean(float(_logarithms(figures).mean()), sum(errors) / len(figures) ** 2)


def _logarithms(figures: Sequence[Interval]) -> NDArray[np.float64]:
    if not figures:
        raise ValueError("a ratio needs a figure on either side")
    return np.log([figure.value for figure in figures])


def _error(figure: Interval) -> float:
    """The standard error of a figure's logarithm, by its 95 % interval."""
    if figure.low <= 0:
        return math.inf
    return math.log(figure.high / figure.low) / 2 / float(ndtri((1 + CONFIDENCE) / 2))


def _freedom(means: Sequence[_Mean]) -> float:
    """Degrees of freedom of the sum of two variances (Satterthwaite, Biometrics Bull. 2, 1946, p. 110)."""
    variance = sum(mean.variance for mean in means)
    lost = sum(mean.variance**2 / mean.freedom for mean in means)
    return variance**2 / lost if lost > 0 else math.inf


def _around(logarithm: float, error: float, freedom: float, confidence: float) -> Interval:
    value = math.exp(logarithm)
    if not math.isfinite(error):
        return Interval(value, 0.0, math.inf)
    reach = error * _quantile(freedom, (1 + confidence) / 2)
    return Interval(value, value * math.exp(-reach), value * math.exp(reach))


def _quantile(freedom: float, probability: float) -> float:
    return float(ndtri(probability) if math.isinf(freedom) else stdtrit(freedom, probability))
