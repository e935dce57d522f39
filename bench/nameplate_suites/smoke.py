"""About ten seconds: whether everything works, and roughly how fast this machine is."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import blocks, matmuls, memory


def _cases(target: Target) -> Iterator[Case]:
    # A group of their own: the first records come before anything slower is measured.
    yield from matmuls(target, ("fp32", "bf16"), (1024,), weight=1.5, group="products")
    # The rest in one group: what a group's processes have to do once is done once.
    yield from blocks(128, "bf16", width=1 / 8, weight=1.0, group="others")
    yield from matmuls(
        target, ("fp16",), (1024,), weight=0.5 if target.kind == "cpu" else 1.0, group="others"
    )
    if target.kind == "cuda":
        yield from matmuls(target, ("bf16", "fp16"), (8192,), group="others")
    yield from memory(target, 64 if target.kind == "cpu" else 1024, group="others")


SUITE = Suite("smoke", "a ten-second look: matmul, a block at an eighth of the width, memory", 10.0, _cases)
