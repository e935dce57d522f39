"""CSV: a header and a line a record."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.export.rows import Entry, fields

# Where a spreadsheet begins to read a formula (full-width signs count too): at a cell's start, and, where the
# separator is a semicolon, after each of those.
_FORMULA = re.compile(r'((?:^|;)[\s"]*)([=+\-@＝＋－＠])')


class _Line:
    """Gives back what it is told to write: `writerow` then returns its line."""

    def write(self, text: str) -> str:
        return text


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """The table. What isn't known is empty, and a list is joined by `; `.

    Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    writer = csv.writer(_Line(), lineterminator="\n")
    yield writer.writerow([field.name for field in fields()])
    for entry in entries:
        yield writer.writerow([_cell(value) for value in entry.row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return _cell("; ".join(value))
    return _FORMULA.sub(r"\1'\2", value) if isinstance(value, str) else value
