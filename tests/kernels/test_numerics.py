"""Precision settings are what a dtype needs and are restored; fills are what they say, and repeatable."""

import re
import subprocess
import sys

import pytest
import torch

from nameplate_kernels import FILLS, PRECISIONS, precision_of
from nameplate_kernels.numerics import (
    find_largest_ratio,
    make_filled,
    make_generator,
    numerics,
    tf32_unsupported,
)

CPU = torch.device("cpu")
BACKENDS = [("generic", "all"), ("cuda", "all"), ("cuda", "matmul"), ("mkldnn", "all"), ("mkldnn", "matmul")]
REDUCTIONS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")


def settings():
    matmul = torch.backends.cuda.matmul
    flags = [getattr(matmul, name + end) for name in REDUCTIONS for end in ("", "_split_k")]
    precisions = [torch._C._get_fp32_precision_getter(*backend) for backend in BACKENDS]
    return [*precisions, *flags, matmul.allow_fp16_accumulation]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_roundoff_is_the_torch_dtypes_own(dtype):
    precision = precision_of(dtype)
    assert precision.result_roundoff == torch.finfo(precision.storage).eps / 2
    expected = torch.finfo(torch.float64 if dtype == "fp64" else torch.float32).eps / 2
    assert precision.accumulate_roundoff == expected


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_settings_are_restored_even_after_an_error(dtype):
    before = settings()
    with pytest.raises(KeyError), numerics(dtype):
        raise KeyError
    assert settings() == before


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
def test_nothing_falls_back_to_tf32(dtype):
    with numerics(dtype):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.fp32_precision == "ieee"


def test_tf32_is_allowed_for_tf32_alone_and_not_on_the_cpu():
    with numerics("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        with numerics("fp32"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize(("reduction", "allowed"), [(None, True), ("reduced", True), ("fp32", False)])
def test_split_sums_are_reduced_as_torch_has_it_unless_asked_for_in_fp32(dtype, reduction, allowed):
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = not allowed
    try:
        with numerics(dtype, reduction):
            assert [getattr(matmul, name) for name in REDUCTIONS] == [allowed, allowed]
            assert [getattr(matmul, f"{name}_split_k") for name in REDUCTIONS] == [True, True]
            assert not matmul.allow_fp16_accumulation
        assert matmul.allow_bf16_reduced_precision_reduction is not allowed
    finally:
        matmul.allow_bf16_reduced_precision_reduction = True


@pytest.mark.long
def test_this_torchs_own_default_is_the_first_choice():
    code = "import torch; m = torch.backends.cuda.matmul\n"
    code += f"print([getattr(m, name) for name in {REDUCTIONS!r}], m.allow_fp16_accumulation)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[True, True] False\n"


def test_an_unknown_reduction_says_what_was_expected():
    with (
        pytest.raises(ValueError, match="unknown reduction 'half'; expected one of reduced, fp32"),
        numerics("bf16", "half"),
    ):
        pass


def test_a_setting_made_by_the_user_survives_and_inheritance_does_too():
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32"
    try:
        with numerics("fp32"):
            pass
        assert matmul.fp32_precision == "tf32"
        matmul.fp32_precision = "none"
        with numerics("fp32"):
            pass
        torch.backends.fp32_precision = "tf32"
        assert matmul.fp32_precision == "tf32", "the matmul setting no longer follows the general one"
    finally:
        torch.backends.fp32_precision = "none"
        matmul.fp32_precision = "none"


def test_an_unknown_dtype_says_what_was_expected():
    with pytest.raises(ValueError, match=r"unknown dtype 'fp12'; expected one of fp64, fp32, tf32"):
        precision_of("fp12")
    with pytest.raises(ValueError, match="fp12"), numerics("fp12"):
        pass


def test_an_unknown_fill_says_what_was_expected():
    message = "unknown fill 'ones'; expected one of normal, uniform, integers, zeros"
    with pytest.raises(ValueError, match=re.escape(message)):
        make_filled((2,), "fp32", "ones", make_generator(CPU, 0))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("fill", FILLS)
def test_the_same_seed_gives_the_same_bits(fill, dtype):
    first, again, other = (
        make_filled((64, 32), dtype, fill, make_generator(CPU, seed)) for seed in (7, 7, 8)
    )
    assert first.dtype is PRECISIONS[dtype].storage
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (fill == "zeros")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_fills_are_what_they_say(dtype):
    values = {fill: make_filled((20_000,), dtype, fill, make_generator(CPU, 1)).double() for fill in FILLS}
    assert abs(values["normal"].mean()) < 0.05
    assert values["normal"].std() == pytest.approx(1, abs=0.05)
    assert values["uniform"].min() >= -1
    assert values["uniform"].max() <= 1
    assert values["uniform"].std() == pytest.approx(3**-0.5, abs=0.02)
    assert values["integers"].unique().tolist() == [-2, -1, 0, 1, 2]
    assert not values["zeros"].any()


def test_largest_ratio_counts_nan_as_infinite_and_nothing_over_nothing_as_zero():
    zero, one, nan = torch.zeros(2), torch.ones(2), torch.tensor([0.0, torch.nan])
    assert find_largest_ratio(zero, zero) == 0
    assert find_largest_ratio(one, 2 * one) == 0.5
    assert find_largest_ratio(one, zero) == torch.inf
    assert find_largest_ratio(nan, one) == torch.inf
    assert find_largest_ratio(one, nan) == torch.inf


def test_a_bound_that_overflowed_excuses_nothing():
    zero, one, infinite = torch.zeros(2), torch.ones(2), torch.full((2,), torch.inf)
    assert find_largest_ratio(one, infinite) == torch.inf
    assert find_largest_ratio(zero, infinite) == 0


def test_tf32_is_refused_on_a_cpu_with_a_reason():
    assert "NVIDIA tensor cores, Ampere and later" in tf32_unsupported(CPU)


def test_tf32_is_refused_before_ampere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 7.5" in tf32_unsupported(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert tf32_unsupported(torch.device("cuda:0")) is None
