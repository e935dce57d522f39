"""pytest-benchmark's JSON as a side: `pytest … --benchmark-json=FILE`, or a file of its storage.

Such a file has no conditions and no verdicts. One entry that can't be used costs the others nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nameplate.base.errors import InputError
from nameplate.base.files import MIB, parse_json, read_bytes
from nameplate.base.messages import Message, message
from nameplate.base.model import Amount, Positive, PositiveCount, describe_first_error
from nameplate.compare.results import PYTEST_BENCHMARK, CaseResult, MetricValue, RunResults
from nameplate.stats.interval import CONFIDENCE, Interval

EXPECTED = "pytest-benchmark's JSON"
MOST_BYTES = 128 * MIB
MOST_ENTRIES = 20_000


class _Model(BaseModel):
    """A part of the file. Keys that aren't declared here are ignored: the file is another tool's."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Stats(_Model):
    mean: Positive  # seconds a round
    stddev: Amount
    rounds: PositiveCount


class _Benchmark(_Model):
    fullname: str
    stats: _Stats
    extra_info: dict[str, Any] | None = None


class _File(_Model):
    benchmarks: list[Any]  # each is validated by itself
    machine_info: dict[str, Any]
    commit_info: dict[str, Any] | None = None
    version: str | None = None


def results_of_file(path: Path) -> RunResults:
    """Read a file. The metric is calls a second, by the mean time of a round.

    An entry that can't be used, and all entries of a name that is there twice, are results without a figure;
    an entry without a name is one of the `problems`. Raises InputError where the file can't be read or used.
    """
    try:
        file = _File.model_validate(parse_json(read_bytes(path, MOST_BYTES), any_number=True))
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", where=str(path), expected=EXPECTED) from error
    except ValueError as error:
        why = describe_first_error(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"can't be used: {why}", where=str(path), expected=EXPECTED) from None
    if not 0 < len(file.benchmarks) <= MOST_ENTRIES:
        raise InputError(
            "can't be used: its number of benchmarks",
            where=str(path),
            got=len(file.benchmarks),
            expected=f"{EXPECTED} with 1 to {MOST_ENTRIES}",
        )
    device, part = _identify_device(file.machine_info)
    problems: list[Message] = []
    cases = tuple(_list_results(file.benchmarks, device, part, problems))
    return RunResults(path.name, PYTEST_BENCHMARK, cases, _list_facts(file, part), tuple(problems))


def _list_results(
    entries: list[Any], device: str, part: str, problems: list[Message]
) -> Iterator[CaseResult]:
    names = Counter(_name_of(entry) for entry in entries)
    for number, entry in enumerate(entries, start=1):
        name = _name_of(entry)
        if name is None:
            problems.append(message("entry_without_name", number=number))
            continue
        count, names[name] = names[name], 0
        if count == 1:
            yield _result_of(name, entry, device, part)
        elif count:  # the first of several: it isn't known which one counts
            problem = message("entry_repeated", name=name, count=count)
            problems.append(problem)
            yield CaseResult(name, device, PYTEST_BENCHMARK, part, "unreadable", problem)


def _name_of(entry: Any) -> str | None:
    name = entry.get("fullname") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else None


def _result_of(name: str, entry: Any, device: str, part: str) -> CaseResult:
    try:
        found = _Benchmark.model_validate(entry)
    except ValidationError as error:
        reason = message("entry_unusable", why=describe_first_error(error))
        return CaseResult(name, device, PYTEST_BENCHMARK, part, "unreadable", reason)
    convention = (found.extra_info or {}).get("convention")
    return CaseResult(
        name,
        device,
        PYTEST_BENCHMARK,
        part,
        work="" if convention is None else f"FLOPs by {convention}",
        metrics={"achieved": MetricValue(_estimate_calls_per_second(found.stats), "calls/s")},
    )


def _estimate_calls_per_second(stats: _Stats) -> Interval:
    """1 ÷ mean, with the interval of independent rounds. Rounds are autocorrelated, so it is too narrow."""
    from scipy.special import ndtri

    error = stats.stddev / stats.mean / math.sqrt(stats.rounds)
    return Interval.from_log_half_width(1 / stats.mean, float(ndtri((1 + CONFIDENCE) / 2)) * error)


def _identify_device(machine: dict[str, Any]) -> tuple[str, str]:
    """Return device and part: as our own bench/conftest.py writes them, else the processor's name."""
    ours = _get_table(machine, "nameplate")
    cpu = _get_table(machine, "cpu")
    processor = cpu.get("brand_raw") or machine.get("processor") or machine.get("machine") or "unknown"
    return str(ours.get("device") or "cpu"), str(ours.get("part") or processor)


def _list_facts(file: _File, part: str) -> dict[str, str]:
    machine = file.machine_info
    found = {
        "host": machine.get("node"),
        "python": machine.get("python_version"),
        "platform": machine.get("release"),
        "part": part,
        "commit": (file.commit_info or {}).get("id"),
        "pytest-benchmark": file.version,
        **_get_table(_get_table(machine, "nameplate"), "software"),
    }
    return {name: str(value) for name, value in found.items() if value}


def _get_table(table: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the table of that name, empty where there is none."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}
