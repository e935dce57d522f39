"""About ten minutes: enough shapes, dtypes and layouts to publish."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import layer, matmuls, memory


def _cases(target: Target) -> Iterator[Case]:
    yield from _cpu(target) if target.kind == "cpu" else _gpu(target)


def _cpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16",), (2048,), phase="burst", weight=2.0)
    # The chain uses the longer layer, with the product whose burst was measured.
    yield from layer(target, 512, "bf16", 2048, weight=6.0)
    yield from layer(target, 128, "bf16", 1024)
    yield from layer(target, 128, "fp32", 1024)
    for dtype, edges in (("bf16", (512, 4096)), ("fp32", (512, 2048, 4096))):
        yield from matmuls(target, (dtype,), edges, phase="sustained", group=f"{dtype}-shapes")
        for layout in ("nt", "tn"):
            yield from matmuls(
                target, (dtype,), (1024,), layout=layout, phase="sustained", group=f"{dtype}-shapes"
            )
    for dtype in ("fp16", "fp64"):
        yield from matmuls(target, (dtype,), (1024, 2048), phase="sustained", group=f"{dtype}-shapes")
    yield from memory(target, 256, 1024)


def _gpu(target: Target) -> Iterator[Case]:
    yield from matmuls(target, ("bf16",), (8192,), phase="burst", weight=6.0)
    yield from layer(target, 8192, "bf16", 8192)
    yield from layer(target, 4096, "bf16", 4096)
    for dtype, edges in (("bf16", (1024, 2048, 16384)), ("fp16", (1024, 2048, 4096, 8192, 16384))):
        yield from matmuls(target, (dtype,), edges, phase="sustained", group=f"{dtype}-shapes")
        for layout in ("nt", "tn"):
            yield from matmuls(
                target, (dtype,), (8192,), layout=layout, phase="sustained", group=f"{dtype}-shapes"
            )
    for dtype in ("tf32", "fp32", "fp64"):
        yield from matmuls(target, (dtype,), (2048, 4096, 8192), phase="sustained", group=f"{dtype}-shapes")
    yield from memory(target, 1024, 4096)


SUITE = Suite(
    "standard",
    "ten minutes: burst and sustained, shapes, dtypes, layouts, longer sequences",
    600.0,
    _cases,
    processes=10,
)
