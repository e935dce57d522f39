"""What torch.cuda would do on a simulated card: events, streams, graphs, waiting, memory, a launch queue.

The host and the card run beside each other on one virtual clock. A launch takes the host some microseconds
for each of its kernels and puts them into a queue; the card begins them as soon as it is free. Where a
thousand wait already, the host waits too. So a launch of many short kernels is bound by
the host, and one of a long kernel by the card, without anybody saying which.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from nameplate.twin.card import Card, Figure
from nameplate.twin.clock import VirtualClock
from nameplate.twin.faults import Endless, Lost, Poisoned
from nameplate.twin.kernels import Kernels
from nameplate.twin.simulation import Simulation

_CONTEXT_BYTES = 600 << 20  # of a process's context and its kernels
_LOST = "CUDA error: unspecified launch failure"
_POISONED = "CUDA error: an illegal memory access was encountered"


@dataclass
class TwinEvent:
    """An event; `at_s` is when the card reached it."""

    accelerator: TwinAccelerator
    at_s: float = math.nan

    def record(self) -> None:
        """Note when the card gets here."""
        self.at_s = self.accelerator.mark()

    def elapsed_time(self, later: TwinEvent) -> float:
        """Return the milliseconds to a later event, in the steps of the card's timer."""
        step_s = self.accelerator.card.launch.event_step_s.value
        steps = math.floor(later.at_s / step_s) - math.floor(self.at_s / step_s)
        return steps * step_s * 1e3


@dataclass
class TwinGraph:
    """A graph of launches; replayed, it takes the host one call."""

    accelerator: TwinAccelerator
    work: Kernels | None = None

    def replay(self) -> None:
        """Launch all of it."""
        if self.work is None:
            raise RuntimeError("the graph was replayed before it was captured")
        self.accelerator.launch(self.work)


@dataclass
class TwinAccelerator:
    """The calls of torch.cuda that `device.cuda.Accelerator` names, and `launch`, which takes kernels."""

    card: Card
    clock: VirtualClock
    simulation: Simulation
    allocated_bytes: int = 0
    _peak_bytes: int = 0
    _free_s: float = 0.0  # when the card has run everything
    _queue: deque[tuple[float, int]] = field(default_factory=deque)  # end and places of what was launched
    _queued: int = 0
    _captured: list[Kernels] | None = None
    _process: int = 1
    _profiled: bool = False  # whether this process has started torch's profiler

    def __post_init__(self) -> None:
        """Read the figures that every launch needs once."""
        launch = self.card.launch
        self._places = int(launch.queue_kernels.value)
        self._latency_s, self._event_host_s = launch.latency_s.value, launch.event_host_s.value
        self._synchronize_s = launch.synchronize_s.value
        self._broken_s = self.simulation.faults.since(Lost, Poisoned)
        self._endless_s = self.simulation.faults.since(Endless)

    # ---- launches ----

    def launch(self, work: Kernels) -> None:
        """Enqueue work; wait while the queue is full. Raises RuntimeError, as torch, on a broken card."""
        if self._captured is not None:
            self.clock.now_s += work.host_s
            self._captured.append(work)
            return
        clock, queue = self.clock, self._queue
        if clock.now_s >= self._broken_s:
            self._raise_broken()
        first_s = clock.now_s + work.host_s / work.queued
        clock.now_s += work.host_s
        begin_s = self._free_s if self._free_s >= first_s else first_s + self._latency_s
        end_s = self.simulation.run(begin_s, work)
        # The last kernel can't end before it was enqueued, however early the first one began.
        self._free_s = max(end_s, clock.now_s + self._latency_s) if work.queued > 1 else end_s
        queue.append((self._free_s, work.queued))
        self._queued += work.queued
        while queue and (queue[0][0] <= clock.now_s or self._queued > self._places):
            end_s, places = queue.popleft()
            self._queued -= places
            clock.now_s = max(clock.now_s, end_s)

    def mark(self) -> float:
        """Enqueue an event, and return when the card reaches it."""
        self.clock.now_s += self._event_host_s
        return max(self._free_s, self.clock.now_s)

    def _raise_broken(self) -> None:
        lost = self.simulation.faults.since(Lost) <= self.clock.now_s
        raise RuntimeError(_LOST if lost else _POISONED)

    # ---- as torch.cuda has them ----

    def Event(self, *, enable_timing: bool) -> TwinEvent:  # noqa: N802 - torch's own name
        """Make an event."""
        del enable_timing
        return TwinEvent(self)

    def synchronize(self, device: Any = None) -> None:
        """Wait for everything launched; for ever where a kernel never ends."""
        del device
        if self.clock.now_s >= self._broken_s:
            self._raise_broken()
        while self.clock.now_s >= self._endless_s:
            time.sleep(1.0)  # real time: whoever watches this process has to end it
        self.clock.wait_until(self._free_s)
        self.clock.sleep(self._synchronize_s)
        self._queue.clear()
        self._queued = 0

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes."""
        del device
        total = round(self.card.identity.memory_mib.value) << 20
        return total - _CONTEXT_BYTES - self.allocated_bytes, total

    def memory_reserved(self, device: Any = None) -> int:
        """Bytes that are allocated."""
        del device
        return self.allocated_bytes

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Count anew the most bytes that are allocated."""
        del device
        self._peak_bytes = self.allocated_bytes

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most bytes that were allocated since."""
        del device
        return self._peak_bytes

    def begin_process(self) -> None:
        """Have all memory free, as a fresh process finds it: what an earlier one took ended with it.

        Time passes until it has a context.
        """
        self.allocated_bytes = 0
        self._process += 1
        self._profiled = False
        self._pass(self.card.launch.context_s)

    def start_profiler(self) -> None:
        """Let the time pass that torch's profiler takes to start, once in a process."""
        if not self._profiled:
            self._pass(self.card.launch.profiler_s)
        self._profiled = True

    def _pass(self, time: Figure | None) -> None:
        self.clock.sleep(0.0 if time is None else time.value)

    def allocate(self, count: int) -> int:
        """Take so many bytes, and return the process that holds them, for `free`.

        Raises torch.OutOfMemoryError where they aren't free.
        """
        free, total = self.mem_get_info()
        if count > free:
            import torch

            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {count} bytes of {total}, {free} of them free."
            )
        self.allocated_bytes += count
        self._peak_bytes = max(self._peak_bytes, self.allocated_bytes)
        return self._process

    def free(self, count: int, process: int) -> None:
        """Give back so many bytes that this process took; those of an earlier one are free already."""
        if process == self._process:
            self.allocated_bytes -= count

    def Stream(self, device: Any = None) -> object:  # noqa: N802
        """Make a stream; all streams of a twin are one."""
        del device
        return object()

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Send what is launched inside to this stream."""
        del stream
        return nullcontext()

    def CUDAGraph(self) -> TwinGraph:  # noqa: N802
        """Make a graph to capture into."""
        return TwinGraph(self)

    def graph_pool_handle(self) -> object:
        """Name a pool of memory."""
        return object()

    @contextmanager
    def graph(self, cuda_graph: TwinGraph, pool: Any = None, stream: Any = None) -> Iterator[None]:
        """Capture what is launched inside instead of running it."""
        del pool, stream
        self._captured = []
        try:
            yield
            kernels = [each for work in self._captured for each in work.kernels]
        finally:
            self._captured = None
        if not kernels:
            raise RuntimeError("CUDA error: the graph has no kernels")
        highest_mhz, exponent = self.card.clock.maximum_mhz.value, self.card.power.exponent.value
        host_s = self.card.launch.graph_host_s.value
        cuda_graph.work = Kernels(kernels, highest_mhz, exponent, host_s, queued=1)
