"""The self-test against a bare loop: its arithmetic, and that it can fail."""

from contextlib import nullcontext

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.selftest import bare as selftest
from nameplate.selftest.bare import TOLERANCE, BareResult, _compare
from nameplate_kernels import Matmul

FLOPS = 2 * 1024**3


def rounds(true_ratio, count=40, noise=0.01, common=0.2, seed=5):
    """Paired rounds: the bare loop takes `true_ratio` times the engine's time; both share a disturbance."""
    generator = np.random.default_rng(seed)
    shared = np.exp(common * generator.standard_normal(count))
    engine_s = 0.5 * shared * np.exp(noise * generator.standard_normal(count))
    return engine_s, true_ratio * 0.5 * shared * np.exp(noise * generator.standard_normal(count))


def test_figures_are_the_work_by_total_time():
    result = _compare("case", np.array([1.0, 3.0]), np.array([2.0, 3.0]), round_flops=10 * FLOPS)
    assert result.engine_tflops == pytest.approx(FLOPS * 20 / 4.0 / 1e12)
    assert result.bare_tflops == pytest.approx(FLOPS * 20 / 5.0 / 1e12)
    assert result.ratio == pytest.approx(5 / 4)
    assert result.ratio == pytest.approx(result.engine_tflops / result.bare_tflops)
    assert (result.case, result.rounds) == ("case", 2)


@pytest.mark.stat
def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(400):
        result = _compare("case", *rounds(1.01, seed=seed), round_flops=10 * FLOPS)
        held += result.ratio_low <= 1.01 <= result.ratio_high
    assert 0.90 <= held / 400 <= 0.985


def test_a_disturbance_that_both_share_does_not_widen_the_interval():
    result = _compare("case", *rounds(1.0, common=0.5), round_flops=10 * FLOPS)
    assert result.ratio_low <= result.ratio <= result.ratio_high
    assert result.ratio_high - result.ratio_low < 0.02


@pytest.mark.parametrize(
    ("true_ratio", "passed"),
    [(1.0, True), (1.015, True), (0.985, True), (1.03, False), (0.97, False), (2.0, False)],
)
def test_the_verdict_is_by_the_tolerance(true_ratio, passed):
    result = _compare("case", *rounds(true_ratio, noise=0.0), round_flops=10 * FLOPS)
    assert result.ratio == pytest.approx(true_ratio)
    assert result.passed is passed
    assert ("NOT within" in result.describe()) is not passed
    assert "2.0%" in result.describe()


def test_json_carries_every_figure_and_the_verdict():
    row = BareResult("case", 2.0, 1.0, 2.0, 1.9, 2.1, rounds=7).as_json()
    assert row == {
        "case": "case",
        "engine_tflops": 2.0,
        "bare_tflops": 1.0,
        "ratio": 2.0,
        "ratio_low": 1.9,
        "ratio_high": 2.1,
        "rounds": 7,
        "tolerance": TOLERANCE,
        "passed": False,
    }


@pytest.fixture
def opened(monkeypatch):
    """A simulated device, and the comparison's inner part replaced by a note that it was reached."""
    device = SimulatedDevice(make_steady(0.01))
    monkeypatch.setattr(selftest, "find_device_names", lambda flag: [flag])
    monkeypatch.setattr(selftest, "open_device", lambda name: device)
    monkeypatch.setattr(selftest, "_make_bare_loop", lambda opened, edge, seed: edge)
    monkeypatch.setattr(selftest, "_interleave", lambda case, sampler, bare, *rest: (case.id, bare))
    return device


def test_the_case_that_is_compared_is_the_smoke_suites_bf16_product(opened):
    case, edge = selftest.compare_with_bare_loop("cpu", budget_s=1.0)
    assert (case, edge) == ("matmul/bf16/1024x1024x1024/normal/warm/-/torch", 1024)


class _Prepared:
    launches = (lambda: None,)
    numerics = staticmethod(nullcontext)


def test_on_a_gpu_the_product_takes_longer_than_its_launch(opened, monkeypatch):
    monkeypatch.setattr(opened, "kind", "cuda")
    monkeypatch.setattr(opened, "cache_bytes", 50 << 20)
    prepared_edges = []

    def prepare(work, *_, **__):  # 0.4 GB a buffer set, and 550 GFLOP each launch: not on a CPU
        prepared_edges.append(work.m)
        return _Prepared()

    monkeypatch.setattr(Matmul, "prepare", prepare)
    case, edge = selftest.compare_with_bare_loop("cuda", budget_s=1.0)
    assert (case, edge) == ("matmul/bf16/8192x8192x8192/normal/rotating/-/torch", 8192)
    assert prepared_edges == [8192]


@pytest.mark.parametrize("budget_s", [0.0, -5.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(opened, budget_s):
    with pytest.raises(InputError, match="--budget"):
        selftest.compare_with_bare_loop("cpu", budget_s=budget_s)


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="--device: unknown device; got 'tpu'"):
        selftest.compare_with_bare_loop("tpu")
