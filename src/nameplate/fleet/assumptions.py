"""The inputs of a part's power and money: ratings, price, assumptions, each with its source and spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from nameplate.base.errors import InputError
from nameplate.base.language import _
from nameplate.fleet.catalogues import INPUTS, Assumption, Catalogue, Price, merge
from nameplate.fleet.size import card_tflops
from nameplate.specs.part import Part
from nameplate.specs.parts import Registry
from nameplate.specs.recognition import require
from nameplate.stats.uncertain import Uncertain, Written, exact, read

# A server that a price flag speaks of, where no price of the part says otherwise.
CARDS_PER_SERVER = 8


@dataclass(frozen=True)
class Used:
    """An input as it was used. `draws` is the name its draws go by: who shares it, shares them."""

    name: str
    unit: str
    uncertain: Uncertain
    basis: str
    source: str
    draws: str

    def as_json(self) -> dict[str, Any]:
        """Value, ends, law, unit, basis and source."""
        return {**self.uncertain.as_json(), "unit": self.unit, "basis": self.basis, "source": self.source}


def used(part: Part, listed: Catalogue) -> dict[str, Used]:
    """The inputs that are known for a part, by name."""
    found = {name: _assumed(each) for name, each in listed.assumptions_for(part.id).items()}
    card = card_tflops(part)
    if card is not None:
        source = part.nominal["fp16"].source
        found["nominal_tflops"] = _rating("nominal_tflops", "TFLOPS", card, part, source)
    if part.tdp_w is not None:
        found["tdp_w"] = _rating("tdp_w", "W", part.tdp_w.value, part, part.tdp_w.source)
    price = listed.price_of(part.id)
    if price is not None:
        found["server_rmb"] = Used(
            "server_rmb", "RMB", price.uncertain, "cited", _source(price), f"server_rmb ({part.id})"
        )
        count = exact(price.cards_per_server)
        found["cards_per_server"] = Used(
            "cards_per_server", "cards", count, "cited", price.source, f"cards_per_server ({part.id})"
        )
    return found


def _rating(name: str, unit: str, value: float, part: Part, source: str) -> Used:
    return Used(name, unit, exact(value), "cited", source, f"{name} ({part.id})")


def _assumed(entry: Assumption) -> Used:
    # One that names parts is another input than the one for the rest, so it has draws of its own.
    draws = f"{entry.name} ({entry.parts[0]})" if entry.parts else entry.name
    unit = INPUTS[entry.name].unit
    return Used(entry.name, unit, entry.uncertain, entry.basis, _source(entry), draws)


def _source(entry: Assumption | Price) -> str:
    said = f"{entry.source} ({entry.as_of})"
    return said if entry.note is None else f"{said}; {entry.note}"


def adjusted(
    listed: Catalogue,
    assume: Mapping[str, Written],
    price: Mapping[str, Written],
    known: Registry,
) -> Catalogue:
    """The catalogue with the values of `assume`, by input, and the server prices in RMB of `price`, by part.

    Raises InputError, with the flag, for an unknown name and for a value that can't be.
    """
    given = Catalogue(assumption=tuple(_given(name, each) for name, each in assume.items()))
    listed = merge(listed, given, "--assume", known)
    prices = {each.part: each for each in listed.price}
    names: dict[str, str] = {}
    for name, written in price.items():
        named = require(name, known)
        part = named.part
        if part.id in names:
            got = f"{names[part.id]} and {name}, both {part.id}"
            raise InputError("two prices of one part", where="--price", got=got, expected="one a part")
        names[part.id] = name
        prices[part.id] = _priced(part, written, prices.get(part.id), named.note)
    return listed.model_copy(update={"price": tuple(prices.values())})


def _given(name: str, written: Written) -> Assumption:
    stated = read(written, f"--assume {name}")
    try:
        return Assumption(
            name=name,
            value=stated.value,
            low=stated.low,
            high=stated.high,
            law=stated.law,
            as_of=date.today().isoformat(),
            source=_("given by {flag}", flag="--assume"),
        )
    except ValidationError as error:
        raise _refused("--assume", f"{name}={written}", error) from None


def _priced(part: Part, written: Written, before: Price | None, note: str | None) -> Price:
    """The price that a flag gives a server of `part`; `note` says what a short name was taken for."""
    stated = read(written, f"--price {part.id}")
    try:
        return Price(
            part=part.id,
            cards_per_server=CARDS_PER_SERVER if before is None else before.cards_per_server,
            server_rmb=stated.value,
            low=stated.low,
            high=stated.high,
            law=stated.law,
            as_of=date.today().isoformat(),
            source=_("given by {flag}", flag="--price"),
            note=note,
        )
    except ValidationError as error:
        raise _refused("--price", f"{part.id}={written}", error) from None


def _refused(flag: str, got: str, error: ValidationError) -> InputError:
    said = error.errors(include_url=False)[0]["msg"]
    expected = said.removeprefix("Value error, ").removeprefix("Input should be ")
    return InputError("a value that can't be used", where=flag, got=got, expected=expected)
