"""How FLOPs of training are counted: one table of conventions, and exact conversions between them.

An MFU is FLOPs ÷ (time × peak), so two sources that count FLOPs differently state different MFUs of the same
run. Each convention here is a formula of the model's shape and the context, in FLOPs a token of a forward and
a backward pass. An MFU is converted by the ratio of the two formulas, which is exact once the shape is known.

L layers of width d, H heads of Q features, K key/value heads, F features of the MLP, V words, T tokens of
context; N parameters with embeddings, of which N' work on a token (fewer than N only with experts):

    weights   = 6 × (products of all layers that a token passes + V·d of the logits)
    attention = 12·L·H·Q·T in full: scores and values of all T² pairs; a causal mask leaves half of it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nameplate.base.errors import InputError
from nameplate.models.shape import ModelShape

# FLOPs a token for each weight: 2 forward, and 4 backward for the gradients of inputs and of weights.
_PER_WEIGHT = 6
_PER_WEIGHT_RECOMPUTED = 8  # and 2 more where the forward pass is run again
# A layer's two attention products over T tokens: 4·T FLOPs for each feature forward, and twice that backward.
_PER_ATTENDED = 12
_PER_ATTENDED_RECOMPUTED = 16
# FlashAttention keeps no scores: its backward pass runs five products where two and two would do, so forward
# and backward together are 3.5 times a forward pass (Dao, arXiv 2307.08691, section 4.1).
_EXECUTED_PER_ATTENDED = 14
_CAUSAL = 0.5  # what a causal mask leaves of the pairs


Formula = Callable[[ModelShape, float], float]


@dataclass(frozen=True)
class Convention:
    """One way to count: its formula as text, who uses it, and FLOPs a token of a shape and context."""

    name: str
    formula: str
    used_by: str
    flops_per_token: Formula
    counts_recomputation: bool = False  # an HFU, where the forward pass is run again


def attention_flops(shape: ModelShape, context: float) -> float:
    """12·L·H·Q·T: attention's FLOPs a token, forward and backward, as if nothing were masked."""
    return _PER_ATTENDED * shape.layers * shape.features * context


def weight_flops(shape: ModelShape) -> float:
    """FLOPs a token of the layers' matrices and of the logits, forward and backward."""
    return _PER_WEIGHT * (shape.layer_weights + shape.logit_weights)


def _count_6n(shape: ModelShape, _context: float) -> float:
    return _PER_WEIGHT * shape.active_parameters


def _count_nanogpt(shape: ModelShape, context: float) -> float:
    return _PER_WEIGHT * shape.active_parameters + attention_flops(shape, context)


def _count_torchtitan(shape: ModelShape, context: float) -> float:
    multiplied = shape.active_parameters - shape.looked_up_parameters
    return _PER_WEIGHT * multiplied + attention_flops(shape, context)


def _count_megatron_2022(shape: ModelShape, context: float) -> float:
    return weight_flops(shape) + attention_flops(shape, context)


def _count_megatron(shape: ModelShape, context: float) -> float:
    return weight_flops(shape) + _CAUSAL * attention_flops(shape, context)


def _count_llm_foundry_hfu(shape: ModelShape, context: float) -> float:
    attended = attention_flops(shape, context) * _PER_ATTENDED_RECOMPUTED / _PER_ATTENDED
    return _PER_WEIGHT_RECOMPUTED * shape.active_parameters + attended


def _count_megatron_2021_hfu(shape: ModelShape, context: float) -> float:
    attended = attention_flops(shape, context) * _PER_ATTENDED_RECOMPUTED / _PER_ATTENDED
    # The logits aren't recomputed.
    layers = _PER_WEIGHT_RECOMPUTED * shape.layer_weights
    return layers + _PER_WEIGHT * shape.logit_weights + attended


def _count_executed(shape: ModelShape, context: float) -> float:
    attended = attention_flops(shape, context) * _EXECUTED_PER_ATTENDED / _PER_ATTENDED
    return weight_flops(shape) + _CAUSAL * attended


# The convention of this chain, in which derates are stated unless another is asked for.
OWN = "megatron"

CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        each.name: each
        for each in (
            Convention("6n", "6N'", "Kaplan et al. 2020; model cards", _count_6n),
            Convention("nanogpt", "6N' + 12LHQT", "nanoGPT; llm-foundry's MFU", _count_nanogpt),
            Convention(
                "torchtitan",
                "6(N' − table of embeddings) + 12LHQT",
                "torchtitan; PaLM",
                _count_torchtitan,
            ),
            Convention(
                "megatron_2022",
                "6(matrices + Vd) + 12LHQT",
                "Megatron-LM papers of 2021 and 2022; NVIDIA's benchmark recipes",
                _count_megatron_2022,
            ),
            Convention(
                OWN,
                "6(matrices + Vd) + 6LHQT",
                "Megatron-LM since it halves causal attention",
                _count_megatron,
            ),
            Convention("llm_foundry_mfu", "6N' + 12LHQT", "MosaicML llm-foundry", _count_nanogpt),
            Convention(
                "llm_foundry_hfu",
                "8N' + 16LHQT",
                "MosaicML llm-foundry with activation checkpointing",
                _count_llm_foundry_hfu,
                counts_recomputation=True,
            ),
            Convention(
                "megatron_2021_hfu",
                "8 matrices + 6Vd + 16LHQT",
                "Megatron-LM of 2021 with full recomputation (arXiv 2104.04473); BigScience",
                _count_megatron_2021_hfu,
                counts_recomputation=True,
            ),
            Convention(
                "executed",
                "6(matrices + Vd) + 7LHQT",
                "what kernels run: half of attention, whose backward pass computes the scores again",
                _count_executed,
            ),
        )
    }
)

# Where a source states an MFU and no convention, it may be any of those that don't count recomputation.
CANDIDATES = tuple(
    name for name, each in CONVENTIONS.items() if not each.counts_recomputation and name != "executed"
)


def find_convention(name: str) -> Convention:
    """The convention of that name. Raises InputError for another."""
    if name not in CONVENTIONS:
        raise InputError(
            "no such convention", where="--convention", got=name, expected=f"one of {', '.join(CONVENTIONS)}"
        )
    return CONVENTIONS[name]


def flops_per_token(shape: ModelShape, context: float, convention: str = OWN) -> float:
    """FLOPs a token of a forward and a backward pass. Raises InputError for an unknown convention."""
    return find_convention(convention).flops_per_token(shape, context)


def convert(mfu: float, shape: ModelShape, context: float, given: str, wanted: str = OWN) -> float:
    """The MFU by `wanted` of a run whose MFU by `given` is known: exact, since only the numerator differs."""
    return mfu * flops_per_token(shape, context, wanted) / flops_per_token(shape, context, given)


def convert_unknown(mfu: float, shape: ModelShape, context: float, wanted: str = OWN) -> tuple[float, float]:
    """The lowest and highest MFU by `wanted`, over every convention that a silent source may have used."""
    found = [convert(mfu, shape, context, given, wanted) for given in CANDIDATES]
    return min(found), max(found)
