"""What the engine asks of a device: a clock, a batch timed in one call, counters, an identity, a rating.

Everything the engine knows of time comes from here, so that a simulated device can run on a virtual clock
and a real one adds no Python of the engine's between launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from nameplate.device.identity import Identity
from nameplate.specs.rating import Rating
from nameplate.telemetry.gpu import GpuReading
from nameplate.workload import Launch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Timing:
    """One batch: seconds of each sample, in order, each of `per_sample` launches.

    `start_s` and `end_s` are on the device's own clock; flushes between samples lie within. `cpu_s` is the
    CPU time this process used meanwhile, all threads; None where it isn't known. `enqueue_s` is how long the
    host takes to hand over such a batch, where launching and running are two things (a GPU); None where they
    are one, or where it doesn't show.
    """

    start_s: float
    sample_s: NDArray[np.float64]
    per_sample: int
    end_s: float
    cpu_s: float | None = None
    enqueue_s: float | None = None

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
    """Running totals at one moment; two of them tell what went on in between. None: not known here."""

    at_s: float
    process_cpu_s: float | None = None  # CPU seconds of this process, all threads
    busy_cpu_s: float | None = None  # CPU seconds of every process on the machine
    steal_s: float | None = None  # CPU seconds a hypervisor gave to someone else
    tick_s: float | None = None  # the step in which busy_cpu_s and steal_s count
    parallel_share: float | None = None  # speed of the cores side by side, ÷ that when the device was opened
    mhz: float | None = None  # mean clock of the CPUs this process may use, as the kernel tells it
    temperature_c: float | None = None  # hottest sensor of the CPU package
    energy_j: float | None = None  # of the CPU packages, a running total
    gpu: GpuReading | None = None  # a GPU's own, with a reason for each figure its driver doesn't give


@dataclass(frozen=True)
class Probe:
    """A small product whose speed tells what conditions the device is in; it isn't what is measured.

    `renew` allocates its buffers anew, so that where they happen to lie isn't part of what it tells. `larger`
    are products of the same dtype among which the device's best is looked for, to calibrate the probe by.
    """

    name: str
    flops: int
    launch: Launch
    renew: Callable[[], None]
    larger: tuple[Probe, ...] = ()


class Described(Protocol):
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
        """What was seen of the device."""

    @property
    def memory_bytes(self) -> int | None:
        """Memory this process may use on the device; None: not known."""


class Device(Described, Protocol):
    """One device that can be timed."""

    @property
    def timer_resolution_s(self) -> float:
        """The smallest step its timing can tell, in seconds."""

    @property
    def cores(self) -> float:
        """CPU cores this device's work may keep busy at once (1 for a GPU's launching thread)."""

    @property
    def cache_bytes(self) -> int | None:
        """Last-level cache, which `flushed` empties and `rotating` overflows; None: not known."""

    @property
    def torch_device(self) -> torch.device:
        """Where a workload allocates its tensors."""

    def clock(self) -> float:
        """Seconds on a clock that only moves forward; virtual on a simulated device."""

    def time_batch(
        self, launches: Sequence[Launch], *, samples: int, per_sample: int, flush: bool = False
    ) -> Timing:
        """Time `samples` samples of `per_sample` launches each, cycling through `launches`.

        With `flush` the last-level cache is emptied before each sample, outside the timed interval.
        """

    def counters(self) -> Counters:
        """Totals as they stand now."""

    def timeline(self, since_s: float) -> tuple[Counters, ...]:
        """What was seen since `since_s`, in order of time: rows that its telemetry takes about ten times a
        second from the first call on, and those of `counters`. A row need not have every figure.
        """

    def probe(self, dtype: str) -> Probe | None:
        """A product to tell the conditions of the moment by; None where the device's clock tells them."""

    def captured(self, launches: Sequence[Launch], count: int) -> Launch | None:
        """One launch that replays `count` of these without the host between; None where there is none."""

    def kernels(self, launch: Launch) -> tuple[str, ...]:
        """Launch once, untimed, and name the kernels that ran; empty where they can't be told."""

    def idle(self, seconds: float) -> None:
        """Leave the device alone for so long."""

    def synchronize(self) -> None:
        """Wait until everything launched has run."""
