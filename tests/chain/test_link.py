"""Links: what each kind of figure becomes, where a chain begins, and which link may follow which."""

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.link import Link, assume_link, join_links
from nameplate.chain.published import find_figure, parse_published
from nameplate.chain.stage import Stage
from nameplate.stats.uncertain import Uncertain, exact

RATED = Link(Stage.NOMINAL, Stage.DATASHEET, 0.975, "fp16", "published", "two ratings", 0.975, 0.975)


def link(from_, to, value=0.9, **more):
    return Link(Stage(from_), Stage(to), value, "bf16", "published", "somewhere", value, value, **more)


def test_a_published_derate_has_scope_and_convention():
    one = find_figure("a100-sxm-80gb-scaled-7b-x8").as_link()
    assert one.value == pytest.approx(0.642 / 1.0403, abs=5e-4)
    assert (one.n_to, one.provenance) == (8, "published")
    assert "7B model" in one.scope
    assert one.convention == "llm_foundry_mfu"
    assert one.as_json()["from"] == "datasheet"


@pytest.mark.parametrize(
    ("figure", "low", "high"),
    [
        ("a100-sxm-80gb-scaled-7b-x8", 0.6173, 0.6173),  # 0.642 by llm-foundry: ÷ 1.040, of MPT-7B at 2,048
        ("a100-sxm-80gb-scaled-175b", 0.5071, 0.5071),  # 0.514 with all of attention
        ("ampere-scaled-175b-x12288", 0.5446, 0.5596),  # 0.552, its source doesn't say how
        ("a100-sxm-80gb-gemm-sustained", 0.865, 0.865),  # a product's FLOPs are what they are
        ("h100-scaled-8b-x128-from-x8", 0.97, 0.97),  # one convention on both sides
        ("h100-goodput-405b-x16384", 0.9, 0.9),
    ],
)
def test_an_mfu_is_converted_exactly_or_is_between_the_conventions_that_it_may_be_of(figure, low, high):
    one = find_figure(figure).as_link()
    assert (one.low, one.high) == pytest.approx((low, high), abs=1e-4)
    assert one.value == pytest.approx((low + high) / 2, abs=1e-4)
    assert one.law == ("exact" if low == high else "uniform")
    assert (one.as_json()["low"] is None) is (low == high)


MFU = """schema = 1
[[figure]]
id = "ours"
quantity = "derate"
from = "datasheet"
to = "scaled"
device = "H100"
dtype = "bf16"
value = 0.4
source = "ours"
date = "2026-11"
confidence = "high"
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "a convention among 6n, nanogpt"),
        ('convention = "palm"', "a convention among 6n, nanogpt"),
        ('convention = "6n"', "the model, of published_models.toml, and the context"),
        ('convention = "6n"\nmodel = "gpt-9"\ncontext = 2048', "the model, of published_models.toml"),
    ],
)
def test_an_mfu_without_what_converts_it_is_refused(given, said):
    with pytest.raises(InputError, match=rf"mine\.toml.*{said}"):
        parse_published(MFU + given, "mine.toml")


def test_an_assumed_or_modelled_ratio_is_a_link_like_any_other():
    one = assume_link(
        "scaled", "goodput", Uncertain(0.9, 0.85, 0.95, "triangular"), "a formula", "modelled", n_to=4375
    )
    assert (one.provenance, one.low, one.high, one.n_to, one.parts) == ("modelled", 0.85, 0.95, 4375, None)
    assert one.uncertain == Uncertain(0.9, 0.85, 0.95, "triangular")
    chain = [RATED, assume_link("datasheet", "scaled", exact(0.5), "a guess"), one]
    assert join_links(chain) == tuple(chain)
    with pytest.raises(InputError, match="not a derate; got 'goodput → scaled'; expected a later stage"):
        assume_link("goodput", "scaled", exact(0.9), "a guess")
    with pytest.raises(InputError, match="not a derate; got 0; expected a ratio above 0"):
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
