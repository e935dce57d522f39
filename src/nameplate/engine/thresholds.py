"""The thresholds of verdicts, from verdicts.toml; the rules, which need numpy, are in `verdict`."""

from __future__ import annotations

from functools import cache

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged


class _AbovePeak(FrozenModel):
    margin: float


class _Contended(FrozenModel):
    foreign_share: float
    steal_share: float
    parallel_share: float
    foreign_memory_gib: float
    idle_utilization: float


class _LaunchBound(FrozenModel):
    enqueue_share: float
    graph_share: float


class _PowerCapped(FrozenModel):
    share: float
    reasons: frozenset[str]


class _Throttled(FrozenModel):
    share: float
    reasons: frozenset[str]
    lasting_reasons: frozenset[str]


class _Unstable(FrozenModel):
    half_width: float
    drift: float
    levels: float


class Thresholds(FrozenModel):
    """The contents of verdicts.toml."""

    above_peak: _AbovePeak
    contended: _Contended
    launch_bound: _LaunchBound
    power_capped: _PowerCapped
    throttled: _Throttled
    unstable: _Unstable


@cache
def thresholds() -> Thresholds:
    """The shipped thresholds."""
    return parse_toml(Thresholds, read_packaged("nameplate.engine", "verdicts.toml"), "verdicts.toml")
