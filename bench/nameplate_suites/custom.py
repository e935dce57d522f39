"""What the caller asks for: products of given shapes (`--shape`), or one layer of a model (`--model`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nameplate.base.errors import InputError
from nameplate.suite import CUSTOM, Axes, Case, Suite, Target
from nameplate_kernels import LAYOUTS, PRECISIONS, Matmul, TransformerBlock
from nameplate_suites.parts import cache_for

if TYPE_CHECKING:
    from nameplate.models.model import Model

_TOKENS = {"cpu": 128, "cuda": 4096}  # as in suite quick


def _cases(target: Target) -> Iterable[Case]:
    _check(target.axes)
    # Two products of a layer, or a shape and one of a layer, may be the same: it is measured once.
    found: dict[str, Case] = {}
    for case in _generate(target):
        found.setdefault(case.id, case)
    return found.values()


def _generate(target: Target) -> Iterator[Case]:
    axes = target.axes
    dtypes = axes.dtypes or ("bf16",)
    cache = cache_for(target)
    for dtype in dtypes:
        for m, n, k in axes.shapes:
            for layout in axes.layouts or ("nn",):
                yield Case(Matmul(m, n, k, dtype, layout), cache=cache, phase="sustained")
        if axes.model is not None:
            for tokens in axes.tokens or (_TOKENS[target.kind],):
                yield from _layer(axes.model, tokens, dtype, cache)


def _layer(model: Model, tokens: int, dtype: str, cache: str) -> Iterator[Case]:
    """Yield one group: a layer of the model, forward and backward first, and the products it is made of."""
    group = f"layer-{dtype}-{tokens}"
    blocks = [_block(model, tokens, dtype, pass_) for pass_ in ("forward_backward", "forward")]
    for block in blocks:
        yield Case(block, phase="sustained", group=group, weight=2.0)
    for gemm in blocks[-1].gemms():
        yield Case(gemm, phase="sustained", group=group, cache=cache, weight=0.5)


def _block(model: Model, tokens: int, dtype: str, pass_: str) -> TransformerBlock:
    shape = model.shape
    return TransformerBlock(
        batch=1,
        tokens=tokens,
        d_model=shape.width,
        heads=shape.heads,
        kv_heads=shape.kv_heads or shape.heads,
        ffn=shape.ffn,
        dtype=dtype,
        pass_=pass_,
        represents=model.name,
    )


def _check(axes: Axes) -> None:
    """Raise InputError for axes that make no case, or that nothing here measures."""
    if not axes.shapes and axes.model is None:
        raise InputError(
            "nothing to measure", where=f"suite {CUSTOM}", expected="--shape MxNxK or --model NAME"
        )
    for flag, given, belongs in (
        ("--layout", axes.layouts, axes.shapes),
        ("--tokens", axes.tokens, axes.model),
    ):
        if given and not belongs:
            needs = "--shape" if flag == "--layout" else "--model"
            raise InputError("has no effect alone", where=flag, got=given[0], expected=f"{needs} beside it")
    for flag, given_names, known in (
        ("--layout", axes.layouts, LAYOUTS),
        ("--dtype", axes.dtypes, tuple(PRECISIONS)),
    ):
        for name in given_names:
            if name not in known:
                raise InputError("can't be measured", where=flag, got=name, expected=" or ".join(known))
    if axes.model is not None:
        _check_model(axes.model)


def _check_model(model: Model) -> None:
    """Raise InputError for a layer that the block isn't, with the shapes that can be measured instead."""
    shape, why = model.shape, None
    if not shape.gated:
        why = "its feed-forward part has no gate, and the block's has"
    elif shape.experts:
        why = "it is a mixture of experts, and the block is dense"
    elif shape.features != shape.width:
        each = shape.features_of_head
        why = f"its {shape.heads} heads of {each} features aren't its width of {shape.width}"
    elif shape.features_of_head % 2:
        why = f"its heads have {shape.features_of_head} features, and RoPE turns pairs"
    elif shape.attention_weights is not None:
        why = "its attention isn't that of queries, keys and values alone"
    if why is not None:
        shapes = dict.fromkeys(f"TOKENSx{outputs}x{inputs}" for _, outputs, inputs in shape.products)
        raise InputError(
            f"the layer can't be measured: {why}",
            where=f"--model {model.name}",
            expected=f"its products alone: --layout nt --shape {','.join(shapes)}",
        )


SUITE = Suite(
    CUSTOM, "what --shape or --model asks for: products of given shapes, one layer of a model", 60.0, _cases
)
