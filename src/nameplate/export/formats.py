"""The formats, each with its suffix, what it makes of the records, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nameplate.base.errors import InputError
from nameplate.export import csv_table, github_action, json_lines, parquet, prometheus, pytest_benchmark
from nameplate.export.rows import Entry
from nameplate.export.series import newest
from nameplate.store.folder import is_character_device

Choose = Callable[[Iterable[Entry], list[str]], Iterable[Entry]]
Write = Callable[[Iterable[Entry], BinaryIO], None]


def _all(entries: Iterable[Entry], problems: list[str]) -> Iterable[Entry]:
    return entries


@dataclass(frozen=True)
class Format:
    """One format. `choose` picks the records that it holds, and says what it left out."""

    suffix: str
    write: Write
    choose: Choose = _all
    is_text: bool = True


def _text(lines: Callable[[Iterable[Entry]], Iterator[str]]) -> Write:
    def write(entries: Iterable[Entry], file: BinaryIO) -> None:
        for line in lines(entries):
            file.write(line.encode())

    return write


FORMATS: Mapping[str, Format] = {
    "csv": Format(".csv", _text(csv_table.lines)),
    "parquet": Format(".parquet", parquet.write, is_text=False),
    "jsonl": Format(".jsonl", _text(json_lines.lines)),
    "github-action-benchmark": Format(".json", _text(github_action.lines), github_action.choose),
    "prometheus": Format(".prom", _text(prometheus.lines), newest),
    "pytest-benchmark": Format(".json", _text(pytest_benchmark.lines), pytest_benchmark.choose),
}
# Those that hold every row, for many runs in one file.
DATA_SETS = {name: FORMATS[name] for name in ("csv", "parquet", "jsonl")}


def find_format(name: str | None, path: Path | None, formats: Mapping[str, Format] = FORMATS) -> str:
    """The name of the format that is asked for: by name, by the suffix of a file's path, or by both.

    A character device has no suffix to go by. Raises InputError for an unknown name, a suffix that isn't
    its, and where neither says which.
    """
    if name is not None and name not in formats:
        raise InputError("no such format", where="--format", got=name, expected=_listed(formats))
    fitting = [each for each in formats if name in (None, each) and _fits(formats[each], path)]
    if path is not None and not fitting:
        suffixes = dict.fromkeys(formats[each].suffix for each in formats if name in (None, each))
        raise InputError(
            "no such format",
            where="--output",
            got=str(path),
            expected=f"a name ending in {_listed(suffixes)}",
        )
    if len(fitting) > 1:
        raise InputError(
            "can't tell the format",
            where="--output",
            got="-" if path is None else str(path),
            expected=f"--format with one of {', '.join(fitting)}",
        )
    return fitting[0]


def _fits(format: Format, path: Path | None) -> bool:
    return path is None or path.suffix == format.suffix or is_character_device(path)


def _listed(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last
