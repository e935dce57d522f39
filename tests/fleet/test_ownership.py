"""Owning beside renting: by hand at the inputs' values, and what the draws make of it."""

import json
import math

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet.catalogues import INPUTS
from nameplate.fleet.ownership import FIGURES, OWN_INPUTS, _count_months, load_ownership, own
from nameplate.specs.registry import load_shipped

A800 = "nvidia-a800-sxm4-80gb"
FEW = {"draws": 1_000}
EXACT = {
    "cost_of_capital": 0.06,
    "value_lost_per_year": 0.35,
    "building_rmb_per_kw_month": 1000,
    "network_storage_power_share": 0.1,
    "upkeep_share_per_year": 0.03,
    "fabric_price_factor": 1.2,
    "spare_nodes": 0.05,
    "pue": 1.25,
    "electricity_rmb_per_kwh": 0.65,
    "average_draw_over_tdp": 0.75,
    "server_power_over_gpu_power": 2.0,
}


def one(**options):
    (found,) = own(part=A800, **{"years": (3,), **FEW, **options})
    return found


def value(found, name):
    return found.figures[name].value


def test_a_year_of_owning_is_capital_electricity_building_and_upkeep_by_hand():
    found = one(assume=EXACT, price={A800: 950_000}, rent=10, derate="datasheet:scaled=0.6")
    cards = 1e6 / 320
    capex = cards / 8 * 950_000 * 1.2 * 1.05
    left = capex * 0.65**3 / 1.06**3
    annuity = (1 - 1.06**-3) / 0.06
    capital = (capex - left) / annuity
    rated_kw = cards * 400 * 2.0 * 1.1 / 1000
    electricity = rated_kw * 0.75 * 1.25 * 8760 * 0.65
    building, upkeep = rated_kw * 12 * 1000, capex * 0.03
    total = capital + electricity + building + upkeep
    expected = {
        "capital_rmb_per_year": capital,
        "electricity_rmb_per_year": electricity,
        "building_rmb_per_year": building,
        "upkeep_rmb_per_year": upkeep,
        "cost_rmb_per_year": total,
        "rmb_per_card_hour": total / cards / 8760,
        "rmb_per_busy_card_hour": total / cards / 8760,
        "rmb_per_pflop_day": total / (0.975 * 0.6 * 1000 * 365),
        "rented_rmb_per_pflop_day": 10 * 24 / (0.320 * 0.975 * 0.6),
        "break_even_busy_share": total / cards / 8760 / 10,
        "delivered_eflops_per_mw": 0.975 * 0.6 / (rated_kw / 1000 * 0.75 * 1.25),
    }
    for name, number in expected.items():
        assert value(found, name) == pytest.approx(number), name
    # The months, one by one: what is owed grows by a twelfth of the interest and falls by what is saved.
    owed, months = capex, 0
    saved = (10 * cards * 8760 - electricity - building - upkeep) / 12
    while owed > 0:
        owed, months = owed * (1 + 0.06 / 12) - saved, months + 1
    assert months - 1 < value(found, "break_even_months") <= months


def test_more_years_cost_less_a_year_and_months_to_break_even_don_t_depend_on_them():
    three, five = own(part=A800, **FEW)
    assert (three.years, five.years) == (3, 5)
    assert value(three, "cost_rmb_per_year") > value(five, "cost_rmb_per_year")
    assert value(three, "break_even_months") == value(five, "break_even_months")


def test_the_busy_share_and_goodput_are_in_the_pflop_day():
    whole, half = one(), one(assume={"busy_share": 0.5})
    assert value(half, "rmb_per_pflop_day") == pytest.approx(2 * value(whole, "rmb_per_pflop_day"))
    assert value(half, "rmb_per_card_hour") == value(whole, "rmb_per_card_hour")
    assert value(half, "rented_rmb_per_pflop_day") == value(whole, "rented_rmb_per_pflop_day")
    good = one(goodput=True)
    share = good.cost.derate / whole.cost.derate
    assert share < 1
    assert value(good, "rmb_per_pflop_day") == pytest.approx(value(whole, "rmb_per_pflop_day") / share)


def test_a_rent_below_what_running_costs_never_pays_and_the_row_is_still_json():
    found = one(rent=1)
    assert value(found, "break_even_months") == math.inf
    assert found.buying_wins == 0
    row = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert row["break_even_months"] is row["break_even_months_p95"] is None
    assert one(rent=100).buying_wins == 1


def test_at_the_break_even_share_both_cost_the_same():
    share = value(one(rent=10), "break_even_busy_share")
    at_it = one(rent=10, assume={"busy_share": share})
    assert value(at_it, "rmb_per_busy_card_hour") == pytest.approx(10)
    assert value(at_it, "rmb_per_pflop_day") == pytest.approx(value(at_it, "rented_rmb_per_pflop_day"))


def test_money_scales_with_the_fleet_and_a_card_hour_does_not():
    one_eflops, two = one(), one(eflops=2)
    assert value(two, "cost_rmb_per_year") == pytest.approx(2 * value(one_eflops, "cost_rmb_per_year"))
    assert value(two, "rmb_per_card_hour") == pytest.approx(value(one_eflops, "rmb_per_card_hour"))


def test_what_isn_t_known_is_left_out_with_the_reason():
    (found,) = own(part="nvidia-h100-pcie-80gb", years=(3,), **FEW)
    assert set(found.figures) == {"delivered_eflops_per_mw"}
    assert found.rent is None
    assert found.buying_wins is None
    assert "no price of a server of nvidia-h100-pcie-80gb" in found.as_json()["reason"]
    (h20,) = own(part="H20", years=(3,), **FEW)
    assert value(h20, "rmb_per_pflop_day") > value(h20, "rmb_per_card_hour") > 0
    (mix,) = own("huawei-2024-10", years=(3,), **FEW)
    assert mix.figures == {}


def test_a_debt_is_repaid_to_the_last_month():
    assert float(_count_months(1200.0, 100.0, 1e-9)) == pytest.approx(12)
    assert float(_count_months(1000.0, 5.0, 0.005)) == math.inf


def test_every_input_and_rent_has_a_source_and_a_date():
    listed = load_ownership()
    assert [each.name for each in listed.input] == list(OWN_INPUTS)
    assert not OWN_INPUTS.keys() & INPUTS.keys()
    for entry in listed.input:
        known = OWN_INPUTS[entry.name]
        assert known.least <= entry.low < entry.value < entry.high <= known.most
    for rent in listed.rent:
        assert rent.part in load_shipped().parts
        assert rent.low < rent.rmb_per_card_hour < rent.high
        assert rent.quoted
    assert one().figures.keys() <= FIGURES.keys()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"years": (0,)}, r"--years: not a time; got 0; expected years from 0.1 to 30"),
        ({"years": (math.nan,)}, "--years: not a time"),
        ({"rent": "0..1"}, "--rent: "),
        ({"assume": {"cost_of_capital": 2}}, "--assume cost_of_capital: a value that can't be used"),
        ({"assume": {"nope": 2}}, "--assume"),
    ],
)
def test_bad_input_is_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        one(**given)


def test_nothing_to_own_is_refused():
    with pytest.raises(InputError, match="no fleet to own"):
        own(**FEW)
