"""Figures at their inputs' values with their draws, through formulas of their own; their spread in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nameplate.base.language import _
from nameplate.fleet.costs import Cost
from nameplate.fleet.montecarlo import DRAWS, Estimate, Figure, MonteCarlo, estimate
from nameplate.fleet.outputs import compute
from nameplate.fleet.size import slowest


@dataclass(frozen=True)
class Amount:
    """A figure at its inputs' values, and its draws: both go through the same formula."""

    value: float
    drawn: Figure

    def __mul__(self, other: Amount | float) -> Amount:
        by = as_amount(other)
        return Amount(self.value * by.value, self.drawn * by.drawn)

    def __truediv__(self, other: Amount | float) -> Amount:
        by = as_amount(other)
        return Amount(self.value / by.value, self.drawn / by.drawn)

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.value + other.value, self.drawn + other.drawn)

    def __pow__(self, power: float) -> Amount:
        return Amount(self.value**power, self.drawn**power)

    def floor(self) -> Amount:
        """Down to the whole one; what division leaves of a whole one in floating point is one."""
        drawn: Figure = np.floor(np.round(self.drawn, 6))
        return Amount(math.floor(round(self.value, 6)), drawn)

    @property
    def estimate(self) -> Estimate:
        """The value beside the 5 %, 50 % and 95 % of the draws."""
        return estimate(self.value, self.drawn)


def as_amount(figure: Amount | float) -> Amount:
    """An exact figure has its value in every draw."""
    return figure if isinstance(figure, Amount) else Amount(figure, figure)


def montecarlo_of(options: Mapping[str, Any]) -> MonteCarlo:
    """The draws of these options of `cost`."""
    return MonteCarlo(options.get("draws", DRAWS), options.get("seed", 0))


def amounts(fleet: Cost, montecarlo: MonteCarlo) -> dict[str, Amount]:
    """Every known figure of one nominal EFLOPS of a fleet's part, by its name in `outputs`.

    The pace of a job on all cards is that of a fleet of this size. An input's draws follow from its name,
    their number and the seed, so these are the draws that priced the fleet.
    """
    if fleet.unit is None:
        return {}
    known = dict(fleet.unit.known)
    drawn = known | {
        name: montecarlo.draw(each.draws, each.uncertain) for name, each in fleet.unit.inputs.items()
    }
    if "derate" in known:
        drawn["derate"] = _product([montecarlo.draw(link.input, link.uncertain) for link in fleet.chain])
    if fleet.cards_exact is not None:
        known["fleet_z"] = drawn["fleet_z"] = slowest(fleet.cards_exact)
    values, draws = (_computed(figures) for figures in (known, drawn))
    return {name: Amount(float(values[name]), draws[name]) for name in values}


def _computed(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    found = compute(figures)
    return found | compute({**figures, **found}, of_fleet=True)


def _product(factors: Sequence[Figure]) -> Figure:
    product: Figure = 1.0
    for factor in factors:
        product = product * factor
    return product


def nine_in_ten(found: Estimate, form: Callable[[float], str]) -> str:
    """` (nine draws in ten: 50,154 to 54,642)`; nothing for a figure without spread."""
    low, high = form(found.p5), form(found.p95)
    return "" if low == high else _(" (nine draws in ten: {low} to {high})", low=low, high=high)
