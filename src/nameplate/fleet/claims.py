"""Claims as data: what a source states, and the formula by which each statement can be recomputed.

The shipped claims are `data/claims.toml`, the article's. Users audit their own in files of the same shape
(`--claims FILE`), whose JSON Schema is `schema()`. A formula takes other claims as they are stated, and
figures of parts from the registry, so no answer is stored. A file that fails is an `InputError` with file,
key, got and expected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_packaged, schema_of
from nameplate.fleet.catalogues import Date, Text
from nameplate.fleet.expression import GRAMMAR, LONGEST, Formula, PartFigure, Span, parse_formula, point
from nameplate.specs.registry import Registry

CLAIMS_FILE = "claims.toml"

Qualifier = Literal["exact", "about", "nearly", "over", "on the order of"]
Unit = Literal[
    "TFLOPS",
    "EFLOPS",
    "cards",
    "servers",
    "RMB",
    "ratio",
    "parameters",
    "hours",
    "weeks",
    "s",
    "clips",
    "clips a day",
    "cars",
    "owners",
]

_SCALES = {
    None: Fraction(1),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "%": Fraction(1, 100),
}
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_FIGURE = rf"({_NUMBER})(?: ?[-–] ?({_NUMBER}))?(?: ?(thousand|million|billion|%))?"
_LONGEST_FIGURE = 40
_A_FIGURE = 'a number above 0, or one as text: "16,800", "3.7 billion", "3.5 %", "15-30"'


@dataclass(frozen=True)
class StatedFigure:
    """A figure as it is stated: its text, its value (or range), and the places of its last digits."""

    text: str
    span: Span
    last_digit: Fraction
    last_nonzero: Fraction

    def place(self, qualifier: Qualifier) -> Fraction:
        """The place of the last digit stated.

        The trailing zeros of a whole number count as digits only where the figure is exact ("390 servers"):
        "about 370 million" is stated to ten million.
        """
        return self.last_digit if qualifier == "exact" else self.last_nonzero


def read_figure(given: object) -> StatedFigure:
    """A figure from a number or its text. Raises ValueError for anything else, 0, NaN and infinity."""
    text = given.strip() if isinstance(given, str) else _digits(given)
    found = re.fullmatch(_FIGURE, text)
    if found is None or len(text) > _LONGEST_FIGURE:
        raise ValueError(_A_FIGURE)
    numbers = [number.replace(",", "") for number in found.group(1, 2) if number]
    scale = _SCALES[found[3]]
    span = Span(scale * Fraction(numbers[0]), scale * Fraction(numbers[-1]))
    if not 0 < span.low <= span.high:
        raise ValueError(_A_FIGURE)
    last = [scale * _last_place(number) for number in numbers]
    nonzero = [scale * _last_place(number, zeros=False) for number in numbers]
    return StatedFigure(text, span, min(last), min(nonzero))


def _digits(given: object) -> str:
    """A TOML number as digits without an exponent; "" for anything else, True among it."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return ""
    return format(Decimal(repr(given)), "f")


def _last_place(number: str, *, zeros: bool = True) -> Fraction:
    whole, _, decimals = number.partition(".")
    if decimals:
        return Fraction(1, 10 ** len(decimals))
    return Fraction(1 if zeros else 10 ** (len(whole) - len(whole.rstrip("0"))))


def _read_formula(given: object) -> Formula:
    return parse_formula(given if isinstance(given, str) else "")


_AnyFigure = Annotated[
    StatedFigure,
    PlainValidator(read_figure),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": f"^{_FIGURE}$", "maxLength": _LONGEST_FIGURE},
            ],
            "description": _A_FIGURE,
        }
    ),
]
_AnyFormula = Annotated[
    Formula,
    PlainValidator(_read_formula),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST, "description": GRAMMAR}),
]
_Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class Reading(FrozenModel):
    """Another way to read a claim: by another formula, or by a figure that it `implies`, in its own unit.

    Without a formula nothing checks the implied figure: its row says what follows, and what is missing.
    """

    id: _Id
    formula: _AnyFormula | None = None
    implies: _AnyFormula | None = None
    unit: Unit | None = None
    why: Text

    @model_validator(mode="after")
    def _implies_a_unit(self) -> Self:
        if (self.implies is None) != (self.unit is None):
            raise ValueError("implies and its unit, both or neither")
        if self.formula is None and self.implies is None:
            raise ValueError("a formula, or what the claim implies")
        return self


class Claim(FrozenModel):
    """One statement: its figure, and a formula that recomputes it, or what is missing for that."""

    id: _Id
    words: Text
    figure: _AnyFigure | None = None
    unit: Unit | None = None
    qualifier: Qualifier = "exact"
    as_of: Date | None = None
    source: Text | None = None  # the file's, where it has none of its own
    note: Text | None = None
    formula: _AnyFormula | None = None
    why: Text | None = None
    cannot_check: Text | None = None
    reading: tuple[Reading, ...] = ()

    @model_validator(mode="after")
    def _check_that_it_can_be_judged(self) -> Self:
        if (self.figure is None) != (self.unit is None):
            raise ValueError("a figure and its unit, both or neither")
        if (self.formula is None) == (self.cannot_check is None):
            raise ValueError("a formula, or cannot_check with what is missing: one of the two")
        if self.figure is None and (self.formula is not None or self.reading):
            raise ValueError("a figure for its formula to recompute")
        return self

    def formulas(self) -> Iterator[tuple[str, Formula]]:
        """Every formula of the claim under its key."""
        if self.formula is not None:
            yield "formula", self.formula
        for reading in self.reading:
            if reading.formula is not None:
                yield f"reading[{reading.id}].formula", reading.formula
            if reading.implies is not None:
                yield f"reading[{reading.id}].implies", reading.implies

    def builds_on(self) -> Iterator[str]:
        """The ids of the claims that this one is recomputed from."""
        for each in (self.formula, *(reading.formula for reading in self.reading)):
            if each is not None:
                yield from each.claims


class Claims(FrozenModel):
    """A file of claims. `source` is the source of every claim that states none."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    source: Text | None = None
    claim: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @cached_property
    def by_id(self) -> Mapping[str, Claim]:
        """The claims under their ids."""
        return {claim.id: claim for claim in self.claim}


def read_shipped_claims() -> str:
    """The article's claims, as TOML."""
    return read_packaged("nameplate.fleet", CLAIMS_FILE)


def load_claims(text: str, where: str, parts: Registry) -> Claims:
    """The claims in `text` (TOML), checked; `where` names it in errors.

    Raises InputError for a bad value, an id given twice, a reference to what isn't there, and a claim that
    would be recomputed from itself.
    """
    claims = parse_toml(Claims, text, where)
    _check_distinct(claims, where)
    for claim in claims.claim:
        if claim.source is None and claims.source is None:
            raise bad_value(where, f"claim[{claim.id}].source", "nothing", "a source, here or for the file")
        for key, each in claim.formulas():
            _check_references(each, f"claim[{claim.id}].{key}", where, claims, parts)
    _check_order(claims, where)
    return claims


def find_part_figure(wanted: PartFigure, parts: Registry) -> Span:
    """A figure of a part of the registry, exactly as the registry has it. Raises LookupError.

    `<dtype>.datasheet` and `<dtype>.nominal` in TFLOPS, `<dtype>.flop_per_clock` of one of its
    `multiprocessors`, `maximum_mhz`.
    """
    part = parts.parts[wanted.part]
    match wanted.figure.split("."):
        case [dtype, "datasheet"]:
            return point(part.datasheet[dtype].value)
        case [dtype, "nominal"]:
            return point(part.nominal[dtype].value)
        case [dtype, "flop_per_clock"]:
            return point(part.flop_per_clock[dtype])
        case ["multiprocessors"] if part.multiprocessors is not None:
            return point(part.multiprocessors.value)
        case ["maximum_mhz"] if part.maximum_mhz is not None:
            return point(part.maximum_mhz.value)
    raise LookupError(wanted.figure)


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of claims, as published in docs/schema/claims.schema.json."""
    return schema_of(Claims)


def _check_distinct(claims: Claims, where: str) -> None:
    """No two claims under one id, and no two readings of one claim."""
    ids = [(f"claim[{claim.id}].id", claim.id) for claim in claims.claim]
    for claim in claims.claim:
        ids += [(f"claim[{claim.id}].reading[{each.id}].id", each.id) for each in claim.reading]
    for (key, id_), times in Counter(ids).items():
        if times > 1:
            raise bad_value(where, key, id_, "an id that no other has")


def _check_references(each: Formula, key: str, where: str, claims: Claims, parts: Registry) -> None:
    for claim in each.claims:
        if claim not in claims.by_id or claims.by_id[claim].figure is None:
            expected = "the id of a claim with a figure in this file (a minus stands between spaces)"
            raise bad_value(where, key, claim, expected)
    for text, wanted in each.parts.items():
        if wanted.part not in parts.parts:
            expected = "the id of a part in the registry (`bench specs` lists them)"
            raise bad_value(where, key, wanted.part, expected)
        try:
            find_part_figure(wanted, parts)
        except LookupError:
            expected = f"a figure that the registry has of {wanted.part}, such as fp16.datasheet"
            raise bad_value(where, key, text, expected) from None


def _check_order(claims: Claims, where: str) -> None:
    """Each relation between claims is audited once, at the one that builds on the others."""
    built_on = {claim.id: set(claim.builds_on()) for claim in claims.claim}
    try:
        TopologicalSorter(built_on).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        key = f"claim[{circle[0]}].formula"
        raise bad_value(
            where, key, " from ".join(circle), "a claim recomputed from others, never from itself"
        ) from None
