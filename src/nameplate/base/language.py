"""The language of what a person reads: English in the code, other languages by gettext catalogues.

Code says `_("{count} cases", count=3)`. The message is translated first and filled in afterwards, so that a
translation may order the values as its language does. A constant is marked with `N_` where it is defined, and
goes through `_` where it is shown. Sentences that files hold are made by `messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, reduce
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from typing import Any

from nameplate.base.errors import InputError

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")

_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current_language() -> str:
    """Return the language in use, such as `en`."""
    return _current.get()


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """Use `language` for every sentence made inside the block.

    Raises InputError for a language without a catalogue.
    """
    if language not in LANGUAGES:
        raise InputError("no such language", where="--lang", got=language, expected=" or ".join(LANGUAGES))
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def _(message: str, **values: Any) -> str:
    """Return `message` in the language in use, its `{places}` filled with `values`."""
    # gettext answers an empty message with the catalogue's header.
    translated = _catalogue(_current.get()).gettext(message) if message else ""
    return translated.format(**values) if values else translated


def N_(message: str) -> str:  # noqa: N802 - the name that extractors of messages know
    """Mark a message for translation where no language is known yet; `_` translates it later."""
    return message


def join_sentences(sentences: Iterable[str]) -> str:
    """Return the sentences one after another, with the separator of the language in use."""
    return reduce(lambda before, after: _("{before} {after}", before=before, after=after), sentences)


@cache
def _catalogue(language: str) -> NullTranslations:
    """Return the catalogue that `make locale` compiled; English needs none."""
    if language == ENGLISH:
        return NullTranslations()
    path = files("nameplate") / "locale" / language / "LC_MESSAGES" / "nameplate.mo"
    with path.open("rb") as file:
        return GNUTranslations(file)
