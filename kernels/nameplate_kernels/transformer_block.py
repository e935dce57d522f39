"""One pre-norm decoder block, as in Llama 3: grouped-query causal attention with RoPE, then SwiGLU.

Legend of the suffixes: B batch, T tokens, D model width, H query heads, G key/value heads (G divides H), Q
features of a head (D = H·Q), R = Q/2 rotated pairs, N = H + 2G heads together, E = N·Q, F feed-forward
width. A weight w_ED maps D features to E and is stored as published weights are, outputs first.

    h = x + attention(norm(x))
    y = h + (silu(n·W1ᵀ) ∘ (n·W3ᵀ))·W2ᵀ   with n = norm(h)

(Grattafiori et al., The Llama 3 Herd of Models, arXiv:2407.21783, 2024, table 3; W_qkv fused as in gpt-fast.)
"""

# ruff: noqa: N815 (shape suffixes)

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from torch.overrides import TorchFunctionMode

from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.numerics import (
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

PASSES = ("forward", "forward_backward")
"""The passes that a launch can run."""

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


class Parameters(NamedTuple):
    """The weights of one block."""

    norm1_D: torch.Tensor
    wqkv_ED: torch.Tensor
    wo_DD: torch.Tensor
    norm2_D: torch.Tensor
    w1_FD: torch.Tensor
    w3_FD: torch.Tensor
    w2_DF: torch.Tensor


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


def attend(q_BHTQ: torch.Tensor, k_BGTQ: torch.Tensor, v_BGTQ: torch.Tensor) -> torch.Tensor:
    """Return causal softmax(q·kᵀ/√Q)·v, where H/G neighbouring query heads share a key/value head."""
    # Torch maps the heads itself: on a CPU this was one to four times as fast as repeating keys and values
    # (128 and 512 tokens); on CUDA, FlashAttention does it without a copy. CUDA's memory-efficient kernel,
    # the one for 32-bit numbers, can't, and torch would store all T² scores: there both are repeated.
    if q_BHTQ.is_cuda and q_BHTQ.dtype is torch.float32:
        group = q_BHTQ.shape[1] // k_BGTQ.shape[1]
        k_BGTQ, v_BGTQ = k_BGTQ.repeat_interleave(group, dim=1), v_BGTQ.repeat_interleave(group, dim=1)
    shared = q_BHTQ.shape[1] != k_BGTQ.shape[1]
    return scaled_dot_product_attention(q_BHTQ, k_BGTQ, v_BGTQ, is_causal=True, enable_gqa=shared)


def attention(x_BTD: torch.Tensor, weights: Parameters, rope: Rope, heads: Heads) -> torch.Tensor:
    """Return grouped-query causal attention with RoPE, BTD."""
    H, G, Q = heads
    qkv_BTNQ = linear(x_BTD, weights.wqkv_ED).view(*x_BTD.shape[:2], H + 2 * G, Q)
    q_BHTQ, k_BGTQ, v_BGTQ = torch.split_with_sizes(qkv_BTNQ.transpose(1, 2), (H, G, G), dim=1)
    mixed_BHTQ = attend(rotate(q_BHTQ, rope), rotate(k_BGTQ, rope), v_BGTQ)
    return linear(mixed_BHTQ.transpose(1, 2).flatten(-2), weights.wo_DD)


def swiglu(x_BTD: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return (silu(x·W1ᵀ) ∘ (x·W3ᵀ))·W2ᵀ (Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202)."""
    gated_BTF = silu(linear(x_BTD, weights.w1_FD)) * linear(x_BTD, weights.w3_FD)
    return linear(gated_BTF, weights.w2_DF)


def norm(x_BTD: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
    """Return the root mean square norm x / sqrt(mean(x²) + ε) ∘ w (Zhang & Sennrich, arXiv:1910.07467)."""
    return rms_norm(x_BTD, weight_D.shape, weight_D, NORM_EPSILON)


def block(x_BTD: torch.Tensor, weights: Parameters, rope: Rope, heads: Heads) -> torch.Tensor:
    """Return the output of the whole block, BTD to BTD."""
    h_BTD = x_BTD + attention(norm(x_BTD, weights.norm1_D), weights, rope, heads)
    return h_BTD + swiglu(norm(h_BTD, weights.norm2_D), weights)


@dataclass(frozen=True)
class TransformerBlock(Workload):
    """A decoder block's forward pass, or its forward and backward pass, on `batch` × `tokens` inputs.

    A forward_backward launch also frees the gradients of the launch before, by setting them to None. Autograd
    then stores each gradient instead of adding it to a zeroed one. Training loops do so by default, so the
    cost belongs to the pass. The input needs a gradient too, as in the middle of a stack. A forward launch
    keeps nothing for a backward pass.

    FLOPs follow Megatron's convention: matrix products and half of the attention scores (causal); a backward
    pass counts twice a forward pass. `represents` names the model that has this block. Raises ValueError for
    sizes that don't fit together, an unknown dtype or an unknown pass.
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
        sizes = (self.batch, self.tokens, self.d_model, self.heads, self.kv_heads, self.ffn)
        if min(sizes) < 1:
            raise ValueError(f"transformer_block: sizes must be at least 1, got {sizes}")
        if self.heads % self.kv_heads or self.d_model % (2 * self.heads):
            raise ValueError(
                "transformer_block: kv_heads must divide heads, and 2 × heads must divide d_model, "
                f"got d_model {self.d_model}, heads {self.heads}, kv_heads {self.kv_heads}"
            )

    @property
    def shape(self) -> str:
        """Batch, tokens, model width and pass: `1x128x4096-forward`."""
        return f"{self.batch}x{self.tokens}x{self.d_model}-{self.pass_}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Every number of the block, its pass, and the constants of RoPE and norm."""
        return {
            "batch": self.batch,
            "tokens": self.tokens,
            "d_model": self.d_model,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "ffn": self.ffn,
            "pass": self.pass_,
            "rope_theta": ROPE_THETA,
            "norm_epsilon": str(NORM_EPSILON),
            "parameters": self.parameters,
        }

    @property
    def head_dim(self) -> int:
        """Q, the features of one head."""
        return self.d_model // self.heads

    @property
    def backward(self) -> bool:
        """Whether a launch runs the backward pass too."""
        return self.pass_ == "forward_backward"

    @property
    def flops(self) -> int:
        """Forward: 2·B·T·(products' weights) + 4·B·T²·H·Q/2; forward and backward three times that.

        Norms, RoPE, softmax, SwiGLU's elementwise work and recomputation aren't counted: the rule of
        Megatron-LM's num_floating_point_operations, which counts causal attention half.
        """
        products = sum(gemm.times * gemm.flops for gemm in self.gemms())
        scores = 2 * self.batch * self.tokens**2 * self.d_model
        return (products + scores) * (3 if self.backward else 1)

    @property
    def parameters(self) -> int:
        """Weights of one block, norms included."""
        return sum(math.prod(shape) for shape in self._shapes())

    @property
    def bytes(self) -> int:
        """Forward: parameters and input read once, output written once. Forward and backward: parameters
        read twice and their gradients written, input and output's gradient read, output and input's gradient
        written.

        Data that pass between the block's own kernels, saved activations included, aren't counted: a fused
        block need not move them. RoPE's table isn't either: a whole model shares it.
        """
        activations = self.batch * self.tokens * self.d_model
        elements = (
            3 * self.parameters + 4 * activations if self.backward else self.parameters + 2 * activations
        )
        return elements * precision_of(self.dtype).itemsize

    @property
    def resident_bytes(self) -> int:
        """An estimate: parameters and activations, with gradients where there are any, and the same again in
        the reference's dtype. In fp64 this includes all T² scores of the heads, because CUDA stores them. A
        digest is made after the reference's activations are freed, and takes less; its weights stay.
        """
        wide = 8 * self.d_model + 4 * self.ffn + 3 * (self.heads + 2 * self.kv_heads) * self.head_dim
        activations = self.batch * self.tokens * wide
        held = (self.parameters + activations) * (2 if self.backward else 1)
        reference = _reference_dtype(self.dtype)
        scores = 3 * self.batch * self.heads * self.tokens**2 if reference is torch.float64 else 0
        stored, wider = precision_of(self.dtype).itemsize, reference.itemsize
        return held * stored + (held + scores) * wider + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return a reason for fp64, and for tf32 where the device has none; None otherwise."""
        if self.dtype == "fp64":
            return "a block in fp64 leaves no higher precision to check it against"
        return super().unsupported(device)

    def pilots(self) -> tuple[TransformerBlock, ...]:
        """Return the block at an eighth of the width (less where its heads don't divide by 8) and at most 128
        tokens, then at twice the width and tokens, and so on, up to an eighth of this work.

        None where it is as small as the first already.
        """
        blocks = tuple(dict.fromkeys(map(self._shrink, _PILOTS)))
        larger = (each for each in blocks[1:] if 8 * each.flops <= self.flops)
        is_smallest = blocks[0] == dataclasses.replace(self, represents=None)
        return () if is_smallest else (blocks[0], *larger)

    def _shrink(self, size: tuple[int, int]) -> TransformerBlock:
        """Return the block with its width divided as far as its heads allow, and at most so many tokens."""
        most, tokens = size
        by = math.gcd(most, self.heads, self.kv_heads, self.ffn) if self.d_model > _PILOT_WIDTH else 1
        return dataclasses.replace(
            self,
            tokens=min(self.tokens, tokens),
            d_model=self.d_model // by,
            heads=self.heads // by,
            kv_heads=self.kv_heads // by,
            ffn=self.ffn // by,
            represents=None,
        )

    def gemms(self) -> tuple[Matmul, ...]:
        """Return the products of the forward pass in order: qkv, out, gate (twice: up has its shape), down.

        M is batch × tokens. The layout is nt: weights are stored outputs first.
        """
        _, qkv, out, _, gate, _up, down = self._shapes()
        rows = self.batch * self.tokens
        return tuple(
            Matmul(rows, outputs, inputs, self.dtype, "nt", self.represents, times)
            for (outputs, inputs), times in ((qkv, 1), (out, 1), (gate, 2), (down, 1))
        )

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedBlock:
        """Allocate `copies` blocks with weights of their own; `fill` applies only to the input.

        Weights are normal with variance 1/inputs and norms' weights near 1, so that activations stay of order
        1. Raises ValueError for an unknown fill.
        """
        check_fill(fill)
        generator = make_generator(device, seed)
        return PreparedBlock(self, [self._buffers(fill, generator) for _ in range(copies)], seed)

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        D, E = self.d_model, (self.heads + 2 * self.kv_heads) * self.head_dim
        return (D,), (E, D), (D, D), (D,), (self.ffn, D), (self.ffn, D), (D, self.ffn)

    def _buffers(self, fill: str, generator: torch.Generator) -> Buffers:
        shape = (self.batch, self.tokens, self.d_model)
        x_BTD = make_filled(shape, self.dtype, fill, generator)
        weights = Parameters(*(_weight(each, self.dtype, generator) for each in self._shapes()))
        heads = Heads(self.heads, self.kv_heads, self.head_dim)
        rope = make_rope_table(self.tokens, self.head_dim, generator.device, torch.float32)
        output_gradient = make_filled(shape, self.dtype, "normal", generator) if self.backward else None
        return Buffers(x_BTD, weights, rope, heads, output_gradient)


def _weight(shape: Sequence[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    values = make_filled(shape, dtype, "normal", generator)
    return values.mul_(0.1).add_(1.0) if len(shape) == 1 else values.div_(math.sqrt(shape[1]))


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
    ) -> None:
        self.x_BTD = x_BTD
        self.weights = weights
        self.rope = rope
        self.heads = heads
        self.output_gradient = output_gradient
        self.y_BTD: torch.Tensor | None = None
        for leaf in self.leaves:
            leaf.requires_grad_(output_gradient is not None)

    @property
    def leaves(self) -> tuple[torch.Tensor, ...]:
        """The tensors that get a gradient: the input and every weight."""
        return (self.x_BTD, *self.weights)

    @property
    def launcher(self) -> Callable[[], None]:
        """The pass that the workload asks for."""
        return self.forward if self.output_gradient is None else self.forward_backward

    @property
    def launched(self) -> bool:
        """Whether a launch has written an output."""
        return self.y_BTD is not None

    def forward(self) -> None:
        """Run a forward pass that keeps nothing for a backward pass."""
        with torch.inference_mode():
            self.y_BTD = block(self.x_BTD, self.weights, self.rope, self.heads)

    def forward_backward(self) -> None:
        """Run a forward and a backward pass; drop the gradients of the pass before."""
        for leaf in self.leaves:
            leaf.grad = None
        y_BTD = block(self.x_BTD, self.weights, self.rope, self.heads)
        torch.autograd.backward(y_BTD, self.output_gradient)
        self.y_BTD = y_BTD.detach()

    def upcast(self, dtype: torch.dtype) -> Buffers:
        """Return the same block in another dtype, from the same bits."""
        weights = Parameters(*(weight.detach().to(dtype, copy=True) for weight in self.weights))
        table = make_rope_table(self.x_BTD.shape[1], self.heads.features, self.x_BTD.device, dtype)
        gradient = None if self.output_gradient is None else self.output_gradient.to(dtype)
        return Buffers(self.x_BTD.detach().to(dtype, copy=True), weights, table, self.heads, gradient)

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
        for name, weight in self.weights._asdict().items():
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
        """The weights of the products, without those of the norms."""
        return {name: weight for name, weight in self.weights._asdict().items() if weight.dim() == 2}


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

    def compute_reference(self) -> None:
        """Run each copy once in the higher precision, keep the compared results and free the rest."""
        # A reference in fp32 must not inherit the tf32 that it checks.
        with numerics("fp32"):
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
