"""Warnings and reasons, stored as a code with values; the sentence is made when somebody reads it.

`message("needs_memory", needed_gb=91.0, held_gb=85.0)` makes a `Message`. `TEMPLATES` of
templates.py holds the English template of each code, and a catalogue translates it like any other text.
`str(...)` returns English, for programs and logs; `render(...)` returns the language in use. No code parses
a sentence back.

Text from elsewhere is never translated: errors of torch and of drivers, sources, and the sentences in files
of schema 1 and 2. Alone, such text is a message of code `text`; as a value it is a plain string.

This module imports little more than the standard library, because the processes that sample a GPU use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral, Real
from string import Formatter
from typing import Union

from nameplate.base import formatting
from nameplate.base.language import ENGLISH, _, use_language
from nameplate.base.templates import OURS, TEMPLATES, TEXT

Scalar = Union[str, bool, int, float, None, "Message"]
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class Message:
    """A code of `TEMPLATES` and the values of its sentence; numbers are not rounded.

    Make one with `message`, `text` or `own_text`, which check it. A message read from a file is not checked:
    another version may have other codes, or other values for a code.
    """

    code: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the sentence in English, whatever language is in use: for programs and logs."""
        with use_language(ENGLISH):  # for the units of a duration too
            return _make_sentence(self, str)

    def __hash__(self) -> int:
        """Hash the contents: equal messages have equal hashes."""
        return hash((self.code, frozenset(self.values.items())))

    @property
    def codes(self) -> tuple[str, ...]:
        """Its own code, then the codes of the messages among its values."""
        parts = [part for value in self.values.values() for part in _as_tuple(value)]
        return (self.code, *(code for part in parts if isinstance(part, Message) for code in part.codes))

    def find(self, code: str) -> Message | None:
        """Return this message, or the first one among its values, that has the code; None where none has."""
        if self.code == code:
            return self
        parts = (part for value in self.values.values() for part in _as_tuple(value))
        found = (part.find(code) for part in parts if isinstance(part, Message))
        return next((each for each in found if each is not None), None)


# The reason for something: a message of ours, or text from elsewhere, which is never translated.
Reason = str | Message


def message(code: str, /, **values: object) -> Message:
    """Make a message with a value for each placeholder of its template.

    A value is text, a number, a bool, None (not known), a message, or a list of these. A number that isn't
    finite becomes None, because JSON can't hold it. Raises ValueError for a code that isn't in `TEMPLATES`
    and for missing or extra values, TypeError for a value of another type.
    """
    if code not in TEMPLATES:
        raise ValueError(f"no message has the code {code!r}: add it to base/templates.py")
    if values.keys() != placeholders(TEMPLATES[code]):
        raise ValueError(
            f"message {code} takes the values {sorted(placeholders(TEMPLATES[code]))}; got {sorted(values)}"
        )
    return Message(code, {name: _check_value(value) for name, value in values.items()})


def text(sentence: object) -> Message:
    """Make a message of text from elsewhere (an error of torch, an old file's sentence): never translated."""
    return message(TEXT, text=str(sentence))


def own_text(sentence: str) -> Message:
    """Make a message of our own text, such as a sentence of a data file, which a catalogue may translate."""
    return message(OURS, text=sentence)


def to_message(reason: object) -> Message:
    """Return a message unchanged, anything else as a message of text from elsewhere."""
    return reason if isinstance(reason, Message) else text(reason)


def render(reason: Reason) -> str:
    """Return the sentence in the language in use; text from elsewhere unchanged.

    Never fails: a code that this version doesn't know is shown with its values.
    """
    return _make_sentence(reason, _) if isinstance(reason, Message) else reason


def edit_texts(found: Message, edit: Callable[[str], str]) -> Message:
    """Return the message with `edit` applied to each text among its values, nested messages included."""

    def change(value: Scalar) -> Scalar:
        if isinstance(value, Message):
            return edit_texts(value, edit)
        return edit(value) if isinstance(value, str) else value

    values = {
        name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        for name, value in found.values.items()
    }
    return Message(found.code, values)


@cache
def placeholders(template: str) -> frozenset[str]:
    """Return the names of the placeholders of a template."""
    return frozenset(name for _before, name, _form, _how in Formatter().parse(template) if name is not None)


def _check_value(value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_check_scalar(each) for each in value)
    return _check_scalar(value)


def _check_scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str | bool | Message):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"a message holds text, numbers and messages; got {type(value).__name__}")


class _Unknown:
    """An unknown value: prints as an en dash, whatever its format specification."""

    def __format__(self, form: str) -> str:
        return "–"

    def __str__(self) -> str:
        return "–"

    def __repr__(self) -> str:
        return "None"


class _Several:
    """Several values; the format specification of their placeholder is the separator between them."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def __format__(self, between: str) -> str:
        return between.join(self._said)


def _as_tuple(value: Value) -> tuple[Scalar, ...]:
    return value if isinstance(value, tuple) else (value,)


_RULES: Mapping[str, Callable[[float], str]] = {
    each.__name__: each for each in (formatting.duration, formatting.figure, formatting.percent)
}


class _Formatter(Formatter):
    """Python's formatter, which also accepts the name of a rule of `formatting` as a format specification."""

    def format_field(self, value: object, format_spec: str) -> str:
        rule = _RULES.get(format_spec)
        if rule is not None and isinstance(value, int | float):
            return rule(value)
        return str(super().format_field(value, format_spec))


_FORMATTER = _Formatter()


def _make_sentence(said: Message, translate: Callable[[str], str]) -> str:
    """Return the sentence of a message; `translate` is applied to every template, nested ones included."""
    if said.code in (TEXT, OURS) and isinstance(sentence := said.values.get("text"), str):
        return sentence if said.code == TEXT else translate(sentence)
    template = TEMPLATES.get(said.code)
    if template is not None:
        values = {name: _format_value(value, translate) for name, value in said.values.items()}
        try:
            return _FORMATTER.vformat(translate(template), (), values)
        except (LookupError, ValueError, TypeError, ArithmeticError):  # another version's values
            pass
    return _show_raw(said, translate)


def _format_value(value: Value, translate: Callable[[str], str]) -> object:
    """Return a value as a template takes it: a number stays a number, which the template formats."""
    if isinstance(value, tuple):
        return _Several([str(_format_value(each, translate)) for each in value])
    if isinstance(value, Message):
        return _make_sentence(value, translate)
    return _Unknown() if value is None else value


def _show_raw(said: Message, translate: Callable[[str], str]) -> str:
    """Return the code and the values: all that is known of a message of another version."""
    values = ", ".join(
        f"{name} {' '.join(str(_format_value(part, translate)) for part in _as_tuple(value))}"
        for name, value in said.values.items()
    )
    return f"{said.code} ({values})" if values else said.code
