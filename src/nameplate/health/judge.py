"""The health of every device of a run, and of the node: pure functions of what the run recorded.

    for health in judge_run(run, past=find_past(run)):
        print(health.device, health.verdict, *health.reasons)

Four ways of judging are kept apart (`verdict.WAYS`), each with its own statement, and the gravest counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nameplate.base.messages import Message, message, text
from nameplate.chain.published import Published, load_published
from nameplate.device.identity import CudaIdentity
from nameplate.health.advice import advise
from nameplate.health.faults import judge_errors
from nameplate.health.speed import find_speeds, judge_by_past, judge_by_rating, judge_by_siblings
from nameplate.health.thresholds import HealthThresholds, health_thresholds
from nameplate.health.verdict import DeviceHealth, Statement, Verdict, gravest
from nameplate.record import Record
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry

# What earlier runs say: by device and case, the logarithms of launches a second.
Past = Mapping[str, Mapping[str, Sequence[float]]]


def judge_run(
    run: Run,
    references: Sequence[Published] | None = None,
    past: Past | None = None,
    limits: HealthThresholds | None = None,
) -> tuple[DeviceHealth, ...]:
    """Return the health of each device of a run, in the manifest's order.

    `references` are published figures, by default the shipped ones; `past` is what earlier runs of the same
    devices found (`past.find_past`), by default nothing; `limits` are the thresholds.
    """
    return judge_runs([run], references, {run.id: past or {}}, limits)


def judge_runs(
    runs: Sequence[Run],
    references: Sequence[Published] | None = None,
    pasts: Mapping[str, Past] | None = None,
    limits: HealthThresholds | None = None,
) -> tuple[DeviceHealth, ...]:
    """Return the health of each device of several runs of one node, as siblings of one another.

    A node has several runs where each process of a job measured its own device. `pasts` are by run id.
    """
    published = load_published() if references is None else references
    rules = limits or health_thresholds()
    devices, sources = [], {}
    for run in runs:
        past = (pasts or {}).get(run.id, {})
        by_device: dict[str, list[Record]] = {}
        for record in run.records:
            by_device.setdefault(record.device, []).append(record)
        for entry in run.manifest.devices:
            key, records = f"{run.id}/{entry.name}", by_device.get(entry.name, [])
            sources[key] = (run, records)
            devices.append(find_speeds(key, entry, records, past.get(entry.name, {})))
    siblings, own_past = judge_by_siblings(devices, rules), judge_by_past(devices, rules)
    found = []
    for device in devices:
        run, records = sources[device.key]
        found.append(
            _make_health(
                run,
                device.entry,
                judge_errors(device.entry, records, run.problems),
                judge_by_rating(device, published, rules),
                siblings[device.key],
                own_past[device.key],
            )
        )
    return tuple(found)


def _make_health(run: Run, entry: DeviceEntry, *statements: Statement) -> DeviceHealth:
    identity = entry.identity
    cuda = identity if isinstance(identity, CudaIdentity) else None
    return DeviceHealth(
        device=entry.name,
        host=run.manifest.node,
        name=identity.name,
        part=entry.part,
        index=None if cuda is None else cuda.index,
        uuid=None if cuda is None else cuda.uuid,
        measured=run.manifest.measured,
        statements=statements,
    )


@dataclass(frozen=True)
class NodeHealth:
    """The health of a node: of its devices, and whether all that were expected are there.

    `runs` are the ids of the runs it is judged by. `expected_gpus` is None where nobody said how many there
    should be. `complete` is whether every case has a record. `refused` is why nothing could be measured.
    """

    host: str
    runs: tuple[str, ...]
    devices: tuple[DeviceHealth, ...]
    expected_gpus: int | None = None
    complete: bool = True
    measured: bool = True
    refused: str | None = None

    @property
    def found_gpus(self) -> int:
        """How many GPUs were measured, or should have been."""
        return sum(each.index is not None or each.uuid is not None for each in self.devices)

    @property
    def lacks_gpus(self) -> bool:
        """Whether fewer GPUs are there than were expected."""
        return self.expected_gpus is not None and self.found_gpus < self.expected_gpus

    @property
    def verdict(self) -> Verdict:
        """The gravest of the devices', and `unfit` where a GPU is missing."""
        found = [each.verdict for each in self.devices]
        return gravest([*found, "unfit"] if self.lacks_gpus else found)

    @property
    def reasons(self) -> tuple[Message, ...]:
        """Why the node is what it is, besides its devices."""
        found = []
        if self.lacks_gpus:
            found.append(message("health_gpus_missing", found=self.found_gpus, expected=self.expected_gpus))
        if self.refused is not None:
            found.append(text(self.refused))
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with English sentences."""
        return {
            "verdict": self.verdict,
            "reasons": [str(each) for each in self.reasons],
            "host": self.host,
            "runs": list(self.runs),
            "measured": self.measured,
            "complete": self.complete,
            "expected_gpus": self.expected_gpus,
            "devices": [device_as_json(each) for each in self.devices],
        }


def device_as_json(health: DeviceHealth) -> dict[str, Any]:
    """Return a device's health as plain JSON values, with English sentences."""
    return {
        "device": health.device,
        "verdict": health.verdict,
        "reasons": [str(each) for each in health.reasons],
        "reason_codes": list(dict.fromkeys(code for each in health.reasons for code in each.codes)),
        "advice": [str(each) for each in advise(health)],
        "host": health.host,
        "name": health.name,
        "part": health.part,
        "index": health.index,
        "uuid": health.uuid,
        "measured": health.measured,
        "judged_by": [each.as_json() for each in health.statements],
    }


def judge_node(
    runs: Sequence[Run], devices: Sequence[DeviceHealth], expected_gpus: int | None = None
) -> NodeHealth:
    """Return the health of the node that some runs measured, from that of its devices."""
    return NodeHealth(
        runs[0].manifest.node,
        tuple(run.id for run in runs),
        tuple(devices),
        expected_gpus,
        complete=not any(run.missing for run in runs),
        measured=all(run.manifest.measured for run in runs),
    )
