"""Suite `collectives`: every process of a job takes part in every case.

Processes of a job have to launch equally often, so the engine, which decides by its own clock, can't measure
them. Here rank 0 decides and tells the others. A batch ends on each process when its own launches have, and
counts with the time of the slowest. Each process that reads a device's counters judges the batches by the
engine's own rules; what one of them finds holds for the record. Where a collective fails, or the job has
three processes or more, groups of them are tried at the end, to name the node or link at fault.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nameplate.base.errors import RunIncomplete
from nameplate.base.messages import Message, message, text
from nameplate.engine.case_run import describe_error
from nameplate.engine.conditions import Conditions
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.verdict import Observation, judge
from nameplate.record import Batch, Record, Verdict, Verification, sort_by_gravity
from nameplate.run.measure import SEED
from nameplate.run.peers import Peers
from nameplate.specs.links import RatedLink
from nameplate.stats.estimate import launch_time
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.workload import CheckResult, Launch

SUITE = "collectives"
BATCHES = 20  # of a case, at least
# Small messages scatter by half from one batch to the next, and hardly depend on one another: more of
# them make the interval narrower. A batch lasts so long that its barrier doesn't count.
_MOST_BATCHES, _LEAST_BATCH_S = 100, 0.02
_WARM_UP, _PILOT, _PILOT_S = 3, 3, 0.03
_MOST_LAUNCHES = 10_000  # of a batch
_PATIENCE = 3.0  # a case may take so many times its share of the time
# Predictions assume no slower link than a gigabit Ethernet; a slower one costs a launch of a size too large.
_LEAST_BYTES_PER_S = 1e8
_MEMORY_SHARE = 0.5  # of what is free
_FEWEST_TO_HALVE = 3  # of two processes, nothing tells which is slow


def measure_collectives(
    peers: Peers, cases: Sequence[Case], budget_s: float, begin: Callable[[Sequence[str]], None]
) -> Iterator[Record | Message]:
    """Measure suite `collectives` with all processes, as `jobs.measure_in_job` asks: a record for each case.

    Where one fails, or of three processes and more, what `Peers.find_culprits` finds follows.
    """
    end_s = time.monotonic() + budget_s
    measuring = _Measuring(peers)
    for number, case in enumerate(cases):
        # What doesn't fit the memory takes no time: the others share it.
        room = peers.free_bytes() * _MEMORY_SHARE
        fitting = sum(each.workload.resident_bytes <= room for each in cases[number:])
        begin([case.id])
        yield measuring.measure(case, (end_s - time.monotonic()) / max(fitting, 1))
    if peers.broken is not None or peers.launch.world_size >= _FEWEST_TO_HALVE:
        yield from peers.find_culprits()
    if peers.launch.rank and peers.broken is not None:
        raise RunIncomplete(f"a collective failed on rank {peers.launch.rank}: {peers.broken}")


@dataclass(frozen=True)
class _Check:
    """Whether every element was exact, on every process."""

    passed: bool
    reference: str = "exact"
    rule: str = "every element is exact, on every process"

    @property
    def error(self) -> float:
        return 0.0 if self.passed else math.inf


@dataclass(frozen=True)
class _Timed:
    """What all processes found: seconds of each batch on the slowest, and what held for any of them."""

    count: int
    times_s: list[float]
    starts_s: list[float]
    check: CheckResult
    time_s: Interval
    verdicts: tuple[Verdict, ...]
    conditions: Conditions | None
    warnings: tuple[Message, ...]


def _find_time_lacking(launch_s: float, share_s: float) -> Message | None:
    """Return that a case's batches don't fit its share of the time, where a launch takes so long."""
    needed_s, left_s = BATCHES * launch_s, max(share_s, 0.0)
    if share_s > 0 and needed_s <= _PATIENCE * share_s:
        return None
    return message("needs_time", needed_s=needed_s, launch_s=launch_s, left_s=left_s)


@dataclass
class _Measuring:
    """One process's part in measuring cases; once a collective fails, all further cases fail."""

    peers: Peers
    paces: dict[str, tuple[int, float]] = field(default_factory=dict)  # kind → bytes and seconds, the latest
    bytes_per_s: float = 0.0  # the most seen so far

    def measure(self, case: Case, share_s: float) -> Record:
        """Do a case with all processes and return its record, whatever happens; rank 0's share counts."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        begin_s = time.monotonic()
        if self.peers.broken is not None:
            return record_without_figures(case, self.peers.opened, text(self.peers.broken), "failed")
        try:
            found = self._take_part(case, share_s)
        except Exception as error:
            self.peers.broken = describe_error(error)
            return record_without_figures(case, self.peers.opened, text(self.peers.broken), "failed")
        if isinstance(found, Record):
            return found
        return self._record(case, found, began, time.monotonic() - begin_s)

    def _take_part(self, case: Case, share_s: float) -> Record | _Timed:
        """Return what was found of a case; a record without figures where it can't be measured."""
        work, peers = case.workload, self.peers
        free = peers.free_bytes() * _MEMORY_SHARE
        negative_free, share_s = peers.agree([-free, share_s if peers.launch.rank == 0 else -math.inf])
        why = self._find_obstacle(case, -negative_free, share_s)
        if why is not None:
            return record_without_figures(case, peers.opened, why)
        failure, passed, launch, first_s = None, False, None, 0.0
        try:
            prepared = work.prepare(peers.device, fill=case.fill, seed=SEED)
            (launch,) = prepared.launches
            first_s, _enqueue_s = peers.time(launch, 1)
            passed = prepared.check().passed
        except Exception as error:  # a backend may lack a collective; the others hear of it
            failure = describe_error(error)
        runs, all_passed = peers.agree([float(failure is None), float(passed)], "MIN")
        if not runs or launch is None:
            failed = text(failure or "it failed on another process")
            return record_without_figures(case, peers.opened, failed, "failed")
        (first_s,) = peers.agree([first_s])
        why = _find_time_lacking(first_s, share_s)
        if why is not None:
            return record_without_figures(case, peers.opened, why)
        peers.time(launch, _WARM_UP)
        pilot_s = self._time_pilot(launch)
        self.paces[str(work.dimensions["kind"])] = (work.bytes, pilot_s)
        self.bytes_per_s = max(self.bytes_per_s, work.bytes / max(pilot_s, 1e-9))
        batches = min(max(int(share_s / max(pilot_s, _LEAST_BATCH_S)), BATCHES), _MOST_BATCHES)
        count = max(1, min(int(share_s / batches / max(pilot_s, 1e-9)), _MOST_LAUNCHES))
        before = peers.read_counters()
        times_s, starts_s, enqueued_s = [], [], 0.0
        for _ in range(batches):
            starts_s.append(time.perf_counter())
            took_s, enqueue_s = peers.time(launch, count)
            times_s.append(took_s)
            enqueued_s += enqueue_s
        conditions = peers.conditions(before, peers.read_counters())
        (all_passed,) = peers.agree([min(all_passed, float(prepared.check().passed))], "MIN")
        share = enqueued_s / sum(times_s) if peers.device.type == "cuda" else None
        return self._judge(
            count, peers.agree(times_s), starts_s, _Check(all_passed == 1.0), conditions, share
        )

    def _time_pilot(self, launch: Launch) -> float:
        """Return the seconds of a launch, by as many of them as take some hundredths of a second."""
        count = _PILOT
        while True:
            (took_s,) = self.peers.agree([self.peers.time(launch, count)[0]])
            if took_s >= _PILOT_S or count >= _MOST_LAUNCHES:
                return took_s / count
            count *= 4

    def _find_obstacle(self, case: Case, free_bytes: float, share_s: float) -> Message | None:
        """Return why a case isn't tried: it doesn't fit the memory of one process, or the time."""
        work = case.workload
        if work.resident_bytes > free_bytes:
            return message("needs_memory", needed_gb=work.resident_bytes / 1e9, held_gb=free_bytes / 1e9)
        size, seconds = self.paces.get(str(work.dimensions["kind"]), (work.bytes, 0.0))
        # A small message takes the time to begin, which doesn't grow with it.
        predicted_s = seconds + max(work.bytes - size, 0) / max(self.bytes_per_s, _LEAST_BYTES_PER_S)
        return _find_time_lacking(predicted_s, share_s)

    def _judge(
        self,
        count: int,
        times_s: list[float],
        starts_s: list[float],
        check: _Check,
        conditions: Conditions | None,
        enqueue_share: float | None,
    ) -> _Timed:
        """Judge the batches on each process that knows its conditions, and put together what all found."""
        time_s = launch_time(times_s, [count] * len(times_s), at_s=starts_s)
        mine: tuple[Verdict, ...] = ()
        if conditions is not None:
            seen = Observation(
                kind=self.peers.opened.kind,
                check=check,
                time_s=time_s,
                middle_s=np.array(starts_s) + np.array(times_s) / 2,
                launch_s=np.array(times_s) / count,
                samples_s=(),
                # No peak: switches that add (NVLink SHARP) let the bus bandwidth exceed a link's.
                peak_efficiency=None,
                conditions=conditions,
                enqueue_share=enqueue_share,
            )
            mine = judge(seen)
        everybody: list[tuple[Verdict, ...]] = self.peers.gather(mine)
        found = {verdict for each in everybody for verdict in each} - {"clean"}
        warnings = [
            message("collective_rank", rank=rank, host=self.peers.hosts[rank], verdicts=", ".join(said))
            for rank, each in enumerate(everybody)
            if rank and (said := [verdict for verdict in each if verdict not in ("clean", *mine)])
        ]
        verdicts = sort_by_gravity(found or {"clean"})
        return _Timed(count, times_s, starts_s, check, time_s, verdicts, conditions, tuple(warnings))

    def _record(self, case: Case, found: _Timed, began: str, cost_s: float) -> Record:
        """Return the record of a measured case."""
        bandwidth = found.time_s.inverted(case.workload.bytes / 1e9)
        declared = record_without_figures(case, self.peers.opened, text("measured")).model_dump()
        figures: dict[str, Any] = {
            "status": "ok",
            "reason": None,
            "verdict": found.verdicts[0],
            "verdicts": found.verdicts,
            "warnings": found.warnings,
            "dimensions": {**case.workload.dimensions, **self.peers.dimensions()},
            "conditions": {} if found.conditions is None else found.conditions.as_columns(),
            "bandwidth_gb_s": bandwidth.value,
            "bandwidth_low_gb_s": bandwidth.low,
            "bandwidth_high_gb_s": bandwidth.high,
            "time_s": found.time_s.value,
            "launches": found.count * len(found.times_s),
            "processes": 1,
            "interval_kind": "within",
            "started": began,
            "cost_s": cost_s,
            "verification": Verification(
                reference=found.check.reference,
                error=0.0 if found.check.passed else None,
                rule=found.check.rule,
                passed=found.check.passed,
            ),
            "batches": tuple(
                Batch(start_s=start - found.starts_s[0], elapsed_s=elapsed, launches=found.count, round=n)
                for n, (start, elapsed) in enumerate(zip(found.starts_s, found.times_s, strict=True))
            ),
        }
        return Record.model_validate(declared | figures | rated_columns(self.peers.link, bandwidth))


def rated_columns(link: RatedLink | Message | None, bandwidth: Interval) -> dict[str, Any]:
    """Return the columns that compare bus bandwidth with the link that bounds it, or say why none does."""
    if not isinstance(link, RatedLink):
        return {"nominal_source": link}
    share = bandwidth.scaled(1 / link.gb_s)
    return {
        "nominal_basis": "link",
        "nominal_source": text(link.source),
        "efficiency": share.value,
        "efficiency_low": share.low,
        "efficiency_high": share.high,
    }
