"""The matrix products of a model's training pass, or of a named set of shapes that somebody published.

For a layer's Y = X·Wᵀ, over T tokens (legend: T tokens, O outputs, I inputs):

    forward          Y_TO = X_TI · W_OIᵀ      T × O × I, layout nt
    input gradient   X'_TI = Y'_TO · W_OI     T × I × O, layout nn
    weight gradient  W'_OI = Y'_TOᵀ · X_TI    O × I × T, layout tn

Each has 2·T·O·I FLOPs. Of a mixture of experts the products of all experts are one grouped product, with the
tokens spread evenly: T·active ÷ experts each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel, PositiveCount
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.models.model import Model

Pass = Literal["forward", "input_gradient", "weight_gradient"]
PASSES: tuple[Pass, ...] = ("forward", "input_gradient", "weight_gradient")
SETS_FILE = "shape_sets.toml"
_OF_EXPERTS = ("gate", "up", "down")


@dataclass(frozen=True)
class Product:
    """C (m×n) = A (m×k) · B (k×n), `groups` of them at once, run `times` in a pass of the whole model."""

    name: str
    pass_: Pass
    m: int
    n: int
    k: int
    layout: str
    times: int
    groups: int = 1

    @property
    def flops(self) -> int:
        """FLOPs of one run: 2·m·n·k of each group."""
        return 2 * self.m * self.n * self.k * self.groups

    @property
    def size(self) -> tuple[int, int, int, str, int]:
        """What makes two products the same work."""
        return self.m, self.n, self.k, self.layout, self.groups

    @property
    def shape(self) -> str:
        """`MxNxK`, with the number of groups before it where there are several: `8of1024x14336x4096`."""
        return (f"{self.groups}of" if self.groups > 1 else "") + f"{self.m}x{self.n}x{self.k}"


@dataclass(frozen=True)
class ProductSet:
    """Products of one name, each size once, and where they come from."""

    name: str
    products: tuple[Product, ...]
    source: str

    @property
    def flops(self) -> int:
        """FLOPs of all, each as often as it runs."""
        return sum(each.flops * each.times for each in self.products)


class _Shape(FrozenModel):
    name: Annotated[str, Field(min_length=1)]
    m: PositiveCount
    n: PositiveCount
    k: PositiveCount
    times: PositiveCount = 1


class ShapeSet(FrozenModel):
    """A published set of forward products, as the file has it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: str
    layout: Literal["nn", "nt", "tn", "tt"] = "nn"
    shape: Annotated[tuple[_Shape, ...], Field(min_length=1)]

    @property
    def products(self) -> ProductSet:
        """Its products."""
        found = [
            Product(each.name, "forward", each.m, each.n, each.k, self.layout, each.times)
            for each in self.shape
        ]
        return ProductSet(self.name, _merge(found), self.source)


class _SetsFile(FrozenModel):
    set: tuple[ShapeSet, ...]


@cache
def load_shape_sets() -> Mapping[str, ShapeSet]:
    """Return the published sets that are shipped, by name."""
    found = parse_toml(_SetsFile, read_packaged("nameplate.models", SETS_FILE), SETS_FILE).set
    return {each.name: each for each in found}


def find_products(model: Model, tokens: int, passes: Iterable[Pass] = PASSES) -> ProductSet:
    """Return the products of a model over a sequence of `tokens`: of all layers and the logits, each size
    once.
    """
    found = [product for of_pass in passes for product in _products_of(model, tokens, of_pass)]
    name = f"{model.name} products of {tokens} tokens"
    return ProductSet(name, _merge(found), model.source)


def _products_of(model: Model, tokens: int, of_pass: Pass) -> Iterable[Product]:
    shape = model.shape
    for name, outputs, inputs in dict.fromkeys(shape.products):
        if shape.experts and name in _OF_EXPERTS:
            of_one = -(-tokens * shape.active_experts // shape.experts)
            yield _make(name, of_pass, of_one, outputs, inputs, shape.layers, shape.experts)
        else:
            yield _make(name, of_pass, tokens, outputs, inputs, shape.layers)
    if shape.vocabulary:
        yield _make("logits", of_pass, tokens, shape.vocabulary, shape.width, 1)


def _make(
    name: str, of_pass: Pass, tokens: int, outputs: int, inputs: int, times: int, groups: int = 1
) -> Product:
    m, n, k, layout = {
        "forward": (tokens, outputs, inputs, "nt"),
        "input_gradient": (tokens, inputs, outputs, "nn"),
        "weight_gradient": (outputs, inputs, tokens, "tn"),
    }[of_pass]
    return Product(name, of_pass, m, n, k, layout, times, groups)


def _merge(products: Iterable[Product]) -> tuple[Product, ...]:
    """Products of one size as one, run as often as all of them."""
    found: dict[tuple[object, ...], Product] = {}
    for each in products:
        same = found.get(each.size)
        if same is None:
            found[each.size] = each
        else:
            names = ", ".join(dict.fromkeys([*same.name.split(", "), each.name]))
            found[each.size] = Product(
                names, same.pass_, *each.size[:4], same.times + each.times, each.groups
            )
    return tuple(found.values())
