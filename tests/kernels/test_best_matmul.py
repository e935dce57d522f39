"""The grid of products that a search chooses from: its points, its launches, and what it refuses."""

import pytest
import torch

from nameplate.workload import SearchedWorkload
from nameplate_kernels import LAYOUTS, BestMatmul, Matmul

GRID = BestMatmul((32, 48), (16, 64), (24,), "fp32")


def test_a_point_is_a_product_whose_case_is_called_best():
    found = GRID.at({"m": 48, "n": 16, "k": 24, "layout": "tn"})
    assert isinstance(found, Matmul)
    assert (found.m, found.n, found.k, found.layout) == (48, 16, 24, "tn")
    assert (found.name, found.shape, found.dtype) == (GRID.name, "best", "fp32")
    assert found.flops == 2 * 48 * 16 * 24
    # A pilot is another product, with a name of its own for what was learned from it.
    edges = {"m": 2048, "n": 2048, "k": 2048}
    large = BestMatmul((2048,), (2048,), (2048,), "fp32").at(edges | {"layout": "nn"})
    assert all(pilot.shape == f"{pilot.m}x{pilot.m}x{pilot.m}" for pilot in large.pilots())


def test_the_harness_knows_it_as_one_that_a_search_has_to_choose_from():
    assert isinstance(GRID, SearchedWorkload)
    assert not isinstance(Matmul(16, 16, 16, "fp32"), SearchedWorkload)
    assert GRID.flops is None
    assert GRID.dimensions == {"shapes": 16}
    with pytest.raises(TypeError, match="can't be launched before"):
        GRID.prepare(torch.device("cpu"), fill="normal", seed=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_launch_computes_the_product_of_the_first_elements(layout):
    buffers = GRID.allocate(torch.device("cpu"), fill="normal", seed=1)
    product = GRID.at({"m": 48, "n": 16, "k": 24, "layout": layout})
    launch = buffers.launcher(product)
    a, b = launch.args
    assert (a.shape, b.shape) == ((48, 24), (24, 16))
    assert [each.is_contiguous() for each in (a, b)] == [kept == "n" for kept in layout]
    c = launch()
    torch.testing.assert_close(c, (a.double() @ b.double()).float())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"sizes_m": ()}, "a value on each axis"), ({"dtype": "fp7"}, "fp7"), ({"layouts": ("xx",)}, "layout")],
)
def test_a_grid_that_cant_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        BestMatmul(**{"sizes_m": (16,), "sizes_n": (16,), "sizes_k": (16,), "dtype": "fp32"} | changes)
