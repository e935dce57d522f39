"""`bench compare`: two runs, or two commits measured in turn: faster, slower, the same or ambiguous."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import CheckFailed, InputError, RunIncomplete
from nameplate.base.exit_status import print_error
from nameplate.cli.options import DEVICE, Budget, Json, Lang, Only, Results
from nameplate.cli.output import print_json, reader, show_view

if TYPE_CHECKING:
    from nameplate.compare.comparison import Comparison


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("compare")(compare)


def compare(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="A run (folder, id, its beginning, latest), a folder of runs, or pytest-benchmark's JSON.",
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, to be held against it.")],
    interleave: Annotated[
        bool,
        typer.Option(
            "--interleave",
            help="BASE and NEW are commits or environments, measured in turn; . is the working tree.",
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="X", help="The margin, a fraction: 0.02 is 2 %. [default: 0.015]"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="achieved, normalized or efficiency. [default: as the devices need it]"),
    ] = None,
    only: Only = None,
    across_parts: Annotated[
        bool, typer.Option("--across-parts", help="Let the parts differ: by efficiency.")
    ] = False,
    restart_spread: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="What to allow for where a side has 1 or 2 runs, a fraction. [default: as measured]",
        ),
    ] = None,
    suite: Annotated[str | None, typer.Option(help="To interleave. [default: smoke]")] = None,
    device: Annotated[str | None, DEVICE] = None,
    budget: Budget = None,
    pairs: Annotated[
        int | None, typer.Option(metavar="N", help="The most, interleaved. [default: 60]")
    ] = None,
    at_least: Annotated[
        int | None, typer.Option(metavar="N", help="The fewest, interleaved. [default: 5]")
    ] = None,
    results: Results = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Say for each case whether NEW is faster, slower, the same or ambiguous; 1 where it is slower."""
    if json and markdown:
        raise InputError("two formats at once", got="--json and --markdown", expected="one of the two")
    shared = _given(threshold=threshold, by=by, only=only)
    turns = _given(suite=suite, device=device, budget=budget, pairs=pairs, at_least=at_least)
    runs = _given(across_parts=across_parts or None, restart_spread=restart_spread)
    if interleave:
        _refuse(runs, "is for runs that were measured before", "no --interleave beside it")
    else:
        _refuse(turns, "is for runs still to be measured", "--interleave beside it")
    with reader(lang, json=json):  # one that isn't known is refused before anything is measured
        if interleave:
            found = _interleave(base, new, results, shared | turns)
        else:
            from nameplate.compare import compare

            found = compare(base, new, results=results, **shared, **runs)
        _print(found, json=json, markdown=markdown)
    _end(found)


def _given(**flags: Any) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _refuse(flags: dict[str, Any], what: str, expected: str) -> None:
    """A flag that would be ignored in silence."""
    for name, value in flags.items():
        raise InputError(what, where=f"--{name.replace('_', '-')}", got=value, expected=expected)


def _interleave(base: str, new: str, results: Path | None, flags: dict[str, Any]) -> Comparison:
    from nameplate.compare import interleave

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        print(line, file=sys.stderr)

    try:
        return interleave(base, new, results=results, watch=say, **flags)
    except KeyboardInterrupt:
        print_error(f"interrupted; {said[0] if said else 'nothing was measured'}")
        raise


def _print(found: Comparison, *, json: bool, markdown: bool) -> None:
    if json:
        print_json(found.as_json())
        return
    from nameplate.report.compare import compare_view

    view = compare_view(found)
    if markdown:
        from nameplate.report.media.markdown import render

        print(render(view), end="")
    else:
        show_view(view)


def _end(found: Comparison) -> None:
    """Raise what the exit status is, with a sentence that says why."""
    if found.slower:
        from nameplate.base.formatting import change, percent

        slower = ", ".join(f"{row.case} ({change(row.ratio.value - 1)})" for row in found.slower if row.ratio)
        raise CheckFailed(f"slower by more than {percent(found.options.threshold)}: {slower}")
    if found.broken:
        broken = ", ".join(f"{row.case} ({row.reason})" for row in found.broken)
        raise RunIncomplete(f"new lacks, failed or got wrong what base has: {broken}")
