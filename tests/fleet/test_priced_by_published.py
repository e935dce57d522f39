"""Fleets priced by published derates and training runs: what is taken, what is said, what is refused."""

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.fleet.describe import describe_delivered
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.rows import cost_row
from prices import A800, H100, PUBLISHED, SHARE, cost, one


def test_a_fleet_takes_the_mfu_of_its_own_size_with_its_interval():
    small, large = one(part=A800, eflops=0.1), one(part=A800, eflops=5)
    for priced in (small, large):
        said = estimate_mfu(A800, priced.size.cards)
        link, delivered = priced.chain[-1], priced.estimates["delivered_eflops"]
        assert (link.value, link.provenance, link.law) == (said.p50, "modelled", "logitnormal")
        for share in ("p5", "p50", "p95"):
            found = getattr(delivered, share) / priced.size.nominal_eflops / 0.975
            assert found == pytest.approx(getattr(said, share), rel=5e-3)
        assert priced.delivered_eflops == delivered.p50
    assert large.chain[-1].value < small.chain[-1].value
    assert "training of 7B parameters, context 4,096, 15,625 devices" in describe_delivered(large)
    assert not any("no published run" in note for note in large.notes)


def test_what_is_trained_changes_what_is_delivered():
    def delivered(**training):
        return one("nio", training=TrainingSetup(**training)).delivered_eflops

    base = delivered()
    assert delivered(stack="off-the-shelf") < base
    assert delivered(context=131_072) < base
    assert delivered(parameters=671e9, active_parameters=37e9) < base


def test_fp8_is_counted_from_the_fp8_rating():
    bf16, fp8 = (one("tesla", training=TrainingSetup(precision=each)) for each in ("bf16", "fp8"))
    assert fp8.chain[0].value == pytest.approx(2, rel=1e-3)
    assert fp8.chain[1].value < bf16.chain[1].value
    assert bf16.delivered_eflops < fp8.delivered_eflops < 2 * bf16.delivered_eflops
    assert "of 1,979" in describe_delivered(fp8)
    assert "has no fp8 rating" in one("nio", training=TrainingSetup(precision="fp8")).reason


def test_one_published_training_run_can_be_chosen():
    small, whole = (one("nio", derate=name) for name in ("foundry-a100-7b-x8-t8192", "llama2-7b-hours"))
    assert small.chain[-1].value == pytest.approx(0.476, abs=1e-3)
    assert (small.chain[-1].law, small.chain[-1].n_to, small.reaches) == ("exact", 8, "scaled")
    assert whole.reaches == "goodput"  # interruptions are in it
    pangu = one(part="910B3", derate="pangu-ultra-135b-x8192")  # its source doesn't say which 910B
    assert 0.45 < pangu.chain[-1].low < pangu.chain[-1].high < 0.55
    deepseek = one(part="H800", derate="deepseek-v3-hours")
    assert deepseek.chain[0].value == pytest.approx(2, rel=1e-3)
    unknown = one("nio", derate="megascale-175b-x12288")
    assert unknown.chain[-1].low < 0.552 < unknown.chain[-1].high
    with pytest.raises(InputError, match="the nearest are foundry-a100-7b"):
        cost("nio", derate="foundry-a100-7b-x8")


def test_the_chain_says_where_each_link_comes_from_and_how_far_it_reaches():
    priced = one("nio", derate=PUBLISHED)
    first, second = priced.chain
    assert (first.span, first.value) == ("nominal → datasheet", 0.975)
    assert (second.id, second.value, second.provenance) == (PUBLISHED, SHARE, "published")
    assert priced.reaches == "scaled"
    notes = "\n".join(priced.notes)
    assert "measured on A100 SXM 80GB, the same silicon; stands in for NVIDIA A800 SXM4 80GB" in notes
    assert "over links of 600 GB/s; the effect of 400 here" in notes
    assert "measured on 8 devices" in notes
    assert "the bf16 derate serves fp16: both are rated 312" in notes


def test_another_derate_changes_what_is_delivered_and_not_the_capex():
    figure = find_figure(PUBLISHED)
    whole, half = (
        one("nio", derate=figure.model_copy(update={"value": each})) for each in (figure.value, 0.321)
    )
    assert half.delivered_eflops == pytest.approx(whole.delivered_eflops / 2)
    assert half.rmb_per_delivered_eflops == pytest.approx(2 * whole.rmb_per_delivered_eflops)
    assert half.value("capex_rmb") == whole.value("capex_rmb")


@pytest.mark.parametrize(
    ("derates", "per_delivered"),
    [
        ("a100-sxm-80gb-gemm-burst", 438.0e6),
        (["ampere-scaled-175b-x12288", "h100-goodput-405b-x16384"], 766.0e6),
    ],
)
def test_published_derates_by_name(derates, per_delivered):
    assert one(part=A800, derate=derates).rmb_per_delivered_eflops == pytest.approx(per_delivered, rel=2e-4)


def test_a_chain_that_reaches_goodput_lacks_nothing():
    priced = one("nio", derate=["a100-sxm-80gb-scaled-7b-x8", "h100-goodput-405b-x16384"])
    assert priced.reaches == "goodput"
    assert cost_row(priced)["not_yet"] == []
    assert "(A100: 0.617, then 16384 H100: 0.900; together 0.556 of 312)" in describe_delivered(priced)


def test_a_derate_of_another_part_is_not_used_and_that_is_said():
    tesla, *_ = cost(derate="a100-sxm-80gb-scaled-13b-x8")
    assert tesla.chain[-1].id == "mfu-hopper"
    assert "a100-sxm-80gb-scaled-13b-x8: of another part, not used" in tesla.notes
    with pytest.raises(InputError, match=f"--derate: a derate of nvidia-a100.*expected one of {H100}"):
        cost("tesla", derate="a100-sxm-80gb-scaled-13b-x8")


def test_a_derate_of_no_one_part_needs_a_fleet_by_name():
    with pytest.raises(InputError, match="--derate: a derate of Ampere, which isn't one part"):
        cost(derate="ampere-scaled-175b-x12288")
    notes = one("nio", derate="ampere-scaled-175b-x12288").notes
    assert any("measured on Ampere, which isn't one part of the registry" in note for note in notes)


def test_a_derate_of_another_dtype_is_refused():
    with pytest.raises(InputError, match="a derate of fp8 says nothing of fp16"):
        cost("tesla", derate="h100-sxm-gemm-sustained-fp8")
