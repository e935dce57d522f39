"""`bench leaderboard`: the published results ranked, in their README."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import CheckFailed
from nameplate.base.text import plain
from nameplate.cli.options import Json, Lang
from nameplate.cli.output import check_language, print_json, reader

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of published results.")]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit with 1 where the README isn't current.")
]


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("leaderboard")(leaderboard)


def leaderboard(
    folder: Folder = Path("results"), check: Check = False, lang: Lang = "en", json: Json = False
) -> None:
    """Write the leaderboard of published results into DIR/README.md, between its marks."""
    from nameplate.base.language import _
    from nameplate.report.leaderboard import leaderboard

    check_language(lang)
    found = leaderboard(folder)
    for problem in found.problems:
        print(f"bench: {plain(problem)}", file=sys.stderr)
    if not check:
        found.write()
    if json:
        print_json([result.as_json() for result in found.results])
    if check and not found.current:
        raise CheckFailed(f"{found.path} isn't current; run `bench leaderboard {shlex.quote(str(folder))}`")
    if not json:
        with reader(lang):
            print(_("{path} is current", path=found.path) if check else found.path)
