"""Pieces that the shipped suites are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nameplate.suite import Case, Target
from nameplate_kernels import Matmul, Memory, TransformerBlock

# An FP16 product without FP16 arithmetic runs at 1 to 3 GFLOPS (torch 2.13, Zen 4): this edge takes some
# 20 ms there, where 1024 would take over a second a launch. The size stands in the record.
SLOW_EDGE = 256


def cache_for(target: Target) -> str:
    """Cache state of a compute case: a GPU rotates buffers, since fresh tensors would sit in its L2."""
    return "rotating" if target.kind == "cuda" else "warm"


def matmuls(
    target: Target, dtypes: Iterable[str], edges: Iterable[int], weight: float = 1.0, layout: str = "nn"
) -> Iterator[Case]:
    """Square products, dtype by dtype; on a CPU a dtype it has no arithmetic for is measured small."""
    edges = tuple(edges)
    for dtype in dtypes:
        for edge in edges if _runs_well(target, dtype) else (SLOW_EDGE,):
            yield Case(Matmul(edge, edge, edge, dtype, layout), cache=cache_for(target), weight=weight)


def _runs_well(target: Target, dtype: str) -> bool:
    return dtype != "fp16" or target.kind != "cpu" or "fp16" in target.rated_dtypes


def model_gemms(target: Target, tokens: int, dtype: str, weight: float = 0.5) -> Iterator[Case]:
    """The products of one Llama-3-8B layer by themselves, in the block's own shapes."""
    block = TransformerBlock.llama3_8b(tokens, dtype, "forward")
    for gemm in block.gemms():
        yield Case(gemm, cache=cache_for(target), weight=weight)


def blocks(tokens: int, dtype: str, width: float = 1.0, weight: float = 2.0) -> Iterator[Case]:
    """One Llama-3-8B layer: the training step's part of it first, then the forward pass alone."""
    for pass_ in ("forward_backward", "forward"):
        yield Case(TransformerBlock.llama3_8b(tokens, dtype, pass_, width=width), weight=weight)


def memory(mebibytes: int, weight: float = 0.5) -> Iterator[Case]:
    """Copy and triad; a record warns where arrays of this size may stay in the last-level cache."""
    for kind in ("copy", "triad"):
        yield Case(Memory(kind, "fp32", mebibytes), weight=weight)
