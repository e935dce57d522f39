"""A run of collectives: every process of a job takes part in every case, and rank 0 keeps the records.

Processes of a job have to launch equally often, so the engine, which decides by its own clock, can't measure
them. Here rank 0 decides and tells the others. A batch ends on each process when its own launches have, and
counts with the time of the slowest. A process that dies or stops lets the others fail after `TIMEOUT_S`, each
with its reason, instead of hanging them.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from nameplate import suite as suites
from nameplate.base.errors import InputError
from nameplate.base.messages import message, text
from nameplate.device.protocol import DeviceDescription
from nameplate.device.survey import describe
from nameplate.engine.case_run import describe_error
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.thresholds import thresholds
from nameplate.record import Batch, Record, Verdict, Verification, sort_by_gravity
from nameplate.run.job import read_software_versions, target_of
from nameplate.run.measure import DEFAULT_RESULTS, SEED, check_budget, entry_of
from nameplate.run.observer import GuardedObserver, Observer
from nameplate.stats.estimate import launch_time
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.launch import Launch, read_launch
from nameplate.store.manifest import Manifest, Options
from nameplate.suite import Case
from nameplate.workload import Prepared

if TYPE_CHECKING:
    import torch

SUITE = "collectives"
TIMEOUT_S = 60.0
BATCHES = 20
_WARM_UP, _PILOT = 3, 3
_MOST_LAUNCHES = 10_000  # of a batch
_PATIENCE = 3.0  # a case may take so many times its share of the time
_MEMORY_SHARE = 0.5  # of what is free, for all processes of a node together


def measure_collectives(
    *,
    device: str = "auto",
    only: str | None = None,
    budget: float | None = None,
    results: str | Path | None = None,
    observer: Observer | None = None,
) -> Run | None:
    """Measure suite `collectives` with the other processes of this job; only rank 0 returns a run.

    Every process calls this with the same flags. GPUs talk by NCCL, CPUs by gloo. Raises InputError outside
    a job of several processes, and where the other processes can't be reached.
    """
    check_budget(budget)
    launch = read_launch()
    if launch is None or launch.world_size < 2:
        raise InputError(
            "collectives need several processes",
            where="bench run collectives",
            expected="a launcher: torchrun --nproc-per-node 2 --no-python bench run collectives",
        )
    suite = suites.find_suite(SUITE)
    described = describe(_choose_device(device, launch))
    cases = suite.cases(target_of(described), only)
    budget_s = budget or suite.budget_s
    job = _Job.join(launch, described)
    try:
        if launch.rank:
            for case in cases:
                job.take_part(case, described)
            return None
        return _keep(
            job, launch, described, cases, budget_s, only, Path(results or DEFAULT_RESULTS), observer
        )
    finally:
        job.leave()


def _choose_device(flag: str, launch: Launch) -> str:
    """Return the GPU of the local rank where there are GPUs for all of them, else the CPU."""
    import torch

    count = torch.cuda.device_count() if flag != "cpu" and torch.cuda.is_available() else 0
    return f"cuda:{launch.local_rank % count}" if count >= launch.local_world_size else "cpu"


def _keep(
    job: _Job,
    launch: Launch,
    described: DeviceDescription,
    cases: Sequence[Case],
    budget_s: float,
    only: str | None,
    results: Path,
    observer: Observer | None,
) -> Run:
    """Measure each case as rank 0, and keep its record."""
    guarded = GuardedObserver(observer)
    manifest = Manifest(
        run=store.new_run_id(SUITE, alone=False),
        suite=SUITE,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        devices=(entry_of(described),),
        software=read_software_versions(),
        options=Options(device=described.name, only=only, budget_s=budget_s),
        seed=SEED,
        measured=described.measured,
        launch=launch,
        cases=tuple(case.id for case in cases),
    )
    folder = store.create(results, manifest)
    end_s = time.monotonic() + budget_s
    with store.claim(folder), store.RecordWriter(folder, "rank0") as writer:
        guarded.run_started(folder, manifest, budget_s, len(cases))
        for number, case in enumerate(cases):
            share_s = (end_s - time.monotonic()) / (len(cases) - number)
            guarded.group_started([case.id])
            record = job.measure(case, described, share_s)
            writer.append(record)
            guarded.case_finished(record)
    store.mark_done(folder)
    return store.read_run(folder)


@dataclass
class _Job:
    """The processes of a job, joined by torch.distributed; once one fails, all further cases fail."""

    device: torch.device
    transport: str
    launch: Launch
    broken: str | None = None
    paces: dict[str, tuple[int, float]] = field(default_factory=dict)  # kind → bytes and seconds, the latest

    @classmethod
    def join(cls, launch: Launch, described: DeviceDescription) -> _Job:
        """Meet the other processes. Raises InputError where that fails."""
        import torch
        import torch.distributed as dist

        is_gpu = described.kind == "cuda"
        device = torch.device(described.name if is_gpu else "cpu")
        transport = "nccl" if is_gpu else "gloo"
        try:
            if is_gpu:
                torch.cuda.set_device(device)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if is_gpu else "gloo",
                rank=launch.rank,
                world_size=launch.world_size,
                timeout=timedelta(seconds=TIMEOUT_S),
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(
                "the other processes of the job can't be reached",
                where="MASTER_ADDR",
                got=describe_error(error),
                expected="MASTER_ADDR and MASTER_PORT, as torchrun sets them",
            ) from error
        return cls(device, transport, launch)

    def leave(self) -> None:
        """Leave the job; a broken one isn't waited for."""
        import torch.distributed as dist

        if dist.is_initialized() and self.broken is None:
            dist.destroy_process_group()

    def _agree(self, values: Sequence[float], how: str = "MAX") -> list[float]:
        """Return the largest, or the smallest, of each value over all processes."""
        import torch
        import torch.distributed as dist

        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, op=getattr(dist.ReduceOp, how))
        return list(shared.tolist())

    def measure(self, case: Case, described: DeviceDescription, share_s: float) -> Record:
        """Measure a case as rank 0 and return its record, whatever happens."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        begin_s = time.monotonic()
        if self.broken is not None:
            return record_without_figures(case, described, text(self.broken), "failed")
        try:
            result = self.take_part(case, described, share_s)
        except Exception as error:
            self.broken = describe_error(error)
            return record_without_figures(case, described, text(self.broken), "failed")
        if isinstance(result, Record):
            return result
        return self._record(case, described, result, began, time.monotonic() - begin_s)

    def take_part(self, case: Case, described: DeviceDescription, share_s: float = 0.0) -> Record | _Result:
        """Do a case with all processes; of the share of time, rank 0's counts.

        Returns a skipped record where it doesn't fit the memory of one of them.
        """
        work = case.workload
        free = self._free_bytes() * _MEMORY_SHARE / self.launch.local_world_size
        fits, share_s = self._agree([-free, share_s if self.launch.rank == 0 else -math.inf])
        if work.resident_bytes > -fits:
            why = message("needs_memory", needed_gb=work.resident_bytes / 1e9, held_gb=-fits / 1e9)
            return record_without_figures(case, described, why)
        kind, predicted_s = str(work.dimensions["kind"]), 0.0
        if kind in self.paces:
            size, seconds = self.paces[kind]
            predicted_s = seconds * max(work.bytes / size, 1.0)
        if share_s <= 0 or BATCHES * predicted_s > _PATIENCE * share_s:
            why = message(
                "needs_time",
                needed_s=BATCHES * predicted_s,
                launch_s=predicted_s,
                left_s=max(share_s, 0.0),
            )
            return record_without_figures(case, described, why)
        failure, passed = None, False
        try:
            prepared = work.prepare(self.device, fill=case.fill, seed=SEED)
            self._time(prepared, 1)
            passed = prepared.check().passed
        except Exception as error:  # a backend may lack a collective; the others hear of it
            failure = describe_error(error)
        runs, all_passed = self._agree([float(failure is None), float(passed)], "MIN")
        if not runs:
            why = text(failure or "it failed on another process")
            return record_without_figures(case, described, why, "failed")
        self._time(prepared, _WARM_UP)
        (pilot_s,) = self._agree([self._time(prepared, _PILOT) / _PILOT])
        count = max(1, min(int(share_s / BATCHES / max(pilot_s, 1e-9)), _MOST_LAUNCHES))
        self.paces[kind] = (work.bytes, pilot_s)
        times_s, starts_s = [], []
        for _ in range(BATCHES):
            starts_s.append(time.perf_counter())
            times_s.append(self._time(prepared, count))
        return _Result(count, self._agree(times_s), starts_s, all_passed == 1.0)

    def _time(self, prepared: Prepared, count: int) -> float:
        """Return the seconds of so many launches on this process, begun together with the others."""
        import torch.distributed as dist

        (launch,) = prepared.launches
        dist.barrier()
        begin_s = time.perf_counter()
        for _ in range(count):
            launch()
        self._synchronize()
        return time.perf_counter() - begin_s

    def _synchronize(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _free_bytes(self) -> float:
        import torch

        if self.device.type == "cuda":
            return float(torch.cuda.mem_get_info(self.device)[0]) * self.launch.local_world_size
        return float(psutil.virtual_memory().available)

    def _record(
        self, case: Case, described: DeviceDescription, found: _Result, began: str, cost_s: float
    ) -> Record:
        """Return the record of a measured case.

        What else went on on the nodes isn't read, so it is never `clean`.
        """
        time_s = launch_time(found.times_s, [found.count] * BATCHES, at_s=found.starts_s)
        moved = case.workload.bytes
        bandwidth = time_s.inverted(moved / 1e9)
        verdicts: set[Verdict] = {"unknown"}
        if not found.passed:
            verdicts.add("unverified")
        if time_s.relative_half_width > thresholds().unstable.half_width:
            verdicts.add("unstable")
        ordered = sort_by_gravity(verdicts)
        declared = record_without_figures(case, described, text("measured")).model_dump()
        figures: dict[str, Any] = {
            "status": "ok",
            "reason": None,
            "verdict": ordered[0],
            "verdicts": ordered,
            "dimensions": {
                **case.workload.dimensions,
                "transport": self.transport,
                "processes_a_node": self.launch.local_world_size,
            },
            "bandwidth_gb_s": bandwidth.value,
            "bandwidth_low_gb_s": bandwidth.low,
            "bandwidth_high_gb_s": bandwidth.high,
            "time_s": time_s.value,
            "launches": found.count * BATCHES,
            "processes": 1,
            "interval_kind": "within",
            "started": began,
            "cost_s": cost_s,
            "verification": Verification(
                reference="exact",
                error=0.0 if found.passed else None,
                rule="every element is exact, on every process",
                passed=found.passed,
            ),
            "batches": tuple(
                Batch(start_s=start - found.starts_s[0], elapsed_s=elapsed, launches=found.count, round=n)
                for n, (start, elapsed) in enumerate(zip(found.starts_s, found.times_s, strict=True))
            ),
        }
        return Record.model_validate(declared | figures)


@dataclass(frozen=True)
class _Result:
    """What all processes found: seconds of each batch on the slowest of them, and whether all were right."""

    count: int
    times_s: list[float]
    starts_s: list[float]
    passed: bool
