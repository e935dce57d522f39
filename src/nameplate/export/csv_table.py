"""CSV: a header, then a line for each record."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.export.fields import Entry, list_fields

# Where a spreadsheet would read a formula (full-width signs too): at the start of a cell, and after each
# semicolon, which some spreadsheets take for the separator.
_FORMULA = re.compile(r'((?:^|;)[\s"]*)([=+\-@＝＋－＠])')


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
    return _FORMULA.sub(r"\1'\2", text) if isinstance(text, str) else text
