"""About a minute, the default: the chain from nominal to a full-width transformer block."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import blocks, matmuls, memory, model_gemms


def _cases(target: Target) -> Iterator[Case]:
    yield from _cpu(target) if target.kind == "cpu" else _gpu(target)


def _cpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16",), (1024, 2048))
    yield from matmuls(target, ("fp32",), (1024,))
    yield from blocks(128, "bf16", weight=4.0)
    yield from model_gemms(target, 128, "bf16")
    yield from matmuls(target, ("fp16",), (1024,), weight=0.5)
    yield from memory(256)
    yield from matmuls(target, ("fp32",), (2048,))
    yield from matmuls(target, ("fp64",), (1024,), weight=0.5)


def _gpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16", "fp16"), (8192, 4096))
    yield from blocks(4096, "bf16", weight=3.0)
    yield from model_gemms(target, 4096, "bf16")
    yield from matmuls(target, ("tf32", "fp32", "fp64"), (4096,))
    yield from memory(1024)
    yield from matmuls(target, ("bf16",), (2048, 16384))


SUITE = Suite(
    "quick", "a minute: matmul by dtype, one Llama-3-8B layer and its products, memory", 60.0, _cases
)
