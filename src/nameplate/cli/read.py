"""`bench list` and `bench show`: the runs that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError
from nameplate.base.exit_status import print_error
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.cli.options import (
    Details,
    Expect,
    FailUnder,
    Json,
    Lang,
    Results,
    find_named_runs,
    parse_shares,
)
from nameplate.cli.output import output_language, print_json, show_tables, show_view
from nameplate.report.section_names import SECTIONS

if TYPE_CHECKING:
    from nameplate.store.folder import Run


def list_runs(results: Results = None, lang: Lang = "en", json: Json = False) -> None:
    """List the runs, newest first: whether each is complete, and what it found.

    Every command takes a run by its id, by the beginning of the id, or as `latest`.
    """
    from nameplate.report.listing import list_runs, list_table
    from nameplate.store.find import describe_unreadable, open_library

    library = open_library(results)
    runs, unreadable = list_runs(library)
    if unreadable:
        print_error(f"passed over {plain(describe_unreadable(unreadable))}")
    with output_language(lang, json=json):
        if json:
            print_json([run.as_json() for run in runs])
        elif runs:
            show_tables([list_table(runs)])
        else:
            no_runs = _(
                "No run in {places}; {command} measures this machine and keeps one.",
                places=library.places,
                command=library.run_command,
            )
            print(plain(no_runs))


def show(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|SECTION]...",
            help="Each a run (folder, id, beginning of an id, or latest) or one of the sections below. "
            "[default: latest]",
        ),
    ] = None,
    details: Details = False,
    expect: Expect = None,
    fail_under: FailUnder = None,
    lang: Lang = "en",
    results: Results = None,
    json: Json = False,
) -> None:
    """Print the answer of a run, or the sections of it that are named; several runs side by side."""
    shares = parse_shares(expect, fail_under)
    runs, sections = _split_names(named or [])
    if sections and (details or json):
        other = "--details" if details else "--json"
        raise InputError(
            "shows every section anyway",
            where=f"bench show {other}",
            got=sections[0],
            expected="one of the two",
        )
    from nameplate.store.folder import read_run

    found = [read_run(folder) for folder in _find_runs(runs, results)]
    if json:
        from nameplate.report.run import run_document

        documents = [run_document(run, found) for run in found]
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        with output_language(lang):
            _show_runs(found, sections, details=details)
    if shares or fail_under is not None:
        from nameplate.chain.expectations import require_expectations

        for run in found:
            require_expectations(run, shares, fail_under)


def _show_runs(runs: Sequence[Run], sections: Sequence[str], *, details: bool) -> None:
    from nameplate.report.media import terminal
    from nameplate.report.run import check_different, make_report, sections_view, summary_view

    check_different(runs)
    if details:
        for view in make_report(runs).views:
            show_view(view)
    elif sections:
        for run in runs:
            show_view(sections_view(run, sections))
    elif len(runs) == 1:
        terminal.show_summary(summary_view(runs[0]))
    else:
        from nameplate.report.side_by_side import side_by_side_view

        show_view(side_by_side_view(runs))


def _split_names(named: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that name runs, and those that name sections; a folder `chain` is `./chain`."""
    sections = [word for word in named if word in SECTIONS]
    return [word for word in named if word not in SECTIONS], list(dict.fromkeys(sections))


def _find_runs(runs: Sequence[str], results: Path | None) -> list[Path]:
    """Return the folders of the runs. Raises InputError for an unknown word, with the sections."""
    try:
        return find_named_runs(runs, results)
    except InputError as error:
        if not runs:
            raise
        run, semicolon, more = (error.expected or "a run").partition("; ")
        expected = f"{run}, or a section: {', '.join(SECTIONS)}{semicolon}{more}"
        raise InputError(error.what, where=error.where, got=error.got, expected=expected) from error


_WIDTH = max(map(len, SECTIONS)) + 2
_LISTED = "\n".join(f"  {name:<{_WIDTH}}{said}" for name, said in SECTIONS.items())
show.__doc__ = f"{show.__doc__}\n\nSections:\n\n\b\n{_LISTED}"
