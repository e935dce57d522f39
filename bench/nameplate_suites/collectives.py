"""Collectives between a job's processes: `torchrun --nproc-per-node 2 --no-python bench run collectives`."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.store.launch import read_launch
from nameplate.suite import Case, Suite, Target
from nameplate_kernels import COLLECTIVES, Collective

_SIZES = (8, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28, 1 << 30, 1 << 33)
_ELEMENT_BYTES = 4


def _cases(target: Target) -> Iterator[Case]:
    """Yield every collective at every size, small ones first; messages are whole elements a process."""
    launch = read_launch()
    count = max(2, launch.world_size if launch else 0)
    unit = _ELEMENT_BYTES * count
    for size in _SIZES:
        for kind in COLLECTIVES:
            yield Case(Collective(kind, -(-size // unit) * unit, count), backend="torch")


SUITE = Suite(
    "collectives",
    "between the processes of a job: all_reduce and others from 8 B to 8 GiB",
    60.0,
    _cases,
    processes=1,
)
