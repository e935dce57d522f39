"""Reads a side of a comparison: a run, a pytest-benchmark file, or a folder of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from os.path import isdir, isfile
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.files import find_files
from nameplate.base.messages import Message, message
from nameplate.compare.pytest_json import EXPECTED, results_of_file
from nameplate.compare.results import RunResults, Side, results_of_run
from nameplate.store.find import Results, find_all
from nameplate.store.folder import find_runs, read_run


def read_side(name: str | PathLike[str], results: Results = None) -> Side:
    """Read a side. Of a folder, what can't be read, and a run that was read already, is among the problems.

    So are JSON files that lie beside runs: pytest-benchmark's figures don't compare with those of runs, which
    count. Raises InputError where there is none of these, and where nothing of it can be read.
    """
    path = Path(name)
    if not fspath(name):  # as a path, it would be the working directory
        raise InputError("no run, folder or file", where="bench compare", got=name, expected="a name")
    if isfile(path):  # unlike Path.is_file, False for a name that no file can have
        return Side(str(path), (results_of_file(path),))
    runs = set(find_runs(path)) if isdir(path) else set()
    if isdir(path) and not runs:
        files = find_files(path, "*.json")
        if files:
            return _read_all(str(path), files, results_of_file)
    folders = find_all(name, results, or_else=f"a folder of runs, or {EXPECTED}")
    side = _read_all(fspath(name), folders, lambda folder: results_of_run(read_run(folder)))
    beside = [each for folder in {run.parent for run in runs - {path}} for each in folder.glob("*.json")]
    if not beside:
        return side
    left_out = message("side_files_left_out", count=len(beside), path=str(min(beside)))
    return replace(side, unread=(*side.unread, left_out))


def _read_all(name: str, paths: Sequence[Path], read: Callable[[Path], RunResults]) -> Side:
    runs: dict[object, RunResults] = {}
    problems: list[Message] = []
    first_error: InputError | None = None
    for path in paths:
        try:
            run = read(path)
        except InputError as error:
            first_error = first_error or error
            problems.append(message("side_unreadable", why=str(error)))
            continue
        if run.identity in runs:  # a copy would count as another observation, and narrow the interval
            problems.append(message("side_repeated", path=str(path), run=runs[run.identity].name))
        else:
            runs[run.identity] = run
    if not runs and first_error is not None:
        raise first_error
    return Side(name, tuple(runs.values()), tuple(problems))
