"""What a device is rated for: nominal and datasheet figures per dtype, each with its source or its absence.

The registry and the CPU tables produce a `Rating`; the engine divides by it and knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nameplate.base.messages import Message, Reason, message, ours
from nameplate.specs.part import Part, Quantity
from nameplate.specs.physics import describe_flags
from nameplate.specs.recognition import Evidence, identify
from nameplate.specs.registry import load_registry

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


def rate_evidence(evidence: Evidence, extra: Sequence[str | Path] = ()) -> Rating:
    """What one device is rated for, per dtype in TFLOPS; a Rating without a part where none was recognised.

    Where a part counts several devices (MI250X: two), the figures are one device's. `fp64` is the matrix
    unit's figure where the part has one. Raises InputError for a file of parts that fails.
    """
    found = identify(evidence, load_registry(extra))
    if found.part is None:
        return Rating(
            None,
            message("name_not_recognised", name=evidence.name, why=found.why),
            missing=message("give_nominal", why=found.why),
        )
    return rate_part(found.part, found.why)


def rate_part(part: Part, evidence: Reason) -> Rating:
    """The rating of one of the part's devices; `evidence` says what the part was recognised by."""
    absent = {dtype: Figure(None, reason) for dtype, reason in _absent(part)}
    return Rating(
        part.id,
        evidence,
        nominal={**_figures(part, part.nominal), **absent},
        datasheet={**_figures(part, part.datasheet), **absent},
        missing=message("dtype_unsourced", part=part.name),
        notes=tuple(_notes(part)),
        rated_clock_mhz=part.rated_clock_mhz,
    )


def _figures(part: Part, quantities: Mapping[str, Quantity]) -> dict[str, Figure]:
    figures = {str(dtype): _figure(part, quantity) for dtype, quantity in quantities.items()}
    if "fp64_tensor" in figures:
        # A product in fp64 runs on the matrix unit: its rate is what there is to reach.
        figures["fp64"] = figures["fp64_tensor"]
    return figures


def _figure(part: Part, quantity: Quantity) -> Figure:
    if part.devices_per_part == 1:
        return Figure(quantity.value, quantity.source)
    share = f"1/{part.devices_per_part} of {quantity.value:g}, the part's; "
    return Figure(quantity.value / part.devices_per_part, share + quantity.source)


def _absent(part: Part) -> Iterator[tuple[str, str]]:
    """Dtypes left blank on purpose, with the reason: a conflict in which no value is used."""
    for conflict in part.conflicts:
        table, _, dtype = conflict.of.partition(".")
        if table == "dense_tflops" and conflict.used is None:
            yield dtype, str(conflict)


def _notes(part: Part) -> Iterator[Message]:
    yield from describe_flags(part)
    if part.devices_per_part > 1:
        yield message("part_is_several_devices", part=part.name, count=part.devices_per_part)
    for conflict in part.conflicts:
        if conflict.of.startswith(("dense_tflops.", "nominal_tflops.")):
            yield message("sources_disagree", conflict=str(conflict))
    if part.confidence and part.confidence.startswith("low"):
        yield message("confidence", confidence=ours(part.confidence) if part.is_shipped else part.confidence)
