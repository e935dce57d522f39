"""Run-to-run intervals, against populations of processes and runs whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nameplate.stats.between import (
    FEWEST_BETWEEN_RUNS,
    HOUR_S,
    NO_SCATTER,
    EarlierRun,
    Scatter,
    add,
    estimate_between_runs,
    estimate_run_to_run,
    find_prior,
    moderate,
    predict_next,
    scatter_of,
    widen,
)
from nameplate.stats.estimate import launch_time, means_by_process, paired_ratio
from nameplate.stats.interval import Interval

TODAYS_NOISE = 0.0015  # of a process's mean: 0.15 % is the width of the steady device in docs/validation.md
NORMAL = 1.959964


def study(draw, truth, runs=2000):
    """Coverage and mean half-width, on a log scale, of intervals for the mean time of a population.

    `draw` gives the processes' means of one run, and the prior and τ² that are known of them.
    """
    held, halves = 0, []
    for _ in range(runs):
        means, prior, between = draw()
        half = estimate_run_to_run(means, prior, between).log_half_width
        held += abs(math.log(float(np.mean(means)) / truth)) <= half
        halves.append(half)
    return held / runs, float(np.mean(halves))


def two_modes(rng, processes):
    return rng.choice([1.0, 1.12], processes) * (1 + TODAYS_NOISE * rng.standard_normal(processes))


def placement(rng, processes, deviation):
    return np.exp(deviation * rng.standard_normal(processes) + TODAYS_NOISE * rng.standard_normal(processes))


@pytest.mark.stat
@pytest.mark.parametrize("processes", [5, 10])
def test_a_mode_that_a_process_keeps_is_covered(processes):
    rng = np.random.default_rng(processes)
    covered, half = study(lambda: (two_modes(rng, processes), NO_SCATTER, None), truth=1.06)
    knows_the_law = NORMAL * 0.06 / 1.06 / math.sqrt(processes)
    assert 0.93 <= covered <= 0.97
    assert half <= 1.5 * knows_the_law


@pytest.mark.stat
@pytest.mark.parametrize("processes", [5, 10])
@pytest.mark.parametrize("deviation", [0.01, 0.04])
def test_placement_is_covered(processes, deviation):
    rng = np.random.default_rng(processes)
    truth = math.exp((deviation**2 + TODAYS_NOISE**2) / 2)
    covered, half = study(lambda: (placement(rng, processes, deviation), NO_SCATTER, None), truth)
    knows_the_law = NORMAL * math.hypot(deviation, TODAYS_NOISE) / math.sqrt(processes)
    assert 0.93 <= covered <= 0.97
    assert half <= 1.5 * knows_the_law


@pytest.mark.stat
@pytest.mark.parametrize("shared", [0.0, 0.9])  # correlation of the cases of one process
def test_other_cases_narrow_an_interval_and_keep_its_promise(shared):
    rng = np.random.default_rng(5)

    def draw():
        deviation_C = 0.02 * np.exp(0.3 * rng.standard_normal(4))
        common_P, own_CP = rng.standard_normal(5), rng.standard_normal((4, 5))
        logs_CP = deviation_C[:, None] * (math.sqrt(shared) * common_P + math.sqrt(1 - shared) * own_CP)
        means_CP = np.exp(logs_CP)
        return means_CP[0], find_prior(means_CP, 0), None

    covered, half = study(draw, truth=1.0, runs=800)
    alone = study(lambda: (draw()[0], NO_SCATTER, None), truth=1.0, runs=400)[1]
    assert 0.93 <= covered <= 0.97
    # Cases that rise and fall together say little more than one of them.
    assert half < (0.95 if shared == 0 else 1.02) * alone


def history(rng, runs, processes, deviation, between, gap_s=60.0):
    """Earlier runs, one after another, and the means of the processes of one more."""
    logs = between * rng.standard_normal((runs + 1, 1)) + deviation * rng.standard_normal(
        (runs + 1, processes)
    )
    means = np.exp(logs)
    earlier = [
        EarlierRun(gap_s * number, math.log(each.mean()), scatter_of(each), processes)
        for number, each in enumerate(means[:-1])
    ]
    return earlier, means[-1]


@pytest.mark.stat
@pytest.mark.parametrize("between", [0.0, 0.02])
def test_earlier_runs_tell_what_differs_between_runs(between):
    rng = np.random.default_rng(6)

    def draw():
        earlier, means = history(rng, 10, 5, 0.01, between)
        prior = find_prior([means], 0, [run.scatter for run in earlier])
        return means, prior, estimate_between_runs(earlier)

    covered, half = study(draw, truth=1.0, runs=800)
    assert 0.93 <= covered <= (0.97 if between else 0.985)
    assert half <= 1.5 * NORMAL * math.sqrt(0.01**2 / 5 + between**2)
    without, _half = study(lambda: (draw()[0], NO_SCATTER, None), truth=1.0, runs=200)
    assert without < 0.5 if between else without > 0.93


@pytest.mark.stat
def test_a_loud_hour_after_quiet_runs_is_not_taken_for_a_quiet_one():
    rng = np.random.default_rng(7)

    def draw():
        earlier, _means = history(rng, 10, 5, 0.01, 0.0)
        means = placement(rng, 5, 0.03)
        return means, find_prior([means], 0, [run.scatter for run in earlier]), None

    assert study(draw, truth=1.0, runs=800)[0] >= 0.91


@pytest.mark.stat
def test_the_next_run_lies_in_its_interval():
    rng, held = np.random.default_rng(8), 0
    for _ in range(2000):
        mine, another = placement(rng, 5, 0.02), placement(rng, 5, 0.02)
        value = float(mine.mean())
        interval = Interval.from_log_half_width(value, estimate_run_to_run(mine).log_half_width)
        expected = predict_next(interval)
        held += expected.low <= another.mean() <= expected.high
    assert 0.93 <= held / 2000 <= 0.97


def test_two_processes_get_students_factor():
    found = estimate_run_to_run([1.0, 1.1])
    deviation = math.log(1.1) / math.sqrt(2)
    assert (found.processes, found.freedom) == (2, 1)
    assert found.log_half_width == pytest.approx(12.7062 * deviation / math.sqrt(2), rel=1e-5)


def test_one_process_says_nothing_of_others():
    assert estimate_run_to_run([1.0]).log_half_width == math.inf
    # What earlier runs showed is known of it all the same.
    known = estimate_run_to_run([1.0], between_runs=Scatter(0.01**2, 10))
    assert known.log_half_width == pytest.approx(2.2281 * 0.01, rel=1e-4)


def test_alike_processes_leave_what_is_within_them():
    found = estimate_run_to_run([2.0] * 5)
    assert found.log_half_width == 0.0
    within = Interval(2.0, 1.9, 2.2)
    assert widen(within, found.log_half_width) == within
    assert widen(within, 0.07) == Interval(2.0, 2 * math.exp(-0.07), 2.2)


def test_variances_are_moderated_by_their_degrees_of_freedom():
    assert moderate(Scatter(4.0, 4), Scatter(1.0, 8)) == Scatter(2.0, 12)
    assert moderate(NO_SCATTER, NO_SCATTER) == NO_SCATTER
    both = add(Scatter(1.0, 4), Scatter(3.0, 8))
    assert (both.variance, both.freedom) == (4.0, pytest.approx(16 / (1 / 4 + 9 / 8)))
    assert add(Scatter(1.0, 4), NO_SCATTER) == Scatter(1.0, 4)


def test_variances_that_are_alike_make_one_prior():
    others = [Scatter(each, 4) for each in (1.0, 1.1, 0.9, 1.0)]
    prior = find_prior([[1.0, 1.1]], 0, others)
    assert (prior.variance, prior.freedom) == (pytest.approx(1.0), 16)
    far_apart = find_prior([[1.0, 1.1]], 0, [Scatter(10.0**n, 4) for n in (-4, -2, 0, 2)])
    assert far_apart.freedom < 1
    assert find_prior([[1.0, 1.1]], 0, others[:2]) == NO_SCATTER


def test_a_case_is_never_its_own_prior_and_copies_of_it_are_none():
    row = [1.0, 1.1, 1.3, 1.2, 1.05]
    assert find_prior([row, row, row, row], 0) == NO_SCATTER
    assert find_prior([row], 0) == NO_SCATTER


def test_a_prior_that_the_processes_contradict_is_dropped():
    quiet = Scatter(0.001**2, 40)
    assert estimate_run_to_run([1.0, 1.1, 0.9, 1.0, 1.05], quiet).prior == NO_SCATTER
    assert estimate_run_to_run([1.0, 1.001, 0.999, 1.0, 1.0], quiet).prior == quiet


def runs_at(*began_s, deviation=0.0):
    logs = (0.0, 0.02, -0.02, 0.01, -0.01)
    scatter = Scatter(deviation**2, 4)
    return [EarlierRun(at, log, scatter, 5) for at, log in zip(began_s, logs, strict=False)]


def test_runs_of_different_hours_are_not_compared():
    close = estimate_between_runs(runs_at(0, 60, 120, 180))
    assert close is not None
    assert close.variance == pytest.approx(np.var([0.0, 0.02, -0.02, 0.01], ddof=1))
    assert estimate_between_runs(runs_at(*(n * (HOUR_S + 1) for n in range(4)))) is None
    assert estimate_between_runs(runs_at(*range(FEWEST_BETWEEN_RUNS))) is None


def test_what_the_processes_explain_is_nothing_between_runs():
    runs = runs_at(0, 60, 120, 180, deviation=0.2)
    assert estimate_between_runs(runs) == Scatter(0.0, 3)


def test_processes_count_alike_however_many_batches_they_have():
    elapsed, process = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0], [1, 1, 1, 1, 2, 2]
    found = launch_time(elapsed, [1] * 6, process=process)
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert list(means_by_process(elapsed, process)) == [1.0, 2.0]
    assert list(means_by_process([1.0, 4.0], [1, 1], weights=[3, 1])) == [1.75]
    ratio = paired_ratio(elapsed, [2.0, 2.0, 2.0, 2.0, 4.0, 4.0], process)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.stat
def test_the_interval_within_processes_holds_their_own_mean():
    rng, held = np.random.default_rng(9), 0
    for _ in range(1000):
        means = 1 + 0.05 * rng.standard_normal(5)
        batches = np.repeat(means, 5) + 0.01 * rng.standard_normal(25)
        found = launch_time(batches, [1] * 25, process=np.repeat(range(5), 5))
        held += found.low <= means.mean() <= found.high
    assert 0.93 <= held / 1000 <= 0.98
