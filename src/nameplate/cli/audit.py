"""`bench fleet audit`: claims recomputed from one another and the registry, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import CheckFailed
from nameplate.cli.options import Csv, Json, Lang, Parts
from nameplate.cli.output import check_format, print_json, reader, show_view


def register(fleet: typer.Typer) -> None:
    """Add this module's command to the `fleet` group."""
    fleet.command("audit")(audit)


def audit(
    claims: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A TOML file with claims of your own. [default: the article's]"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a row is contradicted.")] = False,
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Recompute every claim of the article from other claims and the registry, and say whether it holds."""
    check_format(json, csv)
    from nameplate.fleet.audit import audit as recompute

    with reader(lang, json=json, csv=csv):
        rows = recompute(claims, parts or ())
        if json:
            print_json([row.as_json() for row in rows])
        elif csv:
            from nameplate.report.fleet.audit import as_csv

            print(as_csv(rows), end="")
        else:
            from nameplate.report.fleet.audit import audit_view

            show_view(audit_view(rows))
    contradicted = [row.id for row in rows if row.verdict == "contradicted"]
    if strict and contradicted:
        raise CheckFailed(f"--strict: contradicted are {', '.join(contradicted)}")
