"""The ratio of two sides with its confidence interval: from independent runs, or from pairs of runs.

All of it on a log scale, so that a ratio and its inverse are equally far from 1, and the relative errors of
numerator and denominator add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtri, stdtrit

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.compare.results import Metric
from nameplate.stats.between import Scatter
from nameplate.stats.interval import CONFIDENCE, Interval

# The fewest runs of which the scatter is estimated. Of two it is so uncertain (Student's factor is 12.7) that
# the interval would be useless.
FEWEST_FOR_SCATTER = 3
_SPREADS_FILE = "spreads.toml"
_Text = Annotated[str, Field(min_length=1)]


class RestartSpread(FrozenModel):
    """How far a metric on one kind of device varies between restarts: a standard deviation, as a fraction."""

    kind: _Text
    metric: Annotated[Metric, Field(alias="basis")]
    value: Annotated[float, Field(gt=0, lt=1)]
    provenance: Literal["measured", "assumed"]
    source: _Text
    date: Annotated[str, Field(pattern=r"^20\d\d-[01]\d-[0-3]\d$")]


class _SpreadsFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    spread: tuple[RestartSpread, ...]


@cache
def _load_shipped_spreads() -> dict[tuple[str, Metric], RestartSpread]:
    spreads = parse_toml(
        _SpreadsFile, read_packaged("nameplate.compare", _SPREADS_FILE), _SPREADS_FILE
    ).spread
    return {(each.kind, each.metric): each for each in spreads}


def find_restart_spread(kind: str, metric: Metric) -> RestartSpread:
    """Return the restart spread of a kind of device; of an unknown kind, that of a CPU."""
    if metric == "efficiency":  # it is achieved throughput ÷ a constant
        metric = "achieved"
    return _load_shipped_spreads().get((kind, metric)) or _load_shipped_spreads()["cpu", metric]


def share_confidence(intervals: int, alpha_share: float = 1.0) -> float:
    """Return the confidence of each interval so that all of them hold in 95 of 100 comparisons.

    The significance level of 5 % is divided by the number of intervals (Bonferroni). This needs no assumption
    on how they depend on each other: those of one run or of successive looks at the same data do.
    `alpha_share` is the fraction of the 5 % that this look may use.
    """
    return 1 - (1 - CONFIDENCE) * alpha_share / max(intervals, 1)


@dataclass(frozen=True)
class RunFigure:
    """A figure of one run with its 95 % interval, and its variance from run to run where the run shows it."""

    interval: Interval
    run_to_run: Scatter | None = None


@dataclass(frozen=True)
class _Estimate:
    """A quantity on a log scale, the variance of that estimate, and the variance's degrees of freedom."""

    value: float
    variance: float
    freedom: float = math.inf


def estimate_from_runs(
    base: Sequence[RunFigure], new: Sequence[RunFigure], restart_spread: float, confidence: float
) -> Interval:
    """Return new ÷ base from independent runs.

    A side of three runs or more shows how far its runs scatter (Welch, Biometrika 34, 1947, p. 28, on
    logarithms). A side of fewer is taken to scatter as much as the other one. Where both sides have fewer,
    each run has the variance that it shows itself, by its processes, with the degrees of freedom of that
    (Satterthwaite). One that shows none has its own interval's variance plus `restart_spread`² (a standard
    deviation, as a fraction, that counts as known). Raises ValueError for a side without figures.
    """
    if not base or not new:
        raise ValueError("a ratio needs a figure on either side")
    scatters = [_estimate_scatter(side) for side in (base, new)]
    known = next((each for each in scatters if each is not None), None)
    if known is None:
        of_base, of_new = (_estimate_mean_by_own_intervals(side, restart_spread) for side in (base, new))
        scatters = [of_base, of_new]
    else:
        of_base = _estimate_mean_by_scatter(base, scatters[0] or known)
        of_new = _estimate_mean_by_scatter(new, scatters[1] or known)
    # Where a side's scatter isn't known, both use the same one, and its degrees of freedom count once.
    freedom = of_base.freedom if None in scatters else _satterthwaite([of_base, of_new])
    error = math.sqrt(of_base.variance + of_new.variance)
    return _make_ratio(of_new.value - of_base.value, error, freedom, confidence)


def estimate_from_pairs(log_ratios: Sequence[float], confidence: float) -> Interval:
    """Return new ÷ base from the logarithm of the ratio in each pair of runs: Student's interval of the mean.

    What both runs of a pair share (the hour, the load of other processes) cancels. The interval of a single
    pair reaches from 0 to infinity. Raises ValueError for no pair.
    """
    if not log_ratios:
        raise ValueError("a ratio needs at least one pair")
    each = np.asarray(log_ratios)
    error = float(each.std(ddof=1)) / math.sqrt(each.size) if each.size > 1 else math.inf
    return _make_ratio(float(each.mean()), error, each.size - 1, confidence)


def _estimate_scatter(figures: Sequence[RunFigure]) -> _Estimate | None:
    """Return mean and variance of a single run's logarithm; None for too few runs."""
    if len(figures) < FEWEST_FOR_SCATTER:
        return None
    logs = _take_logs(figures)
    return _Estimate(float(logs.mean()), float(logs.var(ddof=1)), len(figures) - 1)


def _estimate_mean_by_scatter(figures: Sequence[RunFigure], scatter: _Estimate) -> _Estimate:
    return _Estimate(float(_take_logs(figures).mean()), scatter.variance / len(figures), scatter.freedom)


def _estimate_mean_by_own_intervals(figures: Sequence[RunFigure], restart_spread: float) -> _Estimate:
    each = [_estimate_alone(figure, restart_spread) for figure in figures]
    variance = sum(one.variance for one in each) / len(figures) ** 2
    return _Estimate(float(_take_logs(figures).mean()), variance, _satterthwaite(each))


def _estimate_alone(figure: RunFigure, restart_spread: float) -> _Estimate:
    value = math.log(figure.interval.value)
    if figure.run_to_run is not None:
        return _Estimate(value, figure.run_to_run.variance, figure.run_to_run.freedom)
    return _Estimate(value, restart_spread**2 + _standard_error(figure.interval) ** 2)


def _take_logs(figures: Sequence[RunFigure]) -> np.ndarray:
    return np.log([figure.interval.value for figure in figures])


def _standard_error(figure: Interval) -> float:
    """Return the standard error of a figure's logarithm, from its 95 % interval."""
    return figure.log_half_width / float(ndtri((1 + CONFIDENCE) / 2))


def _satterthwaite(estimates: Sequence[_Estimate]) -> float:
    """Degrees of freedom of the sum of two variances (Satterthwaite, Biometrics Bull. 2, 1946, p. 110)."""
    variance = sum(each.variance for each in estimates)
    denominator = sum(each.variance**2 / each.freedom for each in estimates)
    return variance**2 / denominator if denominator > 0 else math.inf


def _make_ratio(log_ratio: float, error: float, freedom: float, confidence: float) -> Interval:
    value = math.exp(log_ratio)
    if not math.isfinite(error):
        return Interval(value, 0.0, math.inf)
    probability = (1 + confidence) / 2
    quantile = float(ndtri(probability) if math.isinf(freedom) else stdtrit(freedom, probability))
    return Interval.from_log_half_width(value, error * quantile)
