"""A group measured in several processes: how many fit, what only the first does, what all must agree in."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import pytest

from nameplate.base.errors import Unsupported
from nameplate.base.messages import message
from nameplate.device.simulated import Driver, SimulatedDevice
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group, measure_in_processes, stays_settled
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import count_fitting
from nameplate.engine.runner import InThisProcess
from nameplate.suite import Case, Target, find_suite
from nameplate_kernels.workload import CheckResult


@dataclass(frozen=True)
class Work:
    """Work of a known time; `takes` has virtual seconds by step, `raises` an error of its n-th time."""

    device: SimulatedDevice
    shape: str = "a"
    launch_s: float = 1e-3
    digests: tuple[str | None, ...] = ("0123",)  # by process; the last one counts for all later ones
    takes: dict = field(default_factory=dict, hash=False)
    raises: dict = field(default_factory=dict, hash=False)
    done: Counter = field(default_factory=Counter, hash=False)
    name: str = "matmul"
    dtype: str = "fp32"
    dimensions: dict = field(default_factory=dict, hash=False)
    flops: int = 10**9
    bytes: int = 10**6
    resident_bytes: int = 0
    convention: str = "2MNK"
    represents: str | None = None

    def does(self, step):
        self.done[step] += 1
        self.device._now_s += self.takes.get(step, 0.0)
        number, error = self.raises.get(step, (0, None))
        if self.done[step] == number:
            raise error

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        self.does("prepare")
        return Prepared(self)


@dataclass(frozen=True)
class Prepared:
    work: Work

    @property
    def launches(self):
        return (self,)

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        self.work.does("reference")

    def check(self):
        self.work.does("check")
        return CheckResult("fp64", 0.1, "rounding")

    def digest(self):
        digests = self.work.digests
        return digests[min(self.work.device.process, len(digests)) - 1]


class Machine(SimulatedDevice):
    """Takes each launch's time from its work, × a factor that each process keeps."""

    def __init__(self, factors=(1.0,), noise=0.02, **options):
        super().__init__(self._durations, **options)
        self.factors, self.noise = factors, noise

    def time_batch(self, launches, **how):
        self.launch_s = launches[0].work.launch_s
        return super().time_batch(launches, **how)

    def _durations(self, _now_s, count, generator):
        factor = self.factors[min(self.process, len(self.factors)) - 1]
        return self.launch_s * factor * np.maximum(1 + self.noise * generator.standard_normal(count), 0.01)


def measure(works, device, allowance, processes, phase=None, **options):
    cases = [Case(work, phase=phase) for work in works]
    return measure_group(cases, device, Pilots(device, 1), allowance, processes=processes, **options)


def batches_by_process(record):
    return Counter(batch.process for batch in record.batches)


def seconds_by_process(record):
    found = Counter()
    for batch in record.batches:
        found[batch.process] += batch.elapsed_s
    return dict(found)


@pytest.mark.parametrize(
    ("rest_s", "setup_s", "least_s", "most", "count"),
    [
        (10.0, 1.0, 1.0, 4, 4),
        (7.7, 1.0, 1.0, 4, 3),
        (1.9, 1.0, 1.0, 4, 1),
        (1.7, 1.0, 1.0, 4, 0),
        (-1.0, 1.0, 1.0, 4, 0),
        (0.0, 0, 0, 4, 4),
    ],
)
def test_as_many_processes_as_fit(rest_s, setup_s, least_s, most, count):
    assert count_fitting(rest_s, setup_s, least_s, most) == count


def test_the_time_is_shared_evenly_and_what_each_process_keeps_is_in_the_figure():
    device = Machine(factors=(0.8, 0.9, 1.0, 1.1, 1.2), noise=0.4)
    (record,) = measure([Work(device)], device, Allowance(20.0, 60.0), 5)
    seconds = seconds_by_process(record)
    assert sorted(seconds) == [1, 2, 3, 4, 5]
    assert max(seconds.values()) < 1.5 * min(seconds.values())
    assert record.time_s == pytest.approx(1e-3, rel=0.05)
    assert device.clock() == pytest.approx(20.0, rel=0.1)
    rounds = [batch.round for batch in record.batches]
    assert len(set(rounds)) == len(rounds)  # no two processes drew in one round


def test_only_the_first_process_does_what_one_is_enough_for(monkeypatch):
    device = Machine(host_launch_s=1e-6)
    named = []
    monkeypatch.setattr(device, "name_kernels", lambda launch: named.append(device.process) or ("gemm",))
    enqueued = []
    monkeypatch.setattr(device, "time_enqueue", lambda launches: enqueued.append(device.process) or 1e-6)
    work = Work(device)
    (record,) = measure([work], device, Allowance(8.0, 60.0), 4)
    assert len(batches_by_process(record)) == 4
    assert (named, enqueued) == ([1], [1])
    assert work.done == {"prepare": 4, "reference": 1, "check": 1}
    assert record.kernels == ("gemm",)
    assert record.enqueue_share is not None


def test_without_a_digest_every_process_checks_its_own_result():
    device = Machine()
    work = Work(device, digests=(None,))
    (record,) = measure([work], device, Allowance(8.0, 60.0), 4)
    assert work.done == {"prepare": 4, "reference": 4, "check": 4}
    assert record.verification.passed


def test_other_bits_in_a_later_process_are_unverified():
    device = Machine()
    (record,) = measure([Work(device, digests=("x", "x", "y"))], device, Allowance(8.0, 60.0), 4)
    assert "unverified" in record.verdicts
    assert "bits_changed" in record.warning_codes


def test_a_process_is_worth_its_set_up_or_there_are_fewer():
    device = Machine(noise=0.4)
    work = Work(device, takes={"prepare": 2.0})
    (record,) = measure([work], device, Allowance(11.0, 60.0), 5)
    assert len(batches_by_process(record)) == 3  # 2 s each to begin, and at least 1 s to draw
    assert device.clock() == pytest.approx(11.0, rel=0.1)
    assert all(seconds >= 1.0 for seconds in seconds_by_process(record).values())


def test_what_only_the_first_does_is_no_reason_for_fewer():
    device = Machine(noise=0.4)
    work = Work(device, takes={"reference": 2.0, "prepare": 0.1})
    (record,) = measure([work], device, Allowance(6.0, 60.0), 5)
    assert len(batches_by_process(record)) == 5


def test_quicks_layer_has_five_processes_at_the_speed_of_two_cores():
    """Replayed: seconds of launches and of set-up as a two-core Zen 4 guest took them (2026-11-29)."""
    device = Machine(noise=0.01, kind="cpu")
    launches_s = (0.0402, 0.572, 0.0157, 0.0104, 0.0372, 0.0365)
    own = {"takes": {"prepare": 0.1}}, {"takes": {"prepare": 2.0, "reference": 4.0, "check": 2.0}}
    works = [Work(device, str(n), each, **own[n == 1]) for n, each in enumerate(launches_s)]
    quick = find_suite("quick")
    cases = quick.cases(Target("cpu", None, None, frozenset({"bf16", "fp32"})))
    weights = [case.weight for case in cases if case.group == "layer-bf16-128"]
    share_s = quick.budget_s * sum(weights) / sum(case.weight for case in cases)
    group = [Case(work, phase="sustained", weight=each) for work, each in zip(works, weights, strict=True)]
    allowance = Allowance(share_s, share_s + 10.0)
    # The burst has warmed the cores up by then.
    records = measure_group(
        group, device, Pilots(device, 1), allowance, busy_s=4.0, processes=quick.processes
    )
    assert [len(batches_by_process(record)) for record in records] == [5] * 6
    assert device.clock() <= 1.1 * share_s


def test_a_slow_case_has_one_process_and_its_fewest_batches():
    device = Machine()
    (record,) = measure([Work(device, launch_s=1.0)], device, Allowance(6.0, 60.0), 5)
    assert record.status == "ok"
    assert set(batches_by_process(record)) == {1}


def test_a_case_that_breaks_in_a_later_process_has_failed_and_the_others_go_on():
    device = Machine()
    works = [Work(device), Work(device, "b", raises={"prepare": (3, RuntimeError("no memory"))})]
    first, second = measure(works, device, Allowance(12.0, 60.0), 4)
    assert (second.status, str(second.reason)) == ("failed", "RuntimeError: no memory")
    assert second.batches == ()
    assert len(batches_by_process(first)) == 4
    assert works[1].done["prepare"] == 3


def test_a_case_that_a_later_process_has_no_room_for_keeps_the_figure_of_the_others():
    device = Machine()
    full = Unsupported(message("budget_spent", budget_s=1.0))
    works = [Work(device), Work(device, "b", raises={"prepare": (3, full)})]
    first, second = measure(works, device, Allowance(12.0, 60.0), 4)
    assert (first.status, second.status) == ("ok", "ok")
    assert set(batches_by_process(second)) == {1, 2, 4}


def test_a_cpu_that_has_settled_stays_so_for_the_next_process():
    """The first process needs ten seconds to tell; the others share what is left."""
    device = Machine(noise=0.4, kind="cpu")
    (record,) = measure([Work(device)], device, Allowance(24.0, 60.0), 5, "sustained")
    seconds = seconds_by_process(record)
    assert seconds[1] > 10.0
    assert len(seconds) == 5
    assert record.settled_s == 0.0
    assert "unknown" not in record.verdicts


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_cpu_that_has_settled_stays_so_for_the_next_group(kind):
    """Whose few batches alone don't tell."""
    more = {"driver": Driver(), "cores": 1.0} if kind == "cuda" else {}
    device = Machine(noise=0.4, kind=kind, **more)
    runner = InThisProcess(device, Pilots(device, 1), ProbeChoice(device, 1))
    cases = [Case(Work(device), phase="sustained")]
    (alone,) = measure_in_processes(cases, runner, Allowance(1.0, 2.0))
    assert "unknown" in alone.verdicts
    assert alone.settled_s is None
    assert not stays_settled([alone], device)
    (first,) = measure_in_processes(cases, runner, Allowance(30.0, 60.0))
    settled = stays_settled([first], device)
    assert settled == (kind == "cpu")
    (then,) = measure_in_processes(cases, runner, Allowance(1.0, 2.0), has_settled=settled)
    assert (then.settled_s == 0.0) == (kind == "cpu")
    assert ("unknown" in then.verdicts) == (kind == "cuda")


def test_processes_on_a_warm_gpu_are_long_enough_to_see_it_settle():
    device = Machine(noise=0.4, kind="cuda", driver=Driver(), cores=1.0)
    (record,) = measure([Work(device)], device, Allowance(42.0, 90.0), 5, "sustained", busy_s=60.0)
    seconds = seconds_by_process(record)
    assert len(seconds) == 3  # two seconds are the profiler's
    assert min(seconds.values()) > 10.0


def test_a_process_of_a_gpu_gives_each_of_several_cases_two_seconds():
    device = Machine(noise=0.4, kind="cuda", driver=Driver(), cores=1.0)
    works = [Work(device, name) for name in "abc"]
    first, *_ = measure(works, device, Allowance(22.0, 60.0), 5, "sustained", busy_s=60.0)
    assert len(seconds_by_process(first)) == 3


def test_a_burst_is_one_process():
    device = Machine(kind="cpu")
    (record,) = measure([Work(device)], device, Allowance(6.0, 60.0), 5, "burst")
    assert set(batches_by_process(record)) == {1}


def test_the_runner_is_told_what_each_process_is_for():
    device = Machine(noise=0.4)
    told = []

    class Watched(InThisProcess):
        def measure(self, task):
            told.append((task.number, task.sharing, len(task.verified), task.busy_s > 5.0))
            return super().measure(task)

    runner = Watched(device, Pilots(device, 1), ProbeChoice(device, 1))
    measure_in_processes([Case(Work(device))], runner, Allowance(9.0, 60.0), busy_s=4.0, processes=3)
    assert told == [(1, 3, 0, False), (2, 2, 1, True), (3, 1, 1, True)]
