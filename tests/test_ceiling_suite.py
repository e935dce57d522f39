"""Suite `ceiling`: a grid for each dtype that a device has arithmetic in."""

from dataclasses import replace

import pytest
import torch

from nameplate.suite import Target, find_suite

CPU = Target("cpu", "amd-zen4", 8 << 30, frozenset({"fp64", "fp32", "bf16"}))
H200 = Target("cuda", None, 141 << 30, frozenset(), multiprocessors=132)


def _searched(cases):
    return [case for case in cases if case.workload.unsupported(torch.device("cpu")) is None]


def test_there_is_a_group_a_dtype_and_what_a_cpu_lacks_is_a_case_with_its_reason():
    cases = find_suite("ceiling").cases(CPU)
    of_torch = [case for case in _searched(cases) if case.backend == "torch" and case.fill == "normal"]
    assert [case.id for case in of_torch] == [
        f"matmul/{dtype}/best/normal/warm/sustained/torch" for dtype in ("bf16", "fp32", "fp64")
    ]
    assert {case.group for case in cases} == {f"best-{case.workload.dtype}" for case in cases}
    assert not any(case.workload.exhaustive for case in cases)
    lacking = {
        case.workload.dtype: case.workload.unsupported(torch.device("cpu"))
        for case in cases
        if case not in _searched(cases) and case.backend == "torch"
    }
    assert lacking.keys() == {
        *("int8", "fp16", "tf32", "fp16_acc16", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4")
    }
    assert "no instructions for int8 products are known" in lacking["int8"]
    assert "tensor cores" in lacking["tf32"]
    grid = find_suite("ceiling-grid").cases(CPU)
    assert [case.id for case in grid] == [case.id for case in cases]
    assert all(case.workload.exhaustive for case in grid)


def test_the_first_dtype_has_every_fill_and_each_dtype_the_libraries_that_have_it():
    cases = find_suite("ceiling").cases(CPU)
    fills = [case for case in cases if case.fill != "normal"]
    assert {(case.workload, case.backend) for case in fills} == {(cases[0].workload, "torch")}
    backends = {case.backend for case in cases if case.workload.dtype == "fp32"}
    assert backends == {"torch", "onednn_packed", "numpy", "torch_compile"}
    assert all(case.workload.backend == case.backend for case in cases)
    twin = find_suite("ceiling").cases(replace(H200, is_simulated=True))
    assert {case.backend for case in twin} == {"torch"}
    assert "cublaslt" in {case.backend for case in find_suite("ceiling").cases(H200)}


def test_a_gpus_cases_have_fp8_by_every_scaling_and_int8():
    ids = [case.id for case in find_suite("ceiling").cases(H200)]
    for middle in ("fp8_e4m3/best", "fp8_e4m3/best-rows", "fp8_e4m3/best-blocks", "int8/best", "nvfp4/best"):
        assert f"matmul/{middle}/normal/rotating/sustained/torch" in ids


@pytest.mark.parametrize("target", [CPU, H200])
def test_the_first_two_dtypes_by_torch_have_most_of_the_time(target):
    cases = find_suite("ceiling").cases(target)
    cases = _searched(cases) if target is CPU else cases
    of_torch = [case for case in cases if case.backend == "torch" and case.fill == "normal"]
    first, second, *others = [case.weight for case in of_torch]
    assert first == 2 * second
    assert second >= max(others)
    total = sum(case.weight for case in cases if case.fill == "normal")
    assert first / total > (0.4 if target is CPU else 0.1)
    for case in cases:
        if case.backend != "torch":
            assert case.weight <= 0.2 * first


def test_a_gpus_grid_has_shapes_whose_tiles_fill_every_wave():
    (work, *_) = [case.workload for case in find_suite("ceiling").cases(H200)]
    assert any(m // 128 * (n // 128) % 132 == 0 for m in work.sizes_m for n in work.sizes_n)
    assert {2048, 8192, 16384} <= set(work.sizes_m) & set(work.sizes_n)


@pytest.mark.parametrize("multiprocessors", [None, 1, 114, 127])
def test_any_number_of_multiprocessors_has_a_grid_of_bounded_size(multiprocessors):
    target = Target("cuda", None, None, frozenset(), multiprocessors=multiprocessors)
    for case in find_suite("ceiling").cases(target):
        assert max(case.workload.sizes_m) <= 16384
        assert case.workload.dimensions["shapes"] <= 100_000
