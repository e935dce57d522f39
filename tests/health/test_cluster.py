"""Folders of many nodes: read without details, judged in seconds, and who is slow or missing is named."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import BATCHES, write_cluster
from nameplate.store.folder import find_runs, read_run

BENCH = Path(sys.executable).with_name("bench")


def test_a_run_read_without_details_is_the_same_but_for_them(tmp_path):
    write_cluster(tmp_path, 1)
    (folder,) = find_runs(tmp_path)
    whole, summary = read_run(folder), read_run(folder, in_full=False)
    assert {len(record.batches) for record in whole.records} == {BATCHES}
    assert len(summary.records) == 16
    for record, brief in zip(whole.records, summary.records, strict=True):
        assert brief.batches == ()
        # The made-up times of its batches contradict its figures, which only the whole record shows.
        changed = {"batches": (), "verdict": "clean", "verdicts": ("clean",), "warnings": ()}
        assert record.model_copy(update=changed) == brief


def test_the_slow_card_and_the_missing_node_of_thirty_are_named(bench, tmp_path):
    hosts = write_cluster(tmp_path, 30, slow={17}, absent={5})
    ended = bench("check", tmp_path, "--json")
    assert ended.status == 1
    said = json.loads(ended.out)
    assert len(said["nodes"]) == 29
    assert {(each["host"], each["device"]) for each in said["stragglers"]} == {(hosts[17], "cuda:3")}
    assert [(each["rank"], each["state"]) for each in said["missing"]] == [(5, "never_seen")]


@pytest.mark.nightly
@pytest.mark.process
def test_ten_thousand_gpus_are_judged_within_a_gibibyte(tmp_path):
    hosts = write_cluster(tmp_path, 1250, slow={17, 99}, absent={5})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [BENCH, "check", tmp_path, "--json"], capture_output=True, text=True, timeout=600, check=False
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = json.loads(done.stdout)
    found = {(each["host"], each["device"]) for each in said["stragglers"]}
    assert found == {(hosts[17], "cuda:3"), (hosts[99], "cuda:3")}
    assert [each["rank"] for each in said["missing"]] == [5]
    assert used.ru_maxrss < 1 << 20  # KiB
    print(f"CPU time {used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime:.1f} s")
