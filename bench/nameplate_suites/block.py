"""One layer by pass, execution and attention's backend, layers of other models: two minutes (GPU: five)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nameplate.models.load import load_model
from nameplate.suite import Case, Suite, Target
from nameplate_kernels import ATTENTION_BACKENDS, FP8, PASSES, Attention, TransformerBlock
from nameplate_suites.parts import block_of, cache_for, layer_group, matmuls, memory

_FORWARD, _BOTH, _RECOMPUTE, _ADAMW = PASSES
# Cases of a CPU besides the chain's. All take turns in one group: alone, a case or two are over before it can
# be told whether the machine has settled.
_NARROW_GROUP = "narrower"
_CPU_TOKENS, _GPU_TOKENS = 128, 4096
# Layers of other models: on a GPU whole, of so many sequences of their own length; on a CPU narrower, so that
# gradients and reference fit a small machine.
_OTHERS = {
    "gpt3-175b": (1, 8),
    "mixtral-8x7b": (1, 4),
    "vit-l-16": (64, 1),
    "driving-8b": (1, 4),
    "llama3-70b": (1, 8),
    "llama3-405b": (1, 8),
}
_NARROWER = (4, 2)  # of Llama-3-8B on a CPU: with the whole width three sizes, to see how the figure scales
_SHARE = {2: "half", 4: "quarter", 8: "eighth"}


def _cases(target: Target) -> Iterator[Case]:
    cpu = target.kind == "cpu"
    yield from _llama(target, _CPU_TOKENS if cpu else _GPU_TOKENS)
    if cpu:
        yield from _sizes()
    for name, (batch, narrower) in _OTHERS.items():
        if cpu:
            yield from _other(name, (_BOTH,), _NARROW_GROUP, tokens=_CPU_TOKENS, narrower=narrower)
        else:
            yield from _other(name, (_BOTH, _FORWARD), f"model-{name}", batch=batch)


def _llama(target: Target, tokens: int) -> Iterator[Case]:
    """Yield the chain's group (a square product, the block in two ways, its products), then other ways."""
    whole = TransformerBlock.llama3_8b(tokens, "bf16", _BOTH)
    axes: dict[str, Any] = {"phase": "sustained", "group": f"layer-bf16-{tokens}"}
    yield from matmuls(target, ("bf16",), (2048 if target.kind == "cpu" else 8192,), weight=1.0, **axes)
    yield _case(whole, weight=3.0, **axes)
    yield _case(replace(whole, pass_=_FORWARD), weight=2.0, **axes)
    yield _case(replace(whole, execution="compiled"), weight=3.0, **axes)
    for gemm in replace(whole, pass_=_FORWARD).gemms():
        yield Case(gemm, cache=cache_for(target), weight=0.5, **axes)
    yield Case(
        Attention(1, tokens, whole.heads, whole.kv_heads, whole.head_dim, True, "bf16", _FORWARD),
        weight=0.5,
        **axes,
    )
    yield from memory(target, 256 if target.kind == "cpu" else 1024, kinds=("copy",), group=axes["group"])
    axes["group"] = f"ways-bf16-{tokens}"
    if target.kind == "cuda":
        yield _case(replace(whole, execution="graph"), weight=2.0, **axes)
    yield _case(replace(whole, pass_=_FORWARD, execution="compiled"), weight=2.0, **axes)
    yield _case(replace(whole, pass_=_RECOMPUTE), weight=2.0, **axes)
    yield _case(replace(whole, pass_=_ADAMW), weight=2.0, **axes)
    if target.kind == "cuda":
        axes["group"] = f"attention-bf16-{tokens}"
    for backend in ("math",) if target.kind == "cpu" else ATTENTION_BACKENDS[1:]:
        yield _case(replace(whole, attention=backend), weight=2.0, **axes)
    if target.kind == "cuda":
        yield from _in_fp8(target, replace(whole, dtype=FP8))
        return
    axes["group"] = f"kept-memory-bf16-{tokens}"  # whose process keeps what it frees, for all that it runs
    yield _case(replace(whole, execution="kept_memory"), weight=2.5, **axes)
    yield _case(replace(whole, pass_=_ADAMW, execution="kept_memory"), weight=1.5, **axes)


def _in_fp8(target: Target, block: TransformerBlock) -> Iterator[Case]:
    """Yield the same layer with its linear layers in fp8, in two ways, and what its chain needs."""
    axes: dict[str, Any] = {"phase": "sustained", "group": layer_group(block.tokens, FP8)}
    yield from matmuls(target, (FP8,), (8192,), "nt", weight=1.0, **axes)
    yield _case(block, weight=2.0, **axes)
    yield _case(replace(block, execution="compiled"), weight=2.0, **axes)
    for gemm in replace(block, pass_=_FORWARD).gemms():
        yield Case(gemm, cache=cache_for(target), weight=0.5, **axes)


def _sizes() -> Iterator[Case]:
    for narrower in _NARROWER:
        for pass_ in (_BOTH, _FORWARD):
            block = TransformerBlock.llama3_8b(_CPU_TOKENS, "bf16", pass_, width=1 / narrower)
            yield _case(block, phase="sustained", group=_NARROW_GROUP, weight=1.0)


def _other(
    name: str,
    passes: Iterable[str],
    group: str,
    *,
    tokens: int | None = None,
    batch: int = 1,
    narrower: int = 1,
) -> Iterator[Case]:
    """Yield passes of a layer of another model, on so many tokens or those of the model's own context."""
    model = load_model(name)
    label = name if narrower == 1 else f"{name}-{_SHARE[narrower]}"
    of_itself = min(model.context or _GPU_TOKENS, 2 * _GPU_TOKENS)
    for pass_ in passes:
        block = block_of(
            model, tokens or of_itself, "bf16", pass_, batch=batch, narrower=narrower, label=label
        )
        yield _case(block, phase="sustained", group=group, weight=1.0 if tokens else 1.5)


def _case(block: TransformerBlock, **axes: Any) -> Case:
    return Case(block, backend=block.backend, **axes)


SUITE = Suite(
    "block",
    "one Llama-3-8B layer by pass, execution and attention, and layers of other models",
    120.0,
    _cases,
    processes=2,
    gpu_budget_s=300.0,
)
