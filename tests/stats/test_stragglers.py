"""Which of several alike devices are slower: what is found, and how often a healthy group is accused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from nameplate.stats.between import Scatter
from nameplate.stats.stragglers import (
    choices,
    compare_with_past,
    count_testable,
    find_stragglers,
    pool_past,
)

LEVEL = 0.001
PRIOR = Scatter(0.0175**2, 2.0)


def accused(x_N, prior=PRIOR):
    return [number for number, each in enumerate(find_stragglers(x_N, LEVEL, prior)) if each.is_straggler]


def healthy(rng, count, deviation=0.0135):
    return rng.normal(5.0, deviation, count)


@pytest.mark.parametrize("slow", [[3], [0, 5], [1, 2, 7]])
def test_slow_ones_of_eight_are_found_and_do_not_hide_one_another(slow):
    x_N = healthy(np.random.default_rng(1), 8)
    assert accused(x_N) == []
    x_N[slow] -= np.log(3) * np.linspace(1, 1.1, len(slow))
    assert accused(x_N) == slow


def test_half_of_a_group_accuses_nobody_and_two_have_no_siblings():
    x_N = healthy(np.random.default_rng(2), 8)
    x_N[:4] -= 0.5
    assert accused(x_N) == []
    # … and only a drop would show that is larger than theirs.
    assert min(each.limit for each in find_stragglers(x_N, LEVEL, PRIOR)) > 0.5
    assert find_stragglers([5.0, 4.0], LEVEL, PRIOR) is None


def test_the_drop_is_that_below_the_rest_and_its_limit_is_students():
    x_N = np.array([5.0, 5.01, 4.99, 5.02, 4.98, 4.0])
    standings = find_stragglers(x_N, LEVEL)
    assert [each.is_straggler for each in standings] == [False] * 5 + [True]
    assert standings[5].drop == pytest.approx(1.0)
    assert standings[5].spread == pytest.approx(np.std(x_N[:5], ddof=1))
    # One of six is accused, two may be: the level is divided by 2 × 6.
    assert count_testable(6) == 2
    assert list(choices(6)) == pytest.approx([12, 30])
    quantile = student.isf(LEVEL / 12, 4)
    assert standings[5].limit == pytest.approx(quantile * standings[5].spread * math.sqrt(1.2))


def test_what_is_known_of_the_part_moderates_the_spread_that_few_cards_show():
    alike = [5.0, 5.0001, 5.0, 4.95]
    assert accused(alike, Scatter(0.0, 0.0)) == [3]  # they happened to be alike
    assert accused(alike) == []


@pytest.mark.stat
@pytest.mark.parametrize(
    ("count", "deviation", "most"), [(8, 0.0175, 6), (8, 0.037, 9), (64, 0.0135, 6), (3, 0.037, 6)]
)
def test_a_healthy_group_is_accused_as_often_as_the_level_says(count, deviation, most):
    """Of 2,000 groups 2 are expected, and 99 % of such draws stay within 6; of eight far apart twice that."""
    rng = np.random.default_rng(3)
    assert sum(bool(accused(healthy(rng, count, deviation))) for _ in range(2000)) <= most


def test_one_of_ten_thousand_is_found_among_a_hundred_others():
    rng = np.random.default_rng(4)
    x_N = healthy(rng, 10_000)
    slow = rng.choice(10_000, 100, replace=False)
    x_N[slow] -= rng.uniform(0.12, 0.5, 100)
    assert set(accused(x_N)) == set(slow.tolist())


def test_a_figure_is_held_to_its_past_by_the_scatter_of_all():
    pasts = [[5.0, 5.01, 4.99], [4.0, 4.01, 3.99, 4.0]]
    scatter = pool_past(pasts)
    assert scatter.freedom == 5
    assert scatter.variance == pytest.approx((2e-4 + 2e-4) / 5)
    change = compare_with_past(4.9, pasts[0], scatter, LEVEL)
    assert (change.drop, change.past) == (pytest.approx(0.1), 3)
    assert change.limit == pytest.approx(student.isf(LEVEL, 5) * scatter.deviation * math.sqrt(4 / 3))
    assert compare_with_past(4.9, [], scatter, LEVEL) is None
    assert compare_with_past(4.9, [5.0], pool_past([[5.0]]), LEVEL) is None
