"""Real runs, as processes: killed, gone on with, interrupted, finished; and one whose case ends its process.

One run for most of the file, since each start costs seconds: `killed` → `interrupted` → `finished` → `again`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

import nameplate
from nameplate.store.folder import read_run

pytestmark = pytest.mark.process
BENCH = Path(sys.executable).with_name("bench")
PATIENCE_S = 120  # a run that has no record by then is broken, not slow
TORN = b'{"schema_version":1,"method":1,"case":"matm'


SUITES = """
import os, signal
from nameplate.suite import Case, Suite
from nameplate_kernels import Memory

class Deadly(Memory):
    def prepare(self, device, **how):
        os.kill(os.getpid(), signal.SIGSEGV)

class Loud(Memory):
    def prepare(self, device, **how):
        print("printed")
        os.write(1, f"written: {os.environ['GOMP_SPINCOUNT']}\\n".encode())
        return super().prepare(device, **how)

def suite(aim_s, **groups):
    cases = [Case(work, group=name) for name, works in groups.items() for work in works]
    return Suite("small", "a second or two a group", aim_s, lambda target: cases)

TWO_GROUPS = suite(8.0, one=[Memory("copy", "fp32", 1), Memory("triad", "fp32", 1)],
                   two=[Memory("copy", "fp32", 2), Memory("triad", "fp32", 2)])
DEADLY = suite(12.0, one=[Memory("copy", "fp32", 1), Deadly("copy", "fp32", 2), Loud("copy", "fp32", 3)],
               two=[Memory("triad", "fp32", 1)])
"""
ENTRY_POINTS = "[nameplate.suites]\nsmall = their_suites:TWO_GROUPS\ndeadly = their_suites:DEADLY\n"


@dataclass(frozen=True)
class Ended:
    """How a process ended, and the run folder as it stood then."""

    status: int
    out: str
    err: str
    folder: Path
    files: dict[str, tuple[int, bytes]]
    cases: tuple[str, ...]


def files_of(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


def lines_in(results):
    """How many whole records stand on disk."""
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/records-*.jsonl"))


def processes_in(results):
    """How many processes have measured, or do now: each has a file of its own."""
    return len(list(results.glob("*/records-*.jsonl")))


# A process started in the background of a script inherits a SIGINT that is ignored; this one listens again.
LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
# Takes from root what lets it write where nobody may: CAP_DAC_OVERRIDE (1), out of the bounding set.
BOUND_BY_PERMISSIONS = """
import ctypes, os, sys
if os.geteuid() == 0:
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def run_bench(results, *arguments, end=None, when=None):
    """Run `bench …`; with `end`, send that signal, as a terminal does, once `when()` holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, BENCH, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        start_new_session=True,
    )
    children = []
    try:
        if end is not None:
            deadline = time.monotonic() + PATIENCE_S
            while not when() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, end)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)  # a second is promised; the machine may be busy
    assert not alive
    (folder,) = results.iterdir()
    cases = tuple(record.case for record in read_run(folder).records)
    return Ended(process.returncode, out, err, folder, files_of(folder), cases)


@pytest.fixture(scope="module", autouse=True)
def their_suites(tmp_path_factory):
    """Suites of someone else's package, installed for every process of this file."""
    site = tmp_path_factory.mktemp("site")
    about = site / "their_suites-1.0.dist-info"
    about.mkdir()
    (site / "their_suites.py").write_text(SUITES)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their_suites\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def killed(results):
    """Killed once the first group's records are there."""
    arguments = ("run", "small", "--device", "cpu", "--results", results)
    return run_bench(results, *arguments, end=signal.SIGKILL, when=lambda: lines_in(results) >= 2)


@pytest.fixture(scope="module")
def interrupted(killed, results):
    """The same run gone on with after a torn line, and interrupted while it measures the next group."""
    (path,) = killed.folder.glob("records-*.jsonl")
    with path.open("ab") as file:
        file.write(TORN)
    arguments = ("run", "--resume", killed.folder, "--json")
    return run_bench(results, *arguments, end=signal.SIGINT, when=lambda: processes_in(results) == 2)


@pytest.fixture(scope="module")
def finished(interrupted, results):
    identity = ("--results", results, "--device", "cpu")
    return run_bench(
        results, "run", "--resume", interrupted.folder.name, *identity, "--budget", "10", "--json"
    )


@pytest.fixture(scope="module")
def again(finished, results):
    return run_bench(results, "run", "small", "--resume", finished.folder, "--json")


def manifest_of(ended):
    return json.loads(ended.files["manifest.json"][1])


@pytest.mark.long
@pytest.mark.alone
def test_a_killed_run_keeps_the_groups_that_were_finished_and_is_not_done(killed):
    assert killed.status == -signal.SIGKILL
    assert "DONE" not in killed.files
    assert killed.cases == tuple(manifest_of(killed)["cases"][:2])


@pytest.mark.long
@pytest.mark.alone
def test_nothing_is_written_after_a_run_was_killed(killed, interrupted):
    for name, (_, data) in killed.files.items():
        assert interrupted.files[name][1] == (data + TORN if name.startswith("records-") else data)


@pytest.mark.long
@pytest.mark.alone
def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(interrupted):
    assert interrupted.status == 130
    assert interrupted.out == ""
    started, waiting, *progress, said = interrupted.err.splitlines()
    assert "2 cases on " in started
    assert waiting.startswith("waiting until the device is ready; ")
    assert all(line.startswith("0 of 2 cases") for line in progress)
    assert said == (f"bench: interrupted; what was finished is kept: bench run --resume {interrupted.folder}")


@pytest.mark.long
@pytest.mark.alone
def test_an_interrupted_run_keeps_what_is_finished_and_loses_the_group_in_progress(killed, interrupted):
    assert "DONE" not in interrupted.files
    assert interrupted.cases == killed.cases


@pytest.mark.long
@pytest.mark.alone
def test_after_all_that_every_case_of_the_manifest_has_one_record(killed, finished):
    assert finished.status == 0
    assert "Traceback" not in finished.err
    written = []
    for name, (_, data) in finished.files.items():
        if name.startswith("records-"):
            written += [json.loads(line)["case"] for line in data.split(b"\n")[:-1]]
    assert Counter(written) == Counter(manifest_of(killed)["cases"])
    assert finished.files["DONE"][1] == b""
    assert manifest_of(finished) == manifest_of(killed)


@pytest.mark.long
@pytest.mark.alone
def test_the_records_from_before_are_untouched(killed, finished):
    for name, (_, data) in killed.files.items():
        assert finished.files[name][1].startswith(data)


@pytest.mark.long
@pytest.mark.alone
def test_json_is_one_document_with_the_torn_line_named(finished):
    document = json.loads(finished.out)
    assert list(document) == ["run", "records", "health", "chain"]
    assert [record["case"] for record in document["records"]] == manifest_of(finished)["cases"]
    assert document["run"]["finished"]
    (problem,) = document["run"]["problems"]
    assert "skipped a torn last line of 43 bytes" in problem


@pytest.mark.long
@pytest.mark.alone
def test_progress_went_to_standard_error(interrupted, finished):
    assert len(finished.cases) == len(interrupted.cases) + 2
    *_, last = finished.err.splitlines()
    assert last == "2 of 2 cases: last memory fp32 triad-2MiB"
    for case in interrupted.cases:
        assert " ".join(case.split("/")[:3]) not in finished.err


@pytest.mark.long
@pytest.mark.alone
def test_resuming_a_finished_run_changes_nothing(finished, again):
    assert again.status == 0
    assert json.loads(again.out) == json.loads(finished.out)
    assert {name: data for name, (_, data) in again.files.items()} == {
        name: data for name, (_, data) in finished.files.items()
    }
    assert again.files == finished.files  # times of change too


@pytest.mark.long
@pytest.mark.alone
def test_the_run_loads_as_a_frame(finished, results):
    frame = nameplate.load(results)
    assert list(frame["case"]) == manifest_of(finished)["cases"]
    measured = frame[frame["status"] == "ok"]
    assert (measured["time_s"] > 0).all()
    assert pd.isna(frame["power_w"]).all()
    assert len(frame.attrs["problems"]) == 1


@pytest.mark.long
@pytest.mark.alone
def test_the_run_is_shown_and_reported(finished, results, tmp_path):
    shown = run_bench(results, "show", finished.folder)
    assert shown.status == 0
    assert "torn last line" in shown.out
    detailed = run_bench(results, "show", finished.folder, "--details")
    assert "memory fp32 copy-1MiB" in detailed.out
    reported = run_bench(results, "report", finished.folder, "-o", tmp_path / "report.md")
    assert reported.status == 0
    assert "memory fp32 copy-1MiB" in (tmp_path / "report.md").read_text()


@pytest.mark.long
@pytest.mark.alone
def test_no_case_of_another_suite_is_resumed(finished, results):
    before = files_of(finished.folder)
    ended = run_bench(results, "run", "quick", "--resume", finished.folder)
    assert ended.status == 2
    assert ended.err == "bench: --resume: the run is of another suite; got 'quick'; expected small\n"
    assert ended.files == before


def bound(*command):
    """Run a command that may write only where its user was given permission."""
    return subprocess.run(
        [sys.executable, "-c", BOUND_BY_PERMISSIONS, *command], capture_output=True, text=True, check=False
    )


@pytest.fixture
def read_only(tmp_path):
    """A folder that can be read and not written, and is given back as it was."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    tried = bound(shutil.which("touch"), folder / "x")
    if tried.returncode == 0:
        pytest.skip("this system lets root write a read-only folder whatever it gives up")
    yield folder
    folder.chmod(0o755)


def run_there(*arguments):
    done = bound(BENCH, *arguments)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.long
@pytest.mark.alone
def test_results_that_can_only_be_read_are_one_sentence(read_only):
    done = run_there("run", "smoke", "--device", "cpu", "--results", read_only / "runs", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"bench: --results: can't write a run here: Permission denied; got '.*'; expected .*", line
    )


@pytest.mark.long
@pytest.mark.alone
def test_a_run_that_can_only_be_read_is_not_resumed_in_one_sentence(killed, read_only):
    """Someone else's run, or one on a snapshot."""
    folder = read_only / "run"
    read_only.chmod(0o755)
    folder.mkdir()
    for name, (_, data) in killed.files.items():
        (folder / name).write_bytes(data)
    folder.chmod(0o555)
    read_only.chmod(0o555)
    done = run_there("run", "--resume", folder, "--device", "cpu")
    assert done.returncode == 2
    assert str(folder) in done.stderr.splitlines()[-1]


@pytest.mark.long
@pytest.mark.alone
def test_a_finished_run_that_can_only_be_read_is_resumed_to_nothing(finished, read_only):
    """There is nothing to write, so that nothing may be written stands in nobody's way."""
    folder = read_only / "run"
    read_only.chmod(0o755)
    folder.mkdir()
    for name, (_, data) in finished.files.items():
        (folder / name).write_bytes(data)
    folder.chmod(0o555)
    read_only.chmod(0o555)
    assert run_there("run", "--resume", folder, "--json").returncode == 0


@pytest.mark.long
@pytest.mark.alone
def test_a_case_that_ends_its_process_costs_itself_alone(tmp_path):
    ended = run_bench(tmp_path, "run", "deadly", "--device", "cpu", "--results", tmp_path, "--json")
    assert ended.status == 3
    document = json.loads(ended.out)
    assert [record["status"] for record in document["records"]] == ["ok", "failed", "ok", "ok"]
    lost = document["records"][1]
    assert lost["reason"] == "its process ended while it was measured: signal SIGSEGV"
    assert document["run"]["finished"]
    # What a library printed went elsewhere, and its process had the settings that the manifest names.
    assert "printed\n" in ended.err
    assert "written: 10000\n" in ended.err
    (device,) = document["run"]["devices"]
    assert device["identity"]["thread_settings"]["GOMP_SPINCOUNT"] == "10000"
    assert [line for line in ended.err.splitlines() if "SEGV" in line] == [
        "cpu: signal SIGSEGV; another process goes on",
        f"memory fp32 copy-2MiB: failed: {lost['reason']}",
        "cpu: signal SIGSEGV; another process goes on",
    ]
    assert any("one by one" in problem for problem in document["run"]["problems"])


@pytest.mark.long
@pytest.mark.alone
def test_smoke_has_its_products_and_its_block_and_a_chart(tmp_path):
    results = tmp_path / "runs"
    ended = run_bench(results, "run", "smoke", "--device", "cpu", "--results", results, "--json")
    assert ended.status == 0
    records = json.loads(ended.out)["records"]
    found = {(record["workload"], record["dtype"]) for record in records}
    assert {
        ("matmul", "fp32"),
        ("matmul", "bf16"),
        ("matmul", "fp16"),
        ("transformer_block", "bf16"),
    } <= found
    assert not [record["reason"] for record in records if record["status"] == "failed"]
    first = records[0]
    assert first["status"] == "ok"
    assert first["tflops_low"] <= first["tflops"] <= first["tflops_high"]
    assert "unverified" not in first["verdicts"]
    assert run_bench(results, "report", ended.folder, "-o", tmp_path / "report.md").status == 0
    assert (tmp_path / "report-efficiency.svg").stat().st_size > 0
