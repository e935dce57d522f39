"""The flags of `bench run` that ask for shapes or a model instead of a suite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError

if TYPE_CHECKING:
    from nameplate.suite import Axes

_MOST_DIGITS = (
    18  # base.model.LARGEST_COUNT, which a size must fit, has one more; to import it loads pydantic
)

ShapeFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="MxNxK",
        help="Measure products of these shapes instead of a suite (repeatable, or by commas).",
    ),
]
ModelFlag = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Measure one layer of this model instead of a suite: a name such as llama3-8b, "
        "a .toml file, or a Hugging Face config.json.",
    ),
]
ShapeSetFlag = Annotated[
    str | None,
    typer.Option(
        "--shapes",
        metavar="SET",
        help="Measure the products of a published set (taf-deepseek-v3), or of a model's whole "
        "training pass.",
    ),
]
TokensFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--tokens",
        metavar="N",
        help="With --model or --shapes: tokens of a sequence. [default: 4096, on a CPU 128]",
    ),
]
DtypeFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="With --shape, --model or --shapes: number formats. [default: bf16]",
    ),
]
LayoutFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="LAYOUT",
        help="With --shape: nn, nt, tn or tt; t is stored transposed. [default: nn]",
    ),
]


def parse_axes(
    shapes: Sequence[str] | None,
    model: str | None,
    tokens: Sequence[str] | None,
    dtypes: Sequence[str] | None,
    layouts: Sequence[str] | None,
    named: str | None = None,
) -> Axes | None:
    """Parse the flags, each of them repeatable or with commas; None where none was given.

    `named` is a published set of shapes, or a model whose products are meant. Raises InputError for what is
    no shape or number, an empty value, and a model that can't be loaded.
    """
    if not any(given is not None for given in (shapes, model, tokens, dtypes, layouts, named)):
        return None
    from nameplate.models.load import load_model, load_shipped_models
    from nameplate.models.products import load_shape_sets
    from nameplate.suite import Axes

    if model is not None and named is not None:
        raise InputError("a model and a set of shapes", where="--shapes", got=named, expected="one of them")
    shape_set = None if named is None else load_shape_sets().get(named.lower())
    if named is not None and shape_set is None:
        known = [*load_shape_sets(), *load_shipped_models()]
        if named.lower() not in known and not named.endswith((".json", ".toml")):
            expected = f"{' or '.join(known)}, or a file"
            raise InputError("no such set of shapes or model", where="--shapes", got=named, expected=expected)
        model = named
    return Axes(
        shape_set=shape_set,
        only_products=named is not None and shape_set is None,
        shapes=tuple(_parse_shape(each) for each in _split("--shape", shapes)),
        model=None if model is None else load_model(model),
        tokens=tuple(_parse_size("--tokens", each, each) for each in _split("--tokens", tokens)),
        dtypes=tuple(_split("--dtype", dtypes)),
        layouts=tuple(_split("--layout", layouts)),
    )


def _split(flag: str, given: Sequence[str] | None) -> list[str]:
    """Return the values of a flag, without those given again. Raises InputError for an empty one."""
    found = [part.strip() for each in given or () for part in each.split(",")]
    if not all(found):
        raise InputError("an empty value", where=flag, got=",".join(given or ()), expected="values by commas")
    return list(dict.fromkeys(found))


def _parse_shape(text: str) -> tuple[int, int, int]:
    sizes = re.split("[x×]", text.lower())
    if len(sizes) != 3:
        raise InputError("not a shape", where="--shape", got=text, expected="MxNxK, such as 4096x4096x11008")
    m, n, k = (_parse_size("--shape", size, text) for size in sizes)
    return m, n, k


def _parse_size(flag: str, size: str, given: str) -> int:
    if not (size.isascii() and size.isdigit() and 1 <= len(size) <= _MOST_DIGITS and int(size) > 0):
        raise InputError("not a size", where=flag, got=given, expected="whole numbers above 0")
    return int(size)
