"""The interval against windows whose truth is known, and the arithmetic of figures that carry one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from nameplate.stats import CONFIDENCE, Interval, harmonic_mean, launch_time, ratio

TRUTH_S = 2e-3
LAUNCHES = 50
repeatable = settings(deadline=None, derandomize=True, max_examples=200)


def covered(windows, truth=TRUTH_S, resolution_s=0.0):
    """The share of windows of batch means whose interval holds the truth."""
    counts = [LAUNCHES] * windows.shape[1]
    intervals = [launch_time(each * LAUNCHES, counts, resolution_s) for each in windows]
    return sum(one.low <= truth <= one.high for one in intervals) / len(intervals)


def covered_by_student(windows, truth=TRUTH_S):
    """The same for the textbook interval, which takes batches for independent."""
    n = windows.shape[1]
    half = reference.t.ppf((1 + CONFIDENCE) / 2, n - 1) * windows.std(axis=1, ddof=1) / math.sqrt(n)
    return float(np.mean(np.abs(windows.mean(axis=1) - truth) <= half))


def gaussian(seed, windows, batches, noise=0.02):
    return TRUTH_S * (1 + noise * np.random.default_rng(seed).standard_normal((windows, batches)))


def autoregressive(seed, windows, batches, r, noise=0.02):
    steps = np.random.default_rng(seed).standard_normal((windows, batches))
    series = np.empty_like(steps)
    series[:, 0] = steps[:, 0]  # from the stationary distribution
    for i in range(1, batches):
        series[:, i] = r * series[:, i - 1] + math.sqrt(1 - r * r) * steps[:, i]
    return TRUTH_S * (1 + noise * series)


def test_recovers_a_known_mean():
    interval = launch_time(gaussian(1, 1, 200)[0] * LAUNCHES, [LAUNCHES] * 200)
    assert interval.value == pytest.approx(TRUTH_S, rel=0.005)
    assert interval.low < TRUTH_S < interval.high


def test_is_total_time_over_total_launches_and_no_median():
    elapsed = [1.0] * 19 + [10.0]
    assert launch_time(elapsed, [10] * 20).value == pytest.approx(29.0 / 200)
    assert launch_time([1.0, 3.0], [10, 20]).value == pytest.approx(4.0 / 30)


def test_batches_all_alike_leave_no_width():
    assert parts(launch_time([0.5] * 20, [10] * 20)) == pytest.approx((0.05, 0.05, 0.05))


def test_two_batches_get_students_factor():
    interval = launch_time([1.0, 1.2], [1, 1])
    assert interval.high - interval.value == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert interval.low == 0.0  # never below 0 seconds


@pytest.mark.parametrize("batches", [[], [1.0]])
def test_refuses_fewer_than_two_batches(batches):
    with pytest.raises(ValueError, match=f"two batches; got {len(batches)}"):
        launch_time(batches, [1] * len(batches))


@pytest.mark.parametrize("batches", [20, 5])
def test_covers_the_truth_95_times_in_100(batches):
    assert 0.93 <= covered(gaussian(11, 4000, batches)) <= 0.97


@pytest.mark.parametrize("noise", [0.001, 0.2])
def test_coverage_does_not_depend_on_how_loud_the_noise_is(noise):
    assert 0.93 <= covered(gaussian(12, 2000, 20, noise)) <= 0.97


def test_batches_that_hang_together_widen_the_interval():
    windows = autoregressive(13, 4000, 20, r=0.5)
    ours, students = covered(windows), covered_by_student(windows)
    assert ours >= 0.88
    assert ours >= students + 0.05


def test_batches_that_alternate_are_not_narrowed():
    windows = autoregressive(14, 1000, 20, r=-0.6)
    assert covered(windows) >= covered_by_student(windows) - 0.005


def test_the_clocks_step_enters_however_steady_the_batches_are():
    step_s = 1e-6
    plain, coarse = (launch_time([0.5] * 20, [10] * 20, step) for step in (0.0, step_s))
    assert coarse.high - coarse.value == pytest.approx(step_s / 10)
    assert coarse.value - coarse.low == pytest.approx(step_s / 10)
    assert coarse.value == plain.value


def test_a_truncating_clock_is_covered_by_its_step():
    step_s = 0.02 * TRUTH_S * LAUNCHES  # 2 % of a batch, the case that is missed every time without it
    true = gaussian(15, 1000, 20, noise=0.002) * LAUNCHES
    seen = np.floor(true / step_s) * step_s / LAUNCHES
    assert covered(seen) < 0.5
    assert covered(seen, resolution_s=step_s) >= 0.95


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
    def of(value, relative):
        return Interval(value, value * math.exp(-relative), value * math.exp(relative))

    quotient = ratio(of(6.0, 0.03), of(2.0, 0.04))
    assert quotient.value == 3.0
    assert math.log(quotient.high / quotient.value) == pytest.approx(0.05)
    assert parts(ratio(of(6.0, 0.03), Interval(2.0, 2.0, 2.0))) == pytest.approx(parts(of(3.0, 0.03)))


def test_a_ratio_to_what_may_be_nothing_is_open():
    assert ratio(Interval(1.0, 0.0, 2.0), Interval(1.0, 1.0, 1.0)) == Interval(1.0, 0.0, math.inf)


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_a_ratio_of_nothing_is_refused(values):
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
