"""The catalogue: what ships, what a user adds, and what a bad file is told."""

import pytest

from nameplate.errors import InputError
from nameplate.fleet import catalogue

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
part = "nvidia-h100-sxm5-80gb"
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


def test_the_articles_five_fleets_are_there_as_stated():
    stated = {fleet.name: (fleet.cards, fleet.eflops, fleet.as_of, fleet.part) for fleet in catalogue().fleet}
    assert stated == {
        "Tesla": (67500, 67.5, "2024-Q3", "nvidia-h100-sxm5-80gb"),
        "Li Auto": (None, 5.39, "2024-08-31", A800),
        "XPeng": (None, 2.51, "2024-10", A800),
        "Huawei (automated driving)": (None, 7.5, "2024-10", None),
        "NIO": (None, 1.4, "2024-10", A800),
    }
    assert all(each.source and each.as_of for each in (*catalogue().fleet, *catalogue().price))


def test_the_price_is_the_articles():
    price = catalogue().price_of(A800)
    assert (price.server_rmb, price.cards_per_server, price.as_of) == (950_000, 8, "2024-10")
    assert "isn't stated" in price.note
    assert catalogue().price_of("nvidia-h100-sxm5-80gb") is None


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
    assert [fleet.id for fleet in merged.fleet][-2:] == ["nio-2024-10", "mine-2026-11"]
    assert merged.price_of("nvidia-h100-sxm5-80gb").server_rmb == 2_500_000
    assert catalogue().price_of("nvidia-h100-sxm5-80gb") is None


def test_a_known_price_is_replaced_only_when_that_is_said(file):
    mine = PRICE.replace("nvidia-h100-sxm5-80gb", A800)
    with pytest.raises(InputError, match=r"mine.toml: the value of price\[.*to replace a known one"):
        catalogue([file(mine)])
    merged = catalogue([file(mine + "replaces = true\n")])
    assert [price.server_rmb for price in merged.price] == [2_500_000]


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
        PRICE.replace("h100-sxm5", "h101"),
        "price[nvidia-h101-80gb].part",
        "registry",
    ),
    "a taken id": (
        MINE.replace("mine-2026-11", "nio-2024-10"),
        "fleet[nio-2024-10].id",
        "no other fleet has",
    ),
    "one id twice": (MINE + MINE.replace("schema = 1", ""), "fleet[mine-2026-11].id", "no other fleet has"),
    "one price twice": (PRICE * 2, "price[nvidia-h100-sxm5-80gb].part", "one price a part"),
    "a replacement of nothing": (PRICE + "replaces = true", "price[nvidia-h100-sxm5-80gb].replaces", "known"),
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
