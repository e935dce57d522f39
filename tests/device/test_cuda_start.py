"""CUDA is started in another process first: a start that hangs or crashes is a sentence, and no hang."""

from __future__ import annotations

import subprocess

import pytest

from nameplate.base.environment import READY_VARIABLE
from nameplate.base.errors import InputError
from nameplate.device import cuda_start, survey
from nameplate.device.cuda_start import CudaUnusable, require_cuda_start
from nameplate.selftest.bare import compare_with_bare_loop

pytestmark = pytest.mark.process


@pytest.fixture
def start(nvml_library, tmp_path, monkeypatch):
    """Have the driver's cuInit do this, in C."""
    builder, _ = nvml_library

    def use(body):
        code = f"#include <stdlib.h>\n#include <unistd.h>\nint cuInit(unsigned flags) {{ {body} }}\n"
        (tmp_path / "cuda.c").write_text(code)
        library = str(tmp_path / "libcuda.so.1")
        subprocess.run(
            [builder.compiler(), "-shared", "-fPIC", "-o", library, str(tmp_path / "cuda.c")], check=True
        )
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        monkeypatch.setattr(cuda_start, "is_driver_loaded", lambda: True)

    cuda_start._start_elsewhere.cache_clear()
    yield use
    cuda_start._start_elsewhere.cache_clear()


def test_a_start_that_hangs_is_ended_and_told(start, monkeypatch):
    monkeypatch.setenv(READY_VARIABLE, "0.5")
    start("for (;;) pause();")
    with pytest.raises(
        CudaUnusable, match=r"got 'cuInit gave no answer within 0.5 s'; .*--device cpu"
    ) as told:
        require_cuda_start()
    assert told.value.exit_status == 2


def test_a_start_that_crashes_is_told(start):
    start("abort();")
    with pytest.raises(CudaUnusable, match="cuInit ended by SIGABRT"):
        require_cuda_start()


@pytest.mark.parametrize("body", ["return 0;", "return 100;", "exit(3);"])
def test_an_error_is_for_torch_to_tell(start, body):
    start(body)
    require_cuda_start()


def test_a_start_that_went_well_is_not_asked_for_again(start, monkeypatch):
    start("return 0;")
    require_cuda_start()
    monkeypatch.setattr(cuda_start, "run_to_end", None)
    require_cuda_start()


def test_a_start_that_failed_is_told_again(start):
    start("abort();")
    for _ in range(2):
        with pytest.raises(CudaUnusable):
            require_cuda_start()


@pytest.mark.parametrize("name", ["cuda:0", "cuda", "auto", "all"])
@pytest.mark.parametrize("ask", [survey.choose_devices, survey.survey_one, compare_with_bare_loop])
def test_torch_is_asked_for_gpus_only_after_another_process(ask, name, monkeypatch):
    monkeypatch.setattr(survey, "require_cuda_start", _refuse)
    with pytest.raises(CudaUnusable):
        ask(name)


def test_a_gpu_of_a_resumed_run_is_described_only_after_another_process(monkeypatch):
    monkeypatch.setattr(survey, "require_cuda_start", _refuse)
    with pytest.raises(CudaUnusable):
        survey.describe("cuda:0")


@pytest.mark.parametrize("name", ["tpu", "", "cuda", "cuda:", "cuda:x", "cuda:-1", "auto", "cuda:7"])
def test_a_device_of_a_manifest_that_isnt_here_is_refused(monkeypatch, name):
    """A run of a node with GPUs may be resumed where there is none."""
    monkeypatch.setattr(survey, "require_cuda_start", lambda: None)
    monkeypatch.setattr(survey, "_count_torch_gpus", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # else the driver is asked why
    with pytest.raises(InputError, match=r"unknown device|no such GPU"):
        survey.describe(name)


def test_for_the_cpu_no_cuda_is_started(monkeypatch):
    monkeypatch.setattr(survey, "require_cuda_start", _refuse)
    assert survey.find_device_names("cpu") == ["cpu"]


def test_without_a_driver_nothing_is_started(monkeypatch):
    monkeypatch.setattr(cuda_start, "is_driver_loaded", lambda: False)
    monkeypatch.setattr(cuda_start, "run_to_end", None)
    require_cuda_start()


def test_the_gpus_are_listed_though_cuda_does_not_start(use_nvml, bench, monkeypatch):
    use_nvml("eight_a800", "count = 2")
    monkeypatch.setattr(survey, "require_cuda_start", _refuse)
    shown = " ".join(bench("devices").out.split())
    assert "CUDA can't be started: cuInit ended by SIGABRT" in shown
    assert "nvml:0 … nvml:1" in shown


def _refuse():
    raise CudaUnusable("no start", got="cuInit ended by SIGABRT")
