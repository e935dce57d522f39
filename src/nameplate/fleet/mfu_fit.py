"""Fits the model of MFU to published runs, and leaves out each family of runs to see how well that predicts.

Coefficients, effects of generations and effects of studies are one linear model with normal priors, solved
at once (ridge regression). The three standard deviations are those with the largest marginal likelihood of
the runs (empirical Bayes; Bishop, Pattern Recognition and Machine Learning, 2006, section 3.5). A run whose
source doesn't say how it counted FLOPs has the variance of a uniform law over its interval beside that of all
runs.

A family is what was published together: a paper, a page, the recipes of one project at several dates. A model
that has seen one run of a family knows more of the others than a buyer does, so all of them are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit

from nameplate.fleet.mfu_model import (
    FEATURES,
    FeatureRange,
    MfuModel,
    Prediction,
    Situation,
    Vector,
    Years,
    generation_of,
)
from nameplate.fleet.mfu_runs import TrainingRun, fitted_runs
from nameplate.models.published import load_published_models
from nameplate.specs.registry import load_registry

_COEFFICIENT_SD = 1.0  # of a coefficient's prior: MFU by a factor of two or so, a weak hold
_SPREAD_SD = 0.5  # of the prior of the spreads between generations and between studies
_LEAST_SD, _MOST_SD = 0.005, 3.0
_FIRST_GUESS = (0.2, 0.2, 0.2)  # of the three standard deviations
_DECIMALS = 9


@dataclass(frozen=True)
class Observation:
    """A run as the model sees it: its situation, and the lowest and highest MFU that it may have had."""

    run: TrainingRun
    situation: Situation
    low: float
    high: float

    @property
    def mfu(self) -> float:
        """The middle of the interval, on a logarithmic scale."""
        return math.sqrt(self.low * self.high)


def observe(run: TrainingRun) -> Observation:
    """The run with its model's shape and its part's rating looked up."""
    part = load_registry().parts[run.part]
    shape = load_published_models()[run.model].shape
    low, high = run.mfu_by(shape, part)
    generation = generation_of(part, run.precision)
    devices = float(run.devices or 1)  # none: a run that isn't fitted
    at = Situation(generation, devices, shape, run.context, run.precision, run.stack, run.year)
    return Observation(run, at, low, high)


@cache
def observe_all() -> tuple[Observation, ...]:
    """Every run that the model is fitted to."""
    return tuple(observe(run) for run in fitted_runs())


def fit(observations: Sequence[Observation]) -> MfuModel:
    """The model of these runs."""
    system = _System.of(observations)

    def loss(logs: NDArray[Any]) -> float:
        return -system.log_likelihood(logs)

    found = minimize(
        loss,
        np.log(np.array(_FIRST_GUESS)),
        method="Nelder-Mead",
        options={"maxiter": 400, "xatol": 1e-3, "fatol": 1e-4},
    )
    sds = _sds(found.x)
    precision, mean = system.solve(sds)
    kept = len(FEATURES) + len(system.generations)
    covariance = np.linalg.inv(precision)[:kept, :kept]
    of = [[each for each in observations if each.situation.generation == g] for g in system.generations]

    def find_range(values: Sequence[float]) -> FeatureRange:
        return FeatureRange(least=min(values), most=max(values))

    return MfuModel(
        n_runs=len(observations),
        n_families=len(system.families),
        fitted_with="make mfu",
        generations=tuple(system.generations),
        runs_of_generation=tuple(len(each) for each in of),
        runs_of_part=dict(sorted(Counter(each.run.part for each in observations).items())),
        years=tuple(
            Years(first=min(o.situation.year for o in each), last=max(o.situation.year for o in each))
            for each in of
        ),
        devices=find_range([o.situation.devices for o in observations]),
        parameters=find_range([o.situation.parameters for o in observations]),
        context=find_range([o.situation.context for o in observations]),
        sd_generation=_rounded(sds[0]),
        sd_study=_rounded(sds[1]),
        sd_run=_rounded(sds[2]),
        mean=tuple(_rounded(each) for each in mean[:kept]),
        covariance=tuple(tuple(_rounded(each) for each in row) for row in covariance),
    )


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)


def _sds(logs: Vector) -> Vector:
    clipped: Vector = np.exp(np.clip(logs, math.log(_LEAST_SD), math.log(_MOST_SD)))
    return clipped


@dataclass(frozen=True)
class _System:
    """The linear model of some runs: columns of features, of generations and of families."""

    design: Vector
    logits: Vector
    interval_variance: Vector
    generations: list[str]
    families: list[str]

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> _System:
        generations = sorted({each.situation.generation for each in observations})
        families = sorted({each.run.family for each in observations})

        def belongs(names: Sequence[str], to: Sequence[str]) -> NDArray[np.float64]:
            return np.array([[float(name == each) for each in to] for name in names])

        low, high = (np.array([getattr(each, end) for each in observations]) for end in ("low", "high"))
        design = np.hstack(
            [
                np.array([each.situation.features() for each in observations]),
                belongs([each.situation.generation for each in observations], generations),
                belongs([each.run.family for each in observations], families),
            ]
        )
        logits = np.array([logit(each.mfu) for each in observations])
        return cls(design, logits, (logit(high) - logit(low)) ** 2 / 12, generations, families)

    def _prior(self, sds: Vector) -> Vector:
        """Precisions of every column's coefficient."""
        counts = (len(FEATURES), len(self.generations), len(self.families))
        return np.repeat([1 / _COEFFICIENT_SD**2, 1 / sds[0] ** 2, 1 / sds[1] ** 2], counts)

    def solve(self, sds: Vector) -> tuple[Vector, Vector]:
        """The precision matrix and the mean of all coefficients."""
        weighted = self.design.T / (sds[2] ** 2 + self.interval_variance)
        precision: Vector = weighted @ self.design + np.diag(self._prior(sds))
        return precision, np.linalg.solve(precision, weighted @ self.logits)

    def log_likelihood(self, logs: Vector) -> float:
        """The marginal likelihood of the runs at these standard deviations, with their prior."""
        sds = _sds(logs)
        variances = sds[2] ** 2 + self.interval_variance
        precision, mean = self.solve(sds)
        fit_error = float(self.logits**2 @ (1 / variances) - mean @ precision @ mean)
        determinant = float(np.linalg.slogdet(precision)[1])
        likelihood = -np.log(variances).sum() + np.log(self._prior(sds)).sum() - determinant - fit_error
        return float(likelihood - (sds[:2] ** 2).sum() / _SPREAD_SD**2) / 2


# Leaving families out


@dataclass(frozen=True)
class LeftOut:
    """A run, and what the model predicts of it that has seen no run of its family."""

    observation: Observation
    predicted: Prediction

    @property
    def error(self) -> float:
        """Predicted ÷ published − 1."""
        return self.predicted.p50 / self.observation.mfu - 1

    @property
    def is_inside(self) -> bool:
        """Whether the published MFU is within the 90 % interval."""
        return self.predicted.p5 <= self.observation.mfu <= self.predicted.p95

    @property
    def width(self) -> float:
        """The width of the 90 % interval ÷ p50."""
        return (self.predicted.p95 - self.predicted.p5) / self.predicted.p50


def leave_families_out(observations: Sequence[Observation]) -> tuple[LeftOut, ...]:
    """Predict each run by a model that is fitted to the runs of all other families."""
    found = []
    for family in dict.fromkeys(each.run.family for each in observations):
        model = fit([each for each in observations if each.run.family != family])
        mine = [each for each in observations if each.run.family == family]
        found += [LeftOut(each, model.predict(each.situation)) for each in mine]
    return tuple(found)
