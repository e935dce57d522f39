"""The looks of pytest-benchmark's JSON: `pytest … --benchmark-json=FILE`, or a file of its storage.

What is compared is the mean time of a round: more calls a second are better. pytest-benchmark tells nothing
of the conditions, and has no verdicts.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nameplate.base.errors import InputError
from nameplate.compare.looks import Basis, Figure, Look, Taken
from nameplate.stats.interval import CONFIDENCE, Interval

KIND = "pytest-benchmark"
EXPECTED = "pytest-benchmark's JSON"


class _Outside(BaseModel):
    """A part of the file; what it holds beside these is nobody's business here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Stats(_Outside):
    mean: Annotated[float, Field(gt=0)]  # seconds
    stddev: Annotated[float, Field(ge=0)]
    rounds: Annotated[int, Field(ge=1)]


class _Benchmark(_Outside):
    fullname: str
    stats: _Stats
    extra_info: dict[str, Any] = {}


class _File(_Outside):
    benchmarks: tuple[_Benchmark, ...]
    machine_info: dict[str, Any]
    commit_info: dict[str, Any] = {}
    datetime: str
    version: str


def read_file(path: Path) -> Taken:
    """Read one file. Raises InputError where it can't be read or isn't pytest-benchmark's."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", where=str(path), expected=EXPECTED) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        said = f"{key}: {first['msg']}" if key else str(first["msg"])
        raise InputError(f"can't be used: {said}", where=str(path), expected=EXPECTED) from None
    device, part = _device(file.machine_info)
    looks = tuple(_look(each, device, part) for each in file.benchmarks)
    return Taken(path.name, KIND, looks, _facts(file, part))


def _look(each: _Benchmark, device: str, part: str) -> Look:
    convention = each.extra_info.get("convention")
    work = "" if convention is None else f"FLOPs by {convention}"
    figures: dict[Basis, Figure] = {"achieved": Figure(_calls_a_second(each.stats), "calls/s")}
    return Look(each.fullname, device, KIND, part, work=work, figures=figures)


def _calls_a_second(stats: _Stats) -> Interval:
    """With its interval by the rounds' scatter, as if they were independent; they hang together."""
    from scipy.special import ndtri

    error = stats.stddev / stats.mean / math.sqrt(stats.rounds)
    half = float(ndtri((1 + CONFIDENCE) / 2)) * error
    value = 1 / stats.mean
    return Interval(value, value * math.exp(-half), value * math.exp(half))


def _device(machine: dict[str, Any]) -> tuple[str, str]:
    """The device and its part; our own conftest writes them, others' files name the processor."""
    ours = _table(machine, "nameplate")
    cpu = _table(machine, "cpu")
    processor = cpu.get("brand_raw") or machine.get("processor") or machine.get("machine") or "unknown"
    return str(ours.get("device") or "cpu"), str(ours.get("part") or processor)


def _facts(file: _File, part: str) -> dict[str, str]:
    machine = file.machine_info
    told = {
        "host": machine.get("node"),
        "python": machine.get("python_version"),
        "platform": machine.get("release"),
        "part": part,
        "commit": file.commit_info.get("id"),
        "pytest-benchmark": file.version,
        **_table(_table(machine, "nameplate"), "software"),
    }
    return {name: str(value) for name, value in told.items() if value}


def _table(of: dict[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}
