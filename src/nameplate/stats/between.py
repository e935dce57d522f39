"""Run-to-run intervals: from the means of a run's processes, and from what earlier runs showed.

What a process keeps (the placement of its memory, a mode, the kernel that a library chose) shows in no
number of its batches. So a case is measured in several processes. The model of a process's mean launch time,
on a log scale, is

    the machine's mean + what this run has (variance τ²) + what this process has (variance σ²)

- The figure is the mean over the processes, each with the same weight.
- σ² is estimated by the processes' own variance s², with k − 1 degrees of freedom. Few processes know their
  variance badly, so it is moderated by a prior from other cases and earlier runs, of variance s₀² with d₀
  degrees of freedom: s̃² = (d₀·s₀² + (k − 1)·s²) ÷ (d₀ + k − 1), with d₀ + k − 1 degrees of freedom (Smyth,
  Stat. Appl. Genet. Mol. Biol. 3(1), 2004, article 3). The prior is for the variance, never for the mean.
- τ² can't be seen within one run. It is estimated from earlier runs. Where these are too few it is what runs
  on machines of the kind usually differ by, or else unknown and left out.
- The interval is Student's: t · √(s̃² ÷ k + τ²), with Satterthwaite's degrees of freedom.

All variances here are of natural logarithms, that is, squares of fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtri, polygamma, psi, stdtrit

from nameplate.stats.interval import CONFIDENCE, Interval

# The fewest variances that a prior is made of: of two, how far they differ says next to nothing.
FEWEST_FOR_PRIOR = 3
# The fewest degrees of freedom that τ² is made of: of fewer, Student's factor is above 3.2.
FEWEST_BETWEEN_RUNS = 3
# Runs that began further apart than this don't share the conditions of an hour: a working day's load, another
# guest, the heat of the season. What lies between such runs is no part of what the next run would give.
HOUR_S = 3600.0
# A prior that the case's own variance exceeds at this level is dropped. After quiet runs, in an hour in which
# processes scatter twice as much, 5 processes then cover 92 % (88 % at a level of 99 %, simulated); where the
# prior is right, intervals are 8 % wider for it.
_MISFIT = 0.90
# A variance of 0 (a simulated device without noise) counts as this fraction of the others' median (as in
# limma's fitFDist).
_LEAST_OF_MEDIAN = 1e-5
# A difference of variances may seem to have hardly any freedom. Below this, Student's factor explodes.
_LEAST_FREEDOM = 2.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scatter:
    """A variance that was estimated, and its degrees of freedom (0: nothing is known)."""

    variance: float
    freedom: float

    @property
    def deviation(self) -> float:
        """The standard deviation, as a fraction."""
        return math.sqrt(self.variance)


NO_SCATTER = Scatter(0.0, 0.0)


@dataclass(frozen=True)
class EarlierRun:
    """What one earlier run says of a case: when it began, its mean (as a logarithm), and its processes."""

    began_s: float
    log_mean: float
    scatter: Scatter
    processes: int


@dataclass(frozen=True)
class RunToRun:
    """What a figure's run-to-run interval follows from, all variances of logarithms.

    `own` is the scatter of the run's own processes, `prior` what others said of it (no freedom: nothing),
    `moderated` both together. `between_runs` is τ² (None: unknown). `freedom` is that of `variance`, which is
    the variance of the figure. `is_usual`: τ² is what machines of the kind usually have, not this one's own.
    `shared` is the variance of what the processes have in common: of older records, a calibration that each
    process's figure was divided by.
    """

    processes: int
    own: Scatter
    prior: Scatter
    between_runs: Scatter | None
    is_usual: bool = False
    shared: Scatter = NO_SCATTER

    @property
    def moderated(self) -> Scatter:
        """The scatter between processes, moderated by the prior."""
        return moderate(self.own, self.prior)

    @property
    def variance(self) -> float:
        """The variance of the mean over the processes."""
        return self._of_mean.variance

    @property
    def freedom(self) -> float:
        """Its degrees of freedom."""
        return self._of_mean.freedom

    @property
    def _of_mean(self) -> Scatter:
        return add(self._within_run, self.between_runs or NO_SCATTER)

    @property
    def of_processes(self) -> Scatter:
        """The variance of the mean by what the processes differ by."""
        found = self.moderated
        return Scatter(found.variance / self.processes, found.freedom)

    @property
    def _within_run(self) -> Scatter:
        return add(self.of_processes, self.shared)

    @property
    def log_half_width_within_run(self) -> float:
        """Half the width, on a log scale, that the run's own processes and what they share give."""
        return student_half_width(self._within_run)

    @property
    def log_half_width(self) -> float:
        """Half the 95 % interval's width on a log scale; infinite where no scatter is known."""
        return student_half_width(self._of_mean)


@dataclass(frozen=True)
class Estimate:
    """A figure and its three 95 % intervals.

    `within` holds the mean of the very processes that measured it. `values` are those of each process, and
    `basis` is what the other intervals follow from. `earlier_runs` is of how many earlier runs it makes use.
    """

    within: Interval
    values: tuple[float, ...]
    basis: RunToRun
    earlier_runs: int = 0

    @property
    def is_run_to_run(self) -> bool:
        """Whether `interval` is run-to-run; of a single process it is the one within."""
        return self.basis.processes > 1

    @property
    def interval(self) -> Interval:
        """The interval for the machine's mean over fresh processes; of a single process, `within`."""
        return self._across if self.is_run_to_run else self.within

    @property
    def of_this_run(self) -> Interval:
        """The interval without what runs differ by: how well this run measured."""
        if not self.is_run_to_run:
            return self.within
        return widen(self.within, self.basis.log_half_width_within_run)

    @property
    def next(self) -> Interval | None:
        """Where the figure of one more run would lie; None where nothing is known of other processes."""
        return predict_next(self._across) if math.isfinite(self.basis.log_half_width) else None

    @property
    def _across(self) -> Interval:
        return widen(self.within, self.basis.log_half_width)


def student_half_width(found: Scatter, confidence: float = CONFIDENCE) -> float:
    """Return Student's half-width for a quantity with this variance; infinite without degrees of freedom."""
    if found.freedom <= 0:
        return math.inf
    return float(stdtrit(found.freedom, (1 + confidence) / 2)) * found.deviation


def stated_by(log_half_width: float, freedom: float, confidence: float = CONFIDENCE) -> Scatter | None:
    """Return the variance that an interval of that half-width states; None where it states none."""
    if freedom <= 0 or not math.isfinite(log_half_width):
        return None
    return Scatter((log_half_width / float(stdtrit(freedom, (1 + confidence) / 2))) ** 2, freedom)


def scatter_of(values: ArrayLike) -> Scatter:
    """Return the scatter of figures above 0, one for each process; no freedom for a single one."""
    logs = np.log(np.asarray(values, dtype=float))
    if logs.size < 2:
        return NO_SCATTER
    return Scatter(float(logs.var(ddof=1)), float(logs.size - 1))


def moderate(own: Scatter, prior: Scatter) -> Scatter:
    """Return a variance moderated by a prior: both weighted by their degrees of freedom, which add up."""
    freedom = own.freedom + prior.freedom
    if freedom == 0:
        return NO_SCATTER
    weighted = own.freedom * own.variance + prior.freedom * prior.variance
    return Scatter(weighted / freedom, freedom)


def add(one: Scatter, other: Scatter) -> Scatter:
    """Return the sum of two independent variances, with Satterthwaite's degrees of freedom.

    (Biometrics Bull. 2, 1946, p. 110). One that is 0 changes nothing.
    """
    if other.variance == 0:
        return one
    if one.variance == 0:
        return other
    variance = one.variance + other.variance
    parts = [each.variance**2 / each.freedom if each.freedom else math.inf for each in (one, other)]
    return Scatter(variance, variance**2 / sum(parts))


def estimate_run_to_run(
    values: Sequence[float],
    prior: Scatter = NO_SCATTER,
    between_runs: Scatter | None = None,
    *,
    is_usual: bool = False,
) -> RunToRun:
    """Return what the interval of the mean of `values`, one for each process, follows from.

    A prior that the processes' own scatter contradicts (F test at 90 %: they scatter by more) is dropped.
    """
    own = scatter_of(values)
    if prior.freedom and own.freedom and own.variance > prior.variance * _largest_ratio(own, prior):
        prior = NO_SCATTER
    return RunToRun(len(values), own, prior, between_runs, is_usual)


def _largest_ratio(own: Scatter, prior: Scatter) -> float:
    return float(fdtri(own.freedom, prior.freedom, _MISFIT))


def widen(within: Interval, log_half_width: float) -> Interval:
    """Return the run-to-run interval about a figure: never narrower, at either end, than that within."""
    across = Interval.from_log_half_width(within.value, log_half_width)
    return Interval(within.value, min(within.low, across.low), max(within.high, across.high))


def predict_next(interval: Interval) -> Interval:
    """Return where the figure of one more run like this one would lie, with 95 %.

    The difference of two runs has twice the variance of one, and this interval's own degrees of freedom.
    """
    return interval.widened(math.sqrt(2))


# ---- the prior for the variance between processes ----


def find_prior(group: Sequence[Sequence[float]], number: int, others: Sequence[Scatter] = ()) -> Scatter:
    """Return the prior for the variance of one case: s₀² and d₀; no freedom where there is none.

    `group` has the figures of cases that were measured in the same processes, a row a case; `number` is the
    row of the case itself, whose own variance is left out. `others` are variances of the case in earlier
    runs, and of cases that other processes of this run measured.

    s₀² and d₀ are found by the moments of log s² (Smyth 2004, section 6.2): the more alike the variances are,
    the more degrees of freedom the prior has. It never has more than the variances that it is made of
    (limma's `df.pooled`). Of those measured in the same processes only what is independent counts: where all
    cases of a group rise and fall together, they are one observation and not four.
    """
    scatters = [scatter_of(row) for row in group]
    alike = [each for n, each in enumerate(scatters) if n != number and each.freedom]
    pool = [*alike, *(each for each in others if each.freedom)]
    if len(pool) < FEWEST_FOR_PRIOR:
        return NO_SCATTER
    variances, freedoms = (
        np.asarray(each) for each in zip(*((p.variance, p.freedom) for p in pool), strict=True)
    )
    median = float(np.median(variances))
    if median == 0.0:
        return NO_SCATTER
    variances = np.maximum(variances, _LEAST_OF_MEDIAN * median)
    logs = np.log(variances) - psi(freedoms / 2) + np.log(freedoms / 2)
    mean = float(logs.mean())
    excess = float(logs.var(ddof=1)) - float(polygamma(1, freedoms / 2).mean())
    most = _count_independent(group, number) + sum(each.freedom for each in others)
    if most <= 0:
        return NO_SCATTER
    if excess <= 0:  # the variances differ no more than their own errors: they are one
        return Scatter(float((variances * freedoms).sum() / freedoms.sum()), most)
    freedom = 2 * _invert_trigamma(excess)
    variance = math.exp(mean + float(psi(freedom / 2)) - math.log(freedom / 2))
    return Scatter(variance, min(freedom, most))


def _count_independent(group: Sequence[Sequence[float]], number: int) -> float:
    """Return the degrees of freedom that the other cases of a group add to those of one of them.

    The covariance of two sample variances is 2·ρ²·σ₁²·σ₂² ÷ d. So G variances of d degrees of freedom have
    G·d ÷ (1 + (G − 1)·ρ²) together. ρ² is the mean of r² over all pairs; of few processes it is too large by
    up to 1/d, which errs on the careful side.
    """
    rows = [np.log(np.asarray(row, dtype=float)) for row in group]
    size = rows[number].size
    rows = [row for row in rows if row.size == size and row.size > 1]
    if len(rows) < 2:
        return 0.0
    freedom = size - 1
    deviation_GK = np.asarray([row - row.mean() for row in rows])
    norm_G = np.sqrt((deviation_GK**2).sum(axis=1))
    known_GK = deviation_GK[norm_G > 0] / norm_G[norm_G > 0, None]
    cases = len(rows)
    if len(known_GK) < 2:
        return 0.0
    squares_GG = np.einsum("ik,jk->ij", known_GK, known_GK) ** 2
    pairs = len(known_GK) * (len(known_GK) - 1)
    shared = min(float(squares_GG.sum() - len(known_GK)) / pairs, 1.0)
    return float(freedom * (cases / (1 + (cases - 1) * shared) - 1))


def _invert_trigamma(value: float) -> float:
    """Solve trigamma(y) = `value` for y, by Newton's method on its inverse (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        change = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += change
        if abs(change) < 1e-8 * y:
            break
    return y


# ---- the variance between runs ----


def estimate_between_runs(earlier: Sequence[EarlierRun]) -> Scatter | None:
    """Return τ², what a run adds to the variance of its mean; None where too few earlier runs are known.

    Runs that began within an hour are compared with their own mean only, so τ² is what differs from run to
    run within an hour. What the runs' own processes explain of that variance is subtracted; what remains is
    never below 0. As a difference of two variances, τ² has fewer degrees of freedom than the whole, by
    (τ² ÷ the whole)².
    """
    hours = [hour for hour in _split_by_hour(earlier) if len(hour) > 1]
    freedom = sum(len(hour) - 1 for hour in hours)
    if freedom < FEWEST_BETWEEN_RUNS:
        return None
    squares = sum(float(np.var([run.log_mean for run in hour])) * len(hour) for hour in hours)
    explained = [_variance_of_mean(run) for hour in hours for run in hour]
    whole = squares / freedom
    between = max(whole - sum(explained) / len(explained), 0.0)
    if between == 0.0:
        return Scatter(0.0, freedom)
    return Scatter(between, max(freedom * (between / whole) ** 2, _LEAST_FREEDOM))


def _split_by_hour(earlier: Sequence[EarlierRun]) -> list[list[EarlierRun]]:
    hours: list[list[EarlierRun]] = []
    for run in sorted(earlier, key=lambda run: run.began_s):
        if not hours or run.began_s - hours[-1][0].began_s > HOUR_S:
            hours.append([])
        hours[-1].append(run)
    return hours


def _variance_of_mean(run: EarlierRun) -> float:
    return run.scatter.variance / run.processes if run.scatter.freedom else 0.0
