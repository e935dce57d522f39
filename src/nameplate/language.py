"""What a reader is told, in the reader's language: English in the code, others by catalogues of messages.

Code says `_("{count} cases", count=3)`: the message is looked up first and filled in after, so a translation
may order the values as its language does. A message that stands where no language is known yet (a constant)
is marked `N_` there, and goes through `_` where it is said. What a file holds in English is `retold`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, reduce
from importlib.resources import files
from typing import Any

from nameplate.errors import InputError

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")
_PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")


@dataclass(frozen=True)
class _Catalogue:
    """The messages of one language; `recorded` are sentences that files hold, as patterns."""

    messages: Mapping[str, str]
    recorded: tuple[tuple[re.Pattern[str], str], ...] = ()

    def said(self, message: str) -> str:
        """The message in this language; as it stands where it has no translation."""
        return self.messages.get(message, message)


_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current() -> str:
    """The language that is spoken now, such as `en`."""
    return _current.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Have everything that is said meanwhile be said in `language`.

    Raises InputError for one that there is no catalogue of, and where the library that reads it is missing.
    """
    if language not in LANGUAGES:
        raise InputError("no such language", where="--lang", got=language, expected=" or ".join(LANGUAGES))
    _catalogue(language)
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def _(message: str, **values: Any) -> str:
    """`message` in the language that is spoken, its `{places}` filled with `values`."""
    said = _catalogue(_current.get()).said(message)
    return said.format(**values) if values else said


def N_(message: str) -> str:  # noqa: N802 - the name that extractors of messages know
    """Mark a message that is said later."""
    return message


def in_a_row(sentences: Iterable[str]) -> str:
    """Sentences one after another, with what the language that is spoken puts between two."""
    return reduce(lambda before, after: _("{before} {after}", before=before, after=after), sentences)


def retold(sentence: str) -> str:
    """A sentence that a file holds, in the language that is spoken; as it stands where no message fits.

    Warnings hold several clauses; each is told by itself, and so is what stands in a place of one.
    """
    catalogue = _catalogue(_current.get())
    clauses = sentence.split("; ")
    told = [_retold(clause, catalogue) for clause in clauses]
    return sentence if told == clauses else _("; ").join(told)


def _retold(clause: str, catalogue: _Catalogue) -> str:
    items = clause.split(", ")
    told = [_retold_item(item, catalogue) for item in items]
    is_list = all(after != before for after, before in zip(told, items, strict=True))
    return _(", ").join(told) if is_list else _retold_item(clause, catalogue)


def _retold_item(item: str, catalogue: _Catalogue) -> str:
    for pattern, told in catalogue.recorded:
        found = pattern.fullmatch(item)
        if found:
            return told.format(**{name: _retold(said, catalogue) for name, said in found.groupdict().items()})
    return catalogue.messages.get(item, item)


@cache
def _catalogue(language: str) -> _Catalogue:
    if language == ENGLISH:
        return _Catalogue({})
    recorded = _read(language, "recorded")
    # Where several fit, the one with most text of its own comes first.
    ordered = sorted(recorded, key=lambda message: len(_PLACEHOLDER.sub("", message)), reverse=True)
    patterns = tuple((_pattern(message), recorded[message]) for message in ordered)
    return _Catalogue(_read(language, "messages"), patterns)


def _read(language: str, name: str) -> dict[str, str]:
    """The translated messages of `locale/<language>/<name>.po`."""
    try:
        from babel.messages.pofile import read_po
    except ImportError as error:
        raise InputError(
            "another language needs babel", where="--lang", expected="pip install 'nameplate[report]'"
        ) from error
    with (files("nameplate") / "locale" / language / f"{name}.po").open("rb") as file:
        return {str(each.id): str(each.string) for each in read_po(file) if each.id and each.string}


def _pattern(message: str) -> re.Pattern[str]:
    """What matches a message whatever stands in its `{places}`."""
    parts = _PLACEHOLDER.split(message)
    return re.compile(
        "".join(re.escape(part) if n % 2 == 0 else f"(?P<{part}>.+?)" for n, part in enumerate(parts))
    )
