"""A part of the registry as a TOML file gives it, validated straight into frozen models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from nameplate.base.model import FrozenModel
from nameplate.specs.figure import (
    OTHER,
    Basis,
    Conflict,
    Dtype,
    Loading,
    NamedSources,
    Quantity,
    RatedClocks,
    Reasons,
    Text,
    Why,
    get_loading,
)

PARTS_FILE = "parts.toml"  # the parts that come with Nameplate

Unit = Literal["SM", "CU", "MME", "core"]
Name = Annotated[str, Field(min_length=2, pattern=r"\S")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]

_VENDOR = re.compile(r"^(NVIDIA|AMD|Intel|Huawei|Google|AWS|Kunlunxin|Cambricon) ")
_SIZE = re.compile(r" (SXM\d?|\d+GB)\b")


class Memory(FrozenModel):
    """One memory size the part is sold with, in GB; driver names that say which size it is."""

    gb: Quantity
    type: Text | None = None
    bandwidth_gb_s: Quantity | None = None
    driver_names: tuple[Name, ...] = ()


class Flag(FrozenModel):
    """Figures that fail the load-time check and are kept all the same, with the reason."""

    figures: Annotated[tuple[Text, ...], Field(min_length=1)]
    why: Why


class Part(FrozenModel):
    """One part. Throughput in TFLOPS (TOPS for int8), dense, of the whole part.

    `devices_per_part` is how many devices a framework sees for one part: MI250X counts as two.
    `nominal_tflops` holds only the figures that replace the datasheet's. `rated_mhz` are the clocks that the
    vendor computes its figures with, and `rate_limited` says why a figure doesn't follow from any clock; both
    are by dtype, with `other` for the rest.
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
    rated_mhz: RatedClocks = Field({})
    tdp_w: Quantity | None = None
    link_gb_s: Quantity | None = None
    rate_limited: Reasons = Field({})
    notes: tuple[Text, ...] = ()
    memory: tuple[Memory, ...] = ()
    dense_tflops: dict[Dtype, Quantity] = Field({})
    nominal_tflops: dict[Dtype, Quantity] = Field({})
    blank: dict[str, Text] = Field({})
    conflicts: tuple[Conflict, ...] = Field((), alias="conflict")
    flags: tuple[Flag, ...] = Field((), alias="flag")

    _file: str = PrivateAttr()
    _flop_per_clock: dict[str, int] = PrivateAttr()
    _sparse: frozenset[str] = PrivateAttr()
    _short_name: str = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: Any, info: ValidationInfo) -> Any:
        """Let the figures, which are validated after this, inherit sources and basis."""
        if isinstance(given, dict):
            inherited = {key: given[key] for key in ("sources", "basis") if key in given}
            get_loading(info).inherited = {"basis": "published", **inherited}
        return given

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and name not in get_loading(info).architecture:
            raise ValueError("an entry of [architecture]")
        return name

    def model_post_init(self, context: Loading) -> None:
        """Keep what the context says of the part: its file and its architecture's rates."""
        self._file = context.file
        architecture = context.architecture[self.architecture] if self.architecture else None
        rates = architecture.flop_per_clock if architecture else {}
        self._flop_per_clock = {str(dtype): rate for dtype, rate in rates.items()}
        self._sparse = frozenset(map(str, architecture.sparse if architecture else ()))
        self._short_name = shorten(self.name)
        if context.short_names.get(self._short_name, self.id) not in (self.id, self.replaces):
            self._short_name = _without_vendor(self.name)
        context.short_names[self._short_name] = self.id

    @property
    def file(self) -> str:
        """The file that the part comes from."""
        return self._file

    @property
    def short_name(self) -> str:
        """The name that screens use: `A800`; with its form and memory where another part has that already."""
        return self._short_name

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
    def sparse_tflops(self) -> Mapping[str, float]:
        """The figures with 2:4 sparsity, by dtype: twice the dense ones where the architecture runs them."""
        return {dtype: 2 * one.value for dtype, one in self.datasheet.items() if dtype in self._sparse}

    def gemm_figure(self, dtype: str) -> str:
        """Return the figure that a matrix product is held to: the matrix unit's where the part has one.

        cuBLAS runs an FP64 product on the tensor cores of A100 and H100, twice as fast as vectors are.
        """
        tensor = f"{dtype}_tensor"
        return tensor if tensor in self.datasheet else dtype

    def rated_clock_mhz(self, dtype: str) -> float | None:
        """Return the clock in MHz that gives the datasheet's figure of a dtype.

        The vendor's own clock where the part has it, else the one computed from the figure. None where
        `rated_clock_absent` has a reason.
        """
        if self.rated_clock_absent(dtype):
            return None
        declared = self.rated_mhz.get(cast("Dtype", dtype)) or self.rated_mhz.get(OTHER)
        return declared.value if declared else self.clock_for(dtype, self.datasheet[dtype].exact)

    def rated_clock_absent(self, dtype: str) -> str | None:
        """Return why a dtype has no rated clock; None where it has one."""
        if limit := self.rate_limit(dtype):
            return f"rate-limited: {limit}"
        if not self.flop_per_clock:
            return "FLOP per clock isn't known for this architecture"
        if dtype not in self.flop_per_clock:
            return f"FLOP per clock isn't known for {dtype} on this architecture"
        if self.multiprocessors is None:
            return f"the number of {self.unit}s isn't known"
        return None if dtype in self.datasheet else f"no {dtype} figure"

    def rate_limit(self, dtype: str) -> str | None:
        """Return why the figure of a dtype can't follow from SMs and clock; None where it does."""
        return self.rate_limited.get(cast("Dtype", dtype)) or self.rate_limited.get(OTHER)

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
        for dtype, quantity in self.rated_mhz.items():
            yield f"rated_mhz.{dtype}", quantity
        for name in ("multiprocessors", "maximum_mhz", "tdp_w", "link_gb_s"):
            if found := getattr(self, name):
                yield name, found

    def names(self) -> Iterator[str]:
        """Yield every name that belongs to this part alone."""
        yield self.name
        yield from self.driver_names
        for memory in self.memory:
            yield from memory.driver_names


def shorten(name: str) -> str:
    """Return the short name people use: `A800` for `NVIDIA A800 SXM4 80GB`; a PCIe card keeps its PCIe.

    Two parts may have the same; `Part.short_name` tells them apart.
    """
    return _SIZE.sub("", _without_vendor(name))


def _without_vendor(name: str) -> str:
    return _VENDOR.sub("", name)
