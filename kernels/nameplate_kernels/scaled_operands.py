"""Operands of products in 8 and 4 bits: how numbers are stored and scaled, and the call that takes them.

Legend: A_MK, B_NK, C_MN. Both operands have K contiguous, which cuBLASLt requires of fp8 on Hopper; the call
gets B_NK as its transpose.

A scale multiplies a *block* of numbers: all of them (`tensor`), those of a row of A and of a column of B
(`rows`), or 1×128 of A and 128×128 of B (`blocks`, as DeepSeek-V3 has it). mxfp8 has one for each 1×32, nvfp4
one for each 1×16. Scales here are powers of two, the smallest that fit the block's largest number: a stored
number times its scale is exact in fp32, and a reference multiplies what the device multiplies.

Calls by torch 2.11 to 2.13: `torch._scaled_mm`, which tells the scaling by dtypes, shapes and strides of the
scales, and `torch._int_mm`. What CUDA's part of them demands stands in ScaledBlas.cpp and Blas.cpp of torch's
aten/src/ATen/native/cuda; `why_refused` and `why_lacking` say it beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from nameplate_kernels.numerics import PRODUCT_PRECISIONS
from nameplate_kernels.product_backends import Kept

SCALINGS = ("tensor", "rows", "blocks")
"""How fp8 operands are scaled; the other formats leave no choice."""

_BLOCK = 128
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # OCP Microscaling Formats 1.0, section 5.3.3
# Between neighbours; the upper of two that are as near is taken.
_E2M1_BETWEEN = tuple((low + high) / 2 for low, high in itertools.pairwise(_E2M1))
_PER_BYTE = 2


@dataclass(frozen=True)
class Format:
    """How the operands of one dtype are stored: torch's dtypes, the largest numbers, the elements of a scale.

    `group` is how many neighbours along K share a scale; 0 where the scaling says it. `scale` is the dtype of
    the scales, None where there are none. `capability` is the least compute capability of a GPU that has it.
    """

    a: torch.dtype
    b: torch.dtype
    largest_a: float
    largest_b: float
    scale: torch.dtype | None
    capability: tuple[int, int]
    group: int = 0


_E4M3, _E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
# Compute capabilities: fp8 from 8.9 (torch's own check of _scaled_mm), block formats from 10.0 (cuBLAS,
# "Block scaling"), int8 tensor cores from 7.5 (NVIDIA Turing whitepaper).
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "fp8_e4m3": Format(_E4M3, _E4M3, 448.0, 448.0, torch.float32, (8, 9)),
        "fp8_e5m2": Format(_E5M2, _E4M3, 57344.0, 448.0, torch.float32, (8, 9)),
        "mxfp8": Format(_E4M3, _E4M3, 448.0, 448.0, torch.float8_e8m0fnu, (10, 0), group=32),
        "nvfp4": Format(torch.float4_e2m1fn_x2, torch.float4_e2m1fn_x2, 6.0, 6.0, _E4M3, (10, 0), group=16),
        "int8": Format(torch.int8, torch.int8, 127.0, 127.0, None, (7, 5)),
    }
)
"""The dtypes whose operands are stored in 8 or 4 bits."""

# cuBLASLt has products scaled by blocks of 128 on Hopper alone (cuBLAS, "1D and 2D block scaling for FP8"),
# since CUDA 12.9 (torch's `_check_deepseek_support`); those with a scale for each 16 or 32 since CUDA 12.8.
_BLOCKS_MAJOR = 9
_BLOCKS_CUDA, _GROUPS_CUDA = (12, 9), (12, 8)
# It wants the scales of 128×128 padded to fours along K (torch pads them in its own tests). `_scaled_mm`
# takes none that are padded, and hands on the address of those it takes.
_BLOCKS_ALONG_K = 4
# What torch's CUDA code checks of sizes, besides blocks: fp8 as stored (4 bits: two in a byte), and int8.
_FLOAT_MULTIPLE, _INTEGER_MULTIPLE, _LEAST_INTEGER_ROWS = 16, 8, 17
# The e4m3 scales of nvfp4 hold these powers of two exactly.
_SCALE_EXPONENTS = (-9, 8)


def why_lacking(dtype: str, scaling: str, device: torch.device) -> str | None:
    """Return why torch can't multiply this dtype on a device, in one clause; None where it can.

    A GPU by its compute capability, and torch by the CUDA that it was built for. On a CPU torch computes
    int8, and fp8 by one scale or one a row; a GPU that is only modelled (`meta`) has figures of these alone.
    """
    is_by_blocks = scaling == "blocks" or FORMATS[dtype].group
    if device.type != "cuda":
        whose = "torch has no" if device.type == "cpu" else "the twin has no model of"
        where = " on a CPU" if device.type == "cpu" else ""
        return f"{whose} {dtype} products with blocks of scales{where}" if is_by_blocks else None
    form, found = FORMATS[dtype], torch.cuda.get_device_capability(device)
    has = f"this device has compute capability {found[0]}.{found[1]}"
    if found < form.capability:
        return f"{dtype} products need compute capability {form.capability[0]}.{form.capability[1]}; {has}"
    if scaling == "blocks" and found[0] != _BLOCKS_MAJOR:
        return f"cuBLASLt scales by blocks of 128 on compute capability {_BLOCKS_MAJOR}.0 alone; {has}"
    needed = _BLOCKS_CUDA if scaling == "blocks" else _GROUPS_CUDA
    built = torch.version.cuda
    if is_by_blocks and built is not None and tuple(map(int, built.split(".")[:2])) < needed:
        least = ".".join(map(str, needed))
        return f"{dtype} products with blocks of scales need CUDA {least}; this torch is built for {built}"
    return None


def why_refused(m: int, n: int, k: int, dtype: str, scaling: str, device: torch.device) -> str | None:
    """Return why a product of these sizes is refused on a GPU, in one clause; None where it isn't."""
    if device.type == "cpu":
        return None
    form = FORMATS[dtype]
    if dtype == "int8":
        if m < _LEAST_INTEGER_ROWS:
            return f"int8 products on a GPU have {_LEAST_INTEGER_ROWS} rows at least, not {m}"
        multiples = {"N": (n, _INTEGER_MULTIPLE), "K": (k, _INTEGER_MULTIPLE)}
    else:
        stored = _PER_BYTE if form.a == torch.float4_e2m1fn_x2 else 1
        multiples = {"N": (n, _FLOAT_MULTIPLE), "K": (k, max(stored * _FLOAT_MULTIPLE, form.group))}
    if scaling == "blocks":
        multiples = {"N": (n, _BLOCK), "K": (k, _BLOCKS_ALONG_K * _BLOCK)}
    for name, (size, multiple) in multiples.items():
        if size % multiple:
            by = " by blocks of 128" if scaling == "blocks" else ""
            return f"{name} of {dtype} products{by} is a multiple of {multiple} on a GPU, not {size}"
    return None


@dataclass(frozen=True)
class Operand:
    """One operand: numbers as stored (rows×K, or rows×K/2 of two in a byte), and the factor of each block.

    `factors` has a row for each block of rows and a column for each block along K; `scale` is the same as the
    call takes it, None where it takes none.
    """

    stored: torch.Tensor
    factors: torch.Tensor
    scale: torch.Tensor | None
    depth: int

    def values(self) -> torch.Tensor:
        """Return the numbers that are multiplied, exactly: a new fp32 tensor, rows×K."""
        numbers = _decode_e2m1(self.stored) if _is_packed(self.stored) else self.stored.float()
        rows, columns = self.factors.shape
        blocks = numbers.view(rows, numbers.shape[0] // rows, columns, self.depth // columns)
        return (blocks * self.factors[:, None, :, None]).view(numbers.shape)


def make_operand(values: torch.Tensor, dtype: str, which: str, scaling: str) -> Operand:
    """Store `values` (fp32, rows×K) as operand `which`, `a` or `b`, of a product of `dtype`.

    Raises ValueError for sizes that blocks don't divide.
    """
    form = FORMATS[dtype]
    rows, depth = values.shape
    storage, largest = (form.a, form.largest_a) if which == "a" else (form.b, form.largest_b)
    high, wide = _block_shape(form, which, scaling, rows, depth)
    if rows % high or depth % wide:
        raise ValueError(f"matmul: {dtype} has blocks of {high}x{wide}, which don't divide {rows}x{depth}")
    blocks = values.reshape(rows // high, high, depth // wide, wide)
    exponents = torch.frexp(blocks.abs().amax(dim=(1, 3)) / largest).exponent
    if form.scale == _E4M3:
        exponents = exponents.clamp(*_SCALE_EXPONENTS)
    factors = torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents)
    numbers = (blocks / factors[:, None, :, None]).view(rows, depth)
    if storage == torch.int8:
        # Whoever uses the result knows the factor; the product itself is one of integers.
        return Operand(numbers.round().to(storage), torch.ones_like(factors), None, depth)
    stored = _encode_e2m1(numbers) if storage == torch.float4_e2m1fn_x2 else numbers.to(storage)
    return Operand(stored, factors, _lay_out(factors, form, which, scaling), depth)


def make_scales(
    rows: int, depth: int, dtype: str, which: str, scaling: str, like: torch.Tensor
) -> torch.Tensor | None:
    """Return scales of 1 for an operand of rows×depth, as the call takes them, where the tensor `like` is;
    None where it takes none.
    """
    form = FORMATS[dtype]
    if form.scale is None:
        return None
    high, wide = _block_shape(form, which, scaling, rows, depth)
    ones = like.new_ones((rows // high, depth // wide), dtype=torch.float32)
    return _lay_out(ones, form, which, scaling)


def make_launch(
    a: torch.Tensor,
    b: torch.Tensor,
    scale_a: torch.Tensor | None,
    scale_b: torch.Tensor | None,
    c: torch.Tensor,
    fast_sums: bool,
) -> Callable[[], object]:
    """Return the call that multiplies stored numbers, A_MK by B_NK; `c` is for the result, or its like.

    With `fast_sums` fp8 adds in the tensor cores alone; without it, sums are moved to fp32 registers now
    and then (cuBLASLt, CUBLASLT_MATMUL_DESC_FAST_ACCUM).
    """
    if scale_a is None or scale_b is None:
        return partial(torch._int_mm, a, b.t(), out=c)
    # Not into `c`: torch has no meta function of that form, which a simulated device is told of work by.
    call = partial(torch._scaled_mm, a, b.t(), scale_a, scale_b, out_dtype=c.dtype, use_fast_accum=fast_sums)
    return Kept(call, c)


def has_fast_sums(dtype: str, scaling: str) -> bool:
    """Whether a launch asks for sums in the tensor cores alone: fp8 with scales outside of the sum."""
    return dtype.startswith("fp8") and scaling != "blocks"


def _block_shape(form: Format, which: str, scaling: str, rows: int, depth: int) -> tuple[int, int]:
    """Rows and elements along K that share a scale."""
    if form.group:
        return 1, form.group
    if scaling == "rows":
        return 1, depth
    if scaling == "blocks":
        return (1, _BLOCK) if which == "a" else (_BLOCK, _BLOCK)
    return rows, depth


def _lay_out(factors: torch.Tensor, form: Format, which: str, scaling: str) -> torch.Tensor:
    """Return scales in the order that the call takes them."""
    assert form.scale is not None
    if form.group:
        return _swizzle(factors.to(form.scale))
    if scaling == "tensor":
        return factors.reshape(())
    if which == "b":
        return factors.t()
    # Of 1×128, all rows of a column come first.
    return factors.t().contiguous().t() if scaling == "blocks" else factors


def _swizzle(scales: torch.Tensor) -> torch.Tensor:
    """Return scales in tiles of 128 rows by 4, padded with 0, each tile as 32 times 4 rows (cuBLAS, "1D block
    scaling factors layout").
    """
    rows, columns = scales.shape
    raw = scales.view(torch.uint8)
    padded = torch.nn.functional.pad(raw, (0, -columns % 4, 0, -rows % 128))
    tiles = padded.view(padded.shape[0] // 128, 128, padded.shape[1] // 4, 4).permute(0, 2, 1, 3)
    swizzled = tiles.reshape(-1, 4, 32, 4).transpose(1, 2).reshape(-1)
    return swizzled.contiguous().view(scales.dtype)


def _is_packed(stored: torch.Tensor) -> bool:
    return stored.dtype == torch.float4_e2m1fn_x2


def _encode_e2m1(numbers: torch.Tensor) -> torch.Tensor:
    """Round to e2m1; of two neighbours along K the first is in the low bits of a byte."""
    between = torch.tensor(_E2M1_BETWEEN, device=numbers.device)
    codes = torch.bucketize(numbers.abs().contiguous(), between, right=True).to(torch.uint8)
    codes = codes | (torch.signbit(numbers).to(torch.uint8) << 3)
    return (codes[:, ::_PER_BYTE] | (codes[:, 1::_PER_BYTE] << 4)).contiguous().view(torch.float4_e2m1fn_x2)


def _decode_e2m1(stored: torch.Tensor) -> torch.Tensor:
    raw = stored.view(torch.uint8)
    codes = torch.stack((raw & 15, raw >> 4), dim=-1).view(raw.shape[0], -1)
    numbers = torch.tensor(_E2M1, device=stored.device)[(codes & 7).long()]
    return torch.where(codes >= 8, -numbers, numbers)


assert FORMATS.keys() <= PRODUCT_PRECISIONS.keys()
