"""The ratio of two cases in a typical round: what disturbs single rounds of one of them hardly moves it.

A host interrupts a launch now and then, for as long as the launch takes. In a window of some fifty launches
one such interruption moves a ratio of totals by 2 %, and it hits one case and not the other. So each round
gives a ratio of neighbours in time, and the middle half of the rounds gives the figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from nameplate.stats.estimate import split_by_process
from nameplate.stats.interval import CONFIDENCE, Interval


@dataclass(frozen=True)
class _TypicalRound:
    """A process's typical round: the mean log ratio of `kept` rounds, and the winsorized sum of squares."""

    log_mean: float
    kept: int
    squares: float


@dataclass(frozen=True)
class TypicalRatio:
    """A ratio with its 95 % interval within the processes that measured it, and its value in each of them."""

    within: Interval
    by_process: tuple[float, ...]


def typical_ratio(first_s: ArrayLike, second_s: ArrayLike, process: ArrayLike | None = None) -> TypicalRatio:
    """Return throughput of a second case ÷ that of a first one in a typical round.

    `first_s` and `second_s` are seconds per launch, one entry per round; above 1 the second case is faster.
    `process` numbers the process of each round. A process's value is the interquartile mean of its rounds'
    log ratios: the lowest and the highest quarter, rounded down, are left out. All together they have the
    geometric mean of these (`_combine`).

    Raises ValueError for unequal lengths, for fewer than two rounds, and for times that aren't above 0.
    """
    logs = _log_ratios(first_s, second_s)
    return _combine([_trim(logs[its]) for its in split_by_process(process, logs.size)])


def _combine(parts: Sequence[_TypicalRound]) -> TypicalRatio:
    """Return the ratio over several processes: the geometric mean of theirs.

    The error of a trimmed mean follows from its winsorized sum of squares, pooled over the processes: the
    variance of the mean of h values that are kept is Σ SSW ÷ Σ(h − 1) ÷ h, with Σ(h − 1) degrees of freedom
    (Tukey and McLaughlin, Sankhyā A 25, 1963, p. 331; Yuen, Biometrika 61, 1974, p. 165).
    """
    freedom = sum(part.kept - 1 for part in parts)
    half = math.inf
    if freedom:
        variance = sum(part.squares for part in parts) / freedom
        variance *= sum(1 / part.kept for part in parts) / len(parts) ** 2
        half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    value = math.exp(sum(part.log_mean for part in parts) / len(parts))
    by_process = tuple(math.exp(part.log_mean) for part in parts)
    return TypicalRatio(Interval.from_log_half_width(value, half), by_process)


def _log_ratios(first_s: ArrayLike, second_s: ArrayLike) -> NDArray[np.float64]:
    first, second = np.asarray(first_s, dtype=float), np.asarray(second_s, dtype=float)
    if first.shape != second.shape or first.size < 2:
        raise ValueError(
            f"a ratio needs two rounds or more of both cases; got {first.size} and {second.size}"
        )
    if float(min(first.min(), second.min())) <= 0:
        raise ValueError("a ratio needs times above 0")
    logs: NDArray[np.float64] = np.log(first) - np.log(second)
    return logs


def _trim(values: NDArray[np.float64]) -> _TypicalRound:
    """Return the mean of the middle half of the values, and the winsorized sum of squares of all."""
    ordered = np.sort(values)
    cut = ordered.size // 4
    kept = ordered[cut : ordered.size - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    squares = float(((winsorized - winsorized.mean()) ** 2).sum())
    return _TypicalRound(float(kept.mean()), int(kept.size), squares)
