"""Writes runs as one file in another tool's format: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nameplate.base.errors import InputError, unwritable
from nameplate.export.formats import DATA_SETS, FORMATS, find_format
from nameplate.export.pool import pooled
from nameplate.export.reading import find, read
from nameplate.export.rows import Entry, entries
from nameplate.store.find import Results
from nameplate.store.folder import MANIFEST, is_character_device

Name = str | os.PathLike[str]


@dataclass(frozen=True)
class Written:
    """What was written: where (None: into a stream), as what, how many records.

    `problems` says in sentences what was passed over.
    """

    path: Path | None
    format: str
    rows: int
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
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
    """Write runs in the format that `format` names, or the suffix of `output`: a path, or a stream of bytes.

    Each of `runs` is a run, as `find_run` finds it (its folder, its id or the beginning of one, or `latest`),
    or a folder of them; a run that is named twice counts once. `results` is the only folder to look in for
    ids. Raises InputError for a name without a run, where none can be read, where the format can't hold them,
    and where the file can't be written (OutputError where its disk takes no more); one that was there
    before is then as it was.
    """
    name = find_format(format, _path(output))
    problems: list[str] = []
    found = entries(read(find(runs, results), problems))
    return _write(name, found, output, problems)


def merge(runs: Iterable[Name], output: Name, *, mixed: bool = False, results: Results = None) -> Written:
    """Write many runs as one data set, with the rows of `export`: CSV, Parquet or JSON Lines, by the suffix.

    Raises InputError as `export` does, and for figures that don't compare (two measuring methods; one case
    whose FLOPs or bytes are counted in two ways), unless `mixed`.
    """
    name = find_format(None, Path(output), DATA_SETS)
    problems: list[str] = []
    found = entries(read(find(runs, results), problems))
    return _write(name, pooled(found, problems, mixed=mixed), output, problems)


def _path(output: Name | BinaryIO) -> Path | None:
    return Path(output) if isinstance(output, (str, os.PathLike)) else None


def _write(name: str, found: Iterable[Entry], output: Name | BinaryIO, problems: list[str]) -> Written:
    format = FORMATS[name]
    rows = _Counted(format.choose(found, problems))
    if isinstance(output, (str, os.PathLike)):
        with _whole(Path(output)) as file:
            format.write(rows, file)
    else:
        if not format.is_text:
            raise InputError("not for a terminal or a pipe", where="--format", got=name, expected="-o FILE")
        format.write(rows, output)
    return Written(_path(output), name, rows.count, tuple(problems))


class _Counted:
    """Entries that are counted as they pass."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries, self.count = entries, 0

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.count += 1
            yield entry


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once all of it is on the disk; after an error it's gone.

    A character device is written to. Raises InputError where `path` can't be written, OutputError where its
    disk takes no more.
    """
    try:
        target = _target(path)
        if is_character_device(target):
            with target.open("wb") as device:
                yield device
            return
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(
            "can't write there",
            error,
            where="--output",
            got=str(path),
            expected="a folder that can be written",
        ) from error


def _target(path: Path) -> Path:
    """The file or device that `path` leads to. InputError for what is none, and for one in a run's folder."""
    if path.exists() and not (path.is_file() or is_character_device(path)):
        raise InputError("not a file", where="--output", got=str(path), expected="a file's name")
    target = Path(os.path.realpath(path))
    if (target.parent / MANIFEST).is_file():
        raise InputError(
            "in a run's own folder, which stays as it was measured",
            where="--output",
            got=str(path),
            expected="another folder",
        )
    return target
