"""A value with its interval: conversions, ratios and harmonic means."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.stats.interval import Interval, divide, find_low_end, harmonic_mean, ratio

repeatable = settings(deadline=None, derandomize=True, max_examples=60)


def intervals(farthest=3.0):
    """Figures over six decades with ends up to a factor of `farthest` away, one nearer than the other."""
    spread = st.floats(1.0, farthest)

    def build(parts):
        value, low, high = parts
        return Interval(value, value / low, value * high)

    return st.tuples(st.floats(1e-3, 1e3), spread, spread).map(build)


def close(interval):
    return pytest.approx((interval.value, interval.low, interval.high), rel=1e-9)


def parts(interval):
    return (interval.value, interval.low, interval.high)


@repeatable
@given(intervals(), st.floats(1e-6, 1e6))
def test_scaling_there_and_back_changes_nothing(figure, factor):
    assert parts(figure.scaled(factor).scaled(1 / factor)) == close(figure)
    assert figure.scaled(factor).relative_half_width == pytest.approx(figure.relative_half_width)


@repeatable
@given(intervals(), st.floats(1e-6, 1e6))
def test_inverting_twice_changes_nothing_and_keeps_order(figure, work):
    inverted = figure.inverted(work)
    assert inverted.low <= inverted.value <= inverted.high
    assert inverted.low * figure.high == pytest.approx(work)
    assert parts(inverted.inverted(work)) == close(figure)


def test_an_end_at_zero_inverts_to_no_end():
    assert Interval(2.0, 0.0, 4.0).inverted(8.0) == Interval(4.0, 2.0, math.inf)
    assert Interval(0.0, 0.0, 1.0).relative_half_width == math.inf


def test_a_half_width_on_a_log_scale_and_back():
    assert Interval(2.0, 1.0, 4.0).log_half_width == pytest.approx(math.log(2))
    assert parts(Interval.from_log_half_width(2.0, math.log(2))) == pytest.approx((2.0, 1.0, 4.0))
    assert Interval(1.0, 0.0, 2.0).log_half_width == math.inf
    assert Interval.from_log_half_width(1.0, math.inf) == Interval(1.0, 0.0, math.inf)


@repeatable
@given(intervals(), intervals(), st.floats(1e-6, 1e6))
def test_a_ratio_has_no_unit(numerator, denominator, factor):
    plain = ratio(numerator, denominator)
    assert parts(ratio(numerator.scaled(factor), denominator.scaled(factor))) == close(plain)
    assert plain.low <= plain.value <= plain.high


@repeatable
@given(intervals(), intervals())
def test_a_ratio_the_other_way_round_is_the_inverse(numerator, denominator):
    there, back = ratio(numerator, denominator), ratio(denominator, numerator)
    assert parts(back.inverted(1.0)) == close(there)


def test_a_ratios_errors_add_in_quadrature():
    of = Interval.from_log_half_width
    quotient = ratio(of(6.0, 0.03), of(2.0, 0.04))
    assert quotient.value == 3.0
    assert math.log(quotient.high / quotient.value) == pytest.approx(0.05)
    assert parts(ratio(of(6.0, 0.03), Interval(2.0, 2.0, 2.0))) == pytest.approx(parts(of(3.0, 0.03)))


def test_an_interval_that_reaches_zero_has_no_upper_end_as_a_ratio():
    assert ratio(Interval(1.0, 0.0, 2.0), Interval(1.0, 1.0, 1.0)) == Interval(1.0, 0.0, math.inf)


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_a_ratio_of_zero_is_refused(values):
    numerator, denominator = (Interval(value, value, value) for value in values)
    with pytest.raises(ValueError, match=f"above 0; got {values[0]} and {values[1]}"):
        ratio(numerator, denominator)


@repeatable
@given(st.lists(st.tuples(intervals(), st.floats(0.1, 10.0)), min_size=1, max_size=6))
def test_a_harmonic_mean_lies_between_its_parts(weighted):
    figures, weights = zip(*weighted, strict=True)
    mean = harmonic_mean(figures, weights)
    values = [figure.value for figure in figures]
    assert min(values) * (1 - 1e-9) <= mean.value <= max(values) * (1 + 1e-9)
    assert mean.low <= mean.value <= mean.high
    assert mean.value == pytest.approx(
        sum(weights) / sum(w / v for w, v in zip(weights, values, strict=True))
    )


@repeatable
@given(st.lists(intervals(1.5), min_size=1, max_size=5), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_harmonic_mean_follows_its_units_and_ignores_the_weights(figures, factor, weight):
    plain = harmonic_mean(figures, [1.0] * len(figures))
    assert parts(harmonic_mean(figures, [weight] * len(figures))) == close(plain)
    scaled = harmonic_mean([figure.scaled(factor) for figure in figures], [1.0] * len(figures))
    assert parts(scaled) == close(plain.scaled(factor))


@repeatable
@given(st.floats(1e-6, 1e3), st.floats(0.0, 0.99), st.floats(0.1, 1e3))
def test_one_part_alone_is_its_own_harmonic_mean(time_s, relative, work):
    figure = Interval(time_s, time_s * (1 - relative), time_s * (1 + relative)).inverted(work)
    assert parts(harmonic_mean([figure], [work])) == pytest.approx(parts(figure), rel=1e-6)


def test_a_slow_part_with_all_the_work_decides():
    fast, slow = Interval(100.0, 99.0, 101.0), Interval(1.0, 0.99, 1.01)
    assert harmonic_mean([fast, slow], [1.0, 1.0]).value == pytest.approx(2 / 1.01)
    assert harmonic_mean([fast, slow], [1.0, 1e6]).value == pytest.approx(1.0, rel=1e-5)


def test_independent_parts_average_their_errors_out():
    one = Interval(1.0, 0.9, 1.1)
    together = harmonic_mean([one] * 4, [1.0] * 4)
    assert together.relative_half_width == pytest.approx(one.relative_half_width / 2, rel=0.03)


def test_a_mean_of_nothing_or_of_unpaired_weights_is_refused():
    with pytest.raises(ValueError, match="at least one figure"):
        harmonic_mean([], [])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        harmonic_mean([Interval(1.0, 1.0, 1.0)], [1.0, 2.0])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(time=st.floats(1e-6, 1e3), relative=st.floats(0.0, 1e4))
def test_a_times_low_end_is_above_0_so_that_its_throughput_has_a_high_end(time, relative):
    low = find_low_end(time, relative * time)
    assert 0 < low <= time
    assert low == pytest.approx(time * (1 - relative if relative <= 0.5 else 1 / (1 + 2 * relative)))
    assert Interval(time, low, 2 * time).inverted(1.0).high <= (1 + 2 * relative) / time * (1 + 1e-9)


def test_a_sum_of_times_with_wide_errors_has_a_high_end():
    wide = Interval(1.0, 0.2, 9.0)
    assert math.isfinite(harmonic_mean([wide, wide], [1.0, 1.0]).high)


def test_a_quotient_keeps_the_sides_of_its_parts():
    """An efficiency was narrower above than its throughput: a nominal's interval evened both sides."""
    achieved = Interval(0.02, 0.012, 0.11)
    exact = divide(achieved, Interval(0.5, 0.5, 0.5))
    assert (exact.value, exact.low, exact.high) == pytest.approx((0.04, 0.024, 0.22))
    measured = divide(achieved, Interval(0.5, 0.495, 0.505))
    assert measured.low < 0.024
    assert measured.high > 0.22
    assert divide(Interval(1.0, 0.0, math.inf), Interval(1.0, 0.9, 1.1)) == Interval(1.0, 0.0, math.inf)


def test_an_interval_is_widened_on_a_log_scale_and_from_0_where_it_would_be_too_wide():
    found = Interval(100.0, 80.0, 150.0).widened(2.0)
    assert (found.low, found.high) == pytest.approx((64.0, 225.0))
    # Two processes that differ by a factor, and next to no degrees of freedom.
    assert Interval(100.0, 1e-240, 1e240).widened(math.sqrt(2)) == Interval(100.0, 0.0, math.inf)
    assert Interval(100.0, 0.0, math.inf).widened(1.5) == Interval(100.0, 0.0, math.inf)
