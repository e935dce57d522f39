"""Dtype names, their rounding, torch's process-wide precision settings, and fills.

The *unit roundoff* of a format with p significant bits is u = 2^-p: rounding to nearest changes a number by
a factor 1 + δ with |δ| ≤ u (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch


@dataclass(frozen=True)
class Precision:
    """How one dtype stores numbers and how its matrix products round."""

    storage: torch.dtype
    """The torch dtype in memory; tf32 lives in fp32."""

    result_roundoff: float
    """Unit roundoff of a stored result."""

    accumulate_roundoff: float
    """Unit roundoff of the sum inside a matrix product."""

    input_roundoff: float = 0.0
    """Unit roundoff of the inputs as a product rounds them first; 0 where it doesn't."""

    operand_roundoff: float = 0.0
    """Unit roundoff of operands that are rounded to another format than they are stored in, for each product
    anew; 0 where they aren't.
    """

    sums_truncate: bool = False
    """Whether tensor cores may truncate a running sum instead of rounding it, which biases the error
    (Fasi, Higham, Mikaitis and Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330, 2021).
    """

    reduction_roundoff: float = 0.0
    """One-sigma error of adding the partial sums of a split product, relative to their root mean square; 0
    where they are added as any other part of the sum.
    """

    truncated_every: int = 0
    """Products that are added between two truncations of a short running sum, each towards 0, so that their
    errors add up; 0 for a sum that is rounded, or long enough for `sums_truncate` to bound it.
    """

    result: torch.dtype | None = None
    """The torch dtype of a product's result, where it isn't that of the operands."""

    bits: int = 0
    """Bits of a stored element; 0: those of `storage`."""

    @property
    def itemsize(self) -> int:
        """Bytes one stored element takes; with several in a byte, those of that byte."""
        return self.storage.itemsize

    @property
    def operand_bits(self) -> int:
        """Bits one stored element of an operand takes."""
        return self.bits or 8 * self.storage.itemsize

    @property
    def result_dtype(self) -> torch.dtype:
        """The torch dtype of a product's result."""
        return self.result or self.storage


_FP64, _FP32, _HALF, _BF16 = 2.0**-53, 2.0**-24, 2.0**-11, 2.0**-8
# Tensor cores of Hopper add products of fp8 with some 14 bits (DeepSeek-AI, DeepSeek-V3 Technical Report,
# arXiv:2412.19437, section 3.5.2), in steps of 32 products (PTX ISA, wgmma: .k32 for fp8).
_SHORT_SUM, _FP8_STEP = 2.0**-13, 32
_FP16_STEP = 16  # PTX ISA, mma and wgmma: .k16 for fp16

PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "fp64": Precision(torch.float64, _FP64, _FP64),
        "fp32": Precision(torch.float32, _FP32, _FP32),
        "tf32": Precision(torch.float32, _FP32, _FP32, input_roundoff=_HALF, sums_truncate=True),
        "fp16": Precision(torch.float16, _HALF, _FP32, sums_truncate=True),
        "bf16": Precision(torch.bfloat16, _BF16, _FP32, sums_truncate=True),
    }
)
"""Every dtype that torch computes in like any other, by the name used in case ids."""

_FP8 = Precision(torch.float8_e4m3fn, _BF16, _SHORT_SUM, truncated_every=_FP8_STEP, result=torch.bfloat16)

PRODUCT_PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        **PRECISIONS,
        "fp16_acc16": Precision(torch.float16, _HALF, _HALF, truncated_every=_FP16_STEP),
        "fp8_e4m3": _FP8,
        "fp8_e5m2": replace(_FP8, storage=torch.float8_e5m2),
        "mxfp8": _FP8,
        "nvfp4": replace(_FP8, storage=torch.uint8, bits=4),
        "int8": Precision(torch.int8, 0.0, 0.0, result=torch.int32),
    }
)
"""Those, and the dtypes that only matrix products are in.

`fp16_acc16` adds in fp16. The operands of `fp8_e5m2` are e5m2 and e4m3, as those of a backward pass: cuBLASLt
has no product of two e5m2 matrices. `mxfp8` is e4m3 with a scale for each 32 elements, `nvfp4` e2m1, two in a
byte, with one for each 16 (OCP Microscaling Formats 1.0; NVIDIA, cuBLAS: block scaling). Results of these are
bf16. `int8` gives int32, without any error while k·127² < 2^31.
"""

REDUCTIONS = ("reduced", "fp32")
"""How a GPU's library may add the partial sums of an fp16 or bf16 product whose K it splits: stored and added
in the product's dtype, which torch allows unless it is told otherwise, or in fp32.
"""

HALVES = ("fp16", "bf16")
"""The dtypes for which `REDUCTIONS` differ."""

# Taken as the most parts that a library splits K into. NVIDIA documents no limit (cublasLt.h:
# CUBLASLT_ALGO_CONFIG_SPLITK_NUM); products large enough to fill a GPU are split into few, or not at all.
_MOST_SPLITS = 32

FP64_ROUNDOFF = _FP64
"""Unit roundoff of the references computed in fp64."""


def precision_of(dtype: str) -> Precision:
    """Return the `Precision` of a dtype name. Raises ValueError for a name not in `PRECISIONS`."""
    try:
        return PRECISIONS[dtype]
    except KeyError:
        raise ValueError(f"unknown dtype {dtype!r}; expected one of {', '.join(PRECISIONS)}") from None


def product_precision_of(dtype: str) -> Precision:
    """Return the `Precision` of a product's dtype. Raises ValueError for one not in `PRODUCT_PRECISIONS`."""
    try:
        return PRODUCT_PRECISIONS[dtype]
    except KeyError:
        known = ", ".join(PRODUCT_PRECISIONS)
        raise ValueError(f"unknown dtype {dtype!r}; expected one of {known}") from None


def reference_dtype(dtype: str) -> torch.dtype:
    """Return what a reference is computed in: fp64 for fp32, else fp32."""
    return torch.float64 if dtype == "fp32" else torch.float32


def with_reduced_sums(precision: Precision) -> Precision:
    """Return the precision of products whose partial sums may be added in the dtype of the result.

    S partial sums of a random walk that ends at root mean square q are each rounded to storage: together
    u·q, whatever S is. The sums of 1, 2, … S of them are rounded too, with squares of q²·j/S that add up to
    about q²·S/2.
    """
    return replace(precision, reduction_roundoff=precision.result_roundoff * math.sqrt(1 + _MOST_SPLITS / 2))


MODELLED = "meta"
"""The device type of a GPU that isn't there: something models what would run on it. It says of itself which
dtypes it has figures of.
"""


def tf32_unsupported(device: torch.device) -> str | None:
    """Return why `device` has no TF32, in one clause; None when it has."""
    what = "tf32 is a mode of NVIDIA tensor cores, Ampere and later"
    if device.type == MODELLED:
        return None
    if device.type != "cuda":
        return f"{what}; this is a {device.type} device"
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= 8 else f"{what}; this device has compute capability {major}.{minor}"


@contextmanager
def numerics(dtype: str, reduction: str | None = None) -> Iterator[None]:
    """Set torch's process-wide precision as `dtype` needs it; restored on exit.

    fp64 and fp32 mean IEEE arithmetic: no product falls back to TF32 on a GPU, or to bf16 or TF32 on a CPU.
    tf32 allows TF32 in CUDA's products. fp16 and bf16 accumulate in fp32, fp16_acc16 in fp16; `reduction`,
    one of `REDUCTIONS`, says how the sums of a split K are added, by default as torch does it. Raises
    ValueError for an unknown dtype or reduction.
    """
    # All of it is set for every dtype, so that nothing depends on earlier settings. Only `fp32_precision` is
    # used: torch refuses to mix it with the older `allow_tf32`.
    product_precision_of(dtype)
    if reduction is not None and reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    backends: Any = torch.backends
    cuda = "tf32" if dtype == "tf32" else "ieee"
    with ExitStack() as restored:
        restored.enter_context(_fp32_precision(backends, cuda))
        restored.enter_context(_fp32_precision(backends.cuda.matmul, cuda))
        restored.enter_context(_fp32_precision(backends.mkldnn.matmul, "ieee"))
        restored.enter_context(_reductions(allowed=reduction != "fp32", in_fp16=dtype == "fp16_acc16"))
        yield


@contextmanager
def _fp32_precision(owner: Any, value: str) -> Iterator[None]:
    before = owner.fp32_precision
    owner.fp32_precision = value
    try:
        yield
    finally:
        # A setting without a value of its own reads as the inherited one, and "none" makes it inherit again.
        owner.fp32_precision = "none"
        if owner.fp32_precision != before:
            owner.fp32_precision = before


@contextmanager
def _reductions(*, allowed: bool, in_fp16: bool) -> Iterator[None]:
    """Allow split sums in the dtype of the result, or not; fp16 in the running sum only where asked for."""
    matmul: Any = torch.backends.cuda.matmul
    reductions = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {name: (getattr(matmul, name), getattr(matmul, f"{name}_split_k")) for name in reductions}
    accumulation = matmul.allow_fp16_accumulation
    for name in reductions:
        setattr(matmul, name, allowed)
    matmul.allow_fp16_accumulation = in_fp16
    try:
        yield
    finally:
        for name, setting in before.items():
            setattr(matmul, name, setting)
        matmul.allow_fp16_accumulation = accumulation


FILLS: Mapping[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = MappingProxyType(
    {
        "normal": lambda tensor, generator: tensor.normal_(generator=generator),
        "uniform": lambda tensor, generator: tensor.uniform_(-1.0, 1.0, generator=generator),
        "integers": lambda tensor, generator: tensor.random_(-2, 3, generator=generator),
        "zeros": lambda tensor, generator: tensor.zero_(),
    }
)
"""The fills of a tensor: N(0, 1), [−1, 1), the integers −2 to 2, or zeros. Each has mean 0."""


def check_fill(fill: str) -> None:
    """Raise ValueError unless `fill` is one of `FILLS`; to be called before anything is allocated."""
    if fill not in FILLS:
        raise ValueError(f"unknown fill {fill!r}; expected one of {', '.join(FILLS)}")


def make_generator(device: torch.device, seed: int) -> torch.Generator:
    """Return a generator on `device`. On one kind of device the same seed gives the same bits."""
    return torch.Generator(device=device).manual_seed(seed)


def make_filled(shape: Sequence[int], dtype: str, fill: str, generator: torch.Generator) -> torch.Tensor:
    """Return a new tensor of `shape` in the storage of `dtype`, on the generator's device, filled by `fill`.

    Raises ValueError for an unknown dtype or fill.
    """
    check_fill(fill)
    tensor = torch.empty(tuple(shape), dtype=precision_of(dtype).storage, device=generator.device)
    return FILLS[fill](tensor, generator)


def find_largest_ratio(deviation: torch.Tensor, bound: torch.Tensor) -> float:
    """Return the largest |deviation| ÷ bound, elementwise; both have one shape.

    A deviation of 0 gives 0, even where the bound is 0. NaN in either counts as infinite, and so does a bound
    that is infinite: an element so large that the bound overflowed would be excused by itself.
    """
    ratio = torch.where(bound.isinf(), torch.inf, deviation.abs() / bound)
    ratio = torch.where(deviation == 0, 0.0, ratio)
    return float(ratio.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
