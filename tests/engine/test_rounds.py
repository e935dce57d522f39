"""Cases measured in turn: interleaving, one that breaks among others, budgets, settling, digests, graphs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import pytest

from nameplate.base.errors import Unsupported
from nameplate.device.protocol import Timing
from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedPrepared, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.ceiling import Ceilings
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import AIMED_BATCHES, SETTLING_BATCHES, Rounds, drop_leads, find_lead_s
from nameplate.engine.window import TimedBatch, Window
from nameplate.record import Record
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES, paired_ratio
from nameplate.suite import Case

AMPLE = Allowance(share_s=8.0, limit_s=80.0)


@dataclass
class Launch:
    """What a device is asked to run: it takes `launch_s` where nothing slows the device."""

    name: str
    launch_s: float

    def __call__(self):
        """Do nothing: the device draws what it takes."""


@dataclass(frozen=True)
class Prepared(SimulatedPrepared):
    work: Work | None = None

    @property
    def launches(self):
        return (Launch(self.work.shape, self.work.launch_s),)

    def check(self):
        self.work.does("check")
        return super().check()

    def digest(self):
        self.work.does("digest")
        return super().digest() if self.work.has_digest else None


@dataclass(frozen=True)
class Work(SimulatedWork):
    """Work that takes `launch_s`; a step in `breaks` raises the n-th time, one in `takes` lasts so long."""

    launch_s: float = 1e-3
    resident: int = 0
    has_digest: bool = True
    breaks: dict[str, tuple[int, BaseException]] = field(default_factory=dict, hash=False)
    takes: dict[str, float] = field(default_factory=dict, hash=False)
    done: Counter = field(default_factory=Counter, hash=False)

    @property
    def resident_bytes(self):
        return self.resident

    def does(self, step):
        self.done[step] += 1
        self.device._now_s += self.takes.get(step, 0.0)
        number, error = self.breaks.get(step, (0, None))
        if self.done[step] == number:
            raise error

    def prepare(self, device, *, fill, seed, copies=1):
        self.does("prepare")
        return Prepared(self.device, self)


class Shop(SimulatedDevice):
    """A device on which each launch has a speed of its own; `slowdown` is a factor that they share."""

    def __init__(self, noise=0.01, slowdown: Callable[[float], float] = lambda at_s: 1.0, **options):
        super().__init__(self._durations, **options)
        self.noise, self.slowdown = noise, slowdown
        self.turns: list[tuple[str, float, float]] = []  # who, when, and how long a batch
        self.recorded: list[str] = []  # who had each batch of more than one launch
        self.broken: dict[str, tuple[int, BaseException]] = {}  # the batch that raises

    def _durations(self, now_s, count, generator):
        launch_s = self._running.launch_s * self.slowdown(now_s)
        return launch_s * np.maximum(1 + self.noise * generator.standard_normal(count), 0.01)

    def time_batch(self, launches, *, samples, per_sample, flush=False):
        self._running = launches[0]
        number, error = self.broken.get(self._running.name, (-1, None))
        if sum(name == self._running.name for name, _, _ in self.turns) == number:
            raise error
        begin_s = self.clock()
        timing = super().time_batch(launches, samples=samples, per_sample=per_sample, flush=flush)
        self.turns.append((self._running.name, begin_s, timing.elapsed_s))
        if timing.launches > 1:
            self.recorded.append(self._running.name)
        return timing


def works(device, *launch_s, **options):
    return [
        Work(device, shape=name, launch_s=each, **options)
        for name, each in zip("abcd", launch_s, strict=False)
    ]


def measured(device, some, allowance=AMPLE, seed=1, name="1", **axes):
    cases = [one if isinstance(one, Case) else Case(one, **axes) for one in some]
    records = measure_group(cases, device, Pilots(device, seed), allowance, name=name)
    assert [record.case for record in records] == [case.id for case in cases]
    for record in records:
        assert Record.model_validate_json(record.model_dump_json()) == record
    return records


def rounds(record):
    return Counter(batch.round for batch in record.batches)


def drawn(device, records):
    """Who had each turn from the first to the last batch of these records, in order."""
    number = sum(len(record.batches) for record in records)
    return device.recorded[-number:]


# ---- in turn ----


def test_every_case_draws_in_every_round_and_shares_a_group():
    device = Shop()
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
        device = Shop()
        records = measured(device, works(device, 1e-3, 1e-3, 1e-3), seed=seed, name=name)
        return drawn(device, records)

    first = order(1)
    assert first == order(1)
    assert len({tuple(first[n : n + 3]) for n in range(0, len(first), 3)}) > 3
    assert first != order(2)
    assert first != order(1, name="2")


class ColdAfterOthers(Shop):
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
    device = Shop()
    slow, _other = measured(device, works(device, 0.5, 1e-3))
    launched = sum(name == "a" for name, _, _ in device.turns)
    assert launched == len(slow.batches) + 2  # and the two before any batch


def test_a_slow_case_has_fewer_batches_and_the_others_several_a_round():
    device = Shop()
    slow, fast = measured(device, works(device, 0.5, 1e-3))
    assert len(slow.batches) == len(rounds(slow)) < BATCHES
    assert len(fast.batches) >= 2 * len(slow.batches)
    assert rounds(slow).keys() == rounds(fast).keys()
    assert len(set(rounds(fast).values())) == 1
    assert fast.verdict == "clean"


def test_a_batch_lasts_as_long_as_the_share_allows():
    device = Shop(noise=0.5)
    light, heavy = works(device, 1e-3, 1e-3)
    one, two = measured(device, [Case(light), Case(heavy, weight=3.0)])
    spent = [sum(batch.elapsed_s for batch in record.batches) for record in (one, two)]
    assert spent[1] / spent[0] == pytest.approx(3.0, rel=0.1)
    assert sum(spent) == pytest.approx(AMPLE.share_s, rel=0.1)


@pytest.mark.parametrize("per_s", [-0.05, 0.05])
def test_a_drift_that_cases_share_favours_none(per_s):
    held, values = 0, []
    for seed in range(20):
        device = Shop(noise=0.02, slowdown=lambda at_s: 1 + per_s * at_s, seed=seed)
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
    device = Shop(slowdown=lambda at_s: 3.0 if int(at_s * 4) % 4 == 0 else 1.0, seed=5)
    first, second = measured(device, works(device, 1e-3, 1e-3), Allowance(20.0, 80.0))
    between = paired_ratio(_by_round(first), _by_round(second))
    assert between.low <= 1.0 <= between.high
    assert first.tflops < 0.8


def test_a_record_does_not_hold_the_time_of_other_cases():
    device = Shop()
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
    device = Shop()
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
    device = Shop()
    some = works(device, 1e-3, 1e-3)
    some[0].breaks["digest"] = (3, Unsupported("no digest here"))
    skipped, other = measured(device, some)
    assert (skipped.status, str(skipped.reason)) == ("skipped", "no digest here")
    assert other.verdict == "clean"


@pytest.mark.parametrize("phase", [None, "sustained"])
@pytest.mark.parametrize("step", ["prepare", "batch"])
def test_when_every_case_fails_each_has_its_record(step, phase):
    device = Shop()
    some = works(device, 1e-3, 1e-3)
    for work in some:
        work.breaks["prepare"] = (1 if step == "prepare" else 0, RuntimeError("lost"))
        device.broken[work.shape] = (30 if step == "batch" else -1, RuntimeError("lost"))
    records = measured(device, some, phase=phase)
    assert [(record.status, str(record.reason)) for record in records] == [
        ("failed", "RuntimeError: lost")
    ] * 2


def test_a_failed_case_costs_its_own_time_and_not_its_groups():
    device = Shop()
    some = works(device, 1e-3, 1e-3)
    some[0].takes["prepare"] = 0.25
    some[0].breaks["prepare"] = (1, RuntimeError("no"))
    broken, other = measured(device, some)
    assert broken.cost_s == pytest.approx(0.25)
    assert other.cost_s == pytest.approx(device.clock() - 0.25, rel=0.05)


@pytest.mark.parametrize("step", ["prepare", "digest", "check", "batch"])
def test_an_interrupt_passes_through(step):
    device = Shop()
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
    device = Shop()
    allowance = Allowance(share_s, limit_s=9.0)
    records = measured(device, works(device, *launch_s), allowance)
    assert device.clock() <= 9.0 * 1.02
    for record in records:
        assert record.status == "ok" or "of the budget are left" in str(record.reason)
        assert record.status != "ok" or len(record.batches) >= FEWEST_BATCHES


def test_a_case_without_room_beside_the_others_fewest_batches_is_skipped_with_numbers():
    device = Shop(noise=0.0)
    first, second = measured(device, works(device, 0.5, 0.5), Allowance(2.0, limit_s=6.0))
    assert first.status == "ok"
    # 6 s less the first case's two launches and its five batches, and the second's own two launches.
    assert (
        str(second.reason)
        == "needs about 2.5 s (0.5 s a launch); 1.5 s of the budget are left; try a larger --budget"
    )


def test_the_fewest_batches_are_drawn_when_the_share_is_over():
    device = Shop()
    records = measured(device, works(device, 0.2, 0.3), Allowance(0.1, limit_s=20.0))
    assert [len(record.batches) for record in records] == [FEWEST_BATCHES] * 2
    assert all(
        f"{FEWEST_BATCHES} batches, fewer than {BATCHES}" in str(record.warnings[0]) for record in records
    )


def test_a_noisy_group_uses_up_its_share_and_a_steady_one_does_not():
    noisy, steady = Shop(noise=3.0), Shop(noise=0.0)
    records = measured(noisy, works(noisy, 1e-3, 1e-3))
    assert 8.0 <= noisy.clock() <= 8.0 * (1 + 2 / AIMED_BATCHES)
    assert all(record.verdict == "clean" for record in measured(steady, works(steady, 1e-3, 1e-3)))
    assert all(len(record.batches) >= BATCHES for record in records)
    assert steady.clock() < 8.0 * 0.9


def test_no_window_ends_before_contention_could_show():
    device = Shop(noise=0.0)
    for record in measured(device, works(device, 1e-3, 1e-3), Allowance(0.1, 20.0)):
        assert sum(batch.elapsed_s for batch in record.batches) >= 0.8


# ---- on a GPU: turns long enough for ten readings a second ----


def stretches(device, records):
    """Seconds of each stretch that a case had to itself, in order: who, and how long."""
    number = sum(len(record.batches) for record in records)
    last = [turn for turn in device.turns if turn[2] > 0.05][-number:]  # no untimed launches
    return [
        (name, sum(took for _, _, took in batches))
        for name, batches in groupby(last, key=lambda turn: turn[0])
    ]


def test_on_a_gpu_each_case_runs_so_long_at_a_stretch_that_telemetry_can_tell_it_apart():
    device = Shop(kind="cuda", noise=0.2)
    records = measured(device, works(device, 1e-6, 2e-3, 5e-3), Allowance(24.0, 80.0))
    found = stretches(device, records)
    assert all(took >= 0.9 for _, took in found[1:])  # of the first one `number` may cut off a part
    assert all(len(record.batches) >= BATCHES for record in records)
    assert all(len(rounds(record)) >= FEWEST_BATCHES for record in records)
    assert [record.batches[0].round for record in records] == [0, 0, 0]


def test_a_gpu_with_little_time_still_draws_the_fewest_rounds():
    device = Shop(kind="cuda")
    records = measured(device, works(device, 1e-3, 1e-3), Allowance(1.0, 20.0))
    assert all(len(rounds(record)) >= 4 for record in records)


def test_each_process_has_an_order_of_its_own():
    def order(process):
        device = Shop()
        pilots, ceilings = Pilots(device, 1), Ceilings(device, 1)
        cases = [Case(work) for work in works(device, *[1e-3] * 6)]
        group = Rounds("g", cases, device, pilots, ceilings, Allowance(8.0, 80.0), process=process)
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
    device = Shop(kind="cuda")
    some = works(device, *[1e-3] * 4)
    some = [replace(work, flops=10**9 if work.shape in "ac" else 0) for work in some]
    records = measured(device, some, name="mine")
    assert [record.group for record in records] == ["mine.1", "mine.2", "mine.1", "mine.2"]
    kinds = [kind for kind, _ in groupby(device.turns, key=lambda turn: turn[0] in "ac")]
    assert kinds == [True, False]
    alike = Shop()  # a CPU has no such limit
    some = [replace(work, device=alike) for work in some]
    assert {record.group for record in measured(alike, some, name="mine")} == {
        "mine"
    }  # a CPU has no such limit


# ---- sittings ----


def test_cases_that_do_not_fit_the_memory_together_take_several_memory_batches():
    device = Shop(memory_bytes=10**9)
    sizes = {"a": 5 * 10**8, "b": 2 * 10**8, "c": 3 * 10**8}
    some = [Work(device, shape=name, resident=size) for name, size in sizes.items()]
    records = measured(device, some, name="big")
    assert [record.group for record in records] == ["big.1", "big.1", "big.2"]
    assert [record.verdict for record in records] == ["clean"] * 3
    order = [name for name, _ in groupby(device.turns, key=lambda turn: turn[0] in "ab")]
    assert order == [True, False]


def test_a_case_too_large_by_itself_is_skipped_and_the_others_are_measured():
    device = Shop(memory_bytes=10**9)
    sizes = {"a": 10**8, "b": 9 * 10**8, "c": 10**8}
    some = [Work(device, shape=name, resident=size) for name, size in sizes.items()]
    first, second, third = measured(device, some)
    assert str(second.reason) == "needs about 0.900 GB; this device has 1.00 GB"
    assert first.verdict == third.verdict == "clean"


def test_memory_batches_share_the_time_and_keep_to_the_limit_together():
    device = Shop(noise=3.0, memory_bytes=10**9)
    some = [Work(device, shape=name, resident=7 * 10**8) for name in "abc"]
    measured(device, some, Allowance(6.0, limit_s=6.0))
    assert device.clock() <= 6.0 * 1.05
    spans = [sum(took for name, _, took in device.turns if name == each) for each in "abc"]
    assert spans == pytest.approx([2.0] * 3, rel=0.1)


# ---- sustained ----

# A relaxation: 20 % slower in the end, with a time constant of two seconds.
TAU_S = 2.0


def heating(at_s):
    return 1.2 - 0.2 * np.exp(-at_s / TAU_S)


def first_start(device, record):
    """When a record's first batch began, on the device's clock."""
    took = record.batches[0].elapsed_s
    return next(begin for _, begin, elapsed in device.turns if elapsed == took)


def test_a_sustained_window_begins_once_it_has_settled():
    device = Shop(noise=0.01, slowdown=heating)
    first, second = measured(device, works(device, 5e-3, 5e-3), Allowance(60.0, 120.0), phase="sustained")
    for record in (first, second):
        assert record.settled_s >= 5 * TAU_S * 0.7
        assert first_start(device, record) >= record.settled_s
        assert record.tflops == pytest.approx(1e-3 / (5e-3 * 1.2), rel=5e-3)
        assert record.verdict == "clean"
        assert len(record.batches) >= BATCHES
    assert first.settled_s == second.settled_s


def test_a_sustained_case_of_a_steady_device_is_measured_from_the_start():
    device = Shop()
    (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase="sustained")
    assert record.settled_s == 0.0
    assert record.verdict == "clean"
    assert record.batches[0].round == 0


def test_a_sustained_window_spans_whole_periods():
    device = Shop(noise=0.005, slowdown=lambda at_s: 1 + 0.05 * np.sin(2 * np.pi * at_s / 3.0))
    (record,) = measured(device, works(device, 5e-3), Allowance(40.0, 90.0), phase="sustained")
    span_s = record.batches[-1].start_s + record.batches[-1].elapsed_s
    assert span_s / 3.0 == pytest.approx(round(span_s / 3.0), abs=0.5)
    assert record.tflops == pytest.approx(1e-3 / 5e-3, rel=5e-3)


def test_a_series_that_has_not_settled_is_unstable_with_a_warning():
    device = Shop(slowdown=lambda at_s: 1.5 - 0.5 * np.exp(-at_s / 30.0))
    (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase="sustained")
    assert (record.settled_s, record.verdict) == (None, "unstable")
    assert any(
        "had not settled when the time was up; try a larger --budget" in text
        for text in map(str, record.warnings)
    )


def test_only_sustained_cases_are_judged_by_settling():
    device = Shop()
    settling, plain = works(device, 1e-3, 1e-3)
    sustained, copied = measured(
        device, [Case(settling, phase="sustained"), Case(plain)], Allowance(5.0, 60.0)
    )
    assert (sustained.settled_s, sustained.verdict) == (None, "unknown")  # too short to say
    assert (copied.settled_s, copied.verdict, copied.warnings) == (None, "clean", ())
    assert copied.batches[0].round == 0 == sustained.batches[0].round


def test_an_undetermined_series_is_unknown_and_uses_every_batch():
    device = Shop()
    (record,) = measured(device, works(device, 0.5), Allowance(2.0, 60.0), phase="sustained")
    assert (record.settled_s, record.verdict) == (None, "unknown")
    assert record.batches[0].round == 0
    assert any(
        "the run was too short or too noisy to tell whether throughput had settled" in text
        for text in map(str, record.warnings)
    )


def test_a_group_with_a_sustained_case_has_more_batches():
    for phase, batches in ((None, AIMED_BATCHES), ("sustained", SETTLING_BATCHES)):
        device = Shop(noise=0.5)
        (record,) = measured(device, works(device, 5e-3), Allowance(20.0, 60.0), phase=phase)
        assert record.batches[0].elapsed_s == pytest.approx(19 / batches, rel=0.2)


# ---- digests ----


@pytest.mark.parametrize("phase", [None, "sustained"])
def test_a_change_of_the_bits_is_silent_corruption_and_names_the_batch(phase):
    device = Shop(corrupts_at_s=3.0)
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0), phase=phase)
    assert (record.status, record.verdict) == ("ok", "unverified")
    assert record.digest == "right"
    assert record.verification.passed  # it samples, and what it samples is right
    (said,) = (text for text in map(str, record.warnings) if "the bits of the result changed" in text)
    assert "silent data corruption; take this device out of use" in said


def test_the_changed_batch_is_numbered_in_the_order_drawn():
    device = Shop(noise=0.0)
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0))
    assert not any("the bits of the result changed" in text for text in map(str, record.warnings))
    begins = [begin for _, begin, _ in device.turns][-len(record.batches) :]
    device = Shop(noise=0.0, corrupts_at_s=begins[7] + 1e-6)  # while the eighth runs
    (record,) = measured(device, works(device, 1e-3), Allowance(8.0, 80.0))
    assert f"changed in batch 8 of {len(record.batches)}" in str(record.warnings[0])


def test_corruption_before_the_sustained_window_is_found():
    device = Shop(slowdown=heating, corrupts_at_s=4.0)
    (record,) = measured(device, works(device, 5e-3), Allowance(60.0, 120.0), phase="sustained")
    assert first_start(device, record) > 4.0
    assert "unverified" in record.verdicts


def test_a_corruption_after_the_last_batch_but_before_the_check_is_found():
    device = Shop(noise=0.0)
    some = works(device, 1e-3, takes={"digest": 0.5})
    (record,) = measured(device, some)
    end_s = sum(device.turns[-1][1:])
    device = Shop(noise=0.0, corrupts_at_s=end_s)
    (record,) = measured(device, works(device, 1e-3, takes={"digest": 0.5}))
    assert record.verdict == "unverified"


@pytest.mark.parametrize("cost_s", [1e-4, 2e-3, 0.05])
def test_digests_take_one_twentieth_of_the_time_at_the_most(cost_s):
    device = Shop(noise=3.0)
    (work,) = works(device, 1e-3, takes={"digest": cost_s})
    (record,) = measured(device, [work], Allowance(20.0, 80.0))
    drawing = work.done["digest"] - 2  # the first, whose cost nobody knows, and the last, which is due
    elapsed_s = sum(batch.elapsed_s for batch in record.batches)
    assert drawing * cost_s <= 0.05 * elapsed_s
    assert drawing > 0


def test_cheap_digests_are_taken_after_every_batch():
    device = Shop()
    (work,) = works(device, 1e-3)
    (record,) = measured(device, [work])
    assert work.done["digest"] == len(record.batches) + 1


def test_without_promised_bits_there_is_no_digest_and_no_verdict_by_it():
    device = Shop(corrupts_at_s=3.0)
    (record,) = measured(device, works(device, 1e-3, has_digest=False))
    assert (record.digest, record.verdict) == (None, "clean")


def test_a_digest_is_not_timed():
    device = Shop()
    (record,) = measured(device, works(device, 1e-3, takes={"digest": 0.01}))
    assert record.time_s == pytest.approx(1e-3, rel=5e-3)


# ---- the host as what is timed ----


def host(kernel_s, handing_s, of=SimulatedDevice, **options):
    """A device on which a launch takes `kernel_s`, or `handing_s` where the host takes that long for it."""
    return of(make_steady(kernel_s, 0.01), seed=1, host_launch_s=handing_s, **options)


def on(device, **axes):
    (record,) = measure_group([Case(SimulatedWork(device, 10**6), **axes)], device, Pilots(device, 1), AMPLE)
    return record


def test_a_launch_that_keeps_the_host_busy_is_launch_bound():
    record = on(host(20e-6, 50e-6))
    assert record.verdict == "launch_bound"
    assert record.time_s == pytest.approx(50e-6, rel=0.01)
    assert record.graph_tflops == pytest.approx(10**6 / 20e-6 / 1e12, rel=0.02)


def test_a_launch_that_is_enqueued_early_is_not_launch_bound():
    record = on(host(200e-6, 50e-6))
    assert (record.verdict, record.graph_tflops) == ("clean", None)


def test_after_slow_enqueuing_a_graph_shows_whether_it_mattered():
    record = on(host(100e-6, 60e-6))
    assert record.graph_tflops == pytest.approx(record.tflops, rel=0.02)
    assert record.verdict == "clean"


def test_a_faster_graph_makes_it_launch_bound_whatever_the_enqueue_share():
    class Hidden(SimulatedDevice):
        """The host looks half as busy as it is: a part of its work lies behind the call that hands over."""

        def time_enqueue(self, launches):
            return 0.5 * self.host_launch_s

    record = on(host(20e-6, 50e-6, Hidden))
    assert record.verdict == "launch_bound"
    assert record.graph_tflops == pytest.approx(record.tflops * 2.5, rel=0.02)


def test_flushed_launches_are_not_captured():
    record = on(host(20e-6, 50e-6, cache_bytes=1 << 20), cache="flushed")
    assert record.graph_tflops is None


def test_without_a_graph_the_enqueue_share_decides():
    class Uncapturable(SimulatedDevice):
        def capture(self, launches, count):
            return None

    record = on(host(20e-6, 50e-6, Uncapturable))
    assert (record.verdict, record.graph_tflops) == ("launch_bound", None)
    assert any("can't be captured as a CUDA graph" in str(each) for each in record.warnings)


def test_a_failing_capture_costs_no_figure():
    class Breaking(SimulatedDevice):
        def capture(self, launches, count):
            raise RuntimeError("operation not permitted when stream is capturing")

    record = on(host(20e-6, 50e-6, Breaking))
    assert record.status == "ok"


# ---- CPU time ----


def test_cpu_time_excludes_other_processes():
    device = Shop(foreign_cores=0.5, cores=2.0)
    (record,) = measured(device, works(device, 1e-3))
    assert record.verdict == "contended"
    assert record.tflops == pytest.approx(0.75 * 1.0, rel=0.02)
    assert record.cpu_time_tflops == pytest.approx(1.0, rel=0.02)
    idle = Shop(cores=2.0)
    (record,) = measured(idle, works(idle, 1e-3))
    assert record.cpu_time_tflops == pytest.approx(record.tflops)


def test_without_cpu_time_there_is_no_such_figure():
    class Unknown(Shop):
        def time_batch(self, launches, **options):
            return replace(super().time_batch(launches, **options), cpu_s=None)

    device = Unknown()
    (record,) = measured(device, works(device, 1e-3))
    assert (record.cpu_time_tflops, record.verdict) == (None, "clean")
    assert {batch.cpu_s for batch in record.batches} == {None}


# ---- the kernels that ran ----


class Named(Shop):
    """A device that tells the kernels of a launch, or breaks where it is asked."""

    def name_kernels(self, launch):
        if launch.name == "b":
            raise RuntimeError("no profiler")
        self.turns.append((f"kernels of {launch.name}", self.clock(), 0.0))
        return ("library gemm", launch.name)


def test_kernels_are_named_after_everything_timed():
    device = Named()
    first, broken = measured(device, works(device, 1e-3, 1e-3))
    assert first.kernels == ("library gemm", "a")
    assert first.flatten()["kernels"] == ["library gemm", "a"]
    assert device.turns[-1][0] == "kernels of a"
    assert (broken.status, broken.verdict, broken.kernels) == ("ok", "clean", ())


def test_a_launch_that_no_longer_fits_is_not_repeated_for_its_kernels():
    device = Named()
    slow = measured(device, works(device, 1.0), Allowance(8.5, 8.5))[0]
    assert (slow.status, slow.kernels) == ("ok", ())


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
