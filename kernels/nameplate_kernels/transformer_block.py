"""One pre-norm block: by default Llama 3's, grouped-query causal attention with RoPE, then SwiGLU.

Legend of the suffixes: B batch, T tokens, D model width, H query heads, G key/value heads (G divides H), Q
features of a head, A = H·Q, R = Q/2 rotated pairs, N = H + 2G heads together, E = N·Q, F feed-forward width,
S = B·T tokens of all sequences, X experts, K experts that work on a token, C = S·K/X tokens of an expert. A
weight w_ED maps D features to E and is stored as published weights are, outputs first.

    h = x + attention(norm(x))
    y = h + (silu(n·W1ᵀ) ∘ (n·W3ᵀ))·W2ᵀ   with n = norm(h)

(Grattafiori et al., The Llama 3 Herd of Models, arXiv:2407.21783, 2024, table 3; W_qkv fused as in gpt-fast.)
A `Kind` says what is otherwise: LayerNorm, biases, gelu(n·W1ᵀ)·W2ᵀ (GPT-3), no mask (ViT), experts (Mixtral).
"""

# ruff: noqa: N815 (shape suffixes)

from __future__ import annotations

import dataclasses
import importlib.util
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.functional import gelu, layer_norm, linear, rms_norm, silu
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from nameplate_kernels.attention_backends import (
    DEFAULT,
    attend,
    attention_by,
    attention_by_any,
    check_attention_backend,
    why_no_attention,
)
from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.numerics import (
    MODELLED,
    Precision,
    check_fill,
    find_largest_ratio,
    make_filled,
    make_generator,
    numerics,
    precision_of,
    with_reduced_sums,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload

ROPE_THETA = 500_000
"""Base of the rotary frequencies in Llama 3."""

NORM_EPSILON = 1e-5
"""Added to the mean square in the norm, as in Llama 3."""

FORWARD, BOTH = "forward", "forward_backward"
RECOMPUTE, ADAMW = "forward_backward_recompute", "forward_backward_adamw"
PASSES = (FORWARD, BOTH, RECOMPUTE, ADAMW)
"""The passes that a launch can run: `recompute` keeps the block's input alone and runs the forward pass again
on the way back; `adamw` ends with a step of torch's fused AdamW.
"""

EXECUTIONS = ("eager", "compiled", "graph")
"""How a launch is run: operator by operator, by torch.compile, or as one replay of a CUDA graph."""

NORMS = ("rms", "layer")
"""Root mean square norm, and LayerNorm."""

SAMPLED_ROWS = 16
"""Rows of each weight's gradient that are kept and compared."""

CONFIDENCE = 2.0
"""λ of the check's bound; see `compute_relative_bound`."""

# What pilots divide the width by, and their tokens. A block of at most that width keeps it.
_PILOTS = ((8, 128), (4, 256), (2, 512), (1, 1024))
_PILOT_WIDTH = 512
# Roundings to storage on the longest way through the block: norm, qkv, RoPE, attention's probabilities,
# its output, wo, residual, norm, gate, silu, product, w2, residual.
_FORWARD_ROUNDINGS = 13
# A gradient sees the forward pass and, for each of its steps, about two more products on the way back.
_GRADIENT_ROUNDINGS = 3 * _FORWARD_ROUNDINGS
_FORWARD_PRODUCTS = 4  # by a library for products: qkv, wo, w1 or w3, w2
_GRADIENT_PRODUCTS = 3 * _FORWARD_PRODUCTS
_CPU_COMPILERS = ("g++", "clang++", "c++")
_MOST_COMPILED = 64  # cases of one process; torch's own limit is 8, and then it runs eagerly
_WARM_UPS_OF_A_GRAPH = 3
_COMPILE_S = 15.0


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


def attention(
    x_BTD: torch.Tensor, weights: Parameters, rope: Rope, heads: Heads, kind: Kind = LLAMA
) -> torch.Tensor:
    """Return grouped-query attention, causal and with RoPE by default, BTD."""
    H, G, Q = heads
    qkv_BTNQ = linear(x_BTD, weights.wqkv_ED, weights.bqkv_E).view(*x_BTD.shape[:2], H + 2 * G, Q)
    q_BHTQ, k_BGTQ, v_BGTQ = torch.split_with_sizes(qkv_BTNQ.transpose(1, 2), (H, G, G), dim=1)
    if kind.rotary:
        q_BHTQ, k_BGTQ = rotate(q_BHTQ, rope), rotate(k_BGTQ, rope)
    mixed_BHTQ = attend(q_BHTQ, k_BGTQ, v_BGTQ, causal=kind.causal, backend=kind.attention)
    return linear(mixed_BHTQ.transpose(1, 2).flatten(-2), weights.wo_DA, weights.bo_D)


def swiglu(x_BTD: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return (silu(x·W1ᵀ) ∘ (x·W3ᵀ))·W2ᵀ (Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202)."""
    assert weights.w3_FD is not None
    gate_BTF = silu(linear(x_BTD, weights.w1_FD, weights.b1_F))
    return linear(gate_BTF * linear(x_BTD, weights.w3_FD, weights.b3_F), weights.w2_DF, weights.b2_D)


def gelu_mlp(x_BTD: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return gelu(x·W1ᵀ)·W2ᵀ with the exact GELU (Hendrycks & Gimpel, arXiv:1606.08415)."""
    return linear(gelu(linear(x_BTD, weights.w1_FD, weights.b1_F)), weights.w2_DF, weights.b2_D)


def mix_experts(x_BTD: torch.Tensor, weights: Parameters, routing: Routing) -> torch.Tensor:
    """Return the sum of K experts' SwiGLU (or GELU), weighed by the softmax of the router's scores of the
    chosen ones (Jiang et al., Mixtral of Experts, arXiv:2401.04088, section 2.1).

    The experts' products are grouped: one batched product of X matrices.
    """
    assert weights.router_XD is not None
    x_SD = x_BTD.flatten(0, 1)
    scores_SX = linear(x_SD, weights.router_XD)
    weights_SK = torch.softmax(scores_SX.gather(1, routing.chosen_SK).float(), -1).to(x_SD.dtype)
    sent_XCD = x_SD.index_select(0, routing.tokens_XC.flatten()).view(*routing.tokens_XC.shape, -1)
    first_XCF = torch.bmm(sent_XCD, weights.w1_FD.transpose(1, 2))
    if weights.w3_FD is None:
        inner_XCF = gelu(first_XCF)
    else:
        inner_XCF = silu(first_XCF) * torch.bmm(sent_XCD, weights.w3_FD.transpose(1, 2))
    given_XCD = torch.bmm(inner_XCF, weights.w2_DF.transpose(1, 2))
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
    return h_BTD + (gelu_mlp if weights.w3_FD is None else swiglu)(n_BTD, weights)


@dataclass(frozen=True)
class TransformerBlock(Workload):
    """A block's forward pass, or its forward and backward pass, on `batch` × `tokens` inputs.

    A forward_backward launch also frees the gradients of the launch before, by setting them to None. Autograd
    then stores each gradient instead of adding it to a zeroed one. Training loops do so by default, so the
    cost belongs to the pass. The input needs a gradient too, as in the middle of a stack. A forward launch
    keeps nothing for a backward pass.

    FLOPs follow Megatron's convention: matrix products and half of the attention scores (all of them without
    a mask); a backward pass counts twice a forward pass, and neither recomputation nor the optimiser counts.
    The optimiser's learning rate is 0, so that the weights keep their bits and every launch does the same:
    its arithmetic and traffic are those of any rate. Its states have the dtype of the weights, and there is
    no copy of them in fp32.

    `features` are those of a head where they aren't d_model ÷ heads. Of `experts` (0: none) `active_experts`
    work on a token, each of `ffn` features; see `Routing`. `attention` is one of `ATTENTION_BACKENDS`,
    `execution` one of `EXECUTIONS`. `represents` names the model that has this block, and `label` tells it
    from others of the same width in a case's id. Raises ValueError for sizes that don't fit together, and for
    an unknown dtype, pass, norm, backend or execution.
    """

    batch: int
    tokens: int
    d_model: int
    heads: int
    kv_heads: int
    ffn: int
    dtype: str
    pass_: str
    represents: str | None = None
    features: int | None = None
    gated: bool = True
    norm: str = "rms"
    bias: bool = False
    rotary: bool = True
    causal: bool = True
    experts: int = 0
    active_experts: int = 0
    attention: str = DEFAULT
    execution: str = "eager"
    label: str | None = None

    name = "transformer_block"
    convention = "megatron"

    @classmethod
    def llama3_8b(
        cls, tokens: int, dtype: str, pass_: str, batch: int = 1, width: float = 1.0
    ) -> TransformerBlock:
        """Return a block of Llama-3-8B: D 4096, 32 heads, 8 key/value heads of 128 features, F 14336.

        `width` scales D, F and both numbers of heads (1/8 leaves one key/value head); such a block represents
        no model. Raises ValueError for a width that isn't 1, 1/2, 1/4 or 1/8.
        """
        if width not in (1.0, 0.5, 0.25, 0.125):
            raise ValueError(f"llama3_8b: width must be 1, 1/2, 1/4 or 1/8, got {width}")
        d_model, heads, kv_heads, ffn = (int(full * width) for full in (4096, 32, 8, 14336))
        represents = "Llama-3-8B" if width == 1.0 else None
        return cls(batch, tokens, d_model, heads, kv_heads, ffn, dtype, pass_, represents)

    def __post_init__(self) -> None:
        precision_of(self.dtype)
        if self.pass_ not in PASSES:
            raise ValueError(
                f"transformer_block: unknown pass {self.pass_!r}; expected {' or '.join(PASSES)}"
            )
        for what, given, known in (("norm", self.norm, NORMS), ("execution", self.execution, EXECUTIONS)):
            if given not in known:
                raise ValueError(
                    f"transformer_block: unknown {what} {given!r}; expected {' or '.join(known)}"
                )
        check_attention_backend(self.attention)
        sizes = (self.batch, self.tokens, self.d_model, self.heads, self.kv_heads, self.ffn)
        if min(sizes) < 1:
            raise ValueError(f"transformer_block: sizes must be at least 1, got {sizes}")
        whole = self.features is not None or self.d_model % self.heads == 0
        if self.heads % self.kv_heads or not whole or (self.rotary and self.head_dim % 2):
            raise ValueError(
                "transformer_block: kv_heads must divide heads, heads d_model, and RoPE turns pairs of a "
                f"head's features, got d_model {self.d_model}, heads {self.heads}, kv_heads {self.kv_heads}, "
                f"{self.head_dim} features of a head"
            )
        self._check_experts()

    def _check_experts(self) -> None:
        if not self.experts:
            return
        if not 1 <= self.active_experts <= self.experts:
            raise ValueError(
                "transformer_block: active_experts must be from 1 to experts, "
                f"got {self.active_experts} and {self.experts}"
            )
        sent = self.batch * self.tokens * self.active_experts
        if sent % self.experts:
            raise ValueError(
                "transformer_block: experts must divide batch × tokens × active_experts, so that each gets "
                f"as many tokens, got {self.experts} and {sent}"
            )
        if self.bias:
            raise ValueError("transformer_block: experts with biases aren't known")

    @property
    def shape(self) -> str:
        """Batch, tokens, model width, label and pass: `1x128x4096-forward`."""
        label = "" if self.label is None else f"{self.label}-"
        return f"{self.batch}x{self.tokens}x{self.d_model}-{label}{self.pass_}"

    @property
    def backend(self) -> str:
        """What runs it, as a case's id has it: `torch`, `torch+cudnn`, `compiled`, `compiled+flash`."""
        execution = "torch" if self.execution == "eager" else self.execution
        return execution if self.attention == DEFAULT else f"{execution}+{self.attention}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Every number of the block, what it is like, its pass, and the constants of RoPE and norm."""
        experts = {"experts": self.experts, "active_experts": self.active_experts} if self.experts else {}
        return {
            **experts,
            "batch": self.batch,
            "tokens": self.tokens,
            "d_model": self.d_model,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "ffn": self.ffn,
            "pass": self.pass_,
            "mlp": "swiglu" if self.gated else "gelu",
            "mask": "causal" if self.causal else "none",
            "norm": self.norm,
            "bias": "yes" if self.bias else "no",
            "positions": "rotary" if self.rotary else "none",
            "attention": self.attention,
            "execution": self.execution,
            "rope_theta": ROPE_THETA,
            "norm_epsilon": str(NORM_EPSILON),
            "parameters": self.parameters,
        }

    @property
    def compile_allowance_s(self) -> float:
        """Seconds that preparing it may take besides, where it is compiled (12 s were seen on two cores)."""
        return _COMPILE_S if self.execution == "compiled" else 0.0

    @property
    def head_dim(self) -> int:
        """Q, the features of one head."""
        return self.features or self.d_model // self.heads

    @property
    def backward(self) -> bool:
        """Whether a launch runs the backward pass too."""
        return self.pass_ != FORWARD

    @property
    def flops(self) -> int:
        """Forward: 2·B·T·(products' weights) + 4·B·T²·H·Q/2 (in full without a mask); forward and backward
        three times that.

        Norms, RoPE, softmax, SwiGLU's elementwise work and recomputation aren't counted: the rule of
        Megatron-LM's num_floating_point_operations, which counts causal attention half.
        """
        products = sum(gemm.times * gemm.flops for gemm in self.gemms())
        scores = (2 if self.causal else 4) * self.batch * self.tokens**2 * self.heads * self.head_dim
        return (products + scores) * (3 if self.backward else 1)

    @property
    def parameters(self) -> int:
        """Weights of one block, norms included."""
        return sum(math.prod(shape) for shape in self._shapes().values())

    @property
    def bytes(self) -> int:
        """Forward: parameters and input read once, output written once. Forward and backward: parameters
        read twice and their gradients written, input and output's gradient read, output and input's gradient
        written. AdamW: weights and both states read and written, gradients read, besides.

        Data that pass between the block's own kernels, saved activations included, aren't counted: a fused
        block need not move them. RoPE's table isn't either: a whole model shares it.
        """
        activations = self.batch * self.tokens * self.d_model
        elements = (
            3 * self.parameters + 4 * activations if self.backward else self.parameters + 2 * activations
        )
        if self.pass_ == ADAMW:
            elements += 7 * self.parameters
        return elements * precision_of(self.dtype).itemsize

    @property
    def resident_bytes(self) -> int:
        """An estimate: parameters and activations, with gradients where there are any, and the same again in
        the reference's dtype. In fp64 this includes all T² scores of the heads, because CUDA stores them. A
        digest is made after the reference's activations are freed, and takes less; its weights stay.
        """
        inner = 4 * self.ffn * (self.active_experts or 1)
        wide = 8 * self.d_model + inner + 3 * (self.heads + 2 * self.kv_heads) * self.head_dim
        activations = self.batch * self.tokens * wide
        held = (self.parameters + activations) * (2 if self.backward else 1)
        if self.pass_ == ADAMW:
            held += 2 * self.parameters
        reference = _reference_dtype(self.dtype)
        stores = reference is torch.float64 or self.attention == "math"
        scores = 3 * self.batch * self.heads * self.tokens**2 if stores else 0
        stored, wider = precision_of(self.dtype).itemsize, reference.itemsize
        return held * stored + (held + scores) * wider + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return a reason for fp64, for tf32 where the device has none, and for an attention backend or an
        execution that can't run here; None otherwise.
        """
        if self.dtype == "fp64":
            return "a block in fp64 leaves no higher precision to check it against"
        heads = (self.heads, self.kv_heads, self.head_dim)
        return (
            super().unsupported(device)
            or why_not_executed(self.execution, device)
            or why_no_attention(
                self.attention, device, self.dtype, heads, causal=self.causal, backward=self.backward
            )
        )

    @property
    def smaller(self) -> TransformerBlock | None:
        """Half the sequences, or with one of them half its tokens; None below two tokens."""
        if self.batch > 1:
            return dataclasses.replace(self, batch=self.batch // 2)
        return dataclasses.replace(self, tokens=self.tokens // 2) if self.tokens > 1 else None

    def pilots(self) -> tuple[TransformerBlock, ...]:
        """Return the block at an eighth of the width (less where its heads don't divide by 8) and at most 128
        tokens, then at twice the width and tokens, and so on, up to an eighth of this work.

        None where it is as small as the first already.
        """
        blocks = tuple(dict.fromkeys(map(self._shrink, _PILOTS)))
        larger = (each for each in blocks[1:] if 8 * each.flops <= self.flops)
        is_smallest = blocks[0] == self._eager
        return () if is_smallest else (blocks[0], *larger)

    def _shrink(self, size: tuple[int, int]) -> TransformerBlock:
        """Return the block with its width divided as far as its heads allow, and at most so many tokens."""
        most, tokens = size
        by = math.gcd(most, self.heads, self.kv_heads, self.ffn) if self.d_model > _PILOT_WIDTH else 1
        return dataclasses.replace(
            self._eager,
            tokens=min(self.tokens, tokens),
            d_model=self.d_model // by,
            heads=self.heads // by,
            kv_heads=self.kv_heads // by,
            ffn=self.ffn // by,
            features=None if self.features is None else self.head_dim,
        )

    @property
    def _eager(self) -> TransformerBlock:
        """The same run operator by operator, which takes no compiling; it stands for no model."""
        return dataclasses.replace(self, represents=None, execution="eager")

    def gemms(self) -> tuple[Matmul, ...]:
        """Return the products of the forward pass in order: qkv, out, gate (twice: up has its shape), down.

        M is batch × tokens, of an expert's products those that it gets. The layout is nt: weights are stored
        outputs first. With experts the router follows out.
        """
        shapes, rows = self._shapes(), self.batch * self.tokens
        experts = self.experts or 1
        of_each = rows * (self.active_experts or 1) // experts
        ups = 2 if self.gated else 1
        found = [(rows, shapes["wqkv_ED"], 1), (rows, shapes["wo_DA"], 1)]
        if self.experts:
            found.append((rows, shapes["router_XD"], 1))
        found += [(of_each, shapes["w1_FD"][-2:], ups * experts), (of_each, shapes["w2_DF"][-2:], experts)]
        return tuple(
            Matmul(m, outputs, inputs, self.dtype, "nt", self.represents, times)
            for m, (outputs, inputs), times in found
        )

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedBlock:
        """Allocate `copies` blocks with weights of their own, and compile them or capture their graphs;
        `fill` applies only to the input.

        Weights are normal with variance 1/inputs and norms' weights near 1, so that activations stay of order
        1. Raises ValueError for an unknown fill.
        """
        check_fill(fill)
        generator = make_generator(device, seed)
        return PreparedBlock(self, [self._buffers(fill, generator) for _ in range(copies)], seed)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of `Parameters` that there is, in its order."""
        D, F, A = self.d_model, self.ffn, self.heads * self.head_dim
        E = A + 2 * self.kv_heads * self.head_dim
        each = (self.experts,) if self.experts else ()
        layer, bias, both = self.norm == "layer", self.bias, self.bias and self.gated
        shapes: dict[str, tuple[int, ...] | None] = {
            "norm1_D": (D,),
            "wqkv_ED": (E, D),
            "wo_DA": (D, A),
            "norm2_D": (D,),
            "w1_FD": (*each, F, D),
            "w3_FD": (*each, F, D) if self.gated else None,
            "w2_DF": (*each, D, F),
            "norm1_bias_D": (D,) if layer else None,
            "bqkv_E": (E,) if bias else None,
            "bo_D": (D,) if bias else None,
            "norm2_bias_D": (D,) if layer else None,
            "b1_F": (F,) if bias else None,
            "b3_F": (F,) if both else None,
            "b2_D": (D,) if bias else None,
            "router_XD": (self.experts, D) if self.experts else None,
        }
        return {name: shape for name, shape in shapes.items() if shape is not None}

    def _buffers(self, fill: str, generator: torch.Generator) -> Buffers:
        shape = (self.batch, self.tokens, self.d_model)
        x_BTD = make_filled(shape, self.dtype, fill, generator)
        made = {name: _weight(name, each, self.dtype, generator) for name, each in self._shapes().items()}
        weights = Parameters(**{"w3_FD": None, **made})  # type: ignore[arg-type]
        heads = Heads(self.heads, self.kv_heads, self.head_dim)
        rope = make_rope_table(self.tokens, self.head_dim, generator.device, torch.float32)
        output_gradient = make_filled(shape, self.dtype, "normal", generator) if self.backward else None
        kind = Kind(self.rotary, self.causal, self.attention)
        routing = self._route(generator) if self.experts else None
        return Buffers(x_BTD, weights, rope, heads, output_gradient, kind, routing, self.pass_)

    def _route(self, generator: torch.Generator) -> Routing:
        """Deal experts round, K to a token, in an order of the tokens that is drawn at random."""
        rows, X, K = self.batch * self.tokens, self.experts, self.active_experts
        device = generator.device
        order_S = torch.randperm(rows, generator=generator, device=device)
        dealt = torch.arange(rows * K, device=device)
        chosen_SK = torch.empty(rows, K, dtype=torch.int64, device=device)
        chosen_SK[order_S] = (dealt % X).view(rows, K)
        places_SK = torch.empty_like(chosen_SK)
        # The n-th token that an expert gets has place n among its own.
        places_SK[order_S] = ((dealt % X) * (rows * K // X) + dealt // X).view(rows, K)
        tokens = torch.empty(rows * K, dtype=torch.int64, device=device)
        tokens[places_SK.flatten()] = torch.arange(rows, device=device).repeat_interleave(K)
        return Routing(tokens.view(X, -1), chosen_SK, places_SK)


def _weight(name: str, shape: Sequence[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    values = make_filled(shape, dtype, "normal", generator)
    if len(shape) > 1:
        return values.div_(math.sqrt(shape[-1]))
    values.mul_(0.1)
    return values.add_(1.0) if name in ("norm1_D", "norm2_D") else values


def why_not_executed(execution: str, device: torch.device) -> str | None:
    """Return why a launch can't be run this way on `device`, in one clause; None where it can."""
    if execution == "eager":
        return None
    if device.type == MODELLED:
        return f"the twin has no model of a {execution} launch"
    if execution == "graph":
        return None if device.type == "cuda" else "CUDA graphs are of NVIDIA GPUs"
    if device.type == "cpu" and not any(map(shutil.which, _CPU_COMPILERS)):
        return "torch.compile needs a C++ compiler (g++ or clang++) on a CPU, and there is none"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on a GPU, and it isn't installed"
    return None


def _compile(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # One shape at a time, however many cases of a process are compiled; in this process, which may be a fork.
    dynamo, inductor = torch._dynamo.config, importlib.import_module("torch._inductor.config")
    dynamo.recompile_limit = max(dynamo.recompile_limit, _MOST_COMPILED)
    inductor.compile_threads = 1  # type: ignore[attr-defined]
    compiled: Callable[..., torch.Tensor] = torch.compile(function, dynamic=False, fullgraph=True)
    return compiled


def _make_optimizer(weights: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """Return fused AdamW with its states, which it would otherwise make at the first launch."""
    optimizer = torch.optim.AdamW(weights, lr=0.0, fused=True)
    for weight in weights:
        moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
    return optimizer


class Buffers:
    """The tensors of one launcher: the input, the weights, and the output of the latest launch.

    `y_BTD` is None before the first launch. With an output gradient, input and weights require gradients.
    """

    def __init__(
        self,
        x_BTD: torch.Tensor,
        weights: Parameters,
        rope: Rope,
        heads: Heads,
        output_gradient: torch.Tensor | None,
        kind: Kind = LLAMA,
        routing: Routing | None = None,
        pass_: str = BOTH,
    ) -> None:
        self.x_BTD = x_BTD
        self.weights = weights
        self.rope = rope
        self.heads = heads
        self.output_gradient = output_gradient
        self.kind = kind
        self.routing = routing
        self.pass_ = pass_
        self.y_BTD: torch.Tensor | None = None
        self.run: Callable[..., torch.Tensor] = block
        self._replay: Callable[[], None] | None = None
        for leaf in self.leaves:
            leaf.requires_grad_(output_gradient is not None)
        self._optimizer: torch.optim.Optimizer | None = None
        if pass_ == ADAMW and output_gradient is not None:
            # A rate of 0 keeps the weights' bits; see `TransformerBlock`.
            self._optimizer = _make_optimizer(list(self.weights.named().values()))

    @property
    def leaves(self) -> tuple[torch.Tensor, ...]:
        """The tensors that get a gradient: the input and every weight."""
        return (self.x_BTD, *self.weights.named().values())

    @property
    def launcher(self) -> Callable[[], None]:
        """The pass that the workload asks for."""
        if self._replay is not None:
            return self._replay
        return self.forward if self.output_gradient is None else self.forward_backward

    @property
    def launched(self) -> bool:
        """Whether a launch has written an output."""
        return self.y_BTD is not None

    def forward(self) -> None:
        """Run a forward pass that keeps nothing for a backward pass."""
        with torch.inference_mode() if self.run is block else torch.no_grad():
            self.y_BTD = self.run(*self._arguments)

    def forward_backward(self) -> None:
        """Run a forward and a backward pass, with the optimiser where it is asked for; drop the gradients of
        the pass before.
        """
        for leaf in self.leaves:
            leaf.grad = None
        if self.pass_ == RECOMPUTE:
            y_BTD: torch.Tensor = checkpoint(
                self.run, *self._arguments, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y_BTD = self.run(*self._arguments)
        torch.autograd.backward(y_BTD, self.output_gradient)
        if self._optimizer is not None:
            self._optimizer.step()
        self.y_BTD = y_BTD.detach()

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return self.x_BTD, self.weights, self.rope, self.heads, self.kind, self.routing

    def execute_as(self, execution: str) -> None:
        """Compile the block, or capture a launch as a CUDA graph; launches once or more, untimed."""
        if execution == "compiled":
            self.run = _compile(block)
            self.launcher()
        elif execution == "graph":
            self._capture()
        self.y_BTD = None

    def _capture(self) -> None:
        # As torch's notes on CUDA graphs have it: warmed up on a stream of its own, gradients dropped before.
        launch, stream = self.launcher, torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS_OF_A_GRAPH):
                launch()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            launch()
        result = self.y_BTD  # what every replay writes into

        def replay() -> None:
            graph.replay()
            self.y_BTD = result

        self._replay = replay

    def upcast(self, dtype: torch.dtype) -> Buffers:
        """Return the same block in another dtype, from the same bits."""
        wider = {name: each.detach().to(dtype, copy=True) for name, each in self.weights.named().items()}
        weights = Parameters(**{"w3_FD": None, **wider})  # type: ignore[arg-type]
        table = make_rope_table(self.x_BTD.shape[1], self.heads.features, self.x_BTD.device, dtype)
        gradient = None if self.output_gradient is None else self.output_gradient.to(dtype)
        x_BTD = self.x_BTD.detach().to(dtype, copy=True)
        kind = self.kind._replace(attention=DEFAULT)
        return Buffers(x_BTD, weights, table, self.heads, gradient, kind, self.routing)

    def results(self, seed: int) -> dict[str, torch.Tensor]:
        """Return the matrices that the check compares row by row: the output by token and, after a backward
        pass, the gradients of the input by token, of the norms, and of sampled rows of each weight.
        """
        if self.y_BTD is None:
            return {}
        output = {"y": self.y_BTD.flatten(0, 1)}
        return output if self.output_gradient is None else output | self._gradients(seed)

    def _gradients(self, seed: int) -> dict[str, torch.Tensor]:
        gradients = {"x gradient": _gradient(self.x_BTD).flatten(0, 1)}
        for name, weight in self.weights.named().items():
            if not weight.requires_grad:
                continue
            rows = _gradient(weight).reshape(-1, weight.shape[-1])
            gradients[f"{name} gradient"] = rows[_sampled_rows(rows.shape[0], seed, rows.device)]
        return gradients

    def reference(self, seed: int) -> dict[str, torch.Tensor]:
        """Launch once and return the `results`, without computing the whole gradient of any weight.

        The gradient of W in Y = X·Wᵀ is (∂Y)ᵀ·X, so its sampled rows need only the same columns of ∂Y. A
        whole gradient is as large as W; all of them would take most of a reference's time and memory.
        """
        if self.output_gradient is None:
            self.forward()
            return self.results(seed)
        for weight in self.matrices.values():
            weight.requires_grad_(False)
        rows = _WeightGradientRows(self.matrices, seed)
        with rows:
            self.forward_backward()
        return self.results(seed) | rows.found

    @property
    def matrices(self) -> dict[str, torch.Tensor]:
        """The weights of plain products, without those of the norms and of experts."""
        return {name: weight for name, weight in self.weights.named().items() if weight.dim() == 2}


def _sampled_rows(rows: int, seed: int, device: torch.device) -> torch.Tensor:
    generator = make_generator(torch.device("cpu"), seed)
    return torch.randperm(rows, generator=generator)[:SAMPLED_ROWS].to(device)


class _WeightGradientRows(TorchFunctionMode):
    """Collects in `found` the sampled rows of each matrix's gradient while a backward pass goes through."""

    def __init__(self, matrices: dict[str, torch.Tensor], seed: int) -> None:
        super().__init__()
        self.found: dict[str, torch.Tensor] = {}
        self._names = {weight.data_ptr(): name for name, weight in matrices.items()}
        self._seed = seed

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is linear and result.requires_grad:
            result.register_hook(partial(self._keep, args[0].detach(), args[1]))
        return result

    def _keep(self, inputs: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        chosen = _sampled_rows(weight.shape[0], self._seed, weight.device)
        rows = gradient.flatten(0, -2)[:, chosen].t() @ inputs.flatten(0, -2)
        self.found[f"{self._names[weight.data_ptr()]} gradient"] = rows


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    # A launch without a gradient must fail the check, not crash it.
    return torch.full_like(leaf, math.nan) if leaf.grad is None else leaf.grad


def _reference_dtype(dtype: str) -> torch.dtype:
    return torch.float64 if dtype == "fp32" else torch.float32


def compute_relative_bound(precision: Precision, roundings: int, depth: int, products: int) -> float:
    """Bound of ‖computed − reference‖₂ ÷ ‖reference‖₂ for one token, or one row of a weight's gradient.

    A path through the block rounds to storage `roundings` times. The root mean square of a sum of
    independent errors of mean 0 and at most u is at most u·√roundings (for uniform errors, u/√3 each; norm,
    softmax and silu pass relative errors on with a factor of about 1). The longest sum, of `depth` terms,
    adds u_acc·√depth (Higham & Mary 2019, as in `product_check`). The norm over a row of hundreds of features
    varies little, so λ = 2 on the total leaves a factor of about 3.5 for effects outside this model. tf32
    stores fp32 but may truncate its inputs by 2·2^-11 relative, which then replaces u. Each of the `products`
    on the path may be split on a GPU, its partial sums added in storage (`with_reduced_sums`).
    """
    rounding = max(precision.result_roundoff, 2 * precision.input_roundoff)
    stored = math.hypot(rounding * math.sqrt(roundings), precision.reduction_roundoff * math.sqrt(products))
    return CONFIDENCE * (stored + precision.accumulate_roundoff * math.sqrt(depth))


class PreparedBlock(Prepared):
    """Blocks in memory.

    The reference computes the same equations from the same bits, in fp64 for fp32 and in fp32 otherwise.
    Output and input's gradient are compared token by token, so that a missing mask shows at the first token
    for any length of context; weights' gradients are compared on sampled rows.
    """

    workload: TransformerBlock
    buffers: tuple[Buffers, ...]

    def __init__(self, workload: TransformerBlock, buffers: Sequence[Buffers], seed: int) -> None:
        """Take the buffers; compile them or capture their graphs, which `compile_s` then is the time of."""
        self.compile_s: float | None = None
        self.workload = workload
        if workload.execution != "eager":
            begin_s = time.perf_counter()
            with self.numerics():
                for each in buffers:
                    each.execute_as(workload.execution)
            self.compile_s = time.perf_counter() - begin_s
        super().__init__(workload, buffers, seed)

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Set torch's precision, and have attention run by the backend or fail; restored on exit."""
        with super().numerics(), attention_by(self.workload.attention):
            yield

    def compute_reference(self) -> None:
        """Run each copy once in the higher precision, keep the compared results and free the rest."""
        # A reference in fp32 must not inherit the tf32 that it checks, nor a backend for halves.
        with numerics("fp32"), attention_by_any():
            self._references = [self._reference(each) for each in self.buffers]

    def check(self) -> CheckResult:
        """Compare each copy that was launched, as `Prepared.check` says."""
        error = max(self.errors().values(), default=math.inf)
        reference = "fp64" if self.workload.dtype == "fp32" else "fp32"
        rule = f"each row: ‖ŷ−y‖ ≤ {CONFIDENCE:g}·(u·√roundings + u_acc·√depth)·‖y‖"
        return CheckResult(reference=reference, error=error, rule=rule)

    def digest(self) -> str | None:
        """Return, on a CPU, a digest of the first copy's output and, after a backward pass, of all gradients.

        None before a launch, and on any other device. On CUDA, torch doesn't promise repeatable attention in
        either pass: with cuDNN, which torch prefers on Hopper and Blackwell, it "may select a
        nondeterministic algorithm" (torch.nn.functional.scaled_dot_product_attention). The backward passes of
        FlashAttention (github.com/Dao-AILab/flash-attention/issues/414) and of repeat_interleave
        (torch.use_deterministic_algorithms) add in no fixed order.

        On a CPU the number of threads fixes the order of every sum. Products: see `matmul`. Each head's
        attention (in the forward pass, each block of its queries) runs on one thread. All other work is
        elementwise or sums rows without atomics, and one thread walks the graph backward. Gradients aren't
        summed over launches: each launch drops those of the launch before.
        """
        buffers = self.buffers[0]
        if buffers.y_BTD is None or buffers.x_BTD.device.type != "cpu":
            return None
        gradients = map(_gradient, buffers.leaves) if self.workload.backward else ()
        return digest_of(buffers.y_BTD, *gradients)

    def errors(self) -> dict[str, float]:
        """Return the largest error of each compared tensor over all copies, as a fraction of its bound."""
        worst: dict[str, float] = {}
        for buffers, reference in self._launched_with_references():
            for name, result in buffers.results(self._seed).items():
                worst[name] = max(worst.get(name, 0.0), self._error(name, result, reference[name]))
        return worst

    def _reference(self, buffers: Buffers) -> dict[str, torch.Tensor]:
        upcast = buffers.upcast(_reference_dtype(self.workload.dtype))
        return {name: result.clone() for name, result in upcast.reference(self._seed).items()}

    def _error(self, name: str, result: torch.Tensor, reference: torch.Tensor) -> float:
        deviation = (result.to(reference.dtype) - reference).norm(dim=1)
        return find_largest_ratio(deviation, self._bound(name) * reference.norm(dim=1))

    def _bound(self, name: str) -> float:
        block_depth = max(self.workload.d_model, self.workload.ffn, self.workload.tokens)
        precision = precision_of(self.workload.dtype)
        if self.workload.reduction == "reduced" and self.buffers[0].x_BTD.is_cuda:
            precision = with_reduced_sums(precision)
        if name == "y":
            return compute_relative_bound(precision, _FORWARD_ROUNDINGS, block_depth, _FORWARD_PRODUCTS)
        depth = max(block_depth, self.workload.batch * self.workload.tokens)
        return compute_relative_bound(precision, _GRADIENT_ROUNDINGS, depth, _GRADIENT_PRODUCTS)
