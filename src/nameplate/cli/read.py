"""`bench list` and `bench show`: the runs that were measured."""

from __future__ import annotations

from nameplate.base.exit_status import print_error
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.cli.options import Json, Lang, Results, RunNames, find_named_runs
from nameplate.cli.output import output_language, print_json, show_tables, show_view


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


def show(runs: RunNames = None, lang: Lang = "en", results: Results = None, json: Json = False) -> None:
    """Print a run as tables, with its chain and the fleets it prices; several runs side by side."""
    from nameplate.store.folder import read_run

    found = [read_run(folder) for folder in find_named_runs(runs, results)]
    if json:
        from nameplate.report.run import run_document

        documents = [run_document(run) for run in found]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    from nameplate.report.run import make_report

    with output_language(lang):
        for view in make_report(found).views:
            show_view(view)
