"""The best product of each dtype: a search over shapes and layouts, whose winner is then measured anew.

`ceiling` gives the search about half of a minute. `ceiling-grid` looks at every shape, which takes an hour or
more: the baseline that the search is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from nameplate.suite import Case, Suite, Target
from nameplate_kernels import BestMatmul
from nameplate_suites.parts import cache_for

# Multiples of every vector register and tile in use, up to what libraries' blocks need; evenly by ratio.
_CPU_EDGES = (256, 384, 512, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096)
_CPU_DEPTHS = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_GPU_DEPTHS = (1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
_GPU_EDGES = (2048, 3072, 4096, 6144, 8192, 12288, 16384)
_TILE = 128
_LARGEST_EDGE = 16384
_DTYPES = {"cpu": ("bf16", "fp32", "fp64", "fp16"), "cuda": ("bf16", "fp16", "tf32", "fp64", "fp32")}
_FIRST_WEIGHT = 2.0  # of the first dtype, which the chain starts with


def _cases(target: Target, *, exhaustive: bool = False) -> Iterable[Case]:
    for number, dtype in enumerate(_dtypes(target)):
        yield Case(
            _make_grid(target, dtype, exhaustive=exhaustive),
            cache=cache_for(target),
            phase="sustained",
            group=f"best-{dtype}",
            weight=_FIRST_WEIGHT if number == 0 else 1.0,
        )


def _dtypes(target: Target) -> Iterator[str]:
    """A CPU's without arithmetic in them are left out: one product would take seconds."""
    for dtype in _DTYPES["cuda" if target.kind == "cuda" else "cpu"]:
        if target.kind != "cpu" or dtype in target.rated_dtypes:
            yield dtype


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
    "ceiling", "the best product of each dtype, found by a search over shapes and layouts", 60.0, _cases
)
GRID = Suite(
    "ceiling-grid",
    "the same by timing every shape: an hour or more, the baseline of the search",
    7200.0,
    partial(_cases, exhaustive=True),
)
