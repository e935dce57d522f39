"""Backends beside torch's choice, and a block explained by its parts, from made-up records."""

import pytest

from nameplate.chain.blocks import explain_blocks, find_choices, find_parts_in_place, find_profiles
from nameplate.chain.from_run import find_chains

T, D, H, G, Q, F = 64, 512, 8, 2, 64, 1024
PRODUCTS = {(768, D): 1, (D, D): 1, (F, D): 2, (D, F): 1}  # outputs and inputs, and how often
SIZES = {"batch": 1, "tokens": T, "d_model": D, "heads": H, "kv_heads": G, "head_dim": Q, "ffn": F}
SCORES = 2 * T**2 * H * Q
FORWARD = sum(2 * T * n * k * times for (n, k), times in PRODUCTS.items())


@pytest.fixture
def timed(make_record):
    """A record of so many FLOPs in so many seconds."""

    def make(workload, shape, flops, time_s, **fields):
        tflops = flops / time_s / 1e12
        rates = dict.fromkeys(("tflops", "tflops_low", "tflops_high", "tflops_median"), tflops)
        case = f"{workload}/bf16/{shape}/normal/warm/sustained/{fields.get('backend', 'torch')}"
        return make_record(
            case=case, workload=workload, shape=shape, flops=flops, time_s=time_s, **(rates | fields)
        )

    return make


@pytest.fixture
def layer(timed):
    """The records of a layer: its products take a millisecond each, attention two, in turn with it."""

    def make(pass_="forward_backward", time_s=0.05, **fields):
        same = {"group": "layer", "represents": "llama3-8b"}
        for (n, k), times in PRODUCTS.items():
            size = {"m": T, "n": n, "k": k, "times": times}
            yield timed("matmul", f"{T}x{n}x{k}-nt", 2 * T * n * k, 1e-3, dimensions=size, **same)
        trained = 1 if pass_ == "forward" else 3
        size = SIZES | {"pass": pass_, "mask": "causal", "mlp": "swiglu"}
        flops = trained * (FORWARD + SCORES)
        yield timed(
            "transformer_block", f"1x{T}x{D}-{pass_}", flops, time_s, dimensions=size, **same | fields
        )
        size = SIZES | {"pass": "forward", "mask": "causal"}
        yield timed("attention", "alone", SCORES, 2e-3, dimensions=size)

    return make


def test_a_block_is_explained_by_its_parts_measured_alone(layer, make_record):
    copy = make_record(
        workload="memory", bandwidth_gb_s=10.0, bandwidth_low_gb_s=9.0, bandwidth_high_gb_s=11.0
    )
    (parts,) = explain_blocks([*layer(), copy])
    assert parts.products_s == pytest.approx(3 * 5e-3)
    assert (parts.attention_s, parts.attention_source) == (
        pytest.approx(3.5 * 2e-3),
        "attention/bf16/alone/normal/warm/sustained/torch",
    )
    elements = (10 * D + 2 * (H + G) * Q + 5 * F) + (12 * D + 2 * (H + G) * Q + 8 * F)
    assert parts.elementwise_s == pytest.approx(T * elements * 2 / 10e9)
    assert parts.predicted_s == pytest.approx(0.015 + 0.007 + parts.elementwise_s)
    assert parts.residual == pytest.approx(0.05 / parts.predicted_s - 1)
    best = 2 * T * F * D / 1e-3
    assert parts.tax == pytest.approx(0.05 * best / (3 * (FORWARD + SCORES)))
    assert parts.as_json()["residual"] == parts.residual
    assert parts.system_share is None
    (parts,) = explain_blocks([*layer(conditions={"system_share": 0.12}), copy])
    assert parts.as_json()["system_share"] == 0.12


def test_parts_in_place_have_shares_and_their_products_alone(layer):
    times = [("qkv", 0.002, 0.004), ("gate and up", 0.003, 0.006), ("residual 1", 0.005, None)]
    parts = [{"name": name, "forward_s": ahead, "backward_s": back} for name, ahead, back in times]
    (placed,) = find_parts_in_place(list(layer(time_s=0.016, parts=parts)))
    assert [part.share for part in placed.parts] == pytest.approx([0.3, 0.45, 0.25])
    assert [part.alone_s for part in placed.parts] == [1e-3, 2e-3, None]  # gate and up are two products
    assert placed.overhead == pytest.approx(0.25)
    assert placed.as_json()["parts"][2]["backward_s"] is None
    assert find_parts_in_place(list(layer())) == []


def test_without_attention_alone_or_a_copy_it_says_what_is_taken(layer):
    found = [each for each in layer("forward", time_s=0.02) if each.workload != "attention"]
    (parts,) = explain_blocks(found)
    assert parts.attention_source == "at the speed of its products"
    assert parts.attention_s == pytest.approx(SCORES * 5e-3 / FORWARD)
    assert (parts.elementwise_s, parts.elementwise_source) == (None, None)
    assert parts.predicted_s == parts.products_s + parts.attention_s


def test_a_block_without_all_its_products_or_run_otherwise_isnt_explained(layer):
    records = list(layer())
    assert explain_blocks(records[1:]) == []
    assert explain_blocks(list(layer(backend="compiled"))) == []
    assert explain_blocks(list(layer(group="other"))) == []


def test_torchs_choice_stands_beside_the_fastest(timed):
    def ran(backend, time_s, **fields):
        return timed("attention", "1x64x8x2x64", SCORES, time_s, backend=backend, **fields)

    records = [ran("torch", 4e-3, attention="flash"), ran("torch+math", 8e-3), ran("torch+cudnn", 2e-3)]
    (choice,) = find_choices(records)
    assert (choice.best_backend, choice.default_ran, choice.ratio) == ("torch+cudnn", "flash", 2.0)
    assert choice.work == "attention/bf16/1x64x8x2x64"
    assert find_choices(records[:1]) == find_choices(records[1:]) == []
    wrong = ran("torch+cudnn", 1e-4, verdict="unverified", verdicts=("unverified",))
    assert find_choices([*records[:2], wrong])[0].best_backend == "torch"


def test_the_chain_takes_the_block_that_runs_fastest_and_names_what_ran_it(layer):
    records = [
        *layer(),
        *(each for each in layer(backend="compiled", time_s=0.03) if each.backend == "compiled"),
    ]
    far = [each for each in layer(group="far", time_s=0.9) if each.workload == "transformer_block"]
    longer = far[0].model_copy(update={"flops": 10 * far[0].flops})
    (chain,) = find_chains([*records, longer])
    assert chain.stages[-1].source.endswith("/compiled")


def test_kernels_of_a_traced_launch_have_their_share_of_its_time(make_record):
    gemm = {"name": "gemm", "time_s": 3e-3, "calls": 2, "flops": 6 * 10**9}
    profile = {"trace": "traces/a.json.gz", "kernels": [gemm, {"name": "x", "time_s": 1e-3, "calls": 1}]}
    (found,) = find_profiles([make_record(), make_record(profile=profile)])
    assert found.trace == "traces/a.json.gz"
    shown = [(each.name, each.share, each.calls, each.tflops) for each in found.kernels]
    assert shown == [
        ("gemm", pytest.approx(0.75), 2, pytest.approx(2.0)),
        ("x", pytest.approx(0.25), 1, None),
    ]
