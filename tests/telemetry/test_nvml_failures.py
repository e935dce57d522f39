"""An NVML that hangs, dies, refuses or is missing costs its own figures and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nameplate.telemetry.gpu import (
    describe_problems,
    subtract_readings,
)
from nameplate.telemetry.nvml import NvmlClient
from nvml_clients import FIRST, UUID, list_workers, read_first

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("no_process_left")]


def test_a_lost_card_costs_only_its_own_figures(use_nvml):
    use_nvml("eight_a800", "gpu.3.call.nvmlDeviceGetHandleByIndex_v2 = error 15")
    with NvmlClient() as nvml:
        gpus = nvml.gpus()
        reading = nvml.reading(UUID.format(4))
    assert len(gpus) == 8
    assert (gpus[3].index, gpus[3].uuid, gpus[3].name, gpus[3].lost) == (3, None, None, True)
    assert gpus[3].why_absent("name") == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetHandleByIndex"
    assert "fell off the bus" in describe_problems(gpus[3])[0]
    assert reading.temperature_c == 34


def test_a_card_that_hangs_costs_only_its_own_figures(use_nvml):
    use_nvml("eight_a800", "gpu.3.call.nvmlDeviceGetName = hang\ngpu.3.call.nvmlDeviceGetFieldValues = hang")
    with NvmlClient(deadline_s=1) as nvml:
        facts = nvml.facts(UUID.format(5))
        assert facts is not None
        assert (facts.index, facts.serial) == (5, "1320522000005")
        assert nvml.facts("GPU-ffffffff-0000-4000-8000-000000000000") is None
        assert nvml.reading(UUID.format(5)).temperature_c == 34
        lost = nvml.reading(UUID.format(3))
        assert lost.temperature_c is None
        assert "no answer within 1.0 s" in str(lost.why_absent("temperature_c"))
        assert nvml.reading(UUID.format(5)).temperature_c == 34
        assert nvml.absent is None
        gpus = nvml.gpus()
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.name is None for gpu in gpus] == [index == 3 for index in range(8)]
    assert "no answer within 1.0 s" in str(gpus[3].why_absent("name"))
    assert list(nvml.lost) == [UUID.format(3).removeprefix("GPU-")]


_OPENED = "gpu.{0}.call.nvmlDeviceGetHandleByUUID = {1}\ngpu.{0}.call.nvmlDeviceGetHandleByIndex_v2 = {1}"


@pytest.mark.parametrize("ending", ["hang", "crash"])
def test_a_card_whose_handle_cannot_be_opened_is_named_and_costs_no_other(use_nvml, ending: str):
    use_nvml("eight_a800", _OPENED.format(1, ending), _OPENED.format(6, ending), "count = 7")
    with NvmlClient(start_s=0.8) as nvml:
        gpus = nvml.gpus()
        readings = [nvml.reading(UUID.format(index)) for index in (0, 2, 5)]
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


def test_a_card_that_takes_long_to_initialise_has_the_deadline_of_the_start(use_nvml):
    use_nvml("eight_a800", "count = 2", _OPENED.format(1, "wait 0.8"))
    with NvmlClient(deadline_s=0.4, start_s=20) as nvml:
        assert nvml.reading(UUID.format(1)).temperature_c == 34
        assert nvml.absent is None


def test_a_gpu_is_opened_by_its_uuid_and_no_other_card_is_touched(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetHandleByIndex_v2 = crash")
    with NvmlClient() as nvml:
        assert nvml.reading(UUID.format(5)).temperature_c == 34
        assert nvml.lost == {}


def test_where_nvml_cannot_find_by_uuid_it_is_found_by_index(use_nvml):
    use_nvml("eight_a800", "mig", "call.nvmlDeviceGetHandleByUUID = error 6")
    with NvmlClient() as nvml:
        assert nvml.reading("GPU-a8000000-0000-5000-8000-000000000001").temperature_c == 34


@pytest.mark.long
def test_a_healthy_gpu_is_found_though_looking_for_its_uuid_hangs_at_another(use_nvml):
    """NVML may initialise other cards as it looks for a UUID."""
    use_nvml("eight_a800", "call.nvmlDeviceGetHandleByUUID = hang", _OPENED.format(1, "hang"))
    with NvmlClient(start_s=0.8) as nvml:
        assert nvml.reading(UUID.format(2)).temperature_c == 34
        assert list(nvml.lost) == ["GPU 1"]


def test_a_gpu_that_is_sampled_goes_on_being_sampled_after_another_cost_the_process(use_nvml):
    use_nvml("eight_a800", _OPENED.format(1, "crash"))
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        assert nvml.facts(UUID.format(1)) is None
        assert "exit status" in str(nvml.why_unread(UUID.format(1)))
        deadline = time.monotonic() + 10
        while not (rows := nvml.take_readings(FIRST)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rows


@pytest.mark.long
def test_a_driver_that_does_not_start_again_is_absent(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient(deadline_s=1, start_s=1) as nvml:
        assert nvml.reading(FIRST).temperature_c == 34
        use_nvml("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang\ncall.nvmlInitWithFlags = hang")
        assert nvml.reading(FIRST).temperature_c is None
        assert nvml.absent is None
        assert nvml.reading(UUID.format(1)).temperature_c is None
        assert "no answer within 1.0 s" in str(nvml.absent)


def test_a_card_lost_in_mid_run(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient() as nvml:
        facts = nvml.gpus()[2]
        before = nvml.reading(UUID.format(2))
        use_nvml("eight_a800", "gpu.2.lost_after = 0")
        after = nvml.reading(UUID.format(2))
        other = nvml.reading(UUID.format(1))
    assert before.energy_j is not None
    assert after.lost
    assert after.energy_j is None
    assert str(after.why_absent("energy_j")) == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetFieldValues"
    assert str(after.why_absent("temperature_c")) == "NVML_ERROR_GPU_IS_LOST: nvmlDeviceGetTemperature"
    assert other.energy_j is not None
    assert subtract_readings(before, after).energy_j is None
    assert "GPU_IS_LOST" in subtract_readings(before, after).absent["energy_j"]
    assert "fell off the bus" in describe_problems(facts, after)[0]


def test_a_call_that_hangs_costs_one_deadline_and_no_more(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient(deadline_s=1) as nvml:
        assert nvml.reading(FIRST).temperature_c == 34
        use_nvml("eight_a800", "call.nvmlDeviceGetUtilizationRates = hang")
        hung = nvml.reading(FIRST)
        assert hung.temperature_c is None
        assert hung.sm_clock_mhz is None
        assert "no answer within 1.0 s" in str(hung.why_absent("sm_clock_mhz"))
        assert nvml.why_unread(FIRST) == hung.absent["*"]
        assert list_workers(psutil.Process()) == []  # killed, and its exit status taken
        again = nvml.reading(FIRST)
        assert again.absent == hung.absent
        assert list_workers(psutil.Process()) == []  # nobody else was asked about


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "load"])
def test_an_nvml_that_hangs_when_started(use_nvml, call: str):
    use_nvml("eight_a800", f"call.{call} = hang")
    with NvmlClient(start_s=0.4) as nvml:
        assert "no answer within 0.4 s" in str(nvml.absent)
        assert nvml.count is None
        assert nvml.gpus() == ()


def test_an_nvml_that_dies_in_mid_run(use_nvml):
    use_nvml("eight_a800")
    with NvmlClient() as nvml:
        use_nvml("eight_a800", "call.nvmlDeviceGetFieldValues = crash")
        reading = nvml.reading(FIRST)
        assert str(reading.why_absent("power_w")) == f"NVML's process ended (exit status -{signal.SIGABRT:d})"
        assert nvml.reading(FIRST).absent == reading.absent


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (9, "NVML_ERROR_DRIVER_NOT_LOADED: nvmlInit"),
        (18, "NVML_ERROR_LIB_RM_VERSION_MISMATCH: nvmlInit"),
        (12345, "NVML_ERROR_12345: nvmlInit"),
    ],
)
def test_an_nvml_that_refuses_to_start(use_nvml, error: int, reason: str):
    use_nvml("eight_a800", f"call.nvmlInitWithFlags = error {error}")
    with NvmlClient() as nvml:
        assert nvml.absent == reason
        assert nvml.reading(FIRST).why_absent("power_w") == reason


def test_an_nvml_without_gpus_is_not_one_that_is_absent(use_nvml):
    use_nvml("eight_a800", "count = 0")
    with NvmlClient() as nvml:
        assert (nvml.absent, nvml.count, nvml.gpus()) == (None, 0, ())


def test_what_a_driver_prints_is_no_answer(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceGetName = print")
    facts, reading = read_first()
    assert facts.name == "NVIDIA A800-SXM4-80GB"
    assert reading.temperature_c == 34


def test_a_missing_library(use_nvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Also where there is a GPU: the loader takes this one for the library, and refuses it.
    (tmp_path / use_nvml.library).write_text("no library\n" * 100)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with NvmlClient() as nvml:
        assert str(nvml.absent) == "NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit"
        assert nvml.gpus() == ()
        assert nvml.reading(FIRST).why_absent("energy_j") == nvml.absent


def test_a_missing_nvidia_ml_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pynvml.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with NvmlClient() as nvml:
        assert str(nvml.absent) == "nvidia-ml-py can't be imported: none here"


def test_a_closed_client_says_so():
    nvml = NvmlClient()
    nvml.absent = None  # whatever is here
    nvml.close()
    assert str(nvml.reading(FIRST).why_absent("power_w")) == "the NVML client is closed"
    nvml.close()


_PARENT = """
import sys, time
from nameplate.telemetry.nvml import NvmlClient
nvml = NvmlClient(start_s=float(sys.argv[1]), deadline_s=float(sys.argv[2]))
print("started", flush=True)
nvml.reading("GPU-a8000000-0000-4000-8000-000000000000")
time.sleep(60)
"""


@pytest.mark.parametrize("call", ["nothing", "nvmlDeviceGetUtilizationRates"])
def test_the_process_does_not_outlive_a_killed_parent(use_nvml, call: str):
    use_nvml("eight_a800", f"call.{call} = hang")
    with _parent(start_s=10, deadline_s=60) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        (worker,) = _wait_for_worker(parent.pid)
        time.sleep(0.2)  # into the call that hangs
        parent.kill()
    assert _is_gone(worker, within_s=5)


def test_not_even_where_python_itself_stands_still(use_nvml):
    use_nvml("eight_a800", "call.load = hang")
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
        found = list_workers(psutil.Process(parent))
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
