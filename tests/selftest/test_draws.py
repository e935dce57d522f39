"""Simulated cards through the real engine: their own truth is found, and what ails them is named."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.base.toml import parse_toml
from nameplate.selftest import card_scenarios
from nameplate.selftest.card_device import CardDevice
from nameplate.selftest.card_scenarios import load_card_scenarios
from nameplate.selftest.cards import draw_card, find_truth, make_work
from nameplate.selftest.draws import (
    TOLERANCE,
    DrawOutcome,
    Recovered,
    measure_draw,
    simulate_cards,
    summarize_draws,
)
from nameplate.selftest.simulate import simulate

FIGURES = {"burst", "sustained", "held clock", "ceiling", "bandwidth"}
QUICK = ["cards with a power brake", "contexts that are poisoned", "cards that corrupt"]


def scenario(name, **changes):
    return load_card_scenarios()[name].model_copy(update=changes)


def test_there_is_a_scenario_for_each_thing_that_can_be_wrong_with_a_card():
    due = {
        name: {case: due.verdict for case, due in one.due.items()}
        for name, one in load_card_scenarios().items()
    }
    healthy = {"burst": "clean", "sustained": "power_capped", "copy": "clean"}
    assert due == {
        "cards at their power limit": healthy,
        "cards that are never capped": {**healthy, "sustained": "clean"},
        "cards in a container": {**healthy, "sustained": "clean"},
        "MIG slices": healthy,
        "cards whose cooler fails": {"sustained": "throttled"},
        "cards with a power brake": {"sustained": "throttled"},
        "cards that are lost": {"sustained": "unknown"},
        "contexts that are poisoned": {"sustained": "unknown"},
        "cards that corrupt": {"sustained": "unverified"},
        "cards that count memory errors": {"sustained": "unverified"},
        "drivers that answer nonsense": {"sustained": "unknown"},
        "drivers that fall silent": {"sustained": "unknown"},
    }


def test_cards_differ_and_a_draw_depends_on_its_number_alone():
    kind = scenario("cards at their power limit")
    peaks = {kind.draw(run).peak_flops("bf16") for run in range(20)}
    assert len(peaks) == 20
    assert kind.draw(3) == kind.draw(3)
    assert max(peaks) / min(peaks) > 4


def test_a_card_at_its_limit_holds_the_clock_at_which_power_and_heat_agree():
    for seed in range(20):
        card = draw_card(np.random.default_rng(seed), (1.1, 1.9))
        work = make_work(card)
        truth = find_truth(card, work)
        heat, power, cost = card.heat, card.power, work.product.at(truth.held_mhz)
        settled_c = heat.ambient_c.value + heat.c_per_w.value * power.limit_w.value
        leaked = 1 + heat.leakage_per_c.value * (settled_c - heat.reference_c.value)
        drawn_w = power.active_w.value * leaked + (cost.compute_j + cost.memory_j) / cost.seconds
        assert drawn_w == pytest.approx(power.limit_w.value)
        assert truth.held_mhz < card.clock.maximum_mhz.value
        assert truth.sustained_tflops < truth.burst_tflops < truth.ceiling_tflops * 2


def test_a_card_that_wants_less_than_its_limit_holds_its_highest_clock():
    card = draw_card(np.random.default_rng(1), (0.6, 0.9))
    truth = find_truth(card, make_work(card))
    assert truth.held_mhz == card.clock.maximum_mhz.value
    assert truth.sustained_tflops == truth.burst_tflops


def test_a_cards_own_figures_are_recovered():
    outcome = measure_draw(scenario("cards that are never capped", seconds=12), 0)
    assert set(outcome.figures) == FIGURES
    for name, figure in outcome.figures.items():
        assert figure.ratio == pytest.approx(1, abs=TOLERANCE), name
    assert outcome.as_due == {"burst": True, "sustained": True, "copy": True}


@pytest.mark.parametrize("name", QUICK)
def test_what_ails_a_card_is_named(name):
    assert all(measure_draw(scenario(name, seconds=12), 0).as_due.values())


@pytest.mark.nightly
@pytest.mark.stat
@pytest.mark.parametrize("name", sorted({*load_card_scenarios()} - {*QUICK}))
def test_every_kind_of_card_gets_its_due(name):
    for run in range(2):
        assert all(measure_draw(scenario(name), run).as_due.values())


@pytest.mark.nightly
@pytest.mark.stat
def test_every_bound_holds_over_many_draws():
    rows = simulate_cards(1000, ["cards at their power limit", "cards that are never capped"])
    assert [row.failures for row in rows] == [()] * len(rows)
    assert all(row.worst < TOLERANCE for row in rows)


def test_a_fault_that_is_not_there_is_not_named():
    healthy = scenario("cards that corrupt", fault=(), seconds=12)
    assert measure_draw(healthy, 0).as_due == {"sustained": False}


def test_the_device_is_the_real_one_over_simulated_calls():
    from nameplate.device.cuda import CudaDevice

    device = CardDevice(draw_card(np.random.default_rng(1), (1.1, 1.9)))
    assert isinstance(device, CudaDevice)
    assert device.clock() < 1.0
    device.idle(5.0)
    assert device.clock() >= 5.0


# ---- rows ----

GOOD = DrawOutcome(
    {name: Recovered(1.002, True) for name in FIGURES}, {"burst": True, "sustained": True, "copy": True}
)


def rows_of(*outcomes):
    return {row.figure: row for row in summarize_draws(scenario("cards at their power limit"), outcomes)}


def test_a_row_for_each_figure_and_a_verdict_where_a_case_has_one():
    rows = rows_of(GOOD, GOOD)
    assert set(rows) == FIGURES
    assert {name for name, row in rows.items() if row.verdict_due} == {"burst", "sustained", "bandwidth"}
    assert all(row.passed and row.bias == pytest.approx(0.002) for row in rows.values())


@pytest.mark.parametrize(
    ("outcome", "figure", "sentence"),
    [
        (
            DrawOutcome({**GOOD.figures, "ceiling": Recovered(0.98, None)}, GOOD.as_due),
            "ceiling",
            "the largest error is 2.0%; expected at most 1.0%",
        ),
        (DrawOutcome({}, GOOD.as_due), "burst", "1 draws have no such figure; expected one of each"),
        (
            DrawOutcome(GOOD.figures, {**GOOD.as_due, "sustained": False}),
            "sustained",
            "share of runs power_capped is 50.0%; expected at least 90.0%",
        ),
    ],
)
def test_a_bound_that_does_not_hold_is_a_sentence(outcome, figure, sentence):
    row = rows_of(GOOD, outcome)[figure]
    assert sentence in row.failures
    assert not row.passed
    assert row.as_json()["passed"] is False


def test_a_wrong_scenario_is_one_sentence():
    text = "[[scenario]]\nname = 'x'\nabout = 'y'\nfault = [{ kind = 'melts' }]\ndue = {}\n"
    with pytest.raises(InputError, match="melts"):
        parse_toml(card_scenarios._ScenarioFile, text, "mine.toml")


def test_names_of_both_kinds_of_scenarios_are_known():
    assert simulate(1, ["MIG slices"], workers=0) == []
    assert simulate_cards(1, ["steady"], workers=0) == []
    with pytest.raises(InputError, match=r"unknown scenario.*steady.*MIG slices"):
        simulate(1, ["nowhere"], workers=0)


def test_a_coverage_that_chance_explains_hardly_ever_is_a_failure():
    def row(held, number=20):
        outcomes = [
            DrawOutcome({**GOOD.figures, "sustained": Recovered(1.0, n < held)}, GOOD.as_due)
            for n in range(number)
        ]
        return rows_of(*outcomes)["sustained"]

    assert row(6).failures == ("coverage is 30.0%; expected at least 93.0%",)  # as in 20 draws of method 7
    assert row(13).failures
    assert row(17).passed  # 85 of 100, which 20 draws can't tell from 93
    assert row(170, 200).failures
