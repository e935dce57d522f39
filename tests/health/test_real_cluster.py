"""A cluster that isn't made up: Slurm on this machine, torchrun, and processes that are killed or stopped.

Nightly, and only where Debian's slurm-wlm and munge are installed, for root: `make test-cluster` says how.
Two nodes are two slurmd on the loopback; a third is configured and never answers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nameplate.store.folder import DONE, find_runs, read_manifest

pytestmark = [pytest.mark.process, pytest.mark.nightly]
BENCH = Path(sys.executable).with_name("bench")
PATIENCE_S = 240
# One case, so that a check on a core that others use takes seconds.
SHORT = ["--budget", "3"]
needs_slurm = pytest.mark.skipif(
    not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "srun"))) or os.geteuid() != 0,
    reason="no Slurm here, or not root: apt-get install slurm-wlm munge",
)
CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/linear
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=3
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port1} CPUs=1
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port2} CPUs=1
NodeName=node3 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port3} CPUs=1
PartitionName=all Nodes=node[1-2] Default=YES State=UP
"""


def wait_for(condition, what, patience_s=PATIENCE_S):
    end_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a cluster of two nodes; its daemons end with the tests."""
    folder = tmp_path_factory.mktemp("slurm")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    ports = 20_000 + os.getpid() % 10_000 * 4
    names = {"port": ports, "port1": ports + 1, "port2": ports + 2, "port3": ports + 3}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, **names))
    (folder / "state").mkdir()
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = [
        f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "log-file")
    ]
    munge += [
        f"--seed-file={folder}/munge.seed",
        f"--socket={folder}/munge.socket",
        "--force",
        "--foreground",
    ]
    daemons = [
        ["munged", *munge],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-c", "-N", f"node{number}"] for number in (1, 2)),
    ]
    started = []
    with (folder / "daemons.log").open("w") as log:
        try:
            for command in daemons:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                time.sleep(0.5)

            def are_idle():
                told = subprocess.run(
                    ["sinfo", "-h", "-o", "%t %D"],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                return told.stdout.split() == ["idle", "2"]

            wait_for(are_idle, "two idle nodes", 60)
            yield environment
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                with_patience(process)


def with_patience(process):
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_folder(results, *words):
    done = subprocess.run(
        [BENCH, "check", results, "--json", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def measuring(results, rank):
    """The folder of the unfinished run of a rank, once its first record is on disk or about to be."""
    for folder in find_runs(results):
        launch = read_manifest(folder).launch
        if launch is not None and launch.rank == rank and not (folder / DONE).exists():
            return folder
    return None


def processes_of(folder):
    """The processes of `bench` that measure into this folder, parents and children."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        told = " ".join(process.info["cmdline"] or ())
        if str(folder) in told or folder.name in told:
            found.append(process)
    return found


@needs_slurm
def test_srun_on_two_nodes_one_killed_in_the_middle_and_the_ledger_names_it(slurm, tmp_path):
    results = tmp_path / "checks"
    results.mkdir()
    command = ["srun", "--nodes", "2", "--ntasks-per-node", "1", "--no-kill", "--kill-on-bad-exit=0"]
    running = subprocess.Popen(
        [*command, BENCH, "check", *SHORT, "--results", results],
        env=slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = wait_for(lambda: measuring(results, 1), "the run of rank 1")
    victims = wait_for(lambda: processes_of(folder), "its processes")
    for process in victims:
        for each in (*process.parents(), process):
            if each.name() == "bench" or "bench" in " ".join(each.cmdline()[:2]):
                each.kill()
    running.communicate(timeout=PATIENCE_S)
    _status, said = check_folder(results)
    assert "node1" in {each["host"] for each in said["nodes"]}
    missing = [(each["host"], each["rank"], each["state"]) for each in said["missing"]]
    assert missing == [("node2", 1, "unfinished")]
    # A node that is in the partition's list and never answers.
    _status, said = check_folder(results, "--expect-hosts", "node[1-3]")
    assert ("node3", None, "never_seen") in [
        (each["host"], each["rank"], each["state"]) for each in said["missing"]
    ]


def test_torchrun_where_one_rank_is_stopped_does_not_hang_the_rest(tmp_path):
    """Ranks of two nodes of one process each: a stopped one keeps its run unfinished, the other ends."""
    results = tmp_path / "checks"
    results.mkdir()

    def start(rank):
        told = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        return subprocess.Popen(
            [BENCH, "check", *SHORT, "--results", results],
            env=os.environ | told,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    stopped = start(1)
    try:
        wait_for(lambda: measuring(results, 1), "the run of rank 1")
        stopped.send_signal(signal.SIGSTOP)
        other = start(0)
        assert other.wait(PATIENCE_S) in (0, 3)
        _status, said = check_folder(results)
        assert [(each["rank"], each["state"]) for each in said["missing"]] == [(1, "unfinished")]
    finally:
        os.killpg(stopped.pid, signal.SIGKILL)
        stopped.wait()


def test_torchrun_starts_a_check_on_each_local_rank_and_one_measures_the_cpu(tmp_path):
    results = tmp_path / "checks"
    torchrun = Path(sys.executable).with_name("torchrun")
    done = subprocess.run(
        [torchrun, "--nproc-per-node", "2", "--no-python", BENCH, "check", *SHORT, "--results", results],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "another process of this node measures its CPU" in done.stderr
    (folder,) = find_runs(results)
    launch = read_manifest(folder).launch
    assert (launch.rank, launch.world_size, launch.local_world_size) == (0, 2, 2)
