"""Which of a job's processes this is: the environments of torchrun, srun, mpirun, PMI and Kubernetes."""

from __future__ import annotations

import pytest

from nameplate.base.errors import InputError
from nameplate.run.measure import choose_own_device
from nameplate.store.launch import Launch, expand_hosts, read_launch

TORCHRUN = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "node[01-02],login",
    "SLURM_JOB_ID": "77",
    "SLURMD_NODENAME": "node02",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
KUBERNETES = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "job-0"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        # A batch script of Slurm is one process, whatever its job has.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}, None),
        (TORCHRUN, Launch(launcher="torch", rank=9, world_size=16, local_rank=1, local_world_size=8)),
        (
            SRUN,
            Launch(
                launcher="slurm",
                rank=3,
                world_size=5,
                local_rank=1,
                local_world_size=2,
                job="77",
                node="node02",
                hosts=("node01", "node02", "login"),
            ),
        ),
        (MPIRUN, Launch(launcher="openmpi", rank=2, world_size=4, local_rank=0, local_world_size=2)),
        (HYDRA, Launch(launcher="pmi", rank=1, world_size=2, local_rank=1, local_world_size=2)),
        (KUBERNETES, Launch(launcher="torch", rank=1, world_size=4)),
    ],
)
def test_every_launcher_is_mapped_to_rank_and_world_size(variables, expected):
    assert read_launch(variables) == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RANK": "x"}, "RANK: not a rank or a number"),
        ({"RANK": "16"}, "RANK: not a rank of its job; .* below WORLD_SIZE, 16"),
        ({"RANK": "200000", "WORLD_SIZE": "0"}, "RANK: not a rank or a number .* 199999 at most"),
        ({"LOCAL_RANK": "200000"}, "LOCAL_RANK: not a rank or a number of processes"),
        ({"WORLD_SIZE": "999999999"}, "WORLD_SIZE: not a rank or a number of processes; .* 200000 at most"),
    ],
)
def test_a_variable_that_is_no_number_of_a_process_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        read_launch(TORCHRUN | changes)


def test_a_node_of_more_processes_than_any_job_has_is_refused():
    with pytest.raises(InputError, match="SLURM_STEP_TASKS_PER_NODE: too many processes"):
        read_launch(SRUN | {"SLURM_STEP_TASKS_PER_NODE": "999999999(x9)"})


@pytest.mark.parametrize(
    ("compressed", "hosts"),
    [
        ("node7", ["node7"]),
        ("a[01-03,7],b", ["a01", "a02", "a03", "a7", "b"]),
        ("r[1-2]n[08-09].x", ["r1n08.x", "r1n09.x", "r2n08.x", "r2n09.x"]),
    ],
)
def test_lists_of_hosts_are_those_of_slurm(compressed, hosts):
    assert list(expand_hosts(compressed)) == hosts


def test_a_long_list_of_hosts_is_read_at_once():
    """As long as an environment variable may be; looked through again at each comma, it would be minutes."""
    names = [f"n{number}" for number in range(20_000)]
    assert expand_hosts(",".join(names)) == tuple(names)
    counts = "1(x99999)," * 10_000
    assert read_launch(SRUN | {"SLURM_STEP_TASKS_PER_NODE": counts}).local_world_size == 1


NO_LISTS = ("a[1", "a]", "", "a[x-3]", "a[1-999999999]", "a b", "a[1-400]b[1-400]", "/dev/zero", "n" * 300)
NO_LISTS += (
    "a" + "[1]" * 3000,
    f"a[1-{'9' * 5000}]",
    f"a[{'0' * 4000}1-9]",
    "a[١-٢]",
    "a\x1b[31m",
    "a[16-01]",
)


@pytest.mark.parametrize("bad", NO_LISTS, ids=range(len(NO_LISTS)))
def test_what_is_no_list_of_hosts_is_refused(bad):
    with pytest.raises(InputError, match="not a list of hosts"):
        expand_hosts(bad)


def test_a_job_of_more_processes_than_any_has_is_refused():
    """Each that gave no run is a line of the ledger."""
    with pytest.raises(ValueError, match="world_size"):
        Launch(launcher="slurm", rank=0, world_size=2**63 - 1)


def test_each_process_of_a_node_measures_its_own_gpu(monkeypatch):
    from nameplate.device.survey import DeviceChoice

    gpus = [f"cuda:{number}" for number in range(8)]
    monkeypatch.setattr("nameplate.run.measure.choose_devices", lambda flag: DeviceChoice(gpus))
    launch = Launch(launcher="torch", rank=9, world_size=16, local_rank=1, local_world_size=8)
    assert choose_own_device(DeviceChoice(gpus), "all", launch).names == ["cuda:1"]
    assert choose_own_device(DeviceChoice(["cuda:3"]), "cuda:3", launch).names == ["cuda:3"]
    alone = Launch(launcher="torch", rank=1, world_size=2)
    assert choose_own_device(DeviceChoice(gpus), "all", alone).names == gpus
    gpus[1:] = []  # the scheduler shows each process its own
    assert choose_own_device(DeviceChoice(gpus), "all", launch).names == ["cuda:0"]
    gpus.append("cuda:1")
    late = launch.model_copy(update={"local_rank": 5})
    with pytest.raises(InputError, match="fewer GPUs than processes"):
        choose_own_device(DeviceChoice(gpus), "all", late)
