"""The MFU that a training run of a given size on a given part reaches, with its interval: `estimate_mfu`.

The model is `mfu_model`. An MFU is a share of the datasheet's dense peak for the precision, without the time
that interruptions take (goodput), and by Megatron's convention unless another is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, scientific, stated
from nameplate.base.language import N_, _
from nameplate.fleet.catalogues import MOST_CARDS
from nameplate.fleet.mfu_model import MfuModel, Prediction, Situation, generation_of, load_mfu_model
from nameplate.fleet.mfu_runs import PEAK_DTYPES, Stack, TrainingPrecision
from nameplate.models.conventions import (
    OWN,
    convert,
    find_convention,
)
from nameplate.models.shape import ModelShape, shape_from_parameters
from nameplate.specs.part import Part
from nameplate.specs.recognition import require
from nameplate.specs.registry import load_registry

DEFAULT_PARAMETERS, DEFAULT_CONTEXT, DEFAULT_YEAR = 7e9, 4096, 2024.0
DEFAULT_STACK: Stack = "tuned"
DEFAULT_PRECISION: TrainingPrecision = "bf16"
STACKS: tuple[Stack, ...] = get_args(Stack)
PRECISIONS: tuple[TrainingPrecision, ...] = get_args(TrainingPrecision)
LEAST_PARAMETERS, MOST_PARAMETERS = 1e6, 1e15
MOST_CONTEXT = 100_000_000
FIRST_YEAR, LAST_YEAR = 2017.0, 2040.0


@dataclass(frozen=True)
class TrainingSetup:
    """What a fleet trains, as far as MFU depends on it: model, context, precision, stack and year.

    `parameters` are those of the whole model; `active_parameters`, fewer in a mixture of experts, work on a
    token. Raises InputError for what no training run can be.
    """

    parameters: float = DEFAULT_PARAMETERS
    context: float = DEFAULT_CONTEXT
    active_parameters: float | None = None
    precision: TrainingPrecision = DEFAULT_PRECISION
    stack: Stack = DEFAULT_STACK
    year: float = DEFAULT_YEAR

    def __post_init__(self) -> None:
        _require_within("--params", self.parameters, LEAST_PARAMETERS, MOST_PARAMETERS, "parameters")
        _require_within("--context", self.context, 1, MOST_CONTEXT, "tokens")
        _require_within("--year", self.year, FIRST_YEAR, LAST_YEAR, "a year")
        if self.active_parameters is not None:
            _require_within(
                "--active-params", self.active_parameters, LEAST_PARAMETERS, self.parameters, "parameters"
            )
        _require_one_of("--stack", self.stack, STACKS)
        _require_one_of("--precision", self.precision, PRECISIONS)

    @property
    def has_experts(self) -> bool:
        """Whether only a part of the parameters works on a token."""
        return self.active_parameters is not None and self.active_parameters < self.parameters

    @property
    def shape(self) -> ModelShape:
        """The shape of a usual decoder of so many parameters, of those that work on a token."""
        active = self.active_parameters or self.parameters
        dense = shape_from_parameters(active)
        if not self.has_experts:
            return dense
        # One expert of the active size: it makes the shape one of experts, and leaves its FLOPs as they are.
        return ModelShape(
            dense.layers,
            dense.width,
            dense.heads,
            dense.vocabulary,
            dense.ffn,
            gated=False,
            head_dim=dense.head_dim,
            tied=True,
            experts=1,
            active_experts=1,
            expert_ffn=dense.ffn,
            parameters=dense.parameters,
        )


@dataclass(frozen=True)
class MfuEstimate:
    """The MFU of such a run by `convention`: p5, p50 and p95 of what one more study would report.

    `n_runs` published runs in `n_families` families made the model, `runs_of_generation` of them on parts of
    this generation. `notes` say what lies outside these runs.
    """

    part: Part
    devices: float
    training: TrainingSetup
    convention: str
    p5: float
    p50: float
    p95: float
    predicted: Prediction
    n_runs: int
    n_families: int
    runs_of_generation: int
    notes: tuple[str, ...]

    @property
    def peak_tflops(self) -> float:
        """The dense datasheet figure that the MFU is a share of."""
        return self.part.datasheet[PEAK_DTYPES[self.training.precision]].value

    def as_json(self) -> dict[str, Any]:
        """The estimate as a JSON row."""
        return {
            "part": self.part.id,
            "devices": self.devices,
            "params": self.training.parameters,
            "active_params": self.training.active_parameters,
            "context": self.training.context,
            "precision": self.training.precision,
            "stack": self.training.stack,
            "year": self.training.year,
            "convention": self.convention,
            "p5": self.p5,
            "p50": self.p50,
            "p95": self.p95,
            "peak_tflops": self.peak_tflops,
            "tflops_p5": self.p5 * self.peak_tflops,
            "tflops_p50": self.p50 * self.peak_tflops,
            "tflops_p95": self.p95 * self.peak_tflops,
            "n_runs": self.n_runs,
            "n_families": self.n_families,
            "runs_of_generation": self.runs_of_generation,
            "notes": list(self.notes),
        }


def estimate_mfu(
    part: str | Part,
    devices: float,
    training: TrainingSetup | None = None,
    *,
    convention: str = OWN,
    parts: str | Path | Sequence[str | Path] = (),
) -> MfuEstimate:
    """The MFU of a training run on so many devices of a part; `parts` are files with parts of one's own.

    Raises InputError for an unknown part or convention, for a part without a rating in the run's precision,
    and for a number of devices that can't be.
    """
    training = TrainingSetup() if training is None else training
    named = part if isinstance(part, Part) else require(part, load_registry(parts)).part
    find_convention(convention)
    _require_within("--devices", devices, 1, MOST_CARDS, "devices")
    if PEAK_DTYPES[training.precision] not in named.datasheet:
        raise InputError(
            f"{named.name} has no {training.precision} rating that an MFU could be a share of",
            where="--precision",
            got=training.precision,
            expected="a precision that the part is rated in (`bench specs` lists them)",
        )
    model = load_mfu_model()
    at = situation_of(named, devices, training)
    predicted = model.predict(at)

    factor = convert(1.0, at.shape, at.context, OWN, convention)
    return MfuEstimate(
        part=named,
        devices=devices,
        training=training,
        convention=convention,
        p5=predicted.p5 * factor,
        p50=predicted.p50 * factor,
        p95=predicted.p95 * factor,
        predicted=predicted,
        n_runs=model.n_runs,
        n_families=model.n_families,
        runs_of_generation=model.runs_of(at.generation),
        notes=tuple(_note_extrapolation(model, at, named)),
    )


def situation_of(part: Part, devices: float, training: TrainingSetup) -> Situation:
    """The run as the model sees it."""
    return Situation(
        generation_of(part, training.precision),
        devices,
        training.shape,
        training.context,
        training.precision,
        training.stack,
        training.year,
    )


def _note_extrapolation(model: MfuModel, at: Situation, part: Part) -> list[str]:
    notes = []
    of_generation = model.runs_of(at.generation)
    if not of_generation:
        said = N_(
            "no published run is of {part} or of its generation: the interval is that of any generation"
        )
        notes.append(_(said, part=part.short_name))
    elif part.id not in model.runs_of_part:
        said = N_(
            "no published run is of {part}: {count} runs are of other parts of its generation, whose memory "
            "and links may differ"
        )
        notes.append(_(said, part=part.short_name, count=count(of_generation)))
    used = model.year_used(at.generation, at.year)
    if abs(used - at.year) >= 1:
        said = N_("its generation has no runs of {year}: predicted as for {used}")
        notes.append(_(said, used=name_year(used), year=name_year(at.year)))
    if at.devices > model.devices.most:
        said = N_("no run has more than {most} devices: beyond them the trend is carried on")
        notes.append(_(said, most=count(model.devices.most)))
    if not model.parameters.least <= at.parameters <= model.parameters.most:
        said = N_("the models of the runs have {least} to {most} parameters that work on a token")
        notes.append(
            _(said, least=scientific(model.parameters.least), most=scientific(model.parameters.most))
        )
    if not model.context.least <= at.context <= model.context.most:
        said = N_("the contexts of the runs are {least} to {most} tokens")
        notes.append(_(said, least=count(model.context.least), most=count(model.context.most)))
    return notes


def _require_within(flag: str, given: float, least: float, most: float, unit: str) -> None:
    if isinstance(given, bool) or not least <= given <= most:  # NaN is in no range either
        formatter = name_year if unit == "a year" else stated
        expected = f"{unit} from {formatter(least)} to {formatter(most)}"
        raise InputError("not a training run", where=flag, got=given, expected=expected)


def _require_one_of(flag: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise InputError("no such choice", where=flag, got=given, expected=" or ".join(known))


def name_year(year: float) -> str:
    """A year without a separator of thousands, with a decimal where it has one: 2024, 2024.9."""
    return stated(round(year, 1)).replace(",", "")


def as_stack(given: str) -> Stack:
    """The stack of that name. Raises InputError for another."""
    _require_one_of("--stack", given, STACKS)
    return cast("Stack", given)


def as_precision(given: str) -> TrainingPrecision:
    """The precision of that name. Raises InputError for another."""
    _require_one_of("--precision", given, PRECISIONS)
    return cast("TrainingPrecision", given)
