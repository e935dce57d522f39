"""The thresholds of a device's health, from health.toml."""

from __future__ import annotations

from functools import cache

from nameplate.base.model import FrozenModel, Positive, PositiveCount
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.stats.between import Scatter


class _Alarm(FrozenModel):
    level: Positive


class _Unfit(FrozenModel):
    drop: Positive


class _Siblings(FrozenModel):
    card_deviation: Positive
    card_freedom: Positive
    least_drop: Positive

    @property
    def prior(self) -> Scatter:
        """What is known of the variance between cards before they are seen."""
        return Scatter(self.card_deviation**2, self.card_freedom)


class _Past(FrozenModel):
    fewest: PositiveCount
    gpu_deviation: Positive
    gpu_freedom: Positive
    least_drop: Positive

    @property
    def gpu_prior(self) -> Scatter:
        """What is known of a GPU's variance from run to run before its past is seen."""
        return Scatter(self.gpu_deviation**2, self.gpu_freedom)


class _Rating(FrozenModel):
    least_edge: PositiveCount
    sustained_of_burst: Positive
    degraded: Positive
    unfit: Positive
    unfit_unpublished: Positive


class _Memory(FrozenModel):
    degraded: Positive
    unfit: Positive


class _Precision(FrozenModel):
    half_width: Positive


class HealthThresholds(FrozenModel):
    """The contents of health.toml."""

    alarm: _Alarm
    unfit: _Unfit
    siblings: _Siblings
    past: _Past
    rating: _Rating
    memory: _Memory
    precision: _Precision


@cache
def health_thresholds() -> HealthThresholds:
    """The shipped thresholds."""
    return parse_toml(HealthThresholds, read_packaged("nameplate.health", "health.toml"), "health.toml")
