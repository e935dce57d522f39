"""A campaign: many inputs of every fuzzer, counted; what fails is made small by Hypothesis and kept."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky, HypothesisWarning

from fuzzing import benchmarks, command_lines, environments, run_folders, user_files
from fuzzing.inputs import CALLS, Corpus, Input
from fuzzing.judge import SLOW_S, find_faults
from fuzzing.sandbox import Outcome, call, call_process, can_be_called, nothing_measured

FUZZERS: Mapping[str, Callable[[], Any]] = {
    "run-folders": run_folders.inputs,
    "user-files": user_files.inputs,
    "pytest-benchmark": benchmarks.inputs,
    "command-lines": command_lines.inputs,
    "environments": environments.inputs,
}
# Of the inputs.
_SHARES = {"run-folders": 4, "user-files": 2, "pytest-benchmark": 1, "command-lines": 2, "environments": 1}
_JOB = 500  # inputs of a process between two reports
_CHUNK = 250  # inputs between two looks at what is known to fail
_LIMIT_S = 12 * SLOW_S  # of the clock: a call that waits for ever is broken off then, and tried once more
# Of so many inputs one is also called in a process of its own, but for the commands that would measure.
_PROCESS_OF = 500
_MEASURES = ("run", "selftest", "devices", "check", "--interleave")


class Failed(AssertionError):
    """An input has faults that aren't known yet."""


@dataclass
class Tally:
    """What came of a fuzzer's inputs. `faults` has an example for each."""

    fuzzer: str
    inputs: int = 0
    in_processes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: Outcome, faults: Iterable[str]) -> None:
        """Count a call."""
        self.inputs += 1
        self.statuses[outcome.status] += 1
        self.faults.update(faults)
        self.slowest_s = max(self.slowest_s, outcome.cpu_s)

    def merge(self, other: Tally) -> None:
        """Add what another process counted."""
        self.inputs += other.inputs
        self.in_processes += other.in_processes
        self.statuses += other.statuses
        self.faults += other.faults
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.seconds += other.seconds


def examine(found: Input, *, in_process: bool = True) -> tuple[Outcome, list[str]]:
    """Call an input and return how it ended, and its faults; a slow call is tried once more."""
    start = call if in_process else call_process
    outcome = start(found, _LIMIT_S)
    faults = list(find_faults(found, outcome))
    if any(each.startswith("hang") for each in faults):
        outcome = start(found, _LIMIT_S)
        faults = list(find_faults(found, outcome))
    return outcome, faults


def fuzz(fuzzer: str, number: int, begin: int, corpus: Corpus | None) -> Tally:
    """Call `number` inputs of a fuzzer, drawn from the seed `begin` on."""
    tally = Tally(fuzzer)
    known: set[str] = set()
    began_s = time.monotonic()
    for first in range(0, number, _CHUNK):
        _fuzz_chunk(tally, known, min(_CHUNK, number - first), begin + first, corpus)
    tally.seconds = time.monotonic() - began_s
    return tally


def _fuzz_chunk(tally: Tally, known: set[str], number: int, begin: int, corpus: Corpus | None) -> None:
    smallest: dict[str, Input] = {}
    left = [number]

    @seed(begin)
    @settings(
        max_examples=math.ceil(number / CALLS),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(FUZZERS[tally.fuzzer]())
    def check(drawn: list[Input]) -> None:
        for found in drawn:
            if left[0] <= 0 and not smallest:
                return
            faults = _call_and_count(tally, found) if left[0] > 0 else examine(found)[1]
            left[0] -= 1
            new = sorted(set(faults) - known)
            if new:
                left[0] = 0  # what comes after is Hypothesis making a failing input smaller
                smallest.update(dict.fromkeys(new[:1], found))
                raise Failed(new[0])

    drawn = tally.inputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of a long repr of a failing input
            check()
    except (Failed, Flaky):
        known.update(smallest)
        if corpus is not None:
            for name, found in smallest.items():
                corpus.keep(found, [name])
        rest = number - (tally.inputs - drawn)
        if rest > 0:
            _fuzz_chunk(tally, known, rest, begin + 1, corpus)


def _call_and_count(tally: Tally, found: Input) -> list[str]:
    outcome, faults = examine(found)
    tally.add(outcome, faults)
    if tally.inputs % _PROCESS_OF == 0 and not _would_measure(found) and can_be_called(found):
        _, more = examine(found, in_process=False)
        tally.in_processes += 1
        tally.faults.update(set(more) - set(faults))
        faults += more
    return faults


def _would_measure(found: Input) -> bool:
    return any(word in _MEASURES for word in found.words)


def replay(corpus: Corpus) -> tuple[Tally, dict[str, list[str]]]:
    """Call every kept input, and return the faults of those that still fail."""
    tally, failing = Tally("corpus"), {}
    began_s = time.monotonic()
    for name, found in corpus.list():
        outcome, faults = examine(found)
        tally.add(outcome, faults)
        if faults:
            failing[name] = faults
    tally.seconds = time.monotonic() - began_s
    return tally, failing


def _job(arguments: tuple[str, int, int, Path]) -> Tally:
    fuzzer, number, begin, folder = arguments
    with nothing_measured():
        gc.freeze()  # modules are never garbage, and calls make little of it
        gc.set_threshold(20_000, 50, 1000)
        return fuzz(fuzzer, number, begin, Corpus(folder))


def plan(number: int, begin: int, folder: Path, only: Sequence[str]) -> list[tuple[str, int, int, Path]]:
    """The jobs of a campaign, the fuzzers in turn: fuzzer, inputs, first seed, corpus."""
    shares = {name: _SHARES[name] for name in FUZZERS if not only or name in only}
    jobs = []
    for name, share in shares.items():
        inputs = number * share // sum(shares.values())
        for first in range(0, inputs, _JOB):
            jobs.append((first / inputs, (name, min(_JOB, inputs - first), begin * 10**7 + first, folder)))
    return [job for _, job in sorted(jobs)]


def run(
    number: int, begin: int, folder: Path, only: Sequence[str], processes: int, tell: Callable[[str], None]
) -> list[Tally]:
    """Run a campaign of `number` inputs in so many processes; what fails is kept in `folder`.

    `tell` is told after each job how far it is. Ctrl-C and SIGTERM end it with what is counted so far.
    """
    jobs = plan(number, begin, folder, only)
    with nothing_measured():
        found = {"corpus": replay(Corpus(folder))[0]}
    found |= {job[0]: Tally(job[0]) for job in jobs}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _leave_interrupts_alone) as pool:
        try:
            for done in as_completed([pool.submit(_job, job) for job in jobs]):
                tally = done.result()
                found[tally.fuzzer].merge(tally)
                inputs = sum(each.inputs for each in found.values())
                tell(f"{inputs} inputs, {len(list_faults(list(found.values())))} kinds of fault")
        except KeyboardInterrupt:
            tell("interrupted")
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.kill()  # SIGTERM would end the command that it calls, as a user's would, and no more
    return list(found.values())


def _leave_interrupts_alone() -> None:
    """Ctrl-C reaches every process of a terminal; the campaign's own ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def count_cores() -> int:
    """How many processes a campaign takes by default."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_table(tallies: Sequence[Tally]) -> list[str]:
    """The campaign as lines: inputs, exits by status, faults by kind."""
    kinds = ("traceback", "exit", "exit 1", "hang", "a write outside", "raw")
    head = (
        "fuzzer",
        "inputs",
        "in processes",
        "0",
        "1",
        "2",
        "3",
        "other",
        *kinds,
        "slowest CPU s",
        "ms a call",
    )
    rows = [head]
    total = Tally("all")
    for tally in tallies:
        total.merge(tally)
    for tally in [*tallies, total]:
        status = [tally.statuses[each] for each in range(4)]
        faults = [sum(n for name, n in tally.faults.items() if _kind_of(name) == kind) for kind in kinds]
        other = tally.statuses.total() - sum(status)
        call_ms = 1e3 * tally.seconds / max(tally.inputs, 1)
        cells = (tally.inputs, tally.in_processes, *status, other, *faults)
        rows.append((tally.fuzzer, *map(str, cells), f"{tally.slowest_s:.1f}", f"{call_ms:.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _kind_of(name: str) -> str:
    if name.startswith("exit 1 without"):
        return "exit 1"
    if name.startswith(("exit", "no JSON")):
        return "exit"
    return next(kind for kind in ("traceback", "hang", "a write outside", "raw") if name.startswith(kind))


def list_faults(tallies: Sequence[Tally]) -> list[str]:
    """Every kind of fault with how often it was seen."""
    seen: Counter[str] = Counter()
    for tally in tallies:
        seen += tally.faults
    return [f"{count:6d}  {name}" for name, count in seen.most_common()]
