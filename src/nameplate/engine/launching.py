"""Is it the host that was timed? The same launches replayed as one graph, without the host between them."""

from __future__ import annotations

from nameplate.engine.case_run import CaseRun

# A batch that took the host less of its time to hand over can't be bound by it.
WORTH_A_GRAPH = 0.3
_LAUNCHES = 50  # in a graph
_REPLAYS = 10


def replay(trial: CaseRun, enqueue_share: float | None) -> None:
    """Time a graph of the trial's launches, where handing them over took long and the device can capture."""
    if enqueue_share is None or enqueue_share < WORTH_A_GRAPH or trial.sampler.flush:
        return
    device = trial.device
    launch = device.captured(trial.sampler.launches, _LAUNCHES)
    if launch is None:
        return
    device.time_batch([launch], samples=1, per_sample=1)
    timing = device.time_batch([launch], samples=_REPLAYS, per_sample=1)
    trial.graph_s = timing.elapsed_s / timing.launches / _LAUNCHES
