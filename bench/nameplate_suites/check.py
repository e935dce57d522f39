"""What `bench check` measures: a product until it has settled, one on the vector units, the memory."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import matmuls, memory


def _cases(target: Target) -> Iterator[Case]:
    if target.kind == "cpu":
        yield from matmuls(target, ("bf16", "fp32"), (1024,), group="products", weight=2.0)
        yield from memory(target, 64, group="memory", weight=1.0)
        return
    # The product that published figures are of: large, on the tensor cores, at the clock that it settles at.
    yield from matmuls(target, ("bf16",), (8192,), phase="sustained", group="product", weight=4.0)
    yield from memory(target, 1024, group="memory", weight=1.0)
    yield from matmuls(target, ("fp32",), (4096,), phase="sustained", group="vector", weight=1.0)


SUITE = Suite(
    "check",
    "a minute: whether this node is fit: a settled product, memory",
    60.0,
    _cases,
    processes=3,
)
