"""JSON Lines: a whole record a line, with what identifies its run, and the schema of such a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, create_model

from nameplate.base.messages import Message
from nameplate.export.rows import IDENTITY, Entry, Kind, clean
from nameplate.record import Column, Record, column_type, columns

# As published in docs/schema; `schema_version` tells which of its versions.
SCHEMA_FILE = "record.schema.json"
_TYPES: Mapping[Kind, str] = {"text": "string", "real": "number", "flag": "boolean"}


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """One JSON object a line, in ASCII; what isn't known is null."""
    for entry in entries:
        # A record's own line holds messages; whoever reads this one gets their sentences.
        whole = entry.record.model_dump(mode="json") | entry.record.flatten()
        line = {"$schema": SCHEMA_FILE, **entry.identity(), **clean(whole)}
        yield json.dumps(line, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of a line, as published in docs/schema/record.schema.json.

    Every key is there in every line. A record that is `ok` has a time; any other, a reason.
    """
    record = _exported().model_json_schema(mode="serialization")
    derived = {
        name: TypeAdapter(column_type(name)).json_schema()
        for name in columns()
        if name not in record["properties"]
    }
    identity = {
        field.name: {"type": [_TYPES[field.kind], "null"], **_said(field.column)} for field in IDENTITY
    }
    own = {name: one | _said(columns().get(name)) for name, one in (record["properties"] | derived).items()}
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


def _exported() -> type[Record]:
    """A record as a line holds it: with text where the record itself has messages."""
    texts: dict[str, Any] = {
        name: (tuple[str, ...], ()) if get_origin(column_type(name)) is tuple else (str | None, None)
        for name in columns()
        if Message in get_args(column_type(name))
    }
    return create_model("Record", __base__=Record, __doc__=Record.__doc__, **texts)


def _said(column: Column | None) -> dict[str, str]:
    if column is None:
        return {}
    return {"description": column.text} | ({} if column.unit is None else {"unit": column.unit})
