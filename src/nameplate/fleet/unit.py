"""One nominal EFLOPS of a part: what it delivers and costs; the figures of its fleets follow from that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nameplate.chain.link import Chain, Link
from nameplate.fleet.assumptions import UsedInput, find_inputs
from nameplate.fleet.catalogues import Catalogue
from nameplate.fleet.montecarlo import DrawnInput, Estimate, MonteCarlo, Quantity, SensitivityIndex
from nameplate.fleet.outputs import OUTPUTS, compute, inputs_of, z_of_slowest
from nameplate.fleet.power import limit_inputs
from nameplate.specs.part import Part
from nameplate.stats.uncertain import Number

# The figures whose spread is traced to its inputs.
RANKED = (
    "delivered_eflops",
    "rmb_per_delivered_eflops",
    "power_mw",
    "ownership_rmb_per_year",
    "rmb_per_delivered_eflops_year",
)
# Besides the number of cards, the figures of a job on all cards of a fleet need these.
_KEPT_DRAWS = ("delivered_eflops", "rmb_per_delivered_eflops", "card_sd", "measured_z")


@dataclass(frozen=True)
class Unit:
    """What one nominal EFLOPS of a part is, delivers, draws and costs.

    `known` are the inputs' values. `sensitivity` traces the spread of the figures in RANKED to inputs.
    """

    part: Part
    inputs: Mapping[str, UsedInput]
    links: tuple[Link, ...]
    known: Mapping[str, float] = field(repr=False)
    estimates: Mapping[str, Estimate]
    sensitivity: Mapping[str, tuple[SensitivityIndex, ...]]
    kept_draws: Mapping[str, Number] = field(repr=False)

    def estimate_fleet(self, nominal_eflops: float, cards_exact: float | None) -> dict[str, Estimate]:
        """Every figure of a fleet of so many nominal EFLOPS, in so many cards."""
        z: dict[str, Number] = {} if cards_exact is None else {"fleet_z": z_of_slowest(cards_exact)}
        values = _compute_all({**self.known, **z})
        drawn = compute({**self.kept_draws, **z}, of_fleet=True)
        estimates = dict(self.estimates)
        estimates |= {name: Quantity(float(values[name]), each).estimate for name, each in drawn.items()}
        points = self.points(nominal_eflops, cards_exact)
        found = {}
        for name, each in estimates.items():
            one = each.scaled(nominal_eflops) if OUTPUTS[name].scales else each
            # A middle that is the value itself is exact, and stays so whatever the fleet's size.
            found[name] = one if each.p50 != values[name] else one.around(points[name])
        return found

    def points(self, nominal_eflops: float, cards_exact: float | None) -> dict[str, float]:
        """Every figure of a fleet of that size, at its inputs' values."""
        known: dict[str, Number] = {**self.known, "nominal_eflops": nominal_eflops}
        if cards_exact is not None:
            known |= {"cards_exact": cards_exact, "fleet_z": z_of_slowest(cards_exact)}
        return {name: float(each) for name, each in _compute_all(known).items()}

    def quantities(self, montecarlo: MonteCarlo, cards_exact: float | None) -> dict[str, Quantity]:
        """Every known figure of one nominal EFLOPS with its draws, by its name in `outputs`.

        A job on all cards runs on `cards_exact` cards. With the same number of draws and seed these are the
        draws of the estimates.
        """
        known: dict[str, Number] = {**self.known}
        draws = _draw_inputs(self.known, self.inputs, self.links, montecarlo)
        if cards_exact is not None:
            known["fleet_z"] = draws["fleet_z"] = z_of_slowest(cards_exact)
        values, drawn = _compute_all(known), _compute_all(draws)
        return {name: Quantity(float(values[name]), drawn[name]) for name in values}


def draw_unit(
    part: Part,
    chain: Chain,
    catalogue: Catalogue,
    montecarlo: MonteCarlo,
    power_limit: float | None = None,
) -> Unit:
    """Draw one nominal EFLOPS of the part by that chain; its cards may have a power limit in W."""
    inputs = limit_inputs(find_inputs(part, catalogue), power_limit)
    known = {name: each.uncertain.value for name, each in inputs.items()} | {"nominal_eflops": 1.0}
    if chain.delivers:
        known["derate"] = math.prod(link.value for link in chain.links)
        if chain.devices is not None:
            known["measured_z"] = z_of_slowest(chain.devices)
    draws = _draw_inputs(known, inputs, chain.links, montecarlo)
    values, drawn = compute(known), compute(draws)

    def rank(output: str) -> tuple[SensitivityIndex, ...]:
        needs = inputs_of(output)
        sources: list[DrawnInput] = [each for each in inputs.values() if each.name in needs]
        return montecarlo.rank_inputs(drawn[output], [*sources, *(chain.links if "derate" in needs else ())])

    return Unit(
        part,
        inputs,
        chain.links,
        known,
        {name: Quantity(float(values[name]), drawn[name]).estimate for name in values},
        {name: rank(name) for name in RANKED if name in drawn},
        {name: each for name, each in (draws | drawn).items() if name in _KEPT_DRAWS},
    )


def _draw_inputs(
    known: Mapping[str, float],
    inputs: Mapping[str, UsedInput],
    links: Sequence[Link],
    montecarlo: MonteCarlo,
) -> dict[str, Number]:
    """The known inputs with their draws; one without spread has its value."""
    draws: dict[str, Number] = {**known}
    for name, each in inputs.items():
        draws[name] = montecarlo.draw(each.draws_name, each.uncertain)
    if "derate" in known:
        draws["derate"] = math.prod(montecarlo.draw_link(link) for link in links)
    return draws


def _compute_all(known: Mapping[str, Number]) -> dict[str, Number]:
    found = compute(known)
    return found | compute({**known, **found}, of_fleet=True)
