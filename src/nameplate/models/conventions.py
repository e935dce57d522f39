"""How FLOPs of training are counted: one table of conventions, and exact conversions between them.

An MFU is FLOPs ÷ (time × peak), so two sources that count FLOPs differently state different MFUs of the same
run. Each convention here is a formula of the model's shape and the context, in FLOPs a token of a forward and
a backward pass. An MFU is converted by the ratio of the two formulas, which is exact once the shape is known.

L layers of width d, H heads of Q features, K key/value heads, F features of the MLP, V words, T tokens of
context; N parameters with embeddings, of which N' work on a token (fewer than N only with experts),
and lookup = V·d those of the embedding's table where the logits have their own:

    weights   = 6 × (products of all layers that a token passes + V·d of the logits)
    attention = 12·L·H·Q·T in full: scores and values of all T² pairs; a causal mask leaves half of it

A forward pass is a third of either. What is run again in the backward pass is counted by some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nameplate.base.errors import InputError
from nameplate.models.shape import ModelShape

# FLOPs a token and weight of a forward pass. A backward pass counts twice a forward pass: the gradients of
# inputs and of weights are a product each.
_PER_WEIGHT = 2
# … and of a layer's two attention products over T tokens, for each feature and each of the T.
_PER_ATTENDED = 4
_PASSES = 3  # forward, and twice that backward
_CAUSAL = 0.5  # what a causal mask leaves of the pairs


Count = Callable[[ModelShape], float]
Again = Callable[[ModelShape, float], float]


def _nothing(_shape: ModelShape, _context: float = 0.0) -> float:
    return 0.0


@dataclass(frozen=True)
class Convention:
    """One way to count: its formula as text, who uses it, and what it counts.

    `weights` are those that a token is multiplied with, `pairs` the share of all T² pairs that attention
    counts, and `again` FLOPs a token that the backward pass runs a second time.
    """

    name: str
    formula: str  # FLOPs a token, forward and backward
    used_by: str
    weights: Count
    pairs: Count
    again: Again = _nothing
    formula_unmasked: str = ""  # of an encoder, where it differs

    def formula_of(self, shape: ModelShape) -> str:
        """Its formula for such a model: without a mask attention is counted in full by all."""
        return self.formula if shape.causal else self.formula_unmasked or self.formula

    def forward_flops(self, shape: ModelShape, context: float) -> float:
        """FLOPs a token of a forward pass."""
        return _PER_WEIGHT * self.weights(shape) + self.pairs(shape) * attended_flops(shape, context)

    def flops_per_token(self, shape: ModelShape, context: float) -> float:
        """FLOPs a token of a forward and a backward pass."""
        return _PASSES * self.forward_flops(shape, context) + self.again(shape, context)

    @property
    def counts_recomputation(self) -> bool:
        """Whether it is an HFU, or counts what kernels run again."""
        return self.again is not _nothing


def attended_flops(shape: ModelShape, context: float) -> float:
    """4·L·H·Q·T: attention's FLOPs a token in a forward pass, as if nothing were masked."""
    return _PER_ATTENDED * shape.layers * shape.features * context


def attention_flops(shape: ModelShape, context: float) -> float:
    """12·L·H·Q·T: attention's FLOPs a token, forward and backward, as if nothing were masked."""
    return _PASSES * attended_flops(shape, context)


def weight_flops(shape: ModelShape) -> float:
    """FLOPs a token of the layers' matrices and of the logits, forward and backward."""
    return _PASSES * _PER_WEIGHT * _matrices(shape)


def _matrices(shape: ModelShape) -> float:
    return shape.layer_weights + shape.logit_weights


def _active(shape: ModelShape) -> float:
    return shape.active_parameters


def _multiplied(shape: ModelShape) -> float:
    return shape.active_parameters - shape.looked_up_parameters


def _all_pairs(_shape: ModelShape) -> float:
    return 1.0


def _unmasked_pairs(shape: ModelShape) -> float:
    return _CAUSAL if shape.causal else 1.0


def _forward_of_all_parameters(shape: ModelShape, context: float) -> float:
    return _PER_WEIGHT * shape.active_parameters + attended_flops(shape, context)


def _forward_of_layers(shape: ModelShape, context: float) -> float:
    # The logits aren't recomputed.
    return _PER_WEIGHT * shape.layer_weights + attended_flops(shape, context)


def _scores(shape: ModelShape, context: float) -> float:
    # FlashAttention keeps no scores: its backward pass runs five products where two and two would do, so
    # forward and backward together are 3.5 times a forward pass (Dao, arXiv 2307.08691, section 4.1).
    return _unmasked_pairs(shape) * attended_flops(shape, context) / 2


# The convention of this chain, in which derates are stated unless another is asked for.
OWN = "megatron"

CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        each.name: each
        for each in (
            Convention("6n", "6N'", "Kaplan et al. 2020; model cards", _active, _nothing),
            Convention("nanogpt", "6N' + 12LHQT", "nanoGPT; llm-foundry's MFU", _active, _all_pairs),
            Convention(
                "torchtitan",
                "6(N' − lookup) + 12LHQT",
                "torchtitan; PaLM",
                _multiplied,
                _all_pairs,
            ),
            Convention(
                "megatron_2022",
                "6(matrices + Vd) + 12LHQT",
                "Megatron-LM papers of 2021 and 2022; NVIDIA's benchmark recipes",
                _matrices,
                _all_pairs,
            ),
            Convention(
                OWN,
                "6(matrices + Vd) + 6LHQT",
                "Megatron-LM since it halves causal attention",
                _matrices,
                _unmasked_pairs,
                formula_unmasked="6(matrices + Vd) + 12LHQT",
            ),
            Convention("llm_foundry_mfu", "6N' + 12LHQT", "MosaicML llm-foundry", _active, _all_pairs),
            Convention(
                "llm_foundry_hfu",
                "8N' + 16LHQT",
                "MosaicML llm-foundry with activation checkpointing",
                _active,
                _all_pairs,
                _forward_of_all_parameters,
            ),
            Convention(
                "megatron_2021_hfu",
                "8 matrices + 6Vd + 16LHQT",
                "Megatron-LM of 2021 with full recomputation (arXiv 2104.04473); BigScience",
                _matrices,
                _all_pairs,
                _forward_of_layers,
            ),
            Convention(
                "executed",
                "6(matrices + Vd) + 7LHQT",
                "what kernels run: half of attention, whose backward pass computes the scores again",
                _matrices,
                _unmasked_pairs,
                _scores,
                formula_unmasked="6(matrices + Vd) + 14LHQT",
            ),
        )
    }
)

# The conventions that stand beside one another in a record and in an MFU.
SHOWN = ("6n", "nanogpt", "torchtitan", "megatron_2022", OWN, "llm_foundry_hfu", "executed")
# Where a source states an MFU and no convention, it may be any of those that don't count recomputation.
CANDIDATES = tuple(name for name, each in CONVENTIONS.items() if not each.counts_recomputation)


def find_convention(name: str) -> Convention:
    """The convention of that name. Raises InputError for another."""
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise InputError(
            "no such convention", where="--convention", got=name, expected=f"one of {', '.join(CONVENTIONS)}"
        )
    return CONVENTIONS[name]


def flops_per_token(shape: ModelShape, context: float, convention: str = OWN) -> float:
    """FLOPs a token of a forward and a backward pass. Raises InputError for an unknown convention."""
    return find_convention(convention).flops_per_token(shape, context)


def flops_per_token_by_convention(shape: ModelShape, context: float) -> dict[str, float]:
    """FLOPs a token of a forward and a backward pass, by each convention of `SHOWN`."""
    return {name: flops_per_token(shape, context, name) for name in SHOWN}


def convert(mfu: float, shape: ModelShape, context: float, given: str, wanted: str = OWN) -> float:
    """The MFU by `wanted` of a run whose MFU by `given` is known: exact, since only the numerator differs."""
    return mfu * flops_per_token(shape, context, wanted) / flops_per_token(shape, context, given)


def convert_unknown(mfu: float, shape: ModelShape, context: float, wanted: str = OWN) -> tuple[float, float]:
    """The lowest and highest MFU by `wanted`, over every convention that a silent source may have used."""
    found = [convert(mfu, shape, context, given, wanted) for given in CANDIDATES]
    return min(found), max(found)
