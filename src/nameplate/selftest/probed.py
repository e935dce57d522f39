"""A simulated device with a probe: its normalized figures have a known truth.

The case and the probe take the same time a FLOP on average, and each keeps a factor of its own in every
process. So achieved ÷ ceiling is 1 in the mean over processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nameplate.device.protocol import Probe, Timing
from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import Floats, Noise
from nameplate.workload import Launch

_CASE, _PROBE = "case", "probe"
_PROBE_SHARE = 0.5  # of the FLOPs of a case's launch


@dataclass(frozen=True)
class Kind:
    """A launch of one of the two products."""

    name: str
    launch_s: float

    def __call__(self) -> None:
        """Do nothing: the device draws the time it takes."""


class ProbedDevice(SimulatedDevice):
    """A device whose cases take `launch_s`, of `flops`; `deviation` is that of the logarithm of the factors.

    In this run alone the case takes `of_run` times as long.
    """

    def __init__(
        self, launch_s: float, flops: int, noise: Noise, deviation: float, seed: int, of_run: float = 1.0
    ) -> None:
        """Draw nothing yet."""
        super().__init__(self._draw_launches, seed=seed)
        self._case = Kind(_CASE, launch_s * of_run)
        self._noise, self._deviation = noise, deviation
        self._running = self._case
        self._factors = {_CASE: 1.0, _PROBE: 1.0}
        self.launched = Counter[str]()
        self._probe = Probe(_PROBE, round(_PROBE_SHARE * flops), Kind(_PROBE, _PROBE_SHARE * launch_s))

    def begin_process(self) -> None:
        """Begin another simulated process, and draw what its products keep."""
        super().begin_process()
        for name in self._factors:
            self._factors[name] = math.exp(self._deviation * self._generator.standard_normal())

    def probes(self, dtype: str) -> tuple[Probe, ...]:
        """Return the probe, the same for every dtype."""
        return (self._probe,)

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Draw the durations of a batch of the product that is launched."""
        first = launches[0]
        self._running = first if isinstance(first, Kind) else self._case
        self.launched[self._running.name] += samples * per_sample
        return super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)

    @property
    def log_variance(self) -> float:
        """The variance of the logarithm of a run's normalized figure, for one who knows the law of all noise.

        Every launch has the same weight, also an untimed one, so no estimator does better.
        """
        kept = 2 * self._deviation**2 / self.process
        return kept + self._noise.relative_sd**2 * sum(1 / count for count in self.launched.values())

    def _draw_launches(self, now_s: float, count: int, generator: np.random.Generator) -> Floats:
        running = self._running
        return running.launch_s * self._factors[running.name] * self._noise.factors(count, generator)
