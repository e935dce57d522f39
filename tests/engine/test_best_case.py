"""A case that stands for the fastest of many: searched on a simulated GPU, then measured anew."""

from dataclasses import dataclass, replace

import pytest

from nameplate.device import survey
from nameplate.engine.best_case import SEARCH_SHARE, find_best, make_space
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.suite import Case
from nameplate_kernels import BestMatmul

SIZES = (2048, 4096, 8192)
GRID = BestMatmul(SIZES, SIZES, (4096, 8192), "bf16", ("nn", "nt"))
CASE = Case(GRID, cache="rotating", phase="sustained")


@pytest.fixture
def device():
    return survey.open_device("twin:h200")


def _measure(case, device, budget_s=60.0):
    (record,) = measure_group([case], device, Pilots(device, 1), Allowance(budget_s, 2 * budget_s))
    return record


def test_the_record_is_of_the_shape_that_the_search_chose(device):
    record = _measure(CASE, device)
    assert record.status == "ok"
    assert record.case == "matmul/bf16/best/normal/rotating/sustained/torch"
    search = record.search
    assert search.shapes == 36
    assert search.seen == len({tuple(look.point.items()) for look in search.looks})
    assert search.cost_s <= SEARCH_SHARE * 60
    assert {"explore", "confirm"} <= {look.stage for look in search.looks}
    # Nearly as fast as the fastest of all.
    every = find_best(replace(CASE, workload=replace(GRID, exhaustive=True)), device, 1, 100.0).summary.looks
    tflops = {tuple(look.point.values()): look.tflops for look in every if look.stage == "explore"}
    chosen = tuple(record.dimensions[axis] for axis in ("m", "n", "k", "layout"))
    assert tflops[chosen] >= 0.99 * max(tflops.values())
    assert record.flops == 2 * chosen[0] * chosen[1] * chosen[2]
    assert record.verification.passed


def test_exhaustive_times_every_shape(device):
    found = find_best(replace(CASE, workload=replace(GRID, exhaustive=True)), device, 1, 100.0)
    assert found.summary.seen == found.summary.shapes == 36
    assert found.summary.exhaustive
    assert found.summary.unseen_gain == 0.0


def test_a_shape_that_would_take_too_long_isnt_looked_at(device):
    found = find_best(
        replace(CASE, workload=replace(GRID, sizes_m=(16384,), sizes_k=(64, 1 << 20))), device, 1, 1.0
    )
    assert found.point["k"] == 64
    assert {look.point["k"] for look in found.summary.looks} == {64}
    assert found.summary.shapes == 6


def test_what_the_device_cant_do_is_skipped_with_its_reason(device):
    too_large = replace(GRID, sizes_m=(1 << 20,), sizes_n=(1 << 20,))
    record = _measure(replace(CASE, workload=too_large), device, 5.0)
    assert record.status == "skipped"
    assert str(record.reason).startswith("needs ")
    assert record.search is None


@dataclass(frozen=True)
class _Broken(BestMatmul):
    def allocate(self, device, *, fill, seed):
        raise RuntimeError("no operands today")


def test_an_error_of_the_workload_is_a_failed_record(device):
    broken = _Broken(SIZES, SIZES, SIZES, "bf16")
    record = _measure(replace(CASE, workload=broken), device, 5.0)
    assert record.status == "failed"
    assert "no operands today" in str(record.reason)


def test_a_gpus_grid_knows_how_tiles_fill_it_and_a_cpus_doesnt(device):
    space, workloads = make_space(GRID, device)
    assert space.features.shape == (36, 9)
    assert space.work[0] == workloads[0].flops


def test_a_grid_that_is_too_large_to_predict_is_refused(device):
    huge = BestMatmul(tuple(range(1, 600)), tuple(range(1, 600)), (1,), "bf16")
    with pytest.raises(ValueError, match="at most"):
        make_space(huge, device)
