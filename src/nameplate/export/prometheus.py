"""Prometheus' text format, for node_exporter's textfile collector.

Figures are in base units (FLOP/s, bytes a second, seconds), as Prometheus asks: its linter refuses `_s` and
`_gb`, and dashboards scale from there. A verdict comes and goes, so it is no label of a figure, which would
begin a new series, but a sample of its own to join with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nameplate.export.rows import Entry, Field, fields
from nameplate.export.series import timestamp

_LABELS = ("hostname", "device", "part", "case", "workload", "dtype", "shape", "phase")
_NUMBERS = ("whole", "real")


@dataclass(frozen=True)
class _Base:
    """The base unit for a column's, how many of it make one, and what word of a column's name it stands for.

    `of` is what a column is of that is called by its unit alone.
    """

    unit: str
    factor: float = 1
    word: str = ""
    of: str = ""


_BASES: Mapping[str | None, _Base] = {
    None: _Base(""),
    "TFLOPS": _Base("flops_per_second", 1e12, "tflops", "achieved"),
    "TFLOPS/W": _Base("flops_per_joule", 1e12, "tflops_per_w", "achieved"),
    "FLOP": _Base("flops", 1, "flops", "launch"),
    "B": _Base("bytes", 1, "bytes", "launch"),
    "GB/s": _Base("bytes_per_second", 1e9, "gb_s"),
    "s": _Base("seconds", 1, "s"),
    "W": _Base("watts", 1, "w"),
    "J": _Base("joules", 1, "j"),
    "ratio": _Base("ratio"),
}


class _Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Every metric with its samples, one an entry. What isn't known has no sample, and no label.

    No two entries may be of one machine, device and case.
    """
    known = list(entries)
    yield from _metric("nameplate_record_verdict", "1; the verdict is a label", _verdicts(known))
    yield from _metric("nameplate_run_timestamp_seconds", "when the record's run began", _timestamps(known))
    for field in fields():
        if field.kind in _NUMBERS:
            yield from _metric(metric_name(field), field.column.text, _figures(known, field))


def metric_name(field: Field) -> str:
    """The column's name with its unit's word replaced by the base unit, at the end."""
    base = _BASES[field.column.unit]
    rest = re.sub(rf"(^|_){base.word}(?=_|$)", "", field.name) if base.word else field.name
    of = base.of if base.word and field.name.startswith(base.word) else ""
    return "_".join(filter(None, ("nameplate", of, rest.strip("_"), base.unit)))


def _verdicts(entries: Iterable[Entry]) -> Iterator[_Sample]:
    for entry in entries:
        yield _Sample(_labels(entry, *_LABELS, "status", "verdict"), 1)


def _timestamps(entries: Iterable[Entry]) -> Iterator[_Sample]:
    for entry in entries:
        began = timestamp(entry.row)
        if began is not None:
            yield _Sample(_labels(entry, *_LABELS), began)


def _figures(entries: Iterable[Entry], field: Field) -> Iterator[_Sample]:
    for entry in entries:
        value = entry.row[field.name]
        if value is not None:
            yield _Sample(_labels(entry, *_LABELS), value * _BASES[field.column.unit].factor)


def _labels(entry: Entry, *names: str) -> dict[str, str]:
    return {name: value for name in names if (value := entry.row[name]) is not None}


def _metric(name: str, text: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """HELP and TYPE once, then a line a sample; nothing where there is none."""
    written = [f"{name}{{{_pairs(labels)}}} {value!r}\n" for labels, value in samples]
    if written:
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        yield from written


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    # A line's end is the third that has to be, and no cleaned text holds one.
    return value.replace("\\", r"\\").replace('"', r"\"")
