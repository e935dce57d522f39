"""Attention alone: softmax(q·kᵀ/√Q)·v, causal or full, by a named backend, forward or forward and backward.

Legend of the suffixes: B batch, T tokens, H query heads, G key/value heads (G divides H), Q features of a
head, C queries of a piece, S keys that the piece may see, R = H/G query heads that share a key/value head.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nameplate_kernels.attention_backends import (
    DEFAULT,
    attend,
    attention_by,
    check_attention_backend,
    why_no_attention,
)
from nameplate_kernels.digest import WEIGHT_BYTES, digest_of
from nameplate_kernels.numerics import (
    check_fill,
    find_largest_ratio,
    make_filled,
    make_generator,
    numerics,
    precision_of,
    reference_dtype,
)
from nameplate_kernels.workload import CheckResult, Prepared, Workload, halve

ATTENTION_PASSES = ("forward", "forward_backward")
"""The passes that a launch can run."""

BACKWARD_FLOPS = 2.5
"""A backward pass by a forward pass: five products for two, since it computes the scores again."""

CONFIDENCE = 2.0
"""λ of the check's bound."""

# Roundings to storage on the longest way: q and k scaled, scores and probabilities (the math backend stores
# them), their product with v, the output; a gradient's way goes through these again, dP, dS and a product.
_ROUNDINGS = {"y": 8, "q gradient": 24, "k gradient": 24, "v gradient": 16}
_FORWARD_BYTES, _PIECE_BYTES = 2, 1 << 28
_PILOT_TOKENS = (256, 1024, 4096)


@dataclass(frozen=True)
class Attention(Workload):
    """Attention over `batch` sequences of `tokens`, with `heads` query and `kv_heads` key/value heads.

    FLOPs are FlashAttention's: 4·B·T²·H·Q forward, half of it if causal, and 2.5 times that backward. So a
    backward pass counts more than in a block, where the scores that it computes again aren't counted. Raises
    ValueError for sizes that don't fit together, and for an unknown dtype, pass or backend.
    """

    batch: int
    tokens: int
    heads: int
    kv_heads: int
    head_dim: int
    causal: bool
    dtype: str
    pass_: str
    backend: str = DEFAULT

    name = "attention"
    convention = "flash_attention"

    def __post_init__(self) -> None:
        precision_of(self.dtype)
        check_attention_backend(self.backend)
        if self.pass_ not in ATTENTION_PASSES:
            expected = " or ".join(ATTENTION_PASSES)
            raise ValueError(f"attention: unknown pass {self.pass_!r}; expected {expected}")
        sizes = (self.batch, self.tokens, self.heads, self.kv_heads, self.head_dim)
        if min(sizes) < 1:
            raise ValueError(f"attention: sizes must be at least 1, got {sizes}")
        if self.heads % self.kv_heads:
            raise ValueError(f"attention: kv_heads must divide heads, got {self.kv_heads} and {self.heads}")

    @property
    def shape(self) -> str:
        """`1x4096x32x8x128-causal-forward`: batch, tokens, both numbers of heads, features, mask, pass."""
        sizes = "x".join(map(str, (self.batch, self.tokens, self.heads, self.kv_heads, self.head_dim)))
        return f"{sizes}-{'causal' if self.causal else 'full'}-{self.pass_}"

    @property
    def dimensions(self) -> Mapping[str, int | str]:
        """Every number of it, the mask, the pass and the backend that is asked for."""
        return {
            "batch": self.batch,
            "tokens": self.tokens,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "mask": "causal" if self.causal else "none",
            "pass": self.pass_,
            "attention": self.backend,
        }

    @property
    def backward(self) -> bool:
        """Whether a launch runs the backward pass too."""
        return self.pass_ == "forward_backward"

    @property
    def flops(self) -> int:
        """4·B·T²·H·Q, half of it if causal; with the backward pass 3.5 times that (Dao, arXiv:2307.08691)."""
        forward = 4 * self.batch * self.tokens**2 * self.heads * self.head_dim
        forward = forward // 2 if self.causal else forward
        return round(forward * (1 + BACKWARD_FLOPS)) if self.backward else forward

    @property
    def bytes(self) -> int:
        """Forward: q, k and v read, the output written. Backward: these and the output's gradient read, three
        gradients written. Scores aren't counted: a fused kernel doesn't move them.
        """
        rows = self.batch * self.tokens * self.head_dim
        queries, keys = rows * self.heads, 2 * rows * self.kv_heads
        elements = 2 * queries + keys
        if self.backward:
            elements += 4 * queries + 2 * keys
        return elements * precision_of(self.dtype).itemsize

    @property
    def resident_bytes(self) -> int:
        """An estimate: inputs, output, gradients and their references, a piece of the reference's scores, and
        for `math` all T² scores and probabilities.
        """
        moved = self.bytes // precision_of(self.dtype).itemsize
        scores = self.batch * self.heads * self.tokens**2 if self.backend == "math" else 0
        stored, wider = precision_of(self.dtype).itemsize, reference_dtype(self.dtype).itemsize
        held = moved * (stored + wider) + (4 if self.backward else 2) * scores * stored
        return held + 4 * _PIECE_BYTES + WEIGHT_BYTES

    def unsupported(self, device: torch.device) -> str | None:
        """Return a reason for fp64, for tf32 where there is none, and for a backend that can't run here."""
        if self.dtype == "fp64":
            return "attention in fp64 leaves no higher precision to check it against"
        heads = (self.heads, self.kv_heads, self.head_dim)
        return super().unsupported(device) or why_no_attention(
            self.backend, device, self.dtype, heads, causal=self.causal, backward=self.backward
        )

    @property
    def smaller(self) -> Attention | None:
        """Half the sequences, or with one of them half its tokens; None below two tokens."""
        return halve(self)

    def pilots(self) -> tuple[Attention, ...]:
        """Return one key/value head over 256 tokens, then a sequence of all heads over 1,024 and 4,096, up to
        an eighth of this work; none where that is too much already.
        """
        group = self.heads // self.kv_heads
        alone = dataclasses.replace(self, batch=1, tokens=_PILOT_TOKENS[0], heads=group, kv_heads=1)
        shorter = (dataclasses.replace(self, batch=1, tokens=tokens) for tokens in _PILOT_TOKENS[1:])
        return tuple(each for each in (alone, *shorter) if 8 * each.flops <= self.flops)

    def prepare(self, device: torch.device, *, fill: str, seed: int, copies: int = 1) -> PreparedAttention:
        """Allocate `copies` of q, k, v (and of the output's gradient, which is always normal)."""
        check_fill(fill)
        generator = make_generator(device, seed)
        return PreparedAttention(self, [self._buffers(fill, generator) for _ in range(copies)], seed)

    def _buffers(self, fill: str, generator: torch.Generator) -> AttentionBuffers:
        def make(heads: int, fill: str) -> torch.Tensor:
            return make_filled((self.batch, heads, self.tokens, self.head_dim), self.dtype, fill, generator)

        q, k, v = make(self.heads, fill), make(self.kv_heads, fill), make(self.kv_heads, fill)
        gradient = make(self.heads, "normal") if self.backward else None
        return AttentionBuffers(q, k, v, gradient, self.causal, self.backend)


class AttentionBuffers:
    """The tensors of one launcher; `y_BHTQ` is None before the first launch."""

    def __init__(
        self,
        q_BHTQ: torch.Tensor,
        k_BGTQ: torch.Tensor,
        v_BGTQ: torch.Tensor,
        output_gradient: torch.Tensor | None,
        causal: bool,
        backend: str,
    ) -> None:
        self.inputs = (q_BHTQ, k_BGTQ, v_BGTQ)
        self.output_gradient = output_gradient
        self.causal, self.backend = causal, backend
        self.y_BHTQ: torch.Tensor | None = None
        for each in self.inputs:
            each.requires_grad_(output_gradient is not None)

    @property
    def launcher(self) -> Callable[[], None]:
        """The pass that the workload asks for."""
        return self.forward if self.output_gradient is None else self.forward_backward

    @property
    def launched(self) -> bool:
        """Whether a launch has written an output."""
        return self.y_BHTQ is not None

    def forward(self) -> None:
        """Run a forward pass that keeps nothing for a backward pass."""
        with torch.inference_mode():
            self.y_BHTQ = attend(*self.inputs, causal=self.causal, backend=self.backend)

    def forward_backward(self) -> None:
        """Run a forward and a backward pass; drop the gradients of the pass before."""
        for each in self.inputs:
            each.grad = None
        y_BHTQ = attend(*self.inputs, causal=self.causal, backend=self.backend)
        torch.autograd.backward(y_BHTQ, self.output_gradient)
        self.y_BHTQ = y_BHTQ.detach()

    def results(self) -> dict[str, torch.Tensor]:
        """Return the output and, after a backward pass, the gradients; a missing one is NaN."""
        if self.y_BHTQ is None:
            return {}
        found = {"y": self.y_BHTQ}
        if self.output_gradient is not None:
            for name, each in zip("qkv", self.inputs, strict=True):
                missing = torch.full_like(each, math.nan)
                found[f"{name} gradient"] = missing if each.grad is None else each.grad
        return found


@dataclass(frozen=True)
class _Reference:
    """A result in the higher precision, and for each row the standard deviation that rounding of its terms,
    each by a factor of its own, would give it: √(Σ of the terms' squares), as a multiple of the roundoff.
    """

    value: torch.Tensor
    noise: torch.Tensor  # a row's norm; without the last dimension


class PreparedAttention(Prepared):
    """Attention in memory.

    The reference computes the same from the same bits in fp32 (fp64 for fp32), piece by piece of the queries,
    so that it takes no T² memory and a wrong mask shows at any length. Every row of the output, and after a
    backward pass of the three gradients, is compared.
    """

    workload: Attention
    buffers: tuple[AttentionBuffers, ...]

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Set torch's precision, and have attention run by the backend or fail; restored on exit."""
        with super().numerics(), attention_by(self.workload.backend):
            yield

    def compute_reference(self) -> None:
        """Compute each copy once in the higher precision."""
        with numerics("fp32"):
            self._references = [self._reference(each) for each in self.buffers]

    def check(self) -> CheckResult:
        """Compare each copy that was launched, as `Prepared.check` says."""
        error = max(self.errors().values(), default=math.inf)
        reference = "fp64" if self.workload.dtype == "fp32" else "fp32"
        rule = f"each row: ‖ŷ−y‖ ≤ {CONFIDENCE:g}·(u·√roundings + u_acc·√T)·√(‖y‖² + Σ terms²)"
        return CheckResult(reference=reference, error=error, rule=rule)

    def errors(self) -> dict[str, float]:
        """Return the largest error of each compared tensor over all copies, as a fraction of its bound."""
        worst: dict[str, float] = {}
        for buffers, reference in self._launched_with_references():
            for name, result in buffers.results().items():
                worst[name] = max(worst.get(name, 0.0), self._error(name, result, reference[name]))
        return worst

    def digest(self) -> str | None:
        """Return a digest on a CPU, where kernels and products sum in a fixed order; None elsewhere."""
        buffers = self.buffers[0]
        if buffers.y_BHTQ is None or buffers.y_BHTQ.device.type != "cpu":
            return None
        return digest_of(*buffers.results().values())

    def _error(self, name: str, result: torch.Tensor, reference: _Reference) -> float:
        deviation = (result.to(reference.value.dtype) - reference.value).norm(dim=-1)
        precision = precision_of(self.workload.dtype)
        rounding = max(precision.result_roundoff, 2 * precision.input_roundoff)
        summed = precision.accumulate_roundoff * math.sqrt(self.workload.tokens)
        relative = CONFIDENCE * (rounding * math.sqrt(_ROUNDINGS[name]) + summed)
        scale = torch.hypot(reference.value.norm(dim=-1), reference.noise)
        return find_largest_ratio(deviation, relative * scale)

    def _reference(self, buffers: AttentionBuffers) -> dict[str, _Reference]:
        wide = reference_dtype(self.workload.dtype)
        q, k, v = (each.detach().to(wide) for each in buffers.inputs)
        gradient = None if buffers.output_gradient is None else buffers.output_gradient.to(wide)
        found = _Accumulated(q, k, v, backward=gradient is not None)
        for b, g, heads, rows in self._pieces(wide):
            keys = rows.stop if self.workload.causal else self.workload.tokens
            found.add(b, g, heads, rows, keys, gradient, causal=self.workload.causal)
        return found.references()

    def _pieces(self, wide: torch.dtype) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield batch, key/value head, its query heads and a piece of the queries, of bounded memory."""
        work = self.workload
        shared = work.heads // work.kv_heads
        rows = max(1, _PIECE_BYTES // (4 * shared * work.tokens * wide.itemsize))
        for b in range(work.batch):
            for g in range(work.kv_heads):
                for first in range(0, work.tokens, rows):
                    piece = slice(first, min(first + rows, work.tokens))
                    yield b, g, slice(g * shared, (g + 1) * shared), piece


class _Accumulated:
    """The outputs and gradients of all pieces, and the sums of their terms' squares."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, backward: bool) -> None:
        self._q, self._k, self._v = q, k, v
        of = {"y": q} | ({"q gradient": q, "k gradient": k, "v gradient": v} if backward else {})
        self._values = {name: torch.zeros_like(each) for name, each in of.items()}
        self._squares = {name: torch.zeros_like(each[..., 0]) for name, each in of.items()}

    def add(
        self,
        b: int,
        g: int,
        heads: slice,
        rows: slice,
        keys: int,
        gradient: torch.Tensor | None,
        *,
        causal: bool,
    ) -> None:
        """Add the part of these queries."""
        q_RCQ, k_SQ, v_SQ = self._q[b, heads, rows], self._k[b, g, :keys], self._v[b, g, :keys]
        scores_RCS = q_RCQ @ k_SQ.T / math.sqrt(q_RCQ.shape[-1])
        if causal:
            position = torch.arange(keys, device=k_SQ.device)
            scores_RCS.masked_fill_(position[None, :] > position[rows, None], -math.inf)
        p_RCS = torch.softmax(scores_RCS, -1)
        y_RCQ = p_RCS @ v_SQ
        self._values["y"][b, heads, rows] = y_RCQ
        self._squares["y"][b, heads, rows] = (p_RCS.square() @ v_SQ.square()).sum(-1)
        if gradient is None:
            return
        dy_RCQ = gradient[b, heads, rows]
        self._add("v gradient", b, g, keys, p_RCS, dy_RCQ)
        dp_RCS = dy_RCQ @ v_SQ.T
        delta_RC1 = (dy_RCQ * y_RCQ).sum(-1, keepdim=True)
        scale = 1 / math.sqrt(q_RCQ.shape[-1])
        ds_RCS = p_RCS * (dp_RCS - delta_RC1) * scale
        # What the difference is made of is rounded before it is taken, and so are the terms of either sum.
        terms_RCS = (dy_RCQ.square() @ v_SQ.square().T).sqrt()
        size_RCS = terms_RCS + (dy_RCQ * y_RCQ).norm(dim=-1, keepdim=True) + dp_RCS.abs() + delta_RC1.abs()
        size_RCS *= p_RCS * scale
        self._values["q gradient"][b, heads, rows] = ds_RCS @ k_SQ
        self._squares["q gradient"][b, heads, rows] = (size_RCS.square() @ k_SQ.square()).sum(-1)
        self._add("k gradient", b, g, keys, ds_RCS, q_RCQ, size_RCS)

    def _add(
        self,
        name: str,
        b: int,
        g: int,
        keys: int,
        left_RCS: torch.Tensor,
        right_RCQ: torch.Tensor,
        size_RCS: torch.Tensor | None = None,
    ) -> None:
        """Add leftᵀ·right, summed over heads and queries, to the rows of the keys."""
        size_RCS = left_RCS if size_RCS is None else size_RCS
        self._values[name][b, g, :keys] += torch.einsum("rcs,rcq->sq", left_RCS, right_RCQ)
        squares_S = torch.einsum("rcs,rc->s", size_RCS.square(), right_RCQ.square().sum(-1))
        self._squares[name][b, g, :keys] += squares_S

    def references(self) -> dict[str, _Reference]:
        """Return each result with the standard deviation of its rows."""
        return {name: _Reference(value, self._squares[name].sqrt()) for name, value in self._values.items()}
