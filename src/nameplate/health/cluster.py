"""Many nodes judged by the runs that they left in one folder: each by itself, and all beside one another.

No node waits for another: whatever is there is judged, and who is missing stands in the ledger.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.health.check import check_expected_gpus, judge_node_runs
from nameplate.health.distribution import Distribution, find_distributions
from nameplate.health.judge import NodeHealth, device_as_json
from nameplate.health.ledger import Missing, find_missing, read_refusals
from nameplate.health.stragglers import Straggler, collect_speeds, find_cluster_stragglers
from nameplate.health.variation import Variation, find_variations
from nameplate.health.verdict import Verdict, gravest
from nameplate.store.find import find_all
from nameplate.store.folder import Run, read_run


@dataclass(frozen=True)
class ClusterHealth:
    """The health of many nodes: of each by itself, of all beside one another, and who is missing."""

    folder: str
    nodes: tuple[NodeHealth, ...]
    stragglers: tuple[Straggler, ...]
    missing: tuple[Missing, ...]
    distributions: tuple[Distribution, ...]
    variations: tuple[Variation, ...]
    problems: tuple[str, ...]

    @property
    def measured(self) -> bool:
        """Whether every node was measured, and none is of twins."""
        return all(node.measured for node in self.nodes)

    @property
    def verdict(self) -> Verdict:
        """The gravest of the nodes'; a straggler is degraded, and of a missing node nothing is known."""
        found: list[Verdict] = [node.verdict for node in self.nodes]
        found += ["degraded"] if self.stragglers else []
        found += ["unknown"] if self.missing else []
        return gravest(found)

    @property
    def counts(self) -> Counter[Verdict]:
        """How many nodes have which verdict."""
        return Counter(node.verdict for node in self.nodes)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with English sentences."""
        return {
            "verdict": self.verdict,
            "measured": self.measured,
            "devices": [device_as_json(each) for node in self.nodes for each in node.devices],
            "nodes": [
                {name: value for name, value in node.as_json().items() if name != "devices"}
                for node in self.nodes
            ],
            "stragglers": [each.as_json() for each in self.stragglers],
            "missing": [each.as_json() for each in self.missing],
            "distributions": [each.as_json() for each in self.distributions],
            "variations": [each.as_json() for each in self.variations],
            "problems": list(self.problems),
        }


def check_folder(
    folder: str | Path,
    *,
    expected_gpus: int | None = None,
    hosts: Sequence[str] = (),
    host_count: int | None = None,
) -> ClusterHealth:
    """Judge every node by its latest runs in `folder`, which is a run or a folder of runs.

    Raises InputError where no run can be read and nothing else is known of any node.
    """
    check_expected_gpus(expected_gpus)
    with garbage_collection_off():  # of thousands of runs nothing is garbage until the end
        return _check_folder(folder, expected_gpus, hosts, host_count)


def _check_folder(
    folder: str | Path, expected_gpus: int | None, hosts: Sequence[str], host_count: int | None
) -> ClusterHealth:
    runs: list[Run] = []
    problems: list[str] = []
    refusals = read_refusals(Path(folder))
    try:
        folders = find_all(str(folder), folder if os.path.isdir(folder) else None, or_else="a folder of runs")
    except InputError:
        if not refusals:
            raise
        folders = []
    for each in folders:
        try:
            runs.append(read_run(each, in_full=len(folders) == 1))
        except InputError as error:
            problems.append(str(error))
    if not runs and not refusals:
        raise InputError("no run can be read", where=str(folder), got=problems[0] if problems else None)
    nodes = tuple(
        judge_node_runs(latest, expected_gpus)
        for _host, latest in sorted(find_latest(runs).items())
        if latest
    )
    histories = collect_speeds(runs)
    return ClusterHealth(
        str(folder),
        nodes,
        find_cluster_stragglers(histories),
        find_missing(runs, refusals, hosts, host_count),
        find_distributions(histories),
        find_variations(histories),
        tuple(problems),
    )


def find_latest(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the latest run of each device of each node, by node; a finished one before one that isn't.

    A run of several devices is the latest of all of them, or of none.
    """
    found: dict[str, dict[tuple[object, ...], Run]] = {}
    for run in sorted(runs, key=lambda run: (run.finished, run.manifest.began)):
        devices = tuple(entry.identity.fingerprint() for entry in run.manifest.devices)
        launch = run.manifest.launch
        key = (launch.local_rank if launch and launch.local_world_size > 1 else None, *map(str, devices))
        found.setdefault(run.manifest.node, {})[key] = run
    return {host: list(by_device.values()) for host, by_device in found.items()}
