"""The default suite, about a minute: the chain from nominal to a full-width transformer block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import PASSES, layer, layer_group, matmuls, memory


def _cases(target: Target) -> Iterator[Case]:
    yield from _cpu(target) if target.kind == "cpu" else _gpu(target)


def _cpu(target: Target) -> Iterator[Case]:
    # The chain, a product in each of two more dtypes, and memory: what a minute holds in five processes each.
    # A process of the layer takes some 4 s to begin, one of the others a few tenths: so most is the layer's.
    yield from matmuls(target, ("bf16",), (2048,), phase="burst", weight=0.5)
    yield from layer(target, 128, "bf16", 2048, passes=PASSES[:1])
    yield from matmuls(target, ("fp32", "bf16"), (1024,), phase="sustained", weight=0.5)
    yield from matmuls(target, ("fp16",), (1024,), phase="sustained", weight=0.25)
    yield from memory(target, 256, kinds=("copy",), weight=0.5)


def _gpu(target: Target) -> Iterator[Case]:
    # A process of a GPU takes seconds to begin, and a case some turns of nearly a second to be judged: so few
    # groups, of cases that share the time alike. What draws less than the power limit has a group of its own:
    # in turn with it the others would begin theirs above the clock that they hold.
    yield from matmuls(target, ("bf16",), (8192,), phase="burst", weight=3.0)
    yield from layer(target, 4096, "bf16", 8192, weight=4.8)
    beside: dict[str, Any] = {"phase": "sustained", "weight": 1.8, "group": layer_group(4096, "bf16")}
    yield from matmuls(target, ("fp16",), (8192,), **beside)
    yield from matmuls(target, ("tf32",), (4096,), **beside)
    yield from matmuls(target, ("fp32", "fp64"), (4096,), phase="sustained", weight=1.5)
    yield from memory(target, 1024, weight=1.2)


SUITE = Suite(
    "quick", "a minute: burst and sustained matmul by dtype, one Llama-3-8B layer, memory", 60.0, _cases
)
