"""`bench leaderboard` at the command line: what it writes and prints, and when it exits with 1."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from nameplate.report.leaderboard import BEGIN

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def bench(bench):
    """Run `bench leaderboard …`."""
    return partial(bench, "leaderboard")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of this repository's results, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RESULTS, tmp_path / "results")
    return tmp_path / "results"


def test_it_writes_the_readme_and_says_where(bench, copy):
    (copy / "README.md").unlink()
    assert bench() == (0, "results/README.md\n", "")
    assert BEGIN in (copy / "README.md").read_text(encoding="utf-8")
    assert bench("--check") == (0, "results/README.md is current\n", "")


def test_a_folder_whose_name_is_no_text_is_linked_by_its_bytes(bench, copy):
    part = next(each for each in copy.iterdir() if each.is_dir())
    part.rename(copy / os.fsdecode(b"\xff part"))
    assert bench().status == 0
    assert "](%FF%20part/" in (copy / "README.md").read_text(encoding="utf-8")
    assert bench("--check", "--json").status == 0


def test_another_folder_than_results(bench, copy):
    moved = copy.rename(copy.with_name("my results"))
    assert bench(moved, "--check").status == 0


def test_check_writes_nothing_and_is_1_with_the_command_to_run(bench, copy):
    moved = copy.rename(copy.with_name("my results"))
    path = moved / "README.md"
    stale = path.read_text(encoding="utf-8").replace("72.6%", "92.6%")
    path.write_text(stale, encoding="utf-8")
    result = bench("my results", "--check")
    sentence = "bench: my results/README.md isn't current; run `bench leaderboard 'my results'`\n"
    assert result == (1, "", sentence)
    assert path.read_text(encoding="utf-8") == stale


def test_check_is_1_without_a_readme_and_makes_none(bench, copy):
    (copy / "README.md").unlink()
    assert bench("--check").status == 1
    assert not (copy / "README.md").exists()


def test_json_prints_the_rows_and_writes_all_the_same(bench, copy):
    (copy / "README.md").unlink()
    rows = {row["part"]: row for row in json.loads(bench("--json").out)}
    row = rows["intel-emerald-rapids"]
    assert row["run"] == "20261122T165536-standard-1901"
    assert [each["stage"] for each in row["reached"]] == ["gemm", "gemm_model", "block"]
    assert (copy / "README.md").exists()


def test_json_with_check_prints_rows_and_is_1_where_stale(bench, copy):
    assert bench("--check", "--json").status == 0
    (copy / "README.md").unlink()
    result = bench("--check", "--json")
    assert result.status == 1
    assert len(json.loads(result.out)) >= 1
    assert result.err == "bench: results/README.md isn't current; run `bench leaderboard results`\n"


def test_a_run_that_cannot_be_read_is_named_and_left_out(bench, copy):
    (copy / "x" / "y").mkdir(parents=True)
    (copy / "x" / "y" / "manifest.json").write_text('{"\\u001b[2J": 1}')
    result = bench("--check")
    assert (result.status, result.out) == (0, "results/README.md is current\n")
    assert result.err.startswith("bench: skipped a run: results/x/y/manifest.json: ")
    assert "\x1b" not in result.err


def test_a_folder_without_results_is_2(bench, tmp_path):
    result = bench(tmp_path)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("bench: bench leaderboard: no published run here; got ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_it_needs_neither_torch_nor_what_draws(modules_after, copy):
    """A reviewer's laptop ranks results without what measures them."""
    loaded = modules_after(("leaderboard", "--check", copy))
    assert "nameplate.report.leaderboard" in loaded
    assert not {"torch", "altair", "pyarrow"} & loaded
