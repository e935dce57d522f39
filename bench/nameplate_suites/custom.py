"""What the caller asks for: products of given shapes (`--shape`), or one layer of a model (`--model`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError
from nameplate.base.model import LARGEST, is_possible
from nameplate.models.products import ProductSet, find_products
from nameplate.suite import CUSTOM, Axes, Case, Suite, Target
from nameplate_kernels import (
    FP8,
    GROUPED,
    LAYOUTS,
    LOOP,
    PRECISIONS,
    PRODUCT_PRECISIONS,
    GroupedProduct,
    Matmul,
    ModelProduct,
    has_grouped,
    layouts_of,
)
from nameplate_suites.parts import block_of, cache_for, matmuls, memory

if TYPE_CHECKING:
    from nameplate.models.model import Model

_TOKENS = {"cpu": 128, "cuda": 4096}  # as in suite quick
_EDGES = {"cpu": 2048, "cuda": 8192}  # … and as its square product
_MEBIBYTES = {"cpu": 64, "cuda": 1024}  # of the copy that shows what memory allows


def _cases(target: Target) -> Iterable[Case]:
    _check(target.axes)
    # Two products of a layer, or a shape and one of a layer, may be the same: it is measured once.
    found: dict[str, Case] = {}
    for case in _generate(target):
        _check_countable(case)
        found.setdefault(case.id, case)
    return found.values()


def _check_countable(case: Case) -> None:
    """Raise InputError for work of more FLOPs or bytes than a record can hold."""
    work = case.workload
    if not (is_possible(work.flops or 0) and is_possible(work.bytes)):
        flag = "--shape" if work.represents is None else "--model"
        expected = f"at most {LARGEST:g} FLOPs and bytes a launch"
        raise InputError("too large to count", where=flag, got=f"{work.name} {work.shape}", expected=expected)


def _generate(target: Target) -> Iterator[Case]:
    axes = target.axes
    dtypes = axes.dtypes or ("bf16",)
    cache = cache_for(target)
    for dtype in dtypes:
        for m, n, k in axes.shapes:
            for layout in axes.layouts or layouts_of(dtype)[:1]:
                yield Case(Matmul(m, n, k, dtype, layout), cache=cache, phase="sustained")
        if axes.shape_set is not None:
            yield from _products(target, axes.shape_set.products, dtype)
        if axes.model is not None and axes.only_products:
            for tokens in axes.tokens or (_TOKENS[target.kind],):
                yield from _products(target, find_products(axes.model, tokens), dtype)
        elif axes.model is not None:
            for tokens in axes.tokens or (_TOKENS[target.kind],):
                yield from _layer(axes.model, tokens, dtype, cache)


def _layer(model: Model, tokens: int, dtype: str, cache: str) -> Iterator[Case]:
    """Yield one group: a layer of the model, forward and backward first, and the products it is made of."""
    group = f"layer-{dtype}-{tokens}"
    blocks = [block_of(model, tokens, dtype, pass_) for pass_ in ("forward_backward", "forward")]
    for block in blocks:
        yield Case(block, phase="sustained", group=group, weight=2.0, backend=block.backend)
    for gemm in blocks[-1].gemms():
        yield Case(gemm, phase="sustained", group=group, cache=cache, weight=0.5)


def _products(target: Target, of: ProductSet, dtype: str) -> Iterator[Case]:
    """Yield one group: a square product to compare with, the memory, and every product of a set."""
    edge = _EDGES[target.kind]
    axes: dict[str, Any] = {"phase": "sustained", "group": f"products-{of.name.split()[0]}-{dtype}"}
    yield from matmuls(target, (dtype,), (edge,), weight=0.5, **axes)
    yield from memory(target, _MEBIBYTES[target.kind], kinds=("copy",), group=axes["group"])
    for each in of.products:
        sizes: dict[str, Any] = {
            "m": each.m,
            "n": each.n,
            "k": each.k,
            "dtype": dtype,
            "layout": each.layout,
            "represents": of.name,
            "times": each.times,
            "of_pass": each.pass_,
            "set_flops": of.flops,
        }
        if each.groups == 1:
            yield Case(ModelProduct(**sizes), cache=cache_for(target), weight=0.5, **axes)
        else:
            by = GROUPED if target.kind == "cuda" and has_grouped(dtype, each.layout) else LOOP
            work = GroupedProduct(**sizes, groups=each.groups, by=by)
            yield Case(work, cache=cache_for(target), backend=by, weight=0.5, **axes)


def _check(axes: Axes) -> None:
    """Raise InputError for axes that make no case, or that nothing here measures."""
    if not axes.shapes and axes.model is None and axes.shape_set is None:
        raise InputError(
            "nothing to measure",
            where=f"suite {CUSTOM}",
            expected="--shape MxNxK, --model NAME or --shapes SET",
        )
    for flag, given, belongs in (
        ("--layout", axes.layouts, axes.shapes),
        ("--tokens", axes.tokens, axes.model),
    ):
        if given and not belongs:
            needs = "--shape" if flag == "--layout" else "--model"
            raise InputError("has no effect alone", where=flag, got=given[0], expected=f"{needs} beside it")
    dtypes = tuple(PRODUCT_PRECISIONS)
    if axes.model is not None or axes.shape_set is not None:
        # Of scaled operands, layers alone have a backward pass here, and in fp8 alone.
        is_layer = axes.model is not None and not axes.only_products
        dtypes = (*PRECISIONS, *((FP8,) if is_layer else ()))
    for flag, given_names, known in (
        ("--layout", axes.layouts, LAYOUTS),
        ("--dtype", axes.dtypes, dtypes),
    ):
        for name in given_names:
            if name not in known:
                raise InputError("can't be measured", where=flag, got=name, expected=" or ".join(known))
    for dtype in axes.dtypes:
        known = layouts_of(dtype)
        for layout in set(axes.layouts) - set(known):
            said = f"{' or '.join(known)} for {dtype}"
            raise InputError("can't be measured", where="--layout", got=layout, expected=said)


SUITE = Suite(
    CUSTOM,
    "what --shape, --model or --shapes asks for: products, one layer of a model, a set of products",
    60.0,
    _cases,
)
