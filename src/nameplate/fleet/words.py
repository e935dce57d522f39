"""The chain in one sentence: what one nominal EFLOPS of a part delivers, and what that costs."""

from __future__ import annotations

import math
import re
from itertools import groupby
from typing import TYPE_CHECKING

from nameplate.fleet.links import DTYPE, Derate

if TYPE_CHECKING:
    from nameplate.fleet.costs import Cost

_VENDOR = re.compile(r"^(NVIDIA|AMD|Intel|Huawei|Google) ")
_SIZE = re.compile(r" (SXM\d?|\d+GB)\b")
_MODEL = re.compile(r"^\D*?(\d+(?:\.\d+)?B)\b")
_MEASURED = {
    "gemm": "its best matrix product",
    "gemm_burst": "its best matrix product, from cool",
    "gemm_sustained": "its best matrix product, settled",
    "gemm_model": "a model's own matrix products",
    "block": "a transformer block, forward and backward",
    "step": "a whole training step",
    "scaled": "training on several devices",
    "goodput": "training, interruptions included",
}


def short(name: str) -> str:
    """`NVIDIA A800 SXM4 80GB` as people say it: `A800`; a PCIe card keeps its PCIe."""
    return _SIZE.sub("", _VENDOR.sub("", name))


def sentence(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the fleet's part delivers and costs; None where that isn't known."""
    if cost.part is None or cost.derate is None or cost.card_tflops is None:
        return None
    cards = math.ceil(round(1e6 / cost.card_tflops, 6))
    said = (
        f"One nominal EFLOPS of {short(cost.part.name)} ({cards:,} cards at {cost.card_tflops:g}) delivers "
        f"{cost.derate:.3f} EFLOPS in {_work(cost.chain[-1])} ({_factors(cost)})"
    )
    if cost.price is None or cost.rmb_per_delivered_eflops is None:
        return f"{said}; no price of a server of it is known."
    return (
        f"{said}; at RMB {cost.price.server_rmb:,.0f} per {cost.price.cards_per_server}-card server that is "
        f"RMB {cost.rmb_per_delivered_eflops / 1e6:,.0f} M per delivered EFLOPS."
    )


def whole_servers(cost: Cost) -> str | None:
    """What one nominal EFLOPS of the part is in servers and RMB, by the card and in whole servers."""
    if cost.price is None or cost.card_tflops is None:
        return None
    exact = 1e6 / cost.card_tflops / cost.price.cards_per_server
    whole = math.ceil(round(exact, 6))
    return (
        f"That EFLOPS is {exact:,.1f} servers, RMB {exact * cost.price.server_rmb / 1e6:,.1f} M; in whole "
        f"ones {whole:,}, RMB {whole * cost.price.server_rmb / 1e6:,.2f} M."
    )


def ownership(cost: Cost) -> str | None:
    """What owning one delivered EFLOPS of the part costs a year, with the range of nine draws in ten."""
    year, day = (cost.estimates.get(name) for name in ("rmb_per_delivered_eflops_year", "rmb_per_pflop_day"))
    power = cost.estimates.get("mw_per_delivered_eflops")
    if year is None or day is None or power is None or None in (year.value, day.value, power.value):
        return None
    return (
        "With fabric, spares, electricity and operation one delivered EFLOPS costs RMB "
        f"{_millions(year.value)} M a year (nine draws in ten: {_millions(year.p5)} to "
        f"{_millions(year.p95)} M), RMB {day.value:,.0f} a PFLOP-day ({day.p5:,.0f} to {day.p95:,.0f}), and "
        f"draws {power.value:.1f} MW ({power.p5:.1f} to {power.p95:.1f})."
    )


def _millions(rmb: float | None) -> str:
    return "–" if rmb is None else f"{rmb / 1e6:,.0f}"


def _work(last: Derate) -> str:
    """`published 8-GPU training of a 7B model`."""
    if last.provenance in ("measured", "assumed", "modelled"):
        return f"{_MEASURED.get(last.to, last.to)}, {last.provenance}"
    if last.to == "scaled":
        model = _MODEL.match(last.scope or "")
        of = f" of a {model[1]} model" if model else ""
        return f"published {f'{last.n_to:,}-GPU ' if last.n_to else ''}training{of}"
    return f"{_MEASURED.get(last.to, last.to)}, as published"


def _factors(cost: Cost) -> str:
    """`A100: 0.642 of 312`: each source's share of the chain, from the datasheet's figure on."""
    shares = [
        (source, math.prod(link.value for link in group))
        for source, group in groupby(cost.chain[1:], key=_origin)
    ]
    said = ", then ".join(f"{source}: {value:.3f}" for source, value in shares)
    peak = f"{cost.part.datasheet[DTYPE].value:g}" if cost.part else "–"
    together = f"; together {math.prod(value for _, value in shares):.3f}" if len(shares) > 1 else ""
    return f"{said}{together} of {peak}"


def _origin(link: Derate) -> str:
    if link.provenance == "published":
        return short(link.device or "")
    return f"run {link.run}" if link.run else link.provenance
