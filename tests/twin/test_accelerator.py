"""What torch.cuda would do: the launch queue, events, graphs, memory, and a broken card."""

import pytest
import torch

from nameplate.twin.accelerator import TwinAccelerator
from nameplate.twin.card import read_card
from nameplate.twin.clock import VirtualClock
from nameplate.twin.faults import Faults, Lost, Poisoned
from nameplate.twin.kernels import Kernel, KernelModel
from nameplate.twin.simulation import Simulation

CARD = read_card("h200")
HOST_S, PLACES = CARD.launch.host_s.value, int(CARD.launch.queue_kernels.value)


def make(*faults):
    clock = VirtualClock()
    return TwinAccelerator(CARD, clock, Simulation(CARD, faults=Faults(faults)))


def work(kernels=1, seconds=0.0):
    return KernelModel(CARD).sequence([Kernel("k", HOST_S, 2e-6, memory_s=seconds)] * kernels)


def test_the_host_runs_ahead_until_the_queue_is_full():
    gpu, long = make(), work(seconds=1e-3)
    for _ in range(PLACES):
        gpu.launch(long)
    assert gpu.clock() == pytest.approx(PLACES * HOST_S)
    for _ in range(10):
        gpu.launch(long)
    # Room for one more comes each time that a kernel ends.
    assert gpu.clock() == pytest.approx(10e-3, rel=0.2)
    gpu.synchronize()
    assert gpu.clock() == pytest.approx((PLACES + 10) * 1e-3, rel=0.01)


def test_many_short_kernels_are_bound_by_the_host_and_a_graph_of_them_is_not():
    gpu, block = make(), work(kernels=100)
    before, after = gpu.Event(enable_timing=True), gpu.Event(enable_timing=True)

    def time_of(launch):
        gpu.synchronize()
        before.record()
        for _ in range(5):
            launch()
        after.record()
        gpu.synchronize()
        return before.elapsed_time(after) / 5e3

    assert time_of(lambda: gpu.launch(block)) == pytest.approx(100 * HOST_S, rel=0.02)
    graph = gpu.CUDAGraph()
    with gpu.graph(graph):
        gpu.launch(block)
    assert time_of(graph.replay) == pytest.approx(100 * 2e-6, rel=0.1)


def test_events_have_the_steps_of_the_card_s_timer():
    gpu = make()
    first, second = gpu.Event(enable_timing=True), gpu.Event(enable_timing=True)
    first.record()
    gpu.launch(work(seconds=12.3e-6))
    second.record()
    steps = first.elapsed_time(second) / 1e3 / CARD.launch.event_step_s.value
    assert steps == pytest.approx(round(steps), abs=1e-6)
    assert steps > 20


def test_memory_is_what_the_card_has():
    gpu = make()
    free, total = gpu.mem_get_info()
    assert total == round(CARD.identity.memory_mib.value) << 20
    process = gpu.allocate(free // 2)
    assert gpu.memory_reserved() == free // 2
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        gpu.allocate(free)
    gpu.free(free // 2, process)
    assert gpu.mem_get_info()[0] == free
    gpu.allocate(free)
    gpu.begin_process()
    assert gpu.mem_get_info()[0] == free
    gpu.free(free // 2, process)
    assert gpu.mem_get_info()[0] == free


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Lost(kind="lost", from_s=1.0), "unspecified"),
        (Poisoned(kind="poisoned", from_s=1.0), "illegal memory"),
    ],
)
def test_a_broken_card_fails_every_later_call(fault, said):
    gpu = make(fault)
    gpu.launch(work())
    gpu.synchronize()
    gpu.clock.sleep(1.0)
    with pytest.raises(RuntimeError, match=said):
        gpu.launch(work())
    with pytest.raises(RuntimeError, match=said):
        gpu.synchronize()


def test_an_empty_graph_is_refused_and_a_graph_needs_its_capture():
    gpu = make()
    with pytest.raises(RuntimeError, match="no kernels"), gpu.graph(gpu.CUDAGraph()):
        pass
    with pytest.raises(RuntimeError, match="before it was captured"):
        gpu.CUDAGraph().replay()
    gpu.launch(work())  # the failed capture is over
