"""One fault of each kind done to a real run, at a fixed moment; `make faults` is the campaign."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faulting import __main__ as campaign
from faulting.__main__ import as_table, plan
from faulting.kinds import KINDS, run_undisturbed
from faulting.observed import _MARK, HUNG, ObservedRun
from faulting.verify import Try, verify

from nameplate.base.messages import message
from nameplate.store.folder import RecordWriter, create

TYPICAL_S = 12.0  # of a run on two busy cores


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="signals and limits are Linux's here")
@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_nothing_is_lost_nothing_lives_on_and_the_end_is_told(kind, tmp_path):
    do = run_undisturbed if kind == "none" else KINDS[kind]
    found = do(tmp_path, random.Random(7), TYPICAL_S)
    assert found.faults == [], found.fault


# ---- the checks can fail ----


class Ended:
    """A run that has ended: what it left on disk, and what it said."""

    def __init__(self, place, *, status=0, lines=(), orphans=()):
        self.results, self.temporary = place / "runs", place / "temporary"
        self.temporary.mkdir()
        self.status, self.lines, self.orphans = status, list(lines), list(orphans)
        self.process = SimpleNamespace(returncode=status)

    @property
    def folder(self):
        return next((path.parent for path in self.results.glob("*/manifest.json")), None)

    def end(self):
        return self.status

    def find_orphans(self):
        return self.orphans


@pytest.fixture
def stored(make_record, make_manifest, tmp_path):
    """A run of two cases on disk, of which one has its record."""

    def store(**options):
        record = make_record()
        folder = create(tmp_path / "runs", make_manifest([record.case, "another"]))
        with RecordWriter(folder, "cpu") as writer:
            writer.append(record)
        return record.case, Ended(tmp_path, **options)

    return store


def faults(run, **expected):
    return verify(run, Try("a test", **expected)).faults


def test_a_record_that_was_told_of_and_is_gone_is_found(stored):
    case, run = stored()
    run.lines = [f"{case}: 0.4 TFLOPS", "another: 0.1 TFLOPS"]
    assert faults(run) == ["a lost record: another"]


def test_a_record_that_was_on_disk_and_is_gone_is_found(stored):
    _case, run = stored()
    assert faults(run, after=1) == []
    assert faults(run, after=3) == ["a lost record: 2 of 3"]


def test_a_record_that_was_saved_elsewhere_is_not_lost(stored, make_record, make_manifest):
    case, run = stored()
    run.lines = ["another: 0.1 TFLOPS"]
    saved = create(run.temporary / "nameplate-rescued-x", make_manifest([case, "another"]))
    with RecordWriter(saved, "rescued") as writer:
        writer.append(make_record(case="another"))
    assert faults(run) == []


def test_a_torn_line_is_allowed_after_a_kill_alone(stored):
    _case, run = stored()
    with next(run.folder.glob("records-*")).open("a") as file:
        file.write('{"case": ')
    (fault,) = faults(run)
    assert fault.startswith("a wrong file")
    assert faults(run, torn=True) == []


def test_a_wrong_status_a_hang_a_traceback_and_an_orphan_are_found(stored):
    _case, run = stored(status=1, orphans=["python -m x"], lines=["Traceback (most recent call last):"])
    assert [fault.partition(":")[0] for fault in faults(run)] == [
        "an orphan",
        "exit status 1, not 0",
        "a traceback",
    ]
    run.status, run.orphans, run.lines = HUNG, [], []
    assert faults(run) == ["a hang"]


def test_cases_without_a_record_and_what_is_left_behind_are_found(stored):
    _case, run = stored()
    (run.temporary / "tmpx").write_text("")
    assert faults(run, whole=True) == ["not measured: 1 of 2 cases", "left behind: tmpx"]
    assert faults(run, leaves=True) == []


def test_what_isnt_told_is_found(stored, make_manifest):
    _case, run = stored()
    assert faults(run, told=("SIGKILL",)) == ["untold: 'SIGKILL'"]
    incident = message("process_replaced", device="cpu", how=message("signal", signal="SIGKILL"))
    manifest = make_manifest(["another"], run=run.folder.name, incidents=(incident,))
    (run.folder / "manifest.json").write_text(manifest.model_dump_json())
    assert "untold: 'SIGKILL'" not in faults(run, told=("SIGKILL",))


@pytest.mark.process
def test_a_process_is_found_by_its_mark_whatever_its_session_and_parent(tmp_path, monkeypatch):
    """As an orphan would be: its parent has ended, and it has a session of its own."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=0, stderr=None))
    run = ObservedRun(tmp_path)
    monkeypatch.undo()
    leaves = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    command = [sys.executable, "-S", "-c", leaves]
    subprocess.run(command, env={**os.environ, _MARK: run.mark}, check=True)
    (process,) = run.children()
    line = " ".join(process.cmdline())[-120:]  # which it has no more once it is killed
    assert run.find_orphans(0.0) == [line]
    deadline_s = time.monotonic() + 20
    while run.children() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert run.children() == []


def test_a_campaign_has_as_many_of_each_as_were_asked_for():
    names = list(plan(100, 20, 8, ()))
    assert len(names) == 128
    assert [sum(name.startswith(group) for name in names) for group in ("kill", "stop")] == [100, 20]
    assert set(names) == set(KINDS)
    assert set(plan(10, 2, 4, ("stop (Ctrl-Z)",))) == {"stop (Ctrl-Z)"}


@pytest.mark.process
def test_a_run_listens_to_signals_that_its_campaign_ignores(tmp_path, monkeypatch):
    started = {}
    monkeypatch.setattr(
        subprocess, "Popen", lambda *_, **how: started.update(how) or SimpleNamespace(stderr=None)
    )
    ObservedRun(tmp_path)
    monkeypatch.undo()
    numbers = (signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(each, signal.SIG_IGN) for each in numbers]
    try:
        code = "import signal; print(*(signal.getsignal(each) == signal.SIG_IGN for each in (1, 2)))"
        command = [sys.executable, "-S", "-c", code]
        done = subprocess.run(command, preexec_fn=started["preexec_fn"], capture_output=True, check=True)
    finally:
        for each, handler in zip(numbers, before, strict=True):
            signal.signal(each, handler)
    assert done.stdout == b"False False\n"


def test_an_interrupted_campaign_keeps_the_runs_that_have_ended(monkeypatch, capsys):
    def do_until(name, seed, _typical_s):
        if seed > 2:
            raise KeyboardInterrupt
        return Try(name, status=seed)

    monkeypatch.setattr(campaign, "do", do_until)
    tries = []
    campaign.try_all(["kill SIGTERM"] * 9, 0, 1.0, 1, tries)
    assert [each.status for each in tries] == [0, 1, 2]
    assert capsys.readouterr().out == "interrupted after 3 runs\n"


def test_the_table_counts_every_fault():
    tries = [
        Try("kill SIGTERM", status=143, after=2, seen=2, kept=2),
        Try("kill SIGTERM", status=1, faults=["a lost record: x", "an orphan: y", "untold: z", "a hang"]),
    ]
    last = as_table(tries)[-1].split()
    assert last == ["all", "2", "1", "1×1", "143×1", "2", "2", "1", "1", "1", "0", "1"]
