"""The screens of `bench fleet plan`: what a need takes, what a budget buys, what a training run takes.

The answer is the title; below it is a table, and in three lines what it rests on. The chains are details.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from nameplate.base.formatting import (
    count,
    figure,
    millions,
    money,
    percent,
    rmb,
    scientific,
    stated,
)
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.mfu_model import generation_of, load_mfu_model
from nameplate.fleet.mfu_runs import PEAK_DTYPES, TrainingPrecision
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.plan import Need, Purchase
from nameplate.fleet.price import Cost
from nameplate.fleet.size import round_up
from nameplate.fleet.training import TrainingPlan, format_days
from nameplate.report.fleet.costs import CHAINS, cost_view
from nameplate.report.fleet.figures import (
    ENDS,
    PERCENTILES,
    ends_field,
    ends_text,
    inputs_table,
    range_text,
    sensitivity_table,
    unknown_table,
    value_field,
    value_text,
)
from nameplate.report.fleet.grounds import ask_for_details, describe_grounds
from nameplate.report.view import Column, Field, Table, View, table_of

_OWNED = N_(
    "The owner's cost is depreciation, electricity and operation, with fabric and spares, for the time used. "
    "The cost of idle time (`busy_share`) is spread over the time used."
)
_ONE_RUN = N_(
    "Time, cards and RMB are of one training run; the pipeline adds encoder, experiments and failed runs, "
    "data mining, simulation and the other models of that time"
)
_MOST_SAID = 2  # sentences about single fleets
_MOST_NAMED = 4  # parts in an answer
_MOST_ROWS = 10  # of a table, unless in detail


class Planned(Protocol):
    """A row of a plan: the figures of a fleet, and why others aren't known."""

    @property
    def fleet(self) -> Cost:
        """The fleet that is planned."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The known figures."""

    @property
    def reason(self) -> str | None:
        """Why others aren't known."""


_Row = TypeVar("_Row", Need, Purchase, TrainingPlan)


def needs_view(needs: Sequence[Need], *, details: bool = False) -> View:
    """What so many delivered EFLOPS take, by each part."""
    known = [need for need in needs if need.estimates]
    fields: list[Field[Need]] = [
        Field("part", name_part),
        Field("cards", lambda need: count(need.cards), is_number=True),
        ends_field("cards_exact", count, drop_priority=4),
        Field("servers", lambda need: count(need.servers), is_number=True, drop_priority=1),
        value_field("RMB M", "capex_rmb", millions),
        ends_field("capex_rmb", millions, drop_priority=2),
        value_field("in full", "full_capex_rmb", millions),
        value_field("MW", "power_mw", figure),
        value_field("per year", "ownership_rmb_per_year", millions, drop_priority=0),
        runs_field(),
    ]
    heading = _(
        "Cards and whole servers; millions of RMB for the servers, for servers with fabric and spares (in "
        "full), and per year of ownership"
    )
    meaning = _(
        "With the p95 number of cards, 95 % of the draws meet the need. Runs: published training runs on "
        "parts of that generation; without one, the interval is that of any."
    )
    title = _answer(needs, known, _compare_needs)
    shown, left_out = _keep_best(known, "capex_rmb", details=details)
    return plan_view(title, [table_of(heading, fields, shown)], needs, meaning, left_out, details=details)


def purchases_view(purchases: Sequence[Purchase], *, details: bool = False) -> View:
    """What a budget buys of each part, the one that delivers most first."""
    known = [each for each in purchases if each.rank is not None]
    fields: list[Field[Purchase]] = [
        Field("part", name_part),
        Field("servers", lambda each: count(each.servers), is_number=True),
        Field("cards", lambda each: count(each.cards), is_number=True, drop_priority=2),
        value_field("EFLOPS", "delivered_eflops", figure),
        ends_field("delivered_eflops", figure),
        Field("most", lambda each: percent(each.first_in or 0.0), is_number=True, drop_priority=3),
        value_field("MW", "power_mw", figure, drop_priority=0),
        Field("in full", lambda each: count(each.full_servers), is_number=True, drop_priority=4),
        value_field("EFLOPS", "full_delivered_eflops", figure),
        runs_field(),
    ]
    heading = _(
        "Whole servers and what they deliver, if the budget pays for servers only, and if it pays for fabric "
        "and spares too (in full); most: the share of draws in which the part delivers most"
    )
    shown, left_out = _keep_best(known, None, details=details)
    title, tables = _answer(purchases, known, _compare_purchases), [table_of(heading, fields, shown)]
    return plan_view(title, tables, purchases, _describe_ranking(purchases), left_out, details=details)


def training_view(trainings: Sequence[TrainingPlan], *, details: bool = False) -> View:
    """What a training run is made of, how long it takes on fleets, and which cards finish it in time."""
    work = trainings[0].work
    known = [each for each in trainings if each.estimates]
    fields: list[Field[TrainingPlan]] = [
        Field("fleet", lambda each: plain(_label(each))),
        Field("on cards", lambda each: count(each.fleet.size.cards), is_number=True, drop_priority=3),
        value_field("time", "days", format_days),
        ends_field("days", format_days, drop_priority=5),
        value_field("per run", "refresh_rmb", money),
        Field("in time", lambda each: count(None if each.need is None else each.need.cards), is_number=True),
        Field(ENDS, lambda each: ends_text(_find_estimate(each, "cards_exact"), count), drop_priority=4),
        value_field("share", "share_of_fleet", percent, drop_priority=6),
        value_field("pipeline", "pipeline_cards", lambda cards: count(round_up(cards)), drop_priority=7),
        value_field("tokens a second", "tokens_per_card_second", count, drop_priority=2),
    ]
    heading = _(
        "Time; RMB per training run; the cards that finish it in {days} days (in time), their share of the "
        "fleet, and the cards of the whole pipeline",
        days=stated(trainings[0].every_days),
    )
    quantities = {
        _("tokens"): (work.tokens, scientific),
        _("FLOP a token"): (work.flop_per_token, scientific),
        _("FLOP"): (work.flop, scientific),
        _("EFLOPS needed"): (trainings[0].needed, figure),
    }
    made = tuple(
        (name, value_text(amount.estimate, formatter), range_text(amount.estimate, formatter))
        for name, (amount, formatter) in quantities.items()
    )
    traced = ((_label(each), name, shares) for each in trainings for name, shares in each.sensitivity.items())
    is_given = any(each.given for each in known)
    shown, left_out = (known, ()) if is_given else _keep_best(known, "refresh_rmb", details=details)
    tables = [table_of(heading, fields, shown)]
    more = [
        Table(_("The run"), (Column("quantity"), Column("value", is_number=True), Column(PERCENTILES)), made),
        inputs_table(_("The inputs of the run"), ((each.name, each) for each in work.inputs.values())),
        sensitivity_table("fleet", traced, most=4),
    ]
    # A fleet's sentence names it; those of several parts would all read alike, and the table has them.
    said = [each.pipeline_sentence for each in known if is_given or len(known) == 1]
    piped = [each for each in said if each]
    notes = (*piped, work.note, _(_ONE_RUN)) if details else (*piped[:_MOST_SAID], work.note, *left_out)
    return plan_view(
        _answer(trainings, known, _compare_trainings),
        [*tables, *(more if details else ())],
        trainings,
        _(_OWNED) if details else "",
        notes,
        details=details,
    )


def _keep_best(
    rows: Sequence[_Row], by: str | None, *, details: bool
) -> tuple[Sequence[_Row], Sequence[str]]:
    """The rows of a short screen, the best by a figure or the first, and what to say of the others."""
    if details or len(rows) <= _MOST_ROWS:
        return rows, ()

    said = _(
        "The best {count} of {total} parts are shown; all: `--details`, or name some (--part).",
        count=count(_MOST_ROWS),
        total=count(len(rows)),
    )
    best = sorted(rows, key=lambda row: _middle(row, by)) if by else rows
    return best[:_MOST_ROWS], (said,)


def _middle(row: Planned, name: str) -> float:
    """A figure of a row; no end where it isn't known, so that those rows come last."""
    found = row.estimates.get(name)
    return math.inf if found is None or found.p50 is None else found.p50


def plan_view(
    title: str,
    tables: Sequence[Table],
    rows: Sequence[Planned],
    meaning: str,
    notes: Sequence[str] = (),
    *,
    details: bool,
) -> View:
    """Put the plan's table before what it rests on: in three lines, or with the chains in detail."""
    fleets = [row.fleet for row in rows if row.estimates] or [row.fleet for row in rows]
    unknown = unknown_table((name_part(row), row.reason) for row in rows)
    said = [*([meaning] if meaning else []), *notes]
    if not details:
        grounds = [*said, *describe_grounds(fleets)]
        several = [unknown] if len(unknown.rows) == len(rows) or len(rows) <= _MOST_SAID else []
        return View(
            title=plain(title),
            tables=tuple(table for table in (*tables, *several) if table.rows),
            meaning="\n".join(plain(_end(each)) for each in grounds),
            advice=(ask_for_details(),),
        )
    cost = cost_view(fleets, details=True)
    chains = [table for table in cost.tables if table.heading == _(CHAINS)]
    inputs = _("The inputs of cost and power are in --json, and in `bench fleet cost --details`.")
    return View(
        title=plain(title),
        facts=cost.facts,
        tables=tuple(table for table in (*tables, unknown, *chains) if table.rows),
        meaning="\n".join(plain(_end(each)) for each in said),
        advice=(*cost.advice, inputs),
    )


def _end(said: str) -> str:
    return said if said.endswith((".", "。")) else _("{said}.", said=said)


# The answers


def _answer(rows: Sequence[_Row], known: Sequence[_Row], compare: Callable[[Sequence[_Row]], str]) -> str:
    """Return the sentence of the only row that is known, or `compare` several."""
    if len(known) > 1:
        return compare(known)
    if known and (said := known[0].sentence or (known[0].fleet.mix and compare(known))):
        return said
    names = _(", ").join(_(row.fleet.size.name) for row in rows)
    if len(rows) == 1 and rows[0].reason:
        return _("This can't be planned with {names}: {reason}.", names=names, reason=rows[0].reason)
    return _("This can't be planned with {names}.", names=names)


def _compare_needs(known: Sequence[Need]) -> str:
    cards = _join_names([_cards_and_rmb(need) for need in _best(known, "capex_rmb")])
    return _("{eflops} delivered EFLOPS take {cards}.", eflops=stated(known[0].asked.value), cards=cards)


def _best(known: Sequence[_Row], by: str) -> Sequence[_Row]:
    """The rows to name: all of a few, else the cheapest by a figure, of parts that somebody trained on."""
    if len(known) <= _MOST_NAMED:
        return known
    like = [row for row in known if count_runs(row.fleet)] or known
    priced = [row for row in like if by in row.estimates]
    figure_of = by if priced else "cards_exact"
    return sorted(priced or like, key=lambda row: _middle(row, figure_of))[:_MOST_NAMED]


def count_runs(fleet: Cost) -> int | None:
    """How many published runs are of the generation of a fleet's part; None where no MFU is predicted."""
    predicted = [link for link in fleet.chain if link.shared_variance is not None]
    part = fleet.size.part
    if not predicted or part is None:
        return None
    precision: TrainingPrecision = "fp8" if predicted[0].dtype == PEAK_DTYPES["fp8"] else "bf16"
    return load_mfu_model().runs_of(generation_of(part, precision))


def runs_field() -> Field[Any]:
    """Make a column for the published runs that the MFU of a row's part rests on."""
    return Field("runs", lambda row: count(count_runs(row.fleet)), is_number=True, drop_priority=6)


def _cards_and_rmb(need: Need) -> str:
    capex = need.estimates.get("capex_rmb")
    cards, part = count(need.cards), _(need.fleet.size.name)
    if capex is None or capex.value is None:
        return _("{count} cards of {part}", count=cards, part=part)
    return _("{count} cards of {part} for {rmb}", count=cards, part=part, rmb=rmb(capex.value))


def _compare_purchases(known: Sequence[Purchase]) -> str:
    first = known[0]
    said = _(
        "{rmb} delivers most with {part} (in {share} of the draws). EFLOPS, if it is all spent on servers: "
        "{eflops}.",
        rmb=rmb(first.budget_rmb),
        part=_(first.fleet.size.name),
        share=percent(first.first_in),
        eflops=_(", ").join(map(_name_eflops, known[:_MOST_NAMED])),
    )
    # A card that nobody is known to have trained on may be first by its rating alone.
    trained = [each for each in known if count_runs(each.fleet) != 0]
    if trained and trained[0] is not first:
        said = _(
            "{said} No published run is of {part}'s generation; of cards with one, {eflops} is most.",
            said=said,
            part=_(first.fleet.size.name),
            eflops=_name_eflops(trained[0]),
        )
    return said


def _name_eflops(bought: Purchase) -> str:
    eflops = figure(bought.estimates["delivered_eflops"].value)
    return f"{_(bought.fleet.size.name)} {eflops}"


def _compare_trainings(known: Sequence[TrainingPlan]) -> str:
    named = known if known[0].given else _best(known, "refresh_rmb")
    said = [_time_on_fleet(each) if each.given else _cards_in_time(each) for each in named[:_MOST_NAMED]]
    return _("{run} takes {what}.", run=known[0].title, what=_join_names(said))


def _time_on_fleet(each: TrainingPlan) -> str:
    days = each.estimates["days"]
    time = range_text(days, format_days) if days.value is None else format_days(days.value)
    return _("{time} on {fleet}", time=time, fleet=_(each.fleet.size.name))


def _cards_in_time(each: TrainingPlan) -> str:
    cards = count(None if each.need is None else each.need.cards)
    return _("{count} cards of {part}", count=cards, part=_(each.fleet.size.name))


def _join_names(said: Sequence[str]) -> str:
    return _("{first} or {last}", first=_(", ").join(said[:-1]), last=said[-1]) if said[1:] else said[0]


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


def name_part(row: Planned) -> str:
    """The name of a planned part or fleet."""
    return plain(_(row.fleet.size.name))


def _label(training: TrainingPlan) -> str:
    """Return the id of a given fleet, or else the name of the part."""
    return training.fleet.size.id if training.given else _(training.fleet.size.name)


def _find_estimate(training: TrainingPlan, name: str) -> Estimate | None:
    return None if training.need is None else training.need.estimates.get(name)
