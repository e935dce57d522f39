"""`bench run collectives`: refused alone; in a job, a run whose figures are those of nccl-tests.

Where a process dies, the others end, and the run names it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from nameplate.base.errors import InputError, RunIncomplete
from nameplate.base.messages import message
from nameplate.device.survey import DeviceChoice
from nameplate.report.sections.collectives import collectives_table, list_collectives
from nameplate.run import peers
from nameplate.run.collectives import rated_columns
from nameplate.run.halving import Culprit
from nameplate.run.job import TOGETHER
from nameplate.run.jobs import JOB_SUITES
from nameplate.run.measure import measure
from nameplate.run.probing import Prober, describe_culprits
from nameplate.selftest import collectives
from nameplate.specs.links import RatedLink
from nameplate.stats.interval import Interval
from nameplate.store.contradictions import find_contradictions
from nameplate.store.folder import find_runs, read_run
from nameplate.store.launch import Launch

BIN = Path(sys.executable).parent


def test_alone_there_is_nothing_to_measure(bench, tmp_path):
    ended = bench("run", "collectives", "--results", tmp_path)
    assert ended.status == 2
    assert "collectives need several processes" in ended.err
    assert "torchrun --nproc-per-node 2" in ended.err
    assert bench("run", "collectives", "--shape", "8x8x8").status == 2
    ended = bench("selftest", "--collectives")
    assert ended.status == 2
    assert "torchrun --nproc-per-node 2 --no-python bench selftest --collectives" in ended.err


def test_the_flags_of_one_process_are_refused_and_no_check_is_passed_over(bench):
    for words in (["--expect", "bf16=0.8"], ["--fail-under", "0.8"], ["--nominal", "bf16=1"]):
        ended = bench("run", "collectives", *words)
        assert (ended.status, ended.out) == (2, "")
        assert "can't be used with collectives" in ended.err


def test_one_process_neither_begins_nor_goes_on_with_what_a_job_measures(store_run, make_record, tmp_path):
    assert set(JOB_SUITES) == TOGETHER
    folder = store_run(tmp_path, make_record(), suite="collectives")
    (path,) = folder.glob("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cases": ["another"]}))
    for flags in ({"suite": "collectives"}, {"resume": str(folder)}):
        with pytest.raises(InputError, match="job"):
            measure(device="cpu", results=tmp_path, **flags)


JOB = Launch(launcher="torch", rank=1, world_size=2, local_rank=1, local_world_size=2)


@pytest.mark.parametrize("given", ["tpu", "cuda:1", "twin:h200", "", "cuda"])
def test_a_device_that_no_process_of_a_job_can_take_is_refused(monkeypatch, given):
    monkeypatch.setattr("nameplate.run.peers.choose_devices", lambda _: DeviceChoice(["cuda:0"]))
    with pytest.raises(InputError, match="--device"):
        peers._choose_device(given, JOB)
    assert peers._choose_device("auto", JOB) == "cpu"  # one GPU for two
    monkeypatch.setattr("nameplate.run.peers.choose_devices", lambda _: DeviceChoice(["cuda:0", "cuda:1"]))
    assert peers._choose_device("cuda", JOB) == "cuda:1"


def test_others_who_never_come_are_waited_for_so_long(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(peers, "_MEET_S", 0.05)
    module = sys.modules["torch.distributed.rendezvous"]  # torch.distributed has a function of its name
    monkeypatch.setattr(module, "rendezvous", lambda *_, **__: iter(over.wait, True))
    with pytest.raises(RuntimeError, match="no answer from them in"):
        peers._meet(JOB, timedelta(seconds=60))
    over.set()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"MASTER_ADDR": "127.0.0.1"},
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "http"},
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "65536"},
    ],
)
def test_an_address_that_is_none_is_named(monkeypatch, variables):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = re.escape(f"MASTER_PORT={variables.get('MASTER_PORT')}: the other processes of the job can't be")
    with pytest.raises(InputError, match=said):
        peers.Peers.join(JOB, "cpu")


@pytest.mark.process
@pytest.mark.nightly
@pytest.mark.parametrize("address", ["nowhere.invalid", "127.0.0.1", "192.0.2.1"])
def test_an_address_that_leads_nowhere_ends_with_a_sentence(tmp_path, address):
    """No such name; a port that nobody listens at; a network that no packet comes back from."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": port}
    command = [BIN / "bench", "run", "collectives", "--device", "cpu", "--results", tmp_path]
    done = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = f"bench: MASTER_ADDR={address}, MASTER_PORT={port}: the other processes"
    assert done.stderr.splitlines()[-1].startswith(said)


def test_a_collective_that_fails_ends_the_self_test_with_its_reason(monkeypatch):
    class Broken:
        opened, device, broken, launch = SimpleNamespace(), torch.device("cpu"), None, JOB

        def leave(self):
            assert self.broken is not None  # else the others would be waited for

        def time(self, *_):
            raise RuntimeError("connection reset by peer")

    case = SimpleNamespace(
        fill="normal",
        workload=SimpleNamespace(
            dimensions={"kind": "all_reduce", "message_bytes": 1 << 20},
            prepare=lambda *_, **__: SimpleNamespace(launches=[None]),
        ),
    )
    monkeypatch.setattr(collectives, "require_job", lambda _: JOB)
    monkeypatch.setattr(collectives, "target_of", lambda _: None)
    monkeypatch.setattr(collectives, "find_suite", lambda _: SimpleNamespace(cases=lambda _: [case]))
    monkeypatch.setattr(collectives.Peers, "join", lambda *_: Broken())
    with pytest.raises(RunIncomplete, match=r"a collective failed on rank 1: .*connection reset by peer"):
        collectives.compare_collectives("cpu", 1.0)


def collective(make_record, kind, message_bytes, time_s, link=None, verdict="clean"):
    """A record of a collective among eight, with nccl-tests' bus bandwidth."""
    factor = {"all_reduce": Fraction(7, 4), "broadcast": Fraction(1)}[kind]
    moved = int(message_bytes * factor)
    rate = Interval(moved / time_s / 1e9, 0.99 * moved / time_s / 1e9, 1.01 * moved / time_s / 1e9)
    dimensions = {
        "kind": kind,
        "message_bytes": message_bytes,
        "world_size": 8,
        "bus_factor": str(factor),
        "transport": "nccl",
    }
    no_product = ("flops", "tflops", "tflops_low", "tflops_high", "tflops_median", "efficiency_low")
    no_product += ("efficiency", "efficiency_high", "datasheet_efficiency", "convention")
    no_product += ("nominal_tflops", "datasheet_tflops", "represents")
    figures = dict.fromkeys(no_product) | {
        "case": f"collective/fp32/{kind}-{message_bytes}B-x8/normal/warm/-/torch",
        "workload": "collective",
        "dtype": "fp32",
        "shape": f"{kind}-{message_bytes}B-x8",
        "dimensions": dimensions,
        "bytes": moved,
        "time_s": time_s,
        "bandwidth_gb_s": rate.value,
        "bandwidth_low_gb_s": rate.low,
        "bandwidth_high_gb_s": rate.high,
        "verdict": verdict,
        "verdicts": (verdict,),
    }
    if isinstance(link, RatedLink):
        dimensions |= {"link": link.kind, "link_gb_s": link.gb_s}
    return make_record(**figures | rated_columns(link, rate))


def test_bus_bandwidth_is_compared_with_the_link_in_records_and_on_screen(make_record, make_manifest):
    nvlink = RatedLink("gpu link", 200.0, "half of 400 GB/s: somebody (2026)")
    large = collective(make_record, "all_reduce", 1 << 30, 0.01, nvlink)
    small = collective(make_record, "all_reduce", 8, 2e-5, nvlink)
    assert large.efficiency == pytest.approx((1 << 30) * 7 / 4 / 0.01 / 1e9 / 200)
    assert (large.efficiency_low, large.efficiency_high) == pytest.approx(
        (0.99 * large.efficiency, 1.01 * large.efficiency)
    )
    entry, method = make_manifest().devices[0], make_manifest().method
    assert not [m for m in find_contradictions(large, entry, method) if "efficiency" in str(m)]
    wrong = large.model_copy(update={"efficiency": 0.5})
    assert [m for m in find_contradictions(wrong, entry, method) if "efficiency" in str(m)]
    said = dict(list_collectives([small, large]))
    assert said["links"].startswith("188 ± ")
    assert said["links"].endswith("GB/s bus bandwidth in all_reduce of 1 GiB among 8, 94.0% of a link's 200")
    assert said["latency"] == "20 µs a launch in all_reduce of 8 B among 8"
    table = collectives_table([small, large])
    assert [row[:4] for row in table.rows][1] == ("all_reduce", "1 GiB", "10 ms", "107")  # algbw: size ÷ time
    assert "half of 400 GB/s" in table.lead
    # Without a rating nothing is compared, and the reason stands there; what is in doubt says so.
    plain = collective(
        make_record, "broadcast", 1 << 20, 1e-4, message("link_not_rated"), verdict="contended"
    )
    assert plain.efficiency is None
    assert "have no known rating" in collectives_table([plain]).lead
    assert dict(list_collectives([plain]))["links"].endswith("(in doubt: contended)")
    assert list(list_collectives([])) == []


def test_each_culprit_is_a_sentence_with_its_name():
    found = [
        Culprit("dead", (2,)),
        Culprit("member", (0,), 0.25),
        Culprit("link", (0, 1)),
        Culprit("together", (0, 1)),
    ]
    said = [str(each) for each in describe_culprits(found, ["n0", "n1", "n2"], ["rank 7 (n2)"])]
    assert said == [
        "no answer from rank 7 (n2): dead, stopped or cut off",
        "n0: a pair with it ran at 25.0% of the usual pair's speed",
        "between n0 and n1 nothing works; each works with others",
        "all 2 together fail, while no pair of them does",
    ]


def probe(count, faults, silent=(), limit_s=6.0):
    """Search among threads that are ranks of gloo; `faults` are called before each group by rank."""
    store, found = dist.HashStore(), []

    def take_part(rank):
        store_of_rank = dist.PrefixStore("probe", store)
        prober = Prober(
            store_of_rank, rank, torch.device("cpu"), limit_s, limit_s, faults.get(rank, lambda _group: None)
        )
        if rank:
            prober.follow()
        else:
            found.extend(prober.lead([(each,) for each in range(count)]))

    threads = [
        threading.Thread(target=take_part, args=(each,)) for each in range(count) if each not in silent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


@pytest.mark.nightly
def test_gloo_among_four_names_a_slow_member_a_silent_one_and_a_broken_link():
    (slow,), silent = probe(4, {2: lambda _group: time.sleep(0.3)})
    assert (slow.kind, slow.members, silent) == ("member", (2,), ())
    assert slow.share < 0.5
    found, silent = probe(4, {}, silent=(3,))
    assert (found[0], silent) == (Culprit("dead", (3,)), (3,))

    def cut(group):
        if {1, 2} <= set(group):
            raise RuntimeError("connection reset by peer")

    (broken,), _silent = probe(4, {1: cut, 2: cut})
    assert (broken.kind, set(broken.members)) == ("link", {1, 2})


@pytest.mark.process
@pytest.mark.nightly
def test_a_killed_process_is_named_and_the_others_end(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [BIN / "bench", "run", "collectives", "--budget", "120", "--results", tmp_path, "--json"]
    running = []
    for rank in range(3):
        told = {"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "3"}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                command, env=os.environ | told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        end_s = time.monotonic() + 120
        while not list(tmp_path.glob("*/records-*.jsonl")) or not find_runs(tmp_path):
            assert time.monotonic() < end_s
            time.sleep(0.2)
        time.sleep(2)
        running[2].kill()
        out, err = running[0].communicate(timeout=timedelta(minutes=5).total_seconds())
        _out, others = running[1].communicate(timeout=60)
    finally:
        for each in running:
            each.kill()
    assert running[0].returncode == 3, err
    assert running[1].returncode == 3
    assert "a collective failed on rank 1" in others
    said = json.loads(out)
    assert any("no answer from rank 2" in each for each in said["run"]["problems"])
    assert {each["status"] for each in said["records"][-3:]} == {"failed"}


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
        assert str(record.nominal_source) == "the links between these processes have no known rating"
    # What else went on is read; a case that had few batches may still be of unknown stability.
    assert any(record.conditions["foreign_cpu_share"] is not None for record in measured)
