"""Eight A800s that aren't there, measured by real processes: `python -m sick_gpus JOB` is one's worker.

The driver is the stand-in for NVML; torch.cuda is a stand-in too, whose launches end by the host's clock.
GPU 1 hangs in every launch, and the driver has lost GPU 4.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import nameplate.run.worker
import nameplate.suite
from nameplate.device.cuda import CudaDevice
from nameplate.suite import Case, Suite
from nameplate_kernels.workload import CheckResult

HANGS, LOST = 1, 4
LAUNCH_S = 1e-3


class Gpu:
    """Launches run one after the other, whatever the host does meanwhile; a hung one is never done."""

    def __init__(self):
        self.done_s, self.launch_s = 0.0, LAUNCH_S

    def launch(self):
        self.done_s = max(self.done_s, time.perf_counter()) + self.launch_s

    def Event(self, *, enable_timing):  # noqa: N802 - torch's own name
        return Event(self)

    def synchronize(self, device=None):
        time.sleep(max(self.done_s - time.perf_counter(), 0.0))

    def mem_get_info(self, device=None):
        return 60 << 30, 80 << 30

    def memory_reserved(self, device=None):
        return 1 << 30


class Event:
    def __init__(self, gpu):
        self.gpu, self.at_s = gpu, 0.0

    def record(self):
        self.at_s = max(self.gpu.done_s, time.perf_counter())

    def elapsed_time(self, later):
        return (later.at_s - self.at_s) * 1e3


@dataclass(frozen=True)
class Work:
    """A product of 100 GFLOP that isn't one; as `prepare`d it is its own launches, on the process's GPU."""

    shape: str
    name: str = "matmul"
    dtype: str = "fp16"
    dimensions: dict = field(default_factory=dict)
    flops: int = 10**11
    bytes: int = 10**6
    resident_bytes: int = 10**6
    convention: str = "2MNK"
    represents: str | None = None

    @property
    def launches(self):
        return (gpu.launch,)

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        return self

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return CheckResult("fp64", 0.1, "rounding")

    def digest(self):
        return None


gpu = Gpu()
SUITE = Suite("fake", "a test's own", 30.0, lambda target: [Case(Work("1"))])


class Device(CudaDevice):
    """Nothing of it needs torch."""

    torch_device = None

    def name_kernels(self, launch):
        return ()

    def capture(self, launches, count):
        return None


def open_device(name, begun):
    index = int(name.removeprefix("cuda:"))
    if index == LOST:
        raise RuntimeError("CUDA error: GPU is lost")
    if index == HANGS:
        gpu.launch_s = 600.0
    return Device(begun, gpu)


if __name__ == "__main__":
    nameplate.run.worker.open_device = open_device
    nameplate.suite.find_suite = lambda name: SUITE
    nameplate.run.worker.main()
