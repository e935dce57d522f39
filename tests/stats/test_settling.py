"""Time series from idle whose shape is known: when they count as settled, and when as undetermined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nameplate.stats.settling import (
    Settling,
    bin_launch_times,
    find_settling,
    launch_time_around,
    trim_to_whole_periods,
)

BATCH_S = 0.1
SERIES = 60


def batches(length_s, batch_s=BATCH_S):
    return np.arange(batch_s / 2, length_s, batch_s)


def settle_many(rate, length_s, noise=None, seed=1, series=SERIES, batch_s=BATCH_S):
    """The settling of many series: `rate` gives seconds per launch by time and phase, `noise` a factor."""
    rng = np.random.default_rng(seed)
    at_s = batches(length_s, batch_s)
    noise = noise or gaussian(0.01)
    return [
        find_settling(at_s, rate(at_s, rng.uniform(0, 2 * math.pi)) * noise(rng, at_s.size))
        for _ in range(series)
    ]


def gaussian(spread):
    return lambda rng, n: 1 + spread * rng.standard_normal(n)


def heavy_tail(rng, n):
    """Means of 160 samples whose standard deviation is 0.67 of their mean, with a skewness of 33."""
    return (1 + 0.1 * np.exp(1.5 * rng.standard_normal((n, 160)))).mean(axis=1) / (1 + 0.1 * math.exp(1.125))


def bursts(rng, n):
    """A twentieth of the time, for half a second on average, everything is up to 60 % slower."""
    factor = 1 + 0.01 * rng.standard_normal(n)
    at = int(rng.exponential(100))
    while at < n:
        long = 1 + int(rng.exponential(5))
        factor[at : at + long] *= 1 + 0.6 * rng.random()
        at += long + int(rng.exponential(100))
    return factor


def level(at_s, _phase):
    return np.full_like(at_s, 2e-3)


def relaxing(loss=0.15, constant_s=8.0, wave=0.0):
    def rate(at_s, phase):
        return (1 - loss * np.exp(-at_s / constant_s)) * (1 + wave * np.sin(2 * math.pi * at_s / 3 + phase))

    return rate


def stepping(at=12.0, gain=0.15, wave=0.0):
    """A limit that bites within a second."""

    def rate(at_s, phase):
        risen = np.clip(at_s - at + 0.5, 0, 1)
        return (1 + gain * risen) * (1 + wave * np.sin(2 * math.pi * at_s / 3 + phase))

    return rate


def share(found, holds):
    return np.mean([holds(one) for one in found])


@pytest.mark.stat
@pytest.mark.parametrize("length_s", [12.0, 30.0])
@pytest.mark.parametrize("noise", [gaussian(0.01), heavy_tail], ids=["gaussian", "tail"])
def test_a_steady_series_is_settled_from_the_start(length_s, noise):
    # Medians of five batches with a tail scatter by 2 %; twelve seconds of them may say nothing, never more.
    found = settle_many(level, length_s, noise)
    assert share(found, lambda one: one.settled_s in (0.0, None)) >= 0.99
    assert share(found, lambda one: one.settled_s == 0.0) >= (0.98 if noise is not heavy_tail else 0.5)
    assert share(found, lambda one: one.period_s is None) >= 0.98


@pytest.mark.stat
def test_bursts_are_no_relaxation():
    found = settle_many(level, 30.0, bursts, seed=2, series=100)
    assert share(found, lambda one: one.settled_s == 0.0) >= 0.85
    assert share(found, lambda one: bool(one.settled_s)) <= 0.05


@pytest.mark.stat
@pytest.mark.parametrize(("wave", "noise"), [(0.025, gaussian(0.01)), (0.0, gaussian(0.03))])
def test_a_relaxation_is_over_after_five_time_constants(wave, noise):
    found = settle_many(relaxing(wave=wave), 60.0, noise, seed=3)
    assert share(found, lambda one: one.settled_s is not None and 32 < one.settled_s < 58) >= 0.98
    assert np.median([one.settled_s or 60.0 for one in found]) >= 40  # what can't be told from 8 s counts
    assert np.median([one.time_constant_s for one in found]) == pytest.approx(8, rel=0.1)
    assert np.median([one.amplitude for one in found]) == pytest.approx(-0.15, abs=0.01)


@pytest.mark.stat
@pytest.mark.parametrize("length_s", [10.0, 20.0, 35.0])
def test_nothing_is_settled_before_five_time_constants_were_seen(length_s):
    found = settle_many(relaxing(wave=0.025), length_s, seed=4)
    assert share(found, lambda one: one.settled_s is None) >= 0.98


@pytest.mark.stat
def test_a_small_relaxation_is_over_when_a_thousandth_of_the_level_is_left_of_it():
    # 2 % with 12 s, as of a card that warms up at its power limit: 0.1 % is left after 36 s.
    found = settle_many(relaxing(loss=0.02, constant_s=12.0, wave=0.01), 60.0, gaussian(0.001), seed=13)
    assert share(found, lambda one: one.settled_s is not None and 25 < one.settled_s < 55) >= 0.95
    early = settle_many(relaxing(loss=0.02, constant_s=12.0, wave=0.01), 25.0, gaussian(0.001), seed=14)
    assert share(early, lambda one: one.settled_s is None) >= 0.95


@pytest.mark.stat
def test_a_state_of_which_less_than_a_period_was_seen_has_not_settled():
    rate = relaxing(constant_s=4.0, wave=0.02)
    whole = settle_many(rate, 60.0, seed=15, series=20)
    settled_s = np.median([one.settled_s for one in whole if one.settled_s is not None])
    short = settle_many(rate, settled_s + 1.5, seed=16, series=20)
    assert share(whole, lambda one: one.is_settled) >= 0.9
    assert share(short, lambda one: one.is_settled) <= 0.1


@pytest.mark.stat
def test_a_series_that_is_tested_again_and_again_does_not_settle_early():
    at_s = batches(60.0)
    rng = np.random.default_rng(5)
    first = []
    for _ in range(8):
        launch_s = relaxing(wave=0.025)(at_s, rng.uniform(0, 6)) * gaussian(0.01)(rng, at_s.size)
        answers = (find_settling(at_s[:n], launch_s[:n]).settled_s for n in range(100, at_s.size, 20))
        first.append(next(answer for answer in answers if answer is not None))
    assert min(first) > 34
    assert np.median(first) == pytest.approx(40, abs=5)


@pytest.mark.stat
@pytest.mark.parametrize("wave", [0.0, 0.03])
@pytest.mark.parametrize("length_s", [20.0, 60.0])
def test_a_step_is_found_and_not_averaged_over(wave, length_s):
    found = settle_many(stepping(wave=wave), length_s, seed=6)
    said = [one for one in found if one.settled_s is not None]
    assert len(said) >= 0.9 * len(found)
    assert all(13 <= one.settled_s <= 16 for one in said)
    assert np.median([one.amplitude for one in said]) == pytest.approx(1 / 1.15 - 1, abs=0.01)


@pytest.mark.stat
def test_a_step_that_just_happened_is_not_settled():
    found = settle_many(stepping(), 13.0, seed=7)
    assert share(found, lambda one: one.settled_s is None) >= 0.98


@pytest.mark.stat
def test_a_relaxation_before_a_step_does_not_hide_it():
    def rate(at_s, phase):
        return relaxing(0.1, 3.0, 0.02)(at_s, phase) * stepping()(at_s, phase)

    found = settle_many(rate, 60.0, seed=8)
    assert share(found, lambda one: one.settled_s is not None and one.settled_s >= 13) >= 0.98


@pytest.mark.stat
@pytest.mark.parametrize("wave", [0.0, 0.03])
@pytest.mark.parametrize("length_s", [20.0, 60.0])
def test_a_drift_that_goes_on_never_settles(wave, length_s):
    def rate(at_s, phase):
        return (1 + 0.1 * at_s / length_s) * (1 + wave * np.sin(2 * math.pi * at_s / 3 + phase))

    assert share(settle_many(rate, length_s, seed=9), lambda one: one.settled_s is None) >= 0.98


@pytest.mark.stat
@pytest.mark.parametrize("rate", [relaxing(0.0, 8.0, 0.03), relaxing(0.15, 8.0, 0.02), stepping(wave=0.03)])
def test_the_period_is_found_whatever_else_changes(rate):
    found = settle_many(rate, 30.0, seed=10)
    assert share(found, lambda one: one.period_s is not None and abs(one.period_s - 3) < 0.1) >= 0.98


@pytest.mark.stat
def test_a_small_change_is_ignored():
    found = settle_many(relaxing(0.005, 4.0), 60.0, gaussian(0.003), seed=11)
    assert share(found, lambda one: one.settled_s == 0.0) >= 0.98


@pytest.mark.stat
def test_noise_that_could_hide_a_tenth_leaves_it_undetermined():
    assert all(one.settled_s is None for one in settle_many(level, 12.0, gaussian(0.3), seed=12, series=20))


@pytest.mark.parametrize(("length_s", "batch_s"), [(9.0, 0.1), (60.0, 4.0), (0.0, 0.1)])
def test_too_short_a_series_is_undetermined(length_s, batch_s):
    at_s = batches(length_s, batch_s)
    assert find_settling(at_s, np.ones_like(at_s)) == Settling(None, None, 0.0, None)


def test_a_series_without_noise_is_settled():
    at_s = batches(20.0)
    assert find_settling(at_s, np.full_like(at_s, 0.1)) == Settling(0.0, None, pytest.approx(0.0), None)
    assert find_settling(at_s, relaxing(0.2, 2.0)(at_s, 0.0)).settled_s == pytest.approx(10, rel=0.1)


def test_the_caller_sets_the_shortest_series():
    at_s = batches(5.0)
    assert find_settling(at_s, level(at_s, 0), shortest_s=4.0).settled_s == 0.0


@pytest.mark.stat
def test_many_batches_settle_as_few_do():
    many = settle_many(relaxing(wave=0.025), 60.0, batch_s=0.012, series=10, seed=13)
    assert all(38 <= one.settled_s <= 44 for one in many)


def test_whole_periods_reach_to_the_end():
    at_s = batches(20.0)  # 6.67 periods of 3 s: 18 s from the end
    first = trim_to_whole_periods(at_s, 3.0)
    assert at_s.size - first == 180
    wave = np.sin(2 * math.pi * at_s / 3)
    assert abs(wave[first:].mean()) < 1e-3 < abs(wave.mean())


def test_all_batches_are_used_without_a_period_or_before_one_is_over():
    at_s = batches(2.0)
    assert trim_to_whole_periods(at_s, None) == 0
    assert trim_to_whole_periods(at_s, 3.0) == 0
    assert trim_to_whole_periods([0.5], 3.0) == 0
    assert trim_to_whole_periods(batches(3.0), 3.0) == 0  # exactly one


def test_a_curve_keeps_totals_in_bins_of_equal_time():
    rng = np.random.default_rng(14)
    elapsed = rng.uniform(0.5, 1.5, 5000) * 0.01
    at_s = elapsed.cumsum() - elapsed / 2
    launches = rng.integers(1, 9, 5000)
    times, launch_s = bin_launch_times(at_s, elapsed, launches, most=100)
    assert len(times) == len(launch_s) == 100
    assert np.all(np.diff(times) > 0)
    assert np.diff(times) == pytest.approx(at_s[-1] / 100, rel=0.15)
    edge = at_s[0] + (at_s[-1] - at_s[0]) / 100
    first = at_s < edge
    assert launch_s[0] == pytest.approx(elapsed[first].sum() / launches[first].sum())  # no mean of ratios


def test_a_short_curve_stays_as_it_is_and_gaps_stay_open():
    times, launch_s = bin_launch_times([1.0, 2.0, 9.0], [0.4, 0.6, 0.5], [2, 2, 1])
    assert (list(times), list(launch_s)) == ([1.0, 2.0, 9.0], [0.2, 0.3, 0.5])
    gap = np.concatenate([np.arange(50) * 0.01, 9 + np.arange(50) * 0.01])
    times, _ = bin_launch_times(gap, np.full(100, 0.01), np.ones(100), most=20)
    assert len(times) == 4
    with pytest.raises(ValueError, match="at least one bin; got 0"):
        bin_launch_times(gap, gap, gap, most=0)


def test_a_moment_is_the_total_time_over_the_launches_around_it():
    at_s, elapsed, launches = np.arange(100) + 0.5, np.linspace(1, 2, 100), np.arange(1, 101)
    within = (at_s >= 45) & (at_s <= 55)
    expected = elapsed[within].sum() / launches[within].sum()
    assert launch_time_around(at_s, elapsed, launches, 50.0) == pytest.approx(expected)
    assert launch_time_around(at_s, elapsed, launches, 1.5) == pytest.approx(
        elapsed[:3].sum() / 6
    )  # three at least


def test_a_moment_outside_the_series_is_none():
    at_s, ones = np.arange(10) + 0.5, np.ones(10)
    assert launch_time_around(at_s, ones, ones, 10.5) is None
    assert launch_time_around(at_s + 1, ones, ones, 0.5) is None
    assert launch_time_around(at_s[:2], ones[:2], ones[:2], 1.0) is None
    assert launch_time_around(at_s, ones, ones, 10.0) == 1.0
    assert launch_time_around(at_s, ones, ones, 0.0) == 1.0
