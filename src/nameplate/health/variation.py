"""How one device's figures vary, by level: from process to process, from run to run, from boot to boot.

A figure's logarithm is the device's own mean + what its boot has + what the run has + what each of its
processes has; the figure of a run is the mean over its processes. Each level's variance is what is observed
less what the levels below it explain (nested analysis of variance, by the method of moments), over all
devices of a kind together. A level's deviation isn't known where no runs show it: one process each, one run
in every boot, or one boot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nameplate.health.stragglers import DeviceHistory, HistoriesByCase

_FIGURE = "time_s"


@dataclass(frozen=True)
class Variation:
    """Standard deviations of ln(speed) within a device, over the devices of a kind in one case.

    Each comes with the degrees of freedom that it is estimated from, and is None where there are none.
    """

    part: str
    case: str
    devices: int
    process_sd: float | None
    run_sd: float | None
    boot_sd: float | None
    process_freedom: int
    run_freedom: int
    boot_freedom: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class RunFigure:
    """One run's figure of a device: the logarithms that its processes found, and the boot (None: unknown)."""

    by_process: tuple[float, ...]
    boot: str | None

    @property
    def mean(self) -> float:
        """The run's own figure."""
        return sum(self.by_process) / len(self.by_process)


def find_variations(histories: HistoriesByCase) -> tuple[Variation, ...]:
    """Return what the figures of each kind of device vary by in each case; nothing of cases that show none.

    `histories` is what `collect_speeds` found.
    """
    found = (
        estimate_variation(str(kind[0] or kind[1]), case, [list(_figures_of(each)) for each in held.values()])
        for (kind, case), held in histories.items()
    )
    return tuple(each for each in found if each.process_freedom + each.run_freedom + each.boot_freedom)


def _figures_of(device: DeviceHistory) -> Iterator[RunFigure]:
    for speed, boot in zip(device.speeds, device.boots, strict=True):
        spread = speed.record.spreads.get(_FIGURE)
        times_s = () if spread is None else spread.by_process
        yield RunFigure(tuple(-math.log(each) for each in times_s) or (speed.log,), boot)


def estimate_variation(part: str, case: str, devices: Sequence[Sequence[RunFigure]]) -> Variation:
    """Estimate each level's deviation from the runs of devices of one kind."""
    runs = [run for device in devices for run in device]
    processes = _pool([run.by_process for run in runs])
    process = processes.variance or 0.0
    boots = [_split_by_boot(device) for device in devices]
    in_boot = [list(each.values()) for each in boots]
    several = [one for each in in_boot for one in each]
    of_runs = _pool([[run.mean for run in one] for one in several])
    noise = _mean([process / len(run.by_process) for one in several if len(one) > 1 for run in one])
    run = None if of_runs.variance is None else max(of_runs.variance - noise, 0.0)
    of_boots = _pool([[_mean([run.mean for run in one]) for one in each] for each in in_boot])
    boot = None
    # Where no boot has several runs, the variance between boots can't be separated from that between runs.
    if of_boots.variance is not None and run is not None:
        below = [_variance_of_boot(one, run, process) for each in in_boot if len(each) > 1 for one in each]
        boot = max(of_boots.variance - _mean(below), 0.0)
    return Variation(
        part,
        case,
        len(devices),
        process_sd=_root(processes.variance),
        run_sd=_root(run),
        boot_sd=_root(boot),
        process_freedom=processes.freedom,
        run_freedom=of_runs.freedom,
        boot_freedom=0 if boot is None else of_boots.freedom,
    )


def _split_by_boot(runs: Sequence[RunFigure]) -> dict[str, list[RunFigure]]:
    found: dict[str, list[RunFigure]] = {}
    for run in runs:
        if run.boot is not None:
            found.setdefault(run.boot, []).append(run)
    return found


def _variance_of_boot(runs: Sequence[RunFigure], run: float, process: float) -> float:
    """What the mean of a boot's runs varies by without the boot itself."""
    return sum(run + process / len(each.by_process) for each in runs) / len(runs) ** 2


@dataclass(frozen=True)
class _Pooled:
    variance: float | None
    freedom: int


def _pool(groups: Sequence[Sequence[float]]) -> _Pooled:
    """Return the variance within groups, of all groups together; None where none has two values."""
    freedom = sum(len(each) - 1 for each in groups if each)
    if freedom < 1:
        return _Pooled(None, 0)
    squares = sum(float(np.square(np.asarray(each) - np.mean(each)).sum()) for each in groups if each)
    return _Pooled(squares / freedom, freedom)


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
