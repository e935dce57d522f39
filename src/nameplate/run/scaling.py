"""Suite `scaled`: a block alone and with its gradients' collectives, by all processes in turn.

Alone, each process computes for itself, all at the same time: heat and power are those of the job. What that
takes is the mean over the processes. With collectives, a round takes as long as for the slowest. So the ratio
holds what waiting costs, and what the network costs.

Processes that share cores or a GPU slow one another down also when they exchange nothing. They give no such
ratio, and the cases are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from nameplate.base.errors import RunIncomplete
from nameplate.base.messages import Message, message, text
from nameplate.device.identity import CpuIdentity
from nameplate.device.protocol import Timing
from nameplate.engine.case_run import describe_error
from nameplate.engine.group_data import CaseData, Check, GroupData
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.records import make_records
from nameplate.engine.window import TimedBatch, Window
from nameplate.record import Record, Verdict, sort_by_gravity
from nameplate.run.measure import SEED
from nameplate.run.peers import Peers
from nameplate.suite import Case
from nameplate.workload import Launch, Prepared

SUITE = "scaled"
SCALED = "scaled_block"
_PILOT = 2
_LEAST_TURN_S = 0.05  # of a case in a round, so that a barrier and a synchronization don't count
_MOST_LAUNCHES = 1000
_WARM_SHARE = 0.25  # of the time, before anything counts: clocks and heat settle
_FEWEST_ROUNDS, _MOST_ROUNDS = 8, 400
_MEMORY_SHARE = 0.8  # of what is free


def measure_scaling(
    peers: Peers, cases: Sequence[Case], budget_s: float, begin: Callable[[Sequence[str]], None]
) -> Iterator[Record | Message]:
    """Measure suite `scaled` with all processes, as `jobs.measure_in_job` asks: a record for each case."""
    begin([case.id for case in cases])
    yield from measure_in_turn(peers, cases, budget_s)
    if peers.launch.rank and peers.broken is not None:
        raise RunIncomplete(f"rank {peers.launch.rank} can't go on: {peers.broken}")


def measure_in_turn(peers: Peers, cases: Sequence[Case], budget_s: float) -> list[Record]:
    """Measure all cases round by round with all processes; rank 0's budget counts, and its records do.

    A case that can't be measured has its reason. Once something fails on one process, all that is left has.
    """
    (budget_s,) = peers.agree([budget_s if peers.launch.rank == 0 else -math.inf])
    why = find_shared(peers)
    refused = {case.id: why for case in cases if why is not None and case.workload.name == SCALED}
    rounds = _Rounds(peers, [case for case in cases if case.id not in refused])
    try:
        rounds.prepare()
        if rounds.ready:
            rounds.draw(budget_s)
        found = rounds.records()
    except Exception as error:
        peers.broken = describe_error(error)
        failed = text(peers.broken)
        found = {
            each.id: record_without_figures(each, peers.opened, failed, "failed") for each in rounds.cases
        }
    skipped = {
        case.id: record_without_figures(case, peers.opened, refused[case.id])
        for case in cases
        if case.id in refused
    }
    found = {**found, **skipped}
    return [found[case.id] for case in cases if case.id in found]


def find_shared(peers: Peers) -> Message | None:
    """Return that processes share cores, or a GPU; None where each has its own. Every process calls this."""
    identity = peers.opened.identity
    if isinstance(identity, CpuIdentity):
        mine: frozenset[object] = frozenset(identity.affinity_cpus or range(math.ceil(identity.usable_cores)))
    else:
        mine = frozenset({getattr(identity, "uuid", None) or peers.opened.name})
    everybody = peers.gather((peers.hosts[peers.launch.rank], mine))
    for number, (host, theirs) in enumerate(everybody):
        for other, (other_host, others) in enumerate(everybody[:number]):
            if host == other_host and theirs & others:
                what = "cores" if isinstance(identity, CpuIdentity) else "a GPU"
                return message("ranks_share", one=other, other=number, what=what)
    return None


@dataclass
class _Turn:
    """One case as this process launches it: how often in a round, and the seconds of each round on all."""

    case: Case
    prepared: Prepared
    launch: Launch
    count: int = 1
    began: str = ""
    starts_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)


@dataclass
class _Rounds:
    """Cases measured in turn by all processes."""

    peers: Peers
    cases: list[Case]
    ready: list[_Turn] = field(default_factory=list)
    lacking: dict[str, Record] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)
    group: GroupData | None = None

    def prepare(self) -> None:
        """Allocate and launch each case once; where one process can't, none does."""
        for case in self.cases:
            free = self.peers.free_bytes() * _MEMORY_SHARE
            (least,) = self.peers.agree([free], "MIN")
            needed = case.workload.resident_bytes
            if needed > least:
                why = message("needs_memory", needed_gb=needed / 1e9, held_gb=least / 1e9)
                self.lacking[case.id] = record_without_figures(case, self.peers.opened, why)
                continue
            failure, turn, passed = None, None, None
            try:
                prepared = self.peers.prepare(case.workload, case.fill, SEED)
                with prepared.numerics():
                    prepared.compute_reference()
                    turn = _Turn(case, prepared, prepared.launches[0])
                    self.peers.time(turn.launch, 1)
                    passed = Check.of(prepared.check())
            except Exception as error:  # the others hear of it
                failure = describe_error(error)
            (works,) = self.peers.agree([float(failure is None)], "MIN")
            if not works or turn is None or passed is None:
                why = text(failure or "it failed on another process")
                self.lacking[case.id] = record_without_figures(case, self.peers.opened, why, "failed")
                continue
            self.checks[case.id] = passed
            self.ready.append(turn)

    def draw(self, budget_s: float) -> None:
        """Draw rounds for so long, the first part of them to warm up; rank 0's clock decides."""
        for turn in self.ready:
            (pilot_s,) = self.peers.agree([self._time(turn, _PILOT) / _PILOT])
            turn.count = max(1, min(math.ceil(_LEAST_TURN_S / max(pilot_s, 1e-9)), _MOST_LAUNCHES))
        (round_s,) = self.peers.agree([sum(self._time(turn, turn.count) for turn in self.ready)])
        total = int(budget_s / max(round_s, 1e-9))
        warm = max(1, int(_WARM_SHARE * total))
        count = max(_FEWEST_ROUNDS, min(total - warm, _MOST_ROUNDS))
        for _round in range(warm):
            for turn in self.ready:
                self._time(turn, turn.count)
        before = self.peers.read_counters()
        begin_s = self.peers.clock()
        for turn in self.ready:
            turn.began = datetime.now(UTC).isoformat(timespec="seconds")
        for _round in range(count):
            for turn in self.ready:
                turn.starts_s.append(self.peers.clock())
                turn.own_s.append(self._time(turn, turn.count))
        after = self.peers.read_counters()
        rows = self.peers.opened.timeline(begin_s)
        self.group = GroupData(
            {turn.case.id: self._case_data(turn) for turn in self.ready},
            self.peers.conditions(before, after),
            begin_s,
            self.peers.clock(),
            rows,
        )

    def _time(self, turn: _Turn, count: int) -> float:
        with turn.prepared.numerics():
            return self.peers.time(turn.launch, count)[0]

    def _case_data(self, turn: _Turn) -> CaseData:
        """Return what all processes found: with collectives the slowest of each round, else their mean."""
        if turn.case.workload.name == SCALED:
            times_s = self.peers.agree(turn.own_s)
        else:
            times_s = [each / self.peers.launch.world_size for each in self.peers.agree(turn.own_s, "SUM")]
        batches = [
            TimedBatch(number, Timing(start, np.array([seconds]), turn.count, start + own))
            for number, (start, seconds, own) in enumerate(
                zip(turn.starts_s, times_s, turn.own_s, strict=True)
            )
        ]
        return CaseData(
            turn.began,
            sum(turn.own_s),
            window=Window(batches, 0.0, has_turns=True),
            check=self.checks[turn.case.id],
            takes_turns=True,
        )

    def records(self) -> Mapping[str, Record]:
        """Return the record of each case, with the verdicts of every process that knows its conditions."""
        made: list[Record] = []
        cases = [turn.case for turn in self.ready]
        if self.group is not None and self.group.conditions is not None:
            made = make_records(cases[0].group or SUITE, cases, self.peers.opened, self.group)
        mine = {record.case: record.verdicts for record in made}
        everybody: list[dict[str, tuple[Verdict, ...]]] = self.peers.gather(mine)
        found = {record.case: self._with_all(record, everybody) for record in made}
        return {**found, **self.lacking}

    def _with_all(self, record: Record, everybody: Sequence[Mapping[str, tuple[Verdict, ...]]]) -> Record:
        said = {verdict for each in everybody for verdict in each.get(record.case, ())} - {"clean"}
        verdicts = sort_by_gravity(said or {"clean"})
        of_job = self.peers.dimensions() if record.workload == SCALED else {}
        dimensions = {**record.dimensions, **of_job}
        return record.model_copy(
            update={"verdict": verdicts[0], "verdicts": verdicts, "dimensions": dimensions}
        )
