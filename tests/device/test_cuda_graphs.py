"""What the host costs, and CUDA graphs, through a stand-in for torch.cuda and the whole engine."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch

from cuda_stand_in import IDENTITY
from nameplate.device.cuda import CudaDevice
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from stand_ins import Work


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
