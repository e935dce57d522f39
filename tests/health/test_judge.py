"""What is said of the devices of a run: by their errors, their rating, their siblings, their own past."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from nameplate.base.messages import message, text
from nameplate.device.identity import CpuIdentity
from nameplate.health.advice import _BY_CODE, advise
from nameplate.health.faults import _FAULTS
from nameplate.health.judge import judge_node, judge_run
from nameplate.health.past import find_past
from nameplate.health.thresholds import health_thresholds
from nameplate.health.verdict import DeviceHealth, Statement, gravest
from nameplate.record import Spread, Verification
from nameplate.store.folder import read_run
from nameplate.store.manifest import DeviceEntry, Expected
from nodes import COPY, COUNTED, PRODUCT, RATED, h100_entry, h100_fields


@pytest.fixture
def record_of(make_record):
    """A record of a product, or of a copy, at a share of an H100's rating."""

    def make(device, share, case=PRODUCT, **changes):
        return make_record(**h100_fields(device, share, case) | changes)

    return make


@pytest.fixture
def node(make_run):
    """A run of H100s with these records; what else befell it is in `problems`."""

    def make(records, count=8, problems=(), identity=None, **changes):
        devices = tuple(h100_entry(number, **identity or {}) for number in range(count))
        expected = tuple(Expected(case=each.case, device=each.device) for each in records)
        run = make_run(problems=problems, devices=devices, **changes)
        manifest = run.manifest.model_copy(update={"cases": expected})
        return type(run)(run.folder, manifest, tuple(records), run.problems, True)

    return make


def shares(count=8, mean=0.72, seed=5):
    return mean * np.exp(np.random.default_rng(seed).normal(0, 0.0135, count))


def said(health, way):
    statement = health.statement(way)
    return statement.verdict, [each.code for each in statement.reasons]


def test_a_node_of_which_one_is_slow_one_hot_and_one_lost(node, record_of):
    share_N = shares()
    share_N[2] *= 0.8
    share_N[4] *= 0.5
    hot = {
        "verdict": "throttled",
        "verdicts": ("throttled",),
        "warnings": (message("clock_held_by_thermal", share=0.4),),
    }
    lost = {"status": "failed", "reason": message("context_lost_with_xid", error="lost", xids="79")}
    records = [record_of(f"cuda:{n}", share_N[n], **(hot if n == 4 else {})) for n in range(8) if n != 6]
    records += [record_of(f"cuda:{n}", 0.9, COPY) for n in range(8) if n != 6]
    run = node([*records, _failed(record_of, "cuda:6", lost)])
    found = judge_run(run)
    verdicts = {each.device: each.verdict for each in found}
    assert verdicts.pop("cuda:2") == "unfit"
    assert verdicts.pop("cuda:4") == "unfit"
    assert verdicts.pop("cuda:6") == "unfit"
    assert set(verdicts.values()) == {"fit"}
    assert said(found[2], "errors") == ("fit", ["health_no_faults"])
    assert said(found[2], "siblings") == ("unfit", ["health_below_siblings"])
    assert said(found[2], "rating") == ("degraded", ["health_below_published"])
    assert said(found[4], "errors") == ("unfit", ["clock_held_by_thermal"])
    assert said(found[6], "errors") == ("unfit", ["health_case_failed"])
    assert "Xid 79" in str(found[6].reasons[0])
    drop = found[2].reasons[0].values["drop"]
    assert drop == pytest.approx(0.2, abs=0.03)
    assert "twice" in str(advise(found[2])[0])
    assert advise(found[0]) == ()
    whole = judge_node([run], found, 8)
    assert (whole.verdict, whole.reasons) == ("unfit", ())
    document = whole.as_json()
    assert [each["verdict"] for each in document["devices"]] == [each.verdict for each in found]
    assert document["devices"][2]["reason_codes"] == ["health_below_siblings"]
    assert document["devices"][2]["uuid"] == "GPU-0002"
    assert document["devices"][2]["host"] == run.manifest.hostname


def _failed(record_of, device, why):
    made = record_of(device, 0.7)
    kept = {name: getattr(made, name) for name in ("case", "workload", "dtype", "shape", "dimensions")}
    more = {name: getattr(made, name) for name in ("fill", "cache", "phase", "backend", "represents", "part")}
    fields = {"device": device, "verdict": "unknown", "verdicts": ("unknown",)}
    return type(made)(**(kept | more | fields | why))


def test_nothing_known_is_unknown_and_never_fit(node, record_of):
    (alone,) = judge_run(node([record_of("cuda:0", 0.72)], count=1), references=())
    assert alone.verdict == "unknown"
    assert {each.way: each.verdict for each in alone.statements} == {
        "errors": "fit",
        "rating": "unknown",
        "siblings": "unknown",
        "past": "unknown",
    }
    assert {each.code for each in alone.reasons} == {
        "health_no_published",
        "health_no_siblings",
        "health_no_past",
    }
    # With a published figure it is fit; where no error counter can be read, it isn't known to be.
    (rated,) = judge_run(node([record_of("cuda:0", 0.72)], count=1))
    assert (rated.verdict, said(rated, "rating")) == ("fit", ("fit", ["health_near_published"]))
    (unread,) = judge_run(node([record_of("cuda:0", 0.72, conditions={"elapsed_s": 9.0})], count=1))
    assert (unread.verdict, said(unread, "errors")) == ("unknown", ("unknown", ["health_errors_unread"]))
    (nothing,) = judge_run(node([], count=1))
    assert nothing.verdict == "unknown"


@pytest.mark.parametrize(
    ("share", "references", "verdict"),
    [
        (0.72, None, "fit"),
        (0.57, None, "degraded"),  # 0.738 is the settled one published: 0.605 is 0.82 of it
        (0.25, None, "unfit"),  # three times too slow
        (0.25, (), "unfit"),  # … of a part that nothing was published for
        (0.60, (), "unknown"),
    ],
)
def test_a_card_is_held_to_its_rating_also_alone(node, record_of, share, references, verdict):
    (found,) = judge_run(node([record_of("cuda:0", share)], count=1), references)
    assert found.statement("rating").verdict == verdict


def test_memory_is_held_to_its_rated_bandwidth(node, record_of):
    for share, verdict in ((0.92, "fit"), (0.7, "degraded"), (0.4, "unfit")):
        (found,) = judge_run(node([record_of("cuda:0", share, COPY)], count=1))
        assert found.statement("rating").verdict == verdict


def test_figures_that_others_disturbed_or_that_are_too_wide_accuse_nobody(node, record_of):
    contended = {"verdict": "contended", "verdicts": ("contended",)}
    records = [record_of(f"cuda:{n}", share, **contended) for n, share in enumerate(shares())]
    records[3] = record_of("cuda:3", 0.2, **contended)
    found = judge_run(node(records))
    assert {each.verdict for each in found} == {"unknown"}
    assert said(found[3], "siblings") == ("unknown", ["health_no_figure"])
    wide = {"tflops_low": 0.5 * 0.6 * RATED, "tflops_high": 1.5 * 0.6 * RATED}
    wide |= {"efficiency_low": 0.3, "efficiency_high": 0.9}
    (found,) = judge_run(node([record_of("cuda:0", 0.6, **wide)], count=1))
    assert said(found, "rating") == ("unknown", ["health_imprecise"])


def test_a_device_is_held_to_its_own_past(node, record_of):
    # All eight cards are 6 % slower than they were: neither the rating nor the siblings show it.
    records = [record_of(f"cuda:{n}", share) for n, share in enumerate(shares())]
    rates = {each.device: -math.log(each.time_s) for each in records}
    run, rng = node(records), np.random.default_rng(6)

    def past(drop, runs=4):
        return {
            name: {PRODUCT: list(rate - math.log(1 - drop) + rng.normal(0, 0.003, runs))}
            for name, rate in rates.items()
        }

    found = judge_run(run, past=past(0.06))
    assert {each.verdict for each in found} == {"degraded"}
    assert {said(each, "siblings")[0] for each in found} == {"fit"}
    assert said(found[0], "past") == ("degraded", ["health_below_past"])
    assert found[0].reasons[0].values["drop"] == pytest.approx(0.06, abs=0.01)
    assert {each.verdict for each in judge_run(run, past=past(0.0))} == {"fit"}
    assert {each.verdict for each in judge_run(run, past=past(0.2))} == {"unfit"}
    few = judge_run(run, past=past(0.06, runs=2))
    assert said(few[0], "past") == ("unknown", ["health_no_past"])


def test_the_past_is_read_from_the_runs_that_the_manifest_names(
    store_run, make_record, tmp_path, made_up_figures
):
    """Four earlier runs of a CPU, one of them beside other work; then one 20 % slower."""
    identity = CpuIdentity(
        name="a CPU", architecture="x86_64", logical_cpus=2, usable_cores=2, memory_bytes=2**30
    )
    entry = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
    ids = [f"20261122T12{minute:02d}00-check-0001" for minute in range(6)]

    def store(number, time_s, **changes):
        spread = {"time_s": Spread(by_process=(0.999 * time_s, 1.001 * time_s))}
        told = {"time_s": time_s, "spreads": spread, "processes": 2, "interval_kind": "run_to_run"}
        return store_run(
            tmp_path,
            make_record(**told | changes),
            run=ids[number],
            suite="check",
            devices=(entry,),
            history=tuple(reversed(ids[:number])),
        )

    for number, time_s in enumerate((1.0, 1.001, 0.999, 1.0005)):
        store(number, time_s)
    store(4, 3.0, verdict="contended", verdicts=("contended",))
    run = read_run(store(5, 1.25))
    past = find_past(run)
    assert len(past["cpu"][run.records[0].case]) == 4
    (found,) = judge_run(run, past=past)
    assert (found.verdict, said(found, "past")) == ("unfit", ("unfit", ["health_below_past"]))
    assert found.reasons[0].values["drop"] == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    ("changes", "problem", "code", "verdict"),
    [
        ({"warnings": (message("xid_errors", xids="48"),)}, None, "xid_errors", "unfit"),
        ({"warnings": (message("memory_errors", count=2),)}, None, "memory_errors", "unfit"),
        ({"warnings": (message("rows_remapped", count=1),)}, None, "rows_remapped", "degraded"),
        ({}, message("device_hung", device="cuda:0", how="x"), "device_hung", "unfit"),
        ({}, message("device_refused", device="cuda:0", why="lost"), "device_refused", "unfit"),
        ({}, message("gpu_nonsense", device="cuda:0", reasons=["x"]), "gpu_nonsense", "unknown"),
        ({}, message("device_hung", device="cuda:1", how="x"), "health_no_faults", "fit"),
        ({"conditions": COUNTED | {"gpu_pcie_width_after": 8}}, None, "health_narrow_link", "degraded"),
        ({"conditions": COUNTED | {"gpu_pcie_width_after": 16}}, None, "health_no_faults", "fit"),
    ],
)
def test_faults_count_whatever_the_speed(node, record_of, changes, problem, code, verdict):
    problems = () if problem is None else (problem,)
    run = node([record_of("cuda:0", 0.72, **changes)], 1, problems=problems, identity={"max_pcie_width": 16})
    (found,) = judge_run(run)
    assert said(found, "errors") == (verdict, [code])
    assert found.verdict == verdict
    assert bool(advise(found)) == (verdict != "fit")


def test_a_wrong_result_makes_unfit(node, record_of):
    wrong = Verification(reference="fp64", error=40.0, rule="rounding", passed=False)
    told = {"verification": wrong, "verdict": "unverified", "verdicts": ("unverified",)}
    (found,) = judge_run(node([record_of("cuda:0", 0.72, **told)], 1))
    assert (found.verdict, [each.code for each in found.reasons]) == ("unfit", ["health_wrong_result"])


def test_fewer_gpus_than_expected_make_the_node_unfit(node, record_of):
    run = node([record_of(f"cuda:{n}", 0.72) for n in range(7)], 7)
    found = judge_run(run)
    assert judge_node([run], found, 7).verdict == "fit"
    whole = judge_node([run], found, 8)
    assert whole.verdict == "unfit"
    assert str(whole.reasons[0]) == "7 GPUs were found, 8 expected"


def test_the_gravest_counts_and_every_fault_has_its_advice():
    assert gravest([]) == "unknown"
    assert gravest(["fit", "degraded", "unknown"]) == "degraded"
    health = partial(DeviceHealth, "cuda:0", "node17", "a GPU", None, 0, None, True)
    fit, unknown = Statement("errors", "fit", (text("a"),)), Statement("past", "unknown", (text("b"),))
    assert health((fit, unknown)).verdict == "unknown"
    assert health((fit, unknown, Statement("rating", "fit", (text("c"),)))).verdict == "fit"
    assert health((Statement("errors", "unknown", (text("c"),)), Statement("past", "fit", ()))).verdict == (
        "unknown"
    )
    assert _FAULTS.keys() <= _BY_CODE.keys()


def test_thresholds_are_data_in_order():
    limits = health_thresholds()
    assert 0 < limits.past.least_drop < limits.siblings.least_drop < limits.unfit.drop
    assert 0 < limits.rating.unfit_unpublished < limits.rating.unfit < limits.rating.degraded < 1
    assert 0 < limits.memory.unfit < limits.memory.degraded < 1
    assert limits.alarm.level == 0.001
