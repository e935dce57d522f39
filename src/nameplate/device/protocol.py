"""What the engine asks of a device: a clock, a batch timed in one call, counters, an identity, a rating.

The engine knows time only through this protocol. That is why a simulated device can run on a virtual clock,
and why no Python of the engine runs between the launches of a real one.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from nameplate.base.messages import Reason
from nameplate.device.identity import Identity
from nameplate.record import KernelTime
from nameplate.specs.rating import Rating
from nameplate.telemetry.gpu import GpuReading
from nameplate.workload import Launch, Prepared, SearchBuffers, SearchedWorkload, Workload

if TYPE_CHECKING:
    import torch

# An older row, in seconds, is dropped once the timeline is asked for a later time. A long case asks again and
# again since its beginning, and so keeps all of its rows.
_KEPT_S = 30 * 60.0


@dataclass(frozen=True)
class Timing:
    """One batch: seconds of each sample, in order, each of `per_sample` launches.

    `start_s` and `end_s` are on the device's own clock and enclose the flushes between samples. `cpu_s` is
    the CPU time of this process meanwhile, all threads, and `system_s` the part of it that the kernel took;
    `idle_s` is how long the device waited for the host meanwhile. None: not known.
    """

    start_s: float
    sample_s: NDArray[np.float64]
    per_sample: int
    end_s: float
    cpu_s: float | None = None
    system_s: float | None = None
    idle_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Timed seconds of the batch."""
        return float(self.sample_s.sum())

    @property
    def launches(self) -> int:
        """Launches the batch timed."""
        return self.per_sample * self.sample_s.size


@dataclass(frozen=True)
class Counters:
    """Running totals at one moment; the difference of two describes the time in between. None: not known."""

    at_s: float
    process_cpu_s: float | None = None  # CPU seconds of this process, all threads
    busy_cpu_s: float | None = None  # CPU seconds of every process on the machine
    steal_s: float | None = None  # CPU seconds a hypervisor gave to someone else
    tick_s: float | None = None  # the step in which busy_cpu_s and steal_s count
    parallel_share: float | None = None  # speed of the cores in parallel, ÷ that when the device was opened
    mhz: float | None = None  # mean clock of the CPUs this process may use, from the kernel
    temperature_c: float | None = None  # hottest sensor of the CPU package
    energy_j: float | None = None  # of the CPU packages, a running total
    gpu: GpuReading | None = None  # a GPU's own, with a reason for each figure its driver doesn't give


class Timeline:
    """Rows of telemetry and counters, added in any order of time.

    Those of the last half hour, and those since the time that was last asked for.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Keep rows by this clock, in seconds."""
        self._clock = clock
        self._rows: list[Counters] = []

    def add(self, *rows: Counters) -> None:
        """Keep these rows."""
        self._rows += rows

    def since(self, since_s: float) -> tuple[Counters, ...]:
        """Return the rows from `since_s` on, in order of time."""

        def at_s(row: Counters) -> float:
            return row.at_s

        self._rows.sort(key=at_s)
        kept_from_s = min(self._clock() - _KEPT_S, since_s)
        del self._rows[: bisect_left(self._rows, kept_from_s, key=at_s)]
        return tuple(self._rows[bisect_left(self._rows, since_s, key=at_s) :])


@dataclass(frozen=True)
class Probe:
    """A matrix product whose speed shows the present conditions of the device."""

    name: str
    flops: int
    launch: Launch


class DeviceDescription(Protocol):
    """What is known of a device without opening it."""

    rating: Rating

    @property
    def name(self) -> str:
        """`cpu`, `cuda:0`, …"""

    @property
    def kind(self) -> str:
        """`cpu`, `cuda` or `simulated`."""

    @property
    def identity(self) -> Identity:
        """What was read from the device."""

    @property
    def memory_bytes(self) -> int | None:
        """Memory this process may use on the device; None: not known."""

    @property
    def measured(self) -> bool:
        """Whether its figures are measurements; False for a simulated device and a twin."""


class MeasuredDevice(DeviceDescription, Protocol):
    """What is known of a device once it is open, in this process or in another."""

    @property
    def cores(self) -> float:
        """CPU cores this device's work may keep busy at once (1 for a GPU's launching thread)."""

    @property
    def cache_bytes(self) -> int | None:
        """Last-level cache, which `flushed` empties and `rotating` overflows; None: not known."""

    @property
    def telemetry_lost(self) -> Reason | None:
        """Why telemetry that had begun came to an end, where the figures themselves don't say; else None."""


class Device(MeasuredDevice, Protocol):
    """One device that can be timed."""

    @property
    def timer_resolution_s(self) -> float:
        """The smallest step of its timer, in seconds."""

    @property
    def torch_device(self) -> torch.device:
        """Where a workload allocates its tensors."""

    def prepare(self, workload: Workload, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate and fill a workload on this device; see `Workload.prepare`."""

    def prepare_search(self, workload: SearchedWorkload, *, fill: str, seed: int) -> SearchBuffers:
        """Allocate and fill what any point of a grid can be launched on; see `SearchedWorkload.allocate`."""

    def why_unsupported(self, workload: Workload) -> str | None:
        """Return why a workload can't run on this device, in one clause; None when it can."""

    def begin_process(self) -> None:
        """Be as a fresh process finds the device: a simulated one draws anew what a process keeps.

        A real one does nothing: only another process is a fresh one.
        """

    def clock(self) -> float:
        """Return seconds on a clock that only moves forward; virtual on a simulated device."""

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples of `per_sample` launches each, cycling through `launches`.

        With `flush` the last-level cache is emptied before each sample, outside the timed interval.
        """

    def counters(self) -> Counters:
        """Return the totals as they stand now."""

    def timeline(self, since_s: float) -> tuple[Counters, ...]:
        """Return all rows since `since_s`, in order of time: those of `counters`, and those of telemetry.

        Telemetry starts with the first call and takes about ten rows a second. A row may lack any figure.
        Rows of the last twenty minutes wait for a call; those fetched with one are kept while later calls ask
        for the same time.
        """

    def hasten_telemetry(self, seconds: float) -> None:
        """Take up to a hundred rows of telemetry a second for so long, where there is a driver to ask."""

    def probes(self, dtype: str) -> tuple[Probe, ...]:
        """Return large products of a dtype, the smallest first, of which the fastest is to be its probe.

        None where the device's clock shows the present conditions, or the dtype has no arithmetic.
        """

    def time_enqueue(self, launches: Sequence[Launch]) -> float | None:
        """Return the host's seconds to enqueue one launch; None where a launch runs when it is called."""

    def capture(self, launches: Sequence[Launch], count: int) -> Launch | None:
        """Return one launch that replays `count` of these without the host in between; None: not possible."""

    def time_empty_launch(self) -> float:
        """Return the seconds of the smallest launch from an empty queue, which are latency alone."""

    def name_kernels(self, launch: Launch) -> tuple[str, ...]:
        """Launch once, untimed, and name the kernels that ran; empty where they can't be named."""

    def profile(self, launch: Launch, trace: Path) -> tuple[KernelTime, ...]:
        """Launch once, untimed, under a profiler; write its trace for Chrome, and return its kernels.

        The longest is first; none where nothing runs. Later launches may be slower.
        """

    def begin_peak(self) -> None:
        """Count anew the most memory that this process holds on the device."""

    def read_peak_bytes(self) -> int | None:
        """Return the most memory that it has held since; None: not known."""

    def is_working(self) -> bool:
        """Return whether the device still computes; False where an error broke it for this process."""

    def idle(self, seconds: float) -> None:
        """Leave the device alone for so long."""

    def synchronize(self) -> None:
        """Wait until everything launched has run."""


# The fastest of so many empty launches is their latency; the others were disturbed.
_EMPTY_LAUNCHES = 20


class TorchDevice(ABC):
    """What the CPU and a GPU have in common: torch's device of its name, the host's clock, a flush buffer."""

    name: str
    measured = True
    cache_bytes: int | None
    telemetry_lost: Reason | None = None
    _cache_bytes_assumed: int  # where the size isn't known

    @property
    def torch_device(self) -> torch.device:
        """Torch's device of the same name."""
        import torch

        return torch.device(self.name)

    def prepare(self, workload: Workload, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Allocate and fill a workload on torch's device."""
        return workload.prepare(self.torch_device, fill=fill, seed=seed, copies=copies)

    def prepare_search(self, workload: SearchedWorkload, *, fill: str, seed: int) -> SearchBuffers:
        """Allocate and fill on torch's device what every point of a grid can be launched on."""
        return workload.allocate(self.torch_device, fill=fill, seed=seed)

    def why_unsupported(self, workload: Workload) -> str | None:
        """Return what the workload says of torch's device."""
        return workload.unsupported(self.torch_device)

    def clock(self) -> float:
        """Return seconds on the host's monotonic clock."""
        return time.perf_counter()

    @abstractmethod
    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples of `per_sample` launches each; see `Device.time_batch`."""

    def time_empty_launch(self) -> float:
        """Return the seconds of the fastest of twenty launches that write one element each."""
        launch = self.make_empty_launch()
        timings = (self.time_batch([launch], samples=1, per_sample=1) for _ in range(_EMPTY_LAUNCHES))
        return min(timing.elapsed_s for timing in timings)

    def make_empty_launch(self) -> Launch:
        """Return a launch that writes one element."""
        import torch

        launch: Launch = torch.zeros(1, device=self.torch_device).zero_
        return launch

    @cached_property
    def _flush_buffer(self) -> torch.Tensor:
        import torch

        # Twice the last-level cache, so that policies other than least-recently-used evict it too.
        size = 2 * (self.cache_bytes or self._cache_bytes_assumed)
        return torch.zeros(size, dtype=torch.uint8, device=self.torch_device)
