"""About ten seconds: whether everything works, and roughly how fast this machine is."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import PASSES, blocks, matmuls, memory


def _cases(target: Target) -> Iterator[Case]:
    yield from _cpu(target) if target.kind == "cpu" else _gpu(target)


def _cpu(target: Target) -> Iterator[Case]:
    # The products first, in a group of their own, so that there are records within five seconds. The rest is
    # one group: what a group's processes have to do once is done once. Few cases, since each is measured in
    # several processes: of seven, one had a tenth of a second in each.
    yield from matmuls(target, ("fp32", "bf16"), (1024,), weight=1.0, group="products")
    yield from blocks(128, "bf16", width=1 / 8, passes=PASSES[:1], weight=1.25, group="others")
    yield from matmuls(target, ("fp16",), (1024,), weight=0.25, group="others")
    yield from memory(target, 64, kinds=("copy",), weight=1.0, group="others")


def _gpu(target: Target) -> Iterator[Case]:
    # A large product needs ten seconds to settle at the power limit, but a few tenths of one for its burst.
    # What else is measured here leaves that limit alone, so no case changes another's clock.
    yield from matmuls(target, ("bf16",), (8192,), phase="burst", weight=4.0)
    yield from matmuls(target, ("fp32", "bf16"), (1024,), weight=1.25, group="others")
    yield from blocks(128, "bf16", width=1 / 8, passes=PASSES[:1], weight=1.25, group="others")
    yield from memory(target, 1024, kinds=("copy",), weight=2.0, group="others")


SUITE = Suite("smoke", "a ten-second look: matmul, a block at an eighth of the width, memory", 10.0, _cases)
