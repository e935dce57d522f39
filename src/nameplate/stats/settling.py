"""A continuous course after onset from idle: when it has settled, its oscillation, its curve, its moments.

Clock, power and heat take their time to find a balance. What is asked here is from when on a window shows the
sustained state; the throughput of that window is `stats`' business. So a course may be judged by medians,
which bursts and tails don't pull along: a shape in time is looked for, not a figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter
from scipy.special import fdtri

from nameplate.stats.estimate import oscillation

# After five time constants 0.7 % of a relaxation is left.
TIME_CONSTANTS = 5.0
# A level that changes at once takes about a second to; this much is left out after the middle of it.
STEP_MARGIN_S = 2.0
# Long enough for an oscillation of 3 s to show, and for a relaxation of 15 % by time constants of 8 s.
SHORTEST_S = 10.0
# A change smaller than this is none, however plain; one larger than that must not hide in the noise.
_SMALLEST_CHANGE = 0.01
_LARGEST_HIDDEN_CHANGE = 0.1
# A change is plain where noise shows one as large in fewer than one course of a thousand. As many shapes are
# tried as are unlike each other, about: neighbours on the grids are all but the same.
_CHANCE = 0.001
_UNLIKE_SHAPES = 20
_MOST_CHANGES = 3
# Shapes that leave up to this many variances more than the best one can't be told from it (χ² of 1, 95 %).
_INDISTINCT = 3.84
# Bins more alike than this are so because the shape doesn't fit, not because noise hangs together.
_LARGEST_AUTOCORRELATION = 0.8
# Medians of at least five batches, where there are enough of them, pass over single bursts.
_MOST_BINS = 200
_FEWEST_BINS = 20
_BATCHES_A_BIN = 5
# Bins farther than three robust standard deviations off the median of fifteen are a burst's; 1.4826 makes a
# median deviation a standard one.
_NEIGHBOURHOOD = 15
_FAR = 3.0
# The share of the bins on either side of a step: fewer could be one burst.
_STEP_SIDE = 0.05
# Clocks and power oscillate with periods of seconds: the latest minute tells, in half seconds.
_OSCILLATION_SPAN_S = 60.0
_OSCILLATION_BINS = 120
# A moment of the course: what lies within this fraction of its time, and at least this many batches.
_MOMENT_WIDTH = 0.1
_MOMENT_BATCHES = 3

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settling:
    """How a course went from onset to a sustained state.

    `settled_s`: seconds from onset after which a sustained window may start; 0.0 where nothing changes beyond
    noise; None where the course still moves, or is too short or too noisy to say. `time_constant_s`: of the
    slowest relaxation that was seen; None where there is none faster than the course is long. `amplitude`:
    change of throughput from the first bin to the last, ÷ the first (−0.15: lost 15 %); 0.0 where nothing
    changes. `period_s`: of an oscillation; None where none is plain. `moves`: whether the course plainly
    still moves at its end; where that is False and `settled_s` is None, nothing can be said.
    """

    settled_s: float | None
    time_constant_s: float | None
    amplitude: float
    period_s: float | None
    moves: bool = False


@dataclass(frozen=True)
class _Shape:
    """One way for a level to change: over the bins from 1 to 0, and when it is over."""

    over_bins: _Array
    settled_s: float
    time_constant_s: float | None  # None: a step


def settle(at_s: ArrayLike, launch_s: ArrayLike, shortest_s: float = SHORTEST_S) -> Settling:
    """When a course settles, by the middles of its batches in seconds after onset and its seconds a launch.

    Changes are taken from the course one by one: the relaxation or step of a grid that explains most of the
    bins' variance beside the oscillation and the changes already found, as long as it is larger than 1 % and
    plain by an F test, with fewer degrees of freedom where neighbouring bins are alike. A relaxation is over
    five time constants after onset, a step two seconds after it; of shapes that explain the course about
    equally well, the one that is over last counts. Nothing is said of fewer than 20 batches, nor before
    `shortest_s`: a slow change looks steady at first.

    A burst at the very end of a course looks like a step, and the course as if it still moved, until more is
    seen. Oscillations are seen where they fit at least twice into the latest minute.
    """
    at, launch = np.asarray(at_s, dtype=float), np.asarray(launch_s, dtype=float)
    if at.size < _FEWEST_BINS or at[-1] < shortest_s:
        return Settling(None, None, 0.0, None)
    at_bin, level = _medians(at, launch)
    shapes = _shapes(at_bin)
    steady = _steady(at_bin, None)
    changes, hidden = _changes(level, steady, shapes, float(at_bin[-1]))
    curve = _curve(level, steady, changes)
    period_s = _latest_oscillation(at, launch - np.interp(at, at_bin, curve))
    if period_s is not None:
        steady = _steady(at_bin, period_s)
        changes, hidden = _changes(level, steady, shapes, float(at_bin[-1]))
        curve = _curve(level, steady, changes)
    settled_s = max((change.settled_s for change in changes), default=0.0)
    told = settled_s <= at[-1] and hidden <= _LARGEST_HIDDEN_CHANGE
    constants_s = [change.time_constant_s for change in changes if change.time_constant_s is not None]
    return Settling(
        settled_s if told else None,
        max((constant for constant in constants_s if constant <= at[-1]), default=None),
        float(curve[0] / curve[-1]) - 1,
        period_s,
        bool(settled_s > at[-1]),
    )


def _medians(at: _Array, launch: _Array) -> tuple[_Array, _Array]:
    """Bins of equally many batches: their mean times and median levels, between 20 and 200."""
    size = max(min(_BATCHES_A_BIN, at.size // _FEWEST_BINS), math.ceil(at.size / _MOST_BINS))
    return _bins(at, size).mean(axis=1), _without_bursts(np.median(_bins(launch, size), axis=1))


def _without_bursts(level: _Array) -> _Array:
    """Bins that lie far off the median of their neighbourhood are brought nearer (Hampel's identifier)."""
    usual = median_filter(level, _NEIGHBOURHOOD, mode="nearest")
    reach = _FAR * 1.4826 * float(np.median(np.abs(level - usual)))
    return np.clip(level, usual - reach, usual + reach)


def _bins(values: _Array, size: int) -> _Array:
    """Neighbours together, `size` a row; the oldest few may be left out, never the latest."""
    return values[values.size % size :].reshape(-1, size)


def _steady(at: _Array, period_s: float | None) -> list[_Array]:
    """What a settled course consists of: a level, and an oscillation unless the bins average it out."""
    level = np.ones_like(at)
    if period_s is None or period_s < 2 * (at[-1] - at[0]) / (at.size - 1):
        return [level]
    phase = 2 * np.pi * at / period_s
    return [level, np.cos(phase), np.sin(phase)]


def _shapes(at: _Array) -> list[_Shape]:
    """Relaxations since onset, from the fastest that two bins show to all but a straight line; and steps."""
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


def _changes(
    level: _Array, steady: list[_Array], shapes: list[_Shape], end_s: float
) -> tuple[list[_Shape], float]:
    """The plain changes of a course; and the largest that noise could hide, as a fraction of the level.

    That is of the slowest relaxation that would be over by `end_s`.
    """
    mean = float(level.mean())
    rows = np.array([shape.over_bins for shape in shapes])
    slow = next(i for i, shape in enumerate(shapes) if shape.settled_s >= end_s)
    found: list[_Shape] = []
    power_of_slow = math.inf
    while True:
        # The size of each shape by least squares, beside what is known already. No `@` on what is large: the
        # threads of BLAS would spin beside the launches that are being measured.
        known, _ = np.linalg.qr(np.column_stack([*steady, *(change.over_bins for change in found)]))
        left = level - known @ (known.T @ level)
        new = rows - np.einsum("ik,jk->ij", np.einsum("ij,jk->ik", rows, known), known)
        power = np.einsum("ij,ij->i", new, new)
        power[power < 1e-6] = np.inf  # nothing new: of size 0
        if not found:
            power_of_slow = float(power[slow])
        common = np.einsum("ij,j->i", new, left)
        sizes, explained = common / power, common**2 / power
        best = int(np.argmax(explained))
        freedom, variance = _noise(left - sizes[best] * new[best], known.shape[1] + 1)
        plain = variance * float(fdtri(1, freedom, 1 - _CHANCE / _UNLIKE_SHAPES))
        large = abs(sizes[best]) > _SMALLEST_CHANGE * mean
        if explained[best] <= plain or not large or len(found) == _MOST_CHANGES:
            return found, math.sqrt(plain / power_of_slow) / mean
        indistinct = np.flatnonzero(explained >= explained[best] - _INDISTINCT * variance)
        over_s = max(shapes[i].settled_s for i in indistinct)
        found.append(replace(shapes[best], settled_s=over_s))


def _noise(residual: _Array, parameters: int) -> tuple[float, float]:
    """Degrees of freedom and variance of a residual; of bins that are alike fewer count (see `stats`)."""
    power = float(residual @ residual)
    if power == 0.0:
        return 1.0, 0.0
    r = min(max(float(residual[1:] @ residual[:-1]) / power, 0.0), _LARGEST_AUTOCORRELATION)
    worth = residual.size * (1 - r) / (1 + r)
    freedom = max(worth - parameters, 1.0)
    # Not ÷ all bins: what noise lends a shape's sum of squares grows as much as its neighbours are alike.
    return freedom, power / freedom


def _curve(level: _Array, steady: list[_Array], changes: list[_Shape]) -> _Array:
    """The course of bins without its noise and its oscillation."""
    columns = np.column_stack([*steady, *(change.over_bins for change in changes)])
    fitted, *_ = np.linalg.lstsq(columns, level)
    fitted[1 : len(steady)] = 0.0
    return np.asarray(columns @ fitted)


def _latest_oscillation(at: _Array, residual: _Array) -> float | None:
    """Its period in seconds, by the latest minute of what changes leave of a course."""
    latest = at >= at[-1] - _OSCILLATION_SPAN_S
    size = math.ceil(int(latest.sum()) / _OSCILLATION_BINS)
    return oscillation(_bins(at[latest], size).mean(axis=1), _bins(residual[latest], size).mean(axis=1))


def whole_periods(at_s: ArrayLike, period_s: float | None) -> int:
    """The first of equal batches to use, so that from it to the end a whole number of periods passes.

    `at_s` are the batches' middles in seconds. As many periods as fit, to the nearest batch; all batches (0)
    where there is no period, or not one whole period yet.
    """
    at = np.asarray(at_s, dtype=float)
    if period_s is None or at.size < 2:
        return 0
    batch_s = float(at[-1] - at[0]) / (at.size - 1)
    spans_s = at[-1] - at + batch_s
    periods = math.floor((spans_s[0] + batch_s / 2) / period_s)
    return int(np.argmin(np.abs(spans_s - periods * period_s))) if periods else 0


def course(
    at_s: ArrayLike, elapsed_s: ArrayLike, launches: ArrayLike, most: int = 600
) -> tuple[_Array, _Array]:
    """The curve to draw or keep: times and mean seconds a launch, in at most `most` bins of equal time.

    `at_s` are the batches' middles in seconds, in order. A bin is timed at the mean of its batches' middles
    and holds their total time ÷ total launches; bins without a batch are left out.

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


def moment(at_s: ArrayLike, elapsed_s: ArrayLike, launches: ArrayLike, t_s: float) -> float | None:
    """Mean seconds a launch around `t_s` seconds after onset; None where the course doesn't reach it.

    `at_s` are the batches' middles in seconds after onset, in order; three batches are needed. What counts is
    the total time ÷ total launches of those within 10 % of `t_s`, or of the nearest three where these are
    fewer.
    """
    at, elapsed, counts = (np.asarray(each, dtype=float) for each in (at_s, elapsed_s, launches))
    if at.size < _MOMENT_BATCHES:
        return None
    if not at[0] - elapsed[0] / 2 <= t_s <= at[-1] + elapsed[-1] / 2:
        return None
    distance = np.abs(at - t_s)
    third = np.partition(distance, _MOMENT_BATCHES - 1)[_MOMENT_BATCHES - 1]
    within = distance <= max(_MOMENT_WIDTH * t_s, third)
    return float(elapsed[within].sum() / counts[within].sum())
