"""What may stand in one data set: figures that compare.

Parts, devices, drivers and hosts differ in a fleet's data on purpose, and columns tell them apart. What no
column of another row makes good is a figure taken or counted otherwise: by another measuring method, or by
another account of one case's FLOPs or bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.base.errors import InputError
from nameplate.export.rows import Entry

# By what figures of one case are counted.
_ACCOUNTS = ("convention", "flops", "bytes")


def pooled(entries: Iterable[Entry], problems: list[str], *, mixed: bool = False) -> Iterator[Entry]:
    """Pass the entries on; raise InputError at the first that doesn't compare with one before it.

    With `mixed` such a difference is only said, once a column, in `problems`.
    """
    seen: dict[tuple[str, str], tuple[Any, str]] = {}
    said: set[str] = set()
    for entry in entries:
        for column, where in _counted(entry):
            value, run = entry.row[column], entry.row["run"]
            known, of = seen.setdefault((column, where), (value, run))
            if known == value or column in said:
                continue
            if not mixed:
                raise _unlike(entry, column, value, f"{known!r} in run {of}")
            said.add(column)
            problems.append(
                f"mixed: {column} is {value!r} in run {run}, {known!r} in run {of}; its column tells"
            )
        yield entry


def _counted(entry: Entry) -> Iterator[tuple[str, str]]:
    """What has to agree, each with what it has to agree for: all cases, or one. Only figures have to."""
    if entry.record.status == "ok":
        yield "method", ""
        yield from ((column, entry.row["case"]) for column in _ACCOUNTS)


def _unlike(entry: Entry, column: str, value: Any, known: str) -> InputError:
    what = (
        "two measuring methods, whose figures don't compare"
        if column == "method"
        else f"{entry.row['case']} is counted in two ways, so its figures don't compare"
    )
    return InputError(
        what,
        where=f"run {entry.row['run']}",
        got=f"{column} {value!r}, and {known}",
        expected=f"one {column}, or --mixed",
    )
