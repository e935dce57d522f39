"""The card that is looked at, and what every look does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nameplate.device.cuda import Accelerator, CudaDevice, open_nvml
from nameplate.device.survey import open_device
from nameplate.engine.case_run import count_buffer_sets
from nameplate.selftest.contenders import find_product
from nameplate.telemetry.nvml import NvmlClient
from nameplate.workload import Prepared

if TYPE_CHECKING:
    import torch

# The product that is looked at takes 0.6 to 7 ms on cards rated for 1,600 to 165 TFLOPS in bf16.
EDGE = 8192
SEED = 2024


@dataclass(frozen=True)
class Subject:
    """An opened card. Time is its own clock, also for what doesn't go through the harness.

    `measured` is False for a twin, whose clock is virtual.
    """

    device: CudaDevice
    accelerator: Accelerator
    open_telemetry: Callable[[], NvmlClient]
    measured: bool = True
    edge: int = EDGE

    @property
    def torch_device(self) -> torch.device:
        """Where tensors of its own are."""
        return self.device.torch_device

    def clock(self) -> float:
        """Seconds on the device's clock."""
        return self.device.clock()

    def synchronize(self) -> None:
        """Wait until everything launched has run."""
        self.device.synchronize()

    @contextmanager
    def prepare_product(self, fill: str = "normal") -> Iterator[Prepared]:
        """Prepare the harness's own product, and set the numerics of its dtype inside."""
        case = find_product(self.device, "bf16", self.edge)
        copies = count_buffer_sets(case, self.device)
        prepared = self.device.prepare(case.workload, fill=fill, seed=SEED, copies=copies)
        with prepared.numerics():
            yield prepared

    def time_launches(self, prepared: Prepared, seconds: float) -> float:
        """Launch for about so long, untimed; return the seconds of a launch."""
        timing = self.device.time_batch(prepared.launches, samples=3, per_sample=1)
        launch_s = timing.elapsed_s / timing.launches
        begin_s = self.clock()
        while self.clock() - begin_s < seconds:
            samples = max(1, round(min(seconds, 0.25) / launch_s))
            timing = self.device.time_batch(prepared.launches, samples=samples, per_sample=1)
            launch_s = timing.elapsed_s / timing.launches
        return launch_s


def open_subject(name: str) -> Subject:
    """Open a GPU by its device's name, `cuda:0`. Raises InputError as `open_device` does."""
    import torch

    device = open_device(name)
    assert isinstance(device, CudaDevice)
    return Subject(device, torch.cuda, open_nvml)
