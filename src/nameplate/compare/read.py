"""Reads a side of a comparison: a run, a pytest-benchmark file, or a folder of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    Raises InputError where there is none of these, and where nothing of it can be read.
    """
    path = Path(name)
    if isfile(path):  # unlike Path.is_file, False for a name that no file can have
        return Side(str(path), (results_of_file(path),))
    if isdir(path) and not find_runs(path):
        files = find_files(path, "*.json")
        if files:
            return _read_all(str(path), files, results_of_file)
    folders = find_all(name, results, or_else=f"a folder of runs, or {EXPECTED}")
    return _read_all(fspath(name), folders, lambda folder: results_of_run(read_run(folder)))


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
