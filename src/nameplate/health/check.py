"""One node checked: its devices measured with a suite of its own, and judged."""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

from nameplate.base.errors import InputError, NameplateError, RunIncomplete
from nameplate.device.survey import choose_devices
from nameplate.health.judge import NodeHealth, judge_node, judge_runs
from nameplate.health.past import find_past
from nameplate.run.measure import DEFAULT_RESULTS, measure
from nameplate.run.observer import Observer
from nameplate.store.folder import Run, new_run_id, write_durably
from nameplate.store.launch import Launch, read_launch
from nameplate.suite import find_suite

SUITE = "check"
BUDGET_S = 60.0
_MOST_GPUS = 1024  # of a node
_GPUS = re.compile(r"(auto|all|cuda(:\d+)?)$")  # devices that a node may lack though the flag is right
# What a process leaves of a check that couldn't begin, so that the ledger of a cluster knows of it.
REFUSED_SUFFIX = ".refused.json"


def check_node(
    *,
    device: str = "all",
    budget: float = BUDGET_S,
    expected_gpus: int | None = None,
    suite: str = SUITE,
    results: str | Path | None = None,
    observer: Observer | None = None,
) -> NodeHealth:
    """Measure this node and judge it; the parameters are the flags of `bench check`.

    `device` is every GPU by default, or else the CPU. A run is kept in `results`, by default `runs`; earlier
    ones there are its past. Where GPUs are expected and none can be measured, the node is unfit.

    Raises InputError for flags that can't be used, and where nothing can be measured and no GPU was expected.
    """
    check_expected_gpus(expected_gpus)
    find_suite(suite)  # no node is unfit for a name that is no suite's
    launch, folder = read_launch(), Path(results or DEFAULT_RESULTS)
    try:
        if expected_gpus and device in ("auto", "all") and choose_devices(device).names == ["cpu"]:
            raise RunIncomplete("no GPU is here, so nothing was measured")
        run = measure(suite, device=device, budget=budget, results=folder, observer=observer)
    except (InputError, RunIncomplete) as error:
        where = getattr(error, "where", None)
        # A flag that can't be used is no fault of the node.
        if where is not None and where.startswith("--") and not (where == "--device" and _GPUS.match(device)):
            raise
        host = (launch and launch.node) or socket.gethostname()
        if launch is not None:
            _note_refusal(folder, host, launch, error)
        if not expected_gpus:
            raise
        return NodeHealth(host, (), (), expected_gpus, complete=False, refused=str(error))
    return judge_node_runs([run], expected_gpus)


def check_expected_gpus(expected: int | None) -> None:
    """Raise InputError for a number of GPUs that no node has; None is no expectation."""
    if expected is not None and not 0 <= expected <= _MOST_GPUS:
        raise InputError(
            "not a number of GPUs",
            where="--expect-gpus",
            got=expected,
            expected=f"a number from 0 to {_MOST_GPUS}",
        )


def is_idle_rank(device: str) -> bool:
    """Whether another process of this node measures its CPU, so that this one has nothing to measure."""
    launch = read_launch()
    if launch is None or launch.local_rank == 0 or device not in ("auto", "all", "cpu"):
        return False
    return device == "cpu" or choose_devices(device).names == ["cpu"]


def judge_node_runs(runs: list[Run], expected_gpus: int | None = None) -> NodeHealth:
    """Judge a node by runs of its own devices, with the past that lies beside them."""
    pasts = {run.id: find_past(run) for run in runs}
    return judge_node(runs, judge_runs(runs, pasts=pasts), expected_gpus)


def _note_refusal(folder: Path, host: str, launch: Launch, error: NameplateError) -> None:
    """Leave a note of why this process of a job has no run."""
    note = {
        "host": host,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": str(error),
        "launch": launch.model_dump(mode="json"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = new_run_id(SUITE, alone=False) + REFUSED_SUFFIX
        write_durably(folder / name, json.dumps(note) + "\n")
    except OSError:
        pass  # the ledger of the folder lists this process as missing all the same
