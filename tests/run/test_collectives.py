"""`bench run collectives`: refused alone; with torchrun, a run whose figures are those of nccl-tests."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from nameplate.store.folder import find_runs, read_run

BIN = Path(sys.executable).parent


def test_alone_there_is_nothing_to_measure(bench, tmp_path):
    ended = bench("run", "collectives", "--results", tmp_path)
    assert ended.status == 2
    assert "collectives need several processes" in ended.err
    assert "torchrun --nproc-per-node 2" in ended.err
    assert bench("run", "collectives", "--shape", "8x8x8").status == 2


@pytest.mark.process
@pytest.mark.nightly
def test_two_processes_of_torchrun_measure_and_verify_every_collective(tmp_path):
    command = [BIN / "torchrun", "--nproc-per-node", "2", "--no-python", BIN / "bench", "run", "collectives"]
    flags = ["--only", "*-1024B-*", "--budget", "20", "--results", tmp_path, "--json"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["records"]) == 6
    (folder,) = find_runs(tmp_path)
    run = read_run(folder)
    assert run.finished
    assert run.problems == ()
    assert (run.manifest.launch.rank, run.manifest.launch.world_size) == (0, 2)
    measured = [record for record in run.records if record.status == "ok"]
    assert len(measured) >= 3
    # On a machine that others use, a case may not fit the time.
    assert {each.reason_code for each in run.records if each not in measured} <= {"needs_time"}
    for record in measured:
        assert record.verification.passed
        assert record.dimensions["transport"] == "gloo"
        factor = Fraction(record.dimensions["bus_factor"])
        assert record.bandwidth_gb_s == pytest.approx(float(1024 * factor) / record.time_s / 1e9)
        assert "unknown" in record.verdicts  # what else went on isn't read, so none is clean
