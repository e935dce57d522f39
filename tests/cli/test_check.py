"""`bench check`: of one node and of a folder of many, its exit statuses, and the ledger of the missing."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nameplate.health.check
from nameplate.device.survey import DeviceChoice
from nameplate.health.ledger import parse_expected_hosts
from nameplate.store.folder import RecordWriter, create, mark_done, read_run
from nameplate.store.launch import Launch
from nameplate.store.manifest import Expected
from nodes import COPY, PRODUCT, h100_entry, h100_fields


@pytest.fixture(autouse=True)
def _made_up(made_up_figures):
    pass


@pytest.fixture
def results(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def store_node(make_manifest, make_record, results):
    """Write the run of a node of eight H100s; `slow` has shares of speed by the number of the GPU."""

    def store(host="node01", minute=0, slow=None, seed=1, done=True, gpus=range(8), lacks=0, **changes):
        noise = np.exp(np.random.default_rng([seed, minute]).normal(0, 0.01, 8))
        shares = {number: noise[number] * (slow or {}).get(number, 1.0) for number in gpus}
        records = [
            make_record(**h100_fields(f"cuda:{number}", level * share, case))
            for case, level in ((PRODUCT, 0.72), (COPY, 0.92))
            for number, share in shares.items()
        ]
        cases = tuple(Expected(case=each.case, device=each.device) for each in records)
        about = {
            "run": f"20261122T12{minute:02d}00-check-{host.replace('.', '')}{seed:04d}{min(gpus)}",
            "suite": "check",
            "created": f"2026-11-22T12:{minute:02d}:00+00:00",
            "hostname": host,
            "devices": tuple(h100_entry(each, uuid=f"GPU-{host}-{each}") for each in gpus),
            "cases": cases,
        }
        manifest = make_manifest().model_copy(update=about | changes)
        folder = create(results, manifest)
        with RecordWriter(folder, "node") as writer:
            for record in records[: len(records) - lacks]:
                writer.append(record)
        if done and not lacks:
            mark_done(folder)
        return folder

    return store


def check(bench, *words):
    ended = bench("check", *words, "--json")
    return ended.status, json.loads(ended.out)


def test_a_run_of_a_node_is_judged_and_the_status_follows(bench, store_node, results):
    store_node("node01")
    status, said = check(bench, results)
    assert (status, said["verdict"]) == (0, "fit")
    assert [each["verdict"] for each in said["devices"]] == ["fit"] * 8
    assert said["devices"][3]["uuid"] == "GPU-node01-3"
    assert said["devices"][3]["host"] == "node01"
    store_node("node01", minute=1, slow={2: 0.8})
    ended = bench("check", results)
    assert ended.status == 1
    assert f"{results} is unfit" in ended.err
    assert "cuda:2 GPU-node01-2" in ended.out
    status, said = check(bench, results, "--expect-gpus", 9)
    assert status == 1
    assert said["nodes"][0]["reasons"] == ["8 GPUs were found, 9 expected"]
    chinese = bench("check", results, "--lang", "zh")
    assert "不可用" in chinese.out


def test_an_unfinished_run_and_one_without_a_yardstick_end_with_3(
    bench, store_node, store_run, make_record, results
):
    store_run(results, make_record())
    status, said = check(bench, results)
    assert (status, said["verdict"]) == (3, "unknown")
    store_node("node01", lacks=2)
    status, said = check(bench, results)
    assert status == 3
    missing = {each["host"]: each for each in said["missing"]}
    assert missing["node01"]["state"] == "unfinished"
    assert "14 of 16 cases have a record" in missing["node01"]["why"]


def test_the_ledger_names_who_is_missing_and_why(bench, store_node, results, tmp_path):
    hosts = ("node01", "node02", "node03", "node04")

    def launch(rank):
        return Launch(launcher="slurm", rank=rank, world_size=4, job="77", node=hosts[rank], hosts=hosts)

    store_node("vm", seed=1, launch=launch(0))
    store_node("vm", seed=2, launch=launch(1), lacks=3)  # killed in the middle
    note = {"host": "node03", "at": "2026-11-22T12:00:00+00:00", "why": "CUDA can't be started"}
    (results / "x.refused.json").write_text(json.dumps(note | {"launch": launch(2).model_dump(mode="json")}))
    (results / "y.refused.json").write_text("{torn")
    status, said = check(bench, results)
    assert (status, said["verdict"]) == (3, "unknown")
    assert {each["host"] for each in said["devices"]} == {"node01", "node02"}
    assert [each["host"] for each in said["nodes"]] == ["node01", "node02"]
    told = {(each["host"], each["rank"], each["state"]) for each in said["missing"]}
    assert told == {
        ("node02", 1, "unfinished"),
        ("node03", 2, "refused"),
        ("node04", 3, "never_seen"),
    }
    assert "CUDA can't be started" in next(each["why"] for each in said["missing"] if each["rank"] == 2)
    # Names, or a number, of those that should be there.
    named = tmp_path / "hosts"
    named.write_text("# the cluster\nnode[01-03]\nnode04 # new\nnode09\n")
    assert parse_expected_hosts(str(named))[0] == (*hosts, "node09")
    status, said = check(bench, results, "--expect-hosts", named)
    assert ("node09", None, "never_seen") in {
        (each["host"], each["rank"], each["state"]) for each in said["missing"]
    }
    ended = bench("check", results, "--expect-hosts", 6)
    assert "nothing was heard of 3 of the 6 nodes" in " ".join(ended.out.split())
    assert bench("check", results, "--expect-hosts", "a[1").status == 2
    assert bench("check", "--expect-hosts", "4").status == 2


def test_a_straggler_among_nodes_is_suspected_and_by_two_more_runs_confirmed(bench, store_node, results):
    """Alone on its node, so that neither siblings nor its past show it; its share of nominal is plausible."""
    for number in range(24):
        store_node(f"node{number:02d}", seed=number, gpus=[0])
    store_node("node99", seed=99, slow={0: 0.9}, gpus=[0])
    status, said = check(bench, results)
    (straggler,) = said["stragglers"]
    assert (status, said["verdict"]) == (1, "degraded")
    assert (straggler["host"], straggler["confidence"], straggler["runs"]) == ("node99", "suspected", 1)
    assert straggler["drop"] == pytest.approx(0.1, abs=0.03)
    assert "twice more on each of node99" in " ".join(bench("check", results).out.split())
    control = straggler["control"].split()[0]
    for minute in (1, 2):
        store_node("node99", seed=99, minute=minute, slow={0: 0.9}, gpus=[0])
        store_node(control, seed=int(control[4:]), minute=minute, gpus=[0])
    _status, said = check(bench, results)
    (straggler,) = said["stragglers"]
    assert (straggler["confidence"], straggler["runs"]) == ("confirmed", 3)


def test_gpus_of_a_node_that_each_process_measured_are_siblings(bench, store_node, results):
    for rank in range(8):
        launch = Launch(launcher="torch", rank=rank, world_size=8, local_rank=rank, local_world_size=8)
        store_node("node01", seed=7, gpus=[rank], slow={5: 0.8}, launch=launch)
    status, said = check(bench, results, "--expect-gpus", 8)
    assert status == 1
    (node,) = said["nodes"]
    assert len(node["runs"]) == 8
    assert {each["device"]: each["verdict"] for each in said["devices"]} == {
        f"cuda:{rank}": "unfit" if rank == 5 else "fit" for rank in range(8)
    }
    assert said["missing"] == []


def test_a_node_without_the_gpus_it_should_have_is_unfit_and_leaves_a_note(bench, monkeypatch, results):
    monkeypatch.setattr(nameplate.health.check, "choose_devices", lambda flag: DeviceChoice(["cpu"]))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    status, said = check(bench, "--expect-gpus", 8, "--results", results)
    assert (status, said["verdict"], said["devices"]) == (1, "unfit", [])
    assert said["reasons"] == ["0 GPUs were found, 8 expected", "no GPU is here, so nothing was measured"]
    status, said = check(bench, results)
    assert status == 3
    assert [(each["rank"], each["state"]) for each in said["missing"]] == [(0, "never_seen"), (1, "refused")]
    # Of several processes on a CPU one measures it.
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    ended = bench("check", "--results", results)
    assert (ended.status, ended.out) == (0, "")
    assert "another process of this node measures its CPU" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such run"),
        (["--expect-gpus", "-1"], "--expect-gpus: not a number of GPUs"),
        (["--budget", "-1"], "--budget: not a time to measure in"),
        (["--device", "cuda:7"], "no such GPU"),
        (["--suite", "nonesuch"], "unknown suite"),
    ],
)
def test_what_cannot_be_used_ends_with_2(bench, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = bench("check", *words)
    assert ended.status == 2
    assert said in ended.err


def test_a_measured_node_is_judged_with_its_past(bench, monkeypatch, store_node, results):
    """The measuring itself is replaced by a stored run."""
    folder = store_node("node01")

    def measure(suite, *, device, budget, results, observer):
        observer.run_started(folder, read_run(folder).manifest, budget, 16)
        return read_run(folder)

    monkeypatch.setattr(nameplate.health.check, "measure", measure)
    monkeypatch.setattr(nameplate.health.check, "choose_devices", lambda flag: DeviceChoice(["cuda:0"]))
    ended = bench("check", "--expect-gpus", 8, "--results", results)
    assert ended.status == 0, ended.err
    assert str(folder.name) in ended.out.replace("\n", "")
    assert "node01 is fit: 8 fit." in ended.out


@pytest.mark.parametrize("flags", [("--budget", "5.0"), ("--device", "cpu"), ("--suite", "smoke")])
def test_a_flag_of_measuring_is_refused_beside_a_folder(bench, store_node, results, flags):
    store_node()
    ended = bench("check", str(results), *flags)
    assert ended.status == 2
    flag, given = flags
    said = f"{flag}: applies to a measurement, and DIR measures nothing; got '{given}'"
    assert ended.err.splitlines() == [f"bench: {said}; expected DIR alone, or the flag without DIR"]
