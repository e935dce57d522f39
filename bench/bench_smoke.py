"""The smoke suite's cases under pytest-benchmark.

Launch and synchronise are both inside the timed call, so a GPU's figure includes the launch; `bench run`
separates the two. `extra_info` carries work, achieved TFLOPS and efficiency of the mean round.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from nameplate.device.protocol import Device
from nameplate.engine.case_run import count_buffer_sets
from nameplate.run.job import target_of
from nameplate.run.measure import SEED
from nameplate.suite import Case, Target, find_suite

# Ids have to be known before any device is opened; the suite's own choice by device is made in the test.
_IDS = [
    case.id
    for kind in ("cpu", "cuda")
    for rated in (frozenset({"fp16"}), frozenset())
    for case in find_suite("smoke").cases(Target(kind, None, None, rated))
]


def _find(device: Device, case_id: str) -> Case:
    case = next((each for each in find_suite("smoke").cases(target_of(device)) if each.id == case_id), None)
    if case is None:
        pytest.skip(f"the smoke suite doesn't measure {case_id} on {device.name}")
    reason = case.workload.unsupported(device.torch_device)
    if reason is not None:
        pytest.skip(reason)
    return case


@pytest.mark.parametrize("case_id", list(dict.fromkeys(_IDS)))
def bench_case(benchmark: Any, device: Device, case_id: str) -> None:
    """Time one case, check its result, and put TFLOPS and efficiency beside the time."""
    case = _find(device, case_id)
    work = case.workload
    prepared = work.prepare(
        device.torch_device, fill=case.fill, seed=SEED, copies=count_buffer_sets(case, device)
    )
    ring = cycle(prepared.launches)

    def launch_and_wait() -> None:
        next(ring)()
        device.synchronize()

    with prepared.numerics():
        prepared.compute_reference()
        benchmark(launch_and_wait)
        check = prepared.check()
    assert check.passed, f"{case.id}: error is {check.error:.3g} of the bound ({check.rule})"
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info.update(_figures(case, device, benchmark.stats.stats.mean))


def _figures(case: Case, device: Device, mean_s: float) -> dict[str, Any]:
    work = case.workload
    figures: dict[str, Any] = {"case": case.id, "gb_per_s": work.bytes / mean_s / 1e9}
    if work.flops is not None:
        achieved = work.flops / mean_s / 1e12
        nominal = device.rating.nominal_for(work.dtype).tflops
        figures |= {
            "convention": work.convention,
            "tflops": achieved,
            "nominal_tflops": nominal,
            "efficiency": None if nominal is None else achieved / nominal,
        }
    return figures
