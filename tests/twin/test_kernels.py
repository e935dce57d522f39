"""The kernels of a launch, and what they cost: tiles, waves, bytes, dtypes, attention."""

import math

import pytest
import torch

from nameplate.twin.accelerator import TwinAccelerator
from nameplate.twin.card import read_card
from nameplate.twin.clock import VirtualClock
from nameplate.twin.faults import Corrupts, Faults
from nameplate.twin.kernels import KernelModel
from nameplate.twin.simulation import Simulation
from nameplate.twin.workload import TwinPrepared, kernels_of
from nameplate_kernels import Matmul, Memory, TransformerBlock

CARD = read_card("h200")
MODEL = KernelModel(CARD)
HIGHEST = CARD.clock.maximum_mhz.value


def prepare(workload, *faults, fill="normal", copies=1):
    accelerator = TwinAccelerator(CARD, VirtualClock(), Simulation(CARD, faults=Faults(faults)))
    prepared = TwinPrepared(workload, accelerator, fill=fill, seed=1, copies=copies)
    with prepared.numerics():
        prepared.compute_reference()
        prepared.launches[0]()
    return accelerator, prepared


def tflops(m, n, k, dtype="bf16", mhz=HIGHEST):
    work = MODEL.sequence([MODEL.product(m, n, k, dtype, 2)])
    return 2 * m * n * k / work.at(mhz).seconds / 1e12


def test_a_large_product_runs_as_it_was_seen_to():
    assert tflops(8192, 8192, 8192) == pytest.approx(894, abs=2)  # on zeros, at 1980 MHz
    assert 769 <= tflops(8192, 8192, 8192, mhz=1745) <= 798  # on a normal fill, at its power limit
    assert tflops(256, 256, 256) == pytest.approx(15.0, rel=0.02)  # replayed as a graph


def test_a_product_takes_whole_waves_of_tiles():
    sms = int(CARD.identity.multiprocessors.value)
    full, one_more = (MODEL.product(128 * tiles, 256, 4096, "bf16", 2).compute_s for tiles in (sms, sms + 1))
    assert one_more > 1.05 * full
    assert MODEL.product(128 * sms, 256, 4096, "bf16", 2).name == "twin_gemm_bf16_128x256"


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "tf32", "fp16", "bf16"])
def test_no_product_is_above_the_card_s_peak(dtype):
    for edge in (128, 1000, 4096, 16384):
        assert tflops(edge, edge, edge, dtype) < CARD.peak_flops(dtype) / 1e12


def test_a_kernel_s_arithmetic_takes_longer_at_a_lower_clock_and_less_energy():
    work = MODEL.sequence([MODEL.product(8192, 8192, 8192, "bf16", 2)])
    fast, slow = work.at(HIGHEST), work.at(HIGHEST / 2)
    assert slow.seconds == pytest.approx(2 * fast.seconds, rel=0.01)
    assert slow.compute_j < fast.compute_j
    copy = MODEL.sequence([MODEL.elementwise("copy", 1 << 31)])
    assert copy.at(HIGHEST) == copy.at(HIGHEST / 2)


def test_a_small_kernel_is_read_from_l2_where_the_launch_leaves_it_there():
    warm = KernelModel(CARD, cold=False)
    assert warm.elementwise("copy", 1 << 22).memory_s < MODEL.elementwise("copy", 1 << 22).memory_s
    assert warm.elementwise("copy", 1 << 30) == MODEL.elementwise("copy", 1 << 30)


def test_a_copy_moves_what_was_seen():
    _, prepared = prepare(Memory("copy", "fp32", 1024), copies=2)
    cost = kernels_of(prepared.launches[0]).at(HIGHEST)
    assert 2 * (1 << 30) / cost.seconds / 1e12 == pytest.approx(4.3, rel=0.01)


def test_tf32_is_told_from_fp32_by_torch_s_own_setting():
    for dtype in ("fp32", "tf32"):
        _, prepared = prepare(Matmul(1024, 1024, 1024, dtype))
        assert kernels_of(prepared.launches[0]).kernels[0].name.startswith(f"twin_gemm_{dtype}_")


def test_a_block_s_kernels_are_counted_forward_and_backward():
    block = TransformerBlock.llama3_8b(4096, "bf16", "forward_backward")
    _, prepared = prepare(block)
    kernels = kernels_of(prepared.launches[0]).kernels
    assert len(kernels) == 118
    attention = [each for each in kernels if "flash" in each.name]
    assert [each.name for each in attention] == ["twin_flash_fwd_bf16", "twin_flash_bwd_bf16"]
    # Causal: half of 4·B·H·T²·Q, and five products for two on the way back.
    forward = 4 * 4096**2 * 4096 / 2
    rate = CARD.peak_flops("bf16")
    assert attention[0].compute_s * rate * CARD.attention.forward.value == pytest.approx(forward)
    assert attention[1].compute_s * rate * CARD.attention.backward.value == pytest.approx(2.5 * forward)
    # Three products for each of the forward pass's five; together they have the declared FLOPs.
    gemms = [each for each in kernels if "gemm" in each.name]
    assert len(gemms) == 15


@pytest.mark.parametrize(
    "work",
    [
        Matmul(8192, 8192, 8192, "bf16"),
        Matmul(4096, 4096, 4096, "fp64", "tn"),
        Memory("triad", "fp32", 128),
        TransformerBlock.llama3_8b(4096, "bf16", "forward_backward"),
    ],
    ids=lambda work: work.name + work.dtype,
)
def test_results_are_verified_and_a_card_that_corrupts_is_caught(work):
    _, prepared = prepare(work)
    with prepared.numerics():
        digest, found = prepared.digest(), prepared.check()
        assert found.passed
        assert 0 < found.error <= 1 or work.name == "memory"
        assert prepared.digest() == digest
    gpu, sick = prepare(work, Corrupts(kind="corrupts", from_s=10.0))
    with sick.numerics():
        assert sick.digest() == digest
        assert sick.check().passed
        gpu.clock.sleep(10.0)
        sick.launches[0]()
        assert sick.digest() != digest or work.name == "memory"
        assert not sick.check().passed


def test_what_is_verified_is_small_and_says_so():
    _, prepared = prepare(Matmul(16384, 16384, 16384, "bf16"))
    found = prepared.check()
    assert "of 256x256x256, computed on a CPU" in found.rule
    assert math.isfinite(found.error)


def test_nothing_launched_is_nothing_verified():
    accelerator = TwinAccelerator(CARD, VirtualClock(), Simulation(CARD))
    prepared = TwinPrepared(Matmul(1024, 1024, 1024, "bf16"), accelerator, fill="normal", seed=1, copies=1)
    prepared.compute_reference()
    assert not prepared.check().passed


def test_memory_is_taken_and_given_back():
    accelerator, prepared = prepare(Matmul(8192, 8192, 8192, "bf16"), copies=3)
    assert accelerator.allocated_bytes == 3 * Matmul(8192, 8192, 8192, "bf16").resident_bytes
    del prepared
    assert accelerator.allocated_bytes == 0
    with pytest.raises(torch.OutOfMemoryError):
        prepare(Matmul(150_000, 150_000, 150_000, "fp64"))
