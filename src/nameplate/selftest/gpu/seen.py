"""What `bench selftest --on cuda` saw of a card: observations alone, which `checks.py` judges.

They are data, so that a check can be tried on any observation, and a recorded one be judged again. Seconds
are on the device's own clock, with which the readings of its driver are in step.
"""

from __future__ import annotations

from collections.abc import Mapping

from nameplate.base.language import N_
from nameplate.base.model import FrozenModel
from nameplate.device.identity import CudaIdentity
from nameplate.telemetry.gpu import GpuReading

HARNESS, HARNESS_COLD = "nameplate", "nameplate, caches flushed"
EVENTS, WALL_CLOCK = N_("events"), N_("wall clock")
GRAPH, DO_BENCH = N_("graph"), N_("Triton's do_bench")
# How the product is timed, and which of the harness's figures each way is compared with. Triton's do_bench
# writes 256 MB between launches to empty the caches, and so the harness does for it.
WAYS: Mapping[str, str] = {
    EVENTS: HARNESS,
    WALL_CLOCK: HARNESS,
    GRAPH: HARNESS,
    DO_BENCH: HARNESS_COLD,
}


class ContextSeen(FrozenModel):
    """The driver's list of processes on the card, and its memory in use, at three moments.

    `before`: before this process asked torch for its GPUs; `described`: after it described them as `bench
    run` does; `opened`: after a child opened the card and computed something there. The readings leave out no
    process.
    """

    pid: int
    child_pid: int
    before: GpuReading
    described: GpuReading
    opened: GpuReading


class Product(FrozenModel):
    """A launch of the product under load: when it began, and how long it took (a mean where several were
    timed as one).
    """

    at_s: float
    launch_s: float


class LoadSeen(FrozenModel):
    """The product from idle, back to back, for some eight seconds, and what the driver said meanwhile.

    `rows` are its readings from `begin_s` on; `idle` and `loaded` are whole ones, before it and at its end.
    """

    flops: int
    idle: GpuReading
    loaded: GpuReading
    begin_s: float
    end_s: float
    products: tuple[Product, ...]
    rows: tuple[GpuReading, ...]


class QueueSeen(FrozenModel):
    """Launches enqueued behind work that takes long: how many were accepted before the host had to wait.

    `depth` is None where the host never waited for any of the `tried` ones.
    """

    tried: int
    depth: int | None
    host_s: float  # for one of them


class TurnsSeen(FrozenModel):
    """Seconds a launch, of each round, for each way or state; a round has one turn of each, in random order.

    `left_out` says why a way wasn't taken.
    """

    seconds: Mapping[str, tuple[float, ...]]
    flops: int
    left_out: Mapping[str, str] = {}
    rows_per_s: float | None = None  # of telemetry, in the turns with it


class DigestsSeen(FrozenModel):
    """For each product, how many launches gave each digest of all bits of the result."""

    digests: Mapping[str, Mapping[str, int]]


class BlockSeen(FrozenModel):
    """One pass of a transformer block: its verification, and the kernels of a launch by torch's profiler.

    `error` is the largest deviation ÷ the bound that rounding explains; None: infinite, or no number.
    `peak_bytes` is the most memory that it held, reference and check included; None: not seen.
    """

    shape: str
    error: float | None
    passed: bool
    kernels: int
    attention: str | None
    gpu_s: float
    host_s: float
    peak_bytes: int | None = None
    declared_bytes: int | None = None


class BlocksSeen(FrozenModel):
    """The passes of the block. `profiler_s` is what torch's profiler took to list a first kernel."""

    passes: tuple[BlockSeen, ...]
    profiler_s: float | None = None


class CostsSeen(FrozenModel):
    """What launches cost, and the memory's bandwidth: for the twin, judged by no check. None: not seen."""

    host_s: float | None = None  # to enqueue a small kernel
    product_host_s: float | None = None  # … and a small product
    event_host_s: float | None = None
    event_step_s: float | None = None  # the smallest difference of times between events
    empty_launch_s: float | None = None  # the smallest launch from an empty queue, between events
    zeros_tflops: float | None = None  # of the product on zeros, which may stay below the power limit
    zeros_mhz: float | None = None  # the clock meanwhile
    copy_gb_s: float | None = None  # bytes read and written
    context_s: float | None = None  # from CUDA's start in a process to the end of its first product


class Seen(FrozenModel):
    """Everything that was seen of one card. `unseen` has the reason for each look that gave nothing."""

    device: str
    identity: CudaIdentity
    measured: bool  # False: a twin's
    made: str  # when, UTC, ISO 8601
    versions: Mapping[str, str | None] = {}
    context: ContextSeen | None = None
    load: LoadSeen | None = None
    queue: QueueSeen | None = None
    product: TurnsSeen | None = None
    digests: DigestsSeen | None = None
    blocks: BlocksSeen | None = None
    telemetry: TurnsSeen | None = None
    costs: CostsSeen | None = None
    unseen: Mapping[str, str] = {}
