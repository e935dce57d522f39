"""From what a user calls a side to its runs: a run, a folder of runs, pytest-benchmark's files."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from nameplate.compare.looks import Side, Taken
from nameplate.compare.pytest_json import EXPECTED, read_file
from nameplate.compare.runs import taken
from nameplate.errors import InputError
from nameplate.store.folder import find_run, find_runs, read_run


def read_side(name: str | PathLike[str], results: Path) -> Side:
    """Read a side; a folder holds several runs, or several of pytest-benchmark's files.

    Raises InputError where there is nothing of the kind, and for a run that can't be read.
    """
    path = Path(name)
    if path.is_file():
        return Side(str(path), (read_file(path),))
    folders = _run_folders(name, results)
    if folders:
        return Side(fspath(name), tuple(taken(read_run(folder)) for folder in folders))
    files = sorted(path.rglob("*.json")) if path.is_dir() else []
    if not files:
        raise InputError(
            "no run here",
            got=fspath(name),
            expected=f"a run folder or the id of one in {results}, a folder of runs, or {EXPECTED}",
        )
    return Side(str(path), tuple(_read_all(files)))


def _run_folders(name: str | PathLike[str], results: Path) -> list[Path]:
    """The run of that name, or every run below the folder of that name."""
    try:
        return [find_run(fspath(name), results)]
    except InputError:
        return find_runs(Path(name)) if Path(name).is_dir() else []


def _read_all(files: list[Path]) -> list[Taken]:
    return [read_file(file) for file in files]
