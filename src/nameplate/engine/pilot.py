"""Predicts what a case will cost, from a much smaller one of its kind, before anything large is launched.

A dtype without hardware support can be a hundred times slower than its neighbour, and a budget must hold
all the same; so nothing is launched at full size before its time is known to fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nameplate.device.protocol import Device
from nameplate.workload import Launch, Workload

_PILOT_S = 0.1
_PILOT_LAUNCHES = 50


@dataclass(frozen=True)
class Prediction:
    """Seconds a case is expected to take: once for set-up, reference and check, and for each launch."""

    setup_s: float
    launch_s: float


@dataclass
class Pilots:
    """The pilots of one run on one device; cases of one kind share theirs."""

    device: Device
    seed: int
    _seen: dict[tuple[str, str, str, str], Prediction] = field(default_factory=dict)

    def predict(self, workload: Workload, fill: str) -> Prediction | None:
        """Scale the pilot's times to `workload`; None for a workload small enough to be tried directly.

        Launch time scales with FLOPs (bytes, where there are none), set-up with memory.
        """
        pilot = workload.pilot()
        if pilot is None:
            return None
        key = (pilot.name, pilot.dtype, pilot.shape, fill)
        if key not in self._seen:
            self._seen[key] = self._fly(pilot, fill)
        measured = self._seen[key]
        work = _work(workload) / _work(pilot)
        memory = workload.resident_bytes / pilot.resident_bytes
        return Prediction(measured.setup_s * memory, measured.launch_s * work)

    def _fly(self, pilot: Workload, fill: str) -> Prediction:
        # Twice: what libraries take to load and compile is paid once, and must not be scaled up.
        self._time(pilot, fill)
        return self._time(pilot, fill)

    def _time(self, pilot: Workload, fill: str) -> Prediction:
        begin = self.device.clock()
        prepared = pilot.prepare(self.device.torch_device, fill=fill, seed=self.seed)
        with prepared.numerics():
            prepared.compute_reference()
            self.device.synchronize()
            setup_s = self.device.clock() - begin
            launch_s = self._fastest(prepared.launches)
            begin = self.device.clock()
            prepared.check()
            return Prediction(setup_s + self.device.clock() - begin, launch_s)

    def _fastest(self, launches: Sequence[Launch]) -> float:
        """The fastest of many launches: a moment's disturbance would be scaled up with the work."""
        begin, fastest, count = self.device.clock(), math.inf, 0
        while count < _PILOT_LAUNCHES and (count < 3 or self.device.clock() - begin < _PILOT_S):
            timing = self.device.time_batch(launches, samples=1, per_sample=1)
            fastest, count = min(fastest, timing.elapsed_s), count + 1
        return fastest


def _work(workload: Workload) -> int:
    return workload.flops or workload.bytes
