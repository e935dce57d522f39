"""Where full speed begins and ends in series whose truth is known, and the bias of choosing it so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from nameplate.stats.onset import Onset, find_onset

BATCH_S = 0.005


def wandering(rng, spread, memory=0.0, count=400):
    """Logarithms of launch times around 0: noise in which each batch remembers so much of the one before."""
    steps = rng.standard_normal(count) * spread * np.sqrt(1 - memory**2)
    steps[0] = rng.standard_normal() * spread
    return lfilter([1.0], [1.0, -memory], steps)


def at(launch_s):
    return (np.arange(len(launch_s)) + 0.5) * BATCH_S


def from_idle(noise, climb=4, full=30, after=0.75, count=400):
    """Launch times: slow ones of a climb, full speed (1.0), and what comes after the limit, for good."""
    speed = np.full(count, after)
    speed[:climb] = np.linspace(0.2, 0.9, climb)
    speed[climb : climb + full] = 1.0
    return np.exp(noise) / speed


@pytest.mark.parametrize("spread", [0.0, 0.003, 0.01])
@pytest.mark.parametrize("climb", [0, 1, 4, 10])
@pytest.mark.parametrize("full", [8, 20, 60])
@pytest.mark.parametrize("after", [0.6, 0.75, 0.9])
def test_full_speed_lies_between_climb_and_fall(spread, climb, full, after):
    rng = np.random.default_rng(1)
    found = find_onset(at(range(400)), from_idle(wandering(rng, spread), climb, full, after))
    assert found.has_fallen
    assert climb < found.first <= climb + 2
    assert climb + full - 3 <= found.end < climb + full


def test_a_peak_that_was_never_held_is_no_full_speed():
    launch_s = from_idle(np.zeros(400), climb=10, full=1)
    found = find_onset(at(launch_s), launch_s)
    assert found.has_fallen
    assert found.end - found.first < 2


def test_without_a_change_all_but_the_first_batch_is_full_speed():
    assert find_onset(at(range(100)), np.full(100, 2e-3)) == Onset(1, 100, has_fallen=False)


def test_a_climb_without_a_fall_ends_with_the_series():
    launch_s = from_idle(np.zeros(200), climb=6, full=194, count=200)
    assert find_onset(at(launch_s), launch_s) == Onset(7, 200, has_fallen=False)


def test_a_dip_that_passes_is_no_fall():
    launch_s = np.ones(300)
    launch_s[100:130] = 1.3  # another process, for 0.15 s
    assert not find_onset(at(launch_s), launch_s).has_fallen


def test_speed_that_comes_after_half_a_second_is_no_end_of_a_climb():
    launch_s = np.ones(300)
    launch_s[0] = 3.0
    launch_s[150:] = 0.8
    assert find_onset(at(launch_s), launch_s) == Onset(2, 300, has_fallen=False)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_few_batches_are_enough_to_ask(count):
    found = find_onset(at(range(count)), np.ones(count))
    assert found == Onset(min(1, count), count, has_fallen=False)


def test_no_batches_are_an_error():
    with pytest.raises(ValueError, match="an onset needs batches; got none"):
        find_onset([], [])


@pytest.mark.long
@pytest.mark.stat
@pytest.mark.parametrize(
    ("spread", "memory", "most"),
    [
        (0.005, 0.0, 0.0005),
        (0.03, 0.0, 0.001),
        (0.005, 0.97, 0.001),  # a memory of 0.16 s, as of other load on shared cores
        (0.03, 0.9, 0.005),
        (0.03, 0.97, 0.005),
        (0.1, 0.97, 0.02),
    ],
)
def test_choosing_full_speed_by_the_series_hardly_biases_it(spread, memory, most):
    """Nothing changes in these series: what they show above their mean is selection alone.

    The best second of a minute of them would be 4 % above it (0.03, 0.97), and 15 % (0.1).
    """
    rng = np.random.default_rng(2)
    speeds, fallen = [], 0
    for _ in range(150):
        launch_s = np.exp(wandering(rng, spread, memory))
        found = find_onset(at(launch_s), launch_s)
        fallen += found.has_fallen
        chosen = launch_s[found.first : min(found.end, found.first + 200)]
        speeds.append(chosen.size / chosen.sum())
    assert np.mean(speeds) / np.exp(-(spread**2) / 2) - 1 == pytest.approx(0.0, abs=most)
    assert fallen <= 0.1 * 150
