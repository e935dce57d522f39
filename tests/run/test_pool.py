"""Devices in processes of their own: who waits for whom, what a lost one costs; and that process itself."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nameplate.run.measure import measure
from nameplate.run.pool import Outcome, Share, measure_together, share_command
from nameplate.store import folder as store

pytestmark = pytest.mark.process
BODY = """
import json, os, sys, time
folder, device = sys.argv[1:3]
mark = lambda name: open(os.path.join(folder, name), "w").close()
there = lambda name: os.path.exists(os.path.join(folder, name))

def group(*cases):
    print(json.dumps({"group_started": cases}), flush=True)

def ready():
    print("ready", flush=True)
    assert sys.stdin.readline() == "go\\n"

def record():
    print(open(os.path.join(folder, device)).read(), flush=True)
"""
WORKS = """
ready()
group("its case")
record()
"""


class Watcher:
    """Keeps what it is told."""

    def __init__(self):
        self.groups, self.records = [], []

    def group_started(self, cases):
        self.groups.append(tuple(cases))

    def case_finished(self, record):
        self.records.append(record)


def nothing_again(share, outcome):
    return None


@pytest.fixture
def together(tmp_path):
    """Run each device's own script as its process; returns what was seen and how each ended."""

    def run(scripts, again=nothing_again, watch=None):
        watch = watch or Watcher()

        def command(share):
            script = BODY + textwrap.dedent(scripts[share.device])
            return (sys.executable, "-c", script, str(share.folder), share.device, *share.alone)

        shares = [Share(tmp_path, device, None, 0.0) for device in scripts]
        return watch, measure_together(shares, watch, again, command=command)

    return run


@pytest.fixture
def line(tmp_path, make_record):
    """Put a device's record where its script finds it."""

    def put(device):
        record = make_record(device=device)
        (tmp_path / device).write_text(record.model_dump_json())
        return record

    return put


def test_all_start_together_and_each_record_is_reported(together, line):
    expected = {device: line(device) for device in ("a", "b")}
    late = 'time.sleep(0.3); mark("b is ready")' + WORKS
    early = """
        ready()
        sys.exit(0 if there("b is ready") else 9)
    """
    watch, outcomes = together({"a": early, "b": late})
    assert outcomes == {"a": Outcome(0), "b": Outcome(0, ("its case",), records=1)}
    assert watch.groups == [("its case",)]
    assert watch.records == [expected["b"]]


@pytest.mark.parametrize(
    "dies",
    ["sys.exit(5)", 'print("ready", flush=True); os._exit(5)', "ready(); os._exit(5)"],
    ids=["before it is ready", "while it waits", "at work"],
)
def test_one_that_dies_costs_only_its_own_records(together, line, dies):
    expected = line("b")
    watch, outcomes = together({"a": dies, "b": WORKS})
    assert outcomes["a"] == Outcome(5)
    assert outcomes["a"].died
    assert watch.records == [expected]


def test_the_group_that_a_process_died_in_is_known_and_the_signal(together):
    script = """
        ready()
        group("first", "second")
        group("third", "fourth")
        os.kill(os.getpid(), 11)
    """
    _, outcomes = together({"a": script})
    assert outcomes["a"].in_flight == ("third", "fourth")
    assert str(outcomes["a"].how) == "signal SIGSEGV"
    assert outcomes["a"].died


def test_one_that_is_started_again_is_told_what_to_do_and_waits_for_nobody(together, line, tmp_path):
    expected = line("a")
    script = """
        ready()
        if sys.argv[3:] != ["its", "cases"]:
            sys.exit(7)
        record()
    """
    other = """
        ready()
        while not there("done"):
            time.sleep(0.01)
    """
    asked = []

    def again(share, outcome):
        asked.append((share.device, outcome.status))
        return replace(share, alone=("its", "cases")) if outcome.died else None

    class Done(Watcher):
        def case_finished(self, record):
            super().case_finished(record)
            (tmp_path / "done").touch()

    watch, outcomes = together({"a": script, "b": other}, again, Done())
    assert asked[0] == ("a", 7)
    assert sorted(asked) == [("a", 0), ("a", 7), ("b", 0)]
    assert watch.records == [expected]
    assert {device: outcome.status for device, outcome in outcomes.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    "noise",
    ["print('hello')", "print('{}')", "print('[1]')", "print('ready')", "os.write(1, b'\\xff\\xfe\\n')"],
    ids=["words", "an object", "a list", "the word it waits with", "no text at all"],
)
def test_what_a_library_prints_is_neither_record_nor_group(together, line, noise):
    expected = line("a")
    watch, outcomes = together({"a": f"ready(); {noise}; sys.stdout.flush(); record()"})
    assert watch.records == [expected]
    assert watch.groups == []
    assert outcomes == {"a": Outcome(0, records=1)}


def test_a_refusal_is_its_sentence_and_no_death(together):
    script = 'print(json.dumps({"refusal": "no such GPU"}), flush=True); sys.exit(2)'
    _, outcomes = together({"a": script})
    assert outcomes == {"a": Outcome(2, refusal="no such GPU")}
    assert not outcomes["a"].died


def test_an_interrupt_ends_every_process(together, line, tmp_path):
    line("a")
    sleeps = """
        open(os.path.join(folder, "pid"), "w").write(str(os.getpid()))
        ready()
        time.sleep(60)
    """

    class Interrupt(Watcher):
        def case_finished(self, record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together({"a": WORKS, "b": sleeps}, watch=Interrupt())
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_a_share_is_read_as_it_was_written():
    whole = Share(Path("a folder"), "cuda:1", 12.5, 1234.0625, ("one/case", "another/case"))
    for share in (whole, Share(Path("a folder"), "cpu", None, 0.1)):
        assert Share.parse(share.arguments()) == share


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
def share(begun, monkeypatch):
    """That run's share, in the environment that the run was begun in."""
    (entry,) = store.read_run(begun).manifest.devices
    for name, value in entry.identity.thread_settings.items():
        monkeypatch.setenv(name, value)
    return Share(begun, "cpu", 12.0, time.monotonic())


@pytest.mark.long
def test_a_share_is_measured_in_a_process_of_its_own(share):
    watch = Watcher()
    outcomes = measure_together([share], watch, nothing_again)
    assert outcomes == {"cpu": Outcome(0, (CASE,), records=1)}
    run = store.read_run(share.folder)
    assert run.missing == ()
    assert watch.groups == [(CASE,)]
    assert watch.records == list(run.records)
    assert [record.status for record in run.records] == ["ok"]


@pytest.mark.long
def test_a_share_of_a_device_that_the_run_does_not_have_is_refused(share, capfd):
    outcomes = measure_together([replace(share, device="cuda:7")], Watcher(), nothing_again)
    assert outcomes["cuda:7"].status == 2
    assert outcomes["cuda:7"].refusal.startswith("--device: no such GPU; got 'cuda:7'")
    assert capfd.readouterr().err == ""  # its parent says it, once


@pytest.mark.long
def test_a_share_in_other_thread_settings_is_refused(share, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    outcomes = measure_together([share], Watcher(), nothing_again)
    assert "this isn't the device the run was begun on" in outcomes["cpu"].refusal


@pytest.mark.long
@pytest.mark.parametrize("name", ["torch", "nameplate", "json"])
def test_a_module_in_the_working_directory_is_nobodys_library(share, tmp_path, monkeypatch, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    child = subprocess.Popen(
        share_command(share), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said, complaint = child.communicate(timeout=120)
    assert said == "ready\n"
    assert complaint == ""
    assert child.returncode == 130  # its parent hung up instead of saying `go`


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(child.pid, flush=True)
{tells}
print("so far", flush=True)
time.sleep(600)
"""


WAITS = "assert child.stdout.readline() == 'ready\\n'"
WORKS_ON = f"{WAITS}; child.stdin.write('go\\n'); child.stdin.flush(); child.stdout.readline()"


@pytest.mark.parametrize(
    "tells",
    [
        pytest.param("pass", id="while it starts", marks=pytest.mark.long),
        pytest.param(WAITS, id="while it waits", marks=pytest.mark.long),
        pytest.param(WORKS_ON, id="at work"),
    ],
)
def test_a_share_ends_within_a_second_of_its_parent_and_writes_nothing_more(share, tells):
    share = replace(share, budget_s=60.0)  # enough to be at work still, however busy the machine is
    command = [sys.executable, "-c", PARENT.format(tells=tells), *share_command(share)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "so far\n"
    parent.kill()
    deadline = time.monotonic() + 20  # generous: the machine may be busy
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)
    assert parent.communicate()[1] == ""  # it hangs up; nobody wants its traceback
    assert [path.stat().st_size for path in share.folder.glob("records-*")] in ([], [0])


def _alive(pid):
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
