"""Fleets as a reader should see them: the catalogue, what each delivers and costs, and the validation."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nameplate.base.formatting import (
    UNKNOWN,
    change,
    count,
    figure,
    interval,
    millions,
    money,
    percent,
    ratio,
    stated,
)
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.text import plain
from nameplate.chain.link import Link
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.catalogues import KINDS, Catalogue
from nameplate.fleet.describe import describe_delivered, describe_ownership, describe_servers
from nameplate.fleet.montecarlo import Unit
from nameplate.fleet.outputs import inputs_of
from nameplate.fleet.price import Cost, Rung
from nameplate.fleet.size import DTYPE, size_of_fleet
from nameplate.fleet.validation import ChainCheck
from nameplate.report.view import Column, Field, Table, View, table_of, text_table
from nameplate.specs.part import Part, shorten
from nameplate.specs.registry import load_registry

Row = dict[str, Any]
# The heading of the table that a plan repeats.
CHAINS = N_("The chains, from nominal on")
# Columns that hold tables where they hold anything.
_TABLES = frozenset({"price", "ladder", "inputs", "sensitivity", "all_of", "run"})


def list_rows(catalogue: Catalogue, parts: Sequence[str | Path] = ()) -> list[Row]:
    """The fleets as JSON rows: cards and EFLOPS as stated, and both by conversion."""
    known = load_registry(parts)
    rows = []
    for fleet in catalogue.fleet:
        size = size_of_fleet(fleet, known)
        stated = fleet.model_dump(mode="json", exclude={"id", "cards", "eflops", "part", "mix"})
        rows.append(
            {
                "fleet": fleet.id,
                **stated,
                "part": fleet.part,
                "mix": list(fleet.mix or ()),
                "stated_cards": fleet.cards,
                "stated_eflops": fleet.eflops,
                "cards": size.cards,
                "nominal_eflops": size.nominal_eflops,
            }
        )
    return rows


def list_view(rows: Sequence[Row]) -> View:
    """The fleets on one screen."""
    fields = [
        Field[Row]("fleet", lambda row: plain(row["fleet"])),
        Field[Row]("as of", lambda row: plain(row["as_of"])),
        Field[Row]("kind", lambda row: _(row["kind"]), drop_priority=1),
        Field[Row]("EFLOPS", lambda row: stated(row["stated_eflops"]), is_number=True),
        Field[Row]("in", lambda row: _(row["precision"]) if row["stated_eflops"] else "–"),
        Field[Row]("cards stated", lambda row: count(row["stated_cards"]), is_number=True, drop_priority=2),
        Field[Row]("cards", lambda row: count(row["cards"]), is_number=True),
    ]
    sources = [
        fields[0],
        Field[Row]("part", lambda row: plain(row["part"] or (_("a mix") if row["mix"] else "–"))),
        Field[Row]("from", _stated_by),
    ]
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return View(
        _("The fleets that are known"),
        (),
        (
            table_of(_("Fleets, as stated"), fields, rows),
            table_of(_("Parts and sources"), sources, rows),
        ),
        _(
            "Cards, where only EFLOPS are stated, are those ÷ the {dtype} nominal of one card.",
            dtype=DTYPE,
        ),
        (
            *(_("{name}: {said}.", name=_(kind), said=_(KINDS[kind])) for kind in kinds),
            *((_("A mix of parts in unknown shares has no number of cards."),) if _mixed(rows) else ()),
        ),
        (),
    )


def as_csv(rows: Sequence[Row]) -> str:
    """JSON rows as CSV, a line a row: lists and chains as text, other tables left out, the unknown empty."""
    tables = {name for row in rows for name, value in row.items() if not _fits(name, value)}
    names = [name for name in rows[0] if name not in tables and name not in _TABLES] if rows else []
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in names} for row in rows)
    return out.getvalue()


def cost_view(costs: Sequence[Cost]) -> View:
    """What the fleets deliver, draw and cost, by which derates and inputs, and what isn't known and why."""
    units = _units(costs)
    tables = (
        _bare(costs),
        _full(costs),
        _paces(costs),
        _ladder(costs),
        _chains(costs),
        _spread(units),
        _inputs(units),
        _unknown(costs),
    )
    return View(
        title=_("What the fleets deliver of their nominal EFLOPS, and what that costs"),
        facts=tuple((name, plain(value)) for name, value in _facts(costs)),
        tables=tuple(table for table in tables if table.rows),
        meaning="\n".join(plain(each) for each in _sentences(costs)),
        advice=tuple(plain(each) for each in _notes(costs)),
        problems=(),
    )


def validation_view(checks: Sequence[ChainCheck]) -> View:
    """Each published figure beside what the chain predicts of it, and how far that may be trusted."""
    fields = [
        Field[ChainCheck]("case", lambda check: f"{check.id}: {check.says}"),
        Field[ChainCheck]("predicted", lambda check: ratio(check.predicted), is_number=True),
        Field[ChainCheck]("published", lambda check: ratio(check.published), is_number=True),
        Field[ChainCheck]("error", lambda check: change(check.error), is_number=True),
        Field[ChainCheck]("by convention", _by_convention, drop_priority=0),
        Field[ChainCheck]("bound", lambda check: percent(check.bound), is_number=True, drop_priority=1),
        Field[ChainCheck]("within", lambda check: _("yes") if check.passed else _("NO")),
    ]
    heading = _("Delivered ÷ datasheet, predicted from other published figures")
    convention = _("by convention")
    return View(
        _("The chain against published end-to-end figures"),
        (),
        (table_of(heading, fields, checks),),
        _trust(checks),
        (
            _(
                "An error is predicted ÷ published − 1; {column}: with FLOPs counted alike on both sides.",
                column=convention,
            ),
            _("`bench fleet goodput --validate` holds the last link, goodput, against published cases."),
        ),
        (),
    )


def failures(checks: Sequence[ChainCheck]) -> list[str]:
    """The cases past their bound, each in a few words."""
    missed = [each for each in checks if not each.passed]
    return [f"{each.id} {change(each.error)} (bound {percent(each.bound)})" for each in missed]


def _trust(checks: Sequence[ChainCheck]) -> str:
    worst = {kind: max((abs(each.error) for each in checks if each.kind == kind), default=0.0)
             for kind in dict.fromkeys(check.kind for check in checks)}  # fmt: skip
    said = _(", ").join(_(_MISSES[kind], error=percent(error)) for kind, error in worst.items())
    return _(
        "Carried {said}: where a fleet's cost depends on it, measure the part and the job (`bench run`).",
        said=said,
    )


_MISSES = {
    "transfer": N_("from one part to another it misses by up to {error}"),
    "model": N_("from one model to another it misses by up to {error}"),
    "scaling": N_("from 8 devices to thousands it misses by up to {error}"),
}


def _by_convention(check: ChainCheck) -> str:
    return interval(change, check.error_low, check.error_high)


def _mixed(rows: Sequence[Row]) -> bool:
    return any(row["mix"] for row in rows)


def _stated_by(row: Row) -> str:
    mix = row["mix_source"] and _("the mix: {source}", source=row["mix_source"])
    return plain(_("; ").join(each for each in (row["source"], row["note"], mix) if each))


def _fits(name: str, value: Any) -> bool:
    """Whether a value goes into a cell: tables don't, but for chains."""
    if isinstance(value, list) and value:
        return name == "chain" or isinstance(value[0], str)
    return not isinstance(value, dict)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return plain("; ".join(each if isinstance(each, str) else _link(each) for each in value))
    return plain(value) if isinstance(value, str) else value


def _link(link: Row) -> str:
    return f"{link['from']} → {link['to']} {link['value']:.4g} ({link['id'] or link['provenance']})"


def _priced(costs: Sequence[Cost]) -> list[Cost]:
    """Every fleet of one part: a mix as if it were all of each of its parts."""
    return [part for each in costs for part in (each.mix or (each,)) if part.size.part is not None]


def _units(costs: Sequence[Cost]) -> dict[str, Unit]:
    """A unit a part, however many fleets share it."""
    return {each.unit.part.id: each.unit for each in _priced(costs) if each.unit is not None}


def _facts(costs: Sequence[Cost]) -> Iterator[tuple[str, str]]:
    run = next((each.run for each in costs if each.run), None)
    if run is not None:
        yield _("run"), _("{name}: {said}", name=run.run, said=run.figures)
        if not any(each.run and each.run.used for each in costs):
            yield "", str(run.reason)
    cards = {each.size.part.id: each for each in costs if each.size.part is not None}
    by = _(", ").join(
        f"{shorten(each.size.part.name)} {stated(each.size.card_tflops)} TFLOPS"
        for each in cards.values()
        if each.size.part
    )
    yield (
        _("counted by"),
        _(
            "the dense {dtype} nominal of one card, in cards, delivered and price alike: {cards}",
            dtype=DTYPE,
            cards=by or _("no card here"),
        ),
    )
    for each in cards.values():
        if each.price is not None and each.size.part is not None:
            price = each.price
            said = _(
                "{part}: RMB {server} per {cards}-card server, {date}, {source}",
                part=shorten(each.size.part.name),
                server=stated(price.server_rmb),
                cards=price.cards_per_server,
                date=price.as_of,
                source=price.source,
            )
            yield _("price"), said if price.note is None else _("; ").join((said, price.note))
    yield (
        _("spread"),
        _(
            "{count} draws, seed {seed}; nine in ten lie between p5 and p95. A figure alone takes every "
            "input as it is published; where draws reach to one side of it alone (an MFU counted by another "
            "convention may be up to 10 % less), p50 is the better guess",
            count=count(costs[0].draws),
            seed=costs[0].seed,
        ),
    )


def _estimate(name: str, form: Callable[[float], str]) -> Callable[[Cost], str]:
    def text(cost: Cost) -> str:
        found = cost.estimates.get(name)
        return UNKNOWN if found is None or found.value is None else form(found.value)

    return text


def _percentiles(name: str, form: Callable[[float], str], *, drop_priority: int) -> Field[Cost]:
    def text(cost: Cost) -> str:
        found = cost.estimates.get(name)
        return UNKNOWN if found is None else interval(form, found.p5, found.p50, found.p95)

    return Field("p5 … p50 … p95", text, drop_priority=drop_priority)


def _bare(costs: Sequence[Cost]) -> Table:
    fields = [
        Field[Cost]("fleet", lambda each: plain(_label(each))),
        Field[Cost]("kind", lambda each: _(each.size.kind), drop_priority=0),
        Field[Cost]("part", lambda each: plain(_part_of(each)), drop_priority=4),
        Field[Cost]("cards", lambda each: count(each.size.cards), is_number=True),
        Field[Cost]("servers", lambda each: count(each.servers), is_number=True, drop_priority=6),
        Field[Cost]("nominal", lambda each: figure(each.size.nominal_eflops), is_number=True),
        Field[Cost]("delivered", _estimate("delivered_eflops", figure), is_number=True),
        _percentiles("delivered_eflops", figure, drop_priority=5),
        Field[Cost]("RMB M", _estimate("capex_rmb", millions), is_number=True),
        Field[Cost](
            "whole", lambda each: _whole(each.capex_whole_servers_rmb), is_number=True, drop_priority=3
        ),
        Field[Cost](
            "per nominal", _estimate("rmb_per_nominal_eflops", millions), is_number=True, drop_priority=1
        ),
        Field[Cost]("per delivered", _estimate("rmb_per_delivered_eflops", millions), is_number=True),
        _percentiles("rmb_per_delivered_eflops", millions, drop_priority=2),
    ]
    heading = _(
        "Fleets: EFLOPS, and millions of RMB for servers alone: by the card's share, for whole servers "
        "(whole), per nominal and per delivered EFLOPS"
    )
    return table_of(heading, fields, costs)


def _full(costs: Sequence[Cost]) -> Table:
    shown = [each for each in costs if each.value("power_mw") is not None]
    year = "rmb_per_delivered_eflops_year"
    fields = [
        Field[Cost]("fleet", lambda each: plain(_label(each))),
        Field[Cost]("servers", lambda each: count(each.servers_with_spares), is_number=True, drop_priority=3),
        Field[Cost]("capex", _estimate("full_capex_rmb", millions), is_number=True),
        Field[Cost]("USD M", _estimate("full_capex_usd", millions), is_number=True, drop_priority=0),
        Field[Cost]("MW", _estimate("power_mw", figure), is_number=True),
        _percentiles("power_mw", figure, drop_priority=2),
        Field[Cost]("per year", _estimate("ownership_rmb_per_year", millions), is_number=True),
        Field[Cost]("per EFLOPS-year", _estimate(year, millions), is_number=True),
        _percentiles(year, millions, drop_priority=1),
        Field[Cost]("per PFLOP-day", _estimate("rmb_per_pflop_day", money), is_number=True),
    ]
    heading = _(
        "Ownership: servers with spares; millions of RMB with fabric, per year and per delivered "
        "EFLOPS-year; RMB per delivered PFLOP-day"
    )
    return table_of(heading, fields, shown)


def _paces(costs: Sequence[Cost]) -> Table:
    """What one job on all cards gets, beside what cards get that work each by itself."""
    shown = [each for each in costs if each.value("gang_rmb_per_delivered_eflops") is not None]
    gang, single = "gang_rmb_per_delivered_eflops", "independent_rmb_per_delivered_eflops"
    fields = [
        Field[Cost]("fleet", lambda each: plain(_label(each))),
        Field[Cost]("gang", _estimate("gang_eflops", figure), is_number=True),
        Field[Cost]("RMB M", _estimate(gang, millions), is_number=True),
        _percentiles(gang, millions, drop_priority=1),
        Field[Cost]("single", _estimate("independent_eflops", figure), is_number=True),
        Field[Cost]("RMB M", _estimate(single, millions), is_number=True),
        _percentiles(single, millions, drop_priority=0),
    ]
    heading = _(
        "EFLOPS for one job on all cards, which goes at the slowest (gang), and for cards each by itself "
        "(single); servers alone, per EFLOPS"
    )
    return table_of(heading, fields, shown)


def _label(cost: Cost) -> str:
    """A fleet's id; a size that was asked for goes by its name."""
    return _(cost.size.name) if cost.size.as_of is None else cost.size.id


def _part_of(cost: Cost) -> str:
    return shorten(cost.size.part.name) if cost.size.part else _("a mix") if cost.mix else "–"


def _ladder(costs: Sequence[Cost]) -> Table:
    """One delivered EFLOPS by how far the chain is followed, once a chain."""
    rungs: dict[tuple[str, Rung], None] = {}
    for each in costs:
        if each.size.part is not None and each.size.card_tflops is not None:
            rungs |= dict.fromkeys((shorten(each.size.part.name), rung) for rung in each.ladder)
    fields = [
        Field[tuple[str, Rung]]("part", lambda row: plain(row[0])),
        Field[tuple[str, Rung]]("delivered as far as", lambda row: row[1].stage),
        Field[tuple[str, Rung]]("of nominal", lambda row: percent(row[1].derate), is_number=True),
        Field[tuple[str, Rung]]("cards", lambda row: count(row[1].cards), is_number=True),
        Field[tuple[str, Rung]]("servers", lambda row: count(row[1].servers), is_number=True),
        Field[tuple[str, Rung]]("RMB M", lambda row: millions(row[1].rmb), is_number=True),
        Field[tuple[str, Rung]]("whole", lambda row: _whole(row[1].whole_servers_rmb), is_number=True),
    ]
    heading = _("One delivered EFLOPS, by how far the chain is followed; servers alone")
    return table_of(heading, fields, list(rungs))


def _chains(costs: Sequence[Cost]) -> Table:
    """Each link once, however many fleets share it."""
    rows: dict[tuple[str, ...], None] = {}
    for each in _priced(costs):
        for link in each.chain:
            ends = UNKNOWN if link.law == "exact" else interval(ratio, link.low, link.high)
            source = _("; ").join(_provenance(link))
            name = shorten(each.size.part.name) if each.size.part else ""
            row = (
                name,
                link.span,
                link.dtype,
                ratio(link.value),
                ends,
                _(link.law),
                _(link.provenance),
                source,
            )
            rows[tuple(map(plain, row))] = None
    columns = (
        Column("part"),
        Column("link"),
        Column("dtype"),
        Column("ratio", is_number=True),
        Column("from … to", drop_priority=1),
        Column("law", drop_priority=0),
        Column("how"),
        Column("from"),
    )
    return Table(_(CHAINS), columns, tuple(rows))


def _provenance(link: Link) -> Iterator[str]:
    """Which figure, of what, its FLOPs counted how, said by whom."""
    if link.run:
        yield _("run {run}, {device}", run=link.run, device=link.device)
    elif link.id:
        yield link.id
    if link.scope:
        yield link.scope
    if link.convention:
        unknown = link.convention == "unknown"
        counted = _("FLOPs counted by {convention}", convention=link.convention)
        yield _("how FLOPs were counted isn't known") if unknown else counted
    yield link.source
    if link.confidence not in (None, "high"):
        yield _("confidence {confidence}", confidence=_(link.confidence))


def _spread(units: dict[str, Unit]) -> Table:
    """The inputs that bring most of the spread of what is delivered and what it costs, a part."""
    rows = []
    for unit in units.values():
        for name in ("delivered_eflops", "rmb_per_delivered_eflops", "rmb_per_delivered_eflops_year"):
            shares = [share for share in unit.sensitivity.get(name, ()) if share.share >= 0.01]
            said = _(", ").join(f"{share.input} {percent(share.share)}" for share in shares[:5])
            if said:
                rows.append((plain(shorten(unit.part.name)), name, plain(said)))
    heading = _("Where the spread comes from: the share of a figure's variance that each input brings")
    return text_table(heading, ("part", "of", "from"), rows)


def _inputs(units: dict[str, Unit]) -> Table:
    """Each assumption once; one that differs between parts, with its part."""
    rows: dict[str, tuple[str, ...]] = {}
    for unit in units.values():
        used = set[str]().union(*(inputs_of(name) for name in unit.estimates))
        for each in unit.inputs.values():
            if each.name in used:
                rows.setdefault(each.draws_name, _input_row(each, unit.part))
    columns = (
        Column("input"),
        Column("value", is_number=True),
        Column("from … to", drop_priority=2),
        Column("law", drop_priority=0),
        Column("unit", drop_priority=1),
        Column("how"),
        Column("from"),
    )
    return Table(_("What money and power follow from"), columns, tuple(rows.values()))


def _input_row(each: UsedInput, part: Part) -> tuple[str, ...]:
    spread = each.uncertain
    ends = "–" if spread.law == "exact" else interval(stated, spread.low, spread.high)
    name = each.name if each.draws_name == each.name else f"{each.name}, {shorten(part.name)}"
    law, unit, how = _(spread.law), _(each.unit), _(each.basis)
    return tuple(map(plain, (name, stated(spread.value), ends, law, unit, how, each.source)))


def _unknown(costs: Sequence[Cost]) -> Table:
    rows = tuple((plain(_label(each)), plain(each.reason)) for each in costs if each.reason)
    return text_table(_("Not known, and why"), ("fleet", "reason"), rows)


def _sentences(costs: Sequence[Cost]) -> Iterator[str]:
    for said in dict.fromkeys(
        (describe_delivered(each), describe_servers(each), describe_ownership(each)) for each in costs
    ):
        if said[0] is not None:
            yield join_sentences(each for each in said if each)


def _notes(costs: Sequence[Cost]) -> Iterator[str]:
    """Every note with the fleets it is of."""
    fleets: dict[str, list[str]] = {}
    for each in costs:
        reach = [] if each.reaches is None else [_reach(each)]
        for note in (*reach, *each.notes):
            fleets.setdefault(note, []).append(_(each.size.name))
    for note, names in fleets.items():
        if len(costs) == 1:
            yield _("{said}.", said=note)
        else:
            yield _("{name}: {said}.", name=_(", ").join(dict.fromkeys(names)), said=note)


def _reach(cost: Cost) -> str:
    missing = () if cost.reaches is None else cost.reaches.following
    if not missing:
        return _("delivered as far as `{stage}`", stage=cost.reaches)
    if len(missing) == 1:
        return _(
            "delivered as far as `{stage}`; {missing} isn't in it yet", stage=cost.reaches, missing=missing[0]
        )
    several = _("{first} and {last}", first=_(", ").join(missing[:-1]), last=missing[-1])
    return _("delivered as far as `{stage}`; {missing} aren't in it yet", stage=cost.reaches, missing=several)


def _whole(rmb: float | None) -> str:
    """So many whole servers at a stated price: all its digits, for they tell it from the cards' share."""
    return stated(None if rmb is None else rmb / 1e6)
