"""Plans by part: what so many delivered EFLOPS take (`meet`), and what a budget buys (`afford`).

    nominal EFLOPS = delivered EFLOPS ÷ every derate of the part's chain
    cards, RMB, MW = what so many nominal EFLOPS take

Parts share one run, one choice of derates, and draws, so that what two of them have in common cancels where
they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, figure, money, rmb, stated
from nameplate.base.language import N_, _
from nameplate.fleet.catalogues import (
    LEAST_EFLOPS,
    LEAST_RMB,
    MOST_CARDS,
    MOST_EFLOPS,
    MOST_RMB,
    Catalogue,
)
from nameplate.fleet.describe import describe_range
from nameplate.fleet.mfu_model import load_mfu_model
from nameplate.fleet.montecarlo import Estimate, MonteCarlo, Quantity, as_quantity, find_shares_of_largest
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.fleet.price import Cost, Pricer, make_pricer
from nameplate.fleet.rows import columns, cost_row
from nameplate.fleet.size import Size, as_names, card_tflops, round_up
from nameplate.specs.part import Part
from nameplate.specs.recognition import require
from nameplate.specs.registry import Registry

# The figures of a need: those of a fleet that are proportional to what it delivers.
NEED_FIGURES = (
    "nominal_eflops",
    "cards_exact",
    "servers_exact",
    "capex_rmb",
    "full_capex_rmb",
    "power_mw",
    "ownership_rmb_per_year",
)
# The figures of a purchase.
PURCHASE_FIGURES = ("delivered_eflops", "power_mw", "full_delivered_eflops")
# What the row of a plan repeats from the row of its fleet, as `bench fleet cost --json` has it.
_PRICING = ("reaches", "not_yet", "derate", "price", "chain", "inputs", "draws", "seed", "notes", "run")
# The search for cards and their goodput takes a few rounds, or many for a job of nearly the largest size.
_ROUNDS = 200


# What a need takes


@dataclass(frozen=True)
class Need:
    """What it takes to deliver so many EFLOPS by a part.

    `estimates` holds those of NEED_FIGURES that are known; `reason` says why others aren't. With the cards of
    its p95, 95 % of the draws meet the need. `fleet` is the fleet of so many whole cards, priced.
    """

    asked: Estimate  # delivered EFLOPS
    fleet: Cost
    estimates: Mapping[str, Estimate]
    reason: str | None

    @property
    def cards(self) -> int | None:
        """Whole cards, which meet the need in half of the draws."""
        return self._whole("cards_exact")

    @property
    def servers(self) -> int | None:
        """Whole servers of them."""
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
            ("capex_rmb", N_("{said}, {rmb}{range} for the servers")),
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
        return _("{said}; the price of its servers isn't known.", said=said)

    def as_json(self) -> dict[str, Any]:
        """The need as a JSON row; what isn't known is null."""
        return {
            "part": self.fleet.size.part and self.fleet.size.part.id,
            **columns("delivered_eflops", self.asked),
            **need_columns(self),
            **pricing_columns(self.fleet),
            "sentence": self.sentence,
            "reason": self.reason,
        }


def need_columns(need: Need | None) -> dict[str, Any]:
    """Cards, servers and every figure of NEED_FIGURES as columns; null where there is no need."""
    return {
        "cards": None if need is None else need.cards,
        "servers": None if need is None else need.servers,
        "capex_whole_servers_rmb": None if need is None else need.capex_whole_servers_rmb,
        **estimate_columns(NEED_FIGURES, {} if need is None else need.estimates),
    }


def estimate_columns(names: Iterable[str], estimates: Mapping[str, Estimate]) -> dict[str, float | None]:
    """The columns of every named figure; null where it isn't known."""
    return {key: each for name in names for key, each in columns(name, estimates.get(name)).items()}


def pricing_columns(fleet: Cost) -> dict[str, Any]:
    """The chain, price, inputs and draws of a plan's fleet, as `bench fleet cost --json` has them."""
    row = cost_row(fleet)
    return {name: row[name] for name in _PRICING}


def need(delivered_eflops: float, part: str, **options: Any) -> Need:
    """What it takes to deliver so many EFLOPS by `part`; `options` are those of `cost`."""
    (found,) = meet(delivered_eflops, (part,), **options)
    return found


def meet(
    delivered_eflops: Quantity | float, part: str | Sequence[str] = (), **options: Any
) -> tuple[Need, ...]:
    """What it takes to deliver so many EFLOPS by each part; `options` are those of `cost`.

    The draws of a Quantity must be as many as those of `options`, by the same seed. Without a part, the plan
    is made for every part with a known price, and those that published runs trained on. Raises InputError as
    `cost` does, and for a need that isn't above 0.
    """
    asked = as_quantity(math.nan if isinstance(delivered_eflops, bool) else delivered_eflops)
    if not LEAST_EFLOPS <= asked.value <= MOST_EFLOPS:
        expected = f"delivered EFLOPS above 0, from {LEAST_EFLOPS:g} to {MOST_EFLOPS:g}"
        raise InputError("not an amount of EFLOPS", where="--eflops", got=asked.value, expected=expected)
    pricer, parts = find_parts(part, options)
    return tuple(_need(asked, each, pricer) for each in parts)


def _need(asked: Quantity, part: PlannedPart, pricer: Pricer) -> Need:
    nominal = _nominal_to_deliver(asked, part.part, pricer)
    fleet = pricer.price(part.size(nominal))
    if nominal is not None:
        one = fleet.quantities(pricer.montecarlo)
        taken = asked / one["delivered_eflops"]
        found = {name: (taken * one[name]).estimate for name in NEED_FIGURES if name in one}
        return Need(asked.estimate, fleet, found | {"nominal_eflops": taken.estimate}, fleet.reason)
    unmet = _(
        "{count} cards don't deliver that much, or not to one job: its failures cost more than further "
        "cards add",
        count=count(MOST_CARDS),
    )
    return Need(asked.estimate, fleet, {}, unmet if fleet.reaches else fleet.reason)


def _nominal_to_deliver(asked: Quantity, part: Part, pricer: Pricer) -> float | None:
    """Nominal EFLOPS that deliver what is asked for in half of the draws, in whole cards of known nominal.

    None where no fleet does. MFU and goodput depend on the number of cards, so it is found from below: cards
    ← EFLOPS ÷ (nominal of a card × derate of so many cards).
    """
    card, cards = card_tflops(part), 0
    for _round in range(_ROUNDS):
        derate = pricer.derate(part, max(cards, 1))
        if derate is None:
            return None
        nominal = (asked / derate).estimate.p50 or math.inf
        if card is None:
            return nominal if nominal <= MOST_EFLOPS else None
        if nominal > MOST_CARDS * card / TFLOPS_PER_EFLOPS:
            return None
        needed = round_up(nominal * TFLOPS_PER_EFLOPS / card) or 1
        if needed <= cards:
            return cards * card / TFLOPS_PER_EFLOPS
        cards = needed
    return None


# What a budget buys


@dataclass(frozen=True)
class Purchase:
    """What a budget buys of a part, in whole servers: alone, or (`full_`) with their fabric and spares.

    `estimates` holds those of PURCHASE_FIGURES that are known: each draw has its own price, and so its own
    number of servers. `first_in` is the share of draws in which this part delivers most.
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
        """What the budget buys, and what that delivers, in one sentence; None where that isn't known."""
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
            **estimate_columns(PURCHASE_FIGURES, self.estimates),
            **pricing_columns(self.fleet),
            "sentence": self.sentence,
            "reason": self.reason,
        }


def afford(budget_rmb: float, part: str | Sequence[str] = (), **options: Any) -> tuple[Purchase, ...]:
    """What a budget in RMB buys of each part, the part that delivers most first; `options` as for `cost`.

    Without a part, the plan is made for every part with a known price, and those that published runs trained
    on. Parts without a price or a derate come last, with the reason. Goodput is that of the cards of the
    servers alone. Raises InputError as `cost` does, and for a budget that isn't above 0.
    """
    if isinstance(budget_rmb, bool) or not LEAST_RMB <= budget_rmb <= MOST_RMB:
        expected = f"RMB above 0, from {LEAST_RMB:g} to {MOST_RMB:g}"
        raise InputError("not a usable budget", where="--budget-rmb", got=budget_rmb, expected=expected)
    pricer, parts = find_parts(part, options)
    sizes = [each.size(_nominal_to_buy(budget_rmb, each.part, pricer.catalogue)) for each in parts]
    fleets = [pricer.price(size) for size in sizes]
    return _rank([_buy(budget_rmb, fleet, pricer.montecarlo) for fleet in fleets])


def _nominal_to_buy(budget_rmb: float, part: Part, catalogue: Catalogue) -> float | None:
    """Nominal EFLOPS of the servers that a budget buys; None where a price or a nominal isn't known."""
    card, price = card_tflops(part), catalogue.price_of(part.id)
    if price is None or card is None:
        return None
    servers = (as_quantity(budget_rmb) / price.server_rmb).floor().value
    return servers * price.cards_per_server * card / TFLOPS_PER_EFLOPS


def _buy(budget_rmb: float, fleet: Cost, montecarlo: MonteCarlo) -> tuple[Purchase, Quantity | None]:
    """The purchase of one part, and what its servers alone deliver."""
    one = fleet.quantities(montecarlo)

    def buy_servers(capex: str) -> Quantity | None:
        if capex not in one:
            return None
        return (as_quantity(budget_rmb) / (one[capex] / one["servers_exact"])).floor()

    def scale(name: str, servers: Quantity | None) -> Quantity | None:
        return None if servers is None or name not in one else servers / one["servers_exact"] * one[name]

    bare, full = buy_servers("capex_rmb"), buy_servers("full_capex_rmb")
    delivered = scale("delivered_eflops", bare)
    quantities = (delivered, scale("power_mw", bare), scale("delivered_eflops", full))
    estimates = {
        name: each.estimate
        for name, each in zip(PURCHASE_FIGURES, quantities, strict=True)
        if each is not None
    }
    servers, full_servers = (None if each is None else int(each.estimate.p50 or 0) for each in (bare, full))
    too_little = _("{rmb} is less than one server costs", rmb=rmb(budget_rmb))
    reason = too_little if servers == 0 else fleet.reason
    return Purchase(budget_rmb, fleet, servers, full_servers, estimates, reason), delivered


def _rank(bought: Sequence[tuple[Purchase, Quantity | None]]) -> tuple[Purchase, ...]:
    """The purchase that delivers most first; those whose EFLOPS aren't known last."""
    known = [(purchase, delivered) for purchase, delivered in bought if delivered is not None]
    known.sort(key=lambda each: -(each[1].estimate.p50 or 0.0))
    shares = find_shares_of_largest([delivered for _purchase, delivered in known])
    ranked = [
        replace(purchase, rank=rank, first_in=share)
        for rank, ((purchase, _delivered), share) in enumerate(zip(known, shares, strict=True), start=1)
    ]
    return (*ranked, *(purchase for purchase, delivered in bought if delivered is None))


# Fleets of one part each


@dataclass(frozen=True)
class PlannedPart:
    """A part that is planned with, and what the name that it was asked for by was taken for."""

    part: Part
    note: str | None = None

    def size(self, nominal_eflops: float | None) -> Size:
        """A fleet of so many nominal EFLOPS of the part; of one where none are known."""
        name, much = self.part.short_name, nominal_eflops or 1.0
        today, source = date.today().isoformat(), _("planned")
        return Size(
            f"plan-{self.part.id}", name, "held", today, self.part, (), None, much, "fp16", source, self.note
        )


def find_parts(
    part: str | Sequence[str], options: Mapping[str, Any]
) -> tuple[Pricer, tuple[PlannedPart, ...]]:
    """The named parts, and what prices fleets of them.

    Without a name, every part with a known price, and those that published runs trained on. Raises InputError
    as `cost` does, and for a name that the registry doesn't know.
    """
    found: list[PlannedPart] = []

    def find(catalogue: Catalogue, registry: Registry) -> list[Size]:
        named = [require(name, registry) for name in as_names(part)]
        notes = {each.part.id: each.note for each in reversed(named)}
        ids = list(dict.fromkeys(each.part.id for each in named))
        if not named:
            priced = {price.part for price in catalogue.price}
            wanted = (
                priced
                | set(load_mfu_model().runs_of_part)
                | {each for derate in catalogue.derate if derate.unasked for each in derate.parts}
            )
            ids = [each.id for each in registry.parts.values() if each.id in wanted and card_tflops(each)]
        found.extend(PlannedPart(registry.parts[each], notes.get(each)) for each in ids)
        return [each.size(None) for each in found]

    pricer, _sizes = make_pricer(find, named=True, **options)
    return pricer, tuple(found)
