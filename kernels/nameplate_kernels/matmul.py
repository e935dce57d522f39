"""Dense matrix product C = A·B through the vendor's library (cuBLAS, oneDNN, MKL), called as torch.mm.

Legend: A_MK, B_KN, C_MN. A transposed operand is stored as its transpose and passed as a view; torch then
calls the library with its transpose flag. `product_backends` has the other libraries that may be called,
`scaled_operands` the products in 8 and 4 bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.numerics import (
    FILLS,
    HALVES,
    Precision,
    check_fill,
    make_generator,
    product_precision_of,
    with_reduced_sums,
)
from nameplate_kernels.product_backends import TORCH, find_backend, result_of, why_backend_cant
from nameplate_kernels.product_check import (
    CHUNK_ELEMENTS,
    RULE,
    SAMPLED_ROWS,
    make_reference,
)
from nameplate_kernels.scaled_operands import (
    FORMATS,
    SCALINGS,
    Operand,
    has_fast_sums,
    make_launch,
    make_operand,
    why_lacking,
    why_refused,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload

LAYOUTS = ("nn", "nt", "tn", "tt")
"""First letter A, second B: n is stored as used, t is stored transposed."""

SCALED_LAYOUT = "nt"
"""The layout of products in 8 and 4 bits: K contiguous in both operands."""


def layouts_of(dtype: str) -> tuple[str, ...]:
    """Return the layouts that products of this dtype may have."""
    return (SCALED_LAYOUT,) if dtype in FORMATS else LAYOUTS


_PILOT_SIDES = (256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Matmul(Workload):
    """C (m×n) = A (m×k) · B (k×n), all in one dtype; fp16, bf16 and tf32 accumulate in fp32.

    `numerics.PRODUCT_PRECISIONS` has the dtypes, those in 8 and 4 bits with results of their own. `scaling`,
    one of `SCALINGS`, says how fp8 is scaled. `backend` names who multiplies, one of `PRODUCT_BACKENDS`;
    `algorithm` is which of its ways. int8 counts operations as the others count FLOPs.

    Counts 2·m·n·k FLOPs and, in bytes, A, B and C once each. `layout` is one of `LAYOUTS`. `represents` names
    the model that has this product in a layer, and `times` how often a pass through the layer runs it. With
    `fp32_sums` the partial sums of a split K are added in fp32 too, which torch doesn't ask for by itself.
    Raises ValueError for a size below 1, an unknown dtype, layout, scaling or backend, for `fp32_sums` with a
    dtype that isn't fp16 or bf16, and for a layout or scaling that the dtype doesn't have.
    """

    m: int
    n: int
    k: int
    dtype: str
    layout: str = "nn"
    represents: str | None = None
    times: int = 1
    fp32_sums: bool = False
    scaling: str = "tensor"
    backend: str = TORCH
    algorithm: int = 0

    name = "matmul"
    convention = "2MNK"

    def __post_init__(self) -> None:
        product_precision_of(self.dtype)
        find_backend(self.backend)
        if min(self.m, self.n, self.k) < 1:
            raise ValueError(f"matmul: sizes must be at least 1, got {self.m}x{self.n}x{self.k}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"matmul: unknown layout {self.layout!r}; expected one of {', '.join(LAYOUTS)}")
        if self.fp32_sums and self.dtype not in HALVES:
            raise ValueError(f"matmul: fp32_sums is a choice of {' and '.join(HALVES)}, got {self.dtype!r}")
        if self.layout not in layouts_of(self.dtype):
            raise ValueError(
                f"matmul: {self.dtype} products have the layout {SCALED_LAYOUT}, got {self.layout!r}"
            )
        choices = SCALINGS if self.dtype.startswith("fp8") else SCALINGS[:1]
        if self.scaling not in choices:
            known = ", ".join(choices)
            raise ValueError(
                f"matmul: unknown scaling of {self.dtype} {self.scaling!r}; expected one of {known}"
            )

    @property
    def is_scaled(self) -> bool:
        """Whether its operands are stored in 8 or 4 bits."""
        return self.dtype in FORMATS

    @property
    def shape(self) -> str:
        """`MxNxK`, followed by the layout unless it is nn, by `fp32sums` where that is asked for, and by a
        scaling other than one scale for all: `1024x1024x1024-nt-fp32sums`, `1024x1024x1024-rows`. The only
        layout of 8 and 4 bits isn't named.
        """
        sizes = f"{self.m}x{self.n}x{self.k}"
        layout = "" if self.layout == "nn" or self.is_scaled else f"-{self.layout}"
        return sizes + layout + ("-fp32sums" if self.fp32_sums else "") + scaling_suffix(self.scaling)

    @property
    def reduction(self) -> str | None:
        """See `Workload.reduction`."""
        return "fp32" if self.fp32_sums else super().reduction

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """m, n, k, the layout, and how often a layer runs the product; of 8 and 4 bits also how it is scaled,
        and whether sums stay in the tensor cores; of a backend that has several ways, which.
        """
        found: dict[str, int | str] = {
            "m": self.m,
            "n": self.n,
            "k": self.k,
            "layout": self.layout,
            "times": self.times,
        }
        if self.dtype.startswith("fp8"):
            sums = "fast" if has_fast_sums(self.dtype, self.scaling) else "promoted"
            found |= {"scaling": self.scaling, "sums": sums}
        if find_backend(self.backend).algorithms > 1:
            found["algorithm"] = self.algorithm
        return found

    @property
    def flops(self) -> int:
        """2·m·n·k: a multiplication and an addition for each of m·n·k products."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """A and B read once, C written once; without the scales, 3 % at most."""
        precision = product_precision_of(self.dtype)
        operands = (self.m * self.k + self.k * self.n) * precision.operand_bits // 8
        return operands + self.m * self.n * precision.result_dtype.itemsize

    @property
    def resident_bytes(self) -> int:
        """A, B and C, the fp64 rows of the reference, one chunk of each for the check's conversions to fp64,
        and the weights of a digest. The products of a digest take less than the check, at another time.
        """
        reference = 8 * (2 * SAMPLED_ROWS * self.n + 2 * self.m + self.n)
        conversions = 4 * 8 * min(CHUNK_ELEMENTS, max(self.m, self.k) * self.n)
        if self.is_scaled:  # the numbers before they are stored, and again to compute the reference, in fp32
            conversions += 3 * 4 * max(self.m, self.n) * self.k + 4 * (self.m + self.n) * self.k
        # A second C, where a call allocates its own, and a second B.
        packed = 0 if self.backend == TORCH and not self.is_scaled else self.bytes
        return self.bytes + reference + conversions + packed + WEIGHT_BYTES

    @property
    def thread_pool(self) -> str | None:
        """Whose threads compute it, where they aren't torch's."""
        return find_backend(self.backend).thread_pool

    @property
    def compile_allowance_s(self) -> float:
        """Seconds that preparing it may take besides, where its backend compiles."""
        return find_backend(self.backend).setup_s

    def unsupported(self, device: torch.device) -> str | None:
        """Return why `device` hasn't this dtype, or the backend can't, in one clause; None: it can run."""
        reason = super().unsupported(device)
        if reason is None and self.dtype == "fp16_acc16" and device.type == "cpu":
            reason = f"sums in fp16 are a choice of CUDA's products; this is a {device.type} device"
        if reason is None and self.is_scaled:
            reason = why_lacking(self.dtype, self.scaling, device) or why_refused(
                self.m, self.n, self.k, self.dtype, self.scaling, device
            )
        return reason or why_backend_cant(self.backend, self.dtype, device)

    def pilots(self) -> tuple[Matmul, ...]:
        """Return cubes of side 256, 512, … 8192 by torch, up to an eighth of this work; none where this is no
        more work than a cube of side 512.
        """
        if self.flops <= 2 * 512**3:
            return ()
        return tuple(
            dataclasses.replace(
                self, m=side, n=side, k=side, represents=None, times=1, backend=TORCH, algorithm=0
            )
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
        if self.is_scaled:
            values = (draw(rows * self.k, "fp32", fill, generator) for rows in (self.m, self.n))
            first, second = (
                make_operand(each.view(-1, self.k), self.dtype, which, self.scaling)
                for which, each in zip("ab", values, strict=True)
            )
            return ScaledBuffers(self, first, second)
        a = view_operand(draw(self.m * self.k, self.dtype, fill, generator), self.m, self.k, self.layout[0])
        b = view_operand(draw(self.k * self.n, self.dtype, fill, generator), self.k, self.n, self.layout[1])
        return Buffers(self, a, b)


def scaling_suffix(scaling: str) -> str:
    """Return what the shape of a case says of the scaling: nothing of one scale for all."""
    return "" if scaling == SCALINGS[0] else f"-{scaling}"


def draw(count: int, dtype: str, fill: str, generator: torch.Generator) -> torch.Tensor:
    """Return so many numbers in the storage of `dtype`, on the generator's device."""
    storage = product_precision_of(dtype).storage
    return FILLS[fill](torch.empty(count, dtype=storage, device=generator.device), generator)


def view_operand(flat: torch.Tensor, rows: int, columns: int, stored: str) -> torch.Tensor:
    """Return the first numbers of `flat` as rows×columns, stored as they are used (n) or transposed (t)."""
    used = flat[: rows * columns]
    return used.view(columns, rows).t() if stored == "t" else used.view(rows, columns)


def make_marked(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a result that was never written: no product is `unwritten_mark` everywhere."""
    return torch.full(shape, unwritten_mark(dtype), dtype=dtype, device=device)


def unwritten_mark(dtype: torch.dtype) -> float:
    """Infinity; of integers the least number."""
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


class Buffers:
    """The operands of one launcher, `a` (m×k) and `b` (k×n), perhaps views, and the result `c` (m×n)."""

    def __init__(self, product: Matmul, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a, self.b = a, b
        precision = product_precision_of(product.dtype)
        self._c = make_marked((product.m, product.n), precision.result_dtype, a.device)
        self._unwritten = self._c
        self.launcher: Callable[[], object] = self._make_launcher(product)

    def _make_launcher(self, product: Matmul) -> Callable[[], object]:
        return find_backend(product.backend).make(self.a, self.b, self._c, product.algorithm)

    @property
    def c(self) -> torch.Tensor:
        """The latest result."""
        return result_of(self.launcher, self._c)

    @property
    def launched(self) -> bool:
        """Whether anything was written to `c` since it was allocated."""
        return not bool((self.c == unwritten_mark(self.c.dtype)).all())

    def exact_operands(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B with the numbers that are multiplied."""
        return self.a, self.b


class ScaledBuffers(Buffers):
    """The same with operands in 8 or 4 bits: `a` (m×k) and `b` (n×k) as stored, with their scales."""

    def __init__(self, product: Matmul, a: Operand, b: Operand) -> None:
        self._operands = a, b
        super().__init__(product, a.stored, b.stored)

    def _make_launcher(self, product: Matmul) -> Callable[[], object]:
        if product.backend != TORCH:
            return find_backend(product.backend).make(self.a, self.b.t(), self._c, product.algorithm)
        a, b = self._operands
        fast = has_fast_sums(product.dtype, product.scaling)
        return make_launch(a.stored, b.stored, a.scale, b.scale, self._c, fast)

    def exact_operands(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B with the numbers that are multiplied, in fp32: new tensors."""
        a, b = self._operands
        return a.values(), b.values().t()


class PreparedMatmul(Prepared):
    """Operands in memory. The check reads C after the latest launch; `product_check` derives its bounds."""

    workload: Matmul
    buffers: tuple[Buffers, ...]

    def compute_reference(self) -> None:
        """Compute, in fp64 on the device, up to 16 rows of each copy's product and its Freivalds vector."""
        precision = self._find_precision()
        self._references = [
            make_reference(*each.exact_operands(), precision, self._seed) for each in self.buffers
        ]

    def _find_precision(self) -> Precision:
        """Return how the product rounds, by dtype, backend and device."""
        work = self.workload
        precision, backend = product_precision_of(work.dtype), find_backend(work.backend)
        if work.is_scaled and backend.result_roundoff is not None:
            precision = dataclasses.replace(precision, result_roundoff=backend.result_roundoff)
        if work.reduction == "reduced" and self.buffers[0].c.is_cuda:
            precision = with_reduced_sums(precision)
        return precision

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
