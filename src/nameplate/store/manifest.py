"""The manifest: what a run set out to measure, on what, with what; written before the first case."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from nameplate.base.messages import Message, Reason, text
from nameplate.base.model import FrozenModel
from nameplate.device.identity import Identity
from nameplate.record import METHOD, SCHEMA
from nameplate.specs.rating import Figure, Rating

# What becomes a folder's name; a manifest is a file from outside.
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def moment(text: str) -> datetime | None:
    """The moment that an ISO 8601 text gives, in UTC (also where it names no zone); None for no moment."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


class DeviceEntry(FrozenModel):
    """A device of the run: what was seen (`identity`), what it was taken for by which evidence, and the
    figures it is rated by, so that a resumed run divides by the same ones.
    """

    name: str
    part: FolderName | None
    evidence: Reason
    nominal: Mapping[str, Figure] = {}
    datasheet: Mapping[str, Figure] = {}
    missing: Message = text("")
    notes: tuple[Message, ...] = ()
    rated_clock_mhz: float | None = None
    identity: Identity

    @property
    def rating(self) -> Rating:
        """The rating the run was begun with, the user's --nominal included."""
        return Rating(
            self.part,
            self.evidence,
            self.nominal,
            self.datasheet,
            self.missing,
            self.notes,
            self.rated_clock_mhz,
        )

    def summary(self) -> dict[str, Any]:
        """The entry as plain JSON values: sentences in place of messages."""
        return {
            **self.model_dump(mode="json"),
            "evidence": str(self.evidence),
            "nominal": _sourced(self.nominal),
            "datasheet": _sourced(self.datasheet),
            "missing": str(self.missing),
            "notes": [str(note) for note in self.notes],
        }


def _sourced(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {
        dtype: {"tflops": figure.tflops, "source": str(figure.source)} for dtype, figure in figures.items()
    }


class Expected(FrozenModel):
    """A case that a run sets out to measure, and on which of its devices."""

    case: str
    device: str


class Options(FrozenModel):
    """The flags that shaped the run; a resumed run keeps them."""

    device: str = "auto"
    only: str | None = None
    budget_s: float | None = None
    nominal: Mapping[str, float] = {}


class Manifest(FrozenModel):
    """One run. `cases` are expected; a run is complete when each has a record.

    On one device `cases` are plain ids; on several, each entry names its device too.
    """

    schema_version: int = SCHEMA
    method: int = METHOD
    run: FolderName
    suite: str
    created: str
    hostname: str
    devices: Annotated[tuple[DeviceEntry, ...], Field(min_length=1)]
    software: Mapping[str, str | None]
    options: Options = Options()
    seed: int
    cases: tuple[str | Expected, ...]
    published: bool = False  # host name, serial and UUID are hashes

    @property
    def expected(self) -> tuple[Expected, ...]:
        """Every case with its device, in the order of `cases`."""
        return tuple(
            Expected(case=entry, device=self.devices[0].name) if isinstance(entry, str) else entry
            for entry in self.cases
        )

    @property
    def moment(self) -> datetime:
        """When the run began, UTC; the beginning of time where `created` holds no moment."""
        return moment(self.created) or datetime.min.replace(tzinfo=UTC)

    def entry(self, device: str) -> DeviceEntry:
        """The device of that name. Raises KeyError where the run has none."""
        return {entry.name: entry for entry in self.devices}[device]

    def summary(self) -> dict[str, Any]:
        """The manifest as plain JSON values: sentences in place of messages."""
        return {**self.model_dump(mode="json"), "devices": [entry.summary() for entry in self.devices]}
