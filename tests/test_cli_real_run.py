"""A real run of the smoke suite in a process of its own: killed, gone on with, interrupted, finished.

One run for the whole file, since each start costs seconds: `killed` → `interrupted` → `finished` → `again`.
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
import pytest

import nameplate
from nameplate.store.folder import read_run

BENCH = Path(sys.executable).with_name("bench")
PATIENCE_S = 120  # a run that has no record by then is broken, not slow


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


def run_bench(results, *arguments, end=None, after=0):
    """Run `bench …`; with `end`, send that signal once `after` records are on disk."""
    command = [sys.executable, "-c", LISTENING, BENCH, *arguments]
    environment = os.environ | {"COLUMNS": "200"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        if end is not None:
            deadline = time.monotonic() + PATIENCE_S
            while lines_in(results) < after and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(end)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    (folder,) = results.iterdir()
    cases = tuple(record.case for record in read_run(folder).records)
    return Ended(process.returncode, out, err, folder, files_of(folder), cases)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def killed(results):
    arguments = ("run", "smoke", "--device", "cpu", "--results", results)
    return run_bench(results, *arguments, end=signal.SIGKILL, after=1)


@pytest.fixture(scope="module")
def interrupted(killed, results):
    """The same run gone on with after a torn line, and interrupted after one more record."""
    (path,) = killed.folder.glob("records-*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"schema_version":1,"method":1,"case":"matm')
    arguments = ("run", "--resume", killed.folder, "--json")
    return run_bench(results, *arguments, end=signal.SIGINT, after=lines_in(results) + 1)


@pytest.fixture(scope="module")
def finished(interrupted, results):
    identity = ("--results", results, "--device", "cpu")
    return run_bench(
        results, "run", "--resume", interrupted.folder.name, *identity, "--budget", "10", "--json"
    )


@pytest.fixture(scope="module")
def again(finished, results):
    return run_bench(results, "run", "smoke", "--resume", finished.folder, "--json")


def manifest_of(ended):
    return json.loads(ended.files["manifest.json"][1])


def test_a_killed_run_keeps_its_records_and_is_not_done(killed):
    assert killed.status == -signal.SIGKILL
    assert "DONE" not in killed.files
    expected = manifest_of(killed)["cases"]
    assert 1 <= len(killed.cases) < len(expected)
    assert killed.cases == tuple(expected[: len(killed.cases)])


def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(interrupted):
    assert interrupted.status == 130
    assert interrupted.out == ""
    assert f"bench run --resume {interrupted.folder}" in interrupted.err.splitlines()[-1]
    assert "Traceback" not in interrupted.err


def test_an_interrupted_run_keeps_what_is_finished(killed, interrupted):
    assert "DONE" not in interrupted.files
    assert interrupted.cases[: len(killed.cases)] == killed.cases
    assert len(interrupted.cases) > len(killed.cases)
    assert len(interrupted.cases) < len(manifest_of(interrupted)["cases"])


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


def test_the_records_from_before_are_untouched(killed, finished):
    for name, (_, data) in killed.files.items():
        assert finished.files[name][1].startswith(data)


def test_json_is_one_document_with_the_torn_line_named(finished):
    document = json.loads(finished.out)
    assert list(document) == ["run", "records", "chain"]
    assert [record["case"] for record in document["records"]] == manifest_of(finished)["cases"]
    assert document["run"]["finished"]
    (problem,) = document["run"]["problems"]
    assert "skipped a torn last line of 43 bytes" in problem


def test_progress_went_to_standard_error(interrupted, finished):
    resumed = [case for case in finished.cases if case not in interrupted.cases]
    for case in resumed:
        assert finished.err.count(f"{case}: ") == 1
    for case in interrupted.cases:
        assert f"{case}: " not in finished.err


def test_smoke_has_its_products_and_its_block(finished):
    records = json.loads(finished.out)["records"]
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


def test_resuming_a_finished_run_changes_nothing(finished, again):
    assert again.status == 0
    assert json.loads(again.out) == json.loads(finished.out)
    assert {name: data for name, (_, data) in again.files.items()} == {
        name: data for name, (_, data) in finished.files.items()
    }
    assert again.files == finished.files  # times of change too


def test_the_run_loads_as_a_frame(finished, results):
    frame = nameplate.load(results)
    assert list(frame["case"]) == manifest_of(finished)["cases"]
    measured = frame[frame["status"] == "ok"]
    assert (measured["time_s"] > 0).all()
    assert pd.isna(frame["power_w"]).all()
    assert len(frame.attrs["problems"]) == 1


def test_the_run_is_shown_and_reported(finished, results, tmp_path):
    shown = run_bench(results, "show", finished.folder)
    assert shown.status == 0
    assert "matmul fp32 1024x1024x1024" in shown.out
    assert "torn last line" in shown.out
    reported = run_bench(results, "report", finished.folder, "-o", tmp_path / "report.md")
    assert reported.status == 0
    assert (tmp_path / "report.svg").stat().st_size > 0


def test_no_case_of_another_suite_is_resumed(finished, results):
    before = files_of(finished.folder)
    ended = run_bench(results, "run", "quick", "--resume", finished.folder)
    assert ended.status == 2
    assert ended.err == "bench: --resume: the run is of another suite; got 'quick'; expected smoke\n"
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


def test_results_that_can_only_be_read_are_one_sentence(read_only):
    done = run_there("run", "smoke", "--device", "cpu", "--results", read_only / "runs", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"bench: --results: can't write a run here: Permission denied; got '.*'; expected .*", line
    )


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
