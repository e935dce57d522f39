"""The screen of `bench fleet own`: what owning costs over some years, beside renting the same cards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import UNKNOWN, figure, millions, percent, ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.describe import describe_range
from nameplate.fleet.ownership import Ownership
from nameplate.report.fleet.figures import (
    ends_field,
    inputs_table,
    range_field,
    unknown_table,
    value_field,
)
from nameplate.report.fleet.grounds import (
    ask_for_details,
    describe_grounds,
    describe_notes,
    fleet_label,
    list_facts,
)
from nameplate.report.view import Field, Table, View, table_of

_MOST_NAMED = 4  # fleets in the answer


def ownership_view(owned: Sequence[Ownership], *, details: bool = False) -> View:
    """The fleets, each for every number of years in turn."""
    priced = list({_label(item): item.cost for item in owned}.values())
    tables = (_rent_table(owned), _year_table(owned), _bought_table(owned))
    explained = _(
        "Capital is price less resale, with interest, spread evenly over the years. Rent is paid for busy"
        " hours alone: the busy share at which both cost the same is the break-even. Months to break even"
        " count no resale. Buying wins in that share of the draws."
    )
    assumed = _(
        "Most inputs are assumed, and the rents are quotations at their dates: give your own"
        " (--rent RMB, --assume NAME=X, --price PART=RMB)."
    )
    return View(
        title=plain(_answer(owned)),
        tables=tuple(table for table in (*tables, *(_detail_tables(owned) if details else ())) if table.rows),
        facts=tuple((name, plain(value)) for name, value in list_facts(priced)) if details else (),
        meaning="\n".join((explained, *(() if details else map(plain, describe_grounds(priced))))),
        advice=(assumed, *(map(plain, describe_notes(priced)) if details else (ask_for_details(),))),
    )


def _rent_table(owned: Sequence[Ownership]) -> Table:
    """A busy card-hour owned beside one rented, of the fleets whose rent is known."""
    fields: list[Field[Ownership]] = [
        *_KEYS,
        Field[Ownership](
            "rent", lambda each: figure(each.rent.uncertain.value if each.rent else None), is_number=True
        ),
        value_field("owned, busy", "rmb_per_busy_card_hour", figure),
        value_field("months to break even", "break_even_months", _months_text),
        range_field("break_even_months", _months_text, drop_priority=0),
        value_field("busy share", "break_even_busy_share", ratio),
        Field[Ownership](
            "buying wins",
            lambda each: UNKNOWN if each.buying_wins is None else percent(each.buying_wins),
            is_number=True,
        ),
    ]
    return table_of(_("Beside renting, RMB a card-hour"), fields, [each for each in owned if each.rent])


def _year_table(owned: Sequence[Ownership]) -> Table:
    """What a year costs, by what it is paid for."""
    fields: list[Field[Ownership]] = [
        *_KEYS,
        # All four stay at any width: what they add up to stands beside them.
        value_field("capital", "capital_rmb_per_year", millions),
        value_field("electricity", "electricity_rmb_per_year", millions),
        value_field("building", "building_rmb_per_year", millions),
        value_field("upkeep", "upkeep_rmb_per_year", millions),
        value_field("a year", "cost_rmb_per_year", millions),
        ends_field("cost_rmb_per_year", millions, drop_priority=0),
    ]
    return table_of(_("A year of owning, RMB M"), fields, owned)


def _bought_table(owned: Sequence[Ownership]) -> Table:
    """What an hour of a card and a day of a PFLOPS cost, and the EFLOPS of a megawatt."""
    fields: list[Field[Ownership]] = [
        *_KEYS,
        value_field("RMB a card-hour", "rmb_per_card_hour", figure),
        range_field("rmb_per_card_hour", figure, drop_priority=0),
        value_field("RMB a PFLOP-day", "rmb_per_pflop_day", figure),
        range_field("rmb_per_pflop_day", figure),
        value_field("EFLOPS per MW", "delivered_eflops_per_mw", figure),
    ]
    return table_of(_("What that buys"), fields, owned)


def _answer(owned: Sequence[Ownership]) -> str:
    """What a busy card-hour costs owned, beside its rent; of several fleets in a list."""
    first = owned[0]
    busy = first.estimates.get("rmb_per_busy_card_hour")
    named = list({_label(each): each for each in reversed(owned)}.values())[::-1]  # each at its first years
    if len(named) > 1:
        return _(
            "A busy card-hour owned for {years} years costs {hours}.",
            years=stated(first.years),
            hours=_("; ").join(map(_describe_hour, named[:_MOST_NAMED])),
        )
    if busy is None:
        return _("{fleet}: {reason}.", fleet=_label(first), reason=first.cost.reason or _("unknown"))
    said = _(
        "A busy card-hour of {fleet} costs RMB {hour}{range} owned for {years} years",
        fleet=_label(first),
        hour=figure(busy.p50),
        range=describe_range(busy, figure),
        years=stated(first.years),
    )
    if first.rent is None and any(link.speed_at_limit != 1 for link in first.cost.chain):
        lacking = N_("{said}; the known rents are of cards without a power limit: give one (--rent RMB).")
        return _(lacking, said=said)
    if first.rent is None:
        return _("{said}; no rent of it is known: give one (--rent RMB).", said=said)
    return _(
        "{said}, and RMB {rent} rented: buying wins in {share} of the draws.",
        said=said,
        rent=figure(first.rent.uncertain.value),
        share=percent(first.buying_wins),
    )


def _describe_hour(owned: Ownership) -> str:
    busy = owned.estimates.get("rmb_per_busy_card_hour")
    hour = UNKNOWN if busy is None else figure(busy.p50)
    if owned.rent is None:
        return _("{fleet} RMB {hour}", fleet=_label(owned), hour=hour)
    rent = figure(owned.rent.uncertain.value)
    return _("{fleet} RMB {hour} ({rent} rented)", fleet=_label(owned), hour=hour, rent=rent)


def _detail_tables(owned: Sequence[Ownership]) -> Iterator[Table]:
    used = {each.name: each for item in owned for each in item.inputs}
    rents = {_label(item): item.rent for item in owned if item.rent}
    inputs = [*used.items(), *((_("rent, {fleet}", fleet=name), rent) for name, rent in rents.items())]
    yield inputs_table(_("The inputs of ownership, besides those of `bench fleet cost`"), inputs)
    yield unknown_table({_label(item): item.cost.reason for item in owned}.items())


def _label(owned: Ownership) -> str:
    return fleet_label(owned.cost.size)


# What a row is of: the first columns of each table.
_KEYS = (
    Field[Ownership]("fleet", _label),
    Field[Ownership]("years", lambda each: stated(each.years), is_number=True),
)


def _months_text(months: float) -> str:
    """Return months as a figure; ∞ where buying never pays."""
    return figure(months) if math.isfinite(months) else "∞"
