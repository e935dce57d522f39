"""The suites that all processes of a job measure together: who takes part, and what rank 0 keeps."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from nameplate import suite as suites
from nameplate.base.errors import InputError
from nameplate.base.messages import Message
from nameplate.device.host import read_boot
from nameplate.record import Record
from nameplate.run import collectives, scaling
from nameplate.run.job import read_software_versions, target_of
from nameplate.run.measure import DEFAULT_RESULTS, SEED, check_budget, entry_of
from nameplate.run.observer import GuardedObserver, Observer
from nameplate.run.peers import Peers
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.launch import Launch, read_launch
from nameplate.store.manifest import Manifest, Options
from nameplate.suite import Case

# Measures cases with all processes, in so many seconds by rank 0's clock. It says which cases it begins, and
# yields their records and what befell the run; only rank 0's are kept. On another rank it raises
# RunIncomplete where something failed.
MeasureTogether = Callable[
    [Peers, Sequence[Case], float, Callable[[Sequence[str]], None]], Iterator[Record | Message]
]
JOB_SUITES: Mapping[str, MeasureTogether] = {
    collectives.SUITE: collectives.measure_collectives,
    scaling.SUITE: scaling.measure_scaling,
}


def measure_in_job(
    suite: str,
    *,
    device: str = "auto",
    only: str | None = None,
    budget: float | None = None,
    results: str | Path | None = None,
    observer: Observer | None = None,
) -> Run | None:
    """Measure one of `JOB_SUITES` with the other processes of this job; only rank 0 returns a run.

    Every process calls this with the same flags. GPUs talk by NCCL, CPUs by gloo. Raises InputError outside
    a job of several processes, and where the other processes can't be reached; RunIncomplete on a process
    other than rank 0 where something failed.
    """
    check_budget(budget)
    launch = require_job(f"bench run {suite}")
    found = suites.find_suite(suite)
    peers = Peers.join(launch, device)
    try:
        cases = found.cases(target_of(peers.opened), only)
        if launch.rank:
            for _unkept in JOB_SUITES[suite](peers, cases, 0.0, lambda _: None):
                pass
            return None
        budget_s = budget or found.budget_on(peers.opened.kind)
        manifest = _make_manifest(peers, suite, cases, budget_s, only)
        return _keep(peers, cases, manifest, budget_s, Path(results or DEFAULT_RESULTS), observer)
    finally:
        peers.leave()


def require_job(command: str) -> Launch:
    """Return which process of a job this is. Raises InputError outside a job of several."""
    launch = read_launch()
    if launch is None or launch.world_size < 2:
        raise InputError(
            "collectives need several processes",
            where=command,
            expected=f"a launcher: torchrun --nproc-per-node 2 --no-python {command}",
        )
    return launch


def _make_manifest(
    peers: Peers, suite: str, cases: Sequence[Case], budget_s: float, only: str | None
) -> Manifest:
    return Manifest(
        run=store.new_run_id(suite, alone=False),
        suite=suite,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        devices=(entry_of(peers.opened),),
        software=read_software_versions(),
        options=Options(device=peers.opened.name, only=only, budget_s=budget_s),
        seed=SEED,
        measured=peers.opened.measured,
        launch=peers.launch,
        boot=read_boot(),
        cases=tuple(case.id for case in cases),
    )


def _keep(
    peers: Peers,
    cases: Sequence[Case],
    manifest: Manifest,
    budget_s: float,
    results: Path,
    observer: Observer | None,
) -> Run:
    """Measure as rank 0, and keep each record as it comes."""
    guarded = GuardedObserver(observer)
    folder = store.create(results, manifest)
    with store.claim(folder) as claim, store.RecordWriter(folder, "rank0") as writer:
        guarded.run_started(folder, manifest, budget_s, len(cases))
        for found in JOB_SUITES[manifest.suite](peers, cases, budget_s, guarded.group_started):
            if isinstance(found, Message):
                claim.add_incident(found)
            else:
                writer.append(found)
                guarded.case_finished(found)
    store.mark_done(folder)
    return store.read_run(folder)
