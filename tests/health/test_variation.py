"""What one device's figures vary by is told apart, level by level, where runs show it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cluster import write_cluster
from nameplate.health.variation import RunFigure, estimate_variation
from nameplate.store.folder import find_runs

PROCESS, RUN, BOOT = 0.02, 0.006, 0.012


def draw(devices=40, boots=4, runs=4, processes=5, seed=3):
    """Figures of devices with a known deviation at each level."""
    rng = np.random.default_rng(seed)
    found = []
    for _device in range(devices):
        own = rng.normal(0, 0.05)
        of_boots = [own + rng.normal(0, BOOT) for _ in range(boots)]
        found.append(
            [
                RunFigure(
                    tuple(of_boots[boot] + rng.normal(0, RUN) + rng.normal(0, PROCESS, processes)), str(boot)
                )
                for boot in range(boots)
                for _run in range(runs)
            ]
        )
    return found


@pytest.mark.stat
def test_the_deviation_of_each_level_is_recovered():
    found = [estimate_variation("a part", "a case", draw(seed=seed)) for seed in range(20)]
    for name, truth in (("process", PROCESS), ("run", RUN), ("boot", BOOT)):
        squares = [getattr(each, f"{name}_sd") ** 2 for each in found]
        assert np.mean(squares) == pytest.approx(truth**2, rel=0.1), name
    first = found[0]
    freedoms = (first.process_freedom, first.run_freedom, first.boot_freedom)
    assert freedoms == (40 * 16 * 4, 40 * 4 * 3, 40 * 3)


def test_a_level_that_no_runs_show_is_unknown():
    once = estimate_variation("p", "c", draw(boots=1, runs=1, processes=1))
    assert (once.process_sd, once.run_sd, once.boot_sd) == (None, None, None)
    # One run in every boot: what boots differ by can't be told from what runs do.
    boots = estimate_variation("p", "c", draw(runs=1))
    assert boots.process_sd == pytest.approx(PROCESS, rel=0.1)
    assert (boots.run_sd, boots.boot_sd, boots.boot_freedom) == (None, None, 0)
    # Runs of before boots were noted say nothing of either.
    unknown = [[RunFigure(run.by_process, None) for run in device] for device in draw()]
    found = estimate_variation("p", "c", unknown)
    assert (found.run_sd, found.boot_sd) == (None, None)


def test_a_folder_of_checks_over_two_boots_shows_all_three(tmp_path, bench):
    rng = np.random.default_rng(4)
    write_cluster(tmp_path / "one", 2)
    for node, folder in enumerate(find_runs(tmp_path / "one")):
        manifest = json.loads((folder / "manifest.json").read_text())
        records = [json.loads(line) for line in (folder / "records-0.jsonl").read_text().splitlines()]
        for boot in range(2):
            of_boot = rng.normal(0, BOOT, len(records))
            for number in range(3):
                run = f"20261129T12{boot}{number}00-check-00000000000{node}"
                copy = tmp_path / "many" / run
                shutil.copytree(folder, copy)
                told = {
                    "run": run,
                    "boot": f"boot {boot}",
                    "created": f"2026-11-29T12:{boot}{number}:00+00:00",
                }
                (copy / "manifest.json").write_text(json.dumps(manifest | told))
                lines = []
                for record, kept in zip(records, of_boot, strict=True):
                    factors = np.exp(kept + rng.normal(0, RUN) + rng.normal(0, PROCESS, 5))
                    by_process = [record["time_s"] * float(each) for each in factors]
                    lines.append(json.dumps(record | {"spreads": {"time_s": {"by_process": by_process}}}))
                (copy / "records-0.jsonl").write_text("\n".join(lines) + "\n")
    product, copied = json.loads(bench("check", tmp_path / "many", "--json").out)["variations"]
    for each in (product, copied):
        assert each["devices"] == 16
        assert (each["process_freedom"], each["run_freedom"], each["boot_freedom"]) == (384, 64, 16)
        assert each["process_sd"] == pytest.approx(PROCESS, rel=0.2)
        assert each["run_sd"] < 2 * RUN
        assert BOOT / 2 < each["boot_sd"] < 2 * BOOT
    screen = bench("check", tmp_path / "many").out
    assert "What the figures of one device vary by" in screen
    assert "(384)" in screen
