"""How a simulated card runs: ramp, power limit, swing, heat, faults, and its past."""

from dataclasses import dataclass
from statistics import fmean

import pytest

from nameplate.twin.card import read_card
from nameplate.twin.faults import Cooler, Faults, PowerBrake, Slow
from nameplate.twin.simulation import Cost, Simulation

CARD = read_card("h200")
LIMIT_W, HIGHEST, IDLE = CARD.power.limit_w.value, CARD.clock.maximum_mhz.value, CARD.clock.idle_mhz.value


@dataclass
class Product:
    """Arithmetic of a millisecond at the highest clock, which draws so many watts there."""

    watts: float = CARD.compute_of("bf16").power_w.value

    def at(self, mhz):
        seconds = 1e-3 * HIGHEST / mhz
        joules = self.watts * 1e-3 * (HIGHEST / mhz) ** (1 - CARD.power.exponent.value)
        return Cost(seconds, joules, 0.0, 0.0)


def run_for(simulation, seconds, work, since_s=0.0):
    """Run work without a pause; returns when it ended and how many pieces ran."""
    end_s, count = since_s, 0
    while end_s < since_s + seconds:
        end_s, count = simulation.run(end_s, work), count + 1
    return end_s, count


@pytest.fixture(scope="module")
def hot():
    """A card after 60 s of a product that its power limit holds back; and when that was."""
    simulation = Simulation(CARD)
    return simulation, run_for(simulation, 60.0, Product())[0]


def test_the_clock_climbs_from_idle_within_the_ramp():
    simulation = Simulation(CARD)
    assert simulation.at(0.0).sm_clock_mhz == IDLE
    run_for(simulation, 0.1, Product())
    clocks = [simulation.at(at_s).sm_clock_mhz for at_s in (0.001, 0.01, 0.03)]
    assert clocks[0] == IDLE < clocks[1] < clocks[2] == HIGHEST


def test_the_power_limit_is_felt_after_a_while_and_then_held(hot):
    simulation, end_s = hot
    held_s = next(at_s / 1000 for at_s in range(2000) if simulation.at(at_s / 1000).holds)
    assert 0.15 < held_s < 0.4
    # Over whole swings, once the card is hot, its mean power is the limit.
    begin, end = simulation.at(end_s - 9.1), simulation.at(end_s - 0.1)
    assert (end.energy_j - begin.energy_j) / 9 == pytest.approx(LIMIT_W, rel=0.005)
    assert end.holds == {"power"}
    assert end.held_s["power"] == pytest.approx(end_s - 0.1 - held_s, abs=0.01)
    expected_c = CARD.heat.ambient_c.value + CARD.heat.c_per_w.value * LIMIT_W
    assert end.temperature_c == pytest.approx(expected_c, abs=1)


def test_the_held_clock_is_what_the_limit_leaves(hot):
    simulation, end_s = hot
    clocks = [simulation.at(end_s - 0.1 - each / 100).sm_clock_mhz for each in range(900)]
    heat, power = CARD.heat, CARD.power
    hot_c = heat.ambient_c.value + heat.c_per_w.value * LIMIT_W
    resting_w = power.active_w.value * (1 + heat.leakage_per_c.value * (hot_c - heat.reference_c.value))
    held = HIGHEST * ((LIMIT_W - resting_w) / Product().watts) ** (1 / power.exponent.value)
    assert fmean(clocks) == pytest.approx(held, rel=0.003)
    assert held == pytest.approx(1745, abs=20)  # what 788 of 894 TFLOPS tell


def test_a_light_load_keeps_the_highest_clock():
    simulation = Simulation(CARD)
    end_s, count = run_for(simulation, 5.0, Product(300.0))
    assert not any(simulation.at(end_s - 1 - each / 2).holds for each in range(6))
    assert count == pytest.approx(5_000, rel=0.005)


def test_a_card_falls_idle_after_a_pause_and_cools():
    simulation = Simulation(CARD)
    end_s, _ = run_for(simulation, 10.0, Product())
    soon, later = simulation.at(end_s + 0.5), simulation.at(end_s + 100.0)
    assert soon.sm_clock_mhz > IDLE == later.sm_clock_mhz
    assert not later.holds
    assert not later.busy
    assert later.temperature_c < soon.temperature_c - 10
    idle_w = (simulation.at(end_s + 100.0).energy_j - simulation.at(end_s + 90.0).energy_j) / 10
    assert idle_w == pytest.approx(CARD.power.idle_w.value, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "policy"),
    [
        (Cooler(kind="cooler", factor=4.0), "software_thermal"),
        (PowerBrake(kind="power_brake", clock=0.5), "power_brake"),
    ],
)
def test_a_fault_holds_the_clock_by_its_own_policy(fault, policy):
    simulation = Simulation(CARD, faults=Faults((fault,)))
    end_s, count = run_for(simulation, 30.0, Product())
    last = simulation.at(end_s - 0.1)
    assert policy in last.holds
    assert last.held_s[policy] > 3
    assert count < 0.87 * 30_000


def test_a_slow_card_says_nothing():
    simulation = Simulation(CARD, faults=Faults((Slow(kind="slow", speed=0.8),)))
    end_s, count = run_for(simulation, 10.0, Product(300.0))
    assert count == pytest.approx(8_000, rel=0.01)
    assert not simulation.at(end_s - 0.1).holds


def test_totals_never_fall_and_the_past_stays_as_it_was():
    simulation = Simulation(CARD)
    run_for(simulation, 1.0, Product())
    before = [simulation.at(each / 50) for each in range(45)]
    run_for(simulation, 1.0, Product(), 2.0)
    after = [simulation.at(each / 50) for each in range(45)]
    assert before == after
    for total in ("energy_j", "busy_s", "memory_busy_s"):
        values = [getattr(each, total) for each in after]
        assert values == sorted(values)
