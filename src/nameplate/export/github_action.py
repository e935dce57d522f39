"""The JSON that github-action-benchmark reads as `tool: customBiggerIsBetter`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nameplate.export.entries import label_series, select_newest_with
from nameplate.export.fields import Entry
from nameplate.record import columns

# The figure of a case is the first of these that is known, with the ends of its interval.
_FIGURES = (
    ("tflops", "tflops_low", "tflops_high"),
    ("bandwidth_gb_s", "bandwidth_low_gb_s", "bandwidth_high_gb_s"),
)
_EXTRA = ("efficiency", "nominal_tflops", "interval_kind", "verdict", "trusted", "measured", "part", "run")


def select(entries: Iterable[Entry], problems: list[str]) -> list[Entry]:
    """Return the newest records that have TFLOPS or GB/s. Raises InputError where none has."""
    return select_newest_with(entries, problems, lambda entry: _find_figure(entry.row) is not None)


def format_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield one list with an object a record: TFLOPS, or GB/s for work without FLOPs, ± half its interval."""
    known = list(entries)
    labels = label_series(known)
    benchmarks = [_make_benchmark(name, entry.row) for name, entry in zip(labels, known, strict=True)]
    yield json.dumps(benchmarks, indent=2, allow_nan=False) + "\n"


def _find_figure(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    return next((figure for figure in _FIGURES if row[figure[0]] is not None), None)


def _make_benchmark(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = _find_figure(row) or _FIGURES[0]
    return {
        "name": name,
        "unit": columns()[value].unit,
        "value": row[value],
        "range": f"± {(row[high] - row[low]) / 2:.3g}",
        "extra": "\n".join(f"{key}: {_format(key, row[key])}" for key in _EXTRA if row[key] is not None),
    }


def _format(name: str, value: Any) -> str:
    column = columns().get(name)
    return str(value) if column is None else column.format(value)
