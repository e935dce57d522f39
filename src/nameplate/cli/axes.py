"""The flags of `bench run` that ask for shapes or a model instead of a suite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nameplate.base.errors import InputError

if TYPE_CHECKING:
    from nameplate.suite import Axes

# base.model.LARGEST_COUNT, which a size must fit, has one more; to import it loads pydantic.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class AxesFlags:
    """What `bench run` measures instead of a suite."""

    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MxNxK",
            help="Measure products of these shapes instead of a suite (repeatable, or by commas).",
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Measure one layer of this model instead of a suite: a name such as llama3-8b, "
            "a .toml file, or a Hugging Face config.json.",
        ),
    ] = None
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Measure the products of a published set (taf-deepseek-v3), or of a model's whole "
            "training pass.",
        ),
    ] = None
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N", help="With --model or --shapes: tokens of a sequence. [default: 4096, on a CPU 128]"
        ),
    ] = None
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DTYPE", help="With --shape, --model or --shapes: number formats. [default: bf16]"
        ),
    ] = None
    layout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYOUT",
            help="With --shape: nn, nt, tn or tt; t is stored transposed. [default: nn]",
        ),
    ] = None

    def read(self) -> Axes | None:
        """Return the axes of the cases asked for; None where no flag was given.

        Raises InputError for what is no shape or number, an empty value, and a model that can't be loaded.
        """
        if self == AxesFlags():
            return None
        from nameplate.models.load import load_model
        from nameplate.models.products import load_shape_sets
        from nameplate.suite import Axes

        if self.model is not None and self.shapes is not None:
            raise InputError(
                "a model and a set of shapes", where="--shapes", got=self.shapes, expected="one of them"
            )
        shape_set = None if self.shapes is None else load_shape_sets().get(self.shapes.lower())
        only_products = self.shapes is not None and shape_set is None
        model = _check_model_of_shapes(self.shapes) if only_products else self.model
        return Axes(
            shape_set=shape_set,
            only_products=only_products,
            shapes=tuple(_parse_shape(each) for each in _split("--shape", self.shape)),
            model=None if model is None else load_model(model),
            tokens=tuple(_parse_size("--tokens", each, each) for each in _split("--tokens", self.tokens)),
            dtypes=tuple(_split("--dtype", self.dtype)),
            layouts=tuple(_split("--layout", self.layout)),
        )


def _check_model_of_shapes(name: str | None) -> str | None:
    """Return the model that --shapes names. Raises InputError for what is no model and no file."""
    from nameplate.models.load import load_shipped_models
    from nameplate.models.products import load_shape_sets

    known = [*load_shape_sets(), *load_shipped_models()]
    if name is not None and name.lower() not in known and not name.endswith((".json", ".toml")):
        expected = f"{' or '.join(known)}, or a file"
        raise InputError("no such set of shapes or model", where="--shapes", got=name, expected=expected)
    return name


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
