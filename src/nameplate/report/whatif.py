"""The what-if panel of the page: fleets, inputs and formulas as JSON, from which `whatif.js` computes.

The formulas are those of `fleet.outputs`, translated, and every text of the panel is in the JSON: the script
has no formula and no text of its own. The panel draws nothing: a what-if figure is that of the tables (the
middle of its draws) × the formulas at the changed inputs ÷ at the model's. So a reader finds one number for
one thing, in the tables and in the panel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from types import MappingProxyType
from typing import Any, Literal

from nameplate.base.formatting import figure, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.stage import Stage
from nameplate.fleet.assumptions import CARDS_PER_SERVER
from nameplate.fleet.catalogues import INPUTS, InputRange
from nameplate.fleet.expression import Tree, translate
from nameplate.fleet.outputs import OUTPUTS, z_of_slowest
from nameplate.fleet.price import Cost
from nameplate.fleet.unit import Unit
from nameplate.stats.uncertain import Uncertain, exact

Group = Literal["price", "derates", "more"]


@dataclass(frozen=True)
class ResultRow:
    """One row of results: an output, its label, and its kind of number, which says how it is printed.

    `text` has the place of the number; counts are rounded up. `better` says which way is cheaper, for the
    colour of a change. `headline` is the row's clause in the sentence above the table.
    """

    name: str
    label: str
    text: str = "{value}"
    kind: Literal["figure", "count", "rmb"] = "figure"
    better: Literal["more", "less"] | None = None
    headline: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The row, in the reader's language."""
        headline = None if self.headline is None else _(self.headline)
        return {**asdict(self), "label": _(self.label), "text": _(self.text), "headline": headline}


def _rmb_row(name: str, label: str, headline: str | None = None) -> ResultRow:
    return ResultRow(name, label, kind="rmb", better="less", headline=headline)


RESULTS = (
    ResultRow(
        "delivered_eflops",
        N_("Delivered EFLOPS"),
        better="more",
        headline=N_("{value} EFLOPS delivered"),
    ),
    ResultRow("cards_exact", N_("Cards"), kind="count"),
    ResultRow("servers_exact", N_("Servers in service"), kind="count"),
    _rmb_row("capex_rmb", N_("Servers (bare capex)")),
    _rmb_row("rmb_per_nominal_eflops", N_("Bare capex per nominal EFLOPS")),
    _rmb_row(
        "rmb_per_delivered_eflops",
        N_("Bare capex per delivered EFLOPS"),
        N_("{value} of servers per delivered EFLOPS"),
    ),
    ResultRow("power_mw", N_("Average power"), N_("{value} MW"), better="less", headline="{value}"),
    _rmb_row("full_capex_rmb", N_("With fabric and spares (full capex)")),
    _rmb_row("ownership_rmb_per_year", N_("A year of ownership")),
    _rmb_row("rmb_per_delivered_eflops_year", N_("One delivered EFLOPS for a year")),
    _rmb_row(
        "rmb_per_pflop_day",
        N_("One delivered PFLOPS for a day"),
        N_("{value} for one delivered PFLOPS for a day"),
    ),
)

# The inputs of those figures, in the order in which they are offered. The size of the fleet stays.
_INPUT_LABELS: Mapping[str, tuple[Group, str]] = MappingProxyType(
    {
        "server_rmb": ("price", N_("Price of a server of {cards} cards")),
        "electricity_rmb_per_kwh": ("price", N_("Electricity")),
        "pue": ("price", N_("PUE")),
        "average_draw_over_tdp": ("price", N_("Average draw")),
        "depreciation_years": ("price", N_("Depreciated over")),
        "busy_share": ("more", N_("Share of the year in use")),
        "tdp_w": ("more", N_("TDP of a card")),
        "server_power_over_gpu_power": ("more", N_("Rated power of a server")),
        "fabric_price_factor": ("more", N_("Fabric")),
        "spare_nodes": ("more", N_("Spares")),
        "opex_share_per_year": ("more", N_("Operation")),
    }
)
_RANGES: Mapping[str, InputRange] = MappingProxyType(
    {
        **INPUTS,
        "server_rmb": InputRange("RMB", N_("what one server was quoted at"), 1, math.inf),
        "tdp_w": InputRange("W", N_("rated power of one card"), 1, math.inf),
    }
)
_UNPRICED_SLIDER = (100_000.0, 5_000_000.0, 50_000.0)
_LEAST_RATIO, _RATIO_STEP = 0.001, 0.005


@dataclass(frozen=True)
class Control:
    """An input that the panel can change: its value in the model, its range, and its source.

    `slider` has from, to and step; the number field takes everything from `least` to `most` (None: no most).
    `value` is None where the model has none; `brings` are values that are known only together with it.
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


def make_panel(costs: Sequence[Cost]) -> dict[str, Any] | None:
    """The panel as JSON; None where no fleet has a part, a chain and a size.

    A mix of parts is shown once for each part, as if the fleet were all of that part.
    """
    pure = [each for cost in costs for each in (cost.mix or (cost,))]
    fleets = [_fleet(cost, cost.unit) for cost in pure if cost.unit is not None and _delivers(cost)]
    if not fleets:
        return None
    known = [sum(value is not None for value in fleet["model"].values()) for fleet in fleets]
    return {
        "words": _words(),
        "formulas": translate_outputs(),
        "figures": [each.as_json() for each in RESULTS],
        "fleets": fleets,
        "first": known.index(max(known)),
    }


def translate_outputs() -> list[dict[str, Any]]:
    """Every output's name, unit, needs and tree; what an output needs comes before it."""
    ordered = sorted(OUTPUTS.values(), key=lambda output: output.of_fleet)
    return [
        {"name": each.name, "unit": each.unit, "needs": list(each.needs), "tree": translate(each.formula)}
        for each in ordered
    ]


def multiply(factors: Sequence[Tree]) -> Tree:
    """The tree of a product, multiplied from the left, as `math.prod` does it."""
    return reduce(lambda before, factor: ["*", before, factor], factors)


def script_json(data: object) -> str:
    """JSON for a `<script>` of the page: no string in it can end the script."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _words() -> dict[str, Any]:
    """The panel's own texts; the script fills their places."""
    return {
        "heading": _("What if?"),
        "introduction": _("Change an input, and the figures follow by the model's own formulas."),
        "points": _(
            "A what-if figure has no interval: it is the model's figure, the middle of its draws, times what "
            "the change makes of its formula."
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
        "unread": _("{fleet}: an input can't be used, so the figures that need it aren't known."),
        "changed": _("{fleet}, what if: {figures}."),
        "headline": _("{figure} ({change})"),
        "between": _(", "),
        "rmb": _("RMB {value}"),
        "rmb_millions": _("RMB {value} M"),
    }


def _delivers(cost: Cost) -> bool:
    return cost.size.part is not None and cost.derate is not None and cost.size.nominal_eflops is not None


def _fleet(cost: Cost, unit: Unit) -> dict[str, Any]:
    name, cards, rating = plain(_(cost.size.name)), cost.size.cards_exact, cost.chain[0]
    eflops, part = figure(cost.size.nominal_eflops), plain(unit.part.short_name)
    known = {**unit.known, "nominal_eflops": cost.size.nominal_eflops}
    if cards is not None:
        known |= {"cards_exact": cards, "fleet_z": z_of_slowest(cards)}
    derates = list(_derate_controls(cost))
    controls = [*_input_controls(cost, unit), *derates]
    # The script computes the derate, from the first link, which stays, and from the controls of the others.
    changing = {"derate", *(control.name for control in controls)}
    return {
        "id": plain(cost.size.id),
        "name": name,
        "label": _("{name}: {eflops} EFLOPS of {part}", name=name, eflops=eflops, part=part),
        "part": unit.part.id,
        "known": {name: value for name, value in known.items() if name not in changing},
        "controls": [asdict(control) for control in controls],
        "rated": _(
            "{span}: {value}, a ratio of two ratings, {how}",
            span=rating.span,
            value=stated(rating.value),
            how=_(rating.provenance),
        ),
        "derate": multiply([rating.value, *(control.name for control in derates)]),
        "model": {name: cost.value(name) for name in OUTPUTS},
    }


def _input_controls(cost: Cost, unit: Unit) -> Iterator[Control]:
    """The inputs of power and money; none where the cards aren't known."""
    if cost.size.cards_exact is None:
        return
    cards = CARDS_PER_SERVER if cost.price is None else cost.price.cards_per_server
    for name, (group, text) in _INPUT_LABELS.items():
        used, limits = unit.inputs.get(name), _RANGES[name]
        label, meaning = _(text, cards=cards), _(limits.meaning)
        unit_text = "" if limits.unit == "ratio" else _(limits.unit)
        if unit_text:
            label = _("{name}, {unit}", name=label, unit=unit_text)
        most = None if math.isinf(limits.most) else limits.most
        if used is not None:
            how, spread = _(used.basis), used.uncertain
            hint, source = _hint(meaning, spread, how), _describe_source(how, used.source)
            slider = _slider(spread, limits.least, limits.most)
            yield Control(
                name, group, label, hint, unit_text, spread.value, source, limits.least, most, slider
            )
        elif name == "server_rmb":
            hint = _("{meaning}; the model has none for this part", meaning=meaning)
            # A price that the user gives is of a server of so many cards.
            brings = {"cards_per_server": CARDS_PER_SERVER}
            yield Control(
                name, group, label, hint, unit_text, None, "", limits.least, most, _UNPRICED_SLIDER, brings
            )


def _derate_controls(cost: Cost) -> Iterator[Control]:
    """The links of the chain after its ratings, and goodput as one more where the chain ends before it."""
    for place, link in enumerate(cost.chain[1:], start=1):
        how = _(link.provenance)
        hint = _hint(_("what is left of {stage}", stage=link.from_), link.uncertain, how)
        source = "; ".join(each for each in (link.id or link.run, link.scope, link.source) if each)
        yield _ratio(f"link_{place}", link.span, hint, link.uncertain, _describe_source(how, source), None)
    if cost.reaches is not Stage.GOODPUT:
        hint = _(
            "useful ÷ elapsed time, as one more factor: the model's chain ends at {stage}, before it",
            stage=cost.reaches,
        )
        yield _ratio("goodput", _("Goodput"), hint, exact(1.0), "", 1.0)


def _ratio(name: str, label: str, hint: str, spread: Uncertain, source: str, most: float | None) -> Control:
    slider = (_RATIO_STEP, max(1.0, _to_step(math.ceil, spread.high, _RATIO_STEP)), _RATIO_STEP)
    return Control(name, "derates", label, hint, "", spread.value, source, _LEAST_RATIO, most, slider)


def _describe_source(how: str, source: str) -> str:
    return _("{how}: {source}", how=how, source=plain(source))


def _hint(meaning: str, spread: Uncertain, how: str) -> str:
    """`what a kilowatt-hour costs; the model has 0.65, from 0.35 to 0.95, assumed`."""
    value, low, high = map(stated, (spread.value, spread.low, spread.high))
    text = (
        N_("{meaning}; the model has {value}, {how}")
        if spread.law == "exact"
        else N_("{meaning}; the model has {value}, from {low} to {high}, {how}")
    )
    return _(text, meaning=meaning, value=value, low=low, high=high, how=how)


def _slider(spread: Uncertain, least: float, most: float) -> tuple[float, float, float]:
    """From, to and step: half to double the value, or twice as far as its ends if that is farther."""
    value = spread.value
    low = max(min(value / 2, 2 * spread.low - value), least)
    high = min(max(2 * value, 2 * spread.high - value), most)
    if not low < high:  # the value is the least possible
        low, high = least, most
    # About 100 steps, of 1, 2 or 5 × a power of ten.
    about = (high - low) / 100
    power = 10.0 ** math.floor(math.log10(about))
    step = round(power * next(each for each in (5, 2, 1) if each * power <= about * (1 + 1e-9)), 12)
    return _to_step(math.ceil, low, step), _to_step(math.floor, high, step), step


def _to_step(rounding: Callable[[float], int], value: float, step: float) -> float:
    """The value rounded to a multiple of the step; within a millionth of a step of one, to that one."""
    return round(rounding(round(value / step, 6)) * step, 12)
