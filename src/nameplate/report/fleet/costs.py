"""The screen of `bench fleet cost`: what fleets deliver, draw and cost, and what that rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from nameplate.base.formatting import (
    UNKNOWN,
    count,
    figure,
    interval,
    millions,
    money,
    percent,
    ratio,
    rmb,
    stated,
)
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.text import plain
from nameplate.chain.link import Link
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.describe import describe_delivered, describe_fleet, describe_ownership, describe_servers
from nameplate.fleet.outputs import inputs_of
from nameplate.fleet.price import Cost, Rung
from nameplate.fleet.unit import Unit
from nameplate.report.fleet.figures import (
    ends_field,
    inputs_table,
    range_field,
    sensitivity_table,
    unknown_table,
    value_field,
)
from nameplate.report.fleet.grounds import (
    ask_for_details,
    describe_grounds,
    describe_notes,
    fleet_label,
    list_by_part,
    list_facts,
)
from nameplate.report.view import Column, Field, Table, View, table_of

# The heading of the table that a plan repeats.
CHAINS = N_("The chains, from nominal on")
# The figures whose spread is traced to inputs.
_TRACED = ("delivered_eflops", "rmb_per_delivered_eflops", "rmb_per_delivered_eflops_year")


def cost_view(costs: Sequence[Cost], *, details: bool = False) -> View:
    """What the fleets deliver, draw and cost; with `details` all that this rests on.

    The answer stands first, then one table, then three lines of what it rests on.
    """
    known = [each for each in costs if "delivered_eflops" in each.estimates]
    tables = [_servers_table(known, details=details), *(_detail_tables(costs) if details else ())]
    left_out = [each for each in costs if each not in known] if len(costs) > 1 else []
    unknown = [] if details else [_name_unknown(left_out)]
    return View(
        title=plain(_answer(costs, known)),
        facts=tuple((name, plain(value)) for name, value in list_facts(costs)) if details else (),
        tables=tuple(table for table in tables if table.rows),
        meaning="\n".join(plain(each) for each in (*_describe(costs, details=details), *unknown) if each),
        advice=tuple(map(plain, describe_notes(costs))) if details else (ask_for_details(),),
    )


def _answer(costs: Sequence[Cost], known: Sequence[Cost]) -> str:
    """What one fleet delivers, takes and costs; or the range over several."""
    if len(costs) == 1 and known:
        sentences = [each for each in (describe_fleet(known[0]), describe_delivered(known[0])) if each]
        return join_sentences(sentences) if sentences else _describe_range_of_mix(known[0])
    if not known and len(costs) == 1:
        return _("{fleet}: {reason}.", fleet=fleet_label(costs[0].size), reason=costs[0].reason)
    if not known:
        return _("What these fleets deliver isn't known.")
    shares = [
        each.estimates["delivered_eflops"].p50 / each.size.nominal_eflops
        for each in known
        if each.estimates["delivered_eflops"].p50 and each.size.nominal_eflops
    ]
    said = _(
        "{count} fleets deliver {share} of their nominal EFLOPS",
        count=count(len(known)),
        share=_span(shares, percent),
    )
    priced = [price for each in known if (price := each.value("rmb_per_delivered_eflops"))]
    if not priced:
        return _("{said}.", said=said)
    servers = N_("{said}; servers that deliver one EFLOPS cost {price}.")
    return _(servers, said=said, price=_span(priced, rmb))


def _span(values: Sequence[float], formatter: Callable[[float], str]) -> str:
    """`48.1% to 53.0%`; one figure where all read alike."""
    low, high = formatter(min(values)), formatter(max(values))
    return low if low == high else _("{low} to {high}", low=low, high=high)


def _describe_range_of_mix(cost: Cost) -> str:
    delivered = cost.estimates["delivered_eflops"]
    return _(
        "{fleet} delivers {low} to {high} of {nominal} nominal EFLOPS.",
        fleet=_(cost.size.name),
        low=figure(delivered.p5),
        high=figure(delivered.p95),
        nominal=figure(cost.size.nominal_eflops),
    )


def _name_unknown(costs: Sequence[Cost]) -> str:
    if not costs:
        return ""
    if len(costs) == 1:
        return _("{fleet}: {reason}.", fleet=fleet_label(costs[0].size), reason=costs[0].reason)
    return _(
        "{count} fleets aren't shown: what they deliver isn't known, for the reasons in `--details`.",
        count=count(len(costs)),
    )


def _detail_tables(costs: Sequence[Cost]) -> Iterator[Table]:
    units = _units(costs)
    traced = (
        (unit.part.short_name, name, unit.sensitivity.get(name, ()))
        for unit in units.values()
        for name in _TRACED
    )
    yield _ownership_table(costs)
    yield _jobs_table(costs)
    yield _stages_table(costs)
    yield _chains_table(costs)
    yield sensitivity_table("part", traced, most=5)
    yield inputs_table(_("The inputs of cost and power"), _inputs(units))
    yield unknown_table((fleet_label(each.size), each.reason) for each in costs)


def _units(costs: Sequence[Cost]) -> dict[str, Unit]:
    """Return one unit for each part, however many fleets share it."""
    return {each.unit.part.id: each.unit for each in list_by_part(costs) if each.unit is not None}


_FLEET = Field[Cost]("fleet", lambda each: fleet_label(each.size))


def _part_text(cost: Cost) -> str:
    return cost.size.part.short_name if cost.size.part else _("a mix") if cost.mix else UNKNOWN


def _whole_servers_text(rmb: float | None) -> str:
    """Return the price of whole servers in millions."""
    # All its digits: rounded, it could equal the price in proportion to the cards.
    return stated(None if rmb is None else rmb / 1e6)


def _servers_table(costs: Sequence[Cost], *, details: bool) -> Table:
    in_detail: list[Field[Cost]] = [
        Field("kind", lambda each: _(each.size.kind), drop_priority=0),
        Field("servers", lambda each: count(each.servers), is_number=True, drop_priority=6),
        Field(
            "whole",
            lambda each: _whole_servers_text(each.capex_whole_servers_rmb),
            is_number=True,
            drop_priority=3,
        ),
        value_field("per nominal", "rmb_per_nominal_eflops", millions, drop_priority=1),
        range_field("rmb_per_delivered_eflops", millions, drop_priority=2),
    ]
    fields: list[Field[Cost]] = [
        _FLEET,
        Field("part", lambda each: plain(_part_text(each)), drop_priority=7),
        Field("cards", lambda each: count(each.size.cards), is_number=True),
        Field("nominal", lambda each: figure(each.size.nominal_eflops), is_number=True),
        value_field("delivered", "delivered_eflops", figure),
        ends_field("delivered_eflops", figure, drop_priority=9),
        value_field("RMB M", "capex_rmb", millions),
        value_field("per delivered", "rmb_per_delivered_eflops", millions),
        value_field("MW", "power_mw", figure, drop_priority=8),
        value_field("a year", "ownership_rmb_per_year", millions, drop_priority=10),
        *(in_detail if details else ()),
    ]
    heading = _(
        "EFLOPS; millions of RMB for the servers, per delivered EFLOPS, and for a year of owning them with "
        "fabric, spares, power and operation"
    )
    return table_of(heading, fields, costs)


def _ownership_table(costs: Sequence[Cost]) -> Table:
    year = "rmb_per_delivered_eflops_year"
    fields: list[Field[Cost]] = [
        _FLEET,
        Field("servers", lambda each: count(each.servers_with_spares), is_number=True, drop_priority=3),
        value_field("capex", "full_capex_rmb", millions),
        value_field("USD M", "full_capex_usd", millions, drop_priority=0),
        value_field("MW", "power_mw", figure),
        range_field("power_mw", figure, drop_priority=2),
        value_field("per year", "ownership_rmb_per_year", millions),
        value_field("EFLOPS for a year", year, millions),
        range_field(year, millions, drop_priority=1),
        value_field("PFLOPS for a day", "rmb_per_pflop_day", money),
    ]
    heading = _(
        "Ownership: servers with spares; millions of RMB for servers and fabric (capex), per year, and for "
        "one delivered EFLOPS for a year; RMB for one delivered PFLOPS for a day"
    )
    return table_of(heading, fields, [each for each in costs if each.value("power_mw") is not None])


def _jobs_table(costs: Sequence[Cost]) -> Table:
    """What one synchronous job on all cards gets, and what independent jobs on single cards get."""
    one, separate = "gang_rmb_per_delivered_eflops", "independent_rmb_per_delivered_eflops"
    fields: list[Field[Cost]] = [
        _FLEET,
        value_field("one job", "gang_eflops", figure),
        value_field("RMB M", one, millions),
        range_field(one, millions, drop_priority=1),
        value_field("separate jobs", "independent_eflops", figure),
        value_field("RMB M", separate, millions),
        range_field(separate, millions, drop_priority=0),
    ]
    heading = _(
        "EFLOPS delivered to one synchronous job on all cards, which runs at the slowest card's pace, and to "
        "separate jobs, one a card; and millions of RMB per EFLOPS for the servers"
    )
    return table_of(heading, fields, [each for each in costs if each.value(one) is not None])


def _stages_table(costs: Sequence[Cost]) -> Table:
    """What one EFLOPS takes and costs if it is delivered up to each stage; each part and chain once."""
    rungs: dict[tuple[str, Rung], None] = {}
    for each in costs:
        if each.size.part is not None and each.size.card_tflops is not None:
            rungs |= dict.fromkeys((each.size.part.short_name, rung) for rung in each.ladder)
    fields = [
        Field[tuple[str, Rung]]("part", lambda row: plain(row[0])),
        Field[tuple[str, Rung]]("delivered up to", lambda row: row[1].stage),
        Field[tuple[str, Rung]]("of nominal", lambda row: percent(row[1].derate), is_number=True),
        Field[tuple[str, Rung]]("cards", lambda row: count(row[1].cards), is_number=True),
        Field[tuple[str, Rung]]("servers", lambda row: count(row[1].servers), is_number=True),
        Field[tuple[str, Rung]]("RMB M", lambda row: millions(row[1].rmb), is_number=True),
        Field[tuple[str, Rung]](
            "whole", lambda row: _whole_servers_text(row[1].whole_servers_rmb), is_number=True
        ),
    ]
    heading = _("One delivered EFLOPS, if the chain is counted up to each stage; price of the servers")
    return table_of(heading, fields, list(rungs))


def _chains_table(costs: Sequence[Cost]) -> Table:
    """Each link once, however many fleets share it."""
    rows: dict[tuple[str, ...], None] = {}
    for each in list_by_part(costs):
        for link in each.chain:
            row = (
                each.size.part.short_name if each.size.part else "",
                link.span,
                link.dtype,
                ratio(link.value),
                UNKNOWN if link.law == "exact" else interval(ratio, link.low, link.high),
                _(link.law),
                _(link.provenance),
                _("; ").join(_link_source(link)),
            )
            rows[tuple(map(plain, row))] = None
    columns = (
        *(Column("part"), Column("link"), Column("dtype"), Column("ratio", is_number=True)),
        *(
            Column("from … to", drop_priority=1),
            Column("law", drop_priority=0),
            Column("how"),
            Column("from"),
        ),
    )
    return Table(_(CHAINS), columns, tuple(rows))


def _link_source(link: Link) -> Iterator[str]:
    """Yield the run or figure that a link comes from, its scope, its FLOPs convention and its source."""
    if link.run:
        yield _("run {run}, {device}", run=link.run, device=link.device)
    elif link.id:
        yield link.id
    if link.scope:
        yield link.scope
    if link.convention == "unknown":
        yield _("how FLOPs were counted isn't known")
    elif link.convention:
        yield _("FLOPs counted by {convention}", convention=link.convention)
    yield link.source
    if link.confidence not in (None, "high"):
        yield _("confidence {confidence}", confidence=_(link.confidence))


def _inputs(units: Mapping[str, Unit]) -> Iterator[tuple[str, UsedInput]]:
    """Yield each input that a figure uses once; one that differs between parts is named with its part."""
    seen = set[str]()
    for unit in units.values():
        used = set[str]().union(*(inputs_of(name) for name in unit.estimates))
        for each in unit.inputs.values():
            if each.name in used and each.draws_name not in seen:
                seen.add(each.draws_name)
                is_shared = each.draws_name == each.name
                yield each.name if is_shared else f"{each.name}, {unit.part.short_name}", each


def _describe(costs: Sequence[Cost], *, details: bool) -> Iterator[str]:
    """What the figures rest on: of one fleet also its ownership, and with details of each."""
    if details:
        for said in dict.fromkeys(
            (describe_delivered(each), describe_servers(each), describe_ownership(each)) for each in costs
        ):
            if said[0] is not None:
                yield join_sentences(each for each in said if each)
        return
    if len(costs) == 1:
        yield describe_ownership(costs[0]) or ""
        # What is missing, and what would fill it: behind a figure, which has room for neither.
        if costs[0].mix:
            yield _("It is {reason}.", reason=costs[0].reasons[0])
        elif costs[0].reason is not None and costs[0].estimates:
            yield _("Missing: {reason}.", reason=costs[0].reason)
    yield from describe_grounds(costs)
