"""The CUDA device on a real GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from cuda_stand_in import wait_for_rows
from nameplate.device import cuda
from nameplate.device.cuda import CudaDevice
from nameplate.device.kernels import name_attention
from nameplate.device.libraries import read_library_versions
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.transformer_block import TransformerBlock

pytestmark = pytest.mark.gpu


@contextmanager
def current_gpu():
    device = CudaDevice(cuda.read_identity(0))
    try:
        yield device
    finally:
        device.synchronize()


@pytest.mark.parametrize("flush", [False, True])
def test_on_a_gpu_a_product_is_timed(flush):
    with current_gpu() as device:
        edge = 2048
        a, b, c = (
            torch.randn(edge, edge, device=device.torch_device, dtype=torch.bfloat16) for _ in range(3)
        )
        device.time_batch([lambda: torch.mm(a, b, out=c)], samples=3, per_sample=1)
        timing = device.time_batch([lambda: torch.mm(a, b, out=c)], samples=20, per_sample=1, flush=flush)
    assert timing.sample_s.shape == (20,)
    assert (timing.sample_s > 0).all()
    assert 1 < 2 * edge**3 / np.median(timing.sample_s) / 1e12 < 10_000  # TFLOPS: a bound on sanity alone
    assert device.identity.uuid.startswith(("GPU-", "MIG-"))  # a slice has a name of its own
    assert device.identity.driver


def test_on_a_gpu_enqueuing_a_layer_takes_less_than_a_large_one_runs():
    block = TransformerBlock.llama3_8b(4096, "bf16", "forward_backward")
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1)
        with prepared.numerics():
            device.time_batch(prepared.launches, samples=3, per_sample=1)
            timing = device.time_batch(prepared.launches, samples=10, per_sample=1)
            enqueue_s = device.time_enqueue(prepared.launches)
    assert 0 < enqueue_s < timing.elapsed_s / timing.launches
    assert 0 < device.time_empty_launch() < 1e-3  # seconds: a bound on sanity alone


def test_on_a_gpu_a_replay_gives_what_the_launches_give():
    product = Matmul(m=512, n=512, k=512, dtype="bf16")
    with current_gpu() as device:
        prepared = product.prepare(device.torch_device, fill="normal", seed=1, copies=3)
        with prepared.numerics():
            for launch in prepared.launches:
                launch()
            eager = [buffers.c.clone() for buffers in prepared.buffers]
            replay = device.capture(prepared.launches, 7)
            for buffers in prepared.buffers:
                buffers.c.zero_()
            replay()
            device.synchronize()
            timing = device.time_batch([replay], samples=10, per_sample=1)
    for buffers, expected in zip(prepared.buffers, eager, strict=True):
        torch.testing.assert_close(buffers.c, expected)
    assert (timing.sample_s / 7 > 0).all()


def test_on_a_gpu_a_backward_pass_is_captured():
    """Gradients are the graph's own memory, which each replay writes again."""
    block = TransformerBlock.llama3_8b(64, "bf16", "forward_backward", width=0.125)
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1, copies=2)
        with prepared.numerics():
            prepared.compute_reference()
            replay = device.capture(prepared.launches, 3)
            assert replay is not None
            for buffers in prepared.buffers:
                for leaf in buffers.leaves:
                    leaf.grad.zero_()
            replay()
            device.synchronize()
            assert prepared.check().passed


def test_on_a_gpu_a_failed_capture_leaves_it_usable():
    with current_gpu() as device:
        a = torch.randn(512, 512, device=device.torch_device)
        c = torch.empty_like(a)
        for _ in range(2):
            assert device.capture([lambda: (a @ a).sum().item()], 2) is None
        torch.cuda.empty_cache()  # what an allocator that still takes a capture for underway refuses
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        assert device.capture([lambda: torch.mm(a, a, out=c)], 2) is not None
        timing = device.time_batch([lambda: torch.mm(a, a, out=c)], samples=5, per_sample=1)
    assert (timing.sample_s > 0).all()


def test_on_a_gpu_the_timeline_moves_on():
    with current_gpu() as device:
        a = torch.randn(4096, 4096, device=device.torch_device, dtype=torch.bfloat16)
        c = torch.empty_like(a)
        asked = device.counters()
        device.time_batch([lambda: torch.mm(a, a, out=c)], samples=50, per_sample=1)
        rows = wait_for_rows(device, asked.at_s, 5)
    assert len(rows) >= 5
    assert all(earlier.at_s < later.at_s for earlier, later in pairwise(rows))
    assert rows[0] == asked
    assert rows[-1].gpu.sm_clock_mhz > 0


_BREAK = """
import torch
from nameplate.device import cuda
device = cuda.CudaDevice(cuda.read_identity(0))
assert device.is_working()
try:
    torch.zeros(4, device="cuda")[torch.tensor([1 << 40], device="cuda")].cpu()
except Exception as error:
    print(type(error).__name__, "works" if device.is_working() else "broken", flush=True)
    import os
    os._exit(0)
"""


@pytest.mark.process
def test_on_a_gpu_an_assertion_in_a_kernel_breaks_the_context_and_that_is_seen():
    said = subprocess.run(
        [sys.executable, "-P", "-c", _BREAK], capture_output=True, text=True, check=False, timeout=120
    )
    assert "broken" in said.stdout, said.stderr


def test_on_a_gpu_libraries_kernels_and_attention_are_named():
    block = TransformerBlock.llama3_8b(256, "bf16", "forward", width=0.125)
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1)
        with prepared.numerics():
            prepared.launches[0]()
            kernels = device.name_kernels(prepared.launches[0])
    assert kernels
    assert name_attention(kernels) in ("cudnn", "flash", "efficient", "math"), kernels
    found = read_library_versions()  # cuBLAS is loaded: it has just computed
    assert found["cuda"] == torch.version.cuda
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", found[name]) for name in ("cublas", "cublaslt")), found


def test_on_a_gpu_faults_are_watched_or_absent_for_a_reason():
    with current_gpu() as device:
        reading = device.counters().gpu
    for name in ("xid_errors", "nvlink_replays", "nvlink_recoveries", "nvlink_crc_errors"):
        assert getattr(reading, name) is not None or reading.why_absent(name), name
    assert reading.xid_errors is None or isinstance(reading.xid_errors, tuple)  # other tests may cause some
