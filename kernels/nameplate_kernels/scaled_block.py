"""A transformer block's training pass with the collectives of its gradients and weights, among processes.

Every process holds the whole block and computes its own sequences, so FLOPs and bytes are those of the block
alone. What training in parallel adds to one layer:

- `data_parallel`: an all_reduce of its gradients, after the pass.
- `sharded`: an all_gather of its weights before the forward and again before the backward pass, and a
  reduce_scatter of its gradients (FSDP, ZeRO stage 3).

`overlapped` begins them before the pass and waits for them after it: in a deep model each layer's run while
its neighbour computes. The first and last layer of a model can't hide theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from nameplate_kernels.collective import all_gather_into, reduce_scatter_into
from nameplate_kernels.numerics import precision_of
from nameplate_kernels.transformer_block import TransformerBlock
from nameplate_kernels.workload import CheckResult, Prepared, Workload

STRATEGIES = ("data_parallel", "sharded")


@dataclass(frozen=True)
class ScaledBlock(Workload):
    """A block's pass, forward and backward, among `world_size` processes.

    Raises ValueError for an unknown strategy, fewer than two processes, and a block without a backward pass.
    """

    block: TransformerBlock
    strategy: str
    overlapped: bool
    world_size: int

    name = "scaled_block"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"scaled_block: unknown strategy {self.strategy!r}; expected {STRATEGIES}")
        if self.world_size < 2:
            raise ValueError(f"scaled_block: a job has at least 2 processes, got {self.world_size}")
        if not self.block.backward:
            raise ValueError("scaled_block: only a backward pass has gradients to exchange")

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The block's."""
        return self.block.dtype

    @property
    def shape(self) -> str:
        """The block's, the strategy, and the processes: `…-sharded+overlapped-x8`."""
        way = f"{self.strategy}+overlapped" if self.overlapped else self.strategy
        return f"{self.block.shape}-{way}-x{self.world_size}"

    @property
    def represents(self) -> str | None:
        """The block's model."""
        return self.block.represents

    @property
    def flops(self) -> int:
        """The block's, on each process."""
        return self.block.flops

    @property
    def convention(self) -> str | None:
        """The block's."""
        return self.block.convention

    @property
    def bytes(self) -> int:
        """The block's, in each process's own memory."""
        return self.block.bytes

    @property
    def message_bytes(self) -> int:
        """The gradients of one block, rounded up so that each process gets as many elements."""
        return self._elements * precision_of(self.block.dtype).itemsize

    @property
    def link_bytes(self) -> int:
        """What each process's links carry: gradients × 2(n-1)/n, or three times × (n-1)/n when sharded."""
        times = 2 if self.strategy == "data_parallel" else 3
        return times * self.message_bytes * (self.world_size - 1) // self.world_size

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """The block's, and how it is scaled."""
        return {
            **self.block.dimensions,
            "strategy": self.strategy,
            "overlapped": "yes" if self.overlapped else "no",
            "world_size": self.world_size,
            "message_bytes": self.message_bytes,
            "link_bytes": self.link_bytes,
        }

    @property
    def resident_bytes(self) -> int:
        """The block's, gradients that are exchanged, and weights that are gathered."""
        return self.block.resident_bytes + 3 * self.message_bytes

    @property
    def _elements(self) -> int:
        return math.ceil(self.block.parameters / self.world_size) * self.world_size

    def unsupported(self, device: torch.device) -> str | None:
        """Return why it can't run here: as the block, or outside a job of that many processes."""
        if not dist.is_initialized() or dist.get_world_size() != self.world_size:
            return f"needs a job of {self.world_size} processes, as torchrun starts"
        return self.block.unsupported(device)

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedScaledBlock:
        """Allocate the block and what is exchanged."""
        return PreparedScaledBlock(self, device, fill, seed)


class PreparedScaledBlock(Prepared):
    """A block, and one buffer each of gradients, of a shard, and of gathered weights.

    The buffers are apart from the block's own: what is exchanged is as large as its gradients, and belongs to
    the layer before.
    """

    def __init__(self, work: ScaledBlock, device: torch.device, fill: str, seed: int) -> None:
        """Allocate, with zeros in what is exchanged: sums of them stay what they are."""
        super().__init__(work, (), seed)
        self.work = work
        self.inner = work.block.prepare(device, fill=fill, seed=seed)
        dtype = precision_of(work.dtype).storage
        elements = work.message_bytes // dtype.itemsize
        self.gradients = torch.zeros(elements, dtype=dtype, device=device)
        is_sharded = work.strategy == "sharded"
        self.shard = torch.zeros(elements // work.world_size if is_sharded else 0, dtype=dtype, device=device)
        self.weights = torch.zeros(elements if is_sharded else 0, dtype=dtype, device=device)
        self.launches = (self._run,)

    def _run(self) -> None:
        (compute,) = self.inner.launches
        if self.work.overlapped:
            begun = [each(True) for each in self._exchanges()]
            compute()
            for one in begun:
                one.wait()
            return
        *before, after = self._exchanges()
        for each in before:
            each(False)
        compute()
        after(False)

    def _exchanges(self) -> Iterator[Callable[[bool], Any]]:
        """Yield the collectives of one layer, those of weights first; each takes whether not to wait."""
        if self.work.strategy == "sharded":
            for _pass in ("forward", "backward"):
                yield lambda begun: all_gather_into(self.weights, self.shard, async_op=begun)
            yield lambda begun: reduce_scatter_into(self.shard, self.gradients, async_op=begun)
        else:
            yield lambda begun: dist.all_reduce(self.gradients, async_op=begun)

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """As the block's."""
        with self.inner.numerics():
            yield

    def compute_reference(self) -> None:
        """As the block's."""
        self.inner.compute_reference()

    def check(self) -> CheckResult:
        """Check the block's latest results; collectives are checked by their own cases."""
        return self.inner.check()
