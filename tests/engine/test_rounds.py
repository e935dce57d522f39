"""Cases measured in turn: interleaving, one that breaks among others, budgets, batches of memory."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from nameplate.base.errors import Unsupported
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import AIMED_BATCHES
from nameplate.selftest.card_device import CardDevice, product_case
from nameplate.selftest.card_scenarios import load_card_scenarios
from nameplate.selftest.cards import make_work
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES, paired_ratio
from nameplate.suite import Case
from timed_work import AMPLE, PerLaunchDevice, Work, drawn, measured, rounds, works

# ---- in turn ----


def test_every_case_draws_in_every_round_and_shares_a_group():
    device = PerLaunchDevice()
    records = measured(device, works(device, 1e-3, 2e-3, 3e-3), name="mine")
    assert {record.group for record in records} == {"mine"}
    assert [record.verdict for record in records] == ["clean"] * 3
    number = len(rounds(records[0]))
    assert number >= BATCHES
    for record in records:
        assert rounds(record) == Counter(range(number))
    turns = drawn(device, records)
    assert all(set(turns[n : n + 3]) == set("abc") for n in range(0, len(turns), 3))


def test_the_order_is_random_and_repeatable_by_seed_and_group_name():
    def order(seed, name="1"):
        device = PerLaunchDevice()
        records = measured(device, works(device, 1e-3, 1e-3, 1e-3), seed=seed, name=name)
        return drawn(device, records)

    first = order(1)
    assert first == order(1)
    assert len({tuple(first[n : n + 3]) for n in range(0, len(first), 3)}) > 3
    assert first != order(2)
    assert first != order(1, name="2")


class ColdAfterOthers(PerLaunchDevice):
    """A device whose caches hold what ran last: a launch after another case's takes 1.5 times as long."""

    def __init__(self, **options):
        super().__init__(noise=0.0, **options)
        self._cached = None

    def _durations(self, now_s, count, generator):
        durations = super()._durations(now_s, count, generator)
        if self._cached != self._running.name:
            durations[0] *= 1.5
        self._cached = self._running.name
        return durations


@pytest.mark.parametrize("company", [(), (1e-3,), (0.3, 0.02, 1e-3)])
def test_a_case_has_the_same_figure_whatever_it_takes_turns_with(company):
    device = ColdAfterOthers()
    record = measured(device, works(device, 0.05, *company), Allowance(2.0, 80.0))[0]
    assert record.time_s == pytest.approx(0.05, rel=1e-3)


def test_a_launch_of_more_than_a_quarter_second_is_not_repeated_to_warm_the_caches():
    device = PerLaunchDevice()
    slow, _other = measured(device, works(device, 0.5, 1e-3))
    launched = sum(name == "a" for name, _, _ in device.turns)
    assert launched == len(slow.batches) + 2  # and the two before any batch


def test_a_slow_case_has_a_batch_in_some_of_the_rounds_that_the_others_have():
    device = PerLaunchDevice()
    slow, fast = measured(device, works(device, 0.5, 1e-3))
    assert len(slow.batches) == len(rounds(slow)) < BATCHES
    assert len(fast.batches) == len(rounds(fast)) >= 2 * len(slow.batches)
    assert rounds(slow).keys() < rounds(fast).keys()
    (every,) = set(np.diff(sorted(rounds(slow))))
    assert every in {2, 4, 8, 16}
    assert fast.verdict == "clean"


def test_a_batch_lasts_as_long_as_the_share_allows():
    device = PerLaunchDevice(noise=0.5)
    light, heavy = works(device, 1e-3, 1e-3)
    one, two = measured(device, [Case(light), Case(heavy, weight=3.0)])
    spent = [sum(batch.elapsed_s for batch in record.batches) for record in (one, two)]
    assert spent[1] / spent[0] == pytest.approx(3.0, rel=0.1)
    assert sum(spent) == pytest.approx(AMPLE.share_s, rel=0.1)


@pytest.mark.parametrize("per_s", [-0.05, 0.05])
def test_a_drift_that_cases_share_favours_none(per_s):
    held, values = 0, []
    for seed in range(20):
        device = PerLaunchDevice(noise=0.02, slowdown=lambda at_s: 1 + per_s * at_s, seed=seed)
        first, second = measured(device, works(device, 1e-3, 1e-3), seed=seed)
        assert first.verdict == second.verdict == "unstable"
        between = paired_ratio(_by_round(first), _by_round(second))
        held += between.low <= 1.0 <= between.high
        values.append(between.value)
    assert held >= 17
    assert np.mean(values) == pytest.approx(1.0, abs=1e-3)


def _by_round(record):
    found = groupby(record.batches, key=lambda batch: batch.round)
    each = [list(batches) for _, batches in found]
    return [sum(b.elapsed_s for b in some) / sum(b.launches for b in some) for some in each]


def test_a_short_disturbance_affects_all_cases_alike():
    device = PerLaunchDevice(slowdown=lambda at_s: 3.0 if int(at_s * 4) % 4 == 0 else 1.0, seed=5)
    first, second = measured(device, works(device, 1e-3, 1e-3), Allowance(20.0, 80.0))
    between = paired_ratio(_by_round(first), _by_round(second))
    assert between.low <= 1.0 <= between.high
    assert first.tflops < 0.8


def test_a_record_does_not_hold_the_time_of_other_cases():
    device = PerLaunchDevice()
    one, two = measured(device, works(device, 1e-3, 4e-3))
    assert one.time_s == pytest.approx(1e-3, rel=0.01)
    assert two.time_s == pytest.approx(4e-3, rel=0.01)
    assert one.cost_s + two.cost_s <= device.clock()


# ---- one breaks ----


@pytest.mark.parametrize(
    ("step", "number"),
    [("prepare", 1), ("digest", 1), ("digest", 9), ("check", 1), ("batch", 0), ("batch", 25)],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_case_that_breaks_ends_alone(step, number, place):
    device = PerLaunchDevice()
    some = works(device, 1e-3, 2e-3, 1e-3)
    error = RuntimeError("no such kernel\nand a trace")
    if step == "batch":
        device.broken["abc"[place]] = (number, error)
    else:
        some[place].breaks[step] = (number, error)
    records = measured(device, some)
    broken = records.pop(place)
    assert (broken.status, str(broken.reason), broken.verdict) == (
        "failed",
        "RuntimeError: no such kernel",
        "unknown",
    )
    assert (broken.group, broken.tflops) == ("1", None)
    assert [record.verdict for record in records] == ["clean"] * 2
    for record in records:
        assert record.tflops == pytest.approx(1e-3 / (record.time_s), rel=1e-9)
        assert len(record.batches) >= BATCHES


def test_a_case_unsupported_at_a_later_step_is_skipped_alone():
    device = PerLaunchDevice()
    some = works(device, 1e-3, 1e-3)
    some[0].breaks["digest"] = (3, Unsupported("no digest here"))
    skipped, other = measured(device, some)
    assert (skipped.status, str(skipped.reason)) == ("skipped", "no digest here")
    assert other.verdict == "clean"


@pytest.mark.parametrize("phase", [None, "sustained"])
@pytest.mark.parametrize("step", ["prepare", "batch"])
def test_when_every_case_fails_each_has_its_record(step, phase):
    device = PerLaunchDevice()
    some = works(device, 1e-3, 1e-3)
    for work in some:
        work.breaks["prepare"] = (1 if step == "prepare" else 0, RuntimeError("lost"))
        device.broken[work.shape] = (30 if step == "batch" else -1, RuntimeError("lost"))
    records = measured(device, some, phase=phase)
    assert [(record.status, str(record.reason)) for record in records] == [
        ("failed", "RuntimeError: lost")
    ] * 2


def test_a_failed_case_costs_its_own_time_and_not_its_groups():
    device = PerLaunchDevice()
    some = works(device, 1e-3, 1e-3)
    some[0].takes["prepare"] = 0.25
    some[0].breaks["prepare"] = (1, RuntimeError("no"))
    broken, other = measured(device, some)
    assert broken.cost_s == pytest.approx(0.25)
    assert other.cost_s == pytest.approx(device.clock() - 0.25, rel=0.05)


@pytest.mark.parametrize("step", ["prepare", "digest", "check", "batch"])
def test_an_interrupt_passes_through(step):
    device = PerLaunchDevice()
    some = works(device, 1e-3, 1e-3)
    if step == "batch":
        device.broken["b"] = (15, KeyboardInterrupt())
    else:
        some[1].breaks[step] = (1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measured(device, some)


# ---- the budget ----


@pytest.mark.parametrize(
    "launch_s", [(1e-3,), (1e-3, 0.4), (0.4, 1e-3, 1e-3), (0.4, 0.4, 1e-5), (0.7, 0.2, 0.2, 0.1)]
)
@pytest.mark.parametrize("share_s", [0.5, 4.0, 9.0])
def test_batches_are_never_planned_past_the_limit(launch_s, share_s):
    device = PerLaunchDevice()
    allowance = Allowance(share_s, limit_s=9.0)
    records = measured(device, works(device, *launch_s), allowance)
    assert device.clock() <= 9.0 * 1.02
    for record in records:
        assert record.status == "ok" or "of the budget are left" in str(record.reason)
        assert record.status != "ok" or len(record.batches) >= FEWEST_BATCHES


def test_a_case_without_room_beside_the_others_fewest_batches_is_skipped_with_numbers():
    device = PerLaunchDevice(noise=0.0)
    first, second = measured(device, works(device, 0.5, 0.5), Allowance(2.0, limit_s=6.0))
    assert first.status == "ok"
    # 6 s less the first case's two launches and its five batches, and the second's own two launches.
    assert (
        str(second.reason)
        == "needs about 2.5 s (0.5 s a launch); 1.5 s of the budget are left; try a larger --budget"
    )


def test_the_fewest_batches_are_drawn_when_the_share_is_over():
    device = PerLaunchDevice()
    records = measured(device, works(device, 0.2, 0.3), Allowance(0.1, limit_s=20.0))
    assert [len(record.batches) for record in records] == [FEWEST_BATCHES] * 2
    assert all(
        f"{FEWEST_BATCHES} batches, fewer than {BATCHES}" in str(record.warnings[0]) for record in records
    )


def test_a_noisy_group_uses_up_its_share_and_a_steady_one_does_not():
    noisy, steady = PerLaunchDevice(noise=3.0), PerLaunchDevice(noise=0.0)
    records = measured(noisy, works(noisy, 1e-3, 1e-3))
    assert 8.0 <= noisy.clock() <= 8.0 * (1 + 2 / AIMED_BATCHES)
    assert all(record.verdict == "clean" for record in measured(steady, works(steady, 1e-3, 1e-3)))
    assert all(len(record.batches) >= BATCHES for record in records)
    assert steady.clock() < 8.0 * 0.9


def test_no_window_ends_before_contention_could_show():
    device = PerLaunchDevice(noise=0.0)
    for record in measured(device, works(device, 1e-3, 1e-3), Allowance(0.1, 20.0)):
        assert sum(batch.elapsed_s for batch in record.batches) >= 0.8


# ---- memory batches ----


def test_cases_that_do_not_fit_the_memory_together_take_several_memory_batches():
    device = PerLaunchDevice(memory_bytes=10**9)
    sizes = {"a": 5 * 10**8, "b": 2 * 10**8, "c": 3 * 10**8}
    some = [Work(device, shape=name, resident=size) for name, size in sizes.items()]
    records = measured(device, some, name="big")
    assert [record.group for record in records] == ["big.1", "big.1", "big.2"]
    assert [record.verdict for record in records] == ["clean"] * 3
    order = [name for name, _ in groupby(device.turns, key=lambda turn: turn[0] in "ab")]
    assert order == [True, False]


def test_a_case_too_large_by_itself_is_skipped_and_the_others_are_measured():
    device = PerLaunchDevice(memory_bytes=10**9)
    sizes = {"a": 10**8, "b": 9 * 10**8, "c": 10**8}
    some = [Work(device, shape=name, resident=size) for name, size in sizes.items()]
    first, second, third = measured(device, some)
    assert str(second.reason) == "needs about 0.900 GB; this device has 1.00 GB"
    assert first.verdict == third.verdict == "clean"


def test_memory_batches_share_the_time_and_keep_to_the_limit_together():
    device = PerLaunchDevice(noise=3.0, memory_bytes=10**9)
    some = [Work(device, shape=name, resident=7 * 10**8) for name in "abc"]
    measured(device, some, Allowance(6.0, limit_s=6.0))
    assert device.clock() <= 6.0 * 1.05
    spans = [sum(took for name, _, took in device.turns if name == each) for each in "abc"]
    assert spans == pytest.approx([2.0] * 3, rel=0.1)


def test_no_later_process_of_a_gpu_is_begun_that_is_too_short_to_tell_whether_it_has_settled():
    """Its figure would be unknown, and with it that of all processes, though the first had told it."""
    kind = load_card_scenarios()["cards at their power limit"]
    for number in (0, 3):
        card = kind.draw(number)
        device = CardDevice(card)
        work = product_case(device, make_work(card))
        device.time_batch([work.launch], samples=1, per_sample=20_000)  # it has been at work
        (record,) = measure_group(
            [Case(work, phase="sustained")],
            device,
            Pilots(device, seed=0),
            Allowance(18.0, 40.0),
            busy_s=20.0,
            processes=5,
        )
        assert record.verdicts == ("power_capped",)
        assert record.settled_s is not None
