"""What tests measure instead of a workload on a GPU: work that computes nothing, and a GPU whose launches end
by the host's clock. pytest finds this folder by `pythonpath` in pyproject.toml.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field

from nameplate_kernels.workload import CheckResult


@dataclass(frozen=True)
class Work:
    """A declaration whose launches are given; as `prepare`d it is itself, and its check passes."""

    launches: tuple = (None,)
    name: str = "matmul"
    dtype: str = "fp16"
    shape: str = "1"
    dimensions: dict = field(default_factory=dict, hash=False)
    flops: int = 10**9
    bytes: int = 10**6
    resident_bytes: int = 10**6
    convention: str = "2MNK"
    represents: str | None = None
    bits: str | None = None  # the digest of every result

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
        return CheckResult("fp64", 0.25, "rounding")

    def digest(self):
        return self.bits


class CudaMemory:
    """For stand-ins of torch.cuda, a GPU's memory: 60 of 80 GiB are free, 4 reserved, 3 were used."""

    def mem_get_info(self, device=None):
        return 60 << 30, 80 << 30

    def memory_reserved(self, device=None):
        return 4 << 30

    def reset_peak_memory_stats(self, device=None):
        pass

    def max_memory_allocated(self, device=None):
        return 3 << 30


class HostClockGpu(CudaMemory):
    """Stands in for torch.cuda: launches run one after the other, whatever the host does meanwhile."""

    def __init__(self, launch_s=1e-3):
        self.done_s, self.launch_s = 0.0, launch_s

    def launch(self):
        self.done_s = max(self.done_s, time.perf_counter()) + self.launch_s

    def Event(self, *, enable_timing):  # noqa: N802 - torch's own name
        return Event(self)

    def synchronize(self, device=None):
        time.sleep(max(self.done_s - time.perf_counter(), 0.0))


class Event:
    def __init__(self, gpu):
        self.gpu, self.at_s = gpu, 0.0

    def record(self):
        self.at_s = max(self.gpu.done_s, time.perf_counter())

    def elapsed_time(self, later):
        return (later.at_s - self.at_s) * 1e3
