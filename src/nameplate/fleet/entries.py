"""What a file of fleets holds, entry by entry: fleets, prices, assumptions and assumed derates.

Each figure has a source and a date, and says what is known of its spread (`low`, `high`, `law`); one that
nobody stated is marked as assumed. An entry that can't be is refused when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nameplate.base.language import N_
from nameplate.base.model import FrozenModel
from nameplate.chain.stage import Stage
from nameplate.fleet.uncertain import Law, Uncertain, spread

Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Date = Annotated[str, Field(pattern=r"^20\d\d(-(Q[1-4]|(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?))?$")]
Count = Annotated[int, Field(strict=True, gt=0)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]

Kind = Literal["held", "target", "addition", "equivalent", "scale"]
KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "held": N_("what its owner had at that date"),
        "target": N_("a total that is aimed at, never to be added to what is held"),
        "addition": N_("what comes on top of the fleet that `adds_to` names"),
        "equivalent": N_("other hardware, stated as cards of a part whose derate and price aren't its own"),
        "scale": N_("a country's or the world's compute, for scale: neither delivered nor priced"),
    }
)
Precision = Literal["fp16", "bf16", "fp32", "fp64", "unknown"]


@dataclass(frozen=True)
class Input:
    """One input of the money and the power: its unit, what it means, and the range it can lie in."""

    unit: str
    meaning: str
    least: float
    most: float


# What a file or --assume may set. Their values are data: data/assumptions.toml.
INPUTS: Mapping[str, Input] = MappingProxyType(
    {
        "fabric_price_factor": Input("ratio", N_("price of a cluster ÷ price of its servers"), 1, 10),
        "spare_nodes": Input("ratio", N_("spare servers ÷ servers in service"), 0, 1),
        "average_draw_over_tdp": Input("ratio", N_("average draw of a server ÷ its rated power"), 0.01, 1.5),
        "server_power_over_gpu_power": Input(
            "ratio", N_("rated power of a server ÷ TDP of its cards"), 1, 10
        ),
        "pue": Input("ratio", N_("power of the data centre ÷ power of its servers"), 1, 5),
        "electricity_rmb_per_kwh": Input(N_("RMB per kWh"), N_("what a kilowatt-hour costs"), 0, 100),
        "opex_share_per_year": Input(
            "ratio", N_("yearly operation without electricity ÷ capex with fabric and spares"), 0, 1
        ),
        "depreciation_years": Input(N_("years"), N_("straight line, nothing left at the end"), 0.5, 30),
        "busy_share": Input("ratio", N_("share of the year that the fleet is in use"), 0.01, 1),
        "card_sd": Input("ratio", N_("standard deviation of ln(speed) between identical cards"), 0, 0.5),
        "rmb_per_usd": Input(N_("RMB per USD"), N_("exchange rate at its date"), 0.1, 1000),
    }
)


class Fleet(FrozenModel):
    """Cards that train together or are counted together, as their owner or the press states them."""

    id: Id
    name: Text
    kind: Kind = "held"
    as_of: Date
    part: Text | None = None  # what it is counted in; None: not known, or a mix
    mix: Annotated[tuple[Text, ...], Field(min_length=2)] | None = None  # parts, in shares that aren't known
    mix_source: Text | None = None  # why these
    cards: Count | None = None
    eflops: Positive | None = None  # nominal, as stated
    precision: Precision = "fp16"  # that its EFLOPS are stated in
    adds_to: Id | None = None
    source: Text
    note: Text | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.cards is None and self.eflops is None:
            raise ValueError("a fleet with cards or eflops")
        if self.mix is not None and (self.part is not None or self.mix_source is None):
            raise ValueError("a part or a mix, and a mix with its mix_source")
        if (self.kind == "addition") != (self.adds_to is not None):
            raise ValueError('adds_to for kind = "addition", and for no other')
        return self


class Spreading(FrozenModel):
    """An entry whose figure has a spread, which `low`, `high` and `law` state; without them it is exact."""

    low: NotNegative | None = None
    high: NotNegative | None = None
    law: Law | None = None

    @property
    def stated(self) -> float:
        """The figure itself."""
        raise NotImplementedError

    @property
    def uncertain(self) -> Uncertain:
        """The figure with its spread. ValueError where they don't fit."""
        return spread(self.stated, self.low, self.high, self.law)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _ = self.uncertain
        return self


class Price(Spreading):
    """What one server of a part was quoted at."""

    part: Text
    cards_per_server: Count
    server_rmb: Positive
    as_of: Date
    source: Text
    note: Text | None = None
    replaces: bool = False  # takes the place of a price already known of that part

    @property
    def stated(self) -> float:
        """RMB of one server."""
        return self.server_rmb


class Assumption(Spreading):
    """The value of one input, for every part or for those it names. `assumed`: no source states it."""

    name: Text
    parts: tuple[Text, ...] = ()
    value: NotNegative
    basis: Literal["cited", "assumed"] = "assumed"
    as_of: Date
    source: Text
    note: Text | None = None

    @property
    def stated(self) -> float:
        """The input's value, in its unit."""
        return self.value

    @model_validator(mode="after")
    def _is_an_input(self) -> Self:
        known = INPUTS.get(self.name)
        if known is None:
            raise ValueError(f"a name among {', '.join(INPUTS)}")
        given = self.uncertain
        if given.low < known.least or given.high > known.most:
            raise ValueError(f"{self.name} ({known.unit}) from {known.least:g} to {known.most:g}")
        return self


class AssumedDerate(Spreading):
    """The ratio of stage `to` to stage `from` that somebody assumes for some parts; none named: for any."""

    id: Id
    from_: Annotated[Stage, Field(alias="from")]
    to: Stage
    value: Positive
    dtype: Text = "any"
    parts: tuple[Text, ...] = ()
    n_from: Count | None = None
    n_to: Count | None = None
    unasked: bool = False  # taken for its parts where nothing else is asked for
    as_of: Date
    source: Text
    note: Text | None = None

    @property
    def stated(self) -> float:
        """The ratio."""
        return self.value

    @model_validator(mode="after")
    def _leads_on(self) -> Self:
        if self.from_.reach >= self.to.reach:
            raise ValueError(f"a derate leads onward: {self.from_} isn't before {self.to}")
        if self.unasked and not self.parts:
            raise ValueError("parts, for a derate that is taken unasked")
        return self
