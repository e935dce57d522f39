"""Ten minutes of one matrix product from idle: the curve from burst to sustained throughput."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.suite import Case, Suite, Target
from nameplate_suites.parts import matmuls


def _cases(target: Target) -> Iterator[Case]:
    edge = 2048 if target.kind == "cpu" else 8192
    for phase in ("burst", "sustained"):
        yield from matmuls(target, ("bf16",), (edge,), phase=phase, group="soak")


SUITE = Suite(
    "soak",
    "one bf16 product from idle, without a pause: the curve and where it settles",
    600.0,
    _cases,
    processes=1,  # a pause would be another start from idle
)
