"""The manifest: what a run set out to measure, on what, with what; written before the first case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nameplate.device.identity import Identity
from nameplate.record import METHOD, SCHEMA
from nameplate.specs.rating import Figure, Rating


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DeviceEntry(_Frozen):
    """A device of the run: what was seen (`identity`), what it was taken for by which evidence, and the
    figures it is rated by, so that a resumed run divides by the same ones.
    """

    name: str
    part: str | None
    evidence: str
    nominal: Mapping[str, Figure] = {}
    datasheet: Mapping[str, Figure] = {}
    missing: str = ""
    notes: tuple[str, ...] = ()
    identity: Identity

    @property
    def rating(self) -> Rating:
        """The rating the run was begun with, the user's --nominal included."""
        return Rating(self.part, self.evidence, self.nominal, self.datasheet, self.missing, self.notes)


class Options(_Frozen):
    """The flags that shaped the run; a resumed run keeps them."""

    device: str = "auto"
    only: str | None = None
    budget_s: float | None = None
    nominal: Mapping[str, float] = {}


class Manifest(_Frozen):
    """One run. `cases` are the ids expected; a run is complete when each has a record."""

    schema_version: int = SCHEMA
    method: int = METHOD
    run: str
    suite: str
    created: str
    hostname: str
    devices: Annotated[tuple[DeviceEntry, ...], Field(min_length=1)]
    software: Mapping[str, str | None]
    options: Options = Options()
    seed: int
    cases: tuple[str, ...]
    published: bool = False  # host name, serial and UUID are hashes

    def summary(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return self.model_dump(mode="json")
