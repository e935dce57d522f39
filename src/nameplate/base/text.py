"""Making text from outside safe to print: no host name or file name may move the cursor."""

from __future__ import annotations

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


def _shows(char: str) -> bool:
    return char in _SPACES or unicodedata.category(char) not in _UNPRINTABLE


def join_or(names: Iterable[str]) -> str:
    """Return `a, b or c`. Raises ValueError for no name."""
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last
