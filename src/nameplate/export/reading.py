"""The runs that a user names, each read once, as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.store.find import Results, find_all
from nameplate.store.folder import Run, read_run


def find(names: Iterable[str | os.PathLike[str]], results: Results = None) -> list[Path]:
    """The run folders that are named: each name is a run, as `find_run` finds it, or a folder of runs.

    Raises InputError for a name without a run.
    """
    return [folder for name in names for folder in find_all(name, results, or_else="a folder of runs")]


def read(folders: Iterable[Path], problems: list[str]) -> Iterator[Run]:
    """Read the runs one after the other; of those with one id (a run and its published copy) the first.

    `problems` says what was passed over: runs, torn lines, foreign records. Raises the first run's InputError
    where none can be read.
    """
    seen: dict[str, _Seen] = {}
    refusals: list[InputError] = []
    for folder in folders:
        try:
            run = read_run(folder)
        except InputError as error:
            refusals.append(error)
            problems.append(f"skipped a run: {error}")
            continue
        if run.id in seen:
            problems.append(_twice(run, seen[run.id]))
            continue
        seen[run.id] = _Seen(folder, _cases(run))
        problems += [f"{run.id}/{problem}" for problem in run.problems]
        yield run
    if not seen and refusals:
        raise refusals[0]


@dataclass(frozen=True)
class _Seen:
    """What must be known of a run that was read, to tell what a second of its id would add."""

    folder: Path
    cases: frozenset[tuple[str, str]]


def _cases(run: Run) -> frozenset[tuple[str, str]]:
    return frozenset((record.device, record.case) for record in run.records)


def _twice(run: Run, first: _Seen) -> str:
    """Say that a run counts once, and what that loses."""
    if run.folder.samefile(first.folder):
        return f"run {run.id} is named twice, and counts once"
    lost = len(_cases(run) - first.cases)
    loses = f", though it has {lost} more records" if lost else ""
    return f"run {run.id} counts once, as {first.folder}; {run.folder} is left out{loses}"
