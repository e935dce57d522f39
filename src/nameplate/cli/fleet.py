"""`bench fleet`: what fleets deliver, draw and cost, and how many cards a need or a budget takes."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.cli import fleet_checks, fleet_plan
from nameplate.cli.options import (
    PART,
    PARTS,
    Details,
    Fleets,
    OutputFlags,
    Parts,
    PricingFlags,
    TrainingFlags,
    take_flags,
)
from nameplate.cli.output import print_json, print_rows, show_view

fleet = typer.Typer(
    name="fleet",
    help="What fleets of cards deliver, draw and cost. Every command here takes --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@fleet.command("list")
@take_flags(printing=OutputFlags)
def list_fleets(
    printing: OutputFlags,
    fleets: Fleets = None,
    parts: Parts = None,
    details: Details = False,
) -> None:
    """List the fleets as their sources state them, and their number of cards."""
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.catalogue import list_rows, list_view

    with printing.in_language():
        rows = list_rows(catalogue(fleets or (), parts=parts or ()), parts or ())
        if printing.as_rows:
            print_rows(rows, csv=printing.csv)
        else:
            show_view(list_view(rows, details=details))


@fleet.command("cards")
@take_flags(printing=OutputFlags)
def list_cards(
    printing: OutputFlags,
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

    with printing.in_language():
        listed = catalogue(fleets or (), parts=parts or ())
        cards = gaps.list_cards(names or (), catalogue=listed, parts=parts or ())
        if printing.as_rows:
            print_rows([card.as_json() for card in cards], csv=printing.csv)
        else:
            show_view(cards_view(cards, details=details))


@fleet.command("cost")
@take_flags(training=TrainingFlags, pricing=PricingFlags, printing=OutputFlags)
def cost(
    training: TrainingFlags,
    pricing: PricingFlags,
    printing: OutputFlags,
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

    with printing.in_language():
        costs = compute(fleets or (), eflops=eflops, part=part, training=training.read(), **pricing.options())
        if printing.as_rows:
            print_rows([cost_row(each) for each in costs], csv=printing.csv)
        else:
            from nameplate.report.fleet.costs import cost_view

            show_view(cost_view(costs, details=details))


@fleet.command("own")
@take_flags(training=TrainingFlags, pricing=PricingFlags, printing=OutputFlags)
def own(
    training: TrainingFlags,
    pricing: PricingFlags,
    printing: OutputFlags,
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

    with printing.in_language():
        owned = ownership.own(
            fleets or (),
            part=part,
            years=years or ownership.YEARS,
            rent=rent,
            eflops=eflops,
            training=training.read(),
            **pricing.options(),
        )
        if printing.as_rows:
            print_rows([each.as_json() for each in owned], csv=printing.csv)
        else:
            from nameplate.report.fleet.ownership import ownership_view

            show_view(ownership_view(owned, details=details))


@fleet.command("derate")
@take_flags(training=TrainingFlags, printing=OutputFlags)
def derate(
    training: TrainingFlags,
    printing: OutputFlags,
    part: Annotated[str | None, PART] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="Devices that train together.")
    ] = None,
    convention: Annotated[
        str, typer.Option("--convention", metavar="NAME", help="How FLOPs are counted; see docs/fleet.md.")
    ] = "megatron",
    parts: Parts = None,
) -> None:
    """Print the MFU of a training run with its interval, from what published runs reached."""
    from nameplate.fleet.mfu import estimate_mfu
    from nameplate.report.fleet.mfu import derate_view

    for flag, given in (("--part", part), ("--devices", devices)):
        if given is None:
            example = "bench fleet derate --part A800 --devices 1024 --params 7e9 --context 4096"
            raise InputError("needed", where=flag, got="nothing", expected=f"a value, as in `{example}`")
    with printing.in_language():
        found = estimate_mfu(
            part or "", devices or 0, training.read(), convention=convention, parts=parts or ()
        )
        if printing.csv:
            print_rows([found.as_json()], csv=True)
        elif printing.json:
            print_json(found.as_json())
        else:
            show_view(derate_view(found))


fleet.command("plan")(fleet_plan.plan)
fleet.command("validate")(fleet_checks.validate)
fleet.command("goodput")(fleet_checks.goodput)
fleet.command("audit")(fleet_checks.audit)
