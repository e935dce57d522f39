"""Making text from outside safe to print: no host name or file name may move the cursor, or be a formula."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SPACES = "\t\n\r"
# Control, format (bidirectional overrides among them), surrogate and private characters, line separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def plain(value: object) -> str:
    """Return the value as one line of printable text: white space becomes a space, the unprintable goes."""
    text = str(value)
    if text.isprintable():  # as most are; what is printable has nothing to be taken out
        return text
    return "".join(" " if char in _SPACES else char for char in text if _shows(char))


def make_plain(item: object) -> None:
    """Make every text of a frozen dataclass, and of tuples in it, `plain`.

    What a reader sees is made of such classes (`report.view`, `report.charts.data`); each calls this as it
    is made. So no text of others reaches a terminal, a page or a file otherwise, whoever puts it there.
    """
    for name, value in vars(item).items():
        object.__setattr__(item, name, _plain_value(value))


def _plain_value(value: object) -> object:
    if isinstance(value, str):
        return plain(value)
    return tuple(map(_plain_value, value)) if type(value) is tuple else value


# Where a spreadsheet would read a formula (full-width signs too): at the start of a cell, and after each
# semicolon, which some spreadsheets take for the separator.
_FORMULA = re.compile(r'((?:^|;)[\s"]*)([=+\-@＝＋－＠])')


def disarm_formulas(cell: str) -> str:
    """Return a cell of a CSV file with an apostrophe before what a spreadsheet would read as a formula."""
    return _FORMULA.sub(r"\1'\2", cell)


def _shows(char: str) -> bool:
    return char in _SPACES or unicodedata.category(char) not in _UNPRINTABLE


def join_or(names: Iterable[str]) -> str:
    """Return `a, b or c`. Raises ValueError for no name."""
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last
