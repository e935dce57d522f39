"""A GPU's batches through a stand-in for torch.cuda: events, waits, enqueuing, a context that broke."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import torch

from cuda_stand_in import IDENTITY, Gpu
from nameplate.device import cuda
from nameplate.device.context_check import ContextCheck
from nameplate.device.cuda import CudaDevice


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
    assert CudaDevice(IDENTITY, gpu).probes("bf16") == ()


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


def test_a_gpu_that_torch_does_not_see_is_no_device():
    with pytest.raises(ValueError, match="torch doesn't see NVIDIA Test"):
        CudaDevice(IDENTITY.model_copy(update={"index": None}), Gpu())
