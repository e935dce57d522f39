"""Groups of cases that the shipped suites are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nameplate.base.errors import InputError
from nameplate.models.model import Model
from nameplate.models.shape import ModelShape
from nameplate.suite import Case, Target
from nameplate_kernels import Matmul, Memory, TransformerBlock

# Without FP16 arithmetic an FP16 product runs at 1 to 3 GFLOPS (torch 2.13, Zen 4): there this edge takes
# some 20 ms a launch, and 1024 over a second. The record has the size.
SLOW_EDGE = 256
# Of a layer, the pass that training runs first; the forward pass alone is inference's.
PASSES = ("forward_backward", "forward")
_MEBIBYTE = 1 << 20


def cache_for(target: Target) -> str:
    """Return the cache state of a compute case: rotating on a GPU, since new tensors would be in its L2."""
    return "rotating" if target.kind == "cuda" else "warm"


def matmuls(
    target: Target,
    dtypes: Iterable[str],
    edges: Iterable[int],
    layout: str = "nn",
    *,
    fp32_sums: bool = False,
    **axes: Any,
) -> Iterator[Case]:
    """Yield square products, dtype by dtype; small ones for a dtype in which a CPU has no arithmetic.

    `axes` are those of `Case`: weight, phase, group, fill, cache.
    """
    edges = tuple(edges)
    axes.setdefault("cache", cache_for(target))
    for dtype in dtypes:
        for edge in edges if _runs_well(target, dtype) else (SLOW_EDGE,):
            yield Case(Matmul(edge, edge, edge, dtype, layout, fp32_sums=fp32_sums), **axes)


def _runs_well(target: Target, dtype: str) -> bool:
    return dtype != "fp16" or target.kind != "cpu" or "fp16" in target.rated_dtypes


def layer(
    target: Target,
    tokens: int,
    dtype: str,
    edge: int,
    weight: float = 4.0,
    passes: Iterable[str] = PASSES,
) -> Iterator[Case]:
    """Yield one group for the chain, measured in turn after settling: a square product of `edge`, one
    Llama-3-8B layer (by default forward and backward first, then forward), and the products it is made of.
    """
    axes: dict[str, Any] = {"phase": "sustained", "group": layer_group(tokens, dtype)}
    # A launch of a block takes a CPU seconds, and a GPU milliseconds: there every case needs the same time.
    block, product, gemm = (4, 1, 0.5) if target.kind == "cpu" else (1.5, 1.5, 1.5)
    yield from matmuls(target, (dtype,), (edge,), weight=product * weight / 4, **axes)
    yield from blocks(tokens, dtype, passes=passes, weight=block * weight / 4, **axes)
    for each in TransformerBlock.llama3_8b(tokens, dtype, "forward").gemms():
        yield Case(each, cache=cache_for(target), weight=gemm * weight / 4, **axes)


def layer_group(tokens: int, dtype: str) -> str:
    """Return the name of the group of `layer`, for cases that are measured in turn with it."""
    return f"layer-{dtype}-{tokens}"


def blocks(
    tokens: int, dtype: str, width: float = 1.0, passes: Iterable[str] = PASSES, **axes: Any
) -> Iterator[Case]:
    """Yield one Llama-3-8B layer: by default forward and backward pass first, then the forward pass alone."""
    for each in passes:
        yield Case(TransformerBlock.llama3_8b(tokens, dtype, each, width=width), **axes)


def block_of(
    model: Model, tokens: int, dtype: str, pass_: str, *, batch: int = 1, narrower: int = 1, **how: Any
) -> TransformerBlock:
    """Return one layer of a model; `how` are its attention, execution and label.

    `narrower` divides width, heads and feed-forward width; such a block represents no model. Raises
    InputError for a model whose layer the block isn't.
    """
    shape = model.shape
    if shape.attention_weights is not None or shape.shared_ffn:
        raise InputError(
            "the layer can't be measured: its attention isn't that of queries, keys and values alone, or it "
            "has experts that all tokens share",
            where=f"--model {model.name}",
            expected=f"its products alone: --layout nt --shape {','.join(_products_of(shape, tokens))}",
        )
    try:
        return TransformerBlock(
            batch=batch,
            tokens=tokens,
            d_model=shape.width // narrower,
            heads=shape.heads // narrower,
            kv_heads=max((shape.kv_heads or shape.heads) // narrower, 1),
            ffn=(shape.expert_ffn if shape.experts else shape.ffn) // narrower,
            dtype=dtype,
            pass_=pass_,
            represents=model.name if narrower == 1 else None,
            features=None if shape.features == shape.width else shape.features_of_head,
            gated=shape.gated,
            norm=model.norm,
            bias=model.bias,
            rotary=model.positions == "rotary",
            causal=shape.causal,
            experts=shape.experts,
            active_experts=shape.active_experts,
            **how,
        )
    except ValueError as error:
        raise InputError(
            f"the layer can't be measured: {error}", where=f"--model {model.name} --tokens {tokens}"
        ) from None


def _products_of(shape: ModelShape, tokens: int) -> dict[str, None]:
    return dict.fromkeys(f"{tokens}x{outputs}x{inputs}" for _, outputs, inputs in shape.products)


def memory(
    target: Target,
    *mebibytes: int,
    kinds: Iterable[str] = ("copy", "triad"),
    weight: float = 0.5,
    group: str | None = None,
) -> Iterator[Case]:
    """Yield copy and triad over arrays of these MiB, in enough buffer sets to overflow the cache.

    With one set the figure could be that of the cache or of the memory, depending on what ran in between. An
    array is never smaller than the last-level cache: otherwise much of a set could still be in it, since
    caches don't evict strictly the oldest lines.
    """
    least = -(-(target.cache_bytes or 0) // _MEBIBYTE)
    enough = 1 << max(least - 1, 0).bit_length()  # a power of two, for ids that few machines differ in
    for size in dict.fromkeys(max(each, enough) for each in mebibytes):
        for kind in kinds:
            yield Case(Memory(kind, "fp32", size), cache="rotating", weight=weight, group=group)
