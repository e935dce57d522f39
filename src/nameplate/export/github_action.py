"""What github-action-benchmark reads as `tool: customBiggerIsBetter`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.export.rows import Entry, Row
from nameplate.export.series import figured, names
from nameplate.record import columns

# What stands for a case, the first that is known; either is better when larger.
_FIGURES = (
    ("tflops", "tflops_low", "tflops_high"),
    ("bandwidth_gb_s", "bandwidth_low_gb_s", "bandwidth_high_gb_s"),
)
_EXTRA = ("efficiency", "nominal_tflops", "verdict", "part", "run")


def choose(entries: Iterable[Entry], problems: list[str]) -> list[Entry]:
    """The newest records that have TFLOPS or GB/s. InputError where there is none."""
    return figured(entries, problems, lambda entry: _figure(entry.row) is not None)


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """One list, an object a record: TFLOPS, or GB/s where the work has no FLOPs, ± half its 95 % interval."""
    known = list(entries)
    benchmarks = [_benchmark(name, entry.row) for name, entry in zip(names(known), known, strict=True)]
    yield json.dumps(benchmarks, indent=2, allow_nan=False) + "\n"


def _figure(row: Row) -> tuple[str, str, str] | None:
    return next((figure for figure in _FIGURES if row[figure[0]] is not None), None)


def _benchmark(name: str, row: Row) -> dict[str, Any]:
    value, low, high = _figure(row) or _FIGURES[0]
    return {
        "name": name,
        "unit": columns()[value].unit,
        "value": row[value],
        "range": f"± {(row[high] - row[low]) / 2:.3g}",
        "extra": "\n".join(f"{key}: {_said(key, row[key])}" for key in _EXTRA if row[key] is not None),
    }


def _said(name: str, value: Any) -> str:
    column = columns().get(name)
    return str(value) if column is None else column.format(value)
