"""Plans as a reader should see them: what a need takes, what a budget buys, what a training run takes.

The answer is the first line; then the figures, and the chains and inputs of `bench fleet cost` they rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from nameplate.base.formatting import (
    UNKNOWN,
    count,
    figure,
    interval,
    millions,
    money,
    percent,
    rmb,
    scientific,
    stated,
)
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.plan import Need, Purchase
from nameplate.fleet.price import Cost
from nameplate.fleet.training import Training, format_days
from nameplate.report.fleet.costs import CHAINS, cost_view
from nameplate.report.view import Column, Field, Table, View, table_of, text_table

_INPUTS = N_("What money and power follow from is in --json, and on the screen of `bench fleet cost`.")
_PERCENTILES = "p5 … p50 … p95"
_OWNED = N_(
    "What an owner pays is depreciation, electricity and operation, with fabric and spares, for the time "
    "used; the time that a fleet idles (`busy_share`) is shared out over that."
)
_ONE_RUN = N_(
    "One training run: no experiments, failed runs, labelling or simulation, and no encoder before the tokens"
)


_R = TypeVar("_R", bound="_Row")


class _Row(Protocol):
    @property
    def fleet(self) -> Cost: ...
    @property
    def estimates(self) -> Mapping[str, Estimate]: ...
    @property
    def reason(self) -> str | None: ...


def needs_view(needs: Sequence[Need]) -> View:
    """What so many delivered EFLOPS take, by each part."""
    known = [need for need in needs if need.estimates]
    fields: list[Field[Need]] = [
        Field[Need]("part", _name),
        Field[Need]("cards", lambda need: count(need.cards), is_number=True),
        _percentiles("cards_exact", count, drop_priority=4),
        Field[Need]("servers", lambda need: count(need.servers), is_number=True),
        Field[Need]("RMB M", _value("capex_rmb", millions), is_number=True),
        _percentiles("capex_rmb", millions, drop_priority=2),
        Field[Need]("in full", _value("full_capex_rmb", millions), is_number=True),
        _percentiles("full_capex_rmb", millions, drop_priority=1),
        Field[Need]("MW", _value("power_mw", figure), is_number=True),
        _percentiles("power_mw", figure, drop_priority=3),
        Field[Need]("per year", _value("ownership_rmb_per_year", millions), is_number=True, drop_priority=0),
    ]
    heading = _(
        "Cards and whole servers; millions of RMB for servers alone, in full (with fabric and spares), and a "
        "year of owning them"
    )
    return _view(
        _needed(known) or _nothing(needs),
        [table_of(heading, fields, known)],
        needs,
        _("Cards of the upper end of nine in ten meet the need in 95 % of the draws."),
        (),
    )


def purchases_view(purchases: Sequence[Purchase]) -> View:
    """What a budget buys of each part, the one that delivers most first."""
    known = [each for each in purchases if each.rank is not None]
    fields: list[Field[Purchase]] = [
        Field[Purchase]("part", _name),
        Field[Purchase]("servers", lambda each: count(each.servers), is_number=True),
        Field[Purchase]("cards", lambda each: count(each.cards), is_number=True, drop_priority=2),
        Field[Purchase]("EFLOPS", _value("delivered_eflops", figure), is_number=True),
        _percentiles("delivered_eflops", figure),
        Field[Purchase]("most", lambda each: percent(each.first_in or 0.0), is_number=True, drop_priority=3),
        Field[Purchase]("MW", _value("power_mw", figure), is_number=True, drop_priority=0),
        Field[Purchase]("in full", lambda each: count(each.full_servers), is_number=True, drop_priority=4),
        Field[Purchase]("EFLOPS", _value("full_delivered_eflops", figure), is_number=True),
        _percentiles("full_delivered_eflops", figure, drop_priority=1),
    ]
    heading = _(
        "Whole servers and what they deliver: servers alone, and in full (fabric and spares paid for too); "
        "most: in how many draws it delivers most"
    )
    return _view(
        _bought(known) or _nothing(purchases),
        [table_of(heading, fields, known)],
        purchases,
        _unpriced(purchases),
        (),
    )


def training_view(trainings: Sequence[Training]) -> View:
    """What a training run is made of, how long it takes on fleets, and which cards finish it in time."""
    work = trainings[0].work
    known = [each for each in trainings if each.estimates]
    fields: list[Field[Training]] = [
        Field[Training]("fleet", lambda each: plain(_label(each))),
        Field[Training](
            "on cards", lambda each: count(each.fleet.size.cards), is_number=True, drop_priority=3
        ),
        Field[Training]("time", _value("days", format_days), is_number=True),
        _percentiles("days", format_days, drop_priority=5),
        Field[Training]("as one job", _value("gang_days", format_days), is_number=True, drop_priority=2),
        Field[Training]("per refresh", _value("refresh_rmb", money), is_number=True),
        _percentiles("refresh_rmb", money, drop_priority=0),
        Field[Training](
            "in time", lambda each: count(None if each.need is None else each.need.cards), is_number=True
        ),
        Field[Training](_PERCENTILES, lambda each: _cards_range(each.need), drop_priority=4),
        Field[Training](
            "servers", lambda each: count(None if each.need is None else each.need.servers), is_number=True
        ),
        Field[Training]("MW", lambda each: _power(each.need), is_number=True, drop_priority=1),
    ]
    heading = _(
        "Time; RMB per refresh; and the cards, servers and MW that finish it in {days} days (in time)",
        days=stated(trainings[0].every_days),
    )
    quantities = {
        _("tokens"): (work.tokens, scientific),
        _("FLOP a token"): (work.flop_per_token, scientific),
        _("FLOP"): (work.flop, scientific),
        _("EFLOPS needed"): (trainings[0].needed, figure),
    }
    made = tuple(
        (name, form(amount.value), _ends(amount.estimate, form))
        for name, (amount, form) in quantities.items()
    )
    return _view(
        _trained(known) or _nothing(trainings),
        [
            table_of(heading, fields, known),
            Table(
                _("The run"), (Column("of it"), Column("value", is_number=True), Column(_PERCENTILES)), made
            ),
            _inputs(work.inputs),
            _spread(trainings),
        ],
        trainings,
        _(_OWNED),
        (work.note, _(_ONE_RUN)),
    )


def _view(
    title: str, tables: Sequence[Table], rows: Sequence[_Row], meaning: str, advice: Sequence[str]
) -> View:
    """The plan's tables, and what of `bench fleet cost` it rests on."""
    cost = cost_view([row.fleet for row in rows if row.estimates] or [row.fleet for row in rows])
    below = [table for table in cost.tables if table.heading == _(CHAINS)]
    unknown = tuple((plain(_(row.fleet.size.name)), plain(row.reason)) for row in rows if row.reason)
    missing = text_table(_("Not known, and why"), ("fleet", "reason"), unknown)
    return View(
        title=plain(title),
        facts=cost.facts,
        tables=tuple(table for table in (*tables, missing, *below) if table.rows),
        meaning=plain(meaning),
        advice=(*(plain(_("{said}.", said=each)) for each in advice), *cost.advice, _(_INPUTS)),
        problems=(),
    )


# The answers


def _needed(known: Sequence[Need]) -> str | None:
    """The need's own sentence; of several parts, the cards and RMB of each."""
    if len(known) < 2:
        return known[0].sentence if known else None
    asked = known[0].asked.value
    return _(
        "{eflops} delivered EFLOPS take {cards}.",
        eflops=stated(asked),
        cards=_or([_cards_of(need) for need in known]),
    )


def _cards_of(need: Need) -> str:
    capex = need.estimates.get("capex_rmb")
    cards, part = count(need.cards), _(need.fleet.size.name)
    if capex is None or capex.value is None:
        return _("{count} cards of {part}", count=cards, part=part)
    return _("{count} cards of {part} for {rmb}", count=cards, part=part, rmb=rmb(capex.value))


def _bought(known: Sequence[Purchase]) -> str | None:
    if len(known) < 2:
        return known[0].sentence if known else None
    said = [f"{_(each.fleet.size.name)} {figure(each.estimates['delivered_eflops'].value)}" for each in known]
    first = known[0]
    return _(
        "{rmb} delivers most in {part}, {share} of draws agreeing: EFLOPS by servers alone are {eflops}.",
        rmb=rmb(first.budget_rmb),
        part=_(first.fleet.size.name),
        share=percent(first.first_in),
        eflops=_(", ").join(said),
    )


def _trained(known: Sequence[Training]) -> str | None:
    if len(known) < 2:
        return known[0].sentence if known else None
    said = [_time_on(each) if each.given else _cards_in_time(each) for each in known]
    return _("{run} takes {what}.", run=known[0].run, what=_or(said))


def _time_on(each: Training) -> str:
    days = each.estimates["days"]
    time = format_days(days.value) if days.value is not None else _ends(days, format_days)
    return _("{time} on {fleet}", time=time, fleet=_(each.fleet.size.name))


def _cards_in_time(each: Training) -> str:
    cards = count(None if each.need is None else each.need.cards)
    return _("{count} cards of {part}", count=cards, part=_(each.fleet.size.name))


def _or(said: Sequence[str]) -> str:
    return _("{first} or {last}", first=_(", ").join(said[:-1]), last=said[-1])


def _nothing(rows: Sequence[_Row]) -> str:
    names = _(", ").join(_(row.fleet.size.name) for row in rows)
    return _("Nothing that was asked for can be planned with {names}.", names=names)


def _unpriced(purchases: Sequence[Purchase]) -> str:
    names = [_(each.fleet.size.name) for each in purchases if each.fleet.price is None]
    if not names:
        return _("Ranked by what servers alone deliver.")
    return _(
        "Ranked by what servers alone deliver; no price is known of {names}: give one (--price PART=RMB).",
        names=_(", ").join(names),
    )


# Tables


def _inputs(inputs: Mapping[str, UsedInput]) -> Table:
    rows = []
    for each in inputs.values():
        spread = each.uncertain
        ends = "–" if spread.law == "exact" else interval(stated, spread.low, spread.high)
        value, law, how = stated(spread.value), _(spread.law), _(each.basis)
        rows.append(tuple(map(plain, (each.name, value, ends, law, _(each.unit), how, each.source))))
    columns = (
        Column("input"),
        Column("value", is_number=True),
        Column("from … to", drop_priority=2),
        Column("law", drop_priority=0),
        Column("unit", drop_priority=1),
        Column("how"),
        Column("from"),
    )
    return Table(_("What the run follows from"), columns, tuple(rows))


def _spread(trainings: Sequence[Training]) -> Table:
    """The inputs that bring most of the spread, once where fleets share them."""
    rows: dict[tuple[str, ...], None] = {}
    for each in trainings:
        for name, shares in each.sensitivity.items():
            most = [share for share in shares[:4] if share.share >= 0.01]
            said = _(", ").join(f"{share.input} {percent(share.share)}" for share in most)
            if said:
                rows[plain(_label(each)), name, plain(said)] = None
    heading = _("Where the spread comes from: the share of a figure's variance that each input brings")
    return text_table(heading, ("fleet", "of", "from"), rows)


def _label(training: Training) -> str:
    """A given fleet's id; a part's name."""
    return training.fleet.size.id if training.given else _(training.fleet.size.name)


def _name(row: _Row) -> str:
    return plain(_(row.fleet.size.name))


def _value(name: str, form: Callable[[float], str]) -> Callable[[_Row], str]:
    def text(row: _Row) -> str:
        found = row.estimates.get(name)
        return UNKNOWN if found is None or found.value is None else form(found.value)

    return text


def _percentiles(name: str, form: Callable[[float], str], *, drop_priority: int | None = None) -> Field[_R]:
    return Field(_PERCENTILES, lambda row: _ends(row.estimates.get(name), form), drop_priority=drop_priority)


def _ends(found: Estimate | None, form: Callable[[float], str]) -> str:
    return UNKNOWN if found is None else interval(form, found.p5, found.p50, found.p95)


def _cards_range(need: Need | None) -> str:
    return UNKNOWN if need is None else _ends(need.estimates.get("cards_exact"), count)


def _power(need: Need | None) -> str:
    found = None if need is None else need.estimates.get("power_mw")
    return figure(None if found is None else found.value)
