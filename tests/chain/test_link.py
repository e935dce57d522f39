"""Links: what each kind of figure becomes, where a chain begins, and which link may follow which."""

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.link import Link, assume_link, join_links
from nameplate.chain.published import find_figure
from nameplate.chain.stage import Stage
from nameplate.stats.uncertain import Uncertain, exact

RATED = Link(Stage.NOMINAL, Stage.DATASHEET, 0.975, "fp16", "published", "two ratings", 0.975, 0.975)


def link(from_, to, value=0.9, **more):
    return Link(Stage(from_), Stage(to), value, "bf16", "published", "somewhere", value, value, **more)


def test_a_published_derate_has_scope_and_convention():
    one = find_figure("a100-sxm-80gb-scaled-7b-x8").as_link()
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
    one = find_figure(figure).as_link()
    ends = (one.value / 1.10, one.value, "uniform") if wide else (one.value, one.value, "exact")
    assert (one.low, one.high, one.law) == ends
    assert (one.as_json()["low"] is None) is not wide


def test_figures_of_one_stated_convention_are_drawn_together_and_of_an_unknown_one_alone():
    named = [
        find_figure(name).as_link().draws_name
        for name in ("a100-sxm-80gb-scaled-7b-x8", "h100-sxm-scaled-7b-x8")
    ]
    assert named[0] == named[1] == "FLOPs counted by nanoGPT (6N + 12LdT, N with embeddings)"
    assert (
        find_figure("ampere-scaled-175b-x12288").as_link().draws_name
        == "datasheet → scaled (ampere-scaled-175b-x12288)"
    )


def test_an_assumed_or_modelled_ratio_is_a_link_like_any_other():
    one = assume_link(
        "scaled", "goodput", Uncertain(0.9, 0.85, 0.95, "triangular"), "a formula", "modelled", n_to=4375
    )
    assert (one.provenance, one.low, one.high, one.n_to, one.parts) == ("modelled", 0.85, 0.95, 4375, None)
    assert one.uncertain == Uncertain(0.9, 0.85, 0.95, "triangular")
    chain = [RATED, assume_link("datasheet", "scaled", exact(0.5), "a guess"), one]
    assert join_links(chain) == tuple(chain)
    with pytest.raises(InputError, match="no derate; got 'goodput → scaled'; expected a later stage"):
        assume_link("goodput", "scaled", exact(0.9), "a guess")
    with pytest.raises(InputError, match="no derate; got 0; expected a ratio above 0"):
        assume_link("scaled", "goodput", exact(0), "a guess")


def test_what_is_no_derate_is_refused():
    with pytest.raises(InputError, match="a published figure, but of pue; got 'hyperscale-pue'"):
        find_figure("hyperscale-pue").as_link()


def test_links_that_follow_one_another_are_a_chain():
    links = [RATED, link("datasheet", "gemm"), link("gemm", "block"), link("block", "scaled", n_from=1)]
    assert join_links(links) == tuple(links)


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
        join_links([RATED, link(*first, id="one"), link(*second, id="two")])
    assert f"a chain that {problem}" in str(refused.value)
    assert f"{first[0]} → {first[1]} (one) and {second[0]} → {second[1]} (two)" in str(refused.value)
    assert f"next from {first[1]}" in str(refused.value)


def test_so_are_spans_of_other_numbers_of_devices():
    with pytest.raises(InputError, match="goes on at 128 devices where it had reached 1"):
        join_links([RATED, link("datasheet", "step", n_to=1), link("step", "scaled", n_from=128)])


def test_a_chain_begins_at_nominal():
    with pytest.raises(InputError, match="begins at nominal; got 'datasheet → scaled'"):
        join_links([link("datasheet", "scaled")])


def test_between_gemm_and_the_two_it_stands_for_there_is_no_ratio():
    assert assume_link("datasheet", "gemm", exact(0.9), "mine").span == "datasheet → gemm"
    assert assume_link("gemm", "gemm_model", exact(0.9), "mine").span == "gemm → gemm_model"
    for span in (("gemm", "gemm_burst"), ("gemm", "gemm_sustained"), ("gemm_sustained", "gemm")):
        with pytest.raises(InputError, match="a later stage after an earlier one"):
            assume_link(*span, exact(0.9), "mine")
