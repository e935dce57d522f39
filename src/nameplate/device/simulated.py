"""A device with a known truth: durations come from a rule and a seed, and its clock is virtual.

It goes through the same `Device` interface as a real one, so what is tested with it is the real engine. No
launch is executed and no time is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nameplate.device.identity import SimulatedIdentity
from nameplate.device.interface import Counters, Timing
from nameplate.specs.rating import Figure, Rating
from nameplate.workload import Launch

if TYPE_CHECKING:
    import torch

# Given the virtual time in seconds, a number of launches and a generator: seconds of each launch.
Durations = Callable[[float, int, np.random.Generator], NDArray[np.float64]]


def steady(launch_s: float, relative_noise: float = 0.0) -> Durations:
    """Every launch takes `launch_s`, with Gaussian noise of that relative standard deviation."""

    def durations(_now_s: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        noise = generator.standard_normal(count) * relative_noise
        return np.asarray(launch_s * np.maximum(1 + noise, 0.01), dtype=float)

    return durations


@dataclass
class SimulatedDevice:
    """A device whose launches take what `durations` says; `foreign_cores` and `stolen_cores` disturb it."""

    durations: Durations
    seed: int = 0
    nominal_tflops: float | None = None
    foreign_cores: float = 0.0  # cores other processes keep busy
    stolen_cores: float = 0.0  # cores the hypervisor gives to others
    name: str = "simulated"
    kind: str = "simulated"
    cores: float = 2.0
    timer_resolution_s: float = 0.0
    cache_bytes: int | None = None
    memory_bytes: int | None = None
    _now_s: float = 0.0
    _generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Seed the generator and state the rating."""
        self._generator = np.random.default_rng(self.seed)
        self.identity = SimulatedIdentity(name=self.name)
        source = "the simulation's own truth"
        rated = {} if self.nominal_tflops is None else {"fp32": Figure(self.nominal_tflops, source)}
        self.rating = Rating("simulated", "made, not found", rated, rated)

    @property
    def torch_device(self) -> torch.device:
        """`torch.device("cpu")`, where a simulated workload that allocates would do so."""
        import torch

        return torch.device("cpu")

    def clock(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def time_batch(
        self,
        launches: Sequence[Launch],
        *,
        samples: int,
        per_sample: int,
        flush: bool = False,
    ) -> Timing:
        """Draw the durations of a batch and move the clock on by their sum."""
        begin = self._now_s
        each = self.durations(begin, samples * per_sample, self._generator)
        spans = each.reshape(samples, per_sample).sum(axis=1)
        self._now_s += float(spans.sum())
        return Timing(begin, spans, per_sample)

    def counters(self) -> Counters:
        """Totals that follow from the virtual clock: every core busy with this work, and the disturbance."""
        own = self._now_s * self.cores
        foreign = self._now_s * self.foreign_cores
        return Counters(self._now_s, own, own + foreign, self._now_s * self.stolen_cores, 0.0)

    def synchronize(self) -> None:
        """Nothing to wait for."""
