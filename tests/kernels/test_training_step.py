"""A training step of a small model: loss and gradients computed otherwise, FLOPs, and what a check finds."""

import pytest
import torch
from torch.nn.functional import log_softmax
from torch.utils.flop_counter import FlopCounterMode

from blocks import CPU, launched
from nameplate.models.block import find_launch
from nameplate_kernels import TrainingStep, TransformerBlock, block_layers, step_launch

GPT = {"gated": False, "norm": "layer", "bias": True, "rotary": False}


def step_of(pass_="step", layers=2, words=50, dtype="fp32", **kind):
    sizes = {"batch": 2, "tokens": 6, "d_model": 16, "heads": 4, "kv_heads": 2, "ffn": 20}
    layer = TransformerBlock(**{**sizes, **kind}, dtype=dtype, pass_="forward_backward")
    return TrainingStep(layer, layers, words, pass_)


@pytest.mark.parametrize("kind", [{}, GPT], ids=["llama", "gpt"])
def test_the_loss_falls_along_the_gradients_as_they_say(kind):
    """In float64: the loss a little further along all gradients at once, by the layers' own equations."""
    prepared = launched(step_of(**kind))
    (buffers,) = prepared.buffers
    assert prepared.errors()["loss"] < 1

    def loss_at(along):
        moved = {n: w.detach().double() + along * w.grad.double() for n, w in buffers.model.named().items()}
        ends, heads = buffers.model.ends, buffers.model.heads
        x = moved["embedding_VD"][buffers.ids_BT]
        rope = block_layers.make_rope_table(6, heads.features, CPU, torch.float64)
        for number, layer in enumerate(buffers.model.layers):
            weights = {name: moved[f"layer {number} {name}"] for name in layer.named()}
            layer64 = block_layers.Parameters(**{"w3_FD": None, **weights})
            x = block_layers.block(x, layer64, rope, heads, buffers.model.kind)
        bias = None if ends.norm_bias_D is None else moved["norm_bias_D"]
        logits = block_layers.norm(x, moved["norm_D"], bias) @ moved["head_VD"].T
        chosen = log_softmax(logits, -1).gather(-1, buffers.targets_BT[..., None])
        return float(-chosen.mean())

    assert float(buffers.loss) == pytest.approx(loss_at(0.0), rel=1e-5)
    squared = sum(float(weight.grad.double().square().sum()) for weight in buffers.weights)
    assert (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5 == pytest.approx(squared, rel=1e-4)


def test_flops_are_megatrons_and_those_that_torch_counts():
    step, counter = step_of(words=70), FlopCounterMode(display=False)
    (buffers,) = step.prepare(CPU, fill="normal", seed=1).buffers
    with counter:
        buffers.train()
    unmasked = step.layers * 3 * 2 * 2 * 6**2 * 16  # of attention, which torch's fused kernel counts as none
    assert counter.get_total_flops() == step.flops - unmasked
    launch = find_launch(step.dimensions)
    assert launch.flops("megatron") == step.flops
    assert launch.shape.total_parameters == step.parameters == sum(w.numel() for w in buffers.weights)
    ends, adamw = step_of("embedding_head", layers=0, words=70), step_of("adamw", layers=1)
    assert ends.flops == 6 * 12 * 70 * 16
    assert step.flops == ends.flops + 2 * step.layer.flops
    assert (adamw.flops, adamw.convention, adamw.bytes) == (None, None, 7 * 4 * adamw.parameters)
    assert find_launch(ends.dimensions) is None


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("pass_", "layers"), [("step", 2), ("embedding_head", 0), ("adamw", 1)])
def test_every_pass_is_right_after_many_launches(dtype, pass_, layers):
    prepared = launched(step_of(pass_, layers, dtype=dtype))
    weights = [each.detach().clone() for each in prepared.buffers[0].weights]
    for _ in range(4):
        prepared.launches[0]()
    assert prepared.check().passed, prepared.errors()
    assert all(map(torch.equal, weights, prepared.buffers[0].weights))  # the rate is 0
    assert ("first moment" in prepared.errors()) == (pass_ != "embedding_head")


def sabotaged_loss(logits, targets):
    return torch.nn.functional.cross_entropy(logits, targets.flip(0))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("norm", lambda x, *_: x),
        ("cross_entropy", sabotaged_loss),
        ("linear", lambda x, w: x @ w.T.half().to(x)),
    ],
)
def test_a_sabotaged_step_fails(monkeypatch, name, fault):
    prepared = launched(step_of())
    assert prepared.check().passed
    monkeypatch.setattr(step_launch, name, fault)
    prepared.launches[0]()
    assert prepared.check().error > 1.5, prepared.errors()


def test_an_optimiser_that_does_nothing_or_too_much_fails():
    for steps in (0, 2):
        prepared = launched(step_of("adamw", 1))
        (buffers,) = prepared.buffers
        buffers.optimizer.state[buffers.weights[0]]["exp_avg"].mul_(steps)
        assert prepared.check().error > 1.5


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"pass_": "forward"}, "unknown pass"),
        ({"layers": 0}, "layers and vocabulary above 0"),
        ({"words": 0}, "layers and vocabulary above 0"),
        ({"pass_": "embedding_head"}, "has no layers"),
        ({"experts": 4, "active_experts": 2}, "without experts"),
    ],
)
def test_a_step_that_cannot_be_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        step_of(**how)


def test_fp16_is_skipped_and_pilots_are_smaller():
    assert "loss is scaled" in step_of(dtype="fp16").unsupported(CPU)
    assert step_of().unsupported(CPU) is None
    whole = TrainingStep(TransformerBlock.llama3_8b(4096, "bf16", "forward_backward"), 2, 128256)
    pilots = whole.pilots()
    assert pilots[0].vocabulary == 128256 // 8
    assert all(8 * each.flops <= whole.flops for each in pilots)
    assert whole.smaller.layer.tokens == 2048
    assert step_of().pilots() == ()
