"""Sampling a GPU: the real nvidia-ml-py in its process, over a C library that answers from a scenario."""

from __future__ import annotations

import signal
import threading
import time

import psutil
import pytest

from nameplate.telemetry.gpu import GpuReading, subtract_readings
from nameplate.telemetry.nvml import NvmlClient
from nameplate.telemetry.nvml_sources import MOVING
from nameplate.telemetry.timeline import samples_inside

pytestmark = pytest.mark.process
UUID = "GPU-a8000000-0000-4000-8000-00000000000{}"
FIRST = UUID.format(0)
DEADLINE_S = 1.0


def workers():
    """The processes there are of it; one that ended and was not waited for counts as none."""
    found = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in found if "nvml_worker" in " ".join(one.cmdline())]


def rows_of(nvml, uuid, least, within_s=20.0):
    """Drain until there are so many rows; what came until then where time runs out."""
    found = []
    end_s = time.monotonic() + within_s
    while len(found) < least and time.monotonic() < end_s and nvml.absent is None:
        time.sleep(0.05)
        found += nvml.take_readings(uuid)
    return found


def wait_until(told, within_s=20.0):
    end_s = time.monotonic() + within_s
    while not told() and time.monotonic() < end_s:
        time.sleep(0.05)
    assert told()


@pytest.mark.long
@pytest.mark.alone
def test_rows_come_by_themselves_some_ten_a_second(use_nvml):
    use_nvml("eight_a800", "gpu.0.energy_mj = 5000000 +61000/s")
    with NvmlClient() as nvml:
        before_s = time.perf_counter()
        nvml.start_sampling(FIRST)
        time.sleep(1.5)
        rows = nvml.take_readings(FIRST)
        after_s = time.perf_counter()
        later = rows_of(nvml, FIRST, 2)
    at_s = [row.at_s for row in rows]
    assert 5 <= len(rows) <= (after_s - before_s) * 10 + 2
    assert before_s < at_s[0]
    assert at_s[-1] < after_s < later[-1].at_s
    assert at_s == sorted(set(at_s))
    assert all(row.at_s > at_s[-1] for row in later)
    energy_j = [row.energy_j for row in rows]
    assert energy_j == sorted(set(energy_j))
    span = (at_s[0], at_s[-1])
    assert samples_inside(at_s, energy_j, [span]).pace() == pytest.approx(61.0, rel=0.5)


def test_a_row_is_a_light_reading(use_nvml):
    use_nvml("eight_a800", "mixed_node", "gpu.1.field.142 = 7")
    uuid = "GPU-20000000-0000-4000-8000-000000000001"
    with NvmlClient() as nvml:
        nvml.start_sampling(uuid.removeprefix("GPU-").upper())
        (row, *_) = rows_of(nvml, uuid, 1)
        full = nvml.reading(uuid)
    shown = {name: getattr(row, name) for name in MOVING}
    assert shown | {"at_s": 0, "energy_j": 0} == {
        "at_s": 0,
        "energy_j": 0,
        "power_w": 61.5,
        "power_source": "instant",
        "power_average_w": 118.25,
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": 1593,
        "temperature_c": 34,
        "memory_temperature_c": 38,
        "clock_event_reasons": ("gpu_idle",),
        "power_throttle_s": 12.0,
        "thermal_throttle_s": 0.0,
        "software_thermal_throttle_s": 1.0,
        "hardware_thermal_throttle_s": 2.0,
        "power_brake_throttle_s": 3.0,
        "gpu_utilization_percent": 0,
        "memory_utilization_percent": 0,
        "pcie_generation": 4,
        "pcie_width": 16,
    }
    assert row.uuid == full.uuid == uuid
    assert row.remapped_rows_correctable is None
    assert full.remapped_rows_correctable == 7
    for figure in ("processes", "ecc_uncorrected", "remapping_pending", "memory_used_bytes", "pcie_replays"):
        assert str(row.why_absent(figure)) == "not asked while watching"
    assert row.other_processes is None
    assert subtract_readings(row, full).energy_j is not None
    assert GpuReading.model_validate_json(row.model_dump_json()) == row


@pytest.mark.parametrize("parts", [(), ("mixed_node",), ("mig",), ("old_driver",)])
def test_every_absent_figure_of_a_row_has_its_reason(use_nvml, parts):
    use_nvml("eight_a800", *parts, missing=use_nvml.old_driver if "old_driver" in parts else ())
    with NvmlClient() as nvml:
        uuids = [gpu.uuid for gpu in nvml.gpus()][:3]
        for uuid in uuids:
            nvml.start_sampling(uuid)
        rows = [row for uuid in uuids for row in rows_of(nvml, uuid, 1)]
    assert {row.uuid for row in rows} == set(uuids)
    for row in rows:
        figures = set(GpuReading.model_fields) - {"absent", "power_source"}
        assert {name for name in figures if getattr(row, name) is None and not row.why_absent(name)} == set()
        assert {name for name in row.absent if getattr(row, name) is not None} == set()


def test_sampling_again_changes_nothing_and_loses_no_row(use_nvml):
    use_nvml("eight_a800", "gpu.0.energy_mj = 0 +1000")
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        time.sleep(0.3)
        nvml.start_sampling(FIRST, period_s=5.0)
        energy_j = [row.energy_j for row in rows_of(nvml, FIRST, 8)]
    assert energy_j == [float(count) for count in range(len(energy_j))]
    assert len(energy_j) >= 8


def test_sampling_is_hastened_for_a_while(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient() as nvml:
        nvml.hasten_sampling(FIRST, 60.0)  # not sampled yet: nothing to hasten, and no error
        assert nvml.absent is None
        nvml.start_sampling(FIRST, period_s=300.0)
        nvml.hasten_sampling(FIRST, 60.0)
        assert len(rows_of(nvml, FIRST, 20)) >= 20  # at its own pace that would take hours


def test_what_is_not_sampled_has_no_rows(use_nvml):
    use_nvml("eight_a800")
    nowhere = "GPU-ffffffff-0000-4000-8000-000000000000"
    with NvmlClient() as nvml:
        assert nvml.take_readings(FIRST) == ()
        nvml.start_sampling(nowhere)
        assert nvml.take_readings(nowhere) == ()
        assert nvml.absent is None
        assert nvml.reading(FIRST).temperature_c == 34


@pytest.mark.long
def test_a_card_that_starts_throttling(use_nvml):
    use_nvml(
        "eight_a800",
        "gpu.0.clock_event_reasons = 0x0 @1 0x40\ngpu.0.sm_clock_mhz = 1410 @1 1005\n"
        "gpu.0.field.75 = 0 @1 7000000000",
    )
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        rows = []
        wait_until(lambda: rows.extend(nvml.take_readings(FIRST)) or (rows and rows[-1].thermal_throttle_s))
    throttled = [row.throttle_reasons for row in rows]
    onset = throttled.index(("hw_thermal_slowdown",))
    assert onset > 0
    assert set(throttled[:onset]) == {()}
    assert set(throttled[onset:]) == {("hw_thermal_slowdown",)}
    assert (rows[0].sm_clock_mhz, rows[-1].sm_clock_mhz) == (1410, 1005)


def test_requests_and_samples_share_the_process(use_nvml):
    use_nvml("eight_a800")
    readings, rows = [], []
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        nvml.start_sampling(UUID.format(5))
        asking = threading.Thread(target=lambda: readings.extend(nvml.reading(FIRST) for _ in range(150)))
        asking.start()
        while asking.is_alive():
            rows += nvml.take_readings(FIRST)
            time.sleep(0.02)
        rows += rows_of(nvml, FIRST, 1)
        others = rows_of(nvml, UUID.format(5), 1)
        assert nvml.absent is None
    assert [reading.temperature_c for reading in readings] == [34] * 150
    assert [row.temperature_c for row in rows] == [34] * len(rows)
    at_s = [row.at_s for row in rows]
    assert at_s == sorted(set(at_s))
    assert {row.uuid for row in others} == {UUID.format(5)}


@pytest.mark.long
@pytest.mark.alone
def test_samples_slower_than_their_period_leave_room_for_requests(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetUtilizationRates = wait 0.25")
    with NvmlClient(deadline_s=5) as nvml:
        nvml.start_sampling(FIRST)
        began_s = time.perf_counter()
        facts = [nvml.facts(UUID.format(1)) for _ in range(4)]
        rows = rows_of(nvml, FIRST, 3)
        elapsed_s = time.perf_counter() - began_s
        assert nvml.absent is None
    assert all(facts)
    assert 3 <= len(rows) <= elapsed_s / 0.5 + 2  # a quarter of a second each, and as long between


@pytest.mark.long
def test_a_hang_costs_rows_and_one_deadline(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang after 3")
    with NvmlClient(deadline_s=DEADLINE_S) as nvml:
        nvml.start_sampling(FIRST)
        time.sleep(1)
        began_s = time.monotonic()
        rows = nvml.take_readings(FIRST)
        assert DEADLINE_S * 0.9 < time.monotonic() - began_s < DEADLINE_S + 5
        assert rows == ()
        assert "no answer within 1.0 s" in str(nvml.why_unread(FIRST))
        assert workers() == []
        began_s = time.monotonic()
        nvml.start_sampling(FIRST)
        assert [nvml.take_readings(FIRST) for _ in range(100)] == [()] * 100
        assert nvml.reading(FIRST).why_absent("power_w") == nvml.why_unread(FIRST)
        assert time.monotonic() - began_s < DEADLINE_S


@pytest.mark.long
def test_a_hang_that_nobody_asks_about_is_ended_too(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang after 3")
    with NvmlClient(deadline_s=0.5, start_s=2) as nvml:
        nvml.start_sampling(FIRST)
        wait_until(lambda: workers() == [])
        assert nvml.take_readings(FIRST) == ()
        assert "NVML was stuck for 3.0 s and ended: its driver hangs" in str(nvml.why_unread(FIRST))


def test_the_death_of_the_process_costs_rows(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        assert rows_of(nvml, FIRST, 2)
        workers()[0].kill()
        wait_until(lambda: nvml.take_readings(FIRST) == () and nvml.why_unread(FIRST))
        assert str(nvml.why_unread(FIRST)) == "NVML's process ended (exit status -9)"


def test_a_driver_that_crashes_while_sampled(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetFieldValues = crash after 4")
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        wait_until(lambda: nvml.take_readings(FIRST) == () and nvml.why_unread(FIRST))
        assert str(nvml.why_unread(FIRST)) == f"NVML's process ended (exit status -{signal.SIGABRT:d})"


def test_a_card_that_is_lost_is_told_by_its_rows_and_no_others(use_nvml):
    use_nvml("eight_a800", "gpu.0.lost_after = 60")
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        nvml.start_sampling(UUID.format(1))
        rows = []
        wait_until(lambda: rows.extend(nvml.take_readings(FIRST)) or (rows and rows[-1].energy_j is None))
        others = rows_of(nvml, UUID.format(1), 2)
        assert nvml.absent is None
    assert rows[0].energy_j is not None
    assert rows[-1].lost
    assert rows[-1].why_absent("sm_clock_mhz") == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetClock"
    assert not any(row.lost or row.energy_j is None for row in others)


def test_where_there_is_no_nvml_sampling_is_for_nothing(tmp_path, monkeypatch, use_nvml):
    (tmp_path / use_nvml.library).write_text("no library\n" * 100)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        assert nvml.take_readings(FIRST) == ()
        assert nvml.absent == "NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit"
    nvml.start_sampling(FIRST)
    assert nvml.take_readings(FIRST) == ()


# The worker's own ring and protocol, with a past that would take twenty minutes.
_FULL_RING = """
from nameplate.telemetry.nvml_library import Answer
from nameplate.telemetry.nvml_worker import MOVING, NvmlService, _SampledGpu
from nameplate.telemetry.sampling import serve

class Nvml:
    taken, count = 0, 1
    system = Answer({"driver": "590.48.01", "cuda_driver": "13.1"})
    def light_reading(self):
        self.taken += 1
        values = dict.fromkeys(MOVING, 1410) | {"at_s": 1e4 + self.taken / 10, "energy_j": 6.1 * self.taken}
        values |= {"power_source": None, "power_average_w": None}
        return Answer(values, {"power_average_w": "NVML_ERROR_NOT_SUPPORTED: field 185"})

def start():
    nvml = Nvml()
    service = NvmlService(nvml)
    gpu = service._sampled["full"] = _SampledGpu("GPU-full", nvml.light_reading, 0.1)
    for _ in range(12_050):
        gpu.sampler.take()
    gpu.sampler.due_s += 3600
    return service

serve(start)
"""


def test_a_full_ring_is_handed_over_within_the_deadline(tmp_path, monkeypatch):
    (tmp_path / "full_ring.py").write_text(_FULL_RING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(NvmlClient, "module", "full_ring")
    with NvmlClient() as nvml:
        rows = list(nvml.take_readings("GPU-full"))
        assert rows
        rows += rows_of(nvml, "GPU-full", 12_000 - len(rows))  # on a slow machine one call may not take all
        assert nvml.absent is None
        assert nvml.dropped == 50
        assert nvml.take_readings("GPU-full") == ()
    assert len(rows) == 12_000
    assert [row.at_s for row in rows] == pytest.approx([1e4 + taken / 10 for taken in range(51, 12_051)])
    assert rows[0].why_absent("power_average_w") == "NVML_ERROR_NOT_SUPPORTED: field 185"
