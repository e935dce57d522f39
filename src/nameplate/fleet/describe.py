"""Sentences about a priced fleet: what one EFLOPS of its part delivers, takes and costs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import groupby

from nameplate.base.formatting import count, figure, money, ratio, rmb, stated
from nameplate.base.language import _
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.outputs import TFLOPS_PER_EFLOPS
from nameplate.fleet.price import Cost
from nameplate.fleet.size import DTYPE, round_up
from nameplate.specs.part import Part, shorten

_MODEL = re.compile(r"^\D*?(\d+(?:\.\d+)?B)\b")


def describe_fleet(cost: Cost) -> str | None:
    """What the whole fleet delivers and costs; None where it is one EFLOPS, or that isn't known."""
    delivered, nominal = cost.estimates.get("delivered_eflops"), cost.size.nominal_eflops
    if delivered is None or delivered.p50 is None or nominal is None or math.isclose(nominal, 1):
        return None
    said = _(
        "{fleet} ({cards} cards) delivers {delivered} EFLOPS{range} of {nominal} nominal",
        fleet=_(cost.size.name),
        cards=count(cost.size.cards),
        delivered=figure(delivered.p50),
        nominal=figure(nominal),
        range=describe_range(delivered, figure),
    )
    capex = cost.estimates.get("capex_rmb")
    if capex is None or capex.p50 is None:
        return _("{said}.", said=said)
    return _("{said}; its servers cost {rmb}.", said=said, rmb=rmb(capex.p50))


def describe_delivered(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the fleet's part delivers and costs; None if that isn't known."""
    part, card_tflops = cost.size.part, cost.size.card_tflops
    delivered, nominal = cost.estimates.get("delivered_eflops"), cost.size.nominal_eflops
    if part is None or delivered is None or nominal is None or card_tflops is None:
        return None
    each = delivered.scaled(1 / nominal)
    said = _(
        "One nominal EFLOPS of {part} ({cards} cards at {tflops}) delivers {derate} EFLOPS{range} in {work} "
        "({factors})",
        part=part.short_name,
        cards=count(round_up(TFLOPS_PER_EFLOPS / card_tflops)),
        tflops=stated(card_tflops),
        derate=ratio(each.p50),
        range=describe_range(each, ratio),
        work=_describe_work(cost.chain[-1]),
        factors=_describe_factors(cost.chain, _peak_tflops(part, cost.chain)),
    )
    price = cost.estimates.get("rmb_per_delivered_eflops")
    if cost.price is None or price is None:
        return _("{said}; the price of its servers isn't known.", said=said)
    return _(
        "{said}; at RMB {server} per {cards}-card server that is {price}{range} per delivered EFLOPS.",
        said=said,
        server=stated(cost.price.server_rmb),
        cards=cost.price.cards_per_server,
        price=rmb(price.p50),
        range=describe_range(price, money),
    )


def describe_servers(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the part is in servers and RMB: exactly, and in whole servers."""
    if cost.price is None or cost.size.card_tflops is None:
        return None
    servers = TFLOPS_PER_EFLOPS / cost.size.card_tflops / cost.price.cards_per_server
    whole = math.ceil(round(servers, 6))
    return _(
        "One nominal EFLOPS takes {exact} servers (RMB {exact_millions} M), or {whole} whole servers "
        "(RMB {whole_millions} M).",
        exact=stated(servers),
        exact_millions=stated(servers * cost.price.server_rmb / 1e6),
        whole=count(whole),
        whole_millions=stated(whole * cost.price.server_rmb / 1e6),
    )


def describe_ownership(cost: Cost) -> str | None:
    """What owning one delivered EFLOPS of the part costs a year, with the range of nine draws in ten."""
    year, day = (cost.estimates.get(name) for name in ("rmb_per_delivered_eflops_year", "rmb_per_pflop_day"))
    power = cost.estimates.get("mw_per_delivered_eflops")
    if year is None or day is None or power is None or None in (year.value, day.value, power.value):
        return None
    return _(
        "With fabric, spares, electricity and operation one delivered EFLOPS costs {year} a year (nine draws "
        "in ten: {year_low} to {year_high}) and draws {mw} MW ({mw_low} to {mw_high}); one delivered PFLOPS "
        "costs {day} a day ({day_low} to {day_high}).",
        year=rmb(year.value),
        year_low=money(year.p5),
        year_high=money(year.p95),
        day=rmb(day.value),
        day_low=money(day.p5),
        day_high=money(day.p95),
        mw=figure(power.value),
        mw_low=figure(power.p5),
        mw_high=figure(power.p95),
    )


def describe_range(estimate: Estimate, formatter: Callable[[float], str]) -> str:
    """` (nine draws in ten: 50,154 to 54,642)`; an empty text for a figure without spread."""
    low, high = formatter(estimate.p5), formatter(estimate.p95)
    return "" if low == high else _(" (nine draws in ten: {low} to {high})", low=low, high=high)


def _peak_tflops(part: Part, chain: tuple[Link, ...]) -> float:
    """The datasheet's figure that the chain goes on from: that of fp8 where the work is in fp8."""
    return part.datasheet.get(chain[1].dtype, part.datasheet[DTYPE]).value


def _describe_work(last: Link) -> str:
    """`published 8-GPU training of a 7B model`."""
    reached = _(last.to.work)
    if last.provenance == "modelled" and last.to is Stage.SCALED:
        return _("training of {what}", what=last.scope)
    if last.provenance in ("measured", "assumed", "modelled"):
        return _("{stage}, {how}", stage=reached, how=_(last.provenance))
    if last.to is not Stage.SCALED:
        return _("{stage}, as published", stage=reached)
    model = _MODEL.match(last.scope or "")
    training = _("training of a {model} model", model=model[1]) if model else _("training")
    if last.n_to:
        return _("published {count}-GPU {training}", count=count(last.n_to), training=training)
    return _("published {training}", training=training)


def _describe_factors(chain: tuple[Link, ...], peak_tflops: float) -> str:
    """`A100: 0.642 of 312`: what each source's links leave, from the datasheet's figure on."""
    by_source = groupby(chain[1:], key=_name_source)
    ratios = [(source, math.prod(link.value for link in links)) for source, links in by_source]
    said = _(", then ").join(_("{name}: {said}", name=source, said=ratio(each)) for source, each in ratios)
    peak = stated(peak_tflops)
    if len(ratios) == 1:
        return _("{shares} of {peak}", shares=said, peak=peak)
    together = ratio(math.prod(each for _source, each in ratios))
    return _("{shares}; together {all} of {peak}", shares=said, all=together, peak=peak)


def _name_source(link: Link) -> str:
    if link.provenance == "published":
        return shorten(link.device or "")
    if link.provenance == "modelled" and link.to is Stage.SCALED:
        return _("model of MFU")
    return _("run {run}", run=link.run) if link.run else _(link.provenance)
