"""`bench devices`: what it lists of machines whose NVML is the stand-in, as JSON and in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nameplate.device import cuda, survey
from nameplate.device.cpu import CpuDevice
from nameplate.device.survey import find_cpu_obstacles

pytestmark = pytest.mark.process
A800 = "nvidia-a800-sxm4-80gb"
UUID = "a8000000-0000-4000-8000-00000000000{}"
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="this torch can use a GPU of its own")


@pytest.fixture(scope="module")
def cpu():
    return CpuDevice()


@pytest.fixture
def machine(monkeypatch, cpu):
    """A machine whose torch sees GPUs of these UUIDs, and none unless told."""

    def build(*uuids, name="NVIDIA A800-SXM4-80GB"):
        monkeypatch.setattr(survey, "_count_torch_gpus", lambda: len(uuids))
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda index: SimpleNamespace(
                name=name,
                uuid=uuids[index],
                total_memory=80 << 30,
                multi_processor_count=108,
                major=8,
                minor=0,
                L2_cache_size=40 << 20,
            ),
        )

    monkeypatch.setattr(survey, "measure_identity", lambda: cpu.identity)
    monkeypatch.setattr(survey, "CpuDevice", lambda identity: cpu)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    build()
    return build


@pytest.fixture
def listed(machine, bench):
    """What `bench devices --json` prints, GPUs by name."""

    def run():
        found = json.loads(bench("devices", "--json").out)
        assert found["devices"][-1]["device"] == "cpu"
        return found, {row["device"]: row for row in found["devices"][:-1]}

    return run


def test_eight_a800s_are_listed_though_torch_can_use_none(use_nvml, listed):
    use_nvml("eight_a800")
    found, gpus = listed()
    assert list(gpus) == [f"nvml:{number}" for number in range(8)]
    assert found["nvml"] == {"driver": "550.90.07", "cuda_driver": "12.4", "count": 8, "absent": None}
    for number, row in enumerate(gpus.values()):
        assert row["part"] == A800
        assert "PCI id 10de:20f3" in row["evidence"]
        assert (row["nominal_tflops"]["fp16"], row["datasheet_tflops"]["fp16"]) == (320, 312)
        assert row["health"] == []
        assert "driver 550.90.07" in row["unusable"]
        assert torch.__version__ in row["unusable"]
        assert row["identity"]["uuid"] == "GPU-" + UUID.format(number)
        assert (row["identity"]["index"], row["identity"]["nvml_index"]) == (None, number)
        assert row["reading"]["temperature_c"] == 34
        best = row["best_published"]["bf16"]
        assert (best["value"], best["numerator_tflops"]) == (0.869, 271.2)
        assert best["source"]


def test_gpus_that_torch_uses_are_named_by_torch_and_matched_by_uuid(use_nvml, listed, machine):
    use_nvml("eight_a800", "count = 3", "gpu.2.temperature_c = 71", "gpu.0.persistence_mode = 0")
    machine(UUID.format(2), UUID.format(0))
    _, gpus = listed()
    assert list(gpus) == ["cuda:0", "cuda:1", "nvml:1"]
    assert gpus["cuda:0"]["reading"]["temperature_c"] == 71
    assert [gpus[name]["unusable"] for name in ("cuda:0", "cuda:1")] == [None, None]
    assert "108 SMs" in gpus["cuda:0"]["evidence"]
    assert gpus["cuda:0"]["identity"]["serial"] == "1320522000002"
    (said,) = gpus["cuda:1"]["health"]
    assert "persistence mode is off on GPU 0" in said


def test_a_hidden_gpu_says_that_it_is_hidden(use_nvml, listed, machine, monkeypatch):
    use_nvml("eight_a800", "count = 2")
    machine(UUID.format(0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _, gpus = listed()
    assert gpus["nvml:1"]["unusable"] == "torch doesn't see it (CUDA_VISIBLE_DEVICES=0)"


def test_a_mixed_node_gives_each_its_own_part_or_none(use_nvml, listed):
    use_nvml("eight_a800", "mixed_node", "gpu.1.ecc_uncorrected = 3", "gpu.1.processes = 4242:1073741824")
    _, gpus = listed()
    assert [row["part"] for row in gpus.values()] == [A800, "nvidia-h20-96gb", None]
    assert gpus["nvml:1"]["nominal_tflops"]["bf16"] == 148
    assert "3 uncorrectable memory errors" in gpus["nvml:1"]["health"][0]
    assert any("1 other process is on GPU 1" in said for said in gpus["nvml:1"]["health"])
    unknown = gpus["nvml:2"]
    assert (unknown["nominal_tflops"], unknown["best_published"]) == ({}, {})
    # The stub gives every card 80 GiB.
    assert "nvidia-geforce-rtx-4090-d, but it has 80.0 GiB" in unknown["missing"]
    assert "NVML_ERROR_NOT_SUPPORTED" in unknown["absent"]["serial"]


def test_mig_slices_follow_their_card(use_nvml, listed):
    use_nvml("eight_a800", "mig")
    _, gpus = listed()
    assert list(gpus) == ["nvml:0", "nvml:0:0", "nvml:0:1", "nvml:1"]
    assert [row["part"] for row in gpus.values()] == [A800, None, None, A800]
    assert "MIG is on" in gpus["nvml:0"]["unusable"]
    assert "is a MIG slice" in gpus["nvml:0:1"]["evidence"]
    assert gpus["nvml:0:1"]["identity"]["mig_slice"] is True
    assert gpus["nvml:0:1"]["reading"]["power_w"] is None


def test_a_slice_that_torch_uses_isnt_listed_twice(use_nvml, listed, machine):
    use_nvml("eight_a800", "mig")
    machine("a8000000-0000-5000-8000-000000000001", name="NVIDIA A800-SXM4-80GB MIG 3g.40gb")
    _, gpus = listed()
    assert list(gpus) == ["cuda:0", "nvml:0", "nvml:0:0", "nvml:1"]
    assert gpus["cuda:0"]["identity"]["uuid"] == "MIG-a8000000-0000-5000-8000-000000000001"


def test_an_old_driver_says_what_it_does_not_count(use_nvml, listed):
    use_nvml("eight_a800", "old_driver", missing=use_nvml.old_driver)
    _, gpus = listed()
    (row,) = gpus.values()
    assert row["part"] == A800
    assert any("throttling (power) isn't counted" in said for said in row["in_the_way"])
    assert row["identity"]["driver"] == "450.248.02"


def test_a_lost_card_is_listed_with_its_reason(use_nvml, listed):
    use_nvml("eight_a800", "gpu.3.call.nvmlDeviceGetHandleByIndex_v2 = error 15")
    _, gpus = listed()
    assert len(gpus) == 8
    assert gpus["nvml:3"]["part"] is None
    assert gpus["nvml:3"]["unusable"] == "the driver has lost it"
    assert "fell off the bus" in gpus["nvml:3"]["health"][0]
    assert gpus["nvml:4"]["part"] == A800


def test_a_missing_library_leaves_the_cpu_and_the_reason(use_nvml, listed, tmp_path, monkeypatch):
    (tmp_path / use_nvml.library).write_text("no library\n" * 100)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found, gpus = listed()
    assert gpus == {}
    assert found["nvml"]["absent"].startswith("NVML_ERROR_LIBRARY_NOT_FOUND")
    assert found["nvml"]["count"] is None


def test_a_hang_leaves_the_cpu_and_the_reason(use_nvml, listed, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    use_nvml("eight_a800", "call.nvmlInitWithFlags = hang")
    found, gpus = listed()
    assert gpus == {}
    assert "no answer within 1.0 s" in found["nvml"]["absent"]


@pytest.mark.parametrize("ending", ["hang", "crash"])
def test_a_card_whose_handle_hangs_or_crashes_is_listed_with_the_reason(
    use_nvml, listed, bench, monkeypatch, ending
):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    calls = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID")
    use_nvml("eight_a800", "count = 4", *(f"gpu.1.call.{call} = {ending}" for call in calls))
    _, gpus = listed()
    assert list(gpus) == ["nvml:0", "nvml:1", "nvml:2", "nvml:3"]
    (said,) = gpus["nvml:1"]["health"]
    assert said.startswith("NVML gives no information about GPU 1 (NVML")
    assert gpus["nvml:1"]["unusable"] == "NVML can't open or read it"
    for name in ("nvml:0", "nvml:2", "nvml:3"):
        assert gpus[name]["health"] == []
        assert gpus[name]["reading"]["temperature_c"] == 34
    shown = bench("devices")
    assert shown.status == 0
    assert "NVML gives no information about GPU 1" in " ".join(shown.out.split())


def test_a_card_that_hangs_while_it_is_read_costs_no_other(use_nvml, listed, machine, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    use_nvml("eight_a800", "gpu.5.call.nvmlDeviceGetFieldValues = hang")
    machine(UUID.format(0), UUID.format(5))
    found, gpus = listed()
    others = [f"nvml:{number}" for number in (1, 2, 3, 4, 6, 7)]
    assert list(gpus) == ["cuda:0", "cuda:1", *others]
    assert [name for name, row in gpus.items() if row["health"]] == ["cuda:1"]
    assert gpus["cuda:1"]["part"] == A800
    assert "can't be read" in gpus["cuda:1"]["health"][0]
    assert "no answer within 1.0 s" in gpus["cuda:1"]["health"][0]
    assert found["nvml"]["absent"] is None


def test_in_words_devices_that_are_alike_share_a_block(use_nvml, machine, bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    use_nvml("eight_a800", "gpu.3.persistence_mode = 0")
    text = bench("devices").out
    assert text.count("fp16 320 (datasheet 312)") == 1
    assert "nvml:0 … nvml:7" in text
    assert "86.9% of datasheet in bf16 (271 of 312 TFLOPS)" in text
    assert "persistence mode is off on GPU 3" in text
    assert "power limit 400 W" in text
    assert len(re.findall(r"GPU-a8000000\S+, .*, problems: 1 *\n", text)) == 7  # torch can't use them
    assert len(re.findall(r"GPU-a8000000\S+3, .*, problems: 2 *\n", text)) == 1
    assert "avx512f" not in text  # the flags are JSON's
    machine(*(UUID.format(number) for number in range(8)))
    text = bench("devices").out
    assert len(re.findall(r"GPU-a8000000\S+, .*, no known problem *\n", text)) == 7


def start(*arguments):
    """Run `bench …` as a process of its own."""
    command = [sys.executable, "-m", "nameplate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.long
@cpu_only
def test_the_command_itself(use_nvml):
    use_nvml("eight_a800")
    done = start("devices", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["part"] for row in json.loads(done.stdout)["devices"][:-1]] == [A800] * 8


@pytest.mark.long
@cpu_only
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "smoke"),
        pytest.param(("run", "smoke", "--device", "cuda:0"), marks=pytest.mark.long),
        pytest.param(("devices", "--device", "auto"), marks=pytest.mark.long),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_exit_2_naming_both_versions(use_nvml, tmp_path, arguments):
    use_nvml("eight_a800")
    results = ("--results", str(tmp_path / "runs")) if arguments[0] == "run" else ()
    done = start(*arguments, *results)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "NVML sees 8 GPUs but torch can't use any" in sentence
    assert "driver 550.90.07" in sentence
    assert f"torch {torch.__version__}" in sentence
    assert "--device cpu" in sentence
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_the_cpu_can_be_asked_for_whatever_nvml_does(use_nvml):
    use_nvml("eight_a800", "call.nvmlInitWithFlags = hang")
    done = start("devices", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["devices"]
    assert row["device"] == "cpu"


# ---- what stands in a CPU's way ----

CLEAR = {"logical_cpus": 64, "affinity_cpus": None, "quota_cpus": None, "usable_cores": 32.0, "threads": 32}
CLEAR |= {"thread_settings": {"OMP_NUM_THREADS": "32"}, "parallel_speed": 1.0}
QUIET = {"load": 6.4, "totals": (99.0, 1.0)}


def obstacles(cpu, load=QUIET["load"], totals=QUIET["totals"], **changes):
    return list(find_cpu_obstacles(cpu.identity.model_copy(update=CLEAR | changes), load, totals))


def test_a_quiet_machine_of_its_own_has_nothing_in_its_way(cpu):
    assert obstacles(cpu) == []
    assert obstacles(cpu, load=None, totals=None, threads=None) == []
    assert obstacles(cpu, totals=(0.0, 0.0)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load": 6.5}, ["load average is 6.50 on 64 CPUs"]),
        ({"totals": (98.0, 2.0)}, ["the hypervisor took 2.0%", "since boot"]),
        ({"quota_cpus": 1.5}, ["1.5 of 64 CPUs", "cpuset"]),
        ({"quota_cpus": 4.0, "affinity_cpus": tuple(range(8))}, ["4 of 8 CPUs"]),
        ({"parallel_speed": 0.5}, ["32 cores working at once run at 0.50 of their speed alone"]),
        ({"threads": 1}, ["torch uses 1 of 32 cores", "OMP_NUM_THREADS"]),
        ({"thread_settings": {"OMP_WAIT_POLICY": "PASSIVE"}}, ["OMP_WAIT_POLICY=passive", "unset it"]),
        ({"thread_settings": {"GOMP_SPINCOUNT": "0"}}, ["GOMP_SPINCOUNT=0", "unset it"]),
    ],
)
def test_what_stands_in_the_way_of_a_cpu(cpu, changes, words):
    (said,) = obstacles(cpu, **changes)
    for word in words:
        assert word in said
