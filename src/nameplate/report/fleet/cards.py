"""The screen of `bench fleet cards`: what is known of each card, what is missing, and what would fill it."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import UNKNOWN, count, millions, ratio, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.fleet.gaps import FILLED_BY, Card
from nameplate.fleet.size import DTYPE, card_tflops
from nameplate.report.view import Field, Table, View, table_of, text_table

# So many cards have a row for each gap; more have a row for each kind of gap.
_FEW = 8


def cards_view(cards: Sequence[Card], *, details: bool = False) -> View:
    """The cards on one screen: a few whole; of many, those with a price, unless in detail."""
    whole = details or len(cards) <= _FEW
    shown = cards if whole else [card for card in cards if card.price]
    ready = [card for card in cards if not card.gaps]
    part = Field[Card]("part", lambda card: plain(card.part.id))
    fields = [
        part,
        Field[Card]("TFLOPS", lambda card: stated(card_tflops(card.part)), is_number=True),
        Field[Card]("W", lambda card: stated(_tdp(card)), is_number=True, drop_priority=0),
        Field[Card]("derate", lambda card: ratio(card.derate.value if card.derate else None), is_number=True),
        Field[Card](
            "RMB M", lambda card: millions(card.price.server_rmb if card.price else None), is_number=True
        ),
        Field[Card](
            "cards", lambda card: count(card.price.cards_per_server if card.price else None), is_number=True
        ),
        Field[Card]("as of", lambda card: plain(card.price.as_of) if card.price else UNKNOWN),
        Field[Card]("missing", lambda card: _(", ").join(_(gap.of) for gap in card.gaps)),
    ]
    sources = [part, Field[Card]("from", _describe_price)]
    tables = (
        table_of(_("What a fleet of each is priced by"), fields, shown),
        _gaps_table(cards),
        table_of(
            _("Prices of a server, and where they are from"),
            sources,
            [card for card in cards if card.price and whole],
        ),
    )
    meaning = _(
        "TFLOPS are the dense {dtype} nominal. RMB M is the price of a server with so many cards. The"
        " derate is the one taken by default. Whatever is missing can be given: what would fill it is"
        " said above.",
        dtype=DTYPE,
    )
    return View(
        title=_(
            "For {count} of {total} cards every figure is known; the others lack something, mostly a price.",
            count=count(len(ready)),
            total=count(len(cards)),
        )
        if len(cards) > _FEW
        else _("The cards that fleets are made of"),
        tables=tuple(table for table in tables if table.rows),
        meaning=meaning if whole else f"{meaning}\n{_name_unpriced(cards)}",
        advice=() if whole else (_("Every card, and where prices are from: `--details`, or name cards."),),
    )


def _name_unpriced(cards: Sequence[Card]) -> str:
    names = dict.fromkeys(card.part.short_name for card in cards if not card.price)
    return plain(_("No price is known of {names}.", names=_(", ").join(names)))


def _tdp(card: Card) -> float | None:
    return None if card.part.tdp_w is None else card.part.tdp_w.value


def _describe_price(card: Card) -> str:
    price = card.price
    if price is None:
        return UNKNOWN
    return plain(_("; ").join(each for each in (price.quoted, price.source, price.note) if each))


def _gaps_table(cards: Sequence[Card]) -> Table:
    """What is missing, why, and what would fill it."""
    gaps = [gap for card in cards for gap in card.gaps]
    heading = _("What is missing, and what would fill it")
    if len(cards) <= _FEW:
        rows = [(plain(_(gap.of)), plain(gap.why), plain(gap.filled_by)) for gap in gaps]
        return text_table(heading, ("missing", "why", "what would fill it"), rows)
    lacking = {of: sum(gap.of == of for gap in gaps) for of in FILLED_BY}
    summed = [
        (
            _(of),
            _("{count} of {total}", count=count(many), total=count(len(cards))),
            _(FILLED_BY[of], part="PART"),
        )
        for of, many in lacking.items()
        if many
    ]
    return text_table(heading, ("missing", "cards", "what would fill it"), summed)
