"""Files of others, read safely: regular files of bounded size, and JSON without repeated keys. New folders.

What can't be read raises an OSError, also where the system itself would have read it: a named pipe would
block for ever, a device may never end, a link may lead anywhere. Its `strerror` says why.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import filter as fnfilter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from pydantic_core import from_json

from nameplate.base.errors import write_error
from nameplate.base.exit_status import signals_held
from nameplate.base.model import LARGEST, is_possible

MIB = 1024**2
DEEPEST = 32  # folders below the one that was named in which files are looked for
_SKIPPED_AT_ONCE = MIB
_MOST_QUOTED = 100  # characters of a key that is there twice


@contextmanager
def open_regular(path: str | os.PathLike[str], inside: Path | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading; with `inside`, only one that really lies in that folder.

    Raises OSError for everything else: a folder, a named pipe, a device, a link that leads out of `inside`.
    """
    try:
        _require_regular(os.stat(path))  # before it is opened, which may already act on a device
        if inside is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(inside)):
            raise OSError(errno.EXDEV, "a link out of its folder, which isn't followed")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a null character
        raise OSError(errno.EINVAL, "no file can have this name") from error
    with open(descriptor, "rb") as file:
        _require_regular(os.fstat(descriptor))
        yield file


def walk(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Go through folders as os.walk does, down to a depth: some trees have no end. Links aren't followed."""
    if not os.path.isdir(path):
        return
    for found in os.walk(path):
        if found[0].count(os.sep) - str(path).count(os.sep) >= DEEPEST:
            found[1].clear()
        yield found


def find_files(path: Path, pattern: str) -> list[Path]:
    """Return the files at or below a folder whose names match, sorted."""
    return sorted(Path(folder, name) for folder, _, names in walk(path) for name in fnfilter(names, pattern))


def _require_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file, but a pipe, a device or a socket")


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a new folder, and those above it that lack; at the end, those that are empty are removed again.

    Raises OSError where it can't be made, FileExistsError where it is there.
    """
    made = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(parents=True)
        yield
    finally:
        with signals_held():
            for each in made:
                with suppress(OSError):  # not empty, or never made
                    each.rmdir()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in the system's temporary folder, which is removed at the end with all that is in it.

    Raises InputError where none can be made (TMPDIR may lead nowhere), OutputError where the disk is full.
    """
    try:
        made = TemporaryDirectory(prefix="nameplate-", ignore_cleanup_errors=True)
    except OSError as error:
        raise write_error(
            "no temporary folder can be made", error, where="TMPDIR", expected="a folder that can be written"
        ) from error
    try:
        yield Path(made.name)
    finally:
        with signals_held():
            made.cleanup()


def read_bytes(path: str | os.PathLike[str], most: int, inside: Path | None = None) -> bytes:
    """Read a whole file. Raises OSError as `open_regular` does, and for one of more than `most` bytes."""
    with open_regular(path, inside) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most // MIB} MiB")
    return data


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """Read a text in UTF-8. Raises OSError as `read_bytes` does, and for bytes that aren't such a text."""
    data = read_bytes(path, most)
    if data.startswith(codecs.BOM_UTF8):
        raise OSError(errno.EILSEQ, "it begins with a byte order mark (BOM): save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "not UTF-8 text") from error


def read_lines(path: Path, most: int, inside: Path) -> Iterator[bytes | None]:
    """Yield the lines of a file with their line breaks; None for one of more than `most` bytes.

    Raises OSError as `open_regular` does.
    """
    with open_regular(path, inside) as file:
        while line := file.readline(most + 1):
            if len(line) > most and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(_SKIPPED_AT_ONCE)
                yield None
            else:
                yield line


def parse_json(data: bytes, *, any_number: bool = False) -> Any:
    """Parse a JSON document of others; NaN, which other programs write for what isn't known, is None.

    Raises ValueError, with the reason, for what isn't JSON, a key that an object has twice (which of its
    values counts can't be known), text with half a character, and too deep nesting; unless `any_number`, for
    numbers that no quantity can have.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("it begins with a byte order mark (BOM): save it as UTF-8 without one")
    if not data.strip():
        raise ValueError("not JSON: it is empty")
    try:
        from_json(data)  # also refuses half characters and deep nesting, which json.loads takes
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_make_object,
        parse_int=None if any_number else _parse_int,
        parse_float=None if any_number else _parse_float,
        parse_constant=_parse_constant,
    )


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = Counter(key for key, _value in pairs)  # counts once: there may be a million keys
        twice = next(key for key, count in seen.items() if count > 1)
        shown = twice if len(twice) <= _MOST_QUOTED else f"{twice[:_MOST_QUOTED]}…"
        raise ValueError(f"the key {shown!r} is there twice")
    return found


def _parse_int(text: str) -> int:
    if len(text) > 32 or abs(found := int(text)) > LARGEST:
        raise ValueError(f"a number is out of range: {text[:16]}…")
    return found


def _parse_float(text: str) -> float:
    found = float(text)
    if not is_possible(found):
        raise ValueError(f"a number is out of range: {text[:24]}")
    return found


def _parse_constant(_text: str) -> None:
    return None
