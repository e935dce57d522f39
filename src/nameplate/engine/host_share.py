"""How much of a GPU's time its host takes: to enqueue a launch, and against a replay as a CUDA graph.

Both are measured after the window, on launches of their own. While the window is drawn, the host runs ahead
until CUDA's queue is full (some 1,000 kernels; a transformer block launches 33 forward, 118 with backward)
and then waits for the GPU. That wait can't be told from slow enqueuing, so those batches show nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.base.messages import Message, message
from nameplate.device.protocol import Device
from nameplate.workload import Launch

# Where enqueuing takes a smaller share of the time, the host can't be the bottleneck.
WORTH_A_GRAPH = 0.3
# A batch lasts at least this long: the replay of a graph itself takes the host some 10 µs.
_BATCH_S = 0.01
_PAIRS = 3  # of an eager batch and a replayed one
_GRAPH_LAUNCHES = 50
# What a capture costs: launches of each buffer set to warm up, before it and once after; then, of each launch
# in the graph, enqueuing it, making the graph and replaying it once.
_WARM_UPS = 3 + 1
_CAPTURE = 3


@dataclass(frozen=True)
class HostShare:
    """The host's part in a case's time; None: not measured.

    `enqueue_s` is how long the host takes to enqueue one launch. `graph_ratio` is the time of a graph's
    replay ÷ that of the same launches enqueued one by one, drawn in turn. `no_graph` is why there is none
    although the host took long.
    """

    enqueue_s: float | None = None
    graph_ratio: float | None = None
    no_graph: Message | None = None


@dataclass(frozen=True)
class GraphSize:
    """Launches in a graph, and replays of it in a batch."""

    launches: int
    replays: int


def measure_host_share(
    device: Device, launches: Sequence[Launch], launch_s: float, allowed_s: float
) -> HostShare:
    """Measure how long the host takes to enqueue a launch; where that is long, replay launches as a graph.

    `launch_s` is the time of a launch in the window, `allowed_s` what the graph may take, with its capture
    and the batches it is compared by. There is a launcher for each buffer set, and the graph goes through all
    of them, so that its caches are those of the case.
    """
    enqueue_s = device.time_enqueue(launches)
    if enqueue_s is None or enqueue_s < WORTH_A_GRAPH * launch_s:
        return HostShare(enqueue_s)
    size = choose_graph_size(launch_s, len(launches), allowed_s)
    if size is None:
        needed_s = _count_launches(GraphSize(len(launches), 1), len(launches)) * launch_s
        return HostShare(
            enqueue_s, no_graph=message("graph_too_long", needed_s=needed_s, allowed_s=max(allowed_s, 0.0))
        )
    replay = device.capture(launches, size.launches)
    if replay is None:
        return HostShare(enqueue_s, no_graph=message("graph_refused"))
    return HostShare(enqueue_s, _compare(device, launches, replay, size))


def choose_graph_size(launch_s: float, sets: int, allowed_s: float) -> GraphSize | None:
    """Choose a graph whose batches last `_BATCH_S`, or less where that doesn't fit `allowed_s`; None if none
    fits.

    A graph holds whole cycles of the `sets` buffer sets: with some of them only, it would find them in the
    cache where the case's own launches don't.
    """
    wanted = math.ceil(_BATCH_S / launch_s)
    cycles = max(1, min(math.ceil(wanted / sets), _GRAPH_LAUNCHES // sets))
    sizes = [GraphSize(sets * cycles, max(1, math.ceil(wanted / (sets * cycles))))]
    sizes += [GraphSize(sets * fewer, 1) for fewer in range(cycles, 0, -1)]
    return next((size for size in sizes if _count_launches(size, sets) * launch_s <= allowed_s), None)


def _count_launches(size: GraphSize, sets: int) -> int:
    """Count the launches whose time a capture and all batches take."""
    return _WARM_UPS * sets + (_CAPTURE + 2 * _PAIRS * size.replays) * size.launches


def _compare(device: Device, launches: Sequence[Launch], replay: Launch, size: GraphSize) -> float:
    """Return the time of replays ÷ that of eager launches: neighbours in time, at the same clock."""
    # The capture has given torch's cached memory back to the driver (see `CudaDevice.capture`). A launch that
    # allocates gets it anew first, which takes milliseconds that the replay, with its own memory, doesn't.
    device.time_batch(launches, samples=1, per_sample=len(launches))
    eager_s = replayed_s = 0.0
    for _ in range(_PAIRS):
        per_batch = size.launches * size.replays
        eager_s += device.time_batch(launches, samples=1, per_sample=per_batch).elapsed_s
        replayed_s += device.time_batch([replay], samples=1, per_sample=size.replays).elapsed_s
    return replayed_s / eager_s
