"""The way back: from EFLOPS that are to be delivered to the cards, the money and the power that they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nameplate.errors import InputError
from nameplate.fleet.costs import Cost, columns
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.pricing import cost
from nameplate.fleet.size import whole

# What is asked for, and what of it one delivered EFLOPS takes.
_TAKES: Mapping[str, str] = {
    "cards_exact": "cards_per_delivered_eflops",
    "capex_rmb": "rmb_per_delivered_eflops",
    "full_capex_rmb": "full_rmb_per_delivered_eflops",
    "power_mw": "mw_per_delivered_eflops",
}


@dataclass(frozen=True)
class Need:
    """What it takes to deliver so many EFLOPS by a part; `one` is its price for one nominal EFLOPS.

    Each estimate is at the inputs' values, with 5 %, 50 % and 95 % of its draws: with the cards of p95 the
    need is met in 95 % of them. What isn't known is absent, and `one.reason` says why.
    """

    delivered_eflops: float
    estimates: Mapping[str, Estimate]
    one: Cost

    @property
    def cards(self) -> int | None:
        """Whole cards, at the inputs' values."""
        found = self.estimates.get("cards_exact")
        return None if found is None else whole(found.value)

    @property
    def servers(self) -> int | None:
        """Whole servers, at the inputs' values."""
        found, price = self.estimates.get("cards_exact"), self.one.price
        if found is None or found.value is None or price is None:
            return None
        return whole(found.value / price.cards_per_server)

    def as_json(self) -> dict[str, Any]:
        """The need as a JSON row; what isn't known is null."""
        return {
            "part": self.one.part and self.one.part.id,
            "delivered_eflops": self.delivered_eflops,
            "reaches": self.one.reaches,
            "cards": self.cards,
            "servers": self.servers,
            **{key: each for name in _TAKES for key, each in columns(name, self.estimates.get(name)).items()},
            "reason": self.one.reason,
        }


def need(delivered_eflops: float, part: str, **options: Any) -> Need:
    """What it takes to deliver so many EFLOPS by `part`; `options` are those of `cost`.

    A model of goodput, which depends on the number of cards, is asked once, at the cards that one nominal
    EFLOPS takes. Raises InputError as `cost` does, and for a need that isn't above 0.
    """
    if isinstance(delivered_eflops, bool) or not 0 < delivered_eflops < math.inf:
        raise InputError("not a need", got=delivered_eflops, expected="delivered EFLOPS above 0")
    (one,) = cost(part=part, **options)
    found = {name: one.estimates.get(each) for name, each in _TAKES.items()}
    scaled = {name: each.scaled(delivered_eflops) for name, each in found.items() if each is not None}
    return Need(delivered_eflops, scaled, one)
