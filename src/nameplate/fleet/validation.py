"""The chain against published end-to-end figures: each predicted from other published ones, with its error.

What no run has measured is carried from one part, model or number of devices to another; this says how far
that may be trusted. The cases are `data/validation.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.base.toml import packaged, parse
from nameplate.chain.published import find
from nameplate.fleet.catalogues import Id, Positive, Text
from nameplate.fleet.links import Derate, from_published

FILE = "validation.toml"


class Case(FrozenModel):
    """One published figure, and the others it's predicted from: a product of figures and of quotients."""

    id: Id
    kind: Literal["transfer", "model", "scaling"]  # what is carried over: part, model, number of devices
    predict: Annotated[tuple[Id, ...], Field(min_length=1)]
    learn: tuple[tuple[Id, Id], ...] = ()
    published: Id
    bound: Positive
    says: Text


class _File(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    case: tuple[Case, ...]


@dataclass(frozen=True)
class Check:
    """One case: what was predicted of a published figure, and how far that is off.

    `error_low` and `error_high` are what different ways of counting FLOPs leave open of the error, where both
    sides don't share one.
    """

    id: str
    kind: str
    predicted: float
    published: float
    error_low: float
    error_high: float
    bound: float
    says: str
    source: str

    @property
    def error(self) -> float:
        """Predicted ÷ published − 1."""
        return self.predicted / self.published - 1

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound."""
        return abs(self.error) <= self.bound

    def as_json(self) -> dict[str, Any]:
        """The check as a JSON row."""
        return {**vars(self), "error": self.error, "passed": self.passed}


def validate(*, bound: float | None = None, cases: Sequence[Case] | None = None) -> tuple[Check, ...]:
    """Every case's prediction beside what was published; `bound` takes the place of each case's own.

    Raises InputError for a bound that isn't above 0.
    """
    if bound is not None and not 0 < bound < math.inf:
        raise InputError("not a bound", where="--bound", got=bound, expected="a relative error above 0")
    return tuple(_check(case, bound) for case in (shipped() if cases is None else cases))


@cache
def shipped() -> tuple[Case, ...]:
    """The cases that come with Nameplate."""
    return parse(_File, packaged("nameplate.fleet", FILE), FILE).case


def _check(case: Case, bound: float | None) -> Check:
    published = from_published(find(case.published))
    above = [_figure(each) for each in (*case.predict, *(one for one, _ in case.learn))]
    below = [_figure(each) for _, each in case.learn]
    low, high = _range(above, [*below, published])
    return Check(
        case.id,
        case.kind,
        math.prod(each.value for each in above) / math.prod(each.value for each in below),
        published.value,
        low - 1,
        high - 1,
        case.bound if bound is None else bound,
        case.says,
        published.source,
    )


def _figure(name: str) -> Derate:
    return from_published(find(name))


def _range(above: Sequence[Derate], below: Sequence[Derate]) -> tuple[float, float]:
    """The range of Π above ÷ Π below; figures by one convention are off by the same factor, all together."""
    low = high = 1.0
    factors: dict[str, list[float]] = {}
    for each, sign in [(each, 1) for each in above] + [(each, -1) for each in below]:
        spread = each.uncertain
        low *= spread.high**sign
        high *= spread.high**sign
        factors.setdefault(each.input, [spread.low / spread.high, 0])[1] += sign
    for least, times in factors.values():
        ends = sorted((least**times, 1.0))
        low *= ends[0]
        high *= ends[1]
    return low, high
