"""What is known of the cards that can be bought, what isn't, and what fills it."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet.catalogues import Price, catalogue
from nameplate.fleet.gaps import FILLED_BY, list_cards
from nameplate.fleet.price import cost
from nameplate.specs.registry import load_shipped

FEW = {"draws": 1_000}
# The cards that buyers ask for: RMB of a server by hand from the quotations, None where none was found.
SERVERS = {
    "nvidia-h20-96gb": 1_200_000,
    "nvidia-h20-141gb": 1_150_000,
    "nvidia-h100-sxm5-80gb": 2_700_000,
    "nvidia-h800-sxm5-80gb": 2_000_000,
    "nvidia-h800-pcie-80gb": None,
    "nvidia-h200-sxm-141gb": 1_500_000,
    "nvidia-l20": 8 * 75_000 * 1.64,
    "nvidia-b200": 489_000 * 7.1,
    "nvidia-b300": 8_000_000,
    "huawei-ascend-910b1": 8 * 120_000 * 1.64,
    "huawei-ascend-910b2": None,
    "huawei-ascend-910b3": 8 * 90_000 * 1.64,
    "huawei-ascend-910b4": None,
    "huawei-ascend-910c": 8 * 142_500 * 1.64,
    "huawei-ascend-950dt": None,
    "kunlunxin-p800": None,
    "cambricon-mlu590": 8 * 85_000 * 1.64,
    "nvidia-geforce-rtx-5090-d": 8 * 2_299 * 7.1 * 1.64,
    "nvidia-rtx-pro-6000-server": 8 * 8_565 * 7.1 * 1.64,
    "nvidia-a800-sxm4-40gb": None,
    "nvidia-a800-pcie-40gb": None,
    "nvidia-a800-pcie-80gb": None,
    "amd-mi308x": 8 * 12_000 * 7.1 * 1.64,
    "aws-trainium2": None,
    "nvidia-gb10": 4_699 * 7.1,
}


@pytest.mark.parametrize("part", SERVERS)
def test_each_card_that_can_be_bought_is_priced_or_said_to_lack_a_price(part):
    (card,) = list_cards([part])
    missing = {gap.of for gap in card.gaps}
    if SERVERS[part] is None:
        assert card.price is None
        assert "price" in missing
    else:
        assert "price" not in missing
        price = card.price
        assert price.server_rmb == pytest.approx(SERVERS[part], rel=0.005)
        assert price.low <= price.server_rmb <= price.high
        assert price.source
        assert price.as_of
    assert ("rating" in missing) is ("fp16" not in load_shipped().parts[part].datasheet)
    assert ("power" in missing) is (load_shipped().parts[part].tdp_w is None)


@pytest.mark.parametrize("part", SERVERS)
def test_the_cost_of_each_says_in_a_sentence_what_is_missing_and_what_fills_it(part):
    (card,) = list_cards([part])
    (found,) = cost(part=part, **FEW)
    assert (found.value("capex_rmb") is None) is (SERVERS[part] is None)
    for gap in card.gaps:
        assert str(gap) in found.reason
    if SERVERS[part] is None:  # it was looked for, and what was found instead is said
        assert f"no price of a server of {part} was found in 2026-11: " in found.reason
    assert found.value("delivered_eflops") > 0
    assert card.derate_at(0.05) < card.derate.value < card.derate_at(0.95)
    if card.price is not None:
        expected = 1e6 / found.size.card_tflops / card.price.cards_per_server * card.price.server_rmb
        assert found.points()["capex_rmb"] == pytest.approx(expected)


P800 = """schema = 1
[sources]
me = { text = "its datasheet", date = "2026-11" }
[[part]]
id = "our-p800"
name = "Our P800"
vendor = "Kunlunxin"
sources = ["me"]
tdp_w = 400
[part.dense_tflops]
fp16 = 300
"""
PRICED = """schema = 1
[[price]]
part = "our-p800"
cards_per_server = 8
card_rmb = 50_000
server_over_cards = 1.64
server_rmb = 656_000
as_of = "2026-11"
source = "our supplier"
[[derate]]
id = "ours"
from = "datasheet"
to = "scaled"
value = 0.4
parts = ["our-p800"]
unasked = true
as_of = "2026-11"
source = "our run"
"""


def test_what_fills_a_gap_fills_it(tmp_path):
    parts, fleets = tmp_path / "parts.toml", tmp_path / "fleets.toml"
    parts.write_text(P800.replace("tdp_w = 400\n", "").partition("[part.dense_tflops]")[0])
    (bare,) = list_cards(["our p800"], parts=[parts])
    assert [gap.of for gap in bare.gaps] == list(FILLED_BY)
    with pytest.raises(InputError, match="our-p800 has no fp16 rating: no source that was read states one"):
        cost(part="our p800", parts=[parts], **FEW)
    parts.write_text(P800)
    fleets.write_text(PRICED)
    listed = catalogue([fleets], parts=[parts])
    (whole,) = list_cards(["our p800"], catalogue=listed, parts=[parts])
    assert whole.gaps == ()
    assert whole.derate.id == "ours"
    assert listed.unpriced_because("our-p800") is None
    assert listed.unpriced_because("kunlunxin-p800").as_of == "2026-11"
    (found,) = cost(part="our p800", catalogue=listed, parts=[parts], **FEW)
    assert found.reason is None


def test_conflicting_sources_are_a_gap_with_their_figures():
    (card,) = list_cards(["huawei-ascend-910b"])
    assert str(card.gaps[0]).startswith(
        "huawei-ascend-910b has no fp16 rating: its sources disagree (256, 320, 354 TFLOPS): give a"
    )


def test_a_card_that_nothing_was_trained_on_has_a_wide_derate_that_says_so():
    h20, a800 = list_cards(["H20", "A800"])
    assert h20.gaps == a800.gaps == ()
    assert "no published run is of H20 or of its generation" in h20.derate.note
    width = [card.derate_at(0.95) - card.derate_at(0.05) for card in (h20, a800)]
    assert width[0] > 1.5 * width[1]
    (none,) = list_cards(["V100"])
    (gap,) = (gap for gap in none.gaps if gap.of == "derate")
    assert gap.why.startswith("nvidia-v100-sxm2 has no bf16 rating that an MFU could be a share of")
    (found,) = cost(part="H20", derate="h20-96gb-gemm-burst", **FEW)
    assert found.derate == pytest.approx(0.961)


def test_a_server_that_isn_t_its_cards_is_refused():
    given = {"part": "x", "cards_per_server": 8, "as_of": "2026", "source": "s", "card_rmb": 50_000.0}
    assert Price(**given, server_rmb=656_000.0, server_over_cards=1.64).server_rmb == 656_000
    with pytest.raises(ValueError, match="server_rmb of 656000"):
        Price(**given, server_rmb=700_000.0, server_over_cards=1.64)
    with pytest.raises(ValueError, match="both or neither"):
        Price(**given, server_rmb=656_000.0)


def test_without_names_every_part_is_listed_and_an_unknown_name_is_refused():
    assert [card.part.id for card in list_cards()] == list(load_shipped().parts)
    with pytest.raises(InputError, match="'H21' isn't the name of a part"):
        list_cards(["H21"])
    assert all(math.isfinite(card.price.server_rmb) for card in list_cards() if card.price)
