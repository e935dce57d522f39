"""Plans by part: what a need takes, what a budget buys."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.device.identity import CudaIdentity
from nameplate.fleet import afford, catalogue, cost, meet, need
from nameplate.fleet.goodput import estimate_goodput
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.mfu_model import load_mfu_model
from nameplate.fleet.plan import NEED_FIGURES
from nameplate.fleet.size import card_tflops
from nameplate.specs.registry import load_registry
from nameplate.store.manifest import DeviceEntry

A100, A800 = "nvidia-a100-sxm4-80gb", "nvidia-a800-sxm4-80gb"
H100, ASCEND = "nvidia-h100-sxm5-80gb", "huawei-ascend-910b"
PRICES = {H100: 2_500_000}
FEW = {"draws": 1000}
PUBLISHED = "a100-sxm-80gb-scaled-7b-x8"
DERATE = 312 / 320 * find_figure(PUBLISHED).as_link().value


def bought(budget, *parts, **options):
    return afford(budget, parts or (A800,), **(FEW | options))


# What a need takes


def test_parts_side_by_side_share_one_run_and_draws():
    found = meet(10, (A800, H100), price=PRICES, **FEW)
    assert [each.fleet.size.part.id for each in found] == [A800, H100]
    for each in found:
        said = estimate_mfu(each.fleet.size.part, each.cards)
        peak = said.peak_tflops
        assert each.cards == math.ceil(10e6 / peak / said.p50)
        assert each.estimates["cards_exact"].p5 == pytest.approx(10e6 / peak / said.p95, rel=0.01)
    (alone,) = meet(10, (H100,), price=PRICES, **FEW)
    assert alone.estimates == found[1].estimates
    by_name = meet(10, ("NVIDIA A800-SXM4-80GB", A800), **FEW)
    assert len(by_name) == 1


def test_a_derate_of_one_part_leaves_the_other_its_own():
    a800, h100 = meet(1, (A800, H100), derate="a100-sxm-80gb-gemm-burst", **FEW)
    assert a800.cards == 3689
    assert h100.fleet.chain[-1].id == "mfu-hopper"


def test_a_run_of_one_part_prices_it_and_the_others_keep_the_published_derate(make_run, make_record):
    device = DeviceEntry(
        name="cuda:0",
        part=A800,
        evidence="its name",
        identity=CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=0),
    )
    product = make_record(
        device="cuda:0", part=A800, tflops=250.0, tflops_low=245.0, tflops_high=255.0, nominal_tflops=320.0,
        datasheet_tflops=312.0, efficiency=250 / 320, efficiency_low=245 / 320, efficiency_high=255 / 320,
    )  # fmt: skip
    run = make_run(product, devices=(device,))
    a800, h100 = meet(1, (A800, H100), run=run, **FEW)
    assert [link.provenance for link in a800.fleet.chain[1:]] == ["measured", "modelled"]
    assert a800.cards == pytest.approx(need(1, A800, **FEW).cards * (270 / 312) / (250 / 312), rel=0.01)
    assert [link.provenance for link in h100.fleet.chain[1:]] == ["modelled"]
    (lossy,) = meet(1, (A800,), run=run, goodput=True, **FEW)
    assert lossy.fleet.reaches == "goodput"
    assert lossy.cards > a800.cards


def test_without_parts_those_that_something_is_known_of():
    listed = catalogue()
    parts = {each.fleet.size.part.id for each in meet(1, **FEW)}
    trained_on = {part for part in load_mfu_model().runs_of_part if card_tflops(load_registry().parts[part])}
    assert parts == {A100, A800, H100} | trained_on | {price.part for price in listed.price}
    assert "nvidia-h100-pcie-80gb" not in parts
    mine = {"nvidia-h100-pcie-80gb": 300_000}
    found = {each.fleet.size.part.id: each for each in meet(1, price=mine, catalogue=listed, **FEW)}
    assert found["nvidia-h100-pcie-80gb"].cards > 0


def test_the_fleet_that_meets_a_need_delivers_it_in_whole_cards():
    (found,) = meet(10, (A800,), **FEW)
    assert found.fleet.size.cards == found.cards
    assert 10 <= found.fleet.delivered_eflops < 10 + 320e-6
    (stated,) = meet(10, (A800,), derate=PUBLISHED, **FEW)
    assert stated.cards == math.ceil(10e6 / 320 / DERATE)
    assert found.capex_whole_servers_rmb == found.servers * 950_000


def test_a_part_without_a_rating_of_its_cards_has_nominal_eflops_alone():
    found = need(2, ASCEND, **FEW)
    assert found.cards is found.servers is found.sentence is None
    assert found.estimates["nominal_eflops"].value == pytest.approx(2 / 0.40)
    assert f"{ASCEND} has no fp16 rating: its sources disagree (256, 320, 354 TFLOPS)" in found.reason


def test_goodput_is_that_of_the_cards_it_takes():
    found = need(1, A800, goodput=True, derate=PUBLISHED, **FEW)
    share = estimate_goodput(found.cards).goodput.value
    assert found.fleet.reaches == "goodput"
    assert found.cards == pytest.approx(1e6 / 320 / DERATE / share, rel=0.02)
    assert found.fleet.delivered_eflops == pytest.approx(1, rel=1e-3)
    assert found.cards > need(1, A800, derate=PUBLISHED, **FEW).cards


def test_one_job_can_be_too_large_for_any_number_of_cards():
    found = need(500, A800, goodput=True, **FEW)
    assert found.cards is None
    assert "failures cost more than further cards add" in found.reason
    assert need(500, A800, **FEW).cards > 2_000_000


def test_a_need_in_a_sentence_and_as_a_row():
    found = need(10, A800, draws=10_000)
    said = estimate_mfu(A800, found.cards)
    assert found.cards == math.ceil(10e6 / 312 / said.p50)
    ends = " to ".join(f"{10e6 / 312 / each:,.0f}"[:3] for each in (said.p95, said.p5))
    low, high = ends.split(" to ")
    assert found.sentence.startswith(
        f"10 delivered EFLOPS take {found.cards:,} cards of A800 (nine draws in ten: {low}"
    )
    assert f" to {high}" in found.sentence
    row = found.as_json()
    assert {f"{name}{end}" for name in NEED_FIGURES for end in ("", "_p5", "_p50", "_p95")} <= row.keys()
    assert (row["reaches"], row["not_yet"], row["draws"], row["seed"]) == ("scaled", ["goodput"], 10_000, 0)
    assert [link["value"] for link in row["chain"]] == [0.975, pytest.approx(said.p50)]
    assert need(10, A100, **FEW).sentence.endswith("the price of its servers isn't known.")


def test_ten_eflops_by_a_tuned_stack_and_off_the_shelf_hold_what_others_got_on_one_cluster():
    """MegaScale's MFU of 0.552 would take 58,064 A800, Megatron-LM's of 0.412 on its cluster 77,794."""
    tuned = need(10, A800, draws=10_000).estimates["cards_exact"]
    stock = need(10, A800, draws=10_000, training=TrainingSetup(stack="off-the-shelf")).estimates[
        "cards_exact"
    ]
    assert tuned.p5 < 58_064 < tuned.p95
    assert stock.p5 < 77_794 < stock.p95
    assert tuned.p5 < tuned.value < tuned.p95 < stock.p95
    assert tuned.value < stock.value


def test_a_billion_buys_of_two_cards_with_the_probability_that_either_is_first_under_both_stacks():
    for stack in ("tuned", "off-the-shelf"):
        found = bought(1e9, A800, H100, price={H100: "2000000..2600000"}, training=TrainingSetup(stack=stack))
        assert sum(each.first_in for each in found) == pytest.approx(1)
        # Two cards whose medians are within 5 %: neither is sure to be first.
        assert all(0.3 < each.first_in < 0.7 for each in found)


def test_what_is_needed_delivers_what_was_asked_for():
    ten = need(10, A800, draws=2000, derate=PUBLISHED)
    (fleet,) = cost(part=A800, eflops=10 / DERATE, draws=2000, derate=PUBLISHED)
    assert ten.cards == pytest.approx(fleet.size.cards, abs=1)
    assert ten.servers == fleet.servers
    assert fleet.delivered_eflops == pytest.approx(10)
    for name in ("capex_rmb", "full_capex_rmb", "power_mw"):
        assert ten.estimates[name].value == pytest.approx(fleet.value(name))


def test_cards_are_as_unsure_as_the_derate():
    cards = need(1, A800, draws=20_000).estimates["cards_exact"]
    assert cards.p5 < cards.value == cards.p50 < cards.p95
    given = need(1, A800, draws=20_000, derate="datasheet:scaled=0.5..0.6").estimates["cards_exact"]
    assert given.p5 == pytest.approx(1e6 / 312 / 0.595, rel=1e-3)
    assert given.p95 == pytest.approx(1e6 / 312 / 0.505, rel=1e-3)


def test_a_need_as_a_row():
    row = need(1, A800, derate="a100-sxm-80gb-gemm-burst", draws=1000).as_json()
    assert (row["cards"], row["servers"], row["reaches"]) == (3689, 462, "gemm_burst")
    assert row["capex_rmb"] == pytest.approx(437.98e6, rel=1e-4)
    assert row["capex_rmb_p5"] < row["capex_rmb"] < row["capex_rmb_p95"]


def test_what_isnt_known_is_null_with_the_reason():
    row = need(1, "nvidia-v100-sxm2", draws=1000).as_json()
    assert row["cards"] is row["power_mw"] is None
    assert "nvidia-v100-sxm2 has no bf16 rating that an MFU could be a share of" in row["reason"]


# What money buys


def test_a_budget_buys_whole_servers_alone_and_with_what_belongs_to_them():
    (found,) = bought(1e9, derate=PUBLISHED)
    assert (found.servers, found.cards) == (1052, 8416)
    assert found.full_servers == pytest.approx(1e9 / (950_000 * 1.235 * 1.075), rel=0.03)
    assert found.estimates["delivered_eflops"].value == pytest.approx(8416 * 320e-6 * DERATE)
    assert found.estimates["delivered_eflops"].p5 < found.estimates["delivered_eflops"].value
    assert found.fleet.size.cards == 8416
    assert found.sentence.startswith("RMB 1,000 M buys 1,052 servers of A800 (8,416 cards), delivering 1.62 ")


def test_the_part_that_delivers_most_comes_first_and_those_without_a_price_last():
    found = bought(1e9, A800, A100, H100, price={H100: 2_000_000})
    assert [each.fleet.size.part.id for each in found] == [H100, A800, A100]
    assert [each.rank for each in found] == [1, 2, None]
    assert found[0].first_in + found[1].first_in == 1
    assert found[2].estimates == {}
    assert "no price of a server of nvidia-a100-sxm4-80gb is known" in found[2].reason


def test_prices_that_overlap_leave_the_first_rank_unsure():
    dear = bought(1e9, A800, H100, price={H100: "1500000..4500000"})
    assert 0 < dear[0].first_in < 1


def test_a_budget_below_one_server_buys_none():
    (found,) = bought(500_000)
    assert (found.servers, found.estimates["delivered_eflops"].value) == (0, 0)
    assert found.reason == "RMB 500,000 is less than one server costs"


def test_exact_prices_of_whole_servers_are_spent_whole():
    exact = {"fabric_price_factor": 1.2, "spare_nodes": 0.05}
    (found,) = bought(1000 * 950_000, price={A800: 950_000}, assume=exact)
    assert (found.servers, found.estimates["power_mw"].value > 0) == (1000, True)
    assert found.full_servers == math.floor(1000 / 1.2 / 1.05)


# What holds of them all

EFLOPS = st.floats(1e-4, 1000)


@given(EFLOPS, EFLOPS)
@settings(max_examples=25, deadline=None)
def test_more_delivered_never_needs_fewer_cards(one, other):
    less, more = (need(each, A800, **FEW) for each in sorted((one, other)))
    assert less.cards <= more.cards
    assert all(less.estimates[name].p95 <= more.estimates[name].p95 for name in NEED_FIGURES)


@given(EFLOPS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_meets_a_need_delivers_it_within_a_card(much, lossy):
    found = need(min(much, 5) if lossy else much, A800, goodput=lossy, **FEW)
    size = found.cards * 320e-6
    (priced,) = cost(part=A800, eflops=size, goodput=lossy, **FEW)
    card = priced.delivered_eflops / found.cards
    # The middle of few draws is one of two.
    assert found.asked.value * (1 - 2e-3) <= priced.delivered_eflops
    # With goodput, whole nodes fail: up to a node's cards may be left over.
    assert priced.delivered_eflops <= found.asked.value * (1 + 2e-3) + (9 if lossy else 1) * card


@given(st.floats(1e6, 1e11), st.floats(1e6, 1e11))
@settings(max_examples=25, deadline=None)
def test_a_bigger_budget_never_delivers_less(one, other):
    (less,), (more,) = (bought(each) for each in sorted((one, other)))
    for name, each in less.estimates.items():
        assert each.value <= more.estimates[name].value
        assert each.p5 <= more.estimates[name].p5
    assert less.servers * 950_000 <= one * (1 + 1e-9) or less.servers * 950_000 <= other * (1 + 1e-9)


# What is refused


@pytest.mark.parametrize("much", [0, -1.0, math.nan, math.inf, True])
def test_a_need_that_is_none_is_refused(much):
    with pytest.raises(
        InputError, match=r"not an amount of EFLOPS; got .*; expected delivered EFLOPS above 0"
    ):
        need(much, A800)


@pytest.mark.parametrize("budget", [0, -1, math.nan, math.inf, True, 1e20])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(InputError, match=r"--budget-rmb: not a usable budget; got .*; expected RMB above 0"):
        bought(budget)
