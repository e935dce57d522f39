"""The best product of each dtype: a search over shapes, layouts and libraries; winners are measured anew.

`ceiling` gives the search about half of a minute. `ceiling-grid` looks at every shape, which takes an hour or
more: the baseline that the search is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from nameplate.suite import FILLS, Case, Suite, Target
from nameplate_kernels import PRODUCT_BACKENDS, SCALINGS, BestMatmul
from nameplate_suites.parts import cache_for

# Multiples of every vector register and tile in use, up to what libraries' blocks need; evenly by ratio.
_CPU_EDGES = (256, 384, 512, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096)
_CPU_DEPTHS = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_GPU_DEPTHS = (1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
_GPU_EDGES = (2048, 3072, 4096, 6144, 8192, 12288, 16384)
_TILE = 128
_LARGEST_EDGE = 16384
_IN_BLOCKS = ("mxfp8", "nvfp4")
# The first is what the chain starts with. Those that a device lacks are cases too, skipped with the reason.
_DTYPES = {
    "cpu": (
        "bf16",
        "fp32",
        "int8",
        "fp64",
        "fp16",
        "tf32",
        "fp16_acc16",
        "fp8_e4m3",
        "fp8_e5m2",
        *_IN_BLOCKS,
    ),
    "cuda": (
        "bf16",
        "fp8_e4m3",
        "fp16",
        "int8",
        "fp8_e5m2",
        *_IN_BLOCKS,
        "tf32",
        "fp64",
        "fp32",
        "fp16_acc16",
    ),
}
# Of the first dtype, the second and each other one. Most of a CPU's minute is for the first two, the figures
# that are asked for most; a GPU's looks are short, and its other dtypes need seconds to be measured at all.
_WEIGHTS = {"cpu": (4.0, 2.0, 0.75), "cuda": (2.0, 1.0, 1.0)}
# Other scalings of fp8 than one scale for all are beside it: their ceilings are lower.
_SCALED_SHARE = 0.5
_LACKING_WEIGHT = 1e-3
# Another library gets a shorter search: where that shows it to be clearly slower, that is all it gets. One
# that compiles takes the shape that the others found (`engine/measure.py`); alone it searches a few.
_BACKEND_SHARE, _FILL_WEIGHT = 0.2, 0.15
_COMPILED_EDGES, _COMPILED_DEPTHS = (2048, 4096), (1024, 4096)


def _cases(target: Target, *, exhaustive: bool = False) -> Iterable[Case]:
    kind = "cuda" if target.kind == "cuda" else "cpu"
    for dtype in _DTYPES[kind]:
        yield from _cases_of(target, dtype, exhaustive)


def _cases_of(target: Target, dtype: str, exhaustive: bool) -> Iterator[Case]:
    lacking = _why_lacking(target, dtype)
    scalings = SCALINGS if dtype == "fp8_e4m3" and target.kind == "cuda" else SCALINGS[:1]
    for scaling in scalings:
        weight = _weight_of(target, dtype) * (1.0 if scaling == SCALINGS[0] else _SCALED_SHARE)
        yield Case(
            replace(_make_grid(target, dtype, exhaustive=exhaustive), scaling=scaling, lacking=lacking),
            weight=_LACKING_WEIGHT if lacking else weight,
            **_axes_of(target, dtype),
        )
    if not lacking:
        yield from _backend_cases(target, dtype, exhaustive)


def _backend_cases(target: Target, dtype: str, exhaustive: bool) -> Iterator[Case]:
    """Yield the best product by each other library that a device of this kind may have, and the fills of the
    first dtype's best by torch: what it is made of is known by then.
    """
    kind = "cuda" if target.kind == "cuda" else "cpu"
    grid, axes = _make_grid(target, dtype, exhaustive=exhaustive), _axes_of(target, dtype)
    if dtype == _DTYPES[kind][0]:
        for fill in FILLS[1:]:
            yield Case(grid, fill=fill, weight=_FILL_WEIGHT, **axes)
    for name, backend in PRODUCT_BACKENDS.items():
        if name == "torch" or backend.device not in (None, kind) or dtype not in backend.dtypes:
            continue
        if target.is_simulated:
            continue
        searched = replace(grid, backend=name)
        if backend.setup_s:  # every shape is compiled first
            searched = replace(searched, sizes_m=_COMPILED_EDGES, sizes_n=_COMPILED_EDGES)
            searched = replace(searched, sizes_k=_COMPILED_DEPTHS)
        yield Case(searched, backend=name, weight=_BACKEND_SHARE * _weight_of(target, dtype), **axes)


def _weight_of(target: Target, dtype: str) -> float:
    """The share of the time that a dtype's best product by torch gets."""
    kind = "cuda" if target.kind == "cuda" else "cpu"
    return _WEIGHTS[kind][min(_DTYPES[kind].index(dtype), 2)]


def _axes_of(target: Target, dtype: str) -> dict[str, Any]:
    return {"cache": cache_for(target), "phase": "sustained", "group": f"best-{dtype}"}


def _why_lacking(target: Target, dtype: str) -> str | None:
    """Why a CPU has no arithmetic in it, as its tables and its measured instructions say: torch may compute
    it all the same, at a product in seconds. A GPU is asked by the workload.
    """
    if target.kind != "cpu" or dtype in target.rated_dtypes or dtype in ("tf32", "fp16_acc16", *_IN_BLOCKS):
        return None
    return f"no instructions for {dtype} products are known of this CPU; torch would emulate them"


def _make_grid(target: Target, dtype: str, *, exhaustive: bool) -> BestMatmul:
    if target.kind != "cuda":
        return BestMatmul(_CPU_EDGES, _CPU_EDGES, _CPU_DEPTHS, dtype, exhaustive=exhaustive)
    rows, columns = _find_gpu_edges(target.multiprocessors)
    return BestMatmul(rows, columns, _GPU_DEPTHS, dtype, exhaustive=exhaustive)


def _find_gpu_edges(multiprocessors: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return M and N: round sizes, and those whose tiles fill the multiprocessors in whole waves.

    Of S = a · b multiprocessors, a · tiles of rows and b · tiles of columns fill every wave.
    """
    if multiprocessors is None:
        return _GPU_EDGES, _GPU_EDGES
    fewest = max(each for each in range(1, int(multiprocessors**0.5) + 1) if multiprocessors % each == 0)
    return _with_multiples(multiprocessors // fewest), _with_multiples(fewest)


def _with_multiples(factor: int) -> tuple[int, ...]:
    step = factor * _TILE
    while step < _GPU_EDGES[0]:
        step += factor * _TILE
    multiples = range(step, _LARGEST_EDGE + 1, step)
    return tuple(sorted({*_GPU_EDGES, *multiples}))


CEILING = Suite(
    "ceiling",
    "the best product of each dtype, found by a search over shapes and layouts",
    60.0,
    _cases,
    gpu_budget_s=480.0,
)
GRID = Suite(
    "ceiling-grid",
    "the same by timing every shape: an hour or more, the baseline of the search",
    7200.0,
    partial(_cases, exhaustive=True),
)
