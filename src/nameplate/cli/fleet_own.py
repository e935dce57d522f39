"""`bench fleet own`: owning a fleet over some years, beside renting its cards."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.cli.options import (
    PART,
    Assumptions,
    Csv,
    Derates,
    Draws,
    Fleets,
    Json,
    Lang,
    Parts,
    Prices,
    PricingRun,
    Results,
    Seed,
    WithGoodput,
    parse_pairs,
)
from nameplate.cli.output import output_language, print_rows, show_view


def own(
    fleets: Annotated[
        list[str] | None, typer.Argument(metavar="[FLEET]...", help="Ids or names; see `bench fleet list`.")
    ] = None,
    part: Annotated[str | None, PART] = None,
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
    run: PricingRun = None,
    derate: Derates = None,
    goodput: WithGoodput = False,
    price: Prices = None,
    assume: Assumptions = None,
    draws: Draws = 100_000,
    seed: Seed = 0,
    results: Results = None,
    files: Fleets = None,
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print what owning costs over 3 and 5 years beside renting, and when buying has paid."""
    from nameplate.fleet import ownership
    from nameplate.fleet.catalogues import catalogue

    with output_language(lang, json=json, csv=csv):
        owned = ownership.own(
            fleets or (),
            part=part,
            years=years or ownership.YEARS,
            rent=rent,
            assume=parse_pairs("--assume", "NAME=X", assume),
            eflops=eflops,
            run=run,
            derate=derate or (),
            goodput=goodput,
            price=parse_pairs("--price", "PART=RMB", price),
            draws=draws,
            seed=seed,
            results=results,
            catalogue=catalogue(files or (), parts=parts or ()),
            parts=parts or (),
        )
        if json or csv:
            print_rows([each.as_json() for each in owned], csv=csv)
        else:
            from nameplate.report.fleet.ownership import ownership_view

            show_view(ownership_view(owned))
