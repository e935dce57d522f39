"""A record as a row of an export: fields that identify its run, then the columns of `record.columns`.

The identifying fields are declared here, once. The exporters, the published JSON Schema and the table in
docs/export.md follow this declaration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from nameplate.base.messages import Message
from nameplate.base.text import plain
from nameplate.models.conventions import SHOWN
from nameplate.record import Column, Ends, Record, column_type, columns, flatten_value, structured_columns
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest

# The type of a field's values; `texts` is a list of text.
Kind = Literal["text", "whole", "real", "flag", "texts"]

_KINDS: Mapping[type, Kind] = {str: "text", Message: "text", int: "whole", float: "real", bool: "flag"}


@dataclass(frozen=True)
class Entry:
    """A record with the manifest of its run."""

    manifest: Manifest
    record: Record

    @cached_property
    def device(self) -> DeviceEntry | None:
        """The device it was measured on; None where the manifest has no device of that name."""
        return next((each for each in self.manifest.devices if each.name == self.record.device), None)

    @cached_property
    def row(self) -> dict[str, Any]:
        """Every field by name: plain text, finite numbers and lists of text; None for what isn't known."""
        # Most columns of most records hold nothing.
        return {
            field.name: None if (value := field.read(self)) is None else clean(value)
            for field in list_fields()
        }

    def identity(self) -> dict[str, Any]:
        """Return the fields that identify the run."""
        return {field.name: clean(field.read(self)) for field in IDENTITY}


@dataclass(frozen=True)
class Field:
    """One column of a row: its meaning and unit, the type of its values, and how it is read from an entry."""

    name: str
    column: Column
    kind: Kind
    read: Callable[[Entry], Any]


def _from_manifest(name: str) -> Callable[[Entry], Any]:
    return lambda entry: getattr(entry.manifest, name)


def _from_device(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.device and getattr(entry.device.identity, name, None)


def _from_software(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.manifest.software.get(name)


def _from_record(name: str) -> Callable[[Entry], Any]:
    if name not in structured_columns():
        return attrgetter(f"record.{name}")
    return lambda entry: flatten_value(getattr(entry.record, name))


IDENTITY: tuple[Field, ...] = (
    Field("run", Column("the run's id; run, device and case identify a row"), "text", _from_manifest("run")),
    Field("suite", Column("the suite that was measured"), "text", _from_manifest("suite")),
    Field("created", Column("when the run began, UTC"), "text", _from_manifest("created")),
    Field("hostname", Column("the machine; a published run's is a hash"), "text", _from_manifest("hostname")),
    Field(
        "boot",
        Column("names a boot of the machine, as a hash if published"),
        "text",
        _from_manifest("boot"),
    ),
    Field("published", Column("whether it's a published copy"), "flag", _from_manifest("published")),
    Field(
        "device_name", Column("the device's name, by the system or the driver"), "text", _from_device("name")
    ),
    Field("device_uuid", Column("a GPU's UUID; a published run's is a hash"), "text", _from_device("uuid")),
    Field("power_limit_w", Column("the power limit in force", "W", 0), "real", _from_device("power_limit_w")),
    Field("driver_version", Column("the GPU driver's version"), "text", _from_device("driver")),
    Field("torch_version", Column("torch's version, with its CUDA"), "text", _from_software("torch")),
    Field(
        "nameplate_version",
        Column("the Nameplate version that measured"),
        "text",
        _from_software("nameplate"),
    ),
)


@cache
def list_fields() -> tuple[Field, ...]:
    """Return every field of a row in order: those that identify the run, then the record's columns."""
    return (*IDENTITY, *(field for name, column in columns().items() for field in _fields_of(name, column)))


def _fields_of(name: str, column: Column) -> list[Field]:
    """Return the field of a column; of one that holds the ends of an interval, a field for each end, and of
    one by convention a field for each convention.

    Which figure ends are of, and so their unit, differs from row to row; as fractions of it they have none.
    """
    if any(get_origin(each) is dict for each in get_args(column_type(name))):
        return [
            Field(
                f"{name}_{convention}",
                replace(column, text=f"{column.text}: {convention}"),
                "real",
                _read_convention(name, convention),
            )
            for convention in SHOWN
        ]
    if Ends not in get_args(column_type(name)):
        return [Field(name, column, _kind_of(column_type(name)), _from_record(name))]
    return [
        Field(
            f"{name}_{end}_of_figure",
            replace(column, text=f"{which} end ÷ figure: {column.text}", unit="ratio"),
            "real",
            _read_end(name, end),
        )
        for end, which in (("low", "lower"), ("high", "upper"))
    ]


def _read_convention(name: str, convention: str) -> Callable[[Entry], Any]:
    def read(entry: Entry) -> Any:
        found: dict[str, float] | None = getattr(entry.record, name)
        return None if found is None else float(found[convention])

    return read


def _read_end(name: str, end: str) -> Callable[[Entry], Any]:
    def read(entry: Entry) -> Any:
        ends: Ends | None = getattr(entry.record, name)
        return None if ends is None else getattr(ends, end) / getattr(entry.record, ends.figure)

    return read


def _kind_of(annotation: Any) -> Kind:
    """Return the kind of a column by its type in `Record`. Raises KeyError for a type without a kind."""
    if get_origin(annotation) in (Union, UnionType):
        (kind,) = {_kind_of(each) for each in get_args(annotation) if each is not NoneType}
        return kind
    if get_origin(annotation) is Literal:
        return "text"
    return "texts" if get_origin(annotation) is tuple else _KINDS[annotation]


def make_entries(runs: Iterable[Run]) -> Iterator[Entry]:
    """Yield the records of these runs, each with its run's manifest."""
    return (Entry(run.manifest, record) for run in runs for record in run.records)


def clean(value: Any) -> Any:
    """Return the value with printable text and finite numbers only, also inside lists and dicts.

    NaN and infinity, which a manifest may hold, become None: not known.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # `plain` leaves printable text as it is; this test is much faster.
        return value if value.isprintable() else plain(value)
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(each) for each in value]
    return value
