"""For tools that hold one figure a case: the newest record of each machine, device and case."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from nameplate.base.errors import InputError
from nameplate.export.rows import Entry, Row
from nameplate.store.manifest import moment

# What a series is known by; a case alone is one where machine and device are.
_KEY = ("hostname", "device", "case")


def newest(entries: Iterable[Entry], problems: list[str]) -> list[Entry]:
    """The newest record of each machine, device and case; `problems` says what was left out, a run at a time.

    The newest counts also where it was skipped: an older figure isn't what is so now.
    """
    found: dict[tuple[str, ...], Entry] = {}
    left_out: Counter[str] = Counter()
    for entry in entries:
        key = tuple(entry.row[name] for name in _KEY)
        older, newer = sorted((found.get(key, entry), entry), key=_age)
        found[key] = newer
        if older is not newer:
            left_out[older.row["run"]] += 1
    problems += [
        f"run {run}: {count} record{'s' if count > 1 else ''} left out; of one machine, device and case "
        "the newest is written"
        for run, count in left_out.items()
    ]
    return list(found.values())


def figured(
    entries: Iterable[Entry], problems: list[str], has_figure: Callable[[Entry], bool]
) -> list[Entry]:
    """The newest records, those of them that have the figure. InputError where there is none."""
    found = [entry for entry in newest(entries, problems) if has_figure(entry)]
    if not found:
        raise InputError("no record has a figure", where="RUN", expected="at least one that was measured")
    return found


def names(entries: Sequence[Entry]) -> list[str]:
    """What each is called: its case, after its machine and its device where there are several of them.

    Names hold no run, so they stay what they are from run to run.
    """
    said = [name for name in _KEY if name == "case" or len({entry.row[name] for entry in entries}) > 1]
    return [" ".join(entry.row[name] for name in said) for entry in entries]


def timestamp(row: Row) -> float | None:
    """When the run began, in seconds since 1970; None where the manifest holds no such moment."""
    created = moment(row["created"])
    return None if created is None else created.timestamp()


def _age(entry: Entry) -> tuple[float, str]:
    began = timestamp(entry.row)
    return (-math.inf if began is None else began), entry.row["run"]
