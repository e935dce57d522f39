"""`bench fleet goodput`: what a large job gets out of its time, and the model beside published cases."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.cli.options import Csv, Json
from nameplate.cli.output import check_format, print_rows
from nameplate.ending import ExitStatus
from nameplate.errors import InputError

if TYPE_CHECKING:
    from nameplate.fleet.goodput import Check, Goodput


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
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print how much of a job's elapsed time is useful, given failures, restarts and checkpoints."""
    check_format(json, csv)
    from nameplate.fleet import goodput as model

    if not validate:
        jobs = [
            model.goodput(
                size,
                cards_per_node=cards_per_node,
                failures_per_node_day=failures_per_node_day,
                repair_minutes=repair_minutes,
                checkpoint_seconds=checkpoint_seconds,
            )
            for size in cards or model.facts().sizes
        ]
        _print_jobs(jobs, json=json, csv=csv)
        return
    if cards or cards_per_node is not None:
        raise InputError(
            "published cases have sizes of their own",
            where="--validate",
            got="--cards" if cards else "--cards-per-node",
            expected="neither with it",
        )
    checks = model.validate(
        failures_per_node_day=failures_per_node_day,
        repair_minutes=repair_minutes,
        checkpoint_seconds=checkpoint_seconds,
    )
    _print_checks(checks, json=json, csv=csv)


def _print_jobs(jobs: Sequence[Goodput], *, json: bool, csv: bool) -> None:
    if json or csv:
        print_rows([job.as_json() for job in jobs], csv=csv)
        return
    from nameplate.report.goodput import goodput_view
    from nameplate.report.terminal import show

    show(goodput_view(jobs))


def _print_checks(checks: Sequence[Check], *, json: bool, csv: bool) -> None:
    """Print the checks; the command ends with 1 where one is past its bound."""
    from nameplate.report.goodput import failures, validation_view

    if json or csv:
        print_rows([check.as_json() for check in checks], csv=csv)
    else:
        from nameplate.report.terminal import show

        show(validation_view(checks))
    failed = failures(checks)
    for sentence in failed:
        print(f"bench: past its bound: {sentence}", file=sys.stderr)
    if failed:
        raise typer.Exit(ExitStatus.CHECK_FAILED)
