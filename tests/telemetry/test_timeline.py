"""Figures over spans: small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.telemetry.timeline import gain_within, integrate_within, mean_within

TIMES = [10.0, 11.0, 12.0, 13.0]


def test_a_counter_gains_what_all_spans_together_hold():
    energy_j = [100.0, 200.0, 400.0, 700.0]
    assert gain_within(TIMES, energy_j, [(10.5, 12.5)]) == pytest.approx(50 + 200 + 150)
    assert gain_within(TIMES, energy_j, [(10.0, 10.5), (12.0, 12.1)]) == pytest.approx(50 + 30)
    assert gain_within(TIMES, energy_j, [(11.0, 11.0)]) == 0.0


def test_a_counter_goes_on_at_its_pace_for_half_a_second():
    energy_j = [100.0, 200.0, 400.0, 700.0]
    assert gain_within(TIMES, energy_j, [(12.0, 13.4)]) == pytest.approx(300 + 0.4 * 300)
    assert gain_within(TIMES, energy_j, [(9.5, 10.0)]) == pytest.approx(50)
    assert gain_within(TIMES, energy_j, [(12.0, 13.6)]) is None
    assert gain_within(TIMES, energy_j, [(10.0, 11.0), (9.4, 11.0)]) is None


def test_the_pace_is_that_of_more_than_the_last_two_rows():
    """A counter of energy stands still between its own steps, and two rows may show none, or one."""
    times = np.arange(0.0, 2.05, 0.1)
    steps = np.floor(times / 0.25 + 1e-9) * 25.0  # 100 W, in steps of 25 J
    assert gain_within(times, steps, [(1.0, 2.5)]) == pytest.approx(150.0, abs=25.0)


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ([], []),
        ([10.0], [5.0]),
        ([10.0, 11.0], [5.0, None]),
        ([10.0, 11.0], [None, None]),
        ([10.0, 10.0], [5.0, 6.0]),
        ([10.0, 11.0, 12.0], [5.0, 4.0, 8.0]),
    ],
    ids=["none", "one", "one with a value", "no value", "one moment", "falls"],
)
def test_rows_that_do_not_tell_what_a_counter_gained(times, values):
    assert gain_within(times, values, [(10.0, 10.4)]) is None


def test_rows_without_a_figure_are_passed_over_and_order_does_not_matter():
    times = [12.0, 10.0, 11.0, 13.0, 10.5]
    values = [20.0, 0.0, None, float("nan"), 5.0]
    assert gain_within(times, values, [(10.0, 12.0)]) == pytest.approx(20.0)
    assert mean_within(times, values, [(10.0, 12.0)]) == pytest.approx(10.0)


def test_power_is_integrated_by_trapezoids_to_energy():
    power_w = [100.0, 300.0, 300.0, 100.0]
    assert integrate_within(TIMES, power_w, [(10.0, 13.0)]) == pytest.approx(200 + 300 + 200)
    assert integrate_within(TIMES, power_w, [(10.5, 11.0)]) == pytest.approx((200 + 300) / 2 * 0.5)
    assert integrate_within(TIMES, power_w, [(10.0, 11.0), (11.0, 12.0)]) == pytest.approx(500)
    assert integrate_within(TIMES, power_w, [(12.0, 13.5)]) == pytest.approx(200 + 50)


def test_a_mean_is_weighted_by_time_and_not_by_rows():
    times, clock_mhz = [0.0, 8.0, 10.0], [1000.0, 1000.0, 2000.0]
    assert mean_within(times, clock_mhz, [(0.0, 10.0)]) == pytest.approx(1100.0)
    assert mean_within(times, clock_mhz, [(7.0, 8.0), (9.0, 10.0)]) == pytest.approx((1000 + 1750) / 2)


def test_one_row_is_enough_for_a_gauge_close_by():
    assert mean_within([10.0], [71.0], [(9.8, 10.2)]) == pytest.approx(71.0)
    assert mean_within([10.0], [71.0], [(10.1, 10.4)]) == pytest.approx(71.0)
    assert mean_within([10.0], [71.0], [(10.1, 10.6)]) is None


def test_a_span_amid_a_gap_in_the_rows_has_no_mean():
    times, values = [0.0, 0.1, 60.0, 60.1], [10.0, 10.0, 50.0, 50.0]
    assert mean_within(times, values, [(30.0, 31.0)]) is None
    assert integrate_within(times, values, [(0.0, 0.1), (30.0, 31.0)]) is None
    assert mean_within(times, values, [(0.0, 60.1)]) is not None


@pytest.mark.parametrize("spans", [[], [(11.0, 10.5)], [(10.0, 11.0), (12.0, 11.5)]])
def test_no_span_and_a_reversed_one_tell_nothing(spans):
    assert gain_within(TIMES, [0.0, 1.0, 2.0, 3.0], spans) is None
    assert integrate_within(TIMES, [0.0, 1.0, 2.0, 3.0], spans) is None
    assert mean_within(TIMES, [0.0, 1.0, 2.0, 3.0], spans) is None


def test_a_span_of_no_length_has_no_mean():
    assert mean_within(TIMES, [0.0, 1.0, 2.0, 3.0], [(11.0, 11.0)]) is None
    assert integrate_within(TIMES, [0.0, 1.0, 2.0, 3.0], [(11.0, 11.0)]) == 0.0
