"""`bench export` and `bench merge`: runs in other tools' formats, and many runs as one data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.base.exit_status import print_error
from nameplate.base.text import plain
from nameplate.cli.options import OUTPUT, Json, Results
from nameplate.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nameplate.export import Written
    from nameplate.health.ledger import Missing

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="Each a run (folder, id, beginning of an id, latest) or a folder of runs.",
    ),
]
_STREAM = "-"
_MOST_MISSING = 20


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
    """Write runs in another tool's format, to standard output or to a file (-o)."""
    from nameplate.export import export

    if output == _STREAM and json:
        raise InputError("--json describes a written file", where="bench export", expected="-o FILE too")
    target = sys.stdout.buffer if output == _STREAM else output
    _print_written(export(runs, target, format=format, results=results), json=json)


def merge(
    runs: Runs,
    output: Annotated[Path, OUTPUT],
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Also merge figures of different methods or FLOP conventions."),
    ] = False,
    results: Results = None,
    json: Json = False,
) -> None:
    """Write many runs as one data set for pandas or DuckDB, and say who is missing from their jobs.

    The file is NAME.csv, NAME.parquet or NAME.jsonl.
    """
    from nameplate.export import merge
    from nameplate.health.ledger import Ledger

    ledger = Ledger()
    written = merge(runs, output, mixed=mixed, results=results, on_run=ledger.add)
    _print_written(written, json=json, missing=ledger.find_missing(runs))


def _print_written(written: Written, *, json: bool, missing: Sequence[Missing] | None = None) -> None:
    """Print the file's path or the JSON document; problems, and who is missing, go to standard error."""
    for problem in written.problems:
        print_error(plain(problem))
    for each in (missing or ())[:_MOST_MISSING]:
        print_error(plain(each.describe()))
    if missing and len(missing) > _MOST_MISSING:
        print_error(f"{len(missing) - _MOST_MISSING} more are missing; --json has them all")
    if json:
        told = {} if missing is None else {"missing": [each.as_json() for each in missing]}
        print_json(written.as_json() | told)
    elif written.path is not None:
        print(plain(written.path))
