"""Parquet: typed columns, each with its unit and its meaning in the field's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from nameplate.base.errors import InputError
from nameplate.export.fields import Entry, Field, Kind, list_fields

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 5_000
_LARGEST = 2**63
# Names of pyarrow's `type_for_alias`.
_ARROW_TYPES: Mapping[Kind, str] = {"text": "string", "whole": "int64", "real": "float64", "flag": "bool"}


def write(entries: Iterable[Entry], file: BinaryIO, problems: list[str]) -> None:
    """Write the rows in batches. A column has its type even where no value in it is known.

    A whole number of 2^63 or more, such as the FLOPs of a case that was skipped for its size, is null; it is
    named in `problems`. Raises InputError where pyarrow is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("Parquet needs pyarrow; pip install 'nameplate[export]'") from error
    schema = pa.schema([_make_arrow_field(field) for field in list_fields()])
    remaining = iter(entries)
    with pq.ParquetWriter(file, schema) as writer:
        while rows := [entry.row for entry in islice(remaining, _ROWS_AT_ONCE)]:
            try:
                batch = pa.RecordBatch.from_pylist(rows, schema)
            except (pa.ArrowInvalid, OverflowError):  # rare, so no other row is looked at
                batch = pa.RecordBatch.from_pylist([_drop_huge(row, problems) for row in rows], schema)
            writer.write_batch(batch)


def _drop_huge(row: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return a row without whole numbers that Parquet's 64 bits don't hold."""
    huge = [name for name, value in row.items() if isinstance(value, int) and abs(value) >= _LARGEST]
    problems += [
        f"run {row['run']}: {name} of {row['case']} is 2^63 or more and null here; CSV has room for it"
        for name in huge
    ]
    return {**row, **dict.fromkeys(huge)}


def _make_arrow_field(field: Field) -> pa.Field:
    import pyarrow as pa

    kind = pa.list_(pa.string()) if field.kind == "texts" else pa.type_for_alias(_ARROW_TYPES[field.kind])
    metadata = {"description": field.column.text}
    if field.column.unit is not None:
        metadata["unit"] = field.column.unit
    return pa.field(field.name, kind, metadata=metadata)
