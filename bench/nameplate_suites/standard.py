"""About ten minutes: shapes, dtypes and layouts wide enough to publish."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import blocks, matmuls, memory, model_gemms


def _cases(target: Target) -> Iterator[Case]:
    yield from _cpu(target) if target.kind == "cpu" else _gpu(target)


def _cpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16", "fp32"), (512, 1024, 2048, 4096))
    yield from blocks(128, "bf16", weight=3.0)
    yield from model_gemms(target, 128, "bf16", weight=1.0)
    yield from blocks(512, "bf16", weight=6.0)
    yield from model_gemms(target, 512, "bf16", weight=1.0)
    yield from blocks(128, "fp32", weight=4.0)
    yield from matmuls(target, ("fp16", "fp64"), (1024, 2048))
    for layout in ("nt", "tn"):
        yield from matmuls(target, ("bf16", "fp32"), (1024,), layout=layout)
    yield from memory(256)
    yield from memory(1024)


def _gpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16", "fp16"), (1024, 2048, 4096, 8192, 16384))
    yield from blocks(4096, "bf16", weight=3.0)
    yield from model_gemms(target, 4096, "bf16", weight=1.0)
    yield from blocks(8192, "bf16", weight=3.0)
    yield from matmuls(target, ("tf32", "fp32", "fp64"), (2048, 4096, 8192))
    for layout in ("nt", "tn"):
        yield from matmuls(target, ("bf16", "fp16"), (8192,), layout=layout)
    yield from memory(1024)
    yield from memory(4096)


SUITE = Suite("standard", "ten minutes: shapes, dtypes, layouts and longer sequences", 600.0, _cases)
