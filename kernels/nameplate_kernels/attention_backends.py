"""Who computes attention: torch's backends by name, whether one can run here, and how it is asked for.

torch chooses among its backends by itself, and its choice isn't always the fastest. So the backend is an axis
of a case, and `default` is torch's choice.

Legend of the suffixes: B batch, T tokens, H query heads, G key/value heads (G divides H), Q features of a
head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from nameplate_kernels.numerics import HALVES, MODELLED, precision_of

_OF_TORCH = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
# FlashAttention 3 and 4, packages of their own, take the place of torch's flash kernel where installed.
_INSTALLED = {"fa3": "FA3", "fa4": "FA4"}
DEFAULT = "default"

ATTENTION_BACKENDS = (DEFAULT, *_OF_TORCH, "flex", *_INSTALLED)
"""`default`: torch's own choice; `math`: products and a softmax; torch's fused kernels by name;
FlexAttention; FlashAttention 3 and 4.
"""

_ON_CPU = (DEFAULT, "math", "flash")
_ON_TWIN = (DEFAULT, "flash")  # it has one model of fused attention
_TRIED_TOKENS = 256


def check_attention_backend(name: str) -> None:
    """Raise ValueError unless it is one of `ATTENTION_BACKENDS`."""
    if name not in ATTENTION_BACKENDS:
        raise ValueError(
            f"unknown attention backend {name!r}; expected one of {', '.join(ATTENTION_BACKENDS)}"
        )


def attend(
    q_BHTQ: torch.Tensor,
    k_BGTQ: torch.Tensor,
    v_BGTQ: torch.Tensor,
    *,
    causal: bool = True,
    backend: str = DEFAULT,
) -> torch.Tensor:
    """Return softmax(q·kᵀ/√Q)·v, causal or over all keys, where H/G neighbouring query heads share a head.

    To be called within `attention_by` of the same backend.
    """
    # Torch maps the heads itself: on a CPU this was one to four times as fast as repeating keys and values
    # (128 and 512 tokens); on CUDA, FlashAttention does it without a copy. CUDA's memory-efficient kernel,
    # the one for 32-bit numbers, can't, and torch would store all T² scores: there both are repeated.
    if backend == "flex":
        return _attend_flexibly(q_BHTQ, k_BGTQ, v_BGTQ, causal)
    if backend == "efficient" or (q_BHTQ.is_cuda and q_BHTQ.dtype is torch.float32 and backend == DEFAULT):
        group = q_BHTQ.shape[1] // k_BGTQ.shape[1]
        k_BGTQ, v_BGTQ = k_BGTQ.repeat_interleave(group, dim=1), v_BGTQ.repeat_interleave(group, dim=1)
    shared = q_BHTQ.shape[1] != k_BGTQ.shape[1]
    return scaled_dot_product_attention(q_BHTQ, k_BGTQ, v_BGTQ, is_causal=causal, enable_gqa=shared)


@contextmanager
def attention_by(backend: str) -> Iterator[None]:
    """Have torch's attention run by this backend or fail; `default` leaves torch its choice."""
    check_attention_backend(backend)
    with ExitStack() as restored:
        if backend in _INSTALLED:
            attention: Any = torch.nn.attention
            attention.activate_flash_attention_impl(_INSTALLED[backend])
            restored.callback(attention.restore_flash_attention_impl)
        kernel = SDPBackend.FLASH_ATTENTION if backend in _INSTALLED else _OF_TORCH.get(backend)
        if kernel is not None:
            restored.enter_context(sdpa_kernel(kernel))
        yield


@contextmanager
def attention_by_any() -> Iterator[None]:
    """Leave torch its choice among all of its backends, whatever an outer `attention_by` asks for."""
    with sdpa_kernel(list(_OF_TORCH.values())):
        yield


def why_no_attention(
    backend: str,
    device: torch.device,
    dtype: str,
    heads: tuple[int, int, int],
    *,
    causal: bool,
    backward: bool,
) -> str | None:
    """Return why the backend can't compute this attention on `device`, in one clause; None where it can.

    `heads` are H, G and Q. On a GPU a few tokens are tried.
    """
    if device.type == MODELLED:
        return None if backend in _ON_TWIN else f"the twin has no model of {backend} attention"
    if device.type != "cuda":
        said = f"{backend} attention is for NVIDIA GPUs, and this is a {device.type} device"
        return None if backend in _ON_CPU else said
    if backend in ("flash", "cudnn", *_INSTALLED) and dtype not in HALVES:
        return f"{backend} attention computes in fp16 and bf16, not in {dtype}"
    return _try(backend, device, dtype, heads, causal, backward)


@cache
def _try(
    backend: str, device: torch.device, dtype: str, heads: tuple[int, int, int], causal: bool, backward: bool
) -> str | None:
    H, G, Q = heads
    storage = precision_of(dtype).storage
    q, k, v = (
        torch.zeros(1, each, _TRIED_TOKENS, Q, dtype=storage, device=device, requires_grad=backward)
        for each in (H, G, G)
    )
    try:
        with attention_by(backend):
            y = attend(q, k, v, causal=causal, backend=backend)
            if backward:
                torch.autograd.backward(y, torch.zeros_like(y))
        torch.cuda.synchronize(device)
    except (RuntimeError, ValueError, ImportError, NotImplementedError, AttributeError, KeyError) as error:
        said = str(error).strip().splitlines()
        return f"{backend} attention can't run here: {said[0] if said else type(error).__name__}"
    return None


def _attend_flexibly(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    mask = _causal_mask(q.shape[2], q.device) if causal else None
    attended: torch.Tensor = _flex()(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return attended


@cache
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)  # uncompiled it would store all scores


@cache
def _causal_mask(tokens: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(_b: Any, _h: Any, query: Any, key: Any) -> Any:
        return query >= key

    return create_block_mask(sees, None, None, tokens, tokens, device=str(device))
