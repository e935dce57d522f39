"""Figures inside spans: small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nameplate.telemetry.timeline import find_stretches, samples_inside

TENTHS = [each / 10 for each in range(101)]


def test_only_samples_inside_a_span_count():
    inside = samples_inside(TENTHS, TENTHS, [(1.0, 1.25), (4.95, 5.1)])
    assert [list(times_N) for times_N in inside.times] == [[1.0, 1.1, 1.2], [5.0, 5.1]]
    assert inside.count == 5
    assert inside.length_s == pytest.approx(0.4)


def test_a_mean_is_weighted_by_time_and_not_by_samples():
    inside = samples_inside([0.0, 0.1, 0.2, 0.4], [1.0, 1.0, 1.0, 2.0], [(0.0, 0.4)])
    assert inside.mean() == pytest.approx((0.05 + 0.1 + 0.15 + 2 * 0.1) / 0.4)


def test_a_counters_pace_is_that_between_the_samples_of_each_span():
    energy_j = [100.0 * at_s if at_s < 5 else 500 + 300.0 * (at_s - 5) for at_s in TENTHS]
    assert samples_inside(TENTHS, energy_j, [(1.0, 2.0)]).pace() == pytest.approx(100)
    assert samples_inside(TENTHS, energy_j, [(1.0, 2.0), (7.0, 8.0)]).pace() == pytest.approx(200)
    assert samples_inside(TENTHS, energy_j, [(1.0, 1.05), (7.0, 7.05)]).pace() is None


def test_a_counter_that_moves_in_steps_has_the_right_pace_over_many_spans():
    times = np.arange(0.0, 60.0, 0.1)
    steps = np.floor(times / 0.25 + 1e-9) * 25.0  # 100 W, in steps of 25 J
    spans = [(0.7 * number, 0.7 * number + 0.6) for number in range(80)]
    assert samples_inside(times, steps, spans).pace() == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ([], []),
        ([10.0], [5.0]),
        ([10.0, 10.2], [5.0, None]),
        ([10.0, 10.0], [5.0, 6.0]),
        ([10.0, 10.1, 10.2], [5.0, 4.0, 8.0]),
    ],
    ids=["none", "one", "one with a value", "one moment", "falls"],
)
def test_samples_that_do_not_tell_what_a_counter_gained(times, values):
    assert samples_inside(times, values, [(10.0, 10.4)]).pace() is None


def test_a_counter_that_falls_between_two_spans_was_reset_too():
    assert samples_inside([1.0, 1.1, 2.0, 2.1], [5.0, 6.0, 1.0, 2.0], [(1.0, 1.1), (2.0, 2.1)]).pace() is None


def test_samples_without_a_value_are_passed_over_and_order_does_not_matter():
    times, values = [12.0, 10.0, 11.0, 13.0, 10.5], [20.0, 0.0, None, float("nan"), 5.0]
    inside = samples_inside(times, values, [(10.0, 12.0)])
    assert inside.count == 3
    assert inside.pace() == pytest.approx(10.0)


def test_what_samples_cover_and_what_lies_between_them():
    whole = samples_inside(TENTHS, TENTHS, [(1.0, 3.0)])
    assert (whole.covered, whole.observed) == (pytest.approx(1.0), pytest.approx(1.0))
    gap = samples_inside([0.0, 0.1, 60.0, 60.1], [1.0] * 4, [(0.0, 60.1)])
    assert gap.covered == pytest.approx((0.1 + 0.25 + 0.25 + 0.1) / 60.1)
    short = samples_inside(TENTHS, TENTHS, [(1.02, 1.04), (1.08, 1.12)])
    assert (short.covered, short.observed) == (pytest.approx(0.04 / 0.06), 0.0)
    for spans in ([], [(11.0, 10.5)], [(1.0, 1.0)]):
        nothing = samples_inside(TENTHS, TENTHS, spans)
        assert (nothing.covered, nothing.observed) == (0.0, 0.0)
        assert nothing.mean() is None


def test_spans_without_a_pause_form_a_stretch_unless_other_work_ran_between():
    spans = [(1.0, 1.2), (1.21, 1.4), (1.45, 1.6), (3.0, 3.2)]
    assert find_stretches(spans) == [(1.0, 1.6), (3.0, 3.2)]
    assert find_stretches(spans, [(1.42, 1.44)]) == [(1.0, 1.4), (1.45, 1.6), (3.0, 3.2)]
    assert find_stretches(spans, [(0.5, 1.0), (1.6, 3.0)]) == [(1.0, 1.6), (3.0, 3.2)]
    assert find_stretches([]) == []
