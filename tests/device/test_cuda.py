"""A GPU's batches through a stand-in for torch.cuda on a virtual clock, and which device a flag opens."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
import weakref
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from nameplate.base.errors import InputError
from nameplate.device import cuda, driver, survey
from nameplate.device.context_check import ContextCheck
from nameplate.device.cuda import CudaDevice
from nameplate.device.driver import DriverState, advise_build
from nameplate.device.identity import CudaIdentity
from nameplate.device.kernels import name_attention
from nameplate.device.libraries import read_library_versions
from nameplate.engine.conditions import conditions_between
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from nameplate.telemetry.gpu import GpuReading
from nameplate.telemetry.nvml import NvmlClient
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.transformer_block import TransformerBlock
from stand_ins import Work

QUEUE = 1024  # launches a stream takes before the host has to wait


class Gpu:
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

    def mem_get_info(self, device=None):
        return 60 << 30, 80 << 30

    def memory_reserved(self, device=None):
        return 4 << 30

    def reset_peak_memory_stats(self, device=None):
        pass

    def max_memory_allocated(self, device=None):
        return 3 << 30

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


@pytest.fixture
def gpu(monkeypatch):
    stand_in = Gpu()
    monkeypatch.setattr(cuda.time, "perf_counter", lambda: stand_in.now_s)
    return stand_in


def test_back_to_back_samples_share_their_events(gpu):
    log = []
    launches = [gpu.launcher(ms * 1e-3, log, name) for ms, name in ((1, "a"), (2, "b"), (3, "c"))]
    timing = CudaDevice(IDENTITY, gpu).time_batch(launches, samples=4, per_sample=2)
    assert "".join(log) == "c" + "abcabcab"  # an untimed one first, of the buffers that were used last
    assert gpu.events_made == 4 + 1
    np.testing.assert_allclose(timing.sample_s, [3e-3, 4e-3, 5e-3, 3e-3], rtol=0.01)
    assert timing.launches == 8


def test_no_gap_between_samples_is_lost(gpu):
    timing = CudaDevice(IDENTITY, gpu).time_batch([gpu.launcher(1e-3)], samples=50, per_sample=1)
    assert timing.elapsed_s + 1e-3 == pytest.approx(gpu.done_s, rel=1e-3)  # with the untimed one


def test_the_way_to_the_first_kernel_is_no_part_of_a_batch_and_all_of_an_empty_launch(gpu):
    device, log = CudaDevice(IDENTITY, gpu), []
    launch = gpu.launcher(100e-6, log, "a")
    gpu.now_s += 1.0  # the queue is empty
    assert device.time_batch([launch], samples=20, per_sample=1).sample_s == pytest.approx([100e-6] * 20)
    log.clear()
    gpu.now_s += 1.0
    assert device.time_batch([launch], samples=1, per_sample=1).elapsed_s > 100e-6
    assert len(log) == 1


def test_a_flush_stays_outside_its_samples(gpu, monkeypatch):
    log = []
    monkeypatch.setattr(CudaDevice, "_flush", lambda self: (log.append("|"), gpu.enqueue(7e-3)))
    launches = [gpu.launcher(1e-3, log, "a"), gpu.launcher(2e-3, log, "b")]
    timing = CudaDevice(IDENTITY, gpu).time_batch(launches, samples=3, per_sample=1, flush=True)
    assert "".join(log) == "|a|b|a"
    assert gpu.events_made == 2 * 3
    np.testing.assert_allclose(timing.sample_s, [1e-3, 2e-3, 1e-3], rtol=0.01)


def test_waits_before_and_after_a_batch_on_its_own_gpu(gpu):
    gpu.enqueue(1.0)  # someone's earlier work
    timing = CudaDevice(IDENTITY, gpu).time_batch([gpu.launcher(1e-3)], samples=1, per_sample=1)
    assert gpu.synchronized == [3, 3]
    assert timing.start_s >= 1.0
    assert timing.elapsed_s == pytest.approx(1e-3, rel=0.01)
    assert timing.end_s == gpu.now_s == gpu.done_s
    assert timing.cpu_s is None


def test_events_are_made_once(gpu):
    device = CudaDevice(IDENTITY, gpu)
    for samples in (5, 3, 5):
        assert device.time_batch([gpu.launcher(1e-3)], samples=samples, per_sample=1).sample_s.size == samples
    assert gpu.events_made == 6


@pytest.mark.parametrize("kernels", [1, 33, 118, 400, 900])
@pytest.mark.parametrize("faster", [0.4, 1.0, 3.0, 11.0])
def test_enqueuing_takes_what_the_host_takes_however_many_kernels_fill_the_queue(gpu, kernels, faster):
    """The host takes 5 µs a kernel, and is so many times faster than the GPU, or slower."""
    launch = gpu.launcher(kernels * 5e-6 * faster, kernels=kernels)
    spent_s = CudaDevice(IDENTITY, gpu).time_enqueue([launch])
    assert spent_s == pytest.approx(kernels * 5e-6, rel=0.02)


def test_the_time_of_earlier_work_is_not_that_of_enqueuing(gpu):
    gpu.enqueue(3.0)
    assert CudaDevice(IDENTITY, gpu).time_enqueue([gpu.launcher(1e-3)]) == pytest.approx(5e-6)


def test_enqueuing_a_long_launch_is_tried_once(gpu):
    log = []
    spent_s = CudaDevice(IDENTITY, gpu).time_enqueue([gpu.launcher(2.0, log, "a", kernels=118)])
    assert spent_s == pytest.approx(118 * 5e-6)
    assert log == ["a"]


def test_a_disturbed_launch_is_not_what_enqueuing_takes(gpu):
    launches = count()

    def launch():
        gpu.now_s += 1e-3 if next(launches) % 4 == 3 else 0.0  # someone else has the core
        gpu.enqueue(50e-6)

    assert CudaDevice(IDENTITY, gpu).time_enqueue([launch]) == pytest.approx(5e-6, rel=0.02)


# ---- the host as what is timed, by the whole engine ----


def layer(gpu, launch_s, kernels=118, sets=1):
    """A workload of so many kernels; all of a launch's take `launch_s` on the GPU."""
    return Work((gpu.launcher(launch_s, kernels=kernels),) * sets, name="layer", dtype="bf16")


def measured(gpu, work, share_s=30.0, limit_s=90.0):
    device = CudaDevice(IDENTITY, gpu)
    device.name_kernels = lambda launch: ()
    (record,) = measure_group([Case(work)], device, Pilots(device, 1), Allowance(share_s, limit_s))
    assert record.status == "ok", record.reason
    return record


HOST_S = 118 * 5e-6


@pytest.mark.parametrize("share_s", [4.0, 20.0, 40.0])
def test_a_full_queue_is_not_a_slow_host(gpu, share_s):
    """A host share of 0.09 at batches of 0.16 to 1.6 s; waiting for the queue once counted as enqueuing."""
    record = measured(gpu, layer(gpu, 11 * HOST_S), share_s)
    assert record.enqueue_share == pytest.approx(1 / 11, rel=0.02)
    assert "launch_bound" not in record.verdicts
    assert record.graph_tflops is None
    assert gpu.now_s < share_s + 0.5


def test_a_slow_host_is_launch_bound(gpu):
    record = measured(gpu, layer(gpu, 0.4 * HOST_S))
    assert record.enqueue_share == pytest.approx(1.0, rel=0.02)
    assert "launch_bound" in record.verdicts
    assert record.graph_tflops == pytest.approx(2.5 * record.tflops, rel=0.02)


def test_a_host_that_is_nearly_as_slow_as_its_gpu_is_judged_by_a_graph(gpu):
    record = measured(gpu, layer(gpu, HOST_S / 0.95))
    assert record.enqueue_share == pytest.approx(0.95, rel=0.02)
    assert record.graph_tflops == pytest.approx(record.tflops, rel=0.02)
    assert "launch_bound" not in record.verdicts


@pytest.mark.parametrize("share_s", [2.0, pytest.param(20.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("kernels", [2_000, pytest.param(20_000, marks=pytest.mark.long), 400_000])
def test_a_graph_takes_a_small_part_of_the_time_or_is_left_out_with_the_reason(gpu, share_s, kernels):
    """Launches of 10 ms to 2 s that the host takes as long to enqueue."""
    launch_s = kernels * 5e-6
    record = measured(gpu, layer(gpu, launch_s, kernels), share_s)
    fits = 13 * launch_s <= max(0.05 * share_s, 0.2)
    assert (record.graph_tflops is not None) == fits
    said = [str(each) for each in record.warnings if each.code == "graph_too_long"]
    assert len(said) == (not fits)
    assert all("a CUDA graph to compare with would take" in each for each in said)
    drawn_s = record.batches[-1].start_s + record.batches[-1].elapsed_s
    assert gpu.now_s <= drawn_s + 0.1 * share_s + max(0.05 * share_s, 0.2) + 5 * launch_s


def test_a_graph_goes_through_every_buffer_set(gpu, monkeypatch):
    """Some of the sets would be found in the cache, and the replay be faster for that."""
    seen = []
    watch_captures(monkeypatch, seen.append)
    measured(gpu, layer(gpu, 2e-6, kernels=1, sets=70))
    assert seen
    assert all(count % 70 == 0 for count in seen)


def test_a_graph_is_compared_with_launches_at_the_same_clock(gpu, monkeypatch):
    """The window was hot, and the GPU is a third faster once the graph is captured: both are then."""
    enqueue, slowness = gpu.enqueue, [1.0]
    gpu.enqueue = lambda duration_s: enqueue(duration_s * (slowness[0] if gpu.capturing is None else 1.0))
    watch_captures(monkeypatch, lambda count: slowness.__setitem__(0, 0.75))
    record = measured(gpu, layer(gpu, 2 * HOST_S))
    assert slowness == [0.75]
    assert record.graph_tflops == pytest.approx(record.tflops, rel=0.02)
    assert "launch_bound" not in record.verdicts


def test_memory_that_a_capture_gave_back_is_not_the_hosts_part(gpu, monkeypatch):
    """The first launch of each buffer set after a capture allocates anew; a true ratio of 1 stays 1."""
    anew = [0]
    watch_captures(monkeypatch, lambda count: anew.__setitem__(0, 2))

    def allocate(inner):
        if gpu.capturing is None and gpu.current == "default stream" and anew[0]:
            anew[0] -= 1
            gpu.now_s += 30e-3
        inner()

    work = layer(gpu, HOST_S / 0.95, sets=2)
    launches = tuple(partial(allocate, each) for each in work.launches)
    record = measured(gpu, replace(work, launches=launches))
    assert anew == [0]
    assert record.graph_tflops == pytest.approx(record.tflops, rel=0.02)
    assert "launch_bound" not in record.verdicts


def watch_captures(monkeypatch, tell):
    """Tell the number of launches of each capture, before it."""
    capture = CudaDevice.capture

    def watched(self, launches, count):
        tell(count)
        return capture(self, launches, count)

    monkeypatch.setattr(CudaDevice, "capture", watched)


def test_a_replay_cycles_through_every_buffer_set(gpu):
    graph = CudaDevice(IDENTITY, gpu).capture([gpu.launcher(ms * 1e-3) for ms in (1, 2, 3)], 5).__self__
    assert graph.durations_s == [1e-3, 2e-3, 3e-3, 1e-3, 2e-3]


def test_a_capture_is_warmed_up_on_its_own_stream_and_has_run_once_after(gpu):
    device = CudaDevice(IDENTITY, gpu)
    gpu.enqueue(1.0)  # someone's earlier work, which the side stream doesn't wait for by itself
    device.capture([gpu.launcher(1e-3), gpu.launcher(2e-3)], 2)
    assert gpu.warmed == [1e-3, 2e-3] * 3
    assert gpu.synchronized == [3, 3]
    assert gpu.now_s == gpu.done_s == pytest.approx(1.0 + 3 * 3e-3 + 3e-3, abs=1e-4)
    assert gpu.current == "default stream"


def test_a_replay_is_free_of_the_host(gpu):
    # 5 µs to launch what runs 2 µs: eagerly the events time the host, and a replay doesn't.
    device, launch = CudaDevice(IDENTITY, gpu), gpu.launcher(2e-6)
    eager = device.time_batch([launch], samples=10, per_sample=100)
    replayed = device.time_batch([device.capture([launch], 100)], samples=10, per_sample=1)
    assert eager.elapsed_s / eager.launches == pytest.approx(5e-6, rel=0.1)
    assert replayed.elapsed_s / (100 * replayed.launches) == pytest.approx(2e-6, rel=0.1)


def test_a_launch_that_cannot_be_captured_leaves_the_device_usable(gpu):
    device, log = CudaDevice(IDENTITY, gpu), []
    good = gpu.launcher(1e-3, log, "a")

    def waits():
        log.append("w")
        device.synchronize()

    assert device.capture([good, waits], 4) is None
    assert gpu.current == "default stream"
    assert "".join(log) == "aw" * 3 + "aw" + "aw"  # warmed up, captured as far as it went, and run in the end
    assert device.capture([good], 4) is not None
    assert device.time_batch([good], samples=3, per_sample=1).elapsed_s == pytest.approx(3e-3, rel=0.01)


def test_an_error_of_the_launch_itself_is_not_taken_for_a_refusal(gpu):
    with pytest.raises(TypeError, match="no such operand"):
        CudaDevice(IDENTITY, gpu).capture([mistaken], 1)
    assert gpu.current == "default stream"


def mistaken():
    raise TypeError("no such operand")


def test_a_captured_launch_keeps_its_graph_and_nothing_else_does(gpu):
    launch = CudaDevice(IDENTITY, gpu).capture([gpu.launcher(1e-3)], 1)
    graph = weakref.ref(launch.__self__)
    gc.collect()
    assert graph() is not None
    del launch
    gc.collect()
    assert graph() is None


def test_the_allocator_is_told_that_a_failed_capture_has_ended(gpu, monkeypatch):
    """Torch 2.11 doesn't know it, and a later one refuses to hear it again."""
    told = []
    refuses = RuntimeError("endAllocatePool: not currently recording to mempool_id")

    def end(*what):
        told.append(what)
        raise refuses

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *what: told.append("released"))
    device = CudaDevice(IDENTITY, gpu)
    assert device.capture([gpu.launcher(1e-3)], 1) is not None
    assert told == []
    assert device.capture([device.synchronize], 1) is None
    assert told == [(3, (0, 1))]


def test_the_memory_of_a_failed_capture_is_released_after_the_allocator_has_left_it(gpu, monkeypatch):
    told = []
    for call in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, call, lambda *what, call=call: told.append((call, what)))
    device = CudaDevice(IDENTITY, gpu)
    assert device.capture([device.synchronize], 1) is None
    assert told == [("_cuda_endAllocateToPool", (3, (0, 1))), ("_cuda_releasePool", (3, (0, 1)))]


def test_a_gpu_is_idle_from_when_its_work_has_ended(gpu, monkeypatch):
    slept = []
    monkeypatch.setattr(cuda.time, "sleep", lambda seconds: slept.append((gpu.now_s, seconds)))
    gpu.enqueue(1.0)
    CudaDevice(IDENTITY, gpu).idle(2.5)
    assert slept == [(gpu.done_s, 2.5)]


class Poisoned(Gpu):
    """A GPU whose context an illegal address has broken: every later call says so."""

    def synchronize(self, device=None):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_context_is_asked_whether_it_works(gpu):
    check = ContextCheck(torch.device("cpu"))
    assert CudaDevice(IDENTITY, gpu).is_working()  # a stand-in has nothing to compute on
    device = CudaDevice(IDENTITY, gpu, check=check)
    assert [device.is_working() for _ in range(3)] == [True] * 3
    assert gpu.synchronized == [3] * 3
    assert not CudaDevice(IDENTITY, Poisoned(), check=check).is_working()


def test_a_context_that_computes_wrongly_does_not_work(gpu, monkeypatch):
    device = CudaDevice(IDENTITY, gpu, check=ContextCheck(torch.device("cpu")))
    assert device.is_working()
    monkeypatch.setattr(torch, "mul", lambda *_, out: out)  # a kernel that never ran: the old result is there
    assert not device.is_working()


def test_no_product_tells_a_gpus_conditions(gpu):
    assert CudaDevice(IDENTITY, gpu).probe("bf16") is None


def test_says_what_it_is_and_what_it_is_not_rated_for(gpu):
    device = CudaDevice(IDENTITY, gpu)
    assert (device.name, device.kind, device.cores) == ("cuda:3", "cuda", 1.0)
    assert (device.cache_bytes, device.memory_bytes) == (50 << 20, 60 << 30)  # what is free
    assert device.torch_device == torch.device("cuda", 3)
    figure = device.rating.nominal_for("bf16")
    assert figure.tflops is None
    assert "'NVIDIA Test' isn't the name of a part" in str(figure.source)
    assert "--nominal" in str(figure.source)
    given = device.rating.with_nominal({"bf16": 320.0})
    assert given.nominal_for("bf16").tflops == 320.0
    assert given.datasheet_for("bf16").tflops is None


FIRST = "GPU-a8000000-0000-4000-8000-000000000000"


def test_a_gpu_without_a_uuid_has_counters_without_figures_and_a_reason(gpu):
    counters = CudaDevice(IDENTITY, gpu).counters()
    assert (counters.process_cpu_s, counters.busy_cpu_s, counters.steal_s) == (None, None, None)
    assert counters.gpu.power_w is None
    assert "no UUID" in str(counters.gpu.why_absent("power_w"))


class Sampled:
    """A client whose process has sampled at these times, in seconds, since it was asked last."""

    def __init__(self, gpu):
        self.gpu, self.watching, self.pending_s, self.hastened = gpu, [], [], []

    def reading(self, uuid):
        self.gpu.now_s += 1e-3
        return GpuReading(uuid=uuid, at_s=self.gpu.now_s, power_w=1.0)

    def start_sampling(self, uuid, period_s=0.1):
        self.watching.append((uuid, period_s))

    def hasten_sampling(self, uuid, seconds):
        self.hastened.append((uuid, seconds))

    def take_readings(self, uuid):
        at_s, self.pending_s = self.pending_s, []
        return tuple(GpuReading(uuid="MIG-" + uuid, at_s=one, power_w=2.0) for one in at_s)


def sampled_device(gpu):
    client = Sampled(gpu)
    return CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), gpu, client), client


def test_telemetry_is_hastened_for_this_gpu_and_sampling_begins_first(gpu):
    device, client = sampled_device(gpu)
    device.hasten_telemetry(2.0)
    assert (client.watching, client.hastened) == ([(FIRST, 0.1)], [(FIRST, 2.0)])
    CudaDevice(IDENTITY, gpu).hasten_telemetry(2.0)  # a GPU without a UUID has no telemetry to hasten


def test_a_timeline_has_what_was_sampled_and_what_was_asked_in_order(gpu):
    device, client = sampled_device(gpu)
    for second in (1.0, 2.0):
        gpu.now_s = second
        device.counters()
    client.pending_s = [0.95, 1.05, 1.95]
    rows = device.timeline(0.0)
    assert [row.at_s for row in rows] == [0.95, 1.0, 1.05, 1.95, 2.0]
    assert [row.gpu.power_w for row in rows] == [2.0, 1.0, 2.0, 2.0, 1.0]
    assert {row.gpu.uuid for row in rows} == {FIRST}
    client.pending_s = [2.05]
    assert [row.at_s for row in device.timeline(1.95)] == [1.95, 2.0, 2.05]
    assert device.timeline(3.0) == ()


@pytest.mark.parametrize("ask", [lambda device: device.counters(), lambda device: device.timeline(0.0)])
def test_the_first_question_begins_the_sampling(gpu, ask):
    device, client = sampled_device(gpu)
    assert client.watching == []
    ask(device)
    device.counters()
    device.timeline(0.0)
    assert client.watching == [(FIRST, 0.1)]


def test_a_timeline_is_kept_for_half_an_hour_and_since_it_was_last_asked_for(gpu):
    device, client = sampled_device(gpu)
    client.pending_s = [10.0, 20.0]
    gpu.now_s = 20.0 + 30 * 60
    assert [row.at_s for row in device.timeline(0.0)] == [10.0, 20.0]
    assert [row.at_s for row in device.timeline(15.0)] == [20.0]
    assert [row.at_s for row in device.timeline(0.0)] == [20.0]
    assert device.timeline(gpu.now_s) == ()
    assert [row.at_s for row in device.timeline(0.0)] == [20.0]


def test_a_timeline_without_a_uuid_is_of_counters_with_the_reason(gpu):
    device = CudaDevice(IDENTITY, gpu)
    device.counters()
    (row,) = device.timeline(0.0)
    assert "no UUID" in str(row.gpu.why_absent("power_w"))


@pytest.mark.process
def test_a_timeline_where_nvml_is_absent_is_of_counters_with_the_reason(use_nvml):
    use_nvml("eight_a800", "call.nvmlInitWithFlags = error 9")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        device.counters()
        (row,) = device.timeline(0.0)
    assert "NVML_ERROR_DRIVER_NOT_LOADED" in str(row.gpu.why_absent("power_w"))


@pytest.fixture
def unsampled(monkeypatch):
    """The stand-in's totals move with each reading, and one that NVML's process takes by itself counts."""
    monkeypatch.setattr(NvmlClient, "start_sampling", lambda *_: None)


@pytest.mark.process
@pytest.mark.usefixtures("unsampled")
def test_counters_are_the_drivers_own_by_uuid(use_nvml):
    use_nvml("eight_a800", "gpu.3.temperature_c = 71", "gpu.3.field.74 = 12000000000 +1000000000")
    identity = IDENTITY.model_copy(update={"uuid": FIRST[:-1] + "3"})
    with cuda.open_nvml() as nvml:
        device = CudaDevice(identity, Gpu(), nvml)
        before, after = device.counters(), device.counters()
    assert before.gpu.temperature_c == 71
    assert before.gpu.uuid == identity.uuid
    assert after.gpu.power_throttle_s - before.gpu.power_throttle_s == pytest.approx(1.0)
    assert after.gpu.energy_j - before.gpu.energy_j == pytest.approx(30.0)
    assert before.at_s <= before.gpu.at_s <= after.at_s


@pytest.mark.process
def test_a_slice_that_nvml_names_otherwise_stays_one_gpu(use_nvml):
    """Torch says GPU- where NVML says MIG-; two readings of one slice must be subtractable, lost or not."""
    use_nvml("eight_a800", "mig")
    identity = IDENTITY.model_copy(update={"uuid": "GPU-a8000000-0000-5000-8000-000000000001"})
    with cuda.open_nvml() as nvml:
        device = CudaDevice(identity, Gpu(), nvml)
        before = device.counters()
        use_nvml("eight_a800", "mig", "call.nvmlDeviceGetClockInfo = crash")
        after = device.counters()
    assert before.gpu.temperature_c == 34
    assert after.gpu.temperature_c is None
    assert conditions_between(before, after, 1.0).gpu.change.energy_j is None


@pytest.mark.process
def test_an_nvml_that_hangs_costs_figures_and_not_the_run(use_nvml, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    use_nvml("eight_a800")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        before = device.counters()
        use_nvml("eight_a800", "call.nvmlDeviceGetClockInfo = hang")
        after, again = device.counters(), device.counters()
    assert before.gpu.temperature_c == 34
    assert "no answer within 1.0 s" in str(after.gpu.why_absent("temperature_c"))
    assert again.gpu.absent == after.gpu.absent
    assert conditions_between(before, after, 1.0).gpu.count_other_processes() is None


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_a_deadline_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv(cuda.DEADLINE, given)
    with pytest.raises(InputError, match=f"{cuda.DEADLINE}.*got '{given}'.*seconds above 0"):
        cuda.open_nvml()


def test_a_gpu_that_torch_does_not_see_is_no_device():
    with pytest.raises(ValueError, match="torch doesn't see NVIDIA Test"):
        CudaDevice(IDENTITY.model_copy(update={"index": None}), Gpu())


PROPERTIES = SimpleNamespace(
    name="NVIDIA A800-SXM4-80GB",
    uuid=FIRST.removeprefix("GPU-"),
    total_memory=85_094_825_984,
    multi_processor_count=108,
    major=8,
    minor=0,
    L2_cache_size=40 << 20,
)


@pytest.fixture
def identify(monkeypatch):
    """Read a GPU's identity as torch shows `PROPERTIES`, changed or not, with an NVML of its own."""

    def read(**changes):
        shown = SimpleNamespace(**{**vars(PROPERTIES), **changes})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: shown)
        with cuda.open_nvml() as nvml:
            return cuda.read_identity(2, nvml)

    return read


@pytest.mark.process
def test_reads_one_gpu(use_nvml, identify):
    use_nvml("eight_a800")
    identity = identify(uuid=PROPERTIES.uuid[:-1] + "5")
    assert (identity.name, identity.index, identity.nvml_index) == ("NVIDIA A800-SXM4-80GB", 2, 5)
    assert (identity.driver, identity.cuda_driver, identity.vbios) == ("550.90.07", "12.4", "92.00.A0.00.05")
    assert (identity.uuid, identity.serial) == (FIRST[:-1] + "5", "1320522000005")
    assert (identity.pci_bus_id, identity.pci_id) == ("00000000:57:00.0", "10de:20f3")
    assert identity.pci_subsystem_id == "10de:179b"
    assert (identity.power_limit_w, identity.default_power_limit_w) == (400.0, 400.0)
    assert (identity.max_sm_clock_mhz, identity.max_memory_clock_mhz) == (1410, 1593)
    assert (identity.persistence_mode, identity.ecc_mode, identity.mig_mode) == (True, True, False)
    assert (identity.compute_mode, identity.mig_slice) == ("default", False)
    assert (identity.max_pcie_generation, identity.max_pcie_width) == (4, 16)
    assert (identity.compute_capability, identity.l2_bytes) == ("8.0", 40 << 20)
    assert CudaIdentity.model_validate_json(identity.model_dump_json()) == identity
    assert cuda.rate(identity).part == "nvidia-a800-sxm4-80gb"
    assert cuda.rate(identity).nominal_for("fp16").tflops == 320


@pytest.mark.process
def test_the_default_power_limit_is_evidence(use_nvml, identify):
    """A board limit far above the part's says another part; one that someone set lower says nothing."""
    use_nvml("eight_a800", "gpu.*.default_power_limit_mw = 700000")
    rating = cuda.rate(identify())
    assert rating.part is None
    assert "700 W" in str(rating.evidence)
    use_nvml("eight_a800", "gpu.*.power_limit_mw = 150000")
    assert cuda.rate(identify()).part == "nvidia-a800-sxm4-80gb"


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("call.nvmlInitWithFlags = error 9", {"driver", "serial", "pci_bus_id", "power_limit_w"}),
        ("gpu.0.serial =", {"serial"}),
        ("call.nvmlDeviceGetPciInfo_v3 = error 3", {"pci_bus_id", "pci_id"}),
        ("driver = error 999", {"driver"}),
        ("gpu.*.uuid = GPU-ffffffff-0000-4000-8000-00000000000{n}", {"serial", "pci_bus_id"}),
        ("gpu.0.call.nvmlDeviceGetName = crash", {"serial", "pci_bus_id"}),
    ],
)
def test_what_the_driver_refuses_is_left_out(use_nvml, identify, line, lost):
    use_nvml("eight_a800", line)
    identity = identify()
    assert {name for name in lost if getattr(identity, name) is not None} == set()
    assert (identity.name, identity.uuid) == ("NVIDIA A800-SXM4-80GB", FIRST)


def test_a_gpu_is_the_same_where_nvml_does_not_start_in_one_process():
    told = CudaIdentity(name="NVIDIA H200", index=0, uuid=FIRST, memory_bytes=1 << 37, driver="580.1")
    untold = told.model_copy(update={"driver": None})
    assert told.is_same_device(untold)
    assert untold.is_same_device(told)
    assert not untold.is_same_device(told.model_copy(update={"uuid": "GPU-another"}))


@pytest.mark.process
def test_a_slice_is_the_same_device_whether_nvml_was_there_or_not(use_nvml, identify):
    use_nvml("eight_a800", "mig")
    told = identify(uuid="a8000000-0000-5000-8000-000000000001")
    assert (told.uuid, told.mig_slice) == ("MIG-a8000000-0000-5000-8000-000000000001", True)
    untold = told.model_copy(update={"uuid": "GPU-a8000000-0000-5000-8000-000000000001"})
    assert told.is_same_device(untold)
    assert not told.is_same_device(told.model_copy(update={"driver": "590.1"}))
    assert told.is_same_device(told.model_copy(update={"power_limit_w": 250.0}))


@pytest.mark.process
def test_the_driver_counts_gpus_and_its_process_ends(use_nvml):
    use_nvml("eight_a800")
    children = set(psutil.Process().children())
    assert driver.ask_driver() == DriverState("550.90.07", "12.4", 8)
    use_nvml("eight_a800", "call.nvmlInitWithFlags = error 9")
    assert driver.ask_driver() == DriverState(absent="NVML_ERROR_DRIVER_NOT_LOADED: nvmlInit")
    assert set(psutil.Process().children()) <= children


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("call.nvmlInitWithFlags = hang", "no answer.*nvidia-smi"),
        ("call.nvmlInitWithFlags = error 18", "VERSION_MISMATCH.*reboot"),
        ("call.nvmlInitWithFlags = error 4", "NO_PERMISSION.*/dev/nvidia"),
        ("call.nvmlInitWithFlags = error 15", "GPU_IS_LOST.*reset or reseat"),
        ("call.nvmlInitWithFlags = error 17", "OPERATING_SYSTEM.*device rules"),
        ("call.nvmlInitWithFlags = error 999", "NVML_ERROR_UNKNOWN.*nvidia-smi"),
        ("call.nvmlDeviceGetCount_v2 = error 999", "NVML_ERROR_UNKNOWN.*nvidia-smi"),
    ],
)
def test_a_driver_that_is_there_and_does_not_answer_is_no_silent_cpu(use_nvml, monkeypatch, line, sentence):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    use_nvml("eight_a800", line)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device: an NVIDIA driver is here.*{sentence}.*--device cpu"):
        survey.find_device_names("auto")
    assert survey.find_device_names("cpu") == ["cpu"]


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs for torch, and so many for the driver (None: no driver)."""

    def build(torch_sees, driver_sees):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: torch_sees)
        gone = DriverState(absent="NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit")
        state = gone if driver_sees is None else DriverState("470.82.01", "11.4", driver_sees)
        monkeypatch.setattr(driver, "ask_driver", lambda: state)
        monkeypatch.setattr(
            cuda, "read_identity", lambda index: CudaIdentity(name="NVIDIA Test", index=index)
        )
        monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
        monkeypatch.setattr(cuda, "ContextCheck", lambda device: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (60 << 30, 80 << 30))
        monkeypatch.setattr(survey, "CpuDevice", lambda identity: SimpleNamespace(name="cpu"))

    return build


@pytest.mark.parametrize(
    ("torch_sees", "driver_sees", "flag", "opened"),
    [
        (1, 1, "auto", "cuda:0"),
        (2, 2, "auto", "cuda:0"),
        (2, 2, "cuda", "cuda:0"),
        (2, 2, "cuda:1", "cuda:1"),
        (1, 1, "cpu", "cpu"),
        (0, None, "auto", "cpu"),
        (0, 0, "auto", "cpu"),
        (0, 1, "cpu", "cpu"),  # the way out of a driver that torch can't use
    ],
)
def test_a_flag_opens_its_device(machine, torch_sees, driver_sees, flag, opened):
    machine(torch_sees, driver_sees)
    assert survey.find_device_names(flag) == [opened]
    assert survey.open_device(flag).name == opened


@pytest.mark.parametrize(
    ("torch_sees", "driver_sees", "names"),
    [(2, 2, ["cuda:0", "cuda:1"]), (1, 1, ["cuda:0"]), (0, None, ["cpu"])],
)
def test_all_is_every_gpu_or_the_cpu_where_there_is_none(machine, torch_sees, driver_sees, names):
    machine(torch_sees, driver_sees)
    assert survey.find_device_names("all") == names


@pytest.mark.parametrize("flag", ["auto", "cuda", "cuda:0", "all"])
def test_a_gpu_that_torch_cannot_use_is_never_a_silent_cpu_run(machine, flag):
    machine(0, 2)
    with pytest.raises(InputError) as refused:
        survey.open_device(survey.find_device_names(flag)[0])
    sentence = str(refused.value)
    assert "NVML sees 2 GPUs but torch can't use any" in sentence
    assert "driver 470.82.01" in sentence
    assert f"torch {torch.__version__}" in sentence
    assert "--device cpu" in sentence
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("supported", "built", "words"),
    [
        ("12.2", "13.0", ["CUDA 12.2", "whl/cu126", "a newer driver"]),
        ("12.8", None, ["torch built for CUDA", "CUDA 12.8", "whl/cu126"]),
        ("13.1", None, ["whl/cu130"]),
        ("14.0", None, ["whl/cu130"]),  # a driver runs what older CUDA builds
        ("11.4", "12.6", ["driver 525 or newer", "CUDA 11.4", "2.11"]),
        ("11.4", None, ["driver 525 or newer"]),
        ("12.4", "12.6", ["CUDA_VISIBLE_DEVICES", "torch.cuda.init()"]),  # not the versions' fault
        ("13.0", "12.6", ["CUDA_VISIBLE_DEVICES"]),
        (None, "12.6", ["nvidia-smi shows its CUDA version"]),
    ],
)
def test_a_driver_too_old_for_torch_is_told_the_wheel_index_that_fits(supported, built, words):
    advice = advise_build(supported, built)
    assert [word for word in words if word not in advice] == []
    assert ("whl/" in advice) == any("whl/" in word for word in words)


def test_why_the_cpu_was_chosen_is_kept(machine):
    machine(0, None)
    choice = survey.choose_devices("auto")
    assert choice.driver.absent == "NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit"
    assert str(driver.why_no_gpu(choice.driver)) == (
        "no NVIDIA driver here (NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit), so the CPU was measured"
    )
    machine(0, 0)
    said = driver.why_no_gpu(survey.choose_devices("all").driver)
    assert str(said) == "NVML sees no GPU, so the CPU was measured"
    assert survey.choose_devices("cpu").driver is None


@pytest.mark.long
@pytest.mark.process
def test_what_nvml_cannot_read_or_reports_wrongly_of_a_runs_gpus_is_named(use_nvml, monkeypatch):
    monkeypatch.setenv(cuda.DEADLINE, "1")
    calls = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID")
    use_nvml(
        "eight_a800",
        *(f"gpu.1.call.{call} = hang" for call in calls),
        *(f"gpu.2.call.{call} = error 15" for call in calls),
        "gpu.3.sm_clock_mhz = 4294967295",
    )
    identities = [
        IDENTITY.model_copy(update={"uuid": FIRST[:-1] + str(index), "index": index}) for index in range(4)
    ]
    with cuda.open_nvml() as nvml:
        monkeypatch.setattr(driver, "share_nvml", lambda: nvml)
        devices = [CudaDevice(identity, Gpu(), nvml) for identity in identities]
        faults = [str(fault) for fault in driver.find_gpu_faults(devices)]
    assert [fault.split(":")[:2] for fault in faults] == [["cuda", "1"], ["cuda", "2"], ["cuda", "3"]]
    hung, lost, nonsense = faults
    assert "no answer within 1.0 s" in hung
    assert "NVML_ERROR_GPU_IS_LOST" in lost
    assert "reports what can't be true" in nonsense
    assert "sm_clock_mhz" in nonsense


@pytest.mark.parametrize(
    ("torch_sees", "flag", "words"),
    [
        (1, "cuda:7", ["no such GPU", "got 'cuda:7'", "1 GPU"]),
        (2, "cuda:2", ["no such GPU", "got 'cuda:2'", "2 GPUs"]),
        (0, "cuda:0", ["no such GPU", "no CUDA GPU is here"]),
        (0, "cuda", ["no such GPU", "expected cpu: no CUDA GPU is here"]),
        (1, "gpu", ["unknown device", "got 'gpu'", "auto, cpu, cuda, cuda:N, all, or twin:NAME"]),
        (1, "cuda:", ["unknown device", "got 'cuda:'"]),
        (1, "cuda:-1", ["unknown device"]),
        (1, "cuda:0 ", ["unknown device"]),
        (1, "CPU", ["unknown device", "got 'CPU'"]),
        (1, "", ["unknown device", "got ''"]),
    ],
)
def test_what_cannot_be_opened_says_what_can(machine, torch_sees, flag, words):
    machine(torch_sees, torch_sees or None)
    with pytest.raises(InputError) as refused:
        survey.open_device(flag)
    assert str(refused.value).startswith("--device: ")
    for word in words:
        assert word in str(refused.value)


def timeline(device, since_s, count):
    """At least so many rows, however slow the machine is; what there is where they don't come at all."""
    for _ in range(2000):
        rows = device.timeline(since_s)
        if len(rows) >= count:
            break
        time.sleep(0.01)
    return rows


@pytest.mark.process
def test_nvmls_process_samples_while_the_host_waits(use_nvml):
    use_nvml("eight_a800")
    with cuda.open_nvml() as nvml:
        device = CudaDevice(IDENTITY.model_copy(update={"uuid": FIRST}), Gpu(), nvml)
        asked = device.counters()
        rows = timeline(device, asked.at_s, 3)
    assert len(rows) >= 3
    assert asked in rows
    assert all(row.gpu.temperature_c == 34 for row in rows)
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(rows))


@contextmanager
def current_gpu():
    device = CudaDevice(cuda.read_identity(0))
    try:
        yield device
    finally:
        device.synchronize()


@pytest.mark.gpu
@pytest.mark.parametrize("flush", [False, True])
def test_on_a_gpu_a_product_is_timed(flush):
    with current_gpu() as device:
        edge = 2048
        a, b, c = (
            torch.randn(edge, edge, device=device.torch_device, dtype=torch.bfloat16) for _ in range(3)
        )
        device.time_batch([lambda: torch.mm(a, b, out=c)], samples=3, per_sample=1)
        timing = device.time_batch([lambda: torch.mm(a, b, out=c)], samples=20, per_sample=1, flush=flush)
    assert timing.sample_s.shape == (20,)
    assert (timing.sample_s > 0).all()
    assert 1 < 2 * edge**3 / np.median(timing.sample_s) / 1e12 < 10_000  # TFLOPS: a bound on sanity alone
    assert device.identity.uuid.startswith(("GPU-", "MIG-"))  # a slice has a name of its own
    assert device.identity.driver


@pytest.mark.gpu
def test_on_a_gpu_enqueuing_a_layer_takes_less_than_a_large_one_runs():
    block = TransformerBlock.llama3_8b(4096, "bf16", "forward_backward")
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1)
        with prepared.numerics():
            device.time_batch(prepared.launches, samples=3, per_sample=1)
            timing = device.time_batch(prepared.launches, samples=10, per_sample=1)
            enqueue_s = device.time_enqueue(prepared.launches)
    assert 0 < enqueue_s < timing.elapsed_s / timing.launches
    assert 0 < device.time_empty_launch() < 1e-3  # seconds: a bound on sanity alone


@pytest.mark.gpu
def test_on_a_gpu_a_replay_gives_what_the_launches_give():
    product = Matmul(m=512, n=512, k=512, dtype="bf16")
    with current_gpu() as device:
        prepared = product.prepare(device.torch_device, fill="normal", seed=1, copies=3)
        with prepared.numerics():
            for launch in prepared.launches:
                launch()
            eager = [buffers.c.clone() for buffers in prepared.buffers]
            replay = device.capture(prepared.launches, 7)
            for buffers in prepared.buffers:
                buffers.c.zero_()
            replay()
            device.synchronize()
            timing = device.time_batch([replay], samples=10, per_sample=1)
    for buffers, expected in zip(prepared.buffers, eager, strict=True):
        torch.testing.assert_close(buffers.c, expected)
    assert (timing.sample_s / 7 > 0).all()


@pytest.mark.gpu
def test_on_a_gpu_a_backward_pass_is_captured():
    """Gradients are the graph's own memory, which each replay writes again."""
    block = TransformerBlock.llama3_8b(64, "bf16", "forward_backward", width=0.125)
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1, copies=2)
        with prepared.numerics():
            prepared.compute_reference()
            replay = device.capture(prepared.launches, 3)
            assert replay is not None
            for buffers in prepared.buffers:
                for leaf in buffers.leaves:
                    leaf.grad.zero_()
            replay()
            device.synchronize()
            assert prepared.check().passed


@pytest.mark.gpu
def test_on_a_gpu_a_failed_capture_leaves_it_usable():
    with current_gpu() as device:
        a = torch.randn(512, 512, device=device.torch_device)
        c = torch.empty_like(a)
        for _ in range(2):
            assert device.capture([lambda: (a @ a).sum().item()], 2) is None
        torch.cuda.empty_cache()  # what an allocator that still takes a capture for underway refuses
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        assert device.capture([lambda: torch.mm(a, a, out=c)], 2) is not None
        timing = device.time_batch([lambda: torch.mm(a, a, out=c)], samples=5, per_sample=1)
    assert (timing.sample_s > 0).all()


@pytest.mark.gpu
def test_on_a_gpu_the_timeline_moves_on():
    with current_gpu() as device:
        a = torch.randn(4096, 4096, device=device.torch_device, dtype=torch.bfloat16)
        c = torch.empty_like(a)
        asked = device.counters()
        device.time_batch([lambda: torch.mm(a, a, out=c)], samples=50, per_sample=1)
        rows = timeline(device, asked.at_s, 5)
    assert len(rows) >= 5
    assert all(earlier.at_s < later.at_s for earlier, later in pairwise(rows))
    assert rows[0] == asked
    assert rows[-1].gpu.sm_clock_mhz > 0


_BREAK = """
import torch
from nameplate.device import cuda
device = cuda.CudaDevice(cuda.read_identity(0))
assert device.is_working()
try:
    torch.zeros(4, device="cuda")[torch.tensor([1 << 40], device="cuda")].cpu()
except Exception as error:
    print(type(error).__name__, "works" if device.is_working() else "broken", flush=True)
    import os
    os._exit(0)
"""


@pytest.mark.gpu
@pytest.mark.process
def test_on_a_gpu_an_assertion_in_a_kernel_breaks_the_context_and_that_is_seen():
    said = subprocess.run(
        [sys.executable, "-P", "-c", _BREAK], capture_output=True, text=True, check=False, timeout=120
    )
    assert "broken" in said.stdout, said.stderr


@pytest.mark.gpu
def test_on_a_gpu_libraries_kernels_and_attention_are_named():
    block = TransformerBlock.llama3_8b(256, "bf16", "forward", width=0.125)
    with current_gpu() as device:
        prepared = block.prepare(device.torch_device, fill="normal", seed=1)
        with prepared.numerics():
            prepared.launches[0]()
            kernels = device.name_kernels(prepared.launches[0])
    assert kernels
    assert name_attention(kernels) in ("cudnn", "flash", "efficient", "math"), kernels
    found = read_library_versions()  # cuBLAS is loaded: it has just computed
    assert found["cuda"] == torch.version.cuda
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", found[name]) for name in ("cublas", "cublaslt")), found


@pytest.mark.gpu
def test_on_a_gpu_faults_are_watched_or_absent_for_a_reason():
    with current_gpu() as device:
        reading = device.counters().gpu
    for name in ("xid_errors", "nvlink_replays", "nvlink_recoveries", "nvlink_crc_errors"):
        assert getattr(reading, name) is not None or reading.why_absent(name), name
    assert reading.xid_errors is None or isinstance(reading.xid_errors, tuple)  # other tests may cause some
