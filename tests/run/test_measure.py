"""One run, from a suite and a budget to records on disk; the device is simulated, the engine is real."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

import nameplate.run.job
import nameplate.run.measure
import nameplate.run.worker
import nameplate.suite
from nameplate.base.environment import READY_VARIABLE
from nameplate.base.errors import InputError
from nameplate.fleet.price import cost
from nameplate.run.deadlines import Deadlines
from nameplate.run.measure import measure
from nameplate.specs.rating import rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.store.folder import read_run
from simulated_runs import Simulated, Watcher, Work, ids


def test_every_case_has_its_record_and_the_run_is_done(execute):
    run = execute([Work("a"), Work("b", launch_s=2e-3)])
    assert [record.case for record in run.records] == ids("a", "b")
    assert [record.status for record in run.records] == ["ok", "ok"]
    assert [record.tflops for record in run.records] == pytest.approx([2.0, 1.0], rel=1e-6)
    assert [record.efficiency for record in run.records] == pytest.approx([0.5, 0.25], rel=1e-6)
    assert run.finished
    assert run == read_run(run.folder)


def test_the_manifest_says_what_was_asked_for_and_on_what(execute):
    run = execute([Work("a")], budget=50.0, nominal={"fp32": 8.0}, only="*", seed=11)
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


def test_a_budget_is_shared_by_weight_among_groups(execute):
    heavy = [Work("b", group="2", weight=2, **NOISY), Work("c", group="2", weight=3, **NOISY)]
    run = execute([Work("a", group="1", **NOISY), *heavy], budget=60.0)
    assert cost_by_group(run) == pytest.approx([10, 50], rel=0.1)


def test_a_groups_time_is_shared_by_weight_among_its_cases(execute):
    run = execute(
        [Work("a", **NOISY), Work("b", weight=2, **NOISY), Work("c", weight=5, **NOISY)], budget=80.0
    )
    assert [record.cost_s for record in run.records] == pytest.approx([10, 20, 50], rel=0.25)


def test_what_a_group_leaves_is_shared_among_those_after_it(execute):
    steady = Work("a", group="1", weight=8)
    run = execute([steady, Work("b", group="2", **NOISY), Work("c", group="3", **NOISY)], budget=80.0)
    first, *others = cost_by_group(run)
    assert first < 32  # it stops as soon as its interval is narrow, long before its 64 s
    assert others == pytest.approx([(80 - first) / 2] * 2, rel=0.1)


def test_the_node_that_a_process_is_bound_to_before_its_device_is_opened_is_recorded(execute, monkeypatch):
    one, other = Simulated("one"), Simulated("other")
    seen = []

    def bind(identity, measured):
        seen.append((identity.name, [each.name for each in measured], len(one.launched)))
        return {"one": 1}.get(identity.name)

    monkeypatch.setattr(nameplate.run.worker, "bind_to_gpu", bind)
    run = execute([Work("a")], device=[one, other])
    assert seen[0] == ("one", ["one", "other"], 0)
    assert seen[1][:2] == ("other", ["one", "other"])
    assert {record.device: record.numa_node for record in run.records} == {"one": 1, "other": None}


@pytest.mark.parametrize(("since_s", "left_s"), [(0.0, 10.0), (8.0, 2.0)])
def test_the_budget_counts_from_when_the_run_began_to_measure(
    simulate, execute, monkeypatch, since_s, left_s
):
    """Not from the command: loading torch would take half of it. A process that replaces one has the rest."""
    # When the measuring began, and when this process begins with it.
    moments = iter([1000.0, 1000.0 + since_s])
    bench_time = SimpleNamespace(monotonic=moments.__next__)
    monkeypatch.setattr(nameplate.run.worker, "time", bench_time)
    run = execute([Work("a", **NOISY)], budget=10.0, device=Simulated("cpu"))  # by the host's clock
    assert run.records[0].cost_s == pytest.approx(left_s, rel=0.1)


def test_only_the_first_group_finds_its_device_never_at_work(execute, monkeypatch):
    """By the host's clock too, which moves between any two readings."""
    device, measure, told = Simulated(), nameplate.run.worker.measure_in_processes, []
    monkeypatch.setattr(device, "clock", lambda: device.idle(1e-6) or Simulated.clock(device))

    def watched(*arguments, **more):
        told.append(arguments[4])
        return measure(*arguments, **more)

    monkeypatch.setattr(nameplate.run.worker, "measure_in_processes", watched)
    execute([Work("a", group="a"), Work("b", group="b")], device=device, budget=20.0)
    assert told[0] == 0.0
    assert told[1] > 1.0


def test_what_does_not_fit_a_given_budget_is_skipped_with_its_reason(execute):
    device = Simulated()
    run = execute(
        [Work("a"), Work("huge", launch_s=30.0, piloted=True), Work("c")], budget=20.0, device=device
    )
    assert [record.status for record in run.records] == ["ok", "skipped", "ok"]
    reason = str(run.records[1].reason)
    assert "needs about 3.0 min" in reason  # six launches of 30 s
    assert "of the budget are left" in reason
    assert "try a larger --budget" in reason
    assert device.clock() < 20.0
    assert run.finished
    assert run.missing == ()


def test_a_budget_that_was_overrun_leaves_reasons_and_no_gaps(execute):
    device = Simulated()
    works = [Work("a", launch_s=30.0), *(Work(shape, group=shape) for shape in "bc")]
    run = execute(works, budget=5.0, device=device)
    assert [record.status for record in run.records] == ["skipped"] * 3
    assert [str(record.reason) for record in run.records[1:]] == [
        "the budget of 5.0 s was spent before this case's turn"
    ] * 2
    assert set(device.launched) == {"a"}
    assert run.finished


def test_without_a_budget_a_slow_machine_still_gets_its_figures(execute):
    slow = Work("slow", launch_s=2.5, piloted=True)  # six launches: 15 s of an aim of 10
    assert execute([slow], aim_s=10.0).records[0].status == "ok"
    assert execute([slow], aim_s=10.0, budget=10.0).records[0].status == "skipped"


def test_patience_without_a_budget_has_an_end(execute):
    run = execute([Work("slow", launch_s=30.0, piloted=True)], aim_s=10.0)
    assert run.records[0].status == "skipped"


def test_an_observer_is_told_in_order_and_only_of_what_is_on_disk(execute):
    watcher = Watcher()
    works = [Work("a"), Work("b", breaks=RuntimeError("no")), Work("c", group="last")]
    execute(works, observer=watcher, budget=30.0)
    a, b, c = ids("a", "b", "c")
    assert watcher.seen == [
        ("run", True, 30.0, 3),
        ("start", a, b, 0),
        ("finish", a, 1),
        ("finish", b, 2),
        ("start", c, 2),
        ("finish", c, 3),
    ]


def test_cases_of_a_group_were_measured_in_turn_and_their_records_say_so(execute):
    first, second, other = execute([Work("a"), Work("b"), Work("c", group="other")]).records
    assert first.group == second.group != other.group == "other"
    rounds = [{batch.round for batch in record.batches} for record in (first, second)]
    assert rounds[0] == rounds[1]


def test_only_leaves_the_rest_out_of_the_manifest(execute):
    run = execute([Work("16x16"), Work("16x32"), Work("8x8")], only="*/16x*")
    assert list(run.manifest.cases) == ids("16x16", "16x32")
    assert len(run.records) == 2


def test_only_that_matches_nothing_makes_no_run(execute, tmp_path):
    with pytest.raises(
        InputError, match=r"--only: no case of suite fake matches; got 'conv\*'; expected a glob"
    ):
        execute([Work("a")], only="conv*")
    assert list(tmp_path.iterdir()) == []


def test_a_given_nominal_reaches_the_records_and_leaves_the_datasheet(execute):
    (record,) = execute([Work("a")], nominal={"fp32": 8.0}).records
    assert (record.nominal_tflops, record.datasheet_tflops) == (8.0, 4.0)
    assert record.efficiency == pytest.approx(record.tflops / 8.0)
    assert record.datasheet_efficiency == pytest.approx(record.tflops / 4.0)
    assert "--nominal" in str(record.nominal_source)


@pytest.mark.parametrize(
    "tflops", [0.0, -1.0, float("nan"), float("inf"), 1e308, 1e31, 1.1e9, 0.9e-6, 1e-300]
)
def test_a_nominal_that_is_no_throughput_is_refused(execute, tmp_path, tflops):
    with pytest.raises(InputError, match=r"--nominal fp32: not a rating; .* TFLOPS from 1e-06 to 1e\+09"):
        execute([Work("a")], nominal={"fp32": tflops})
    assert list(tmp_path.iterdir()) == []


def test_a_sparse_figure_as_nominal_is_refused_before_anything_is_measured(execute, tmp_path):
    device = Simulated()
    device.rating = rate_evidence(Evidence("NVIDIA A800-SXM4-80GB"))
    with pytest.raises(InputError, match=r"--nominal: .*2:4 sparsity.*got 'bf16=624'; expected .*320 or 312"):
        execute([Work("a", dtype="bf16")], device=device, nominal={"bf16": 624.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["", "fp32x", "bf61"])
def test_a_nominal_for_no_dtype_of_the_run_is_refused(execute, dtype):
    with pytest.raises(InputError, match="--nominal"):
        execute([Work("a")], nominal={dtype: 8.0})


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf"), 1e308, 1.1e6, 0.9e-6, 1e-300])
def test_a_budget_that_is_no_time_is_refused(execute, tmp_path, budget):
    with pytest.raises(
        InputError, match=r"--budget: not a time to measure in; got .*; expected seconds from 1e-06 to 1e\+06"
    ):
        execute([Work("a")], budget=budget)
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
def test_settings_of_threads_are_chosen_for_a_run_and_put_back(execute, monkeypatch, given, within):
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
        execute([Work("a")], observer=Look())
    assert seen == within
    assert dict(os.environ) == before


def test_one_file_of_parts_may_be_given_by_its_name_alone(tmp_path):
    missing = str(tmp_path / "missing.toml")
    with pytest.raises(InputError, match=r"missing\.toml"):
        measure("smoke", parts=missing, results=tmp_path)
    with pytest.raises(InputError, match=r"missing\.toml"):
        cost(eflops=1.0, part="A800", parts=missing)
