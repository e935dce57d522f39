"""Parquet: typed columns, each with its unit and meaning in the field's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from nameplate.base.errors import InputError
from nameplate.export.rows import Entry, Field, Kind, fields

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 5_000
# By the names that pyarrow's own `type_for_alias` knows.
_TYPES: Mapping[Kind, str] = {"text": "string", "whole": "int64", "real": "float64", "flag": "bool"}


def write(entries: Iterable[Entry], file: BinaryIO) -> None:
    """Write the rows, a few thousand at once; a column has its type also where nothing in it is known.

    Raises InputError where pyarrow is missing, and for a number too large for the column.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("Parquet needs pyarrow; pip install 'nameplate[export]'") from error
    schema = pa.schema([_field(field) for field in fields()])
    rows = iter(entries)
    with pq.ParquetWriter(file, schema) as writer:
        while some := [entry.row for entry in islice(rows, _ROWS_AT_ONCE)]:
            try:
                writer.write_batch(pa.RecordBatch.from_pylist(some, schema))
            except (pa.ArrowInvalid, OverflowError) as error:
                raise InputError(
                    f"a value doesn't fit Parquet's types: {error}",
                    where="--format parquet",
                    expected="whole numbers below 2^63; --format csv has room for all",
                ) from error


def _field(field: Field) -> pa.Field:
    import pyarrow as pa

    kind = pa.list_(pa.string()) if field.kind == "texts" else pa.type_for_alias(_TYPES[field.kind])
    metadata = {"description": field.column.text}
    if field.column.unit is not None:
        metadata["unit"] = field.column.unit
    return pa.field(field.name, kind, metadata=metadata)
