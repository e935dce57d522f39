"""`bench compare`: two runs, or two commits measured in turn: faster, slower, the same or ambiguous."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.base.errors import CheckFailed, InputError, RunIncomplete
from nameplate.base.exit_status import print_error
from nameplate.cli.options import DEVICE, Budget, Json, Lang, Only, Results, take_flags
from nameplate.cli.output import output_language, print_json, print_progress, show_view

if TYPE_CHECKING:
    from nameplate.compare.comparison import Comparison


@dataclass(frozen=True)
class StoredRunFlags:
    """What may be said of two runs that were measured before; nothing of it has an effect on turns."""

    across_parts: Annotated[
        bool, typer.Option("--across-parts", help="Compare two parts, by efficiency.")
    ] = False
    across_libraries: Annotated[
        bool,
        typer.Option(
            "--across-libraries", help="Compare two versions of cuBLAS, cuDNN, oneDNN or another BLAS."
        ),
    ] = False
    restart_spread: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Spread between restarts, a fraction, for sides of 1 or 2 runs. [default: as measured]",
        ),
    ] = None


@dataclass(frozen=True)
class InterleaveFlags:
    """What --interleave measures, and for how long."""

    suite: Annotated[
        str | None, typer.Option(help="The suite that --interleave measures. [default: smoke]")
    ] = None
    device: Annotated[str | None, DEVICE] = None
    budget: Budget = None
    pairs: Annotated[
        int | None, typer.Option(metavar="N", help="Most pairs of runs of --interleave. [default: 60]")
    ] = None
    at_least: Annotated[
        int | None, typer.Option(metavar="N", help="Fewest pairs of runs of --interleave. [default: 5]")
    ] = None


@dataclass(frozen=True)
class FormatFlags:
    """How the comparison is printed: by default as tables for a terminal."""

    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False
    summary: Annotated[
        bool, typer.Option("--summary", help="Print ten lines of Markdown, for the page of a CI job.")
    ] = False
    json: Json = False

    def require_one(self) -> None:
        """Raise InputError for two formats at once."""
        asked = [f"--{name}" for name, given in asdict(self).items() if given]
        if len(asked) > 1:
            raise InputError("two formats at once", got=" and ".join(asked), expected="one of them")


@take_flags(of_runs=StoredRunFlags, of_turns=InterleaveFlags, printed=FormatFlags)
def compare(
    of_runs: StoredRunFlags,
    of_turns: InterleaveFlags,
    printed: FormatFlags,
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="A run (folder, id, beginning of an id, latest), a folder of runs, or pytest-benchmark's "
            "JSON.",
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, to compare with BASE.")],
    interleave: Annotated[
        bool,
        typer.Option(
            "--interleave",
            help="Measure BASE and NEW in turn: each a commit, an environment, or . for the working tree.",
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="X", help="Smaller changes count as the same; a fraction. [default: 0.015]"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="achieved, normalized or efficiency. [default: depends on the device]"),
    ] = None,
    only: Only = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="ambiguous", help="Also exit with 3 if a case is ambiguous: no evidence is no pass."
        ),
    ] = None,
    results: Results = None,
    lang: Lang = "en",
) -> None:
    """Tell for each case whether NEW is faster, slower, the same or ambiguous.

    Exits with 1 if a case is slower, with 3 if cases failed, are missing or have wrong results, or (with
    --fail-on ambiguous) can't be told.
    """
    printed.require_one()
    shared = _list_given(threshold=threshold, by=by, only=only, fail_on=fail_on)
    for_turns, for_runs = _list_given(**asdict(of_turns)), _list_given(**asdict(of_runs))
    if interleave:
        _refuse(for_runs, "has no effect with --interleave", "one of the two")
    else:
        _refuse(for_turns, "has an effect with --interleave only", "--interleave too")
    with output_language(lang, json=printed.json):  # refuses an unknown language before anything is measured
        if interleave:
            found = _interleave(base, new, results, shared | for_turns)
        else:
            from nameplate.compare import compare

            found = compare(base, new, results=results, **shared, **for_runs)
        _print(found, printed)
    _check(found)


def _list_given(**flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None and value is not False}


def _refuse(flags: dict[str, Any], what: str, expected: str) -> None:
    """Raise InputError for the first of these flags, which would have no effect."""
    for name, value in flags.items():
        raise InputError(what, where=f"--{name.replace('_', '-')}", got=value, expected=expected)


def _interleave(base: str, new: str, results: Path | None, flags: dict[str, Any]) -> Comparison:
    from nameplate.compare.interleaving import NOTHING_KEPT, interleave

    lines: list[str] = []

    def watch(line: str) -> None:
        lines.append(line)
        print_progress(line)

    try:
        return interleave(base, new, results=results, watch=watch, **flags)
    except KeyboardInterrupt:
        # The first line says where the runs are kept, a last one that there are none.
        where = lines[0] if lines and lines[-1] != NOTHING_KEPT else NOTHING_KEPT
        print_error(f"interrupted; {where}")
        raise


def _print(found: Comparison, printed: FormatFlags) -> None:
    if printed.json:
        print_json(found.as_json())
        return
    from nameplate.report.compare import compare_view, render_summary

    if printed.summary:
        print(render_summary(found), end="")
        return
    view = compare_view(found)
    if printed.markdown:
        from nameplate.report.media.markdown import render

        print(render(view), end="")
    else:
        show_view(view)


def _check(found: Comparison) -> None:
    """Raise CheckFailed for a regression, else RunIncomplete for a broken case or one that isn't decided."""
    if found.slower:
        from nameplate.base.formatting import change, percent

        slower = ", ".join(f"{row.case} ({change(row.ratio.value - 1)})" for row in found.slower if row.ratio)
        raise CheckFailed(f"slower by more than {percent(found.options.threshold)}: {slower}")
    if found.broken:
        broken = ", ".join(f"{row.case} ({row.reason})" for row in found.broken)
        raise RunIncomplete(f"cases of base failed, are missing or have a wrong result in new: {broken}")
    ambiguous = found.counts["ambiguous"]
    if found.undecided:
        raise RunIncomplete(f"{ambiguous} of {len(found.rows)} cases are ambiguous, and so not known to pass")
    if ambiguous:  # a gate sees only the status 0, and its reader should see why that isn't a clear pass
        print_error(
            f"{ambiguous} of {len(found.rows)} cases are ambiguous: no regression is shown, and none ruled "
            "out; --fail-on ambiguous ends with 3 then"
        )
