"""The chain in one sentence: what one nominal EFLOPS of a part delivers, and what that costs."""

from __future__ import annotations

import math
import re
from itertools import groupby

from nameplate.derate.stage import Stage
from nameplate.fleet.costs import Cost
from nameplate.fleet.links import DTYPE, Derate
from nameplate.language import _
from nameplate.specs.part import short

_MODEL = re.compile(r"^\D*?(\d+(?:\.\d+)?B)\b")


def sentence(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the fleet's part delivers and costs; None where that isn't known."""
    if cost.part is None or cost.derate is None or cost.card_tflops is None:
        return None
    cards = math.ceil(round(1e6 / cost.card_tflops, 6))
    said = _(
        "One nominal EFLOPS of {part} ({cards} cards at {tflops}) delivers {derate} EFLOPS in {work} "
        "({factors})",
        part=short(cost.part.name),
        cards=f"{cards:,}",
        tflops=f"{cost.card_tflops:g}",
        derate=f"{cost.derate:.3f}",
        work=_work(cost.chain[-1]),
        factors=_factors(cost),
    )
    if cost.price is None or cost.rmb_per_delivered_eflops is None:
        return _("{said}; no price of a server of it is known.", said=said)
    return _(
        "{said}; at RMB {server} per {cards}-card server that is RMB {millions} M per delivered EFLOPS.",
        said=said,
        server=f"{cost.price.server_rmb:,.0f}",
        cards=cost.price.cards_per_server,
        millions=f"{cost.rmb_per_delivered_eflops / 1e6:,.0f}",
    )


def whole_servers(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the part is in servers and RMB, by the card and in whole servers."""
    if cost.price is None or cost.card_tflops is None:
        return None
    exact = 1e6 / cost.card_tflops / cost.price.cards_per_server
    whole = math.ceil(round(exact, 6))
    return _(
        "That EFLOPS is {exact} servers, RMB {exact_millions} M; in whole ones {whole}, RMB "
        "{whole_millions} M.",
        exact=f"{exact:,.1f}",
        exact_millions=f"{exact * cost.price.server_rmb / 1e6:,.1f}",
        whole=f"{whole:,}",
        whole_millions=f"{whole * cost.price.server_rmb / 1e6:,.2f}",
    )


def ownership(cost: Cost) -> str | None:
    """What owning one delivered EFLOPS of the part costs a year, with the range of nine draws in ten."""
    year, day = (cost.estimates.get(name) for name in ("rmb_per_delivered_eflops_year", "rmb_per_pflop_day"))
    power = cost.estimates.get("mw_per_delivered_eflops")
    if year is None or day is None or power is None or None in (year.value, day.value, power.value):
        return None
    return _(
        "With fabric, spares, electricity and operation one delivered EFLOPS costs RMB {year} M a year (nine "
        "draws in ten: {year_low} to {year_high} M), RMB {day} a PFLOP-day ({day_low} to {day_high}), and "
        "draws {mw} MW ({mw_low} to {mw_high}).",
        year=_millions(year.value),
        year_low=_millions(year.p5),
        year_high=_millions(year.p95),
        day=f"{day.value:,.0f}",
        day_low=f"{day.p5:,.0f}",
        day_high=f"{day.p95:,.0f}",
        mw=f"{power.value:.1f}",
        mw_low=f"{power.p5:.1f}",
        mw_high=f"{power.p95:.1f}",
    )


def _millions(rmb: float | None) -> str:
    return "–" if rmb is None else f"{rmb / 1e6:,.0f}"


def _work(last: Derate) -> str:
    """`published 8-GPU training of a 7B model`."""
    reached = _(last.to.work)
    if last.provenance in ("measured", "assumed", "modelled"):
        return _("{stage}, {how}", stage=reached, how=_(last.provenance))
    if last.to is not Stage.SCALED:
        return _("{stage}, as published", stage=reached)
    model = _MODEL.match(last.scope or "")
    training = _("training of a {model} model", model=model[1]) if model else _("training")
    if last.n_to:
        return _("published {count}-GPU {training}", count=f"{last.n_to:,}", training=training)
    return _("published {training}", training=training)


def _factors(cost: Cost) -> str:
    """`A100: 0.642 of 312`: each source's share of the chain, from the datasheet's figure on."""
    shares = [
        (source, math.prod(link.value for link in group))
        for source, group in groupby(cost.chain[1:], key=_origin)
    ]
    said = _(", then ").join(
        _("{name}: {said}", name=source, said=f"{value:.3f}") for source, value in shares
    )
    peak = f"{cost.part.datasheet[DTYPE].value:g}" if cost.part else "–"
    if len(shares) == 1:
        return _("{shares} of {peak}", shares=said, peak=peak)
    together = f"{math.prod(value for _source, value in shares):.3f}"
    return _("{shares}; together {all} of {peak}", shares=said, all=together, peak=peak)


def _origin(link: Derate) -> str:
    if link.provenance == "published":
        return short(link.device or "")
    return _("run {run}", run=link.run) if link.run else _(link.provenance)
