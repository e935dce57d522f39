"""`bench fleet`: the fleets that are known, what they deliver, draw and cost, and how far to trust that."""

from __future__ import annotations

from typing import Annotated

import typer

from nameplate.base.errors import CheckFailed
from nameplate.cli import audit, goodput, plan
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
    pairs,
)
from nameplate.cli.output import check_format, print_rows, reader, show_view

fleet = typer.Typer(
    name="fleet",
    help="What fleets of cards deliver, draw and cost. Every command here takes --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(fleet)


@fleet.command("list")
def list_(
    fleets: Fleets = None, parts: Parts = None, lang: Lang = "en", json: Json = False, csv: Csv = False
) -> None:
    """List the fleets, as their sources state them and in cards."""
    check_format(json, csv)
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.costs import list_rows, list_view

    with reader(lang, json=json, csv=csv):
        rows = list_rows(catalogue(fleets or (), parts=parts or ()), parts or ())
        if json or csv:
            print_rows(rows, csv=csv)
        else:
            show_view(list_view(rows))


@fleet.command("cost")
def cost(
    fleets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FLEET]...", help="Ids or names; see `bench fleet list`. [default: all]"),
    ] = None,
    run: PricingRun = None,
    derate: Derates = None,
    goodput: WithGoodput = False,
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="So many nominal EFLOPS of --part. [default: 1]")
    ] = None,
    part: Annotated[str | None, PART] = None,
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
    """Print what fleets deliver of their nominal EFLOPS, by which derates, and what they draw and cost."""
    check_format(json, csv)
    from nameplate.fleet.catalogues import catalogue
    from nameplate.fleet.price import cost as compute
    from nameplate.fleet.rows import cost_row

    with reader(lang, json=json, csv=csv):
        costs = compute(
            fleets or (),
            run=run,
            results=results,
            derate=derate or (),
            goodput=goodput,
            eflops=eflops,
            part=part,
            price=pairs("--price", "PART=RMB", price),
            assume=pairs("--assume", "NAME=X", assume),
            draws=draws,
            seed=seed,
            catalogue=catalogue(files or (), parts=parts or ()),
            parts=parts or (),
        )
        if json or csv:
            print_rows([cost_row(each) for each in costs], csv=csv)
        else:
            from nameplate.report.fleet.costs import cost_view

            show_view(cost_view(costs))


@fleet.command("validate")
def validate(
    bound: Annotated[
        float | None,
        typer.Option(metavar="X", help="The largest error allowed, as a ratio. [default: each case's own]"),
    ] = None,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Predict published end-to-end figures from others; exit with 1 where an error is past its bound."""
    check_format(json, csv)
    from nameplate.fleet.validation import validate as compute
    from nameplate.report.fleet.costs import failures, validation_view

    with reader(lang, json=json, csv=csv):
        checks = compute(bound=bound)
        if json or csv:
            print_rows([each.as_json() for each in checks], csv=csv)
        else:
            show_view(validation_view(checks))
    failed = failures(checks)
    if failed:
        raise CheckFailed(f"the chain misses {len(failed)} of {len(checks)}: {', '.join(failed)}")


goodput.register(fleet)
audit.register(fleet)
plan.register(fleet)
