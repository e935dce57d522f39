"""CSV: a header, then a line for each record."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.base.text import disarm_formulas
from nameplate.export.fields import Entry, list_fields


class _Line:
    """A file whose `write` returns the text, so that `csv.writer.writerow` returns the line."""

    def write(self, text: str) -> str:
        return text


def format_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines. What isn't known is an empty cell, and a list is joined by `; `.

    Text that a spreadsheet would read as a formula gets an apostrophe before it.
    """
    writer = csv.writer(_Line(), lineterminator="\n")
    yield writer.writerow([field.name for field in list_fields()])
    for entry in entries:
        yield writer.writerow([_format_cell(value) for value in entry.row.values()])


def _format_cell(value: Any) -> Any:
    text = "; ".join(value) if isinstance(value, list) else value
    return disarm_formulas(text) if isinstance(text, str) else text
