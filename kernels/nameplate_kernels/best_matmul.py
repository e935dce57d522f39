"""The fastest matrix product of a grid of shapes. Which one that is, a search on the device finds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from nameplate_kernels.matmul import (
    Matmul,
    draw,
    layouts_of,
    scaling_suffix,
    view_operand,
)
from nameplate_kernels.numerics import check_fill, make_generator, numerics, product_precision_of
from nameplate_kernels.product_backends import TORCH, find_backend
from nameplate_kernels.scaled_operands import (
    FORMATS,
    has_fast_sums,
    make_launch,
    make_operand,
    make_scales,
)
from nameplate_kernels.workload import Prepared, Workload

Point = Mapping[str, int | str]  # m, n, k, layout, and where a backend has several, the algorithm


@dataclass(frozen=True)
class BestMatmul(Workload):
    """Declares the grid; `at` is the product at one of its points. It has no FLOPs until one is chosen.

    With `exhaustive` every shape of the grid is timed, else a search finds the fastest in a part of the time.
    `scaling` and `backend` are those of `Matmul`; without `layouts` they are those that make a difference.
    `lacking` is why the device has no arithmetic in this dtype, as far as whoever makes the case knows: it is
    then skipped with that reason.
    Raises ValueError for an axis without values, a size below 1, an unknown dtype or layout.
    """

    sizes_m: tuple[int, ...]
    sizes_n: tuple[int, ...]
    sizes_k: tuple[int, ...]
    dtype: str
    layouts: tuple[str, ...] = ()
    exhaustive: bool = False
    scaling: str = "tensor"
    backend: str = TORCH
    lacking: str | None = None

    name = "matmul"
    convention = "2MNK"
    flops = None

    def __post_init__(self) -> None:
        if not all(self.axes.values()):
            raise ValueError("matmul: a grid of shapes needs a value on each axis")
        least = {"m": min(self.sizes_m), "n": min(self.sizes_n), "k": min(self.sizes_k)}
        for layout in self.axes["layout"]:
            self.at({**least, "layout": layout})

    @property
    def shape(self) -> str:
        """`best`, followed by a scaling other than one scale for all."""
        return "best" + scaling_suffix(self.scaling)

    @property
    def axes(self) -> Mapping[str, Sequence[int | str]]:
        """The values of each axis, by name."""
        layouts = self.layouts or self._layouts_that_differ()
        axes: dict[str, Sequence[int | str]] = {
            "m": self.sizes_m,
            "n": self.sizes_n,
            "k": self.sizes_k,
            "layout": layouts,
        }
        algorithms = find_backend(self.backend).algorithms
        return axes | ({"algorithm": range(algorithms)} if algorithms > 1 else {})

    def _layouts_that_differ(self) -> tuple[str, ...]:
        return layouts_of(self.dtype) if self.dtype in FORMATS else find_backend(self.backend).layouts

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
        most = {"m": max(self.sizes_m), "n": max(self.sizes_n), "k": max(self.sizes_k)}
        return self.at({**most, "layout": self.axes["layout"][0]})

    @property
    def compile_allowance_s(self) -> float:
        """Seconds that the first launch of a shape may take besides, where its backend compiles."""
        return find_backend(self.backend).setup_s

    def unsupported(self, device: torch.device) -> str | None:
        """Return why no point of the grid can be launched on `device`, in one clause; None: they can."""
        return self.lacking or self._largest.unsupported(device)

    def at(self, point: Point) -> FoundMatmul:
        """Return the product at a point."""
        m, n, k = (int(point[axis]) for axis in ("m", "n", "k"))
        return FoundMatmul(
            *(m, n, k, self.dtype, str(point["layout"])),
            scaling=self.scaling,
            backend=self.backend,
            algorithm=int(point.get("algorithm", 0)),
        )

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

    @property
    def shape(self) -> str:
        """`best`, followed by a scaling other than one scale for all."""
        return "best" + scaling_suffix(self.scaling)

    def pilots(self) -> tuple[Matmul, ...]:
        """See `Matmul.pilots`."""
        names = [field.name for field in dataclasses.fields(Matmul)]
        return Matmul(**{name: getattr(self, name) for name in names}).pilots()


class SearchBuffers:
    """One allocation for all points of a grid: each product works on the first elements of it."""

    def __init__(self, best: BestMatmul, device: torch.device, fill: str, seed: int) -> None:
        self._dtype = best.dtype
        generator = make_generator(device, seed)
        m, n, k = (max(sizes) for sizes in (best.sizes_m, best.sizes_n, best.sizes_k))
        self._a = self._draw(m, k, "a", fill, generator)
        self._b = self._draw(n, k, "b", fill, generator)
        result = product_precision_of(best.dtype).result_dtype
        self._c = torch.empty(m * n, dtype=result, device=device)

    def _draw(self, rows: int, k: int, which: str, fill: str, generator: torch.Generator) -> torch.Tensor:
        if self._dtype not in FORMATS:
            return draw(rows * k, self._dtype, fill, generator)
        values = draw(rows * k, "fp32", fill, generator).view(rows, k)
        return make_operand(values, self._dtype, which, "tensor").stored.view(-1)

    def numerics(self) -> AbstractContextManager[None]:
        """Set torch's process-wide precision as the dtype needs it; a context manager."""
        return numerics(self._dtype)

    def launcher(self, product: Matmul) -> Callable[[], object]:
        """Return the launch of a product of the grid, by its backend."""
        c = self._c[: product.m * product.n].view(product.m, product.n)
        if product.is_scaled:
            return self._scaled_launcher(product, c)
        a = view_operand(self._a, product.m, product.k, product.layout[0])
        b = view_operand(self._b, product.k, product.n, product.layout[1])
        return find_backend(product.backend).make(a, b, c, product.algorithm)

    def _scaled_launcher(self, product: Matmul, c: torch.Tensor) -> Callable[[], object]:
        """Its scales are all 1: they take as long as any."""
        m, n, k, dtype, scaling = product.m, product.n, product.k, product.dtype, product.scaling
        stored_k = k * self._a.itemsize * product_precision_of(dtype).operand_bits // 8
        a = view_operand(self._a, m, stored_k, "n")
        b = view_operand(self._b, n, stored_k, "n")
        if product.backend != TORCH:
            return find_backend(product.backend).make(a, b.t(), c, product.algorithm)
        scale_a = make_scales(m, k, dtype, "a", scaling, self._a)
        scale_b = make_scales(n, k, dtype, "b", scaling, self._a)
        return make_launch(a, b, scale_a, scale_b, c, has_fast_sums(dtype, scaling))
