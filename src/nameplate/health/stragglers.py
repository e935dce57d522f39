"""Devices that are slower than all others of their kind in a cluster, and whether re-runs confirm it.

A device that one run accuses may have been disturbed. So it is `suspected` until two more runs of it accuse
it too, while a control (the device in the middle, checked again as well) is accused by none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nameplate.health.speed import Speed, find_speeds
from nameplate.health.thresholds import HealthThresholds, health_thresholds
from nameplate.stats.stragglers import FEWEST_SIBLINGS, find_stragglers
from nameplate.store.folder import Run

Confidence = Literal["suspected", "confirmed"]
RERUNS = 2  # runs of the accused, besides the one that accuses it
DeviceKey = tuple[str, str]  # the node, and the UUID or the device's name there


@dataclass(frozen=True)
class Straggler:
    """A device that is `drop` slower than the mean of `others` of its kind in a case.

    `limit` is what their spread explains; `runs` is how many of its runs accuse it. `control` is a device
    that none accuses, to be checked again with it.
    """

    host: str
    device: str
    uuid: str | None
    case: str
    drop: float
    limit: float
    others: int
    runs: int
    control: str
    confidence: Confidence

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        names = ("host", "device", "uuid", "case", "drop", "limit", "others", "runs", "control", "confidence")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DeviceHistory:
    """The runs of one device in one case, the latest first, and in which boot of its node each was."""

    host: str
    device: str
    uuid: str | None
    speeds: tuple[Speed, ...]
    boots: tuple[str | None, ...]


Kind = tuple[object, ...]  # of device: a part, its name, the method it was measured by, whether it was
HistoriesByCase = Mapping[tuple[Kind, str], Mapping[DeviceKey, DeviceHistory]]


def find_cluster_stragglers(
    histories: HistoriesByCase, limits: HealthThresholds | None = None
) -> tuple[Straggler, ...]:
    """Return the stragglers among all devices that measured the same case, over several nodes; worst first.

    `histories` is what `collect_speeds` found: runs of two methods aren't mixed. Devices that are all of one
    node are judged by `judge_run`.
    """
    rules = limits or health_thresholds()
    found: dict[DeviceKey, Straggler] = {}
    shared = {
        key: held
        for key, held in histories.items()
        if len(held) >= FEWEST_SIBLINGS and len({each.host for each in held.values()}) > 1
    }
    for (_kind, case), held in shared.items():
        for device, straggler in _find_in_case(case, held, rules, len(shared)).items():
            worst = found.get(device)
            if worst is None or straggler.drop > worst.drop:
                found[device] = straggler
    return tuple(sorted(found.values(), key=lambda each: -each.drop))


def collect_speeds(runs: Sequence[Run]) -> HistoriesByCase:
    """Return the figures of every device, the latest first, by kind of device and case.

    A kind is a part, its name, and the method it was measured by; a twin is another kind.
    """
    found: dict[tuple[Kind, str], dict[DeviceKey, DeviceHistory]] = {}
    for run in sorted(runs, key=lambda run: run.manifest.began, reverse=True):
        manifest = run.manifest
        for entry in manifest.devices:
            uuid = getattr(entry.identity, "uuid", None)
            device = (manifest.node, uuid or entry.name)
            records = [record for record in run.records if record.device == entry.name]
            speeds = find_speeds(entry.name, entry, records, {})
            for case, speed in speeds.speeds.items():
                kind = (*speeds.kind, manifest.method, manifest.measured)
                held = found.setdefault((kind, case), {})
                before = held.get(device)
                earlier, boots = ((), ()) if before is None else (before.speeds, before.boots)
                held[device] = DeviceHistory(
                    manifest.node, entry.name, uuid, (*earlier, speed), (*boots, manifest.boot)
                )
    return found


def _find_in_case(
    case: str, held: Mapping[DeviceKey, DeviceHistory], rules: HealthThresholds, cases: int
) -> dict[DeviceKey, Straggler]:
    devices = list(held)
    latest_N = np.array([held[each].speeds[0].log for each in devices])
    standings = find_stragglers(latest_N, rules.alarm.level / cases, rules.siblings.prior)
    if standings is None:
        return {}
    accused = [number for number, each in enumerate(standings) if each.is_straggler]
    middle = _choose_control([held[each] for each in devices], latest_N, accused)
    found = {}
    for number in accused:
        standing, device = standings[number], devices[number]
        drop = -math.expm1(-standing.drop)
        sure = standing.drop - held[device].speeds[0].half
        if drop < rules.siblings.least_drop or sure <= 0:
            continue
        rest = latest_N[number] + standing.drop
        runs = _count_accusing(held[device].speeds, rest, standing.limit)
        is_checked = len(middle.speeds) > RERUNS
        is_cleared = not _count_accusing(middle.speeds, rest, standing.limit)
        found[device] = Straggler(
            held[device].host,
            held[device].device,
            held[device].uuid,
            case,
            drop,
            -math.expm1(-standing.limit),
            len(devices) - len(accused),
            runs,
            f"{middle.host} {middle.device}",
            "confirmed" if runs > RERUNS and is_checked and is_cleared else "suspected",
        )
    return found


def _choose_control(
    devices: Sequence[DeviceHistory], latest_N: NDArray[np.float64], accused: Sequence[int]
) -> DeviceHistory:
    """Return the device to check beside the accused: one checked again, else the one in the middle."""
    order = [int(each) for each in np.argsort(latest_N, kind="stable") if int(each) not in set(accused)]
    middle = len(order) // 2

    def preference(place: int) -> tuple[int, int]:
        return -min(len(devices[order[place]].speeds), RERUNS + 1), abs(place - middle)

    return devices[order[min(range(len(order)), key=preference)]]


def _count_accusing(speeds: Sequence[Speed], rest: float, limit: float) -> int:
    """Return how many of the latest runs, one after the other, lie beyond the limit."""
    count = 0
    for speed in speeds:
        if rest - speed.log <= limit:
            break
        count += 1
    return count
