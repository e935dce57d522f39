"""What owning a fleet costs over some years, beside renting the same cards.

    cost a year = (capex − resale ÷ (1 + rate)^years) ÷ annuity + electricity + building + upkeep
    annuity     = (1 − (1 + rate)^−years) ÷ rate
    resale      = capex × (1 − value lost a year)^years
    electricity = that of the servers × (1 + share of network and storage)
    building    = rated kW of servers, network and storage × 12 × RMB per kW and month

Capex is the full one, with fabric and spares. A card-hour is the cost a year ÷ (cards × 8,760), a busy one is
that ÷ the share of the year in use, and a PFLOP-day is the cost a year ÷ (delivered PFLOPS × 365 × that
share). Rent is paid for the hours in use alone. Buying has paid after as many months as an annuity of (rent −
electricity − building − upkeep) takes to repay capex with interest; resale isn't counted there.

The inputs besides those of `catalogues.INPUTS`, and the rents, are in data/ownership.toml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.language import N_, _
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.catalogues import Date, InputRange, NotNegative, Rmb, Text, UncertainEntry
from nameplate.fleet.montecarlo import Estimate, MonteCarlo, Quantity, montecarlo_of
from nameplate.fleet.outputs import DAYS_PER_YEAR, HOURS_PER_YEAR, PFLOPS_PER_EFLOPS
from nameplate.fleet.price import Cost, cost
from nameplate.stats.uncertain import Number, Uncertain, Written, read_uncertain

OWNERSHIP_FILE = "ownership.toml"
YEARS = (3.0, 5.0)
_LEAST_YEARS, _MOST_YEARS = 0.1, 30
_MOST_RENT = 10_000.0  # RMB a card-hour
_MONTHS = 12
_W_PER_KW = 1_000

# The inputs of ownership, which --assume sets too.
OWN_INPUTS: Mapping[str, InputRange] = MappingProxyType(
    {
        "cost_of_capital": InputRange("ratio", N_("interest a year on what was bought"), 0.001, 1),
        "value_lost_per_year": InputRange("ratio", N_("share of its price that a server loses a year"), 0, 1),
        "building_rmb_per_kw_month": InputRange(
            N_("RMB per kW and month"), N_("building or colocation, without electricity"), 0, 100_000
        ),
        "network_storage_power_share": InputRange(
            "ratio", N_("power of network and storage ÷ power of servers"), 0, 2
        ),
        "upkeep_share_per_year": InputRange("ratio", N_("staff and repair a year ÷ full capex"), 0, 1),
    }
)
# The figures: name and unit.
FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "capital_rmb_per_year": "RMB a year",
        "electricity_rmb_per_year": "RMB a year",
        "building_rmb_per_year": "RMB a year",
        "upkeep_rmb_per_year": "RMB a year",
        "cost_rmb_per_year": "RMB a year",
        "rmb_per_card_hour": "RMB",
        "rmb_per_busy_card_hour": "RMB",
        "rmb_per_pflop_day": "RMB",
        "rented_rmb_per_pflop_day": "RMB",
        "break_even_months": "months",
        "break_even_busy_share": "ratio",
        "delivered_eflops_per_mw": "EFLOPS per MW",
    }
)


class _OwnInput(UncertainEntry):
    name: Literal[
        "cost_of_capital",
        "value_lost_per_year",
        "building_rmb_per_kw_month",
        "network_storage_power_share",
        "upkeep_share_per_year",
    ]
    value: NotNegative
    basis: Literal["cited", "assumed"]
    as_of: Date
    source: Text
    note: Text | None = None


class Rent(UncertainEntry):
    """What a card-hour of a part was quoted at, on demand unless the note says otherwise."""

    figure: ClassVar[str] = "rmb_per_card_hour"

    part: Text
    rmb_per_card_hour: Rmb
    quoted: Text | None = None  # as the source has it, in its currency
    as_of: Date
    source: Text
    note: Text | None = None


class _OwnershipFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    input: tuple[_OwnInput, ...]
    rent: tuple[Rent, ...]


@cache
def load_ownership() -> _OwnershipFile:
    """The shipped inputs and rents, checked."""
    return parse_toml(_OwnershipFile, read_packaged("nameplate.fleet", OWNERSHIP_FILE), OWNERSHIP_FILE)


@dataclass(frozen=True)
class Ownership:
    """One fleet owned for so many years. A figure of `FIGURES` that isn't known is left out.

    `buying_wins` is the share of draws in which a busy card-hour costs less than its rent; None without one.
    """

    cost: Cost
    years: float
    figures: Mapping[str, Quantity]
    inputs: tuple[UsedInput, ...]
    rent: UsedInput | None
    buying_wins: float | None

    @cached_property
    def estimates(self) -> Mapping[str, Estimate]:
        """The points of each figure's draws."""
        return {name: each.estimate for name, each in self.figures.items()}

    def as_json(self) -> dict[str, Any]:
        """The row: figures with the points of their draws; null where there is none, or no end."""
        row: dict[str, Any] = {
            "fleet": self.cost.size.id,
            "part": self.cost.size.part and self.cost.size.part.id,
            "cards": self.cost.size.cards,
            "years": self.years,
            "reaches": self.cost.reaches and self.cost.reaches.value,
        }
        for name in FIGURES:
            points = self.estimates.get(name)
            for key in ("value", "p5", "p50", "p95"):
                number = None if points is None else getattr(points, key)
                column = name if key == "value" else f"{name}_{key}"
                row[column] = number if number is not None and math.isfinite(number) else None
        return {
            **row,
            "buying_wins": self.buying_wins,
            "rent": self.rent and self.rent.as_json(),
            "inputs": {each.name: each.as_json() for each in self.inputs},
            "reason": self.cost.reason,
        }


def own(
    fleets: str | Sequence[str] = (),
    *,
    part: str | Sequence[str] | None = None,
    years: Sequence[float] = YEARS,
    rent: Written | None = None,
    assume: Mapping[str, Written] | None = None,
    **options: Any,
) -> tuple[Ownership, ...]:
    """What owning these fleets costs, for each number of years in turn; options are those of `price.cost`.

    `rent` is RMB a card-hour in place of the known one; `assume` sets inputs of `OWN_INPUTS` and of `cost`.
    With a power limit the known rents, of cards without one, aren't compared.
    Raises InputError as `cost` does, for neither fleet nor part, and for years, rent or an input that can't
    be used.
    """
    if not fleets and not part:
        raise InputError("no fleet to own", got="nothing", expected="a fleet, or a part (--part PART)")
    for each in years:
        if isinstance(each, bool) or not _LEAST_YEARS <= each <= _MOST_YEARS:
            expected = f"years from {_LEAST_YEARS} to {_MOST_YEARS}"
            raise InputError("not a time", where="--years", got=each, expected=expected)
    given = dict(assume or {})
    inputs = tuple(_find_input(entry, given.pop(entry.name, None)) for entry in load_ownership().input)
    costs = cost(fleets, part=part, assume=given, **options)
    montecarlo = montecarlo_of(options)
    # The known rents are of cards at full power, which a limited one can't be compared with.
    is_limited = options.get("power_limit") is not None and rent is None
    return tuple(
        _own(priced, each, inputs, None if is_limited else _find_rent(priced, rent), montecarlo)
        for priced in costs
        for each in years
    )


def find_own_input(name: str, written: Written | None) -> UsedInput:
    """The input of `OWN_INPUTS` of that name, as it was given or as it is shipped. InputError as `own`."""
    return _find_input(next(each for each in load_ownership().input if each.name == name), written)


def _find_input(entry: _OwnInput, written: Written | None) -> UsedInput:
    known = OWN_INPUTS[entry.name]
    if written is None:
        source = f"{entry.source} ({entry.as_of})" + (f"; {entry.note}" if entry.note else "")
        return UsedInput(entry.name, known.unit, entry.uncertain, entry.basis, source, entry.name)
    where = f"--assume {entry.name}"
    number = _require_within(read_uncertain(written, where), known.least, known.most, where)
    return UsedInput(
        entry.name, known.unit, number, "given", _("given by {flag}", flag="--assume"), entry.name
    )


def _find_rent(priced: Cost, written: Written | None) -> UsedInput | None:
    unit = N_("RMB a card-hour")
    if written is not None:
        number = _require_within(read_uncertain(written, "--rent"), 0.001, _MOST_RENT, "--rent")
        return UsedInput("rent", unit, number, "given", _("given by {flag}", flag="--rent"), "rent")
    part = priced.size.part
    found = next((each for each in load_ownership().rent if part and each.part == part.id), None)
    if found is None:
        return None
    said = [found.quoted, f"{found.source} ({found.as_of})", found.note]
    source = "; ".join(each for each in said if each)
    return UsedInput("rent", unit, found.uncertain, "cited", source, f"rent ({found.part})")


def _require_within(number: Uncertain, least: float, most: float, where: str) -> Uncertain:
    if number.low < least or number.high > most:
        raise InputError(
            "a value that can't be used",
            where=where,
            got=f"{number.low:g}" if number.low == number.high else f"{number.low:g} to {number.high:g}",
            expected=f"from {least:g} to {most:g}",
        )
    return number


def _own(
    priced: Cost,
    years: float,
    inputs: tuple[UsedInput, ...],
    rent: UsedInput | None,
    montecarlo: MonteCarlo,
) -> Ownership:
    if priced.unit is None:
        return Ownership(priced, years, {}, inputs, rent, None)
    eflops = priced.size.nominal_eflops or 0.0
    quantities = priced.quantities(montecarlo)
    used = [*priced.unit.inputs.values(), *inputs, *([] if rent is None else [rent])]
    values: dict[str, Number] = {name: each.value for name, each in quantities.items()}
    draws: dict[str, Number] = {name: each.draws for name, each in quantities.items()}
    for each in used:
        values[each.name] = each.uncertain.value
        draws[each.name] = montecarlo.draw(each.draws_name, each.uncertain)
    at_values, drawn = _compute_figures(values, years, eflops), _compute_figures(draws, years, eflops)
    figures = {name: Quantity(float(at_values[name]), drawn[name]) for name in at_values}
    wins = None
    if rent is not None and "rmb_per_busy_card_hour" in drawn:
        wins = float(np.mean(np.asarray(drawn["rmb_per_busy_card_hour"] < draws["rent"], dtype=float)))
    return Ownership(priced, years, figures, inputs, rent, wins)


def _compute_figures(known: Mapping[str, Number], years: float, eflops: float) -> dict[str, Number]:
    """Every figure that can be computed, of so many nominal EFLOPS; `known` are those of one."""
    found: dict[str, Number] = {}
    if "power_mw" in known and "delivered_eflops" in known:
        power = known["power_mw"] * (1 + known["network_storage_power_share"])
        found["delivered_eflops_per_mw"] = known["delivered_eflops"] / power
    if "full_capex_rmb" not in known or "power_mw" not in known:
        return found
    rate, capex, cards = known["cost_of_capital"], known["full_capex_rmb"], known["cards_exact"]
    with_network = 1 + known["network_storage_power_share"]
    discount = (1 + rate) ** -years
    resale = capex * (1 - known["value_lost_per_year"]) ** years
    rated_kw = cards * known["tdp_w"] * known["server_power_over_gpu_power"] * with_network / _W_PER_KW
    capital = (capex - resale * discount) * rate / (1 - discount)
    electricity = known["electricity_rmb_per_year"] * with_network
    building = rated_kw * _MONTHS * known["building_rmb_per_kw_month"]
    upkeep = capex * known["upkeep_share_per_year"]
    total = capital + electricity + building + upkeep
    hour = total / (cards * HOURS_PER_YEAR)
    busy = known["busy_share"]
    found |= {
        "capital_rmb_per_year": capital * eflops,
        "electricity_rmb_per_year": electricity * eflops,
        "building_rmb_per_year": building * eflops,
        "upkeep_rmb_per_year": upkeep * eflops,
        "cost_rmb_per_year": total * eflops,
        "rmb_per_card_hour": hour,
        "rmb_per_busy_card_hour": hour / busy,
    }
    if "delivered_eflops" in known:
        pflop_days = known["delivered_eflops"] * PFLOPS_PER_EFLOPS * DAYS_PER_YEAR
        found["rmb_per_pflop_day"] = total / (pflop_days * busy)
        if "rent" in known:
            found["rented_rmb_per_pflop_day"] = known["rent"] * cards * HOURS_PER_YEAR / pflop_days
    if "rent" in known:
        found["break_even_busy_share"] = hour / known["rent"]
        rented = known["rent"] * cards * HOURS_PER_YEAR * busy
        found["break_even_months"] = _count_months(
            capex, (rented - electricity - building - upkeep) / _MONTHS, rate / _MONTHS
        )
    return found


def _count_months(debt: Number, a_month: Number, rate: Number) -> Number:
    """Months until so much a month has repaid a debt with interest: infinite where it never does."""
    interest = np.asarray(debt * rate, dtype=np.float64)
    paid = np.asarray(a_month, dtype=np.float64)
    repays = paid > interest
    left = 1 - np.divide(interest, paid, out=np.zeros(np.broadcast(interest, paid).shape), where=repays)
    months: Number = np.where(repays, -np.log(left) / np.log1p(rate), np.inf)
    return months
