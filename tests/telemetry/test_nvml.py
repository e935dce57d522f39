"""What a driver tells: the real nvidia-ml-py in its own process, over a C library that reads a scenario."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pynvml
import pytest

from nameplate.telemetry.gpu import (
    GpuFacts,
    GpuProcess,
    GpuReading,
    describe_problems,
)
from nameplate.telemetry.nvml import NvmlClient, pids_match
from nameplate.telemetry.nvml_sources import slowdown_fields
from nvml_clients import FIRST, UUID, read_first

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("no_process_left")]


# ---- what a driver tells ----


def test_eight_a800s(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient() as nvml:
        assert (nvml.absent, nvml.driver, nvml.cuda_driver, nvml.count) == (None, "550.90.07", "12.4", 8)
        gpus = nvml.gpus()
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.uuid for gpu in gpus] == [UUID.format(number) for number in range(8)]
    gpu = gpus[3]
    assert gpu.model_dump(exclude={"absent"}) == {
        "uuid": UUID.format(3),
        "index": 3,
        "parent_uuid": None,
        "name": "NVIDIA A800-SXM4-80GB",
        "serial": "1320522000003",
        "pci_bus_id": "00000000:37:00.0",
        "pci_vendor_id": "10de",
        "pci_device_id": "20f3",
        "pci_subsystem_vendor_id": "10de",
        "pci_subsystem_device_id": "179b",
        "vbios": "92.00.A0.00.05",
        "driver": "550.90.07",
        "cuda_driver": "12.4",
        "memory_bytes": 80 * 2**30,
        "cores": 6912,
        "max_sm_clock_mhz": 1410,
        "max_memory_clock_mhz": 1593,
        "power_limit_w": 400.0,
        "default_power_limit_w": 400.0,
        "persistence_mode": True,
        "ecc_mode": True,
        "mig_mode": False,
        "compute_mode": "default",
        "virtualization_mode": "none",
        "max_pcie_generation": 4,
        "max_pcie_width": 16,
        "pcie_generation": 4,
        "pcie_width": 16,
    }
    assert not gpu.absent
    assert gpu.pci_id == "10de:20f3"
    assert [describe_problems(gpu) for gpu in gpus] == [[]] * 8


def test_a_reading_has_units_and_reasons(use_nvml):
    use_nvml("eight_a800")
    before = time.perf_counter()
    facts, reading = read_first()
    assert before < reading.at_s < time.perf_counter()
    assert (reading.power_w, reading.power_source, reading.energy_j) == (61.5, "instant", 5000.0)
    assert (reading.temperature_c, reading.memory_temperature_c) == (34, 38)
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz) == (1410, 1593)
    assert reading.power_throttle_s == 12.0
    assert reading.clock_event_reasons == ("gpu_idle",)
    assert reading.throttle_reasons == ()
    assert reading.remapping_pending is False
    assert reading.power_average_w is None
    assert str(reading.why_absent("power_average_w")) == "NVML_ERROR_NOT_SUPPORTED: field 185"
    assert reading.why_absent("power_w") is None
    assert describe_problems(facts, reading) == []
    assert GpuReading.model_validate_json(reading.model_dump_json()) == reading
    assert GpuFacts.model_validate_json(facts.model_dump_json()) == facts


def test_a_gpu_is_found_by_uuid_and_not_by_place(use_nvml):
    use_nvml("eight_a800", "gpu.5.temperature_c = 71")
    with NvmlClient() as nvml:
        found = nvml.facts("a8000000-0000-4000-8000-000000000005")
        assert nvml.facts("GPU-ffffffff-0000-4000-8000-000000000000") is None
        assert nvml.reading(UUID.format(5).upper()).temperature_c == 71
        unknown = nvml.reading("GPU-ffffffff-0000-4000-8000-000000000000")
        assert unknown.temperature_c is None
        assert "no GPU GPU-ffffffff" in str(unknown.why_absent("temperature_c"))
        assert "8" in str(unknown.why_absent("temperature_c"))
        assert nvml.reading(FIRST).temperature_c == 34
    assert found is not None
    assert found.index == 5


def test_a_mixed_node_of_a_new_driver(use_nvml):
    use_nvml("eight_a800", "mixed_node")
    with NvmlClient() as nvml:
        gpus = nvml.gpus()
        h20, consumer = (nvml.reading(str(gpu.uuid)) for gpu in gpus[1:])
    assert [gpu.name for gpu in gpus] == [
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA H20",
        "NVIDIA GeForce RTX 4090 D",
    ]
    assert (h20.power_average_w, h20.recovery_action) == (118.25, "none")
    assert h20.software_thermal_throttle_s == 1.0
    assert h20.hardware_thermal_throttle_s == 2.0
    assert h20.power_brake_throttle_s == 3.0
    assert gpus[2].serial is None
    assert gpus[2].ecc_mode is None
    assert gpus[2].why_absent("serial") == "NVML_ERROR_NOT_SUPPORTED: nvmlDeviceGetSerial"
    assert consumer.ecc_uncorrected is None
    assert consumer.remapping_pending is None
    assert describe_problems(gpus[2], consumer) == []


@pytest.mark.parametrize(
    ("driver", "fields"),
    [
        ("570.172.08", ()),
        ("575.57.08", (251, 252, 253)),
        ("580.65.06", (251, 252, 253)),
        ("580.82.07", (269, 270, 271)),
        ("580.159.03", (269, 270, 271)),
        ("590.48.01", (269, 270, 271)),
        ("rel-gpu", ()),
        (None, ()),
    ],
)
def test_the_driver_decides_how_slowdowns_are_numbered(driver: str | None, fields: tuple[int, ...]):
    found, reason = slowdown_fields(driver)
    assert found == fields
    assert bool(reason) == (not fields)


def test_a_field_that_meant_something_else_is_not_read(use_nvml):
    use_nvml("eight_a800", "driver = 580.65.06\ngpu.*.field.251 = 4000000000\ngpu.*.field.269 = 3")
    _facts, reading = read_first()
    assert reading.software_thermal_throttle_s == 4.0


def test_memory_that_the_operating_system_manages_tells_of_nobody(use_nvml):
    use_nvml("eight_a800", "gpu.0.numa_node = 4\ngpu.0.memory_used_bytes = 40000000000")
    with NvmlClient() as nvml:
        superchip, card = nvml.reading(FIRST), nvml.reading(UUID.format(1))
    assert superchip.memory_used_bytes is None
    assert "operating system manages" in str(superchip.why_absent("memory_used_bytes"))
    assert card.memory_used_bytes is not None


def test_missing_functions_have_older_ones_or_a_reason(use_nvml):
    missing = (
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetSerial",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetTotalEnergyConsumption",
    )
    use_nvml("eight_a800", "gpu.*.field.4 = 2\ngpu.*.field.83 = 7000000", missing=missing)
    facts, reading = read_first()
    assert facts.serial is None
    assert str(facts.why_absent("serial")) == "function not found in this driver: nvmlDeviceGetSerial"
    assert reading.temperature_c == 34
    assert reading.clock_event_reasons == ("gpu_idle",)
    assert reading.ecc_uncorrected == 2
    assert reading.energy_j == 7000.0


def test_missing_fields_are_absent_one_by_one(use_nvml):
    use_nvml("eight_a800", "gpu.*.field.186 =\ngpu.*.field.74 = error 15\ngpu.*.field.75 = 1500000000.0")
    _facts, reading = read_first()
    assert (reading.power_w, reading.power_source) == (61.0, "usage")
    assert reading.power_throttle_s is None
    assert str(reading.why_absent("power_throttle_s")) == "NVML_ERROR_GPU_IS_LOST: field 74"
    assert reading.thermal_throttle_s == 1.5


def test_an_old_driver(use_nvml):
    use_nvml("eight_a800", "old_driver", missing=use_nvml.old_driver)
    facts, reading = read_first()
    assert (facts.driver, facts.cuda_driver, facts.cores) == ("450.248.02", "11.0", None)
    assert reading.temperature_c == 34
    assert (reading.power_w, reading.power_source) == (61.0, "usage")
    assert reading.clock_event_reasons == ("gpu_idle",)
    if hasattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v2"):  # not in nvidia-ml-py 12.535
        assert reading.processes == (GpuProcess(pid=4242, used_bytes=2**20),)
    else:
        assert "function not found" in str(reading.why_absent("processes"))
    assert reading.power_throttle_s is None
    assert "nvmlDeviceGetFieldValues" in str(reading.why_absent("power_throttle_s"))
    assert str(reading.why_absent("power_brake_throttle_s")) == "counted since driver 575: this is 450.248.02"
    assert reading.remapping_pending is None


def test_mig_slices_follow_their_card(use_nvml):
    use_nvml("eight_a800", "mig")
    with NvmlClient() as nvml:
        gpus = nvml.gpus()
        readings = [nvml.reading(str(gpu.uuid)) for gpu in gpus]
        # torch gives the UUID without its kind, and the harness puts GPU- before it
        assert nvml.reading("GPU-a8000000-0000-5000-8000-000000000001").processes
    assert [(gpu.index, gpu.is_mig_slice, gpu.mig_mode) for gpu in gpus] == [
        (0, False, True),
        (0, True, True),
        (0, True, True),
        (1, False, False),
    ]
    card, one, other, _whole = gpus
    assert one.name == "NVIDIA A800-SXM4-80GB MIG 3g.40gb"
    assert one.memory_bytes == 42412802048
    assert one.max_sm_clock_mhz == 1410
    assert (card.parent_uuid, one.parent_uuid) == (None, card.uuid)
    assert readings[1].power_w is None
    assert readings[1].energy_j is None
    assert "no power of its own" in str(readings[1].why_absent("energy_j"))
    assert readings[1].temperature_c == 34
    assert readings[1].processes == ()
    assert readings[2].processes == (GpuProcess(pid=4242, used_bytes=2**20),)
    assert readings[0].gpu_utilization_percent is None
    (said,) = describe_problems(card)
    assert "MIG is on for GPU 0" in said
    assert "nvidia-smi -i 0 -mig 0" in said
    assert "a MIG slice of GPU 0" in describe_problems(other)[0]
    assert "-mig 0" not in describe_problems(other)[0]  # whoever made the slices wants them


@pytest.mark.parametrize(
    "parts",
    [
        ("eight_a800",),
        ("eight_a800", "mixed_node"),
        ("eight_a800", "mig"),
        ("eight_a800", "old_driver"),
        ("eight_a800", "gpu.*.lost_after = 12"),
        ("eight_a800", "gpu.*.lost_after = 45"),
    ],
)
def test_every_absent_figure_has_its_reason(use_nvml, parts: tuple[str, ...]):
    use_nvml(*parts, missing=use_nvml.old_driver if "old_driver" in parts else ())
    with NvmlClient() as nvml:
        gpus = nvml.gpus()
        seen = [*gpus, *(nvml.reading(str(gpu.uuid)) for gpu in gpus)]
    for one in seen:
        figures = set(type(one).model_fields) - {"absent", "power_source", "parent_uuid"}
        assert {name for name in figures if getattr(one, name) is None and not one.why_absent(name)} <= {
            "own_processes_seen",
            "own_memory_bytes",  # the device's, not the driver's
        }
        assert {name for name in one.absent if name != "*" and getattr(one, name) is not None} == set()


# ---- other processes ----


def test_own_processes_are_left_out(use_nvml):
    use_nvml("eight_a800", "gpu.0.processes = 77:1073741824 self:512 78:\ngpu.1.processes = self:512")
    with NvmlClient() as nvml:
        first, second = nvml.reading(FIRST), nvml.reading(UUID.format(1))
        as_everyone = nvml.reading(FIRST, own_pids={os.getpid(), 77, 78})
        facts = nvml.gpus()[0]
    assert first.processes == (GpuProcess(pid=77, used_bytes=2**30), GpuProcess(pid=78, used_bytes=None))
    assert (first.own_processes_seen, first.other_processes) == (1, True)
    assert (second.processes, second.other_processes) == ((), False)
    assert (as_everyone.own_processes_seen, as_everyone.other_processes) == (3, False)
    assert describe_problems(facts, first) == [
        "2 other processes are on GPU 0 holding 1.0 GiB (pid 77, 78): end them, or wait"
    ]


@pytest.mark.parametrize(
    ("others", "own_seen", "match", "expected"),
    [
        (0, 1, False, False),
        (1, 1, False, True),
        (0, 0, True, False),
        (1, 0, True, True),
        (0, 0, False, None),  # a list that hides others
        (1, 0, False, None),  # its own, by the host's number
        (2, 0, False, True),
        (1, 0, None, None),
    ],
)
def test_where_process_ids_do_not_match_nobody_is_accused(others, own_seen, match, expected):
    reading = GpuReading(
        uuid=FIRST,
        at_s=0.0,
        processes=tuple(GpuProcess(pid=pid) for pid in range(others)),
        own_processes_seen=own_seen,
        pids_match=match,
    )
    assert reading.other_processes is expected


def test_the_namespace_of_process_ids_is_told_by_its_number(tmp_path: Path):
    (tmp_path / "host").symlink_to("pid:[4026531836]")
    (tmp_path / "container").symlink_to("pid:[4026533017]")
    assert pids_match(tmp_path / "host") is True
    assert pids_match(tmp_path / "container") is False
    assert pids_match(tmp_path / "nowhere") is None
