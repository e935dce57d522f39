"""The fleet's chain: where it begins, what may follow what, and which dtype serves which."""

import pytest

from nameplate.derate.published import find
from nameplate.errors import InputError
from nameplate.fleet.links import Derate, from_published, join, not_yet, rated, served, unserved
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


def test_a_published_derate_is_a_point_figure_with_scope_and_convention():
    one = from_published(find("a100-sxm-80gb-scaled-7b-x8"))
    assert (one.value, one.low, one.high) == (0.642, None, None)
    assert (one.n_to, one.provenance) == (8, "published")
    assert "7B model" in one.scope
    assert one.convention.startswith("nanoGPT")
    assert one.as_json()["from"] == "datasheet"


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


def test_what_a_chain_hasnt_reached_yet():
    assert not_yet("scaled") == ("goodput",)
    assert not_yet("goodput") == ()
    assert (
        not_yet("gemm") == not_yet("gemm_sustained") == ("gemm_model", "block", "step", "scaled", "goodput")
    )


def test_bf16_serves_fp16_where_both_are_rated_alike_and_says_so():
    assert unserved(A800, "bf16") is None
    assert served(A800, "bf16") == (
        "the bf16 derate serves fp16: both are rated 312 TFLOPS on NVIDIA A800 SXM4 80GB"
    )
    assert unserved(A800, "fp16") is served(A800, "fp16") is unserved(A800, "any") is None


def test_nothing_else_serves():
    assert unserved(A800, "fp8") == "a derate of fp8 says nothing of fp16"
    assert "isn't rated alike in bf16 and fp16" in unserved(lookup("intel-gaudi3"), "bf16")
