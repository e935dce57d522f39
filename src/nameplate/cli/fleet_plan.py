"""`bench fleet plan`: what delivered EFLOPS, a budget or a training run take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import InputError
from nameplate.cli.options import PARTS, Details, OutputFlags, PricingFlags, TrainingFlags, take_flags
from nameplate.cli.output import print_rows, show_view

if TYPE_CHECKING:
    from nameplate.report.view import View


def _input_option(help_: str) -> Any:
    """An input of a training run that may be uncertain."""
    return typer.Option(metavar="X", help=help_)


@dataclass(frozen=True)
class TrainingPlanFlags:
    """A training run that is planned: its data, its inputs and the rest of the pipeline around it."""

    hours: Annotated[str | None, _input_option("Hours of clips to train on.")] = None
    clips: Annotated[str | None, _input_option("Number of clips to train on.")] = None
    tokens: Annotated[str | None, _input_option("Tokens to train on.")] = None
    every_days: Annotated[float | None, typer.Option(metavar="D", help="Days between two training runs.")] = (
        None
    )
    attention: Annotated[
        bool,
        typer.Option("--attention/--no-attention", help="Count attention's FLOPs, half of them masked."),
    ] = True
    clip_seconds: Annotated[str | None, _input_option("Length of a clip. [default: 15..30]")] = None
    cameras: Annotated[str | None, _input_option("Cameras that the model sees. [default: 4..7..11]")] = None
    frames_per_second: Annotated[
        str | None, _input_option("Frames a second that the model sees of each camera. [default: 2..5..10]")
    ] = None
    tokens_per_frame: Annotated[
        str | None, _input_option("Tokens of a frame. [default: 160, from 50 to 576]")
    ] = None
    epochs: Annotated[str | None, _input_option("Passes over the data. [default: 1]")] = None
    context_tokens: Annotated[
        str | None, _input_option("Tokens that attend to one another. [default: 2880..8192..16384]")
    ] = None
    width_over_layers: Annotated[
        str | None, _input_option("Width of the model ÷ its number of layers. [default: 100..128..130]")
    ] = None
    encoder: Annotated[
        str | None, _input_option("FLOPs of the encoder ÷ those of the model. [default: 0.02..0.1..0.3]")
    ] = None
    outside_final_run: Annotated[
        str | None,
        _input_option("Share of hours for ablations and failed runs. [default: 0.1..0.37..0.82]"),
    ] = None
    data_mining: Annotated[
        str | None, _input_option("FLOPs of data mining ÷ those of the run. [default: 0.05..0.2..0.5]")
    ] = None
    simulation: Annotated[
        str | None, _input_option("FLOPs of simulation ÷ those of the run. [default: 0.05..0.3..1]")
    ] = None
    models: Annotated[
        str | None, _input_option("Models that are trained in that time. [default: 1..2..4]")
    ] = None
    fleet: Annotated[
        list[str] | None,
        typer.Option(metavar="FLEET", help="Train on this fleet; see `bench fleet list` (repeatable)."),
    ] = None

    def given(self) -> dict[str, Any]:
        """What was given, by the name of the option."""
        stated = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in stated.items() if name != "attention" or not value}


@take_flags(
    training_run=TrainingPlanFlags, training=TrainingFlags, pricing=PricingFlags, printing=OutputFlags
)
def plan(
    training_run: TrainingPlanFlags,
    training: TrainingFlags,
    pricing: PricingFlags,
    printing: OutputFlags,
    eflops: Annotated[
        float | None, typer.Option(metavar="X", help="Plan for this many delivered EFLOPS.")
    ] = None,
    budget_rmb: Annotated[
        float | None, typer.Option(metavar="RMB", help="Plan what this much money buys, and delivers.")
    ] = None,
    site_mw: Annotated[
        float | None,
        typer.Option(metavar="MW", help="Plan what a site of this power holds, and at which power limit."),
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(metavar="N", help="Plan to train a model of this many parameters; needs --every-days."),
    ] = None,
    part: Annotated[list[str] | None, PARTS] = None,
    details: Details = False,
) -> None:
    """Print the cards, servers, RMB and MW for --eflops, --budget-rmb, --site-mw or --parameters.

    --parameters plans a training run. Its numbers may be X, LOW..HIGH or LOW..X..HIGH. --part is
    repeatable; without it, every part with a known price is planned, and those that published runs trained
    on.
    """
    from nameplate.stats.uncertain import read_uncertain

    questions = {
        "--eflops": eflops,
        "--budget-rmb": budget_rmb,
        "--site-mw": site_mw,
        "--parameters": parameters,
    }
    given, parts = training_run.given(), part or ()
    with printing.in_language():
        _check_question(questions, given, training)
        rows: Any
        make_view: Callable[..., View]
        with _naming_asked(next(flag for flag, value in questions.items() if value is not None)):
            size = None if parameters is None else read_uncertain(parameters, "--parameters").value
            options = {"training": training.read(size), **pricing.options()}
            if parameters is not None:
                from nameplate.fleet.training import train
                from nameplate.report.fleet.plan import training_view

                rows, make_view = train(parameters, part=parts, **given, **options), training_view
            else:
                rows, make_view = _answer(eflops, budget_rmb, site_mw, parts, options)
        if printing.as_rows:
            print_rows([row.as_json() for row in rows], csv=printing.csv)
        else:
            show_view(make_view(rows, details=details))


def _answer(
    eflops: float | None,
    budget_rmb: float | None,
    site_mw: float | None,
    parts: Sequence[str],
    options: Mapping[str, Any],
) -> tuple[Any, Callable[..., View]]:
    """Return the rows that answer the one of these that was asked, and what makes their view."""
    if eflops is not None:
        from nameplate.fleet.plan import meet
        from nameplate.report.fleet.plan import needs_view

        return meet(eflops, parts, **options), needs_view
    if budget_rmb is not None:
        from nameplate.fleet.plan import afford
        from nameplate.report.fleet.plan import purchases_view

        return afford(budget_rmb, parts, **options), purchases_view
    from nameplate.fleet.site import fill_site
    from nameplate.report.fleet.site import sites_view

    assert site_mw is not None
    return fill_site(site_mw, parts, **options), sites_view


@contextmanager
def _naming_asked(asked: str) -> Iterator[None]:
    """Raise InputError anew where what follows from a flag can't be, naming the one that was given.

    `--devices`, as the prediction of an MFU calls them, is no flag of this command.
    """
    same = {"--params": "--parameters", "--context": "--context-tokens"} if asked == "--parameters" else {}
    try:
        yield
    except InputError as error:
        what, where = error.what, same.get(error.where or "")
        if where is None and error.where in {"--devices", "--eflops"} - {asked}:
            what, where = f"what follows from it is {what}", asked
        if where is None:
            raise
        raise InputError(what, where=where, got=error.got, expected=error.expected) from None


def _check_question(
    questions: Mapping[str, object], given: Mapping[str, object], training: TrainingFlags
) -> None:
    """Raise InputError unless there is one question, and options of a training run only with --parameters."""
    asked = [flag for flag, value in questions.items() if value is not None]
    if len(asked) != 1:
        problem = "nothing to plan" if not asked else "several questions at once"
        got = ", ".join(asked) or "nothing"
        raise InputError(problem, got=got, expected=f"one of {', '.join(questions)}")
    if "--parameters" not in asked:
        if given:
            flag = f"--{next(iter(given)).replace('_', '-')}"
            raise InputError(
                "an option of a training run", got=f"{flag} with {asked[0]}", expected="--parameters too"
            )
        return
    if "every_days" not in given:
        raise InputError(
            "needed with --parameters", where="--every-days", got="nothing", expected="a number of days"
        )
    for flag, mine, value in (
        ("--params", "--parameters", training.params),
        ("--context", "--context-tokens", training.context),
    ):
        if value is not None:
            raise InputError("given twice", where=flag, got=value, expected=f"{mine} alone")
