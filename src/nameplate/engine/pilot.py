"""Predicts how long a case will take, from a much smaller workload of its kind: its pilot.

A dtype without hardware support can be a hundred times slower than another, and the budget must hold all the
same. So nothing is launched at full size before its time is known to fit.
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
    """Expected seconds of a case: `setup_s` once for set-up, reference and check, `launch_s` per launch."""

    setup_s: float
    launch_s: float


@dataclass
class Pilots:
    """The pilots of one run on one device; cases of the same kind share one."""

    device: Device
    seed: int
    _seen: dict[tuple[str, str, str, str], Prediction] = field(default_factory=dict)

    def predict(self, workload: Workload, fill: str) -> Prediction | None:
        """Scale the pilot's times to `workload`; None for a workload small enough to try directly.

        Launch time scales with FLOPs (bytes where there are none), set-up with memory.
        """
        pilot = workload.pilot()
        if pilot is None:
            return None
        key = (pilot.name, pilot.dtype, pilot.shape, fill)
        if key not in self._seen:
            # Twice: libraries load and compile on first use, which must not be scaled up.
            self._time(pilot, fill)
            self._seen[key] = self._time(pilot, fill)
        measured = self._seen[key]
        work = _flops_or_bytes(workload) / _flops_or_bytes(pilot)
        memory = workload.resident_bytes / pilot.resident_bytes
        return Prediction(measured.setup_s * memory, measured.launch_s * work)

    def _time(self, pilot: Workload, fill: str) -> Prediction:
        begin = self.device.clock()
        prepared = pilot.prepare(self.device.torch_device, fill=fill, seed=self.seed)
        with prepared.numerics():
            prepared.compute_reference()
            self.device.synchronize()
            setup_s = self.device.clock() - begin
            launch_s = self._time_fastest(prepared.launches)
            begin = self.device.clock()
            prepared.check()
            return Prediction(setup_s + self.device.clock() - begin, launch_s)

    def _time_fastest(self, launches: Sequence[Launch]) -> float:
        """Return the seconds of the fastest of many launches: a disturbance would be scaled up too."""
        begin, fastest, count = self.device.clock(), math.inf, 0
        while count < _PILOT_LAUNCHES and (count < 3 or self.device.clock() - begin < _PILOT_S):
            timing = self.device.time_batch(launches, samples=1, per_sample=1)
            fastest, count = min(fastest, timing.elapsed_s), count + 1
        return fastest


def _flops_or_bytes(workload: Workload) -> int:
    return workload.flops or workload.bytes
