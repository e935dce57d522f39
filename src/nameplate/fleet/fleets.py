"""Fleets and prices as data, each figure with its source and date.

The shipped ones are `data/fleets.toml`; users add their own in files of the same shape (`--fleets FILE`).
A file that fails is an `InputError` with file, key, got and expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nameplate.datafile import packaged, parse, unusable
from nameplate.errors import InputError
from nameplate.specs.parts import Registry, registry

FLEETS_FILE = "fleets.toml"

_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_Date = Annotated[str, Field(pattern=r"^20\d\d(-(Q[1-4]|(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?))?$")]
_Count = Annotated[int, Field(strict=True, gt=0)]
_Positive = Annotated[float, Field(strict=True, gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fleet(_Frozen):
    """Cards that train together or are counted together, as their owner or the press states them."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    name: _Text
    as_of: _Date
    part: _Text | None = None  # what it is counted in; None: a mix of unknown shares
    cards: _Count | None = None
    eflops: _Positive | None = None  # nominal, as stated
    source: _Text
    note: _Text | None = None

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.cards is None and self.eflops is None:
            raise ValueError("a fleet with cards or eflops")
        return self


class Price(_Frozen):
    """What one server of a part was quoted at."""

    part: _Text
    cards_per_server: _Count
    server_rmb: _Positive
    as_of: _Date
    source: _Text
    note: _Text | None = None
    replaces: bool = False  # takes the place of a price already known of that part


class Catalogue(_Frozen):
    """Fleets and a price list: those of one file, or of several together."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    fleet: tuple[Fleet, ...] = ()
    price: tuple[Price, ...] = ()

    def find(self, name: str) -> Fleet:
        """The fleet of that id or name, or the one whose id is that and a date (`li-auto`).

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


def _stem(fleet_id: str) -> str:
    """`li-auto-2024-08` without its date: `li-auto`."""
    return fleet_id.split("-20", maxsplit=1)[0]


def catalogue(files: Sequence[str | Path] = (), *, parts: Sequence[str | Path] = ()) -> Catalogue:
    """The shipped fleets and prices with those of `files`; `parts` are files of parts they may name.

    Raises InputError for a file that fails, for a second fleet of one id or price of one part, and for a
    part that isn't in the registry.
    """
    known = registry(parts)
    merged = shipped()
    for file in files:
        merged = extend(merged, _read(file), str(file), known)
    return merged


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with Nameplate, checked."""
    text = packaged("nameplate.fleet", FLEETS_FILE)
    return extend(Catalogue(), text, FLEETS_FILE, registry())


def extend(known: Catalogue, text: str, where: str, parts: Registry) -> Catalogue:
    """Add the fleets and prices in `text` (TOML); `where` names it in errors. InputError for a bad one."""
    given = parse(Catalogue, text, where)
    fleets = {fleet.id: fleet for fleet in known.fleet}
    for fleet in given.fleet:
        if fleet.id in fleets:
            raise unusable(where, f"fleet[{fleet.id}].id", fleet.id, "an id that no other fleet has")
        if fleet.part is not None:
            _check_part(fleet.part, f"fleet[{fleet.id}].part", where, parts)
        fleets[fleet.id] = fleet
    prices = {price.part: price for price in known.price}
    mine: set[str] = set()
    for price in given.price:
        key = f"price[{price.part}]"
        _check_part(price.part, f"{key}.part", where, parts)
        if price.part in mine or (price.part in prices and not price.replaces):
            advice = "one price a part; to replace a known one, say replaces = true"
            raise unusable(where, f"{key}.part", price.part, advice)
        if price.replaces and price.part not in prices:
            raise unusable(where, f"{key}.replaces", price.replaces, "a part whose price is known already")
        mine.add(price.part)
        prices[price.part] = price
    return Catalogue(fleet=tuple(fleets.values()), price=tuple(prices.values()))


def _check_part(part: str, key: str, where: str, parts: Registry) -> None:
    if part not in parts.parts:
        raise unusable(where, key, part, "the id of a part in the registry (`bench specs` lists them)")


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(
            "a file of fleets can't be read", where=str(file), got=reason, expected="a TOML file of fleets"
        ) from None
