"""Devices in processes of their own: who waits for whom, what a lost one costs; and that process itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nameplate.base.environment import READY_VARIABLE
from nameplate.base.errors import InputError
from nameplate.base.shared_note import SharedNote
from nameplate.run import deadlines, pool
from nameplate.run.deadlines import GRACE_VARIABLE, Deadlines, Step, StepNotes
from nameplate.run.job import WorkerJob
from nameplate.run.measure import measure
from nameplate.run.pool import Missed, WorkerResult, run_workers, worker_command
from nameplate.store import folder as store

pytestmark = pytest.mark.process
BODY = """
import json, os, sys, time
folder, device, note = sys.argv[1:4]
mark = lambda name: open(os.path.join(folder, name), "w").close()
there = lambda name: os.path.exists(os.path.join(folder, name))

def group(*cases):
    print(json.dumps({"group_started": cases}), flush=True)

def ready():
    print(json.dumps({"ready": True}), flush=True)
    return json.loads(sys.stdin.readline())["go"]

def step(case, seconds):
    from nameplate.base.shared_note import SharedNote
    now = time.monotonic()
    SharedNote(int(note)).write({"case": case, "since_s": now, "until_s": now + seconds})

def record():
    print(open(os.path.join(folder, device)).read(), flush=True)
"""
WORKS = """
ready()
group("its case")
record()
"""


class Observer:
    """Keeps what it is told."""

    def __init__(self):
        self.groups, self.records, self.at_s = [], [], []

    def group_started(self, cases):
        self.groups.append(tuple(cases))

    def case_finished(self, record):
        self.records.append(record)
        self.at_s.append(time.monotonic())


def no_next_job(job, result):
    return None


@pytest.fixture
def together(tmp_path):
    """Run each device's own script as its process; returns what was seen and how each ended."""

    def run(scripts, next_job=no_next_job, observer=None, **deadlines):
        observer = observer or Observer()

        def command(job):
            script = BODY + textwrap.dedent(scripts[job.device])
            return (sys.executable, "-c", script, str(job.folder), job.device, str(job.note), *job.one_by_one)

        jobs = [WorkerJob(folder=tmp_path, device=device, budget_s=None) for device in scripts]
        results = run_workers(jobs, observer, next_job, deadlines=Deadlines(**deadlines), command=command)
        return observer, results

    return run


@pytest.fixture
def line(tmp_path, make_record):
    """Put a device's record where its script finds it."""

    def put(device):
        record = make_record(device=device)
        (tmp_path / device).write_text(record.model_dump_json())
        return record

    return put


def test_every_process_is_told_when_the_measuring_began_a_later_one_too(together, tmp_path):
    """The budget counts from then: neither from the command, nor anew for a process that replaces another."""
    tells = """
        began_s = time.monotonic()
        time.sleep(0.2)
        with open(os.path.join(folder, device), "a") as file:
            print(began_s, ready(), file=file)
        sys.exit(0 if "the rest" in sys.argv else 1)
    """

    def another(job, result):
        return job.model_copy(update={"one_by_one": ("the rest",)}) if result.died else None

    together({"a": tells, "b": tells}, another)
    lines = [line.split() for name in "ab" for line in (tmp_path / name).read_text().splitlines()]
    assert len(lines) == 4
    (went_s,) = {float(go) for _, go in lines}
    firsts = (float(lines[0][0]), float(lines[2][0]))
    assert went_s >= max(firsts) + 0.2  # when the last of the first two was ready


def test_all_start_together_and_each_record_is_reported(together, line):
    expected = {device: line(device) for device in ("a", "b")}
    late = 'time.sleep(0.3); mark("b is ready")' + WORKS
    early = """
        ready()
        sys.exit(0 if there("b is ready") else 9)
    """
    observer, results = together({"a": early, "b": late})
    assert results == {"a": WorkerResult(0), "b": WorkerResult(0, ("its case",), records=1)}
    assert observer.groups == [("its case",)]
    assert observer.records == [expected["b"]]


@pytest.mark.parametrize(
    "dies",
    ["sys.exit(5)", 'print(json.dumps({"ready": True}), flush=True); os._exit(5)', "ready(); os._exit(5)"],
    ids=["before it is ready", "while it waits", "at work"],
)
def test_one_that_dies_costs_only_its_own_records(together, line, dies):
    expected = line("b")
    observer, results = together({"a": dies, "b": WORKS})
    assert results["a"] == WorkerResult(5)
    assert results["a"].died
    assert observer.records == [expected]


def test_the_group_that_a_process_died_in_is_known_and_the_signal(together):
    script = """
        ready()
        group("first", "second")
        group("third", "fourth")
        os.kill(os.getpid(), 11)
    """
    _, results = together({"a": script})
    assert results["a"].in_flight == ("third", "fourth")
    assert str(results["a"].how) == "signal SIGSEGV"
    assert results["a"].died


def test_one_that_is_started_again_is_told_what_to_do_and_waits_for_nobody(together, line, tmp_path):
    expected = line("a")
    script = """
        ready()
        if sys.argv[4:-2] != ["its", "cases"]:
            sys.exit(7)
        record()
    """
    other = """
        ready()
        while not there("done"):
            time.sleep(0.01)
    """
    asked = []

    def next_job(job, result):
        asked.append((job.device, result.status))
        return job.model_copy(update={"one_by_one": ("its", "cases")}) if result.died else None

    class Done(Observer):
        def case_finished(self, record):
            super().case_finished(record)
            (tmp_path / "done").touch()

    observer, results = together({"a": script, "b": other}, next_job, Done())
    assert asked[0] == ("a", 7)
    assert sorted(asked) == [("a", 0), ("a", 7), ("b", 0)]
    assert observer.records == [expected]
    assert {device: result.status for device, result in results.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    "noise",
    [
        "print('hello')",
        "print('{}')",
        "print('[1]')",
        "print(json.dumps({'ready': True}))",
        "os.write(1, b'\\xff\\xfe\\n')",
    ],
    ids=["words", "an object", "a list", "that it is ready once more", "no text at all"],
)
def test_what_a_library_prints_is_neither_record_nor_group(together, line, noise):
    expected = line("a")
    observer, results = together({"a": f"ready(); {noise}; sys.stdout.flush(); record()"})
    assert observer.records == [expected]
    assert observer.groups == []
    assert results == {"a": WorkerResult(0, records=1)}


def test_a_refusal_is_its_sentence_and_no_death(together):
    script = 'print(json.dumps({"refusal": "no such GPU"}), flush=True); sys.exit(2)'
    _, results = together({"a": script})
    assert results == {"a": WorkerResult(2, refusal="no such GPU")}
    assert not results["a"].died


def test_an_interrupt_ends_every_process(together, line, tmp_path):
    line("a")
    sleeps = """
        open(os.path.join(folder, "pid"), "w").write(str(os.getpid()))
        ready()
        time.sleep(60)
    """

    class Interrupt(Observer):
        def case_finished(self, record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together({"a": WORKS, "b": sleeps}, observer=Interrupt())
    assert not _alive(int((tmp_path / "pid").read_text()))


@pytest.mark.long
@pytest.mark.alone
def test_a_worker_that_never_gets_ready_is_ended_and_the_others_do_not_wait_for_it(together, line):
    expected = line("b")
    began_s = time.monotonic()
    observer, results = together({"a": "time.sleep(60)", "b": WORKS}, ready_s=3.0, together_s=0.2)
    assert results["a"] == WorkerResult(-15, missed=Missed(3.0, getting_ready=True))
    assert results["a"].died
    assert str(results["a"].how) == (
        "not ready within 3.0 s: loading torch or opening the device hangs "
        "(NAMEPLATE_READY_DEADLINE_S allows more)"
    )
    assert observer.records == [expected]
    assert observer.at_s[0] - began_s < 2.9


@pytest.mark.parametrize("case", ["its case", None])
def test_a_worker_whose_note_stands_still_is_ended_with_what_it_did_last(together, line, case):
    script = f"""
        ready()
        group("its case", "another")
        step("another", 0.1)
        step({case!r}, 0.5)
        time.sleep(60)
    """
    _, results = together({"a": script}, grace_s=0.2)
    result = results["a"]
    assert result == WorkerResult(-15, ("its case", "another"), missed=Missed(0.5, case))
    assert str(result.how).startswith("no sign of life for 0.5 s: its driver,")


def test_a_long_step_that_was_announced_is_no_hang(together, line):
    expected = line("a")
    script = """
        ready()
        group("its case")
        step("its case", 60)
        time.sleep(1)
        record()
    """
    observer, results = together({"a": script}, grace_s=0.3)
    assert results["a"].status == 0
    assert observer.records == [expected]


def test_a_worker_that_will_not_end_is_killed(together, monkeypatch):
    monkeypatch.setattr(pool, "_ENDING", tuple((end, 0.5) for end, _seconds in pool._ENDING))
    script = """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready()
        group("its case")
        time.sleep(60)
    """
    _, results = together({"a": script}, grace_s=0.3)
    assert results["a"].status == -9


def test_a_worker_that_cannot_be_ended_holds_nobody_up(together, line, monkeypatch):
    """As one is that waits inside a driver for what never comes: no signal ends it."""
    children, expected = [], line("b")
    monkeypatch.setattr(pool, "_ENDING", ((children.append, 0.2),))
    observer, results = together({"a": "ready(); time.sleep(60)", "b": WORKS}, grace_s=0.3)
    for child in children:
        child.kill()  # the thread that reads from it sees its end; nobody closes the pipe beneath it
        child.wait()
    assert results["a"].stuck
    assert "it can't be ended" in str(results["a"].how)
    assert observer.records == [expected]


def test_ctrl_z_ends_the_processes_and_what_they_had_in_hand_is_begun_anew(
    together, line, tmp_path, monkeypatch
):
    expected, alive, lasted_s = line("a"), [], 0.3

    def stop():
        alive.append(_alive(int((tmp_path / "pid").read_text())))
        time.sleep(lasted_s)

    monkeypatch.setattr(pool, "stop_this_process", stop)
    script = """
        again = there("pid")
        mine = open(os.path.join(folder, "pid"), "w")
        print(os.getpid(), file=mine, flush=True)
        print(ready(), file=open(os.path.join(folder, "go" + str(again)), "w"), flush=True)
        group("its case")
        if not again:
            time.sleep(60)
        record()
    """

    class CtrlZ(Observer):
        def group_started(self, cases):
            super().group_started(cases)
            if len(self.groups) == 1:
                os.kill(os.getpid(), signal.SIGTSTP)

    asked = []

    def next_job(job, result):
        asked.append((result.status, result.was_stopped))
        return job if result.was_stopped else None

    observer, _ = together({"a": script}, next_job, CtrlZ())
    assert alive == [False]  # nothing measures, or holds the device, while the run is stopped
    assert asked == [(68, True), (0, False)]
    assert observer.groups == [("its case",)] * 2
    assert observer.records == [expected]
    began_s, then_s = (float((tmp_path / f"go{again}").read_text()) for again in (False, True))
    assert then_s - began_s >= lasted_s  # the pause is no part of the budget
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


def test_a_worker_that_closed_its_pipe_and_does_not_exit_is_ended(together):
    script = """
        ready()
        os.close(1)
        time.sleep(60)
    """
    _, results = together({"a": script}, grace_s=0.3)
    assert results["a"].status == -15


def test_a_worker_that_waits_for_a_slower_one_is_not_silent(together, line):
    line("a")
    late = "time.sleep(1)" + WORKS
    line("b")
    _, results = together({"a": WORKS, "b": late}, grace_s=0.5)
    assert [result.status for result in results.values()] == [0, 0]


def test_deadlines_are_on_by_default_and_the_environment_replaces_them(monkeypatch):
    for name in (READY_VARIABLE, GRACE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    usual = Deadlines.from_environment()
    assert usual == Deadlines()
    assert usual.ready_s >= 120
    assert 30 <= usual.grace_s <= 120
    monkeypatch.setenv(READY_VARIABLE, "7")
    monkeypatch.setenv(GRACE_VARIABLE, "0.5")
    assert Deadlines.from_environment() == Deadlines(7.0, 0.5)
    monkeypatch.setenv(GRACE_VARIABLE, "soon")
    with pytest.raises(InputError, match=f"{GRACE_VARIABLE}.*got 'soon'.*seconds above 0"):
        measure("smoke", device="cpu")


def test_a_wait_for_slower_ones_leaves_most_of_a_budget():
    assert Deadlines().within_budget(10.0).together_s == 2.5
    assert Deadlines().within_budget(3600.0) == Deadlines()


def test_a_step_has_a_grace_and_a_multiple_of_what_is_expected_and_ends_with_its_group(monkeypatch):
    note = SharedNote()
    monkeypatch.setattr(deadlines.time, "monotonic", lambda: 100.0)
    steps = StepNotes(note, 60.0)
    steps.begin_group(["a", "b"], 500.0)
    assert Step.read(note) == Step(None, 100.0, 160.0)
    steps("a", 20.0)
    assert Step.read(note) == Step("a", 100.0, 360.0)
    steps("b", 1000.0)
    assert Step.read(note) == Step("b", 100.0, 660.0)
    steps.begin_group(["c"], -5.0)
    assert Step.read(note) == Step("c", 100.0, 160.0)  # alone in its group, so it is in hand throughout
    note.close()


# ---- the process itself, on this machine's CPU ----

CASE = "memory/fp32/copy-64MiB/normal/rotating/-/torch"


@pytest.fixture
def begun(tmp_path):
    """A real run of this CPU, begun and without a record."""

    class Stop:
        def run_started(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("smoke", device="cpu", only=CASE, budget=20, results=tmp_path / "runs", observer=Stop())
    (folder,) = store.find_runs(tmp_path)
    return folder


@pytest.fixture
def job(begun, monkeypatch):
    """That run's job, in the environment that the run was begun in."""
    (entry,) = store.read_run(begun).manifest.devices
    for name, value in entry.identity.thread_settings.items():
        monkeypatch.setenv(name, value)
    return WorkerJob(folder=begun, device="cpu", budget_s=12.0)


@pytest.mark.long
def test_a_job_is_measured_in_a_process_of_its_own(job):
    observer = Observer()
    results = run_workers([job], observer, no_next_job)
    assert results == {"cpu": WorkerResult(0, (CASE,), records=1)}
    run = store.read_run(job.folder)
    assert run.missing == ()
    assert observer.groups == [(CASE,)]
    assert observer.records == list(run.records)
    assert [record.status for record in run.records] == ["ok"]


@pytest.mark.long
def test_a_job_of_a_device_that_the_run_does_not_have_is_refused(job, capfd):
    results = run_workers([job.model_copy(update={"device": "cuda:7"})], Observer(), no_next_job)
    assert results["cuda:7"].status == 2
    assert results["cuda:7"].refusal.startswith("--device: no such GPU; got 'cuda:7'")
    assert capfd.readouterr().err == ""  # its parent says it, once


@pytest.mark.long
def test_a_job_in_other_thread_settings_is_refused(job, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    results = run_workers([job], Observer(), no_next_job)
    assert "this isn't the device the run was begun on" in results["cpu"].refusal


@pytest.mark.long
@pytest.mark.parametrize("name", ["torch", "nameplate", "json"])
def test_a_module_in_the_working_directory_is_nobodys_library(job, tmp_path, monkeypatch, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    child = subprocess.Popen(
        [*worker_command(job), str(os.getpid()), "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, complaint = child.communicate(timeout=120)
    assert said == '{"ready":true}\n'
    assert complaint == ""
    assert child.returncode == 130  # its parent closed the pipe instead of telling it to go


PARENT = """
import sys, time
from nameplate.base.processes import Child
child = Child(sys.argv[1:])
print(child.pid, flush=True)
{tells}
print("so far", flush=True)
time.sleep(600)
"""


WAITS = 'assert child.receive(120) == {"ready": True}'
WORKS_ON = f'{WAITS}; child.send({{"go": time.monotonic()}}); child.receive(120)'


@pytest.mark.parametrize(
    "tells",
    [
        pytest.param("pass", id="while it starts", marks=pytest.mark.long),
        pytest.param(WAITS, id="while it waits", marks=pytest.mark.long),
        pytest.param(WORKS_ON, id="at work"),
    ],
)
def test_a_job_ends_within_a_second_of_its_parent_and_writes_nothing_more(job, tells):
    job = job.model_copy(update={"budget_s": 60.0})  # enough to be at work still, however busy the machine is
    command = [sys.executable, "-c", PARENT.format(tells=tells), *worker_command(job)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "so far\n"
    parent.kill()
    deadline = time.monotonic() + 20  # generous: the machine may be busy
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)
    assert parent.communicate()[1] == ""  # it hangs up; nobody wants its traceback
    assert [path.stat().st_size for path in job.folder.glob("records-*")] in ([], [0])


def _alive(pid):
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
