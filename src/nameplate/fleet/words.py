"""The chain in one sentence: what one nominal EFLOPS of a part delivers, and what that costs."""

from __future__ import annotations

import math
import re
from itertools import groupby

from nameplate.base.formatting import count, figure, money, ratio, rmb, stated
from nameplate.base.language import _
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.costs import Cost
from nameplate.fleet.size import DTYPE
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
        cards=count(cards),
        tflops=stated(cost.card_tflops),
        derate=ratio(cost.derate),
        work=_work(cost.chain[-1]),
        factors=_factors(cost),
    )
    if cost.price is None or cost.rmb_per_delivered_eflops is None:
        return _("{said}; no price of a server of it is known.", said=said)
    return _(
        "{said}; at RMB {server} per {cards}-card server that is {price} per delivered EFLOPS.",
        said=said,
        server=stated(cost.price.server_rmb),
        cards=cost.price.cards_per_server,
        price=rmb(cost.rmb_per_delivered_eflops),
    )


def whole_servers(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the part is in servers and RMB, by the card and in whole servers."""
    if cost.price is None or cost.card_tflops is None:
        return None
    servers = 1e6 / cost.card_tflops / cost.price.cards_per_server
    whole = math.ceil(round(servers, 6))
    return _(
        "That EFLOPS is {exact} servers, RMB {exact_millions} M; in whole ones {whole}, RMB "
        "{whole_millions} M.",
        exact=stated(servers),
        exact_millions=stated(servers * cost.price.server_rmb / 1e6),
        whole=count(whole),
        whole_millions=stated(whole * cost.price.server_rmb / 1e6),
    )


def ownership(cost: Cost) -> str | None:
    """What owning one delivered EFLOPS of the part costs a year, with the range of nine draws in ten."""
    year, day = (cost.estimates.get(name) for name in ("rmb_per_delivered_eflops_year", "rmb_per_pflop_day"))
    power = cost.estimates.get("mw_per_delivered_eflops")
    if year is None or day is None or power is None or None in (year.value, day.value, power.value):
        return None
    return _(
        "With fabric, spares, electricity and operation one delivered EFLOPS costs {year} a year (nine draws "
        "in ten: {year_low} to {year_high}), {day} a PFLOP-day ({day_low} to {day_high}), and draws {mw} MW "
        "({mw_low} to {mw_high}).",
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


def _work(last: Link) -> str:
    """`published 8-GPU training of a 7B model`."""
    reached = _(last.to.work)
    if last.provenance in ("measured", "assumed", "modelled"):
        return _("{stage}, {how}", stage=reached, how=_(last.provenance))
    if last.to is not Stage.SCALED:
        return _("{stage}, as published", stage=reached)
    model = _MODEL.match(last.scope or "")
    training = _("training of a {model} model", model=model[1]) if model else _("training")
    if last.n_to:
        return _("published {count}-GPU {training}", count=count(last.n_to), training=training)
    return _("published {training}", training=training)


def _factors(cost: Cost) -> str:
    """`A100: 0.642 of 312`: each source's share of the chain, from the datasheet's figure on."""
    shares = [
        (source, math.prod(link.value for link in group))
        for source, group in groupby(cost.chain[1:], key=_origin)
    ]
    said = _(", then ").join(_("{name}: {said}", name=source, said=ratio(value)) for source, value in shares)
    peak = stated(cost.part.datasheet[DTYPE].value if cost.part else None)
    if len(shares) == 1:
        return _("{shares} of {peak}", shares=said, peak=peak)
    together = ratio(math.prod(value for _source, value in shares))
    return _("{shares}; together {all} of {peak}", shares=said, all=together, peak=peak)


def _origin(link: Link) -> str:
    if link.provenance == "published":
        return short(link.device or "")
    return _("run {run}", run=link.run) if link.run else _(link.provenance)
