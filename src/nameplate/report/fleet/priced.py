"""The fleets as one run prices them: by its own derates where it qualifies, else by published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from nameplate.base.errors import InputError
from nameplate.base.formatting import UNKNOWN, count, figure, millions
from nameplate.base.language import N_, _, current_language, join_sentences
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.fleet import evidence
from nameplate.fleet.describe import describe_delivered
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.size import DTYPE
from nameplate.report.charts.data import FLEETS, MOST_BARS, Bar, Bars, Chart, title_of_first
from nameplate.report.fleet.figures import range_field, value_field
from nameplate.report.view import Field, Table, table_of
from nameplate.store.folder import Run


@dataclass(frozen=True)
class Priced:
    """The fleets as a run prices them; `why` says why published derates are used instead of the run's."""

    costs: tuple[Cost, ...]
    why: str | None = None

    @property
    def delivering(self) -> list[Cost]:
        """The fleets whose delivered EFLOPS are known."""
        return [each for each in self.costs if each.value("delivered_eflops") is not None]


def price(run: Run) -> Priced:
    """Price every fleet, those of the run's part by the run; if no fleet has the part, one EFLOPS of it.

    Where the run can't price (untrusted records, a device that is no accelerator), published derates are used
    and the reason is kept.
    """
    unpriced = evidence.explain_unpriced(run)
    if unpriced is not None:
        return Priced(_price_by_published(current_language()), unpriced)
    try:
        return Priced(_price_by_run(run))
    except InputError as refusal:
        return Priced(cost(), _explain_refusal(refusal))


def _explain_refusal(refusal: InputError) -> str:
    """Return an error's reason without its advice about flags: a report's reader gave none."""
    if isinstance(refusal, evidence.NotPriced):
        return _("{what} ({got})", what=render(refusal.why), got=render(refusal.found))
    return refusal.what if refusal.got is None else _("{what} ({got})", what=refusal.what, got=refusal.got)


@cache
def _price_by_published(_language: str) -> tuple[Cost, ...]:
    # Cached by language: the names of a mix are translated.
    return cost()


def _price_by_run(run: Run) -> tuple[Cost, ...]:
    parts = evidence.parts_of_run(run)
    held = {part.id for each in cost(draws=1_000) for part in each.size.parts}
    if not parts or held & set(parts):
        return cost(run=run)
    return cost(run=run, part=parts[0])


def priced_tables(priced: Priced) -> list[Table]:
    """The fleets with known delivered EFLOPS, what they cost, and which derates were used."""
    shown = priced.delivering
    if not shown:
        return []
    fields: list[Field[Cost]] = [
        Field("fleet", lambda each: plain(_(each.size.name))),
        Field(
            "part",
            lambda each: plain(each.size.part.short_name if each.size.part else UNKNOWN),
            drop_priority=1,
        ),
        Field("cards", lambda each: count(each.size.cards), is_number=True),
        Field("nominal", lambda each: figure(each.size.nominal_eflops), is_number=True),
        value_field("delivered", "delivered_eflops", figure),
        range_field("delivered_eflops", figure, drop_priority=2),
        value_field("servers, RMB M", "capex_rmb", millions),
        value_field("per nominal EFLOPS", "rmb_per_nominal_eflops", millions, drop_priority=0),
        value_field("per delivered EFLOPS", "rmb_per_delivered_eflops", millions),
        value_field("RMB M a year", "ownership_rmb_per_year", millions, drop_priority=3),
        Field("by", lambda each: plain(_derate_origin(each)), drop_priority=4),
    ]
    heading = _("Fleets: nominal and delivered EFLOPS, and what they cost")
    return [table_of(heading, fields, shown, charts=_bars(shown), lead=_lead(priced, shown))]


def _derate_origin(cost: Cost) -> str:
    """Say whether this run measured a part of the chain, and what the rest of it is."""
    last, measured = cost.chain[-1], any(link.run for link in cost.chain)
    said = [_("this run")] if measured else []
    return _(", ").join(said if last.run else [*said, _(last.provenance)])


def _lead(priced: Priced, shown: Sequence[Cost]) -> str:
    # One sentence for each part, of its first fleet: others differ by the MFU of their size.
    described = {each.size.part.id: each for each in reversed(shown) if each.size.part}
    said = [
        _("Cards, delivered EFLOPS and prices all count the dense {dtype} nominal.", dtype=DTYPE),
        *([_("By published training runs ({why}).", why=priced.why)] if priced.why else []),
        *(describe_delivered(each) or "" for each in reversed(described.values())),
    ]
    left = len(priced.costs) - len(shown)
    if left:
        said.append(
            _("What {count} more fleets deliver isn't known: `bench fleet cost` says why.", count=left)
        )
    return plain(join_sentences(said))


def _bars(costs: Sequence[Cost]) -> list[Chart]:
    nominal, delivered = _("nominal"), _("delivered")
    bars = []
    most = MOST_BARS // 2
    for each in costs[:most]:
        label = plain(_(each.size.name))
        bars.append(Bar(label, each.size.nominal_eflops or 0.0, kind=nominal))
        ends = each.estimates["delivered_eflops"]
        bars.append(Bar(label, each.value("delivered_eflops") or 0.0, ends.p5, ends.p95, delivered))
    largest = max(costs, key=lambda each: each.size.nominal_eflops or 0.0)
    alt = _(
        "Two bars a fleet, {count} fleets; {largest} has {nominal} EFLOPS nominal and delivers {delivered}.",
        count=len(costs),
        largest=plain(_(largest.size.name)),
        nominal=figure(largest.size.nominal_eflops),
        delivered=figure(largest.value("delivered_eflops")),
    )
    title = _("Nominal and delivered EFLOPS by fleet; lines hold nine draws in ten")
    title = title_of_first(most, costs, title)
    chart = Bars(
        FLEETS,
        title,
        alt,
        "EFLOPS",
        tuple(bars),
        (nominal, delivered),
        side_by_side=True,
        label_title="fleet",
        interval_title=N_("nine draws in ten"),
    )
    return [chart]
