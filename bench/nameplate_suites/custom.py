"""What the caller asks for: products of given shapes (`--shape`), or one layer of a model (`--model`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nameplate.base.errors import InputError
from nameplate.base.model import LARGEST, is_possible
from nameplate.suite import CUSTOM, Axes, Case, Suite, Target
from nameplate_kernels import LAYOUTS, PRECISIONS, PRODUCT_PRECISIONS, Matmul, layouts_of
from nameplate_suites.parts import block_of, cache_for

if TYPE_CHECKING:
    from nameplate.models.model import Model

_TOKENS = {"cpu": 128, "cuda": 4096}  # as in suite quick


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
        if axes.model is not None:
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
        ("--dtype", axes.dtypes, tuple(PRECISIONS if axes.model is not None else PRODUCT_PRECISIONS)),
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
    CUSTOM, "what --shape or --model asks for: products of given shapes, one layer of a model", 60.0, _cases
)
