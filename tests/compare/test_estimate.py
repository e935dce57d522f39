"""The ratio of two sides: its intervals hold as often as they say, from single runs, several, and pairs."""

import math

import numpy as np
import pytest

from nameplate.compare import estimate
from nameplate.compare.estimate import RunFigure, estimate_from_pairs, share_confidence
from nameplate.compare.rows import classify
from nameplate.stats.between import Scatter
from nameplate.stats.interval import CONFIDENCE, Interval

SPREAD = 0.011
TRIES = 2000


def estimate_from_runs(base, new, *rest):
    """Runs of one process each, unless a side is given as RunFigures."""
    base, new = (
        [each if isinstance(each, RunFigure) else RunFigure(each) for each in side] for side in (base, new)
    )
    return estimate.estimate_from_runs(base, new, *rest)


def figures(generator, runs, level=1.0, sd=SPREAD, within=0.002):
    """Figures of restarted processes, each with its own 95 % interval, that can't see the restart."""
    each = level * np.exp(generator.normal(0, math.hypot(sd, within), runs))
    half = math.exp(1.96 * within)
    return [Interval(value, value / half, value * half) for value in each]


def coverage(runs, level=0.97, sds=(SPREAD, SPREAD)):
    generator = np.random.default_rng(sum(runs))
    held = 0
    for _ in range(TRIES):
        base, new = figures(generator, runs[0], sd=sds[0]), figures(generator, runs[1], level, sd=sds[1])
        found = estimate_from_runs(base, new, SPREAD, CONFIDENCE)
        held += found.low <= level <= found.high
    return held / TRIES


@pytest.mark.stat
@pytest.mark.parametrize("runs", [(1, 1), (2, 1), (2, 2), (3, 3), (5, 1), (1, 5), (5, 2), (12, 12)])
def test_an_interval_holds_the_truth_as_often_as_it_says(runs):
    """Of three runs a side Satterthwaite's degrees of freedom are too few: it holds a little more often."""
    assert 0.935 <= coverage(runs) <= 0.975


@pytest.mark.stat
def test_it_also_does_where_one_side_scatters_three_times_as_much():
    assert 0.935 <= coverage((5, 5), sds=(SPREAD, 3 * SPREAD)) <= 0.975


@pytest.mark.stat
def test_single_runs_whose_restarts_are_not_allowed_for_are_too_sure():
    """That is why something is allowed for: a mode that a process keeps is in no record's interval."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        found = estimate_from_runs(figures(generator, 1), figures(generator, 1), 1e-9, CONFIDENCE)
        held += found.low <= 1 <= found.high
    assert held < 500


def test_a_side_of_few_runs_scatters_as_the_other_shows():
    base = [Interval(value, value, value) for value in (0.8, 1.0, 1.2)]
    found = estimate_from_runs(base, [Interval(1.0, 1.0, 1.0)], 0.0001, CONFIDENCE)
    assert found.high / found.low > 2


def test_what_is_allowed_for_shrinks_with_the_runs_and_adds_to_their_own_interval():
    one = [Interval(1.0, 0.99, 1.01)]
    alone, twice = (estimate_from_runs(one * n, one * n, SPREAD, CONFIDENCE) for n in (1, 2))
    half = math.log(alone.high)
    own = math.log(1.01 / 0.99) / 2
    assert half == pytest.approx(math.sqrt(2) * math.hypot(1.96 * SPREAD, own), rel=1e-3)
    assert math.log(twice.high) == pytest.approx(half / math.sqrt(2))


def test_runs_that_show_their_own_spread_need_none_that_is_allowed_for():
    one = [RunFigure(Interval(1.0, 0.99, 1.01), Scatter(0.004**2, 4))]
    found = estimate_from_runs(one, one, SPREAD, CONFIDENCE)
    assert math.log(found.high) == pytest.approx(2.306 * math.sqrt(2) * 0.004, rel=1e-3)  # Student's t of 8
    mixed = estimate_from_runs(one, [Interval(1.0, 1.0, 1.0)], SPREAD, CONFIDENCE)
    assert math.log(mixed.high) == pytest.approx(1.97 * math.hypot(0.004, SPREAD), rel=0.02)


def test_a_run_without_a_lower_end_gives_no_interval():
    found = estimate_from_runs([Interval(1.0, 0.0, 2.0)], [Interval(1.0, 1.0, 1.0)], SPREAD, CONFIDENCE)
    assert (found.low, found.high) == (0.0, math.inf)


def test_a_side_without_figures_has_no_ratio():
    with pytest.raises(ValueError, match="a figure on either side"):
        estimate_from_runs([], [Interval(1.0, 1.0, 1.0)], SPREAD, CONFIDENCE)


@pytest.mark.stat
def test_pairs_hold_the_truth_as_often_as_they_say_however_the_hour_moves():
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(TRIES):
        hour = generator.normal(0, 0.3, 6)
        base, new = hour + generator.normal(0, 0.01, 6), hour + generator.normal(-0.03, 0.01, 6)
        found = estimate_from_pairs(list(new - base), CONFIDENCE)
        held += found.low <= math.exp(-0.03) <= found.high
    assert held / TRIES == pytest.approx(CONFIDENCE, abs=0.015)


def test_one_pair_has_a_ratio_and_no_interval():
    assert estimate_from_pairs([math.log(0.5)], CONFIDENCE) == Interval(0.5, 0.0, math.inf)


def test_no_pair_has_no_ratio():
    with pytest.raises(ValueError, match="at least one pair"):
        estimate_from_pairs([], CONFIDENCE)


def test_runs_that_agree_to_the_last_digit_have_an_interval_of_no_width():
    same = [Interval(2.0, 1.9, 2.1)] * 3
    assert estimate_from_runs(same, same, SPREAD, CONFIDENCE) == Interval(1.0, 1.0, 1.0)


@pytest.mark.stat
@pytest.mark.parametrize("cases", [1, 4, 20])
def test_of_many_cases_all_intervals_hold_together_in_95_of_100_comparisons(cases):
    generator = np.random.default_rng(cases)
    confidence, held = share_confidence(cases), 0
    for _ in range(500):
        sides = [(figures(generator, 5), figures(generator, 5)) for _ in range(cases)]
        found = [estimate_from_runs(base, new, SPREAD, confidence) for base, new in sides]
        held += all(each.low <= 1 <= each.high for each in found)
    assert held / 500 >= 0.93


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.95, 0.984, "slower"),
        (0.95, 0.986, "ambiguous"),
        (0.986, 1.014, "same"),
        (0.986, 1.016, "ambiguous"),
        (1.014, 1.1, "ambiguous"),
        (1.016, 1.1, "faster"),
        (0.5, 2.0, "ambiguous"),
    ],
)
def test_an_outcome_is_what_the_whole_interval_supports(low, high, said):
    assert classify(Interval(math.sqrt(low * high), low, high), 0.015) == said
