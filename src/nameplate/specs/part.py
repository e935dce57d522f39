"""A part of the registry as a TOML file gives it, validated straight into frozen models.

A file names its sources once and refers to them by name. Validation replaces each name by the `Source`
itself, so that every figure carries its own; for that it needs a `Loading` as pydantic's context.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from nameplate.base.model import FrozenModel

PARTS_FILE = "parts.toml"  # the parts that come with Nameplate

Basis = Literal["datasheet", "published", "derived", "inferred", "unverified"]
Unit = Literal["SM", "CU", "MME", "core"]
Dtype = Literal[
    "fp64",
    "fp64_tensor",
    "fp32",
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
Name = Annotated[str, Field(min_length=2, pattern=r"\S")]
Why = Annotated[str, Field(min_length=8)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]

_VENDOR = re.compile(r"^(NVIDIA|AMD|Intel|Huawei|Google) ")
_SIZE = re.compile(r" (SXM\d?|\d+GB)\b")


@dataclass
class Loading:
    """The context a file of parts is validated in: what its parts may name, and what their figures inherit.

    `sources` and `architecture` hold the entries known before the file, then the file's own as well.
    `inherited` holds sources and basis of the part being validated.
    """

    file: str
    sources: dict[str, Source]
    architecture: dict[str, Architecture]
    inherited: dict[str, Any] = field(default_factory=dict)


class Source(FrozenModel):
    """What was read, and when: the date in the source where it has one, else the day of reading."""

    text: Annotated[str, Field(min_length=8)]
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]

    def __str__(self) -> str:
        return f"{self.text} ({self.date})"


def _context(info: ValidationInfo) -> Loading:
    return cast("Loading", info.context)


def _find_source(name: object, info: ValidationInfo) -> Source:
    sources = _context(info).sources
    if not isinstance(name, str) or name not in sources:
        raise ValueError("an entry of [sources]")
    return sources[name]


NamedSource = Annotated[Source, PlainValidator(_find_source, json_schema_input_type=str)]
NamedSources = Annotated[tuple[NamedSource, ...], Field(min_length=1)]


class Quantity(FrozenModel):
    """A figure with its sources; the field that holds it names the unit.

    A file gives a number, or a table where a figure needs more than that. A figure without sources or basis
    has those of its part.
    """

    value: Positive
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
        return {**_context(info).inherited, **given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe what a file may hold: a number, or a table in which only the value is required."""
        table = {**handler(core_schema), "required": ["value"]}
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, table]}

    @property
    def source(self) -> str:
        """Sources with their dates, the basis unless it is a publication, and the note, in one line."""
        sources = "; ".join(str(source) for source in self.sources)
        basis = "" if self.basis in ("published", "datasheet") else f"{self.basis}; "
        return f"{basis}{sources}" + (f"; {self.note}" if self.note else "")

    @property
    def date(self) -> str:
        """The date of the newest source."""
        return max(source.date for source in self.sources)


class Memory(FrozenModel):
    """One memory size the part is sold with, in GB; driver names that say which size it is."""

    gb: Quantity
    type: Text | None = None
    bandwidth_gb_s: Quantity | None = None
    driver_names: tuple[Name, ...] = ()


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


class Flag(FrozenModel):
    """Figures that fail the load-time check and are kept all the same, with the reason."""

    figures: Annotated[tuple[Text, ...], Field(min_length=1)]
    why: Why


class Architecture(FrozenModel):
    """FLOP per clock per SM (or CU) by dtype, two for each multiply-add; dense."""

    source: NamedSource
    flop_per_clock: Annotated[dict[Dtype, Annotated[int, Field(gt=0)]], Field(min_length=1)]


class Part(FrozenModel):
    """One part. Throughput in TFLOPS (TOPS for int8), dense, of the whole part.

    `devices_per_part` is how many devices a framework sees for one part: MI250X counts as two.
    `nominal_tflops` holds only the figures that replace the datasheet's.
    """

    id: Id
    name: Name
    vendor: Text
    architecture: str | None = None
    form: Text | None = None
    sources: NamedSources
    basis: Basis = "published"
    confidence: Text | None = None
    replaces: Id | None = None
    driver_names: tuple[Name, ...] = ()
    shared_names: tuple[Name, ...] = ()
    pci_ids: tuple[PciId, ...] = ()
    unit: Unit = "SM"
    devices_per_part: Annotated[int, Field(ge=1, le=16)] = 1
    multiprocessors: Quantity | None = None
    maximum_mhz: Quantity | None = None
    tdp_w: Quantity | None = None
    link_gb_s: Quantity | None = None
    rate_limited: Why | None = None
    notes: tuple[Text, ...] = ()
    memory: tuple[Memory, ...] = ()
    dense_tflops: dict[Dtype, Quantity] = Field({})
    nominal_tflops: dict[Dtype, Quantity] = Field({})
    blank: dict[str, Text] = Field({})
    conflicts: tuple[Conflict, ...] = Field((), alias="conflict")
    flags: tuple[Flag, ...] = Field((), alias="flag")

    _file: str = PrivateAttr()
    _flop_per_clock: dict[str, int] = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: Any, info: ValidationInfo) -> Any:
        """Let the figures, which are validated after this, inherit sources and basis."""
        if isinstance(given, dict):
            inherited = {key: given[key] for key in ("sources", "basis") if key in given}
            _context(info).inherited = {"basis": "published", **inherited}
        return given

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and name not in _context(info).architecture:
            raise ValueError("an entry of [architecture]")
        return name

    def model_post_init(self, context: Loading) -> None:
        """Keep what the context says of the part: its file and its architecture's rates."""
        self._file = context.file
        rates = context.architecture[self.architecture].flop_per_clock if self.architecture else {}
        self._flop_per_clock = {str(dtype): rate for dtype, rate in rates.items()}

    @property
    def file(self) -> str:
        """The file that the part comes from."""
        return self._file

    @property
    def is_shipped(self) -> bool:
        """Whether the part comes with Nameplate, and so its texts are translated."""
        return self._file == PARTS_FILE

    @property
    def flop_per_clock(self) -> Mapping[str, int]:
        """FLOP per clock per SM by dtype; empty where the architecture isn't known."""
        return self._flop_per_clock

    @property
    def datasheet(self) -> Mapping[str, Quantity]:
        """The vendor's own figures by dtype."""
        return {str(dtype): quantity for dtype, quantity in self.dense_tflops.items()}

    @property
    def nominal(self) -> Mapping[str, Quantity]:
        """The figures that achieved throughput is divided by: the datasheet's unless replaced."""
        return {str(dtype): one for dtype, one in {**self.dense_tflops, **self.nominal_tflops}.items()}

    @property
    def rated_clock_mhz(self) -> float | None:
        """The clock in MHz that gives the datasheet's figure; None: see `rated_clock_absent`."""
        return None if self.rated_clock_absent else self.clock_for(*self._clocked())

    @property
    def rated_clock_absent(self) -> str | None:
        """Why there is no rated clock; None where there is one."""
        if self.rate_limited:
            return f"rate-limited: {self.rate_limited}"
        if not self.flop_per_clock:
            return "FLOP per clock isn't known for this architecture"
        if self.multiprocessors is None:
            return f"the number of {self.unit}s isn't known"
        return None if self._clocked()[1] else "no FP16 or BF16 figure"

    def clock_for(self, dtype: str, tflops: float) -> float:
        """The clock in MHz at which the part's SMs give `tflops`: TFLOPS ÷ (SMs × FLOP per clock per SM)."""
        units = self.multiprocessors.value if self.multiprocessors else 0
        return tflops * 1e6 / (units * self.flop_per_clock[dtype])

    def figures(self) -> Iterator[tuple[str, Quantity]]:
        """Yield every figure under its key: `dense_tflops.fp16`, `memory[0].gb`, `tdp_w`."""
        for dtype, quantity in self.datasheet.items():
            yield f"dense_tflops.{dtype}", quantity
        for dtype, quantity in self.nominal.items():
            if dtype in self.nominal_tflops:
                yield f"nominal_tflops.{dtype}", quantity
        for index, memory in enumerate(self.memory):
            yield f"memory[{index}].gb", memory.gb
            if memory.bandwidth_gb_s:
                yield f"memory[{index}].bandwidth_gb_s", memory.bandwidth_gb_s
        for name in ("multiprocessors", "maximum_mhz", "tdp_w", "link_gb_s"):
            if found := getattr(self, name):
                yield name, found

    def names(self) -> Iterator[str]:
        """Yield every name that belongs to this part alone."""
        yield self.name
        yield from self.driver_names
        for memory in self.memory:
            yield from memory.driver_names

    def _clocked(self) -> tuple[str, float]:
        """The dtype and figure that the rated clock is computed from; 0.0 where there is none."""
        for dtype in ("fp16", "bf16"):
            if dtype in self.datasheet and dtype in self.flop_per_clock:
                return dtype, self.datasheet[dtype].value
        return "", 0.0


def shorten(name: str) -> str:
    """Return the short name people use: `A800` for `NVIDIA A800 SXM4 80GB`; a PCIe card keeps its PCIe."""
    return _SIZE.sub("", _VENDOR.sub("", name))


def format_figure(value: float | str) -> str:
    """Return a figure as a sentence shows it."""
    return value if isinstance(value, str) else f"{value:g}" if value < 1e6 else f"{value:.0f}"
