"""What a fleet delivers of its nominal EFLOPS, what that draws, and what it costs.

    nominal EFLOPS   = cards × nominal of one card         (or as stated; then cards = stated ÷ nominal)
    delivered EFLOPS = nominal EFLOPS × every derate of its chain
    bare capex       = cards ÷ cards a server × price of a server
    full cost        = bare capex × fabric × (1 + spares), written off, + electricity + operation

Cards, delivered and price all count by the registry's dense FP16 nominal: one nominal for all three. The
formulas are in `outputs`; each figure stands at its inputs' values, with the 5 %, 50 % and 95 % of its draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nameplate.base.formatting import figure, stated
from nameplate.base.language import N_, _
from nameplate.chain.link import Link
from nameplate.fleet.assumptions import adjusted
from nameplate.fleet.catalogues import Catalogue, Price, load_shipped
from nameplate.fleet.chains import Asked, LinkChoice, choose_links, note_links
from nameplate.fleet.costs import Cost
from nameplate.fleet.montecarlo import DRAWS, Estimate, MonteCarlo
from nameplate.fleet.outputs import OUTPUTS, TFLOPS_PER_EFLOPS
from nameplate.fleet.size import DTYPE, Size, card_tflops, sizes
from nameplate.fleet.units import Unit, Units
from nameplate.specs.part import Part, short
from nameplate.specs.parts import Registry, registry
from nameplate.stats.uncertain import Written
from nameplate.store.folder import Run


def cost(
    fleets: str | Sequence[str] = (),
    *,
    run: Run | str | Path | None = None,
    results: str | Path | None = None,
    derate: Asked | Sequence[Asked] = (),
    eflops: float | None = None,
    part: str | None = None,
    assume: Mapping[str, Written] | None = None,
    price: Mapping[str, Written] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    goodput: bool = False,
    catalogue: Catalogue | None = None,
    parts: Sequence[str | Path] = (),
) -> tuple[Cost, ...]:
    """What each fleet delivers, draws and costs; all of the catalogue unless some are named.

    `eflops` nominal EFLOPS of `part` (1 where only `part` is given) are a fleet as well. A fleet takes the
    derates of `run` (named as for `find_run`) where that is of its part and its records are admitted; then
    those of `derate`, in order: ids, `FROM:TO=RATIO`, or links; without either, the unasked one of its part.
    `results` is the only folder to look for the run in. A part goes by any spelling of its name; what a short
    one was taken for is in the notes. `assume` sets inputs of `entries.INPUTS` and `price` the RMB of a
    part's server: a number, `LOW..HIGH` or `LOW..VALUE..HIGH`.
    `draws` of all inputs, by `seed`, give every figure's 5 %, 50 % and 95 %. `goodput` ends each chain with
    what failures and checkpoints leave of one job on all of the fleet's cards. `parts` are files of parts
    beside the registry's.

    Raises InputError for an unknown fleet, part, run, derate or input, a size or price that isn't above 0, a
    run without an admitted record or of none of these parts, and a chain that counts a loss twice.
    """
    known = registry(parts)
    listed = adjusted(load_shipped() if catalogue is None else catalogue, assume or {}, price or {}, known)
    names = (fleets,) if isinstance(fleets, str) else tuple(fleets)
    asked = sizes(names, eflops, part, listed, known)
    alone = bool(names) or len(asked) == 1
    choice = choose_links(derate, run, results, asked, listed, named=alone, goodput=goodput)
    pricer = _Pricer(listed, known, choice, Units(listed, MonteCarlo(draws, seed)))
    return tuple(pricer.cost(size) for size in asked)


@dataclass(frozen=True)
class _Pricer:
    """Prices sizes by one catalogue, one choice of derates and one set of draws."""

    listed: Catalogue
    known: Registry
    choice: LinkChoice
    units: Units

    def cost(self, size: Size) -> Cost:
        unknown = _unknown(size)
        if unknown is not None:
            return self._cost(size, reasons=(unknown,))
        return self._of_part(size, size.part) if size.part is not None else self._of_mix(size)

    def _of_part(self, size: Size, part: Part) -> Cost:
        chain = self.choice.chain(part, size.cards)
        unit = self.units.unit(part, chain)
        nominal = size.nominal_eflops
        return self._cost(
            size,
            chain=chain.links,
            estimates={} if nominal is None else unit.fleet(nominal, size.cards_exact),
            unit=unit,
            price=self.listed.price_of(part.id),
            reasons=(*chain.reasons, *_lacking(unit, part)),
            notes=(*_size_notes(size), *chain.notes, *note_links(chain, part, size.cards, self.known)),
        )

    def _of_mix(self, size: Size) -> Cost:
        """A mix delivers, draws and costs something between what all of one part and all of another would."""
        pure = tuple(self._of_part(_all_of(size, part), part) for part in size.mix)
        estimates = {
            name: _between([each.estimates[name] for each in pure])
            for name in OUTPUTS
            if all(name in each.estimates for each in pure)
        }
        between = _(" and ").join(_("all {part}", part=short(part.name)) for part in size.mix)
        mixed = N_("a mix of parts in unknown shares: what is known of it lies between {between}")
        reasons = [_(mixed, between=between)]
        lacking = dict.fromkeys(reason for each in pure for reason in each.reasons)
        if "ownership_rmb_per_year" not in estimates:
            reasons.append(_("its cost isn't known either: {why}", why=_(", ").join(lacking)))
        said = dict.fromkeys(note for each in pure for note in each.notes)
        return self._cost(size, estimates=estimates, reasons=tuple(reasons), notes=tuple(said), mix=pure)

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
        given, drawn = self.choice.given, self.units.montecarlo
        use = None if given is None else given.use_for(size.parts)
        return Cost(
            size, chain, estimates or {}, unit, price, reasons, notes, drawn.draws, drawn.seed, use, mix
        )


def _unknown(size: Size) -> str | None:
    """Why nothing is known of what a fleet delivers and costs; None where something may be."""
    if size.kind == "scale":
        unknown = size.precision == "unknown"
        return _(
            "for scale alone, in {precision}: it is of no one part, so it's neither delivered nor priced",
            precision=_("a precision that isn't stated") if unknown else size.precision,
        )
    if size.kind == "equivalent" and size.part is not None:
        return _(
            "other hardware, stated as so many {part}: neither their derate nor their price is its own",
            part=short(size.part.name),
        )
    if not size.parts:
        return _("its part isn't known: no chain holds for it, so what it delivers isn't known, nor its cost")
    return None


def _all_of(size: Size, part: Part) -> Size:
    """The same EFLOPS, all of one part."""
    return replace(
        size, name=_("{name}, all {part}", name=_(size.name), part=short(part.name)), part=part, mix=()
    )


def _between(estimates: Sequence[Estimate]) -> Estimate:
    """The least and the most over every mix: at its ends, as shares of one sum make figures shares of one."""
    return Estimate(None, min(each.p5 for each in estimates), None, max(each.p95 for each in estimates))


def _lacking(unit: Unit, part: Part) -> list[str]:
    """Why power or money isn't known."""
    lacks = unit.lacks("ownership_rmb_per_year")
    said = []
    if "server_rmb" in lacks:
        priceless = N_("no price of a server of {part} is known: give one in a file (--fleets FILE)")
        said.append(_(priceless, part=part.id))
    if "nominal_tflops" in lacks:
        unrated = N_("{part} has no {dtype} rating that its sources agree on, so its cards aren't known")
        said.append(_(unrated, part=part.name, dtype=DTYPE))
    if "tdp_w" in lacks:
        said.append(_("the TDP of {part} isn't known, so neither is its power", part=part.id))
    return said


def _size_notes(size: Size) -> list[str]:
    notes, card = [size.note] if size.note else [], card_tflops(size.part)
    if size.stated_cards is not None and size.stated_eflops is not None and card is not None:
        implied = size.stated_eflops * TFLOPS_PER_EFLOPS / size.stated_cards
        if not math.isclose(implied, card):
            notes.append(
                _(
                    "stated as {eflops} EFLOPS, {tflops} TFLOPS a card; nominal by the registry's {card} is "
                    "{nominal}",
                    eflops=stated(size.stated_eflops),
                    tflops=figure(implied),
                    card=stated(card),
                    nominal=figure(size.nominal_eflops),
                )
            )
    return notes
