"""One pre-norm block: by default Llama 3's, grouped-query causal attention with RoPE, then SwiGLU.

    h = x + attention(norm(x))
    y = h + (silu(n·W1ᵀ) ∘ (n·W3ᵀ))·W2ᵀ   with n = norm(h)

(Grattafiori et al., The Llama 3 Herd of Models, arXiv:2407.21783, 2024, table 3; W_qkv fused as in gpt-fast.)
A `Kind` says what is otherwise: LayerNorm, biases, gelu(n·W1ᵀ)·W2ᵀ (GPT-3), no mask (ViT), experts (Mixtral).

Here stand its sizes, FLOPs and bytes; the equations in `block_layers`, where the legend of the suffixes is,
launches in `block_launch`, checks in `block_check`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nameplate_kernels.attention_backends import DEFAULT, check_attention_backend, why_no_attention
from nameplate_kernels.block_check import PreparedBlock
from nameplate_kernels.block_launch import (
    ADAMW,
    BOTH,
    EXECUTIONS,
    FORWARD,
    PASSES,
    Buffers,
    deal_experts,
    fill_weights,
    why_not_executed,
)
from nameplate_kernels.block_layers import (
    NORM_EPSILON,
    ROPE_THETA,
    Heads,
    Kind,
    Parameters,
    make_rope_table,
)
from nameplate_kernels.digest import WEIGHT_BYTES
from nameplate_kernels.fp8_linear import FP8
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.numerics import (
    check_fill,
    make_filled,
    make_generator,
    precision_of,
    reference_dtype,
)
from nameplate_kernels.scaled_operands import why_lacking
from nameplate_kernels.workload import Workload, halve

NORMS = ("rms", "layer")
"""Root mean square norm, and LayerNorm."""

# What pilots divide the width by, and their tokens. A block of at most that width keeps it.
_PILOTS = ((8, 128), (4, 256), (2, 512), (1, 1024))
_PILOT_WIDTH = 512
_COMPILE_S = 15.0
_FP8_MULTIPLE = 16  # of every size of an fp8 product (torch's own check of _scaled_mm)


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

    `dtype` is that of everything, or `fp8_e4m3`: then the linear layers multiply in it, forward and for both
    gradients (`fp8_linear`), and all else is bf16.

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
        precision_of(self.stored)
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
        if self.bias or self.dtype == FP8:
            raise ValueError("transformer_block: experts with biases, or in fp8, aren't known")

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
        mixed = self.flops_by_dtype or {}
        return {
            **experts,
            **{f"{dtype}_flops": flops for dtype, flops in mixed.items() if dtype != self.dtype},
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
    def stored(self) -> str:
        """The dtype of weights, activations and gradients: bf16 of a block whose linear layers are in fp8."""
        return "bf16" if self.dtype == FP8 else self.dtype

    @property
    def flops_by_dtype(self) -> dict[str, int] | None:
        """FLOPs by the dtype that they are in, where there are several; else None."""
        if self.dtype != FP8:
            return None
        scores = self._score_flops * (3 if self.backward else 1)
        return {FP8: self.flops - scores, self.stored: scores}

    @property
    def _score_flops(self) -> int:
        """Of attention's products, forward."""
        return (2 if self.causal else 4) * self.batch * self.tokens**2 * self.heads * self.head_dim

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
        return (products + self._score_flops) * (3 if self.backward else 1)

    @property
    def parameters(self) -> int:
        """Weights of one block, norms included."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

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
        return elements * precision_of(self.stored).itemsize

    @property
    def activation_elements(self) -> int:
        """An estimate of what a forward pass stores, or keeps for the backward pass."""
        inner = 4 * self.ffn * (self.active_experts or 1)
        wide = 8 * self.d_model + inner + 3 * (self.heads + 2 * self.kv_heads) * self.head_dim
        return self.batch * self.tokens * wide

    @property
    def resident_bytes(self) -> int:
        """An estimate: parameters and activations, with gradients where there are any, and the same again in
        the reference's dtype. In fp64 this includes all T² scores of the heads, because CUDA stores them. A
        digest is made after the reference's activations are freed, and takes less; its weights stay.
        """
        held = (self.parameters + self.activation_elements) * (2 if self.backward else 1)
        if self.pass_ == ADAMW:
            held += 2 * self.parameters
        reference = reference_dtype(self.dtype)
        stores = reference is torch.float64 or self.attention == "math"
        scores = 3 * self.batch * self.heads * self.tokens**2 if stores else 0
        stored, wider = precision_of(self.stored).itemsize, reference.itemsize
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
            or self._why_no_fp8(device)
            or why_not_executed(self.execution, device)
            or why_no_attention(
                self.attention, device, self.stored, heads, causal=self.causal, backward=self.backward
            )
        )

    def _why_no_fp8(self, device: torch.device) -> str | None:
        if self.dtype != FP8:
            return None
        if device.type == "cpu":
            return "no CPU here multiplies in fp8: torch would convert the numbers first"
        odd = [each for each in (self.batch * self.tokens, self.d_model, self.ffn) if each % _FP8_MULTIPLE]
        if odd:
            return f"fp8 products need multiples of {_FP8_MULTIPLE}, and {odd[0]} is none"
        return why_lacking(FP8, "tensor", device)

    @property
    def smaller(self) -> TransformerBlock | None:
        """Half the sequences, or with one of them half its tokens; None below two tokens."""
        return halve(self)

    def with_batch(self, batch: int) -> TransformerBlock:
        """Return the same block on so many sequences."""
        return dataclasses.replace(self, batch=batch)

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
        shapes, rows = self.weight_shapes, self.batch * self.tokens
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
        buffers = [self._buffers(fill, generator) for _ in range(copies)]
        return PreparedBlock(
            self,
            buffers,
            seed,
            execution=self.execution,
            depth=max(self.d_model, self.ffn, self.tokens),
            same_reference=[(each, fill, seed, device) for each in self._with_same_reference()],
        )

    def _with_same_reference(self) -> list[TransformerBlock]:
        """Return the blocks whose reference holds for this one: whoever runs it, and, forward alone, that of
        both passes too. Experts are dealt out by numbers that a gradient's come before.
        """
        plain = dataclasses.replace(self._eager, attention=DEFAULT, label=None)
        both = dataclasses.replace(plain, pass_=BOTH)
        if self.backward:
            return [both]
        return [plain] if self.experts else [plain, both]

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
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
        x_BTD = make_filled(shape, self.stored, fill, generator)
        made = fill_weights(self.weight_shapes, self.stored, generator)
        weights = Parameters(**{"w3_FD": None, **made})  # type: ignore[arg-type]
        heads = Heads(self.heads, self.kv_heads, self.head_dim)
        rope = make_rope_table(self.tokens, self.head_dim, generator.device, torch.float32)
        output_gradient = make_filled(shape, self.stored, "normal", generator) if self.backward else None
        kind = Kind(self.rotary, self.causal, self.attention, self.dtype == FP8)
        routing = None
        if self.experts:
            rows = self.batch * self.tokens
            routing = deal_experts(rows, self.experts, self.active_experts, generator)
        return Buffers(x_BTD, weights, rope, heads, output_gradient, kind, routing, self.pass_)
