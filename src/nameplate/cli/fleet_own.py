"""`bench fleet own`: owning a fleet over some years, beside renting its cards."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.cli.options import PARTS, Details, Pricing, Printing, Trained, take_options
from nameplate.cli.output import output_language, print_rows, show_view


@take_options(trained=Trained, pricing=Pricing, printing=Printing)
def own(
    trained: Trained,
    pricing: Pricing,
    printing: Printing,
    fleets: Annotated[
        list[str] | None, typer.Argument(metavar="[FLEET]...", help="Ids or names; see `bench fleet list`.")
    ] = None,
    part: Annotated[list[str] | None, PARTS] = None,
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="Nominal EFLOPS of --part. [default: 1]")
    ] = None,
    years: Annotated[
        list[float] | None, typer.Option(metavar="Y", help="Years to own (repeatable). [default: 3 and 5]")
    ] = None,
    rent: Annotated[
        str | None,
        typer.Option(metavar="RMB", help="Rent of a card-hour: X, LOW..HIGH or LOW..X..HIGH."),
    ] = None,
    details: Details = False,
) -> None:
    """Print what owning costs over 3 and 5 years beside renting, and when buying has paid."""
    from nameplate.fleet import ownership

    with output_language(printing.lang, json=printing.json, csv=printing.csv):
        owned = ownership.own(
            fleets or (),
            part=part,
            years=years or ownership.YEARS,
            rent=rent,
            eflops=eflops,
            training=trained.read(),
            **pricing.options(),
        )
        if printing.json or printing.csv:
            print_rows([each.as_json() for each in owned], csv=printing.csv)
        else:
            from nameplate.report.fleet.ownership import ownership_view

            show_view(ownership_view(owned, details=details))
