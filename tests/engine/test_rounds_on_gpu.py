"""Turns on a GPU: long enough for ten readings a second, and what counts of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pytest

from nameplate.device.protocol import Timing
from nameplate.device.simulated import Driver, SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import Rounds
from nameplate.engine.turns import drop_leads, fill_up, find_lead_s
from nameplate.engine.window import TimedBatch, Window
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.suite import Case
from timed_work import PerLaunchDevice, measured, rounds, works


def stretches(device, records):
    """Seconds of each stretch that a case had to itself, in order: who, and how long."""
    number = sum(len(record.batches) for record in records)
    last = [turn for turn in device.turns if turn[2] > 0.05][-number:]  # no untimed launches
    return [
        (name, sum(took for _, _, took in batches))
        for name, batches in groupby(last, key=lambda turn: turn[0])
    ]


def test_on_a_gpu_each_case_runs_so_long_at_a_stretch_that_telemetry_can_tell_it_apart():
    device = PerLaunchDevice(kind="cuda", noise=0.2)
    records = measured(device, works(device, 1e-6, 2e-3, 5e-3), Allowance(24.0, 80.0))
    found = stretches(device, records)
    assert all(took >= 0.9 for _, took in found[1:])  # of the first one `number` may cut off a part
    assert all(len(record.batches) >= BATCHES for record in records)
    assert all(len(rounds(record)) >= FEWEST_BATCHES for record in records)
    assert [record.batches[0].round for record in records] == [0, 0, 0]


def test_a_gpu_with_little_time_still_draws_the_fewest_rounds():
    device = PerLaunchDevice(kind="cuda")
    records = measured(device, works(device, 1e-3, 1e-3), Allowance(1.0, 20.0))
    assert all(len(rounds(record)) >= 4 for record in records)


def test_each_process_has_an_order_of_its_own():
    def order(process):
        device = PerLaunchDevice()
        pilots, probe_choice = Pilots(device, 1), ProbeChoice(device, 1)
        cases = [Case(work) for work in works(device, *[1e-3] * 6)]
        group = Rounds("g", cases, device, pilots, probe_choice, Allowance(8.0, 80.0), process=process)
        group.prepare()
        return [turn.args[0].case.id for turn in group._shuffle_turns(0)]

    assert order(1) == order(1)
    assert len({tuple(order(process)) for process in (1, 2, 3)}) == 3


def test_on_a_gpu_an_interval_is_never_narrower_than_turns_scatter():
    """Batches of one turn are alike, and turns differ: five of them tell no more than five numbers."""

    def drawn(round_number, launch_s, start_s):
        timing = Timing(start_s, np.full(10, launch_s), 1, start_s + 10 * launch_s)
        return TimedBatch(round_number, timing)

    turns = [1.00e-3, 1.02e-3, 0.99e-3, 1.01e-3, 0.98e-3]
    batches = [drawn(n, turns[n], n + 0.02 * k) for n in range(5) for k in range(10)]
    alone = Window(batches, 0.0).interval()
    by_turns = Window(batches, 0.0, has_turns=True).interval()
    expected = 2.776 * np.log(turns).std(ddof=1) / math.sqrt(5)  # Student's t with 4 degrees of freedom
    assert by_turns.value == alone.value
    assert by_turns.log_half_width == pytest.approx(expected, rel=0.01)
    assert by_turns.log_half_width > 1.5 * alone.log_half_width


def test_what_counts_of_a_turn_comes_after_half_a_second_or_in_its_last_quarter():
    def turn(seconds, number=0, batches=100):
        each_s = seconds / batches
        begins_s = (10 * number + n * each_s for n in range(batches))
        return [
            TimedBatch(number, Timing(begin_s, np.array([each_s]), 1, begin_s + each_s))
            for begin_s in begins_s
        ]

    for seconds, counted_s in ((1.5, 1.0), (1.0, 0.5), (0.75, 0.25), (0.6, 0.25), (0.4, 0.2), (0.1, 0.05)):
        kept = drop_leads(turn(seconds))
        assert sum(each.timing.elapsed_s for each in kept) == pytest.approx(counted_s, abs=0.02)
        assert find_lead_s(turn(seconds)) == pytest.approx(seconds - counted_s, abs=0.02)
    both = [*turn(1.0), *turn(0.4, number=1)]
    assert find_lead_s(both) == pytest.approx(0.2, abs=0.01)


@dataclass(frozen=True)
class LeavingNeighbour(Driver):
    """A neighbour in another container keeps the GPU busy for its first two seconds."""

    def _reading(self, at_s, clock):
        busy_percent = 30 if at_s < 2.0 else 0
        return super()._reading(at_s, clock).model_copy(update={"gpu_utilization_percent": busy_percent})


@pytest.mark.parametrize(
    ("busy_s", "share_s", "seen"),
    [(0.0, 12.1, 0.3), (0.5, 12.1, 0.0), (0.0, 11.9, 0.0)],
    ids=["first group", "a later one", "short of time"],
)
def test_in_a_container_the_first_group_sees_a_neighbour_that_leaves(busy_s, share_s, seen):
    device = SimulatedDevice(make_steady(1e-3), kind="cuda", driver=LeavingNeighbour(hides_pids=True))
    allowance = Allowance(share_s, 80.0)
    (work,) = works(device, 1e-3)
    (record,) = measure_group([Case(work)], device, Pilots(device, 1), allowance, busy_s=busy_s)
    assert record.conditions["gpu_idle_utilization"] == seen
    assert device.trace[0].start_s == (1.2 if seen else 0.0)  # idle for longer than a utilization's second


def test_on_a_gpu_copies_are_not_drawn_between_products():
    device = PerLaunchDevice(kind="cuda")
    some = works(device, *[1e-3] * 4)
    some = [replace(work, flops=10**9 if work.shape in "ac" else 0) for work in some]
    records = measured(device, some, name="mine")
    assert [record.group for record in records] == ["mine.1", "mine.2", "mine.1", "mine.2"]
    kinds = [kind for kind, _ in groupby(device.turns, key=lambda turn: turn[0] in "ac")]
    assert kinds == [True, False]
    alike = PerLaunchDevice()  # a CPU has no such limit
    some = [replace(work, device=alike) for work in some]
    assert {record.group for record in measured(alike, some, name="mine")} == {
        "mine"
    }  # a CPU has no such limit


def test_the_beginning_of_a_long_turn_isn_t_counted():
    def batch(number, start_s):
        return TimedBatch(number, Timing(start_s, np.array([0.1]), 1, start_s + 0.1), None)

    long_turn = [batch(0, each / 10) for each in range(20)]
    short_turn = [batch(1, 5 + each / 10) for each in range(4)]
    single = [batch(2, 9.0)]
    kept = drop_leads([*long_turn, *short_turn, *single])
    assert [each.timing.start_s for each in kept if each.round == 0] == [each / 10 for each in range(5, 20)]
    assert [each.timing.start_s for each in kept if each.round == 1] == pytest.approx([5.2, 5.3])
    assert kept[-1:] == single


def test_a_case_of_little_weight_has_its_fewest_turns_all_the_same():
    """In one too short the clock is still that of the case before it."""
    assert fill_up([8.5, 0.5, 0.5, 0.5], 2.0) == pytest.approx([4.0, 2.0, 2.0, 2.0])
    assert fill_up([6.0, 3.0, 1.0], 2.0) == pytest.approx([5.2, 2.8, 2.0])
    assert fill_up([3.0, 1.0], 5.0) == [2.0, 2.0]
    assert fill_up([], 1.0) == []
    device = PerLaunchDevice(kind="cuda", noise=0.2)
    long, short = works(device, 1e-3, 1e-3)
    cases = [Case(long, weight=2.0), Case(short, weight=0.15)]
    records = measured(device, cases, Allowance(24.0, 80.0))
    assert all(took >= 0.9 for _, took in stretches(device, records)[1:])
