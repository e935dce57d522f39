"""A linear layer whose products are in fp8: forward, and both gradients, each operand scaled as it comes.

Every operand is rounded to e4m3 with one scale of its own, the largest of its numbers over the largest that
e4m3 has, found anew for each launch (dynamic scaling: Micikevicius et al., FP8 Formats for Deep Learning,
arXiv:2209.05433). Sums are as the tensor cores add them forward, and moved to fp32 registers now and then in
gradients, as is usual (NVIDIA, Transformer Engine: use_split_accumulator). Weights, activations and gradients
stay bf16: what is saved is the products' time, and not memory.

Legend: S rows, D features in, E features out. `_scaled_mm` takes the first operand in rows and the second in
columns, so a gradient's product needs an operand in the other order: that is copied after rounding, when it
is half as large.
"""

from __future__ import annotations

from typing import Any

import torch

FP8 = "fp8_e4m3"
"""The dtype of a block whose linear layers are in fp8."""

_STORED = torch.float8_e4m3fn
_LARGEST = torch.finfo(_STORED).max
_SMALLEST = 1e-12  # of a tensor of zeros, which any scale does for


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_SD: torch.Tensor, w_ED: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x_SD, w_ED)
        return _multiply(*_round(x_SD), *_round(w_ED), fast_sums=True)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_SD, w_ED = ctx.saved_tensors
        gradient_SE, scale = _round(gradients[0])
        stored_DE, w_scale = _round(w_ED, transposed=True)
        of_x_SD = _multiply(gradient_SE, scale, stored_DE, w_scale)
        stored_DS, x_scale = _round(x_SD, transposed=True)
        of_w_ED = _multiply(gradient_SE.t().contiguous(), scale, stored_DS, x_scale)
        return of_x_SD, of_w_ED


def fp8_linear(x_BTD: torch.Tensor, w_ED: torch.Tensor, bias_E: torch.Tensor | None = None) -> torch.Tensor:
    """Return x·Wᵀ + b with the product in fp8 and the result in the dtype of x, BTE.

    B·T, D and E must be multiples of 16 on a GPU.
    """
    y_SE: torch.Tensor = _Fp8Linear.apply(x_BTD.flatten(0, -2), w_ED)  # type: ignore[no-untyped-call]
    y_BTE = y_SE.view(*x_BTD.shape[:-1], -1)
    return y_BTE if bias_E is None else y_BTE + bias_E


def _round(values: torch.Tensor, *, transposed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the numbers in e4m3, in rows, and what they are to be multiplied by; transposed on asking."""
    scale = values.abs().amax().float().clamp(min=_SMALLEST) / _LARGEST
    stored = (values.float() / scale).to(_STORED)
    return stored.t().contiguous() if transposed else stored, scale


def _multiply(
    a_MK: torch.Tensor,
    a_scale: torch.Tensor,
    b_NK: torch.Tensor,
    b_scale: torch.Tensor,
    *,
    fast_sums: bool = False,
) -> torch.Tensor:
    product: torch.Tensor = torch._scaled_mm(
        a_MK, b_NK.t(), a_scale, b_scale, out_dtype=torch.bfloat16, use_fast_accum=fast_sums
    )
    return product
