"""The catalogue: fleets, prices, assumptions and assumed derates, each figure with its source and date.

The shipped ones are `data/fleets.toml` and `data/assumptions.toml`. Users add their own in files of the same
shape (`--fleets FILE`), whose JSON Schema is `schema()`. Each figure states its spread (`low`, `high`, `law`)
where one is known; a figure that no source states is marked as assumed. A file that fails is an `InputError`
with file, key, got and expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.language import N_
from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_file, read_packaged, schema_of
from nameplate.chain.published import load_published
from nameplate.chain.stage import Stage
from nameplate.specs.registry import Registry, load_registry
from nameplate.stats.uncertain import Law, Uncertain, with_spread

FILES = ("fleets.toml", "assumptions.toml")

Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Date = Annotated[str, Field(pattern=r"^20\d\d(-(Q[1-4]|(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?))?$")]
# What fleets can be. A figure outside these is a slip of the pen, and arithmetic on it could overflow.
LEAST_EFLOPS, MOST_EFLOPS = 1e-9, 1e9  # from a billionth of an EFLOPS: a thousandth of a small card
LEAST_RMB, MOST_RMB = 1e-2, 1e15  # of a price or a budget: from a fen
MOST_CARDS = 1_000_000_000
LEAST_DERATE, MOST_DERATE = 1e-6, 100.0  # a ratio above 1 is possible
_LEAST, _MOST = 1e-12, 1e18  # of any other figure
_ROUNDING = 0.005  # of a server's price that is computed from its cards'


def _within(least: float, most: float, unit: str) -> AfterValidator:
    """Refuse numbers out of a range, and name the range."""

    def check(number: float) -> float:
        if not least <= number <= most:
            raise ValueError(f"{unit} from {least:g} to {most:g}")
        return number

    return AfterValidator(check)


Count = Annotated[int, Field(strict=True, gt=0, le=MOST_CARDS)]
Positive = Annotated[float, Field(strict=True, gt=0), _within(_LEAST, _MOST, "a number")]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Eflops = Annotated[float, Field(strict=True, gt=0), _within(LEAST_EFLOPS, MOST_EFLOPS, "EFLOPS")]
Derate = Annotated[float, Field(strict=True, gt=0), _within(LEAST_DERATE, MOST_DERATE, "a ratio")]
Rmb = Annotated[float, Field(strict=True, gt=0), _within(LEAST_RMB, MOST_RMB, "RMB")]

Kind = Literal["held", "target", "addition", "equivalent", "scale"]
KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "held": N_("what its owner had at that date"),
        "target": N_("a total that its owner aims at; never add it to what is held"),
        "addition": N_("what is added to the fleet that `adds_to` names"),
        "equivalent": N_("other hardware, stated as cards of a part whose derate and price aren't its own"),
        "scale": N_("a country's or the world's compute, for comparison: neither delivered nor priced"),
    }
)
Precision = Literal["fp16", "bf16", "fp32", "fp64", "unknown"]


@dataclass(frozen=True)
class InputRange:
    """One input of the money and the power: its unit, its meaning, and the range of possible values."""

    unit: str
    meaning: str
    least: float
    most: float


# The inputs that a file or --assume may set. Their values are in data/assumptions.toml.
INPUTS: Mapping[str, InputRange] = MappingProxyType(
    {
        "fabric_price_factor": InputRange("ratio", N_("price of a cluster ÷ price of its servers"), 1, 10),
        "spare_nodes": InputRange("ratio", N_("spare servers ÷ servers in service"), 0, 1),
        "average_draw_over_tdp": InputRange(
            "ratio", N_("average draw of a server ÷ its rated power"), 0.01, 1.5
        ),
        "server_power_over_gpu_power": InputRange(
            "ratio", N_("rated power of a server ÷ TDP of its cards"), 1, 10
        ),
        "pue": InputRange("ratio", N_("power of the data centre ÷ power of its servers"), 1, 5),
        "electricity_rmb_per_kwh": InputRange(N_("RMB per kWh"), N_("what a kilowatt-hour costs"), 0, 100),
        "opex_share_per_year": InputRange(
            "ratio", N_("yearly operation without electricity ÷ capex with fabric and spares"), 0, 1
        ),
        "depreciation_years": InputRange(N_("years"), N_("straight line, nothing left at the end"), 0.5, 30),
        "busy_share": InputRange("ratio", N_("share of the year that the fleet is in use"), 0.01, 1),
        "card_sd": InputRange("ratio", N_("standard deviation of ln(speed) between identical cards"), 0, 0.5),
        "rmb_per_usd": InputRange(N_("RMB per USD"), N_("exchange rate at its date"), 0.1, 1000),
    }
)


class Fleet(FrozenModel):
    """Cards that train together or are counted together, as their owner or the press states them."""

    id: Id
    name: Text
    kind: Kind = "held"
    as_of: Date
    part: Text | None = None  # the part that it is counted in; None: not known, or a mix
    mix: Annotated[tuple[Text, ...], Field(min_length=2)] | None = None  # parts, in shares that aren't known
    mix_source: Text | None = None  # why these parts
    cards: Count | None = None
    eflops: Eflops | None = None  # nominal, as stated
    precision: Precision = "fp16"  # of the stated EFLOPS
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


class UncertainEntry(FrozenModel):
    """An entry whose figure may have a spread: `low`, `high` and `law`. Without them the figure is exact."""

    low: NotNegative | None = None
    high: NotNegative | None = None
    law: Law | None = None
    figure: ClassVar[str] = "value"  # the field that has the spread
    most: ClassVar[float] = _MOST  # of its high end

    @property
    def uncertain(self) -> Uncertain:
        """The figure with its spread. ValueError where they don't fit."""
        return with_spread(getattr(self, self.figure), self.low, self.high, self.law)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.uncertain.high > self.most:
            raise ValueError(f"a high end of {self.most:g} at most")
        return self


class Price(UncertainEntry):
    """What one server of a part was quoted at, or is taken to cost where the source quotes a card alone.

    Then `server_rmb` is cards a server × `card_rmb` × `server_over_cards`.
    """

    figure: ClassVar[str] = "server_rmb"

    part: Text
    cards_per_server: Count
    server_rmb: Rmb
    card_rmb: Rmb | None = None
    server_over_cards: Annotated[float, Field(strict=True, ge=1, le=10)] | None = None
    quoted: Text | None = None  # as the source has it, in its currency: "USD 12,000 a card, at 7.1"
    as_of: Date
    source: Text
    note: Text | None = None
    replaces: bool = False  # whether it replaces a known price of that part

    @model_validator(mode="after")
    def _is_of_its_cards(self) -> Self:
        if (self.card_rmb is None) != (self.server_over_cards is None):
            raise ValueError("card_rmb and server_over_cards, both or neither")
        if self.card_rmb is not None and self.server_over_cards is not None:
            server = self.cards_per_server * self.card_rmb * self.server_over_cards
            if not math.isclose(self.server_rmb, server, rel_tol=_ROUNDING):
                product = "cards_per_server × card_rmb × server_over_cards"
                raise ValueError(f"server_rmb of {server:.6g}: {product}")
        return self


class Unpriced(FrozenModel):
    """A part whose price was looked for and not found, and what was found instead."""

    part: Text
    why: Text
    as_of: Date


class Assumption(UncertainEntry):
    """The value of one input, for all parts or for those in `parts`. `assumed`: no source states it."""

    most: ClassVar[float] = math.inf  # each input has a range of its own

    name: Text
    parts: tuple[Text, ...] = ()
    value: NotNegative
    basis: Literal["cited", "assumed"] = "assumed"
    as_of: Date
    source: Text
    note: Text | None = None

    @model_validator(mode="after")
    def _is_an_input(self) -> Self:
        known = INPUTS.get(self.name)
        if known is None:
            raise ValueError(f"a name among {', '.join(INPUTS)}")
        given = self.uncertain
        if given.low < known.least or given.high > known.most:
            raise ValueError(f"{self.name} ({known.unit}) from {known.least:g} to {known.most:g}")
        return self


class AssumedDerate(UncertainEntry):
    """An assumed ratio of stage `to` to stage `from`, for all parts or for those in `parts`."""

    most: ClassVar[float] = MOST_DERATE

    id: Id
    from_: Annotated[Stage, Field(alias="from")]
    to: Stage
    value: Derate
    dtype: Text = "any"
    parts: tuple[Text, ...] = ()
    n_from: Count | None = None
    n_to: Count | None = None
    unasked: bool = False  # whether it is the default for its parts (the key in files)
    as_of: Date
    source: Text
    note: Text | None = None

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if self.from_.reach >= self.to.reach:
            raise ValueError(f"a derate leads to a later stage: {self.from_} isn't before {self.to}")
        if self.unasked and not self.parts:
            raise ValueError("parts, for a derate that is unasked (the default)")
        return self


class Catalogue(FrozenModel):
    """Fleets, a price list, assumptions and assumed derates, of one file or of several together."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    fleet: tuple[Fleet, ...] = ()
    price: tuple[Price, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    assumption: tuple[Assumption, ...] = ()
    derate: tuple[AssumedDerate, ...] = ()

    def find(self, name: str) -> Fleet:
        """The fleet of that id or name. An id may come without its date: `li-auto`.

        Raises InputError where there is none, or more than one.
        """
        wanted = name.strip().lower()
        exact = [fleet for fleet in self.fleet if fleet.id == wanted]
        found = exact or [
            fleet for fleet in self.fleet if wanted and wanted in (fleet.name.lower(), _stem(fleet.id))
        ]
        if len(found) != 1:
            known = ", ".join(fleet.id for fleet in found or self.fleet)
            raise InputError(
                "no such fleet" if not found else "more than one fleet", got=name, expected=known
            )
        return found[0]

    def price_of(self, part: str) -> Price | None:
        """What a server of `part` costs; None where no price is known."""
        return next((price for price in self.price if price.part == part), None)

    def unpriced_because(self, part: str) -> Unpriced | None:
        """Why `part` has no price; None where nobody looked, or where one is known."""
        if self.price_of(part) is not None:
            return None
        return next((each for each in self.unpriced if each.part == part), None)

    def assumptions_for(self, part: str | None) -> Mapping[str, Assumption]:
        """By name, the assumptions that hold for `part`. One that names the part overrides a general one."""
        general = {each.name: each for each in self.assumption if not each.parts}
        return general | {each.name: each for each in self.assumption if part in each.parts}

    def default_derate(self, part: str) -> AssumedDerate | None:
        """The derate that is assumed for `part` by default; None where there is none."""
        return next((each for each in self.derate if each.unasked and part in each.parts), None)


def _stem(fleet_id: str) -> str:
    """`li-auto-2024-08` without its date: `li-auto`."""
    return fleet_id.split("-20", maxsplit=1)[0]


def catalogue(files: Sequence[str | Path] = (), *, parts: Sequence[str | Path] = ()) -> Catalogue:
    """The shipped catalogue together with `files`, which may name parts of the files `parts`.

    An assumption replaces an earlier one of the same name and part. Raises InputError for a file that fails,
    for a second fleet or derate under one id, for a second price of one part, and for a part that isn't in
    the registry.
    """
    registry = load_registry(parts)
    merged = load_shipped()
    for file in files:
        merged = extend(merged, read_file(file, "fleets"), str(file), registry)
    return merged


@cache
def load_shipped() -> Catalogue:
    """The catalogue that comes with Nameplate, checked."""
    merged = Catalogue()
    for name in FILES:
        merged = extend(merged, read_packaged("nameplate.fleet", name), name, load_registry())
    return merged


def extend(known: Catalogue, text: str, where: str, parts: Registry) -> Catalogue:
    """Add what `text` (TOML) holds; `where` names it in errors. InputError for a bad one."""
    return merge(known, parse_toml(Catalogue, text, where), where, parts)


def merge(known: Catalogue, given: Catalogue, where: str, parts: Registry) -> Catalogue:
    """Add one catalogue to another; `where` names the added one in errors. InputError where they clash."""
    for key, part in _parts_named(given):
        if part not in parts.parts:
            raise bad_value(where, key, part, "the id of a part in the registry (`bench specs` lists them)")
    return Catalogue(
        fleet=_merge_fleets(known.fleet, given.fleet, where),
        price=_merge_prices(known.price, given.price, where),
        unpriced=(*given.unpriced, *known.unpriced),
        assumption=_merge_assumptions(known.assumption, given.assumption, where),
        derate=_merge_derates(known.derate, given.derate, where),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of fleets, as published in docs/schema/fleets.schema.json."""
    return schema_of(Catalogue)


def _parts_named(given: Catalogue) -> Iterator[tuple[str, str]]:
    """Every part that a file names, with its key."""
    for fleet in given.fleet:
        if fleet.part is not None:
            yield f"fleet[{fleet.id}].part", fleet.part
        yield from ((f"fleet[{fleet.id}].mix", part) for part in fleet.mix or ())
    yield from ((f"price[{price.part}].part", price.part) for price in given.price)
    yield from ((f"unpriced[{each.part}].part", each.part) for each in given.unpriced)
    for each in given.assumption:
        yield from ((f"assumption[{each.name}].parts", part) for part in each.parts)
    for derate in given.derate:
        yield from ((f"derate[{derate.id}].parts", part) for part in derate.parts)


def _merge_fleets(known: Sequence[Fleet], given: Sequence[Fleet], where: str) -> tuple[Fleet, ...]:
    fleets = {fleet.id: fleet for fleet in known}
    for fleet in given:
        if fleet.id in fleets:
            raise bad_value(where, f"fleet[{fleet.id}].id", fleet.id, "an id that no other fleet has")
        fleets[fleet.id] = fleet
    for fleet in given:
        if fleet.adds_to is not None and fleet.adds_to not in fleets:
            raise bad_value(where, f"fleet[{fleet.id}].adds_to", fleet.adds_to, "the id of a fleet")
    return tuple(fleets.values())


def _merge_prices(known: Sequence[Price], given: Sequence[Price], where: str) -> tuple[Price, ...]:
    prices = {price.part: price for price in known}
    mine: set[str] = set()
    for price in given:
        key = f"price[{price.part}]"
        if price.part in mine or (price.part in prices and not price.replaces):
            advice = "one price a part; to replace a known one, say replaces = true"
            raise bad_value(where, f"{key}.part", price.part, advice)
        if price.replaces and price.part not in prices:
            raise bad_value(where, f"{key}.replaces", price.replaces, "a part whose price is known already")
        mine.add(price.part)
        prices[price.part] = price
    return tuple(prices.values())


def _merge_assumptions(
    known: Sequence[Assumption], given: Sequence[Assumption], where: str
) -> tuple[Assumption, ...]:
    """The given assumptions, and the known ones for the parts that the given ones leave out."""
    for_all_parts = {each.name for each in given if not each.parts}
    stated: set[tuple[str, str]] = set()
    for each in given:
        for part in each.parts or ("every part",):
            if (each.name, part) in stated:
                raise bad_value(
                    where, f"assumption[{each.name}]", part, "one assumption of a name and a part"
                )
            stated.add((each.name, part))
    kept = []
    for each in known:
        left = tuple(part for part in each.parts if (each.name, part) not in stated)
        if each.name not in for_all_parts and (left or not each.parts):
            kept.append(each.model_copy(update={"parts": left}))
    return (*kept, *given)


def _merge_derates(
    known: Sequence[AssumedDerate], given: Sequence[AssumedDerate], where: str
) -> tuple[AssumedDerate, ...]:
    ids = {figure.id for figure in load_published()} | {each.id for each in known}
    for each in given:
        if each.id in ids:
            raise bad_value(where, f"derate[{each.id}].id", each.id, "an id that no other derate has")
        ids.add(each.id)
    return (*given, *known)
