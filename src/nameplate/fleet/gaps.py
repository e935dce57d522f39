"""What is known of each accelerator to price a fleet of it; what is missing, and what would fill the gap.

The figures of a fleet need four things of its part: an FP16 rating, a derate, a TDP, and the price of a
server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from nameplate.base.language import N_, _
from nameplate.chain.link import Link
from nameplate.chain.published import load_published
from nameplate.fleet.catalogues import Catalogue, Price, Unpriced, load_shipped
from nameplate.fleet.chains import LinkChoice, choose_links
from nameplate.fleet.mfu import TrainingSetup
from nameplate.fleet.size import DTYPE, RATING_WANTED, card_tflops, explain_no_rating
from nameplate.specs.part import Part
from nameplate.specs.recognition import require
from nameplate.specs.registry import load_registry

Of = Literal["rating", "derate", "power", "price"]
REFERENCE_CARDS = 1024
# What would fill a gap.
FILLED_BY: Mapping[Of, str] = MappingProxyType(
    {
        "rating": RATING_WANTED,
        "derate": N_("a run of it (--run RUN), or a ratio (--derate ID)"),
        "power": N_("a datasheet's TDP in a file of parts (--parts FILE)"),
        "price": N_("a dated quotation, as --price {part}=RMB or in a file (--fleets FILE)"),
    }
)


@dataclass(frozen=True)
class Gap:
    """One thing that isn't known of the part of an id, and why."""

    of: Of
    part: str
    why: str

    @property
    def filled_by(self) -> str:
        """What would fill it."""
        return _(FILLED_BY[self.of], part=self.part)

    def __str__(self) -> str:
        return _("{why}: give {filled_by}", why=self.why, filled_by=self.filled_by)


@dataclass(frozen=True)
class Card:
    """One accelerator as a fleet is made of it. What isn't known is None, and `gaps` says why.

    `derate` is what a fleet of REFERENCE_CARDS takes where no run and no other derate is given.
    """

    part: Part
    price: Price | None
    derate: Link | None
    gaps: tuple[Gap, ...]

    def derate_at(self, probability: float) -> float | None:
        """The derate below which that share of its draws lies."""
        if self.derate is None:
            return None
        return float(np.max(self.derate.uncertain.quantiles(np.array([probability]))))

    def as_json(self) -> dict[str, Any]:
        """The card as a row: its figures with sources and dates, and the gaps."""
        price, derate, rated = self.price, self.derate, self.part.datasheet.get(DTYPE)
        return {
            "part": self.part.id,
            "name": self.part.name,
            "dtype": DTYPE,
            "nominal_tflops": card_tflops(self.part),
            "datasheet_tflops": None if rated is None else rated.value,
            "rating_source": None if rated is None else rated.source,
            "rating_date": None if rated is None else rated.date,
            "tdp_w": None if self.part.tdp_w is None else self.part.tdp_w.value,
            "derate": None if derate is None else derate.id,
            "derate_value": None if derate is None else derate.value,
            "derate_p5": None if derate is None else self.derate_at(0.05),
            "derate_p95": None if derate is None else self.derate_at(0.95),
            "derate_note": None if derate is None else derate.note,
            "cards_per_server": None if price is None else price.cards_per_server,
            "server_rmb": None if price is None else price.server_rmb,
            "quoted": None if price is None else price.quoted,
            "price_as_of": None if price is None else price.as_of,
            "price_source": None if price is None else price.source,
            "missing": [{"of": gap.of, "why": gap.why, "filled_by": gap.filled_by} for gap in self.gaps],
        }


def list_cards(
    names: Sequence[str] = (),
    *,
    catalogue: Catalogue | None = None,
    parts: str | Path | Sequence[str | Path] = (),
) -> tuple[Card, ...]:
    """Return what is known of these parts, by any spelling of their names; without names, of every part.

    `parts` are files with parts that the registry lacks. Raises InputError for a name that no part has.
    """
    registry = load_registry(parts)
    catalogue = load_shipped() if catalogue is None else catalogue
    named = [require(name, registry).part for name in names]
    chosen = {part.id: part for part in named} if names else registry.parts
    choice = choose_links((), None, None, (), catalogue, registry, training=TrainingSetup(), named=False)
    return tuple(_look_up(part, catalogue, choice) for part in chosen.values())


def _look_up(part: Part, catalogue: Catalogue, choice: LinkChoice) -> Card:
    price, chain = catalogue.price_of(part.id), choice.make_chain(part, REFERENCE_CARDS)
    gaps = list(find_gaps(part, catalogue))
    if not chain.delivers:
        gaps.append(Gap("derate", part.id, _explain_no_derate(part)))
    derate = chain.links[-1] if chain.delivers else None
    return Card(part, price, derate, tuple(sorted(gaps, key=lambda gap: list(FILLED_BY).index(gap.of))))


def _explain_no_derate(part: Part) -> str:
    """Say that a part has no derate by default, and which published ones are of it all the same."""
    ids = [each.id for each in load_published() if each.quantity == "derate" and each.serves(part.id)]
    if not ids:
        said = N_("{part} has no bf16 rating that an MFU could be a share of, and nothing is published of it")
        return _(said, part=part.id)
    said = N_("{part} has no bf16 rating that an MFU could be a share of; published of it: {ids}")
    return _(said, part=part.id, ids=_(", ").join(ids))


def find_gaps(part: Part, catalogue: Catalogue) -> Iterator[Gap]:
    """Yield what sizing, powering and buying a fleet of `part` lacks, in that order."""
    if card_tflops(part) is None:
        yield Gap("rating", part.id, explain_no_rating(part))
    if part.tdp_w is None:
        yield Gap("power", part.id, _("the TDP of {part} isn't known, so neither is its power", part=part.id))
    if catalogue.price_of(part.id) is None:
        yield Gap("price", part.id, _explain_no_price(part, catalogue.unpriced_because(part.id)))


def _explain_no_price(part: Part, unpriced: Unpriced | None) -> str:
    if unpriced is None:
        return _("no price of a server of {part} is known", part=part.id)
    said = N_("no price of a server of {part} was found in {as_of}: {why}")
    return _(said, part=part.id, as_of=unpriced.as_of, why=unpriced.why)
