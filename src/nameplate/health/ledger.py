"""Who is missing: the nodes and processes that were expected and gave no finished run, and why.

A folder of runs tells by itself what was expected: each run of a job names its rank, how many processes the
job has and, under Slurm, its nodes. `--expect-hosts` adds names, or a number. A run that was begun and not
finished, and the note of a check that couldn't begin, tell why as far as that is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nameplate.base.errors import InputError
from nameplate.base.files import MIB, read_text
from nameplate.base.messages import Message, message, text
from nameplate.base.model import FrozenModel
from nameplate.health.check import REFUSED_SUFFIX
from nameplate.store.folder import Run
from nameplate.store.launch import MOST_HOSTS, MOST_PROCESSES, Launch, expand_hosts

State = Literal["unfinished", "refused", "never_seen"]
_MOST_NOTE_BYTES = MIB
_MOST_WHY = 5_000  # characters: a sentence
_MOST_EXPECTED_BYTES = 16 * MIB
# Processes that are named one by one, over all jobs: anybody's folder may tell of many jobs of many.
_MOST_NAMED = MOST_PROCESSES


class Refusal(FrozenModel):
    """The note of a process whose check couldn't begin."""

    host: Annotated[str, Field(max_length=253)]
    at: Annotated[str, Field(max_length=100)]
    why: Annotated[str, Field(max_length=_MOST_WHY)]
    launch: Launch


@dataclass(frozen=True)
class Missing:
    """A node, or one process of a job, that gave no finished run. `rank` is None for a node as a whole."""

    host: str | None
    rank: int | None
    job: str | None
    state: State
    why: Message
    run: str | None = None

    def describe(self) -> str:
        """Return one line: who is missing, and why."""
        who = [self.host] if self.host else []
        who += [] if self.rank is None else [f"rank {self.rank}"]
        who += [f"job {self.job}"] if self.job else []
        return f"missing: {', '.join(who) or 'nodes'}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "host": self.host,
            "rank": self.rank,
            "job": self.job,
            "state": self.state,
            "why": str(self.why),
            "run": self.run,
        }


class Ledger:
    """Who is missing from runs that are read one by one: their records needn't stay in memory."""

    def __init__(self) -> None:
        """Begin with no run."""
        self._runs: list[Run] = []

    def add(self, run: Run) -> None:
        """Take up a run."""
        self._runs.append(replace(run, records=()) if run.finished else run)

    def find_missing(self, folders: Iterable[str | Path]) -> tuple[Missing, ...]:
        """Return who gave no finished run; of `folders`, those that are there may hold notes of refusals."""
        there = [Path(path) for path in folders if os.path.isdir(path)]
        return find_missing(self._runs, [note for path in there for note in read_refusals(path)])


def read_refusals(folder: Path) -> tuple[Refusal, ...]:
    """Return the notes of checks that couldn't begin, of a folder of runs; what can't be read is left out."""
    found = []
    names = os.listdir(folder) if os.path.isdir(folder) and os.access(folder, os.R_OK) else []
    for name in sorted(each for each in names if each.endswith(REFUSED_SUFFIX)):
        try:
            found.append(Refusal.model_validate_json(read_text(folder / name, _MOST_NOTE_BYTES)))
        except (OSError, ValueError, ValidationError):
            continue
    return tuple(found)


def parse_expected_hosts(given: str) -> tuple[tuple[str, ...], int | None]:
    """Return the hosts, or how many there are, that `--expect-hosts` gives: a number, a file, or a list.

    A file has a host, or a list of hosts as Slurm writes it, in each line; # begins a comment. Raises
    InputError for anything else.
    """
    if given.isdecimal() and len(given) < 9:
        return (), int(given)
    path = Path(given)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file and path.suffix == ".txt":  # a host of that name would only be missing
        raise InputError(
            "no such file of hosts",
            where="--expect-hosts",
            got=given,
            expected="a file, node[01-16], or a number",
        )
    if not is_file:
        return expand_hosts(given), None
    try:
        lines = read_text(path, _MOST_EXPECTED_BYTES).splitlines()
    except OSError as error:
        raise InputError("a file of hosts can't be read", where=given, got=error.strerror) from None
    kept = [line.partition("#")[0].strip() for line in lines]
    expanded = (host for line in kept if line for host in expand_hosts(line))
    hosts = list(islice(expanded, MOST_HOSTS + 1))
    if not hosts or len(hosts) > MOST_HOSTS:
        raise InputError("no list of hosts", where=given, got=f"{len(hosts)} hosts", expected="a host a line")
    return tuple(dict.fromkeys(hosts)), None


def find_missing(
    runs: Sequence[Run],
    refusals: Sequence[Refusal] = (),
    hosts: Sequence[str] = (),
    count: int | None = None,
) -> tuple[Missing, ...]:
    """Return who gave no finished run: of the jobs that the runs name, and of the hosts that are expected.

    `hosts` are their names, `count` is how many there should be.
    """
    missing = [*_find_missing_ranks(runs, refusals), *_find_unfinished(runs)]
    seen = {run.manifest.node for run in runs} | {each.host for each in refusals}
    missing += [
        Missing(host, None, None, "never_seen", message("ledger_never_seen"))
        for host in hosts
        if host not in seen
    ]
    if count is not None and count > len(seen):
        lacking = count - len(seen)
        missing.append(
            Missing(
                None, None, None, "never_seen", message("ledger_hosts_lack", count=lacking, expected=count)
            )
        )
    return tuple(missing)


def _find_missing_ranks(runs: Sequence[Run], refusals: Sequence[Refusal]) -> Iterator[Missing]:
    """Yield the processes of each job without a finished run; the last run of a rank counts."""
    launches: dict[tuple[str | None, int], dict[int, Run | Refusal]] = {}
    named: dict[tuple[str | None, int], Sequence[str]] = {}
    ordered: Iterable[Run | Refusal] = [*refusals, *sorted(runs, key=lambda run: run.manifest.began)]
    for each in ordered:
        launch = each.launch if isinstance(each, Refusal) else each.manifest.launch
        if launch is not None:
            job = (launch.job, launch.world_size)
            launches.setdefault(job, {})[launch.rank] = each
            named[job] = launch.hosts
    left = _MOST_NAMED
    for job, by_rank in launches.items():
        missing = [
            Missing(found.host, rank, job[0], "refused", text(found.why))
            for rank, found in by_rank.items()
            if isinstance(found, Refusal)
        ]
        size = job[1]
        lacking = size - sum(rank < size for rank in by_rank)
        can_be_named = lacking <= left
        if can_be_named:
            left -= lacking
            absent_hosts = _find_absent_hosts(named[job], by_rank)
            missing += [
                Missing(next(absent_hosts, None), rank, job[0], "never_seen", message("ledger_never_seen"))
                for rank in (range(size) if lacking else ())
                if rank not in by_rank
            ]
        yield from sorted(missing, key=lambda each: each.rank or 0)
        if not can_be_named:
            why = message("ledger_ranks_lack", count=lacking, expected=size)
            yield Missing(None, None, job[0], "never_seen", why)


def _find_absent_hosts(hosts: Sequence[str], by_rank: Mapping[int, Run | Refusal]) -> Iterator[str]:
    """Yield the nodes of a job that no process is known of, in the order in which ranks are given out."""
    present = {each.host if isinstance(each, Refusal) else each.manifest.node for each in by_rank.values()}
    return (host for host in hosts if host not in present)


def _find_unfinished(runs: Sequence[Run]) -> Iterator[Missing]:
    """Yield the runs that were begun and not finished, where the node has no later one that is."""
    finished: dict[tuple[str, int | None], datetime] = {}
    for run in runs:
        if run.finished:
            key = _who(run)
            finished[key] = max(finished.get(key, run.manifest.began), run.manifest.began)
    for run in runs:
        if run.finished or finished.get(_who(run), datetime.min.replace(tzinfo=UTC)) >= run.manifest.began:
            continue
        launch = run.manifest.launch
        lost = [problem for problem in run.problems if "device" in problem.values]
        why = message(
            "ledger_unfinished",
            began=run.manifest.created,
            records=len(run.records),
            cases=len(run.manifest.expected),
        )
        if lost:
            why = message("clauses", each=[why, *lost])
        yield Missing(
            run.manifest.node,
            None if launch is None else launch.rank,
            None if launch is None else launch.job,
            "unfinished",
            why,
            run.id,
        )


def _who(run: Run) -> tuple[str, int | None]:
    launch = run.manifest.launch
    return run.manifest.node, None if launch is None else launch.rank
