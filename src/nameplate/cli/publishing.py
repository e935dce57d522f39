"""`bench report` and `bench publish`: a run for other people to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nameplate.cli.options import DEFAULT_RESULTS, Json, Results, RunName
from nameplate.cli.output import print_json


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("report")(report)
    app.command("publish")(publish)


def report(
    run: RunName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="NAME.md; its picture goes to NAME.svg.")
    ],
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
) -> None:
    """Write a run as Markdown, with its picture as an SVG beside it."""
    from nameplate.report.write import write_report
    from nameplate.store.folder import find_run, read_run

    _print_paths(write_report(read_run(find_run(run, results)), output), json=json)


def publish(
    run: RunName,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder of published results.")] = Path("results"),
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
) -> None:
    """Copy a finished run into results/<part>/, its host name, serial and UUID hashed."""
    from nameplate.store.folder import find_run, read_run
    from nameplate.store.publish import publish_run

    _print_paths([publish_run(read_run(find_run(run, results)), to)], json=json)


def _print_paths(paths: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json([str(path) for path in paths])
    else:
        print(*paths, sep="\n")
