"""The suites that all processes of a job measure together, and what measures each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nameplate.run import collectives, scaling
from nameplate.store.folder import Run

# Each takes device, only, budget, results and observer, and returns a run on rank 0 alone.
JOB_SUITES: Mapping[str, Callable[..., Run | None]] = {
    collectives.SUITE: collectives.measure_collectives,
    scaling.SUITE: scaling.measure_scaling,
}
