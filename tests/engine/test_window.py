"""What a sustained interval reaches to: where a window is heading, and what pauses between batches lend."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from nameplate.device.protocol import Timing
from nameplate.engine.soak import _merge_neighbours
from nameplate.engine.window import TimedBatch, Window, find_idle_s
from nameplate.selftest.card_device import CardDevice, product_case
from nameplate.selftest.cards import draw_card, make_work
from nameplate.stats.settling import Settling, mean_left_of_change

LAUNCH_S = 1e-3
WINDOW_S, BATCHES = 20.0, 100


def window(launch_s, process=1, settling=None, idle_s=0.0, goes_on=True):
    """A window of equal batches with these seconds per launch."""
    batch_s = WINDOW_S / len(launch_s)
    batches = [
        TimedBatch(
            number,
            Timing(number * batch_s, np.full(round(batch_s / LAUNCH_S), each), 1, (number + 1) * batch_s),
            process=process,
            idle_s=idle_s,
        )
        for number, each in enumerate(launch_s)
    ]
    return Window(batches, 0.0, settling, goes_on=goes_on)


def warming(time_constant_s, left, noise=0.0, seed=0):
    """Seconds per launch that grow to `LAUNCH_S`, of which `left` is still to come when the window begins."""
    at_s = (np.arange(BATCHES) + 0.5) * WINDOW_S / BATCHES
    factor = 1 + noise * np.random.default_rng(seed).standard_normal(BATCHES)
    return LAUNCH_S * (1 - left * np.exp(-at_s / time_constant_s)) * factor


@pytest.mark.parametrize("windows", [0.05, 0.3, 1.0, 2.0])
def test_a_sustained_interval_reaches_to_where_a_relaxation_is_heading(windows):
    launch_s = warming(windows * WINDOW_S, 0.01)
    found = window(launch_s, settling=Settling(0.0, windows * WINDOW_S, 0.0, None)).interval()
    alone = window(launch_s, goes_on=False).interval()
    ahead = LAUNCH_S - found.value
    assert found.value == alone.value
    assert found.low == alone.low  # nothing leads back
    assert (
        ahead
        <= found.high - found.value
        <= ahead * max(1.1, 0.55 / mean_left_of_change(windows)) + (alone.high - alone.value)
    )
    # One that isn't found may be as slow as the window is long.
    unseen = window(launch_s).interval()
    assert (unseen.high >= LAUNCH_S) == (windows < 1.1)


def test_what_a_relaxation_has_before_it_is_the_closed_form():
    at = (np.arange(100_000) + 0.5) / 100_000
    for windows in (0.02, 0.2, 0.5, 1.0, 3.0, 30.0):
        course = np.exp(-at / windows)
        line = 12 * float(np.mean((at - 0.5) * course))
        assert mean_left_of_change(windows) == pytest.approx(-course.mean() / line, rel=1e-4)
    assert mean_left_of_change(0.0) == pytest.approx(1 / 6, rel=0.01)
    assert mean_left_of_change(1e6) == mean_left_of_change(100.0) == pytest.approx(100, rel=1e-4)


def test_noise_alone_hardly_widens_a_sustained_interval():
    widths = [
        [
            window(warming(1.0, 0.0, 0.01, seed), goes_on=goes_on).interval().relative_half_width
            for seed in range(100)
        ]
        for goes_on in (True, False)
    ]
    sustained, own = map(np.mean, widths)
    assert own <= sustained <= 1.2 * own


def test_processes_that_warm_up_alike_differ_by_nothing_and_reach_as_far_as_one():
    parts = [window(warming(5.0, 0.01), process, Settling(0.0, 5.0, 0.0, None)) for process in (1, 2, 3)]
    found = Window([each for part in parts for each in part.batches], 0.0, parts[0].settling, goes_on=True)
    assert found.interval().high >= LAUNCH_S
    assert Window(found.batches, 0.0, goes_on=False).interval().high < LAUNCH_S


def test_pauses_count_by_their_own_length_and_on_one_side():
    launch_s = np.full(BATCHES, LAUNCH_S)
    paused = window(launch_s, idle_s=0.003 * WINDOW_S / BATCHES)
    assert paused.idle_share == pytest.approx(0.003)
    assert paused.interval().high == pytest.approx(1.003 * LAUNCH_S, rel=1e-6)
    assert paused.interval().low == pytest.approx(LAUNCH_S, rel=1e-6)
    for idle_s in (0.0, None):  # none, or not known
        at_once = window(launch_s, idle_s=idle_s).interval()
        assert at_once.high == pytest.approx(LAUNCH_S, rel=1e-6)


def test_a_card_at_its_limit_lends_a_pause_to_the_launches_after_it_but_no_more_than_the_pause():
    """With and without pauses of 2 % at the same power: the truth lies where `idle_share` says."""
    card = draw_card(np.random.default_rng(5), (1.4, 1.5))
    found = {}
    for pause_s in (0.0, 1e-3):
        device = CardDevice(card)
        launch = product_case(device, make_work(card)).launch
        timings = []
        while device.clock() < 3.0:
            timings.append(device.time_batch([launch], samples=30, per_sample=1))
            device.idle(pause_s)
        batches = [
            TimedBatch(n, after, idle_s=find_idle_s(before, after))
            for n, (before, after) in enumerate(pairwise(timings))
            if after.start_s > 1.0
        ]
        found[pause_s] = Window(batches, 0.0)
    at_once, paused = found[0.0], found[1e-3]
    assert 0 < at_once.idle_share < 0.002
    assert paused.idle_share - at_once.idle_share == pytest.approx(
        1e-3 / 30 / paused.launch_s.mean(), rel=0.1
    )
    gained = math.log(at_once.launch_s.mean() / paused.launch_s.mean())
    assert 0.1 * paused.idle_share < gained < paused.idle_share


@pytest.mark.parametrize("count", [1, 100, 101, 250, 1234])
def test_merging_neighbours_leaves_no_batch_out_of_whole_periods(count):
    batches = window(np.full(count, LAUNCH_S), idle_s=1e-5).batches
    merged = _merge_neighbours(batches)
    assert len(merged) <= 100
    assert sum(each.timing.launches for each in merged) == sum(each.timing.launches for each in batches)
    assert sum(each.idle_s for each in merged) == pytest.approx(1e-5 * count)
    assert merged[-1].timing.end_s == batches[-1].timing.end_s
