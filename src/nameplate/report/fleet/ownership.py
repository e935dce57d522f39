"""The screen of `bench fleet own`: what owning costs over some years, beside renting the same cards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nameplate.base.formatting import UNKNOWN, figure, interval, millions, percent, ratio, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.fleet.ownership import Ownership
from nameplate.report.fleet.costs import describe_notes, list_facts
from nameplate.report.fleet.figures import PERCENTILES, inputs_table, unknown_table
from nameplate.report.view import Field, View, table_of

_Text = Callable[[Ownership], str]
_NEVER = "∞"  # months after which buying has paid, where it never does


def ownership_view(owned: Sequence[Ownership]) -> View:
    """The fleets, each for every number of years in turn."""
    fleet = Field[Ownership]("fleet", _label)
    years = Field[Ownership]("years", lambda each: stated(each.years), is_number=True)
    costs = [
        *(fleet, years),
        _millions("capital", "capital_rmb_per_year", 2),
        _millions("electricity", "electricity_rmb_per_year", 1),
        _millions("building", "building_rmb_per_year", 0),
        _millions("upkeep", "upkeep_rmb_per_year", 3),
        _millions("RMB M a year", "cost_rmb_per_year"),
        Field[Ownership](PERCENTILES, _range("cost_rmb_per_year", millions)),
    ]
    hours = [
        *(fleet, years),
        Field[Ownership]("RMB a card-hour", _value("rmb_per_card_hour", figure), is_number=True),
        Field[Ownership](PERCENTILES, _range("rmb_per_card_hour", figure), drop_priority=0),
        Field[Ownership]("RMB a PFLOP-day", _value("rmb_per_pflop_day", figure), is_number=True),
        Field[Ownership](PERCENTILES, _range("rmb_per_pflop_day", figure)),
        Field[Ownership]("EFLOPS per MW", _value("delivered_eflops_per_mw", figure), is_number=True),
    ]
    beside = [
        *(fleet, years),
        Field[Ownership](
            "rent", lambda each: figure(each.rent.uncertain.value if each.rent else None), is_number=True
        ),
        Field[Ownership]("owned, busy", _value("rmb_per_busy_card_hour", figure), is_number=True),
        Field[Ownership]("months to break even", _value("break_even_months", figure), is_number=True),
        Field[Ownership](PERCENTILES, _range("break_even_months", figure), drop_priority=0),
        Field[Ownership]("busy share", _value("break_even_busy_share", ratio), is_number=True),
        Field[Ownership](
            "buying wins",
            lambda each: UNKNOWN if each.buying_wins is None else percent(each.buying_wins),
            is_number=True,
        ),
    ]
    used = {each.name: each for item in owned for each in item.inputs}
    rents = {_label(item): item.rent for item in owned if item.rent}
    inputs = [*used.items(), *((_("rent, {fleet}", fleet=name), rent) for name, rent in rents.items())]
    reasons = {_label(item): item.cost.reason for item in owned}
    priced = list({item.cost.size.id: item.cost for item in owned}.values())
    tables = (
        table_of(_("A year of owning, RMB M"), costs, owned),
        table_of(_("What that buys"), hours, owned),
        table_of(_("Beside renting, RMB a card-hour"), beside, [each for each in owned if each.rent]),
        inputs_table(_("The inputs of ownership, besides those of `bench fleet cost`"), inputs),
        unknown_table(reasons.items()),
    )
    return View(
        title=_("What it costs to own the fleets, beside renting the same cards"),
        tables=tuple(table for table in tables if table.rows),
        facts=tuple((name, plain(value)) for name, value in list_facts(priced)),
        meaning=_(
            "Capital is price less resale, with interest, spread evenly over the years. Rent is paid for busy"
            " hours alone: the busy share at which both cost the same is the break-even. Months to break even"
            " count no resale. Buying wins in that share of the draws."
        ),
        advice=(
            _(
                "Most inputs are assumed, and the rents are quotations at their dates: give your own"
                " (--rent RMB, --assume NAME=X, --price PART=RMB)."
            ),
            *(plain(each) for each in describe_notes(priced)),
        ),
    )


def _label(owned: Ownership) -> str:
    """Return a fleet's id; for a size given on the command line its name."""
    size = owned.cost.size
    return plain(size.name if size.as_of is None else size.id)


def _millions(column: str, name: str, drop_priority: int | None = None) -> Field[Ownership]:
    return Field(column, _value(name, millions), is_number=True, drop_priority=drop_priority)


def _value(name: str, form: Callable[[float], str]) -> _Text:
    def text(owned: Ownership) -> str:
        found = owned.figures.get(name)
        return UNKNOWN if found is None else _finite(form)(found.estimate.p50 or 0.0)

    return text


def _range(name: str, form: Callable[[float], str]) -> _Text:
    def text(owned: Ownership) -> str:
        found = owned.figures.get(name)
        if found is None:
            return UNKNOWN
        points = found.estimate
        return interval(_finite(form), points.p5, points.p50, points.p95)

    return text


def _finite(form: Callable[[float], str]) -> Callable[[float], str]:
    return lambda number: form(number) if math.isfinite(number) else _NEVER
