"""Which of a job's processes this is, by the environment of its launcher.

torch.distributed's variables (RANK, WORLD_SIZE, LOCAL_RANK), which torchrun, Kubernetes jobs and Ray set,
come first; else those of Open MPI, of Slurm's steps and of PMI are mapped to them. Nothing here starts or
connects to another process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel

MOST_HOSTS = 100_000
MOST_PROCESSES = 200_000  # of a job: the largest machines have some 75,000 GPUs
_MOST_LISTS = 8  # of numbers in the name of a host: r[1-2]n[08-09] has two
_NUMBER = re.compile(r"[0-9]{1,9}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# By launcher: the variables of rank, world size, local rank and local world size.
_VARIABLES: Mapping[str, tuple[str, str, str, str]] = {
    "torch": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "openmpi": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    # SLURM_PROCID and SLURM_NTASKS are also there in a batch script, which is one process: these are not.
    "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
    "pmi": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}
_COUNTS = "SLURM_STEP_TASKS_PER_NODE"
_JOBS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "JOB_NAME")


_Rank = Annotated[int, Field(ge=0, lt=MOST_PROCESSES)]
_Size = Annotated[int, Field(ge=1, le=MOST_PROCESSES)]


class Launch(FrozenModel):
    """One process among those of its job.

    `node` is what the launcher calls the node, which may differ from its host name; `hosts` are the nodes of
    the job, where the launcher says so. `job` is its id.
    """

    launcher: str
    rank: _Rank
    world_size: _Size
    local_rank: _Rank = 0
    local_world_size: _Size = 1
    job: str | None = None
    node: str | None = None
    hosts: tuple[str, ...] = Field(default=(), max_length=MOST_HOSTS)


def read_launch(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return which of a job's processes this is; None where no launcher started it.

    Raises InputError for a variable that is no such number.
    """
    variables = os.environ if environment is None else environment
    for launcher, (rank, size, local, local_size) in _VARIABLES.items():
        if rank in variables and size in variables:
            found = Launch(
                launcher=launcher,
                rank=_number(variables, rank, MOST_PROCESSES - 1),
                world_size=max(_number(variables, size), 1),
                local_rank=_number(variables, local, MOST_PROCESSES - 1),
                local_world_size=max(_count_local(variables, local_size), 1),
                job=next((variables[name] for name in _JOBS if variables.get(name)), None),
                node=variables.get("SLURMD_NODENAME"),
                hosts=_list_hosts(variables),
            )
            if found.rank >= found.world_size:
                raise InputError(
                    "not a rank of its job",
                    where=rank,
                    got=variables[rank],
                    expected=f"a number below {size}, {found.world_size}",
                )
            return found
    return None


def _number(variables: Mapping[str, str], name: str, most: int = MOST_PROCESSES) -> int:
    value = variables.get(name, "0")
    if not re.fullmatch(r"\d{1,9}", value) or int(value) > most:
        expected = f"a whole number, {most} at most"
        raise InputError("not a rank or a number of processes", where=name, got=value, expected=expected)
    return int(value)


def _count_local(variables: Mapping[str, str], name: str) -> int:
    """Return how many processes of the job this node has; Slurm says it as `2(x3),1`, node by node."""
    if name:
        return _number(variables, name)
    node, found = _number(variables, "SLURM_NODEID"), 1
    for count, times in re.findall(r"(\d{1,9})(?:\(x(\d{1,9})\))?", variables.get(_COUNTS, "")):
        node -= int(times or 1)
        if node < 0:
            found = int(count)
            break
    if found > MOST_PROCESSES:
        expected = f"{MOST_PROCESSES} at most on a node"
        raise InputError("too many processes", where=_COUNTS, got=variables[_COUNTS][:200], expected=expected)
    return found


def _list_hosts(variables: Mapping[str, str]) -> tuple[str, ...]:
    named = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST") or ""
    return expand_hosts(named) if named else ()


def expand_hosts(compressed: str) -> tuple[str, ...]:
    """Return the hosts of a list as Slurm writes it: `a[01-03,7],b` is a01, a02, a03, a7 and b.

    Raises InputError for another form, and for more than a hundred thousand hosts.
    """
    found: list[str] = []
    for part in _split(compressed):
        if part.count("[") > _MOST_LISTS:
            raise _not_hosts(compressed)
        for host in _expand(part.strip(), compressed):
            found.append(host)
            if len(found) > MOST_HOSTS or not _HOST.fullmatch(host):
                raise _not_hosts(compressed)
    return tuple(dict.fromkeys(found))


def _split(compressed: str) -> Iterator[str]:
    """Yield what stands between commas that are in no brackets; in linear time, for a list may be long."""
    begin, inside = 0, False
    for mark in re.finditer(r"[\[\],]", compressed):
        if mark[0] != ",":
            inside = mark[0] == "["
        elif not inside:
            yield compressed[begin : mark.start()]
            begin = mark.end()
    yield compressed[begin:]


def _expand(part: str, whole: str) -> Iterator[str]:
    match = re.fullmatch(r"([^\[\]]*)\[([\d,-]+)\](.*)", part)
    if match is None:
        yield part
        return
    head, numbers, tail = match.groups()
    for span in numbers.split(","):
        first, dash, last = span.partition("-")
        if not _NUMBER.fullmatch(first) or (dash and not _NUMBER.fullmatch(last)):
            raise _not_hosts(whole)
        if not 0 <= int(last or first) - int(first) < MOST_HOSTS:  # node[16-01] would be no host at all
            raise _not_hosts(whole)
        for number in range(int(first), int(last or first) + 1):
            for rest in _expand(tail, whole) if tail else ("",):
                yield f"{head}{number:0{len(first)}d}{rest}"


def _not_hosts(got: str) -> InputError:
    return InputError("not a list of hosts", got=got[:200], expected="such as node[01-16,20],login")
