"""The processes of a job, joined by torch.distributed: agreement, timing in step, and what else went on.

Rank 0 leads. A process that dies or stops lets the others fail after `TIMEOUT_S`, instead of hanging them. So
does one that never comes, or an address that leads nowhere: a job that can't meet ends within two minutes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import psutil

from nameplate.base.errors import InputError
from nameplate.base.messages import Message
from nameplate.device.cpu import CpuDevice
from nameplate.device.network import read_network
from nameplate.device.protocol import Counters, Device
from nameplate.device.survey import choose_devices, open_device
from nameplate.engine.case_run import describe_error
from nameplate.engine.conditions import Conditions, conditions_between
from nameplate.run.halving import Group
from nameplate.run.probing import Prober, describe_culprits
from nameplate.specs.links import RatedLink, find_bounding_link, rate_gpu_link, rate_pcie
from nameplate.specs.registry import load_registry
from nameplate.store.launch import Launch

if TYPE_CHECKING:
    import torch

    from nameplate.workload import Launch as LaunchWork
    from nameplate.workload import Prepared, Workload

TIMEOUT_S = 60.0
_PATIENCE_S = TIMEOUT_S + 15.0  # until every process has noticed that a collective failed
_MEET_S = TIMEOUT_S + 5.0  # for meeting at MASTER_ADDR: torch's own error comes before


@dataclass
class Peers:
    """The processes of a job, as one of them sees them.

    `hosts` has the node of each rank. `broken` says why collectives of all processes don't work any more.
    """

    opened: Device
    device: torch.device
    transport: str
    launch: Launch
    store: Any  # torch.distributed.Store
    hosts: tuple[str, ...] = ()
    link: RatedLink | Message | None = None
    broken: str | None = field(default=None)

    @classmethod
    def join(cls, launch: Launch, flag: str) -> Peers:
        """Open this process's device and meet the others. Raises InputError where that fails."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        name = _choose_device(flag, launch)
        is_gpu = name != "cpu"
        device = torch.device(name)
        limit = timedelta(seconds=TIMEOUT_S)
        if is_gpu:
            torch.cuda.set_device(device)
            # 2: abort the collective of a dead peer. By default torch ends the process, and with it the run.
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
        try:
            store = _meet(launch, limit)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if is_gpu else "gloo",
                store=PrefixStore("all", store),
                rank=launch.rank,
                world_size=launch.world_size,
                timeout=limit,
            )
        except (RuntimeError, ValueError) as error:
            raise _unreachable(error) from error
        # A CPU's arithmetic peak isn't measured: the processes would measure it on one another's cores.
        opened = open_device(name) if is_gpu else CpuDevice()
        peers = cls(opened, device, "nccl" if is_gpu else "gloo", launch, PrefixStore("probe", store))
        try:
            peers.hosts = tuple(peers.gather(launch.node or socket.gethostname()))
            peers.link = peers._find_link()
        except RuntimeError as error:  # one of them has gone already
            raise _unreachable(error) from error
        return peers

    def leave(self) -> None:
        """Leave the job; a broken one isn't waited for."""
        import torch.distributed as dist

        if dist.is_initialized() and self.broken is None:
            dist.destroy_process_group()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the job, in the order of their first ranks."""
        return tuple(dict.fromkeys(self.hosts))

    def clock(self) -> float:
        """Return seconds on the device's clock."""
        return self.opened.clock()

    def prepare(self, workload: Workload, fill: str, seed: int) -> Prepared:
        """Allocate and fill a workload on this process's device."""
        return self.opened.prepare(workload, fill=fill, seed=seed)

    def dimensions(self) -> dict[str, int | float | str]:
        """What a record says of the job: transport, nodes, and the link where one is rated."""
        told: dict[str, int | float | str] = {
            "transport": self.transport,
            "nodes": len(self.nodes),
            "processes_a_node": self.launch.local_world_size,
        }
        if isinstance(self.link, RatedLink):
            told |= {"link": self.link.kind, "link_gb_s": self.link.gb_s}
        return told

    def agree(self, values: Sequence[float], how: str = "MAX") -> list[float]:
        """Return the largest, or the smallest (MIN), of each value over all processes."""
        import torch
        import torch.distributed as dist

        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, op=getattr(dist.ReduceOp, how))
        return list(shared.tolist())

    def gather(self, mine: object) -> list[Any]:
        """Return what every process gave, by rank."""
        import torch.distributed as dist

        everybody: list[Any] = [None] * self.launch.world_size
        dist.all_gather_object(everybody, mine)
        return everybody

    def time(self, launch: LaunchWork, count: int) -> tuple[float, float]:
        """Return the seconds of so many launches, begun with the others, and those to enqueue them."""
        import torch.distributed as dist

        dist.barrier()
        begin_s = time.perf_counter()
        for _ in range(count):
            launch()
        enqueued_s = time.perf_counter() - begin_s
        self._synchronize()
        return time.perf_counter() - begin_s, enqueued_s

    def read_counters(self) -> Counters | None:
        """Read what the device counts: each process its own GPU, or the first of a node the CPUs.

        A CPU's own seconds are those of all the node's processes. None where another process reads them.
        """
        is_gpu = self.device.type == "cuda"
        mine = self.opened.counters() if is_gpu or self.launch.local_rank == 0 else None
        spent_s = self.gather(time.process_time())
        if mine is None or is_gpu:
            return mine
        host = self.hosts[self.launch.rank]
        own_s = sum(each for each, where in zip(spent_s, self.hosts, strict=True) if where == host)
        return replace(mine, process_cpu_s=own_s)

    def conditions(self, before: Counters | None, after: Counters | None) -> Conditions | None:
        """Return the conditions between two readings; None where another process tells them."""
        return (
            None if before is None or after is None else conditions_between(before, after, self.opened.cores)
        )

    def free_bytes(self) -> float:
        """Return the memory that this process's share of a device has free."""
        import torch

        if self.device.type == "cuda":
            return float(torch.cuda.mem_get_info(self.device)[0])
        return float(psutil.virtual_memory().available) / self.launch.local_world_size

    def find_culprits(self) -> list[Message]:
        """Say which node, process or link makes the job's group slow or fail; every process calls this.

        Only rank 0 is told. Members are nodes, or the processes of the only node.
        """
        prober = Prober(self.store, self.launch.rank, self.device, _PATIENCE_S)
        if self.launch.rank:
            prober.follow()
            return []
        ranks = range(self.launch.world_size)
        several = len(self.nodes) > 1
        members: list[Group] = [(rank,) for rank in ranks]
        if several:
            members = [tuple(rank for rank in ranks if self.hosts[rank] == node) for node in self.nodes]
        found, silent = prober.lead(members)
        names = list(self.nodes) if several else [self._name(rank) for rank in ranks]
        return list(describe_culprits(found, names, [self._name(rank) for rank in silent]))

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self.hosts[rank]})"

    def _find_link(self) -> RatedLink | Message:
        """Return the link that bounds the job's collectives, or why none is known; every process calls this.

        Processes of a CPU's node exchange data in its memory: what bounds that isn't rated as a link.
        """
        inside = None
        if self.device.type == "cuda":
            rating = self.opened.rating
            part = None if rating.part is None else load_registry().parts.get(rating.part)
            self._wake_slot()
            reading = self.opened.counters().gpu
            slot = None if reading is None else (reading.pcie_generation, reading.pcie_width)
            inside = rate_gpu_link(part) or (None if slot is None else rate_pcie(*slot))
        told = self.gather((inside, read_network()))
        needed = [each for each, _network in told] if self.device.type == "cuda" else []
        return find_bounding_link(needed, [network for _inside, network in told], len(self.nodes))

    def _wake_slot(self) -> None:
        """Move some data over PCIe: an idle slot runs at the slowest generation."""
        import torch

        torch.ones(1 << 26, device=self.device).cpu()

    def _synchronize(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _meet(launch: Launch, limit: timedelta) -> Any:
    """Return the store of the job, a torch.distributed.Store, once all its processes have come to it.

    torch tries one address of MASTER_ADDR after the other, each for as long as `limit`, and heeds no signal
    meanwhile. So it does that in a thread, and a name that leads nowhere costs `_MEET_S`. Raises RuntimeError
    and ValueError.
    """
    from torch.distributed.rendezvous import rendezvous

    found: SimpleQueue[Any] = SimpleQueue()

    def meet() -> None:
        try:
            found.put(next(rendezvous("env://", launch.rank, launch.world_size, timeout=limit))[0])
        except Exception as error:
            found.put(error)

    threading.Thread(target=meet, daemon=True).start()
    try:
        met = found.get(timeout=_MEET_S)
    except Empty:
        raise RuntimeError(f"no answer from them in {_MEET_S:g} s") from None
    if isinstance(met, Exception):
        raise met
    return met


def _unreachable(error: Exception) -> InputError:
    address, port = (os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT"))
    return InputError(
        "the other processes of the job can't be reached",
        where=f"MASTER_ADDR={address}, MASTER_PORT={port}",
        got=describe_error(error),
        expected="MASTER_ADDR and MASTER_PORT, as torchrun sets them",
    )


def _choose_device(flag: str, launch: Launch) -> str:
    """Return the GPU of the local rank where there are GPUs for all of them, else the CPU.

    Raises InputError for what no process of a job can choose, and for GPUs that are asked for and too few.
    """
    if flag == "cpu":
        return flag
    if flag not in ("auto", "all", "cuda"):
        raise InputError(
            "not a device of a job",
            where="--device",
            got=flag,
            expected="cpu, cuda or auto: each process takes the GPU of its local rank",
        )
    names = choose_devices("all").names
    count = 0 if names == ["cpu"] else len(names)
    if count >= launch.local_world_size:
        return f"cuda:{launch.local_rank % count}"
    if flag == "cuda":
        expected = f"{launch.local_world_size} GPUs on this node, one for each process"
        raise InputError("too few GPUs", where="--device cuda", got=count, expected=expected)
    return "cpu"
