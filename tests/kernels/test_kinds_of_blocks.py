"""Blocks other than Llama's: each kind and its gradients equal an independent implementation's."""

import math
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blocks import CPU, independent_head, launched
from nameplate_kernels import PASSES, TransformerBlock, block_launch, block_layers
from nameplate_kernels.block_layers import swiglu

SIZES = {"batch": 2, "tokens": 6, "d_model": 16, "heads": 4, "kv_heads": 2, "ffn": 20, "dtype": "fp32"}
KINDS = {
    "gpt": {"gated": False, "norm": "layer", "bias": True, "rotary": False, "kv_heads": 4},
    "vit": {"gated": False, "norm": "layer", "bias": True, "rotary": False, "causal": False, "kv_heads": 4},
    "experts": {"experts": 4, "active_experts": 2},
    "ungated experts": {"experts": 3, "active_experts": 2, "gated": False},
    "wide heads": {"features": 8},
    "gated with biases": {"bias": True},
}


def block_of(kind, pass_="forward_backward", **changes):
    return TransformerBlock(**(SIZES | KINDS[kind] | {"pass_": pass_} | changes))


def head(q, k, v, workload):
    if workload.rotary:
        return independent_head(q, k, v)
    scores = q @ k.T / math.sqrt(q.shape[1])
    if workload.causal:
        scores = scores + torch.full_like(scores, -math.inf).triu(1)
    return torch.softmax(scores, 1) @ v


def normed(x, weight, bias):
    if bias is None:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight + bias


def mlp(n, w1, w3, w2, b1=0.0, b3=0.0, b2=0.0):
    first = n @ w1.T + b1
    inner = first * (1 + torch.erf(first / math.sqrt(2))) / 2
    if w3 is not None:
        inner = first / (1 + torch.exp(-first)) * (n @ w3.T + b3)
    return inner @ w2.T + b2


def independent(x_BTD, w, heads, workload, routing):
    """Sequence by sequence, head by head, token by token."""
    H, G, Q = heads
    zero = torch.zeros((), dtype=x_BTD.dtype)
    h_BTD = []
    for x_TD in x_BTD:
        n_TD = normed(x_TD, w.norm1_D, w.norm1_bias_D)
        qkv_TNQ = (n_TD @ w.wqkv_ED.T + (zero if w.bqkv_E is None else w.bqkv_E)).view(len(x_TD), -1, Q)
        mixed = [
            head(qkv_TNQ[:, h], qkv_TNQ[:, H + h * G // H], qkv_TNQ[:, H + G + h * G // H], workload)
            for h in range(H)
        ]
        h_BTD.append(x_TD + torch.cat(mixed, 1) @ w.wo_DA.T + (zero if w.bo_D is None else w.bo_D))
    h_SD = torch.cat(h_BTD)
    n_SD = normed(h_SD, w.norm2_D, w.norm2_bias_D)
    if routing is None:
        biases = [zero if each is None else each for each in (w.b1_F, w.b3_F, w.b2_D)]
        return (h_SD + mlp(n_SD, w.w1_FD, w.w3_FD, w.w2_DF, *biases)).view_as(x_BTD)
    rows = []
    for token, chosen in enumerate(routing.chosen_SK):
        gates = torch.softmax((n_SD[token] @ w.router_XD.T)[chosen], 0)
        given = [
            gate * mlp(n_SD[token], w.w1_FD[x], None if w.w3_FD is None else w.w3_FD[x], w.w2_DF[x])
            for gate, x in zip(gates, chosen, strict=True)
        ]
        rows.append(h_SD[token] + sum(given))
    return torch.stack(rows).view_as(x_BTD)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_and_its_gradients_equal_an_independent_implementation(kind):
    workload = block_of(kind)
    (buffers,) = workload.prepare(CPU, fill="normal", seed=1).buffers
    ours, theirs = buffers.upcast(torch.float64), buffers.upcast(torch.float64)
    ours.launcher()
    y_BTD = independent(theirs.x_BTD, theirs.weights, theirs.heads, workload, theirs.routing)
    y_BTD.backward(theirs.output_gradient)
    torch.testing.assert_close(ours.y_BTD, y_BTD.detach(), rtol=1e-6, atol=1e-7)
    for name, mine, other in zip(("x", *theirs.weights.named()), ours.leaves, theirs.leaves, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_is_verified_and_leaves_the_weights_as_they_were(kind, pass_):
    workload = block_of(kind, pass_, dtype="bf16", d_model=64, tokens=24, ffn=96)
    before = workload.prepare(CPU, fill="normal", seed=3).buffers[0].leaves
    prepared = launched(workload)
    prepared.launches[0]()
    assert 0 < prepared.check().error < 0.6, prepared.errors()
    assert all(map(torch.equal, before, prepared.buffers[0].leaves))
    if pass_ == "forward_backward_adamw":
        state = next(iter(prepared.buffers[0]._optimizer.state.values()))
        assert (int(state["step"]), state["exp_avg"].dtype) == (2, torch.bfloat16)


def test_recomputation_runs_the_forward_pass_twice():
    counts = {}
    for pass_ in PASSES:
        prepared = block_of("gpt", pass_).prepare(CPU, fill="normal", seed=0)
        with FlopCounterMode(display=False) as counter:
            prepared.launches[0]()
        counts[pass_] = counter.get_total_flops()
    once = counts["forward"]
    assert counts["forward_backward"] == counts["forward_backward_adamw"] == 3 * once
    # torch stops where it has what it needs: the last product's result isn't needed again.
    last = 2 * 2 * 6 * 16 * 20
    assert counts["forward_backward_recompute"] == 4 * once - last


@pytest.mark.parametrize("kind", KINDS)
def test_its_products_add_up_to_its_flops_and_are_those_torch_counts(kind):
    workload = block_of(kind, "forward")
    pairs = 4 * workload.batch * workload.tokens**2 * workload.heads * workload.head_dim
    products = sum(gemm.times * gemm.flops for gemm in workload.gemms())
    assert workload.flops == products + (pairs // 2 if workload.causal else pairs)
    prepared = workload.prepare(CPU, fill="normal", seed=0)
    with FlopCounterMode(display=False) as counter:
        prepared.launches[0]()
    assert counter.get_total_flops() == products  # the fused attention of a CPU isn't counted


def test_each_expert_gets_as_many_tokens_and_each_token_its_experts():
    (buffers,) = block_of("experts").prepare(CPU, fill="normal", seed=5).buffers
    tokens_XC, chosen_SK, places_SK = buffers.routing
    assert tokens_XC.shape == (4, 6)
    for token, (experts, places) in enumerate(zip(chosen_SK, places_SK, strict=True)):
        assert len(set(experts.tolist())) == 2
        assert [place // 6 for place in places.tolist()] == experts.tolist()
        assert tokens_XC.flatten()[places].tolist() == [token, token]


def one_expert(x, weights, routing):
    first = {name: getattr(weights, name)[0] for name in ("w1_FD", "w3_FD", "w2_DF")}
    return swiglu(x, weights._replace(**first))


@pytest.mark.parametrize(
    ("kind", "name", "fault"),
    [
        ("experts", "mix_experts", one_expert),
        ("vit", "attend", lambda q, k, v, **_: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True)),
        ("gpt", "gelu_mlp", lambda x, w, kind: torch.nn.functional.linear(
            torch.nn.functional.relu(torch.nn.functional.linear(x, w.w1_FD, w.b1_F)), w.w2_DF, w.b2_D)),
        ("gpt", "norm", lambda x, weight, bias: x * weight + bias),
    ],
)  # fmt: skip
def test_a_sabotaged_kind_fails(kind, name, fault, monkeypatch):
    prepared = launched(block_of(kind, "forward", dtype="bf16", d_model=64, tokens=24, ffn=96))
    assert prepared.check().passed
    monkeypatch.setattr(block_layers, name, fault)
    prepared.launches[0]()
    assert prepared.check().error > 1.5, prepared.errors()


def test_what_runs_it_is_in_its_name_and_what_cant_run_says_why(monkeypatch):
    assert block_of("gpt").backend == "torch"
    assert block_of("gpt", attention="cudnn", execution="compiled").backend == "compiled+cudnn"
    assert block_of("gpt", label="gpt3-175b").shape == "2x6x16-gpt3-175b-forward_backward"
    assert "NVIDIA GPUs" in block_of("gpt", attention="cudnn").unsupported(CPU)
    assert "CUDA graphs" in block_of("gpt", execution="graph").unsupported(CPU)
    assert "the twin" in block_of("gpt", execution="compiled").unsupported(torch.device("meta"))
    monkeypatch.setattr(block_launch.shutil, "which", lambda name: None)
    assert "compiler" in block_of("gpt", execution="compiled").unsupported(CPU)
    assert block_of("gpt", execution="compiled", d_model=1024).pilots()[0].execution == "eager"


@pytest.mark.nightly
@pytest.mark.parametrize("pass_", PASSES)
def test_a_compiled_block_is_verified_like_any_other(pass_):
    prepared = launched(block_of("experts", pass_, dtype="bf16", execution="compiled"))
    assert prepared.check().passed
    assert prepared.compile_s > 0


def test_experts_gradients_come_in_the_order_of_their_weights():
    """Otherwise autograd copies every one of them, for longer than the products take."""
    (buffers,) = block_of("experts").prepare(CPU, fill="normal", seed=0).buffers
    y_BTD = buffers.run(*buffers._arguments)
    weights = [buffers.weights.w1_FD, buffers.weights.w3_FD, buffers.weights.w2_DF]
    gradients = torch.autograd.grad(y_BTD, weights, buffers.output_gradient)
    assert [each.is_contiguous() for each in gradients] == [True] * 3


def test_cases_on_the_same_bits_share_a_reference(monkeypatch):
    computed, reference = [], block_launch.Buffers.reference
    monkeypatch.setattr(
        block_launch.Buffers, "reference", lambda self, seed: computed.append(1) or reference(self, seed)
    )
    ways = [{"pass_": pass_} for pass_ in reversed(PASSES)] + [{"attention": "math"}]
    held = [launched(block_of("gated with biases", **way)) for way in ways]
    assert len(computed) == 1
    assert all(each.check().passed for each in held)
    other = launched(block_of("gated with biases"), fill="uniform")  # other bits
    with_experts = [launched(block_of("experts", pass_)) for pass_ in PASSES[:2]]  # and others forward
    assert len(computed) == 4
    assert other.check().passed
    held[0].buffers[0].y_BTD[0, 0] += 1
    assert not held[0].check().passed
    assert [each.check().passed for each in with_experts] == [True, True]


def test_a_process_that_keeps_its_memory_runs_the_same_operators(monkeypatch):
    kept = []
    monkeypatch.setattr(block_launch, "keep_freed_memory", lambda: kept.append(1))  # not of pytest's process
    workload = block_of("gated with biases", execution="kept_memory")
    assert (workload.backend, workload.unsupported(CPU)) == ("kept_memory", None)
    assert "on a CPU" in block_launch.why_not_executed("kept_memory", torch.device("cuda"))
    prepared, eager = launched(workload), launched(block_of("gated with biases"))
    assert (kept, prepared.compile_s) == ([1], None)
    assert prepared.check().passed
    assert prepared.digest() == eager.digest()
    assert [each.name for each in prepared.stages()] == [each.name for each in eager.stages()]


@pytest.mark.long
@pytest.mark.process
def test_kept_memory_needs_no_new_pages_in_each_launch():
    program = """
import resource, sys, torch
from nameplate_kernels.block_launch import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(10):  # the heap grows until the freed blocks lie together
    before = resource.getrusage(0).ru_minflt
    torch.ones(1 << 24).sum()
print(resource.getrusage(0).ru_minflt - before)
"""
    faults = {
        way: int(subprocess.run([sys.executable, "-c", program, way], capture_output=True, check=True).stdout)
        for way in ("kept", "given back")
    }
    assert 100 * faults["kept"] < faults["given back"]


def test_a_layer_norms_gradients_over_many_rows_are_held_to_what_a_cpu_adds_them_in():
    """torch's CPU kernel adds them in bf16; what the other results are held to is as tight as before."""
    work = block_of("vit", batch=64, tokens=128, d_model=32, heads=2, kv_heads=2, ffn=64, dtype="bf16")
    prepared = work.prepare(CPU, fill="normal", seed=1)
    with prepared.numerics():
        prepared.compute_reference()
        prepared.launches[0]()
    assert prepared.check().passed
    bounds = {name: prepared._bound(name) for name in prepared.errors()}
    assert bounds["norm1_D gradient"] > 5 * bounds["wo_DA gradient"]
    leaf = prepared.buffers[0].weights.wo_DA
    leaf.grad.mul_(1.2)
    assert not prepared.check().passed
