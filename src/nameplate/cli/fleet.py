"""`bench fleet`: the fleets that are known, and what they deliver and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nameplate.cli.options import DEFAULT_RESULTS, Json, Results
from nameplate.cli.output import print_json
from nameplate.cli.specs import Parts

Fleets = Annotated[
    list[Path] | None,
    typer.Option(
        "--fleets", metavar="FILE", help="A TOML file with fleets and prices of your own (repeatable)."
    ),
]

fleet = typer.Typer(
    name="fleet",
    help="What fleets of cards deliver and cost. Every command here takes --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(fleet)


@fleet.command("list")
def list_(fleets: Fleets = None, parts: Parts = None, json: Json = False) -> None:
    """List the fleets, as their sources state them and in cards."""
    from nameplate.fleet.fleets import catalogue
    from nameplate.report.fleet import list_rows, list_view

    rows = list_rows(catalogue(fleets or (), parts=parts or ()), parts or ())
    if json:
        print_json(rows)
    else:
        from nameplate.report.terminal import show

        show(list_view(rows))


@fleet.command("cost")
def cost(
    fleets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FLEET]...", help="Ids or names; see `bench fleet list`. [default: all]"),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take the derate of its part from this run.")
    ] = None,
    derate: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Take this published derate (repeatable: they follow one another)."),
    ] = None,
    eflops: Annotated[float | None, typer.Option(metavar="X", help="Nominal EFLOPS of --part.")] = None,
    part: Annotated[
        str | None, typer.Option(metavar="PART", help="Price this part. [default: 1 EFLOPS of it]")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    files: Fleets = None,
    parts: Parts = None,
    json: Json = False,
) -> None:
    """Print what fleets deliver of their nominal EFLOPS, by which derates, and what that costs in RMB."""
    from nameplate.fleet.fleets import catalogue
    from nameplate.fleet.pricing import cost as price

    costs = price(
        fleets or (),
        run=run,
        results=results,
        derate=derate or (),
        eflops=eflops,
        part=part,
        catalogue=catalogue(files or (), parts=parts or ()),
        parts=parts or (),
    )
    if json:
        print_json([each.as_json() for each in costs])
    else:
        from nameplate.report.fleet import cost_view
        from nameplate.report.terminal import show

        show(cost_view(costs))
