"""Checks that a matrix product is as accurate as its dtype allows, by two tests with derived bounds.

Legend: C = A·B, with A m×k and B k×n; ĉ is the computed element; u_out, u_in, u_acc are the unit roundoffs
of the stored result, of the inputs as the product rounds them (tf32) and of the running sum; |A||B| is the
product of absolute values; q_ij = sqrt(Σ_l (a_il b_lj)²).

**The bound.** Rounding errors are taken as independent, of mean 0 and bounded by u, as in
Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019,
A2815–A2835. A sum of such errors with weights w then stays below λ·u·‖w‖₂ with probability at least
1 − 2·exp(−λ²/2) (Hoeffding). λ = 8 leaves 2.5e-14 for each element.

- *Result*: rounding the sum once to storage costs at most u_out·|c|.
- *Running sum*: the error is Σ_l δ_l s_l with s_l the partial sums. Since |s_l| ≤ (|A||B|)_ij it is at most
  λ·√k·u_acc·(|A||B|)_ij: their bound, and the one used for fp16, bf16 and tf32, where tensor cores may
  truncate. For fp64 and fp32 the data are used as well: products of mean 0 form a random walk, so that the
  s_l differ from a share of c by q_ij, and the error is at most λ·√k·u_acc·(q_ij + |c_ij|). This is smaller
  by √k, as in Higham & Mary, Sharper probabilistic backward error analysis for basic linear algebra kernels
  with random data, SIAM J. Sci. Comput. 42(5), 2020, A3427–A3446. With this bound a silent TF32 product in an
  fp32 case fails at every k in use; with |A||B| alone it would pass from k ≈ 3000 on.
- *Short running sum* (fp16_acc16, fp8, mxfp8, nvfp4): tensor cores keep few bits of it and truncate. With
  |A||B| the bound would exceed c itself, so the data are used as for fp32. Operands are stored numbers times
  powers of two, so the reference multiplies exactly what the device does. Each product loses at most
  u_acc·|s| when it is aligned to the sum, towards 0, and its sign is as random as its own: a random walk of k
  such errors. The sum itself is truncated towards 0 once in t products (`Precision.truncated_every`); those
  errors may all have one sign: (k/t)·u_acc. Together (λ·√k + k/t)·u_acc·(q_ij + |c_ij|). At k = 4096 that is
  8 % for fp8, where DeepSeek-V3's report saw nearly 2 % at worst.
- *Integers* (int8): products and sums are exact as long as |s| ≤ k·127² < 2^31, that is to k = 133,000. u_out
  and u_acc are 0, so one wrong unit fails: an 8-bit path that saturates in 16 bits does.
- *Inputs* (tf32): each of the 2k inputs has a factor 1 + δ. Rounded to nearest, |δ| ≤ u_in with mean 0.
  Truncated, as hardware may do, δ varies by at most u_in about a mean of at most u_in. To first order c
  changes by Σ_l a_il b_lj (δ_il + δ'_lj): at most 2·u_in·|c_ij| from the means and λ·√2·u_in·q_ij from the
  variation.
- *Split sums* (fp16 and bf16 on a GPU, as torch has it by default): where the library splits K, the partial
  sums may be rounded to storage and added there; `with_reduced_sums` has the factor of q_ij and of |c_ij|.
- *Reference*: the fp64 sum of the reference has the same kind of error with u = 2^-53.

**Rows** compares every element of up to 16 random rows with that bound. **Freivalds** covers all of C: for a
random x of ±1 it compares C·x with A·(B·x), row by row (Freivalds, Probabilistic machines can use less
running time, IFIP 1977). The residual of a row is Σ_j x_j e_ij, with independent signs, so it is at most λ
times the 2-norm over j of the one-sigma errors above (the bounds without λ), where ‖(|A||B|)_i‖₂ is itself
at most ‖a_i‖₂·‖B‖_F.

**What Freivalds finds.** One wrong element is found when its error exceeds about the bound of its row. With
fills of mean 0 and r the root mean square of C, the bound is 8·u_out·√n·r plus the share of the running sum:
together 1·r (k = n = 1024) and 5·r (k = n = 16384) for bf16, 0.15·r and 1.5·r for fp16, 0.001·r and 0.016·r
for fp32. The errors of one row cancel with probability at most 1/2 over the signs; those of a wrong tile with
many rows cancel in all of them with probability 2^-rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nameplate_kernels.numerics import FP64_ROUNDOFF, Precision, find_largest_ratio, make_generator

CONFIDENCE = 8.0
"""λ: how many one-sigma errors a deviation may reach."""

SAMPLED_ROWS = 16
"""Rows of C that are compared element by element."""

CHUNK_ELEMENTS = 2**22
"""Elements converted to fp64 at a time: 32 MiB, so that a check needs no second copy of a matrix."""

RULE = (
    f"sampled rows: |ĉ−c| ≤ u_out·|c| + {CONFIDENCE:g}·√K·u_acc·(|A||B|, or its rms for IEEE sums), "
    "and every row by Freivalds"
)


@dataclass(frozen=True)
class ProductReference:
    """The kept part of a higher-precision product, small compared with C. Vectors and rows are fp64."""

    precision: Precision
    depth: int
    rows: torch.Tensor  # (r,) which rows of C are compared element by element
    sampled_c: torch.Tensor  # (r, n)
    sampled_bound: torch.Tensor  # (r, n)
    signs: torch.Tensor  # (n,) of ±1
    product_with_signs: torch.Tensor  # (m,) A·(B·x)
    row_error: torch.Tensor  # (m,) one-sigma error of C·x, without the terms that grow with ‖c_i‖

    def deviation(self, c: torch.Tensor) -> float:
        """Return the largest error of `c` (m×n, any dtype) as a fraction of its bound; infinite for NaN."""
        sampled = find_largest_ratio(c[self.rows].double() - self.sampled_c, self.sampled_bound)
        return max(sampled, *(self._freivalds(c, span) for span in _spans(c.shape[0], c.shape[1])))

    def _freivalds(self, c: torch.Tensor, span: slice) -> float:
        c64 = c[span].double()
        growing = _relative_error(self.precision, self.depth) + FP64_ROUNDOFF * math.sqrt(c.shape[1])
        bound = CONFIDENCE * (self.row_error[span] + growing * c64.norm(dim=1))
        return find_largest_ratio(c64 @ self.signs - self.product_with_signs[span], bound)


def make_reference(a: torch.Tensor, b: torch.Tensor, precision: Precision, seed: int) -> ProductReference:
    """Compute the reference of `a` (m×k) times `b` (k×n) in fp64, on their device."""
    m, n = a.shape[0], b.shape[1]
    choice = make_generator(torch.device("cpu"), seed)
    rows = torch.randperm(m, generator=choice)[:SAMPLED_ROWS].to(a.device)
    signs = (2 * torch.randint(0, 2, (n,), generator=choice) - 1).double().to(a.device)
    sampled_c, sampled_bound = _compute_rows(a[rows].double(), b, precision)
    product, row_error = _compute_with_signs(a, b, signs, precision)
    return ProductReference(precision, a.shape[1], rows, sampled_c, sampled_bound, signs, product, row_error)


def _compute_rows(
    a: torch.Tensor, b: torch.Tensor, precision: Precision
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows `a`·B and their elementwise bound."""
    k, n = b.shape
    values, bounds = [], []
    for span in _spans(n, k):
        b64 = b[:, span].double()
        c = a @ b64
        rms = (a.square() @ b64.square()).sqrt()
        spread = _spread(precision, k, rms, a.abs() @ b64.abs()) + FP64_ROUNDOFF * math.sqrt(k) * rms
        values.append(c)
        # The relative terms are sums of a few errors of at most u; only the running sum has k of them.
        summing = (CONFIDENCE - 1) * _summing_share(precision, k)
        bounds.append((_relative_error(precision, k) + summing) * c.abs() + CONFIDENCE * spread)
    return torch.cat(values, dim=1), torch.cat(bounds, dim=1)


def _compute_with_signs(
    a: torch.Tensor, b: torch.Tensor, signs: torch.Tensor, precision: Precision
) -> tuple[torch.Tensor, torch.Tensor]:
    """A·(B·x), and the one-sigma error of each row of C·x without the terms that grow with the row of C."""
    k, n = b.shape
    b_signs, b_squares = _rows_of(b, signs)
    products, errors = [], []
    for span in _spans(*a.shape):
        a64 = a[span].double()
        rms = (a64.square() @ b_squares).sqrt()
        absolute = a64.norm(dim=1) * b_squares.sum().sqrt()
        reference = FP64_ROUNDOFF * (math.sqrt(k) + math.sqrt(n)) * rms
        products.append(a64 @ b_signs)
        errors.append(_spread(precision, k, rms, absolute) + reference)
    return torch.cat(products), torch.cat(errors)


def _rows_of(b: torch.Tensor, signs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """B·x and the squared 2-norm of each row of B."""
    chunks = (b[span].double() for span in _spans(*b.shape))
    both = [(chunk @ signs, chunk.square().sum(dim=1)) for chunk in chunks]
    return torch.cat([product for product, _ in both]), torch.cat([squares for _, squares in both])


def _spread(precision: Precision, depth: int, rms: torch.Tensor, absolute: torch.Tensor) -> torch.Tensor:
    """One-sigma error from inputs and running sum, for q and |A||B| (or their 2-norms over a row)."""
    summed = absolute if precision.sums_truncate else rms
    summing = _summing_factor(precision, depth)
    others = math.sqrt(2) * precision.input_roundoff + precision.reduction_roundoff
    return others * rms + summing * summed


def _relative_error(precision: Precision, depth: int) -> float:
    """The factor of |c| in a one-sigma error."""
    rounding = precision.result_roundoff + 2 * precision.input_roundoff + precision.reduction_roundoff
    return rounding + _summing_share(precision, depth)


def _summing_share(precision: Precision, depth: int) -> float:
    return 0.0 if precision.sums_truncate else _summing_factor(precision, depth)


def _summing_factor(precision: Precision, depth: int) -> float:
    """One-sigma error of a running sum of so many products; `CONFIDENCE` of them hold the bias as it is."""
    steps = math.sqrt(depth)
    if precision.truncated_every:
        steps += depth / precision.truncated_every / CONFIDENCE
    return steps * precision.accumulate_roundoff


def _spans(length: int, width: int) -> Iterator[slice]:
    """Slices of `length` lines, each line `width` elements, that hold `CHUNK_ELEMENTS` or one line."""
    step = max(1, CHUNK_ELEMENTS // width)
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
