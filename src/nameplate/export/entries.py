"""Which records an export holds: runs found and read, figures that compare, the newest of each case."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError
from nameplate.export.fields import Entry
from nameplate.store.find import Results, find_all
from nameplate.store.folder import Run, read_run
from nameplate.store.manifest import parse_time

# Figures of one case compare only where these agree.
_COUNTS = ("convention", "flops", "bytes")
# What identifies a time series of figures.
_SERIES_KEY = ("hostname", "device", "case")


def find_folders(names: Iterable[str | os.PathLike[str]], results: Results = None) -> list[Path]:
    """Return the run folders of these names: each is a run, as `find_run` finds it, or a folder of runs.

    Raises InputError for a name without a run.
    """
    return [folder for name in names for folder in find_all(name, results, or_else="a folder of runs")]


def read_runs(folders: Iterable[Path], problems: list[str]) -> Iterator[Run]:
    """Yield the run of each folder; of several with one id (a run and its published copy) only the first.

    Adds to `problems` what was passed over: runs, torn lines, foreign records. Raises the first run's
    InputError where no run can be read.
    """
    # By run id: the folder, and which (device, case) it has records of.
    seen: dict[str, tuple[Path, set[tuple[str, str]]]] = {}
    first_error: InputError | None = None
    for folder in folders:
        try:
            run = read_run(folder)
        except InputError as error:
            first_error = first_error or error
            problems.append(f"skipped a run: {error}")
            continue
        cases = {(record.device, record.case) for record in run.records}
        if run.id in seen:
            problems.append(_describe_duplicate(run, cases, *seen[run.id]))
            continue
        seen[run.id] = folder, cases
        problems += [f"{run.id}/{problem}" for problem in run.problems]
        yield run
    if not seen and first_error:
        raise first_error


def _describe_duplicate(
    run: Run, cases: set[tuple[str, str]], first_folder: Path, first_cases: set[tuple[str, str]]
) -> str:
    """Say that a run counts once, and how many records are lost by that."""
    if run.folder.samefile(first_folder):
        return f"run {run.id} is named twice, and counts once"
    lost = len(cases - first_cases)
    loses = f", though it has {lost} more records" if lost else ""
    return f"run {run.id} counts once, as {first_folder}; {run.folder} is left out{loses}"


def require_comparable(
    entries: Iterable[Entry], problems: list[str], *, mixed: bool = False
) -> Iterator[Entry]:
    """Pass the entries on; raise InputError at the first whose figures don't compare with earlier ones.

    Parts, devices, drivers and hosts may differ, and have columns that tell them apart. Not comparable are
    figures of two measuring methods, and figures of one case whose FLOPs or bytes were counted in two ways.
    With `mixed` these are only added to `problems`, once a column.
    """
    seen: dict[tuple[str, str], tuple[Any, str]] = {}
    reported: set[str] = set()
    for entry in entries:
        for column, case in _comparability_keys(entry):
            value, run = entry.row[column], entry.row["run"]
            first_value, first_run = seen.setdefault((column, case), (value, run))
            if first_value == value or column in reported:
                continue
            if not mixed:
                raise InputError(
                    "two measuring methods, whose figures don't compare"
                    if column == "method"
                    else f"{case} is counted in two ways, so its figures don't compare",
                    where=f"run {run}",
                    got=f"{column} {value!r}, and {first_value!r} in run {first_run}",
                    expected=f"one {column}, or --mixed",
                )
            reported.add(column)
            problems.append(
                f"mixed: {column} is {value!r} in run {run}, {first_value!r} in run {first_run}; its column "
                "tells them apart"
            )
        yield entry


def _comparability_keys(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield each column that has to agree, with the case it has to agree for ("" for all cases).

    A record without a figure has nothing to agree on.
    """
    if entry.record.status == "ok":
        yield "method", ""
        yield from ((column, entry.row["case"]) for column in _COUNTS)


def select_newest(entries: Iterable[Entry], problems: list[str]) -> list[Entry]:
    """Return the newest record of each machine, device and case, for tools that hold one figure a case.

    Adds to `problems` how many records of each run were left out. A newest record that was skipped counts
    too: an older figure doesn't describe the present state.
    """
    found: dict[tuple[str, ...], Entry] = {}
    left_out: Counter[str] = Counter()
    for entry in entries:
        key = tuple(entry.row[name] for name in _SERIES_KEY)
        older, newer = sorted((found.get(key, entry), entry), key=_age)
        found[key] = newer
        if older is not newer:
            left_out[older.row["run"]] += 1
    problems += [
        f"run {run}: {count} record{'s' if count > 1 else ''} left out; of one machine, device and case "
        "the newest is written"
        for run, count in left_out.items()
    ]
    return list(found.values())


def _age(entry: Entry) -> tuple[float, str]:
    began = timestamp_of(entry.row)
    return (-math.inf if began is None else began), entry.row["run"]


def timestamp_of(row: Mapping[str, Any]) -> float | None:
    """Return when the run began, in seconds since 1970; None where the manifest has no valid time."""
    created = parse_time(row["created"])
    return None if created is None else created.timestamp()


def select_newest_with(
    entries: Iterable[Entry], problems: list[str], has_figure: Callable[[Entry], bool]
) -> list[Entry]:
    """Return those of the newest records that have a figure which doesn't contradict others of its record.

    Raises InputError where none has.
    """
    found = [
        entry
        for entry in select_newest(entries, problems)
        if has_figure(entry) and "contradictory" not in entry.record.verdicts
    ]
    if not found:
        raise InputError("no record has a figure", where="RUN", expected="at least one that was measured")
    return found


def label_series(entries: Sequence[Entry]) -> list[str]:
    """Return a label of each entry's series: its case, after machine and device where these differ.

    Labels don't contain the run, so they stay the same from run to run.
    """
    names = [
        name for name in _SERIES_KEY if name == "case" or len({entry.row[name] for entry in entries}) > 1
    ]
    return [" ".join(entry.row[name] for name in names) for entry in entries]
