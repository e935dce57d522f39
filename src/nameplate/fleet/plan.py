"""Plans by part: what so many delivered EFLOPS take (`meet`), and what a budget buys (`afford`).

    nominal EFLOPS = delivered EFLOPS ÷ every derate of the part's chain
    cards, RMB, MW = what so many nominal EFLOPS take

Parts share one run, one choice of derates, and draws, so that what two of them have in common cancels where
they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, figure, money, rmb, stated
from nameplate.base.language import N_, _
from nameplate.chain.published import find_default_derate
from nameplate.fleet.catalogues import Fleet, load_shipped
from nameplate.fleet.describe import describe_range
from nameplate.fleet.goodput import estimate_goodput
from nameplate.fleet.montecarlo import (
    FEWEST_DRAWS,
    Estimate,
    MonteCarlo,
    Quantity,
    as_quantity,
    montecarlo_of,
)
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.fleet.price import Cost, cost
from nameplate.fleet.rows import columns, cost_row
from nameplate.fleet.size import card_tflops, round_up
from nameplate.specs.part import shorten
from nameplate.specs.recognition import require
from nameplate.specs.registry import Registry, load_registry
from nameplate.stats.uncertain import Number

# What a need takes: figures of a fleet that grow with what it delivers.
TAKES = (
    "nominal_eflops",
    "cards_exact",
    "servers_exact",
    "capex_rmb",
    "full_capex_rmb",
    "power_mw",
    "ownership_rmb_per_year",
)
# What a row has of the fleet it rests on, as `bench fleet cost --json` has it.
_BASIS = ("reaches", "not_yet", "derate", "price", "chain", "inputs", "draws", "seed", "notes", "run")
_MOST_CARDS = 1_000_000_000
_MOST_EFLOPS = 1e9
# The search for cards and their goodput ends after a few rounds, unless the job is about as large as can be.
_ROUNDS = 200


@dataclass(frozen=True)
class Need:
    """What it takes to deliver so many EFLOPS by a part.

    Each estimate of TAKES is at the inputs' values, with 5 %, 50 % and 95 % of its draws: with the cards of
    p95 the need is met in 95 % of them. What isn't known is absent, and `reason` says why. `fleet` is the
    fleet of so many whole cards, as `cost` prices it.
    """

    asked: Estimate  # EFLOPS that are to be delivered
    fleet: Cost
    estimates: Mapping[str, Estimate]
    reason: str | None

    @property
    def cards(self) -> int | None:
        """Whole cards, at the inputs' values."""
        return self._whole("cards_exact")

    @property
    def servers(self) -> int | None:
        """Whole servers, at the inputs' values."""
        return self._whole("servers_exact")

    @property
    def capex_whole_servers_rmb(self) -> float | None:
        """Price of the whole servers, before fabric and spares."""
        price = self.fleet.price
        return None if self.servers is None or price is None else self.servers * price.server_rmb

    def _whole(self, name: str) -> int | None:
        found = self.estimates.get(name)
        return None if found is None else round_up(found.value) or 1

    @property
    def sentence(self) -> str | None:
        """The need, and what it takes, in one sentence; None where the cards aren't known."""
        cards, power = self.estimates.get("cards_exact"), self.estimates.get("power_mw")
        if cards is None:
            return None
        said = _(
            "{eflops} delivered EFLOPS take {cards} cards of {part}{range}",
            eflops=stated(self.asked.value),
            cards=count(self.cards),
            part=_(self.fleet.size.name),
            range=describe_range(cards, count),
        )
        if self.servers is not None:
            said = _("{said}, {count} servers", said=said, count=count(self.servers))
        for name, text in (
            ("capex_rmb", N_("{said}, {rmb}{range} for servers alone")),
            ("full_capex_rmb", N_("{said}, {rmb}{range} with fabric and spares")),
        ):
            found = self.estimates.get(name)
            if found is not None and found.value is not None:
                said = _(text, said=said, rmb=rmb(found.value), range=describe_range(found, money))
        if power is not None:
            mw, spread = figure(power.value), describe_range(power, figure)
            said = _("{said}, and draw {mw} MW{range}", said=said, mw=mw, range=spread)
        if self.fleet.price:
            return _("{said}.", said=said)
        return _("{said}; no price of a server of it is known.", said=said)

    def as_json(self) -> dict[str, Any]:
        """The need as a JSON row; what isn't known is null."""
        return {
            "part": self.fleet.size.part and self.fleet.size.part.id,
            **columns("delivered_eflops", self.asked),
            **taken(self),
            **basis(self.fleet),
            "sentence": self.sentence,
            "reason": self.reason,
        }


def taken(need: Need | None) -> dict[str, Any]:
    """Cards, servers and every figure of TAKES as columns; null where there is no need."""
    estimates = {} if need is None else need.estimates
    return {
        "cards": None if need is None else need.cards,
        "servers": None if need is None else need.servers,
        "capex_whole_servers_rmb": None if need is None else need.capex_whole_servers_rmb,
        **{key: each for name in TAKES for key, each in columns(name, estimates.get(name)).items()},
    }


def need(delivered_eflops: float, part: str, **options: Any) -> Need:
    """What it takes to deliver so many EFLOPS by `part`; `options` are those of `cost`."""
    (found,) = meet(delivered_eflops, (part,), **options)
    return found


def meet(
    delivered_eflops: Quantity | float, part: str | Sequence[str] = (), **options: Any
) -> tuple[Need, ...]:
    """What it takes to deliver so many EFLOPS by each part; `options` are those of `cost`.

    An amount has its draws, by the number and seed of `options`. Without a part, those that a derate or a
    price is known of. Raises InputError as `cost` does, and for a need that isn't above 0.
    """
    asked = as_quantity(math.nan if isinstance(delivered_eflops, bool) else delivered_eflops)
    if not 0 < asked.value <= _MOST_EFLOPS:
        expected = f"delivered EFLOPS above 0, {count(_MOST_EFLOPS)} at most"
        raise InputError("not a need", where="--eflops", got=asked.value, expected=expected)
    named = parts_of(part, options)
    ids = tuple(named)
    ones = of_parts(dict.fromkeys(ids, 1.0), **(options | {"goodput": False, "draws": FEWEST_DRAWS}))
    jobs = bool(options.get("goodput", False))
    sizes = [_nominal_for(asked.value, one, goodput=jobs) for one in ones]
    nominal = {part: size or 1.0 for part, size in zip(ids, sizes, strict=True)}
    fleets = noted(of_parts(nominal, **options), named)
    montecarlo = montecarlo_of(options)
    return tuple(
        _need(asked, fleet, montecarlo) if size is not None else _unmet(asked, fleet)
        for fleet, size in zip(fleets, sizes, strict=True)
    )


def _need(asked: Quantity, fleet: Cost, montecarlo: MonteCarlo) -> Need:
    one = fleet.quantities(montecarlo)
    nominal = asked / one["delivered_eflops"]
    found = {name: (nominal * one[name]).estimate for name in TAKES if name in one}
    return Need(asked.estimate, fleet, found | {"nominal_eflops": nominal.estimate}, fleet.reason)


def _unmet(asked: Quantity, fleet: Cost) -> Need:
    """No derate is known, or no number of cards will do."""
    most = _(
        "no {count} cards deliver that much, or one job can't get it: failures take what more bring",
        count=count(_MOST_CARDS),
    )
    return Need(asked.estimate, fleet, {}, most if fleet.reaches else fleet.reason)


def _nominal_for(eflops: float, one: Cost, *, goodput: bool) -> float | None:
    """Nominal EFLOPS, in whole cards where those are known, that deliver so many; None where none do."""
    if one.derate is None:
        return None
    if one.size.card_tflops is None:
        nominal = eflops / one.derate
        return nominal if nominal <= _MOST_EFLOPS else None
    cards = _cards_for(eflops, one.size.card_tflops * one.derate / TFLOPS_PER_EFLOPS, goodput=goodput)
    return None if cards is None else cards * one.size.card_tflops / TFLOPS_PER_EFLOPS


def _cards_for(eflops: float, of_card: float, *, goodput: bool) -> int | None:
    """The fewest cards that deliver so many EFLOPS, `of_card` each before failures; None where none do.

    With goodput the number is found from below: cards ← EFLOPS ÷ (of a card × goodput of so many cards).
    """
    cards = 0
    for _round in range(_ROUNDS):
        share = estimate_goodput(max(cards, 1)).goodput.value if goodput else 1.0
        if eflops > _MOST_CARDS * of_card * share:
            return None
        found = round_up(eflops / (of_card * share)) or 1
        if found <= cards:
            return cards
        cards = found
    return None


# What plans rest on


def names_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several."""
    return (given,) if isinstance(given, str) else tuple(given)


def parts_of(part: str | Sequence[str], options: Mapping[str, Any]) -> dict[str, str | None]:
    """These parts by id, once each, with what a short name was taken for.

    None given: those that a derate or a price is known of. Raises InputError for a name that the registry
    doesn't know.
    """
    known = load_registry(options.get("parts") or ())
    named = [require(name, known) for name in names_of(part)]
    if not named:
        return dict.fromkeys(_known_of(known, options))
    notes: dict[str, str | None] = {}
    for each in named:
        notes[each.part.id] = notes.get(each.part.id) or each.note
    return notes


def noted(fleets: Sequence[Cost], notes: Mapping[str, str | None]) -> tuple[Cost, ...]:
    """The fleets, each with the note on the name of its part before its own."""
    found = []
    for each in fleets:
        note = notes.get(each.size.part.id) if each.size.part else None
        found.append(replace(each, notes=(note, *each.notes)) if note else each)
    return tuple(found)


def _known_of(known: Registry, options: Mapping[str, Any]) -> list[str]:
    listed = options.get("catalogue") or load_shipped()
    priced = {price.part for price in listed.price}
    priced |= {require(name, known).part.id for name in options.get("price") or ()}
    return [
        part.id
        for part in known.parts.values()
        if card_tflops(part) is not None
        and (part.id in priced or find_default_derate(part.id) or listed.default_derate(part.id))
    ]


def of_parts(sizes: Mapping[str, float], **options: Any) -> tuple[Cost, ...]:
    """So many nominal EFLOPS of each part, by its id, priced together; `options` are those of `cost`."""
    if not sizes:
        return ()
    known, listed = load_registry(options.get("parts") or ()), options.get("catalogue") or load_shipped()
    today = date.today().isoformat()
    fleets = tuple(
        Fleet(
            id=f"plan-{index}",
            name=shorten(known.parts[part].name),
            as_of=today,
            part=part,
            eflops=float(eflops),
            source="planned",
        )
        for index, (part, eflops) in enumerate(sizes.items(), start=1)
    )
    planned = listed.model_copy(update={"fleet": fleets})
    return cost([fleet.id for fleet in fleets], **(options | {"catalogue": planned}))


def basis(fleet: Cost) -> dict[str, Any]:
    """What a plan rests on: chain, price, inputs and draws, as `bench fleet cost --json` has them."""
    row = cost_row(fleet)
    return {name: row[name] for name in _BASIS}


# What a budget buys

# What a budget buys.
BUYS = ("delivered_eflops", "power_mw", "full_delivered_eflops")
_MOST_RMB = 1e15


@dataclass(frozen=True)
class Purchase:
    """What a budget buys of a part, in whole servers: alone, and (`full_`) with their fabric and spares.

    The servers are at the inputs' values; the estimates of BUYS are of as many as each draw's price allows.
    `first_in` is the share of draws in which this part delivers most.
    """

    budget_rmb: float
    fleet: Cost
    servers: int | None
    full_servers: int | None
    estimates: Mapping[str, Estimate]
    reason: str | None
    rank: int | None = None
    first_in: float | None = None

    @property
    def cards(self) -> int | None:
        """Cards of the servers."""
        return self._cards(self.servers)

    @property
    def full_cards(self) -> int | None:
        """Cards in service where fabric and spares are paid for too."""
        return self._cards(self.full_servers)

    def _cards(self, servers: int | None) -> int | None:
        price = self.fleet.price
        return None if servers is None or price is None else servers * price.cards_per_server

    @property
    def sentence(self) -> str | None:
        """What the budget buys and that delivers, in one sentence; None where that isn't known."""
        bare, full = (self.estimates.get(name) for name in ("delivered_eflops", "full_delivered_eflops"))
        if bare is None or full is None:
            return None
        return _(
            "{rmb} buys {servers} servers of {part} ({cards} cards), delivering {eflops} EFLOPS{range}; with "
            "fabric and spares {full_servers} servers and {full_eflops} EFLOPS{full_range}.",
            rmb=rmb(self.budget_rmb),
            servers=count(self.servers),
            part=_(self.fleet.size.name),
            cards=count(self.cards),
            eflops=figure(bare.value),
            range=describe_range(bare, figure),
            full_servers=count(self.full_servers),
            full_eflops=figure(full.value),
            full_range=describe_range(full, figure),
        )

    def as_json(self) -> dict[str, Any]:
        """The purchase as a JSON row; what isn't known is null."""
        return {
            "part": self.fleet.size.part and self.fleet.size.part.id,
            "budget_rmb": self.budget_rmb,
            "rank": self.rank,
            "first_in": self.first_in,
            "servers": self.servers,
            "cards": self.cards,
            "full_servers": self.full_servers,
            "full_cards": self.full_cards,
            **{key: each for name in BUYS for key, each in columns(name, self.estimates.get(name)).items()},
            **basis(self.fleet),
            "sentence": self.sentence,
            "reason": self.reason,
        }


def afford(budget_rmb: float, part: str | Sequence[str] = (), **options: Any) -> tuple[Purchase, ...]:
    """What a budget in RMB buys of each part, the one that delivers most first; `options` are as for `cost`.

    Without a part, those that a derate or a price is known of. Parts without a price, or a derate, come last
    with the reason. Goodput is that of as many cards as the servers alone have. Raises InputError as `cost`
    does, and for a budget that isn't above 0.
    """
    if isinstance(budget_rmb, bool) or not 0 < budget_rmb <= _MOST_RMB:
        expected = f"RMB above 0, {count(_MOST_RMB)} at most"
        raise InputError("not a budget", where="--budget-rmb", got=budget_rmb, expected=expected)
    named = parts_of(part, options)
    ids = tuple(named)
    ones = of_parts(dict.fromkeys(ids, 1.0), **(options | {"goodput": False, "draws": FEWEST_DRAWS}))
    sizes = {part: _nominal_of(budget_rmb, one) or 1.0 for part, one in zip(ids, ones, strict=True)}
    montecarlo, bought = montecarlo_of(options), []
    for fleet in noted(of_parts(sizes, **options), named):
        one = fleet.quantities(montecarlo)
        delivered = _of(_servers(budget_rmb, one, "capex_rmb"), one, "delivered_eflops")
        bought.append((_purchase(budget_rmb, fleet, one), delivered))
    return _ranked(bought)


def _nominal_of(budget_rmb: float, one: Cost) -> float | None:
    """Nominal EFLOPS of the servers that a budget buys; None where it buys none, or none that is known."""
    if one.price is None or one.size.card_tflops is None:
        return None
    servers = (as_quantity(budget_rmb) / one.price.server_rmb).floor().value
    return servers * one.price.cards_per_server * one.size.card_tflops / TFLOPS_PER_EFLOPS


def _servers(budget_rmb: float, one: Mapping[str, Quantity], capex: str) -> Quantity | None:
    """Whole servers at what one costs: bare, or with fabric and spares."""
    if capex not in one:
        return None
    return (as_quantity(budget_rmb) / (one[capex] / one["servers_exact"])).floor()


def _of(servers: Quantity | None, one: Mapping[str, Quantity], name: str) -> Quantity | None:
    """A figure of so many servers."""
    return None if servers is None or name not in one else servers / one["servers_exact"] * one[name]


def _purchase(budget_rmb: float, fleet: Cost, one: Mapping[str, Quantity]) -> Purchase:
    bare, full = (_servers(budget_rmb, one, capex) for capex in ("capex_rmb", "full_capex_rmb"))
    found = {
        "delivered_eflops": _of(bare, one, "delivered_eflops"),
        "power_mw": _of(bare, one, "power_mw"),
        "full_delivered_eflops": _of(full, one, "delivered_eflops"),
    }
    estimates = {name: each.estimate for name, each in found.items() if each is not None}
    servers, full_servers = (None if each is None else int(each.value) for each in (bare, full))
    too_little = _("{rmb} is less than one server costs", rmb=rmb(budget_rmb))
    reason = too_little if servers == 0 else fleet.reason
    return Purchase(budget_rmb, fleet, servers, full_servers, estimates, reason)


def _ranked(bought: Sequence[tuple[Purchase, Quantity | None]]) -> tuple[Purchase, ...]:
    """The one that delivers most first, those of which that isn't known last."""
    known = [(each, delivered) for each, delivered in bought if delivered is not None]
    known.sort(key=lambda pair: -pair[1].value)
    shares = _first_in([delivered.draws for _each, delivered in known])
    ranked = [
        replace(each, rank=rank, first_in=share)
        for rank, ((each, _delivered), share) in enumerate(zip(known, shares, strict=True), start=1)
    ]
    return (*ranked, *(each for each, delivered in bought if delivered is None))


def _first_in(figures: Sequence[Number]) -> list[float]:
    """In what share of draws each figure is the largest; of equal ones the first is."""
    if not figures:
        return []
    first = np.argmax(np.stack(np.broadcast_arrays(*figures)), axis=0)
    return [float(np.mean(first == at)) for at in range(len(figures))]
