"""Which of several alike devices are slower than the rest, and whether one is slower than it used to be.

All figures are natural logarithms of throughputs, so differences are fractions. A test's level is the chance
that it accuses anything at all where nothing is wrong.

*Among siblings.* The j slowest of n are stragglers if the fastest of these j is too far below the mean of the
other n - j:

    t = (mean of the rest - x_j) ÷ (s · √(1 + 1 ÷ (n - j)))

has Student's law with the freedom of s. So a straggler widens nothing that it is held to, and several of
them don't hide one another, as they do from a rule of mean and deviation of all. The level is divided by
the number of ways to choose the accused: by C(n, j) and by how many j are tried, which no draw can exceed
(Bonferroni). From 25 devices on by n - j + 1 instead, as in the generalized extreme Studentized deviate test,
whose level was found right from there on (Rosner, Technometrics 25(2), 1983, p. 165). The largest j that is
significant counts.

The spread s is that of the rest, moderated by what is known of the part (`between.moderate`): few cards tell
their own spread badly.

*Against the own past.* The same t for one new figure and the mean of the past ones; the spread is that of all
alike devices about their own means, together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, stdtrit

from nameplate.stats.between import NO_SCATTER, Scatter

FEWEST_SIBLINGS = 3
# From so many on Rosner's level holds, and so many of them may be stragglers.
_MANY = 25
_MOST_STRAGGLERS_OF_MANY = 0.1
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """Where one of several siblings stands. `drop` is its distance below the rest, as a log ratio.

    `limit` is the smallest drop that would have been significant for it; `spread` is the deviation between
    siblings that it follows from.
    """

    drop: float
    limit: float
    spread: float
    is_straggler: bool


def find_stragglers(
    log_figures: ArrayLike, level: float, prior: Scatter = NO_SCATTER
) -> tuple[Standing, ...] | None:
    """Return where each sibling stands, at that level for all of them together; None for fewer than 3."""
    x_N = np.asarray(log_figures, dtype=float)
    if x_N.size < FEWEST_SIBLINGS:
        return None
    found = Examination.of(x_N[None, :], level, prior)
    accused = int(found.accused[0])
    shown = max(accused, 1) - 1
    # Where nobody is accused, all are held to the mean of all.
    level_of_rest = float(found.means[0, shown]) if accused else float(x_N.mean())
    slowest = set(np.argsort(x_N, kind="stable")[:accused].tolist())
    limit, spread = float(found.limits[0, shown]), float(found.spreads[0, shown])
    return tuple(
        Standing(level_of_rest - float(x), limit, spread, number in slowest) for number, x in enumerate(x_N)
    )


@dataclass(frozen=True)
class Examination:
    """Groups of N siblings, a row R each, with the J slowest of them accused in turn.

    `means` and `spreads` (R × J) are those of the rest, `limits` (R × J) is how far below that mean the
    fastest of the accused has to be, and `accused` (R) is how many are stragglers.
    """

    means: Floats
    spreads: Floats
    limits: Floats
    accused: NDArray[np.int64]

    @classmethod
    def of(cls, x_RN: Floats, level: float, prior: Scatter = NO_SCATTER) -> Examination:
        """Examine groups of at least 3, at that level for each group."""
        count = x_RN.shape[1]
        sorted_RN = np.sort(x_RN, axis=1)
        accused_J = np.arange(1, count_testable(count) + 1)
        rest_J = count - accused_J
        # Sums from the top, about the fastest: of differences, so that none is lost to rounding.
        below_RN = sorted_RN - sorted_RN[:, -1:]
        sum_RJ = np.cumsum(below_RN[:, ::-1], axis=1)[:, rest_J - 1]
        square_RJ = np.cumsum(below_RN[:, ::-1] ** 2, axis=1)[:, rest_J - 1]
        own_RJ = np.maximum(square_RJ - sum_RJ**2 / rest_J, 0.0)
        freedom_J = prior.freedom + rest_J - 1
        spread_RJ = np.sqrt((prior.freedom * prior.variance + own_RJ) / freedom_J)
        quantile_J = -stdtrit(freedom_J, level / np.asarray(choices(count)))
        limit_RJ = quantile_J * spread_RJ * np.sqrt(1 + 1 / rest_J)
        mean_RJ = sorted_RN[:, -1:] + sum_RJ / rest_J
        is_below_RJ = mean_RJ - sorted_RN[:, accused_J - 1] > limit_RJ
        accused_R = np.where(is_below_RJ, accused_J, 0).max(axis=1)
        return cls(mean_RJ, spread_RJ, limit_RJ, accused_R)


def count_testable(count: int) -> int:
    """Return how many of `count` siblings may be stragglers: a tenth of many, of few just under half."""
    if count < _MANY:
        return (count - 1) // 2
    return max(int(_MOST_STRAGGLERS_OF_MANY * count), (_MANY - 1) // 2)


def choices(count: int) -> Sequence[float]:
    """Return what the level is divided by where 1, 2, … of `count` siblings are accused."""
    most = count_testable(count)
    accused_J = np.arange(1, most + 1, dtype=float)
    if count >= _MANY:
        return list(count - accused_J + 1)
    ways_J = np.exp(gammaln(count + 1) - gammaln(accused_J + 1) - gammaln(count - accused_J + 1))
    return list(most * ways_J)


def _student(level: float, freedom: float) -> float:
    """Return Student's quantile that a share `level` exceeds; infinite without freedom."""
    return -float(stdtrit(freedom, level)) if freedom > 0 else math.inf


@dataclass(frozen=True)
class Change:
    """How far a figure lies below its own past mean, as a log ratio, and which drop is significant."""

    drop: float
    limit: float
    past: int  # how many figures the past has


def pool_past(pasts: Sequence[ArrayLike]) -> Scatter:
    """Return the scatter of figures about their own device's mean, of several devices together."""
    rows = [np.asarray(past, dtype=float) for past in pasts]
    freedom = float(sum(max(row.size - 1, 0) for row in rows))
    if freedom == 0:
        return NO_SCATTER
    squares = sum(float(((row - row.mean()) ** 2).sum()) for row in rows if row.size > 1)
    return Scatter(squares / freedom, freedom)


def compare_with_past(log_figure: float, past: ArrayLike, scatter: Scatter, level: float) -> Change | None:
    """Return how a figure stands to its past; None where there is no past, or no scatter to tell by.

    `scatter` is that of `pool_past`, moderated or not; `level` is that of this one comparison.
    """
    past_K = np.asarray(past, dtype=float)
    if past_K.size == 0 or scatter.freedom <= 0:
        return None
    error = scatter.deviation * math.sqrt(1 + 1 / past_K.size)
    return Change(
        float(past_K.mean()) - log_figure, _student(level, scatter.freedom) * error, int(past_K.size)
    )
