"""`make faults`: kill, stop and starve real runs on the CPU. Exits with 1 if anything was wrong."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faulting.kinds import KINDS, run_undisturbed
from faulting.observed import new_place
from faulting.verify import Try

_FAULTS = ("lost", "orphan", "untold", "status", "other")


def plan(kills: int, stops: int, starved: int, only: Sequence[str]) -> Iterator[str]:
    """Yield the kind of each try: kills of the command and of its children, stops, and what starves it.

    The three are mixed, so that a campaign that is interrupted has some of each.
    """
    groups = {"kill": kills, "stop": stops, "": starved}
    tries = []
    for group, number in groups.items():
        names = [name for name in KINDS if name.startswith(group) and name.partition(" ")[0] not in groups]
        if group:
            names = [name for name in KINDS if name.startswith(group)]
        tries += [(index / number, names[index % len(names)]) for index in range(number)]
    for _, name in sorted(tries):
        if name in only or not only:
            yield name


def do(name: str, seed: int, typical_s: float) -> Try:
    """Do one fault; an error of this driver is a fault of its own."""
    with new_place() as place:
        try:
            return KINDS[name](place, random.Random(seed), typical_s)
        except Exception as error:  # the campaign goes on
            return Try(name, faults=[f"the driver: {error!r}"])


def try_all(names: Sequence[str], seed: int, typical_s: float, at_once: int, tries: list[Try]) -> None:
    """Do these faults and add each to `tries`. Ctrl-C ends it once the runs under way have ended."""
    seeds = range(seed, seed + len(names))
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for found in pool.map(do, names, seeds, [typical_s] * len(names)):
                tries.append(found)
                for fault in found.faults:
                    print(f"{found.kind} ({found.fault}): exit {found.status}: {fault}", flush=True)
        except KeyboardInterrupt:
            print(f"interrupted after {len(tries)} runs", flush=True)
            pool.shutdown(cancel_futures=True)


def kind_of(fault: str) -> str:
    """The column of a fault."""
    names = {"a lost": "lost", "an orphan": "orphan", "untold": "untold", "exit": "status"}
    return next((column for start, column in names.items() if fault.startswith(start)), "other")


def as_table(tries: Sequence[Try]) -> list[str]:
    """The campaign as lines: a kind each."""
    rows = [("fault", "tries", "after a record", "exits", "records told", "kept", *_FAULTS)]
    by_kind = defaultdict(list)
    for each in tries:
        by_kind[each.kind].append(each)
    for kind, found in [*by_kind.items(), ("all", list(tries))]:
        exits = Counter(each.status for each in found)
        columns = Counter(kind_of(fault) for each in found for fault in each.faults)
        said = " ".join(f"{status}×{count}" for status, count in sorted(exits.items()))
        numbers = (sum(each.seen for each in found), sum(each.kept for each in found))
        cells = (*numbers, *(columns[name] for name in _FAULTS))
        late = sum(each.after > 0 for each in found)
        rows.append((kind, str(len(found)), str(late), said, *map(str, cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(prog="make faults ARGS=…", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills of commands and processes")
    parser.add_argument("--stops", type=int, default=20, help="runs stopped and continued")
    parser.add_argument("--starved", type=int, default=30, help="full disks, closed streams, removed folders")
    parser.add_argument("--seed", type=int, default=0, help="another seed has other moments")
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=[], help="these kinds")
    parser.add_argument("-p", type=int, default=1, help="runs at once (default: one; they measure)")
    flags = parser.parse_args()
    began_s = time.monotonic()
    with new_place() as place:
        first = run_undisturbed(place, random.Random(0), 0.0)
    typical_s = time.monotonic() - began_s
    print(
        f"a run that nothing befalls takes {typical_s:.1f} s here: {first.faults or 'no fault'}", flush=True
    )
    names = list(plan(flags.kills, flags.stops, flags.starved, flags.only))
    tries = [first]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it too ends a campaign with what is counted
    try_all(names, flags.seed, typical_s, flags.p, tries)
    print("\n".join(as_table(tries)))
    print(f"{len(tries)} runs in {time.monotonic() - began_s:.0f} s, seed {flags.seed}")
    return 1 if any(each.faults for each in tries) else 0


if __name__ == "__main__":
    sys.exit(main())
