"""Every figure of a fleet, one function each: its name, unit and formula, and in a docstring its meaning.

A function's parameters are the names of inputs and of other figures. It takes plain numbers and arrays of
draws alike. A figure is left out if one of its parameters isn't known.

The figures that `scale` are proportional to the size of the fleet. So figures are drawn once, for one nominal
EFLOPS of a part, and then multiplied by a fleet's nominal EFLOPS.

There are two views of money. The *bare* one (`capex_rmb`) is the price of the servers only, as the article
counts. The *full* one adds fabric and spares, and for each year electricity and operation.
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
    """One figure of a fleet: its formula, and the names of the formula's parameters (`needs`).

    `scales`: it is proportional to the fleet's nominal EFLOPS. `of_fleet`: it depends on the number of cards
    in another way.
    """

    name: str
    unit: str
    needs: tuple[str, ...]
    formula: Callable[..., Number]
    scales: bool
    of_fleet: bool


OUTPUTS: dict[str, Output] = {}
_Formula = TypeVar("_Formula", bound=Callable[..., Number])


def _output(unit: str, *, scales: bool = False, of_fleet: bool = False) -> Callable[[_Formula], _Formula]:
    def register(formula: _Formula) -> _Formula:
        needs = tuple(inspect.signature(formula).parameters)
        name = formula.__name__
        OUTPUTS[name] = Output(name, unit, needs, formula, scales, of_fleet)
        return formula

    return register


def compute(known: Mapping[str, Number], *, of_fleet: bool = False) -> dict[str, Number]:
    """Every figure that is in `known` or can be computed from it.

    Without `of_fleet`, the figures that don't depend on the number of cards; with it, the others.
    """
    found: dict[str, Number] = dict(known)
    for output in OUTPUTS.values():
        if output.name in found or output.of_fleet != of_fleet:
            continue
        if all(need in found for need in output.needs):
            found[output.name] = output.formula(*(found[need] for need in output.needs))
    return {name: found[name] for name in OUTPUTS if name in found and OUTPUTS[name].of_fleet == of_fleet}


def inputs_of(name: str) -> set[str]:
    """The inputs that a figure is computed from, directly or through other figures; of an input, itself."""
    if name not in OUTPUTS:
        return {name}
    return set[str]().union(*(inputs_of(need) for need in OUTPUTS[name].needs))


def z_of_slowest(cards: float) -> float:
    """How many standard deviations below the median the slowest of n independent cards is expected.

    Blom's approximation for a normal law, Φ⁻¹((n − 0.375) ÷ (n + 0.25)) (Statistical Estimates and
    Transformed Beta-Variables, 1958): 0 for one card, 1.43 for 8, 3.9 for 10,000.
    """
    return float(ndtri((cards - 0.375) / (cards + 0.25)))


def _exp(power: Number) -> Number:
    raised: Number = np.exp(power)
    return raised


# Size and what is delivered


@_output("cards", scales=True)
def cards_exact(nominal_eflops: Number, nominal_tflops: Number) -> Number:
    """Nominal EFLOPS ÷ nominal of one card, not rounded to whole cards."""
    return nominal_eflops * TFLOPS_PER_EFLOPS / nominal_tflops


@_output("servers", scales=True)
def servers_exact(cards_exact: Number, cards_per_server: Number) -> Number:
    """Cards ÷ cards of one server, not rounded to whole servers."""
    return cards_exact / cards_per_server


@_output("EFLOPS", scales=True)
def delivered_eflops(nominal_eflops: Number, derate: Number) -> Number:
    """Nominal EFLOPS × every derate of the chain."""
    return nominal_eflops * derate


@_output("cards")
def cards_per_delivered_eflops(cards_exact: Number, delivered_eflops: Number) -> Number:
    """Cards that deliver one EFLOPS."""
    return cards_exact / delivered_eflops


@_output("EFLOPS", scales=True)
def independent_eflops(delivered_eflops: Number, card_sd: Number, measured_z: Number) -> Number:
    """Delivered EFLOPS if every card works alone, so that the mean card counts.

    The chain was measured at the pace of the slowest of several cards, z standard deviations below the
    median. The mean of a lognormal law is e^(sd × z + sd² ÷ 2) times that.
    """
    return delivered_eflops * _exp(card_sd * measured_z + card_sd * card_sd / 2)


# The bare view: servers, as the article counts


@_output("RMB", scales=True)
def capex_rmb(servers_exact: Number, server_rmb: Number) -> Number:
    """Servers, not rounded, × price of one: before fabric, spares and power."""
    return servers_exact * server_rmb


@_output("USD", scales=True)
def capex_usd(capex_rmb: Number, rmb_per_usd: Number) -> Number:
    """The same in USD, at the dated exchange rate."""
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
    """The same in USD, at the dated exchange rate."""
    return rmb_per_delivered_eflops / rmb_per_usd


@_output("RMB")
def independent_rmb_per_delivered_eflops(capex_rmb: Number, independent_eflops: Number) -> Number:
    """Bare capex ÷ the EFLOPS that cards deliver alone."""
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
    """Cards × TDP × (server rating ÷ its cards' TDP) × (average draw ÷ rating) × PUE; spares are off."""
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
    """The same in USD, at the dated exchange rate."""
    return full_capex_rmb / rmb_per_usd


@_output("RMB")
def full_rmb_per_delivered_eflops(full_capex_rmb: Number, delivered_eflops: Number) -> Number:
    """Full capex ÷ delivered EFLOPS."""
    return full_capex_rmb / delivered_eflops


@_output("RMB a year", scales=True)
def depreciation_rmb_per_year(full_capex_rmb: Number, depreciation_years: Number) -> Number:
    """Full capex ÷ years: straight line, no residual value, no interest."""
    return full_capex_rmb / depreciation_years


@_output("RMB a year", scales=True)
def opex_rmb_per_year(full_capex_rmb: Number, opex_share_per_year: Number) -> Number:
    """Full capex × the share of it that a year's operation costs, electricity not included."""
    return full_capex_rmb * opex_share_per_year


@_output("RMB a year", scales=True)
def ownership_rmb_per_year(
    depreciation_rmb_per_year: Number, electricity_rmb_per_year: Number, opex_rmb_per_year: Number
) -> Number:
    """Depreciation + electricity + operation."""
    return depreciation_rmb_per_year + electricity_rmb_per_year + opex_rmb_per_year


@_output("USD a year", scales=True)
def ownership_usd_per_year(ownership_rmb_per_year: Number, rmb_per_usd: Number) -> Number:
    """The same in USD, at the dated exchange rate."""
    return ownership_rmb_per_year / rmb_per_usd


@_output("RMB")
def rmb_per_delivered_eflops_year(
    ownership_rmb_per_year: Number, delivered_eflops: Number, busy_share: Number
) -> Number:
    """Ownership a year ÷ (delivered EFLOPS × share of the year that the fleet is in use)."""
    return ownership_rmb_per_year / (delivered_eflops * busy_share)


@_output("USD")
def usd_per_delivered_eflops_year(rmb_per_delivered_eflops_year: Number, rmb_per_usd: Number) -> Number:
    """The same in USD, at the dated exchange rate."""
    return rmb_per_delivered_eflops_year / rmb_per_usd


@_output("RMB")
def rmb_per_pflop_day(rmb_per_delivered_eflops_year: Number) -> Number:
    """Ownership of 1 PFLOPS delivered for a day (8.64 × 10^19 FLOP)."""
    return rmb_per_delivered_eflops_year / (PFLOPS_PER_EFLOPS * DAYS_PER_YEAR)


@_output("USD")
def usd_per_pflop_day(rmb_per_pflop_day: Number, rmb_per_usd: Number) -> Number:
    """The same in USD, at the dated exchange rate."""
    return rmb_per_pflop_day / rmb_per_usd


# A synchronous job on all cards of a fleet


@_output("EFLOPS", scales=True, of_fleet=True)
def gang_eflops(delivered_eflops: Number, card_sd: Number, measured_z: Number, fleet_z: Number) -> Number:
    """EFLOPS delivered to one synchronous job on all cards, at the pace of the slowest card.

    The slowest is expected z standard deviations below the median, both in the fleet and among the cards that
    the chain was measured on: delivered × e^(sd × (z measured − z fleet)).
    """
    return delivered_eflops * _exp(card_sd * (measured_z - fleet_z))


@_output("RMB", of_fleet=True)
def gang_rmb_per_delivered_eflops(
    rmb_per_delivered_eflops: Number, delivered_eflops: Number, gang_eflops: Number
) -> Number:
    """Bare capex ÷ the EFLOPS that one synchronous job on all cards gets."""
    return rmb_per_delivered_eflops * (delivered_eflops / gang_eflops)
