"""One nominal EFLOPS of a part, drawn once for all its fleets: figures, and where their spread is from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.chain.link import Link
from nameplate.fleet.assumptions import Used, used
from nameplate.fleet.catalogues import Catalogue
from nameplate.fleet.chains import Chain
from nameplate.fleet.montecarlo import Estimate, Figure, MonteCarlo, Share, estimate
from nameplate.fleet.outputs import OUTPUTS, compute, inputs_of
from nameplate.fleet.size import slowest
from nameplate.specs.part import Part

# The figures whose spread is traced to its inputs.
RANKED = (
    "delivered_eflops",
    "rmb_per_delivered_eflops",
    "power_mw",
    "ownership_rmb_per_year",
    "rmb_per_delivered_eflops_year",
)
# What a job on all cards of a fleet follows from, beside their number.
_OF_FLEET = ("delivered_eflops", "rmb_per_delivered_eflops", "card_sd", "measured_z")


@dataclass(frozen=True)
class Unit:
    """What one nominal EFLOPS of a part is, delivers, draws and costs.

    `shares` traces the spread of the figures in RANKED to inputs. `known` are the inputs' values, from which
    what is missing of a figure follows.
    """

    part: Part
    estimates: dict[str, Estimate]
    shares: Mapping[str, tuple[Share, ...]]
    inputs: Mapping[str, Used]
    known: dict[str, Figure] = field(repr=False)
    drawn: dict[str, Figure] = field(repr=False)

    def lacks(self, output: str) -> set[str]:
        """The inputs that a figure can't be computed without."""
        return inputs_of(output) - self.known.keys()

    def fleet(self, nominal_eflops: float, cards_exact: float | None) -> dict[str, Estimate]:
        """Every figure of a fleet of so many nominal EFLOPS, in so many cards."""
        size: dict[str, Figure] = {"nominal_eflops": nominal_eflops}
        z: dict[str, Figure] = {}
        if cards_exact is not None:
            size["cards_exact"] = cards_exact
            z["fleet_z"] = slowest(cards_exact)
        values = compute(self.known | size)
        values |= compute(self.known | values | z, of_fleet=True)
        drawn = compute(self.drawn | z, of_fleet=True)
        found = self.estimates | {name: estimate(float(values[name]), each) for name, each in drawn.items()}
        return {
            name: (each.scaled(nominal_eflops) if OUTPUTS[name].scales else each).at(float(values[name]))
            for name, each in found.items()
        }


@dataclass
class Units:
    """Units by part and chain, each drawn once."""

    listed: Catalogue
    montecarlo: MonteCarlo
    _units: dict[tuple[str, tuple[Link, ...]], Unit] = field(default_factory=dict, init=False, repr=False)

    def unit(self, part: Part, chain: Chain) -> Unit:
        """One nominal EFLOPS of the part by that chain."""
        key = (part.id, chain.links)
        if key not in self._units:
            self._units[key] = self._draw(part, chain)
        return self._units[key]

    def _draw(self, part: Part, chain: Chain) -> Unit:
        inputs = used(part, self.listed)
        known: dict[str, Figure] = {name: each.uncertain.value for name, each in inputs.items()}
        drawn = {name: self.montecarlo.draw(each.draws, each.uncertain) for name, each in inputs.items()}
        for figures in (known, drawn):
            figures["nominal_eflops"] = 1.0
            if chain.delivers and chain.devices is not None:
                figures["measured_z"] = slowest(chain.devices)
        if chain.delivers:
            known["derate"] = math.prod(link.value for link in chain.links)
            drawn["derate"] = self._derate(chain.links)
        values, outputs = compute(known), compute(drawn)
        return Unit(
            part,
            {name: estimate(float(values[name]), outputs[name]) for name in values},
            {name: self._shares(name, outputs[name], inputs, chain) for name in RANKED if name in outputs},
            inputs,
            known,
            {name: figure for name, figure in (drawn | outputs).items() if name in _OF_FLEET},
        )

    def _shares(
        self, output: str, drawn: Figure, inputs: Mapping[str, Used], chain: Chain
    ) -> tuple[Share, ...]:
        """Where the spread of an output comes from, of what it follows from."""
        needs = inputs_of(output)
        sources = [(each.name, each.draws, each.uncertain) for each in inputs.values() if each.name in needs]
        if "derate" in needs:
            sources += [(link.input, link.input, link.uncertain) for link in chain.links]
        names = {draws: name for name, draws, spread in sources if spread.law != "exact"}
        shares = self.montecarlo.shares(drawn, names)
        return tuple(Share(names[each.input], each.share) for each in shares)

    def _derate(self, links: Sequence[Link]) -> Figure:
        product: Figure = 1.0
        for link in links:
            product = product * self.montecarlo.draw(link.input, link.uncertain)
        return product
