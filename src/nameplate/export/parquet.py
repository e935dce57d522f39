"""Parquet: typed columns, each with its unit and its meaning in the field's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from nameplate.base.errors import InputError
from nameplate.export.fields import Entry, Field, Kind, list_fields

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 5_000
# Names of pyarrow's `type_for_alias`.
_ARROW_TYPES: Mapping[Kind, str] = {"text": "string", "whole": "int64", "real": "float64", "flag": "bool"}


def write(entries: Iterable[Entry], file: BinaryIO) -> None:
    """Write the rows in batches. A column has its type even where no value in it is known.

    Raises InputError where pyarrow is missing, and for a number that doesn't fit its column's type.
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
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            except (pa.ArrowInvalid, OverflowError) as error:
                raise InputError(
                    f"a value doesn't fit Parquet's types: {error}",
                    where="--format parquet",
                    expected="whole numbers below 2^63; --format csv has room for all",
                ) from error


def _make_arrow_field(field: Field) -> pa.Field:
    import pyarrow as pa

    kind = pa.list_(pa.string()) if field.kind == "texts" else pa.type_for_alias(_ARROW_TYPES[field.kind])
    metadata = {"description": field.column.text}
    if field.column.unit is not None:
        metadata["unit"] = field.column.unit
    return pa.field(field.name, kind, metadata=metadata)
