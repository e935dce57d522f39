"""An NVIDIA GPU as a device: identity by UUID, batches timed by events. Every CUDA-only call is in this file.

The module is written against the few calls of `torch.cuda` named in `Accelerator`, so that a test without a
GPU can hand it a stand-in, and another vendor's file can be as short as this one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice, pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nameplate.device.identity import CudaIdentity
from nameplate.device.interface import Counters, Timing, garbage_collection_off
from nameplate.specs import recognition
from nameplate.specs.rating import Rating
from nameplate.workload import Launch

if TYPE_CHECKING:
    import torch

# cudaEventElapsedTime (CUDA runtime API): "resolution of approximately 0.5 microseconds".
_EVENT_RESOLUTION_S = 0.5e-6
# A stream takes about 1,024 launches before the host has to wait (seen, not documented); well below that.
_QUEUE_LAUNCHES = 256


class Accelerator(Protocol):
    """The calls of `torch.cuda` that timing needs."""

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's own name
        """Make an event that a stream records."""

    def synchronize(self, device: Any = None) -> None:
        """Wait for everything launched on the device."""


class CudaDevice:
    """One GPU, on torch's current stream."""

    kind = "cuda"
    cores = 1.0
    timer_resolution_s = _EVENT_RESOLUTION_S

    def __init__(self, identity: CudaIdentity, accelerator: Accelerator | None = None) -> None:
        """Take the identity already read; `accelerator` is `torch.cuda` unless a test stands in for it."""
        if accelerator is None:
            import torch

            torch.cuda.set_device(identity.index)
            accelerator = torch.cuda
        self._accelerator = accelerator
        self.identity = identity
        self.name = f"cuda:{identity.index}"
        self.rating = rate(identity)
        self.cache_bytes = identity.l2_bytes
        self.memory_bytes = identity.memory_bytes
        self._events: list[Any] = []
        self._flushed: torch.Tensor | None = None

    @property
    def torch_device(self) -> torch.device:
        """`torch.device("cuda", index)`."""
        import torch

        return torch.device("cuda", self.identity.index)

    def clock(self) -> float:
        """Seconds on the host's monotonic clock."""
        return time.perf_counter()

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples between events; the host only enqueues, and waits once at the end."""
        ring = cycle(launches)
        events = self._event_pool(2 * samples if flush else samples + 1)
        self.synchronize()
        enqueue_s = None
        with garbage_collection_off():
            begin = time.perf_counter()
            if flush:  # the host launches while the flush runs: how long it takes doesn't show
                self._enqueue_cold(ring, events, per_sample)
            else:
                enqueue_s = samples * _enqueue_back_to_back(ring, events, per_sample)
        self.synchronize()
        pairs = zip(events[::2], events[1::2], strict=True) if flush else pairwise(events)
        spans_ms = [first.elapsed_time(second) for first, second in pairs]
        return Timing(begin, np.asarray(spans_ms, dtype=float) / 1e3, per_sample, enqueue_s)

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
        import torch

        if self._flushed is None:
            # Twice the device's own L2: a fixed size is too long on small parts, too short on new ones.
            self._flushed = torch.zeros(
                2 * (self.cache_bytes or 256 << 20), dtype=torch.uint8, device=self.torch_device
            )
        self._flushed.zero_()

    def counters(self) -> Counters:
        """The time alone: clocks, power and throttling are the driver's to tell, and come with telemetry."""
        return Counters(time.perf_counter())

    def synchronize(self) -> None:
        """Wait until everything launched on this GPU has run."""
        self._accelerator.synchronize(self.identity.index)


def _enqueue_back_to_back(ring: Iterator[Launch], events: list[Any], per_sample: int) -> float:
    """Launch between events; return the host's seconds a sample before the launch queue could fill.

    A full queue makes the host wait for the GPU, and then every kernel would look bound by its launch.
    """
    handed, handed_s, begin = 0, 0.0, time.perf_counter()
    events[0].record()
    for number, event in enumerate(events[1:], start=1):
        for launch in islice(ring, per_sample):
            launch()
        event.record()
        if number == 1 or number * per_sample <= _QUEUE_LAUNCHES:
            handed, handed_s = number, time.perf_counter() - begin
    return handed_s / handed


def rate(identity: CudaIdentity) -> Rating:
    """What the part this GPU is recognised as is rated for; null figures with the reason where it is none."""
    return recognition.rate(
        recognition.Evidence(
            name=identity.name,
            memory_bytes=identity.memory_bytes,
            multiprocessors=identity.multiprocessors,
            pci_device_id=identity.pci_device_id,
        )
    )


def read_identity(index: int) -> CudaIdentity:
    """Read one GPU by torch's own index; torch and the driver order GPUs differently, so the UUID decides."""
    import torch

    found: Any = torch.cuda.get_device_properties(index)
    uuid = getattr(found, "uuid", None)
    return CudaIdentity(
        name=found.name,
        index=index,
        uuid=f"GPU-{uuid}" if uuid else None,
        memory_bytes=found.total_memory,
        multiprocessors=found.multi_processor_count,
        compute_capability=f"{found.major}.{found.minor}",
        l2_bytes=getattr(found, "L2_cache_size", None) or None,
        cuda=torch.version.cuda,
        **_driver_facts(f"GPU-{uuid}" if uuid else None),
    )


def _driver_facts(uuid: str | None) -> dict[str, Any]:
    """Ask NVML for what torch doesn't tell; an absent library or field leaves its entry out."""
    with _nvml() as nvml:
        if nvml is None:
            return {}
        facts: dict[str, Any] = {}
        with suppress(nvml.NVMLError):
            facts["driver"] = nvml.nvmlSystemGetDriverVersion()
        with suppress(nvml.NVMLError):  # a MIG slice has no handle of its own
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            with suppress(nvml.NVMLError):
                pci = nvml.nvmlDeviceGetPciInfo(handle)
                facts |= {"pci_bus_id": pci.busId, "pci_device_id": pci.pciDeviceId}
            with suppress(nvml.NVMLError):  # consumer cards have none
                facts["serial"] = nvml.nvmlDeviceGetSerial(handle)
        return facts


@contextmanager
def _nvml() -> Iterator[Any]:
    """Yield the started library, or None where it is missing or refuses to start."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def driver_and_count() -> tuple[str, int] | None:
    """The driver's version and how many GPUs NVML sees, whatever torch can use; None without a driver."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        return nvml.nvmlSystemGetDriverVersion(), nvml.nvmlDeviceGetCount()
