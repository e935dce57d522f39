"""The calls that the CUDA device makes are those that torch has: its stand-ins can't drift from it.

A stand-in that takes what torch refuses would let a mistake through to the first real GPU. torch's own
classes and signatures are here without a GPU too.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch
from torch.autograd.profiler_util import FunctionEvent

from cuda_stand_in import Gpu
from nameplate.device.cuda import Accelerator
from nameplate.device.kernels import list_cuda_kernels
from nameplate.twin.accelerator import TwinAccelerator

ROOT = Path(__file__).parents[2]
CALLS = [name for name, each in vars(Accelerator).items() if callable(each) and not name.startswith("_")]


def parameters_of(function):
    """Name, kind and whether it may be left out, of every parameter but `self`."""
    found = inspect.signature(function).parameters.values()
    return [
        (each.name, each.kind, each.default is not each.empty)
        for each in found
        if each.name not in ("self", "cls") and each.kind is not each.VAR_KEYWORD
    ]


def places_of(parameters):
    return {name: place for place, (name, _, _) in enumerate(parameters)}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_torch_cuda_is_one_that_torch_takes(name):
    asked, torchs = parameters_of(getattr(Accelerator, name)), parameters_of(getattr(torch.cuda, name))
    by_name = {each[0]: each for each in torchs}
    for parameter, kind, _optional in asked:
        assert parameter in by_name
        if kind is not inspect.Parameter.KEYWORD_ONLY:
            assert places_of(torchs)[parameter] == places_of(asked)[parameter]
    needed = {parameter for parameter, _, optional in torchs if not optional}
    assert needed <= {parameter for parameter, _, _ in asked}


@pytest.mark.parametrize("stand_in", [TwinAccelerator, Gpu])
@pytest.mark.parametrize("name", CALLS)
def test_what_stands_in_for_torch_takes_no_more_than_it_is_asked(stand_in, name):
    assert parameters_of(getattr(stand_in, name)) == parameters_of(getattr(Accelerator, name))


def test_events_and_graphs_have_the_methods_that_are_called():
    inspect.signature(torch.cuda.Event.record).bind(None)
    inspect.signature(torch.cuda.Event.elapsed_time).bind(None, None)
    assert callable(torch.cuda.CUDAGraph.replay)


def test_a_failed_capture_is_ended_by_calls_that_a_torch_with_cuda_has():
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    assert callable(torch._C._cuda_endAllocateToPool)
    assert callable(torch._C._cuda_releasePool)


def test_kernels_are_listed_from_the_events_that_torchs_profiler_gives(monkeypatch):
    def event(name, device, microseconds):
        return FunctionEvent(
            id=1,
            name=name,
            thread=1,
            start_us=10.0,
            end_us=10.0 + microseconds,
            use_device="cuda",
            device_type=device,
        )

    kinds = torch.autograd.DeviceType
    seen = [
        event("aten::mm", kinds.CPU, 9.0),
        event("gemm", kinds.CUDA, 4.0),
        event("Memcpy DtoD", kinds.CUDA, 2.0),
    ]

    class Profile:
        def __init__(self, **asked):
            inspect.signature(torch.profiler.profile).bind(**asked)

        def __enter__(self):
            return SimpleNamespace(events=lambda: seen)

        def __exit__(self, *error):
            return None

    launched = []
    with monkeypatch.context() as changed:
        changed.setattr(
            torch.profiler, "supported_activities", lambda: {torch.profiler.ProfilerActivity.CUDA}
        )
        changed.setattr(torch.profiler, "profile", Profile)
        found = list_cuda_kernels(lambda: launched.append(1))
    assert found == (("gemm", 4.0), ("Memcpy DtoD", 2.0))
    assert launched == [1]


def test_attention_by_name_is_asked_of_torch_as_it_takes_it():
    attention = torch.nn.attention
    for implementation in ("FA3", "FA4"):
        inspect.signature(attention.activate_flash_attention_impl).bind(implementation)
        assert implementation in attention.list_flash_attention_impls()
    inspect.signature(attention.restore_flash_attention_impl).bind()
    assert {"MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION"} <= {
        *attention.SDPBackend.__members__
    }


# ---- every call in the source, whichever file it is in ----


def calls_in(*folders):
    """Every call in the source below these folders: where it is, its dotted name, and the node."""
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def test_every_call_of_torch_cuda_in_the_source_binds_to_torchs_own_signature():
    bound = set()
    for where, name, node in calls_in("src", "kernels", "bench"):
        is_torchs = re.fullmatch(r"torch\.cuda(\.\w+)+", name) is not None
        if not is_torchs or any(isinstance(each, ast.Starred) for each in node.args):
            continue
        function = torch
        for each in name.split(".")[1:]:
            assert hasattr(function, each), f"{where}: torch has no {name}"
            function = getattr(function, each)
        keywords = {each.arg: None for each in node.keywords if each.arg}
        try:
            inspect.signature(function).bind(*node.args, **keywords)
        except TypeError as error:
            raise AssertionError(f"{where}: {name}: {error}") from error
        except ValueError:  # a class of C++ whose arguments torch doesn't tell
            assert not node.args, where
        bound.add(name.removeprefix("torch.cuda."))
    assert {"set_device", "get_device_properties", "mem_get_info", "graph", "CUDAGraph", "stream"} <= bound


def test_what_is_read_of_a_gpus_properties_is_what_torch_gives():
    """Of a build without CUDA the type isn't there: the stub that torch ships says what it has."""
    stub = Path(torch.__file__).with_name("_C") / "__init__.pyi"
    (given,) = [
        {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == "_CudaDeviceProperties"
    ]
    assert {
        "name",
        "total_memory",
        "multi_processor_count",
        "major",
        "minor",
        "uuid",
        "L2_cache_size",
    } <= given


def test_every_call_of_nvml_in_the_source_binds_to_the_one_of_nvidia_ml_py():
    called = set()
    for where, name, node in calls_in("src/nameplate/telemetry"):
        first = node.args[0] if node.args else None
        asked = getattr(first, "value", None)
        if not isinstance(asked, str) or not re.match("nvml[A-Z]", asked):
            continue
        function = getattr(pynvml, asked, None)
        assert function is not None, f"{where}: nvidia-ml-py has no {asked}"
        # A source of `nvml_sources` is called with the handle before its own arguments.
        handle = [None] if name == "_call" else []
        try:
            inspect.signature(function).bind(*handle, *node.args[1:])
        except TypeError as error:
            raise AssertionError(f"{where}: {asked}: {error}") from error
        called.add(asked)
    assert len(called) > 40
    assert {"nvmlInit", "nvmlDeviceGetFieldValues", "nvmlDeviceGetTemperatureV", "nvmlEventSetWait"} <= called
