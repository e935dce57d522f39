"""A case, a process, a device or a disk that ends early costs itself and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

import nameplate.run.job
import nameplate.run.measure
import nameplate.run.worker
import nameplate.suite
from nameplate.base.errors import InputError, RunIncomplete
from nameplate.base.messages import message
from nameplate.run.pool import Missed
from nameplate.store.folder import RecordWriter, claim, read_run
from nameplate.telemetry.gpu import GpuReading
from simulated_runs import SEGFAULT, Simulated, Watcher, Work, ids


@pytest.mark.parametrize(
    "text", ["out of memory\nsecond line", "", "no file '/data/\udcff'", "NUL \x00 byte"]
)
def test_a_case_that_breaks_is_a_record_and_the_rest_go_on(execute, text):
    run = execute([Work("a", breaks=RuntimeError(text)), Work("b")])
    first, second = run.records
    assert (first.status, second.status) == ("failed", "ok")
    assert str(first.reason).startswith("RuntimeError")
    assert "\n" not in str(first.reason)
    assert run.problems == ()


def test_a_case_that_ends_its_process_costs_itself_alone(execute):
    works = [Work("a"), Work("b", breaks=SEGFAULT), Work("c"), Work("d", group="2"), Work("e", group="2")]
    run = execute(works)
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
    assert len(execute.jobs) == 3  # in its group, alone, and what was left after it


def test_after_a_death_only_its_group_is_measured_case_by_case(execute):
    works = [Work("a"), Work("b", breaks=SEGFAULT), Work("c"), Work("d", group="2"), Work("e", group="2")]
    a, _, c, d, e = execute(works).records
    assert d.group == e.group == "2"
    assert len({a.group, c.group, d.group}) == 3


def test_an_observer_is_told_of_a_lost_case(execute):
    watcher = Watcher()
    execute([Work("a", breaks=SEGFAULT)], observer=watcher)
    assert watcher.seen[1:] == [
        ("start", *ids("a"), 0),
        ("finish", *ids("a"), 1),
        ("stop", "simulated", "signal SIGSEGV", False),
    ]


def test_a_lost_case_has_the_rating_of_the_run(execute):
    (record,) = execute([Work("a", breaks=SEGFAULT)], nominal={"fp32": 8.0}).records
    assert (record.status, record.nominal_tflops) == ("failed", 8.0)


def test_cases_that_all_end_their_process_come_to_an_end(execute):
    run = execute([Work(shape, breaks=SEGFAULT) for shape in "abcdef"])
    assert [record.status for record in run.records] == ["failed"] * 6
    assert run.finished
    assert len(execute.jobs) == 1 + 4 + 1 + 2  # two groups: each together once, then each case by itself


def hang(shape=None):
    """How a simulated process ends that hung while this case was in hand, by its note."""
    end = SystemExit(-15)
    end.missed = Missed(60.0, None if shape is None else ids(shape)[0])
    return end


HUNG = "no sign of life for 1.0 min: its driver, a kernel or a library hangs"


def test_a_case_that_hangs_costs_itself_and_a_process(execute):
    works = [Work("a"), Work("b", breaks=hang("b")), Work("c"), Work("d", group="2")]
    watcher = Watcher()
    run = execute(works, observer=watcher)
    assert [record.status for record in run.records] == ["ok", "failed", "ok", "ok"]
    assert str(run.records[1].reason).startswith(f"its process ended while it was measured: {HUNG}")
    assert run.records[0].group == run.records[2].group  # what is left of the group is measured in turn
    assert len(execute.jobs) == 2
    (stopped,) = [seen for seen in watcher.seen if seen[0] == "stop"]
    assert stopped[1] == "simulated"
    assert stopped[2].startswith(HUNG)
    assert stopped[3] is True


def test_a_hang_is_told_of_in_the_manifest_and_by_whoever_reads_the_run(execute):
    run = read_run(execute([Work("a", breaks=hang("a")), Work("b")]).folder)
    assert run.finished
    assert run.manifest.incidents == run.problems
    (told,) = map(str, run.problems)
    assert told.startswith(f"simulated: its process hung: {HUNG}")
    assert told in run.manifest.as_json()["incidents"]


@pytest.mark.parametrize("in_hand", [None, "elsewhere"])
def test_a_hang_of_no_known_case_costs_its_group(execute, in_hand):
    run = execute([Work("a"), Work("b", breaks=hang(in_hand)), Work("c", group="2")])
    assert [record.status for record in run.records] == ["failed", "failed", "ok"]
    assert len(execute.jobs) == 2


def test_a_group_that_hangs_again_is_not_started_a_third_time(execute):
    works = [Work(shape, breaks=hang(shape)) for shape in "abc"]
    run = execute([*works, Work("d", group="2")])
    assert [record.status for record in run.records] == ["failed"] * 3 + ["ok"]
    assert len(execute.jobs) == 3


def test_a_device_that_keeps_hanging_is_given_up(execute):
    run = execute([Work(shape, group=shape, breaks=hang(shape)) for shape in "abcdef"])
    assert [record.case for record in run.records] == ids("a", "b", "c")
    assert len(execute.jobs) == 3
    assert str(run.problems[-1]).startswith(
        f"simulated: its process ended early 3 times, the last one: {HUNG}"
    )


def test_a_device_that_hangs_costs_no_other(execute):
    devices = [Simulated("one"), Simulated("two")]
    devices[1].deadly, devices[1].death = "a", hang("a")
    run = execute([Work("a"), Work("b", group="2")], device=devices)
    assert [(record.device, record.status) for record in run.records] == [
        ("one", "ok"),
        ("one", "ok"),
        ("two", "failed"),
        ("two", "ok"),
    ]


def test_every_step_says_what_is_in_hand_and_how_long_it_may_take(execute, monkeypatch):
    told = []
    monkeypatch.setattr(nameplate.run.worker, "StepNotes", lambda note, grace_s: Notes(told))
    execute([Work("a", piloted=True, launch_s=0.5), Work("b", launch_s=1e-3)])
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


def test_a_second_process_cannot_claim_a_run_that_had_an_incident(execute, tmp_path):
    run = execute([Work("a")])
    with claim(run.folder) as held:
        held.add_incident(message("device_died", device="x", how="y"))
        with pytest.raises(InputError, match="measured by another process"), claim(run.folder):
            pass
    with claim(run.folder):
        assert list(map(str, read_run(run.folder).problems)) == ["x: its process ended early: y"]


def test_a_lost_context_names_the_xid_errors_that_the_driver_reported(execute):
    device = Simulated()
    plain = device.counters

    def counters():
        xids = (79, 79, 31) if device.broken else ()
        reading = GpuReading(at_s=device.clock(), xid_errors=xids)
        return replace(plain(), gpu=reading)

    device.counters = counters
    run = execute([Work("a"), Work("b", breaks_context=True)], device=device)
    reason = str(run.records[1].reason)
    assert reason.startswith("RuntimeError: CUDA error: an illegal memory access was encountered; the driver")
    assert "has reported Xid 79, 31 since the GPU was opened" in reason


@pytest.mark.parametrize("how", ["breaks_context", "breaks_at_the_end"])
def test_a_case_that_breaks_its_gpus_context_costs_itself_and_a_process(execute, how):
    works = [Work("a"), Work("b", **{how: True}), Work("c"), Work("d", group="2")]
    run = execute(works)
    assert [record.status for record in run.records] == ["ok", "failed", "ok", "ok"]
    assert str(run.records[1].reason) == (
        "RuntimeError: CUDA error: an illegal memory access was encountered; after it the GPU gave no right "
        "result in this process any more, so another one went on"
    )
    assert run.records[0].group == run.records[2].group  # measured in turn, in the other process
    assert len(execute.jobs) == 2
    assert run.finished
    assert run.problems == ()


def test_an_error_that_leaves_the_context_as_it_was_costs_no_process(execute):
    run = execute([Work("a"), Work("b", breaks=RuntimeError("CUDA out of memory")), Work("c")])
    assert [record.status for record in run.records] == ["ok", "failed", "ok"]
    assert len(execute.jobs) == 1


def test_a_device_whose_context_every_case_breaks_comes_to_an_end(execute):
    run = execute([Work(str(number), breaks_context=True) for number in range(12)])
    assert [record.status for record in run.records] == ["failed"] * 9
    assert len(execute.jobs) == 9
    assert "its process ended early 9 times, the last one: exit status 69" in str(run.problems[0])


@pytest.mark.parametrize("start", [1, 2])
def test_a_process_that_dies_before_it_begins_leaves_cases_missing_and_says_why(execute, start):
    works = [Work("a", group="1"), Work("b", breaks=SEGFAULT), Work("c")]
    run = execute(works, dies_early_at_start=start)
    assert [record.case for record in run.records] == (ids("a") if start == 2 else [])
    assert [each.case for each in run.missing] == ids("a", "b", "c")[len(run.records) :]
    often = "" if start == 1 else " 2 times, the last one"
    assert len(run.problems) == start
    assert str(run.problems[-1]) == f"simulated: its process ended early{often}: signal SIGKILL"
    assert read_run(run.folder).problems == run.problems  # whoever reads the run later is told too
    assert not run.finished
    assert len(execute.jobs) == start


def test_each_device_has_its_own_cases_and_one_that_dies_costs_no_other(execute):
    devices = [Simulated("one"), Simulated("two")]
    devices[1].deadly = "b"
    run = execute([Work("a"), Work("b")], device=devices)
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


def test_a_process_that_can_write_nothing_at_all_is_an_error_and_leaves_no_run(execute, full_disk, tmp_path):
    full_disk(room=0)
    with pytest.raises(RunIncomplete, match=r"^can't write the record; the records before it are kept$"):
        execute([Work("a")])
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_can_write_no_more_leaves_what_it_wrote_and_its_sentence(execute, full_disk):
    full_disk(room=1)
    run = execute([Work("a"), Work("b")])
    assert [record.case for record in run.records] == ids("a")
    assert list(map(str, run.problems)) == [
        "simulated: can't write the record; the records before it are kept"
    ]
    assert len(execute.jobs) == 1
