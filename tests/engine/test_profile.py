"""A launch under a profiler, once everything is timed: its kernels and its trace, and what an error costs."""

from __future__ import annotations

import pytest

from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.engine.case_run import name_trace
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance
from nameplate.engine.pilot import Pilots
from nameplate.engine.runner import GroupTask, InThisProcess
from nameplate.record import KernelTime
from nameplate.suite import Case

KERNEL = KernelTime(name="gemm", time_s=1e-3, calls=1)


class Profiled(SimulatedDevice):
    """A simulated device with a profiler, which may break."""

    breaks = False

    def profile(self, launch, trace):
        assert self.told is None
        self.told = self.clock()
        if self.breaks:
            raise RuntimeError("no profiler")
        trace.parent.mkdir()
        trace.write_text("{}")
        return (KERNEL,)

    told: float | None = None


def measured(device, traces):
    runner = InThisProcess(device, Pilots(device, 0), ProbeChoice(device, 0), traces=traces)
    case = Case(SimulatedWork(device, name="matmul", dtype="bf16", shape="8x8x8"))
    (found,) = runner.measure(GroupTask("1", [case], Allowance(5.0, 5.0))).cases.values()
    return case, found


@pytest.mark.parametrize("breaks", [False, True])
def test_a_launch_is_traced_after_everything_timed_and_an_error_costs_no_figure(tmp_path, breaks):
    device = Profiled(make_steady(1e-3, 0.01))
    device.breaks = breaks
    case, found = measured(device, tmp_path / "traces")
    assert found.failure is None
    assert device.told >= max(each.timing.end_s for each in found.window.batches)
    if breaks:
        assert found.profile is None
        return
    assert found.profile.kernels == (KERNEL,)
    assert (tmp_path / found.profile.trace).read_text() == "{}"
    assert found.profile.trace == f"traces/{name_trace(device.name, case.id)}"


def test_nobody_is_profiled_unasked():
    device = Profiled(make_steady(1e-3, 0.01))
    assert measured(device, None)[1].profile is None
    assert device.told is None


def test_a_traces_file_has_the_name_of_its_case_and_no_other_has_it():
    names = [name_trace("cuda:0", case) for case in ("matmul/bf16/8x8x8/a", "matmul/bf16/8x8x8-a", "x" * 500)]
    assert names[0].startswith("cuda-0-matmul-bf16-8x8x8-a-")
    assert len(set(names)) == 3
    assert max(map(len, names)) < 200
