"""A run that was interrupted goes on: what is missing is measured, and nothing else."""

from __future__ import annotations

import re

import pytest

import nameplate.run.job
import nameplate.run.measure
import nameplate.run.worker
import nameplate.suite
from nameplate.base.errors import InputError
from nameplate.device.identity import SimulatedIdentity
from nameplate.record import METHOD
from nameplate.run.measure import measure
from nameplate.store.folder import read_run
from simulated_runs import Simulated, Watcher, Work, ids, three_groups


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


def test_a_resumed_run_has_the_groups_of_a_whole_one(execute, broken_off):
    """Records that share a group's name are taken to have been measured in turn."""
    _, go_on = broken_off
    whole = execute(three_groups())
    assert [record.group for record in go_on().records] == [record.group for record in whole.records]


@pytest.mark.parametrize("lost", ["a", "b"])
def test_what_is_left_of_a_group_is_not_said_to_have_been_measured_with_it(execute, lost):
    """A machine may die between two lines of one group."""
    whole = execute(pair := [Work("a"), Work("b")])
    (path,) = whole.folder.glob("records-*.jsonl")
    kept = [line for line in path.read_text().splitlines(keepends=True) if f"fp32/{lost}/" not in line]
    path.write_text("".join(kept))
    (whole.folder / "DONE").unlink()
    first, second = execute(pair, resume=str(whole.folder)).records
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


def test_resume_by_id_and_with_its_own_suite_named(broken_off, execute):
    folder, _ = broken_off
    run = execute(three_groups(), resume=folder.name, suite="fake")
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


def test_resume_with_a_suite_that_lost_a_case_is_refused(broken_off, execute):
    folder, _ = broken_off
    with pytest.raises(
        InputError, match=re.escape(f"suite fake no longer has the case; got {ids('d')[0]!r}")
    ):
        execute([work for work in three_groups() if work.shape != "d"], resume=str(folder))


def test_resume_of_what_is_no_run_is_refused(execute):
    with pytest.raises(InputError, match=r"no such run; got 'nothing'; expected a run folder, or the id"):
        execute([Work("a")], resume="nothing")


@pytest.mark.parametrize("flag", [{"only": "*/c/*"}, {"nominal": {"fp32": 5.0}}])
def test_resume_refuses_a_flag_that_it_would_not_follow(broken_off, flag):
    _, go_on = broken_off
    assert "--resume" in refused(go_on, **flag)


def test_a_resumed_run_has_one_nominal(execute, tmp_path):
    """A measured clock differs a little from one start to the next, and nominal with it."""
    with pytest.raises(KeyboardInterrupt):
        execute(three_groups(interrupted="e"), device=Simulated(nominal_tflops=4.0))
    (folder,) = tmp_path.iterdir()
    run = execute(three_groups(), device=Simulated(nominal_tflops=4.04), resume=str(folder))
    assert len({record.nominal_tflops for record in run.records}) == 1
