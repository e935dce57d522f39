"""Linear layers in fp8: forward and both gradients, their bound, and what such a block is held to."""

from dataclasses import replace

import pytest
import torch

from blocks import CPU, launched
from nameplate.engine.peak import rate_work
from nameplate.specs.rating import Figure, Rating
from nameplate_kernels import FP8, TrainingStep, TransformerBlock, fp8_linear
from nameplate_kernels.fp8_linear import fp8_linear as multiply

BLOCK = TransformerBlock(2, 32, 128, 4, 2, 192, FP8, "forward_backward")


def test_products_forward_and_of_both_gradients_are_near_those_in_fp64():
    generator = torch.Generator().manual_seed(5)
    x, w, gradient = (
        torch.randn(size, generator=generator).to(torch.bfloat16)
        for size in ((3, 32, 64), (48, 64), (3, 32, 48))
    )
    x.requires_grad_()
    w.requires_grad_()
    y = multiply(x, w)
    y.backward(gradient)
    wide_x, wide_w = (each.detach().double().requires_grad_() for each in (x, w))
    exact = wide_x @ wide_w.T
    exact.backward(gradient.double())
    for ours, theirs in ((y, exact), (x.grad, wide_x.grad), (w.grad, wide_w.grad)):
        assert (ours.dtype, ours.shape) == (torch.bfloat16, theirs.shape)
        # Two operands, each rounded by up to 2^-4: some 2^-4·√(2/3) of a sum of terms of random signs.
        assert 1e-3 < float((ours.detach() - theirs.detach()).norm() / theirs.detach().norm()) < 2.0**-4
    assert torch.isfinite(multiply(torch.zeros_like(x), w)).all()


def test_a_block_in_fp8_is_verified_by_a_bound_of_its_own_and_a_wrong_scale_is_found(monkeypatch):
    prepared = launched(BLOCK)
    check = prepared.check()
    assert 0.05 < check.error < 1, prepared.errors()
    assert prepared.buffers[0].y_BTD.dtype == torch.bfloat16
    assert launched(replace(BLOCK, dtype="bf16")).check().error < 1  # by the far narrower one of bf16
    rounded = fp8_linear._round
    monkeypatch.setattr(
        fp8_linear, "_round", lambda *values, **how: (rounded(*values, **how)[0], rounded(*values)[1] * 1.5)
    )
    assert launched(BLOCK).check().error > 1


def test_its_id_names_it_and_where_the_hardware_lacks_it_it_says_why():
    assert BLOCK.stored == "bf16"
    assert BLOCK.bytes == replace(BLOCK, dtype="bf16").bytes
    assert "no CPU" in BLOCK.unsupported(CPU)
    assert BLOCK.unsupported(torch.device("meta")) is None
    assert "multiples of 16" in replace(BLOCK, tokens=7).unsupported(torch.device("meta"))
    assert {gemm.dtype for gemm in BLOCK.gemms()} == {FP8}
    with pytest.raises(ValueError, match="in fp8, aren't known"):
        replace(BLOCK, experts=4, active_experts=2)
    with pytest.raises(ValueError, match="of one dtype"):
        TrainingStep(BLOCK, 1, 100)


def test_the_nominal_of_mixed_dtypes_is_weighted_by_time():
    rating = Rating(
        "x",
        "made up",
        nominal={FP8: Figure(2000.0, "a"), "bf16": Figure(1000.0, "b")},
        datasheet={FP8: Figure(2000.0, "a"), "bf16": Figure(500.0, "b")},
        rated_clock_mhz={FP8: 1800.0, "bf16": 1800.0},
    )
    scores = 3 * 2 * 2 * 32**2 * 128
    assert BLOCK.flops_by_dtype == {FP8: BLOCK.flops - scores, "bf16": scores}
    mixed = rate_work(rating, BLOCK)
    seconds = (BLOCK.flops - scores) / 2000 + scores / 1000
    assert mixed.nominal_for(FP8).tflops == pytest.approx(BLOCK.flops / seconds)
    assert mixed.datasheet_for(FP8).tflops < mixed.nominal_for(FP8).tflops
    assert mixed.rated_clock_mhz[FP8] == 1800.0
    assert str(mixed.nominal_for(FP8).source).startswith("FLOPs by dtype (fp8_e4m3 ")
    assert BLOCK.dimensions["bf16_flops"] == scores
    assert rate_work(rating, replace(BLOCK, dtype="bf16")) is rating
    without = replace(rating, nominal={FP8: Figure(2000.0, "a")})
    assert rate_work(without, BLOCK).nominal_for(FP8).tflops is None
    slower = replace(rating, rated_clock_mhz={FP8: 1800.0, "bf16": 1900.0})
    assert FP8 not in rate_work(slower, BLOCK).rated_clock_mhz
