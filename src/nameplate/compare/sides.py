"""From what a user calls a side to its runs: a run, a folder of runs, pytest-benchmark's files."""

from __future__ import annotations

from os import PathLike, fspath
from os.path import isdir, isfile
from pathlib import Path

from nameplate.compare.looks import Side, Taken
from nameplate.compare.pytest_json import EXPECTED, read_file
from nameplate.compare.runs import taken
from nameplate.store.find import Results, find_all
from nameplate.store.folder import find_runs, read_run


def read_side(name: str | PathLike[str], results: Results = None) -> Side:
    """Read a side; a folder holds several runs, or several of pytest-benchmark's files.

    Raises InputError where there is nothing of the kind, and for a run that can't be read.
    """
    path = Path(name)
    if isfile(path):  # False also for a name that no file can have
        return Side(str(path), (read_file(path),))
    if isdir(path) and not find_runs(path):
        files = sorted(path.rglob("*.json"))
        if files:
            return Side(str(path), tuple(_read_all(files)))
    folders = find_all(name, results, or_else=f"a folder of runs, or {EXPECTED}")
    return Side(fspath(name), tuple(taken(read_run(folder)) for folder in folders))


def _read_all(files: list[Path]) -> list[Taken]:
    return [read_file(file) for file in files]
