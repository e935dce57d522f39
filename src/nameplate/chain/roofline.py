"""The roofline: the most that each measured case could reach, by its FLOPs a byte (S. Williams, A. Waterman
and D. Patterson, Roofline, Communications of the ACM 52(4), 2009).

A device's arithmetic gives each dtype a roof of its own, its memory one for all: bandwidth × FLOPs a byte.
Work is bound by the lower of the two. Bytes are the least that a launch must move, so work whose operands
stay in a cache may lie above the memory's roof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nameplate.record import MAIN_MEMORY, Record

# STREAM's four; a read or a write alone is no measure of a memory that does both.
_STREAM = ("copy", "scale", "add", "triad")
_GIGA, _TERA = 1e9, 1e12

Bound = Literal["memory", "compute"]


@dataclass(frozen=True)
class MemoryRoof:
    """A device's main memory: the fastest of STREAM's kinds that a run measured, or else its rated
    bandwidth.
    """

    gb_s: float
    case: str | None  # None: it is rated


@dataclass(frozen=True)
class Placed:
    """A case under its roofs. `tflops` may lie above `roof_tflops` where a cache saves the memory's bytes."""

    record: Record
    flop_per_byte: float
    compute_tflops: float
    is_silicon: bool  # whether that is the limit of the silicon, and not a nominal figure
    memory: MemoryRoof

    @property
    def memory_tflops(self) -> float:
        """What the memory allows."""
        return self.memory.gb_s * _GIGA * self.flop_per_byte / _TERA

    @property
    def bound(self) -> Bound:
        """Which roof is the lower one."""
        return "memory" if self.memory_tflops < self.compute_tflops else "compute"

    @property
    def roof_tflops(self) -> float:
        """The lower of the two roofs."""
        return min(self.memory_tflops, self.compute_tflops)

    @property
    def share(self) -> float:
        """Achieved ÷ the roof."""
        return (self.record.tflops or 0.0) / self.roof_tflops

    def as_json(self) -> dict[str, Any]:
        """The place of the case as a JSON row."""
        return {
            "case": self.record.case,
            "device": self.record.device,
            "flop_per_byte": self.flop_per_byte,
            "bound": self.bound,
            "tflops": self.record.tflops,
            "roof_tflops": self.roof_tflops,
            "of_roof": self.share,
            "compute_tflops": self.compute_tflops,
            "compute_is": "silicon" if self.is_silicon else "nominal",
            "memory": asdict(self.memory),
        }


def kind_of(record: Record) -> str:
    """Return what memory work does, such as `copy`: the first word of its shape."""
    return record.shape.split("-")[0]


def find_memory_roof(records: Sequence[Record], device: str) -> MemoryRoof | None:
    """Return the main memory of a device: trusted records first; None where none was measured, nor is any
    rated.
    """
    moved = [
        each
        for each in records
        if each.device == device and each.memory_level == MAIN_MEMORY and not each.is_wrong
    ]
    measured = [each for each in moved if each.bandwidth_gb_s is not None and kind_of(each) in _STREAM]
    if measured:
        best = max(measured, key=lambda each: (each.trusted, each.bandwidth_gb_s or 0.0))
        return MemoryRoof(best.bandwidth_gb_s or 0.0, best.case)
    rated = next((each.nominal_gb_s for each in moved if each.nominal_gb_s is not None), None)
    return None if rated is None else MemoryRoof(rated, None)


def place_cases(records: Sequence[Record]) -> list[Placed]:
    """Return every case that counts FLOPs and bytes and has both roofs; wrong results are left out."""
    found = []
    for record in records:
        compute = record.silicon_tflops or record.nominal_tflops
        memory = find_memory_roof(records, record.device)
        if not (record.flops and record.bytes and record.tflops and compute and memory) or record.is_wrong:
            continue
        found.append(
            Placed(record, record.flops / record.bytes, compute, record.silicon_tflops is not None, memory)
        )
    return found
