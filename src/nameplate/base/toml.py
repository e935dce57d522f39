"""TOML from a file or a user into a pydantic model, with errors that say file, key, got and expected."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nameplate.base.errors import InputError

_Model = TypeVar("_Model", bound=BaseModel)


def read_packaged(package: str, name: str) -> str:
    """The text of `data/<name>` of one of our packages."""
    return (files(package) / "data" / name).read_text(encoding="utf-8")


def read_file(file: str | Path, content: str) -> str:
    """The text of a user's file of `content` ("fleets"). Raises InputError where it can't be read."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(
            f"a file of {content} can't be read",
            where=str(file),
            got=reason,
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
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError("not TOML", where=where, got=str(error), expected="a TOML document") from None
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        # A misspelt key is both an unknown one and a missing one: the unknown one is what to look for.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        raise bad_value(where, _key(data, first["loc"]), *_got_and_expected(first)) from None


def bad_value(where: str, key: str, got: object, expected: str) -> InputError:
    """The error of a value that can't be used."""
    # An input may be a whole table; its first part is enough to find it by.
    shown = got if isinstance(got, int | float | str) else repr(got)[:120]
    return InputError(f"the value of {key} can't be used", where=where, got=shown, expected=expected)


def _got_and_expected(error: ErrorDetails) -> tuple[object, str]:
    if error["type"] == "extra_forbidden":
        return error["input"], "no such key"
    if error["type"] == "missing":
        return "nothing", "a value: the key is required"
    return error["input"], error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


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
