"""The catalogue: what ships, what a user adds, and what a bad file is told."""

import json
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure, load_published
from nameplate.fleet import catalogue
from nameplate.fleet.catalogues import INPUTS, KINDS, schema

ROOT = Path(__file__).parents[2]

A800 = "nvidia-a800-sxm4-80gb"
MINE = f"""
schema = 1
[[fleet]]
id = "mine-2026-11"
name = "Mine"
as_of = "2026-11-02"
part = "{A800}"
cards = 128
source = "counted"
"""
PRICE = """
[[price]]
part = "nvidia-h100-pcie-80gb"
cards_per_server = 8
server_rmb = 2_500_000
as_of = "2026-11"
source = "a quote"
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="mine.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


ASSUMPTION = """
[[assumption]]
name = "pue"
value = 1.2
low = 1.1
high = 1.3
law = "uniform"
as_of = "2026-11"
source = "the landlord"
"""
DERATE = f"""
[[derate]]
id = "ours-step-to-scaled"
from = "step"
to = "scaled"
value = 0.9
parts = ["{A800}"]
as_of = "2026-11"
source = "a guess"
"""


def test_the_articles_five_fleets_come_first_as_stated():
    stated = {
        fleet.name: (fleet.cards, fleet.eflops, fleet.as_of, fleet.part) for fleet in catalogue().fleet[:5]
    }
    assert stated == {
        "Tesla": (67500, 67.5, "2024-Q3", "nvidia-h100-sxm5-80gb"),
        "Li Auto": (None, 5.39, "2024-08-31", A800),
        "XPeng": (None, 2.51, "2024-10", A800),
        "Huawei (automated driving)": (None, 7.5, "2024-10", None),
        "NIO": (None, 1.4, "2024-10", A800),
    }
    entries = (catalogue().fleet, catalogue().price, catalogue().assumption, catalogue().derate)
    assert all(each.source and each.as_of for several in entries for each in several)


@pytest.mark.parametrize(
    ("fleet", "kind", "cards", "eflops", "as_of"),
    [
        ("tesla-before", "held", 10_000, None, "2023-09"),
        ("tesla-addition", "addition", 21_000, None, "2024-10"),
        ("tesla-target", "target", 88_500, 88.5, "2024-10"),
        ("tesla-dojo-1", "equivalent", 8_000, None, "2024-12"),
        ("tesla-dojo-target", "target", None, 100, "2024-10"),
        ("li-auto-before", "held", None, 2.4, "2024-07"),
        ("li-auto-addition", "addition", None, 3, "2024-08"),
        ("li-auto-stock", "held", 10_000, None, "2024-10"),
        ("li-auto-target", "target", None, 8, "2024-12"),
        ("xpeng-target-2025", "target", None, 10, "2025"),
        ("huawei-before", "held", None, 5, "2024"),
        ("suppliers", "held", 1_000, None, "2024"),
        ("china-2024-06", "scale", None, 246, "2024-06"),
        ("china-fp16", "scale", None, 492, "2024-06"),
        ("world", "scale", None, 910, "2023"),
    ],
)
def test_the_articles_other_figures_are_marked_as_what_they_are(fleet, kind, cards, eflops, as_of):
    found = catalogue().find(fleet)
    assert (found.kind, found.cards, found.eflops, found.as_of) == (kind, cards, eflops, as_of)
    assert found.kind in KINDS


def test_what_is_added_names_what_it_is_added_to_and_the_sum_is_the_articles():
    held, added, after = map(catalogue().find, ("tesla", "tesla-addition", "tesla-target"))
    assert added.adds_to == held.id
    assert held.eflops + added.cards * 1000 / 1e6 == after.eflops


def test_every_input_of_money_and_power_has_a_value_in_the_data():
    for part in (A800, "nvidia-h100-sxm5-80gb", "amd-mi300x"):
        assert catalogue().assumptions_for(part).keys() == INPUTS.keys()


@pytest.mark.parametrize("entry", [each for each in catalogue().assumption if each.basis == "assumed"])
def test_what_is_assumed_has_a_range_but_for_what_is_the_owners_choice(entry):
    assert entry.uncertain.law != "exact" or entry.name == "busy_share"


def test_what_is_cited_is_what_the_published_efficiencies_say():
    values = {each.name: each.value for each in catalogue().assumption if not each.parts}
    for figure in load_published():
        if figure.quantity in ("spare_nodes", "average_draw_over_tdp"):
            assert values[figure.quantity] == figure.value
    fabric = next(each for each in catalogue().assumption if each.name == "fabric_price_factor")
    # Epoch's code as it is now; the figure of another source is the upper end.
    assert fabric.value == find_figure("cluster-fabric-price-factor").value == 1.235
    assert fabric.high == find_figure("cluster-fabric-price-factor-semianalysis").value == 1.32
    assert find_figure("hyperscale-pue").value == 1.10 == catalogue().assumptions_for(None)["pue"].low
    a100 = find_figure("a100-server-power-over-gpu-power")
    assert catalogue().assumptions_for(A800)[a100.quantity].value == a100.value


def test_the_published_schema_is_the_current_one():
    written = json.loads((ROOT / "docs/schema/fleets.schema.json").read_text(encoding="utf-8"))
    assert written == schema(), "run `make schemas`"


def test_the_price_is_the_articles():
    price = catalogue().price_of(A800)
    assert (price.server_rmb, price.cards_per_server, price.as_of) == (950_000, 8, "2024-10")
    assert (price.low, price.high) == (900_000, 1_000_000)
    assert "isn't stated" in price.note
    assert catalogue().price_of("nvidia-h100-pcie-80gb") is None


@pytest.mark.parametrize("name", ["li-auto-2024-08", "Li Auto", "li-auto", " LI-AUTO "])
def test_a_fleet_is_found_by_id_by_name_and_without_its_date(name):
    assert catalogue().find(name).id == "li-auto-2024-08"


@pytest.mark.parametrize("name", ["", "li", "2024", "byd"])
def test_no_fleet_is_found_by_a_piece_of_its_name(name):
    with pytest.raises(InputError, match=r"no such fleet; got .*; expected tesla-2024-q3, li-auto-2024-08"):
        catalogue().find(name)


def test_a_name_of_several_dates_is_refused_with_their_ids(file):
    both = catalogue([file(MINE + MINE.replace("2026-11", "2026-12").replace("schema = 1", ""))])
    with pytest.raises(
        InputError, match="more than one fleet; got 'mine'; expected mine-2026-11, mine-2026-12"
    ):
        both.find("mine")
    assert both.find("mine-2026-12").cards == 128


def test_a_users_fleets_and_prices_come_after_the_shipped_ones(file):
    merged = catalogue([file(MINE + PRICE)])
    assert [fleet.id for fleet in merged.fleet][-2:] == ["world-2023", "mine-2026-11"]
    assert merged.price_of("nvidia-h100-pcie-80gb").server_rmb == 2_500_000
    assert catalogue().price_of("nvidia-h100-pcie-80gb") is None


def test_a_users_assumption_takes_the_place_of_the_one_before_it(file):
    merged = catalogue([file(ASSUMPTION)])
    assert merged.assumptions_for(A800)["pue"].source == "the landlord"
    some = ASSUMPTION.replace('"pue"', '"server_power_over_gpu_power"').replace("1.", "2.")
    everywhere = catalogue([file(some)])
    assert {
        everywhere.assumptions_for(part)["server_power_over_gpu_power"].value for part in (A800, None)
    } == {2.2}
    for_one = catalogue([file(some + f'parts = ["{A800}"]')])
    values = [for_one.assumptions_for(part)["server_power_over_gpu_power"].value
              for part in (A800, "nvidia-a100-sxm4-80gb", None)]  # fmt: skip
    assert values == [2.2, 2.03, 1.9]


def test_a_users_unasked_derate_comes_before_a_known_one(file):
    mine = DERATE.replace('"step"', '"datasheet"') + "unasked = true\n"
    assert catalogue([file(mine)]).default_derate(A800).id == "ours-step-to-scaled"
    assert catalogue().default_derate(A800) is None


def test_a_known_price_is_replaced_only_when_that_is_said(file):
    mine = PRICE.replace("nvidia-h100-pcie-80gb", A800)
    with pytest.raises(InputError, match=r"mine.toml: the value of price\[.*to replace a known one"):
        catalogue([file(mine)])
    merged = catalogue([file(mine + "replaces = true\n")])
    assert merged.price_of(A800).server_rmb == 2_500_000
    assert len(merged.price) == len(catalogue().price)


BAD = {
    "not TOML": ("[[fleet", "not TOML", "a TOML document"),
    "a negative price": (PRICE.replace("2_500_000", "-1.0"), "price[0].server_rmb", "greater than 0"),
    "NaN": (PRICE.replace("2_500_000", "nan"), "price[0].server_rmb", "finite"),
    "a price that is text": (PRICE.replace("2_500_000", '"2500000"'), "price[0].server_rmb", "number"),
    "cards that aren't whole": (MINE.replace("128", "1.5"), "fleet[mine-2026-11].cards", "integer"),
    "cards that are a truth": (MINE.replace("128", "true"), "fleet[mine-2026-11].cards", "integer"),
    "no size": (MINE.replace("cards = 128", ""), "fleet[mine-2026-11]", "cards or eflops"),
    "no source": (MINE.replace('source = "counted"', ""), "fleet[mine-2026-11].source", "required"),
    "a misspelt key": (MINE.replace("cards", "card"), "fleet[mine-2026-11].card", "no such key"),
    "no date": (MINE.replace("2026-11-02", "last week"), "fleet[mine-2026-11].as_of", "match pattern"),
    "an unknown part": (MINE.replace(A800, "nvidia-a801"), "fleet[mine-2026-11].part", "in the registry"),
    "a price of an unknown part": (
        PRICE.replace("h100-pcie", "h101"),
        "price[nvidia-h101-80gb].part",
        "registry",
    ),
    "a taken id": (
        MINE.replace("mine-2026-11", "nio-2024-10"),
        "fleet[nio-2024-10].id",
        "no other fleet has",
    ),
    "one id twice": (MINE + MINE.replace("schema = 1", ""), "fleet[mine-2026-11].id", "no other fleet has"),
    "one price twice": (PRICE * 2, "price[nvidia-h100-pcie-80gb].part", "one price a part"),
    "a replacement of nothing": (PRICE + "replaces = true", "price[nvidia-h100-pcie-80gb].replaces", "known"),
    "a spread without a law": (PRICE + "low = 1.0\nhigh = 9e9", "price[0]", "low, high and law together"),
    "a spread beside the price": (
        PRICE + 'low = 1.0\nhigh = 2.0\nlaw = "uniform"',
        "price[0]",
        "low ≤ value ≤ high",
    ),
    "an unknown law": (PRICE + 'low = 1.0\nhigh = 9e9\nlaw = "flat"', "price[0].law", "'exact', 'uniform'"),
    "an unknown kind": (MINE + 'kind = "planned"', "fleet[mine-2026-11].kind", "'held', 'target'"),
    "an addition to nothing": (MINE + 'kind = "addition"', "fleet[mine-2026-11]", "adds_to"),
    "an addition to no fleet": (
        MINE + 'kind = "addition"\nadds_to = "yours"',
        "fleet[mine-2026-11].adds_to",
        "the id of a fleet",
    ),
    "a mix beside a part": (
        MINE + f'mix = ["{A800}", "amd-mi300x"]',
        "fleet[mine-2026-11]",
        "a part or a mix",
    ),
    "a mix of an unknown part": (
        MINE.replace(f'part = "{A800}"', f'mix = ["{A800}", "amd-mi301"]\nmix_source = "told"'),
        "fleet[mine-2026-11].mix",
        "in the registry",
    ),
    "an unknown input": (ASSUMPTION.replace('"pue"', '"pew"'), "assumption[0]", "a name among fabric"),
    "an input out of range": (ASSUMPTION.replace("low = 1.1", "low = 0.9"), "assumption[0]", "from 1 to 5"),
    "a negative input": (
        ASSUMPTION.replace("1.2", "-1.2"),
        "assumption[0].value",
        "greater than or equal to 0",
    ),
    "an input twice": (ASSUMPTION * 2, "assumption[pue]", "one assumption of a name and a part"),
    "an input that is NaN": (ASSUMPTION.replace("1.2", "nan"), "assumption[0].value", "finite"),
    "a normal law that reaches 0": (
        ASSUMPTION.replace("1.1", "0.1")
        .replace("uniform", "normal")
        .replace("pue", "electricity_rmb_per_kwh"),
        "assumption[0]",
        "use lognormal",
    ),
    "a derate that leads back": (
        DERATE.replace('"step"', '"goodput"'),
        "derate[ours-step-to-scaled]",
        "goodput isn't before scaled",
    ),
    "a derate of an unknown stage": (DERATE.replace('"step"', '"leap"'), ".from", "'nominal', 'datasheet'"),
    "a derate that is none": (
        DERATE.replace("0.9", "0.0"),
        "derate[ours-step-to-scaled].value",
        "greater than 0",
    ),
    "a derate of a taken id": (
        DERATE.replace("ours-step-to-scaled", "h100-goodput-405b-x16384"),
        "derate[h100-goodput-405b-x16384].id",
        "no other derate has",
    ),
    "a derate unasked for no part": (
        DERATE.replace(f'parts = ["{A800}"]', "unasked = true"),
        "derate[ours-step-to-scaled]",
        "parts, for a derate that is unasked (the default)",
    ),
    "a newer file": ("schema = 2", "schema", "1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_sentence_with_file_and_key(kind, file):
    text, key, expected = BAD[kind]
    with pytest.raises(InputError) as refused:
        catalogue([file(text)])
    assert "mine.toml: " in str(refused.value)
    assert key in str(refused.value)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("gone.toml", "binary.toml"):
        with pytest.raises(InputError, match=f"{name}: a file of fleets can't be read"):
            catalogue([tmp_path / name])
