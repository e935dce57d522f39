"""Judges whether a record may be believed. Rules here, thresholds in verdicts.toml; what can't be judged is
`unknown`, which never passes for clean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict

from nameplate.datafile import packaged, parse
from nameplate.engine.conditions import Conditions
from nameplate.record import Verdict, gravest_first
from nameplate.stats import Interval
from nameplate.workload import Check


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _AbovePeak(_Rule):
    margin: float


class _Contended(_Rule):
    foreign_share: float
    steal_share: float
    parallel_share: float


class _LaunchBound(_Rule):
    enqueue_share: float


class _Throttled(_Rule):
    slowdown_share: float
    power_share: float
    reasons: frozenset[str]
    lasting_reasons: frozenset[str]


class _Unstable(_Rule):
    half_width: float
    drift: float


class Thresholds(_Rule):
    """The contents of verdicts.toml."""

    above_peak: _AbovePeak
    contended: _Contended
    launch_bound: _LaunchBound
    throttled: _Throttled
    unstable: _Unstable


@cache
def thresholds() -> Thresholds:
    """The shipped thresholds."""
    return parse(Thresholds, packaged("nameplate.engine", "verdicts.toml"), "verdicts.toml")


@dataclass(frozen=True)
class Observation:
    """Everything a verdict follows from."""

    kind: str  # of device
    check: Check | None
    launch_time: Interval
    halves_s: tuple[float, float]  # seconds a launch in the first and the second half of the window
    peak_efficiency: Interval | None
    conditions: Conditions
    enqueue_share: float | None  # of the batches' time that the host took to hand them over


def judge(seen: Observation, limits: Thresholds | None = None) -> tuple[Verdict, ...]:
    """Every verdict that holds, gravest first; `clean` alone when each rule was judged and none holds."""
    limits = limits or thresholds()
    found: set[Verdict] = set()
    for verdict, rule in _RULES:
        holds = rule(seen, limits)
        if holds is None:
            found.add("unknown")
        elif holds:
            found.add(verdict)
    return gravest_first(found)


# A rule answers True or False, or None: the evidence it needs is missing.
def _unverified(seen: Observation, _limits: Thresholds) -> bool | None:
    # The check samples; memory that failed meanwhile may have hit what it didn't look at. A card that counts
    # no errors (consumer cards have no ECC) is judged by the check alone.
    gpu = seen.conditions.gpu
    return seen.check is None or not seen.check.passed or (gpu is not None and bool(gpu.change.ecc_errors))


def _above_peak(seen: Observation, limits: Thresholds) -> bool | None:
    # Where there is no rating there is no peak to be above; the missing efficiency already says so.
    efficiency = seen.peak_efficiency
    return efficiency is not None and efficiency.low > 1 + limits.above_peak.margin


def _launch_bound(seen: Observation, limits: Thresholds) -> bool | None:
    return seen.enqueue_share is not None and seen.enqueue_share >= limits.launch_bound.enqueue_share


def _contended(seen: Observation, limits: Thresholds) -> bool | None:
    if seen.kind == "cuda":  # who else uses the host shows in launch_bound, if it matters
        gpu = seen.conditions.gpu
        return None if gpu is None else gpu.change.other_processes
    now, limit = seen.conditions, limits.contended
    if now.parallel_share is not None and now.parallel_share < limit.parallel_share:
        return True  # where it can't be probed (one core, no x86-64) the counters alone decide
    if now.foreign_share is None or now.steal_share is None or now.resolution is None:
        return None
    # A counting step more or less is nobody's load.
    foreign, steal = now.foreign_share - now.resolution, now.steal_share - now.resolution
    if foreign > limit.foreign_share or steal > limit.steal_share:
        return True
    # A window too short for the kernel's counting steps to show the limit tells nothing.
    return None if now.resolution > min(limit.foreign_share, limit.steal_share) else False


def _unstable(seen: Observation, limits: Thresholds) -> bool | None:
    if seen.launch_time.relative_half_width > limits.unstable.half_width:
        return True
    first, second = seen.halves_s
    drift = abs(second / first - 1)
    return drift > limits.unstable.drift + 2 * seen.launch_time.relative_half_width


def _throttled(seen: Observation, limits: Thresholds) -> bool | None:
    if seen.kind != "cuda":  # a CPU's clock is part of what it delivers
        return False
    gpu, limit = seen.conditions.gpu, limits.throttled
    if gpu is None:
        return None
    heat = _above(gpu.heat_shares(), limit.slowdown_share)
    power = _above([gpu.share("power")], limit.power_share)
    first, second = (set(one.throttle_reasons or ()) for one in (gpu.before, gpu.after))
    if power is None and "sw_power_cap" in first | second:
        power = True
    if heat or power or limit.reasons & (first | second) or limit.lasting_reasons & first & second:
        return True
    # Two looks at an idle GPU can't show that nothing held it in between: without counters that is unknown.
    return None if heat is None or power is None else False


def _above(shares: Sequence[float | None], limit: float) -> bool | None:
    """Whether any share is above the limit; None where none is and one isn't known."""
    if any(share is not None and share > limit for share in shares):
        return True
    return None if None in shares else False


_RULES: Sequence[tuple[Verdict, Callable[[Observation, Thresholds], bool | None]]] = (
    ("unverified", _unverified),
    ("above_peak", _above_peak),
    ("launch_bound", _launch_bound),
    ("contended", _contended),
    ("throttled", _throttled),
    ("unstable", _unstable),
)
