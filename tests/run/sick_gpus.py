"""Eight A800s that aren't there, measured by real processes: `python -m sick_gpus JOB` is one's worker.

The driver is the stand-in for NVML; torch.cuda is a stand-in too, whose launches end by the host's clock.
GPU 1 hangs in every launch, and the driver has lost GPU 4.
"""

from __future__ import annotations

import nameplate.run.child
import nameplate.run.worker
import nameplate.suite
from nameplate.device.cuda import CudaDevice
from nameplate.suite import Case, Suite
from stand_ins import HostClockGpu, Work

HANGS, LOST = 1, 4

gpu = HostClockGpu()
SUITE = Suite("fake", "a test's own", 30.0, lambda target: [Case(Work((gpu.launch,), flops=10**11))])


class Device(CudaDevice):
    """Nothing of it needs torch."""

    torch_device = None

    def name_kernels(self, launch):
        return ()

    def capture(self, launches, count):
        return None


def open_device(name, begun, known=None):
    index = int(name.removeprefix("cuda:"))
    if index == LOST:
        raise RuntimeError("CUDA error: GPU is lost")
    if index == HANGS:
        gpu.launch_s = 600.0
    return Device(begun, gpu)


if __name__ == "__main__":
    nameplate.run.child.open_device = open_device
    nameplate.suite.find_suite = lambda name: SUITE
    nameplate.run.worker.main()
