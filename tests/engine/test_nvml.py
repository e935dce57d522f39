"""From the driver to the verdict: the engine, a GPU's device and the real nvidia-ml-py in its process, over a
C library that throttles, caps, hangs and dies by a scenario. Only the launches are made up: each takes a
millisecond on a clock beside the host's.
"""

from __future__ import annotations

import time

import pytest

from nameplate.device.cuda import CudaDevice
from nameplate.device.identity import CudaIdentity
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from nameplate.telemetry import nvml as client
from nameplate.telemetry.nvml import NvmlClient
from stand_ins import HostClockGpu, Work

pytestmark = pytest.mark.process
UUID = "GPU-a8000000-0000-4000-8000-000000000000"
IDENTITY = CudaIdentity(
    name="NVIDIA A800-SXM4-80GB", index=0, uuid=UUID, memory_bytes=80 << 30, l2_bytes=40 << 20
)
FLOPS = 10**11  # of a launch, which takes a millisecond
DEADLINE_S = 1.0


@pytest.fixture
def measured(use_nvml, monkeypatch):
    """Measure a case for a second and a half on a GPU whose driver answers by these lines."""

    def measure(*parts, pids_match=True):
        monkeypatch.setattr(client, "pids_match", lambda: pids_match)
        use_nvml("eight_a800", *parts)
        with NvmlClient(deadline_s=DEADLINE_S, start_s=20.0) as nvml:
            gpu = HostClockGpu(launch_s=1e-3)
            work = Work((gpu.launch,), flops=FLOPS, bits="the same")
            device = CudaDevice(IDENTITY, gpu, nvml)
            (record,) = measure_group([Case(work)], device, Pilots(device, 1), Allowance(1.8, 20.0))
        assert record.status == "ok"
        assert record.tflops == pytest.approx(100.0, rel=0.05)
        return record

    return measure


@pytest.mark.long
@pytest.mark.alone
def test_an_idle_gpu_is_clean_and_its_ceiling_is_the_datasheet(measured):
    record = measured("gpu.0.clock_event_reasons = 0x0")
    assert record.verdicts == ("clean",)
    assert record.conditions["gpu_readings"] >= 3
    assert record.conditions["gpu_sm_clock_mhz"] == 1410
    assert record.ceiling_tflops == pytest.approx(312.0, rel=2e-3)
    assert record.normalized_efficiency == pytest.approx(record.tflops / record.ceiling_tflops)


@pytest.mark.long
@pytest.mark.alone
def test_a_capped_gpu_is_held_at_its_power_limit(measured):
    record = measured(
        "gpu.0.clock_event_reasons = 0x4",
        "gpu.0.sm_clock_mhz = 1200",
        "gpu.0.field.74 = 12000000000 +900000000/s",
    )
    assert record.verdicts == ("power_capped",)
    assert str(record.loss) == "power limit 15%"
    assert record.ceiling_tflops == pytest.approx(312.0 * 1200 / 1410, rel=2e-3)
    assert any("at its power limit" in warning for warning in map(str, record.warnings))


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("processes", ["", "40000:1024"], ids=["hidden", "listed under another id"])
def test_in_a_containers_view_of_process_ids_records_are_trusted(measured, processes):
    quiet = (
        f"gpu.0.processes = {processes}",
        "gpu.0.memory_used_bytes = 5368709120",
        "gpu.0.gpu_utilization = 0",
        "gpu.0.clock_event_reasons = 0x0",
    )
    record = measured(*quiet, pids_match=False)
    assert record.verdicts == ("clean",)
    assert record.trusted
    assert record.conditions["gpu_foreign_memory_gib"] == pytest.approx(0.5)
    assert record.conditions["gpu_idle_utilization"] == 0.0
    assert "company_judged" in record.warning_codes
    beside = measured(*quiet[:2], "gpu.0.gpu_utilization = 30", quiet[3], pids_match=False)
    assert beside.verdicts == ("contended",)


@pytest.mark.long
@pytest.mark.alone
def test_a_hot_gpu_is_throttled_by_heat(measured):
    record = measured(
        "gpu.0.clock_event_reasons = 0x20",
        "gpu.0.sm_clock_mhz = 1000",
        "gpu.0.temperature_c = 91",
        "gpu.0.field.75 = 0 +600000000/s",
    )
    assert record.verdicts == ("throttled",)
    assert str(record.loss) == "heat 29%"
    assert record.conditions["gpu_temperature_c"] == 91


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize(
    "line", ["call.nvmlDeviceGetFieldValues = hang after 3", "call.nvmlDeviceGetFieldValues = crash after 3"]
)
def test_a_driver_that_hangs_or_dies_in_a_window_costs_only_telemetry(measured, line):
    begin = time.monotonic()
    record = measured(line)
    assert record.verdicts == ("unknown",)
    assert any("can't be judged" in warning for warning in map(str, record.warnings))
    assert time.monotonic() - begin < 30.0  # a few deadlines, not for ever


@pytest.mark.long
@pytest.mark.alone
def test_a_card_that_falls_off_the_bus_leaves_no_telemetry(measured):
    record = measured("gpu.0.lost_after = 60")
    assert record.verdict == "unknown"
    assert any("NVML_ERROR_GPU_IS_LOST" in warning for warning in map(str, record.warnings))
