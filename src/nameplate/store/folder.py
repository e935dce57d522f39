"""The run folder: `manifest.json`, `records-<process>.jsonl`, `DONE`.

Records are appended one line each, flushed and fsynced, so a machine may die at any moment and lose at most
the line being written. A reader survives that torn line, and files that aren't ours; it counts and names
what it passed over.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError
from pydantic_core import from_json

from nameplate.base.errors import InputError, NameplateError, RunIncomplete, unwritable
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.messages import Message, message
from nameplate.record import SCHEMA, Record
from nameplate.store.manifest import Expected, Manifest
from nameplate.store.upgrade import is_older, upgrade_manifest, upgrade_record

MANIFEST = "manifest.json"
DONE = "DONE"
# How `RecordWriter` begins a line: one of this schema is read without looking for what is to be upgraded.
_CURRENT = f'{{"schema_version":{SCHEMA},'.encode()


@dataclass(frozen=True)
class Run:
    """A run as it stands on disk. `problems` names what could not be read."""

    folder: Path
    manifest: Manifest
    records: tuple[Record, ...]
    problems: tuple[Message, ...]
    finished: bool

    @property
    def id(self) -> str:
        """The run's own name."""
        return self.manifest.run

    @property
    def missing(self) -> tuple[Expected, ...]:
        """What the manifest expects and no record tells of."""
        recorded = {_key(record) for record in self.records}
        return tuple(each for each in self.manifest.expected if _key(each) not in recorded)


def new_run_id(suite: str) -> str:
    """Name a run by its moment (UTC), its suite, and a few random digits against twins."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{suite}-{secrets.token_hex(2)}"


def create(results: Path, manifest: Manifest) -> Path:
    """Make the folder of a new run and write its manifest.

    Raises InputError where the folder can't be made or written, OutputError where its disk takes no more.
    """
    folder = results / manifest.run
    try:
        folder.mkdir(parents=True, exist_ok=False)
        write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise unwritable("can't write a run here", error, where="--results", got=str(results)) from error
    return folder


def write_durably(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file that is either whole or absent, also after a crash: temporary name, fsync, rename.

    `mode` is what the user's umask is taken from. A character device is written to. Raises OSError.
    """
    if is_character_device(path):
        path.write_text(text, encoding="utf-8")
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_character_device(path: Path) -> bool:
    """Whether it is one: it is written to where a file is replaced. False for a path that can't be one."""
    try:
        return path.is_char_device()
    except OSError:
        return False


class RecordWriter:
    """Appends records to a file of this process's own: a torn line of a dead one is never continued."""

    def __init__(self, folder: Path, process: str) -> None:
        """Open `records-<process>-<n>.jsonl` with the first n that is free. InputError where it can't be."""
        number = 0
        while True:
            try:
                self._file = (folder / f"records-{process}-{number}.jsonl").open("x", encoding="utf-8")
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise _unwritable(folder, error) from error

    def __enter__(self) -> Self:
        """Use as a context manager, so that the file is closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; an empty one is removed."""
        # What couldn't be written has been said by `append`, and closing would only try again.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            path = Path(self._file.name)
            if path.stat().st_size == 0:
                path.unlink()

    def append(self, record: Record) -> None:
        """Write one record and don't return before it is on the disk.

        Raises RunIncomplete where the disk takes no more; the records before it are safe.
        """
        try:
            self.write(record)
        except OSError as error:
            raise RunIncomplete(
                f"{self._file.name}: can't write the record of {record.case}: {error.strerror}; the records "
                "before it are kept"
            ) from error

    def write(self, record: Record) -> None:
        """Write one record as `append` does. Raises OSError where the disk takes no more."""
        self._file.write(record.model_dump_json() + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run while it is measured: two at once would measure everything twice, each in the other's way.

    The system gives the claim back when this process ends, however it ends. Raises InputError where another
    process holds it, and where the folder holds no manifest.
    """
    try:
        manifest = (folder / MANIFEST).open(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"no manifest can be read: {error.strerror}", where=str(folder), expected="a run folder"
        ) from error
    with manifest:
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "the run is being measured by another process", where=str(folder), expected="one at a time"
            ) from None
        yield


def mark_done(folder: Path) -> None:
    """Write the empty file that says every expected case has its record; one that is there is left alone.

    Raises InputError where the folder can't be written.
    """
    if (folder / DONE).exists():
        return
    try:
        (folder / DONE).touch()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> NameplateError:
    expected = "a folder to write into"
    return unwritable("can't write into this run", error, where=str(folder), expected=expected)


def read_run(folder: Path) -> Run:
    """Read a run folder, finished or not.

    Raises InputError where the folder or its manifest can't be read; a bad record line is only counted.
    """
    manifest = read_manifest(folder)
    expected = dict.fromkeys(_key(each) for each in manifest.expected)  # in order, and quick to look up in
    records: dict[tuple[str, str], Record] = {}
    problems: list[Message] = []
    # Records are many objects and no garbage: looking for some meanwhile would take half of the time.
    with garbage_collection_off():
        for path in sorted(folder.glob("records-*.jsonl")):
            for record in _read_records(path, problems):
                if _key(record) not in expected:
                    problems.append(message("foreign_record", file=path.name, case=record.case))
                elif _key(record) in records:
                    problems.append(message("second_record", file=path.name, case=record.case))
                else:
                    records[_key(record)] = record
    ordered = tuple(records[key] for key in expected if key in records)
    return Run(folder, manifest, ordered, tuple(problems), (folder / DONE).exists())


def _key(of: Record | Expected) -> tuple[str, str]:
    """What tells one record of a run from another."""
    return of.device, of.case


def read_manifest(folder: Path) -> Manifest:
    """Read a run folder's manifest alone. Raises InputError where it can't be read, or isn't one."""
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"no manifest can be read: {error.strerror}", where=str(path), expected="a run folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=str(path), expected="a run's manifest") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise InputError(
            "written by a newer Nameplate",
            where=str(path),
            got=version,
            expected=f"schema_version up to {SCHEMA}",
        )
    try:
        return Manifest.model_validate(upgrade_manifest(fields) if is_older(fields) else fields)
    except ValidationError as error:
        raise InputError(_first_complaint(error), where=str(path), expected="a run's manifest") from error


def _read_records(path: Path, problems: list[Message]) -> Iterator[Record]:
    """Yield the good records of a file; add to `problems` what was passed over."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        problems.append(message("file_unreadable", file=path.name, why=error.strerror))
        return
    torn = lines.pop()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _record(line)
            except ValidationError as error:
                why = _first_complaint(error)
                problems.append(message("line_unreadable", file=path.name, line=number, why=why))
    if torn.strip():
        problems.append(message("torn_line", file=path.name, count=len(torn)))


def _record(line: bytes) -> Record:
    """The record of a line of any schema. Raises ValidationError for one that can't be used."""
    if not line.startswith(_CURRENT):  # written by an older version, or not by us
        try:
            fields = from_json(line)
        except ValueError:
            fields = None  # what is wrong with it is said below
        if is_older(fields):
            return Record.model_validate(upgrade_record(fields))
    return Record.model_validate_json(line)


def _first_complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def find_runs(path: Path) -> list[Path]:
    """Every run folder at or below `path`, sorted by name; a published result counts as one."""
    return sorted(found.parent for found in path.rglob(MANIFEST)) if os.path.isdir(path) else []
