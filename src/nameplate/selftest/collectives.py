"""Self-test of collectives: our measurement in turn with a loop written by hand, in the same processes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameplate.base.errors import RunIncomplete
from nameplate.engine.case_run import describe_error
from nameplate.run.job import target_of
from nameplate.run.jobs import require_job
from nameplate.run.measure import SEED, check_budget
from nameplate.run.peers import Peers
from nameplate.stats.estimate import paired_ratio
from nameplate.suite import Case, find_suite

BUDGET_S = 20.0
TOLERANCE = 0.05  # collectives of CPUs scatter by more than products
_KINDS = ("all_reduce", "all_gather", "send_recv")
_LEAST_BYTES, _MOST_BYTES = 1 << 20, 1 << 25
_ROUNDS = 40
_PILOT = 3
_MOST_LAUNCHES = 1000


@dataclass(frozen=True)
class CollectiveRow:
    """One collective by both: bus bandwidth in GB/s, and ours ÷ the loop's with its 95 % interval."""

    case: str
    ours_gb_s: float
    bare_gb_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether 1, give or take the tolerance, is inside the interval."""
        return self.ratio_low <= 1 + self.tolerance and self.ratio_high >= 1 - self.tolerance

    def as_json(self) -> dict[str, Any]:
        """Return every field, and whether it passed."""
        return {**asdict(self), "passed": self.passed}


def compare_collectives(device: str = "auto", budget_s: float = BUDGET_S) -> tuple[CollectiveRow, ...]:
    """Measure collectives by `bench run collectives`' own timing and by a bare loop, in turn.

    Every process of the job calls this; only rank 0 gets rows. The order within a round is drawn, the same on
    all. A round counts with its slowest process. Raises InputError outside a job of several processes,
    RunIncomplete where a collective fails.
    """
    check_budget(budget_s)
    launch = require_job("bench selftest --collectives")
    peers = Peers.join(launch, device)
    try:
        cases = list(_choose_cases(find_suite("collectives").cases(target_of(peers.opened))))
        rows = [_compare(peers, case, budget_s / len(cases)) for case in cases]
    except RuntimeError as error:  # what torch raises for a peer that fails or is late
        peers.broken = describe_error(error)
        raise RunIncomplete(f"a collective failed on rank {launch.rank}: {peers.broken}") from error
    finally:
        peers.leave()
    return tuple(rows) if launch.rank == 0 else ()


def _choose_cases(cases: Sequence[Case]) -> Iterator[Case]:
    """Choose a message that links bound, and one that is large, of a few kinds."""
    for case in cases:
        dimensions = case.workload.dimensions
        if dimensions["kind"] in _KINDS and _LEAST_BYTES <= int(dimensions["message_bytes"]) <= _MOST_BYTES:
            yield case


def _compare(peers: Peers, case: Case, budget_s: float) -> CollectiveRow:
    prepared = case.workload.prepare(peers.device, fill=case.fill, seed=SEED)
    (ours,) = prepared.launches
    bare = _make_bare_loop(case, peers)
    peers.time(ours, _PILOT)
    bare(_PILOT)
    (pilot_s,) = peers.agree([peers.time(ours, _PILOT)[0] / _PILOT])
    count = max(1, min(int(budget_s / _ROUNDS / 2 / max(pilot_s, 1e-9)), _MOST_LAUNCHES))
    ours_s: list[float] = []
    bare_s: list[float] = []
    turns: tuple[Callable[[], None], ...] = (
        lambda: ours_s.append(peers.time(ours, count)[0]),
        lambda: bare_s.append(bare(count)),
    )
    order = random.Random(SEED)  # the same on every process
    for _round in range(_ROUNDS):
        for turn in order.sample(turns, k=2):
            turn()
    ours_s, bare_s = peers.agree(ours_s), peers.agree(bare_s)
    ratio = paired_ratio(bare_s, ours_s)
    moved = case.workload.bytes * count * _ROUNDS / 1e9
    return CollectiveRow(
        case.id, moved / sum(ours_s), moved / sum(bare_s), ratio.value, ratio.low, ratio.high, _ROUNDS
    )


def _make_bare_loop(case: Case, peers: Peers) -> Callable[[int], float]:
    """Return a plain loop over tensors of its own, as torch's documentation writes it: launches → seconds."""
    import torch
    import torch.distributed as dist

    work, rank, size = case.workload.dimensions, peers.launch.rank, peers.launch.world_size
    elements = int(work["message_bytes"]) // 4
    given = torch.ones(elements // size if work["kind"] == "all_gather" else elements, device=peers.device)
    taken = torch.empty(elements, device=peers.device)

    def launch() -> None:
        match work["kind"]:
            case "all_reduce":
                dist.all_reduce(given)
            case "all_gather":
                dist.all_gather_into_tensor(taken, given)
            case _:
                sending = dist.isend(given, (rank + 1) % size)
                dist.recv(taken, (rank - 1) % size)
                if sending is not None:
                    sending.wait()

    def loop(launches: int) -> float:
        dist.barrier()
        begin = time.perf_counter()
        for _launch in range(launches):
            launch()
        if peers.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return loop
