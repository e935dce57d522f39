"""The ratio of two cases in a typical round."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nameplate.stats.estimate import paired_ratio
from nameplate.stats.typical import typical_ratio


def rounds(rng, count, ratio=0.8, noise=0.01, disturbed=0.0):
    """Seconds of two cases in rounds that share a drift; some launches of either take twice as long."""
    shared = np.exp(0.1 * rng.standard_normal(count).cumsum())
    first, second = (
        shared
        * np.exp(noise * rng.standard_normal(count))
        * np.where(rng.random(count) < disturbed, 2.0, 1.0)
        for _ in range(2)
    )
    return first, second / ratio


def test_what_rounds_share_cancels_and_what_disturbs_single_rounds_is_left_out():
    rng = np.random.default_rng(1)
    errors = {"typical": [], "totals": []}
    for _ in range(100):
        first, second = rounds(rng, 40, disturbed=0.05)
        errors["typical"].append(math.log(typical_ratio(first, second).within.value / 0.8))
        errors["totals"].append(math.log(paired_ratio(first, second).value / 0.8))
    assert np.std(errors["typical"]) < 0.005
    assert np.std(errors["totals"]) > 5 * np.std(errors["typical"])
    assert abs(np.mean(errors["typical"])) < 0.001


def test_each_process_has_the_same_weight_and_a_value_of_its_own():
    process = [1] * 12 + [2] * 4
    first, second = np.ones(16), np.asarray([1.0] * 12 + [4.0] * 4)
    found = typical_ratio(first, second, process)
    assert found.by_process == pytest.approx((1.0, 0.25))
    assert found.within.value == pytest.approx(0.5)
    assert (found.within.low, found.within.high) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("processes", [1, 5])
def test_its_interval_holds_the_truth(processes):
    rng = np.random.default_rng(2)
    process = np.repeat(range(processes), 30 // processes)
    intervals = [typical_ratio(*rounds(rng, 30, noise=0.05), process).within for _ in range(500)]
    assert 0.92 < np.mean([each.low <= 0.8 <= each.high for each in intervals]) < 0.985


def test_single_rounds_of_each_process_have_no_interval():
    found = typical_ratio([1.0, 1.0], [1.0, 2.0], [1, 2]).within
    assert (found.low, found.high) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [([1.0], [1.0], "two rounds"), ([1.0, 1.0], [1.0], "two rounds"), ([1.0, 0.0], [1.0, 1.0], "above 0")],
)
def test_what_has_no_ratio_is_refused(first, second, said):
    with pytest.raises(ValueError, match=said):
        typical_ratio(first, second)
