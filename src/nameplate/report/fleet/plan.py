"""The screens of `bench fleet plan`: what a need takes, what a budget buys, what a training run takes.

The answer is the title; below it are the figures, and the chains that they rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from nameplate.base.formatting import count, figure, millions, money, percent, rmb, scientific, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.plan import Need, Purchase
from nameplate.fleet.training import Training, format_days
from nameplate.report.fleet.costs import CHAINS, cost_view
from nameplate.report.fleet.figures import (
    PERCENTILES,
    inputs_table,
    range_field,
    range_text,
    sensitivity_table,
    unknown_table,
    value_field,
    value_text,
)
from nameplate.report.view import Column, Field, Table, View, table_of

_OWNED = N_(
    "The owner's cost is depreciation, electricity and operation, with fabric and spares, for the time used. "
    "The cost of idle time (`busy_share`) is spread over the time used."
)
_ONE_RUN = N_(
    "One training run only: no experiments, failed runs, labelling or simulation, and no encoder that makes "
    "the tokens"
)


_Planned = Need | Purchase | Training
Row = TypeVar("Row", bound=_Planned)


def needs_view(needs: Sequence[Need]) -> View:
    """What so many delivered EFLOPS take, by each part."""
    known = [need for need in needs if need.estimates]
    fields: list[Field[Need]] = [
        Field("part", _name),
        Field("cards", lambda need: count(need.cards), is_number=True),
        range_field("cards_exact", count, drop_priority=4),
        Field("servers", lambda need: count(need.servers), is_number=True),
        value_field("RMB M", "capex_rmb", millions),
        range_field("capex_rmb", millions, drop_priority=2),
        value_field("in full", "full_capex_rmb", millions),
        range_field("full_capex_rmb", millions, drop_priority=1),
        value_field("MW", "power_mw", figure),
        range_field("power_mw", figure, drop_priority=3),
        value_field("per year", "ownership_rmb_per_year", millions, drop_priority=0),
    ]
    heading = _(
        "Cards and whole servers; millions of RMB for the servers, for servers with fabric and spares (in "
        "full), and per year of ownership"
    )
    meaning = _("With the p95 number of cards, 95 % of the draws meet the need.")
    tables = [table_of(heading, fields, known)]
    return _plan_view(_answer(needs, known, _compare_needs), tables, needs, meaning)


def purchases_view(purchases: Sequence[Purchase]) -> View:
    """What a budget buys of each part, the one that delivers most first."""
    known = [each for each in purchases if each.rank is not None]
    fields: list[Field[Purchase]] = [
        Field("part", _name),
        Field("servers", lambda each: count(each.servers), is_number=True),
        Field("cards", lambda each: count(each.cards), is_number=True, drop_priority=2),
        value_field("EFLOPS", "delivered_eflops", figure),
        range_field("delivered_eflops", figure),
        Field("most", lambda each: percent(each.first_in or 0.0), is_number=True, drop_priority=3),
        value_field("MW", "power_mw", figure, drop_priority=0),
        Field("in full", lambda each: count(each.full_servers), is_number=True, drop_priority=4),
        value_field("EFLOPS", "full_delivered_eflops", figure),
        range_field("full_delivered_eflops", figure, drop_priority=1),
    ]
    heading = _(
        "Whole servers and what they deliver, if the budget pays for servers only, and if it pays for fabric "
        "and spares too (in full); most: the share of draws in which the part delivers most"
    )
    tables = [table_of(heading, fields, known)]
    return _plan_view(
        _answer(purchases, known, _compare_purchases), tables, purchases, _describe_ranking(purchases)
    )


def training_view(trainings: Sequence[Training]) -> View:
    """What a training run is made of, how long it takes on fleets, and which cards finish it in time."""
    work = trainings[0].work
    known = [each for each in trainings if each.estimates]
    fields: list[Field[Training]] = [
        Field("fleet", lambda each: plain(_label(each))),
        Field("on cards", lambda each: count(each.fleet.size.cards), is_number=True, drop_priority=3),
        value_field("time", "days", format_days),
        range_field("days", format_days, drop_priority=5),
        value_field("as one job", "gang_days", format_days, drop_priority=2),
        value_field("per run", "refresh_rmb", money),
        range_field("refresh_rmb", money, drop_priority=0),
        Field("in time", lambda each: count(None if each.need is None else each.need.cards), is_number=True),
        Field(
            PERCENTILES, lambda each: range_text(_find_estimate(each, "cards_exact"), count), drop_priority=4
        ),
        Field(
            "servers", lambda each: count(None if each.need is None else each.need.servers), is_number=True
        ),
        Field(
            "MW",
            lambda each: value_text(_find_estimate(each, "power_mw"), figure),
            is_number=True,
            drop_priority=1,
        ),
    ]
    heading = _(
        "Time; RMB per training run; and the cards, servers and MW that finish it in {days} days (in time)",
        days=stated(trainings[0].every_days),
    )
    quantities = {
        _("tokens"): (work.tokens, scientific),
        _("FLOP a token"): (work.flop_per_token, scientific),
        _("FLOP"): (work.flop, scientific),
        _("EFLOPS needed"): (trainings[0].needed, figure),
    }
    made = tuple(
        (name, value_text(amount.estimate, form), range_text(amount.estimate, form))
        for name, (amount, form) in quantities.items()
    )
    traced = ((_label(each), name, shares) for each in trainings for name, shares in each.sensitivity.items())
    tables = [
        table_of(heading, fields, known),
        Table(_("The run"), (Column("quantity"), Column("value", is_number=True), Column(PERCENTILES)), made),
        inputs_table(_("The inputs of the run"), ((each.name, each) for each in work.inputs.values())),
        sensitivity_table("fleet", traced, most=4),
    ]
    return _plan_view(
        _answer(trainings, known, _compare_trainings), tables, trainings, _(_OWNED), (work.note, _(_ONE_RUN))
    )


def _plan_view(
    title: str, tables: Sequence[Table], rows: Sequence[_Planned], meaning: str, advice: Sequence[str] = ()
) -> View:
    """Put the plan's tables before the chains of `bench fleet cost` that it rests on."""
    cost = cost_view([row.fleet for row in rows if row.estimates] or [row.fleet for row in rows])
    chains = [table for table in cost.tables if table.heading == _(CHAINS)]
    unknown = unknown_table((_name(row), row.reason) for row in rows)
    inputs = _("The inputs of cost and power are in --json, and on the screen of `bench fleet cost`.")
    return View(
        title=plain(title),
        facts=cost.facts,
        tables=tuple(table for table in (*tables, unknown, *chains) if table.rows),
        meaning=plain(meaning),
        advice=(*(plain(_("{said}.", said=each)) for each in advice), *cost.advice, inputs),
    )


# The answers


def _answer(rows: Sequence[Row], known: Sequence[Row], compare: Callable[[Sequence[Row]], str]) -> str:
    """Return the sentence of the only row that is known, or `compare` several."""
    if len(known) > 1:
        return compare(known)
    names = _(", ").join(_(row.fleet.size.name) for row in rows)
    return (known and known[0].sentence) or _("This can't be planned with {names}.", names=names)


def _compare_needs(known: Sequence[Need]) -> str:
    cards = _join_names([_cards_and_rmb(need) for need in known])
    return _("{eflops} delivered EFLOPS take {cards}.", eflops=stated(known[0].asked.value), cards=cards)


def _cards_and_rmb(need: Need) -> str:
    capex = need.estimates.get("capex_rmb")
    cards, part = count(need.cards), _(need.fleet.size.name)
    if capex is None or capex.value is None:
        return _("{count} cards of {part}", count=cards, part=part)
    return _("{count} cards of {part} for {rmb}", count=cards, part=part, rmb=rmb(capex.value))


def _compare_purchases(known: Sequence[Purchase]) -> str:
    first = known[0]
    said = [f"{_(each.fleet.size.name)} {figure(each.estimates['delivered_eflops'].value)}" for each in known]
    return _(
        "{rmb} delivers most with {part} (in {share} of the draws). EFLOPS, if it is all spent on servers: "
        "{eflops}.",
        rmb=rmb(first.budget_rmb),
        part=_(first.fleet.size.name),
        share=percent(first.first_in),
        eflops=_(", ").join(said),
    )


def _compare_trainings(known: Sequence[Training]) -> str:
    said = [_time_on_fleet(each) if each.given else _cards_in_time(each) for each in known]
    return _("{run} takes {what}.", run=known[0].title, what=_join_names(said))


def _time_on_fleet(each: Training) -> str:
    days = each.estimates["days"]
    time = range_text(days, format_days) if days.value is None else format_days(days.value)
    return _("{time} on {fleet}", time=time, fleet=_(each.fleet.size.name))


def _cards_in_time(each: Training) -> str:
    cards = count(None if each.need is None else each.need.cards)
    return _("{count} cards of {part}", count=cards, part=_(each.fleet.size.name))


def _join_names(said: Sequence[str]) -> str:
    return _("{first} or {last}", first=_(", ").join(said[:-1]), last=said[-1])


def _describe_ranking(purchases: Sequence[Purchase]) -> str:
    names = [_(each.fleet.size.name) for each in purchases if each.fleet.price is None]
    if not names:
        return _("Ranked by what is delivered if the budget pays for servers only.")
    return _(
        "Ranked by what is delivered if the budget pays for servers only. The price of {names} isn't known: "
        "give it (--price PART=RMB).",
        names=_(", ").join(names),
    )


# Cells


def _name(row: _Planned) -> str:
    return plain(_(row.fleet.size.name))


def _label(training: Training) -> str:
    """Return the id of a given fleet, or else the name of the part."""
    return training.fleet.size.id if training.given else _(training.fleet.size.name)


def _find_estimate(training: Training, name: str) -> Estimate | None:
    return None if training.need is None else training.need.estimates.get(name)
