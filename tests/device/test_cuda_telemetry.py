"""What the driver says of an open GPU: readings, rows, hasty ones, and reasons where there are none."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cuda_stand_in import IDENTITY, Gpu, wait_for_rows
from nameplate.base.errors import InputError
from nameplate.device import cuda
from nameplate.device.cuda import CudaDevice
from nameplate.engine.conditions import conditions_between
from nameplate.telemetry.gpu import GpuReading
from nameplate.telemetry.nvml import NvmlClient
from nvml_clients import FIRST


def test_a_gpu_without_a_uuid_has_counters_without_figures_and_a_reason(gpu):
    counters = CudaDevice(IDENTITY, gpu).counters()
    assert (counters.process_cpu_s, counters.busy_cpu_s, counters.steal_s) == (None, None, None)
    assert counters.gpu.power_w is None
    assert "no UUID" in str(counters.gpu.why_absent("power_w"))


class Sampled:
    """A client whose process has sampled at these times, in seconds, since it was asked last."""

    def __init__(self, gpu):
        self.gpu, self.watching, self.pending_s, self.hastened = gpu, [], [], []

    def reading(self, uuid):
        self.gpu.now_s += 1e-3
        return GpuReading(uuid=uuid, at_s=self.gpu.now_s, power_w=1.0)

    def start_sampling(self, uuid, period_s=0.1):
        self.watching.append((uuid, period_s))

    def hasten_sampling(self, uuid, seconds):
        self.hastened.append((uuid, seconds))

    def take_readings(self, uuid):
        at_s, self.pending_s = self.pending_s, []
        return tuple(GpuReading(uuid="MIG-" + uuid, at_s=one, power_w=2.0) for one in at_s)


def sampled_device(gpu):
    client = Sampled(gpu)
    return CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), gpu, client), client


def test_telemetry_is_hastened_for_this_gpu_and_sampling_begins_first(gpu):
    device, client = sampled_device(gpu)
    device.hasten_telemetry(2.0)
    assert (client.watching, client.hastened) == ([(FIRST, 0.1)], [(FIRST, 2.0)])
    CudaDevice(IDENTITY, gpu).hasten_telemetry(2.0)  # a GPU without a UUID has no telemetry to hasten


def test_a_timeline_has_what_was_sampled_and_what_was_asked_in_order(gpu):
    device, client = sampled_device(gpu)
    for second in (1.0, 2.0):
        gpu.now_s = second
        device.counters()
    client.pending_s = [0.95, 1.05, 1.95]
    rows = device.timeline(0.0)
    assert [row.at_s for row in rows] == [0.95, 1.0, 1.05, 1.95, 2.0]
    assert [row.gpu.power_w for row in rows] == [2.0, 1.0, 2.0, 2.0, 1.0]
    assert {row.gpu.uuid for row in rows} == {FIRST}
    client.pending_s = [2.05]
    assert [row.at_s for row in device.timeline(1.95)] == [1.95, 2.0, 2.05]
    assert device.timeline(3.0) == ()


@pytest.mark.parametrize("ask", [lambda device: device.counters(), lambda device: device.timeline(0.0)])
def test_the_first_question_begins_the_sampling(gpu, ask):
    device, client = sampled_device(gpu)
    assert client.watching == []
    ask(device)
    device.counters()
    device.timeline(0.0)
    assert client.watching == [(FIRST, 0.1)]


def test_a_timeline_is_kept_for_half_an_hour_and_since_it_was_last_asked_for(gpu):
    device, client = sampled_device(gpu)
    client.pending_s = [10.0, 20.0]
    gpu.now_s = 20.0 + 30 * 60
    assert [row.at_s for row in device.timeline(0.0)] == [10.0, 20.0]
    assert [row.at_s for row in device.timeline(15.0)] == [20.0]
    assert [row.at_s for row in device.timeline(0.0)] == [20.0]
    assert device.timeline(gpu.now_s) == ()
    assert [row.at_s for row in device.timeline(0.0)] == [20.0]


def test_a_timeline_without_a_uuid_is_of_counters_with_the_reason(gpu):
    device = CudaDevice(IDENTITY, gpu)
    device.counters()
    (row,) = device.timeline(0.0)
    assert "no UUID" in str(row.gpu.why_absent("power_w"))


@pytest.mark.process
def test_a_timeline_where_nvml_is_absent_is_of_counters_with_the_reason(use_nvml):
    use_nvml("eight_a800", "call.nvmlInitWithFlags = error 9")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        device.counters()
        (row,) = device.timeline(0.0)
    assert "NVML_ERROR_DRIVER_NOT_LOADED" in str(row.gpu.why_absent("power_w"))


@pytest.fixture
def unsampled(monkeypatch):
    """The stand-in's totals move with each reading, and one that NVML's process takes by itself counts."""
    monkeypatch.setattr(NvmlClient, "start_sampling", lambda *_: None)


@pytest.mark.process
@pytest.mark.usefixtures("unsampled")
def test_counters_are_the_drivers_own_by_uuid(use_nvml):
    use_nvml("eight_a800", "gpu.3.temperature_c = 71", "gpu.3.field.74 = 12000000000 +1000000000")
    identity = IDENTITY.model_copy(update={"uuid": FIRST[:-1] + "3"})
    with cuda.open_nvml() as nvml:
        device = CudaDevice(identity, Gpu(), nvml)
        before, after = device.counters(), device.counters()
    assert before.gpu.temperature_c == 71
    assert before.gpu.uuid == identity.uuid
    assert after.gpu.power_throttle_s - before.gpu.power_throttle_s == pytest.approx(1.0)
    assert after.gpu.energy_j - before.gpu.energy_j == pytest.approx(30.0)
    assert before.at_s <= before.gpu.at_s <= after.at_s


@pytest.mark.process
def test_a_slice_that_nvml_names_otherwise_stays_one_gpu(use_nvml):
    """Torch says GPU- where NVML says MIG-; two readings of one slice must be subtractable, lost or not."""
    use_nvml("eight_a800", "mig")
    identity = IDENTITY.model_copy(update={"uuid": "GPU-a8000000-0000-5000-8000-000000000001"})
    with cuda.open_nvml() as nvml:
        device = CudaDevice(identity, Gpu(), nvml)
        before = device.counters()
        use_nvml("eight_a800", "mig", "call.nvmlDeviceGetClockInfo = crash")
        after = device.counters()
    assert before.gpu.temperature_c == 34
    assert after.gpu.temperature_c is None
    assert conditions_between(before, after, 1.0).gpu.change.energy_j is None


@pytest.mark.process
def test_an_nvml_that_hangs_costs_figures_and_not_the_run(use_nvml, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "4")
    use_nvml("eight_a800")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        before = device.counters()
        use_nvml("eight_a800", "call.nvmlDeviceGetClockInfo = hang")
        after, again = device.counters(), device.counters()
    assert before.gpu.temperature_c == 34
    assert "no answer within 4.0 s" in str(after.gpu.why_absent("temperature_c"))
    assert again.gpu.absent == after.gpu.absent
    assert conditions_between(before, after, 1.0).gpu.count_other_processes() is None


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_a_deadline_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv(cuda.DEADLINE, given)
    with pytest.raises(InputError, match=f"{cuda.DEADLINE}.*got '{given}'.*seconds above 0"):
        cuda.open_nvml()


@pytest.mark.process
def test_nvmls_process_samples_while_the_host_waits(use_nvml):
    use_nvml("eight_a800")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        asked = device.counters()
        rows = wait_for_rows(device, asked.at_s, 3)
    assert len(rows) >= 3
    assert asked in rows
    assert all(row.gpu.temperature_c == 34 for row in rows)
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(rows))
