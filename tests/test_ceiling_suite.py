"""Suite `ceiling`: a grid for each dtype that a device has arithmetic in."""

import pytest

from nameplate.suite import Target, find_suite

CPU = Target("cpu", "amd-zen4", 8 << 30, frozenset({"fp64", "fp32", "bf16"}))
H200 = Target("cuda", None, 141 << 30, frozenset(), multiprocessors=132)


def test_there_is_one_case_a_dtype_and_a_group_a_case():
    cases = find_suite("ceiling").cases(CPU)
    assert [case.id for case in cases] == [
        f"matmul/{dtype}/best/normal/warm/sustained/torch" for dtype in ("bf16", "fp32", "fp64")
    ]
    assert len({case.group for case in cases}) == len(cases)
    assert not any(case.workload.exhaustive for case in cases)
    grid = find_suite("ceiling-grid").cases(CPU)
    assert [case.id for case in grid] == [case.id for case in cases]
    assert all(case.workload.exhaustive for case in grid)


def test_a_gpus_grid_has_shapes_whose_tiles_fill_every_wave():
    (work, *_) = [case.workload for case in find_suite("ceiling").cases(H200)]
    assert any(m // 128 * (n // 128) % 132 == 0 for m in work.sizes_m for n in work.sizes_n)
    assert {2048, 8192, 16384} <= set(work.sizes_m) & set(work.sizes_n)


@pytest.mark.parametrize("multiprocessors", [None, 1, 114, 127])
def test_any_number_of_multiprocessors_has_a_grid_of_bounded_size(multiprocessors):
    target = Target("cuda", None, None, frozenset(), multiprocessors=multiprocessors)
    for case in find_suite("ceiling").cases(target):
        assert max(case.workload.sizes_m) <= 16384
        assert case.workload.dimensions["shapes"] <= 100_000
