"""What is known of a product's shape before it is measured: columns of a regression on log throughput."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Tiles of the result that libraries' fast kernels compute, rows by columns (names of CUTLASS's kernels).
TILES = ((128, 128), (128, 256), (256, 128), (64, 256), (192, 128))
# Ridge regression shrinks a column's effect the less the larger the column is. How well tiles fill a GPU
# matters in full; the others explain some per cent.
_FILL_SCALE, _SHAPE_SCALE = 5.0, 0.2

_Numbers = NDArray[np.float64]


def describe_shapes(m: _Numbers, n: _Numbers, k: _Numbers, multiprocessors: int | None = None) -> _Numbers:
    """Return a row of features for each product of M, N and K, three arrays of one length.

    How much memory it touches, once and squared; how far from square the result is; and for a GPU of so many
    multiprocessors how well tiles fill them.
    """
    touched = np.log(m * k + k * n + m * n)
    spread = touched.std() or 1.0
    touched = (touched - touched.mean()) / spread
    oblong = np.abs(np.log2(m / n)) / 2
    columns = [_SHAPE_SCALE * each for each in (touched, touched**2, oblong)]
    if multiprocessors is not None:
        columns += [_FILL_SCALE * each for each in find_fills(m, n, multiprocessors)]
    return np.stack(columns, axis=-1)


def find_fills(m: _Numbers, n: _Numbers, multiprocessors: int) -> list[_Numbers]:
    """Return the logarithm of how well the result's tiles fill the multiprocessors: for each of `TILES`, then
    for the best of them.

    Tiles run in waves, one to a multiprocessor, and the last wave is seldom full (NVIDIA, Matrix
    Multiplication Background User's Guide, section 5: tile and wave quantization).
    """
    fills = []
    for rows, columns in TILES:
        waves = np.ceil(np.ceil(m / rows) * np.ceil(n / columns) / multiprocessors)
        fills.append(np.log(m * n / (waves * multiprocessors * rows * columns)))
    return [*fills, np.max(fills, axis=0)]
