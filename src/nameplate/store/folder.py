"""The run folder: `manifest.json`, `records-<process>-<n>.jsonl`, and `DONE` once every case has its record.

Records are appended a line each, flushed and fsynced: if the machine crashes, at most the line being written
is lost. A reader skips such a torn line, and lines and files that aren't ours, and lists what it skipped.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from nameplate.base.errors import InputError, NameplateError, RunIncomplete, write_error
from nameplate.base.exit_status import signals_held
from nameplate.base.files import MIB, new_folder, parse_json, read_bytes, read_lines, walk
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.messages import Message, message
from nameplate.base.model import describe_first_error
from nameplate.base.notebook import ShownInNotebooks
from nameplate.record import SCHEMA, Record
from nameplate.store.contradictions import find_contradictions, mark_contradictory
from nameplate.store.manifest import Expected, Manifest
from nameplate.store.upgrade import check_versions, is_older, upgrade_manifest, upgrade_record

MANIFEST = "manifest.json"
DONE = "DONE"
# Problems that may have cost a record of an expected case.
_UNREAD = {"file_unreadable", "line_unreadable", "more_lines_unreadable", "torn_line"}
# How `RecordWriter` begins each line. A line that begins so has the present schema and needs no upgrade.
_PRESENT_SCHEMA = f'{{"schema_version":{SCHEMA},'.encode()
# The long columns of a record, without which it still says everything but how it was found.
_DETAILS = frozenset({"batches", "course", "derates", "kernels"})
# The columns at the end of a line, from the longest on.
_LAST = frozenset({"batches", "course", "derates", "parts", "profile", "largest_batch", "spreads"})
# What is read of a run that anybody may have made. The largest record line here has 14 KiB.
MOST_MANIFEST_BYTES = 16 * MIB
MOST_LINE_BYTES = 16 * MIB
MOST_RECORDS_BYTES = 1024 * MIB  # in all files of a run
_MOST_DESCRIBED = 10  # lines of a file that can't be read; of further ones only the number is given


@dataclass(frozen=True)
class Run(ShownInNotebooks):
    """A run as it is on disk. `problems` lists what went wrong in it and what could not be read of it."""

    folder: Path
    manifest: Manifest
    records: tuple[Record, ...]
    problems: tuple[Message, ...]
    finished: bool

    @property
    def id(self) -> str:
        """The run's id."""
        return self.manifest.run

    @property
    def measured(self) -> bool:
        """Whether its figures are measurements: not where a device, or a record, is of a twin."""
        return self.manifest.measured and all(record.measured for record in self.records)

    @property
    def missing(self) -> tuple[Expected, ...]:
        """The expected cases that have no record."""
        recorded = {_key(record) for record in self.records}
        return tuple(each for each in self.manifest.expected if _key(each) not in recorded)

    @property
    def why_missing(self) -> Message:
        """Why cases have no record: one reason for all, since a line that can't be read names no case.

        DONE is written once every case has its record, so a record that a finished run lacks was removed.
        """
        unread = any(problem.code in _UNREAD for problem in self.problems)
        if self.finished:
            return message("record_unreadable" if unread else "record_gone")
        return message("run_ended_or_unreadable" if unread else "run_ended")


# ---- writing a run ----


def new_run_id(suite: str, *, alone: bool = True) -> str:
    """Make a run id: the time (UTC), the suite, and random digits against collisions.

    More of them where the run isn't `alone`: thousands of processes may begin in the same second.
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{suite}-{secrets.token_hex(2 if alone else 6)}"


def create(results: Path, manifest: Manifest) -> Path:
    """Make the folder of a new run, write its manifest, and return the folder.

    Raises InputError where the folder can't be made or written, OutputError where the disk is full; then no
    folder is left.
    """
    folder = results / manifest.run
    try:
        with new_folder(folder):
            write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise write_error("can't write a run here", error, where="--results", got=str(results)) from error
    return folder


def discard(folder: Path) -> None:
    """Remove a run that holds nothing but its manifest; one that holds more stays."""
    with suppress(OSError), signals_held():
        if os.listdir(folder) == [MANIFEST]:
            (folder / MANIFEST).unlink()
            folder.rmdir()


class Claim:
    """The right to measure a run, which one process has at a time: a lock on its manifest."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Hold the lock, a descriptor of the manifest; `claim` makes it."""
        self._folder, self._locks = folder, [lock]

    def add_incident(self, what: Message) -> None:
        """Add to the manifest what went wrong in the run; left out where the disk takes no more."""
        manifest = read_manifest(self._folder)
        changed = manifest.model_copy(update={"incidents": (*manifest.incidents, what)})
        with suppress(OSError), replace_durably(self._folder / MANIFEST) as file:
            file.write((changed.model_dump_json(indent=2) + "\n").encode())
            # The new file is locked before it has the name, and stays so: a copy keeps it open.
            fcntl.flock(file, fcntl.LOCK_EX)
            self._locks.append(os.dup(file.fileno()))

    def release(self) -> None:
        """Let another process measure the run."""
        while self._locks:
            os.close(self._locks.pop())


@contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """Lock a run while it is measured, so that no second process measures the same cases at the same time.

    The system releases the lock when this process ends, however it ends. Raises InputError where another
    process holds it, and where the folder has no manifest.
    """
    try:
        lock = os.open(folder / MANIFEST, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"no manifest can be read: {error.strerror}", where=str(folder), expected="a run folder"
        ) from error
    held = Claim(folder, lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "the run is being measured by another process", where=str(folder), expected="one at a time"
            ) from None
        yield held
    finally:
        held.release()


class RecordWriter:
    """Appends records to a new file of this process, so that a torn line of a dead one is never continued."""

    def __init__(self, folder: Path, process: str) -> None:
        """Open `records-<process>-<n>.jsonl` with the first free n. Raises InputError where it can't."""
        self._folder = folder
        number = 0
        while True:
            try:
                self._file = (folder / f"records-{process}-{number}.jsonl").open("xb", buffering=0)
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise _unwritable_run(folder, error) from error

    def __enter__(self) -> Self:
        """Use as a context manager, so that the file is closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, and remove it where it is empty."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            path = Path(self._file.name)
            if path.stat().st_size == 0:
                path.unlink()

    def append(self, record: Record) -> None:
        """Write one record, and return once it is on the disk.

        Raises RunIncomplete where the disk is full; the records before it are safe.
        """
        try:
            self.write(record)
        except OSError as error:
            raise RunIncomplete(
                f"{self._file.name}: can't write the record of {record.case}: {error.strerror}; the records "
                "before it are kept"
            ) from error
        self.check_kept()

    def check_kept(self) -> None:
        """Raise RunIncomplete where the run was removed, or its manifest: what is written then is lost."""
        if os.fstat(self._file.fileno()).st_nlink == 0 or not os.path.exists(self._folder / MANIFEST):
            raise RunIncomplete(f"{self._folder}: the run or its manifest was removed while it was measured")

    def write(self, record: Record) -> None:
        """Write one record as `append` does. Raises OSError on a full disk, and leaves no torn line."""
        left = f"{record.model_dump_json()}\n".encode()
        size = self._file.tell()
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                self._file.seek(size)
                self._file.truncate()
            raise


def mark_done(folder: Path) -> None:
    """Write the empty file DONE, which says that every expected case has its record.

    Raises InputError where the folder can't be written. What is there by that name is left as it is: a link,
    in the folder of somebody else, isn't followed.
    """
    try:
        with suppress(FileExistsError):
            (folder / DONE).open("xb").close()
    except OSError as error:
        raise _unwritable_run(folder, error) from error


def _unwritable_run(folder: Path, error: OSError) -> NameplateError:
    expected = "a folder to write into"
    return write_error("can't write into this run", error, where=str(folder), expected=expected)


# ---- reading a run ----


def find_runs(path: Path) -> list[Path]:
    """Return every run folder at or below `path`, sorted by name; links to folders aren't followed."""
    return sorted(Path(folder) for folder, _folders, files in walk(path) if MANIFEST in files)


def read_run(folder: Path, *, in_full: bool = True) -> Run:
    """Read a run folder, finished or not.

    A record that contradicts itself gets the verdict `contradictory`. Raises InputError where the folder or
    its manifest can't be read. A record line that can't be used is only added to the run's problems.

    Without `in_full`, records lack their batches and time series (`_DETAILS`), and contradictions, which
    follow from these, aren't looked for: the runs of a thousand nodes are read in a third of the time.
    """
    manifest = read_manifest(folder)
    expected = dict.fromkeys(_key(each) for each in manifest.expected)  # keeps order, and looks up fast
    entries = {entry.name: entry for entry in manifest.devices}
    records: dict[tuple[str, str], Record] = {}
    problems: list[Message] = list(manifest.incidents)
    if manifest.forced is not None:
        problems.append(message("published_by_force", why=manifest.forced))
    # The garbage collector would go through all the new records again and again: half of the reading time.
    with garbage_collection_off():
        for path in list_record_files(folder, problems):
            for record in _read_records(path, problems, _parse_record if in_full else _parse_summary):
                key = _key(record)
                if key not in expected:
                    problems.append(message("foreign_record", file=path.name, case=record.case))
                    continue
                found: tuple[Message, ...]
                first = records.setdefault(key, record)
                if first is not record:
                    problems.append(message("second_record", file=path.name, case=record.case))
                    found = () if _is_same(first, record) else (message("two_records"),)
                elif not in_full:
                    found = ()
                else:
                    found = find_contradictions(record, entries[record.device], manifest.method)
                if found:
                    records[key] = mark_contradictory(first, found)
                    problems.append(
                        message("contradictory_record", file=path.name, case=record.case, found=found)
                    )
    ordered = tuple(records[key] for key in expected if key in records)
    return Run(folder, manifest, ordered, tuple(problems), os.path.exists(folder / DONE))


def list_record_files(folder: Path, problems: list[Message]) -> list[Path]:
    """Return the run's files of records, sorted, up to `MOST_RECORDS_BYTES` in all."""
    try:
        names = sorted(each for each in os.listdir(folder) if fnmatchcase(each, "records-*.jsonl"))
    except OSError as error:
        problems.append(message("file_unreadable", file=folder.name, why=error.strerror))
        return []
    found: list[Path] = []
    left = MOST_RECORDS_BYTES
    for name in names:
        with suppress(OSError):  # the error comes when it is opened
            left -= os.stat(folder / name).st_size
        if left < 0:
            why = f"the run's records are larger than {MOST_RECORDS_BYTES // MIB} MiB in all"
            problems.append(message("file_unreadable", file=name, why=why))
        else:
            found.append(folder / name)
    return found


def _is_same(one: Record, other: Record) -> bool:
    """Whether two records hold the same: if not, it isn't known which one counts.

    The first may have got the verdict `contradictory` and its warning since it was read.
    """
    update = {"verdict": other.verdict, "verdicts": other.verdicts, "warnings": other.warnings}
    return one.model_copy(update=update) == other


def _key(case: Record | Expected) -> tuple[str, str]:
    """What identifies a record within its run."""
    return case.device, case.case


def read_manifest(folder: Path) -> Manifest:
    """Read a run folder's manifest. Raises InputError where it can't be read or isn't a manifest."""
    path = folder / MANIFEST
    try:
        fields = parse_json(read_bytes(path, MOST_MANIFEST_BYTES, inside=folder))
        check_versions(fields)
    except OSError as error:
        raise InputError(
            f"no manifest can be read: {error.strerror}", where=str(path), expected="a run folder"
        ) from error
    except ValueError as error:
        raise InputError(str(error), where=str(path), expected="a run's manifest") from error
    try:
        return Manifest.model_validate_json(
            to_json(upgrade_manifest(fields) if is_older(fields) else fields), strict=True
        )
    except ValidationError as error:
        raise InputError(describe_first_error(error), where=str(path), expected="a run's manifest") from error


def _read_records(path: Path, problems: list[Message], parse: Callable[[bytes], Record]) -> Iterator[Record]:
    """Yield the valid records of a file; add to `problems` what was skipped."""
    skipped = 0
    try:
        for number, line in enumerate(read_lines(path, MOST_LINE_BYTES, inside=path.parent), start=1):
            if line is not None and not line.endswith(b"\n"):  # every complete line ends with a line break
                if line.strip():
                    problems.append(message("torn_line", file=path.name, count=len(line)))
                break
            try:
                if line is None:
                    raise ValueError(f"longer than {MOST_LINE_BYTES // MIB} MiB")
                if line.strip():
                    yield parse(line)
            except ValueError as error:
                skipped += 1
                if skipped <= _MOST_DESCRIBED:
                    why = describe_first_error(error) if isinstance(error, ValidationError) else str(error)
                    problems.append(message("line_unreadable", file=path.name, line=number, why=why))
    except OSError as error:
        problems.append(message("file_unreadable", file=path.name, why=error.strerror))
    if skipped > _MOST_DESCRIBED:
        problems.append(message("more_lines_unreadable", file=path.name, count=skipped - _MOST_DESCRIBED))


def _parse_summary(line: bytes) -> Record:
    """Parse a line without the details of its record. Raises as `_parse_record` does."""
    if not line.startswith(_PRESENT_SCHEMA):
        return _parse_record(line)
    fields = from_json(line)
    if not _is_as_written(line, fields):
        return _parse_record(line)
    return Record.model_validate({name: value for name, value in fields.items() if name not in _DETAILS})


def _is_as_written(line: bytes, fields: dict[str, Any]) -> bool:
    """Whether the columns before the long ones stand in a line as our own writer has them, each once.

    A key that is there again later has its last value in `fields`, and so is noticed too.
    """
    before = to_json({name: value for name, value in fields.items() if name not in _LAST})
    return line.startswith(before[:-1] + b',"batches":')


def _parse_record(line: bytes) -> Record:
    """Parse a line of any schema. Raises ValueError, or ValidationError, for one that can't be used."""
    if line.startswith(_PRESENT_SCHEMA):
        record = Record.model_validate_json(line)
        # As our own writer writes it: so no key is there twice, and nobody else wrote it otherwise.
        if record.model_dump_json().encode() == line.rstrip():
            return record
    fields = parse_json(line)
    check_versions(fields)
    # As JSON, in which a list may be a tuple, and strictly: neither "0.4" nor true is a figure.
    return Record.model_validate_json(
        to_json(upgrade_record(fields) if is_older(fields) else fields), strict=True
    )


# ---- files that are either complete or absent ----


@contextmanager
def replace_durably(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` at the end: complete and fsynced, or, after an error, not at all.

    `mode` is reduced by the user's umask. A character device is written to directly. Raises OSError.
    """
    if is_character_device(path):
        with path.open("wb") as device:
            yield device
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process that was killed and had this number, or a planted link
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_durably(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a text file as `replace_durably` does. Raises OSError."""
    with replace_durably(path, mode) as file:
        file.write(text.encode())


def is_character_device(path: Path) -> bool:
    """Whether the path is a character device such as /dev/null; False for a path that can't exist."""
    try:
        return path.is_char_device()
    except OSError:
        return False
