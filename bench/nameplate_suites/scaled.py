"""Scaling from one device to a job's: `torchrun --nproc-per-node 8 --no-python bench run scaled`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nameplate.store.launch import read_launch
from nameplate.suite import Case, Suite, Target
from nameplate_kernels import SCALED_STRATEGIES, ScaledBlock, TransformerBlock
from nameplate_suites.parts import matmuls

_CPU_TOKENS, _GPU_TOKENS = 128, 4096
_CPU_WIDTH = 1 / 4  # of Llama-3-8B, so that two processes of a small machine hold it


def _cases(target: Target) -> Iterator[Case]:
    """Yield a product, the block alone, and the block with each way of exchanging gradients, in turn."""
    launch = read_launch()
    count = max(2, launch.world_size if launch else 0)
    cpu = target.kind == "cpu"
    tokens = _CPU_TOKENS if cpu else _GPU_TOKENS
    axes: dict[str, Any] = {"phase": "sustained", "group": f"scaled-bf16-{tokens}"}
    width = _CPU_WIDTH if cpu else 1.0
    block = TransformerBlock.llama3_8b(tokens, "bf16", "forward_backward", width=width)
    yield from matmuls(target, ("bf16",), (2048 if cpu else 8192,), **axes)
    yield Case(block, backend=block.backend, **axes)
    for strategy in SCALED_STRATEGIES:
        for overlapped in (False, True):
            scaled = ScaledBlock(block, strategy, overlapped, count)
            yield Case(scaled, backend=block.backend, **axes)


SUITE = Suite(
    "scaled",
    "from one device to all of a job: a block with its gradients' collectives, overlapped and not",
    60.0,
    _cases,
    processes=1,
)
