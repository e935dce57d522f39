"""The fastest matrix product of a grid of shapes. Which one that is, a search on the device finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nameplate_kernels.matmul import LAYOUTS, Matmul
from nameplate_kernels.numerics import check_fill, make_filled, make_generator, numerics, precision_of
from nameplate_kernels.workload import Prepared, Workload

Point = Mapping[str, int | str]  # m, n, k and layout


@dataclass(frozen=True)
class BestMatmul(Workload):
    """Declares the grid; `at` is the product at one of its points. It has no FLOPs until one is chosen.

    With `exhaustive` every shape of the grid is timed, else a search finds the fastest in a part of the time.
    Raises ValueError for an axis without values, a size below 1, an unknown dtype or layout.
    """

    sizes_m: tuple[int, ...]
    sizes_n: tuple[int, ...]
    sizes_k: tuple[int, ...]
    dtype: str
    layouts: tuple[str, ...] = LAYOUTS
    exhaustive: bool = False

    name = "matmul"
    convention = "2MNK"
    shape = "best"
    flops = None

    def __post_init__(self) -> None:
        if not all(self.axes.values()):
            raise ValueError("matmul: a grid of shapes needs a value on each axis")
        for layout in self.layouts:
            Matmul(min(self.sizes_m), min(self.sizes_n), min(self.sizes_k), self.dtype, layout)

    @property
    def axes(self) -> Mapping[str, Sequence[int | str]]:
        """The values of each axis, by name."""
        return {"m": self.sizes_m, "n": self.sizes_n, "k": self.sizes_k, "layout": self.layouts}

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """How many shapes the grid has."""
        return {"shapes": math.prod(map(len, self.axes.values()))}

    @property
    def bytes(self) -> int:
        """Operands and result of the largest product."""
        return self._largest.bytes

    @property
    def resident_bytes(self) -> int:
        """Memory that the search takes, and then the product that it found, if that is the largest."""
        return self._largest.resident_bytes

    @property
    def _largest(self) -> Matmul:
        return Matmul(max(self.sizes_m), max(self.sizes_n), max(self.sizes_k), self.dtype)

    def at(self, point: Point) -> FoundMatmul:
        """Return the product at a point."""
        m, n, k = (int(point[axis]) for axis in ("m", "n", "k"))
        return FoundMatmul(m, n, k, self.dtype, str(point["layout"]))

    def allocate(self, device: torch.device, *, fill: str, seed: int) -> SearchBuffers:
        """Allocate and fill operands that hold those of any point. Raises ValueError for an unknown fill."""
        check_fill(fill)
        return SearchBuffers(self, device, fill, seed)

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Raise TypeError: only the product that a search has found can be launched."""
        raise TypeError("matmul: a grid of shapes can't be launched before one of them is chosen")


@dataclass(frozen=True)
class FoundMatmul(Matmul):
    """A product that a search found. Its case is called `best`; its dimensions say which shape it is."""

    shape = "best"

    def pilots(self) -> tuple[Matmul, ...]:
        """See `Matmul.pilots`."""
        return Matmul(self.m, self.n, self.k, self.dtype, self.layout).pilots()


class SearchBuffers:
    """One allocation for all points of a grid: each product works on the first elements of it."""

    def __init__(self, best: BestMatmul, device: torch.device, fill: str, seed: int) -> None:
        self._dtype = best.dtype
        generator = make_generator(device, seed)
        m, n, k = (max(sizes) for sizes in (best.sizes_m, best.sizes_n, best.sizes_k))
        self._a = make_filled((m * k,), best.dtype, fill, generator)
        self._b = make_filled((k * n,), best.dtype, fill, generator)
        self._c = torch.empty(m * n, dtype=precision_of(best.dtype).storage, device=device)

    def numerics(self) -> object:
        """Set torch's process-wide precision as the dtype needs it; a context manager."""
        return numerics(self._dtype)

    def launcher(self, product: Matmul) -> Callable[[], object]:
        """Return the launch of a product of the grid, by torch.mm."""
        a = _view(self._a, product.m, product.k, product.layout[0])
        b = _view(self._b, product.k, product.n, product.layout[1])
        return partial(torch.mm, a, b, out=self._c[: product.m * product.n].view(product.m, product.n))


def _view(flat: torch.Tensor, rows: int, columns: int, stored: str) -> torch.Tensor:
    used = flat[: rows * columns]
    return used.view(columns, rows).t() if stored == "t" else used.view(rows, columns)
