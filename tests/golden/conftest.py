"""How a golden file is compared, renewed and laid out, and what of a screen it holds.

A golden file is the JSON of one scenario of `test_golden.py`, in `files/`. Floating-point numbers are
compared with a relative tolerance of 1e-9, because builds of libm, BLAS, numpy and scipy differ in the last
digits; everything else must be equal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
RENEW = ".venv/bin/python -m pytest tests/golden --update-golden"
_RELATIVE = 1e-9
# The difference of two equal numbers of size 1 may be this instead of 0.
_ABSOLUTE = 1e-14
_MOST_LISTED = 20
_LINE = 130


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="Write the golden files anew.")


@pytest.fixture
def golden(request):
    """The golden files beside this file."""
    return Golden(Path(__file__).parent / "files", request.config.getoption("--update-golden"))


@dataclass(frozen=True)
class Golden:
    """A folder of golden files, to compare with or to renew."""

    folder: Path
    renewing: bool = False

    def check(self, name: str, found: Any) -> None:
        """Compare a document with the golden file of that name; or write the file, when renewing."""
        path = self.folder / f"{name}.json"
        found = json.loads(json.dumps(found))  # tuples are lists, as in the file
        if not self.renewing:
            self._compare(path, found)
        elif not path.exists() or any(differences(_read(path), found)):  # what only rounding moved is kept
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lay_out(found) + "\n", encoding="utf-8")

    def names(self) -> set[str]:
        """The names of all files that are there."""
        return {
            path.relative_to(self.folder).with_suffix("").as_posix() for path in self.folder.rglob("*.json")
        }

    def _compare(self, path: Path, found: Any) -> None:
        name = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
        if not path.exists():
            pytest.fail(f"there is no golden file {name}; write it: {RENEW}", pytrace=False)
        differing = list(differences(_read(path), found))
        if differing:
            listed = differing[:_MOST_LISTED]
            listed += [f"… and {len(differing) - _MOST_LISTED} more"] * (len(differing) > _MOST_LISTED)
            lines = "\n  ".join([f"{name}: {len(differing)} differences", *listed])
            advice = f"If this change is meant, renew the file and name the change in the CHANGELOG: {RENEW}"
            pytest.fail(f"{lines}\n{advice}", pytrace=False)

    @staticmethod
    def figures(text: str) -> list[list[str]]:
        """The figures of a screen: a list a table (what blank lines set apart), in it a string a line.

        Held are numbers with their sign, unit and currency, and the dash of a figure that isn't known, in the
        order in which they are read. Not held are words, ids (`bf16`, `1024x1024x1024`), dates, versions,
        bars, and lines without a figure: a reworded screen passes; one with a changed, missing, added or
        moved figure fails.
        """
        tables = []
        for block in re.split(r"\n\s*\n", text):
            lines = (" ".join(_FIGURE.findall(_LEVEL.sub("", line))) for line in block.splitlines())
            if rows := [line for line in lines if line]:
                tables.append(rows)
        return tables


def differences(old: Any, new: Any, where: str = "$") -> Iterator[str]:
    """Yield `JSON path: was OLD, is NEW` for each value that differs; the order of keys doesn't matter."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            place = f"{where}.{key}" if re.fullmatch(r"\w+", key) else f"{where}[{json.dumps(key)}]"
            if key not in new:
                yield f"{place}: was {_shown(old[key])}, is gone"
            elif key not in old:
                yield f"{place}: wasn't there, is {_shown(new[key])}"
            else:
                yield from differences(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{where}[{index}]")
        if len(old) != len(new):
            yield f"{where}: had {len(old)} entries, has {len(new)}"
    elif not _equal(old, new):
        yield f"{where}: was {_shown(old)}, is {_shown(new)}"


def _equal(old: Any, new: Any) -> bool:
    """Whether two values are equal; 1, 1.0 and true are three values."""
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(old) is type(new) and bool(old == new)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LINE else f"{text[:_LINE]} …"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lay_out(value: Any, indent: int = 0, key: str = "") -> str:
    """JSON in which whatever fits on a line stands on one, so that a change is a short diff."""
    text = key + json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or indent + len(text) < _LINE:
        return text
    if isinstance(value, dict):
        ends, items = (
            "{}",
            [lay_out(each, indent + 1, f"{json.dumps(name)}: ") for name, each in value.items()],
        )
    else:
        ends, items = "[]", [lay_out(each, indent + 1) for each in value]
    lines = ",\n".join(f"{' ' * (indent + 1)}{item}" for item in items)
    return f"{key}{ends[0]}\n{lines}\n{' ' * indent}{ends[1]}"


_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?"
_UNIT = (
    r"%|[TPE]?FLOPS|[KMGT]i?B(?:/s)?|[kMG]?W|[kMG]?Hz|°C|[mµn]?s|min(?:utes)?|h(?:ours)?|d(?:ays)?|years?"
    r"|M|B|million|billion"
)
_FIGURE = re.compile(
    rf"""
    (?<![\w.,:/+−±-])                       # not within a word, an id, a date or a version
    (?:(?:RMB|USD)\s)?(?:[+−±-]\s?)?        # currency, sign
    {_NUMBER}(?:\s?(?:{_UNIT})(?![\w/-]))?  # number, unit
    (?![\w%]|[-./:,]\w)                     # and not the beginning of one of those
    |(?<!\S)–(?!\S)                         # a figure that isn't known
    """,
    re.VERBOSE,
)
# The level of an interval is part of a column's name.
_LEVEL = re.compile(r"95\s?%(?= interval)")
