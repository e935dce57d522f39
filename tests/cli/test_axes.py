"""`bench run --shape … --model …`: what is asked for becomes cases, and nonsense becomes a sentence."""

import pytest

from nameplate.base.errors import InputError
from nameplate.cli.axes import AxesFlags
from nameplate.models.block import find_launch
from nameplate.models.load import load_model
from nameplate.suite import CUSTOM, Axes, Target, find_suite

CPU = Target("cpu", "amd-zen4", 8 << 30, frozenset({"fp32", "bf16"}))


def cases(axes, target=CPU):
    return find_suite(CUSTOM).cases(
        Target(target.kind, target.part, target.memory_bytes, target.rated_dtypes, axes=axes)
    )


def test_no_flag_asks_for_nothing():
    assert AxesFlags().read() is None
    assert not Axes()


def test_shapes_dtypes_and_layouts_are_crossed():
    axes = AxesFlags(shape=["4096x4096x11008,8x16x32"], dtype=["bf16", "fp32"], layout=["nt,nn"]).read()
    ids = [case.id for case in cases(axes)]
    assert len(ids) == 8
    assert ids[0] == "matmul/bf16/4096x4096x11008-nt/normal/warm/sustained/torch"


def test_without_more_a_shape_is_measured_in_bf16():
    (case,) = cases(AxesFlags(shape=["2X3×4"]).read())
    assert case.id == "matmul/bf16/2x3x4/normal/warm/sustained/torch"


def test_a_model_is_one_layer_and_its_products():
    found = cases(AxesFlags(model="llama2-7b", tokens=["512"]).read())
    assert {case.workload.represents for case in found} == {"llama2-7b"}
    assert [case.workload.shape for case in found] == [
        "1x512x4096-forward_backward",
        "1x512x4096-forward",
        "512x12288x4096-nt",
        "512x4096x4096-nt",
        "512x11008x4096-nt",
        "512x4096x11008-nt",
    ]


def test_a_shape_that_a_layer_has_too_is_measured_once():
    axes = AxesFlags(shape=["512x4096x4096"], model="llama2-7b", tokens=["512"], layout=["nt"]).read()
    ids = [case.id for case in cases(axes)]
    assert len(ids) == len(set(ids)) == 6


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (AxesFlags(shape=["1x2"]), "not a shape"),
        (AxesFlags(shape=["0x2x3"]), "not a size"),
        (AxesFlags(shape=["1x2x" + "9" * 5000]), "not a size"),
        (AxesFlags(shape=["1x2x٣"]), "not a size"),
        (AxesFlags(shape=[","]), "an empty value"),
        (AxesFlags(shape=[], model=""), "no such model"),
        (AxesFlags(model="llama3-8b", tokens=["-1"]), "not a size"),
        (
            AxesFlags(shapes="nope"),
            "--shapes: no such set of shapes or model; got 'nope'; expected taf-deepseek-v3 or",
        ),
    ],
)
def test_flags_that_cant_be_read_are_one_sentence(flags, said):
    with pytest.raises(InputError, match=said):
        flags.read()


@pytest.mark.parametrize(
    "flags",
    [
        AxesFlags(shape=[f"{'9' * 18}x1x{'9' * 18}"]),
        AxesFlags(model="llama3-8b", tokens=["9" * 18]),
    ],
)
def test_work_too_large_to_be_counted_is_a_sentence(flags):
    with pytest.raises(InputError, match=r"too large to count; got '.*'; expected at most 1e\+30 FLOPs"):
        cases(flags.read())


@pytest.mark.parametrize("name", ["gpt3-175b", "vit-l-16", "mixtral-8x7b", "driving-8b", "llama3-405b"])
def test_a_layer_of_any_model_is_measured_with_its_own_products(name):
    model = load_model(name)
    both, forward, *products = [case.workload for case in cases(Axes(model=model, tokens=(64,)))]
    assert (both.represents, both.pass_, forward.pass_) == (name, "forward_backward", "forward")
    assert (both.gated, both.causal, both.experts) == (model.gated, model.causal, model.experts)
    assert both.parameters == pytest.approx(model.shape.total_parameters / model.layers, rel=0.15)
    scores = forward.flops - sum(gemm.times * gemm.flops for gemm in products)
    assert scores == (2 if model.causal else 4) * 64**2 * model.shape.features
    assert find_launch(both.dimensions).flops_by_convention["megatron"] == both.flops


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (Axes(), "nothing to measure"),
        (Axes(dtypes=("fp32",)), "nothing to measure"),
        (Axes(shapes=((1, 2, 3),), tokens=(4,)), "--tokens: has no effect alone"),
        (Axes(model=load_model("llama3-8b"), layouts=("nn",)), "--layout: has no effect alone"),
        (Axes(shapes=((1, 2, 3),), dtypes=("fp7",)), "--dtype: can't be measured; got 'fp7'"),
        (Axes(shapes=((1, 2, 3),), layouts=("xx",)), "--layout: can't be measured"),
        (
            Axes(model=load_model("llama3-8b").model_copy(update={"attention_weights": 7})),
            "queries, keys and values alone.*--shape 128x6144x4096",
        ),
        (Axes(model=load_model("mixtral-8x7b"), tokens=(3,)), "--tokens 3: .*experts must divide"),
    ],
)
def test_what_makes_no_case_is_one_sentence(axes, said):
    with pytest.raises(InputError, match=said):
        cases(axes)
