"""What a fleet delivers of its nominal EFLOPS, what that draws, and what it costs.

    nominal EFLOPS   = cards × nominal of one card         (or as stated; then cards = stated ÷ nominal)
    delivered EFLOPS = nominal EFLOPS × every derate of its chain
    bare capex       = cards ÷ cards a server × price of a server
    full cost        = bare capex × fabric × (1 + spares), written off, + electricity + operation

Cards, delivered EFLOPS and price all use the registry's dense FP16 nominal. The formulas are in `outputs`.
Each figure is the 50 % point of its draws, between their 5 % and 95 % points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TypedDict, Unpack

from nameplate.base.formatting import figure, stated
from nameplate.base.language import N_, _
from nameplate.base.notebook import ShownInNotebooks
from nameplate.chain.link import Chain, Link
from nameplate.chain.stage import Stage
from nameplate.fleet.assumptions import adjust_catalogue
from nameplate.fleet.catalogues import Catalogue, Price, load_shipped
from nameplate.fleet.chains import LinkChoice, RequestedDerate, choose_links
from nameplate.fleet.evidence import RunUse
from nameplate.fleet.gaps import find_gaps
from nameplate.fleet.mfu import TrainingSetup
from nameplate.fleet.montecarlo import Estimate, MonteCarlo, Quantity, enclose, montecarlo_of
from nameplate.fleet.outputs import OUTPUTS, TFLOPS_PER_EFLOPS
from nameplate.fleet.size import Size, as_names, card_tflops, find_sizes, round_up
from nameplate.fleet.unit import Unit, draw_unit
from nameplate.specs.part import Part
from nameplate.specs.registry import Registry, load_registry
from nameplate.stats.uncertain import Written
from nameplate.store.folder import Run


@dataclass(frozen=True)
class Rung:
    """What one EFLOPS takes that is delivered at `stage`: cards and servers of the part, and their price.

    `derate` is the product of the links up to that stage. A fleet is priced by the last rung.
    """

    stage: Stage
    derate: float
    cards_exact: float | None
    servers_exact: float | None
    rmb: float | None  # of the servers, not rounded to whole ones
    cards: int | None
    servers: int | None
    whole_servers_rmb: float | None


@dataclass(frozen=True)
class Cost(ShownInNotebooks):
    """One fleet priced. A figure that isn't known is None, and `reason` says why.

    `estimates` holds every known figure of `outputs`. A fleet of a mix of parts has in `mix` one Cost for
    each part, as if the fleet were all of that part; its own estimates are only ranges over these.
    """

    size: Size
    chain: tuple[Link, ...]
    estimates: Mapping[str, Estimate]
    unit: Unit | None
    price: Price | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    draws: int
    seed: int
    run: RunUse | None = None
    mix: tuple[Cost, ...] = ()

    def value(self, output: str) -> float | None:
        """The value of one of the figures in `outputs.OUTPUTS`; None if it isn't known."""
        estimate = self.estimates.get(output)
        return None if estimate is None else estimate.value

    @property
    def delivered_eflops(self) -> float | None:
        """Nominal × every derate."""
        return self.value("delivered_eflops")

    @property
    def rmb_per_delivered_eflops(self) -> float | None:
        """Bare capex ÷ delivered EFLOPS, as far as the chain reaches."""
        return self.value("rmb_per_delivered_eflops")

    @property
    def reaches(self) -> Stage | None:
        """The stage that the chain reaches; None if it doesn't say what is delivered."""
        return self.chain[-1].to if len(self.chain) > 1 else None

    @property
    def derate(self) -> float | None:
        """Delivered ÷ nominal."""
        return math.prod(link.value for link in self.chain) if self.reaches else None

    @property
    def servers(self) -> int | None:
        """Whole servers in service."""
        return round_up(self.value("servers_exact"))

    @property
    def servers_with_spares(self) -> int | None:
        """Whole servers to buy: those in service and the spares."""
        servers, spares = self.value("servers_exact"), self._input("spare_nodes")
        return None if servers is None or spares is None else round_up(servers * (1 + spares))

    @property
    def capex_whole_servers_rmb(self) -> float | None:
        """Price of whole servers, before fabric and spares."""
        return _multiply(self.servers, None if self.price is None else self.price.server_rmb)

    @property
    def full_capex_whole_servers_rmb(self) -> float | None:
        """Price of whole servers, spares among them, with fabric."""
        fabric = self._input("fabric_price_factor")
        if self.price is None or fabric is None:
            return None
        return _multiply(self.servers_with_spares, self.price.server_rmb * fabric)

    @property
    def reason(self) -> str | None:
        """Why figures are None; None if all are known."""
        return _("; ").join(self.reasons) or None

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """What one delivered EFLOPS takes, at each stage of the chain."""
        stages = [Stage.NOMINAL, *(link.to for link in self.chain)]
        derates = accumulate((link.value for link in self.chain), lambda a, b: a * b, initial=1.0)
        return tuple(self._rung(stage, derate) for stage, derate in zip(stages, derates, strict=True))

    def quantities(self, montecarlo: MonteCarlo) -> dict[str, Quantity]:
        """Every known figure of one nominal EFLOPS of the part with its draws.

        Those of a synchronous job are of one on all cards of the fleet.
        """
        return {} if self.unit is None else self.unit.quantities(montecarlo, self.size.cards_exact)

    def points(self) -> dict[str, float]:
        """Every known figure at its inputs' values, without draws: what a reader computes by hand."""
        if self.unit is None or self.size.nominal_eflops is None:
            return {}
        return self.unit.points(self.size.nominal_eflops, self.size.cards_exact)

    def _input(self, name: str) -> float | None:
        used = None if self.unit is None else self.unit.inputs.get(name)
        return None if used is None else used.uncertain.value

    def _rung(self, stage: Stage, derate: float) -> Rung:
        card, price = self.size.card_tflops, self.price
        cards = None if card is None else TFLOPS_PER_EFLOPS / (card * derate)
        servers = None if cards is None or price is None else cards / price.cards_per_server
        server_rmb = None if price is None else price.server_rmb
        whole = round_up(servers)
        rmb, whole_rmb = _multiply(servers, server_rmb), _multiply(whole, server_rmb)
        return Rung(stage, derate, cards, servers, rmb, round_up(cards), whole, whole_rmb)


class Costs(tuple[Cost, ...], ShownInNotebooks):
    """Priced fleets, in the order in which they were asked for."""

    __slots__ = ()


class PricingOptions(TypedDict, total=False):
    """By what fleets are priced: options of `cost`, of plans (`meet`, `afford`, `train`) and of `own`.

    A fleet takes the links of `run` if that is of its part and its records are trusted; `run` is named as
    for `find_run`, and looked for in `results` alone if that is given. Then come the derates of `derate`, in
    order: ids, `FROM:TO=RATIO`, or links. Without these, the chain ends with what published runs say of the
    MFU of `training` (by default 7 billion parameters) on all cards of the fleet, by a tuned stack. `goodput`
    adds what failures and checkpoints leave of one job on all of these cards. `power_limit` is in W a card:
    the speed that it leaves is known where somebody measured it.

    `assume` sets inputs of `catalogues.INPUTS`, and `price` the RMB of a part's server; each is a number,
    `LOW..HIGH` or `LOW..VALUE..HIGH`. Every figure's 5 %, 50 % and 95 % points come from so many `draws` of
    all inputs, by `seed`. `catalogue` takes the place of the shipped one; `parts` are files with parts that
    the registry lacks.
    """

    run: Run | str | Path | None
    results: str | Path | None
    derate: RequestedDerate | Sequence[RequestedDerate]
    assume: Mapping[str, Written] | None
    price: Mapping[str, Written] | None
    draws: int
    seed: int
    goodput: bool
    power_limit: float | None
    training: TrainingSetup | None
    catalogue: Catalogue | None
    parts: str | Path | Sequence[str | Path]


def cost(
    fleets: str | Sequence[str] = (),
    *,
    eflops: float | None = None,
    part: str | Sequence[str] | None = None,
    **options: Unpack[PricingOptions],
) -> Costs:
    """What each of these fleets delivers, draws and costs; without names, each fleet of the catalogue.

    `eflops` nominal EFLOPS of `part` (1 if only `part` is given) are one more fleet, of several parts one
    each. A part goes by any spelling of its name; the notes say what a short name was taken for. `options`
    are `PricingOptions`.

    Raises InputError for an unknown fleet, part, run, derate or input, for a size, price or power limit that
    can't be, for a run of none of these parts or without a trusted record, for a power limit beside a run,
    and for a chain that counts a loss twice.
    """
    names = as_names(fleets)

    def sizes(catalogue: Catalogue, registry: Registry) -> list[Size]:
        return find_sizes(names, eflops, part, catalogue, registry)

    pricer, found = make_pricer(sizes, named=bool(names), **options)
    return Costs(pricer.price(size) for size in found)


@dataclass(frozen=True)
class Pricer:
    """Prices fleets by one catalogue, one choice of links and one set of draws."""

    catalogue: Catalogue
    choice: LinkChoice
    montecarlo: MonteCarlo
    # Fleets of one part and chain share the draws of one unit.
    units: dict[tuple[str, tuple[Link, ...]], Unit] = field(default_factory=dict)

    def price(self, size: Size) -> Cost:
        """The fleet priced."""
        unknown = _explain_unknown(size)
        if unknown is not None:
            return self._cost(size, reasons=(unknown,))
        return self._price_part(size, size.part) if size.part is not None else self._price_mix(size)

    def derate(self, part: Part, cards: int | None) -> Quantity | None:
        """Delivered ÷ nominal of so many cards, with its draws; None where it isn't known."""
        chain = self.choice.make_chain(part, cards)
        if not chain.delivers:
            return None
        draws = math.prod(self.montecarlo.draw_link(link) for link in chain.links)
        return Quantity(math.prod(link.value for link in chain.links), draws)

    def _price_part(self, size: Size, part: Part) -> Cost:
        chain = self.choice.make_chain(part, size.cards)
        unit = self._unit(part, chain)
        nominal, price = size.nominal_eflops, self.catalogue.price_of(part.id)
        return self._cost(
            size,
            chain=chain.links,
            estimates={} if nominal is None else unit.estimate_fleet(nominal, size.cards_exact),
            unit=unit,
            price=price,
            reasons=(*chain.reasons, *map(str, find_gaps(part, self.catalogue))),
            notes=(*_note_size(size), *chain.notes),
        )

    def _unit(self, part: Part, chain: Chain) -> Unit:
        key = (part.id, chain.links)
        if key not in self.units:
            self.units[key] = draw_unit(part, chain, self.catalogue, self.montecarlo, self.choice.power_limit)
        return self.units[key]

    def _price_mix(self, size: Size) -> Cost:
        pure = tuple(self._price_part(_all_of(size, part), part) for part in size.mix)
        estimates = {
            name: enclose([each.estimates[name] for each in pure])
            for name in OUTPUTS
            if all(name in each.estimates for each in pure)
        }
        between = _(" and ").join(_("all {part}", part=part.short_name) for part in size.mix)
        mixed = N_("a mix of parts in unknown shares: its figures lie between {between}")
        reasons = [_(mixed, between=between)]
        if "ownership_rmb_per_year" not in estimates:
            missing = dict.fromkeys(reason for each in pure for reason in each.reasons)
            reasons.append(_("its cost isn't known either: {why}", why=_(", ").join(missing)))
        notes = dict.fromkeys(note for each in pure for note in each.notes)
        return self._cost(size, estimates=estimates, reasons=tuple(reasons), notes=tuple(notes), mix=pure)

    def _cost(
        self,
        size: Size,
        *,
        chain: tuple[Link, ...] = (),
        estimates: Mapping[str, Estimate] | None = None,
        unit: Unit | None = None,
        price: Price | None = None,
        reasons: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        mix: tuple[Cost, ...] = (),
    ) -> Cost:
        given, draws, seed = self.choice.given, self.montecarlo.draws, self.montecarlo.seed
        use = None if given is None else given.use_for(size.parts)
        return Cost(size, chain, estimates or {}, unit, price, reasons, notes, draws, seed, use, mix)


def make_pricer(
    find: Callable[[Catalogue, Registry], list[Size]], *, named: bool, **options: Unpack[PricingOptions]
) -> tuple[Pricer, list[Size]]:
    """What prices fleets by these options, and the fleets that `find` finds; `named`: by name.

    Raises InputError as `cost` does, and TypeError for an option that isn't one of `PricingOptions`.
    """
    unknown = options.keys() - PricingOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"no option of pricing: {', '.join(sorted(unknown))}")
    registry = load_registry(options.get("parts", ()))
    catalogue = options.get("catalogue") or load_shipped()
    catalogue = adjust_catalogue(catalogue, options.get("assume") or {}, options.get("price") or {}, registry)
    sizes = find(catalogue, registry)
    choice = choose_links(
        options.get("derate", ()),
        options.get("run"),
        options.get("results"),
        sizes,
        catalogue,
        registry,
        training=options.get("training") or TrainingSetup(),
        named=named or len(sizes) == 1,
        goodput=options.get("goodput", False),
        power_limit=options.get("power_limit"),
    )
    return Pricer(catalogue, choice, montecarlo_of(options)), sizes


def _multiply(count: float | None, each: float | None) -> float | None:
    return None if count is None or each is None else count * each


def _explain_unknown(size: Size) -> str | None:
    """Why nothing is known of what a fleet delivers and costs; None if something may be."""
    if size.kind == "scale":
        unknown = size.precision == "unknown"
        return _(
            "listed for comparison only, in {precision}: it isn't of one part, so it has no derate and no"
            " price",
            precision=_("a precision that isn't stated") if unknown else size.precision,
        )
    if size.kind == "equivalent" and size.part is not None:
        return _(
            "other hardware, counted in {part}: the derate and price of {part} don't apply to it",
            part=size.part.short_name,
        )
    if not size.parts:
        return _("its part isn't known, so neither delivered EFLOPS nor cost is known")
    return None


def _all_of(size: Size, part: Part) -> Size:
    """The same EFLOPS, all of one part."""
    name = _("{name}, all {part}", name=_(size.name), part=part.short_name)
    return replace(size, name=name, part=part, mix=())


def _note_size(size: Size) -> list[str]:
    """What a short name was taken for, and that stated EFLOPS aren't those of the stated cards."""
    notes, card = [size.note] if size.note else [], card_tflops(size.part)
    if size.stated_cards is not None and size.stated_eflops is not None and card is not None:
        implied = size.stated_eflops * TFLOPS_PER_EFLOPS / size.stated_cards
        if not math.isclose(implied, card):
            notes.append(
                _(
                    "stated as {eflops} EFLOPS, which is {tflops} TFLOPS a card; at the registry's {card}"
                    " a card, nominal is {nominal}",
                    eflops=stated(size.stated_eflops),
                    tflops=figure(implied),
                    card=stated(card),
                    nominal=figure(size.nominal_eflops),
                )
            )
    return notes
