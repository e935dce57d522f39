"""The inputs of a part's power and money: ratings, price, assumptions, each with its source and spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from nameplate.base.errors import InputError
from nameplate.base.language import _
from nameplate.base.model import explain_error
from nameplate.fleet.catalogues import INPUTS, Assumption, Catalogue, Price, merge
from nameplate.fleet.size import card_tflops
from nameplate.specs.part import Part
from nameplate.specs.recognition import require
from nameplate.specs.registry import Registry
from nameplate.stats.uncertain import Uncertain, Written, exact, read_uncertain

# A server whose price --price gives has so many cards, unless a known price of the part says otherwise.
CARDS_PER_SERVER = 8


@dataclass(frozen=True)
class UsedInput:
    """An input with the value that was used. Inputs with the same `draws_name` have the same draws."""

    name: str
    unit: str
    uncertain: Uncertain
    basis: str
    source: str
    draws_name: str

    @property
    def label(self) -> str:
        """Its name where the spread of a figure is traced to inputs."""
        return self.name

    def as_json(self) -> dict[str, Any]:
        """Value, ends, law, unit, basis and source."""
        return {**self.uncertain.as_json(), "unit": self.unit, "basis": self.basis, "source": self.source}


def find_inputs(part: Part, catalogue: Catalogue) -> dict[str, UsedInput]:
    """The inputs that are known for a part, by name."""
    inputs = [_use_assumption(each) for each in catalogue.assumptions_for(part.id).values()]
    tflops, tdp, price = card_tflops(part), part.tdp_w, catalogue.price_of(part.id)
    if tflops is not None:
        inputs.append(_cite("nominal_tflops", "TFLOPS", exact(tflops), part.nominal["fp16"].source, part))
    if tdp is not None:
        inputs.append(_cite("tdp_w", "W", exact(tdp.value), tdp.source, part))
    if price is not None:
        inputs.append(_cite("server_rmb", "RMB", price.uncertain, _source_of(price), part))
        inputs.append(_cite("cards_per_server", "cards", exact(price.cards_per_server), price.source, part))
    return {each.name: each for each in inputs}


def _cite(name: str, unit: str, uncertain: Uncertain, source: str, part: Part) -> UsedInput:
    return UsedInput(name, unit, uncertain, "cited", source, f"{name} ({part.id})")


def _use_assumption(entry: Assumption) -> UsedInput:
    # One that names parts is another input than the one for the rest, so it has draws of its own.
    draws_name = f"{entry.name} ({entry.parts[0]})" if entry.parts else entry.name
    unit = INPUTS[entry.name].unit
    return UsedInput(entry.name, unit, entry.uncertain, entry.basis, _source_of(entry), draws_name)


def _source_of(entry: Assumption | Price) -> str:
    source = f"{entry.source} ({entry.as_of})"
    return source if entry.note is None else f"{source}; {entry.note}"


def adjust_catalogue(
    catalogue: Catalogue,
    assume: Mapping[str, Written],
    price: Mapping[str, Written],
    registry: Registry,
) -> Catalogue:
    """The catalogue with the values of `assume`, by input, and the server prices in RMB of `price`, by part.

    Raises InputError, with the flag, for an unknown name and for a value that can't be used.
    """
    given = Catalogue(assumption=tuple(_given_assumption(name, each) for name, each in assume.items()))
    catalogue = merge(catalogue, given, "--assume", registry)
    prices = {each.part: each for each in catalogue.price}
    names: dict[str, str] = {}
    for name, written in price.items():
        named = require(name, registry)
        part = named.part
        if part.id in names:
            got = f"{names[part.id]} and {name}, both {part.id}"
            raise InputError("two prices of one part", where="--price", got=got, expected="one a part")
        names[part.id] = name
        prices[part.id] = _given_price(part, written, prices.get(part.id), named.note)
    return catalogue.model_copy(update={"price": tuple(prices.values())})


def _given_assumption(name: str, written: Written) -> Assumption:
    value = read_uncertain(written, f"--assume {name}")
    with _refusing("--assume", f"{name}={written}"):
        return Assumption(name=name, value=value.value, **_given_by("--assume", value))


def _given_price(part: Part, written: Written, before: Price | None, note: str | None) -> Price:
    """The price that --price gives a server of `part`; `note` says what a short name was taken for."""
    price = read_uncertain(written, f"--price {part.id}")
    cards = CARDS_PER_SERVER if before is None else before.cards_per_server
    with _refusing("--price", f"{part.id}={written}"):
        return Price(
            part=part.id,
            cards_per_server=cards,
            server_rmb=price.value,
            note=note,
            **_given_by("--price", price),
        )


def _given_by(flag: str, uncertain: Uncertain) -> dict[str, Any]:
    """The spread, date and source of an entry that a flag gives."""
    return {
        "low": uncertain.low,
        "high": uncertain.high,
        "law": uncertain.law,
        "as_of": date.today().isoformat(),
        "source": _("given by {flag}", flag=flag),
    }


@contextmanager
def _refusing(flag: str, got: str) -> Iterator[None]:
    """Raise InputError, naming the flag, for an entry that isn't valid."""
    try:
        yield
    except ValidationError as error:
        _value, expected = explain_error(error.errors(include_url=False)[0])
        raise InputError("a value that can't be used", where=flag, got=got, expected=expected) from None
