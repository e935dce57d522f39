"""The equations of a transformer block: norms, attention with RoPE, feed-forward part, experts.

Legend of the suffixes: B batch, T tokens, D model width, H query heads, G key/value heads (G divides H), Q
features of a head, A = H·Q, R = Q/2 rotated pairs, N = H + 2G heads together, E = N·Q, F feed-forward width,
S = B·T tokens of all sequences, X experts, K experts that work on a token, C = S·K/X tokens of an expert. A
weight w_ED maps D features to E and is stored as published weights are, outputs first.
"""

# ruff: noqa: N815 (shape suffixes)

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import gelu, layer_norm, linear, rms_norm, silu

from nameplate_kernels.attention_backends import DEFAULT, attend
from nameplate_kernels.fp8_linear import fp8_linear

ROPE_THETA = 500_000
"""Base of the rotary frequencies in Llama 3."""

NORM_EPSILON = 1e-5
"""Added to the mean square in the norm, as in Llama 3."""


class Parameters(NamedTuple):
    """The weights of one block; None for those that its kind doesn't have. With experts, w1, w3 and w2 have a
    dimension X before the others.
    """

    norm1_D: torch.Tensor
    wqkv_ED: torch.Tensor
    wo_DA: torch.Tensor
    norm2_D: torch.Tensor
    w1_FD: torch.Tensor
    w3_FD: torch.Tensor | None  # of the gate's other half
    w2_DF: torch.Tensor
    norm1_bias_D: torch.Tensor | None = None
    bqkv_E: torch.Tensor | None = None
    bo_D: torch.Tensor | None = None
    norm2_bias_D: torch.Tensor | None = None
    b1_F: torch.Tensor | None = None
    b3_F: torch.Tensor | None = None
    b2_D: torch.Tensor | None = None
    router_XD: torch.Tensor | None = None

    def named(self) -> dict[str, torch.Tensor]:
        """Return those that there are, by name."""
        return {name: each for name, each in self._asdict().items() if each is not None}


class Kind(NamedTuple):
    """What a block is like besides its sizes and weights."""

    rotary: bool = True
    causal: bool = True
    attention: str = DEFAULT
    is_fp8: bool = False  # whether its linear layers multiply in fp8


LLAMA = Kind()


class Routing(NamedTuple):
    """Which experts work on which token: drawn beforehand, each expert the same number of tokens.

    So every launch and the reference run the same products, which no rounding of a router's scores changes;
    a router trained with a loss for balance comes close to it. Its product and softmax run all the same, and
    weigh what the experts give.
    """

    tokens_XC: torch.Tensor  # of each expert, among S
    chosen_SK: torch.Tensor  # experts of each token
    places_SK: torch.Tensor  # … and where among X·C their results for it are


class Rope(NamedTuple):
    """Cosine and sine of position × frequency."""

    cos_TR: torch.Tensor
    sin_TR: torch.Tensor


class Heads(NamedTuple):
    """The heads of attention: H query heads, G key/value heads, Q features each."""

    query: int
    key_value: int
    features: int


def make_rope_table(tokens: int, features: int, device: torch.device, dtype: torch.dtype) -> Rope:
    """Return angles t·θ^(−2r/Q) for position t and pair r (Su et al., RoFormer, arXiv:2104.09864, 3.2.2).

    Computed in fp64 on the CPU and stored as `dtype`: fp32, or fp64 for a reference in fp64.
    """
    pairs_R = torch.arange(0, features, 2, dtype=torch.float64) / features
    angles_TR = torch.outer(torch.arange(tokens, dtype=torch.float64), float(ROPE_THETA) ** -pairs_R)
    return Rope(angles_TR.cos().to(device, dtype), angles_TR.sin().to(device, dtype))


def rotate(x_BHTQ: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Rotate features r and r + Q/2 by their angle, in the table's precision; returns the dtype of x.

    Pairs as in the weights published for Hugging Face. Meta pairs neighbours, which differs only in the order
    of the weights' rows.
    """
    first, second = x_BHTQ.to(rope.cos_TR.dtype).chunk(2, dim=-1)
    turned = (first * rope.cos_TR - second * rope.sin_TR, second * rope.cos_TR + first * rope.sin_TR)
    return torch.cat(turned, dim=-1).to(x_BHTQ.dtype)


def project(x_BTD: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, kind: Kind) -> torch.Tensor:
    """Return x·Wᵀ + b, in fp8 where the block's kind says so."""
    return (fp8_linear if kind.is_fp8 else linear)(x_BTD, weight, bias)


def attention(
    x_BTD: torch.Tensor, weights: Parameters, rope: Rope, heads: Heads, kind: Kind = LLAMA
) -> torch.Tensor:
    """Return grouped-query attention, causal and with RoPE by default, BTD."""
    H, G, Q = heads
    qkv_BTE = project(x_BTD, weights.wqkv_ED, weights.bqkv_E, kind)
    qkv_BTNQ = qkv_BTE.view(*x_BTD.shape[:2], H + 2 * G, Q)
    q_BHTQ, k_BGTQ, v_BGTQ = torch.split_with_sizes(qkv_BTNQ.transpose(1, 2), (H, G, G), dim=1)
    if kind.rotary:
        q_BHTQ, k_BGTQ = rotate(q_BHTQ, rope), rotate(k_BGTQ, rope)
    mixed_BHTQ = attend(q_BHTQ, k_BGTQ, v_BGTQ, causal=kind.causal, backend=kind.attention)
    return project(mixed_BHTQ.transpose(1, 2).flatten(-2), weights.wo_DA, weights.bo_D, kind)


def swiglu(x_BTD: torch.Tensor, weights: Parameters, kind: Kind = LLAMA) -> torch.Tensor:
    """Return (silu(x·W1ᵀ) ∘ (x·W3ᵀ))·W2ᵀ (Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202)."""
    assert weights.w3_FD is not None
    gate_BTF = silu(project(x_BTD, weights.w1_FD, weights.b1_F, kind))
    up_BTF = project(x_BTD, weights.w3_FD, weights.b3_F, kind)
    return project(gate_BTF * up_BTF, weights.w2_DF, weights.b2_D, kind)


def gelu_mlp(x_BTD: torch.Tensor, weights: Parameters, kind: Kind = LLAMA) -> torch.Tensor:
    """Return gelu(x·W1ᵀ)·W2ᵀ with the exact GELU (Hendrycks & Gimpel, arXiv:1606.08415)."""
    inner_BTF = gelu(project(x_BTD, weights.w1_FD, weights.b1_F, kind))
    return project(inner_BTF, weights.w2_DF, weights.b2_D, kind)


def mix_experts(x_BTD: torch.Tensor, weights: Parameters, routing: Routing) -> torch.Tensor:
    """Return the sum of K experts' SwiGLU (or GELU), weighed by the softmax of the router's scores of the
    chosen ones (Jiang et al., Mixtral of Experts, arXiv:2401.04088, section 2.1).

    The experts' products are grouped: one batched product of X matrices. The weights come first in it: so
    their gradients come in the weights' own order, and autograd needn't copy them into it.
    """
    assert weights.router_XD is not None
    x_SD = x_BTD.flatten(0, 1)
    scores_SX = linear(x_SD, weights.router_XD)
    weights_SK = torch.softmax(scores_SX.gather(1, routing.chosen_SK).float(), -1).to(x_SD.dtype)
    sent_XCD = x_SD.index_select(0, routing.tokens_XC.flatten()).view(*routing.tokens_XC.shape, -1)
    sent_XDC = sent_XCD.transpose(1, 2)
    first_XFC = torch.bmm(weights.w1_FD, sent_XDC)
    if weights.w3_FD is None:
        inner_XFC = gelu(first_XFC)
    else:
        inner_XFC = silu(first_XFC) * torch.bmm(weights.w3_FD, sent_XDC)
    given_XCD = torch.bmm(weights.w2_DF, inner_XFC).transpose(1, 2)
    back_SKD = given_XCD.flatten(0, 1).index_select(0, routing.places_SK.flatten())
    back_SKD = back_SKD.view(*routing.places_SK.shape, -1)
    return (back_SKD * weights_SK[..., None]).sum(1).view_as(x_BTD)


def norm(x_BTD: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor | None = None) -> torch.Tensor:
    """Return the root mean square norm x / sqrt(mean(x²) + ε) ∘ w (Zhang & Sennrich, arXiv:1910.07467), or
    with a bias the layer norm (Ba et al., arXiv:1607.06450).
    """
    if bias_D is not None:
        return layer_norm(x_BTD, weight_D.shape, weight_D, bias_D, NORM_EPSILON)
    return rms_norm(x_BTD, weight_D.shape, weight_D, NORM_EPSILON)


def block(
    x_BTD: torch.Tensor,
    weights: Parameters,
    rope: Rope,
    heads: Heads,
    kind: Kind = LLAMA,
    routing: Routing | None = None,
) -> torch.Tensor:
    """Return the output of the whole block, BTD to BTD."""
    n_BTD = norm(x_BTD, weights.norm1_D, weights.norm1_bias_D)
    h_BTD = x_BTD + attention(n_BTD, weights, rope, heads, kind)
    n_BTD = norm(h_BTD, weights.norm2_D, weights.norm2_bias_D)
    if routing is not None:
        return h_BTD + mix_experts(n_BTD, weights, routing)
    return h_BTD + (gelu_mlp if weights.w3_FD is None else swiglu)(n_BTD, weights, kind)
