"""Folders of many nodes: read without details, judged in seconds, and who is slow or missing is named."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster import BATCHES, write_cluster
from nameplate.base.errors import InputError
from nameplate.health import ledger
from nameplate.health.distribution import (
    estimate_deviation,
    find_distributions,
    find_places,
    read_others_of_part,
)
from nameplate.health.ledger import find_missing, parse_expected_hosts
from nameplate.health.stragglers import collect_speeds
from nameplate.store.folder import find_runs, read_run
from nameplate.store.launch import Launch
from nodes import COPY, PRODUCT

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


def test_jobs_that_nobody_is_known_of_are_a_line_each(make_run, make_record, monkeypatch):
    """A folder of others may name any number of jobs of any number of processes."""
    monkeypatch.setattr(ledger, "_MOST_NAMED", 5)

    def run(job, size):
        return make_run(make_record(), launch=Launch(launcher="slurm", rank=1, world_size=size, job=job))

    found = find_missing([run("a", 4), run("b", 200_000), run("c", 3), run("d", 2)])
    assert [(each.job, each.rank) for each in found] == [
        *(("a", rank) for rank in (0, 2, 3)),
        ("b", None),
        *(("c", rank) for rank in (0, 2)),
        ("d", None),
    ]
    assert found[3].describe() == (
        "missing: job b: nothing was heard of 199999 of the 200000 processes of its job"
    )


def test_a_file_of_more_hosts_than_any_cluster_has_is_refused_before_all_are_listed(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("n[1-99999]\n" * 100_000)
    with pytest.raises(InputError, match="no list of hosts; got '100001 hosts'"):
        parse_expected_hosts(str(file))


def test_a_file_of_hosts_that_isnt_there_is_no_host():
    with pytest.raises(InputError, match="--expect-hosts: no such file of hosts"):
        parse_expected_hosts("hosts.txt")


def test_the_slow_card_and_the_missing_node_of_thirty_are_named(bench, tmp_path):
    hosts = write_cluster(tmp_path, 30, slow={17}, absent={5})
    ended = bench("check", tmp_path, "--json")
    assert ended.status == 1
    said = json.loads(ended.out)
    assert len(said["nodes"]) == 29
    assert {(each["host"], each["device"]) for each in said["stragglers"]} == {(hosts[17], "cuda:3")}
    assert [(each["rank"], each["state"]) for each in said["missing"]] == [(5, "never_seen")]
    # A data set of them says so too.
    merged = bench("merge", tmp_path, "-o", tmp_path / "all.csv", "--json")
    document = json.loads(merged.out)
    assert (merged.status, document["rows"], document["problems"]) == (0, 29 * 16, [])
    assert document["missing"] == said["missing"]
    assert "missing: rank 5, job 1: nothing was heard of it" in merged.err


def test_the_spread_of_a_part_its_percentiles_and_the_place_of_each_device(tmp_path, bench):
    """Two hundred cards drawn with a deviation of 1.35 %; their figures' intervals are ±1 %."""
    write_cluster(tmp_path, 25)
    runs = [read_run(each, in_full=False) for each in find_runs(tmp_path)]
    found = find_distributions(collect_speeds(runs))
    assert {(each.case, each.unit, each.devices) for each in found} == {
        (PRODUCT, "TFLOPS", 200),
        (COPY, "GB/s", 200),
    }
    for each in found:
        assert each.card_sd.low < math.sqrt(0.0135**2 - (0.01 / 1.96) ** 2) < each.card_sd.high
        assert each.percentiles[10] < each.percentiles[50] < each.percentiles[90]
        assert each.slowest == pytest.approx(math.exp(-2.8 * 0.0135), abs=0.015)
        assert len(each.places) == 200
        assert sorted(each.places.values())[0] == pytest.approx(0.25)
    said = json.loads(bench("check", tmp_path, "--json").out)
    assert [each["card_sd"] for each in said["distributions"]] == [each.card_sd.value for each in found]
    assert "How devices of one kind differ" in bench("check", tmp_path).out
    # The same from one run's side.
    run = read_run(find_runs(tmp_path)[7])
    places = find_places(run, read_others_of_part(run))
    assert len(places) == 16
    for place in places:
        one = next(each for each in found if each.case == place.case)
        assert place.devices == 200
        assert place.percentile == one.places[run.manifest.node, place.device]


def test_where_a_slow_card_stands_among_all_of_its_part_is_shown(tmp_path, bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    hosts = write_cluster(tmp_path, 4, slow={2})
    out = bench("check", tmp_path).out
    (row,) = (line for line in out.splitlines() if hosts[2] in line and "GPU-" in line and " of 32" in line)
    assert "2 of 32" in row
    folder = next(each for each in find_runs(tmp_path) if read_run(each).manifest.node == hosts[2])
    said = bench("show", folder, "health").out.split("Among the devices of its part")[1]
    (slow,) = (line.split() for line in said.splitlines() if line.strip().startswith("cuda:3"))
    assert slow[1:4] == ["0", "32", "2"]
    # A run whose folder holds no other of its part is among its own eight cards.
    alone = tmp_path / "alone" / folder.name
    alone.parent.mkdir()
    folder.rename(alone)
    (slow,) = (
        line.split()
        for line in bench("show", alone, "health").out.splitlines()
        if "cuda:3 " in line and " 8 " in line
    )
    assert slow[1:4] == ["0", "8", "6"]


@pytest.mark.stat
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_the_interval_of_the_deviation_holds_the_truth_in_95_of_100(noise):
    rng, held = np.random.default_rng(9), 0
    for _ in range(2000):
        x_N = rng.normal(0, 0.0135, 40) + rng.normal(0, noise, 40)
        found = estimate_deviation(float(x_N.var(ddof=1)), 39, noise**2)
        held += found.low <= 0.0135 <= found.high
    assert 0.935 <= held / 2000 <= 0.965


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
    print(f"CPU time {used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime:.1f} s")
    command = [BENCH, "merge", tmp_path, "-o", tmp_path / "all.parquet", "--json"]
    merged = json.loads(
        subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    )
    assert (merged["rows"], merged["missing"]) == (1249 * 16, said["missing"])
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1 << 20  # KiB, the larger of both
