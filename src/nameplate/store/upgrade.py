"""Upgrade manifests and record lines of older schemas to the present one, before they are validated.

The comment above `SCHEMA` in record/versions.py lists what each schema changed. For a change that older
files don't meet, add a function here, under the older schema's number. Files of all older schemas then pass
through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from nameplate.base.templates import TEXT
from nameplate.record import GRAVITY, METHOD, SCHEMA

Fields = dict[str, Any]
Step = Callable[[Fields], None]  # edits the fields in place; leaves invalid values to the validation
OLDEST = 1
_MOST_QUOTED = 40  # characters of what is no version
_MOST_SENTENCE = 2_000  # of a warning that is searched; ours had some 200


def check_versions(fields: Any) -> None:
    """Raise ValueError for a schema or method that is no number of one, or that a newer Nameplate has.

    A number in quotes is none: taken for this schema, an older file would be read without its upgrade.
    """
    for name, newest in (("schema_version", SCHEMA), ("method", METHOD)):
        version = fields.get(name, OLDEST) if isinstance(fields, dict) else OLDEST
        if type(version) is not int or version < OLDEST:
            raise ValueError(f"{name}: a whole number from {OLDEST} to {newest}, not {_shorten(version)}")
        if version > newest:
            raise ValueError(f"written by a newer Nameplate: {name} {version}, where this one has {newest}")


def _shorten(value: object) -> str:
    said = repr(value)
    return said if len(said) <= _MOST_QUOTED else f"{said[:_MOST_QUOTED]}…"


def is_older(fields: Any) -> TypeGuard[Fields]:
    """Whether an older version wrote these fields; fields without a schema version count as the oldest."""
    version = fields.get("schema_version", OLDEST) if isinstance(fields, dict) else None
    return isinstance(version, int) and OLDEST <= version < SCHEMA


def upgrade_manifest(fields: Fields) -> Fields:
    """Return the fields of an older manifest in the present schema."""
    return _upgrade(fields, _OF_MANIFESTS)


def upgrade_record(fields: Fields) -> Fields:
    """Return the fields of an older record line in the present schema."""
    return _upgrade(fields, _OF_RECORDS)


def _upgrade(fields: Fields, steps: Mapping[int, Sequence[Step]]) -> Fields:
    for older in range(fields.get("schema_version", OLDEST), SCHEMA):
        for step in steps[older]:
            step(fields)
    return fields | {"schema_version": SCHEMA}


def _wrap_sentences_of_record(fields: Fields) -> None:
    """Schema 3: sentences became messages. An old sentence becomes a message of foreign text."""
    for name in ("reason", "loss"):
        _apply(fields, name, _to_message)
    _apply(fields, "warnings", _to_messages)


# The columns of records whose work counts FLOPs.
_OF_FLOPS = (
    *("flops", "convention", "tflops", "tflops_low", "tflops_high", "tflops_median", "nominal_tflops"),
    *("nominal_source", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops"),
    *("datasheet_source", "datasheet_efficiency", "ceiling_tflops", "normalized_efficiency"),
    *("normalized_efficiency_low", "normalized_efficiency_high", "loss", "cpu_time_tflops"),
    *("graph_tflops", "tflops_per_w"),
)


def _drop_flops_of_memory(fields: Fields) -> None:
    """Schema 3: memory-bound work counts no FLOPs, only bytes. Before, a triad counted two FLOPs."""
    if fields.get("workload") == "memory":
        fields.update({name: None for name in _OF_FLOPS if name in fields})
        # The time series from idle is in TFLOPS.
        fields.update({name: [] for name in ("course", "derates") if name in fields})


def _wrap_sentences_of_devices(fields: Fields) -> None:
    """Schema 3, as in records. Sources and evidence stay texts."""
    devices = fields.get("devices")
    for entry in devices if isinstance(devices, list) else ():
        if isinstance(entry, dict):
            _apply(entry, "missing", _to_message)
            _apply(entry, "notes", _to_messages)


_HELD_BY = "clock_held_by_"  # the codes of warnings in schema 3; before, they were sentences
_HELD_TEXT = re.compile(r"the clock was held down .* \((power|[a-z]+ thermal|thermal|power brake)\)")
# Clock-event reasons that are faults.
_FAULTS = {"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown"}


def _split_throttled(fields: Fields) -> None:
    """Schema 4: `throttled` is a fault; being held at the power limit is `power_capped`.

    What held the clock stands in the warnings and in the reasons around the window. A record that names
    neither the power limit nor a fault stays throttled.
    """
    verdicts = fields.get("verdicts")
    if not isinstance(verdicts, list) or "throttled" not in verdicts:
        return
    if any(each not in GRAVITY for each in verdicts):  # no verdict: for the validation to refuse
        return
    conditions, warnings = fields.get("conditions"), fields.get("warnings")
    named = conditions.get("gpu_throttle_reasons") if isinstance(conditions, dict) else None
    reasons = set(named.split()) if isinstance(named, str) else set()
    warned = warnings if isinstance(warnings, list) else []
    held_by = {_name_policy(each) for each in warned if isinstance(each, dict)} - {None}
    capped = "power" in held_by or "sw_power_cap" in reasons
    if not capped:
        return
    found = {*verdicts, "power_capped"}
    if not held_by - {"power"} and not reasons & _FAULTS:
        found.remove("throttled")
    fields["verdicts"] = [each for each in GRAVITY if each in found]
    fields["verdict"] = fields["verdicts"][0]


def _name_policy(warning: Fields) -> str | None:
    """Return what a warning says held the clock down, such as `power`; None for other warnings."""
    code, values = warning.get("code"), warning.get("values")
    if isinstance(code, str) and code.startswith(_HELD_BY):
        return code.removeprefix(_HELD_BY)
    said = values.get("text") if code == TEXT and isinstance(values, dict) else None
    found = _HELD_TEXT.search(said[:_MOST_SENTENCE]) if isinstance(said, str) else None
    return found and found.group(1)


def _rate_clocks_by_dtype(fields: Fields) -> None:
    """Schema 4: each dtype has its own rated clock. The one clock before it was that of fp16 and bf16."""
    devices = fields.get("devices")
    for entry in devices if isinstance(devices, list) else ():
        clock = entry.get("rated_clock_mhz") if isinstance(entry, dict) else None
        if isinstance(clock, int | float):
            entry["rated_clock_mhz"] = dict.fromkeys(("fp16", "bf16"), clock)
        elif clock is None and isinstance(entry, dict):
            entry.pop("rated_clock_mhz", None)


def _name_interval_within(fields: Fields) -> None:
    """Schema 5: intervals are run-to-run, of several processes. Older ones are within the one process.

    TFLOPS/W has ends, which are as far from it as those of TFLOPS.
    """
    if fields.get("status") != "ok":
        return
    fields.update({"processes": 1, "interval_kind": "within"})
    found = [fields.get(name) for name in ("tflops_per_w", "tflops", "tflops_low", "tflops_high")]
    known = [each for each in found if isinstance(each, int | float) and each > 0]
    if len(known) == len(found):
        per_w, tflops, low, high = known
        fields.update({"tflops_per_w_low": per_w * low / tflops, "tflops_per_w_high": per_w * high / tflops})


def _name_convention_by_its_key(fields: Fields) -> None:
    """Schema 6: a block's convention has the name that it has among all conventions."""
    if fields.get("convention") == "Megatron":
        fields["convention"] = "megatron"


def _apply(fields: Fields, name: str, change: Callable[[Any], Any]) -> None:
    if name in fields:
        fields[name] = change(fields[name])


def _to_messages(found: Any) -> Any:
    return list(map(_to_message, found)) if isinstance(found, list) else found


def _to_message(found: Any) -> Any:
    return {"code": TEXT, "values": {"text": found}} if isinstance(found, str) else found


# The steps from each schema to the next.
_OF_RECORDS: Mapping[int, Sequence[Step]] = {
    1: (),
    2: (_wrap_sentences_of_record, _drop_flops_of_memory),
    3: (_split_throttled,),
    4: (_name_interval_within,),
    5: (_name_convention_by_its_key,),
}
_OF_MANIFESTS: Mapping[int, Sequence[Step]] = {
    1: (),
    2: (_wrap_sentences_of_devices,),
    3: (_rate_clocks_by_dtype,),
    4: (),
    5: (),
}
