"""How large a fleet is: in cards of its part, and in nominal EFLOPS.

Nominal EFLOPS are as stated, or cards × the registry's dense FP16 nominal of one card. Cards are as stated,
or stated EFLOPS ÷ that nominal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.base.errors import InputError
from nameplate.base.formatting import stated
from nameplate.base.language import N_, _, use_language
from nameplate.fleet.catalogues import LEAST_EFLOPS, MOST_EFLOPS, Catalogue, Fleet, Kind, Precision
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.specs.part import Part
from nameplate.specs.recognition import require
from nameplate.specs.registry import Registry

# Fleets are counted in dense FP16: the article's "320 TFLOPS at FP16".
DTYPE = "fp16"
_RATING = f"dense_tflops.{DTYPE}"
# What would give a part a rating that has none.
RATING_WANTED = N_("a datasheet's dense FP16 TFLOPS in a file of parts (--parts FILE)")


@dataclass(frozen=True)
class Size:
    """A fleet of the catalogue with its parts looked up, or one that was asked for by its EFLOPS."""

    id: str
    name: str
    kind: Kind
    as_of: str | None
    part: Part | None  # None: a mix, or not known
    mix: tuple[Part, ...]  # parts in unknown shares
    stated_cards: int | None
    stated_eflops: float | None
    precision: Precision
    source: str
    note: str | None = None  # what the name of its part was taken for

    @property
    def card_tflops(self) -> float | None:
        """Nominal of one card, in TFLOPS."""
        return card_tflops(self.part)

    @property
    def cards_exact(self) -> float | None:
        """Cards, with the fraction that a conversion from EFLOPS leaves."""
        if self.stated_cards is not None or self.card_tflops is None or self.stated_eflops is None:
            return self.stated_cards
        return self.stated_eflops * TFLOPS_PER_EFLOPS / self.card_tflops

    @property
    def cards(self) -> int | None:
        """Whole cards."""
        return round_up(self.cards_exact)

    @property
    def nominal_eflops(self) -> float | None:
        """Nominal EFLOPS, dense FP16; None if neither the part nor the stated precision is known."""
        if self.stated_cards is not None and self.card_tflops is not None:
            return self.stated_cards * self.card_tflops / TFLOPS_PER_EFLOPS
        return self.stated_eflops if self.precision in ("fp16", "bf16") else None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part, or those of the mix."""
        return self.mix if self.part is None else (self.part,)


def as_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def find_sizes(
    names: Sequence[str],
    eflops: float | None,
    part: str | Sequence[str] | None,
    catalogue: Catalogue,
    registry: Registry,
) -> list[Size]:
    """The fleets with these names, and `eflops` of each part; with neither, each fleet of the catalogue."""
    parts = tuple(dict.fromkeys(as_names(() if part is None else part)))
    found = [size_of_fleet(fleet, registry) for fleet in dict.fromkeys(map(catalogue.find, names))]
    if eflops is not None and not parts:
        found.append(size_of_part(eflops, None, registry))  # which refuses it
    found += [size_of_part(eflops, each, registry) for each in parts]
    return found or [size_of_fleet(fleet, registry) for fleet in catalogue.fleet]


def size_of_fleet(fleet: Fleet, registry: Registry) -> Size:
    """The size of a fleet of the catalogue. InputError if its part isn't in the registry."""
    return Size(
        fleet.id,
        fleet.name,
        fleet.kind,
        fleet.as_of,
        None if fleet.part is None else _find_part(fleet, fleet.part, registry),
        tuple(_find_part(fleet, each, registry) for each in fleet.mix or ()),
        fleet.cards,
        fleet.eflops,
        fleet.precision,
        fleet.source,
    )


def size_of_part(eflops: float | None, part: str | None, registry: Registry) -> Size:
    """So many nominal EFLOPS of a part, by default 1. InputError for no part, or EFLOPS not above 0."""
    if part is None:
        raise InputError("EFLOPS of no part", where="--eflops", got=eflops, expected="--part PART too")
    if eflops is not None and not LEAST_EFLOPS <= eflops <= MOST_EFLOPS:
        expected = f"EFLOPS above 0, from {LEAST_EFLOPS:g} to {MOST_EFLOPS:g}"
        raise InputError("not a size", where="--eflops", got=eflops, expected=expected)
    named = require(part, registry)
    if card_tflops(named.part) is None:
        with use_language("en"):  # as every error is
            raise InputError(explain_no_rating(named.part), where="--part", expected=_(RATING_WANTED))
    many = 1.0 if eflops is None else float(eflops)
    name = _("{eflops} EFLOPS of {part}", eflops=stated(many), part=named.part.short_name)
    source = _("given by {flag}", flag="--eflops, --part")
    return Size("given", name, "held", None, named.part, (), None, many, "fp16", source, named.note)


def _find_part(fleet: Fleet, part: str, registry: Registry) -> Part:
    if part not in registry.parts:
        raise InputError(
            "a fleet of an unknown part",
            where=fleet.id,
            got=part,
            expected="the id of a part in the registry (`bench specs` lists them)",
        )
    return registry.parts[part]


def card_tflops(part: Part | None) -> float | None:
    """Dense FP16 nominal of one card, in TFLOPS; None if the registry has none."""
    rated = None if part is None else part.nominal.get(DTYPE)
    return None if rated is None else rated.value


def explain_no_rating(part: Part) -> str:
    """Say why a part without a dense FP16 rating has none: which figures its sources state, or none."""
    values = {each.value for one in part.conflicts if one.of == _RATING for each in one.values}
    if values:
        said = N_("{part} has no {dtype} rating: its sources disagree ({values} TFLOPS)")
        return _(said, part=part.id, dtype=DTYPE, values=_(", ").join(map(_state, sorted(values, key=str))))
    return _("{part} has no {dtype} rating: no source that was read states one", part=part.id, dtype=DTYPE)


def _state(value: float | str) -> str:
    return value if isinstance(value, str) else stated(value)


def round_up(count: float | None) -> int | None:
    """The next whole number; one that division in floating point left a millionth above counts as whole."""
    return None if count is None else math.ceil(round(count, 6))
