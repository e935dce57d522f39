"""`bench fleet validate`, `goodput` and `audit`: models and claims compared with published figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from nameplate.base.errors import CheckFailed, InputError
from nameplate.base.exit_status import ExitStatus, print_error
from nameplate.cli.options import Details, OutputFlags, Parts, path_parser, take_flags
from nameplate.cli.output import print_json, print_rows, show_view


@take_flags(printing=OutputFlags)
def validate(
    printing: OutputFlags,
    bound: Annotated[
        float | None,
        typer.Option(metavar="X", help="Largest error allowed, as a ratio. [default: each check's own]"),
    ] = None,
    details: Details = False,
) -> None:
    """Predict published MFUs and end-to-end figures from others; exit with 1 past a bound."""
    from nameplate.fleet.mfu_study import study_mfu
    from nameplate.fleet.validation import load_mfu_bounds
    from nameplate.fleet.validation import validate as compute
    from nameplate.report.fleet.mfu import list_mfu_failures
    from nameplate.report.fleet.validation import list_chain_failures, validation_view

    with printing.in_language():
        checks = compute(bound=bound)
        study = study_mfu(load_mfu_bounds(), median_error=bound)
        if printing.as_rows:
            print_rows([*study.as_rows(), *(each.as_json() for each in checks)], csv=printing.csv)
        else:
            show_view(validation_view(study, checks, details=details))
    failed = [*list_mfu_failures(study), *list_chain_failures(checks)]
    if failed:
        total = len(study.checks) + len(checks)
        raise CheckFailed(f"{len(failed)} of {total} checks miss their bound: {', '.join(failed)}")


@dataclass(frozen=True)
class InterruptionFlags:
    """What interrupts a job, and what each interruption costs; by default as published."""

    failures_per_node_day: Annotated[
        str | None,
        typer.Option(
            metavar="X", help="Failures of a node a day: X, LOW..HIGH or LOW..X..HIGH. [default: 0.0039]"
        ),
    ] = None
    repair_minutes: Annotated[
        str | None,
        typer.Option(metavar="R", help="Minutes from a failure until the job computes again. [default: 10]"),
    ] = None
    checkpoint_seconds: Annotated[
        str | None,
        typer.Option(metavar="S", help="Seconds that a checkpoint stops training for. [default: 43]"),
    ] = None


@take_flags(interruptions=InterruptionFlags, printing=OutputFlags)
def goodput(
    interruptions: InterruptionFlags,
    printing: OutputFlags,
    cards: Annotated[
        list[int] | None,
        typer.Option("--cards", metavar="N", help="Cards of the job (repeatable). [default: several sizes]"),
    ] = None,
    cards_per_node: Annotated[
        int | None, typer.Option(metavar="N", help="Cards that fail together. [default: 8]")
    ] = None,
    validate: Annotated[
        bool,
        typer.Option("--validate", help="Compare the model with published cases; exit with 1 past a bound."),
    ] = False,
) -> None:
    """Print how much of a job's elapsed time is useful, given failures, restarts and checkpoints."""
    from nameplate.fleet.goodput import estimate_goodput, load_goodput_file

    if validate:
        if cards or cards_per_node is not None:
            raise InputError(
                "published cases have sizes of their own",
                where="--validate",
                got="--cards" if cards else "--cards-per-node",
                expected="--validate without it",
            )
        _validate_goodput(interruptions, printing)
        return
    with printing.in_language():
        jobs = [
            estimate_goodput(size, cards_per_node=cards_per_node, **asdict(interruptions))
            for size in cards or load_goodput_file().sizes
        ]
        if printing.as_rows:
            print_rows([job.as_json() for job in jobs], csv=printing.csv)
        else:
            from nameplate.report.fleet.goodput import goodput_view

            show_view(goodput_view(jobs))


def _validate_goodput(interruptions: InterruptionFlags, printing: OutputFlags) -> None:
    """Print the model beside each published case; exit with 1 where one is past its bound."""
    from nameplate.fleet.validation import validate_goodput
    from nameplate.report.fleet.validation import goodput_validation_view, list_goodput_failures

    with printing.in_language():
        checks = validate_goodput(**asdict(interruptions))
        if printing.as_rows:
            print_rows([check.as_json() for check in checks], csv=printing.csv)
        else:
            show_view(goodput_validation_view(checks))
    failed = list_goodput_failures(checks)
    for sentence in failed:
        print_error(f"past its bound: {sentence}")
    if failed:
        raise typer.Exit(ExitStatus.CHECK_FAILED)


@take_flags(printing=OutputFlags)
def audit(
    printing: OutputFlags,
    claims: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=path_parser("--claims", "file"),
            help="A TOML file with your own claims. [default: those of the article]",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a claim is contradicted.")] = False,
    parts: Parts = None,
    details: Details = False,
) -> None:
    """Recompute each claim of an article on automakers' computing (36Kr, 2024-10): does it hold?"""
    from nameplate.fleet.audit import audit as recompute
    from nameplate.report.fleet.audit import audit_view

    with printing.in_language():
        rows = recompute(claims, parts or ())
        if printing.json:
            print_json([row.as_json() for row in rows])
        elif printing.csv:
            # Ids are separated by spaces here, as in a claim's formula.
            print_rows([row.as_json() | {"builds_on": " ".join(row.builds_on)} for row in rows], csv=True)
        else:
            show_view(audit_view(rows, details=details))
    contradicted = [row.id for row in rows if row.verdict == "contradicted"]
    if strict and contradicted:
        raise CheckFailed(f"--strict: contradicted are {', '.join(contradicted)}")
