"""The host as what is timed: launch-bound cases, their graphs, CPU time, and the names of kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from timed_work import AMPLE, PerLaunchDevice, measured, works


def host(kernel_s, handing_s, of=SimulatedDevice, **options):
    """A device on which a launch takes `kernel_s`, or `handing_s` where the host takes that long for it."""
    return of(make_steady(kernel_s, 0.01), seed=1, host_launch_s=handing_s, **options)


def on(device, **axes):
    (record,) = measure_group([Case(SimulatedWork(device, 10**6), **axes)], device, Pilots(device, 1), AMPLE)
    return record


def test_a_launch_that_keeps_the_host_busy_is_launch_bound():
    record = on(host(20e-6, 50e-6))
    assert record.verdict == "launch_bound"
    assert record.time_s == pytest.approx(50e-6, rel=0.01)
    assert record.graph_tflops == pytest.approx(10**6 / 20e-6 / 1e12, rel=0.02)


def test_a_launch_that_is_enqueued_early_is_not_launch_bound():
    record = on(host(200e-6, 50e-6))
    assert (record.verdict, record.graph_tflops) == ("clean", None)


def test_after_slow_enqueuing_a_graph_shows_whether_it_mattered():
    record = on(host(100e-6, 60e-6))
    assert record.graph_tflops == pytest.approx(record.tflops, rel=0.02)
    assert record.verdict == "clean"


def test_a_faster_graph_makes_it_launch_bound_whatever_the_enqueue_share():
    class Hidden(SimulatedDevice):
        """The host looks half as busy as it is: a part of its work lies behind the call that hands over."""

        def time_enqueue(self, launches):
            return 0.5 * self.host_launch_s

    record = on(host(20e-6, 50e-6, Hidden))
    assert record.verdict == "launch_bound"
    assert record.graph_tflops == pytest.approx(record.tflops * 2.5, rel=0.02)


def test_flushed_launches_are_not_captured():
    record = on(host(20e-6, 50e-6, cache_bytes=1 << 20), cache="flushed")
    assert record.graph_tflops is None


def test_without_a_graph_the_enqueue_share_decides():
    class Uncapturable(SimulatedDevice):
        def capture(self, launches, count):
            return None

    record = on(host(20e-6, 50e-6, Uncapturable))
    assert (record.verdict, record.graph_tflops) == ("launch_bound", None)
    assert any("can't be captured as a CUDA graph" in str(each) for each in record.warnings)


def test_a_failing_capture_costs_no_figure():
    class Breaking(SimulatedDevice):
        def capture(self, launches, count):
            raise RuntimeError("operation not permitted when stream is capturing")

    record = on(host(20e-6, 50e-6, Breaking))
    assert record.status == "ok"


def test_cpu_time_excludes_other_processes():
    device = PerLaunchDevice(foreign_cores=0.5, cores=2.0)
    (record,) = measured(device, works(device, 1e-3))
    assert record.verdict == "contended"
    assert record.tflops == pytest.approx(0.75 * 1.0, rel=0.02)
    assert record.cpu_time_tflops == pytest.approx(1.0, rel=0.02)
    idle = PerLaunchDevice(cores=2.0)
    (record,) = measured(idle, works(idle, 1e-3))
    assert record.cpu_time_tflops == pytest.approx(record.tflops)


def test_without_cpu_time_there_is_no_such_figure():
    class Unknown(PerLaunchDevice):
        def time_batch(self, launches, **options):
            return replace(super().time_batch(launches, **options), cpu_s=None)

    device = Unknown()
    (record,) = measured(device, works(device, 1e-3))
    assert (record.cpu_time_tflops, record.verdict) == (None, "clean")
    assert {batch.cpu_s for batch in record.batches} == {None}


class Named(PerLaunchDevice):
    """A device that tells the kernels of a launch, or breaks where it is asked."""

    def name_kernels(self, launch):
        if launch.name == "b":
            raise RuntimeError("no profiler")
        self.turns.append((f"kernels of {launch.name}", self.clock(), 0.0))
        return ("library gemm", launch.name)


def test_kernels_are_named_after_everything_timed():
    device = Named()
    first, broken = measured(device, works(device, 1e-3, 1e-3))
    assert first.kernels == ("library gemm", "a")
    assert first.flatten()["kernels"] == ["library gemm", "a"]
    assert device.turns[-1][0] == "kernels of a"
    assert (broken.status, broken.verdict, broken.kernels) == ("ok", "clean", ())


def test_a_launch_that_no_longer_fits_is_not_repeated_for_its_kernels():
    device = Named()
    slow = measured(device, works(device, 1.0), Allowance(8.5, 8.5))[0]
    assert (slow.status, slow.kernels) == ("ok", ())
