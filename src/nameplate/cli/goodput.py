"""`bench fleet goodput`: what a large job gets out of its time, and the model beside published cases."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.base.exit_status import ExitStatus
from nameplate.cli.options import Csv, Json, Lang
from nameplate.cli.output import check_format, print_rows, reader, show_view

if TYPE_CHECKING:
    from nameplate.fleet.goodput import Goodput
    from nameplate.fleet.validation import GoodputCheck


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`, the fleets' own."""
    app.command("goodput")(goodput)


def goodput(
    cards: Annotated[
        list[int] | None,
        typer.Option("--cards", metavar="N", help="Cards of the job (repeatable). [default: several sizes]"),
    ] = None,
    cards_per_node: Annotated[
        int | None, typer.Option(metavar="N", help="Cards that fail together. [default: 8]")
    ] = None,
    failures_per_node_day: Annotated[
        str | None,
        typer.Option(metavar="X", help="A number, LOW..HIGH or LOW..VALUE..HIGH. [default: 0.0039]"),
    ] = None,
    repair_minutes: Annotated[
        str | None,
        typer.Option(metavar="R", help="From a failure until the job computes again. [default: 10]"),
    ] = None,
    checkpoint_seconds: Annotated[
        str | None, typer.Option(metavar="S", help="For which a checkpoint stops training. [default: 43]")
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Hold the model against published cases; exit 1 past a bound.")
    ] = False,
    lang: Lang = "en",
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print how much of a job's elapsed time is useful, given failures, restarts and checkpoints."""
    check_format(json, csv)
    from nameplate.fleet.goodput import estimate_goodput, load_goodput_file
    from nameplate.fleet.validation import validate_goodput

    if not validate:
        jobs = [
            estimate_goodput(
                size,
                cards_per_node=cards_per_node,
                failures_per_node_day=failures_per_node_day,
                repair_minutes=repair_minutes,
                checkpoint_seconds=checkpoint_seconds,
            )
            for size in cards or load_goodput_file().sizes
        ]
        with reader(lang, json=json, csv=csv):
            _print_jobs(jobs, as_rows=json or csv, csv=csv)
        return
    if cards or cards_per_node is not None:
        raise InputError(
            "published cases have sizes of their own",
            where="--validate",
            got="--cards" if cards else "--cards-per-node",
            expected="neither with it",
        )
    checks = validate_goodput(
        failures_per_node_day=failures_per_node_day,
        repair_minutes=repair_minutes,
        checkpoint_seconds=checkpoint_seconds,
    )
    with reader(lang, json=json, csv=csv):
        _print_checks(checks, as_rows=json or csv, csv=csv)
    _end(checks)


def _print_jobs(jobs: Sequence[Goodput], *, as_rows: bool, csv: bool) -> None:
    if as_rows:
        print_rows([job.as_json() for job in jobs], csv=csv)
        return
    from nameplate.report.fleet.goodput import goodput_view

    show_view(goodput_view(jobs))


def _print_checks(checks: Sequence[GoodputCheck], *, as_rows: bool, csv: bool) -> None:
    if as_rows:
        print_rows([check.as_json() for check in checks], csv=csv)
        return
    from nameplate.report.fleet.goodput import validation_view

    show_view(validation_view(checks))


def _end(checks: Sequence[GoodputCheck]) -> None:
    """End with 1 where a check is past its bound."""
    from nameplate.report.fleet.goodput import failures

    failed = failures(checks)
    for sentence in failed:
        print(f"bench: past its bound: {sentence}", file=sys.stderr)
    if failed:
        raise typer.Exit(ExitStatus.CHECK_FAILED)
