"""TOML from a file or a user into a pydantic model, with errors that say file, key, got and expected."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nameplate.base.errors import InputError
from nameplate.base.files import MIB, read_text
from nameplate.base.model import LARGEST, SMALLEST, explain_error, is_possible

MOST_BYTES = 16 * MIB
_DEEPEST = 32  # levels of tables and lists; our own files have six
_MOST_QUOTED = 120  # characters of a value that can't be used
_Model = TypeVar("_Model", bound=BaseModel)


def read_packaged(package: str, name: str) -> str:
    """The text of `data/<name>` of one of our packages."""
    return (files(package) / "data" / name).read_text(encoding="utf-8")


def read_file(file: str | Path, content: str) -> str:
    """The text of a user's file of `content` ("fleets"). Raises InputError where it can't be read."""
    try:
        return read_text(file, MOST_BYTES)
    except OSError as error:
        raise InputError(
            f"a file of {content} can't be read",
            where=str(file),
            got=error.strerror,
            expected=f"a TOML file of {content}",
        ) from None


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a file that holds `model`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True),
    }


def parse_toml(model: type[_Model], text: str, where: str, context: object = None) -> _Model:
    """Validate the TOML `text` as `model`; `where` names the file in errors.

    `context` is what the model's own validators are given as pydantic's context.

    Raises InputError for text that isn't TOML and for the first value that can't be used.
    """
    return validate(model, load(text, where), where, context)


def load(text: str, where: str) -> dict[str, Any]:
    """Return the document in the TOML `text`; raises InputError for any other text and a number too large."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of a number of 5,000 digits, and of deep nesting
        said = "nested too deep" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise _not_toml(where, said) from None
    for key, number in _list_numbers(data, where):
        if (isinstance(number, int) or math.isfinite(number)) and not is_possible(number):
            raise bad_value(where, key, number, f"0, or from {SMALLEST:g} to {LARGEST:g}")
    return data


def validate(model: type[_Model], data: dict[str, Any], where: str, context: object = None) -> _Model:
    """Validate a document as `model`; raises InputError for the first value that can't be used."""
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        # A misspelt key is both an unknown one and a missing one: the unknown one is what to look for.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        raise bad_value(where, _key(data, first["loc"]), *explain_error(first)) from None


def _not_toml(where: str, said: str) -> InputError:
    return InputError("not TOML", where=where, got=said, expected="a TOML document")


def bad_value(where: str, key: str, got: object, expected: str) -> InputError:
    """The error of a value that can't be used."""
    # An input may be a whole table, or very long; its first part is enough to find it by.
    short = isinstance(got, int | float | str) and len(repr(got)) <= _MOST_QUOTED
    shown = got if short else repr(got)[:_MOST_QUOTED]
    return InputError(f"the value of {key} can't be used", where=where, got=shown, expected=expected)


def _list_numbers(data: dict[str, Any], where: str) -> Iterator[tuple[str, int | float]]:
    """Yield every number of a document with the last part of its key.

    Raises InputError for one that is nested deeper than `_DEEPEST`: a dotted key makes a table of each of its
    parts without a pair of brackets, so the parser reads it, and whatever walks the document would fail.
    """
    left: list[tuple[int, str, Any]] = [(1, *item) for item in data.items()]
    while left:
        depth, key, value = left.pop()
        if depth > _DEEPEST:
            raise _not_toml(where, "nested too deep")
        if isinstance(value, dict):
            left += ((depth + 1, *item) for item in value.items())
        elif isinstance(value, list):
            left += ((depth + 1, key, each) for each in value)
        elif isinstance(value, int | float):
            yield key, value


def _key(data: Any, loc: Sequence[int | str]) -> str:
    """`microarchitecture[amd-zen4].throughput[0].date`: tables by their id where they have one."""
    key = ""
    for step in loc:
        if step == "[key]":  # pydantic's mark for a mapping's key, which the step before it names
            continue
        data = _child(data, step)
        if isinstance(step, int):
            key += f"[{data.get('id', step) if isinstance(data, dict) else step}]"
        else:
            key += f".{step}" if key else step
    return key or "the file"


def _child(data: Any, step: int | str) -> Any:
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return None
