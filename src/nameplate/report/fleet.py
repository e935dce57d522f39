"""Fleets as a reader should see them: the catalogue, and what each fleet delivers and costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nameplate.fleet.fleets import Catalogue
from nameplate.fleet.links import DTYPE, Derate, not_yet
from nameplate.fleet.pricing import Cost, cards_of
from nameplate.fleet.words import sentence, short, whole_servers
from nameplate.report.view import Table, View
from nameplate.specs.parts import registry
from nameplate.text import plain


def list_rows(catalogue: Catalogue, parts: Sequence[str | Path] = ()) -> list[dict[str, Any]]:
    """The fleets as JSON rows: cards and EFLOPS as stated, and cards by conversion."""
    known = registry(parts)
    return [
        {
            "fleet": fleet.id,
            "name": fleet.name,
            "as_of": fleet.as_of,
            "part": fleet.part,
            "stated_cards": fleet.cards,
            "stated_eflops": fleet.eflops,
            "cards": cards_of(fleet, known),
            "note": fleet.note,
            "source": fleet.source,
        }
        for fleet in catalogue.fleet
    ]


def list_view(rows: Sequence[dict[str, Any]]) -> View:
    """The fleets on one screen."""
    fleets = Table(
        "Fleets, as stated",
        ("fleet", "as of", "part", "EFLOPS", "cards stated", "cards"),
        tuple(
            (
                plain(row["fleet"]),
                plain(row["as_of"]),
                plain(row["part"] or "a mix"),
                _number(row["stated_eflops"], ",g"),
                _number(row["stated_cards"], ",d"),
                _number(row["cards"], ",d"),
            )
            for row in rows
        ),
        frozenset({3, 4, 5}),
        frozenset({4}),
    )
    sources = Table(
        "Where from",
        ("fleet", "from"),
        tuple((plain(row["fleet"]), plain(_and_note(row["source"], row["note"]))) for row in rows),
        frozenset(),
    )
    return View(
        "The fleets that are known",
        (),
        (fleets, sources),
        f"Cards, where only EFLOPS are stated, are those ÷ the {DTYPE} nominal of one card.",
        ("A mix of parts in unknown shares has no number of cards.",) if any(_mixed(rows)) else (),
        (),
    )


def _mixed(rows: Iterable[dict[str, Any]]) -> Iterator[bool]:
    return (row["part"] is None for row in rows)


def cost_view(costs: Sequence[Cost]) -> View:
    """What the fleets deliver and cost, by which derates, and what isn't known and why."""
    return View(
        title="What the fleets deliver of their nominal EFLOPS, and what that costs",
        facts=tuple((name, plain(value)) for name, value in _facts(costs)),
        tables=tuple(table for table in (_costs(costs), _chains(costs), _unknown(costs)) if table.rows),
        meaning="\n".join(plain(each) for each in _sentences(costs)),
        advice=tuple(plain(each) for each in _notes(costs)),
        problems=(),
    )


def _facts(costs: Sequence[Cost]) -> Iterator[tuple[str, str]]:
    run = next((each.run for each in costs if each.run), None)
    if run is not None:
        yield "run", f"{run.run}: {run.figures}"
        if not any(each.run and each.run.used for each in costs):
            yield "", str(run.reason)
    cards = {each.part.id: each for each in costs if each.part is not None}
    yield (
        "counted by",
        f"the dense {DTYPE} nominal of one card, in cards, delivered and price alike: "
        + (
            ", ".join(
                f"{short(each.part.name)} {each.card_tflops:g} TFLOPS" for each in cards.values() if each.part
            )
        ),
    )
    for each in cards.values():
        if each.price is not None and each.part is not None:
            price = each.price
            yield (
                "price",
                _and_note(
                    f"{short(each.part.name)}: RMB {price.server_rmb:,.0f} per {price.cards_per_server}-card "
                    f"server, {price.as_of}, {price.source}",
                    price.note,
                ),
            )


_COLUMNS = (
    *("fleet", "part", "cards", "servers", "nominal", "delivered"),
    *("RMB M", "whole", "per nominal", "per delivered"),
)


def _costs(costs: Sequence[Cost]) -> Table:
    rows = tuple(
        (
            plain(_label(each)),
            plain(short(each.part.name) if each.part else "a mix"),
            _number(each.cards, ",d"),
            _number(each.servers, ",d"),
            _number(each.nominal_eflops, ",.3f"),
            _number(each.delivered_eflops, ",.3f"),
            _millions(each.capex_rmb, 1),
            _millions(each.capex_whole_servers_rmb, 2),
            _millions(each.rmb_per_nominal_eflops, 1),
            _millions(each.rmb_per_delivered_eflops, 1),
        )
        for each in costs
    )
    heading = "Fleets: EFLOPS; millions of RMB by the card's share of a server, and in whole servers"
    return Table(heading, _COLUMNS, rows, frozenset(range(2, 10)), frozenset({1, 3, 7, 8}))


def _label(cost: Cost) -> str:
    """A fleet's id; a size that was asked for goes by its name."""
    return cost.name if cost.as_of is None else cost.fleet


def _chains(costs: Sequence[Cost]) -> Table:
    """Each chain once, however many fleets share it."""
    rows: dict[tuple[str, ...], None] = {}
    for each in costs:
        for link in each.chain if each.part else ():
            interval = (
                f"{link.low:.3f} … {link.high:.3f}" if link.low is not None and link.high is not None else "–"
            )
            source = "; ".join(_provenance(link))
            part = short(each.part.name) if each.part else ""
            row = (part, link.span, link.dtype, f"{link.value:.3f}", interval, link.provenance, source)
            rows[tuple(map(plain, row))] = None
    columns = ("part", "link", "dtype", "ratio", "95 % interval", "how", "from")
    return Table("The chains, from nominal on", columns, tuple(rows), frozenset({3}), frozenset({2, 4}))


def _provenance(link: Derate) -> Iterator[str]:
    """Which figure, of what, its FLOPs counted how, said by whom."""
    if link.run:
        yield f"run {link.run}, {link.device}"
    elif link.id:
        yield link.id
    if link.scope:
        yield link.scope
    if link.convention:
        unknown = link.convention == "unknown"
        yield "how FLOPs were counted isn't known" if unknown else f"FLOPs counted by {link.convention}"
    yield link.source
    if link.confidence not in (None, "high"):
        yield f"confidence {link.confidence}"


def _unknown(costs: Sequence[Cost]) -> Table:
    rows = tuple((plain(_label(each)), plain(each.reason)) for each in costs if each.reason)
    return Table("Not known, and why", ("fleet", "reason"), rows, frozenset())


def _sentences(costs: Sequence[Cost]) -> Iterator[str]:
    for said in dict.fromkeys((sentence(each), whole_servers(each)) for each in costs):
        if said[0] is not None:
            yield " ".join(each for each in said if each)


def _notes(costs: Sequence[Cost]) -> Iterator[str]:
    """Every note with the fleets it is of."""
    fleets: dict[str, list[str]] = {}
    for each in costs:
        reach = [] if each.reaches is None else [_reach(each)]
        for note in (*reach, *each.notes):
            fleets.setdefault(note, []).append(each.name)
    for note, names in fleets.items():
        of = "" if len(costs) == 1 else f"{', '.join(dict.fromkeys(names))}: "
        yield f"{of}{note}."


def _reach(cost: Cost) -> str:
    missing = not_yet(cost.reaches or "goodput")
    far = f"delivered as far as `{cost.reaches}`"
    if not missing:
        return far
    said = missing[-1] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
    return f"{far}; {said} {'is' if len(missing) == 1 else 'are'}n't in it yet"


def _and_note(text: str, note: str | None) -> str:
    return text if note is None else f"{text}; {note}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _millions(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value / 1e6:,.{digits}f}"
