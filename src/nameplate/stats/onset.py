"""The first seconds after idle: when full speed is reached, and when a limit first takes it away.

A GPU's clock climbs from idle to its maximum within some 50 ms. Under a large load, the power limit lowers it
again a few tenths of a second later. What lies between is the burst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter

# Levels that differ by less count as one: the smallest change that `settling` counts too.
_SAME_LEVEL = 0.01
# Full speed is reached within this time, in seconds; what is faster later isn't the end of a climb.
_LONGEST_CLIMB_S = 0.5
# A share of batches that noise alone may put on one side of a level.
_RARE = 0.05
# Fewer batches in a row may be one disturbance.
_FEWEST_IN_LEVEL = 3
# The noise of a batch is taken as at least this: smaller changes don't matter.
_SMALLEST_NOISE = 0.002
# A change of level must reduce the sum of squares by so many variances × ln(n). 2 is Schwarz's criterion for
# independent noise (Yao, Statistics & Probability Letters 6, 1988); batches share other load and caches, and
# a median of three correlates neighbours.
_PENALTY = 6.0

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Onset:
    """The batches at full speed: from index `first` up to, not including, `end`.

    `has_fallen` is whether throughput fell there and stayed lower until the last batch; otherwise `end` is
    the number of batches.
    """

    first: int
    end: int
    has_fallen: bool


@dataclass(frozen=True)
class _Level:
    """Neighbouring batches of one speed; `log_s` is the mean logarithm of their seconds per launch."""

    first: int
    end: int
    log_s: float

    @property
    def size(self) -> int:
        return self.end - self.first


def find_onset(at_s: ArrayLike, launch_s: ArrayLike) -> Onset:
    """Find the batches at full speed, from the middles of all batches in seconds and seconds per launch.

    The series is divided into levels: pieces whose means differ by more than their noise explains (least
    squares with a penalty for each change, after a median of three). It starts with a climb if its first
    batch is among the slowest of all. Full speed is then the fastest level that begins within half a second
    (of several within 1 %, the first), and otherwise the first level. It ends at a lasting fall: every later
    level is slower by more than 1 %, and nearly every later batch is slower. The first batch, and those
    beside a change, are left out.

    So the burst ends where the speed changes, and no stretch is chosen for its own noise. On a machine whose
    speed wanders, a level may still be chosen because it is the fastest of those that begin early:
    `tests/stats/test_onset.py` has the bias that is left. Raises ValueError for no batches.
    """
    at, level = np.asarray(at_s, dtype=float), np.log(np.asarray(launch_s, dtype=float))
    if at.size == 0:
        raise ValueError("an onset needs batches; got none")
    levels = _merge_alike(_divide(level))
    eligible = [each for each in levels if each.size >= _FEWEST_IN_LEVEL] or levels
    full = eligible[0]
    if level[0] >= np.quantile(level, 1 - _RARE):
        early = [each for each in eligible if at[each.first] - at[0] <= _LONGEST_CLIMB_S] or [full]
        fastest = min(each.log_s for each in early)
        full = next(each for each in early if each.log_s <= fastest + _SAME_LEVEL)
        # A peak that wasn't held for three batches: the limit came before the climb had ended.
        peak = min((each for each in levels if each.first <= full.first), key=lambda each: each.log_s)
        full = peak if peak.log_s < full.log_s - _SAME_LEVEL else full
    has_fallen = _is_lasting_fall(level, full, [each for each in eligible if each.first >= full.end])
    end = full.end - 1 if has_fallen else at.size
    return Onset(min(full.first + 1, end), end, has_fallen)


def _is_lasting_fall(level: _Array, full: _Level, later: list[_Level]) -> bool:
    """Whether nearly all that comes after full speed is slower, level by level and batch by batch."""
    if not later or any(each.log_s <= full.log_s + _SAME_LEVEL for each in later):
        return False
    return bool(np.quantile(level[full.end :], _RARE) > full.log_s)


def _divide(level: _Array) -> list[_Level]:
    """Divide the series into pieces of constant level: the optimal partition, by dynamic programming.

    Jackson et al., IEEE Signal Processing Letters 12 (2005), p. 105: the best partition of the first j
    batches ends with a piece from some i, after the best partition of the first i.
    """
    smooth = median_filter(level, 3, mode="nearest")
    penalty = _PENALTY * _estimate_noise(level) ** 2 * math.log(max(level.size, 2))
    total = np.concatenate(([0.0], np.cumsum(smooth - smooth[0])))  # less the first: squares stay exact
    squares = np.concatenate(([0.0], np.cumsum(np.square(smooth - smooth[0]))))
    least, begins = np.zeros(level.size + 1), np.zeros(level.size + 1, dtype=int)
    least[0] = -penalty
    for end in range(1, level.size + 1):
        sums, count = total[end] - total[:end], np.arange(end, 0, -1)
        costs = least[:end] + squares[end] - squares[:end] - sums**2 / count + penalty
        begins[end] = int(np.argmin(costs))
        least[end] = costs[begins[end]]
    found: list[_Level] = []
    end = level.size
    while end > 0:
        begin = int(begins[end])
        found.append(_Level(begin, end, float(level[begin:end].mean())))
        end = begin
    return found[::-1]


def _estimate_noise(level: _Array) -> float:
    """Return the standard deviation of a batch by differences of neighbours, which changes hardly move."""
    differences = np.abs(np.diff(level))
    usual = float(np.median(differences)) if differences.size else 0.0
    return max(1.4826 * usual / math.sqrt(2), _SMALLEST_NOISE)


def _merge_alike(levels: list[_Level]) -> list[_Level]:
    """Merge neighbouring levels that differ by less than 1 %."""
    found: list[_Level] = []
    for each in levels:
        if found and abs(each.log_s - found[-1].log_s) < _SAME_LEVEL:
            last = found.pop()
            mean = (last.log_s * last.size + each.log_s * each.size) / (last.size + each.size)
            found.append(_Level(last.first, each.end, mean))
        else:
            found.append(each)
    return found
