"""The card that is looked at, and what every look does with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from nameplate.device.cuda import CudaDevice, open_nvml, share_nvml
from nameplate.device.survey import open_device
from nameplate.device.twin import is_twin
from nameplate.engine.case_run import count_buffer_sets
from nameplate.run.job import target_of
from nameplate.selftest.contenders import find_product
from nameplate.suite import Case, find_suite
from nameplate.telemetry.nvml import NvmlClient
from nameplate.workload import Launch, Prepared, Workload

if TYPE_CHECKING:
    import torch

# The product that is looked at takes 0.6 to 7 ms on cards rated for 1,600 to 165 TFLOPS in bf16.
EDGE = 8192
_FIRST_EDGE = 256
SEED = 2024


@dataclass(frozen=True)
class Subject:
    """An opened card. Time is its own clock, also for what doesn't go through the harness.

    `make_own_product` returns a launch of a square product that shares no code with the harness's workloads.
    `open_telemetry` starts a process that samples the driver; None: the card is a twin, and needs none.
    `started_s` is what it took from CUDA's start to the end of the first product; None: not timed.
    """

    device: CudaDevice
    make_own_product: Callable[[int], Launch]
    open_telemetry: Callable[[], NvmlClient] | None = None
    edge: int = EDGE
    started_s: float | None = None

    def clock(self) -> float:
        """Seconds on the device's clock."""
        return self.device.clock()

    def synchronize(self) -> None:
        """Wait until everything launched has run."""
        self.device.synchronize()

    @property
    def product(self) -> Case:
        """The harness's own case of the product."""
        return find_product(self.device, "bf16", self.edge)

    @contextmanager
    def prepare_product(self, fill: str = "normal") -> Iterator[Prepared]:
        """Prepare the harness's own product, and set the numerics of its dtype inside."""
        case = self.product
        copies = count_buffer_sets(case, self.device)
        prepared = self.device.prepare(case.workload, fill=fill, seed=SEED, copies=copies)
        with prepared.numerics():
            yield prepared

    def find_cases(self, suite: str, pattern: str) -> list[Case]:
        """Return the cases of a suite whose ids match."""
        cases = find_suite(suite).cases(target_of(self.device))
        return [case for case in cases if fnmatchcase(case.id, pattern)]

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


def change_product(product: Workload, **changes: Any) -> Workload:
    """Return a product with other sizes, m, n and k, or another dtype."""
    known: Any = product
    changed: Workload = replace(known, **changes)
    return changed


def open_subject(name: str) -> Subject:
    """Open a GPU or a twin by its device's name, as `cuda:0`, and compute the first product there.

    Raises InputError as `open_device` does.
    """
    import torch  # noqa: F401 - takes seconds, which are none of CUDA's

    if not is_twin(name):
        share_nvml()  # likewise
    begin_s = time.perf_counter()
    device = open_device(name)
    assert isinstance(device, CudaDevice)
    device.begin_process()
    subject = subject_of(device)
    subject.make_own_product(_FIRST_EDGE)()
    subject.synchronize()
    # A twin's clock begins at 0.
    return replace(subject, started_s=time.perf_counter() - begin_s if device.measured else device.clock())


def subject_of(device: CudaDevice) -> Subject:
    """Return an opened device as what is looked at."""
    if device.measured:
        return Subject(device, partial(_make_product, device.torch_device), open_nvml)

    def make_product(edge: int) -> Launch:  # a twin knows the kernels of workloads alone
        product = find_product(device, "bf16").workload
        sizes = dict.fromkeys("mnk", edge)
        return device.prepare(change_product(product, **sizes), fill="normal", seed=SEED + 1).launches[0]

    return Subject(device, make_product)


def _make_product(where: torch.device, edge: int) -> Launch:
    import torch

    generator = torch.Generator(where).manual_seed(SEED + 1)
    a, b, c = (
        torch.randn(edge, edge, generator=generator, device=where).to(torch.bfloat16) for _ in range(3)
    )
    return lambda: torch.mm(a, b, out=c)
