"""`bench fleet plan`: from a need, a budget or a training run back to cards, servers, RMB and MW."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from nameplate.base.errors import InputError
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

if TYPE_CHECKING:
    from nameplate.report.view import View

    # Rows of one kind, and what shows them.
    Answer: TypeAlias = tuple[Sequence[Any], Callable[[Any], View]]


def register(fleet: typer.Typer) -> None:
    """Add this module's command to the `fleet` group."""
    fleet.command("plan")(plan)


def _assumed(help_: str) -> Any:
    return typer.Option(metavar="X", help=help_)


def plan(
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="What delivers so many EFLOPS takes.")
    ] = None,
    budget_rmb: Annotated[
        float | None, typer.Option(metavar="RMB", help="What so much money buys, and delivers.")
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="What training a model of so many parameters takes, with --every-days."
        ),
    ] = None,
    hours: Annotated[str | None, typer.Option(metavar="X", help="Train on so many hours of clips.")] = None,
    clips: Annotated[str | None, typer.Option(metavar="X", help="Train on so many clips.")] = None,
    every_days: Annotated[
        float | None, typer.Option(metavar="D", help="Train anew every so many days.")
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Count 6N + 12LdT FLOPs a token. [default: 6N]")
    ] = False,
    clip_seconds: Annotated[str | None, _assumed("Length of a clip. [default: 15..30]")] = None,
    cameras: Annotated[str | None, _assumed("Cameras that the model sees. [default: 4..7..11]")] = None,
    frames_per_second: Annotated[
        str | None, _assumed("Frames of a camera that it sees a second. [default: 2..5..10]")
    ] = None,
    tokens_per_frame: Annotated[
        str | None, _assumed("Tokens of a frame. [default: 160, from 50 to 576]")
    ] = None,
    epochs: Annotated[str | None, _assumed("Passes over the data. [default: 1]")] = None,
    context_tokens: Annotated[
        str | None, _assumed("Tokens that attend to one another. [default: 2880..8192..16384]")
    ] = None,
    width_over_layers: Annotated[
        str | None, _assumed("Width of the model ÷ its layers. [default: 100..128..130]")
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
    """Print what a need takes (--eflops), money buys (--budget-rmb), or a training run needs (--parameters).

    Numbers of a training run may be X, LOW..HIGH or LOW..X..HIGH. --part is repeatable; without it, the plan
    is made of every part that a derate or a price is known of.
    """
    from nameplate.cli.output import check_format, print_rows, reader, show_view
    from nameplate.fleet.catalogues import catalogue

    check_format(json, csv)
    training = {
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
    given = {name: each for name, each in training.items() if each is not None}
    _check_question({"--eflops": eflops, "--budget-rmb": budget_rmb, "--parameters": parameters}, given)
    options: dict[str, Any] = {
        "run": run,
        "results": results,
        "derate": derate or (),
        "goodput": goodput,
        "price": pairs("--price", "PART=RMB", price),
        "assume": pairs("--assume", "NAME=X", assume),
        "draws": draws,
        "seed": seed,
        "catalogue": catalogue(files or (), parts=parts or ()),
        "parts": parts or (),
    }
    with reader(lang, json=json, csv=csv):
        if eflops is not None:
            rows, view = _need(eflops, part or (), options)
        elif budget_rmb is not None:
            rows, view = _purchase(budget_rmb, part or (), options)
        else:
            rows, view = _training(given | {"parameters": parameters, "part": part or ()}, options)
        if json or csv:
            print_rows([row.as_json() for row in rows], csv=csv)
        else:
            show_view(view(rows))


def _need(eflops: float, parts: Sequence[str], options: Mapping[str, Any]) -> Answer:
    from nameplate.fleet.plan import meet
    from nameplate.report.fleet.plan import needs_view

    return meet(eflops, parts, **options), needs_view


def _purchase(budget_rmb: float, parts: Sequence[str], options: Mapping[str, Any]) -> Answer:
    from nameplate.fleet.plan import afford
    from nameplate.report.fleet.plan import purchases_view

    return afford(budget_rmb, parts, **options), purchases_view


def _training(given: Mapping[str, Any], options: Mapping[str, Any]) -> Answer:
    from nameplate.fleet.training import train
    from nameplate.report.fleet.plan import training_view

    if "every_days" not in given:
        raise InputError("how often?", where="--every-days", got="nothing", expected="days between refreshes")
    return train(**given, **options), training_view


def _check_question(questions: Mapping[str, object], training: Mapping[str, object]) -> None:
    """One question is asked, and flags of a training run go with it alone."""
    asked = [flag for flag, value in questions.items() if value is not None]
    if len(asked) != 1:
        problem = "nothing to plan" if not asked else "several questions at once"
        got = ", ".join(asked) or "nothing"
        raise InputError(problem, got=got, expected=f"one of {', '.join(questions)}")
    if "--parameters" not in asked and training:
        flag = f"--{next(iter(training)).replace('_', '-')}"
        raise InputError(
            "of a training run", got=f"{flag} with {asked[0]}", expected="--parameters beside it"
        )
