"""Collectives of torch.distributed between the processes of a job, as nccl-tests measures them.

Bytes are those that each process's links must carry, nccl-tests' bus bandwidth × time: the message × 2(n-1)/n
for all_reduce, × (n-1)/n for reduce_scatter, all_gather and all_to_all, × 1 for broadcast and send/receive
(NVIDIA/nccl-tests, doc/PERFORMANCE.md). The message is counted as there: the whole of what a process holds
before it is scattered, or after it is gathered. Its algorithm bandwidth is message ÷ time.

Every process of the job prepares, launches and checks the same workload at the same time. all_reduce works in
place, and its launch is nothing but that: launched again and again its sums grow, up to infinity, which costs
no time. Its check therefore begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
import torch.distributed as dist

from nameplate_kernels.workload import CheckResult, Launch, Prepared, Workload

KINDS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "send_recv")
_ELEMENT_BYTES = 4
# torch renames these two, and warns of the old names at each launch.
reduce_scatter_into = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
all_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_PERIOD = 97  # of what a buffer holds: small whole numbers, whose sums are exact


def bus_factor(kind: str, world_size: int) -> Fraction:
    """Return the bytes that a process's links carry ÷ the message, among so many processes.

    Raises ValueError for an unknown kind.
    """
    n = world_size
    if kind == "all_reduce":
        return Fraction(2 * (n - 1), n)
    if kind in ("reduce_scatter", "all_gather", "all_to_all"):
        return Fraction(n - 1, n)
    if kind in ("broadcast", "send_recv"):
        return Fraction(1)
    raise ValueError(f"collective: unknown kind {kind!r}; expected one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Collective(Workload):
    """One collective on a message of `message_bytes`, in fp32, among `world_size` processes.

    The message is a whole number of elements for each process. Raises ValueError for another one, for an
    unknown kind and for fewer than two processes.
    """

    kind: str
    message_bytes: int
    world_size: int

    name = "collective"
    dtype = "fp32"
    flops = None
    convention = None

    def __post_init__(self) -> None:
        bus_factor(self.kind, self.world_size)
        if self.world_size < 2:
            raise ValueError(f"collective: a job has at least 2 processes, got {self.world_size}")
        if self.message_bytes < 1 or self.message_bytes % (_ELEMENT_BYTES * self.world_size):
            raise ValueError(f"collective: {self.message_bytes} bytes can't be shared out in fp32")

    @property
    def shape(self) -> str:
        """Kind, message and processes: `all_reduce-1048576B-x8`."""
        return f"{self.kind}-{self.message_bytes}B-x{self.world_size}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Kind, message, processes, and bus bytes ÷ message as a fraction: `7/4`."""
        factor = str(bus_factor(self.kind, self.world_size))
        return {
            "kind": self.kind,
            "message_bytes": self.message_bytes,
            "world_size": self.world_size,
            "bus_factor": factor,
        }

    @property
    def bytes(self) -> int:
        """Bytes that each process's links must carry."""
        return int(self.message_bytes * bus_factor(self.kind, self.world_size))

    @property
    def resident_bytes(self) -> int:
        """What goes in, what comes out, and one more for the check."""
        return 3 * self.message_bytes

    def unsupported(self, device: torch.device) -> str | None:
        """Return why it can't run here: outside a job of that many processes."""
        if not dist.is_initialized() or dist.get_world_size() != self.world_size:
            return f"needs a job of {self.world_size} processes, as torchrun starts"
        return None

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedCollective:
        """Allocate and fill the buffers of this process; `copies` is of no account."""
        return PreparedCollective(self, device)


class PreparedCollective(Prepared):
    """The buffers of one process. Element i of rank r is (i mod 97) + r before the launch."""

    def __init__(self, work: Collective, device: torch.device) -> None:
        """Allocate the buffers."""
        super().__init__(work, (), 0)
        self.work, self.rank, self.count = work, dist.get_rank(), work.world_size
        self.elements = work.message_bytes // _ELEMENT_BYTES
        part = self.elements // self.count
        sizes = {"all_gather": (part, self.elements), "reduce_scatter": (self.elements, part)}
        given, taken = sizes.get(work.kind, (self.elements, self.elements))
        self.source = self._numbers(given, self.rank, device)
        self.target = torch.full((taken,), math.inf, device=device)
        self.launches = (self._launcher(),)

    def _numbers(self, elements: int, rank: int, device: torch.device) -> torch.Tensor:
        return (torch.arange(elements, device=device) % _PERIOD).float() + rank

    def _launcher(self) -> Launch:
        source, target = self.source, self.target
        match self.work.kind:
            case "all_reduce":
                return partial(dist.all_reduce, target)
            case "reduce_scatter":
                return partial(reduce_scatter_into, target, source)
            case "all_gather":
                return partial(all_gather_into, target, source)
            case "all_to_all":
                return lambda: dist.all_to_all_single(target, source)
            case "broadcast":
                root = source if self.rank == 0 else target
                return lambda: dist.broadcast(root, 0)
            case _:
                return self._send_around

    def _send_around(self) -> None:
        """Send to the next process and receive from the one before."""
        around = [
            dist.P2POp(dist.isend, self.source, (self.rank + 1) % self.count),
            dist.P2POp(dist.irecv, self.target, (self.rank - 1) % self.count),
        ]
        for work in dist.batch_isend_irecv(around):
            work.wait()

    def numerics(self) -> AbstractContextManager[None]:
        """Nothing to set: copies and sums of whole numbers are exact."""
        return nullcontext()

    def compute_reference(self) -> None:
        """Nothing to compute beforehand."""

    def expected(self) -> torch.Tensor:
        """Return what this process should hold."""
        device, part = self.target.device, self.elements // self.count
        match self.work.kind:
            case "all_reduce" | "reduce_scatter":
                ranks = self.count * (self.count - 1) // 2
                whole = self.count * self._numbers(self.elements, 0, device) + ranks
                begin = self.rank * part if self.work.kind == "reduce_scatter" else 0
                return whole[begin : begin + self.target.numel()]
            case "all_gather":
                return torch.cat([self._numbers(part, rank, device) for rank in range(self.count)])
            case "all_to_all":
                own = self._numbers(self.elements, 0, device)[self.rank * part : (self.rank + 1) * part]
                return torch.cat([own + rank for rank in range(self.count)])
            case "broadcast":
                return self._numbers(self.elements, 0, device)
            case _:
                return self._numbers(self.elements, (self.rank - 1) % self.count, device)

    def check(self) -> CheckResult:
        """Compare the latest result of this process, exactly; of all_reduce that of one more launch."""
        if self.work.kind == "all_reduce":
            self.target.copy_(self.source)
            (launch,) = self.launches
            launch()
        is_root = self.work.kind == "broadcast" and self.rank == 0
        result = self.source if is_root else self.target
        same = torch.equal(result, self.expected())
        return CheckResult("exact", 0.0 if same else math.inf, "every element is exact")
