"""From the driver to the verdict: the engine, a GPU's device and the real nvidia-ml-py in its process, over a
C library that throttles, caps, hangs and dies by a scenario. Only the launches are made up: each takes a
millisecond on a clock beside the host's.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from nameplate.device.cuda import CudaDevice
from nameplate.device.identity import CudaIdentity
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from nameplate.telemetry import nvml as client
from nameplate.telemetry.nvml import NvmlClient
from nameplate_kernels.workload import CheckResult

pytestmark = pytest.mark.process
UUID = "GPU-a8000000-0000-4000-8000-000000000000"
IDENTITY = CudaIdentity(
    name="NVIDIA A800-SXM4-80GB", index=0, uuid=UUID, memory_bytes=80 << 30, l2_bytes=40 << 20
)
LAUNCH_S = 1e-3
DEADLINE_S = 1.0


class Gpu:
    """Launches are done one after the other, whatever the host does meanwhile."""

    def __init__(self):
        self.done_s = 0.0

    def launch(self):
        self.done_s = max(self.done_s, time.perf_counter()) + LAUNCH_S

    def Event(self, *, enable_timing):  # noqa: N802 - torch's own name
        return Event(self)

    def synchronize(self, device=None):
        time.sleep(max(self.done_s - time.perf_counter(), 0.0))

    def mem_get_info(self, device=None):
        return 60 << 30, 80 << 30

    def memory_reserved(self, device=None):
        return 4 << 30


class Event:
    def __init__(self, gpu):
        self.gpu, self.at_s = gpu, 0.0

    def record(self):
        self.at_s = max(self.gpu.done_s, time.perf_counter())

    def elapsed_time(self, later):
        return (later.at_s - self.at_s) * 1e3


@dataclass(frozen=True)
class Work:
    """A product of 100 GFLOP that isn't one; as `prepare`d it is its own launches."""

    gpu: Gpu
    shape: str = "1"
    name: str = "matmul"
    dtype: str = "fp16"
    dimensions: dict = field(default_factory=dict)
    flops: int = 10**11
    bytes: int = 10**6
    resident_bytes: int = 10**6
    convention: str = "2MNK"
    represents: str | None = None

    @property
    def launches(self):
        return (self.gpu.launch,)

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        return self

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return CheckResult("fp64", 0.25, "rounding")

    def digest(self):
        return "the same"


@pytest.fixture
def measured(use_nvml, monkeypatch):
    """Measure a case for a second and a half on a GPU whose driver answers by these lines."""

    def measure(*parts, pids_match=True):
        monkeypatch.setattr(client, "pids_match", lambda: pids_match)
        use_nvml("eight_a800", *parts)
        with NvmlClient(deadline_s=DEADLINE_S, start_s=20.0) as nvml:
            gpu = Gpu()
            device = CudaDevice(IDENTITY, gpu, nvml)
            (record,) = measure_group([Case(Work(gpu, "1"))], device, Pilots(device, 1), Allowance(1.8, 20.0))
        assert record.status == "ok"
        assert record.tflops == pytest.approx(100.0, rel=0.05)
        return record

    return measure


@pytest.mark.long
def test_an_idle_gpu_is_clean_and_its_ceiling_is_the_datasheet(measured):
    record = measured("gpu.0.clock_event_reasons = 0x0")
    assert record.verdicts == ("clean",)
    assert record.conditions["gpu_readings"] >= 3
    assert record.conditions["gpu_sm_clock_mhz"] == 1410
    assert record.ceiling_tflops == pytest.approx(312.0, rel=2e-3)
    assert record.normalized_efficiency == pytest.approx(record.tflops / record.ceiling_tflops)


@pytest.mark.long
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
def test_a_card_that_falls_off_the_bus_leaves_no_telemetry(measured):
    record = measured("gpu.0.lost_after = 60")
    assert record.verdict == "unknown"
    assert any("NVML_ERROR_GPU_IS_LOST" in warning for warning in map(str, record.warnings))
