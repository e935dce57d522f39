"""The fleet's chain: where it begins, what may follow what, and which dtype serves which."""

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find
from nameplate.chain.stage import Stage
from nameplate.fleet.links import (
    Derate,
    assumed,
    from_published,
    join,
    modelled,
    rated,
    served,
    unserved,
)
from nameplate.fleet.uncertain import Uncertain, exact
from nameplate.specs import lookup

A800 = lookup("nvidia-a800-sxm4-80gb")


def link(from_, to, value=0.9, **more):
    return Derate(from_, to, value, "bf16", "published", "somewhere", **more)


def test_the_first_link_is_the_registrys_with_both_figures_and_their_sources():
    first = rated(A800)
    assert (first.span, first.value) == ("nominal → datasheet", 312 / 320)
    assert "nominal 320: 36Kr" in first.source
    assert "datasheet 312: aiwiki" in first.source
    assert rated(lookup("nvidia-h100-sxm5-80gb")).value == 1


def test_a_published_derate_has_scope_and_convention():
    one = from_published(find("a100-sxm-80gb-scaled-7b-x8"))
    assert one.value == 0.642
    assert (one.n_to, one.provenance) == (8, "published")
    assert "7B model" in one.scope
    assert one.convention.startswith("nanoGPT")
    assert one.as_json()["from"] == "datasheet"


@pytest.mark.parametrize(
    ("figure", "wide"),
    [
        ("a100-sxm-80gb-scaled-7b-x8", True),  # nanoGPT
        ("ampere-scaled-175b-x12288", True),  # unknown
        ("a100-sxm-80gb-scaled-175b", False),  # Megatron
        ("a100-sxm-80gb-gemm-sustained", False),  # a product's FLOPs are what they are
        ("h100-scaled-8b-x128-from-x8", False),  # one convention on both sides
        ("h100-goodput-405b-x16384", False),
    ],
)
def test_an_mfu_by_another_convention_than_megatrons_or_an_unknown_one_is_widened(figure, wide):
    one = from_published(find(figure))
    ends = (one.value / 1.10, one.value, "uniform") if wide else (None, None, "exact")
    assert (one.low, one.high, one.law) == ends


def test_figures_of_one_stated_convention_are_drawn_together_and_of_an_unknown_one_alone():
    named = [
        from_published(find(name)).input for name in ("a100-sxm-80gb-scaled-7b-x8", "h100-sxm-scaled-7b-x8")
    ]
    assert named[0] == named[1] == "FLOPs counted by nanoGPT (6N + 12LdT, N with embeddings)"
    assert (
        from_published(find("ampere-scaled-175b-x12288")).input
        == "datasheet → scaled (ampere-scaled-175b-x12288)"
    )


def test_an_assumed_or_modelled_ratio_is_a_link_like_any_other():
    one = modelled("scaled", "goodput", Uncertain(0.9, 0.85, 0.95, "triangular"), "a formula", n_to=4375)
    assert (one.provenance, one.low, one.high, one.n_to, one.parts) == ("modelled", 0.85, 0.95, 4375, None)
    assert one.uncertain == Uncertain(0.9, 0.85, 0.95, "triangular")
    chain = [rated(A800), assumed("datasheet", "scaled", exact(0.5), "a guess"), one]
    assert join(chain) == tuple(chain)
    with pytest.raises(InputError, match="no derate; got 'goodput → scaled'; expected a later stage"):
        assumed("goodput", "scaled", exact(0.9), "a guess")
    with pytest.raises(InputError, match="no derate; got 0; expected a ratio above 0"):
        assumed("scaled", "goodput", exact(0), "a guess")


def test_what_is_no_derate_is_refused():
    with pytest.raises(InputError, match="a published figure, but of pue; got 'hyperscale-pue'"):
        from_published(find("hyperscale-pue"))


def test_links_that_follow_one_another_are_a_chain():
    links = [rated(A800), link("datasheet", "gemm"), link("gemm", "block"), link("block", "scaled", n_from=1)]
    assert join(links) == tuple(links)


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (("datasheet", "scaled"), ("datasheet", "scaled"), "counts a loss twice"),
        (("datasheet", "scaled"), ("gemm_sustained", "scaled"), "counts a loss twice"),
        (("datasheet", "scaled"), ("step", "scaled"), "counts a loss twice"),
        (("datasheet", "gemm"), ("gemm_burst", "gemm_sustained"), "counts a loss twice"),
        (("datasheet", "gemm_burst"), ("gemm_sustained", "gemm_model"), "leaves a loss out"),
        (("datasheet", "gemm"), ("gemm_sustained", "gemm_model"), "leaves a loss out"),
        (("datasheet", "block"), ("scaled", "goodput"), "leaves a loss out"),
    ],
)
def test_spans_that_overlap_or_leave_a_gap_are_refused_and_both_named(first, second, problem):
    with pytest.raises(InputError) as refused:
        join([rated(A800), link(*first, id="one"), link(*second, id="two")])
    assert f"a chain that {problem}" in str(refused.value)
    assert f"{first[0]} → {first[1]} (one) and {second[0]} → {second[1]} (two)" in str(refused.value)
    assert f"next from {first[1]}" in str(refused.value)


def test_so_are_spans_of_other_numbers_of_devices():
    with pytest.raises(InputError, match="goes on at 128 devices where it had reached 1"):
        join([rated(A800), link("datasheet", "step", n_to=1), link("step", "scaled", n_from=128)])


def test_a_chain_begins_at_nominal():
    with pytest.raises(InputError, match="begins at nominal; got 'datasheet → scaled'"):
        join([link("datasheet", "scaled")])


def test_between_gemm_and_the_two_it_stands_for_there_is_no_ratio():
    assert assumed("datasheet", "gemm", exact(0.9), "mine").span == "datasheet → gemm"
    assert assumed("gemm", "gemm_model", exact(0.9), "mine").span == "gemm → gemm_model"
    for span in (("gemm", "gemm_burst"), ("gemm", "gemm_sustained"), ("gemm_sustained", "gemm")):
        with pytest.raises(InputError, match="a later stage after an earlier one"):
            assumed(*span, exact(0.9), "mine")


def test_a_link_takes_a_stage_by_its_name_and_no_other_word():
    assert link("block", "step").to is Stage.STEP
    with pytest.raises(ValueError, match="'steps' is not a valid Stage"):
        link("block", "steps")


def test_bf16_serves_fp16_where_both_are_rated_alike_and_says_so():
    assert unserved(A800, "bf16") is None
    assert served(A800, "bf16") == (
        "the bf16 derate serves fp16: both are rated 312 TFLOPS on NVIDIA A800 SXM4 80GB"
    )
    assert unserved(A800, "fp16") is served(A800, "fp16") is unserved(A800, "any") is None


def test_nothing_else_serves():
    assert unserved(A800, "fp8") == "a derate of fp8 says nothing of fp16"
    assert "isn't rated alike in bf16 and fp16" in unserved(lookup("intel-gaudi3"), "bf16")
