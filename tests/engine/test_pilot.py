"""Pilots on a device whose launches have a latency and fill it only from some size on."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest

from nameplate.device.simulated import SimulatedCheck, SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.engine.pilot import Pilots
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.memory import Memory
from nameplate_kernels.transformer_block import TransformerBlock

LATENCY_S = 8e-6  # of a launch on an empty queue, as the events around it show it
SETUP_S = 10e-3  # kernels and synchronisations of a set-up, however small


@dataclass
class Machine(SimulatedDevice):
    """A launch on an empty queue takes its latency and then its work ÷ the speed that its size can use.

    Of several kernels, the host enqueues one while the one before runs. A set-up is slow.
    """

    latency_s: float = LATENCY_S
    flops_per_s: float = 700e12
    bytes_per_s: float = 3e12
    tiles: float = 132.0  # of 128×128, which keep every multiprocessor busy
    kernels: int = 1  # of a launch

    def seconds(self, work):
        """True seconds of a launch."""
        if work.flops is None:
            return self.latency_s + work.bytes / self.bytes_per_s
        full = min(1.0, math.ceil(work.dimensions.get("m", 4096) / 128) ** 2 / self.tiles)
        kernels_s = work.flops / (self.flops_per_s * full)
        return self.latency_s + max((self.kernels - 1) * self.latency_s, kernels_s)

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self.durations = make_steady(self.seconds(launches[0].declared))
        return super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)

    def time_empty_launch(self):
        return self.latency_s


@dataclass(frozen=True)
class Declared:
    """A workload's declaration, whose set-up and launches are simulated."""

    declared: object
    device: Machine
    tried: list

    def __getattr__(self, name):
        return getattr(self.declared, name)

    def pilots(self):
        return tuple(replace(self, declared=each) for each in self.declared.pilots())

    def prepare(self, device, *, fill, seed, copies=1):
        self.tried.append(self.declared.shape)
        self.device.idle(SETUP_S + 3 * self.declared.bytes / self.device.bytes_per_s)
        return self

    @property
    def launches(self):
        return (self,)

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return SimulatedCheck()


def predict(work, left_s, **machine):
    """The prediction, the truth of a launch, and the pilots that were tried."""
    device, tried = Machine(make_steady(1.0), **machine), []
    declared = Declared(work, device, tried)
    return Pilots(device, 1).predict(declared, "normal", left_s), device.seconds(work), tried, device


LARGE = Matmul(16384, 16384, 16384, "bf16")


@pytest.mark.parametrize("left_s", [1.5, 3.0])
def test_the_latency_of_a_launch_is_not_scaled(left_s):
    """From 256³ alone, 8 µs × 64³ would be 2.1 s for what takes 12.6 ms."""
    found, truth_s, tried, device = predict(LARGE, left_s)
    assert truth_s == pytest.approx(12.6e-3, rel=0.01)
    assert 0.8 * truth_s <= found.launch_s <= 4 * truth_s
    assert tried[0] == "256x256x256"
    assert device.clock() < 0.25 * left_s


@pytest.mark.parametrize("left_s", [1.0, 3.0, 20.0, 100.0])
def test_a_large_product_fits_whatever_the_budget(left_s):
    """By 256³ alone it would need 13 s."""
    found, _, _, _ = predict(LARGE, left_s)
    assert found.total_s(6) < left_s / 2


def test_a_slow_dtype_is_judged_by_a_pilot_that_fills_the_card():
    # fp64 on a consumer card: 256³ keeps 4 of 128 multiprocessors busy, for a hundred times its latency.
    work = replace(LARGE, dtype="fp64")
    found, truth_s, _, _ = predict(work, 60.0, flops_per_s=1.3e12, tiles=128.0)
    assert 0.99 * truth_s < found.launch_s < 2.5 * truth_s


def test_a_layer_of_many_kernels_is_not_predicted_from_their_latencies():
    work = TransformerBlock.llama3_8b(8192, "bf16", "forward_backward")
    found, truth_s, _, _ = predict(work, 3.0, kernels=118)
    assert truth_s <= found.launch_s <= 4 * truth_s


def test_memory_work_is_not_predicted_from_a_latency_either():
    found, truth_s, _, _ = predict(Memory("copy", "fp32", 8192), 3.0, latency_s=100e-6)
    assert truth_s * 0.9 <= found.launch_s <= 2 * truth_s


def test_a_cpu_keeps_to_the_smallest_where_a_dtype_is_a_hundred_times_slower():
    """2 GFLOPS, as fp16 without hardware: 8192³ would take ten minutes, and 512³ is not even tried."""
    found, truth_s, tried, device = predict(
        Matmul(8192, 8192, 8192, "fp16"), 5.0, flops_per_s=2e9, latency_s=1e-6, tiles=1.0
    )
    assert truth_s > 500
    assert found.launch_s == pytest.approx(truth_s, rel=0.01)
    assert set(tried) == {"256x256x256"}
    assert device.clock() < 0.5


def test_a_prediction_that_fits_anyhow_needs_no_second_pilot():
    _, _, tried, _ = predict(Matmul(2048, 2048, 2048, "bf16"), 20.0)
    assert set(tried) == {"256x256x256"}


def test_pilots_end_where_the_device_is_full():
    """A CPU is full at 256³: 512³ shows the same speed, and no larger one is tried."""
    _, _, tried, _ = predict(
        Matmul(16384, 16384, 16384, "fp32"), 60.0, flops_per_s=200e9, latency_s=1e-6, tiles=1.0
    )
    assert set(tried) == {"256x256x256", "512x512x512"}


def test_larger_pilots_are_shared_like_the_smallest():
    device, tried = Machine(make_steady(1.0)), []
    pilots = Pilots(device, 1)
    for edge in (16384, 12288):
        pilots.predict(Declared(Matmul(edge, edge, edge, "bf16"), device, tried), "normal", 5.0)
    assert len(tried) == 2 * len(set(tried))  # each was timed twice, for the first of the two
