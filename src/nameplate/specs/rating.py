"""What a device is rated for: nominal and datasheet figures per dtype, each with its source or its absence.

The registry and the CPU tables produce a `Rating`; the engine divides by it and knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nameplate.base.messages import Message, Reason, message

_NO_RATING = message("no_rating")


@dataclass(frozen=True)
class Figure:
    """A rated throughput in TFLOPS with its source, a citation; or None, and then `source` says why."""

    tflops: float | None
    source: Reason


@dataclass(frozen=True)
class Rating:
    """A part's figures per dtype. `part` is None for a device that was taken for no known part.

    A dtype may be absent from the tables, or there with None and its own reason.
    """

    part: str | None
    evidence: Reason  # what the part was recognised by (text), or why it wasn't (a message)
    nominal: Mapping[str, Figure] = field(default_factory=dict)
    datasheet: Mapping[str, Figure] = field(default_factory=dict)
    missing: Message = _NO_RATING  # the reason for a dtype in neither table
    notes: tuple[Message, ...] = ()  # what a reader must know of these figures
    rated_clock_mhz: float | None = None  # at which the silicon gives the datasheet's figure; None: not known

    def nominal_for(self, dtype: str) -> Figure:
        """The figure achieved is compared with, or None with the reason."""
        return self.nominal.get(dtype, Figure(None, self.missing))

    def datasheet_for(self, dtype: str) -> Figure:
        """The vendor's own figure, or None with the reason."""
        return self.datasheet.get(dtype, Figure(None, self.missing))

    @property
    def rated_dtypes(self) -> frozenset[str]:
        """Dtypes that have a nominal figure."""
        return frozenset(dtype for dtype, figure in self.nominal.items() if figure.tflops is not None)

    def with_nominal(self, given: Mapping[str, float]) -> Rating:
        """Replace nominal figures by the user's, in TFLOPS; the datasheet's stay."""
        mine = {dtype: Figure(tflops, "given by --nominal") for dtype, tflops in given.items()}
        return replace(self, nominal={**self.nominal, **mine})
