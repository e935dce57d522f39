"""The MFU of a training run as a function of part, devices, model, context, precision, stack and year.

    logit(MFU) = sum of coefficient × feature + effect of the part's generation + effect of the study + rest

It is a hierarchical linear regression on published runs: the effects of generations and of studies are drawn
from normal laws around 0, whose standard deviations are fitted too. MFU is by Megatron's convention with half
of attention, as a share of the dense peak of the run's own precision, without interruptions.

The features are few, so that each coefficient can be read:

    constant           a dense model of 10 billion parameters on 64 devices in bf16, tuned, in 2024
    devices            log2(devices ÷ 64) ÷ 10
    parameters         log10(parameters that work on a token ÷ 10^10)
    attention          attention's share of the FLOPs (causal half), which grows with the context
    fp8                1 for fp8: its peak is twice that of bf16, and its MFU therefore lower
    off_the_shelf      1 for a public framework with its stock kernels
    year               years since 2024: software gets better
    experts            1 for a mixture of experts

A prediction is for a study that nobody has published yet. Its spread has the coefficients' uncertainty, that
of the generation's effect, and the two spreads that no feature explains: from study to study and from run to
run. The coefficients are data (`data/mfu_model.toml`); `make mfu` refits them (`mfu_fit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit, stdtrit

from nameplate.base.model import FrozenModel, Positive, PositiveCount
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.fleet.catalogues import Text
from nameplate.fleet.mfu_runs import PEAK_DTYPES, Stack, TrainingPrecision
from nameplate.models.conventions import attention_flops, weight_flops
from nameplate.models.shape import ModelShape
from nameplate.specs.part import Part

FILE = "mfu_model.toml"
FEATURES = (
    "constant",
    "devices",
    "parameters",
    "attention",
    "fp8",
    "off_the_shelf",
    "year",
    "experts",
)
_BASE_DEVICES, _BASE_PARAMETERS, _BASE_YEAR = 64, 1e10, 2024
_CAUSAL = 0.5
_TAIL = 0.05
_HALF_90 = 1.6448536269514722  # of a normal law, in standard deviations
_HALF_95 = 1.959963984540054

Vector = NDArray[np.float64]


def generation_of(part: Part, precision: TrainingPrecision) -> str:
    """What parts share an effect by: their architecture. A part without one is its own generation.

    So is one whose rate is limited (H20): its memory and links are those of a card several times as fast, so
    it reaches another share of its peak than its siblings.
    """
    limited = part.rate_limit(PEAK_DTYPES[precision]) is not None
    return part.id if part.architecture is None or limited else part.architecture


@dataclass(frozen=True)
class Situation:
    """What a prediction of MFU depends on; `generation` as `generation_of` has it."""

    generation: str
    devices: float
    shape: ModelShape
    context: float
    precision: TrainingPrecision
    stack: Stack
    year: float

    @property
    def attention_share(self) -> float:
        """Attention's share of the FLOPs, of which a causal mask leaves half."""
        attended = _CAUSAL * attention_flops(self.shape, self.context)
        return attended / (attended + weight_flops(self.shape))

    @property
    def parameters(self) -> float:
        """The weights that work on a token, of layers and logits."""
        return float(self.shape.layer_weights + self.shape.logit_weights)

    def features(self, year: float | None = None) -> Vector:
        """The features in the order of FEATURES; `year` takes the place of the situation's own."""
        return np.array(
            [
                1.0,
                math.log2(self.devices / _BASE_DEVICES) / 10,
                math.log10(self.parameters / _BASE_PARAMETERS),
                self.attention_share,
                float(self.precision == "fp8"),
                float(self.stack == "off-the-shelf"),
                (self.year if year is None else year) - _BASE_YEAR,
                float(self.shape.experts > 0),
            ]
        )


@dataclass(frozen=True)
class Prediction:
    """A prediction on the scale of logit(MFU): its middle, and the spread of one more run around it."""

    logit: float
    deviation: float
    degrees_of_freedom: float

    def quantile(self, probability: float) -> float:
        """The MFU below which a run lies with that probability, by Student's t."""
        t = float(stdtrit(self.degrees_of_freedom, probability))
        return float(expit(self.logit + t * self.deviation))

    @property
    def p5(self) -> float:
        """The MFU that 95 % of such runs exceed."""
        return self.quantile(_TAIL)

    @property
    def p50(self) -> float:
        """The MFU that half of such runs exceed."""
        return float(expit(self.logit))

    @property
    def p95(self) -> float:
        """The MFU that 5 % of such runs exceed."""
        return self.quantile(1 - _TAIL)

    @property
    def ends(self) -> tuple[float, float]:
        """The 95 % interval of the normal law on this scale whose p5, p50 and p95 are these."""
        t = float(stdtrit(self.degrees_of_freedom, 1 - _TAIL))
        half = _HALF_95 * t / _HALF_90 * self.deviation
        return float(expit(self.logit - half)), float(expit(self.logit + half))


class Years(FrozenModel):
    """The years of the runs of one generation: a year outside them is predicted as the nearest of them."""

    first: Positive
    last: Positive


class FeatureRange(FrozenModel):
    """The least and the most of a feature among the runs that were fitted."""

    least: Positive
    most: Positive


class MfuModel(FrozenModel):
    """A fitted model: coefficients and generations' effects with their covariance, and the spreads.

    `mean` and the rows of `covariance` are in the order of FEATURES, then of `generations`.
    """

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    n_runs: PositiveCount
    n_families: PositiveCount
    fitted_with: Text
    generations: tuple[Text, ...]
    runs_of_generation: tuple[PositiveCount, ...]
    runs_of_part: dict[str, PositiveCount]
    years: tuple[Years, ...]  # by generation
    devices: FeatureRange
    parameters: FeatureRange
    context: FeatureRange
    sd_generation: Positive
    sd_study: Positive
    sd_run: Positive
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        size = len(FEATURES) + len(self.generations)
        if len(self.mean) != size or {len(self.covariance), *map(len, self.covariance)} != {size}:
            raise ValueError(f"{size} means and {size} × {size} covariances")
        if not len(self.generations) == len(self.runs_of_generation) == len(self.years):
            raise ValueError("runs and years for each generation")
        return self

    @property
    def coefficients(self) -> Mapping[str, float]:
        """The coefficient of each feature."""
        return dict(zip(FEATURES, self.mean, strict=False))

    @property
    def effects(self) -> Mapping[str, float]:
        """The effect of each generation."""
        return dict(zip(self.generations, self.mean[len(FEATURES) :], strict=True))

    @property
    def degrees_of_freedom(self) -> float:
        """Families less one: what a new study is like is known from so many."""
        return float(max(self.n_families - 1, 1))

    def runs_of(self, generation: str) -> int:
        """How many of the fitted runs are of that generation."""
        return dict(zip(self.generations, self.runs_of_generation, strict=True)).get(generation, 0)

    def year_used(self, generation: str, year: float) -> float:
        """The year that a prediction takes: no run says how a generation fares before or after its own.

        A generation without runs takes the years of all.
        """
        of = dict(zip(self.generations, self.years, strict=True)).get(generation)
        first = min(each.first for each in self.years) if of is None else of.first
        last = max(each.last for each in self.years) if of is None else of.last
        return min(max(year, first), last)

    def predict(self, at: Situation) -> Prediction:
        """The MFU of one more study's run in that situation."""
        features = at.features(self.year_used(at.generation, at.year))
        x = np.concatenate([features, [float(each == at.generation) for each in self.generations]])
        variance = float(x @ np.array(self.covariance) @ x) + self.sd_study**2 + self.sd_run**2
        if at.generation not in self.generations:
            variance += self.sd_generation**2
        return Prediction(float(x @ np.array(self.mean)), math.sqrt(variance), self.degrees_of_freedom)


@cache
def load_mfu_model() -> MfuModel:
    """The model that comes with Nameplate."""
    return parse_toml(MfuModel, read_packaged("nameplate.fleet", FILE), FILE)
