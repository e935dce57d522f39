"""A stand-in for torch.cuda on a virtual clock: a GPU, its host, and the launches between them."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager

from nameplate.device.identity import CudaIdentity
from stand_ins import CudaMemory

QUEUE = 1024  # launches a stream takes before the host has to wait


class Gpu(CudaMemory):
    """A GPU and its host on virtual clocks: launches run in order; the host waits where the queue is full."""

    def __init__(self, host_s=5e-6, queue=QUEUE):
        self.host_s, self.queue = host_s, queue
        self.now_s = self.done_s = 0.0
        self.pending = deque()
        self.events_made, self.synchronized = 0, []
        self.current, self.capturing = "default stream", None
        self.warmed = []  # durations that ran on another stream than the default one

    def enqueue(self, duration_s):
        if self.capturing is not None:
            self.capturing.durations_s.append(duration_s)
            return
        if self.current != "default stream":
            self.warmed.append(duration_s)
        self.now_s += self.host_s
        while self.pending and self.pending[0] <= self.now_s:
            self.pending.popleft()
        if len(self.pending) >= self.queue:
            self.now_s = self.pending.popleft()
        self.done_s = max(self.done_s, self.now_s) + duration_s
        self.pending.append(self.done_s)

    def Event(self, *, enable_timing):  # noqa: N802 - torch's own name
        assert enable_timing
        self.events_made += 1
        return Event(self)

    def synchronize(self, device=None):
        if self.capturing is not None:
            self.capturing.refused = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.synchronized.append(device)
        self.now_s = max(self.now_s, self.done_s)
        self.pending.clear()

    def Stream(self, device=None):  # noqa: N802
        return f"side stream of {device}"

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def CUDAGraph(self):  # noqa: N802
        return Graph(self)

    def graph_pool_handle(self):
        return (0, 1)

    @contextmanager
    def graph(self, cuda_graph, pool=None, stream=None):
        """As torch's: where the capture was refused, its end raises and leaves its stream the current one."""
        assert pool == (0, 1)
        before, self.current, self.capturing = self.current, stream, cuda_graph
        try:
            yield
        finally:
            self.capturing = None
            if cuda_graph.refused:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
            self.current = before

    def launcher(self, duration_s, log=None, name="", kernels=1):
        def launch():
            if log is not None:
                log.append(name)
            for _ in range(kernels):
                self.enqueue(duration_s / kernels)

        return launch


class Event:
    def __init__(self, gpu):
        self.gpu, self.at_s = gpu, None

    def record(self):
        self.at_s = max(self.gpu.done_s, self.gpu.now_s)

    def elapsed_time(self, later):
        return (later.at_s - self.at_s) * 1e3


class Graph:
    """What was launched while it was captured, launched again as one."""

    def __init__(self, gpu):
        self.gpu, self.durations_s, self.refused = gpu, [], False

    def replay(self):
        self.gpu.enqueue(sum(self.durations_s))


IDENTITY = CudaIdentity(name="NVIDIA Test", index=3, memory_bytes=80 << 30, l2_bytes=50 << 20)


def wait_for_rows(device, since_s, count):
    """Return at least so many rows, however slow the machine is; fewer where they don't come at all."""
    for _ in range(2000):
        rows = device.timeline(since_s)
        if len(rows) >= count:
            break
        time.sleep(0.01)
    return rows
