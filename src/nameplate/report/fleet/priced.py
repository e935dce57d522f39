"""What a run makes of the fleets: delivered EFLOPS and RMB, by its own derates where it may price them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from nameplate.base.errors import InputError
from nameplate.base.formatting import UNKNOWN, count, figure, interval, millions
from nameplate.base.language import N_, _, current_language, join_sentences
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.fleet import evidence
from nameplate.fleet.describe import describe_delivered
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.size import DTYPE
from nameplate.report.charts.data import FLEETS, MOST_BARS, Bar, Bars, Chart
from nameplate.report.view import Field, Table, table_of
from nameplate.specs.part import shorten
from nameplate.store.folder import Run


@dataclass(frozen=True)
class Priced:
    """The fleets as a run prices them; `why` it doesn't, where their figures are by published derates."""

    costs: tuple[Cost, ...]
    why: str | None = None

    @property
    def delivering(self) -> list[Cost]:
        """The fleets of which it is known what they deliver."""
        return [each for each in self.costs if each.delivered_eflops is not None]


def price(run: Run) -> Priced:
    """Price every fleet, the run's part by the run where that may be; one EFLOPS of a part that no fleet has.

    What stands against it (records that weren't admitted, a device that is no accelerator) is said, and the
    published derates stand in.
    """
    unpriced = evidence.why_unpriced(run)
    if unpriced is not None:
        return Priced(_by_published(current_language()), unpriced)
    try:
        return Priced(_by(run))
    except InputError as refusal:
        return Priced(cost(), _why_not(refusal))


def _why_not(refusal: InputError) -> str:
    """What a refusal says to the reader of a report, who gave no flags: not what was expected of them."""
    if isinstance(refusal, evidence.NotPriced):
        return _("{what} ({got})", what=render(refusal.why), got=render(refusal.found))
    return refusal.what if refusal.got is None else _("{what} ({got})", what=refusal.what, got=refusal.got)


@cache
def _by_published(_language: str) -> tuple[Cost, ...]:
    """The same for every run that prices nothing; a mix of parts has names in the language that is spoken."""
    return cost()


def _by(run: Run) -> tuple[Cost, ...]:
    parts = evidence.parts_of_run(run)
    held = {part.id for each in cost(draws=1_000) for part in each.size.parts}
    if not parts or held & set(parts):
        return cost(run=run)
    return cost(run=run, part=parts[0])


def priced_tables(priced: Priced) -> list[Table]:
    """The fleets that deliver something, by which derates, and what that costs."""
    shown = priced.delivering
    if not shown:
        return []
    fields = [
        Field[Cost]("fleet", lambda each: plain(_(each.size.name))),
        Field[Cost]("part", lambda each: plain(_part(each)), drop_priority=1),
        Field[Cost]("cards", lambda each: count(each.size.cards), is_number=True),
        Field[Cost]("nominal", lambda each: figure(each.size.nominal_eflops), is_number=True),
        Field[Cost]("delivered", lambda each: figure(each.delivered_eflops), is_number=True),
        Field[Cost]("p5 … p50 … p95", _range("delivered_eflops"), drop_priority=2),
        Field[Cost]("servers, RMB M", lambda each: millions(each.value("capex_rmb")), is_number=True),
        Field[Cost](
            "per nominal EFLOPS",
            lambda each: millions(each.value("rmb_per_nominal_eflops")),
            is_number=True,
            drop_priority=0,
        ),
        Field[Cost](
            "per delivered EFLOPS", lambda each: millions(each.rmb_per_delivered_eflops), is_number=True
        ),
        Field[Cost]("RMB M a year", _ownership, is_number=True, drop_priority=3),
        Field[Cost]("by", lambda each: plain(_by_words(each)), drop_priority=4),
    ]  # fmt: skip
    heading = _("Fleets: nominal and delivered EFLOPS, and what they cost")
    return [table_of(heading, fields, shown, charts=_bars(shown), lead=_lead(priced, shown))]


def _lead(priced: Priced, shown: Sequence[Cost]) -> str:
    said = [
        _("Dense {dtype} nominal in cards, delivered and price alike.", dtype=DTYPE),
        *([_("By published derates ({why}).", why=priced.why)] if priced.why else []),
        *(_said(each) for each in _one_a_part(shown)),
    ]
    said.append(
        _(
            "A figure takes every input as published; where draws reach to one side of it alone, p50 is the "
            "better guess."
        )
    )
    left = len(priced.costs) - len(shown)
    if left:
        said.append(
            _("Of {count} fleets it isn't known what they deliver: `bench fleet cost` says why.", count=left)
        )
    return plain(join_sentences(said))


def _said(cost: Cost) -> str:
    return describe_delivered(cost) or ""


def _part(cost: Cost) -> str:
    return shorten(cost.size.part.name) if cost.size.part else "–"


def _one_a_part(costs: Sequence[Cost]) -> list[Cost]:
    return list(
        {
            (each.size.part and each.size.part.id, each.chain): each for each in costs if each.size.part
        }.values()
    )


def _bars(costs: Sequence[Cost]) -> list[Chart]:
    nominal, delivered = _("nominal"), _("delivered")
    bars = []
    drawn = costs[: MOST_BARS // 2]
    for each in drawn:
        label = plain(_(each.size.name))
        bars.append(Bar(label, each.size.nominal_eflops or 0.0, kind=nominal))
        ends = each.estimates["delivered_eflops"]
        bars.append(Bar(label, each.delivered_eflops or 0.0, ends.p5, ends.p95, delivered))
    most = max(costs, key=lambda each: each.size.nominal_eflops or 0.0)
    alt = _(
        "Two bars a fleet, {count} fleets; {largest} has {nominal} EFLOPS nominal and delivers {delivered}.",
        count=len(costs),
        largest=plain(_(most.size.name)),
        nominal=figure(most.size.nominal_eflops),
        delivered=figure(most.delivered_eflops),
    )
    title = _("Nominal and delivered EFLOPS by fleet; lines hold nine draws in ten")
    if len(drawn) < len(costs):
        title = _("{title}: the first {count} of {all}", title=title, count=len(drawn), all=len(costs))
    kinds, held = (nominal, delivered), N_("nine draws in ten")
    return [
        Bars(
            FLEETS,
            title,
            alt,
            "EFLOPS",
            tuple(bars),
            kinds,
            side_by_side=True,
            label_title="fleet",
            interval_title=held,
        )
    ]


def _by_words(cost: Cost) -> str:
    """What says what is delivered: a run, or how the last link is known."""
    last = cost.chain[-1]
    if last.run:
        return _("this run")
    return _(last.provenance)


def _ownership(cost: Cost) -> str:
    return millions(cost.value("ownership_rmb_per_year"))


def _range(name: str) -> Callable[[Cost], str]:
    def text(cost: Cost) -> str:
        found: Estimate | None = cost.estimates.get(name)
        return UNKNOWN if found is None else interval(figure, found.p5, found.p50, found.p95)

    return text
