"""The JSON that pytest-benchmark saves, for tools that read it: `pytest-benchmark compare`, and CI services.

A round is one batch of a record, with the batch's mean seconds a launch; an iteration is one launch.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nameplate.export.entries import label_series, select_newest_with, timestamp_of
from nameplate.export.fields import Entry, clean

_MEASURES = "seconds a launch; a round is the mean of one batch of back-to-back launches"
_PARAMETERS = ("dtype", "shape", "fill", "cache", "phase", "backend", "device")


def select(entries: Iterable[Entry], problems: list[str]) -> list[Entry]:
    """Return the newest records that have batches. Raises InputError where none has."""
    return select_newest_with(entries, problems, lambda entry: bool(entry.record.batches))


def format_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield one document. Machine and date are those of the newest run; a run knows no commit."""
    known = list(entries)
    labels = label_series(known)
    latest = max(known, key=lambda entry: timestamp_of(entry.row) or 0.0)
    document = {
        "machine_info": _describe_machine(latest),
        "commit_info": {
            "id": "unknown",
            "time": None,
            "author_time": None,
            "dirty": None,
            "branch": "unknown",
        },
        "benchmarks": [_make_benchmark(name, entry) for name, entry in zip(labels, known, strict=True)],
        "datetime": latest.row["created"],
        "version": f"nameplate {latest.row['nameplate_version']}",
    }
    yield json.dumps(document, indent=2, allow_nan=False) + "\n"


def _describe_machine(entry: Entry) -> dict[str, Any]:
    software = clean(entry.manifest.software)
    return {
        "node": entry.row["hostname"],
        "processor": entry.row["device_name"],
        "platform": software.get("platform"),
        "python_version": software.get("python"),
    }


def _make_benchmark(name: str, entry: Entry) -> dict[str, Any]:
    batches = entry.record.batches
    launches = round(sum(batch.launches for batch in batches) / len(batches))
    times_s = [batch.elapsed_s / batch.launches for batch in batches]
    return {
        "group": entry.row["workload"],
        "name": name,
        "fullname": name,
        "params": {key: entry.row[key] for key in _PARAMETERS},
        "param": entry.row["shape"],
        "extra_info": {"measures": _MEASURES, **entry.row},
        "options": {"timer": f"nameplate, method {entry.record.method}"},
        "stats": {**_compute_stats(times_s), "iterations": launches},
    }


def _compute_stats(data: Sequence[float]) -> dict[str, Any]:
    """Return pytest-benchmark's statistics of the rounds, in seconds, by its definitions."""
    mean = statistics.fmean(data)
    deviation = statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _compute_quartiles(sorted(data))
    fence = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    by_deviation = _count_outside(data, mean - deviation, mean + deviation)
    by_quartiles = _count_outside(data, *fence)
    inside = [each for each in data if fence[0] <= each <= fence[1]]
    return {
        "min": min(data),
        "max": max(data),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": by_quartiles,
        "stddev_outliers": by_deviation,
        "outliers": f"{by_deviation};{by_quartiles}",
        "ld15iqr": min(inside),
        "hd15iqr": max(inside),
        "ops": 1 / mean,
        "total": sum(data),
        "data": list(data),
    }


def _compute_quartiles(data: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the lower and the upper half.

    Of an odd number of values: the mean of the medians with and without the middle value.
    """
    short, long = len(data) // 2, len(data) - len(data) // 2
    if short == 0:
        return data[0], data[0]
    halves = (data[:short], data[:long]), (data[-short:], data[-long:])
    q1, q3 = (statistics.fmean(map(statistics.median, pair)) for pair in halves)
    return q1, q3


def _count_outside(data: Iterable[float], low: float, high: float) -> int:
    return sum(not low <= each <= high for each in data)
