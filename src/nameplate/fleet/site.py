"""What a site of so many MW holds of a part, and the power limit at which its cards deliver most.

    W of a card = (limit + TDP × (server rating ÷ its cards' TDP − 1)) × (1 + network and storage) × PUE
    cards       = site ÷ that, with every card at its limit
    delivered   = cards × nominal × derate × speed at the limit

A lower limit lets more cards in, each of them slower, while the rest of their servers draws as before. The
speed is known where somebody measured it (`power`); a part without a curve is planned at its TDP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, figure, percent, rmb, stated
from nameplate.base.language import _
from nameplate.fleet.catalogues import MOST_CARDS
from nameplate.fleet.describe import describe_range
from nameplate.fleet.montecarlo import Estimate, Quantity, as_quantity, find_shares_of_largest
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS, W_PER_MW
from nameplate.fleet.ownership import find_own_input
from nameplate.fleet.plan import PlannedPart, estimate_columns, find_parts, pricing_columns
from nameplate.fleet.power import explain_no_speed, find_curve
from nameplate.fleet.price import Cost, Pricer, PricingOptions
from nameplate.fleet.size import round_up
from nameplate.stats.uncertain import Written

# The figures of a site.
SITE_FIGURES = ("cards_exact", "delivered_eflops", "capex_rmb", "rmb_per_delivered_eflops")
_SHARE = "network_storage_power_share"
_STEP_W = 25
_LEAST_MW, _MOST_MW = 1e-3, 1e6


@dataclass(frozen=True)
class AtLimit:
    """What the site holds with so many W a card. `first_in`: the share of draws in which it delivers most."""

    limit_w: float
    fleet: Cost
    estimates: Mapping[str, Estimate]
    first_in: float

    @property
    def cards(self) -> int | None:
        """Whole cards, in half of the draws."""
        found = self.estimates.get("cards_exact")
        return None if found is None or found.p50 is None else int(found.p50)


@dataclass(frozen=True)
class SitePlan:
    """What a site holds of one part: at its best limit, and at every limit that was tried.

    `at` is empty where the part's power isn't known; `unlimited` says why only the TDP was tried.
    """

    site_mw: float
    part: PlannedPart
    one_eflops: Cost
    at: tuple[AtLimit, ...]
    unlimited: str | None
    reason: str | None

    @property
    def best(self) -> AtLimit | None:
        """The limit that delivers most in the middle of the draws."""
        known = [each for each in self.at if "delivered_eflops" in each.estimates]
        return max(known, key=_delivered, default=None)

    @property
    def usual(self) -> AtLimit | None:
        """The largest limit, which is the TDP unless another was asked for."""
        return max(self.at, key=lambda each: each.limit_w, default=None)

    @property
    def fleet(self) -> Cost:
        """The fleet at the best limit; one EFLOPS of the part where none is known."""
        return self.one_eflops if self.best is None else self.best.fleet

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The figures at the best limit."""
        return {} if self.best is None else self.best.estimates

    @property
    def sentence(self) -> str | None:
        """What the site holds and delivers, and what a limit gains, in words."""
        best, usual = self.best, self.usual
        if best is None or usual is None:
            return None
        delivered = best.estimates["delivered_eflops"]
        said = _(
            "A site of {mw} MW holds {cards} cards of {part} at {limit} W each, delivering {eflops} "
            "EFLOPS{range}",
            mw=stated(self.site_mw),
            cards=count(best.cards),
            part=_(self.fleet.size.name),
            limit=stated(best.limit_w),
            eflops=figure(delivered.value),
            range=describe_range(delivered, figure),
        )
        capex = best.estimates.get("capex_rmb")
        if capex is not None:
            said = _("{said}, with {rmb} of servers", said=said, rmb=rmb(capex.p50))
        if best is usual:
            if self.unlimited is None:
                return _("{said}: no lower limit delivers more.", said=said)
            return _("{said}.", said=said)
        return _(
            "{said}. That is {more} more than {cards} cards at {limit} W{priced}.",
            said=said,
            more=percent(_delivered(best) / _delivered(usual) - 1),
            cards=count(usual.cards),
            limit=stated(usual.limit_w),
            priced=self._price_of_usual(usual),
        )

    def _price_of_usual(self, usual: AtLimit) -> str:
        capex = usual.estimates.get("capex_rmb")
        return "" if capex is None else _(", which take {rmb} of servers", rmb=rmb(capex.p50))

    def as_json(self) -> dict[str, Any]:
        """The site as a JSON row; what isn't known is null."""
        best = self.best
        return {
            "part": self.part.part.id,
            "site_mw": self.site_mw,
            "power_limit_w": None if best is None else best.limit_w,
            "cards": None if best is None else best.cards,
            "first_in": None if best is None else best.first_in,
            **estimate_columns(SITE_FIGURES, self.estimates),
            "at": [
                {
                    "power_limit_w": each.limit_w,
                    "cards": each.cards,
                    "first_in": each.first_in,
                    **estimate_columns(SITE_FIGURES, each.estimates),
                }
                for each in self.at
            ],
            "unlimited": self.unlimited,
            **pricing_columns(self.fleet),
            "sentence": self.sentence,
            "reason": self.reason,
        }


def _delivered(each: AtLimit) -> float:
    found = each.estimates.get("delivered_eflops")
    return 0.0 if found is None else found.p50 or 0.0


def fill_site(
    site_mw: float, part: str | Sequence[str] = (), **options: Unpack[PricingOptions]
) -> tuple[SitePlan, ...]:
    """What a site of so many MW holds of each part, the one that delivers most first; options as for `cost`.

    The MW are those of the site, cooling included. With a `power_limit` only that is tried. Without a part,
    the plan is made for every part with a known price, and those that published runs trained on. Raises
    InputError as `cost` does, and for a site that can't be.
    """
    if isinstance(site_mw, bool) or not _LEAST_MW <= site_mw <= _MOST_MW:
        expected = f"MW from {_LEAST_MW:g} to {_MOST_MW:g}"
        raise InputError("not the power of a site", where="--site-mw", got=site_mw, expected=expected)
    assume: dict[str, Written] = dict(options.get("assume") or {})
    share = find_own_input(_SHARE, assume.pop(_SHARE, None))
    options["assume"] = assume
    pricer, parts = find_parts(part, options)
    network = as_quantity(1.0) + Quantity(
        share.uncertain.value, pricer.montecarlo.draw(share.draws_name, share.uncertain)
    )
    plans = [_fill(site_mw, each, pricer, network) for each in parts]
    return tuple(sorted(plans, key=lambda plan: -_delivered(plan.best) if plan.best else 1.0))


def _fill(site_mw: float, part: PlannedPart, pricer: Pricer, network: Quantity) -> SitePlan:
    limits, unlimited = _limits_of(part, pricer.choice.power_limit)
    fleet = pricer.price(part.size(None))
    tried = [_hold(site_mw, part, limit, pricer, network) for limit in limits]
    known = [(at, delivered) for at, delivered in tried if delivered is not None]
    if known:
        shares = find_shares_of_largest([delivered for _at, delivered in known])
        at = tuple(replace(each, first_in=share) for (each, _), share in zip(known, shares, strict=True))
        return SitePlan(site_mw, part, fleet, at, unlimited, at[0].fleet.reason)
    reason = fleet.reason
    if part.part.tdp_w is not None and fleet.reaches:
        reason = _("no site of {mw} MW holds one server of it", mw=stated(site_mw))
    return SitePlan(site_mw, part, fleet, (), unlimited, reason)


def _limits_of(part: PlannedPart, asked: float | None) -> tuple[tuple[float, ...], str | None]:
    """The limits to try, and why there is none but the TDP."""
    tdp, curve = part.part.tdp_w, find_curve(part.part)
    if asked is not None:
        return (asked,), None
    if tdp is None:
        return (), None
    if curve is None:
        return (tdp.value,), explain_no_speed(part.part)
    steps = range(0, int(tdp.value), _STEP_W)
    return tuple(sorted({tdp.value, *(float(each) for each in steps if each >= curve.least)})), None


def _hold(
    site_mw: float, part: PlannedPart, limit_w: float, pricer: Pricer, network: Quantity
) -> tuple[AtLimit, Quantity | None]:
    """What the site holds at that limit, with what it delivers in each draw."""
    limited = replace(pricer, choice=replace(pricer.choice, power_limit=limit_w), units={})
    one = limited.price(part.size(None))
    empty = AtLimit(limit_w, one, {}, 0.0)
    if one.unit is None or one.size.card_tflops is None:
        return empty, None
    drawn = {
        name: Quantity(each.uncertain.value, limited.montecarlo.draw(each.draws_name, each.uncertain))
        for name, each in one.unit.inputs.items()
    }
    needs = ("tdp_w", "server_power_over_gpu_power", "pue")
    if any(name not in drawn for name in needs):
        return empty, None
    watts = drawn["tdp_w"] * drawn["server_power_over_gpu_power"] * network * drawn["pue"]
    cards = (as_quantity(site_mw * W_PER_MW) / watts).floor()
    whole = round_up(cards.estimate.p50)
    if not whole or whole > MOST_CARDS:
        return empty, None
    nominal = limited.price(part.size(whole * one.size.card_tflops / TFLOPS_PER_EFLOPS))
    each = nominal.quantities(limited.montecarlo)
    if "delivered_eflops" not in each:
        return empty, None
    of_one = cards / each["cards_exact"]  # of one nominal EFLOPS
    found = {"cards_exact": cards, "delivered_eflops": of_one * each["delivered_eflops"]}
    if "capex_rmb" in each:
        found["capex_rmb"] = of_one * each["capex_rmb"]
        found["rmb_per_delivered_eflops"] = each["rmb_per_delivered_eflops"]
    estimates = {name: each.estimate for name, each in found.items()}
    return AtLimit(limit_w, nominal, estimates, 0.0), found["delivered_eflops"]
