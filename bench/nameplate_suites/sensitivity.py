"""How a figure depends on its inputs and caches: one matrix product, each fill and cache state in turn.

On a GPU also with the sums of a split K in fp32, which torch doesn't ask for by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import CACHES, FILLS, Case, Suite, Target
from nameplate_suites.parts import matmuls


def _cases(target: Target) -> Iterator[Case]:
    # The smaller one fits warm caches; the larger one draws the most power.
    for edge in (512, 2048) if target.kind == "cpu" else (2048, 8192):
        group = f"sensitivity-{edge}"
        for fill in FILLS:
            yield from matmuls(target, ("bf16",), (edge,), fill=fill, cache="warm", group=group)
        for cache in CACHES[1:]:
            yield from matmuls(target, ("bf16",), (edge,), cache=cache, group=group)
        if target.kind == "cuda":
            yield from matmuls(target, ("bf16",), (edge,), fp32_sums=True, cache="warm", group=group)
    # So small that on a GPU the host may limit it; a graph replay shows whether it does.
    yield from matmuls(target, ("bf16",), (128,), cache="warm", group="launch")


SUITE = Suite(
    "sensitivity",
    "one product by fill, cache state and (GPU) reduction in turn, and one as small as a launch",
    60.0,
    _cases,
)
