"""The way back: from delivered EFLOPS to cards, money and power."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet import cost, need

A800 = "nvidia-a800-sxm4-80gb"


def test_what_is_needed_delivers_what_was_asked_for():
    ten = need(10, A800, draws=2000)
    (fleet,) = cost(part=A800, eflops=10 / 0.62595, draws=2000)
    assert ten.cards == fleet.size.cards == 49_925
    assert ten.servers == fleet.servers
    assert fleet.delivered_eflops == pytest.approx(10)
    for name in ("capex_rmb", "full_capex_rmb", "power_mw"):
        assert ten.estimates[name].value == pytest.approx(fleet.value(name))


def test_cards_are_as_unsure_as_the_derate():
    cards = need(1, A800, draws=20_000).estimates["cards_exact"]
    assert cards.p5 == pytest.approx(3125 / 0.975 / 0.642 * (1.1 / (1 + 0.95 * 0.1)), rel=2e-3)
    assert cards.value < cards.p5 < cards.p50 < cards.p95 < cards.value * 1.1


def test_a_need_as_a_row():
    row = need(1, A800, derate="a100-sxm-80gb-gemm-sustained", draws=1000).as_json()
    assert (row["cards"], row["servers"], row["reaches"]) == (3689, 462, "gemm_sustained")
    assert row["capex_rmb"] == pytest.approx(437.98e6, rel=1e-4)
    assert row["capex_rmb_p5"] < row["capex_rmb"] < row["capex_rmb_p95"]


def test_what_isnt_known_is_null_with_the_reason():
    row = need(1, "nvidia-h20-96gb", draws=1000).as_json()
    assert row["cards"] is row["power_mw"] is None
    assert "nvidia-h20-96gb has no default derate" in row["reason"]


@pytest.mark.parametrize("much", [0, -1.0, math.nan, math.inf, True])
def test_a_need_that_is_none_is_refused(much):
    with pytest.raises(InputError, match=r"not a need; got .*; expected delivered EFLOPS above 0"):
        need(much, A800)
