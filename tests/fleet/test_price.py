"""What a fleet delivers and costs: the article's figures, prices, assumptions, and what is refused."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.fleet import Fleet, catalogue, frame
from nameplate.fleet.describe import describe_delivered, describe_servers
from nameplate.fleet.goodput import make_goodput_link
from nameplate.fleet.rows import cost_row
from nameplate.specs.part import shorten
from prices import A800, H100, PUBLISHED, SHARE, cost, one

SENTENCE = (
    "One nominal EFLOPS of A800 (3,125 cards at 320) delivers 0.602 EFLOPS in published 8-GPU training of a "
    "7B model (A100: 0.617 of 312); at RMB 950,000 per 8-card server that is RMB 617 M (nine draws in ten: "
    "594 M to 639 M) per delivered EFLOPS."
)


def test_one_eflops_of_a800_is_the_articles_arithmetic():
    priced = one(part=A800, derate=PUBLISHED)
    assert (priced.size.cards, priced.size.card_tflops) == (3125, 320)
    assert (priced.value("servers_exact"), priced.servers) == (390.625, 391)
    assert priced.value("capex_rmb") == pytest.approx(371_093_750, rel=1e-12)
    assert priced.capex_whole_servers_rmb == 371_450_000
    assert pytest.approx(0.617, abs=5e-4) == SHARE
    assert priced.delivered_eflops == pytest.approx(SHARE * 312 / 320)
    assert priced.value("rmb_per_nominal_eflops") == pytest.approx(371_093_750, rel=1e-12)
    assert priced.rmb_per_delivered_eflops == pytest.approx(371_093_750 / (SHARE * 0.975))
    assert describe_delivered(priced) == SENTENCE
    assert describe_servers(priced) == (
        "One nominal EFLOPS takes 390.625 servers (RMB 371.09375 M), or 391 whole servers (RMB 371.45 M)."
    )


@pytest.mark.parametrize(
    ("fleet", "cards", "servers", "nominal", "delivered"),
    [
        ("li-auto", 16_844, 2_106, 5.39, 5.39 * SHARE * 0.975),
        ("xpeng", 7_844, 981, 2.51, 2.51 * SHARE * 0.975),
        ("nio", 4_375, 547, 1.4, 1.4 * SHARE * 0.975),
        ("tesla", 67_500, 8_438, 66.7575, 66.7575 * find_figure("h100-sxm-scaled-7b-x8").as_link().value),
    ],
)
def test_the_articles_fleets(fleet, cards, servers, nominal, delivered):
    priced = one(fleet, derate="h100-sxm-scaled-7b-x8" if fleet == "tesla" else PUBLISHED)
    assert (priced.size.cards, priced.servers) == (cards, servers)
    assert priced.size.nominal_eflops == pytest.approx(nominal)
    assert priced.delivered_eflops == pytest.approx(delivered)
    if fleet != "tesla":
        assert priced.capex_whole_servers_rmb == servers * 950_000
        assert priced.value("capex_rmb") == pytest.approx(nominal * 371_093_750)
        assert priced.value("rmb_per_nominal_eflops") == pytest.approx(371_093_750)
        assert describe_delivered(priced) == SENTENCE


def test_every_fleet_unless_some_are_named():
    assert [priced.size.id for priced in cost()] == [fleet.id for fleet in catalogue().fleet]
    names = [priced.size.name.split(" ")[0] for priced in cost()][:5]
    assert names == ["Tesla", "Li", "XPeng", "Huawei", "NIO"]
    assert [priced.size.id for priced in cost(["nio", "li-auto", "nio"])] == [
        "nio-2024-10",
        "li-auto-2024-08",
    ]


def test_tesla_is_priced_as_in_china_and_the_card_it_implies_is_noted():
    tesla = one("tesla", derate="h100-sxm-scaled-7b-x8")
    assert (tesla.servers, tesla.reason) == (8438, None)
    assert tesla.points()["capex_rmb"] == pytest.approx(67_500 / 8 * 2_700_000)
    assert tesla.price.note.startswith("in China, by unofficial channels")
    said = (
        "stated as 67.5 EFLOPS, which is 1,000 TFLOPS a card; at the registry's 989 a card, nominal is 66.8"
    )
    assert any(said in note for note in tesla.notes)
    assert tesla.size.stated_eflops == 67.5
    assert "(H100: 0.446 of 989); at RMB 2,700,000 per 8-card server" in describe_delivered(tesla)


def test_a_mix_is_an_interval_over_every_mix_and_never_a_guess_of_its_shares():
    huawei = one("huawei")
    assert huawei.size.nominal_eflops == huawei.size.stated_eflops == 7.5
    assert (
        huawei.size.cards
        is huawei.delivered_eflops
        is huawei.value("capex_rmb")
        is describe_delivered(huawei)
        is None
    )
    assert huawei.chain == ()
    assert "a mix of parts in unknown shares" in huawei.reason
    assert "its cost isn't known either" in huawei.reason
    a800, ascend = huawei.mix
    assert (a800.size.part.id, ascend.size.part.id) == (A800, "huawei-ascend-910b")
    delivered = huawei.estimates["delivered_eflops"]
    assert (delivered.value, delivered.p50) == (None, None)
    assert delivered.p5 == min(each.estimates["delivered_eflops"].p5 for each in huawei.mix)
    assert delivered.p95 == max(each.estimates["delivered_eflops"].p95 for each in huawei.mix)
    assert [link.id for link in a800.chain] == [None, "mfu-ampere-ga100"]
    assert [link.provenance for link in ascend.chain] == ["assumed", "assumed"]
    row = cost_row(huawei)
    assert row["parts"] == [A800, "huawei-ascend-910b"]
    assert row["delivered_eflops"] is None
    assert 0 < row["delivered_eflops_p5"] < row["delivered_eflops_p95"] < 7.5


def test_a_mix_is_priced_between_its_parts_where_all_their_prices_are_known():
    mixed = Fleet(id="mixed-2026", name="Mixed", as_of="2026", mix=(A800, H100), mix_source="told",
                  eflops=2.0, source="told")  # fmt: skip
    listed = catalogue().model_copy(update={"fleet": (mixed,)})
    (priced,) = cost(catalogue=listed, price={H100: 2_500_000})
    ends = sorted(part.value("capex_rmb") for part in priced.mix)
    found = priced.estimates["capex_rmb"]
    assert found.p5 == pytest.approx(ends[0], rel=0.06)
    assert found.p95 == pytest.approx(ends[1], rel=0.06)
    assert "its cost" not in priced.reason


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        ("world", "for comparison only, in a precision that isn't stated"),
        ("china", "for comparison only, in fp32"),
        ("suppliers", "its part isn't known"),
        ("tesla-dojo-1", "other hardware, counted in H100"),
    ],
)
def test_what_is_of_no_known_part_is_neither_delivered_nor_priced(fleet, why):
    priced = one(fleet)
    assert priced.delivered_eflops is priced.value("capex_rmb") is priced.value("power_mw") is None
    assert why in priced.reason


def test_what_stands_for_scale_has_nominal_eflops_in_fp16_alone():
    assert [one(name).size.nominal_eflops for name in ("world", "china", "china-fp16")] == [None, None, 492]


def test_a_part_without_a_rating_of_its_training_has_its_reason():
    v100 = one(part="nvidia-v100-sxm2")
    assert v100.size.nominal_eflops == 1
    assert v100.delivered_eflops is None
    assert "nvidia-v100-sxm2 has no bf16 rating that an MFU could be a share of" in v100.reason


def test_a_json_row_has_null_and_never_0_for_what_isnt_known():
    for priced in cost():
        row = cost_row(priced)
        assert all(value != 0 for value in row.values() if isinstance(value, float))
        assert (row["reason"] is not None) == (None in (row["delivered_eflops"], row["capex_rmb"]))
        for link in row["chain"]:
            assert link["provenance"] in ("published", "modelled")
            assert link["source"]
    row = cost_row(one("nio", derate=PUBLISHED))
    assert row["not_yet"] == ["goodput"]
    assert row["dtype"] == "fp16"
    assert row["sentence"] == SENTENCE


def test_another_price_changes_the_cost_in_proportion():
    known = catalogue()
    changes = {"server_rmb": 1_900_000.0, "low": None, "high": None, "law": None}
    price = known.price_of(A800)
    dearer = known.model_copy(update={"price": (price.model_copy(update=changes),)})
    assert one("nio", catalogue=dearer).value("capex_rmb") == pytest.approx(2 * one("nio").value("capex_rmb"))
    assert one("nio", price={A800: 1_900_000}).value("capex_rmb") == pytest.approx(
        2 * one("nio").value("capex_rmb")
    )
    assert one("nio", catalogue=dearer).delivered_eflops == one("nio").delivered_eflops


@pytest.mark.parametrize("size", [math.nan, math.inf, -1.0, 0.0])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match=r"--eflops: not a size; got .*; expected EFLOPS above 0"):
        cost(eflops=size, part=A800)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"eflops": 2.0}, "--eflops: EFLOPS of no part"),
        ({"part": "nvidia-a801"}, "isn't the name of a part"),
        ({"part": "AMD Instinct MI250X / MI250"}, "alone doesn't say which part"),
        ({"fleets": "byd"}, "no such fleet; got 'byd'"),
        (
            {"derate": "a100-sxm-scaled-7b"},
            "no such published derate; got 'a100-sxm-scaled-7b'; .*the nearest are h100-sxm-scaled-2b",
        ),
        ({"derate": "hyperscale-pue"}, "a published figure, but of pue"),
        ({"run": "gone"}, "no such run; got 'gone'"),
    ],
)
def test_bad_input_is_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        cost(**given)


@pytest.mark.parametrize("scale", [0.001, 0.32, 3.0, 88.5])
def test_scaling_a_fleet_scales_its_cards_and_leaves_its_unit_prices(scale):
    unit, priced = one(part=A800, derate=PUBLISHED), one(part=A800, eflops=scale, derate=PUBLISHED)
    assert priced.size.cards_exact == pytest.approx(scale * unit.size.cards_exact)
    assert priced.size.cards == math.ceil(round(scale * 3125, 6))
    assert priced.rmb_per_delivered_eflops == pytest.approx(unit.rmb_per_delivered_eflops)
    assert describe_delivered(priced) == SENTENCE


def test_a_frame_has_a_row_a_fleet():
    table = frame(cost())
    assert list(table["fleet"]) == [fleet.id for fleet in catalogue().fleet]
    priced = table[table["capex_rmb"].notna()]
    assert set(priced["part"]) == {A800, H100}
    assert {"delivered_eflops_p5", "delivered_eflops_p50", "delivered_eflops_p95"} <= set(table.columns)


@pytest.mark.parametrize(
    ("name", "said"),
    [("NVIDIA A800 SXM4 80GB", "A800"), ("A100 SXM 80GB", "A100"), ("NVIDIA A800 PCIe 80GB", "A800 PCIe"),
     ("AMD MI300X", "MI300X"), ("NVIDIA GH200 (Hopper GPU)", "GH200 (Hopper GPU)")],
)  # fmt: skip
def test_short_names(name, said):
    assert shorten(name) == said


# What the issue asks of one EFLOPS on 950,000 a server, before fabric and power
@pytest.mark.parametrize(
    ("derates", "stage", "cards", "rmb_m", "servers", "whole_m"),
    [
        ((), "nominal", 3125, 371.1, 391, 371.45),
        ((), "datasheet", 3206, 380.6, 401, 380.95),
        (["a100-sxm-80gb-gemm-burst"], "gemm_burst", 3689, 438.0, 462, 438.9),
        (["a100-sxm-80gb-gemm-sustained"], "gemm_sustained", 3706, 440.0, 464, 440.8),
        (["ampere-scaled-175b-x12288", "h100-goodput-405b-x16384"], "goodput", 6451, 766.0, 807, 766.65),
    ],
)
def test_one_delivered_eflops_by_how_far_the_chain_is_followed(
    derates, stage, cards, rmb_m, servers, whole_m
):
    rung = next(each for each in one(part=A800, derate=derates).ladder if each.stage == stage)
    assert (rung.cards, rung.servers) == (cards, servers)
    assert round(rung.rmb / 1e6, 1) == rmb_m
    assert rung.whole_servers_rmb / 1e6 == whole_m


def test_the_last_rung_is_what_the_fleet_is_priced_by():
    priced = one("nio", derate=PUBLISHED)
    assert priced.ladder[-1].rmb == pytest.approx(priced.rmb_per_delivered_eflops)
    assert priced.ladder[-1].derate == pytest.approx(priced.derate)


def test_the_full_view_stands_beside_the_bare_one():
    nio = one("nio")
    assert nio.servers_with_spares == math.ceil(546.875 * 1.075)
    assert nio.full_capex_whole_servers_rmb == pytest.approx(588 * 950_000 * 1.235)
    points = nio.points()
    assert points["full_capex_rmb"] == pytest.approx(points["capex_rmb"] * 1.235 * 1.075)
    assert points["power_mw"] == pytest.approx(4375 * 400 * 2.03 * 0.75 * 1.25 / 1e6)
    year = points["full_capex_rmb"] * (1 / 5 + 0.05) + points["power_mw"] * 1000 * 8760 * 0.65
    delivered = points["delivered_eflops"]
    assert points["ownership_rmb_per_year"] == pytest.approx(year)
    assert points["rmb_per_delivered_eflops_year"] == pytest.approx(year / delivered)
    assert points["rmb_per_pflop_day"] == pytest.approx(year / delivered / 365_000)
    assert points["usd_per_pflop_day"] == pytest.approx(points["rmb_per_pflop_day"] / 7.1)
    # What is stated are the middles of the draws, near these.
    for name, found in points.items():
        assert nio.value(name) == pytest.approx(found, rel=0.1), name


def test_power_is_known_without_a_price():
    a100 = one(part="A100")
    assert a100.points()["power_mw"] == pytest.approx(1e6 / 312 * 400 * 2.03 * 0.75 * 1.25 / 1e6)
    assert a100.value("capex_rmb") is a100.servers is a100.value("ownership_rmb_per_year") is None
    assert describe_delivered(a100).endswith("the price of its servers isn't known.")
    tesla = one("tesla")
    assert tesla.points()["power_mw"] == pytest.approx(67_500 * 700 * 1.82 * 0.75 * 1.25 / 1e6)


def test_assumptions_are_set_by_name_and_said_where_they_come_from():
    nio = one("nio", assume={"pue": 1.1, "electricity_rmb_per_kwh": "0.4..0.6"})
    assert nio.points()["power_mw"] == pytest.approx(4375 * 400 * 2.03 * 0.75 * 1.1 / 1e6)
    used = cost_row(nio)["inputs"]
    assert used["pue"]["source"].startswith("given by --assume")
    assert (used["electricity_rmb_per_kwh"]["value"], used["electricity_rmb_per_kwh"]["law"]) == (
        0.5,
        "uniform",
    )


def test_a_value_for_every_part_takes_the_place_of_those_for_some():
    given = one("nio", assume={"server_power_over_gpu_power": 2})
    assert given.points()["power_mw"] == pytest.approx(4375 * 400 * 2 * 0.75 * 1.25 / 1e6)


def test_goodput_may_be_modelled_for_one_job_on_all_cards():
    priced = one("nio", goodput=True)
    assert [link.to for link in priced.chain[1:]] == ["scaled", "goodput"]
    assert priced.chain[-1].provenance == "modelled"
    assert priced.chain[-1].value == make_goodput_link(4375).value
    assert 0.8 < priced.chain[-1].value < 1
    scaled = one("nio")
    assert priced.delivered_eflops == pytest.approx(
        scaled.delivered_eflops * priced.chain[-1].value, rel=0.03
    )
    small, large = cost(["nio", "xpeng-target"], goodput=True)
    assert small.chain[-1].value > large.chain[-1].value
    by_hand, asked = (
        one("nio", derate=[PUBLISHED, make_goodput_link(4375)]),
        one("nio", derate=PUBLISHED, goodput=True),
    )
    assert by_hand.derate == asked.derate
    # One that is in the chain already isn't counted again.
    given = one("nio", derate=[PUBLISHED, "h100-goodput-405b-x16384"], goodput=True)
    assert given.chain[-1].id == "h100-goodput-405b-x16384"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"assume": {"pu": 1}},
            "--assume: a value that can't be used; got 'pu=1'; expected a name among fabric",
        ),
        ({"assume": {"pue": 0.9}}, "expected pue .ratio. from 1 to 5"),
        ({"assume": {"pue": "1.1…1.2"}}, "--assume pue: not a number, nor a range of them; got '1.1…1.2'"),
        ({"assume": {"pue": math.nan}}, "--assume pue: not a number"),
        ({"assume": {"pue": "1.3..1.1"}}, "--assume pue: not a number"),
        ({"assume": {"electricity_rmb_per_kwh": -1}}, "--assume electricity_rmb_per_kwh: not a number"),
        (
            {"price": {A800: 0}},
            f"--price: a value that can't be used; got '{A800}=0'; expected greater than 0",
        ),
        ({"price": {A800: -1}}, f"--price {A800}: not a number"),
        ({"price": {"nvidia-a801": 1}}, "isn't the name of a part"),
        ({"draws": 10}, "--draws: not a number of draws; got 10; expected 1,000 to 10,000,000"),
        ({"seed": -1}, "--seed: not a seed; got -1"),
        (
            {"derate": "scaled:datasheet=0.5"},
            "not a derate; got 'scaled → datasheet'; expected a later stage after an earlier one",
        ),
        ({"derate": "scaled:gone=0.5"}, "--derate: not a derate; got 'scaled:gone=0.5'"),
        ({"derate": "datasheet:scaled=0"}, "not a derate; got 0.0; expected a ratio above 0"),
        ({"derate": "datasheet:scaled=x"}, "--derate: not a number"),
    ],
)
def test_an_input_that_cant_be_is_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        cost("nio", **given)
