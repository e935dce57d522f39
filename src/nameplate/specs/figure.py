"""Figures of a file of parts with their sources, validated straight into frozen models.

A file names its sources once and refers to them by name. Validation replaces each name by the `Source`
itself, so that every figure carries its own; for that it needs a `Loading` as pydantic's context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from nameplate.base.model import FrozenModel

Basis = Literal["datasheet", "published", "derived", "inferred", "unverified"]
Dtype = Literal[
    "fp64",
    "fp64_tensor",
    "fp32",
    "fp32_tensor",
    "tf32",
    "fp16",
    "fp16_acc16",
    "bf16",
    "fp8_e4m3",
    "fp8_e4m3_acc16",
    "int8",
    "fp4",
]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=2)]
Why = Annotated[str, Field(min_length=8)]

_SAME_FIGURE = 0.01


@dataclass
class Loading:
    """The context a file of parts is validated in: what its parts may name, and what their figures inherit.

    `sources` and `architecture` hold the entries known before the file, then the file's own as well.
    `inherited` holds sources and basis of the part being validated. `short_names` has the part of each short
    name that is taken.
    """

    file: str
    sources: dict[str, Source]
    architecture: dict[str, Architecture]
    inherited: dict[str, Any] = field(default_factory=dict)
    short_names: dict[str, str] = field(default_factory=dict)


class Source(FrozenModel):
    """What was read, and when: the date in the source where it has one, else the day of reading."""

    text: Annotated[str, Field(min_length=8)]
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]

    def __str__(self) -> str:
        return f"{self.text} ({self.date})"


def get_loading(info: ValidationInfo) -> Loading:
    """Return the context that a file of parts is validated in."""
    return cast("Loading", info.context)


def _find_source(name: object, info: ValidationInfo) -> Source:
    sources = get_loading(info).sources
    if not isinstance(name, str) or name not in sources:
        raise ValueError("an entry of [sources]")
    return sources[name]


NamedSource = Annotated[Source, PlainValidator(_find_source, json_schema_input_type=str)]
NamedSources = Annotated[tuple[NamedSource, ...], Field(min_length=1)]


class Quantity(FrozenModel):
    """A figure with its sources; the field that holds it names the unit.

    A file gives a number, or a table where a figure needs more than that. A figure without sources or basis
    has those of its part. `unrounded` is the figure before the vendor rounded it for print (34 for 33.45).
    """

    value: Positive
    unrounded: Positive | None = None
    sources: NamedSources
    basis: Basis
    note: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any, info: ValidationInfo) -> dict[str, Any]:
        if not isinstance(given, dict):
            # True is an int to Python, and NaN fails the comparison.
            if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
                raise PydanticCustomError("figure", "a number above 0, or a table with its value")
            given = {"value": given}
        return {**get_loading(info).inherited, **given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe what a file may hold: a number, or a table in which only the value is required."""
        table = {**handler(core_schema), "required": ["value"]}
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, table]}

    @property
    def exact(self) -> float:
        """The figure before it was rounded, where that is known: what clocks are computed from."""
        return self.unrounded or self.value

    @property
    def source(self) -> str:
        """Sources with their dates, the basis unless it is a publication, and the note, in one line."""
        sources = "; ".join(str(source) for source in self.sources)
        basis = "" if self.basis in ("published", "datasheet") else f"{self.basis}; "
        rounded = f"; {self.unrounded:g} before rounding" if self.unrounded else ""
        return f"{basis}{sources}{rounded}" + (f"; {self.note}" if self.note else "")

    @property
    def date(self) -> str:
        """The date of the newest source."""
        return max(source.date for source in self.sources)


_DtypeOrOther = Dtype | Literal["other"]
OTHER: Literal["other"] = "other"  # the key of what holds for every dtype that a table doesn't name


def _for_other_dtypes(given: Any) -> Any:
    """Read what is given once for all dtypes, instead of in a table by dtype, as said of `other`."""
    is_by_dtype = isinstance(given, dict) and "value" not in given
    return given if is_by_dtype else {OTHER: given}


RatedClocks = Annotated[
    dict[_DtypeOrOther, Quantity],
    BeforeValidator(_for_other_dtypes, json_schema_input_type=Quantity | dict[_DtypeOrOther, Quantity]),
]
Reasons = Annotated[
    dict[_DtypeOrOther, Why],
    BeforeValidator(_for_other_dtypes, json_schema_input_type=Why | dict[_DtypeOrOther, Why]),
]


class ConflictValue(FrozenModel):
    """The value that one source gives."""

    value: Positive | Text
    source: NamedSource


class Conflict(FrozenModel):
    """A figure that sources disagree on: each value, the one used (none: left blank), and why."""

    of: Text
    values: Annotated[tuple[ConflictValue, ...], Field(min_length=1)]
    used: Positive | Text | None = None
    why: Why

    def __str__(self) -> str:
        values = ", ".join(f"{format_figure(one.value)} ({one.source})" for one in self.values)
        used = "none is used" if self.used is None else f"{format_figure(self.used)} is used"
        return f"{self.of}: {values}; {used}: {self.why}"


class Architecture(FrozenModel):
    """FLOP per clock per SM (or CU) by dtype, two for each multiply-add; dense.

    `sparse` names the dtypes whose matrix unit runs 2:4 sparse operands at twice the dense rate, which is
    what vendors like to print.
    """

    source: NamedSource
    flop_per_clock: Annotated[dict[Dtype, Annotated[int, Field(gt=0)]], Field(min_length=1)]
    sparse: tuple[Dtype, ...] = ()


def is_same_figure(one: float, other: float) -> bool:
    """Whether two figures are one that was rounded differently, as 1978 and 1979 are for an H100."""
    return math.isclose(one, other, rel_tol=_SAME_FIGURE)


def format_figure(value: float | str) -> str:
    """Return a figure as a sentence shows it."""
    return value if isinstance(value, str) else f"{value:g}" if value < 1e6 else f"{value:.0f}"
