"""The rating of a device: nominal and datasheet figures per dtype, each with its source or a reason.

The registry of parts and the CPU tables both produce a `Rating`. The engine divides by it without knowing
where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.messages import Message, Reason, message, own_text
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.figure import Quantity, is_same_figure
from nameplate.specs.part import Memory, Part
from nameplate.specs.physics import describe_flags
from nameplate.specs.recognition import Evidence, identify
from nameplate.specs.registry import load_registry

_NO_RATING = message("no_rating")
# GT/s a lane and the share of the bits that carry data, by generation (PCI-SIG, PCI Express Base
# Specification 6.0: 8b/10b up to generation 2, 128b/130b up to 5, flits of 242 in 256 bytes in 6).
_PCIE_LANES = {
    1: (2.5, 8 / 10),
    2: (5.0, 8 / 10),
    3: (8.0, 128 / 130),
    4: (16.0, 128 / 130),
    5: (32.0, 128 / 130),
    6: (64.0, 242 / 256),
}
# Parts whose host is behind NVLink-C2C: PCIe is not their link to it, though the driver reports one.
_COHERENT = ("gh200", "gb200", "gb300")
# Formats that a vendor has one figure for. NVIDIA's "FP8" is of both formats, on Blackwell with blocks of
# scales too, and "FP4" is nvfp4's (NVIDIA Hopper and Blackwell architecture papers).
_RATED_AS = {"fp8_e5m2": "fp8_e4m3", "mxfp8": "fp8_e4m3", "nvfp4": "fp4"}
# Bases of a figure: of --nominal, of a measurement, of a table of CPUs.
GIVEN, MEASURED, TABLE = "given", "measured", "table"


@dataclass(frozen=True)
class Figure:
    """A rated throughput in TFLOPS and its source, a citation; without a figure, `source` is the reason.

    `basis` is where it comes from: a table (a CPU's), a measurement, the user (`given`), or what kind of
    source a part's figure has. `low` and `high` are the ends of its 95 % interval where it was measured, also
    in part; None: it has none. `instruction` and `clock_mhz` say what a CPU's figure is of.
    """

    tflops: float | None
    source: Reason
    basis: str | None = None
    low: float | None = None
    high: float | None = None
    instruction: str | None = None
    clock_mhz: float | None = None


@dataclass(frozen=True)
class Rating:
    """The figures of a device per dtype. `part` is None where no part was recognised.

    The tables may lack a dtype, or have it as None with a reason of its own.
    """

    part: str | None
    evidence: Reason  # the evidence for the part (text), or why none was recognised (a message)
    nominal: Mapping[str, Figure] = field(default_factory=dict)
    datasheet: Mapping[str, Figure] = field(default_factory=dict)
    missing: Message = _NO_RATING  # the reason for a dtype in neither table
    notes: tuple[Message, ...] = ()  # reservations about these figures
    # The clock in MHz that gives the datasheet's figure, by dtype, where it is known.
    rated_clock_mhz: Mapping[str, float] = field(default_factory=dict)
    memory_gb_s: float | None = None  # the memory's rated bandwidth; None: not known
    sparse: Mapping[str, float] = field(default_factory=dict)  # the figures with 2:4 sparsity, in TFLOPS
    silicon: Silicon | None = None  # the arithmetic peak of a CPU, measured; None: not measured

    def nominal_for(self, dtype: str) -> Figure:
        """Return the figure that achieved throughput is divided by, or None with the reason."""
        return self.nominal.get(dtype, Figure(None, self.missing))

    def datasheet_for(self, dtype: str) -> Figure:
        """Return the vendor's own figure, or None with the reason."""
        return self.datasheet.get(dtype, Figure(None, self.missing))

    def silicon_for(self, dtype: str) -> Peak | None:
        """Return the physical limit, measured: the fastest instruction path; None where there is none."""
        return None if self.silicon is None else self.silicon.peak(dtype)

    @property
    def rated_dtypes(self) -> frozenset[str]:
        """Dtypes that have a nominal figure."""
        return frozenset(dtype for dtype, figure in self.nominal.items() if figure.tflops is not None)

    def with_nominal(self, given: Mapping[str, float]) -> Rating:
        """Return a rating with the user's nominal figures, in TFLOPS; the datasheet's stay.

        Raises InputError for a figure with 2:4 sparsity: products here are dense, so it would halve every
        efficiency.
        """
        for dtype, tflops in given.items():
            self._check_dense(dtype, tflops)
        mine = {dtype: Figure(tflops, "given by --nominal", GIVEN) for dtype, tflops in given.items()}
        return replace(self, nominal={**self.nominal, **mine})

    def with_mix(self, dtype: str, flops: Mapping[str, int]) -> Rating:
        """Return a rating whose figures of `dtype` hold for work that has FLOPs of several dtypes.

        That is all FLOPs ÷ the time they take where each dtype runs at its own figure: ΣF ÷ Σ(F_d ÷ peak_d).
        None, with the reason, where a dtype has no figure. The rated clock stays where all dtypes share it.
        """
        clocks = {self.rated_clock_mhz.get(each) for each in flops}
        kept = {name: clock for name, clock in self.rated_clock_mhz.items() if name != dtype}
        clock = next(iter(clocks))
        if len(clocks) == 1 and clock is not None:
            kept[dtype] = clock
        return replace(
            self,
            nominal={**self.nominal, dtype: _mix([self.nominal_for(each) for each in flops], flops)},
            datasheet={**self.datasheet, dtype: _mix([self.datasheet_for(each) for each in flops], flops)},
            rated_clock_mhz=kept,
        )

    def _check_dense(self, dtype: str, tflops: float) -> None:
        rated = [self.sparse[dtype]] if dtype in self.sparse else []
        nominal, datasheet = self.nominal_for(dtype).tflops, self.datasheet_for(dtype).tflops
        if rated and nominal:
            rated.append(2 * nominal)
        if not any(is_same_figure(tflops, sparse) for sparse in rated):
            return
        dense = " or ".join(f"{value:g}" for value in dict.fromkeys((nominal, datasheet)) if value)
        expected = f"the dense figure of {self.part}, {dense}"
        other = self.datasheet_for(f"{dtype}_acc16").tflops
        if other and is_same_figure(tflops, other):
            expected += f" ({dtype} accumulates in fp32; {other:g} is also the dense {dtype}_acc16)"
        raise InputError(
            f"a figure with 2:4 sparsity, twice the dense one; no dense {dtype} product reaches it",
            where="--nominal",
            got=f"{dtype}={tflops:g}",
            expected=expected,
        )


def _mix(figures: Sequence[Figure], flops: Mapping[str, int]) -> Figure:
    """Return the figure of FLOPs by dtype, from that of each, in the same order."""
    seconds = 0.0
    for each, count in zip(figures, flops.values(), strict=True):
        if each.tflops is None:
            return each
        seconds += count / each.tflops
    whole = sum(flops.values())
    shares = ", ".join(f"{name} {count / whole:.1%}" for name, count in flops.items())
    bases = {each.basis for each in figures}
    basis = bases.pop() if len(bases) == 1 else None
    return Figure(whole / seconds, message("mixed_rating", shares=shares), basis)


def rate_host_link(part: str | None, generation: int | None, lanes: int | None) -> float | None:
    """Return what a PCIe link carries in one direction, in GB/s, before headers; None where it isn't known,
    and for a part that has another link to its host.
    """
    if generation not in _PCIE_LANES or not lanes or any(name in (part or "") for name in _COHERENT):
        return None
    rate, share = _PCIE_LANES[generation]
    return rate * share * lanes / 8


def rate_evidence(evidence: Evidence, extra: Sequence[str | Path] = ()) -> Rating:
    """Rate the device that the evidence identifies; without a part where none is recognised.

    `extra` are files of parts besides the shipped ones. Raises InputError for a bad file.
    """
    found = identify(evidence, load_registry(extra))
    if found.part is None:
        return Rating(
            None,
            message("name_not_recognised", name=evidence.name, why=found.why),
            missing=message("give_nominal", why=found.why),
        )
    return rate_part(found.part, found.why, found.memory)


def rate_part(part: Part, evidence: Reason, memory: Memory | None = None) -> Rating:
    """Return the rating of one of the part's devices (MI250X has two), in TFLOPS.

    A dtype's figure is the matrix unit's where the part has one besides the vector units' (`gemm_figure`).
    `evidence` is stored as it is. `memory` is the device's size, where the part is sold in several.
    """
    memory = memory or (part.memory[0] if len(part.memory) == 1 else None)
    bandwidth = memory.bandwidth_gb_s if memory else None
    blank = {
        conflict.of.removeprefix("dense_tflops."): Figure(None, str(conflict))
        for conflict in part.conflicts
        if conflict.of.startswith("dense_tflops.") and conflict.used is None
    }
    return Rating(
        part.id,
        evidence,
        nominal={**_rate(part, part.nominal), **blank},
        datasheet={**_rate(part, part.datasheet), **blank},
        missing=message("dtype_unsourced", part=part.name),
        notes=tuple(_notes(part)),
        rated_clock_mhz=dict(_rate_clocks(part)),
        memory_gb_s=bandwidth.value / part.devices_per_part if bandwidth else None,
        sparse={dtype: value / part.devices_per_part for dtype, value in part.sparse_tflops.items()},
    )


def _rate(part: Part, quantities: Mapping[str, Quantity]) -> dict[str, Figure]:
    """The figures of one of the part's devices."""
    count = part.devices_per_part
    figures = {}
    for dtype in quantities:
        key = part.gemm_figure(dtype)
        quantity = quantities[key]
        share = "" if count == 1 else f"1/{count} of {quantity.value:g}, the part's; "
        unit = "" if key == dtype else f"{key}: "
        figures[dtype] = Figure(quantity.value / count, unit + share + quantity.source, quantity.basis)
    for dtype, rated in _RATED_AS.items():
        if rated in figures and dtype not in figures:
            source = figures[rated].source
            figures[dtype] = replace(figures[rated], source=f"that of {rated}: {source}")
    return figures


def _rate_clocks(part: Part) -> Iterator[tuple[str, float]]:
    """Yield the rated clock in MHz of each dtype that has one, of the figure that products are held to."""
    figures = {dtype: dtype for dtype in part.datasheet}
    figures |= {
        dtype: rated for dtype, rated in _RATED_AS.items() if rated in figures and dtype not in figures
    }
    for dtype, rated in figures.items():
        clock = part.rated_clock_mhz(part.gemm_figure(rated))
        if clock is not None:
            yield dtype, clock


def _notes(part: Part) -> Iterator[Message]:
    yield from describe_flags(part)
    if part.devices_per_part > 1:
        yield message("part_is_several_devices", part=part.name, count=part.devices_per_part)
    for conflict in part.conflicts:
        if conflict.of.startswith(("dense_tflops.", "nominal_tflops.")):
            yield message("sources_disagree", conflict=str(conflict))
    if part.confidence and part.confidence.startswith("low"):
        yield message(
            "confidence", confidence=own_text(part.confidence) if part.is_shipped else part.confidence
        )
