"""How devices of one kind differ over a cluster: the spread from card to card, percentiles, the slowest.

The deviation is of the natural logarithm of speed, as `card_sd` of the fleet model is; what the figures' own
intervals explain of it is subtracted. Its interval is that of a normal law's deviation (chi-squared).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from nameplate.base.errors import InputError
from nameplate.health.stragglers import HistoriesByCase, collect_speeds
from nameplate.stats.interval import CONFIDENCE, Interval
from nameplate.stats.stragglers import FEWEST_SIBLINGS
from nameplate.store.folder import Run, find_runs, read_manifest, read_run

# Half a 95 % interval, in standard deviations.
_HALF = 1.96
PERCENTILES = (1, 10, 50, 90, 99)


@dataclass(frozen=True)
class Distribution:
    """How devices of a kind differ in one case.

    `card_sd` is the standard deviation of ln(speed) between them. `percentiles` has the figure, in `unit`, by
    percentile. A synchronous job runs at `slowest`, as a share of the median. `places` has the percentile of
    each device, by node and device.
    """

    part: str
    case: str
    unit: str
    devices: int
    card_sd: Interval
    percentiles: dict[int, float]
    slowest: float
    places: dict[tuple[str, str], float]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "part": self.part,
            "case": self.case,
            "unit": self.unit,
            "devices": self.devices,
            "card_sd": self.card_sd.value,
            "card_sd_low": self.card_sd.low,
            "card_sd_high": self.card_sd.high,
            "percentiles": {str(name): value for name, value in self.percentiles.items()},
            "slowest_over_median": self.slowest,
            "places": [
                {"host": host, "device": device, "percentile": place}
                for (host, device), place in self.places.items()
            ],
        }


def find_distributions(histories: HistoriesByCase) -> tuple[Distribution, ...]:
    """Return how the devices of each kind differ in each case, by the latest run of each; none for two.

    `histories` is what `collect_speeds` found.
    """
    found = []
    for (kind, case), held in histories.items():
        if len(held) < FEWEST_SIBLINGS:
            continue
        latest = [each.speeds[0] for each in held.values()]
        log_N = np.array([speed.log for speed in latest])
        noise = float(np.mean([(speed.half / _HALF) ** 2 for speed in latest]))
        order_N = np.argsort(np.argsort(log_N, kind="stable"), kind="stable")
        has_flops = latest[0].record.tflops is not None
        found.append(
            Distribution(
                str(kind[0] or kind[1]),
                case,
                "TFLOPS" if has_flops else "GB/s",
                len(held),
                estimate_deviation(float(log_N.var(ddof=1)), log_N.size - 1, noise),
                {each: float(np.exp(np.percentile(log_N, each))) for each in PERCENTILES},
                float(np.exp(log_N.min() - np.median(log_N))),
                {
                    (each.host, each.device): 100 * (int(place) + 0.5) / log_N.size
                    for each, place in zip(held.values(), order_N, strict=True)
                },
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Place:
    """Where a device of a run stands in a case among `devices` of its kind, of which `slower` are slower.

    `percentile` is the share of them below the device, in percent, itself counted by half.
    """

    device: str
    case: str
    devices: int
    slower: int

    @property
    def percentile(self) -> float:
        """From just above 0, the slowest, to just below 100."""
        return 100 * (self.slower + 0.5) / self.devices


def find_places(run: Run, others: Sequence[Run]) -> tuple[Place, ...]:
    """Return where each device of a run stands in each case among those of its kind; none among two.

    Of another device its latest run counts, of the run's own devices this run.
    """
    return tuple(_find_places(run, others))


def _find_places(run: Run, others: Sequence[Run]) -> Iterator[Place]:
    everywhere = collect_speeds([*others, run])
    for key, own in collect_speeds([run]).items():
        known = {**everywhere[key], **own}
        log_N = np.array([each.speeds[0].log for each in known.values()])
        for each in own.values() if log_N.size >= FEWEST_SIBLINGS else ():
            slower = int(np.count_nonzero(log_N < each.speeds[0].log))
            yield Place(each.device, key[1], log_N.size, slower)


def read_others_of_part(run: Run) -> list[Run]:
    """Return the finished runs that lie beside a run and are of a part that it measured, without details.

    What can't be read is left out.
    """
    parts = {entry.part for entry in run.manifest.devices} - {None}
    found = []
    for folder in find_runs(run.folder.parent) if parts else ():
        with suppress(InputError):
            if parts.isdisjoint(entry.part for entry in read_manifest(folder).devices):
                continue
            other = read_run(folder, in_full=False)
            if other.finished and other.id != run.id:
                found.append(other)
    return found


def estimate_deviation(variance: float, freedom: int, noise: float = 0.0) -> Interval:
    """Return the deviation that is left of a sample variance after measuring errors, with its interval.

    `noise` is the mean variance of the figures themselves. Each end is that of the whole, less the noise.
    """
    tail = (1 - CONFIDENCE) / 2

    def deviation(of: float) -> float:
        return math.sqrt(max(of - noise, 0.0))

    low, high = (freedom * variance / float(chi2.isf(each, freedom)) for each in (tail, 1 - tail))
    return Interval(deviation(variance), deviation(low), deviation(high))
