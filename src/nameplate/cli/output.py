"""Printing on standard output, shared by the commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError
from nameplate.base.language import ENGLISH, use_language

if TYPE_CHECKING:
    from nameplate.report.view import Table, View
    from nameplate.store.folder import Run


@contextmanager
def reader(lang: str, *, json: bool = False, csv: bool = False) -> Iterator[None]:
    """Have what is said meanwhile be said in the reader's language; what programs read is always English.

    Raises InputError for a language that there is no catalogue of, whatever is printed.
    """
    with use_language(lang), use_language(ENGLISH if json or csv else lang):
        yield


def check_language(lang: str) -> None:
    """Raise InputError for a language that there is no catalogue of, before anything is measured."""
    with reader(lang):
        pass


def print_json(data: Any) -> None:
    """Print one JSON document. Raises ValueError for NaN and infinity, which JSON doesn't have."""
    import json

    print(json.dumps(data, indent=2, allow_nan=False))


def print_run(run: Run, *, lang: str, json: bool) -> None:
    """Print a run as one screen in the reader's language, or as one JSON document."""
    if json:
        from nameplate.report.run import run_document

        print_json(run_document(run))
    else:
        from nameplate.report.run import run_view

        with reader(lang):
            show_view(run_view(run))


def check_format(json: bool, csv: bool) -> None:
    """One format at a time. InputError for both."""
    if json and csv:
        raise InputError("two formats at once", got="--json and --csv", expected="one of the two")


def print_rows(rows: list[dict[str, Any]], *, csv: bool) -> None:
    """Print rows as one JSON document, or as CSV."""
    if csv:
        from nameplate.report.fleet.costs import as_csv

        print(as_csv(rows), end="")
    else:
        print_json(rows)


def show_tables(tables: Sequence[Table]) -> None:
    """Print tables on the terminal."""
    from nameplate.report.media import terminal

    terminal.show_tables(tables)


def show_view(view: View) -> None:
    """Print a view on the terminal."""
    from nameplate.report.media.terminal import show

    show(view)
