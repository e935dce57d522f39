"""Earlier runs of the same machine, method and cases, which say how much figures vary from run to run.

The caller of a run finds them (`find_earlier_runs`), and the run's manifest names them; the process that
measures reads what they say (`read_earlier`). So a record can be checked later, and a resumed run goes on
with the same ones. Both read little: a folder of two hundred runs takes a fraction of a second.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from nameplate.base.errors import InputError
from nameplate.base.files import MIB, read_lines
from nameplate.engine.run_to_run import TIME, earlier_run_of
from nameplate.record import METHOD, Spread
from nameplate.stats.between import EarlierRun
from nameplate.store.folder import DONE, list_record_files, read_manifest
from nameplate.store.manifest import DeviceEntry, Manifest

MOST_RUNS = 20  # the newest ones; older ones say less of the machine as it is
_MOST_LOOKED_AT = 100  # manifests, the newest first
# Bytes of records that are read of one run. The largest run here has 3 MB.
_MOST_BYTES = 16 * MIB
# Budgets of one class: with half the time a process's own mean is known less well, and scatters more.
_BUDGET_FACTOR = 2.0
# Verdicts of records that say nothing of the machine.
_WRONG = frozenset({"contradictory", "unverified", "above_peak"})
# What is raised where a line isn't what our writer makes; a number of 400 digits is an ArithmeticError.
_UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)


def find_earlier_runs(results: Path, run: Manifest, budget_s: float, usual_s: float) -> tuple[str, ...]:
    """Return the ids of the latest finished runs in `results` that are like `run`, the newest first.

    Alike are runs of one suite, method and torch, of a device of `run`, with a budget from half to twice
    `budget_s`; `usual_s` is the budget of a run that was given none. What can't be read is passed over.
    """
    found: list[str] = []
    for name in _list_run_names(results, run)[:_MOST_LOOKED_AT]:
        with suppress(InputError):
            other = read_manifest(results / name)
            if _is_like(other, run, budget_s, usual_s) and os.path.exists(results / name / DONE):
                found.append(name)
        if len(found) == MOST_RUNS:
            break
    return tuple(found)


def _list_run_names(results: Path, run: Manifest) -> list[str]:
    """Return the folders that may hold a run of this suite, the newest first: an id begins with its time."""
    try:
        names = os.listdir(results)
    except OSError:
        return []
    return sorted((each for each in names if f"-{run.suite}-" in each and each != run.run), reverse=True)


def _is_like(other: Manifest, run: Manifest, budget_s: float, usual_s: float) -> bool:
    ratio = (other.options.budget_s or usual_s) / budget_s
    return (
        other.method == run.method == METHOD
        and other.suite == run.suite
        and not other.published
        and other.software.get("torch") == run.software.get("torch")
        and 1 / _BUDGET_FACTOR <= ratio <= _BUDGET_FACTOR
        and any(_find_same(other, entry) is not None for entry in run.devices)
    )


def _find_same(other: Manifest, entry: DeviceEntry) -> str | None:
    """Return the name that another run has for a device; None where it didn't measure it."""
    same = (each.name for each in other.devices if each.part == entry.part and _is_same(each, entry))
    return next(same, None)


def _is_same(one: DeviceEntry, other: DeviceEntry) -> bool:
    return one.identity.kind == other.identity.kind and one.identity.is_same_device(other.identity)


def read_earlier(
    results: Path, runs: Sequence[str], entry: DeviceEntry, *, without: frozenset[str] = frozenset()
) -> Mapping[tuple[str, str], Sequence[EarlierRun]]:
    """Return what runs in `results` say of a device, by case and figure; what can't be read is left out.

    So are wrong records, and those with a verdict of `without`.
    """
    found: dict[tuple[str, str], list[EarlierRun]] = {}
    for name in runs:
        folder = results / name
        with suppress(InputError, OSError):
            manifest = read_manifest(folder)
            device = _find_same(manifest, entry)
            for figure in _read_figures(folder, without) if device is not None else ():
                if figure.device == device:
                    with suppress(*_UNUSABLE):
                        earlier = figure.as_earlier(manifest.began.timestamp())
                        found.setdefault((figure.case, figure.name), []).append(earlier)
    return found


@dataclass(frozen=True)
class _Figure:
    """A figure of a case with its spread, in a line of records."""

    device: str
    case: str
    name: str
    value: float
    spread: Spread

    def as_earlier(self, began_s: float) -> EarlierRun:
        return earlier_run_of(began_s, self.value, self.spread)


def _read_figures(folder: Path, without: frozenset[str]) -> Iterator[_Figure]:
    """Yield the figures of a run's records that have a spread, without validating the rest of them."""
    left = _MOST_BYTES
    for path in list_record_files(folder, []):
        for line in read_lines(path, _MOST_BYTES, inside=folder):
            left -= len(line or b"")
            if left < 0:
                return
            if line is not None and line.endswith(b"\n"):
                with suppress(*_UNUSABLE):
                    yield from _figures_of(from_json(line), _WRONG | without)


def _figures_of(fields: dict[str, Any], excluded: frozenset[str]) -> list[_Figure]:
    if fields["status"] != "ok" or fields["method"] != METHOD or excluded & set(fields["verdicts"]):
        return []
    found = []
    # Of a case that stands for the fastest of many, another run may have found another shape: what compares
    # is its time for the same work.
    work = fields["flops"] or fields["bytes"] or 1
    for name, spread in fields["spreads"].items():
        value = float(fields[name]) / (work if name == TIME else 1)
        if value > 0 and math.isfinite(value):
            found.append(
                _Figure(fields["device"], fields["case"], name, value, Spread.model_validate(spread))
            )
    return found
