"""The memory that a case takes: its peak, and what happens where the device has none left."""

import os
from dataclasses import dataclass, replace

import pytest
import torch

from nameplate.device.cpu import CpuDevice
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.case_run import CaseRun
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from nameplate_kernels import TransformerBlock


@dataclass(frozen=True)
class Work(SimulatedWork):
    """Simulated work of `size`, which fits where that is at most `most`."""

    size: int = 64
    most: int = 64
    error: type[Exception] = torch.OutOfMemoryError

    @property
    def smaller(self):
        return replace(self, size=self.size // 2, shape=str(self.size // 2)) if self.size > 1 else None

    def prepare(self, device, *, fill, seed, copies=1):
        if self.size > self.most:
            raise self.error("no memory: can't allocate memory")
        return super().prepare(device, fill=fill, seed=seed, copies=copies)


def prepared(**sizes):
    device = SimulatedDevice(make_steady(1e-3, 0.01))
    work = Work(device, name="matmul", dtype="bf16", **{"shape": str(sizes.get("size", 64)), **sizes})
    run = CaseRun(Case(work), device)
    run.attempt(lambda: run.prepare(Pilots(device, 0), lambda: 100.0))
    return run


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_where_memory_runs_out_it_is_skipped_and_the_next_smaller_that_fits_is_named(error):
    run = prepared(size=64, most=16, error=error)
    assert run.failure.status == "skipped"
    assert str(run.failure.reason) == "the device ran out of memory; the next smaller that fits is 16"
    assert run.prepared is None


def test_nothing_smaller_that_fits_is_said_too():
    run = prepared(size=64, most=0)
    assert (run.failure.status, run.failure.reason.code) == ("skipped", "out_of_memory")
    assert prepared(size=64, most=64).failure is None
    assert prepared(size=64, most=16, error=ValueError).failure.status == "failed"


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone counts a peak anew")
def test_the_peak_of_a_block_on_a_cpu_holds_its_weights_and_activations():
    device = CpuDevice.__new__(CpuDevice)  # what counts memory needs nothing else of it
    held = []
    for size in (0, 64 << 20):
        device.begin_peak()
        before = device.read_peak_bytes()
        kept = torch.ones(size or 1, dtype=torch.uint8)
        held.append(device.read_peak_bytes() - before)
        del kept
    assert held[1] - held[0] > 48 << 20


def test_half_of_a_block_is_half_its_sequences_then_half_its_tokens():
    block = TransformerBlock.llama3_8b(64, "bf16", "forward", batch=2)
    assert (block.smaller.batch, block.smaller.tokens) == (1, 64)
    assert (block.smaller.smaller.batch, block.smaller.smaller.tokens) == (1, 32)
    assert TransformerBlock.llama3_8b(1, "bf16", "forward").smaller is None
