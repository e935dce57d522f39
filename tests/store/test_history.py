"""Which earlier runs a run takes its history from, and what it reads of them."""

from __future__ import annotations

import json
import math

import pytest

from nameplate.record import METHOD, Spread
from nameplate.store.history import MOST_RUNS, find_earlier_runs, read_earlier

VALUES = (0.0052, 0.0054, 0.0055)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def store_earlier(store_run, make_record, results):
    """A finished run of one record, so many minutes before noon; returns its folder."""

    def store(minutes=1, *, record=(), done=True, suite="fake", **manifest):
        stamp = f"20261122T{11:02d}{60 - minutes:02d}00"
        time_s = sum(VALUES) / len(VALUES)
        spreads = {"time_s": Spread(by_process=VALUES)}
        fields = {"processes": 3, "interval_kind": "run_to_run", "spreads": spreads, "time_s": time_s}
        made = make_record(**fields | dict(record))
        created = f"2026-11-22T11:{60 - minutes:02d}:00+00:00"
        about = {"run": f"{stamp}-{suite}-0001", "created": created, "suite": suite}
        return store_run(results, made, done=done, **about | manifest)

    return store


@pytest.fixture
def find(results, make_manifest):
    """The ids that a new run of that budget would name."""

    def found(budget_s=60.0, **changes):
        return find_earlier_runs(results, make_manifest(**changes), budget_s, 60.0)

    return found


def read(results, runs, make_manifest):
    (entry,) = make_manifest().devices
    return read_earlier(results, runs, entry)


def test_the_newest_runs_come_first_and_no_more_than_twenty(store_earlier, find):
    for minutes in range(1, MOST_RUNS + 3):
        store_earlier(minutes)
    found = find()
    assert len(found) == MOST_RUNS
    assert found[0].startswith("20261122T115900")
    assert list(found) == sorted(found, reverse=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": "other"},
        {"done": False},
        {"published": True},
        {"method": METHOD - 1},
        {"software": {"torch": "2.12.0"}},
        {"options": {"budget_s": 10.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_runs_that_are_not_alike_are_left_out(store_earlier, find, changes):
    store_earlier(1, **changes)
    assert find() == ()
    kept = store_earlier(2)
    assert find() == (kept.name,)


def test_another_device_is_left_out(store_earlier, make_manifest, find):
    (entry,) = make_manifest().devices
    identity = entry.identity.model_copy(update={"name": "another"})
    store_earlier(1, devices=(entry.model_copy(update={"identity": identity}),))
    assert find() == ()


def test_half_and_twice_the_budget_are_of_one_class(store_earlier, find):
    store_earlier(1)  # with the suite's own 60 s
    assert len(find(30.0)) == len(find(120.0)) == 1
    assert find(29.0) == find(121.0) == ()


def test_corrupt_runs_are_passed_over(store_earlier, find, results):
    for minutes, damage in enumerate((b"", b"{", b"[1]", b'{"schema_version": 5}'), 1):
        (store_earlier(minutes) / "manifest.json").write_bytes(damage)
    (results / "20261122T120000-fake-file").write_text("no folder")
    kept = store_earlier(9)
    assert find() == (kept.name,)


def test_no_folder_has_no_earlier_runs(find):
    assert find() == ()


def test_a_run_says_its_mean_and_the_spread_of_its_processes(store_earlier, results, make_manifest):
    folder = store_earlier()
    found = read(results, [folder.name], make_manifest)
    ((key, (run,)),) = found.items()
    assert key == ("matmul/bf16/1024x1024x1024/normal/warm/-/torch", "time_s")
    assert run.log_mean == pytest.approx(math.log(sum(VALUES) / 3 / (2 * 1024**3)))  # a FLOP
    assert (run.processes, run.scatter.freedom) == (3, 2)
    assert run.scatter.deviation == pytest.approx(0.028, rel=0.05)


def test_the_best_product_of_another_shape_took_as_long_for_the_same_work(
    store_earlier, results, make_manifest
):
    """Each search may find another shape, and one of eight times the FLOPs isn't an outlier of 100 %."""
    shapes = [{}, {"flops": 8 * 2 * 1024**3, "time_s": 8 * sum(VALUES) / 3}]
    folders = [store_earlier(minutes, record=each) for minutes, each in enumerate(shapes, 1)]
    (runs,) = read(results, [each.name for each in folders], make_manifest).values()
    assert runs[0].log_mean == pytest.approx(runs[1].log_mean)


@pytest.mark.parametrize(
    "change",
    [
        {"verdicts": ["unverified"], "verdict": "unverified"},
        {"status": "failed"},
        {"method": METHOD - 1},
        {"time_s": -1.0},
        {"time_s": "x"},
        {"time_s": 10**400},
        {"spreads": {"time_s": {"by_process": []}}},
        {"spreads": {"time_s": {"by_process": [-1.0]}}},
        {"spreads": 7},
    ],
    ids=lambda change: str(change)[:60],
)
def test_lines_that_say_nothing_of_the_machine_are_passed_over(store_earlier, results, make_manifest, change):
    folder = store_earlier()
    (path,) = folder.glob("records-*.jsonl")
    good = json.loads(path.read_text())
    path.write_text("{\n" + json.dumps(good | change) + "\n" + json.dumps(good)[:40])
    assert read(results, [folder.name], make_manifest) == {}


def test_a_run_that_is_gone_is_passed_over(results, make_manifest):
    assert read(results, ["20261122T110000-fake-gone"], make_manifest) == {}
