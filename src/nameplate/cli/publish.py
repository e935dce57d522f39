"""`bench report`, `bench publish` and `bench leaderboard`: runs for other people to read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import CheckFailed
from nameplate.base.exit_status import print_error
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.text import plain
from nameplate.cli.options import OUTPUT, Json, Lang, Results, RunName, RunNames, find_named_runs, path_parser
from nameplate.cli.output import check_language, output_language, print_json


def report(
    runs: RunNames = None,
    output: Annotated[Path | None, OUTPUT] = None,
    fleets: Annotated[
        bool | None,
        typer.Option(
            "--fleets/--no-fleets",
            help="With what fleets deliver and cost, or without. [default: with, for an accelerator]",
        ),
    ] = None,
    lang: Lang = "en",
    results: Results = None,
    json: Json = False,
) -> None:
    """Write a run for people to read; several runs side by side.

    NAME.html is a page that needs no other file; NAME.md is Markdown with its pictures in files beside it.
    Without -o the page is written into this folder and named by the run, or report.html for several runs. It
    replaces an earlier report, but no other file.
    """
    from nameplate.report.media.write import default_output, write_report
    from nameplate.store.folder import read_run

    with garbage_collection_off():
        found = [read_run(folder) for folder in find_named_runs(runs, results)]
        _print_paths(write_report(found, output or default_output(found), lang, fleets=fleets), json=json)


def publish(
    run: RunName,
    to: Annotated[
        Path,
        typer.Option(
            metavar="DIR", parser=path_parser("--to", "folder"), help="Folder of published results."
        ),
    ] = Path("results"),
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Publish also a smoke run, or one with a figure above its peak; the copy says so."
        ),
    ] = False,
    results: Results = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Copy a finished run into results/<part>/, with hashes in place of host name, serial and UUID."""
    from nameplate.store.find import find_run
    from nameplate.store.folder import read_run
    from nameplate.store.publish import describe_untrusted, publish_run

    check_language(lang)
    found = read_run(find_run(run, results))
    _print_paths([publish_run(found, to, force=force)], json=json)
    if doubt := describe_untrusted(found):
        print_error(doubt)
    print_error(f"now run `bench leaderboard {shlex.quote(str(to))}`")


def _print_paths(paths: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json([str(path) for path in paths])
    else:
        print(*map(plain, paths), sep="\n")


def leaderboard(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=path_parser("bench leaderboard DIR", "folder"),
            help="Folder of published results.",
        ),
    ] = Path("results"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if the README is out of date.")
    ] = False,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Write the table of published results into DIR/README.md, between the two comments that mark it."""
    from nameplate.base.language import _
    from nameplate.report.leaderboard import make_leaderboard

    check_language(lang)
    found = make_leaderboard(folder)
    for problem in found.problems:
        print_error(plain(problem))
    if not check:
        found.write()
    if json:
        print_json([result.as_json() for result in found.results])
    if check and not found.current:
        raise CheckFailed(f"{found.path} isn't current; run `bench leaderboard {shlex.quote(str(folder))}`")
    if not json:
        with output_language(lang):
            print(plain(_("{path} is current", path=found.path) if check else found.path))
