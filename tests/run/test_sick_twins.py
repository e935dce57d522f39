"""`bench run` and `bench check` on a node of eight twins: one is slow, one hot, and one hangs or is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nameplate.store.folder import find_runs, read_run

pytestmark = [pytest.mark.process, pytest.mark.nightly]  # eight processes that load torch
SLOW, HOT, HANGS = 2, 4, 6
WELL = [0, 1, 3, 5, 7]
TEXT = (Path(__file__).parents[2] / "docs/twin.md").read_text(encoding="utf-8").split("## Sick cards")[1]
NODE = TEXT.split("```toml\n")[1].split("```")[0]
LOST_TOO = NODE.replace('"endless"', '"lost"')


def test_the_slow_the_hot_and_the_hanging_card_of_eight_are_told_apart(bench, tmp_path):
    (tmp_path / "node.toml").write_text(NODE)
    ended = bench(
        *("run", "soak", "--budget", "30", "--device", f"twin:{tmp_path}/node.toml"),
        *("--results", tmp_path / "runs", "--json"),
    )
    assert ended.status == 3  # a case failed
    said = json.loads(ended.out)
    assert said["run"]["measured"] is False
    (folder,) = find_runs(tmp_path / "runs")
    everything = read_run(folder).records
    assert {record.status for record in everything if record.device == f"twin:sick-node:{HANGS}"} == {
        "failed"
    }
    by_device = {record.device: record for record in everything if record.phase == "sustained"}
    records = [by_device[f"twin:sick-node:{index}"] for index in range(8)]
    assert not any(record.measured for record in records)
    for index in WELL:
        assert records[index].status == "ok"
        assert {"power_capped"} <= {*records[index].verdicts} <= {"power_capped", "unstable"}
        assert records[index].tflops == pytest.approx(records[0].tflops, rel=0.03)
    # The slow one has no fault that its driver knows of: it shows beside the others.
    assert {*records[SLOW].verdicts} <= {"power_capped", "unstable"}
    assert records[SLOW].tflops < 0.95 * records[0].tflops
    assert records[HOT].verdict == "throttled"
    assert records[HOT].tflops < records[SLOW].tflops
    assert any("thermal" in str(warning) for warning in records[HOT].warnings)
    assert records[HANGS].status == "failed"
    assert "no sign of life" in str(records[HANGS].reason)
    assert said["run"]["problems"]
    assert all(problem.startswith(f"twin:sick-node:{HANGS}: ") for problem in said["run"]["problems"])


@pytest.mark.parametrize(("node", "said"), [(NODE, "hung"), (LOST_TOO, "Xid 79")], ids=["hangs", "lost"])
def test_a_check_of_the_node_names_the_slow_the_hot_and_the_one_that_is_gone(bench, tmp_path, node, said):
    (tmp_path / "node.toml").write_text(node)
    ended = bench("check", "--device", f"twin:{tmp_path}/node.toml", "--results", tmp_path / "runs", "--json")
    assert ended.status == 1
    found = {each["device"]: each for each in json.loads(ended.out)["devices"]}
    sick = {SLOW: "slower than the", HOT: "thermal", HANGS: said}
    for index in range(8):
        device = found[f"twin:sick-node:{index}"]
        assert device["verdict"] == ("unfit" if index in sick else "fit"), device
        assert sick.get(index, "") in str(device["reasons"])
