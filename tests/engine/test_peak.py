"""The peak that a figure is held to: a healthy card boosts past the clock that its datasheet is rated at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nameplate.device.identity import CudaIdentity
from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.peak import find_peak
from nameplate.engine.pilot import Pilots
from nameplate.specs.rating import Figure, rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.suite import Case

RTX_4090 = rate_evidence(Evidence("NVIDIA GeForce RTX 4090"))


@pytest.mark.parametrize(
    ("name", "dtype", "highest_mhz", "tflops", "code"),
    [
        # Published for a 4090 at stock clocks: TF32 3.7 % and FP64 5.8 % above the datasheet.
        ("NVIDIA GeForce RTX 4090", "tf32", 3105, 82.6 * 3105 / 2520, "peak_at_highest_clock"),
        ("NVIDIA GeForce RTX 4090", "fp64", 3105, 1.29 * 3105 / 2520, "peak_at_highest_clock"),
        # Each dtype by its own rated clock.
        ("NVIDIA H100 80GB HBM3", "bf16", 1980, 989 * 1980 / 1830, "peak_at_highest_clock"),
        ("NVIDIA H100 80GB HBM3", "fp32", 1980, 67, "peak_clock_is_rated"),
        ("NVIDIA H100 80GB HBM3", "fp64", 1980, 67, "peak_clock_is_rated"),
        ("NVIDIA A800-SXM4-80GB", "bf16", 1410, 312, "peak_clock_is_rated"),
        ("NVIDIA A100-SXM4-80GB", "bf16", 1095, 312, "peak_clock_is_rated"),  # a card that was set lower
        ("NVIDIA H100 80GB HBM3", "bf16", None, 989, "peak_is_datasheet"),
        ("NVIDIA H20", "bf16", 1980, 148, "peak_is_datasheet"),  # rate-limited: no clock gives its figure
        ("NVIDIA H800", "fp64", 1980, 1, "peak_is_datasheet"),
        ("NVIDIA B300", "bf16", 1920, 2250, "peak_is_datasheet"),  # the number of SMs isn't known
    ],
)
def test_the_peak_is_the_datasheet_at_the_highest_clock(name, dtype, highest_mhz, tflops, code):
    peak = find_peak(rate_evidence(Evidence(name)), dtype, highest_mhz)
    assert peak.tflops == pytest.approx(tflops)
    assert peak.source.code == code


def test_the_source_of_a_peak_names_both_clocks():
    said = str(find_peak(RTX_4090, "tf32", 3105).source)
    assert said == "datasheet 82.6 × the card's highest clock, 3105 MHz, ÷ its rated clock, 2520 MHz"


def test_without_a_datasheet_the_user_s_rating_is_the_peak_and_without_any_there_is_none():
    unknown = rate_evidence(Evidence("NVIDIA Something New"))
    assert find_peak(unknown, "bf16", 2000) is None
    peak = find_peak(unknown.with_nominal({"bf16": 500.0}), "bf16", 2000)
    assert (peak.tflops, peak.source.code) == (500.0, "peak_is_nominal")


def test_a_user_s_rating_doesn_t_move_the_peak_of_a_known_part():
    assert find_peak(RTX_4090.with_nominal({"tf32": 10.0}), "tf32", 2520).tflops == 82.6


def measure(*, datasheet, highest_mhz):
    """Ten TFLOPS, measured on a GPU of this datasheet, rated at 1,410 MHz, with this highest clock."""
    driver = Driver(np.ones_like)
    device = SimulatedDevice(make_steady(1e-3, 0.01), seed=1, nominal_tflops=datasheet, driver=driver)
    device.identity = CudaIdentity(name="GPU", index=0, max_sm_clock_mhz=highest_mhz)
    work = SimulatedWork(device, 10**10)
    return measure_group([Case(work)], device, Pilots(device, seed=1), Allowance(6.0, 60.0))[0]


@pytest.mark.parametrize(
    ("highest_mhz", "verdict"), [(1740, "clean"), (1410, "above_peak"), (None, "above_peak")]
)
def test_a_card_that_boosts_past_its_rated_clock_is_not_above_its_peak(highest_mhz, verdict):
    record = measure(datasheet=9.5, highest_mhz=highest_mhz)  # 5.3 % above the datasheet
    assert record.datasheet_efficiency == pytest.approx(1.053, rel=0.01)
    assert record.verdict == verdict
    assert record.peak_tflops == pytest.approx(9.5 * max(1.0, (highest_mhz or 0) / 1410))
    assert str(record.peak_source)
    # The physical limit is the peak where it is by the clocks; a rating alone is none.
    limits = {record.silicon_tflops, record.silicon_tflops_low, record.silicon_tflops_high}
    assert limits == {None if highest_mhz is None else record.peak_tflops}
    assert record.silicon_source == (None if highest_mhz is None else record.peak_source)


def test_more_than_the_highest_clock_gives_is_above_the_peak():
    assert measure(datasheet=7.5, highest_mhz=1740).verdict == "above_peak"


def test_a_skipped_case_says_its_peak_too():
    device = SimulatedDevice(make_steady(1e-3, 0.01), seed=1, nominal_tflops=9.5)
    device.memory_bytes = 1
    work = replace(SimulatedWork(device, 10**10), bytes=10**12)
    record = measure_group([Case(work)], device, Pilots(device, seed=1), Allowance(6.0, 60.0))[0]
    assert (record.status, record.peak_tflops) == ("skipped", 9.5)
    assert device.rating.nominal_for("fp32") == Figure(9.5, "the simulation's own truth")
