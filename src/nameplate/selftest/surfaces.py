"""Response surfaces with a known best: simulated throughput of matrix products over a grid of shapes.

They are shaped like what libraries show: a GPU's tiles that fill its multiprocessors in whole waves, a CPU's
register blocks and cache blocks, caches that a working set outgrows, alignment, layouts, a fixed cost of a
launch, and a deviation of each point that nothing explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nameplate.search.features import describe_shapes
from nameplate.search.space import Space

_LAYOUTS = ("nn", "nt", "tn", "tt")
RESIDUAL = 0.01  # standard deviation of a point from what its shape explains
_MULTIPROCESSORS = (66, 108, 114, 132, 144, 148)
_Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """The grid, and the true TFLOPS of each point; a look takes `least_look_s` at least."""

    space: Space
    tflops: _Grid
    least_look_s: float = 1e-3

    @property
    def look_s(self) -> _Grid:
        """Seconds of one look at each point."""
        return np.maximum(self.space.work / self.tflops / 1e12, self.least_look_s)


def make_gpu_surface(rng: np.random.Generator, residual: float = RESIDUAL) -> Surface:
    """A library that chooses the fastest of five tiles for each shape, on 66 to 148 multiprocessors."""
    count = int(rng.choice(_MULTIPROCESSORS))
    m, n, k, axes = _make_axes(_spread(1024, 16384, 14, 128), _spread(1024, 16384, 9, 64))
    speeds = {
        (128, 128): rng.uniform(0.78, 0.90),
        (128, 256): rng.uniform(0.88, 1.0),
        (256, 128): rng.uniform(0.88, 1.0),
        (64, 256): rng.uniform(0.70, 0.85),
        (192, 128): rng.uniform(0.80, 0.97),
    }
    share = np.max([speed * _fill(m, n, tile, count) for tile, speed in speeds.items()], axis=0)
    share = share * k / (k + rng.uniform(100, 600))
    bytes_ = 2.0 * (m * k + k * n + m * n)
    share = share * (
        1 - rng.uniform(0, 0.12) * _step(bytes_, rng.uniform(30e6, 130e6) * rng.uniform(2, 8), 0.3)
    )
    share = share * (1 - rng.uniform(0, 0.06) * (k > rng.choice(np.unique(k)[-4:])))
    return _make_surface(rng, share * 10 ** rng.uniform(1.8, 3.3), (m, n, k), axes, residual, 10e-6, count)


def make_cpu_surface(rng: np.random.Generator, residual: float = RESIDUAL) -> Surface:
    """A library with register and cache blocks, whose columns share cache sets at multiples of 1024."""
    m, n, k, axes = _make_axes(_spread(256, 4096, 12, 32), _spread(256, 4096, 10, 32))
    rows, columns = rng.choice([6, 8, 14, 16, 24, 30]), rng.choice([16, 32, 48, 64])
    share = m / (np.ceil(m / rows) * rows) * n / (np.ceil(n / columns) * columns)
    for size in (m, n, k):
        share = share * size / (size + rng.uniform(10, 150))
    block = rng.choice([256, 384, 512, 768])
    share = share * (1 - rng.uniform(0.02, 0.15) * (np.ceil(k / block) * block / k - 1))
    bytes_ = 4.0 * (m * k + k * n + m * n)
    share = share * (1 - rng.uniform(0, 0.2) * _step(bytes_, rng.uniform(2e6, 64e6), 0.4))
    conflict, of_k = rng.uniform(0, 0.25), rng.uniform(0, 1)
    share = share * (1 - conflict * (n % 1024 == 0)) * (1 - conflict * of_k * (k % 1024 == 0))
    share = share * np.exp(-rng.uniform(0, 0.04) * np.abs(np.log2(m / n)))
    return _make_surface(rng, 0.95 * share * 10 ** rng.uniform(-1, 1), (m, n, k), axes, residual, 5e-6)


def _spread(least: int, most: int, count: int, unit: int) -> list[int]:
    """Return about `count` multiples of `unit`, evenly spread by ratio."""
    return sorted({round(each / unit) * unit for each in np.geomspace(least, most, count)})


def _make_axes(edges: list[int], depths: list[int]) -> tuple[_Grid, _Grid, _Grid, dict[str, list[int]]]:
    """Return M, N and K of each shape of the grid, and the axes."""
    m, n, k = (each.astype(float) for each in np.meshgrid(edges, edges, depths, indexing="ij"))
    return m, n, k, {"m": edges, "n": edges, "k": depths}


def _fill(m: _Grid, n: _Grid, tile: tuple[int, int], count: int) -> _Grid:
    """The share of the multiprocessors' time that the tiles of a product use, in whole waves."""
    waves = np.ceil(np.ceil(m / tile[0]) * np.ceil(n / tile[1]) / count)
    fill: _Grid = m * n / (waves * count * tile[0] * tile[1])
    return fill


def _step(values: _Grid, at: float, width: float) -> _Grid:
    """A smooth step from 0 to 1 at `at`, on a logarithmic axis."""
    step: _Grid = 1 / (1 + np.exp(-np.log(values / at) / width))
    return step


def _make_surface(
    rng: np.random.Generator,
    tflops: _Grid,
    shape: tuple[_Grid, _Grid, _Grid],
    axes: dict[str, list[int]],
    residual: float,
    launch_s: float,
    multiprocessors: int | None = None,
) -> Surface:
    """Add layouts, the cost of a launch and the unexplained deviation."""
    m, n, k = shape
    layouts = rng.permutation([1.0, *(1 - rng.uniform(0, 0.08, len(_LAYOUTS) - 1))])
    work = np.broadcast_to((2 * m * n * k)[..., None], (*m.shape, len(_LAYOUTS)))
    reached = tflops[..., None] * layouts
    reached = work / (work / reached + launch_s * 1e12)
    reached = reached * np.exp(residual * rng.standard_normal(reached.shape))
    rows, columns, depths = (np.repeat(each.ravel(), len(_LAYOUTS)) for each in shape)
    features = describe_shapes(rows, columns, depths, multiprocessors)
    space = Space({**axes, "layout": _LAYOUTS}, work.ravel(), features)
    return Surface(space, reached.ravel())


def throttle(share_of_time: float) -> float:
    """Speed ÷ cool speed of a device that loses 6 % to heat and swings by 1 % at its power limit."""
    return 1 - 0.06 * (1 - math.exp(-share_of_time / 0.08)) + 0.01 * math.sin(40 * share_of_time)
