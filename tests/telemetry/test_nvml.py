"""The real nvidia-ml-py, in its own process, over a C library that answers from a scenario file."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pynvml
import pytest

from nameplate.telemetry.gpu import (
    POLICIES,
    GpuFacts,
    GpuProcess,
    GpuReading,
    decode_clock_event_reasons,
    describe_problems,
    subtract_readings,
)
from nameplate.telemetry.nvml import NvmlClient, pids_match
from nameplate.telemetry.nvml_sources import slowdown_fields

pytestmark = pytest.mark.process
_UUID = "GPU-a8000000-0000-4000-8000-00000000000{}"
_FIRST = _UUID.format(0)
Use = Callable[..., Path]


def _load_builder() -> ModuleType:
    path = Path(__file__).parents[1] / "nvml_stub" / "build.py"
    spec = importlib.util.spec_from_file_location("nvml_stub_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stub = _load_builder()
needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or stub.compiler() is None,
    reason="no C compiler (cc, gcc or $CC) on Linux to build the stand-in for NVML with",
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """Build the stub once for each set of functions left out."""
    built: dict[tuple[str, ...], Path] = {}

    def get(missing: tuple[str, ...]) -> Path:
        if missing not in built:
            built[missing] = stub.build(tmp_path_factory.mktemp("nvml"), missing)
        return built[missing]

    return get


@pytest.fixture
def use(library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Have NVML answer from a scenario; called again, it changes what a running one answers."""

    def use(*parts: str, missing: tuple[str, ...] = ()) -> Path:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library(missing)))
        path = stub.write_scenario(tmp_path / "scenario.txt", *parts)
        monkeypatch.setenv(stub.SCENARIO, str(path))
        return path

    return use


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Leave nothing behind: neither a process nor the exit status of one (a zombie)."""
    before = _workers(psutil.Process())
    yield
    assert [one for one in _workers(psutil.Process()) if one not in before] == []


def _workers(parent: psutil.Process) -> list[psutil.Process]:
    return [one for one in parent.children() if _is_worker(one)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return (
            process.status() == psutil.STATUS_ZOMBIE or "nameplate.telemetry.nvml_worker" in process.cmdline()
        )
    except psutil.NoSuchProcess:
        return False


def _first(*, own_pids: set[int] | None = None) -> tuple[GpuFacts, GpuReading]:
    with NvmlClient() as nvml:
        facts = nvml.gpus()[0]
        assert facts.uuid is not None
        return facts, nvml.reading(facts.uuid, own_pids)


# ---- what a driver tells ----


@needs_compiler
def test_eight_a800s(use: Use):
    use("eight_a800")
    with NvmlClient() as nvml:
        assert (nvml.absent, nvml.driver, nvml.cuda_driver, nvml.count) == (None, "550.90.07", "12.4", 8)
        gpus = nvml.gpus()
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.uuid for gpu in gpus] == [_UUID.format(number) for number in range(8)]
    gpu = gpus[3]
    assert gpu.model_dump(exclude={"absent"}) == {
        "uuid": _UUID.format(3),
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


@needs_compiler
def test_a_reading_has_units_and_reasons(use: Use):
    use("eight_a800")
    before = time.perf_counter()
    facts, reading = _first()
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


@needs_compiler
def test_a_gpu_is_found_by_uuid_and_not_by_place(use: Use):
    use("eight_a800", "gpu.5.temperature_c = 71")
    with NvmlClient() as nvml:
        found = nvml.facts("a8000000-0000-4000-8000-000000000005")
        assert nvml.facts("GPU-ffffffff-0000-4000-8000-000000000000") is None
        assert nvml.reading(_UUID.format(5).upper()).temperature_c == 71
        unknown = nvml.reading("GPU-ffffffff-0000-4000-8000-000000000000")
        assert unknown.temperature_c is None
        assert "no GPU GPU-ffffffff" in str(unknown.why_absent("temperature_c"))
        assert "8" in str(unknown.why_absent("temperature_c"))
        assert nvml.reading(_FIRST).temperature_c == 34
    assert found is not None
    assert found.index == 5


@needs_compiler
def test_a_mixed_node_of_a_new_driver(use: Use):
    use("eight_a800", "mixed_node")
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


@needs_compiler
def test_a_field_that_meant_something_else_is_not_read(use: Use):
    use("eight_a800", "driver = 580.65.06\ngpu.*.field.251 = 4000000000\ngpu.*.field.269 = 3")
    _facts, reading = _first()
    assert reading.software_thermal_throttle_s == 4.0


@needs_compiler
def test_memory_that_the_operating_system_manages_tells_of_nobody(use: Use):
    use("eight_a800", "gpu.0.numa_node = 4\ngpu.0.memory_used_bytes = 40000000000")
    with NvmlClient() as nvml:
        superchip, card = nvml.reading(_FIRST), nvml.reading(_UUID.format(1))
    assert superchip.memory_used_bytes is None
    assert "operating system manages" in str(superchip.why_absent("memory_used_bytes"))
    assert card.memory_used_bytes is not None


@needs_compiler
def test_missing_functions_have_older_ones_or_a_reason(use: Use):
    missing = (
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetSerial",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetTotalEnergyConsumption",
    )
    use("eight_a800", "gpu.*.field.4 = 2\ngpu.*.field.83 = 7000000", missing=missing)
    facts, reading = _first()
    assert facts.serial is None
    assert str(facts.why_absent("serial")) == "function not found in this driver: nvmlDeviceGetSerial"
    assert reading.temperature_c == 34
    assert reading.clock_event_reasons == ("gpu_idle",)
    assert reading.ecc_uncorrected == 2
    assert reading.energy_j == 7000.0


@needs_compiler
def test_missing_fields_are_absent_one_by_one(use: Use):
    use("eight_a800", "gpu.*.field.186 =\ngpu.*.field.74 = error 15\ngpu.*.field.75 = 1500000000.0")
    _facts, reading = _first()
    assert (reading.power_w, reading.power_source) == (61.0, "usage")
    assert reading.power_throttle_s is None
    assert str(reading.why_absent("power_throttle_s")) == "NVML_ERROR_GPU_IS_LOST: field 74"
    assert reading.thermal_throttle_s == 1.5


@needs_compiler
def test_an_old_driver(use: Use):
    use("eight_a800", "old_driver", missing=stub.OLD_DRIVER)
    facts, reading = _first()
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


@needs_compiler
def test_mig_slices_follow_their_card(use: Use):
    use("eight_a800", "mig")
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


@needs_compiler
@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        (("eight_a800",), ()),
        (("eight_a800", "mixed_node"), ()),
        (("eight_a800", "mig"), ()),
        (("eight_a800", "old_driver"), stub.OLD_DRIVER),
        (("eight_a800", "gpu.*.lost_after = 12"), ()),
        (("eight_a800", "gpu.*.lost_after = 45"), ()),
    ],
)
def test_every_absent_figure_has_its_reason(use: Use, parts: tuple[str, ...], missing: tuple[str, ...]):
    use(*parts, missing=missing)
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


@needs_compiler
def test_own_processes_are_left_out(use: Use):
    use("eight_a800", "gpu.0.processes = 77:1073741824 self:512 78:\ngpu.1.processes = self:512")
    with NvmlClient() as nvml:
        first, second = nvml.reading(_FIRST), nvml.reading(_UUID.format(1))
        as_everyone = nvml.reading(_FIRST, own_pids={os.getpid(), 77, 78})
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
        uuid=_FIRST,
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


# ---- what goes wrong ----


@needs_compiler
def test_a_lost_card_costs_only_its_own_figures(use: Use):
    use("eight_a800", "gpu.3.call.nvmlDeviceGetHandleByIndex_v2 = error 15")
    with NvmlClient() as nvml:
        gpus = nvml.gpus()
        reading = nvml.reading(_UUID.format(4))
    assert len(gpus) == 8
    assert (gpus[3].index, gpus[3].uuid, gpus[3].name, gpus[3].lost) == (3, None, None, True)
    assert gpus[3].why_absent("name") == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetHandleByIndex"
    assert "fell off the bus" in describe_problems(gpus[3])[0]
    assert reading.temperature_c == 34


@needs_compiler
def test_a_card_that_hangs_costs_only_its_own_figures(use: Use):
    use("eight_a800", "gpu.3.call.nvmlDeviceGetName = hang\ngpu.3.call.nvmlDeviceGetFieldValues = hang")
    with NvmlClient(deadline_s=1) as nvml:
        facts = nvml.facts(_UUID.format(5))
        assert facts is not None
        assert (facts.index, facts.serial) == (5, "1320522000005")
        assert nvml.facts("GPU-ffffffff-0000-4000-8000-000000000000") is None
        assert nvml.reading(_UUID.format(5)).temperature_c == 34
        lost = nvml.reading(_UUID.format(3))
        assert lost.temperature_c is None
        assert "no answer within 1.0 s" in str(lost.why_absent("temperature_c"))
        assert nvml.reading(_UUID.format(5)).temperature_c == 34
        assert nvml.absent is None
        gpus = nvml.gpus()
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.name is None for gpu in gpus] == [index == 3 for index in range(8)]
    assert "no answer within 1.0 s" in str(gpus[3].why_absent("name"))
    assert list(nvml.lost) == [_UUID.format(3).removeprefix("GPU-")]


_OPENED = "gpu.{0}.call.nvmlDeviceGetHandleByUUID = {1}\ngpu.{0}.call.nvmlDeviceGetHandleByIndex_v2 = {1}"


@needs_compiler
@pytest.mark.parametrize("ending", ["hang", "crash"])
def test_a_card_whose_handle_cannot_be_opened_is_named_and_costs_no_other(use: Use, ending: str):
    use("eight_a800", _OPENED.format(1, ending), _OPENED.format(6, ending), "count = 7")
    with NvmlClient(start_s=0.8) as nvml:
        gpus = nvml.gpus()
        readings = [nvml.reading(_UUID.format(index)) for index in (0, 2, 5)]
        assert nvml.absent is None
    assert [gpu.index for gpu in gpus] == list(range(7))
    assert [gpu.index for gpu in gpus if gpu.name is None] == [1, 6]
    reason = "no answer within 0.8 s" if ending == "hang" else f"exit status -{signal.SIGABRT:d}"
    for index in (1, 6):
        (said,) = describe_problems(gpus[index])
        assert said.startswith(f"NVML gives no information about GPU {index}")
        assert reason in said
    assert [reading.temperature_c for reading in readings] == [34] * 3
    assert set(nvml.lost) == {"GPU 1", "GPU 6"}


@needs_compiler
def test_a_card_that_takes_long_to_initialise_has_the_deadline_of_the_start(use: Use):
    use("eight_a800", "count = 2", _OPENED.format(1, "wait 0.8"))
    with NvmlClient(deadline_s=0.4, start_s=20) as nvml:
        assert nvml.reading(_UUID.format(1)).temperature_c == 34
        assert nvml.absent is None


@needs_compiler
def test_a_gpu_is_opened_by_its_uuid_and_no_other_card_is_touched(use: Use):
    use("eight_a800", "call.nvmlDeviceGetHandleByIndex_v2 = crash")
    with NvmlClient() as nvml:
        assert nvml.reading(_UUID.format(5)).temperature_c == 34
        assert nvml.lost == {}


@needs_compiler
def test_where_nvml_cannot_find_by_uuid_it_is_found_by_index(use: Use):
    use("eight_a800", "mig", "call.nvmlDeviceGetHandleByUUID = error 6")
    with NvmlClient() as nvml:
        assert nvml.reading("GPU-a8000000-0000-5000-8000-000000000001").temperature_c == 34


@pytest.mark.long
@needs_compiler
def test_a_healthy_gpu_is_found_though_looking_for_its_uuid_hangs_at_another(use: Use):
    """NVML may initialise other cards as it looks for a UUID."""
    use("eight_a800", "call.nvmlDeviceGetHandleByUUID = hang", _OPENED.format(1, "hang"))
    with NvmlClient(start_s=0.8) as nvml:
        assert nvml.reading(_UUID.format(2)).temperature_c == 34
        assert list(nvml.lost) == ["GPU 1"]


@needs_compiler
def test_a_gpu_that_is_sampled_goes_on_being_sampled_after_another_cost_the_process(use: Use):
    use("eight_a800", _OPENED.format(1, "crash"))
    with NvmlClient() as nvml:
        nvml.start_sampling(_FIRST)
        assert nvml.facts(_UUID.format(1)) is None
        assert "exit status" in str(nvml.why_unread(_UUID.format(1)))
        deadline = time.monotonic() + 10
        while not (rows := nvml.take_readings(_FIRST)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rows


@pytest.mark.long
@needs_compiler
def test_a_driver_that_does_not_start_again_is_absent(use: Use):
    use("eight_a800")
    with NvmlClient(deadline_s=1, start_s=1) as nvml:
        assert nvml.reading(_FIRST).temperature_c == 34
        use("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang\ncall.nvmlInitWithFlags = hang")
        assert nvml.reading(_FIRST).temperature_c is None
        assert nvml.absent is None
        assert nvml.reading(_UUID.format(1)).temperature_c is None
        assert "no answer within 1.0 s" in str(nvml.absent)


@needs_compiler
def test_a_card_lost_in_mid_run(use: Use):
    use("eight_a800")
    with NvmlClient() as nvml:
        facts = nvml.gpus()[2]
        before = nvml.reading(_UUID.format(2))
        use("eight_a800", "gpu.2.lost_after = 0")
        after = nvml.reading(_UUID.format(2))
        other = nvml.reading(_UUID.format(1))
    assert before.energy_j is not None
    assert after.lost
    assert after.energy_j is None
    assert str(after.why_absent("energy_j")) == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetFieldValues"
    assert str(after.why_absent("temperature_c")) == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetTemperature"
    assert other.energy_j is not None
    assert subtract_readings(before, after).energy_j is None
    assert "GPU_IS_LOST" in subtract_readings(before, after).absent["energy_j"]
    assert "fell off the bus" in describe_problems(facts, after)[0]


@needs_compiler
def test_a_call_that_hangs_costs_one_deadline_and_no_more(use: Use):
    use("eight_a800")
    with NvmlClient(deadline_s=1) as nvml:
        assert nvml.reading(_FIRST).temperature_c == 34
        use("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang")
        hung = nvml.reading(_FIRST)
        assert hung.temperature_c is None
        assert hung.sm_clock_mhz is None
        assert "no answer within 1.0 s" in str(hung.why_absent("sm_clock_mhz"))
        assert nvml.why_unread(_FIRST) == hung.absent["*"]
        assert _workers(psutil.Process()) == []  # killed, and its exit status taken
        again = nvml.reading(_FIRST)
        assert again.absent == hung.absent
        assert _workers(psutil.Process()) == []  # nobody else was asked about


@needs_compiler
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "load"])
def test_an_nvml_that_hangs_when_started(use: Use, call: str):
    use("eight_a800", f"call.{call} = hang")
    with NvmlClient(start_s=0.4) as nvml:
        assert "no answer within 0.4 s" in str(nvml.absent)
        assert nvml.count is None
        assert nvml.gpus() == ()


@needs_compiler
def test_an_nvml_that_dies_in_mid_run(use: Use):
    use("eight_a800")
    with NvmlClient() as nvml:
        use("eight_a800", "call.nvmlDeviceGetFieldValues = crash")
        reading = nvml.reading(_FIRST)
        assert str(reading.why_absent("power_w")) == f"NVML's process ended (exit status -{signal.SIGABRT:d})"
        assert nvml.reading(_FIRST).absent == reading.absent


@needs_compiler
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (9, "NVML_ERROR_DRIVER_NOT_LOADED: nvmlInit"),
        (18, "NVML_ERROR_LIB_RM_VERSION_MISMATCH: nvmlInit"),
        (12345, "NVML_ERROR_12345: nvmlInit"),
    ],
)
def test_an_nvml_that_refuses_to_start(use: Use, error: int, reason: str):
    use("eight_a800", f"call.nvmlInitWithFlags = error {error}")
    with NvmlClient() as nvml:
        assert nvml.absent == reason
        assert nvml.reading(_FIRST).why_absent("power_w") == reason


@needs_compiler
def test_an_nvml_without_gpus_is_not_one_that_is_absent(use: Use):
    use("eight_a800", "count = 0")
    with NvmlClient() as nvml:
        assert (nvml.absent, nvml.count, nvml.gpus()) == (None, 0, ())


@needs_compiler
def test_what_a_driver_prints_is_no_answer(use: Use):
    use("eight_a800", "call.nvmlDeviceGetName = print")
    facts, reading = _first()
    assert facts.name == "NVIDIA A800-SXM4-80GB"
    assert reading.temperature_c == 34


def test_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Also where there is a GPU: the loader takes this one for the library, and refuses it.
    (tmp_path / stub.LIBRARY).write_text("no library\n" * 100)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with NvmlClient() as nvml:
        assert str(nvml.absent) == "NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit"
        assert nvml.gpus() == ()
        assert nvml.reading(_FIRST).why_absent("energy_j") == nvml.absent


def test_a_missing_nvidia_ml_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pynvml.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with NvmlClient() as nvml:
        assert str(nvml.absent) == "nvidia-ml-py can't be imported: none here"


def test_a_closed_client_says_so():
    nvml = NvmlClient()
    nvml.absent = None  # whatever is here
    nvml.close()
    assert str(nvml.reading(_FIRST).why_absent("power_w")) == "the NVML client is closed"
    nvml.close()


_PARENT = """
import sys, time
from nameplate.telemetry.nvml import NvmlClient
nvml = NvmlClient(start_s=float(sys.argv[1]), deadline_s=float(sys.argv[2]))
print("started", flush=True)
nvml.reading("GPU-a8000000-0000-4000-8000-000000000000")
time.sleep(60)
"""


@needs_compiler
@pytest.mark.parametrize("call", ["nothing", "nvmlDeviceGetUtilizationRates"])
def test_the_process_does_not_outlive_a_killed_parent(use: Use, call: str):
    use("eight_a800", f"call.{call} = hang")
    with _parent(start_s=10, deadline_s=60) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        (worker,) = _wait_for_worker(parent.pid)
        time.sleep(0.2)  # into the call that hangs
        parent.kill()
    assert _is_gone(worker, within_s=5)


@needs_compiler
def test_not_even_where_python_itself_stands_still(use: Use):
    use("eight_a800", "call.load = hang")
    with _parent(start_s=1, deadline_s=1) as parent:
        (worker,) = _wait_for_worker(parent.pid)
        time.sleep(0.4)  # into the loading that hangs
        parent.kill()
    assert _is_gone(worker, within_s=10)


def _parent(start_s: float, deadline_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PARENT, str(start_s), str(deadline_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _wait_for_worker(parent: int) -> list[psutil.Process]:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = _workers(psutil.Process(parent))
        if found:
            return found
        time.sleep(0.02)
    return []


def _is_gone(process: psutil.Process, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:  # waits for its new parent
            return True
        time.sleep(0.05)
    process.kill()
    return False


# ---- differences and health ----


@needs_compiler
def test_throttling_is_told_by_bits_and_by_growing_times(use: Use):
    use(
        "eight_a800",
        "gpu.0.clock_event_reasons = 0x2024\ngpu.0.field.74 = 5000000000 +1000000\n"
        "gpu.0.pcie_replays = 3 +2\ngpu.0.ecc_uncorrected = 1 +1",
    )
    with NvmlClient() as nvml:
        before, after = nvml.reading(_FIRST), nvml.reading(_FIRST)
    between = subtract_readings(before, after)
    assert after.clock_event_reasons == ("sw_power_cap", "sw_thermal_slowdown", "unknown_0x2000")
    assert between.throttle_reasons == after.throttle_reasons
    assert between.throttle_s["power"] == pytest.approx(0.001)
    assert between.throttle_s["thermal"] == 0.0
    assert between.throttle_s["power_brake"] is None
    assert between.throttled_s == pytest.approx(0.001)
    assert between.energy_j == pytest.approx(30.0)
    assert between.mean_power_w == pytest.approx(30.0 / (after.at_s - before.at_s))
    assert (between.pcie_replays, between.ecc_errors) == (2, 1)
    assert between.other_processes is False
    assert set(between.throttle_s) == set(POLICIES)


def test_a_card_at_its_power_limit_is_no_problem_and_a_hot_one_is():
    def problems(*reasons):
        reading = GpuReading(uuid=_FIRST, at_s=1.0, sm_clock_mhz=1200, clock_event_reasons=reasons)
        return describe_problems(GpuFacts(index=0), reading)

    assert problems("sw_power_cap") == []
    (said,) = problems("sw_power_cap", "sw_thermal_slowdown")
    assert "is throttled now at 1200 MHz (sw_power_cap, sw_thermal_slowdown)" in said


@needs_compiler
def test_xid_errors_remapped_rows_and_link_errors_since_the_last_reading(use: Use):
    links = "gpu.*.links = 12\ngpu.*.nvlink.0 = 1 +3\ngpu.*.nvlink.1 = 0\ngpu.*.nvlink.2 ="
    use("eight_a800", links, "gpu.0.xids = 31\ngpu.1.xids = 48")
    with NvmlClient() as nvml:
        facts = nvml.facts(_FIRST)
        before = nvml.reading(_FIRST)
        assert before.xid_errors == ()  # what came before it was watched isn't told
        nvml.start_sampling(_FIRST)
        rows = "gpu.*.field.142 = 1\ngpu.*.field.143 = 2"
        use("eight_a800", links, rows, "gpu.0.xids = 31 79 94\ngpu.1.xids = 48 63")
        after = nvml.reading(_FIRST)
    assert facts is not None
    between = subtract_readings(before, after)
    assert (between.xid_errors, between.card_xids) == ((79, 94), (79, 94))
    assert between.remapped_rows == 3
    # Each of 12 links reads 1, 4, 7, … in turn: 3 more for each of the 12 reads that lie between.
    assert (between.nvlink_replays, between.nvlink_recoveries) == (12 * 12 * 3, 0)
    assert between.nvlink_crc_errors is None
    assert "NVML_ERROR_NOT_SUPPORTED" in str(after.why_absent("nvlink_crc_errors"))
    assert between.has_link_faults
    said = " ".join(describe_problems(facts, after))
    assert "GPU 0 has just reported Xid 79, 94" in said
    assert f"has had 0 recoveries, {after.nvlink_replays} replays and unknown CRC errors" in said


@needs_compiler
def test_a_card_without_nvlink_or_events_says_why(use: Use):
    use("eight_a800", "call.nvmlDeviceRegisterEvents = error 3")
    facts, reading = _first()
    assert (reading.xid_errors, reading.nvlink_recoveries) == (None, None)
    assert str(reading.why_absent("xid_errors")) == "NVML_ERROR_NOT_SUPPORTED: nvmlDeviceRegisterEvents"
    assert "nvmlDeviceGetNvLinkState" in str(reading.why_absent("nvlink_recoveries"))
    assert describe_problems(facts, reading) == []


@needs_compiler
def test_a_slice_has_the_xid_errors_of_its_card(use: Use):
    use("eight_a800", "mig", "gpu.0.xids = ")
    with NvmlClient() as nvml:
        uuid = str(next(gpu.uuid for gpu in nvml.gpus() if gpu.is_mig_slice))
        use("eight_a800", "mig", "gpu.0.xids = 95")
        assert nvml.reading(uuid).xid_errors == (95,)


def test_what_isnt_known_of_faults_is_none():
    known = {"xid_errors": (79,), "nvlink_crc_errors": 5, "remapped_rows_correctable": 1}
    between = subtract_readings(_at(0.0), _at(1.0, **known))
    assert (between.xid_errors, between.remapped_rows, between.nvlink_crc_errors) == (None, None, None)
    assert not between.has_link_faults
    # Another process watched since: its list isn't the first one's continuation.
    assert subtract_readings(_at(0.0, xid_errors=(13, 79)), _at(1.0, xid_errors=(48,))).xid_errors is None


@pytest.mark.parametrize(("crc_errors", "is_fault"), [(0, False), (999, False), (1001, True)])
def test_crc_errors_of_a_link_count_from_a_hundred_a_second(crc_errors: int, is_fault: bool):
    between = subtract_readings(_at(0.0, nvlink_crc_errors=7), _at(10.0, nvlink_crc_errors=7 + crc_errors))
    assert between.has_link_faults is is_fault


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0, ()),
        (0x1, ("gpu_idle",)),
        (0x48, ("hw_slowdown", "hw_thermal_slowdown")),
        (0x600, ("board_limit", "reliability")),
        (1 << 40 | 0x80, ("hw_power_brake_slowdown", "unknown_0x10000000000")),
    ],
)
def test_reasons_are_decoded_by_bit(mask: int, names: tuple[str, ...]):
    assert decode_clock_event_reasons(mask) == names


def _at(at_s: float, **figures) -> GpuReading:
    return GpuReading(uuid=_FIRST, at_s=at_s, **figures)


def test_a_counter_that_falls_or_runs_ahead_of_the_clock_gives_no_difference():
    before = _at(10.0, energy_j=500.0, power_throttle_s=1.0, thermal_throttle_s=1.0)
    after = _at(20.0, energy_j=20.0, power_throttle_s=900.0, thermal_throttle_s=11.0)
    between = subtract_readings(before, after)
    assert between.energy_j is None
    assert between.mean_power_w is None
    assert str(between.absent["energy_j"]) == "the counter fell from 500 to 20: the driver was reloaded"
    assert between.throttle_s["power"] is None
    assert str(between.absent["power_throttle_s"]) == "the driver counted 15 min in 10 s"
    assert between.throttle_s["thermal"] == 10.0


def test_readings_of_two_gpus_are_not_subtracted():
    with pytest.raises(ValueError, match=r"two GPUs.*000.*001"):
        subtract_readings(_at(0.0), GpuReading(uuid=_UUID.format(1), at_s=1.0))


def test_what_is_unknown_at_one_end_is_unknown_between():
    known = _at(0.0, clock_event_reasons=0, processes=(), pids_match=True)
    unknown = GpuReading.without_figures(_FIRST, "gone", 1.0)
    between = subtract_readings(known, unknown)
    assert between.other_processes is None
    assert between.throttle_reasons is None
    assert between.throttled_s is None
    assert str(between.absent["energy_j"]) == "not read"
    assert subtract_readings(known.model_copy(update={"energy_j": 1.0}), unknown).absent["energy_j"] == "gone"


_WELL = {"index": 2, "uuid": _FIRST, "max_pcie_width": 16, "max_pcie_generation": 4}


@pytest.mark.parametrize(
    ("facts", "reading", "said"),
    [
        ({"persistence_mode": False}, {}, ("persistence mode is off on GPU 2", "nvidia-smi -i 2 -pm 1")),
        ({"compute_mode": "prohibited"}, {}, ("prohibited", "nvidia-smi -i 2 -c DEFAULT")),
        ({"virtualization_mode": "vgpu"}, {}, ("virtual", "bare metal")),
        (
            {"power_limit_w": 300.0, "default_power_limit_w": 400.0},
            {},
            ("300 W, 25.0% below its default", "nvidia-smi -i 2 -pl 400"),
        ),
        ({}, {"ecc_uncorrected": 7}, ("7 uncorrectable memory errors", "nvidia-smi -i 2 -q -d ECC")),
        (
            {},
            {"remapping_pending": True, "remapped_rows_uncorrectable": 3},
            ("3 remapped", "nvidia-smi -i 2 -r"),
        ),
        (
            {},
            {"remapping_failed": True, "remapped_rows_uncorrectable": 8},
            ("(8 remapped so far)", "replaced"),
        ),
        ({}, {"recovery_action": "node_reboot"}, ("asks for node_reboot", "first")),
        (
            {},
            {"clock_event_reasons": 0x40, "sm_clock_mhz": 705, "temperature_c": 91},
            ("throttled now at 705 MHz, 91 °C (hw_thermal_slowdown)", "airflow"),
        ),
        ({}, {"clock_event_reasons": 0x2, "sm_clock_mhz": 1095}, ("held by a setting (1095 MHz", "-rgc")),
        (
            {},
            {"processes": (GpuProcess(pid=77),), "pids_match": True},
            ("1 other process is on GPU 2 (pid 77)", "wait"),
        ),
        ({}, {"pcie_width": 8}, ("x8 of x16", "reseat")),
        (
            {},
            {"pcie_generation": 3, "gpu_utilization_percent": 97},
            ("generation 3 of 4 under load", "BIOS"),
        ),
    ],
)
def test_each_obstacle_is_one_sentence_with_a_number_and_a_next_step(facts, reading, said):
    (sentence,) = describe_problems(GpuFacts(**{**_WELL, **facts}), _at(0.0, **reading))
    assert all(part in sentence for part in said)


def test_what_is_no_obstacle_is_not_mentioned():
    idle = _at(0.0, pcie_generation=1, pcie_width=16, gpu_utilization_percent=0, clock_event_reasons=0x1)
    limits = {"power_limit_w": 399.6, "default_power_limit_w": 400.0}
    assert describe_problems(GpuFacts(**_WELL, **limits), idle) == []


def test_a_gpu_that_tells_nothing_is_an_obstacle():
    facts = GpuFacts(index=2, absent={"*": "NVML_ERROR_UNKNOWN: why"})
    assert describe_problems(facts) == [
        "NVML gives no information about GPU 2 (NVML_ERROR_UNKNOWN: why): see what nvidia-smi says"
    ]
    assert (
        "can't be read (gone)"
        in describe_problems(GpuFacts(**_WELL), GpuReading.without_figures(_FIRST, "gone", 0.0))[0]
    )


@needs_compiler
def test_a_capped_power_limit(use: Use):
    use("eight_a800", "gpu.0.power_limit_mw = 250000")
    facts, reading = _first()
    assert describe_problems(facts, reading) == [
        "the power limit of GPU 0 is 250 W, 37.5% below its default: nvidia-smi -i 0 -pl 400"
    ]


# ---- nonsense, reported as a success ----


@needs_compiler
@pytest.mark.parametrize(
    ("line", "figure"),
    [
        ("gpu.0.sm_clock_mhz = 4294967295", "sm_clock_mhz"),
        ("gpu.0.sm_clock_mhz = 1900", "sm_clock_mhz"),  # above this card's own maximum, 1410
        ("gpu.0.sm_clock_mhz = 0", "sm_clock_mhz"),
        ("gpu.0.memory_clock_mhz = 4294967295", "memory_clock_mhz"),
        ("gpu.0.temperature_c = 255", "temperature_c"),
        ("gpu.0.field.82 = 4294967295", "memory_temperature_c"),
        ("gpu.0.gpu_utilization = 4294967295", "gpu_utilization_percent"),
        ("gpu.0.pcie_width = 4294967295", "pcie_width"),
        ("gpu.0.field.74 = 18446744073709551615", "power_throttle_s"),
    ],
)
def test_a_number_that_cannot_be_is_absent_and_the_card_is_named(use: Use, line: str, figure: str):
    use("eight_a800", line)
    facts, reading = _first()
    assert getattr(reading, figure) is None
    assert f"for {figure}, which can only be" in str(reading.why_absent(figure))
    (problem,) = describe_problems(facts, reading)
    assert problem.startswith("GPU 0 reports what can't be true")
    assert figure in problem


@needs_compiler
def test_power_that_cannot_be_is_read_another_way(use: Use):
    use("eight_a800", "gpu.0.field.186 = 4294967295")
    _, reading = _first()
    assert reading.power_w == 61.0  # by the call, which older drivers have too
    use("eight_a800", "gpu.0.field.186 = 4294967295", "gpu.0.power_mw = 4294967295")
    _, reading = _first()
    assert reading.power_w is None


@needs_compiler
def test_a_maximum_that_cannot_be_is_absent_and_bounds_nothing(use: Use):
    use("eight_a800", "gpu.0.max_sm_clock_mhz = 4294967295")
    facts, reading = _first()
    assert facts.max_sm_clock_mhz is None
    assert reading.sm_clock_mhz == 1410


@needs_compiler
def test_sampled_rows_hold_no_number_that_cannot_be(use: Use):
    use("eight_a800", "gpu.0.sm_clock_mhz = 4294967295")
    with NvmlClient() as nvml:
        nvml.start_sampling(_FIRST)
        deadline = time.monotonic() + 10
        rows: list[GpuReading] = []
        while not rows and time.monotonic() < deadline:
            rows += nvml.take_readings(_FIRST)
    assert rows
    assert all(row.sm_clock_mhz is None and row.temperature_c == 34 for row in rows)


def test_an_energy_counter_that_stands_still_counts_nothing():
    still = subtract_readings(_at(0.0, energy_j=5000.0), _at(2.0, energy_j=5000.0))
    assert (still.energy_j, still.mean_power_w) == (None, None)
    assert str(still.absent["energy_j"]) == "the counter stood still for 2.0 s"
    # Within its step a counter may not have moved yet.
    assert subtract_readings(_at(0.0, energy_j=5000.0), _at(0.05, energy_j=5000.0)).energy_j == 0.0
