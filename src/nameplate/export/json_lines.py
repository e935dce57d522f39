"""JSON Lines: a whole record a line, with the fields that identify its run; and the schema of such a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, create_model

from nameplate.base.messages import Message
from nameplate.export.fields import IDENTITY, Entry, Kind, clean
from nameplate.record import Column, Record, column_type, columns

# As published in docs/schema; `schema_version` tells which of its versions.
SCHEMA_FILE = "record.schema.json"
_JSON_TYPES: Mapping[Kind, str] = {"text": "string", "real": "number", "flag": "boolean"}


def format_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield one JSON object a line, in ASCII; what isn't known is null."""
    for entry in entries:
        # The record holds messages; `flatten` has their sentences in place of them.
        record = entry.record.model_dump(mode="json") | entry.record.flatten()
        line = {"$schema": SCHEMA_FILE, **entry.identity(), **clean(record)}
        yield json.dumps(line, allow_nan=False) + "\n"


def make_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line, as published in docs/schema/record.schema.json.

    Every line has every key. A record that is `ok` has a time; any other has a reason.
    """
    record = _model_with_sentences().model_json_schema(mode="serialization")
    derived = {
        name: TypeAdapter(column_type(name)).json_schema()
        for name in columns()
        if name not in record["properties"]
    }
    identity = {
        field.name: {"type": [_JSON_TYPES[field.kind], "null"], **_describe(field.column)}
        for field in IDENTITY
    }
    own = {
        name: one | _describe(columns().get(name)) for name, one in (record["properties"] | derived).items()
    }
    properties = {"$schema": {"const": SCHEMA_FILE}, **identity, **own}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **record,
        "title": "A line of `bench export --format jsonl`",
        "description": "One case in one run, with what identifies the run. What isn't known is null.",
        "properties": properties,
        "required": list(properties),
        "if": {"properties": {"status": {"const": "ok"}}},
        "then": {"properties": {"time_s": {"type": "number", "exclusiveMinimum": 0}}},
        "else": {"properties": {"reason": {"type": "string", "minLength": 1}, "time_s": {"type": "null"}}},
    }


def _model_with_sentences() -> type[Record]:
    """Return `Record` with text fields in place of its message fields."""
    texts: dict[str, Any] = {
        name: (tuple[str, ...], ()) if get_origin(column_type(name)) is tuple else (str | None, None)
        for name in columns()
        if Message in get_args(column_type(name))
    }
    return create_model("Record", __base__=Record, __doc__=Record.__doc__, **texts)


def _describe(column: Column | None) -> dict[str, str]:
    if column is None:
        return {}
    return {"description": column.text} | ({} if column.unit is None else {"unit": column.unit})
