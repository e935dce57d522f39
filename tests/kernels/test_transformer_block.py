"""The block against an independent one, its count of FLOPs, and a check that sabotage fails."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from blocks import CPU, independent_head, launched
from nameplate_kernels import Matmul, TransformerBlock, block_layers
from nameplate_kernels.attention_backends import attend

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")


def small(dtype="fp32", pass_="forward_backward", tokens=32, batch=1):
    return TransformerBlock.llama3_8b(tokens, dtype, pass_, batch=batch, width=1 / 8)


def digests_of_launches(prepared, times):
    found = set()
    with prepared.numerics():
        for _ in range(times):
            prepared.launches[0]()
            found.add(prepared.digest())
    return found


def independent_norm(x, weight):
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + 1e-5) * weight


def independent_block(x_BTD, weights, heads):
    H, G, Q = heads
    outputs = []
    for x_TD in x_BTD:
        n_TD = independent_norm(x_TD, weights.norm1_D)
        wq, wk, wv = weights.wqkv_ED[: H * Q], weights.wqkv_ED[H * Q : -G * Q], weights.wqkv_ED[-G * Q :]
        mixed = []
        for head in range(H):
            group = head // (H // G)
            own, shared = slice(head * Q, (head + 1) * Q), slice(group * Q, (group + 1) * Q)
            mixed.append(independent_head(n_TD @ wq[own].T, n_TD @ wk[shared].T, n_TD @ wv[shared].T))
        h_TD = x_TD + torch.cat(mixed, dim=1) @ weights.wo_DA.T
        n_TD = independent_norm(h_TD, weights.norm2_D)
        gate_TF = n_TD @ weights.w1_FD.T
        outputs.append(
            h_TD + (gate_TF / (1 + torch.exp(-gate_TF)) * (n_TD @ weights.w3_FD.T)) @ weights.w2_DF.T
        )
    return torch.stack(outputs)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 4), (6, 1)])
def test_the_block_and_its_gradients_equal_an_independent_implementation(heads, kv_heads):
    workload = TransformerBlock(2, 5, 4 * heads, heads, kv_heads, 20, "fp32", "forward_backward")
    (buffers,) = workload.prepare(CPU, fill="normal", seed=1).buffers
    ours, theirs = buffers.upcast(torch.float64), buffers.upcast(torch.float64)
    ours.launcher()
    y_BTD = independent_block(theirs.x_BTD, theirs.weights, theirs.heads)
    y_BTD.backward(theirs.output_gradient)
    torch.testing.assert_close(ours.y_BTD, y_BTD.detach(), rtol=1e-12, atol=1e-12)
    for name, mine, other in zip(("x", *theirs.weights.named()), ours.leaves, theirs.leaves, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_repeated_keys_and_values_give_what_shared_ones_give():
    q, k, v = (torch.randn(1, heads, 9, 8, dtype=torch.float64) for heads in (6, 2, 2))
    repeated = [x.repeat_interleave(3, dim=1) for x in (k, v)]
    torch.testing.assert_close(attend(q, k, v), attend(q, *repeated))


def test_activations_stay_of_order_one():
    (buffers,) = launched(small(tokens=64)).buffers
    assert 0.8 < buffers.y_BTD.std() < 2


def test_declares_its_work():
    workload = TransformerBlock.llama3_8b(128, "bf16", "forward")
    assert (workload.name, workload.shape) == ("transformer_block", "1x128x4096-forward")
    assert (workload.convention, workload.represents) == ("megatron", "Llama-3-8B")
    assert workload.dimensions == {
        "batch": 1,
        "tokens": 128,
        "d_model": 4096,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "ffn": 14336,
        "pass": "forward",
        "rope_theta": 500000,
        "norm_epsilon": "1e-05",
        "parameters": 218_112_000,
        "mlp": "swiglu",
        "mask": "causal",
        "norm": "rms",
        "bias": "no",
        "positions": "rotary",
        "attention": "default",
        "execution": "eager",
    }
    assert workload.parameters == 218_112_000  # the published 8.03 G: 32 of these, 2 embeddings, a norm
    assert 32 * workload.parameters + 2 * 128256 * 4096 + 4096 == 8_030_261_248
    assert workload.bytes == 2 * (218_112_000 + 2 * 128 * 4096)
    both = TransformerBlock.llama3_8b(128, "bf16", "forward_backward")
    assert both.shape == "1x128x4096-forward_backward"
    assert both.flops == 3 * workload.flops
    assert both.bytes == 2 * (3 * 218_112_000 + 4 * 128 * 4096)
    assert both.resident_bytes > workload.resident_bytes > workload.bytes


def test_flops_follow_the_closed_form():
    batch, tokens, d, hq, gq, f = 3, 100, 4096, 4096, 1024, 14336
    workload = TransformerBlock.llama3_8b(tokens, "bf16", "forward", batch=batch)
    products = 2 * batch * tokens * (d * hq + 2 * d * gq + hq * d + 3 * d * f)
    assert workload.flops == products + 4 * batch * tokens**2 * hq // 2


def test_the_whole_model_gives_the_known_count_a_token():
    tokens = 2048
    block = TransformerBlock.llama3_8b(tokens, "bf16", "forward_backward")
    logits = 3 * 2 * 4096 * 128256
    assert (32 * block.flops / tokens + logits) / 1e9 == pytest.approx(46.6, abs=0.05)


@pytest.mark.parametrize(("kernel", "counted"), [("MATH", 2.0), ("FLASH_ATTENTION", 0.0)])
@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_torch_counts_attention_without_its_mask_or_not_at_all(pass_, kernel, counted):
    """The known disagreements of its counter with the closed form, which counts the half that a mask leaves:
    products of the math kernel in full, and nothing for the fused kernel of a CPU.
    """
    workload = small(pass_=pass_, batch=2)
    prepared = workload.prepare(CPU, fill="normal", seed=0)
    kept = sdpa_kernel(getattr(SDPBackend, kernel))
    with kept, FlopCounterMode(display=False) as counter:
        prepared.launches[0]()
    products = sum(gemm.times * gemm.flops for gemm in workload.gemms()) * (3 if workload.backward else 1)
    scores = workload.flops - products
    assert counter.get_total_flops() - products == counted * scores


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_flops_of_the_products_are_those_torch_counts(pass_):
    workload = small(pass_=pass_, batch=2)
    prepared = workload.prepare(CPU, fill="normal", seed=0)
    with FlopCounterMode(display=False) as counter:
        prepared.launches[0]()
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    products = sum(count for name, count in counts.items() if "attention" not in name)
    causal_scores = 2 * workload.batch * workload.tokens**2 * workload.d_model
    expected = workload.flops - causal_scores * (3 if workload.backward else 1)
    assert products == expected


def test_its_products_are_its_own_and_add_up():
    workload = TransformerBlock.llama3_8b(256, "bf16", "forward", batch=2)
    gemms = workload.gemms()
    assert [gemm.shape for gemm in gemms] == [
        "512x6144x4096-nt",
        "512x4096x4096-nt",
        "512x14336x4096-nt",
        "512x4096x14336-nt",
    ]
    assert gemms[0] == Matmul(512, 6144, 4096, "bf16", "nt", "Llama-3-8B")
    assert [gemm.times for gemm in gemms] == [1, 1, 2, 1]
    assert sum(gemm.times * gemm.flops for gemm in gemms) + 2 * 2 * 256**2 * 4096 == workload.flops
    assert all(gemm.represents is None for gemm in small().gemms())


def test_narrower_blocks_stand_for_no_model():
    block = small()
    assert (block.d_model, block.heads, block.kv_heads, block.head_dim, block.ffn) == (512, 4, 1, 128, 1792)
    assert block.represents is None
    with pytest.raises(ValueError, match=r"width must be 1, 1/2, 1/4 or 1/8, got 0\.3"):
        TransformerBlock.llama3_8b(16, "bf16", "forward", width=0.3)


def test_pilots_are_small_and_stand_for_nothing():
    whole = TransformerBlock.llama3_8b(2048, "bf16", "forward_backward")
    pilots = whole.pilots()
    assert pilots[0] == small("bf16", tokens=128)
    assert [(each.d_model, each.tokens) for each in pilots] == [(512, 128), (1024, 256), (2048, 512)]
    assert all(8 * each.flops <= whole.flops and each.represents is None for each in pilots)
    assert pilots[0].pilots() == ()
    assert small(tokens=512).pilots() == (small(tokens=128),)
    assert TransformerBlock.llama3_8b(16, "bf16", "forward").pilots()[0].tokens == 16
    odd = TransformerBlock(1, 64, 1536, 12, 12, 1000, "fp32", "forward").pilots()[0]
    assert (odd.d_model, odd.heads, odd.kv_heads, odd.ffn) == (384, 3, 3, 250)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pass_": "backward"}, "unknown pass 'backward'; expected forward or forward_backward"),
        ({"dtype": "fp7"}, "unknown dtype 'fp7'"),
        ({"tokens": 0}, "sizes must be at least 1"),
        ({"kv_heads": 3}, "kv_heads must divide heads"),
        ({"d_model": 36}, "got d_model 36, heads 4"),
        ({"d_model": 34}, "got d_model 34, heads 4"),
        ({"norm": "batch"}, "unknown norm 'batch'; expected rms or layer"),
        ({"execution": "fast"}, "unknown execution 'fast'"),
        ({"attention": "slow"}, "unknown attention backend 'slow'"),
        ({"experts": 4, "active_experts": 5}, "active_experts must be from 1 to experts"),
        ({"experts": 3, "active_experts": 1}, "experts must divide"),
        ({"experts": 4, "active_experts": 1, "bias": True}, "experts with biases"),
    ],
)
def test_refuses_what_is_no_block(changed, message):
    numbers = {"batch": 1, "tokens": 8, "d_model": 32, "heads": 4, "kv_heads": 2, "ffn": 16}
    with pytest.raises(ValueError, match=message):
        TransformerBlock(**(numbers | {"dtype": "fp32", "pass_": "forward"} | changed))


def test_unsupported_dtypes_say_why():
    assert "no higher precision" in small("fp64").unsupported(CPU)
    assert "tensor cores" in small("tf32").unsupported(CPU)
    assert small("bf16").unsupported(CPU) is None


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="unknown fill 'ones'"):
        small().prepare(CPU, fill="ones", seed=0)


def test_a_forward_launch_keeps_nothing_for_a_backward_pass():
    (buffers,) = launched(small(pass_="forward")).buffers
    assert buffers.y_BTD.is_inference()
    assert not any(leaf.requires_grad for leaf in buffers.leaves)


def test_a_second_launch_does_not_add_to_the_gradients_of_the_first():
    prepared = launched(small())
    (buffers,) = prepared.buffers
    first = [leaf.grad.clone() for leaf in buffers.leaves]
    prepared.launches[0]()
    for before, leaf in zip(first, buffers.leaves, strict=True):
        torch.testing.assert_close(leaf.grad, before)


def test_the_same_seed_gives_the_same_block_and_copies_differ():
    one, two = (small("bf16").prepare(CPU, fill="normal", seed=9, copies=n) for n in (1, 2))
    for mine, same in zip(one.buffers[0].leaves, two.buffers[0].leaves, strict=True):
        assert torch.equal(mine, same)
    assert not torch.equal(two.buffers[0].weights.w1_FD, two.buffers[1].weights.w1_FD)


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_a_right_block_passes_with_room(dtype, pass_):
    # fp16 is slow on a CPU; with as few as 8 tokens one gradient's row is 0.51 of the bound on AVX2 alone.
    tokens = 16 if dtype == "fp16" else 64
    prepared = launched(small(dtype, pass_, tokens=tokens), copies=1 if dtype == "fp16" else 2)
    check = prepared.check()
    assert 0 < check.error < 0.5, prepared.errors()
    assert check.reference == ("fp64" if dtype == "fp32" else "fp32")


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_block_of_few_tokens_passes_and_a_wrong_gradient_of_it_fails(tokens):
    """`--tokens 1` called every healthy device unfit: a wrong result beyond rounding."""
    prepared = launched(small("bf16", tokens=tokens))
    assert 0 < prepared.check().error < 0.7, prepared.errors()
    (buffers,) = prepared.buffers
    for tensor in buffers.leaves:
        right, tensor.grad = tensor.grad, tensor.grad * 1.2
        assert prepared.check().error > 1.5
        tensor.grad = right


@pytest.mark.parametrize("fill", ["uniform", "integers", "zeros"])
def test_every_fill_passes(fill):
    assert launched(small("bf16"), fill=fill).check().passed


def without_mask(q, k, v, **_):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def with_heads_dealt_round(q, k, v, **_):
    """Give query head h the key/value head h mod G in place of h ÷ (H/G)."""
    repeated = (x.repeat(1, q.shape[1] // x.shape[1], 1, 1) for x in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, *repeated, is_causal=True)


def unrotated(x, rope):
    return x


def rotated_backwards_by_neighbours(x, rope):
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    turned = torch.view_as_real(pairs * torch.complex(rope.cos_TR, -rope.sin_TR).to(torch.complex64))
    return turned.flatten(-2).to(x.dtype)


def without_gate(x, weights, kind):
    return torch.nn.functional.linear(torch.nn.functional.linear(x, weights.w3_FD), weights.w2_DF)


SABOTAGE = {
    "no mask": ("attend", without_mask),
    "wrong groups": ("attend", with_heads_dealt_round),
    "no rope": ("rotate", unrotated),
    "wrong rope": ("rotate", rotated_backwards_by_neighbours),
    "no gate": ("swiglu", without_gate),
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", SABOTAGE)
def test_a_sabotaged_block_fails(fault, dtype, monkeypatch):
    workload = TransformerBlock(1, 64, 512, 4, 2, 1792, dtype, "forward")
    prepared = launched(workload)
    assert prepared.check().passed
    monkeypatch.setattr(block_layers, *SABOTAGE[fault])
    prepared.launches[0]()
    assert prepared.check().error > 1.5, prepared.errors()


def test_a_bf16_result_in_an_fp32_case_fails():
    prepared = launched(small("fp32", "forward"))
    (buffers,) = prepared.buffers
    buffers.y_BTD = buffers.y_BTD.bfloat16().float()
    assert prepared.check().error > 10


def test_silent_tf32_in_an_fp32_case_fails(monkeypatch):
    def reduced(x, w, _bias):
        cut = [
            ((t.contiguous().view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(t.dtype) for t in (x, w)
        ]
        return torch.nn.functional.linear(*cut)

    prepared = launched(small("fp32", "forward"))
    monkeypatch.setattr(block_layers, "linear", reduced)
    prepared.launches[0]()
    assert prepared.check().error > 3


@pytest.mark.parametrize("leaf", range(8))
def test_a_wrong_or_missing_gradient_fails(leaf):
    prepared = launched(small("bf16"))
    (buffers,) = prepared.buffers
    tensor = buffers.leaves[leaf]
    tensor.grad *= 1.2
    assert prepared.check().error > 1.5
    tensor.grad = None
    assert prepared.check().error == math.inf


def test_only_what_was_launched_is_checked_and_nothing_fails():
    prepared = small("bf16", "forward").prepare(CPU, fill="normal", seed=0, copies=2)
    with pytest.raises(RuntimeError, match="before compute_reference"):
        prepared.check()
    prepared.compute_reference()
    assert prepared.check().error == math.inf
    prepared.launches[1]()
    assert prepared.check().passed


def test_the_reference_of_a_tf32_block_is_not_itself_tf32():
    prepared = small("tf32", "forward", tokens=4).prepare(CPU, fill="normal", seed=0)
    seen = []
    prepared._reference = lambda buffers: seen.append(torch.backends.cuda.matmul.fp32_precision)
    with prepared.numerics():
        prepared.compute_reference()
    assert seen == ["ieee"]


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_digest_is_the_same_at_every_launch_and_again(dtype, pass_):
    workload = small(dtype, pass_, tokens=8 if dtype == "fp16" else 40, batch=2)
    prepared = workload.prepare(CPU, fill="normal", seed=3, copies=2)
    assert prepared.digest() is None
    digests = digests_of_launches(prepared, 5)
    assert digests == {launched(workload).digest()}
    assert None not in digests


def test_torch_knows_nothing_nondeterministic_in_a_block_on_the_cpu():
    workload = small("fp32", batch=2)
    expected = launched(workload).digest()
    torch.use_deterministic_algorithms(True)
    try:
        assert launched(workload).digest() == expected
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_flipped_bit_of_the_output_or_of_any_gradient_changes_the_digest():
    prepared = launched(small("bf16"), copies=2)
    buffers, other = prepared.buffers
    other.y_BTD.zero_()
    before = prepared.digest()
    assert before == launched(small("bf16")).digest()
    for result in (buffers.y_BTD, *(leaf.grad for leaf in buffers.leaves)):
        bit = result.view(-1)[-1:].view(torch.uint8)
        bit[0] ^= 1
        assert prepared.digest() != before
        bit[0] ^= 1
    assert prepared.digest() == before


def test_elsewhere_than_on_a_cpu_there_is_no_digest():
    prepared = launched(small("bf16", "forward"))
    (buffers,) = prepared.buffers
    buffers.x_BTD = buffers.x_BTD.to("meta")
    assert prepared.digest() is None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_on_a_gpu_every_dtype_passes(dtype, pass_):
    workload = small(dtype, pass_, tokens=256)
    device = torch.device("cuda")
    if reason := workload.unsupported(device):
        pytest.skip(reason)
    prepared = launched(workload, device)
    assert prepared.check().passed, prepared.errors()
