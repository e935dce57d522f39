"""Manifests and record lines of older schemas, brought to the shape of this one before they are validated.

What a schema changed stands above `SCHEMA` in record.py. A change that older files don't meet is one more
function here, under the schema that it brings to the next; files of every older schema then pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from nameplate.base.messages import TEXT
from nameplate.record import SCHEMA

Fields = dict[str, Any]
Step = Callable[[Fields], None]  # edits the fields in place; what it can't use it leaves to validation
OLDEST = 1


def is_older(fields: Any) -> TypeGuard[Fields]:
    """Whether these are the fields of something that an older version wrote; what says no schema counts."""
    version = fields.get("schema_version", OLDEST) if isinstance(fields, dict) else None
    return isinstance(version, int) and OLDEST <= version < SCHEMA


def upgrade_manifest(fields: Fields) -> Fields:
    """The fields of an older manifest as this schema has them."""
    return _upgraded(fields, _OF_MANIFESTS)


def upgrade_record(fields: Fields) -> Fields:
    """The fields of an older record line as this schema has them."""
    return _upgraded(fields, _OF_RECORDS)


def _upgraded(fields: Fields, steps: Mapping[int, Sequence[Step]]) -> Fields:
    for older in range(fields.get("schema_version", OLDEST), SCHEMA):
        for step in steps[older]:
            step(fields)
    return fields | {"schema_version": SCHEMA}


def _wrap_sentences_of_record(fields: Fields) -> None:
    """Schema 3: sentences became messages; an old one stays what it is, word by word."""
    for name in ("reason", "loss"):
        _replace(fields, name, _message)
    _replace(fields, "warnings", _messages)


# What a record has where its work counts FLOPs.
_OF_FLOPS = (
    *("flops", "convention", "tflops", "tflops_low", "tflops_high", "tflops_median", "nominal_tflops"),
    *("nominal_source", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops"),
    *("datasheet_source", "datasheet_efficiency", "ceiling_tflops", "normalized_efficiency"),
    *("normalized_efficiency_low", "normalized_efficiency_high", "loss", "cpu_time_tflops"),
    *("graph_tflops", "tflops_per_w"),
)


def _drop_flops_of_memory(fields: Fields) -> None:
    """Schema 3: work that memory bounds counts no FLOPs; its bandwidth stays. A triad used to count two."""
    if fields.get("workload") == "memory":
        fields.update({name: None for name in _OF_FLOPS if name in fields})
        # The curve from idle, where there is one, is in TFLOPS.
        fields.update({name: [] for name in ("course", "derates") if name in fields})


def _wrap_sentences_of_devices(fields: Fields) -> None:
    """Schema 3, as in a record. Sources and evidence are texts in either schema."""
    devices = fields.get("devices")
    for entry in devices if isinstance(devices, list) else ():
        if isinstance(entry, dict):
            _replace(entry, "missing", _message)
            _replace(entry, "notes", _messages)


def _replace(fields: Fields, name: str, change: Callable[[Any], Any]) -> None:
    if name in fields:
        fields[name] = change(fields[name])


def _messages(found: Any) -> Any:
    return list(map(_message, found)) if isinstance(found, list) else found


def _message(found: Any) -> Any:
    return {"code": TEXT, "values": {"text": found}} if isinstance(found, str) else found


# By the schema that each brings to the next.
_OF_RECORDS: Mapping[int, Sequence[Step]] = {
    1: (),
    2: (_wrap_sentences_of_record, _drop_flops_of_memory),
}
_OF_MANIFESTS: Mapping[int, Sequence[Step]] = {1: (), 2: (_wrap_sentences_of_devices,)}
