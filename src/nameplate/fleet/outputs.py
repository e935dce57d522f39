"""Every figure of a fleet as one formula: its unit, what it follows from, and what it means.

A formula's parameters are the names of inputs and of other outputs, so that it reads like the equation it is.
It takes plain numbers and arrays of draws alike. What can't be computed, because something it follows from
isn't known, is left out.

The formulas hold for a fleet of any size; `scales` says which figures are proportional to it. So they are
drawn once, for one nominal EFLOPS of a part, and a fleet is that many times its nominal EFLOPS.

Two views of money stand beside each other: the *bare* one (`capex_rmb`) is the price of the servers alone, as
the article counts; the *full* one adds fabric and spares, and over the years electricity and operation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtri

from nameplate.stats.uncertain import Number

TFLOPS_PER_EFLOPS = 1_000_000
PFLOPS_PER_EFLOPS = 1_000
HOURS_PER_YEAR = 8_760
DAYS_PER_YEAR = 365
W_PER_MW = 1_000_000
KW_PER_MW = 1_000


@dataclass(frozen=True)
class Output:
    """One figure of a fleet: what it follows from, and by what formula.

    `of_fleet`: it depends on the number of cards in other ways than by proportion.
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    formula: Callable[..., Number]
    scales: bool
    of_fleet: bool


OUTPUTS: dict[str, Output] = {}
_Formula = TypeVar("_Formula", bound=Callable[..., Number])


def _output(unit: str, *, scales: bool = False, of_fleet: bool = False) -> Callable[[_Formula], _Formula]:
    def register(formula: _Formula) -> _Formula:
        meaning = " ".join((formula.__doc__ or "").split())
        needs = tuple(inspect.signature(formula).parameters)
        name = formula.__name__
        OUTPUTS[name] = Output(name, unit, meaning, needs, formula, scales, of_fleet)
        return formula

    return register


def compute(known: Mapping[str, Number], *, of_fleet: bool = False) -> dict[str, Number]:
    """Every output that is known or follows from what is; those `of_fleet` need its number of cards too."""
    found: dict[str, Number] = dict(known)
    for output in OUTPUTS.values():
        if output.name in found or output.of_fleet != of_fleet:
            continue
        if all(need in found for need in output.needs):
            found[output.name] = output.formula(*(found[need] for need in output.needs))
    return {name: found[name] for name in OUTPUTS if name in found and OUTPUTS[name].of_fleet == of_fleet}


def inputs_of(name: str) -> set[str]:
    """The inputs that an output follows from, in the end; an input follows from itself."""
    if name not in OUTPUTS:
        return {name}
    return set[str]().union(*(inputs_of(need) for need in OUTPUTS[name].needs))


def z_of_slowest(cards: float) -> float:
    """How many standard deviations the slowest of so many like, independent cards is below the middle one.

    Blom's approximation of the expected extreme of a normal law, Φ⁻¹((n − 0.375) ÷ (n + 0.25)) (Statistical
    Estimates and Transformed Beta-Variables, 1958): 0 for one card, 1.43 for 8, 3.9 for 10,000.
    """
    return float(ndtri((cards - 0.375) / (cards + 0.25)))


def _exp(power: Number) -> Number:
    raised: Number = np.exp(power)
    return raised


# Size and what is delivered


@_output("cards", scales=True)
def cards_exact(nominal_eflops: Number, nominal_tflops: Number) -> Number:
    """Nominal EFLOPS ÷ the nominal of one card, with the fraction that leaves."""
    return nominal_eflops * TFLOPS_PER_EFLOPS / nominal_tflops


@_output("servers", scales=True)
def servers_exact(cards_exact: Number, cards_per_server: Number) -> Number:
    """Cards ÷ cards of one server, with its fraction."""
    return cards_exact / cards_per_server


@_output("EFLOPS", scales=True)
def delivered_eflops(nominal_eflops: Number, derate: Number) -> Number:
    """Nominal × every derate of the chain."""
    return nominal_eflops * derate


@_output("cards")
def cards_per_delivered_eflops(cards_exact: Number, delivered_eflops: Number) -> Number:
    """Cards that deliver one EFLOPS: the way back from a need."""
    return cards_exact / delivered_eflops


@_output("EFLOPS", scales=True)
def independent_eflops(delivered_eflops: Number, card_sd: Number, measured_z: Number) -> Number:
    """Delivered when every card works by itself, at the mean card's pace.

    The chain's figure is of the slowest of the cards it was measured on, z deviations below the middle one;
    the mean of a lognormal law is e^(sd × z + sd² ÷ 2) above that.
    """
    return delivered_eflops * _exp(card_sd * measured_z + card_sd * card_sd / 2)


# The bare view: servers, as the article counts


@_output("RMB", scales=True)
def capex_rmb(servers_exact: Number, server_rmb: Number) -> Number:
    """Servers, with their fraction, × the price of one: before fabric, spares and power."""
    return servers_exact * server_rmb


@_output("USD", scales=True)
def capex_usd(capex_rmb: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return capex_rmb / rmb_per_usd


@_output("RMB")
def rmb_per_nominal_eflops(capex_rmb: Number, nominal_eflops: Number) -> Number:
    """Bare capex ÷ nominal EFLOPS."""
    return capex_rmb / nominal_eflops


@_output("RMB")
def rmb_per_delivered_eflops(capex_rmb: Number, delivered_eflops: Number) -> Number:
    """Bare capex ÷ delivered EFLOPS."""
    return capex_rmb / delivered_eflops


@_output("USD")
def usd_per_delivered_eflops(rmb_per_delivered_eflops: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return rmb_per_delivered_eflops / rmb_per_usd


@_output("RMB")
def independent_rmb_per_delivered_eflops(capex_rmb: Number, independent_eflops: Number) -> Number:
    """Bare capex ÷ what the cards deliver each by itself: the price at the mean card."""
    return capex_rmb / independent_eflops


# Power


@_output("MW", scales=True)
def power_mw(
    cards_exact: Number,
    tdp_w: Number,
    server_power_over_gpu_power: Number,
    average_draw_over_tdp: Number,
    pue: Number,
) -> Number:
    """Cards × TDP × the server's rating over its cards' × average draw over rating × PUE; spares are off."""
    return cards_exact * tdp_w * server_power_over_gpu_power * average_draw_over_tdp * pue / W_PER_MW


@_output("MW")
def mw_per_delivered_eflops(power_mw: Number, delivered_eflops: Number) -> Number:
    """Average power ÷ delivered EFLOPS."""
    return power_mw / delivered_eflops


@_output("RMB a year", scales=True)
def electricity_rmb_per_year(power_mw: Number, electricity_rmb_per_kwh: Number) -> Number:
    """Average power × 8,760 h × the tariff."""
    return power_mw * KW_PER_MW * HOURS_PER_YEAR * electricity_rmb_per_kwh


# The full view: what owning the fleet costs


@_output("RMB", scales=True)
def full_capex_rmb(capex_rmb: Number, fabric_price_factor: Number, spare_nodes: Number) -> Number:
    """Bare capex × fabric × (1 + spares)."""
    return capex_rmb * fabric_price_factor * (1 + spare_nodes)


@_output("USD", scales=True)
def full_capex_usd(full_capex_rmb: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return full_capex_rmb / rmb_per_usd


@_output("RMB")
def full_rmb_per_delivered_eflops(full_capex_rmb: Number, delivered_eflops: Number) -> Number:
    """Full capex ÷ delivered EFLOPS."""
    return full_capex_rmb / delivered_eflops


@_output("RMB a year", scales=True)
def depreciation_rmb_per_year(full_capex_rmb: Number, depreciation_years: Number) -> Number:
    """Full capex ÷ the years it is written off over: straight line, nothing left at the end, no interest."""
    return full_capex_rmb / depreciation_years


@_output("RMB a year", scales=True)
def opex_rmb_per_year(full_capex_rmb: Number, opex_share_per_year: Number) -> Number:
    """Full capex × the share of it that operation without electricity costs a year."""
    return full_capex_rmb * opex_share_per_year


@_output("RMB a year", scales=True)
def ownership_rmb_per_year(
    depreciation_rmb_per_year: Number, electricity_rmb_per_year: Number, opex_rmb_per_year: Number
) -> Number:
    """Depreciation + electricity + operation."""
    return depreciation_rmb_per_year + electricity_rmb_per_year + opex_rmb_per_year


@_output("USD a year", scales=True)
def ownership_usd_per_year(ownership_rmb_per_year: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return ownership_rmb_per_year / rmb_per_usd


@_output("RMB")
def rmb_per_delivered_eflops_year(
    ownership_rmb_per_year: Number, delivered_eflops: Number, busy_share: Number
) -> Number:
    """A year of ownership ÷ (delivered EFLOPS × the share of the year they are in use)."""
    return ownership_rmb_per_year / (delivered_eflops * busy_share)


@_output("USD")
def usd_per_delivered_eflops_year(rmb_per_delivered_eflops_year: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return rmb_per_delivered_eflops_year / rmb_per_usd


@_output("RMB")
def rmb_per_pflop_day(rmb_per_delivered_eflops_year: Number) -> Number:
    """The same for 1 PFLOPS delivered over a day (8.64 × 10^19 FLOP)."""
    return rmb_per_delivered_eflops_year / (PFLOPS_PER_EFLOPS * DAYS_PER_YEAR)


@_output("USD")
def usd_per_pflop_day(rmb_per_pflop_day: Number, rmb_per_usd: Number) -> Number:
    """The same in dollars at the dated rate."""
    return rmb_per_pflop_day / rmb_per_usd


# A job on every card of a fleet


@_output("EFLOPS", scales=True, of_fleet=True)
def gang_eflops(delivered_eflops: Number, card_sd: Number, measured_z: Number, fleet_z: Number) -> Number:
    """Delivered to one job on all cards, at the slowest card's pace.

    It is expected z deviations below the middle one, in the fleet as on the cards that the chain was measured
    on: delivered × e^(sd × (z measured − z fleet)).
    """
    return delivered_eflops * _exp(card_sd * (measured_z - fleet_z))


@_output("RMB", of_fleet=True)
def gang_rmb_per_delivered_eflops(
    rmb_per_delivered_eflops: Number, delivered_eflops: Number, gang_eflops: Number
) -> Number:
    """Bare capex ÷ what one job on all cards gets: the price at the slowest card."""
    return rmb_per_delivered_eflops * (delivered_eflops / gang_eflops)
