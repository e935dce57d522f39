"""What a reader is told, in the reader's language: English in the code, others by catalogues of messages.

Code says `_("{count} cases", count=3)`: the message is looked up first and filled in after, so a translation
may order the values as its language does. A message that stands where no language is known yet (a constant)
is marked `N_` there, and goes through `_` where it is said. What files hold is said by `messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, reduce
from importlib.resources import files
from typing import Any

from nameplate.base.errors import InputError

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")


@dataclass(frozen=True)
class _Catalogue:
    """The messages of one language."""

    messages: Mapping[str, str]

    def said(self, message: str) -> str:
        """The message in this language; as it stands where it has no translation."""
        return self.messages.get(message, message)


_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current_language() -> str:
    """The current language, such as `en`."""
    return _current.get()


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """Translate everything into `language` while this context is open.

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
    """`message` in the current language, its `{places}` filled with `values`."""
    said = _catalogue(_current.get()).said(message)
    return said.format(**values) if values else said


def N_(message: str) -> str:  # noqa: N802 - the name that extractors of messages know
    """Mark a message for the catalogue; it is translated later, by `_`."""
    return message


def join_sentences(sentences: Iterable[str]) -> str:
    """Sentences one after another, with what the current language puts between two."""
    return reduce(lambda before, after: _("{before} {after}", before=before, after=after), sentences)


@cache
def _catalogue(language: str) -> _Catalogue:
    return _Catalogue({} if language == ENGLISH else _read(language))


def _read(language: str) -> dict[str, str]:
    """The translated messages of `locale/<language>/messages.po`."""
    try:
        from babel.messages.pofile import read_po
    except ImportError as error:
        raise InputError(
            "another language needs babel", where="--lang", expected="pip install 'nameplate[report]'"
        ) from error
    with (files("nameplate") / "locale" / language / "messages.po").open("rb") as file:
        return {str(each.id): str(each.string) for each in read_po(file) if each.id and each.string}
