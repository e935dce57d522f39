"""What the processes that measure a group of cases find: plain data that another process can read.

A group is measured in one process or in several, one after the other. Each gives a `GroupData`, and
`merge_processes` makes one of all: a case's batches, its checks, the conditions and telemetry over the whole
time. Only the record is made of that; `engine/records.py` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import Self

from nameplate.base.messages import Message
from nameplate.device.protocol import Counters
from nameplate.engine.ceiling import ProbeData
from nameplate.engine.conditions import Conditions, merge_conditions
from nameplate.engine.host_share import HostShare
from nameplate.engine.window import Window, merge_windows, relative_times
from nameplate.record import Derate, LaunchProfile, Moment, PartTime, Status
from nameplate.stats.settling import find_settling
from nameplate.telemetry.timeline import Spans
from nameplate.workload import CheckResult


@dataclass(frozen=True)
class FailureReason:
    """Why a case has no figure: `skipped` or `failed`, with the message."""

    status: Status
    reason: Message


@dataclass(frozen=True)
class Check:
    """A workload's check of its result, without the workload; see `workload.CheckResult`."""

    reference: str
    error: float
    rule: str
    passed: bool

    @classmethod
    def of(cls, result: CheckResult) -> Self:
        """Copy what a workload's own result says."""
        return cls(result.reference, result.error, result.rule, result.passed)


@dataclass(frozen=True)
class CaseData:
    """One case: what one process found of it, or all of them together.

    `window` has the batches that its figure is taken from; `digests` is of every batch that was drawn, None
    where none was taken. `other_spans` are the times at which other work ran between its batches. A case with
    a `failure` has none of these.
    """

    started: str
    cost_s: float
    failure: FailureReason | None = None
    window: Window | None = None
    digests: tuple[str | None, ...] = ()
    check: Check | None = None
    host: HostShare = field(default_factory=HostShare)
    kernels: tuple[str, ...] = ()
    compile_s: float | None = None
    peak_bytes: int | None = None
    is_flushed: bool = False  # whether the caches were emptied before each sample
    takes_turns: bool = False  # whether other work ran between its batches
    led_s: float = 0.0  # how long its own launches, which don't count, ran before each stretch of the window
    other_spans: Spans = ()
    course: tuple[Moment, ...] = ()
    derates: tuple[Derate, ...] = ()
    parts: tuple[PartTime, ...] = ()
    profile: LaunchProfile | None = None

    @property
    def digest(self) -> str | None:
        """The first digest taken; None where there is none."""
        return next((digest for digest in self.digests if digest is not None), None)

    @property
    def changed_batch(self) -> int | None:
        """The number, from 1, of the first batch whose digest differs from the first one; None: all agree.

        Batches before a sustained window count too: an error from before it is in all of its results. So do
        those of other processes: they compute the same from the same inputs.
        """
        changed = (
            number
            for number, digest in enumerate(self.digests, 1)
            if digest is not None and digest != self.digest
        )
        return next(changed, None)


@dataclass(frozen=True)
class GroupData:
    """What one process found of a group, or all of them together; `cases` by id.

    `begin_s` and `end_s` are when its batches began and ended, on the device's clock. `rows` is the device's
    timeline. `conditions` is None where no case could be prepared, and then nothing was drawn. Another
    process takes about `setup_s` to begin, and should then draw for `least_s` at least.
    """

    cases: Mapping[str, CaseData]
    conditions: Conditions | None = None
    begin_s: float = 0.0
    end_s: float = 0.0
    rows: tuple[Counters, ...] = ()
    probes: Mapping[str, ProbeData] = field(default_factory=dict)  # by dtype
    setup_s: float = 0.0
    least_s: float = 0.0

    @property
    def measured(self) -> frozenset[str]:
        """The cases that have batches."""
        return frozenset(case for case, found in self.cases.items() if found.window is not None)

    @property
    def verified(self) -> frozenset[str]:
        """The cases whose result was checked, and whose bits tell another process's result."""
        return frozenset(case for case in self.measured if self.cases[case].digest and self.cases[case].check)

    @property
    def has_settled(self) -> bool:
        """Whether a case shows that the device has settled."""
        windows = [found.window for found in self.cases.values() if found.window is not None]
        return any(each.settling is not None and each.settling.is_settled is True for each in windows)


def merge_processes(found: Sequence[GroupData]) -> GroupData:
    """Return what several processes found of the same group, in the order they ran, as if it were one's.

    The first has every case, later ones those that had a figure until then. Rounds are numbered on from one
    process to the next. Between two processes other work ran: their set-up.
    """
    if len(found) == 1:
        return found[0]
    drawn = [each for each in found if each.conditions is not None]
    if not drawn:
        return found[0]
    between = [(before.end_s, after.begin_s) for before, after in pairwise(drawn)]
    rounds = [_count_rounds(each) for each in drawn]
    firsts = dict(zip(map(id, drawn), accumulate(rounds, initial=0), strict=False))
    cases = {
        case: _merge_case(
            [(each.cases[case], firsts.get(id(each), 0)) for each in found if case in each.cases], between
        )
        for case in found[0].cases
    }
    return GroupData(
        _judge_together(cases, drawn[0].begin_s),
        merge_conditions([each.conditions for each in drawn if each.conditions is not None]),
        drawn[0].begin_s,
        drawn[-1].end_s,
        tuple(chain.from_iterable(each.rows for each in drawn)),
        _merge_probes([(each, firsts[id(each)]) for each in drawn]),
        drawn[-1].setup_s,
        drawn[-1].least_s,
    )


def _judge_together(cases: Mapping[str, CaseData], begin_s: float) -> Mapping[str, CaseData]:
    """Judge by all their processes together whether cases that took long turns have settled.

    At a power limit a clock swings with a period of some seconds. One process sees it for two of them, and
    half of each turn doesn't count: there it hides a change, or looks like one. What all together can't tell
    stays as the processes found it.
    """
    turns = {
        case: found.window
        for case, found in cases.items()
        if found.window is not None and found.window.has_turns and found.window.settling is not None
    }
    points = sorted(point for window in turns.values() for point in relative_times(window.whole, begin_s))
    if not points:
        return cases
    at_s, launch_s = zip(*points, strict=True)
    together = find_settling(at_s, launch_s, 0.0)
    if together.is_settled is None:
        return cases
    since_s = begin_s + (together.settled_s or 0.0)
    judged = {
        case: replace(cases[case], window=window.since(since_s, together)) for case, window in turns.items()
    }
    return {**cases, **judged}


def _count_rounds(found: GroupData) -> int:
    numbers = [batch.round for case in found.cases.values() if case.window for batch in case.window.batches]
    of_probes = [number for probe in found.probes.values() for number in probe.rounds]
    return 1 + max([*numbers, *of_probes], default=-1)


def _merge_case(found: Sequence[tuple[CaseData, int]], between: Spans) -> CaseData:
    """Merge what each process found of a case; the number is that of the process's first round.

    A case that failed in one process has failed. One that a later process left out, for want of time, has the
    figures of the others. Processes at the beginning that found the device still changing are no part of a
    sustained figure where two later ones found it settled.
    """
    first = found[0][0]
    cost_s = sum(case.cost_s for case, _ in found)
    failed = next((case for case, _ in found if case.failure and case.failure.status == "failed"), None)
    if failed is not None or first.failure is not None:
        return replace(failed or first, started=first.started, cost_s=cost_s)
    if len(found) == 1:
        return first
    whole = _drop_unsettled([(case, number) for case, number in found if case.window is not None])
    return replace(
        first,
        cost_s=cost_s,
        window=merge_windows([case.window.renumbered(number) for case, number in whole if case.window]),
        digests=tuple(chain.from_iterable(case.digests for case, _ in found)),
        check=_merge_checks([case.check for case, _ in found if case.check is not None]),
        takes_turns=True,
        led_s=min(case.led_s for case, _ in whole),
        other_spans=[*chain.from_iterable(case.other_spans for case, _ in whole), *between],
    )


def _drop_unsettled(found: Sequence[tuple[CaseData, int]]) -> Sequence[tuple[CaseData, int]]:
    settled = [
        case.window is None or case.window.settling is None or case.window.settling.is_settled is True
        for case, _ in found
    ]
    first = settled.index(True) if True in settled else 0
    return found[first:] if first and all(settled[first:]) and len(found) - first >= 2 else found


def _merge_checks(checks: Sequence[Check]) -> Check | None:
    """Return the worst check: a failed one, else the one with the largest error."""
    return max(checks, key=lambda check: (not check.passed, check.error), default=None)


def _merge_probes(found: Sequence[tuple[GroupData, int]]) -> dict[str, ProbeData]:
    """Merge the rounds of each probe; one that a process went without has the rounds of the others."""
    merged: dict[str, ProbeData] = {}
    for data, number in found:
        for dtype, probe in data.probes.items():
            rounds = {number + each: seconds for each, seconds in probe.rounds.items()}
            before = merged[dtype].rounds if dtype in merged else {}
            merged[dtype] = replace(probe, rounds={**before, **rounds})
    return merged
