"""Judges whether a record can be trusted, by rules here and thresholds in verdicts.toml.

A rule returns True or False, or None where the data it needs is missing. None gives the verdict `unknown`,
which is never `clean`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nameplate.engine.conditions import Conditions, GpuConditions
from nameplate.engine.thresholds import Thresholds, thresholds
from nameplate.record import Verdict, sort_by_gravity
from nameplate.stats.bimodality import bimodality
from nameplate.stats.estimate import Trend, fit_trend, means_by_process, without_oscillation
from nameplate.stats.interval import Interval
from nameplate.workload import CheckResult


@dataclass(frozen=True)
class Observation:
    """Everything a verdict follows from."""

    kind: str  # of device
    check: CheckResult | None
    time_s: Interval  # seconds per launch, without what runs differ by
    middle_s: NDArray[np.float64]  # of each batch, on the device's clock
    launch_s: NDArray[np.float64]  # mean seconds per launch of each batch
    samples_s: Sequence[NDArray[np.float64]]  # seconds per launch of each sample, by batch
    peak_efficiency: Interval | None  # throughput ÷ what the device can't exceed (`engine/peak.py`)
    conditions: Conditions
    process: Sequence[int] = ()  # which drew each batch; empty: one drew all
    is_burst: bool = False  # whether the figure is meant to be free of the power limit
    changed_batch: int | None = None  # the first whose result has other bits
    is_settled: bool | None = True  # True for figures that aren't sustained ones; None: can't be told
    enqueue_share: float | None = None  # the host's time to enqueue a launch ÷ the launch's time
    graph_share: float | None = None  # seconds per launch replayed as a graph ÷ enqueued one by one


def judge(seen: Observation, limits: Thresholds | None = None) -> tuple[Verdict, ...]:
    """Return every verdict that holds, gravest first; `clean` alone where no rule holds or is unknown."""
    limits = limits or thresholds()
    found: set[Verdict] = set()
    for verdict, rule in _RULES:
        holds = rule(seen, limits)
        if holds is None:
            found.add("unknown")
        elif holds:
            found.add(verdict)
    return sort_by_gravity(found)


def _unverified(seen: Observation, _limits: Thresholds) -> bool | None:
    if seen.changed_batch is not None:
        return True
    # The check reads samples, and a memory error, or what an Xid error of the card stands for, may have hit
    # the rest. A card that counts no errors (consumer cards have no ECC) is judged by the check alone.
    gpu = seen.conditions.gpu
    has_faults = gpu is not None and bool(gpu.change.ecc_errors or gpu.change.card_xids)
    return seen.check is None or not seen.check.passed or has_faults


def _above_peak(seen: Observation, limits: Thresholds) -> bool | None:
    # Without a rating there is no peak; the missing efficiency already says so.
    efficiency = seen.peak_efficiency
    return efficiency is not None and efficiency.low > 1 + limits.above_peak.margin


def _launch_bound(seen: Observation, limits: Thresholds) -> bool | None:
    limit = limits.launch_bound
    if seen.graph_share is not None:  # what the host costs, measured: it outweighs what enqueuing takes
        return seen.graph_share < limit.graph_share
    return seen.enqueue_share is not None and seen.enqueue_share >= limit.enqueue_share


def _contended(seen: Observation, limits: Thresholds) -> bool | None:
    gpu = seen.conditions.gpu
    if seen.kind != "cuda":
        return _any([gpu is not None and has_company(gpu, limits), is_contended(seen.conditions, limits)])
    # Load on a GPU's host shows as launch_bound, if it matters.
    return None if gpu is None else has_company(gpu, limits)


def has_company(gpu: GpuConditions, limits: Thresholds | None = None) -> bool | None:
    """Whether others used the GPU; None where nothing tells.

    By process ids where they are the driver's. In a container they aren't: there by the number of processes,
    the memory that others hold, and utilization while this run was idle, as far as these are known. A small
    neighbour that does nothing isn't seen so; a warning says that.
    """
    if gpu.change.other_processes is not None:
        return gpu.change.other_processes
    limit = (limits or thresholds()).contended
    found = (
        _above([gpu.foreign_memory_gib], limit.foreign_memory_gib),
        _above([gpu.idle_utilization], limit.idle_utilization),
        False if gpu.is_own_process_listed else None,
    )
    return None if found == (None, None, None) else any(found)


def is_contended(now: Conditions, limits: Thresholds | None = None) -> bool | None:
    """Whether other processes or the hypervisor took the cores in this window; None: that can't be told."""
    limit = (limits or thresholds()).contended
    if now.parallel_share is not None and now.parallel_share < limit.parallel_share:
        return True  # where it isn't measured (one core, no x86-64) the counters alone decide
    if now.foreign_share is None or now.steal_share is None or now.resolution is None:
        return None
    # One counting step is within the error of the counters.
    foreign, steal = now.foreign_share - now.resolution, now.steal_share - now.resolution
    if foreign > limit.foreign_share or steal > limit.steal_share:
        return True
    # In a short window the counting step is coarser than the limit.
    return None if now.resolution > min(limit.foreign_share, limit.steal_share) else False


def _any(found: Sequence[bool | None]) -> bool | None:
    """Return True if one is True, else None if one is None, else False."""
    if any(found):
        return True
    return None if None in found else False


def _unstable(seen: Observation, limits: Thresholds) -> bool | None:
    limit = limits.unstable
    found = (
        seen.time_s.relative_half_width > limit.half_width
        or _find_drift(seen).exceeds(limit.drift)
        or _find_levels(seen) > limit.levels
    )
    return _any([found, None if seen.is_settled is None else not seen.is_settled])


def _find_drift(seen: Observation) -> Trend:
    """Return the change over the window. Of several processes each is one value: what a process keeps is no
    drift, and five of them show one.
    """
    if len(set(seen.process)) < 2:
        return fit_trend(seen.middle_s, seen.launch_s)
    return fit_trend(
        means_by_process(seen.middle_s, seen.process), means_by_process(seen.launch_s, seen.process)
    )


def _find_levels(seen: Observation) -> float:
    """Return how far apart the levels are that batches switch between within a process.

    Levels that processes keep are sampled by them, and so are part of the interval.
    """
    # A GPU's clock at its power limit swings with a period: its window has whole periods, and the next run
    # gets the same mean. What isn't periodic is chance. A few switches of another device may look periodic.
    swings = seen.conditions.gpu is not None
    if len(set(seen.process)) < 2:
        launch_s = without_oscillation(seen.middle_s, seen.launch_s) if swings else seen.launch_s
        return bimodality(launch_s, seen.samples_s)
    means = dict(zip(dict.fromkeys(seen.process), means_by_process(seen.launch_s, seen.process), strict=True))
    factor = np.asarray([seen.launch_s.mean() / means[number] for number in seen.process])
    samples = (
        [each * one for each, one in zip(seen.samples_s, factor, strict=True)] if seen.samples_s else None
    )
    launch_s = seen.launch_s * factor
    return bimodality(without_oscillation(seen.middle_s, launch_s) if swings else launch_s, samples)


def _throttled(seen: Observation, limits: Thresholds) -> bool | None:
    gpu, limit = seen.conditions.gpu, limits.throttled
    if gpu is None:  # a CPU's clock is part of its throughput
        return None if seen.kind == "cuda" else False
    first, second = gpu.reasons_at_ends()
    if limit.reasons & (first | second) or limit.lasting_reasons & first & second:
        return True
    # Two readings of an idle GPU can't show that nothing held it in between: without counters it is unknown.
    return _above(gpu.heat_shares(), limit.share)


def _unknown(seen: Observation, _limits: Thresholds) -> bool | None:
    # Clocks that the card can't have: what it did isn't known, nor whether the rest can be believed.
    telemetry = None if seen.conditions.gpu is None else seen.conditions.gpu.telemetry
    return telemetry is not None and telemetry.has_impossible_clock


def _power_capped(seen: Observation, limits: Thresholds) -> bool | None:
    gpu, limit = seen.conditions.gpu, limits.power_capped
    capped = None if gpu is None else _above([gpu.share("power")], limit.share)
    if gpu is not None and capped is None and limit.reasons & set().union(*gpu.reasons_at_ends()):
        capped = True
    if capped is None and (seen.kind != "cuda" or not seen.is_burst):
        # Capped or not, a figure that is no burst counts: what isn't known is a warning there.
        return False
    return capped


def _above(shares: Sequence[float | None], limit: float) -> bool | None:
    """Whether any share is above the limit; None where none is and one isn't known."""
    return _any([None if share is None else share > limit for share in shares])


_RULES: Sequence[tuple[Verdict, Callable[[Observation, Thresholds], bool | None]]] = (
    ("unverified", _unverified),
    ("above_peak", _above_peak),
    ("launch_bound", _launch_bound),
    ("contended", _contended),
    ("throttled", _throttled),
    ("unstable", _unstable),
    ("unknown", _unknown),
    ("power_capped", _power_capped),
)
