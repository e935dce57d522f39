"""`bench fleet`: what fleets deliver, draw and cost, and how many cards a need or a budget takes."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.cli import fleet_checks, fleet_derate, fleet_own, fleet_plan
from nameplate.cli.options import (
    PARTS,
    Details,
    Fleets,
    Parts,
    Pricing,
    Printing,
    Trained,
    take_options,
)
from nameplate.cli.output import output_language, print_rows, show_view

fleet = typer.Typer(
    name="fleet",
    help="What fleets of cards deliver, draw and cost. Every command here takes --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@fleet.command("list")
@take_options(printing=Printing)
def list_fleets(
    printing: Printing, fleets: Fleets = None, parts: Parts = None, details: Details = False
) -> None:
    """List the fleets as their sources state them, and their number of cards."""
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.catalogue import list_rows, list_view

    with output_language(printing.lang, json=printing.json, csv=printing.csv):
        rows = list_rows(catalogue(fleets or (), parts=parts or ()), parts or ())
        if printing.json or printing.csv:
            print_rows(rows, csv=printing.csv)
        else:
            show_view(list_view(rows, details=details))


@fleet.command("cards")
@take_options(printing=Printing)
def list_cards(
    printing: Printing,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="Ids or names; see `bench specs`. [default: all]"),
    ] = None,
    fleets: Fleets = None,
    parts: Parts = None,
    details: Details = False,
) -> None:
    """List the cards: rating, derate and price of a server, what is missing and what would fill it."""
    from nameplate.fleet import gaps
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.cards import cards_view

    with output_language(printing.lang, json=printing.json, csv=printing.csv):
        listed = catalogue(fleets or (), parts=parts or ())
        cards = gaps.list_cards(names or (), catalogue=listed, parts=parts or ())
        if printing.json or printing.csv:
            print_rows([card.as_json() for card in cards], csv=printing.csv)
        else:
            show_view(cards_view(cards, details=details))


@fleet.command("cost")
@take_options(trained=Trained, pricing=Pricing, printing=Printing)
def cost(
    trained: Trained,
    pricing: Pricing,
    printing: Printing,
    fleets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FLEET]...", help="Ids or names; see `bench fleet list`. [default: all]"),
    ] = None,
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="Nominal EFLOPS of --part to price. [default: 1]")
    ] = None,
    part: Annotated[list[str] | None, PARTS] = None,
    details: Details = False,
) -> None:
    """Print what fleets deliver of their nominal EFLOPS, by which derates, and what they draw and cost."""
    from nameplate.fleet.price import cost as compute
    from nameplate.fleet.rows import cost_row

    with output_language(printing.lang, json=printing.json, csv=printing.csv):
        costs = compute(fleets or (), eflops=eflops, part=part, training=trained.read(), **pricing.options())
        if printing.json or printing.csv:
            print_rows([cost_row(each) for each in costs], csv=printing.csv)
        else:
            from nameplate.report.fleet.costs import cost_view

            show_view(cost_view(costs, details=details))


fleet.command("plan")(fleet_plan.plan)
fleet.command("own")(fleet_own.own)
fleet.command("derate")(fleet_derate.derate)
fleet.command("validate")(fleet_checks.validate)
fleet.command("goodput")(fleet_checks.goodput)
fleet.command("audit")(fleet_checks.audit)
