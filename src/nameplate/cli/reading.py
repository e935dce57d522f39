"""`bench list`, `bench show`, `bench suites`: what was measured, and what can be."""

from __future__ import annotations

import sys
from typing import Any

import typer

from nameplate.base.errors import NameplateError
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.cli.naming import named_runs
from nameplate.cli.options import Json, Lang, Results, RunNames
from nameplate.cli.output import print_json, reader, show_tables, show_view


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("list")(list_)
    app.command("show")(show)
    app.command("suites")(suites)


def list_(results: Results = None, lang: Lang = "en", json: Json = False) -> None:
    """List the runs here, the newest first: whole or not, and what each found.

    `latest`, an id or the beginning of one names a run to every command.
    """
    from nameplate.report.listing import list_runs, list_table
    from nameplate.store.find import library, unreadable_words

    places = library(results)
    runs, unreadable = list_runs(places)
    if unreadable:
        print(f"bench: passed over {plain(unreadable_words(unreadable))}", file=sys.stderr)
    with reader(lang, json=json):
        if json:
            print_json([run.as_json() for run in runs])
        elif runs:
            show_tables([list_table(runs)])
        else:
            none = _(
                "No run in {places}; {command} measures this machine and keeps one.",
                places=places.places,
                command=places.run_command,
            )
            print(plain(none))


def show(runs: RunNames = None, lang: Lang = "en", results: Results = None, json: Json = False) -> None:
    """Print a run as tables and the chain, with the fleets it prices; several runs side by side."""
    from nameplate.store.folder import read_run

    found = [read_run(folder) for folder in named_runs(runs, results)]
    if json:
        from nameplate.report.run import run_document

        documents = [run_document(run) for run in found]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    from nameplate.base.language import use_language
    from nameplate.report.run import make_report

    with use_language(lang):
        for view in make_report(found).views:
            show_view(view)


def suites(lang: Lang = "en", json: Json = False) -> None:
    """List what can be run here."""
    from nameplate import suite

    rows: list[dict[str, Any]] = []
    for name in suite.list_suite_names():
        try:
            found = suite.find_suite(name)
            rows.append({"suite": name, "budget_s": found.budget_s, "description": found.description})
        except NameplateError as error:  # one package's broken suite is no reason to hide the others
            rows.append({"suite": name, "budget_s": None, "description": str(error)})
    with reader(lang, json=json):
        if json:
            print_json(rows)
        else:
            from nameplate.report.listing import suites_view

            show_view(suites_view(rows))
