"""`bench run --device all` on eight A800s of which one hangs, one is lost and one talks nonsense."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import nameplate.run.measure
import nameplate.suite
from nameplate.base.processes import python_command
from nameplate.device import cuda, driver, survey
from nameplate.run.deadlines import GRACE_VARIABLE
from nameplate.run.pool import run_workers
from nameplate.store.folder import find_runs, read_run

pytestmark = [pytest.mark.process, pytest.mark.nightly]  # nine processes that load the engine
HERE = Path(__file__).parent
HANGS, LOST, NONSENSE = 1, 4, 6
WELL = [0, 2, 3, 5, 7]


@pytest.fixture
def node(monkeypatch, use_nvml, tmp_path):
    """Such a node; its processes are those of sick_gpus.py."""
    opens = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID")
    use_nvml(
        "eight_a800",
        *(f"gpu.{HANGS}.call.{call} = hang" for call in opens),
        *(f"gpu.{LOST}.call.{call} = error 15" for call in opens),
        f"gpu.{NONSENSE}.sm_clock_mhz = 4294967295",
        f"gpu.{NONSENSE}.temperature_c = 255",
    )
    spec = importlib.util.spec_from_file_location("sick_gpus", HERE / "sick_gpus.py")
    sick_gpus = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sick_gpus", sick_gpus)  # dataclasses look it up there
    spec.loader.exec_module(sick_gpus)

    def properties(index):
        return SimpleNamespace(
            name="NVIDIA A800-SXM4-80GB",
            uuid=f"a8000000-0000-4000-8000-00000000000{index}",
            total_memory=80 << 30,
            multi_processor_count=108,
            major=8,
            minor=0,
            L2_cache_size=40 << 20,
        )

    def command(job):
        return python_command("sick_gpus", job.model_dump_json())

    paths = (str(HERE), str(HERE.parent / "shared"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where an unforeseen error's traceback goes
    monkeypatch.setenv(cuda.DEADLINE, "1")
    monkeypatch.setenv(GRACE_VARIABLE, "4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(survey, "_count_torch_gpus", lambda: 8)
    monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: sick_gpus.SUITE)
    monkeypatch.setattr(nameplate.run.measure, "run_workers", partial(run_workers, command=command))
    with cuda.open_nvml() as nvml:
        for module in (cuda, driver):
            monkeypatch.setattr(module, "share_nvml", lambda: nvml)
        yield


def test_five_are_measured_three_are_named_and_the_status_is_3(node, bench, tmp_path):
    ended = bench("run", "fake", "--device", "all", "--budget", 60, "--results", tmp_path / "runs", "--json")
    assert ended.status == 3
    said = json.loads(ended.out)
    (folder,) = find_runs(tmp_path / "runs")
    run = read_run(folder)
    by_device = defaultdict(list)
    for record in run.records:
        by_device[record.device].append(record)
    for index in WELL:
        assert [record.status for record in by_device[f"cuda:{index}"]] == ["ok"]
        assert by_device[f"cuda:{index}"][0].tflops == pytest.approx(100, rel=0.2)
    # A hung launch: its case is lost, with the reason.
    (hung,) = by_device[f"cuda:{HANGS}"]
    assert hung.status == "failed"
    assert "no sign of life for" in str(hung.reason)
    # A lost card can't be opened, so its cases can still be measured when it is back.
    assert f"cuda:{LOST}" not in by_device
    assert {each.device for each in run.missing} == {f"cuda:{LOST}"}
    # Figures of a card that talks nonsense are there, and nobody relies on them.
    assert not any(record.trusted for record in by_device[f"cuda:{NONSENSE}"])
    problems = said["run"]["problems"]
    assert problems == [str(problem) for problem in run.problems]
    for index in (HANGS, LOST, NONSENSE):
        assert any(problem.startswith(f"cuda:{index}: ") for problem in problems)
    assert not any(problem.startswith(f"cuda:{index}: ") for index in WELL for problem in problems)
    assert f"cuda:{HANGS}: no sign of life for" in ended.err  # while it runs
