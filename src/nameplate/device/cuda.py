"""An NVIDIA GPU as a device: identity by UUID, batches timed by events. Every CUDA-only call is in this file.

The module uses only the few calls of `torch.cuda` that `Accelerator` names. A test without a GPU can pass a
stand-in, and a file for another vendor can be as short as this one. The driver's figures come from NVML in a
process of its own, by UUID. If NVML is absent or hangs, its figures are missing, but the run goes on.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nameplate.base.environment import read_seconds
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.messages import message
from nameplate.device.context_check import ContextCheck
from nameplate.device.identity import CudaIdentity
from nameplate.device.kernels import list_cuda_kernels, profile_launch, rank_kernels
from nameplate.device.protocol import Counters, Probe, Timeline, Timing, TorchDevice
from nameplate.record import KernelTime
from nameplate.specs.rating import Rating, rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.telemetry.gpu import GpuFacts, GpuReading
from nameplate.telemetry.nvml import START_S, NvmlClient
from nameplate.workload import Launch

# cudaEventElapsedTime (CUDA runtime API): "resolution of approximately 0.5 microseconds".
_EVENT_RESOLUTION_S = 0.5e-6
# Launches from an empty queue that show what enqueuing one costs the host, and for how long they may run. A
# stream takes some 1,000 kernels before the host has to wait (observed, not documented), and a launch may be
# more than a hundred of them.
_ENQUEUED_GROUPS, _ENQUEUED_LAUNCHES = 5, 5
_ENQUEUED_S = 0.1
# The fewest timed launches of a batch for which an untimed one comes first: it costs a third of the time at
# most. A single launch is a long one, beside which the way to the first kernel is short.
_LED = 2
# A launch that takes the host so many times as long as the fastest one was disturbed, or met a full queue.
_WAITED = 1.5
# Launches of each buffer set before a capture, as in torch's notes on CUDA graphs: libraries initialise
# and choose their kernels with calls that CUDA refuses during a capture.
_WARM_UPS = 3
# Environment variable: seconds within which NVML must start, and answer each question.
DEADLINE = "NAMEPLATE_NVML_DEADLINE_S"
# Fields that an identity takes from NVML's facts under the same name.
_FACTS = (
    *("serial", "pci_bus_id", "pci_id", "vbios", "max_sm_clock_mhz", "max_memory_clock_mhz"),
    *("power_limit_w", "default_power_limit_w", "persistence_mode", "ecc_mode", "mig_mode", "compute_mode"),
    *("virtualization_mode", "max_pcie_generation", "max_pcie_width", "pcie_generation", "pcie_width"),
)


class Accelerator(Protocol):
    """The calls of `torch.cuda` that timing needs."""

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's own name
        """Make an event that a stream records."""

    def synchronize(self, device: Any = None) -> None:
        """Wait for everything launched on the device."""

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes of the device."""

    def memory_reserved(self, device: Any = None) -> int:
        """Bytes of the device that torch's allocator holds, used or not."""

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Count anew the most memory that tensors hold."""

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most bytes of the device that tensors have held since."""

    def Stream(self, device: Any = None) -> Any:  # noqa: N802
        """Make a stream other than the one of the launches."""

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Send what is launched inside to this stream."""

    def CUDAGraph(self) -> Any:  # noqa: N802
        """Make a graph to capture into; it owns the memory that is allocated meanwhile."""

    def graph_pool_handle(self) -> Any:
        """Name a new pool of memory for a graph."""

    def graph(self, cuda_graph: Any, pool: Any = None, stream: Any = None) -> AbstractContextManager[Any]:
        """Capture what is launched inside instead of running it."""


class CudaDevice(TorchDevice):
    """One GPU, on torch's current stream."""

    kind = "cuda"
    cores = 1.0
    timer_resolution_s = _EVENT_RESOLUTION_S
    _cache_bytes_assumed = 256 << 20

    def __init__(
        self,
        identity: CudaIdentity,
        accelerator: Accelerator | None = None,
        nvml: NvmlClient | None = None,
        check: ContextCheck | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Open the GPU of this identity.

        A twin and tests replace `accelerator` (default: `torch.cuda`), `nvml` (default: this process's one
        client) and `check` (default: one on this GPU; with another accelerator none); a twin also `clock`
        (default: time.perf_counter) and `sleep` (time.sleep).
        Raises ValueError for a GPU that torch doesn't see.
        """
        if identity.index is None:
            raise ValueError(f"torch doesn't see {identity.name} ({identity.uuid})")
        self._index = identity.index
        if accelerator is None:
            import torch

            torch.cuda.set_device(self._index)
            accelerator = torch.cuda
            check = check or ContextCheck(torch.device("cuda", self._index))
        self._check = check
        self._accelerator = accelerator
        self._nvml = nvml
        self._clock, self._sleep = clock or time.perf_counter, sleep or time.sleep
        self.identity = identity
        self.name = f"cuda:{self._index}"
        self.rating = rate(identity)
        self.cache_bytes = identity.l2_bytes
        # Free memory, not total: other processes may use the card, and a case must be skipped, not fail.
        self.memory_bytes = accelerator.mem_get_info(identity.index)[0]
        self._events: list[Any] = []
        self._side: Any = None  # the stream of captures
        self._timeline = Timeline(self._clock)
        self._sampling = False  # whether NVML's process was told to sample this GPU

    @property
    def accelerator(self) -> Accelerator:
        """The calls of torch.cuda that this device goes through."""
        return self._accelerator

    def clock(self) -> float:
        """Return seconds on the host's clock."""
        return self._clock()

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples between events; the host only enqueues, and waits once at the end.

        An untimed launch comes before all but the shortest batches: the host's way to the first kernel of an
        empty queue, some 10 to 20 µs, is then behind it, as it is in work that goes on and on.

        What is neither timed nor that launch, the GPU was idle. Beside flushes that isn't known.
        """
        ring = cycle(launches)
        events = self._event_pool(2 * samples if flush else samples + 1)
        is_led = not flush and samples * per_sample >= _LED
        self.synchronize()
        with garbage_collection_off():
            begin = self._clock()
            if flush:
                self._enqueue_cold(ring, events, per_sample)
            else:
                if is_led:
                    launches[-1]()  # of several buffer sets the one used last
                _enqueue_back_to_back(ring, events, per_sample)
        self.synchronize()
        end = self._clock()
        pairs = zip(events[::2], events[1::2], strict=True) if flush else pairwise(events)
        spans_ms = [first.elapsed_time(second) for first, second in pairs]
        sample_s = np.asarray(spans_ms, dtype=float) / 1e3
        untimed_s = float(sample_s.mean()) / per_sample if is_led else 0.0
        idle_s = None if flush else end - begin - float(sample_s.sum()) - untimed_s
        # No CPU time: the host's says nothing about the GPU.
        return Timing(begin, sample_s, per_sample, end, idle_s=idle_s)

    def time_enqueue(self, launches: Sequence[Launch]) -> float | None:
        """Return the host's seconds to enqueue one launch: the median of a few from an empty queue.

        A launch alone comes first; up to five groups of five follow while they fit 0.1 s. A single launch of
        more than 1,000 kernels fills the queue by itself: then this is an upper bound.
        """
        ring, begin = cycle(launches), self._clock()
        handed_s = self._enqueue_from_empty(ring, 1)
        group_s = _ENQUEUED_LAUNCHES * (self._clock() - begin)
        for _ in range(_ENQUEUED_GROUPS):
            if self._clock() - begin + group_s > _ENQUEUED_S:
                break
            handed_s += self._enqueue_from_empty(ring, _ENQUEUED_LAUNCHES)
        return float(np.median(handed_s))

    def _enqueue_from_empty(self, ring: Iterator[Launch], count: int) -> list[float]:
        """Return the host's seconds for each of `count` launches, up to one that it had to wait for."""
        handed_s: list[float] = []
        self.synchronize()
        with garbage_collection_off():
            for launch in islice(ring, count):
                begin = self._clock()
                launch()
                spent_s = self._clock() - begin
                if handed_s and spent_s > _WAITED * min(handed_s):
                    break
                handed_s.append(spent_s)
        self.synchronize()
        return handed_s

    def _event_pool(self, count: int) -> list[Any]:
        while len(self._events) < count:
            self._events.append(self._accelerator.Event(enable_timing=True))
        return self._events[:count]

    def _enqueue_cold(self, ring: Iterator[Launch], events: list[Any], per_sample: int) -> None:
        for first, second in zip(events[::2], events[1::2], strict=True):
            self._flush()
            first.record()
            for launch in islice(ring, per_sample):
                launch()
            second.record()

    def _flush(self) -> None:
        self._flush_buffer.zero_()

    def counters(self) -> Counters:
        """Return the time and the driver's reading: clocks, power, throttling, other processes."""
        now = Counters(self._clock(), gpu=self._read())
        self._timeline.add(now)
        return now

    def timeline(self, since_s: float) -> tuple[Counters, ...]:
        """Return rows from `since_s` on; see `protocol.Device.timeline`.

        Where NVML has no data on this GPU, only those of `counters`, each with the reason.
        """
        uuid = self.identity.uuid
        if uuid is not None:
            readings = [_as_this(uuid, one) for one in self._sampling_client(uuid).take_readings(uuid)]
            self._timeline.add(*(Counters(reading.at_s, gpu=reading) for reading in readings))
        return self._timeline.since(since_s)

    def hasten_telemetry(self, seconds: float) -> None:
        """Have NVML's process read this GPU up to a hundred times a second for so long."""
        uuid = self.identity.uuid
        if uuid is not None:
            self._sampling_client(uuid).hasten_sampling(uuid, seconds)

    def _read(self) -> GpuReading:
        """A reading of this GPU; without figures where NVML is absent or the GPU has no UUID."""
        uuid = self.identity.uuid
        if uuid is None:
            return GpuReading.without_figures(None, message("no_uuid"), self._clock())
        reading = _as_this(uuid, self._sampling_client(uuid).reading(uuid))
        return reading.model_copy(update={"own_memory_bytes": self._accelerator.memory_reserved(self._index)})

    def _sampling_client(self, uuid: str) -> NvmlClient:
        """The client, after it was told once to sample this GPU."""
        client = self._nvml or share_nvml()
        if not self._sampling:
            client.start_sampling(uuid)
            self._sampling = True
        return client

    def probes(self, dtype: str) -> tuple[Probe, ...]:
        """Return none: a GPU's clock shows its conditions."""
        return ()

    def capture(self, launches: Sequence[Launch], count: int) -> Launch | None:
        """Return a CUDA graph of `count` launches, cycling through `launches`; None where capture fails.

        A launch that waits for the GPU can't be captured, for example; any refusal of torch or CUDA counts as
        failure. The graph keeps the memory that its launches allocate, gradients included, until the returned
        launch is dropped.

        In both cases every launch has run afterwards, so a check never reads memory that was allocated and
        not yet written. Torch has also released its cached memory, so the next launch that allocates is slow.
        """
        if self._side is None:
            self._side = self._accelerator.Stream(self._index)
        pool = self._accelerator.graph_pool_handle()
        self.synchronize()  # the side stream doesn't wait for the others
        try:
            # Around everything: where a capture fails, torch.cuda.graph leaves its own stream current.
            with self._accelerator.stream(self._side):
                graph = self._capture(launches, count, pool)
            graph.replay()
            self.synchronize()
        except RuntimeError:  # raising it has cleared CUDA's error
            _end_failed_capture(self._index, pool)
            self.synchronize()
            for launch in launches:
                launch()
            return None
        replay: Launch = graph.replay  # a bound method: it keeps the graph and its memory
        return replay

    def _capture(self, launches: Sequence[Launch], count: int, pool: Any) -> Any:
        """Warm up and capture on one stream, so that cuBLAS has its handle and workspace in time."""
        for launch in islice(cycle(launches), _WARM_UPS * len(launches)):
            launch()
        graph = self._accelerator.CUDAGraph()
        # Without garbage collection: freeing some objects makes CUDA calls that a capture refuses.
        with garbage_collection_off(), self._accelerator.graph(graph, pool=pool, stream=self._side):
            for launch in islice(cycle(launches), count):
                launch()
        return graph

    def name_kernels(self, launch: Launch) -> tuple[str, ...]:
        """Name the CUDA kernels of the launch, from torch's profiler."""
        return rank_kernels(self.list_kernels(launch))

    def list_kernels(self, launch: Launch) -> tuple[tuple[str, float], ...]:
        """Launch once, untimed; return every kernel and copy that ran, with its microseconds."""

        def run() -> None:
            launch()
            self.synchronize()

        return list_cuda_kernels(run)

    def profile(self, launch: Launch, trace: Path) -> tuple[KernelTime, ...]:
        """Launch once under torch's profiler, and write its trace; kernels and copies of the GPU."""

        def run() -> None:
            launch()
            self.synchronize()

        return profile_launch(run, trace, on_cuda=True)

    def is_working(self) -> bool:
        """Return whether a small computation still gives the right result: an error may break the context."""
        return self._check is None or self._check.passes(self.synchronize)

    def begin_peak(self) -> None:
        """Count anew the most memory that tensors of this process hold on the GPU."""
        with suppress(RuntimeError):  # an allocator that the user plugged in may count nothing
            self._accelerator.reset_peak_memory_stats(self._index)

    def read_peak_bytes(self) -> int | None:
        """Return the most memory that they have held since, by its allocator; None: it doesn't count."""
        try:
            return self._accelerator.max_memory_allocated(self._index)
        except RuntimeError:
            return None

    def begin_process(self) -> None:
        """Do nothing: what this process keeps, it keeps to its end."""

    def idle(self, seconds: float) -> None:
        """Wait for everything launched, then sleep."""
        self.synchronize()
        self._sleep(seconds)

    def synchronize(self) -> None:
        """Wait until everything launched on this GPU has run."""
        self._accelerator.synchronize(self._index)


def _as_this(uuid: str, reading: GpuReading) -> GpuReading:
    """Give the reading our spelling of the UUID: NVML spells a MIG slice's differently."""
    return reading.model_copy(update={"uuid": uuid})


def _end_failed_capture(index: int, pool: Any) -> None:
    """Have torch's allocator leave a capture that CUDA refused to end.

    Torch 2.11 considers it still underway (pytorch/pytorch#180395), and then never releases cached memory.
    There is no public call for this. A torch that has left the capture by itself raises RuntimeError.

    The pool is released too, or its memory stays until the process ends: a graph releases its own only after
    a capture that ended well (aten/src/ATen/cuda/CUDAGraph.cpp, `CUDAGraph::reset`). Not where the first call
    raises: there the graph does it, and a second release is an error.
    """
    import torch

    with suppress(AttributeError, RuntimeError):
        torch._C._cuda_endAllocateToPool(index, pool)
        torch._C._cuda_releasePool(index, pool)


def _enqueue_back_to_back(ring: Iterator[Launch], events: list[Any], per_sample: int) -> None:
    """Launch `per_sample` times between one event and the next."""
    events[0].record()
    for event in events[1:]:
        for launch in islice(ring, per_sample):
            launch()
        event.record()


def rate(identity: CudaIdentity) -> Rating:
    """Rate the GPU by the part it is recognised as; without a part, figures are None with the reason."""
    return rate_evidence(
        Evidence(
            name=identity.name,
            memory_bytes=identity.memory_bytes,
            multiprocessors=identity.multiprocessors,
            power_limit_w=identity.default_power_limit_w,
            pci_device_id=identity.pci_id,
        )
    )


def read_identity(index: int, nvml: NvmlClient | None = None) -> CudaIdentity:
    """Read one GPU by torch's own index; torch and the driver order GPUs differently, so the UUID decides."""
    import torch

    found: Any = torch.cuda.get_device_properties(index)
    given = getattr(found, "uuid", None)
    uuid = f"GPU-{given}" if given else None
    client = nvml or share_nvml()
    facts = None if uuid is None else client.facts(uuid)
    return CudaIdentity(
        name=found.name,
        index=index,
        memory_bytes=found.total_memory,
        multiprocessors=found.multi_processor_count,
        compute_capability=f"{found.major}.{found.minor}",
        l2_bytes=getattr(found, "L2_cache_size", None) or None,
        cuda=torch.version.cuda,
        driver=client.driver,
        cuda_driver=client.cuda_driver,
        **({"uuid": uuid} if facts is None else driver_facts(facts)),
    )


def identify_without_torch(facts: GpuFacts) -> CudaIdentity:
    """Return the identity of a GPU that torch doesn't see, from the driver alone.

    A GPU that the driver has lost has an empty name.
    """
    return CudaIdentity(
        name=facts.name or "",
        index=None,
        memory_bytes=facts.memory_bytes,
        driver=facts.driver,
        cuda_driver=facts.cuda_driver,
        **driver_facts(facts),
    )


def driver_facts(facts: GpuFacts) -> dict[str, Any]:
    """Return the fields of an identity that only NVML has; its UUID shows whether this is a MIG slice."""
    vendor, device = facts.pci_subsystem_vendor_id, facts.pci_subsystem_device_id
    return {
        "uuid": facts.uuid,
        "nvml_index": facts.index,
        "mig_slice": facts.is_mig_slice,
        "pci_subsystem_id": None if vendor is None or device is None else f"{vendor}:{device}",
        **{name: getattr(facts, name) for name in _FACTS},
    }


def open_nvml() -> NvmlClient:
    """Start a client with the deadlines of the environment, or its own. Raises InputError for a wrong one."""
    if not os.environ.get(DEADLINE):
        return NvmlClient()
    seconds = read_seconds(DEADLINE, START_S)
    return NvmlClient(deadline_s=seconds, start_s=seconds)


@cache
def share_nvml() -> NvmlClient:
    """Return the one client of this process. NVML may take seconds to start, and would hang again if it hung.

    It stays open until this process ends, because devices aren't closed. If this process is killed, the NVML
    process ends by itself.
    """
    client = open_nvml()
    atexit.register(client.close)
    return client


def describe_torch_build() -> str:
    """Return torch's version and the CUDA version it was built for."""
    import torch

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return f"torch {torch.__version__} {build}"
