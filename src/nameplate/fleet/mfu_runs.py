"""Published training runs and the shapes of their models: what MFU each run reached, by one convention.

The runs are `data/training_runs.csv`, each with its source and how it was read; their models are those of
`models.published`. A run states tokens a second, TFLOPS or an MFU; from its model's shape and its context
the MFU by any convention follows exactly. Where the source doesn't say how it counted FLOPs, the MFU is the
interval over every convention it could have used. What a source doesn't say is blank.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nameplate.base.model import FrozenModel, Positive, PositiveCount, describe_first_error
from nameplate.base.toml import bad_value, read_packaged
from nameplate.fleet.catalogues import Id, Text
from nameplate.models.conventions import (
    CONVENTIONS,
    OWN,
    convert,
    convert_unknown,
    flops_per_token,
)
from nameplate.models.published import PUBLISHED_MODELS_FILE, load_published_models
from nameplate.models.shape import ModelShape
from nameplate.specs.part import Part

RUNS_FILE = "training_runs.csv"
Stack = Literal["tuned", "off-the-shelf"]
TrainingPrecision = Literal["bf16", "fp8"]
# The registry's name of the dtype that a precision's peak is of.
PEAK_DTYPES: Mapping[TrainingPrecision, str] = {"bf16": "bf16", "fp8": "fp8_e4m3"}
_TFLOP = 1e12


class TrainingRun(FrozenModel):
    """One published run: what ran where, what throughput the source states, and how that was read.

    One of `tokens_per_s` and `tflops`, both of one device, and `mfu` is stated. Without a `convention` the
    source doesn't say how it counted. `excluded` says why the model of MFU isn't fitted to the run.
    """

    id: Id
    family: Id  # runs that were published together
    model: Text
    part: Text
    devices: PositiveCount | None = None
    context: PositiveCount
    precision: TrainingPrecision
    stack: Stack
    year: Annotated[float, Field(ge=2017, le=2100)]
    tokens_per_s: Positive | None = None
    tflops: Positive | None = None
    mfu: Annotated[float, Field(gt=0, lt=1)] | None = None
    convention: Text | None = None
    whole_run: bool = False  # tokens ÷ hours of a whole run, interruptions included
    excluded: Text | None = None
    source: Text
    read: Literal["at the source", "through a secondary text"]
    note: Text | None = None

    @model_validator(mode="after")
    def _states_one_figure(self) -> Self:
        stated = [each for each in (self.tokens_per_s, self.tflops, self.mfu) if each is not None]
        if len(stated) != 1:
            raise ValueError("one of tokens_per_s, tflops and mfu")
        if self.convention is not None and self.convention not in CONVENTIONS:
            raise ValueError(f"a convention among {', '.join(CONVENTIONS)}, or none")
        if self.devices is None and self.excluded is None:
            raise ValueError("devices, for a run that the model is fitted to")
        return self

    def mfu_by(self, shape: ModelShape, part: Part, convention: str = OWN) -> tuple[float, float]:
        """The lowest and highest MFU of the run by `convention`, as a share of its precision's dense peak.

        They are the same where the source says how it counted, or states tokens a second.
        """
        if self.tokens_per_s is not None:
            flops = self.tokens_per_s * flops_per_token(shape, self.context, convention)
            share = flops / (_TFLOP * peak_tflops(part, self.precision))
            return share, share
        stated = self.mfu if self.mfu is not None else (self.tflops or 0) / peak_tflops(part, self.precision)
        if self.convention is None:
            return convert_unknown(stated, shape, self.context, convention)
        known = convert(stated, shape, self.context, self.convention, convention)
        return known, known


def peak_tflops(part: Part, precision: TrainingPrecision) -> float:
    """The part's dense datasheet figure for a precision, in TFLOPS. KeyError where it has none."""
    return part.datasheet[PEAK_DTYPES[precision]].value


@cache
def load_training_runs() -> tuple[TrainingRun, ...]:
    """Every published run, in the file's order."""
    return parse_training_runs(read_packaged("nameplate.fleet", RUNS_FILE), RUNS_FILE)


def parse_training_runs(text: str, where: str) -> tuple[TrainingRun, ...]:
    """Read a CSV file of runs; an empty cell is absent. InputError naming file, row, got and expected."""
    runs: dict[str, TrainingRun] = {}
    for row in csv.DictReader(io.StringIO(text)):
        filled = {name: cell for name, cell in row.items() if cell}
        name = filled.get("id", f"row {len(runs) + 2}")
        if name in runs:
            raise bad_value(where, "id", name, "an id that no other run has")
        try:
            runs[name] = TrainingRun.model_validate(filled)
        except ValidationError as error:
            raise bad_value(where, name, filled, describe_first_error(error)) from None
        if runs[name].model not in load_published_models():
            raise bad_value(where, f"{name}.model", runs[name].model, f"a model of {PUBLISHED_MODELS_FILE}")
    return tuple(runs.values())


def fitted_runs(runs: Sequence[TrainingRun] | None = None) -> tuple[TrainingRun, ...]:
    """The runs that the model of MFU is fitted to."""
    return tuple(run for run in (load_training_runs() if runs is None else runs) if run.excluded is None)
