"""Predicts how long a case will take, from much smaller workloads of its kind: its pilots.

A dtype without hardware support can be a hundred times slower than another, and the budget must hold all the
same. So nothing is launched at full size before its time is predicted to fit.

A set-up is predicted by its memory: to allocate, to fill, and for a product a reference of 16 of its rows.
A transformer block's reference is a pass at full size in a higher precision, which takes longer than that
predicts where the pilot has fewer FLOPs per byte. What is left of the time is looked at again after it.

A small pilot doesn't fill a large device: on a GPU a product of 256³ takes as long as an empty launch, and
scaled by FLOPs it would predict seconds for a product of 16384³ that takes 12 ms. So where a pilot's
prediction doesn't fit, the next larger one is tried, as long as its own time fits and each is faster per FLOP
than the one before. On a CPU the smallest is usually as fast per FLOP as any, or too slow to go on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nameplate.device.protocol import Device
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.workload import Launch, Workload

_PILOT_S = 0.1
_PILOT_LAUNCHES = 50
# A prediction that fits this share of the time left needn't be better: it decides nothing.
_AMPLE_SHARE = 0.1
# The largest share of the time left that a larger pilot may take, and the most seconds.
_LARGEST_SHARE, _LONGEST_PILOT_S = 0.1, 5.0
# The device is full where eight times the work is less than this factor faster per FLOP. A prediction is then
# too long by about as much at most.
_FULL = 1.5
# Never subtract more of a launch than this: what an empty launch takes may pass while the kernel runs, and a
# prediction that is too short protects nothing.
_LARGEST_LATENCY_SHARE = 0.5


@dataclass(frozen=True)
class Prediction:
    """Expected seconds of a case: `setup_s` once for set-up, reference and check, `launch_s` per launch."""

    setup_s: float
    launch_s: float

    def total_s(self, launches: float) -> float:
        """Return the seconds of the set-up and so many launches."""
        return self.setup_s + launches * self.launch_s


# By name, dtype and shape of a pilot, and its fill.
Predictions = dict[tuple[str, str, str, str], Prediction]


@dataclass
class Pilots:
    """The pilots of one run on one device; cases of the same kind share them. `seen` were timed already."""

    device: Device
    seed: int
    seen: Predictions = field(default_factory=dict)

    def predict(self, workload: Workload, fill: str, left_s: float) -> Prediction | None:
        """Predict from pilots, smallest first, the times of `workload`; `left_s` is what it may take.

        None for a workload small enough to try directly. Launch time scales with FLOPs (bytes where there are
        none) but for the time of an empty launch; set-up scales with memory.
        """
        found: Prediction | None = None
        speed = 0.0  # of the latest pilot: FLOPs (or bytes) per second
        for pilot in workload.pilots():
            if found is not None and not self._is_worthwhile(pilot, workload, found, left_s):
                break
            measured = self._measure(pilot, fill)
            found = self._scale(measured, pilot, workload)
            before, speed = speed, _flops_or_bytes(pilot) / measured.launch_s
            if speed < _FULL * before:
                break
        return found

    def _is_worthwhile(self, pilot: Workload, workload: Workload, so_far: Prediction, left_s: float) -> bool:
        """Whether a better prediction may change anything, and this larger pilot fits the time."""
        if so_far.total_s(FEWEST_BATCHES + 1) <= _AMPLE_SHARE * left_s:
            return False
        expected = self._scale(so_far, workload, pilot)
        timing_s = max(3 * expected.launch_s, min(_PILOT_LAUNCHES * expected.launch_s, _PILOT_S))
        return 2 * (expected.setup_s + timing_s) <= min(_LARGEST_SHARE * left_s, _LONGEST_PILOT_S)

    def _scale(self, known: Prediction, measured: Workload, other: Workload) -> Prediction:
        """Return the times of another workload of the same kind."""
        work = _flops_or_bytes(other) / _flops_or_bytes(measured)
        memory = other.resident_bytes / measured.resident_bytes
        latency_s = min(self._empty_launch_s, _LARGEST_LATENCY_SHARE * known.launch_s)
        return Prediction(known.setup_s * memory, latency_s + (known.launch_s - latency_s) * work)

    @cached_property
    def _empty_launch_s(self) -> float:
        return self.device.time_empty_launch()

    def _measure(self, pilot: Workload, fill: str) -> Prediction:
        key = (pilot.name, pilot.dtype, pilot.shape, fill)
        if key not in self.seen:
            # Twice: libraries load and compile on first use, which must not be scaled up.
            self._time(pilot, fill)
            self.seen[key] = self._time(pilot, fill)
        return self.seen[key]

    def _time(self, pilot: Workload, fill: str) -> Prediction:
        begin = self.device.clock()
        prepared = self.device.prepare(pilot, fill=fill, seed=self.seed)
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
        return max(fastest, self.device.timer_resolution_s)  # 0 by the clock: up to one of its steps


def _flops_or_bytes(workload: Workload) -> int:
    return workload.flops or workload.bytes
