"""A block run part by part computes what one launch does, bit by bit."""

import pytest
import torch

from blocks import CPU
from nameplate.engine.case_run import time_stages
from nameplate_kernels import TransformerBlock

SIZES = {"batch": 2, "tokens": 6, "d_model": 16, "heads": 4, "kv_heads": 2, "ffn": 20, "dtype": "bf16"}
GPT = {"gated": False, "norm": "layer", "bias": True, "rotary": False}
LLAMA_PARTS = [
    *("norm 1", "qkv", "rope", "attention", "out", "residual 1"),
    *("norm 2", "gate and up", "silu", "down", "residual 2"),
]


def prepared(**kind):
    return TransformerBlock(**SIZES | kind).prepare(CPU, fill="normal", seed=2)


@pytest.mark.parametrize(
    ("kind", "inner"),
    [({}, None), (GPT, ["up", "gelu", "down"]), ({"experts": 4, "active_experts": 2}, ["experts"])],
    ids=["llama", "gpt", "experts"],
)
@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_the_parts_of_a_block_give_the_bits_of_a_launch(kind, inner, pass_):
    launched = prepared(pass_=pass_, **kind)
    launched.launches[0]()
    staged = prepared(pass_=pass_, **kind)
    stages = staged.stages()
    for _ in range(2):  # the second pass drops what the first one left
        for stage in stages:
            stage.launch()
    (whole,), (parts,) = launched.buffers, staged.buffers
    assert torch.equal(whole.y_BTD, parts.y_BTD)
    if pass_ == "forward_backward":
        assert launched.digest() == staged.digest()
        for one, other in zip(whole.leaves, parts.leaves, strict=True):
            assert torch.equal(one.grad, other.grad)
    names = LLAMA_PARTS if inner is None else [*LLAMA_PARTS[:7], *inner, "residual 2"]
    forward = [stage.name for stage in stages if not stage.is_backward]
    assert forward == names
    backward = [stage.name for stage in stages if stage.is_backward]
    assert backward == (names[::-1] if pass_ == "forward_backward" else [])


def test_only_a_plain_pass_run_eagerly_has_parts():
    assert prepared(pass_="forward_backward_adamw").stages() == []
    assert prepared(pass_="forward_backward_recompute").stages() == []


class CountingDevice:
    """Takes a millisecond for each launch, and ten for the first of each."""

    def __init__(self):
        self.seen = set()

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        (launch,) = launches
        launch()
        first = launch not in self.seen
        self.seen.add(launch)
        return type("Timing", (), {"elapsed_s": 0.01 if first else 0.001})


def test_parts_are_timed_in_order_after_an_untimed_pass():
    stages = prepared(pass_="forward_backward").stages()
    parts = time_stages(CountingDevice(), stages, 3)
    assert [part.name for part in parts] == LLAMA_PARTS
    assert [(part.forward_s, part.backward_s) for part in parts] == [
        (pytest.approx(1e-3), pytest.approx(1e-3))
    ] * len(parts)
    forward = time_stages(CountingDevice(), prepared(pass_="forward").stages(), 2)
    assert {part.backward_s for part in forward} == {None}
