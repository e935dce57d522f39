"""A record as a row: what identifies its run, then the columns of `record.columns`, cleaned for any medium.

What identifies a run is declared here, once, as `Record` declares its columns: the exporters, their types,
the published JSON Schema and the table in docs/export.md follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from nameplate.base.messages import Message
from nameplate.base.text import plain
from nameplate.record import Column, Record, column_type, columns, flatten_value
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest

Kind = Literal["text", "whole", "real", "flag", "texts"]
Row = dict[str, Any]

_KINDS: Mapping[type, Kind] = {str: "text", Message: "text", int: "whole", float: "real"}


@dataclass(frozen=True)
class Entry:
    """A record with the run that it is of."""

    manifest: Manifest
    record: Record

    @cached_property
    def device(self) -> DeviceEntry | None:
        """The device it was measured on; None where the manifest has none of that name."""
        return next((each for each in self.manifest.devices if each.name == self.record.device), None)

    @cached_property
    def row(self) -> Row:
        """Every field by name: plain text, finite numbers, lists of text; None where not known."""
        return {field.name: clean(field.read(self)) for field in fields()}

    def identity(self) -> Row:
        """What identifies the run, alone."""
        return {field.name: clean(field.read(self)) for field in IDENTITY}


@dataclass(frozen=True)
class Field:
    """One column of a row: what it means (`column`), what it holds, and where its value is found."""

    name: str
    column: Column
    kind: Kind
    read: Callable[[Entry], Any]


def _of_manifest(name: str) -> Callable[[Entry], Any]:
    return lambda entry: getattr(entry.manifest, name)


def _of_device(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.device and getattr(entry.device.identity, name, None)


def _of_software(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.manifest.software.get(name)


IDENTITY: tuple[Field, ...] = (
    Field("run", Column("the run's id; with device and case it names a row"), "text", _of_manifest("run")),
    Field("suite", Column("what was run"), "text", _of_manifest("suite")),
    Field("created", Column("when the run began, UTC"), "text", _of_manifest("created")),
    Field("hostname", Column("the machine; a published run's is a hash"), "text", _of_manifest("hostname")),
    Field("published", Column("whether it's a published copy"), "flag", _of_manifest("published")),
    Field("device_name", Column("as the system or the driver names the device"), "text", _of_device("name")),
    Field("device_uuid", Column("a GPU's own; a published run's is a hash"), "text", _of_device("uuid")),
    Field("power_limit_w", Column("the limit in force", "W", 0), "real", _of_device("power_limit_w")),
    Field("driver_version", Column("the GPU driver's"), "text", _of_device("driver")),
    Field("torch_version", Column("what ran the work, with its CUDA"), "text", _of_software("torch")),
    Field("nameplate_version", Column("what measured"), "text", _of_software("nameplate")),
)


@cache
def fields() -> tuple[Field, ...]:
    """Every column of a row, in order: what identifies the run, then the record's own."""
    return (*IDENTITY, *(_of_record(name, column) for name, column in columns().items()))


def entries(runs: Iterable[Run]) -> Iterator[Entry]:
    """The records of these runs, each with its run."""
    return (Entry(run.manifest, record) for run in runs for record in run.records)


def clean(value: Any) -> Any:
    """Return the value as any medium may have it: printable text and finite numbers, in lists and dicts too.

    NaN and infinity, which a manifest may hold, are None: not known.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # What is printable is what `plain` leaves as it is, and far quicker found.
        return value if value.isprintable() else plain(value)
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(each) for each in value]
    return value


def _of_record(name: str, column: Column) -> Field:
    return Field(
        name, column, _kind(column_type(name)), lambda entry: flatten_value(getattr(entry.record, name))
    )


def _kind(annotation: Any) -> Kind:
    """What a column holds, by how `Record` declares it. KeyError for a type that no row has held yet."""
    if get_origin(annotation) in (Union, UnionType):
        (kind,) = {_kind(each) for each in get_args(annotation) if each is not NoneType}
        return kind
    if get_origin(annotation) is Literal:
        return "text"
    return "texts" if get_origin(annotation) is tuple else _KINDS[annotation]
