"""The formulas: what follows from what, that units cancel, and that losses cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nameplate.fleet.outputs import OUTPUTS, compute, inputs_of

INPUTS = {
    "nominal_eflops": 1.4,
    "nominal_tflops": 320.0,
    "cards_per_server": 8.0,
    "derate": 0.6,
    "server_rmb": 950_000.0,
    "tdp_w": 400.0,
    "fabric_price_factor": 1.2,
    "spare_nodes": 0.075,
    "average_draw_over_tdp": 0.75,
    "server_power_over_gpu_power": 2.03,
    "pue": 1.25,
    "electricity_rmb_per_kwh": 0.65,
    "opex_share_per_year": 0.05,
    "depreciation_years": 5.0,
    "busy_share": 1.0,
    "card_sd": 0.0135,
    "measured_z": 1.4,
    "fleet_z": 3.6,
    "rmb_per_usd": 7.1,
}
LOSSES = ("derate", "busy_share", "depreciation_years")  # the more of these, the cheaper
BURDENS = (  # the more of these, the dearer
    "server_rmb",
    "fabric_price_factor",
    "spare_nodes",
    "average_draw_over_tdp",
    "server_power_over_gpu_power",
    "pue",
    "electricity_rmb_per_kwh",
    "opex_share_per_year",
    "tdp_w",
)
PRICES = (
    "rmb_per_delivered_eflops",
    "full_rmb_per_delivered_eflops",
    "rmb_per_delivered_eflops_year",
    "rmb_per_pflop_day",
    "gang_rmb_per_delivered_eflops",
    "independent_rmb_per_delivered_eflops",
)


def everything(**changes):
    known = INPUTS | changes
    found = compute(known)
    return found | compute(known | found, of_fleet=True)


def test_every_output_has_a_unit_a_meaning_and_inputs_that_are_known():
    assert everything().keys() == OUTPUTS.keys()
    for output in OUTPUTS.values():
        assert output.unit
        assert output.formula.__doc__
        assert inputs_of(output.name) <= INPUTS.keys()


@pytest.mark.parametrize("lacking", sorted(INPUTS))
def test_what_lacks_an_input_is_left_out_and_nothing_else(lacking):
    known = {name: value for name, value in INPUTS.items() if name != lacking}
    found = compute(known)
    found |= compute(known | found, of_fleet=True)
    assert found.keys() == {name for name in OUTPUTS if lacking not in inputs_of(name)}


def test_what_is_given_isnt_computed_anew():
    assert everything(cards_exact=80.0)["servers_exact"] == 10


SCALES = {
    # Another unit of money, of dollars, of power, of cards: what carries the unit changes, and nothing else.
    "RMB": (("server_rmb", "electricity_rmb_per_kwh", "rmb_per_usd"), lambda unit: unit.startswith("RMB")),
    "USD": (("rmb_per_usd",), lambda unit: unit.startswith("USD")),
}


@given(factor=st.floats(0.01, 100))
@pytest.mark.parametrize("scale", SCALES)
def test_units_cancel(scale, factor):
    names, carries = SCALES[scale]
    up = 1 / factor if scale == "USD" else factor
    scaled = everything(**{name: INPUTS[name] * up for name in names})
    for name, value in everything().items():
        expected = value * factor if carries(OUTPUTS[name].unit) else value
        assert scaled[name] == pytest.approx(expected), name


@given(factor=st.floats(0.01, 100))
def test_two_cards_of_half_the_rate_are_one_card(factor):
    """A card's size is a convention: rate, power and cards a server scale together, and no money changes."""
    scaled = everything(nominal_tflops=320 * factor, tdp_w=400 * factor, cards_per_server=8 / factor)
    for name, value in everything().items():
        cards = OUTPUTS[name].unit == "cards"
        assert scaled[name] == pytest.approx(value / factor if cards else value), name


@given(factor=st.floats(0.001, 1000))
def test_scaling_a_fleet_scales_what_is_its_and_leaves_the_rest(factor):
    scaled = everything(nominal_eflops=1.4 * factor)
    for name, value in everything().items():
        assert scaled[name] == pytest.approx(value * factor if OUTPUTS[name].scales else value), name


@given(first=st.floats(0.01, 1.2), second=st.floats(0.01, 1.2))
def test_more_loss_never_costs_less(first, second):
    more, less = (everything(derate=derate) for derate in sorted((first, second)))
    for name in PRICES:
        assert more[name] >= less[name]
    assert more["delivered_eflops"] <= less["delivered_eflops"]
    assert more["capex_rmb"] == less["capex_rmb"]
    assert more["cards_per_delivered_eflops"] >= less["cards_per_delivered_eflops"]


@given(factor=st.floats(1, 3), name=st.sampled_from(BURDENS))
def test_no_burden_makes_a_pflop_day_cheaper(factor, name):
    assert (
        everything(**{name: INPUTS[name] * factor})["rmb_per_pflop_day"] >= everything()["rmb_per_pflop_day"]
    )


@given(factor=st.floats(0.1, 1), name=st.sampled_from(LOSSES))
def test_nor_does_less_use(factor, name):
    assert (
        everything(**{name: INPUTS[name] * factor})["rmb_per_pflop_day"] >= everything()["rmb_per_pflop_day"]
    )


@given(sd=st.floats(0, 0.2), more=st.floats(0, 3))
def test_a_larger_gang_is_never_faster(sd, more):
    small, large = (everything(card_sd=sd, fleet_z=z) for z in (1.5, 1.5 + more))
    assert large["gang_eflops"] <= small["gang_eflops"]
    assert large["gang_eflops"] <= large["independent_eflops"]


def test_a_pflop_day_is_a_365000th_of_an_eflops_year():
    found = everything()
    assert found["rmb_per_pflop_day"] * 365_000 == pytest.approx(found["rmb_per_delivered_eflops_year"])
    assert math.isclose(found["usd_per_pflop_day"] * 7.1, found["rmb_per_pflop_day"])
