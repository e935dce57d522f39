"""When a time series that starts from idle has settled: relaxations, steps and oscillations in it.

Clock, power and temperature take time to reach equilibrium. This module finds from when on a window shows the
sustained state; `estimate` then gives the throughput of that window. Here only the shape over time matters,
so medians are used, which bursts and tails hardly move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter
from scipy.special import fdtri

from nameplate.stats.estimate import find_oscillation

# A relaxation has settled when what is left of it is this fraction of the level: five time constants after
# the start for one of 15 %, three for one of 2 %. Never later than after five, when 0.7 % of it is left.
_LEFT, TIME_CONSTANTS = 0.001, 5.0
# Less time than this after the last change shows no sustained state: a clock at its power limit oscillates
# with a period of about 3 s.
_SHORTEST_SUSTAINED_S = 3.0
# A step takes about a second; this much is left out after its middle.
STEP_MARGIN_S = 2.0
# Long enough to detect an oscillation of 3 s, and a relaxation of 15 % with a time constant of 8 s.
SHORTEST_S = 10.0
# Changes smaller than this are ignored even if significant. Where noise could hide a change larger than the
# second figure, the series is undetermined.
_SMALLEST_CHANGE = 0.01
_LARGEST_HIDDEN_CHANGE = 0.1
# α = 0.001, Bonferroni over about 20 effectively independent shapes: neighbours on the grids nearly coincide.
_SIGNIFICANCE = 0.001
_INDEPENDENT_SHAPES = 20
_MOST_CHANGES = 3
# Shapes whose residual is within this many variances of the best one's fit equally well (χ² of 1, 95 %).
_INDISTINCT = 3.84
# A higher autocorrelation of the bins means that the shape doesn't fit, not that the noise is correlated.
_LARGEST_AUTOCORRELATION = 0.8
# Bins are medians of at least five batches, where there are enough, so that they pass over single bursts.
_MOST_BINS = 200
_FEWEST_BINS = 20
_BATCHES_PER_BIN = 5
# Hampel's identifier: bins more than three robust standard deviations off the median of fifteen are outliers.
# 1.4826 turns a median absolute deviation into a standard deviation.
_NEIGHBOURHOOD = 15
_OUTLIER = 3.0
# The smallest fraction of the bins on either side of a step: fewer could be one burst.
_STEP_SIDE = 0.05
# Clocks and power oscillate with periods of seconds, so the latest minute is tested, in half seconds.
_OSCILLATION_SPAN_S = 60.0
_OSCILLATION_BINS = 120
# The time constants, in windows, of a relaxation that is over at once and of a straight line.
_FASTEST, _SLOWEST = 0.002, 100.0
# Batches within this fraction of the time count around a moment, and at least this many.
_MOMENT_WIDTH = 0.1
_MOMENT_BATCHES = 3

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settling:
    """How a time series went from its start to a sustained state.

    `settled_s`: seconds from the start after which a sustained window may begin; 0.0 where nothing changes
    beyond noise; None where it is still changing or undetermined. `time_constant_s`: of the slowest
    relaxation found; None where there is none faster than the series is long. `amplitude`: relative change of
    throughput from the first bin to the last (−0.15: lost 15 %). `period_s`: of a significant oscillation, or
    None. `is_changing`: whether the series is still changing at its end. `lacking_s`: seconds more that would
    then show it settled, by the slowest changes that fit; None where it isn't changing.
    """

    settled_s: float | None
    time_constant_s: float | None
    amplitude: float
    period_s: float | None
    is_changing: bool = False
    lacking_s: float | None = None

    @property
    def is_settled(self) -> bool | None:
        """Whether the series has settled; None where it is too short or too noisy to tell."""
        if self.settled_s is not None:
            return True
        return False if self.is_changing else None


UNDETERMINED = Settling(None, None, 0.0, None)


@dataclass(frozen=True)
class _Shape:
    """One way for a level to change: its course over the bins from 1 to 0, and when it has settled."""

    over_bins: _Array
    settled_s: float  # at the latest
    time_constant_s: float | None  # None: a step

    def settled_of(self, size: float) -> float:
        """Return when it has settled, where its whole change is `size`, a fraction of the level."""
        if self.time_constant_s is None:
            return self.settled_s
        left = math.log(max(abs(size) / _LEFT, 1.0))
        return min(left * self.time_constant_s, self.settled_s)


def find_settling(at_s: ArrayLike, launch_s: ArrayLike, shortest_s: float = SHORTEST_S) -> Settling:
    """Find when a series settles, from the middles of its batches in seconds and its seconds per launch.

    Changes are added to the model one by one (forward selection): the relaxation or step of a grid that
    explains most of the variance that is left, as long as it is larger than 1 % and significant by an F test
    with effective degrees of freedom. A relaxation has settled when 0.1 % of the level is left of it, five
    time constants after the start at the latest, a step two seconds after it happens. Of shapes that fit
    about equally well, the one that settles last counts. After the last change a whole period of an
    oscillation must have passed, and three seconds, or the series counts as still changing. The result is
    undetermined for fewer than 20 batches and before `shortest_s`: a slow change looks steady at first.

    A burst at the very end looks like a step, and the series as if it were still changing, until more is
    seen. Oscillations need two periods within the latest minute.
    """
    at, launch = np.asarray(at_s, dtype=float), np.asarray(launch_s, dtype=float)
    if at.size < _FEWEST_BINS or at[-1] < shortest_s:
        return UNDETERMINED
    at_bin, level = _bin_medians(at, launch)
    shapes = _make_shapes(at_bin)
    steady = _steady_columns(at_bin, None)
    changes, hidden = _select_changes(level, steady, shapes, float(at_bin[-1]))
    curve = _fit_curve(level, steady, changes)
    period_s = _find_latest_oscillation(at, launch - np.interp(at, at_bin, curve))
    if period_s is not None:
        steady = _steady_columns(at_bin, period_s)
        changes, hidden = _select_changes(level, steady, shapes, float(at_bin[-1]))
        curve = _fit_curve(level, steady, changes)
    settled_s = max((change.settled_s for change in changes), default=0.0)
    seen_s = max(_SHORTEST_SUSTAINED_S, period_s or 0.0) if changes else 0.0
    is_changing = bool(settled_s + seen_s > at[-1])
    is_settled = not is_changing and hidden <= _LARGEST_HIDDEN_CHANGE
    constants_s = [change.time_constant_s for change in changes if change.time_constant_s is not None]
    return Settling(
        settled_s if is_settled else None,
        max((constant for constant in constants_s if constant <= at[-1]), default=None),
        float(curve[0] / curve[-1]) - 1,
        period_s,
        is_changing,
        float(settled_s + seen_s - at[-1]) if is_changing else None,
    )


def _bin_medians(at: _Array, launch: _Array) -> tuple[_Array, _Array]:
    """Return the mean times and median levels of 20 to 200 bins of equally many batches."""
    size = max(min(_BATCHES_PER_BIN, at.size // _FEWEST_BINS), math.ceil(at.size / _MOST_BINS))
    return _group(at, size).mean(axis=1), _clip_outliers(np.median(_group(launch, size), axis=1))


def _clip_outliers(level: _Array) -> _Array:
    usual = median_filter(level, _NEIGHBOURHOOD, mode="nearest")
    reach = _OUTLIER * 1.4826 * float(np.median(np.abs(level - usual)))
    return np.clip(level, usual - reach, usual + reach)


def _group(values: _Array, size: int) -> _Array:
    """Return rows of `size` neighbours each; the oldest few values may be left out, never the latest."""
    return values[values.size % size :].reshape(-1, size)


def _steady_columns(at: _Array, period_s: float | None) -> list[_Array]:
    """Design columns of a settled series: the mean, and an oscillation unless the bins average it out."""
    level = np.ones_like(at)
    if period_s is None or period_s < 2 * (at[-1] - at[0]) / (at.size - 1):
        return [level]
    phase = 2 * np.pi * at / period_s
    return [level, np.cos(phase), np.sin(phase)]


def _make_shapes(at: _Array) -> list[_Shape]:
    """Relaxations from the fastest that two bins can show to nearly a straight line, and steps."""
    since = at - at[0]
    relaxations = [
        _Shape(np.exp(-since / constant), float(TIME_CONSTANTS * constant), float(constant))
        for constant in np.geomspace(at[1] - at[0], 4 * at[-1], 80)
    ]
    side = math.ceil(_STEP_SIDE * at.size)
    steps = [
        _Shape((at < moment).astype(float), float(moment) + STEP_MARGIN_S, None)
        for moment in (at[side:-side] + at[side - 1 : -side - 1]) / 2
    ]
    return relaxations + steps


def _select_changes(
    level: _Array, steady: list[_Array], shapes: list[_Shape], end_s: float
) -> tuple[list[_Shape], float]:
    """Return the significant changes, and the largest one that noise could hide, as a fraction of the level.

    The latter is that of the slowest relaxation that settles by `end_s`.
    """
    mean = float(level.mean())
    rows = np.array([shape.over_bins for shape in shapes])
    slow = next(i for i, shape in enumerate(shapes) if shape.settled_s >= end_s)
    found: list[_Shape] = []
    power_of_slow = math.inf
    while True:
        # Least squares of each shape by itself, given the columns already chosen. einsum, not `@`, on large
        # arrays: BLAS threads would spin while launches are being measured.
        known, _ = np.linalg.qr(np.column_stack([*steady, *(change.over_bins for change in found)]))
        left = level - known @ (known.T @ level)
        new = rows - np.einsum("ik,jk->ij", np.einsum("ij,jk->ik", rows, known), known)
        power = np.einsum("ij,ij->i", new, new)
        power[power < 1e-6] = np.inf  # collinear with the chosen columns: of size 0
        if not found:
            power_of_slow = float(power[slow])
        common = np.einsum("ij,j->i", new, left)
        sizes, explained = common / power, common**2 / power
        best = int(np.argmax(explained))
        freedom, variance = _effective_noise(left - sizes[best] * new[best], known.shape[1] + 1)
        critical = variance * float(fdtri(1, freedom, 1 - _SIGNIFICANCE / _INDEPENDENT_SHAPES))
        is_large = abs(sizes[best]) > _SMALLEST_CHANGE * mean
        if explained[best] <= critical or not is_large or len(found) == _MOST_CHANGES:
            return found, math.sqrt(critical / power_of_slow) / mean
        indistinct = np.flatnonzero(explained >= explained[best] - _INDISTINCT * variance)
        last_settled_s = max(shapes[i].settled_of(sizes[i] / mean) for i in indistinct)
        found.append(replace(shapes[best], settled_s=last_settled_s))


def _effective_noise(residual: _Array, parameters: int) -> tuple[float, float]:
    """Return the effective degrees of freedom of a residual, and its variance (see `estimate`)."""
    power = float(residual @ residual)
    if power == 0.0:
        return 1.0, 0.0
    r = min(max(float(residual[1:] @ residual[:-1]) / power, 0.0), _LARGEST_AUTOCORRELATION)
    effective = residual.size * (1 - r) / (1 + r)
    freedom = max(effective - parameters, 1.0)
    # Divide by effective degrees of freedom: autocorrelation inflates the regression sum of squares.
    return freedom, power / freedom


def _fit_curve(level: _Array, steady: list[_Array], changes: list[_Shape]) -> _Array:
    """Return the fitted level of the bins, without noise and oscillation."""
    columns = np.column_stack([*steady, *(change.over_bins for change in changes)])
    fitted, *_ = np.linalg.lstsq(columns, level)
    fitted[1 : len(steady)] = 0.0
    return np.asarray(columns @ fitted)


def _find_latest_oscillation(at: _Array, residual: _Array) -> float | None:
    latest = at >= at[-1] - _OSCILLATION_SPAN_S
    size = math.ceil(int(latest.sum()) / _OSCILLATION_BINS)
    return find_oscillation(
        _group(at[latest], size).mean(axis=1), _group(residual[latest], size).mean(axis=1)
    )


def trim_to_whole_periods(at_s: ArrayLike, period_s: float | None) -> int:
    """Return the index of the first batch to use, so that a whole number of periods remains.

    `at_s` are the middles of equal batches in seconds. As many periods as fit are kept, to the nearest batch;
    all batches (index 0) where there is no period, or less than one.
    """
    at = np.asarray(at_s, dtype=float)
    if period_s is None or at.size < 2:
        return 0
    batch_s = float(at[-1] - at[0]) / (at.size - 1)
    spans_s = at[-1] - at + batch_s
    periods = math.floor((spans_s[0] + batch_s / 2) / period_s)
    return int(np.argmin(np.abs(spans_s - periods * period_s))) if periods else 0


def mean_left_of_change(time_constant: float) -> float:
    """Return what is left of a relaxation on average over a window, ÷ its change there.

    `time_constant` is in windows, x; the change is that of the line fitted by least squares: 12·∫(u − ½)·
    exp(−u ÷ x) du = 12·(x² − x/2 − E·(x² + x/2)) with u from 0 to 1 and E = exp(−1 ÷ x). The quotient is 1/6
    for one that is over early, 0.53 for half a window, 1.0 for a whole one, and about x for slower ones.
    """
    x = min(max(time_constant, _FASTEST), _SLOWEST)  # beyond, the closed form cancels out
    left = math.exp(-1 / x)
    return x * (1 - left) / (12 * (x / 2 - x**2 + left * (x**2 + x / 2)))


def bin_launch_times(
    at_s: ArrayLike, elapsed_s: ArrayLike, launches: ArrayLike, most: int = 600
) -> tuple[_Array, _Array]:
    """Return times and mean seconds per launch in at most `most` bins of equal time: the curve to plot.

    `at_s` are the middles of the batches in seconds, in order. A bin's time is the mean of its batches'
    middles and its value their total time ÷ total launches; bins without a batch are left out.

    Raises ValueError for fewer than one bin.
    """
    if most < 1:
        raise ValueError(f"a curve needs at least one bin; got {most}")
    at, elapsed, counts = (np.asarray(each, dtype=float) for each in (at_s, elapsed_s, launches))
    if at.size <= most:
        return at, elapsed / counts
    ends = np.linspace(at[0], at[-1], most + 1)
    of_bin = np.clip(np.searchsorted(ends, at, side="right") - 1, 0, most - 1)
    starts = np.flatnonzero(np.diff(of_bin, prepend=-1))
    sizes = np.diff(starts, append=at.size)
    launch_s = np.add.reduceat(elapsed, starts) / np.add.reduceat(counts, starts)
    return np.add.reduceat(at, starts) / sizes, launch_s


def launch_time_around(
    at_s: ArrayLike, elapsed_s: ArrayLike, launches: ArrayLike, moment_s: float
) -> float | None:
    """Return mean seconds per launch around a moment; None where the series doesn't reach it.

    `at_s` are the middles of the batches in seconds, in order. The value is total time ÷ total launches of
    the batches within 10 % of `moment_s`, or of the nearest three where these are fewer.
    """
    at, elapsed, counts = (np.asarray(each, dtype=float) for each in (at_s, elapsed_s, launches))
    if at.size < _MOMENT_BATCHES:
        return None
    if not at[0] - elapsed[0] / 2 <= moment_s <= at[-1] + elapsed[-1] / 2:
        return None
    distance = np.abs(at - moment_s)
    third = np.partition(distance, _MOMENT_BATCHES - 1)[_MOMENT_BATCHES - 1]
    within = distance <= max(_MOMENT_WIDTH * moment_s, third)
    return float(elapsed[within].sum() / counts[within].sum())
