"""Dense matrix product C = A·B through the vendor's library (cuBLAS, oneDNN, MKL), called as torch.mm.

Legend: A_MK, B_KN, C_MN. A transposed operand is stored as its transpose and passed as a view; torch then
calls the library with its transpose flag.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.numerics import (
    HALVES,
    check_fill,
    make_filled,
    make_generator,
    precision_of,
    with_reduced_sums,
)
from nameplate_kernels.product_check import (
    CHUNK_ELEMENTS,
    RULE,
    SAMPLED_ROWS,
    make_reference,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload

LAYOUTS = ("nn", "nt", "tn", "tt")
"""First letter A, second B: n is stored as used, t is stored transposed."""

_PILOT_SIDES = (256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Matmul(Workload):
    """C (m×n) = A (m×k) · B (k×n), all in one dtype; fp16, bf16 and tf32 accumulate in fp32.

    Counts 2·m·n·k FLOPs and, in bytes, A, B and C once each. `layout` is one of `LAYOUTS`. `represents` names
    the model that has this product in a layer, and `times` how often a pass through the layer runs it. With
    `fp32_sums` the partial sums of a split K are added in fp32 too, which torch doesn't ask for by itself.
    Raises ValueError for a size below 1, an unknown dtype or layout, and for `fp32_sums` with a dtype that
    isn't fp16 or bf16.
    """

    m: int
    n: int
    k: int
    dtype: str
    layout: str = "nn"
    represents: str | None = None
    times: int = 1
    fp32_sums: bool = False

    name = "matmul"
    convention = "2MNK"

    def __post_init__(self) -> None:
        precision_of(self.dtype)
        if min(self.m, self.n, self.k) < 1:
            raise ValueError(f"matmul: sizes must be at least 1, got {self.m}x{self.n}x{self.k}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"matmul: unknown layout {self.layout!r}; expected one of {', '.join(LAYOUTS)}")
        if self.fp32_sums and self.dtype not in HALVES:
            raise ValueError(f"matmul: fp32_sums is a choice of {' and '.join(HALVES)}, got {self.dtype!r}")

    @property
    def shape(self) -> str:
        """`MxNxK`, followed by the layout unless it is nn, and by `fp32sums` where that is asked for:
        `1024x1024x1024-nt-fp32sums`.
        """
        sizes = f"{self.m}x{self.n}x{self.k}"
        layout = "" if self.layout == "nn" else f"-{self.layout}"
        return sizes + layout + ("-fp32sums" if self.fp32_sums else "")

    @property
    def reduction(self) -> str | None:
        """See `Workload.reduction`."""
        return "fp32" if self.fp32_sums else super().reduction

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """m, n, k, the layout, and how often a layer runs the product."""
        return {"m": self.m, "n": self.n, "k": self.k, "layout": self.layout, "times": self.times}

    @property
    def flops(self) -> int:
        """2·m·n·k: a multiplication and an addition for each of m·n·k products."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """A and B read once, C written once."""
        elements = self.m * self.k + self.k * self.n + self.m * self.n
        return elements * precision_of(self.dtype).itemsize

    @property
    def resident_bytes(self) -> int:
        """A, B and C, the fp64 rows of the reference, one chunk of each for the check's conversions to fp64,
        and the weights of a digest. The products of a digest take less than the check, at another time.
        """
        reference = 8 * (2 * SAMPLED_ROWS * self.n + 2 * self.m + self.n)
        conversions = 4 * 8 * min(CHUNK_ELEMENTS, max(self.m, self.k) * self.n)
        return self.bytes + reference + conversions + WEIGHT_BYTES

    def pilots(self) -> tuple[Matmul, ...]:
        """Return cubes of side 256, 512, … 8192, up to an eighth of this work; none where this is no more
        work than a cube of side 512.
        """
        if self.flops <= 2 * 512**3:
            return ()
        return tuple(
            dataclasses.replace(self, m=side, n=side, k=side, represents=None, times=1)
            for side in _PILOT_SIDES
            if 8 * 2 * side**3 <= self.flops
        )

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedMatmul:
        """Allocate `copies` triples of A, B and C; the contents of the n-th don't depend on their number.

        Raises ValueError for an unknown fill.
        """
        check_fill(fill)
        generator = make_generator(device, seed)
        return PreparedMatmul(self, [self._buffers(fill, generator) for _ in range(copies)], seed)

    def _buffers(self, fill: str, generator: torch.Generator) -> Buffers:
        a = self._operand(self.m, self.k, self.layout[0], fill, generator)
        b = self._operand(self.k, self.n, self.layout[1], fill, generator)
        # No product is infinite everywhere, so infinity marks a result that was never written.
        return Buffers(a, b, torch.full((self.m, self.n), math.inf, dtype=a.dtype, device=a.device))

    def _operand(
        self, rows: int, columns: int, stored: str, fill: str, generator: torch.Generator
    ) -> torch.Tensor:
        if stored == "t":
            return make_filled((columns, rows), self.dtype, fill, generator).t()
        return make_filled((rows, columns), self.dtype, fill, generator)


@dataclass(frozen=True)
class Buffers:
    """The operands of one launcher: `a` (m×k) and `b` (k×n), perhaps views, and the result `c` (m×n)."""

    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor

    @property
    def launcher(self) -> Callable[[], object]:
        """The product, by torch.mm."""
        return partial(torch.mm, self.a, self.b, out=self.c)

    @property
    def launched(self) -> bool:
        """Whether anything was written to `c` since it was allocated."""
        return not bool((self.c == math.inf).all())


class PreparedMatmul(Prepared):
    """Operands in memory. The check reads C after the latest launch; `product_check` derives its bounds."""

    workload: Matmul
    buffers: tuple[Buffers, ...]

    def compute_reference(self) -> None:
        """Compute, in fp64 on the device, up to 16 rows of each copy's product and its Freivalds vector."""
        precision = precision_of(self.workload.dtype)
        if self.workload.reduction == "reduced" and self.buffers[0].c.is_cuda:
            precision = with_reduced_sums(precision)
        self._references = [make_reference(each.a, each.b, precision, self._seed) for each in self.buffers]

    def check(self) -> CheckResult:
        """Compare each copy that was launched, as `Prepared.check` says."""
        errors = [reference.deviation(buffers.c) for buffers, reference in self._launched_with_references()]
        return CheckResult(reference="fp64", error=max(errors, default=math.inf), rule=RULE)

    def digest(self) -> str | None:
        """Return a digest of the first copy's C; None where the library doesn't promise repeatable bits."""
        c = self.buffers[0].c
        return digest_of(c) if _is_repeatable(c.device) else None


def _is_repeatable(device: torch.device) -> bool:
    """Whether a product, launched again in one process on the same buffers, must give the same bits.

    - *cuBLAS*: "By design, all cuBLAS API routines from a given toolkit version, generate the same bit-wise
      results at every run when executed on GPUs with the same architecture and the same number of SMs", as
      long as a single stream is active (cuBLAS Library, Results Reproducibility); a harness launches on one.
    - *oneDNN* (bf16, fp16 on a CPU): "run-to-run deterministic execution for a fixed environment" for most
      primitives; the exceptions use atomics, "especially on some GPU devices" (Developer Guide, Primitive
      Attributes: deterministic).
    - *oneMKL* (fp32, fp64 on a CPU): the number of threads must be "fixed and constant" (Developer Guide,
      Reproducibility Conditions) and, outside its CNR modes, data must lie at the same alignment (Rosenquist,
      Getting reproducible results with Intel MKL, 2011). Within one process both hold.

    Torch names AMD's GPUs cuda too; no such promise of their libraries is known.
    """
    return device.type == "cpu" or (device.type == "cuda" and torch.version.cuda is not None)
