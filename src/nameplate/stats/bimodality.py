"""Bimodality: whether the batches of a window switch between two levels, and how far apart these lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

# Significance level of the two tests together: α = 0.005, by Bonferroni half of it for each.
_SIGNIFICANCE = 0.005


def bimodality(values: ArrayLike, samples: Sequence[ArrayLike] | None = None) -> float:
    """Return the distance between the two levels of a window ÷ its mean; 0.0 where it isn't bimodal.

    `values` has one mean per batch, in order; `samples` has the samples of each batch, all in one unit. The
    batches are split at the threshold that explains most of their variance, with at least a tenth of them on
    each side (Otsu, IEEE Trans. SMC 9, 1979, p. 62). They are bimodal where independent samples would rarely
    look like this (α = 0.005), by either of two tests:

    - the batches change sides less often than the same values in random order would (runs test: Wald and
      Wolfowitz, Ann. Math. Stat. 11, 1940, p. 147). This test assumes nothing about the distribution.
    - the batches differ by more than the variance of their own samples explains (analysis of variance). Only
      this test detects some 20 batches that changed sides several times, so give `samples` if you can.

    Drift, bursts and oscillations are not random either. They give the distance between the means of the
    upper and the lower part: 4a/π for a sine of amplitude a. The caller decides which distance matters.
    """
    series = np.asarray(values, dtype=float)
    ordered = np.sort(series)
    n = ordered.size
    smallest = max(2, math.ceil(n / 10))
    if n < 2 * smallest or ordered[0] == ordered[-1]:
        return 0.0
    low = np.arange(smallest, n - smallest + 1)
    sum_low = ordered.cumsum()[low - 1]
    distance = (ordered.sum() - sum_low) / (n - low) - sum_low / low
    cut = int(np.argmax(low * (n - low) * distance**2))
    above = series > ordered[low[cut] - 1]
    if not above.any():  # fewer than a tenth of the batches differ from the rest
        return 0.0
    if not _has_few_runs(above) and (samples is None or not _differ_beyond_samples(samples)):
        return 0.0
    return float(distance[cut] / series.mean())


def _has_few_runs(above: NDArray[np.bool_]) -> bool:
    """Runs test: whether a series of two kinds changes sides significantly less often than by chance."""
    runs = 1 + int(np.count_nonzero(above[1:] != above[:-1]))
    ones = int(np.count_nonzero(above))
    return runs_probability(runs, ones, above.size - ones) < _SIGNIFICANCE / 2


def runs_probability(runs: int, ones: int, others: int) -> float:
    """Return the probability of `runs` runs or fewer in a random order of `ones` and `others` items."""
    ways = 0
    for count in range(2, runs + 1):
        more, fewer = (count + 1) // 2 - 1, count // 2 - 1
        ways += math.comb(ones - 1, more) * math.comb(others - 1, fewer)
        ways += math.comb(ones - 1, fewer) * math.comb(others - 1, more)
    return ways / math.comb(ones + others, ones)


def _differ_beyond_samples(samples: Sequence[ArrayLike]) -> bool:
    """F test: whether batch means differ significantly more than their samples' variance explains."""
    batches = [np.asarray(batch, dtype=float) for batch in samples]
    sizes = np.array([batch.size for batch in batches], dtype=float)
    between_freedom, within_freedom = sizes.size - 1, int(sizes.sum()) - sizes.size
    if within_freedom < 1:
        return False
    means = np.array([batch.mean() for batch in batches])
    between = float(sizes @ (means - sizes @ means / sizes.sum()) ** 2) / between_freedom
    within = sum(float(batch.var()) * batch.size for batch in batches) / within_freedom
    if within == 0.0:
        return between > 0.0
    return float(fdtrc(between_freedom, within_freedom, between / within)) < _SIGNIFICANCE / 2
