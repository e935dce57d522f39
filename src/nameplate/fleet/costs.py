"""One fleet priced: its size, its chain, and every figure with its spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from nameplate.base.language import _
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.catalogues import Price
from nameplate.fleet.chains import RunUse
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.fleet.size import Size, whole
from nameplate.fleet.units import Unit
from nameplate.specs.part import Part


@dataclass(frozen=True)
class Rung:
    """One EFLOPS delivered as far as `stage`: how much of its part that takes, and what its servers cost.

    `derate` is the product of the links so far; a fleet is priced by the last rung.
    """

    stage: Stage
    derate: float
    cards_exact: float | None
    servers_exact: float | None
    rmb: float | None
    server_rmb: float | None

    @property
    def cards(self) -> int | None:
        """Whole cards."""
        return whole(self.cards_exact)

    @property
    def servers(self) -> int | None:
        """Whole servers."""
        return whole(self.servers_exact)

    @property
    def whole_servers_rmb(self) -> float | None:
        """Price of whole servers."""
        return _times(self.servers, self.server_rmb)


@dataclass(frozen=True)
class Cost:
    """One fleet: its size, its chain, its power, its money. What isn't known is None, and `reason` says why.

    `estimates` holds every figure of `outputs` that is known. A fleet of a mix of parts has one Cost a part
    in `mix`, as if it were all of that part, and estimates without a value: the least and most of those.
    """

    size: Size
    chain: tuple[Link, ...]
    estimates: Mapping[str, Estimate]
    unit: Unit | None
    price: Price | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    draws: int
    seed: int
    run: RunUse | None = None
    mix: tuple[Cost, ...] = ()

    def value(self, output: str) -> float | None:
        """The value of one of the figures in `outputs.OUTPUTS`; None where it isn't known."""
        found = self.estimates.get(output)
        return None if found is None else found.value

    @property
    def fleet(self) -> str:
        """The fleet's id."""
        return self.size.id

    @property
    def name(self) -> str:
        """The fleet's name."""
        return self.size.name

    @property
    def part(self) -> Part | None:
        """What it is counted in; None for a mix, and where that isn't known."""
        return self.size.part

    @property
    def stated_eflops(self) -> float | None:
        """EFLOPS as stated."""
        return self.size.stated_eflops

    @property
    def cards_exact(self) -> float | None:
        """Cards, with the fraction that a conversion from EFLOPS leaves."""
        return self.size.cards_exact

    @property
    def cards(self) -> int | None:
        """Whole cards."""
        return self.size.cards

    @property
    def card_tflops(self) -> float | None:
        """Nominal of one card, in TFLOPS."""
        return self.size.card_tflops

    @property
    def nominal_eflops(self) -> float | None:
        """Nominal EFLOPS, dense FP16."""
        return self.size.nominal_eflops

    @property
    def reaches(self) -> Stage | None:
        """The stage that the chain reaches; None where nothing says what is delivered."""
        return self.chain[-1].to if len(self.chain) > 1 else None

    @property
    def derate(self) -> float | None:
        """Delivered ÷ nominal."""
        return math.prod(link.value for link in self.chain) if self.reaches else None

    @property
    def delivered_eflops(self) -> float | None:
        """Nominal × every derate."""
        return self.value("delivered_eflops")

    @property
    def servers_exact(self) -> float | None:
        """Cards ÷ cards a server, with its fraction."""
        return self.value("servers_exact")

    @property
    def servers(self) -> int | None:
        """Whole servers in service."""
        return whole(self.servers_exact)

    @property
    def servers_with_spares(self) -> int | None:
        """Whole servers to buy: those in service and the spares."""
        spares = None if self.unit is None else self.unit.inputs.get("spare_nodes")
        if self.servers_exact is None or spares is None:
            return None
        return whole(self.servers_exact * (1 + spares.uncertain.value))

    @property
    def capex_rmb(self) -> float | None:
        """Price of the cards' share of servers, before fabric, spares and rounding up to whole servers."""
        return self.value("capex_rmb")

    @property
    def capex_whole_servers_rmb(self) -> float | None:
        """Price of whole servers, before fabric and spares."""
        return _times(self.servers, None if self.price is None else self.price.server_rmb)

    @property
    def full_capex_whole_servers_rmb(self) -> float | None:
        """Price of whole servers, spares among them, with fabric."""
        fabric = None if self.unit is None else self.unit.inputs.get("fabric_price_factor")
        if self.price is None or fabric is None:
            return None
        return _times(self.servers_with_spares, self.price.server_rmb * fabric.uncertain.value)

    @property
    def rmb_per_nominal_eflops(self) -> float | None:
        """Bare capex ÷ nominal EFLOPS."""
        return self.value("rmb_per_nominal_eflops")

    @property
    def rmb_per_delivered_eflops(self) -> float | None:
        """Bare capex ÷ delivered EFLOPS, as far as the chain reaches."""
        return self.value("rmb_per_delivered_eflops")

    @property
    def reason(self) -> str | None:
        """Why figures are null; None where none is."""
        return _("; ").join(self.reasons) or None

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """One delivered EFLOPS of the part, by how far the chain is followed, link by link."""
        stages = [Stage.NOMINAL, *(link.to for link in self.chain)]
        factors = accumulate((link.value for link in self.chain), lambda a, b: a * b, initial=1.0)
        return tuple(self._rung(stage, each) for stage, each in zip(stages, factors, strict=True))

    def _rung(self, stage: Stage, derate: float) -> Rung:
        card, price = self.card_tflops, self.price
        cards = None if card is None else TFLOPS_PER_EFLOPS / (card * derate)
        servers = None if cards is None or price is None else cards / price.cards_per_server
        each = None if price is None else price.server_rmb
        return Rung(stage, derate, cards, servers, _times(servers, each), each)


def _times(count: float | None, each: float | None) -> float | None:
    return None if count is None or each is None else count * each
