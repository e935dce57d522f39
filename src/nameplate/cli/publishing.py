"""`bench report` and `bench publish`: a run for other people to read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.cli.naming import named_runs
from nameplate.cli.options import OUTPUT, Json, Lang, Results, RunName, RunNames
from nameplate.cli.output import check_language, print_json


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("report")(report)
    app.command("publish")(publish)


def report(
    runs: RunNames = None,
    output: Annotated[Path | None, OUTPUT] = None,
    lang: Lang = "en",
    results: Results = None,
    json: Json = False,
) -> None:
    """Write a run for people to read; several runs side by side.

    NAME.html is a page that needs nothing else, NAME.md Markdown with its pictures beside it. Without -o it
    is a page in this folder, named by the run (report.html of several); it replaces only an earlier report.
    """
    from nameplate.report.media.write import default_output, write_report
    from nameplate.store.folder import read_run

    with garbage_collection_off():
        found = [read_run(folder) for folder in named_runs(runs, results)]
        _print_paths(write_report(found, output or default_output(found), lang), json=json)


def publish(
    run: RunName,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder of published results.")] = Path("results"),
    results: Results = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Copy a finished run into results/<part>/, its host name, serial and UUID hashed."""
    from nameplate.store.find import find_run
    from nameplate.store.folder import read_run
    from nameplate.store.publish import publish_run

    check_language(lang)
    _print_paths([publish_run(read_run(find_run(run, results)), to)], json=json)
    print(f"bench: now run `bench leaderboard {shlex.quote(str(to))}`", file=sys.stderr)


def _print_paths(paths: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json([str(path) for path in paths])
    else:
        print(*paths, sep="\n")
