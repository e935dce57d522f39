"""The export formats, and writing runs in one of them: the file is replaced whole, or left as it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from nameplate.base.errors import InputError, write_error
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.text import join_or
from nameplate.export import csv_table, github_action, json_lines, parquet, prometheus, pytest_benchmark
from nameplate.export.entries import find_folders, read_runs, require_comparable, select_newest
from nameplate.export.fields import Entry, make_entries
from nameplate.store.find import Results
from nameplate.store.folder import MANIFEST, Run, is_character_device, replace_durably

Name = str | os.PathLike[str]
Select = Callable[[Iterable[Entry], list[str]], Iterable[Entry]]
Write = Callable[[Iterable[Entry], BinaryIO, list[str]], None]


@dataclass(frozen=True)
class Format:
    """One format. `select` picks the records that it holds; both add to a list what was left out."""

    suffix: str
    write: Write
    select: Select = lambda entries, problems: entries
    is_text: bool = True


def _writer_of(lines: Callable[[Iterable[Entry]], Iterator[str]]) -> Write:
    def write(entries: Iterable[Entry], file: BinaryIO, _problems: list[str]) -> None:
        for line in lines(entries):
            file.write(line.encode())

    return write


FORMATS: Mapping[str, Format] = {
    "csv": Format(".csv", _writer_of(csv_table.format_lines)),
    "parquet": Format(".parquet", parquet.write, is_text=False),
    "jsonl": Format(".jsonl", _writer_of(json_lines.format_lines)),
    "github-action-benchmark": Format(".json", _writer_of(github_action.format_lines), github_action.select),
    "prometheus": Format(".prom", _writer_of(prometheus.format_lines), select_newest),
    "pytest-benchmark": Format(".json", _writer_of(pytest_benchmark.format_lines), pytest_benchmark.select),
}
# The formats that hold every row, for many runs in one file.
DATA_SETS = {name: FORMATS[name] for name in ("csv", "parquet", "jsonl")}


@dataclass(frozen=True)
class Written:
    """What was written: the file (None for a stream), the format, the number of records.

    `problems` are sentences about what was passed over.
    """

    path: Path | None
    format: str
    rows: int
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "written": None if self.path is None else str(self.path),
            "format": self.format,
            "rows": self.rows,
            "problems": list(self.problems),
        }


def export(
    runs: Iterable[Name],
    output: Name | BinaryIO,
    *,
    format: str | None = None,
    results: Results = None,
) -> Written:
    """Write runs to `output`, a path or a binary stream, in the format of that name or of the path's suffix.

    Each of `runs` is a run, as `find_run` finds it (its folder, its id or the beginning of one, or `latest`),
    or a folder of runs; a run that is named twice counts once. `results` is the only folder to look in for
    ids. Raises InputError for a name without a run, where no run can be read, where the format can't hold
    them, and where the file can't be written (OutputError where the disk is full). An existing file is then
    unchanged.
    """
    name = find_format(format, _path_of(output))
    problems: list[str] = []
    found = make_entries(read_runs(find_folders(runs, results), problems))
    return _write(name, found, output, problems)


def merge(
    runs: Iterable[Name],
    output: Name,
    *,
    mixed: bool = False,
    results: Results = None,
    on_run: Callable[[Run], None] | None = None,
) -> Written:
    """Write many runs as one data set, with the rows of `export`: CSV, Parquet or JSON Lines, by the suffix.

    `on_run` is called with every run that is read.

    Raises InputError as `export` does, and for figures that don't compare (two measuring methods, or one case
    whose FLOPs or bytes are counted in two ways), unless `mixed`.
    """
    name = find_format(None, Path(output), DATA_SETS)
    problems: list[str] = []
    read = read_runs(find_folders(runs, results), problems)
    found = make_entries(read if on_run is None else _tell(read, on_run))
    return _write(name, require_comparable(found, problems, mixed=mixed), output, problems)


def _tell(runs: Iterable[Run], on_run: Callable[[Run], None]) -> Iterator[Run]:
    for run in runs:
        on_run(run)
        yield run


def find_format(name: str | None, path: Path | None, formats: Mapping[str, Format] = FORMATS) -> str:
    """Return the format's name: as given, or by the suffix of the path; where both are given they must agree.

    A character device has no suffix. Raises InputError for an unknown name, a suffix that doesn't fit, and
    where several formats fit.
    """
    if name is not None and name not in formats:
        raise InputError("no such format", where="--format", got=name, expected=join_or(formats))
    allowed = [each for each in formats if name in (None, each)]
    fitting = [each for each in allowed if _fits(formats[each], path)]
    if path is not None and not fitting:
        suffixes = join_or(dict.fromkeys(formats[each].suffix for each in allowed))
        raise InputError(
            "no such format", where="--output", got=str(path), expected=f"a name ending in {suffixes}"
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


def _path_of(output: Name | BinaryIO) -> Path | None:
    return Path(output) if isinstance(output, (str, os.PathLike)) else None


def _write(name: str, found: Iterable[Entry], output: Name | BinaryIO, problems: list[str]) -> Written:
    format = FORMATS[name]
    left = iter(format.select(found, problems))
    first = tuple(islice(left, 1))  # a refusal of every run comes before a table's head is in a pipe
    selected = chain(first, left)
    count = 0

    def counted() -> Iterator[Entry]:
        nonlocal count
        for entry in selected:
            count += 1
            yield entry

    if isinstance(output, (str, os.PathLike)):
        # Rows are many objects that are soon gone again, and none is in a circle.
        with _open_output(Path(output)) as file, garbage_collection_off():
            format.write(counted(), file, problems)
    else:
        if not format.is_text:
            raise InputError("not for a terminal or a pipe", where="--format", got=name, expected="-o FILE")
        format.write(counted(), output, problems)
    return Written(_path_of(output), name, count, tuple(problems))


@contextmanager
def _open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` once it is complete.

    Raises InputError where `path` can't be written, OutputError where the disk is full.
    """
    try:
        with replace_durably(_resolve_output(path)) as file:
            yield file
    except OSError as error:
        raise write_error(
            "can't write there",
            error,
            where="--output",
            got=str(path),
            expected="a folder that can be written",
        ) from error


def _resolve_output(path: Path) -> Path:
    """Follow links to the file or device. Raises InputError for a folder, and for a file in a run folder."""
    if os.path.exists(path) and not (os.path.isfile(path) or is_character_device(path)):
        raise InputError("not a file", where="--output", got=str(path), expected="a file's name")
    target = Path(os.path.realpath(path))
    if os.path.isfile(target.parent / MANIFEST):
        raise InputError(
            "in a run's own folder, which stays as it was measured",
            where="--output",
            got=str(path),
            expected="another folder",
        )
    return target
