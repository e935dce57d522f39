"""Printing on standard output: JSON, CSV, or a screen in the reader's language."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError
from nameplate.base.language import ENGLISH, use_language
from nameplate.base.streams import TolerantStream
from nameplate.base.text import plain

if TYPE_CHECKING:
    from nameplate.report.view import Table, View


@contextmanager
def output_language(lang: str, *, json: bool = False, csv: bool = False) -> Iterator[None]:
    """Translate sentences made inside to `lang`; JSON and CSV, which programs read, stay English.

    Raises InputError for both formats at once, and for a language without a catalogue, whatever the format.
    """
    if json and csv:
        raise InputError("two formats at once", got="--json and --csv", expected="one of the two")
    with use_language(lang), use_language(ENGLISH if json or csv else lang):
        yield


def check_language(lang: str) -> None:
    """Raise InputError for a language without a catalogue. For commands that take long before they print."""
    with output_language(lang):
        pass


def print_progress(line: object) -> None:
    """Print what is being done on standard error; a closed or full one stops nothing."""
    print(plain(line), file=TolerantStream(sys.stderr), flush=True)


def print_json(data: Any) -> None:
    """Print one JSON document. Infinity, an interval's end without a limit, is null.

    Raises ValueError for NaN, which no figure is.
    """
    import json

    try:
        text = json.dumps(data, indent=2, allow_nan=False)
    except ValueError:
        text = json.dumps(_drop_infinite(data), indent=2, allow_nan=False)
    print(text)


def _drop_infinite(data: Any) -> Any:
    if isinstance(data, float):
        return None if math.isinf(data) else data
    if isinstance(data, dict):
        return {name: _drop_infinite(each) for name, each in data.items()}
    return [_drop_infinite(each) for each in data] if isinstance(data, list | tuple) else data


def print_rows(rows: list[dict[str, Any]], *, csv: bool) -> None:
    """Print rows as one JSON document, or as CSV."""
    if csv:
        from nameplate.report.fleet.csv_text import rows_to_csv

        print(rows_to_csv(rows), end="")
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
