"""What a part is: rated figures, each with the sources it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.messages import Message
from nameplate.base.model import FrozenModel

Basis = Literal["datasheet", "published", "derived", "inferred", "unverified"]
Unit = Literal["SM", "CU", "MME", "core"]

_VENDOR = re.compile(r"^(NVIDIA|AMD|Intel|Huawei|Google) ")
_SIZE = re.compile(r" (SXM\d?|\d+GB)\b")


class Source(FrozenModel):
    """What was read, and when: the date in the source where it has one, else the day of reading."""

    text: Annotated[str, Field(min_length=8)]
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]

    def __str__(self) -> str:
        return f"{self.text} ({self.date})"


@dataclass(frozen=True)
class Quantity:
    """A figure with where it comes from; its unit is in the name of the field that holds it."""

    value: float
    basis: Basis
    sources: tuple[Source, ...]
    note: str | None = None

    @property
    def source(self) -> str:
        """Sources with their dates, and what else must be known of the figure, in one line."""
        said = "; ".join(str(source) for source in self.sources)
        basis = "" if self.basis in ("published", "datasheet") else f"{self.basis}; "
        return f"{basis}{said}" + (f"; {self.note}" if self.note else "")

    @property
    def date(self) -> str:
        """The date of the newest source."""
        return max(source.date for source in self.sources)


@dataclass(frozen=True)
class Memory:
    """One memory size: GB as sold, type, GB/s."""

    gb: Quantity
    type: str | None
    bandwidth_gb_s: Quantity | None
    driver_names: tuple[str, ...]


@dataclass(frozen=True)
class Conflict:
    """What sources disagree on, as `(value, source)` pairs; `used` is None where no value is used."""

    of: str
    values: tuple[tuple[float | str, Source], ...]
    used: float | str | None
    why: str

    def __str__(self) -> str:
        said = ", ".join(f"{format_figure(value)} ({source})" for value, source in self.values)
        used = "none is used" if self.used is None else f"{format_figure(self.used)} is used"
        return f"{self.of}: {said}; {used}: {self.why}"


@dataclass(frozen=True)
class Part:
    """One part of the registry. Throughput in TFLOPS (TOPS for int8), dense, of the whole part.

    `devices_per_part` is how many devices a framework sees for it: MI250X is two. `rated_clock_mhz` is the
    clock that gives the datasheet's figure, computed; where it is None, `rated_clock_absent` says why.
    """

    id: str
    name: str
    vendor: str
    architecture: str | None
    flop_per_clock: Mapping[str, int]
    form: str | None
    unit: Unit
    devices_per_part: int
    multiprocessors: Quantity | None
    maximum_mhz: Quantity | None
    tdp_w: Quantity | None
    link_gb_s: Quantity | None
    rate_limited: str | None
    memory: tuple[Memory, ...]
    datasheet: Mapping[str, Quantity]
    nominal: Mapping[str, Quantity]
    blank: Mapping[str, str]
    conflicts: tuple[Conflict, ...]
    confidence: str | None
    notes: tuple[str, ...]
    driver_names: tuple[str, ...]
    shared_names: tuple[str, ...]
    pci_ids: tuple[str, ...]
    replaces: str | None
    file: str
    flags: tuple[Message, ...] = field(default=())

    @property
    def rated_clock_mhz(self) -> float | None:
        """Datasheet ÷ (SM × FLOP per clock per SM), in MHz."""
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
        """The clock in MHz at which the part's SMs give `tflops`."""
        units = self.multiprocessors.value if self.multiprocessors else 0
        return tflops * 1e6 / (units * self.flop_per_clock[dtype])

    def figures(self) -> Iterator[tuple[str, Quantity]]:
        """Every figure under its key: `dense_tflops.fp16`, `memory[0].gb`, `tdp_w`."""
        for dtype, quantity in self.datasheet.items():
            yield f"dense_tflops.{dtype}", quantity
        for dtype, quantity in self.nominal.items():
            if quantity is not self.datasheet.get(dtype):
                yield f"nominal_tflops.{dtype}", quantity
        for index, memory in enumerate(self.memory):
            yield f"memory[{index}].gb", memory.gb
            if memory.bandwidth_gb_s:
                yield f"memory[{index}].bandwidth_gb_s", memory.bandwidth_gb_s
        for name in ("multiprocessors", "maximum_mhz", "tdp_w", "link_gb_s"):
            if quantity := getattr(self, name):
                yield name, quantity

    def names(self) -> Iterator[str]:
        """Every name that is this part's alone."""
        yield self.name
        yield from self.driver_names
        for memory in self.memory:
            yield from memory.driver_names

    def _clocked(self) -> tuple[str, float]:
        for dtype in ("fp16", "bf16"):
            if dtype in self.datasheet and dtype in self.flop_per_clock:
                return dtype, self.datasheet[dtype].value
        return "", 0.0


def shorten(name: str) -> str:
    """`NVIDIA A800 SXM4 80GB` as people say it: `A800`; a PCIe card keeps its PCIe."""
    return _SIZE.sub("", _VENDOR.sub("", name))


def format_figure(value: float | str) -> str:
    """A figure as a sentence shows it."""
    return value if isinstance(value, str) else f"{value:g}" if value < 1e6 else f"{value:.0f}"
