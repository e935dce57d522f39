"""The what-if panel of the page: fleets, inputs and formulas as JSON, by which `assets/whatif.js` computes.

The formulas are those of `fleet.outputs`, translated; the script adds none of its own, and says no word that
isn't in the JSON. What-if figures are points: the panel draws nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal

from nameplate.base.formatting import figure, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.fleet.assumptions import CARDS_PER_SERVER, UsedInput
from nameplate.fleet.catalogues import INPUTS, InputRange
from nameplate.fleet.expression import Tree, translate
from nameplate.fleet.montecarlo import Unit
from nameplate.fleet.outputs import OUTPUTS, z_of_slowest
from nameplate.fleet.price import Cost
from nameplate.specs.part import shorten
from nameplate.stats.uncertain import Uncertain, exact

Group = Literal["price", "derates", "more"]


@dataclass(frozen=True)
class Figure:
    """One row of results: an output, its name, and how it is printed: as what kind of `formatting`.

    `text` has the place of the number; counts are rounded up to whole ones. `better` says which way is
    cheaper. `headline` says it in the sentence above the table.
    """

    name: str
    label: str
    text: str = "{value}"
    kind: Literal["figure", "count", "rmb"] = "figure"
    better: Literal["more", "less"] | None = None
    headline: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The row, in the language that is spoken."""
        said = {"label": _(self.label), "text": _(self.text), "headline": self.headline and _(self.headline)}
        return asdict(self) | said


def _rmb(name: str, label: str, headline: str | None = None) -> Figure:
    return Figure(name, label, kind="rmb", better="less", headline=headline)


FIGURES = (
    Figure(
        "delivered_eflops",
        N_("Delivered EFLOPS"),
        better="more",
        headline=N_("{value} EFLOPS delivered"),
    ),
    Figure("cards_exact", N_("Cards"), kind="count"),
    Figure("servers_exact", N_("Servers in service"), kind="count"),
    _rmb("capex_rmb", N_("Servers alone (bare capex)")),
    _rmb("rmb_per_nominal_eflops", N_("Bare capex per nominal EFLOPS")),
    _rmb(
        "rmb_per_delivered_eflops",
        N_("Bare capex per delivered EFLOPS"),
        N_("{value} of servers for each"),
    ),
    Figure("power_mw", N_("Average power"), N_("{value} MW"), better="less", headline="{value}"),
    _rmb("full_capex_rmb", N_("With fabric and spares (full capex)")),
    _rmb("ownership_rmb_per_year", N_("A year of ownership")),
    _rmb("rmb_per_delivered_eflops_year", N_("A delivered EFLOPS-year")),
    _rmb("rmb_per_pflop_day", N_("A delivered PFLOP-day"), N_("{value} a delivered PFLOP-day")),
)

# The inputs of those figures, in the order in which they are offered; the fleet's size stays.
_LABELS: Mapping[str, tuple[Group, str]] = MappingProxyType(
    {
        "server_rmb": ("price", N_("Price of a server of {cards} cards")),
        "electricity_rmb_per_kwh": ("price", N_("Electricity")),
        "pue": ("price", N_("PUE")),
        "average_draw_over_tdp": ("price", N_("Average draw")),
        "depreciation_years": ("price", N_("Written off over")),
        "busy_share": ("more", N_("In use")),
        "tdp_w": ("more", N_("TDP of a card")),
        "server_power_over_gpu_power": ("more", N_("Rated power of a server")),
        "fabric_price_factor": ("more", N_("Fabric")),
        "spare_nodes": ("more", N_("Spares")),
        "opex_share_per_year": ("more", N_("Operation")),
    }
)
# What no assumption sets: it has no most.
_CITED: Mapping[str, InputRange] = MappingProxyType(
    {
        "server_rmb": InputRange("RMB", N_("what one server was quoted at"), 1, math.inf),
        "tdp_w": InputRange("W", N_("rated power of one card"), 1, math.inf),
    }
)
_BASES: Mapping[str, str] = MappingProxyType(
    {
        "cited": N_("cited"),
        "assumed": N_("assumed"),
        "measured": N_("measured"),
        "published": N_("published"),
        "modelled": N_("modelled"),
    }
)
_UNPRICED = (100_000.0, 5_000_000.0, 50_000.0)
_LEAST_RATIO, _RATIO_STEP = 0.001, 0.005


@dataclass(frozen=True)
class Control:
    """An input that the panel can change: its value in the model, what it may be, and where that is from.

    `slider` has from, to and step; a number field takes all from `least` to `most` (None: no most). `value`
    is None where the model has none; `brings` are values that are known only with it.
    """

    name: str
    group: Group
    label: str
    hint: str
    unit: str
    value: float | None
    source: str
    least: float
    most: float | None
    slider: tuple[float, float, float]
    brings: Mapping[str, float] = field(default_factory=dict)


def panel(costs: Sequence[Cost]) -> dict[str, Any] | None:
    """What the panel shows and computes by, as JSON; None where no fleet has a part, a chain and a size."""
    fleets = [_fleet(cost, cost.unit) for cost in _shown(costs) if cost.unit is not None]
    if not fleets:
        return None
    return {
        "words": _words(),
        "formulas": formulas(),
        "figures": [each.as_json() for each in FIGURES],
        "fleets": fleets,
        "first": max(range(len(fleets)), key=lambda index: _known(fleets[index])),
    }


def formulas() -> list[dict[str, Any]]:
    """Every output's name, unit, needs and tree; what an output needs comes before it."""
    ordered = sorted(OUTPUTS.values(), key=lambda output: output.of_fleet)
    return [
        {"name": each.name, "unit": each.unit, "needs": list(each.needs), "tree": translate(each.formula)}
        for each in ordered
    ]


def product(factors: Sequence[Tree]) -> Tree:
    """Factors multiplied from the left, as `math.prod` does it."""
    return reduce(lambda before, factor: ["*", before, factor], factors)


def script_json(data: object) -> str:
    """JSON for a `<script>` of the page: whatever its strings hold, none of them ends the script."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _words() -> dict[str, Any]:
    """Every word that the panel says of itself; the script fills the places."""
    return {
        "heading": _("What if?"),
        "introduction": _("Change an input, and the figures follow by the model's own formulas."),
        "points": _(
            "What-if figures are points, without an interval: each is computed from one value of every input."
        ),
        "noscript": _("This panel needs JavaScript; the rest of the page doesn't."),
        "fleet": _("Fleet"),
        "reset": _("Back to the model"),
        "groups": {
            "price": _("Price and power"),
            "derates": _("Derates"),
            "more": _("More inputs"),
        },
        "sources": _("Where the model's inputs come from"),
        "figure": _("figure"),
        "model": _("as the model has it"),
        "what_if": _("what if"),
        "change": _("change"),
        "unknown": _("not known"),
        "none": _("none"),
        "refused": _("Takes a number from {least} to {most}."),
        "refused_above": _("Takes a number from {least} on."),
        "untouched": _("{fleet}: every figure is as the model has it."),
        "unread": _("{fleet}: an input can't be used, so what follows from it isn't known."),
        "changed": _("{fleet}, what if: {figures}."),
        "headline": _("{figure} ({change})"),
        "between": _(", "),
        "rmb": _("RMB {value}"),
        "rmb_millions": _("RMB {value} M"),
    }


def _shown(costs: Sequence[Cost]) -> Iterator[Cost]:
    """Every fleet that delivers something known; a mix of parts as if it were all of each of them."""
    for cost in chain.from_iterable(each.mix or (each,) for each in costs):
        if cost.size.part is not None and cost.derate is not None and cost.size.nominal_eflops is not None:
            yield cost


def _known(fleet: Mapping[str, Any]) -> int:
    return sum(value is not None for value in fleet["model"].values())


def _fleet(cost: Cost, unit: Unit) -> dict[str, Any]:
    controls = [*_inputs(cost, unit), *_derates(cost)]
    changing = {control.name for control in controls}
    return {
        "id": plain(cost.size.id),
        "name": plain(_(cost.size.name)),
        "label": _label(cost, unit),
        "part": unit.part.id,
        "known": {name: value for name, value in _size(cost, unit).items() if name not in changing},
        "controls": [asdict(control) for control in controls],
        "rated": _rated(cost.chain[0]),
        "derate": product(list(_factors(cost))),
        "model": {name: cost.value(name) for name in OUTPUTS},
    }


def _label(cost: Cost, unit: Unit) -> str:
    size, part = figure(cost.size.nominal_eflops), plain(shorten(unit.part.name))
    return _("{name}: {eflops} EFLOPS of {part}", name=plain(_(cost.size.name)), eflops=size, part=part)


def _size(cost: Cost, unit: Unit) -> dict[str, Any]:
    """What the fleet's figures follow from, its own size among it; the derate is the chain's."""
    known = {**unit.known, "nominal_eflops": cost.size.nominal_eflops}
    del known["derate"]
    if cost.size.cards_exact is not None:
        known |= {"cards_exact": cost.size.cards_exact, "fleet_z": z_of_slowest(cost.size.cards_exact)}
    return known


def _inputs(cost: Cost, unit: Unit) -> Iterator[Control]:
    """The inputs of power and money; a price that isn't known may be given. None where cards aren't known."""
    if cost.size.cards_exact is None:
        return
    for name in _LABELS:
        if name in unit.inputs:
            cards = None if cost.price is None else cost.price.cards_per_server
            yield _input(unit.inputs[name], cards)
        elif name == "server_rmb":
            yield _unpriced()


def _input(used: UsedInput, cards: int | None) -> Control:
    may, how = INPUTS.get(used.name) or _CITED[used.name], _(_BASES[used.basis])
    return Control(
        used.name,
        _LABELS[used.name][0],
        _named(used.name, may, cards),
        _hint(_(may.meaning), used.uncertain, how),
        _unit(may),
        used.uncertain.value,
        _said(how, used.source),
        may.least,
        None if math.isinf(may.most) else may.most,
        _slider(used.uncertain, may.least, may.most),
    )


def _unpriced() -> Control:
    """The price of a server of a part that has none; with it, the cards of a server are known as well."""
    may = _CITED["server_rmb"]
    return Control(
        "server_rmb",
        "price",
        _named("server_rmb", may, CARDS_PER_SERVER),
        _("{meaning}; the model has none for this part", meaning=_(may.meaning)),
        _unit(may),
        None,
        "",
        may.least,
        None,
        _UNPRICED,
        {"cards_per_server": CARDS_PER_SERVER},
    )


def _named(name: str, may: InputRange, cards: int | None) -> str:
    """`Electricity, RMB per kWh`; a ratio has no unit."""
    said, unit = _(_LABELS[name][1], cards=cards), _unit(may)
    return _("{name}, {unit}", name=said, unit=unit) if unit else said


def _unit(may: InputRange) -> str:
    return "" if may.unit == "ratio" else _(may.unit)


def _derates(cost: Cost) -> Iterator[Control]:
    """The links of the chain after its ratings, and goodput as one more where the chain ends before it."""
    for name, link in zip(_link_names(cost), cost.chain[1:], strict=True):
        how = _(_BASES[link.provenance])
        hint = _hint(_("what is left of {stage}", stage=link.from_), link.uncertain, how)
        yield _ratio(name, link.span, hint, link.uncertain, _said(how, _source(link)), None)
    if _lacks_goodput(cost):
        hint = _(
            "useful ÷ elapsed time, as one more factor: the model's chain ends at {stage}, before it",
            stage=cost.reaches,
        )
        yield _ratio("goodput", _("Goodput"), hint, exact(1.0), "", 1.0)


def _ratio(name: str, label: str, hint: str, spread: Uncertain, source: str, most: float | None) -> Control:
    slider = (_RATIO_STEP, max(1.0, _on(math.ceil, spread.high, _RATIO_STEP)), _RATIO_STEP)
    return Control(name, "derates", label, hint, "", spread.value, source, _LEAST_RATIO, most, slider)


def _factors(cost: Cost) -> Iterator[Tree]:
    """The chain's factors: the ratio of ratings as it is, the others by the names of their controls."""
    yield cost.chain[0].value
    yield from _link_names(cost)
    if _lacks_goodput(cost):
        yield "goodput"


def _link_names(cost: Cost) -> list[str]:
    return [f"link_{place}" for place in range(1, len(cost.chain))]


def _lacks_goodput(cost: Cost) -> bool:
    return cost.reaches is not Stage.GOODPUT


def _rated(link: Link) -> str:
    """What is said of the first link, which stays as it is: it's a ratio of two ratings."""
    value, how = stated(link.value), _(_BASES[link.provenance])
    return _("{span}: {value}, a ratio of two ratings, {how}", span=link.span, value=value, how=how)


def _source(link: Link) -> str:
    """Whose figure it is, of what, and where it stands."""
    return "; ".join(each for each in (link.id or link.run, link.scope, link.source) if each)


def _said(how: str, source: str) -> str:
    return _("{how}: {source}", how=how, source=plain(source))


def _hint(meaning: str, spread: Uncertain, how: str) -> str:
    """`what a kilowatt-hour costs; the model has 0.65, from 0.35 to 0.95, assumed`."""
    value, low, high = map(stated, (spread.value, spread.low, spread.high))
    if spread.law == "exact":
        return _("{meaning}; the model has {value}, {how}", meaning=meaning, value=value, how=how)
    return _(
        "{meaning}; the model has {value}, from {low} to {high}, {how}",
        meaning=meaning,
        value=value,
        low=low,
        high=high,
        how=how,
    )


def _slider(spread: Uncertain, least: float, most: float) -> tuple[float, float, float]:
    """From, to and step: half to double, or twice as far as the ends where those are farther out."""
    value = spread.value
    low = max(min(value / 2, 2 * spread.low - value), least)
    high = min(max(2 * value, 2 * spread.high - value), most)
    if not low < high:  # the value is the least there can be
        low, high = least, most
    step = _step((high - low) / 100)
    return _on(math.ceil, low, step), _on(math.floor, high, step), step


def _step(about: float) -> float:
    """The largest of 1, 2 and 5 × a power of ten that isn't above `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return round(power * next(each for each in (5, 2, 1) if each * power <= about * (1 + 1e-9)), 12)


def _on(rounded: Callable[[float], int], value: float, step: float) -> float:
    """A multiple of the step beside the value; what division leaves of one in floating point isn't beside."""
    return round(rounded(round(value / step, 6)) * step, 12)
