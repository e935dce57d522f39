"""Runs as a pandas DataFrame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nameplate.base.errors import InputError
from nameplate.record import columns
from nameplate.store.find import find_all
from nameplate.store.folder import Run, read_run

if TYPE_CHECKING:
    import pandas as pd


def load(*paths: str | os.PathLike[str]) -> pd.DataFrame:
    """Load the records of one or many runs: a row a record, with the columns `run` and `record.columns`.

    Each path is a folder of runs (`runs/`, `results/`), or a run as `find_run` finds it: its folder, its id,
    the beginning of its id, or `latest`. An unknown figure is missing (NaN or None).
    `frame.attrs["problems"]` lists what was skipped: torn lines, foreign records, and folders that can't be
    read. Raises InputError for a path without a run.
    """
    problems: list[str] = []
    runs = [run for path in paths for run in _read_all(path, problems)]
    return make_frame(runs, problems)


def _read_all(path: str | os.PathLike[str], problems: list[str]) -> list[Run]:
    folders = find_all(path, or_else="a folder of runs")
    runs = []
    for folder in folders:
        try:
            run = read_run(folder)
        except InputError as error:
            if len(folders) == 1:  # the run that the caller named
                raise
            problems.append(str(error))
            continue
        problems.extend(f"{run.id}/{problem}" for problem in run.problems)
        runs.append(run)
    return runs


def make_frame(runs: list[Run], problems: list[str] | None = None) -> pd.DataFrame:
    """Return the DataFrame of `load` for runs that were already read."""
    import pandas as pd

    rows = [{"run": run.id, **record.flatten()} for run in runs for record in run.records]
    table = pd.DataFrame(rows, columns=["run", *columns()])
    table.attrs["problems"] = list(problems or ())
    return table
