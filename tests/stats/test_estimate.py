"""Estimates and their intervals, against windows whose truth is known."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats as reference

from nameplate.stats.bimodality import bimodality, runs_probability
from nameplate.stats.estimate import BATCHES, find_oscillation, fit_trend, launch_time, paired_ratio
from nameplate.stats.interval import CONFIDENCE, ratio

TRUTH_S = 2e-3
LAUNCHES = 50


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
    interval = launch_time([0.5] * 20, [10] * 20)
    assert interval.value == pytest.approx(0.05)
    assert interval.relative_half_width == pytest.approx(0.0)


def test_two_batches_get_students_factor():
    interval = launch_time([1.0, 1.2], [1, 1])
    assert interval.high - interval.value == pytest.approx(12.706 * 0.1, rel=1e-3)
    # No time is 0 or less: past half the mean the low end is by its inverse.
    half = 12.706 * 0.1
    assert interval.low == pytest.approx(1.1**2 / (1.1 + 2 * half), rel=1e-3)


@pytest.mark.parametrize("batches", [[], [1.0]])
def test_refuses_fewer_than_two_batches(batches):
    with pytest.raises(ValueError, match=f"two batches; got {len(batches)}"):
        launch_time(batches, [1] * len(batches))


@pytest.mark.stat
@pytest.mark.parametrize("batches", [20, 10, 5])
def test_covers_the_truth_95_times_in_100(batches):
    assert 0.93 <= covered(gaussian(11, 2000, batches)) <= 0.97


@pytest.mark.stat
@pytest.mark.parametrize("noise", [0.001, 0.2])
def test_coverage_does_not_depend_on_the_size_of_the_noise(noise):
    assert 0.93 <= covered(gaussian(12, 1000, 20, noise)) <= 0.97


@pytest.mark.stat
def test_batches_that_are_autocorrelated_widen_the_interval():
    windows = autoregressive(13, 4000, 20, r=0.5)
    ours, students = covered(windows), covered_by_student(windows)
    assert ours >= 0.88
    assert ours >= students + 0.05


@pytest.mark.stat
def test_batches_that_alternate_are_not_narrowed():
    windows = autoregressive(14, 1000, 20, r=-0.6)
    assert covered(windows) >= covered_by_student(windows) - 0.005


def test_the_clocks_step_enters_however_steady_the_batches_are():
    step_s = 1e-6
    plain, coarse = (launch_time([0.5] * 20, [10] * 20, step) for step in (0.0, step_s))
    assert coarse.high - coarse.value == pytest.approx(step_s / 10)
    assert coarse.value - coarse.low == pytest.approx(step_s / 10)
    assert coarse.value == plain.value


@pytest.mark.stat
def test_a_truncating_clock_is_covered_by_its_step():
    step_s = 0.02 * TRUTH_S * LAUNCHES  # 2 % of a batch, the case that is missed every time without it
    true = gaussian(15, 1000, 20, noise=0.002) * LAUNCHES
    seen = np.floor(true / step_s) * step_s / LAUNCHES
    assert covered(seen) < 0.5
    assert covered(seen, resolution_s=step_s) >= 0.95


# Windows of unknown length: batches are drawn, as the sampler draws them, until the interval is narrow or the
# window of 25 usual batches has passed. The truth is the mean of what was expected of the batches drawn.
SAMPLES = 160
DRAWN = 30
USUAL = 25


def drawn(samples, expected, step=0.0, read=None):
    """Interval, truth and number of batches of one window; `read`: how a clock of `step` shows totals."""
    elapsed, launches = samples.sum(axis=1), np.full(len(samples), float(SAMPLES))
    passed = elapsed.cumsum()
    seen = elapsed if read is None else read(passed, step)
    for n in range(BATCHES, len(samples) + 1):
        interval = launch_time(seen[:n], launches[:n], step, samples_s=list(samples[:n]))
        if interval.relative_half_width <= 0.005 or passed[n - 1] >= USUAL * SAMPLES:
            break
    return interval, expected[:n].mean(), n


def windows(draw, seed, runs=800, **clock):
    """Coverage, relative bias, mean relative width and mean number of batches over many windows."""
    rng = np.random.default_rng(seed)
    results = [drawn(*draw(rng), **clock) for _ in range(runs)]
    covering = np.mean([one.low <= truth <= one.high for one, truth, _ in results])
    bias = np.mean([one.value / truth - 1 for one, truth, _ in results])
    width = np.mean([(one.high - one.low) / truth for one, truth, _ in results])
    return covering, bias, width, np.mean([n for *_, n in results])


def steady(noise):
    return lambda rng: (1 + noise * rng.standard_normal((DRAWN, SAMPLES)), np.ones(DRAWN))


def lognormal_tail(rng):
    """Samples' standard deviation 0.67 of their mean, skewness 33."""
    return (
        1 + 0.1 * np.exp(1.5 * rng.standard_normal((DRAWN, SAMPLES))),
        np.full(DRAWN, 1 + 0.1 * math.exp(1.125)),
    )


def rare_spikes(rng):
    """One sample in a hundred is 1.5 times slower, or much more: 0.4 of the mean, skewness 70."""
    spikes = (rng.random((DRAWN, SAMPLES)) < 0.01) * 1.5 * np.exp(rng.standard_normal((DRAWN, SAMPLES)))
    return 1 + spikes, np.full(DRAWN, 1 + 0.015 * math.exp(0.5))


def pareto_tail(rng):
    """Exponent 3.2: the variance is finite, the skewness just so."""
    return 1 + 0.5 * rng.pareto(3.2, (DRAWN, SAMPLES)), np.full(DRAWN, 1 + 0.5 / 2.2)


def free_modes(rng):
    slow = rng.random((DRAWN, SAMPLES)) < 0.3
    return np.where(slow, 1.3, 1.0) + 0.01 * rng.standard_normal((DRAWN, SAMPLES)), np.full(DRAWN, 1.09)


def going(drift=0.0, wave=0.0, period_s=3.0, decay=0.0, window_s=25.0, noise=0.05):
    """A window that drifts, oscillates and still decays a little; fractions of its level."""

    def draw(rng):
        at_s = (np.arange(DRAWN)[:, None] + (np.arange(8) + 0.5) / 8) * window_s / USUAL
        phase = 2 * math.pi * (at_s / period_s + rng.random())
        rate = 1 + drift * at_s / window_s + wave * np.sin(phase) + decay * np.exp(-at_s / 8)
        expected = rate.mean(axis=1)
        return expected[:, None] * (1 + noise * rng.standard_normal((DRAWN, SAMPLES))), expected

    return draw


@pytest.mark.stat
@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(steady(0.02), id="little", marks=pytest.mark.long),
        pytest.param(steady(0.15), id="much"),
        pytest.param(lognormal_tail, id="lognormal", marks=pytest.mark.long),
        pytest.param(rare_spikes, id="spikes"),
        pytest.param(pareto_tail, id="pareto"),
        pytest.param(free_modes, id="modes", marks=pytest.mark.long),
    ],
)
def test_throughput_is_covered_whatever_the_law_of_the_noise(draw):
    covering, bias, _, _ = windows(draw, 101)
    assert 0.93 <= covering <= 0.975  # 97 %, and what 800 runs leave open
    assert abs(bias) < 0.001


@pytest.mark.stat
@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(going(drift=0.1), id="slower", marks=pytest.mark.long),
        pytest.param(going(drift=-0.1, noise=0.1), id="faster"),
        pytest.param(going(wave=0.03, decay=0.009, window_s=20.0), id="wave", marks=pytest.mark.long),
        pytest.param(going(wave=0.05, decay=0.005, window_s=30.0), id="larger wave"),
        pytest.param(going(wave=0.03, window_s=7.0), id="two periods", marks=pytest.mark.long),
        pytest.param(going(drift=0.1, wave=0.03), id="both"),
    ],
)
def test_trend_and_oscillation_are_covered_and_do_not_widen_the_interval(draw):
    covering, bias, width, _ = windows(draw, 102, runs=600)
    assert covering >= 0.93
    assert abs(bias) < 0.001
    assert width <= 0.01


@pytest.mark.stat
def test_without_the_samples_a_heavy_tail_is_missed_on_its_side():
    rng = np.random.default_rng(103)
    with_tail = without = 0
    for _ in range(1000):
        samples, expected = rare_spikes(rng)
        elapsed, launches = samples[:25].sum(axis=1), [SAMPLES] * 25
        student = launch_time(elapsed, launches)
        skewed = launch_time(elapsed, launches, samples_s=list(samples[:25]))
        assert (skewed.value, skewed.low) == (student.value, student.low)
        without += student.high < expected[0]
        with_tail += skewed.high < expected[0]
    assert without / 1000 > 0.06
    assert with_tail < 0.7 * without


def test_a_tail_to_the_left_moves_the_low_end():
    rng = np.random.default_rng(104)
    samples = 10 - np.exp(rng.standard_normal((20, 50)))
    elapsed, launches = samples.sum(axis=1), [50] * 20
    student, skewed = launch_time(elapsed, launches), launch_time(elapsed, launches, samples_s=list(samples))
    assert skewed.high == student.high
    assert skewed.low < student.low


def cut(passed, step):
    """Totals of a clock that is set to zero before each batch and shows whole steps."""
    return np.floor(np.diff(passed, prepend=0.0) / step) * step


def stamped(passed, step):
    """Differences of two stamps, each cut to whole steps."""
    return np.diff(np.floor(np.concatenate([[0.3 * step], passed + 0.3 * step]) / step)) * step


@pytest.mark.stat
@pytest.mark.parametrize("read", [cut, stamped])
@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_a_coarse_clock_is_covered_and_costs_little(read, noise):
    step = 0.02  # of a sample
    covering, _, width, n = windows(steady(noise), 105, runs=600, step=step, read=read)
    variance = noise**2 / SAMPLES + (step / SAMPLES) ** 2 / (12 if read is cut else 6)
    oracle = 2 * reference.norm.ppf(0.975) * math.sqrt(variance / n)
    assert covering >= 0.93
    assert width <= 1.3 * oracle


def test_batches_that_scatter_over_the_steps_average_half_of_them_out():
    scattered = 50 + np.random.default_rng(109).standard_normal(20)
    plain, coarse = (launch_time(scattered, [10] * 20, step) for step in (0.0, 0.1))
    assert coarse == plain  # half a step beside the one-sided quantile is less than the two-sided one
    alike = launch_time(50 + 1e-9 * scattered, [10] * 20, 1.0)
    assert alike.high - alike.value == pytest.approx(0.1)


@pytest.mark.stat
@pytest.mark.parametrize("r", [0.0, 0.5])
def test_hundreds_of_batches_are_covered_too(r):
    assert 0.925 <= covered(autoregressive(106, 1000, 300, r)) <= 0.975


@pytest.mark.stat
def test_autocorrelation_widens_the_interval_of_a_drifting_series():
    line = 1 + 0.1 * np.arange(20) / 19
    independent, together = (
        np.mean([high_minus_low(each * line) for each in autoregressive(107, 300, 20, r)]) for r in (0.0, 0.8)
    )
    assert together > 1.3 * independent


def high_minus_low(each):
    interval = launch_time(each * LAUNCHES, [LAUNCHES] * len(each))
    return interval.high - interval.low


def test_an_oscillation_between_gaps_is_found_by_the_given_times():
    rng = np.random.default_rng(108)
    at_s = np.cumsum(rng.uniform(0.5, 1.5, 25))  # flushes of changing length lie between the batches
    each = 1 + 0.05 * np.sin(2 * math.pi * at_s / 3.3) + 0.001 * rng.standard_normal(25)
    blind, told = (launch_time(each, [1] * 25, at_s=at) for at in (None, at_s))
    assert told.relative_half_width < blind.relative_half_width / 5


def rounds(seed, runs, n, ratio_=1.1, noise=0.02):
    """Two cases in rounds that both slow down by half, and wander together."""
    rng = np.random.default_rng(seed)
    common = (1 + 0.5 * np.arange(n) / n) * np.exp(0.1 * rng.standard_normal((runs, n)).cumsum(axis=1))
    first, second = (1 + noise * rng.standard_normal((2, runs, n))) * common
    return first * ratio_, second


@pytest.mark.stat
@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_paired_ratio_holds_while_both_cases_drift(n):
    pairs = [paired_ratio(*pair) for pair in zip(*rounds(110, 2000, n), strict=True)]
    assert 0.93 <= np.mean([one.low <= 1.1 <= one.high for one in pairs]) <= 0.97
    assert np.mean([one.value for one in pairs]) == pytest.approx(1.1, rel=0.005)


@pytest.mark.stat
def test_a_paired_ratio_is_narrower_than_that_of_two_windows():
    first, second = (each[0] for each in rounds(111, 1, 20))
    apart = ratio(launch_time(first, [1] * 20), launch_time(second, [1] * 20))
    assert paired_ratio(first, second).relative_half_width < apart.relative_half_width / 2


def test_a_paired_ratio_is_of_totals_and_inverts():
    first, second = [1.0, 2.0, 6.0], [1.0, 1.0, 1.0]
    there, back = paired_ratio(first, second), paired_ratio(second, first)
    assert there.value == 3.0  # not the 2.29 of the mean log ratio
    turned = back.inverted(1.0)
    assert (turned.value, turned.low, turned.high) == pytest.approx((there.value, there.low, there.high))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0], [1.0], "two rounds or more of both cases; got 1 and 1"),
        ([1.0, 1.0], [1.0, 1.0, 1.0], "got 2 and 3"),
        ([1.0, 1.0], [1.0, 0.0], "times above 0; got 0.0"),
    ],
)
def test_unpaired_rounds_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        paired_ratio(first, second)


def batch_means(draw, seed, runs=600):
    rng = np.random.default_rng(seed)
    return [draw(rng)[0][:USUAL] for _ in range(runs)]


CLEAN = pytest.mark.parametrize(
    "draw",
    [steady(0.15), lognormal_tail, rare_spikes, free_modes],
    ids=["steady", "lognormal", "spikes", "modes"],
)


def test_a_trend_is_the_lines_change_over_the_whole_window():
    at_s = np.arange(25) + 0.5  # batches of a second, which fill 25 s
    line = fit_trend(at_s, 1 + 0.1 * at_s / 25)
    assert line.change == pytest.approx(0.1 / 1.05)
    assert line.exceeds(0.09)
    assert not line.exceeds(0.1)
    assert fit_trend(at_s, 5 - 0.2 * at_s / 25).change == pytest.approx(-0.2 / 4.9)
    assert fit_trend(at_s, 5 - 0.2 * at_s / 25).exceeds(0.03)


def test_a_trends_error_is_that_of_least_squares():
    at_s = np.arange(25.0)
    series = 100 + np.random.default_rng(119).standard_normal(25)
    ours, theirs = fit_trend(at_s, series), reference.linregress(at_s, series)
    assert ours.freedom == 23  # neither a wave nor likeness of neighbours in this noise
    assert ours.change == pytest.approx(theirs.slope * 25 / series.mean())
    assert ours.error == pytest.approx(theirs.stderr * 25 / series.mean())


@pytest.mark.stat
@CLEAN
def test_clean_noise_has_no_trend(draw):
    found = [fit_trend(np.arange(25.0), samples.mean(axis=1)) for samples in batch_means(draw, 120)]
    assert np.mean([one.exceeds(0.05) for one in found]) < 0.005
    assert np.mean([one.exceeds(0.0) for one in found]) <= 0.035  # 1 % of either sign


@pytest.mark.stat
@pytest.mark.parametrize("wave", [0.0, 0.03])
def test_a_drift_of_a_tenth_is_beyond_a_twentieth(wave):
    draw = going(drift=0.105, wave=wave, noise=0.08)
    found = [fit_trend(np.arange(25.0), samples.mean(axis=1)) for samples in batch_means(draw, 121)]
    assert np.mean([one.exceeds(0.05) for one in found]) >= 0.99


def test_the_trend_of_few_batches_is_unknown():
    assert not fit_trend([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]).exceeds(0.0)
    with pytest.raises(ValueError, match="two values; got 1"):
        fit_trend([0.0], [1.0])


def bimodality_of(samples):
    return bimodality(samples.mean(axis=1), list(samples))


@pytest.mark.stat
@CLEAN
def test_clean_noise_is_not_bimodal(draw):
    assert np.mean([bimodality_of(samples) > 0 for samples in batch_means(draw, 122)]) < 0.01


def test_independent_modes_of_single_samples_are_not_bimodal():
    rng = np.random.default_rng(123)
    modes = np.where(rng.random((1000, 25)) < 0.3, 1.3, 1.0)
    assert np.mean([bimodality(each, list(each[:, None])) > 0 for each in modes]) < 0.01


def persistent(rng, batches, dwell):
    """Two levels a tenth apart, each kept for some batches; at least four changes in the window."""
    while True:
        level = rng.integers(2) ^ (np.cumsum(rng.random(batches) < 1 / dwell) % 2)
        if np.count_nonzero(np.diff(level)) >= 4:
            return (1 + 0.1 * level)[:, None] * (1 + 0.1 * rng.standard_normal((batches, SAMPLES)))


@pytest.mark.stat
@pytest.mark.parametrize(("batches", "dwell"), [(20, 4), (25, 5), (100, 20)])
def test_the_distance_of_persistent_modes_is_found(batches, dwell):
    rng = np.random.default_rng(124)
    found = [bimodality_of(persistent(rng, batches, dwell)) for _ in range(500)]
    assert np.mean([distance > 0.05 for distance in found]) >= 0.99
    assert np.median(found) == pytest.approx(0.1 / 1.05, rel=0.05)


@pytest.mark.stat
def test_over_many_batches_persistent_modes_show_without_their_samples():
    rng = np.random.default_rng(125)
    found = [bimodality(persistent(rng, 100, 8).mean(axis=1)) for _ in range(200)]
    assert np.mean([distance > 0.05 for distance in found]) >= 0.99


@pytest.mark.stat
def test_an_oscillation_of_three_percent_stays_under_a_twentieth():
    found = [bimodality_of(one) for one in batch_means(going(wave=0.03, decay=0.009), 126, runs=300)]
    assert max(found) < 0.05
    assert np.median(found) > 0.03  # an oscillation is not random either


@pytest.mark.parametrize("values", [[1.0] * 20, [1.0], [], [1.0] + [2.0] * 19, [1.0, 2.0]])
def test_equal_values_or_too_few_are_not_bimodal(values):
    assert bimodality(values) == 0.0


def test_the_runs_probability_is_exact():
    ones, others = 3, 4
    runs = Counter(
        1 + sum(a != b for a, b in itertools.pairwise(order))
        for order in set(itertools.permutations([1] * ones + [0] * others))
    )
    for most in range(2, 8):
        share = sum(count for n, count in runs.items() if n <= most) / runs.total()
        assert runs_probability(most, ones, others) == pytest.approx(share)


@pytest.mark.stat
@pytest.mark.parametrize("period_s", [2.2, 3.0, 7.0])
def test_the_period_of_a_wave_is_found_beside_a_drift(period_s):
    rng = np.random.default_rng(130)
    at_s = np.arange(40) * 0.75
    wave = 1 + 0.002 * at_s + 0.03 * np.sin(2 * math.pi * at_s / period_s)
    found = [find_oscillation(at_s, wave + 0.01 * rng.standard_normal(40)) for _ in range(100)]
    assert None not in found
    assert found == pytest.approx([period_s] * 100, rel=0.05)


@pytest.mark.stat
@pytest.mark.parametrize(("r", "most"), [(0.0, 0.01), (0.8, 0.1)])
def test_noise_hardly_oscillates_even_where_it_is_autocorrelated(r, most):
    found = [find_oscillation(np.arange(120.0), each) for each in autoregressive(131, 400, 120, r)]
    assert np.mean([period is not None for period in found]) <= most


def test_a_period_and_a_half_is_no_oscillation_yet():
    at_s = np.arange(25.0)
    assert find_oscillation(at_s, np.sin(2 * math.pi * at_s / 17)) is None


def test_a_window_of_a_few_batches_that_others_held_up_still_bounds_throughput():
    """Such a window gave a throughput a thousand million times its value, or without an end."""
    found = launch_time([1.0, 1.0, 1.2, 30.0, 1.1], [1] * 5)
    assert found.low > 0
    assert found.inverted(1.0).high < 20 / found.value
