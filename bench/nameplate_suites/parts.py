"""Pieces that the shipped suites are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.suite import Case, Target
from nameplate_kernels import Matmul, Memory, TransformerBlock

# An FP16 product without FP16 arithmetic runs at 1 to 3 GFLOPS (torch 2.13, Zen 4): this edge takes some
# 20 ms there, where 1024 would take over a second a launch. The size stands in the record.
SLOW_EDGE = 256


def cache_for(target: Target) -> str:
    """Cache state of a compute case: a GPU rotates buffers, since fresh tensors would sit in its L2."""
    return "rotating" if target.kind == "cuda" else "warm"


def matmuls(
    target: Target, dtypes: Iterable[str], edges: Iterable[int], layout: str = "nn", **axes: Any
) -> Iterator[Case]:
    """Square products, dtype by dtype; on a CPU a dtype it has no arithmetic for is measured small.

    `axes` are those of `Case`: weight, phase, group, fill, cache.
    """
    edges = tuple(edges)
    axes.setdefault("cache", cache_for(target))
    for dtype in dtypes:
        for edge in edges if _runs_well(target, dtype) else (SLOW_EDGE,):
            yield Case(Matmul(edge, edge, edge, dtype, layout), **axes)


def _runs_well(target: Target, dtype: str) -> bool:
    return dtype != "fp16" or target.kind != "cpu" or "fp16" in target.rated_dtypes


def layer(target: Target, tokens: int, dtype: str, edge: int, weight: float = 4.0) -> Iterator[Case]:
    """The chain from the best product on, measured in turn once the device has settled: a square product of
    `edge`, one Llama-3-8B layer (the training step's part of it first), and the products it is made of.
    """
    axes: dict[str, Any] = {"phase": "sustained", "group": f"layer-{dtype}-{tokens}"}
    yield from matmuls(target, (dtype,), (edge,), weight=weight / 4, **axes)
    yield from blocks(tokens, dtype, weight=weight, **axes)
    for gemm in TransformerBlock.llama3_8b(tokens, dtype, "forward").gemms():
        yield Case(gemm, cache=cache_for(target), weight=weight / 8, **axes)


def blocks(tokens: int, dtype: str, width: float = 1.0, **axes: Any) -> Iterator[Case]:
    """One Llama-3-8B layer: the training step's part of it first, then the forward pass alone."""
    for pass_ in ("forward_backward", "forward"):
        yield Case(TransformerBlock.llama3_8b(tokens, dtype, pass_, width=width), **axes)


def memory(mebibytes: int, weight: float = 0.5) -> Iterator[Case]:
    """Copy and triad over arrays of `mebibytes` MiB, in as many buffer sets as overflow the last-level cache.

    On one set the figure would be the cache's or the memory's, by the cache's size and by what ran between.
    """
    for kind in ("copy", "triad"):
        yield Case(Memory(kind, "fp32", mebibytes), cache="rotating", weight=weight)
