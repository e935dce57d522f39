"""`bench fleet`: what fleets deliver, draw and cost, and how many cards a need or a budget takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import InputError
from nameplate.cli import fleet_checks, fleet_derate, fleet_own
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

if TYPE_CHECKING:
    from nameplate.report.view import View

fleet = typer.Typer(
    name="fleet",
    help="What fleets of cards deliver, draw and cost. Every command here takes --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@fleet.command("list")
def list_fleets(
    fleets: Fleets = None, parts: Parts = None, lang: Lang = "en", json: Json = False, csv: Csv = False
) -> None:
    """List the fleets as their sources state them, and their number of cards."""
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.catalogue import list_rows, list_view

    with output_language(lang, json=json, csv=csv):
        rows = list_rows(catalogue(fleets or (), parts=parts or ()), parts or ())
        if json or csv:
            print_rows(rows, csv=csv)
        else:
            show_view(list_view(rows))


@fleet.command("cards")
def list_cards(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="Ids or names; see `bench specs`. [default: all]"),
    ] = None,
    fleets: Fleets = None,
    parts: Parts = None,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """List the cards: rating, derate and price of a server, what is missing and what would fill it."""
    from nameplate.fleet import gaps
    from nameplate.fleet.catalogues import catalogue
    from nameplate.report.fleet.cards import cards_view

    with output_language(lang, json=json, csv=csv):
        listed = catalogue(fleets or (), parts=parts or ())
        cards = gaps.list_cards(names or (), catalogue=listed, parts=parts or ())
        if json or csv:
            print_rows([card.as_json() for card in cards], csv=csv)
        else:
            show_view(cards_view(cards))


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
        float | None, typer.Option(metavar="X", help="Nominal EFLOPS of --part to price. [default: 1]")
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
    from nameplate.fleet.catalogues import catalogue
    from nameplate.fleet.price import cost as compute
    from nameplate.fleet.rows import cost_row

    with output_language(lang, json=json, csv=csv):
        costs = compute(
            fleets or (),
            run=run,
            results=results,
            derate=derate or (),
            goodput=goodput,
            eflops=eflops,
            part=part,
            price=parse_pairs("--price", "PART=RMB", price),
            assume=parse_pairs("--assume", "NAME=X", assume),
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


def _input_option(help_: str) -> Any:
    """An input of a training run that may be uncertain."""
    return typer.Option(metavar="X", help=help_)


@fleet.command("plan")
def plan(
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="Plan for this many delivered EFLOPS.")
    ] = None,
    budget_rmb: Annotated[
        float | None, typer.Option(metavar="RMB", help="Plan what this much money buys, and delivers.")
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(metavar="N", help="Plan to train a model of this many parameters; needs --every-days."),
    ] = None,
    hours: Annotated[str | None, _input_option("Hours of clips to train on.")] = None,
    clips: Annotated[str | None, _input_option("Number of clips to train on.")] = None,
    every_days: Annotated[
        float | None, typer.Option(metavar="D", help="Days between two training runs.")
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Count 6N + 12LdT FLOPs a token. [default: 6N]")
    ] = False,
    clip_seconds: Annotated[str | None, _input_option("Length of a clip. [default: 15..30]")] = None,
    cameras: Annotated[str | None, _input_option("Cameras that the model sees. [default: 4..7..11]")] = None,
    frames_per_second: Annotated[
        str | None, _input_option("Frames a second that the model sees of each camera. [default: 2..5..10]")
    ] = None,
    tokens_per_frame: Annotated[
        str | None, _input_option("Tokens of a frame. [default: 160, from 50 to 576]")
    ] = None,
    epochs: Annotated[str | None, _input_option("Passes over the data. [default: 1]")] = None,
    context_tokens: Annotated[
        str | None, _input_option("Tokens that attend to one another. [default: 2880..8192..16384]")
    ] = None,
    width_over_layers: Annotated[
        str | None, _input_option("Width of the model ÷ its number of layers. [default: 100..128..130]")
    ] = None,
    fleet: Annotated[
        list[str] | None,
        typer.Option(metavar="FLEET", help="Train on this fleet; see `bench fleet list` (repeatable)."),
    ] = None,
    part: Annotated[list[str] | None, PART] = None,
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
    """Print the cards, servers, RMB and MW for --eflops, --budget-rmb or a training run (--parameters).

    Numbers of a training run may be X, LOW..HIGH or LOW..X..HIGH. --part is repeatable; without it, every
    part with a known derate or price is planned.
    """
    from nameplate.fleet.catalogues import catalogue

    training: dict[str, Any] = {
        "hours": hours,
        "clips": clips,
        "every_days": every_days,
        "attention": attention or None,
        "fleet": fleet,
        "clip_seconds": clip_seconds,
        "cameras": cameras,
        "frames_per_second": frames_per_second,
        "tokens_per_frame": tokens_per_frame,
        "epochs": epochs,
        "context_tokens": context_tokens,
        "width_over_layers": width_over_layers,
    }
    training = {name: value for name, value in training.items() if value is not None}
    questions = {"--eflops": eflops, "--budget-rmb": budget_rmb, "--parameters": parameters}
    with output_language(lang, json=json, csv=csv):
        _check_question(questions, training)
        options: dict[str, Any] = {
            "run": run,
            "results": results,
            "derate": derate or (),
            "goodput": goodput,
            "price": parse_pairs("--price", "PART=RMB", price),
            "assume": parse_pairs("--assume", "NAME=X", assume),
            "draws": draws,
            "seed": seed,
            "catalogue": catalogue(files or (), parts=parts or ()),
            "parts": parts or (),
        }
        rows: Any
        make_view: Callable[[Any], View]
        if eflops is not None:
            from nameplate.fleet.plan import meet
            from nameplate.report.fleet.plan import needs_view

            rows, make_view = meet(eflops, part or (), **options), needs_view
        elif budget_rmb is not None:
            from nameplate.fleet.plan import afford
            from nameplate.report.fleet.plan import purchases_view

            rows, make_view = afford(budget_rmb, part or (), **options), purchases_view
        else:
            from nameplate.fleet.training import train
            from nameplate.report.fleet.plan import training_view

            rows = train(parameters=parameters or "", part=part or (), **training, **options)
            make_view = training_view
        if json or csv:
            print_rows([row.as_json() for row in rows], csv=csv)
        else:
            show_view(make_view(rows))


def _check_question(questions: Mapping[str, object], training: Mapping[str, object]) -> None:
    """Raise InputError unless there is one question, and options of a training run only with --parameters."""
    asked = [flag for flag, value in questions.items() if value is not None]
    if len(asked) != 1:
        problem = "nothing to plan" if not asked else "several questions at once"
        got = ", ".join(asked) or "nothing"
        raise InputError(problem, got=got, expected=f"one of {', '.join(questions)}")
    if "--parameters" not in asked and training:
        flag = f"--{next(iter(training)).replace('_', '-')}"
        raise InputError(
            "an option of a training run", got=f"{flag} with {asked[0]}", expected="--parameters too"
        )
    if "--parameters" in asked and "every_days" not in training:
        raise InputError(
            "needed with --parameters", where="--every-days", got="nothing", expected="a number of days"
        )


fleet.command("own")(fleet_own.own)
fleet.command("derate")(fleet_derate.derate)
fleet.command("validate")(fleet_checks.validate)
fleet.command("goodput")(fleet_checks.goodput)
fleet.command("audit")(fleet_checks.audit)
