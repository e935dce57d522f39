"""Two minutes: a training step in pieces (layer, embedding and logits, AdamW), and small models whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nameplate.models.load import load_model
from nameplate.suite import Case, Suite, Target
from nameplate_kernels import TrainingStep, TransformerBlock
from nameplate_suites.parts import cache_for, layer_group, matmuls

_STEP, _ENDS, _ADAMW = "step", "embedding_head", "adamw"
_CPU_TOKENS, _GPU_TOKENS = 128, 4096
_NARROWER = 4  # the whole small models of a CPU: width, heads and words, so that each keeps its share
_CPU_LAYERS, _GPU_LAYERS = (1, 4), (2,)
# With a whole vocabulary weights, gradients and moments of AdamW alone would take a CPU 10 GB; its time goes
# with the weights.
_CPU_ADAMW_WORDS = 4096


def _cases(target: Target) -> Iterator[Case]:
    words = load_model("llama3-8b").shape.vocabulary
    if target.kind == "cuda":
        yield from _pieces(target, _GPU_TOKENS, words, words, layers=_GPU_LAYERS)
        return
    yield from _small(_CPU_TOKENS, words // _NARROWER)
    yield from _pieces(target, _CPU_TOKENS, words, _CPU_ADAMW_WORDS)


def _pieces(
    target: Target, tokens: int, words: int, adamw_words: int, layers: tuple[int, ...] = ()
) -> Iterator[Case]:
    """Yield the chain's group: a square product, the layer, its products, the other pieces; small models."""
    axes: dict[str, Any] = {"phase": "sustained", "group": layer_group(tokens, "bf16")}
    layer = TransformerBlock.llama3_8b(tokens, "bf16", "forward_backward")
    yield from matmuls(target, ("bf16",), (2048 if target.kind == "cpu" else 8192,), **axes)
    yield Case(layer, weight=3.0, **axes)
    for gemm in replace(layer, pass_="forward").gemms():
        yield Case(gemm, cache=cache_for(target), weight=0.5, **axes)
    yield Case(TrainingStep(layer, 0, words, _ENDS), weight=3.0, **axes)
    yield Case(TrainingStep(layer, 1, adamw_words, _ADAMW), weight=1.0, **axes)
    for each in layers:
        yield Case(TrainingStep(layer, each, words), weight=2.0, **axes)


def _small(tokens: int, words: int) -> Iterator[Case]:
    """Yield the pieces of a narrower model, and small ones whole, in turn."""
    axes: dict[str, Any] = {"phase": "sustained", "group": f"step-bf16-{tokens}"}
    layer = TransformerBlock.llama3_8b(tokens, "bf16", "forward_backward", width=1 / _NARROWER)
    yield Case(layer, **axes)
    yield Case(TrainingStep(layer, 0, words, _ENDS), **axes)
    yield Case(TrainingStep(layer, 1, words, _ADAMW), **axes)
    for layers in _CPU_LAYERS:
        yield Case(TrainingStep(layer, layers, words), weight=1.5, **axes)


SUITE = Suite(
    "step",
    "two minutes: a training step by its pieces, beside small models trained whole",
    120.0,
    _cases,
    processes=2,
)
