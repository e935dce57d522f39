"""Conventions of counting FLOPs: published figures reproduced, and exact conversions between them."""

import pytest

from nameplate.base.errors import InputError
from nameplate.models.block import find_launch
from nameplate.models.conventions import (
    CANDIDATES,
    CONVENTIONS,
    SHOWN,
    attention_flops,
    convert,
    convert_unknown,
    flops_per_token,
)
from nameplate.models.load import load_model
from nameplate.models.shape import ModelShape, shape_from_parameters
from nameplate.report.models import model_document
from nameplate_kernels.transformer_block import TransformerBlock

MPT_7B = ModelShape(
    32, 4096, 32, 50368, 16384, gated=False, tied=True, learned_positions=2048, parameters=6_658_859_008
)
LLAMA_3_8B = ModelShape(32, 4096, 32, 128256, 14336, kv_heads=8)
GPT_3 = ModelShape(96, 12288, 96, 51200, 4 * 12288, gated=False, tied=True)


def test_of_mpt_7b_llm_foundry_counts_1_001_times_megatron_with_full_attention_and_1_040_with_half():
    of = {name: flops_per_token(MPT_7B, 2048, name) for name in CONVENTIONS}
    assert of["llm_foundry_mfu"] / of["megatron_2022"] == pytest.approx(1.001, abs=5e-4)
    assert of["llm_foundry_mfu"] / of["megatron"] == pytest.approx(1.040, abs=5e-4)
    # HFU of its table, where activations are recomputed: 4/3 of the MFU.
    assert of["llm_foundry_hfu"] / of["llm_foundry_mfu"] == pytest.approx(4 / 3)


def test_llm_foundrys_own_mfu_of_7b_on_a100_follows_from_its_tokens_a_second():
    assert 4641 * flops_per_token(MPT_7B, 2048, "llm_foundry_mfu") / 312e12 == pytest.approx(0.6423, abs=1e-4)


@pytest.mark.parametrize(
    ("context", "gigaflops", "torchtitan", "nanogpt", "hfu"),
    [(2048, 46.6, 1.03, 1.10, 1.47), (32768, 70.8, 1.36, 1.41, 1.88), (131072, 148.1, 1.70, 1.72, 2.29)],
)
def test_llama_3_8b_by_every_convention(context, gigaflops, torchtitan, nanogpt, hfu):
    of = {name: flops_per_token(LLAMA_3_8B, context, name) for name in CONVENTIONS}
    assert of["megatron"] / 1e9 == pytest.approx(gigaflops, abs=0.05)
    ratios = (of["torchtitan"], of["nanogpt"], of["llm_foundry_hfu"])
    assert [each / of["megatron"] for each in ratios] == pytest.approx([torchtitan, nanogpt, hfu], abs=0.006)


@pytest.mark.parametrize(
    ("shape", "context", "flops_of_a_sequence"),
    [
        (GPT_3, 2048, 2.20e15),
        (LLAMA_3_8B, 8192, 4.74e14),
        (ModelShape(80, 8192, 64, 128256, 28672, kv_heads=8), 8192, 3.94e15),
    ],
)
def test_nvidias_benchmark_recipes_count_as_megatron_did_in_2022(shape, context, flops_of_a_sequence):
    counted = context * flops_per_token(shape, context, "megatron_2022")
    assert counted == pytest.approx(flops_of_a_sequence, rel=3e-3)


def test_megatrons_formula_of_2022_is_that_of_its_paper():
    # Korthikanti et al., arXiv 2205.05198: 72·L·s·h²·(1 + s/6h + V/12hL) a sequence
    layers, s, h, vocabulary = 96, 2048, 12288, 51200
    paper = 72 * layers * h**2 * (1 + s / (6 * h) + vocabulary / (12 * h * layers))
    assert flops_per_token(GPT_3, s, "megatron_2022") == pytest.approx(paper)
    # Narayanan et al., arXiv 2104.04473: 96·L·s·h²·(1 + s/6h + V/16Lh), the forward pass run again
    again = 96 * layers * h**2 * (1 + s / (6 * h) + vocabulary / (16 * layers * h))
    assert flops_per_token(GPT_3, s, "megatron_2021_hfu") == pytest.approx(again)


def test_a_block_of_the_suites_counts_a_layer_as_the_table_does():
    tokens = 4096
    block = TransformerBlock.llama3_8b(tokens, "bf16", "forward_backward")
    without_logits = 6 * LLAMA_3_8B.layer_weights + attention_flops(LLAMA_3_8B, tokens) / 2
    assert block.flops * LLAMA_3_8B.layers == pytest.approx(tokens * without_logits)


def test_one_timed_launch_is_counted_by_every_convention():
    both = TransformerBlock.llama3_8b(4096, "bf16", "forward_backward", batch=2)
    counted = find_launch(both.dimensions).flops_by_convention
    assert (
        set(counted)
        == set(SHOWN)
        == {*("6n", "nanogpt", "torchtitan", "megatron_2022", "megatron", "llm_foundry_hfu", "executed")}
    )
    rows, weights, attended = 2 * 4096, 218_103_808, 4096 * 4096
    assert counted[both.convention] == both.flops == rows * (6 * weights + 6 * attended)
    assert counted["6n"] == 6 * rows * (weights + 2 * 4096)  # N has the norms
    assert counted["nanogpt"] == counted["6n"] + rows * 12 * attended == counted["torchtitan"]  # no table
    assert counted["megatron_2022"] == rows * (6 * weights + 12 * attended)
    assert counted["llm_foundry_hfu"] == rows * (8 * (weights + 2 * 4096) + 16 * attended)
    assert counted["executed"] == rows * (6 * weights + 7 * attended)

    forward = TransformerBlock.llama3_8b(4096, "bf16", "forward", batch=2)
    alone = find_launch(forward.dimensions).flops_by_convention
    third = {name: flops // 3 for name, flops in counted.items()}
    assert alone["megatron"] == forward.flops
    # A forward pass runs nothing again, whatever is counted of a backward pass.
    assert alone == third | {
        "llm_foundry_hfu": counted["llm_foundry_hfu"] // 4,
        "executed": alone["megatron"],
    }


def test_other_work_has_no_conventions():
    block = dict(TransformerBlock.llama3_8b(8, "bf16", "forward").dimensions)
    for wrong in ({}, {"pass": "forward"}, block | {"pass": "sideways"}, block | {"heads": 0}):
        assert find_launch(wrong) is None
    assert find_launch(block | {"kv_heads": 5}) is None
    assert find_launch({name: each for name, each in block.items() if name != "tokens"}) is None


def test_without_a_mask_every_convention_but_6n_counts_attention_in_full():
    encoder, decoder = (ModelShape(24, 1024, 16, 0, 4096, gated=False, causal=each) for each in (False, True))
    of = {name: flops_per_token(encoder, 197, name) for name in SHOWN}
    assert of["megatron"] == of["megatron_2022"] == flops_per_token(decoder, 197, "megatron_2022")
    assert of["executed"] - of["megatron"] == attention_flops(encoder, 197) / 6
    assert CONVENTIONS["megatron"].formula_of(encoder) == CONVENTIONS["megatron_2022"].formula


@pytest.mark.parametrize(
    ("name", "tokens"), [("llama3-70b", 4096), ("gpt3-175b", 2048), ("vit-l-16", 197), ("mixtral-8x7b", 4096)]
)
def test_the_products_of_a_model_are_its_flops_less_attentions(name, tokens):
    found = model_document(load_model(name), (tokens,), shapes=True)
    shape = load_model(name).shape
    attention = attention_flops(shape, tokens) * (0.5 if shape.causal else 1.0)
    products = 3e9 * sum(row["gflop"] for row in found["products"])
    assert products + tokens * attention == pytest.approx(tokens * found["gflop_per_token"]["megatron"] * 1e9)


def test_a_mixture_of_experts_counts_the_parameters_that_work_on_a_token():
    mixtral = ModelShape(
        56, 6144, 48, 32768, 16384, kv_heads=8, experts=8, active_experts=2, expert_ffn=16384
    )
    assert mixtral.total_parameters / 1e9 == pytest.approx(141, rel=0.01)
    assert mixtral.active_parameters / 1e9 == pytest.approx(39, rel=0.02)
    assert flops_per_token(mixtral, 4096, "6n") == 6 * mixtral.active_parameters


def test_conversions_are_exact_and_reversible():
    there = convert(0.5, MPT_7B, 8192, "nanogpt", "6n")
    assert convert(there, MPT_7B, 8192, "6n", "nanogpt") == pytest.approx(0.5)
    assert convert(0.5, MPT_7B, 8192, "megatron") == 0.5


def test_a_silent_source_may_have_counted_by_any_convention_without_recomputation():
    low, high = convert_unknown(0.552, GPT_3, 2048)
    assert low < 0.552 <= high
    found = [convert(0.552, GPT_3, 2048, each) for each in CANDIDATES]
    assert (low, high) == (min(found), max(found))
    assert "llm_foundry_hfu" not in CANDIDATES


@pytest.mark.parametrize("parameters", [1e9, 7e9, 70e9, 405e9])
def test_a_usual_shape_has_the_parameters_asked_for_and_nearly_their_flops(parameters):
    shape = shape_from_parameters(parameters)
    assert shape.total_parameters == parameters
    assert flops_per_token(shape, 1, "megatron") == pytest.approx(6 * parameters, rel=0.02)
    assert 90 < shape.width / shape.layers < 160


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ModelShape(0, 4096, 32, 50368, 16384),
        lambda: ModelShape(32, 4096, 32, 50368, 16384, kv_heads=5),
        lambda: ModelShape(32, 4096, 32, 50368, 16384, experts=1, active_experts=2, expert_ffn=1),
        lambda: shape_from_parameters(0),
    ],
)
def test_sizes_that_cant_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"got|no more"):
        wrong()


def test_an_unknown_convention_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"--convention.*palm.*megatron"):
        flops_per_token(GPT_3, 2048, "palm")
