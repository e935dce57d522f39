"""Work, a device and an observer for runs that the real engine measures on virtual time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

import numpy as np

from nameplate.device.simulated import SimulatedDevice
from nameplate.record import Verification
from nameplate.store.folder import read_run

FLOPS = 2_000_000_000
SEGFAULT = SystemExit(-11)  # how a simulated process dies


@dataclass(frozen=True)
class Work:
    """A workload that allocates nothing; each launch takes `launch_s` of the device's virtual time.

    `weight` and `group` are its case's.
    """

    shape: str
    launch_s: float = 1e-3
    noise: float = 0.0
    dtype: str = "fp32"
    piloted: bool = False
    breaks: BaseException | None = None
    breaks_context: bool = False
    breaks_at_the_end: bool = False  # in a step whose error costs no figure
    name: str = "matmul"
    dimensions: dict = field(default_factory=dict)
    flops: int = FLOPS
    bytes: int = 3_000_000
    convention: str = "2MNK"
    represents: str | None = None
    resident_bytes: int = 3_000_000
    weight: float = 1.0
    group: str | None = None

    def unsupported(self, device):
        return None

    def pilots(self):
        """A thousandth of the work."""
        if not self.piloted:
            return ()
        return (replace(self, piloted=False, flops=FLOPS // 1000, launch_s=self.launch_s / 1000),)

    def prepare(self, device, *, fill, seed, copies=1):
        if self.breaks is not None:
            raise self.breaks
        return Ready(self)


@dataclass(frozen=True)
class Ready:
    work: Work

    @property
    def launches(self):
        return [self]

    def numerics(self):
        return contextlib.nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return Verification(reference="fp64", error=0.1, rule="rounding", passed=True)

    def digest(self):
        return None


class Simulated(SimulatedDevice):
    """Takes each launch's time from the workload that is launched, and counts what was launched."""

    def __init__(self, name="simulated", nominal_tflops=4.0):
        super().__init__(lambda *_: np.zeros(0), name=name, nominal_tflops=nominal_tflops)
        self.launched = []
        self.broken = False  # as a CUDA context is after some errors, until another process opens the device
        self.deadly, self.death = None, SEGFAULT  # the shape whose launch ends the process, and how

    def is_working(self):
        return not self.broken

    def name_kernels(self, launch):
        if launch.work.breaks_at_the_end:
            self.broken = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return ()

    def time_batch(self, launches, **how):
        (ready,) = launches
        if self.broken or ready.work.breaks_context:
            self.broken = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")
        self.launched.append(ready.work.shape)
        if ready.work.shape == self.deadly:
            raise self.death
        noise = ready.work.noise

        def durations(_now_s, count, generator):
            return ready.work.launch_s * np.maximum(1 + noise * generator.standard_normal(count), 0.01)

        self.durations = durations
        return super().time_batch(launches, **how)


class Watcher:
    """Writes down what it is told, and what stands on disk at that moment."""

    def __init__(self):
        self.seen = []

    def run_started(self, folder, manifest, budget_s, todo):
        self.folder = folder
        self.seen.append(("run", read_run(folder).manifest == manifest, budget_s, todo))

    def group_started(self, cases):
        self.seen.append(("start", *cases, len(read_run(self.folder).records)))

    def case_finished(self, record):
        self.seen.append(("finish", record.case, len(read_run(self.folder).records)))

    def device_stopped(self, device, why, goes_on):
        self.seen.append(("stop", device, str(why), goes_on))


def ids(*shapes):
    return [f"matmul/fp32/{shape}/normal/warm/-/torch" for shape in shapes]


def three_groups(interrupted=None):
    """Five cases in three groups, one of which may be where Ctrl-C comes."""
    shapes = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3"}
    return [
        Work(shape, group=group, breaks=KeyboardInterrupt() if shape == interrupted else None)
        for shape, group in shapes.items()
    ]
