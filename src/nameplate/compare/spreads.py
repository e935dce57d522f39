"""What a single run can't see, as data: how far a figure moves when the process is started anew."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import packaged, parse
from nameplate.compare.looks import Basis

FILE = "spreads.toml"
_Text = Annotated[str, Field(min_length=1)]


class Spread(FrozenModel):
    """The standard deviation over restarts of one basis on one kind of device, as a fraction."""

    kind: _Text
    basis: Basis
    value: Annotated[float, Field(gt=0, lt=1)]
    provenance: Literal["measured", "assumed"]
    source: _Text
    date: Annotated[str, Field(pattern=r"^20\d\d-[01]\d-[0-3]\d$")]


class _File(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    spread: tuple[Spread, ...]


@cache
def _shipped() -> dict[tuple[str, Basis], Spread]:
    spreads = parse(_File, packaged("nameplate.compare", FILE), FILE).spread
    return {(each.kind, each.basis): each for each in spreads}


def spread_of(kind: str, basis: Basis) -> Spread:
    """What is known of a kind of device; of one that nothing is known of, what a CPU's is.

    Efficiency is throughput ÷ a constant.
    """
    basis = "achieved" if basis == "efficiency" else basis
    return _shipped().get((kind, basis)) or _shipped()["cpu", basis]
