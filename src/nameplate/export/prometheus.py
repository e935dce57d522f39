"""Prometheus' text format, for node_exporter's textfile collector.

Figures are in base units (FLOP/s, bytes a second, seconds), as Prometheus recommends and its linter checks.
The verdict is a metric of its own that can be joined with the figures. As a label of the figures, each change
of it would begin a new time series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nameplate.export.entries import timestamp_of
from nameplate.export.fields import Entry, Field, list_fields

_LABELS = ("hostname", "device", "part", "case", "workload", "dtype", "shape", "phase")
_NUMBERS = ("whole", "real")

_Labels = Mapping[str, str]


@dataclass(frozen=True)
class _BaseUnit:
    """The base unit of a column's unit, and the factor that converts a value to it.

    `word` is the unit's word in column names, which the metric's name leaves out. `prefix` is put before the
    name of a column that begins with that word, such as `tflops`.
    """

    unit: str
    factor: float = 1
    word: str = ""
    prefix: str = ""


_BASE_UNITS: Mapping[str | None, _BaseUnit] = {
    None: _BaseUnit(""),
    "TFLOPS": _BaseUnit("flops_per_second", 1e12, "tflops", "achieved"),
    "TFLOPS/W": _BaseUnit("flops_per_joule", 1e12, "tflops_per_w", "achieved"),
    "FLOP": _BaseUnit("flops", 1, "flops", "launch"),
    "B": _BaseUnit("bytes", 1, "bytes", "launch"),
    "GB/s": _BaseUnit("bytes_per_second", 1e9, "gb_s"),
    "s": _BaseUnit("seconds", 1, "s"),
    "W": _BaseUnit("watts", 1, "w"),
    "J": _BaseUnit("joules", 1, "j"),
    "ratio": _BaseUnit("ratio"),
}


def format_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield every metric with its samples, one an entry. What isn't known has no sample, and no label.

    No two entries may be of the same machine, device and case.
    """
    known = list(entries)
    verdicts = ((_read_labels(entry, *_LABELS, "status", "verdict"), 1) for entry in known)
    yield from _format_metric("nameplate_record_verdict", "1; the verdict is a label", verdicts)
    trusted = ((_read_labels(entry, *_LABELS), int(entry.record.trusted)) for entry in known)
    yield from _format_metric("nameplate_record_trusted", "1: the record counts by default", trusted)
    measured = ((_read_labels(entry, *_LABELS), int(entry.record.measured)) for entry in known)
    yield from _format_metric("nameplate_record_measured", "0: of a twin, and no measurement", measured)
    starts = ((_read_labels(entry, *_LABELS), timestamp_of(entry.row)) for entry in known)
    yield from _format_metric("nameplate_run_timestamp_seconds", "when the record's run began", starts)
    for field in list_fields():
        if field.kind in _NUMBERS:
            yield from _format_metric(name_metric(field), field.column.text, _list_samples(known, field))


def name_metric(field: Field) -> str:
    """Return the column's name with its unit's word replaced by the base unit, at the end."""
    base = _BASE_UNITS[field.column.unit]
    rest = re.sub(rf"(^|_){base.word}(?=_|$)", "", field.name) if base.word else field.name
    prefix = base.prefix if base.word and field.name.startswith(base.word) else ""
    return "_".join(filter(None, ("nameplate", prefix, rest.strip("_"), base.unit)))


def _list_samples(entries: Iterable[Entry], field: Field) -> Iterator[tuple[_Labels, float | None]]:
    factor = _BASE_UNITS[field.column.unit].factor
    for entry in entries:
        value = entry.row[field.name]
        yield _read_labels(entry, *_LABELS), None if value is None else value * factor


def _read_labels(entry: Entry, *names: str) -> _Labels:
    return {name: value for name in names if (value := entry.row[name]) is not None}


def _format_metric(name: str, text: str, samples: Iterable[tuple[_Labels, float | None]]) -> Iterator[str]:
    """Yield HELP and TYPE, then a line for each known value; nothing where none is known."""
    written = [
        f"{name}{{{_format_labels(labels)}}} {value!r}\n" for labels, value in samples if value is not None
    ]
    if written:
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        yield from written


def _format_labels(labels: _Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    # The format also needs line breaks escaped, but cleaned text has none.
    return value.replace("\\", r"\\").replace('"', r"\"")
