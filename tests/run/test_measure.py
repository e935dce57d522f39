"""One run, from a suite and a budget to records on disk; the device is simulated, the engine is real."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field, replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

import nameplate.run.job
import nameplate.run.measure
import nameplate.run.worker
import nameplate.suite
from nameplate.base.environment import READY_VARIABLE
from nameplate.base.errors import InputError, RunIncomplete
from nameplate.base.messages import message
from nameplate.device.identity import SimulatedIdentity
from nameplate.device.simulated import SimulatedDevice
from nameplate.record import METHOD, Verification
from nameplate.report.media import progress
from nameplate.report.media.progress import LiveProgress
from nameplate.run.deadlines import Deadlines
from nameplate.run.job import WorkerStatus
from nameplate.run.measure import measure
from nameplate.run.pool import Missed
from nameplate.specs.rating import rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.store.folder import RecordWriter, claim, read_run
from nameplate.suite import Case, Suite
from nameplate.telemetry.gpu import GpuReading

FLOPS = 2_000_000_000
SEGFAULT = SystemExit(-11)  # how a simulated process dies


@dataclass(frozen=True)
class Work:
    """A workload that allocates nothing; each launch takes `launch_s` of the device's virtual time.

    `weight` and `group` are its case's.
    """

    shape: str
    launch_s: float = 1e-3
    noise: float = 0.0
    dtype: str = "fp32"
    piloted: bool = False
    breaks: BaseException | None = None
    breaks_context: bool = False
    breaks_at_the_end: bool = False  # in a step whose error costs no figure
    name: str = "matmul"
    dimensions: dict = field(default_factory=dict)
    flops: int = FLOPS
    bytes: int = 3_000_000
    convention: str = "2MNK"
    represents: str | None = None
    resident_bytes: int = 3_000_000
    weight: float = 1.0
    group: str | None = None

    def unsupported(self, device):
        return None

    def pilots(self):
        """A thousandth of the work."""
        if not self.piloted:
            return ()
        return (replace(self, piloted=False, flops=FLOPS // 1000, launch_s=self.launch_s / 1000),)

    def prepare(self, device, *, fill, seed, copies=1):
        if self.breaks is not None:
            raise self.breaks
        return Ready(self)


@dataclass(frozen=True)
class Ready:
    work: Work

    @property
    def launches(self):
        return [self]

    def numerics(self):
        return contextlib.nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return Verification(reference="fp64", error=0.1, rule="rounding", passed=True)

    def digest(self):
        return None


class Simulated(SimulatedDevice):
    """Takes each launch's time from the workload that is launched, and counts what was launched."""

    def __init__(self, name="simulated", nominal_tflops=4.0):
        super().__init__(lambda *_: np.zeros(0), name=name, nominal_tflops=nominal_tflops)
        self.launched = []
        self.broken = False  # as a CUDA context is after some errors, until another process opens the device
        self.deadly, self.death = None, SEGFAULT  # the shape whose launch ends the process, and how

    def is_working(self):
        return not self.broken

    def name_kernels(self, launch):
        if launch.work.breaks_at_the_end:
            self.broken = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return ()

    def time_batch(self, launches, **how):
        (ready,) = launches
        if self.broken or ready.work.breaks_context:
            self.broken = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")
        self.launched.append(ready.work.shape)
        if ready.work.shape == self.deadly:
            raise self.death
        noise = ready.work.noise

        def durations(_now_s, count, generator):
            return ready.work.launch_s * np.maximum(1 + noise * generator.standard_normal(count), 0.01)

        self.durations = durations
        return super().time_batch(launches, **how)


class Watcher:
    """Writes down what it is told, and what stands on disk at that moment."""

    def __init__(self):
        self.seen = []

    def run_started(self, folder, manifest, budget_s, todo):
        self.folder = folder
        self.seen.append(("run", read_run(folder).manifest == manifest, budget_s, todo))

    def group_started(self, cases):
        self.seen.append(("start", *cases, len(read_run(self.folder).records)))

    def case_finished(self, record):
        self.seen.append(("finish", record.case, len(read_run(self.folder).records)))

    def device_stopped(self, device, why, goes_on):
        self.seen.append(("stop", device, str(why), goes_on))


def ids(*shapes):
    return [f"matmul/fp32/{shape}/normal/warm/-/torch" for shape in shapes]


@pytest.fixture
def bench(monkeypatch, simulate, tmp_path):
    """Measure made-up cases on a made-up device: `bench(cases, …)`, the rest as `measure`'s arguments."""

    def run(works=None, *, aim_s=60.0, device=None, dies_early_at_start=None, **arguments):
        if works is not None:
            cases = [Case(work, weight=work.weight, group=work.group) for work in works]
            suite = Suite("fake", "a test's own", aim_s, lambda target: cases)
            monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: suite)
        devices = device if isinstance(device, list) else [device or Simulated()]
        run.jobs = simulate(*devices)
        opened = nameplate.run.worker.open_device

        def opening(name, begun):
            if len(run.jobs) == dies_early_at_start:
                raise SystemExit(-9)
            device = opened(name, begun)
            device.broken = False
            return device

        monkeypatch.setattr(nameplate.run.worker, "open_device", opening)
        arguments.setdefault("suite", "fake" if arguments.get("resume") is None else None)
        return measure(results=tmp_path, **arguments)

    return run


def three_groups(interrupted=None):
    """Five cases in three groups, one of which may be where Ctrl-C comes."""
    shapes = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3"}
    return [
        Work(shape, group=group, breaks=KeyboardInterrupt() if shape == interrupted else None)
        for shape, group in shapes.items()
    ]


@pytest.fixture
def broken_off(bench, tmp_path):
    """A run of three groups, interrupted in the second; and what measures the rest of it."""
    with pytest.raises(KeyboardInterrupt):
        bench(three_groups(interrupted="d"), nominal={"fp32": 8.0}, only="matmul/*")
    (folder,) = tmp_path.iterdir()

    def go_on(device=None, **arguments):
        return bench(three_groups(), device=device, resume=str(folder), **arguments)

    return folder, go_on


def test_every_case_has_its_record_and_the_run_is_done(bench):
    run = bench([Work("a"), Work("b", launch_s=2e-3)])
    assert [record.case for record in run.records] == ids("a", "b")
    assert [record.status for record in run.records] == ["ok", "ok"]
    assert [record.tflops for record in run.records] == pytest.approx([2.0, 1.0], rel=1e-6)
    assert [record.efficiency for record in run.records] == pytest.approx([0.5, 0.25], rel=1e-6)
    assert run.finished
    assert run == read_run(run.folder)


def test_the_manifest_says_what_was_asked_for_and_on_what(bench):
    run = bench([Work("a")], budget=50.0, nominal={"fp32": 8.0}, only="*", seed=11)
    manifest = run.manifest
    assert (manifest.suite, manifest.seed, manifest.cases) == ("fake", 11, tuple(ids("a")))
    assert (manifest.options.budget_s, manifest.options.nominal, manifest.options.only) == (
        50.0,
        {"fp32": 8.0},
        "*",
    )
    assert manifest.devices[0].identity.name == "simulated"
    assert manifest.software["torch"]
    assert manifest.run == run.folder.name


NOISY = {"noise": 0.5, "launch_s": 1e-2}  # its interval never gets narrow, so it takes all it may


def cost_by_group(run):
    """Seconds that each group of a run took, in order."""
    costs = {}
    for record in run.records:
        costs[record.group] = costs.get(record.group, 0.0) + record.cost_s
    return list(costs.values())


def test_a_budget_is_shared_by_weight_among_groups(bench):
    heavy = [Work("b", group="2", weight=2, **NOISY), Work("c", group="2", weight=3, **NOISY)]
    run = bench([Work("a", group="1", **NOISY), *heavy], budget=60.0)
    assert cost_by_group(run) == pytest.approx([10, 50], rel=0.1)


def test_a_groups_time_is_shared_by_weight_among_its_cases(bench):
    run = bench([Work("a", **NOISY), Work("b", weight=2, **NOISY), Work("c", weight=5, **NOISY)], budget=80.0)
    assert [record.cost_s for record in run.records] == pytest.approx([10, 20, 50], rel=0.25)


def test_what_a_group_leaves_is_shared_among_those_after_it(bench):
    steady = Work("a", group="1", weight=8)
    run = bench([steady, Work("b", group="2", **NOISY), Work("c", group="3", **NOISY)], budget=80.0)
    first, *others = cost_by_group(run)
    assert first < 32  # it stops as soon as its interval is narrow, long before its 64 s
    assert others == pytest.approx([(80 - first) / 2] * 2, rel=0.1)


def test_the_node_that_a_process_is_bound_to_before_its_device_is_opened_is_recorded(bench, monkeypatch):
    one, other = Simulated("one"), Simulated("other")
    seen = []

    def bind(identity, measured):
        seen.append((identity.name, [each.name for each in measured], len(one.launched)))
        return {"one": 1}.get(identity.name)

    monkeypatch.setattr(nameplate.run.worker, "bind_to_gpu", bind)
    run = bench([Work("a")], device=[one, other])
    assert seen[0] == ("one", ["one", "other"], 0)
    assert seen[1][:2] == ("other", ["one", "other"])
    assert {record.device: record.numa_node for record in run.records} == {"one": 1, "other": None}


@pytest.mark.parametrize(("since_s", "left_s"), [(0.0, 10.0), (8.0, 2.0)])
def test_the_budget_counts_from_when_the_run_began_to_measure(simulate, bench, monkeypatch, since_s, left_s):
    """Not from the command: loading torch would take half of it. A process that replaces one has the rest."""
    moments = iter(
        [1000.0, 1000.0 + since_s]
    )  # when the measuring began, and when this process begins with it
    bench_time = SimpleNamespace(monotonic=moments.__next__)
    monkeypatch.setattr(nameplate.run.worker, "time", bench_time)
    run = bench([Work("a", **NOISY)], budget=10.0)
    assert run.records[0].cost_s == pytest.approx(left_s, rel=0.1)


def test_only_the_first_group_finds_its_device_never_at_work(bench, monkeypatch):
    """By the host's clock too, which moves between any two readings."""
    device, measure, told = Simulated(), nameplate.run.worker.measure_in_processes, []
    monkeypatch.setattr(device, "clock", lambda: device.idle(1e-6) or Simulated.clock(device))

    def watched(*arguments):
        told.append(arguments[4])
        return measure(*arguments)

    monkeypatch.setattr(nameplate.run.worker, "measure_in_processes", watched)
    bench([Work("a", group="a"), Work("b", group="b")], device=device, budget=20.0)
    assert told[0] == 0.0
    assert told[1] > 1.0


def test_what_does_not_fit_a_given_budget_is_skipped_with_its_reason(bench):
    device = Simulated()
    run = bench([Work("a"), Work("huge", launch_s=30.0, piloted=True), Work("c")], budget=20.0, device=device)
    assert [record.status for record in run.records] == ["ok", "skipped", "ok"]
    reason = str(run.records[1].reason)
    assert "needs about 3.0 min" in reason  # six launches of 30 s
    assert "of the budget are left" in reason
    assert "try a larger --budget" in reason
    assert device.clock() < 20.0
    assert run.finished
    assert run.missing == ()


def test_a_budget_that_was_overrun_leaves_reasons_and_no_gaps(bench):
    device = Simulated()
    works = [Work("a", launch_s=30.0), *(Work(shape, group=shape) for shape in "bc")]
    run = bench(works, budget=5.0, device=device)
    assert [record.status for record in run.records] == ["skipped"] * 3
    assert [str(record.reason) for record in run.records[1:]] == [
        "the budget of 5.0 s was spent before this case's turn"
    ] * 2
    assert set(device.launched) == {"a"}
    assert run.finished


def test_without_a_budget_a_slow_machine_still_gets_its_figures(bench):
    slow = Work("slow", launch_s=2.5, piloted=True)  # six launches: 15 s of an aim of 10
    assert bench([slow], aim_s=10.0).records[0].status == "ok"
    assert bench([slow], aim_s=10.0, budget=10.0).records[0].status == "skipped"


def test_patience_without_a_budget_has_an_end(bench):
    run = bench([Work("slow", launch_s=30.0, piloted=True)], aim_s=10.0)
    assert run.records[0].status == "skipped"


def test_an_observer_is_told_in_order_and_only_of_what_is_on_disk(bench):
    watcher = Watcher()
    works = [Work("a"), Work("b", breaks=RuntimeError("no")), Work("c", group="last")]
    bench(works, observer=watcher, budget=30.0)
    a, b, c = ids("a", "b", "c")
    assert watcher.seen == [
        ("run", True, 30.0, 3),
        ("start", a, b, 0),
        ("finish", a, 1),
        ("finish", b, 2),
        ("start", c, 2),
        ("finish", c, 3),
    ]


def test_cases_of_a_group_were_measured_in_turn_and_their_records_say_so(bench):
    first, second, other = bench([Work("a"), Work("b"), Work("c", group="other")]).records
    assert first.group == second.group != other.group == "other"
    rounds = [{batch.round for batch in record.batches} for record in (first, second)]
    assert rounds[0] == rounds[1]


def test_only_leaves_the_rest_out_of_the_manifest(bench):
    run = bench([Work("16x16"), Work("16x32"), Work("8x8")], only="*/16x*")
    assert list(run.manifest.cases) == ids("16x16", "16x32")
    assert len(run.records) == 2


def test_only_that_matches_nothing_makes_no_run(bench, tmp_path):
    with pytest.raises(
        InputError, match=r"--only: no case of suite fake matches; got 'conv\*'; expected a glob"
    ):
        bench([Work("a")], only="conv*")
    assert list(tmp_path.iterdir()) == []


def test_a_given_nominal_reaches_the_records_and_leaves_the_datasheet(bench):
    (record,) = bench([Work("a")], nominal={"fp32": 8.0}).records
    assert (record.nominal_tflops, record.datasheet_tflops) == (8.0, 4.0)
    assert record.efficiency == pytest.approx(record.tflops / 8.0)
    assert record.datasheet_efficiency == pytest.approx(record.tflops / 4.0)
    assert "--nominal" in str(record.nominal_source)


@pytest.mark.parametrize(
    "tflops", [0.0, -1.0, float("nan"), float("inf"), 1e308, 1e31, 1.1e9, 0.9e-6, 1e-300]
)
def test_a_nominal_that_is_no_throughput_is_refused(bench, tmp_path, tflops):
    with pytest.raises(InputError, match=r"--nominal fp32: not a rating; .* TFLOPS from 1e-06 to 1e\+09"):
        bench([Work("a")], nominal={"fp32": tflops})
    assert list(tmp_path.iterdir()) == []


def test_a_sparse_figure_as_nominal_is_refused_before_anything_is_measured(bench, tmp_path):
    device = Simulated()
    device.rating = rate_evidence(Evidence("NVIDIA A800-SXM4-80GB"))
    with pytest.raises(InputError, match=r"--nominal: .*2:4 sparsity.*got 'bf16=624'; expected .*320 or 312"):
        bench([Work("a", dtype="bf16")], device=device, nominal={"bf16": 624.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["", "fp32x", "bf61"])
def test_a_nominal_for_no_dtype_of_the_run_is_refused(bench, dtype):
    with pytest.raises(InputError, match="--nominal"):
        bench([Work("a")], nominal={dtype: 8.0})


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf"), 1e308, 1.1e6, 0.9e-6, 1e-300])
def test_a_budget_that_is_no_time_is_refused(bench, tmp_path, budget):
    with pytest.raises(
        InputError, match=r"--budget: not a time to measure in; got .*; expected seconds from 1e-06 to 1e\+06"
    ):
        bench([Work("a")], budget=budget)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_manifest_holds_is_refused(tmp_path, seed):
    with pytest.raises(InputError, match=r"seed: not a seed; got .*; expected an integer from 0 to 922"):
        measure("smoke", device="cpu", seed=seed, results=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["1e308", "1.1e6", "inf"])
def test_a_wait_that_the_system_cannot_take_is_refused(monkeypatch, given):
    monkeypatch.setenv(READY_VARIABLE, given)
    with pytest.raises(InputError, match=r"got '.*'; expected seconds above 0, at most 1,000,000"):
        Deadlines.from_environment()


@pytest.mark.parametrize(
    "text", ["out of memory\nsecond line", "", "no file '/data/\udcff'", "NUL \x00 byte"]
)
def test_a_case_that_breaks_is_a_record_and_the_rest_go_on(bench, text):
    run = bench([Work("a", breaks=RuntimeError(text)), Work("b")])
    first, second = run.records
    assert (first.status, second.status) == ("failed", "ok")
    assert str(first.reason).startswith("RuntimeError")
    assert "\n" not in str(first.reason)
    assert run.problems == ()


def test_a_case_that_ends_its_process_costs_itself_alone(bench):
    works = [Work("a"), Work("b", breaks=SEGFAULT), Work("c"), Work("d", group="2"), Work("e", group="2")]
    run = bench(works)
    assert [record.status for record in run.records] == ["ok", "failed", "ok", "ok", "ok"]
    assert str(run.records[1].reason) == "its process ended while it was measured: signal SIGSEGV"
    assert run.finished
    ended = "simulated: its process ended early: signal SIGSEGV; another one measured"
    group = "3 cases of its group one by one, so a ratio of two of them isn't taken in turn"
    assert list(map(str, run.problems)) == [f"{ended} {group}", f"{ended} the rest"]
    alone = [str(warning) for warning in run.records[2].warnings]
    assert alone == [
        "measured by itself, not in turn with its group, since a process that measured the group ended early"
    ]
    assert not run.records[3].warnings
    assert len(bench.jobs) == 3  # in its group, alone, and what was left after it


def test_after_a_death_only_its_group_is_measured_case_by_case(bench):
    works = [Work("a"), Work("b", breaks=SEGFAULT), Work("c"), Work("d", group="2"), Work("e", group="2")]
    a, _, c, d, e = bench(works).records
    assert d.group == e.group == "2"
    assert len({a.group, c.group, d.group}) == 3


def test_an_observer_is_told_of_a_lost_case(bench):
    watcher = Watcher()
    bench([Work("a", breaks=SEGFAULT)], observer=watcher)
    assert watcher.seen[1:] == [
        ("start", *ids("a"), 0),
        ("finish", *ids("a"), 1),
        ("stop", "simulated", "signal SIGSEGV", False),
    ]


def test_a_lost_case_has_the_rating_of_the_run(bench):
    (record,) = bench([Work("a", breaks=SEGFAULT)], nominal={"fp32": 8.0}).records
    assert (record.status, record.nominal_tflops) == ("failed", 8.0)


def test_cases_that_all_end_their_process_come_to_an_end(bench):
    run = bench([Work(shape, breaks=SEGFAULT) for shape in "abcdef"])
    assert [record.status for record in run.records] == ["failed"] * 6
    assert run.finished
    assert len(bench.jobs) == 1 + 4 + 1 + 2  # two groups: each together once, then each case by itself


def hang(shape=None):
    """How a simulated process ends that hung while this case was in hand, by its note."""
    end = SystemExit(-15)
    end.missed = Missed(60.0, None if shape is None else ids(shape)[0])
    return end


HUNG = "no sign of life for 1.0 min: its driver, a kernel or a library hangs"


def test_a_case_that_hangs_costs_itself_and_a_process(bench):
    works = [Work("a"), Work("b", breaks=hang("b")), Work("c"), Work("d", group="2")]
    watcher = Watcher()
    run = bench(works, observer=watcher)
    assert [record.status for record in run.records] == ["ok", "failed", "ok", "ok"]
    assert str(run.records[1].reason).startswith(f"its process ended while it was measured: {HUNG}")
    assert run.records[0].group == run.records[2].group  # what is left of the group is measured in turn
    assert len(bench.jobs) == 2
    (stopped,) = [seen for seen in watcher.seen if seen[0] == "stop"]
    assert stopped[1] == "simulated"
    assert stopped[2].startswith(HUNG)
    assert stopped[3] is True


def test_a_hang_is_told_of_in_the_manifest_and_by_whoever_reads_the_run(bench):
    run = read_run(bench([Work("a", breaks=hang("a")), Work("b")]).folder)
    assert run.finished
    assert run.manifest.incidents == run.problems
    (told,) = map(str, run.problems)
    assert told.startswith(f"simulated: its process hung: {HUNG}")
    assert told in run.manifest.as_json()["incidents"]


@pytest.mark.parametrize("in_hand", [None, "elsewhere"])
def test_a_hang_of_no_known_case_costs_its_group(bench, in_hand):
    run = bench([Work("a"), Work("b", breaks=hang(in_hand)), Work("c", group="2")])
    assert [record.status for record in run.records] == ["failed", "failed", "ok"]
    assert len(bench.jobs) == 2


def test_a_group_that_hangs_again_is_not_started_a_third_time(bench):
    works = [Work(shape, breaks=hang(shape)) for shape in "abc"]
    run = bench([*works, Work("d", group="2")])
    assert [record.status for record in run.records] == ["failed"] * 3 + ["ok"]
    assert len(bench.jobs) == 3


def test_a_device_that_keeps_hanging_is_given_up(bench):
    run = bench([Work(shape, group=shape, breaks=hang(shape)) for shape in "abcdef"])
    assert [record.case for record in run.records] == ids("a", "b", "c")
    assert len(bench.jobs) == 3
    assert str(run.problems[-1]).startswith(
        f"simulated: its process ended early 3 times, the last one: {HUNG}"
    )


def test_a_device_that_hangs_costs_no_other(bench):
    devices = [Simulated("one"), Simulated("two")]
    devices[1].deadly, devices[1].death = "a", hang("a")
    run = bench([Work("a"), Work("b", group="2")], device=devices)
    assert [(record.device, record.status) for record in run.records] == [
        ("one", "ok"),
        ("one", "ok"),
        ("two", "failed"),
        ("two", "ok"),
    ]


def test_every_step_says_what_is_in_hand_and_how_long_it_may_take(bench, monkeypatch):
    told = []
    monkeypatch.setattr(nameplate.run.worker, "StepNotes", lambda note, grace_s: Notes(told))
    bench([Work("a", piloted=True, launch_s=0.5), Work("b", launch_s=1e-3)])
    assert told[0] == ("group", tuple(ids("a", "b")), pytest.approx(180.0, abs=1.0))
    a, b = ids("a", "b")
    assert {case for kind, case, _ in told if kind == "step"} == {a, b, None}
    predicted = max(seconds for kind, case, seconds in told if (kind, case) == ("step", a))
    assert predicted >= 2 * 0.5


class Notes:
    """In place of StepNotes: writes down what it is told."""

    def __init__(self, told):
        self.told = told

    def begin_group(self, cases, limit_s):
        self.told.append(("group", tuple(cases), limit_s))

    def __call__(self, case, expected_s):
        self.told.append(("step", case, expected_s))


def test_a_second_process_cannot_claim_a_run_that_had_an_incident(bench, tmp_path):
    run = bench([Work("a")])
    with claim(run.folder) as held:
        held.add_incident(message("device_died", device="x", how="y"))
        with pytest.raises(InputError, match="measured by another process"), claim(run.folder):
            pass
    with claim(run.folder):
        assert list(map(str, read_run(run.folder).problems)) == ["x: its process ended early: y"]


def test_a_lost_context_names_the_xid_errors_that_the_driver_reported(bench):
    device = Simulated()
    plain = device.counters

    def counters():
        xids = (79, 79, 31) if device.broken else ()
        reading = GpuReading(at_s=device.clock(), xid_errors=xids)
        return replace(plain(), gpu=reading)

    device.counters = counters
    run = bench([Work("a"), Work("b", breaks_context=True)], device=device)
    reason = str(run.records[1].reason)
    assert reason.startswith("RuntimeError: CUDA error: an illegal memory access was encountered; the driver")
    assert "has reported Xid 79, 31 since the GPU was opened" in reason


@pytest.mark.parametrize("how", ["breaks_context", "breaks_at_the_end"])
def test_a_case_that_breaks_its_gpus_context_costs_itself_and_a_process(bench, how):
    works = [Work("a"), Work("b", **{how: True}), Work("c"), Work("d", group="2")]
    run = bench(works)
    assert [record.status for record in run.records] == ["ok", "failed", "ok", "ok"]
    assert str(run.records[1].reason) == (
        "RuntimeError: CUDA error: an illegal memory access was encountered; after it the GPU gave no right "
        "result in this process any more, so another one went on"
    )
    assert run.records[0].group == run.records[2].group  # measured in turn, in the other process
    assert len(bench.jobs) == 2
    assert run.finished
    assert run.problems == ()


def test_an_error_that_leaves_the_context_as_it_was_costs_no_process(bench):
    run = bench([Work("a"), Work("b", breaks=RuntimeError("CUDA out of memory")), Work("c")])
    assert [record.status for record in run.records] == ["ok", "failed", "ok"]
    assert len(bench.jobs) == 1


def test_a_device_whose_context_every_case_breaks_comes_to_an_end(bench):
    run = bench([Work(str(number), breaks_context=True) for number in range(12)])
    assert [record.status for record in run.records] == ["failed"] * 9
    assert len(bench.jobs) == 9
    assert "its process ended early 9 times, the last one: exit status 69" in str(run.problems[0])


@pytest.mark.parametrize("start", [1, 2])
def test_a_process_that_dies_before_it_begins_leaves_cases_missing_and_says_why(bench, start):
    works = [Work("a", group="1"), Work("b", breaks=SEGFAULT), Work("c")]
    run = bench(works, dies_early_at_start=start)
    assert [record.case for record in run.records] == (ids("a") if start == 2 else [])
    assert [each.case for each in run.missing] == ids("a", "b", "c")[len(run.records) :]
    often = "" if start == 1 else " 2 times, the last one"
    assert len(run.problems) == start
    assert str(run.problems[-1]) == f"simulated: its process ended early{often}: signal SIGKILL"
    assert read_run(run.folder).problems == run.problems  # whoever reads the run later is told too
    assert not run.finished
    assert len(bench.jobs) == start


def test_each_device_has_its_own_cases_and_one_that_dies_costs_no_other(bench):
    devices = [Simulated("one"), Simulated("two")]
    devices[1].deadly = "b"
    run = bench([Work("a"), Work("b")], device=devices)
    assert [(record.device, record.status) for record in run.records] == [
        ("one", "ok"),
        ("one", "ok"),
        ("two", "ok"),
        ("two", "failed"),
    ]
    assert run.finished
    assert [entry.name for entry in run.manifest.devices] == ["one", "two"]


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes so many records and no more."""

    def prepare(room):
        append, appended = RecordWriter.append, count()

        def refusing(writer, record):
            if next(appended) >= room:
                raise RunIncomplete("can't write the record; the records before it are kept")
            append(writer, record)

        monkeypatch.setattr(RecordWriter, "append", refusing)

    return prepare


def test_a_process_that_can_write_nothing_at_all_is_an_error_and_leaves_no_run(bench, full_disk, tmp_path):
    full_disk(room=0)
    with pytest.raises(RunIncomplete, match=r"^can't write the record; the records before it are kept$"):
        bench([Work("a")])
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_can_write_no_more_leaves_what_it_wrote_and_its_sentence(bench, full_disk):
    full_disk(room=1)
    run = bench([Work("a"), Work("b")])
    assert [record.case for record in run.records] == ids("a")
    assert list(map(str, run.problems)) == [
        "simulated: can't write the record; the records before it are kept"
    ]
    assert len(bench.jobs) == 1


SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")


@pytest.mark.parametrize(
    ("given", "within"),
    [
        ({}, {"GOMP_SPINCOUNT": "10000", "OPENBLAS_NUM_THREADS": "1"}),
        (
            {"GOMP_SPINCOUNT": "5", "OPENBLAS_NUM_THREADS": "2"},
            {"GOMP_SPINCOUNT": "5", "OPENBLAS_NUM_THREADS": "2"},
        ),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active", "OPENBLAS_NUM_THREADS": "1"}),
    ],
    ids=["chosen", "the user's own", "the user's by another name"],
)
def test_settings_of_threads_are_chosen_for_a_run_and_put_back(bench, monkeypatch, given, within):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before, seen = dict(os.environ), {}

    class Look(Watcher):
        def run_started(self, *_):
            seen.update((name, os.environ[name]) for name in SETTINGS if name in os.environ)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench([Work("a")], observer=Look())
    assert seen == within
    assert dict(os.environ) == before


def test_an_interrupt_loses_no_more_than_the_group_in_progress(broken_off):
    folder, _ = broken_off
    run = read_run(folder)
    assert [record.case for record in run.records] == ids("a", "b")
    assert [each.case for each in run.missing] == ids("c", "d", "e")
    assert not run.finished
    assert run.problems == ()


def test_resume_measures_what_is_missing_and_nothing_else(broken_off):
    folder, go_on = broken_off
    before = read_run(folder)
    device = Simulated()
    run = go_on(device)
    assert set(device.launched) == set("cde")
    assert [record.case for record in run.records] == ids(*"abcde")
    assert run.records[:2] == before.records
    assert run.manifest == before.manifest
    assert run.finished


def test_a_resumed_run_has_the_groups_of_a_whole_one(bench, broken_off):
    """Records that share a group's name are taken to have been measured in turn."""
    _, go_on = broken_off
    whole = bench(three_groups())
    assert [record.group for record in go_on().records] == [record.group for record in whole.records]


@pytest.mark.parametrize("lost", ["a", "b"])
def test_what_is_left_of_a_group_is_not_said_to_have_been_measured_with_it(bench, lost):
    """A machine may die between two lines of one group."""
    whole = bench(pair := [Work("a"), Work("b")])
    (path,) = whole.folder.glob("records-*.jsonl")
    kept = [line for line in path.read_text().splitlines(keepends=True) if f"fp32/{lost}/" not in line]
    path.write_text("".join(kept))
    (whole.folder / "DONE").unlink()
    first, second = bench(pair, resume=str(whole.folder)).records
    assert first.group != second.group


def test_resume_keeps_the_nominal_that_was_given(broken_off):
    _, go_on = broken_off
    assert [record.nominal_tflops for record in go_on().records] == [8.0] * 5


def test_resume_tells_the_observer_of_the_rest_alone(broken_off):
    _, go_on = broken_off
    watcher = Watcher()
    go_on(observer=watcher)
    assert watcher.seen[0][-1] == 3
    assert [seen[1:-1] for seen in watcher.seen if seen[0] == "start"] == [
        tuple(ids("c", "d")),
        tuple(ids("e")),
    ]


def test_resume_of_a_finished_run_opens_no_device_and_changes_no_file(broken_off, monkeypatch):
    folder, go_on = broken_off
    done = go_on()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    device = Simulated()
    again = go_on(device)
    assert again == done
    assert device.launched == []
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before


def test_resume_of_a_run_that_only_lacks_its_mark_sets_it(broken_off):
    folder, go_on = broken_off
    go_on()
    (folder / "DONE").unlink()
    assert go_on().finished


def test_resume_by_id_and_with_its_own_suite_named(broken_off, bench):
    folder, _ = broken_off
    run = bench(three_groups(), resume=folder.name, suite="fake")
    assert run.finished


def test_resume_with_another_budget_spends_that(broken_off):
    _, go_on = broken_off
    watcher = Watcher()
    go_on(budget=7.0, observer=watcher)
    assert watcher.seen[0][2] == 7.0


def refused(go_on, **arguments):
    with pytest.raises(InputError) as caught:
        go_on(**arguments)
    return str(caught.value)


def test_resume_on_another_device_of_that_name_is_refused(broken_off):
    folder, go_on = broken_off
    before = sorted(folder.iterdir())
    other = Simulated()
    other.identity = SimulatedIdentity(name="another")
    sentence = refused(go_on, device=other)
    assert sentence.startswith(
        f"{folder}: this isn't the device the run was begun on; got 'simulated (another)'"
    )
    assert "expected simulated" in sentence
    assert sorted(folder.iterdir()) == before


def test_resume_on_a_device_that_the_run_does_not_have_is_refused(broken_off, simulate):
    folder, _ = broken_off
    jobs = simulate(Simulated("another"))
    with pytest.raises(InputError, match=r"this isn't the device the run was begun on; got 'another"):
        measure(resume=str(folder), device="another")
    assert jobs == []


def test_resume_with_another_torch_is_refused(broken_off, monkeypatch):
    folder, go_on = broken_off
    then = read_run(folder).manifest.software["torch"]
    monkeypatch.setattr(nameplate.run.job, "version", lambda package: "1.0")
    assert refused(go_on) == f"the run was begun with another torch; got '1.0'; expected {then}"


def test_resume_of_another_suite_is_refused(broken_off):
    _, go_on = broken_off
    assert (
        refused(go_on, suite="quick") == "--resume: the run is of another suite; got 'quick'; expected fake"
    )


def test_resume_by_another_method_is_refused(broken_off, monkeypatch):
    folder, go_on = broken_off
    monkeypatch.setattr(nameplate.run.measure, "METHOD", 99)
    assert refused(go_on) == f"{folder}: the run was measured by another method; got {METHOD}; expected 99"


def test_resume_with_a_suite_that_lost_a_case_is_refused(broken_off, bench):
    folder, _ = broken_off
    with pytest.raises(
        InputError, match=re.escape(f"suite fake no longer has the case; got {ids('d')[0]!r}")
    ):
        bench([work for work in three_groups() if work.shape != "d"], resume=str(folder))


def test_resume_of_what_is_no_run_is_refused(bench):
    with pytest.raises(InputError, match=r"no such run; got 'nothing'; expected a run folder, or the id"):
        bench([Work("a")], resume="nothing")


@pytest.mark.parametrize("flag", [{"only": "*/c/*"}, {"nominal": {"fp32": 5.0}}])
def test_resume_refuses_a_flag_that_it_would_not_follow(broken_off, flag):
    _, go_on = broken_off
    assert "--resume" in refused(go_on, **flag)


def test_a_resumed_run_has_one_nominal(bench, tmp_path):
    """A measured clock differs a little from one start to the next, and nominal with it."""
    with pytest.raises(KeyboardInterrupt):
        bench(three_groups(interrupted="e"), device=Simulated(nominal_tflops=4.0))
    (folder,) = tmp_path.iterdir()
    run = bench(three_groups(), device=Simulated(nominal_tflops=4.04), resume=str(folder))
    assert len({record.nominal_tflops for record in run.records}) == 1


def unread_pipe():
    """A pipe that takes nothing more and that nobody reads: a pager at its first page, a held terminal."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return os.fdopen(writing, "w", encoding="utf-8"), reading


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8"), None


def full_device():
    return open("/dev/full", "w", encoding="utf-8"), None


@pytest.mark.parametrize("stream", [closed_pipe, full_device, unread_pipe])
def test_a_standard_error_that_takes_nothing_stops_no_run(bench, monkeypatch, stream):
    standard_error, reading = stream()
    monkeypatch.setattr(sys, "stderr", standard_error)
    monkeypatch.setattr(progress, "_LAST_LINES_S", 0.1)
    with LiveProgress() as live:
        run = bench([Work(shape) for shape in "abc"], observer=live)
    assert run.finished
    assert [record.status for record in run.records] == ["ok"] * 3
    assert live.folder == run.folder
    if reading is not None:
        os.close(reading)  # whoever still writes is let go
    with contextlib.suppress(OSError):
        standard_error.close()


def test_an_observer_that_raises_is_told_nothing_more_and_the_run_goes_on(bench):
    class Broken(Watcher):
        def case_finished(self, record):
            super().case_finished(record)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher = Broken()
    with pytest.warns(RuntimeWarning, match="raised OSError.*No space left.*the run goes on"):
        run = bench([Work("a", group="a"), Work("b", group="b")], observer=watcher)
    assert run.finished
    assert [kind for kind, *_ in watcher.seen] == ["run", "start", "finish"]


def test_a_stop_costs_what_was_in_hand_which_is_drawn_anew_and_in_turn(bench):
    """A process that was stopped and continued ends; so do all where the whole run was (`test_pool`)."""

    class StoppedOnce(Simulated):
        def time_batch(self, launches, **how):
            if launches[0].work.shape == "c" and not self.stops:
                self.stops += 1
                raise SystemExit(WorkerStatus.STOPPED)
            return super().time_batch(launches, **how)

    device = StoppedOnce()
    device.stops = 0
    run = bench([Work("a", group="1"), Work("b", group="2"), Work("c", group="2")], device=device)
    assert [record.status for record in run.records] == ["ok"] * 3
    assert run.records[1].group == run.records[2].group
    assert run.manifest.incidents == (message("process_paused", device="simulated"),)
    assert len(bench.jobs) == 2


def remove_folder(folder):
    shutil.rmtree(folder)


def remove_manifest(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("remove", [remove_folder, remove_manifest])
@pytest.mark.parametrize("after", ["a", "c"])
def test_a_run_that_is_removed_while_it_is_measured_is_told_and_written_elsewhere(
    bench, tmp_path, monkeypatch, remove, after
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    class Remove(Watcher):
        def group_started(self, cases):
            pass

        def case_finished(self, record):
            if record.shape == after:
                remove(self.folder)

    works = [Work(shape, group=shape) for shape in "abc"]
    with pytest.raises(RunIncomplete, match="were written to another folder: bench run --resume ") as told:
        bench(works, observer=Remove())
    (found,) = elsewhere.glob("*/*/")
    assert str(told.value).endswith(f" {found}")
    saved = read_run(found)
    assert [record.case for record in saved.records] == ids(*("a" if after == "a" else "abc"))
    assert saved.finished == (after == "c")
    assert bench(works, resume=str(found)).finished


def test_a_record_that_a_full_disk_refuses_is_written_elsewhere(bench, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    write = RecordWriter.write

    def refuse(writer, record):
        if record.shape == "b" and not str(writer._file.name).startswith(str(elsewhere)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, record)

    monkeypatch.setattr(RecordWriter, "write", refuse)
    with pytest.raises(RunIncomplete, match="all 2 records were written to another folder"):
        bench([Work(shape, group=shape) for shape in "abc"])
    (found,) = elsewhere.glob("*/*/")
    assert [record.case for record in read_run(found).records] == ids("a", "b")


def test_telemetry_that_ended_while_a_case_was_measured_is_a_warning_of_it(bench):
    device = Simulated()
    device.telemetry_lost = message("watcher_ended", name="the host sampler", status=-9)
    run = bench([Work("a"), Work("b", breaks=RuntimeError("x"))], device=device)
    (warning,) = map(str, run.records[0].warnings)
    assert warning.startswith(
        "telemetry ended while the device was measured (the host sampler's process ended (exit status -9)): "
    )
    assert not run.records[1].warnings
