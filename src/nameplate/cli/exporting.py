"""`bench export` and `bench merge`: runs for other tools, and many of them as one data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.base.text import plain
from nameplate.cli.options import OUTPUT, Json, Results
from nameplate.cli.output import print_json

if TYPE_CHECKING:
    from nameplate.export import Written

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN", help="Each a run (folder, id, its beginning, or latest) or a folder of runs."
    ),
]
_STREAM = "-"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("export")(export)
    app.command("merge")(merge)


def export(
    runs: Runs,
    output: Annotated[str, OUTPUT] = _STREAM,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="csv, parquet, jsonl, prometheus, github-action-benchmark or pytest-benchmark.",
        ),
    ] = None,
    results: Results = None,
    json: Json = False,
) -> None:
    """Write runs in another tool's format.

    Without -o, or with -, they go to standard output.
    """
    from nameplate.export import export

    if output == _STREAM:
        if json:
            raise InputError("--json tells of a file", where="bench export", expected="-o FILE beside it")
        written = export(runs, sys.stdout.buffer, format=format, results=results)
    else:
        written = export(runs, output, format=format, results=results)
    _tell(written, json=json)


def merge(
    runs: Runs,
    output: Annotated[Path, OUTPUT],
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Take also figures that don't compare: of two methods or conventions."),
    ] = False,
    results: Results = None,
    json: Json = False,
) -> None:
    """Write many runs as one data set for pandas or DuckDB.

    The file is NAME.csv, NAME.parquet or NAME.jsonl.
    """
    from nameplate.export import merge

    _tell(merge(runs, output, mixed=mixed, results=results), json=json)


def _tell(written: Written, *, json: bool) -> None:
    """Print what was written; what was passed over goes to standard error."""
    for problem in written.problems:
        print(f"bench: {plain(problem)}", file=sys.stderr)
    if json:
        print_json(written.as_json())
    elif written.path is not None:
        print(written.path)
