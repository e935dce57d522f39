"""Which GPU a flag opens, what torch and the driver say it is, and where none can be used."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from cuda_stand_in import IDENTITY, Gpu
from nameplate.base.errors import InputError
from nameplate.device import cuda, driver, survey
from nameplate.device.cuda import CudaDevice
from nameplate.device.driver import DriverState, advise_build
from nameplate.device.identity import CudaIdentity
from nvml_clients import FIRST

PROPERTIES = SimpleNamespace(
    name="NVIDIA A800-SXM4-80GB",
    uuid=FIRST.removeprefix("GPU-"),
    total_memory=85_094_825_984,
    multi_processor_count=108,
    major=8,
    minor=0,
    L2_cache_size=40 << 20,
)


@pytest.fixture
def identify(monkeypatch):
    """Read a GPU's identity as torch shows `PROPERTIES`, changed or not, with an NVML of its own."""

    def read(**changes):
        shown = SimpleNamespace(**{**vars(PROPERTIES), **changes})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: shown)
        with cuda.open_nvml() as nvml:
            return cuda.read_identity(2, nvml)

    return read


@pytest.mark.process
def test_reads_one_gpu(use_nvml, identify):
    use_nvml("eight_a800")
    identity = identify(uuid=PROPERTIES.uuid[:-1] + "5")
    assert (identity.name, identity.index, identity.nvml_index) == ("NVIDIA A800-SXM4-80GB", 2, 5)
    assert (identity.driver, identity.cuda_driver, identity.vbios) == ("550.90.07", "12.4", "92.00.A0.00.05")
    assert (identity.uuid, identity.serial) == (FIRST[:-1] + "5", "1320522000005")
    assert (identity.pci_bus_id, identity.pci_id) == ("00000000:57:00.0", "10de:20f3")
    assert identity.pci_subsystem_id == "10de:179b"
    assert (identity.power_limit_w, identity.default_power_limit_w) == (400.0, 400.0)
    assert (identity.max_sm_clock_mhz, identity.max_memory_clock_mhz) == (1410, 1593)
    assert (identity.persistence_mode, identity.ecc_mode, identity.mig_mode) == (True, True, False)
    assert (identity.compute_mode, identity.mig_slice) == ("default", False)
    assert (identity.max_pcie_generation, identity.max_pcie_width) == (4, 16)
    assert (identity.compute_capability, identity.l2_bytes) == ("8.0", 40 << 20)
    assert CudaIdentity.model_validate_json(identity.model_dump_json()) == identity
    assert cuda.rate(identity).part == "nvidia-a800-sxm4-80gb"
    assert cuda.rate(identity).nominal_for("fp16").tflops == 320


@pytest.mark.process
def test_the_default_power_limit_is_evidence(use_nvml, identify):
    """A board limit far above the part's says another part; one that someone set lower says nothing."""
    use_nvml("eight_a800", "gpu.*.default_power_limit_mw = 700000")
    rating = cuda.rate(identify())
    assert rating.part is None
    assert "700 W" in str(rating.evidence)
    use_nvml("eight_a800", "gpu.*.power_limit_mw = 150000")
    assert cuda.rate(identify()).part == "nvidia-a800-sxm4-80gb"


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("call.nvmlInitWithFlags = error 9", {"driver", "serial", "pci_bus_id", "power_limit_w"}),
        ("gpu.0.serial =", {"serial"}),
        ("call.nvmlDeviceGetPciInfo_v3 = error 3", {"pci_bus_id", "pci_id"}),
        ("driver = error 999", {"driver"}),
        ("gpu.*.uuid = GPU-ffffffff-0000-4000-8000-00000000000{n}", {"serial", "pci_bus_id"}),
        ("gpu.0.call.nvmlDeviceGetName = crash", {"serial", "pci_bus_id"}),
    ],
)
def test_what_the_driver_refuses_is_left_out(use_nvml, identify, line, lost):
    use_nvml("eight_a800", line)
    identity = identify()
    assert {name for name in lost if getattr(identity, name) is not None} == set()
    assert (identity.name, identity.uuid) == ("NVIDIA A800-SXM4-80GB", FIRST)


def test_a_gpu_is_the_same_where_nvml_does_not_start_in_one_process():
    told = CudaIdentity(name="NVIDIA H200", index=0, uuid=FIRST, memory_bytes=1 << 37, driver="580.1")
    untold = told.model_copy(update={"driver": None})
    assert told.is_same_device(untold)
    assert untold.is_same_device(told)
    assert not untold.is_same_device(told.model_copy(update={"uuid": "GPU-another"}))


@pytest.mark.process
def test_a_slice_is_the_same_device_whether_nvml_was_there_or_not(use_nvml, identify):
    use_nvml("eight_a800", "mig")
    told = identify(uuid="a8000000-0000-5000-8000-000000000001")
    assert (told.uuid, told.mig_slice) == ("MIG-a8000000-0000-5000-8000-000000000001", True)
    untold = told.model_copy(update={"uuid": "GPU-a8000000-0000-5000-8000-000000000001"})
    assert told.is_same_device(untold)
    assert not told.is_same_device(told.model_copy(update={"driver": "590.1"}))
    assert told.is_same_device(told.model_copy(update={"power_limit_w": 250.0}))


@pytest.mark.process
def test_the_driver_counts_gpus_and_its_process_ends(use_nvml):
    use_nvml("eight_a800")
    children = set(psutil.Process().children())
    assert driver.ask_driver() == DriverState("550.90.07", "12.4", 8)
    use_nvml("eight_a800", "call.nvmlInitWithFlags = error 9")
    assert driver.ask_driver() == DriverState(absent="NVML_ERROR_DRIVER_NOT_LOADED: nvmlInit")
    assert set(psutil.Process().children()) <= children


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("call.nvmlInitWithFlags = hang", "no answer.*nvidia-smi"),
        ("call.nvmlInitWithFlags = error 18", "VERSION_MISMATCH.*reboot"),
        ("call.nvmlInitWithFlags = error 4", "NO_PERMISSION.*/dev/nvidia"),
        ("call.nvmlInitWithFlags = error 15", "GPU_IS_LOST.*reset or reseat"),
        ("call.nvmlInitWithFlags = error 17", "OPERATING_SYSTEM.*device rules"),
        ("call.nvmlInitWithFlags = error 999", "NVML_ERROR_UNKNOWN.*nvidia-smi"),
        ("call.nvmlDeviceGetCount_v2 = error 999", "NVML_ERROR_UNKNOWN.*nvidia-smi"),
    ],
)
def test_a_driver_that_is_there_and_does_not_answer_is_no_silent_cpu(use_nvml, monkeypatch, line, sentence):
    if "hang" in line:
        monkeypatch.setenv(cuda.DEADLINE, "1")
    use_nvml("eight_a800", line)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device: an NVIDIA driver is here.*{sentence}.*--device cpu"):
        survey.find_device_names("auto")
    assert survey.find_device_names("cpu") == ["cpu"]


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs for torch, and so many for the driver (None: no driver)."""

    def build(torch_sees, driver_sees):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: torch_sees)
        gone = DriverState(absent="NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit")
        state = gone if driver_sees is None else DriverState("470.82.01", "11.4", driver_sees)
        monkeypatch.setattr(driver, "ask_driver", lambda: state)
        monkeypatch.setattr(
            cuda, "read_identity", lambda index: CudaIdentity(name="NVIDIA Test", index=index)
        )
        monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
        monkeypatch.setattr(cuda, "ContextCheck", lambda device: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (60 << 30, 80 << 30))
        monkeypatch.setattr(survey, "CpuDevice", lambda identity: SimpleNamespace(name="cpu"))

    return build


@pytest.mark.parametrize(
    ("torch_sees", "driver_sees", "flag", "opened"),
    [
        (1, 1, "auto", "cuda:0"),
        (2, 2, "auto", "cuda:0"),
        (2, 2, "cuda", "cuda:0"),
        (2, 2, "cuda:1", "cuda:1"),
        (1, 1, "cpu", "cpu"),
        (0, None, "auto", "cpu"),
        (0, 0, "auto", "cpu"),
        (0, 1, "cpu", "cpu"),  # the way out of a driver that torch can't use
    ],
)
def test_a_flag_opens_its_device(machine, torch_sees, driver_sees, flag, opened):
    machine(torch_sees, driver_sees)
    assert survey.find_device_names(flag) == [opened]
    assert survey.open_device(flag).name == opened


@pytest.mark.parametrize(
    ("torch_sees", "driver_sees", "names"),
    [(2, 2, ["cuda:0", "cuda:1"]), (1, 1, ["cuda:0"]), (0, None, ["cpu"])],
)
def test_all_is_every_gpu_or_the_cpu_where_there_is_none(machine, torch_sees, driver_sees, names):
    machine(torch_sees, driver_sees)
    assert survey.find_device_names("all") == names


@pytest.mark.parametrize("flag", ["auto", "cuda", "cuda:0", "all"])
def test_a_gpu_that_torch_cannot_use_is_never_a_silent_cpu_run(machine, flag):
    machine(0, 2)
    with pytest.raises(InputError) as refused:
        survey.open_device(survey.find_device_names(flag)[0])
    sentence = str(refused.value)
    assert "NVML sees 2 GPUs but torch can't use any" in sentence
    assert "driver 470.82.01" in sentence
    assert f"torch {torch.__version__}" in sentence
    assert "--device cpu" in sentence
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("supported", "built", "words"),
    [
        ("12.2", "13.0", ["CUDA 12.2", "whl/cu126", "a newer driver"]),
        ("12.8", None, ["torch built for CUDA", "CUDA 12.8", "whl/cu126"]),
        ("13.1", None, ["whl/cu130"]),
        ("14.0", None, ["whl/cu130"]),  # a driver runs what older CUDA builds
        ("11.4", "12.6", ["driver 525 or newer", "CUDA 11.4", "2.11"]),
        ("11.4", None, ["driver 525 or newer"]),
        ("12.4", "12.6", ["CUDA_VISIBLE_DEVICES", "torch.cuda.init()"]),  # not the versions' fault
        ("13.0", "12.6", ["CUDA_VISIBLE_DEVICES"]),
        (None, "12.6", ["nvidia-smi shows its CUDA version"]),
    ],
)
def test_a_driver_too_old_for_torch_is_told_the_wheel_index_that_fits(supported, built, words):
    advice = advise_build(supported, built)
    assert [word for word in words if word not in advice] == []
    assert ("whl/" in advice) == any("whl/" in word for word in words)


def test_why_the_cpu_was_chosen_is_kept(machine):
    machine(0, None)
    choice = survey.choose_devices("auto")
    assert choice.driver.absent == "NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit"
    assert str(driver.why_no_gpu(choice.driver)) == (
        "no NVIDIA driver here (NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit), so the CPU was measured"
    )
    machine(0, 0)
    said = driver.why_no_gpu(survey.choose_devices("all").driver)
    assert str(said) == "NVML sees no GPU, so the CPU was measured"
    assert survey.choose_devices("cpu").driver is None


@pytest.mark.long
@pytest.mark.process
def test_what_nvml_cannot_read_or_reports_wrongly_of_a_runs_gpus_is_named(use_nvml, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    calls = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID")
    use_nvml(
        "eight_a800",
        *(f"gpu.1.call.{call} = hang" for call in calls),
        *(f"gpu.2.call.{call} = error 15" for call in calls),
        "gpu.3.sm_clock_mhz = 4294967295",
    )
    identities = [
        IDENTITY.model_copy(update={"uuid": FIRST[:-1] + str(index), "index": index}) for index in range(4)
    ]
    with cuda.open_nvml() as nvml:
        monkeypatch.setattr(driver, "share_nvml", lambda: nvml)
        devices = [CudaDevice(identity, Gpu(), nvml) for identity in identities]
        faults = [str(fault) for fault in driver.find_gpu_faults(devices)]
    assert [fault.split(":")[:2] for fault in faults] == [["cuda", "1"], ["cuda", "2"], ["cuda", "3"]]
    hung, lost, nonsense = faults
    assert "no answer within 1.0 s" in hung
    assert "NVML_ERROR_GPU_IS_LOST" in lost
    assert "reports what can't be true" in nonsense
    assert "sm_clock_mhz" in nonsense


@pytest.mark.parametrize(
    ("torch_sees", "flag", "words"),
    [
        (1, "cuda:7", ["no such GPU", "got 'cuda:7'", "1 GPU"]),
        (2, "cuda:2", ["no such GPU", "got 'cuda:2'", "2 GPUs"]),
        (0, "cuda:0", ["no such GPU", "no CUDA GPU is here"]),
        (0, "cuda", ["no such GPU", "expected cpu: no CUDA GPU is here"]),
        (1, "gpu", ["unknown device", "got 'gpu'", "auto, cpu, cuda, cuda:N, all, or twin:NAME"]),
        (1, "cuda:", ["unknown device", "got 'cuda:'"]),
        (1, "cuda:-1", ["unknown device"]),
        (1, "cuda:0 ", ["unknown device"]),
        (1, "CPU", ["unknown device", "got 'CPU'"]),
        (1, "", ["unknown device", "got ''"]),
    ],
)
def test_what_cannot_be_opened_says_what_can(machine, torch_sees, flag, words):
    machine(torch_sees, torch_sees or None)
    with pytest.raises(InputError) as refused:
        survey.open_device(flag)
    assert str(refused.value).startswith("--device: ")
    for word in words:
        assert word in str(refused.value)
