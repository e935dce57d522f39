"""What a budget buys of each part, and what that delivers.

It buys whole servers: at their price alone, as the article counts, and beside it with fabric and spares.
Parts share draws, so that what two of them have in common cancels where they're ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, figure, rmb
from nameplate.base.language import _
from nameplate.fleet.amounts import (
    Amount,
    amounts,
    as_amount,
    montecarlo_of,
    nine_in_ten,
)
from nameplate.fleet.costs import Cost
from nameplate.fleet.montecarlo import FEWEST_DRAWS, Estimate, Figure
from nameplate.fleet.needs import basis, noted, of_parts, parts_of
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.fleet.rows import columns

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
            part=_(self.fleet.name),
            cards=count(self.cards),
            eflops=figure(bare.value),
            range=nine_in_ten(bare, figure),
            full_servers=count(self.full_servers),
            full_eflops=figure(full.value),
            full_range=nine_in_ten(full, figure),
        )

    def as_json(self) -> dict[str, Any]:
        """The purchase as a JSON row; what isn't known is null."""
        return {
            "part": self.fleet.part and self.fleet.part.id,
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
        one = amounts(fleet, montecarlo)
        delivered = _of(_servers(budget_rmb, one, "capex_rmb"), one, "delivered_eflops")
        bought.append((_purchase(budget_rmb, fleet, one), delivered))
    return _ranked(bought)


def _nominal_of(budget_rmb: float, one: Cost) -> float | None:
    """Nominal EFLOPS of the servers that a budget buys; None where it buys none, or none that is known."""
    if one.price is None or one.card_tflops is None:
        return None
    servers = (as_amount(budget_rmb) / one.price.server_rmb).floor().value
    return servers * one.price.cards_per_server * one.card_tflops / TFLOPS_PER_EFLOPS


def _servers(budget_rmb: float, one: Mapping[str, Amount], capex: str) -> Amount | None:
    """Whole servers at what one costs: bare, or with fabric and spares."""
    if capex not in one:
        return None
    return (as_amount(budget_rmb) / (one[capex] / one["servers_exact"])).floor()


def _of(servers: Amount | None, one: Mapping[str, Amount], name: str) -> Amount | None:
    """A figure of so many servers."""
    return None if servers is None or name not in one else servers / one["servers_exact"] * one[name]


def _purchase(budget_rmb: float, fleet: Cost, one: Mapping[str, Amount]) -> Purchase:
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


def _ranked(bought: Sequence[tuple[Purchase, Amount | None]]) -> tuple[Purchase, ...]:
    """The one that delivers most first, those of which that isn't known last."""
    known = [(each, delivered) for each, delivered in bought if delivered is not None]
    known.sort(key=lambda pair: -pair[1].value)
    shares = _first_in([delivered.drawn for _each, delivered in known])
    ranked = [
        replace(each, rank=rank, first_in=share)
        for rank, ((each, _delivered), share) in enumerate(zip(known, shares, strict=True), start=1)
    ]
    return (*ranked, *(each for each, delivered in bought if delivered is None))


def _first_in(figures: Sequence[Figure]) -> list[float]:
    """In what share of draws each figure is the largest; of equal ones the first is."""
    if not figures:
        return []
    first = np.argmax(np.stack(np.broadcast_arrays(*figures)), axis=0)
    return [float(np.mean(first == at)) for at in range(len(figures))]
