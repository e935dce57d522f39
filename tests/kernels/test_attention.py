"""Attention alone: verified piece by piece, whatever the mask, the heads and the backend; sabotage fails."""

import pytest
import torch

from nameplate_kernels import ATTENTION_BACKENDS, Attention
from nameplate_kernels import attention as module
from nameplate_kernels.numerics import MODELLED

CPU = torch.device("cpu")
ON_A_CPU = ("default", "math", "flash")


def small(dtype="fp32", pass_="forward_backward", causal=True, backend="default", tokens=48):
    return Attention(2, tokens, 4, 2, 16, causal, dtype, pass_, backend)


def launched(workload, fill="normal"):
    prepared = workload.prepare(CPU, fill=fill, seed=3)
    with prepared.numerics():
        prepared.compute_reference()
        prepared.launches[0]()
    return prepared


@pytest.mark.parametrize("causal", [True, False])
def test_the_reference_is_that_of_autograd_in_double_precision(causal, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 4 * 2 * 48 * 8 * 7)  # seven queries at a time
    prepared = small(causal=causal).prepare(CPU, fill="normal", seed=1)
    prepared.compute_reference()
    (buffers,), (reference,) = prepared.buffers, prepared._references
    q, k, v = (each.detach().double().requires_grad_() for each in buffers.inputs)
    wide_k, wide_v = (each.repeat_interleave(2, dim=1) for each in (k, v))
    scores = q @ wide_k.transpose(2, 3) / 4
    if causal:
        scores = scores + torch.full((48, 48), -torch.inf, dtype=torch.float64).triu(1)
    y = torch.softmax(scores, -1) @ wide_v
    y.backward(buffers.output_gradient.double())
    expected = {"y": y.detach(), "q gradient": q.grad, "k gradient": k.grad, "v gradient": v.grad}
    assert reference.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(reference[name].value, value, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("backend", ON_A_CPU)
def test_a_right_result_passes_with_room(backend, causal, dtype):
    for pass_ in ("forward", "forward_backward"):
        prepared = launched(small(dtype, pass_, causal, backend))
        assert 0 < prepared.check().error < 0.5, prepared.errors()
    assert launched(small(dtype, "forward", causal, backend), fill="zeros").check().passed


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda q, k, v, **_: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        lambda q, k, v, **_: module_attend(q * 1.1, k, v),
        lambda q, k, v, **_: module_attend(q, k.flip(1), v),
        lambda q, k, v, **_: module_attend(q, k, v) * 1.05,
    ],
    ids=["no mask", "another scale", "wrong groups", "a factor"],
)
def test_a_sabotaged_one_fails(fault, dtype, monkeypatch):
    prepared = launched(small(dtype))
    monkeypatch.setattr(module, "attend", fault)
    prepared.launches[0]()
    assert prepared.check().error > 1.5, prepared.errors()


module_attend = module.attend


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_wrong_or_missing_gradient_fails(which):
    prepared = launched(small("bf16"))
    tensor = prepared.buffers[0].inputs[which]
    tensor.grad *= 1.2
    assert prepared.check().error > 1.5
    tensor.grad = None
    assert prepared.check().error == float("inf")


def test_declares_its_work_as_flash_attention_counts_it():
    forward = Attention(2, 4096, 32, 8, 128, True, "bf16", "forward")
    assert (forward.name, forward.shape) == ("attention", "2x4096x32x8x128-causal-forward")
    assert (forward.convention, forward.flops) == ("flash_attention", 4 * 2 * 4096**2 * 32 * 128 // 2)
    full = Attention(2, 4096, 32, 8, 128, False, "bf16", "forward_backward", "flash")
    assert full.flops == 3.5 * 2 * forward.flops
    assert full.dimensions["attention"] == "flash"
    assert forward.bytes == 2 * 2 * 4096 * 128 * (32 + 8 + 8 + 32)
    assert [(each.batch, each.heads, each.tokens) for each in full.pilots()] == [(1, 4, 256), (1, 32, 1024)]
    assert small(tokens=256).pilots() == ()


def test_a_backend_that_cant_run_says_why():
    assert [each for each in ATTENTION_BACKENDS if small(backend=each).unsupported(CPU) is None] == list(
        ON_A_CPU
    )
    twin = torch.device(MODELLED)
    assert "the twin has no model of cudnn" in small(backend="cudnn").unsupported(twin)
    assert small(backend="flash").unsupported(twin) is None
    assert "no higher precision" in small("fp64").unsupported(CPU)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kv_heads": 3}, "kv_heads must divide heads"),
        ({"tokens": 0}, "at least 1"),
        ({"pass_": "backward"}, "unknown pass"),
        ({"backend": "fast"}, "unknown attention backend 'fast'; expected one of default, math"),
        ({"dtype": "fp7"}, "unknown dtype"),
    ],
)
def test_refuses_what_is_no_attention(changed, said):
    sizes = {"batch": 1, "tokens": 8, "heads": 4, "kv_heads": 2, "head_dim": 8, "causal": True}
    with pytest.raises(ValueError, match=said):
        Attention(**(sizes | {"dtype": "fp32", "pass_": "forward"} | changed))


def test_the_digest_is_the_same_at_every_launch_and_again():
    first, second = launched(small("bf16")), launched(small("bf16"))
    assert first.digest() == second.digest() is not None
    second.launches[0]()
    assert second.digest() == first.digest()
