"""What a fleet delivers of its nominal EFLOPS, and what that costs.

    nominal EFLOPS   = cards × nominal of one card         (or as stated; then cards = stated ÷ nominal)
    delivered EFLOPS = nominal EFLOPS × every derate of its chain
    capex            = cards ÷ cards a server × price of a server

Cards, delivered and price all count by the registry's dense FP16 nominal: one nominal for all three.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nameplate.derate.published import Published, find, published, unasked_for
from nameplate.errors import InputError
from nameplate.fleet import links, measured
from nameplate.fleet.fleets import Catalogue, Fleet, Price, shipped
from nameplate.fleet.links import DTYPE, Derate
from nameplate.fleet.words import sentence, short
from nameplate.specs.parts import Part, Registry, registry
from nameplate.specs.recognition import require
from nameplate.store.folder import Run, find_run, read_run

if TYPE_CHECKING:
    import pandas

TFLOPS_PER_EFLOPS = 1_000_000


@dataclass(frozen=True)
class RunUse:
    """What became of a run that was given: its own figures in one line, and why they price nothing here."""

    run: str
    parts: tuple[str, ...]
    used: bool
    figures: str
    reason: str | None = None


@dataclass(frozen=True)
class Cost:
    """One fleet: its size, its chain, its money. What isn't known is None, and `reason` says why.

    `cards_exact` and what is computed from it keep the fraction that a conversion from EFLOPS leaves.
    """

    fleet: str
    name: str
    as_of: str | None
    source: str
    part: Part | None
    stated_cards: int | None
    stated_eflops: float | None
    cards_exact: float | None
    nominal_eflops: float | None
    chain: tuple[Derate, ...]
    price: Price | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    run: RunUse | None = None

    @property
    def cards(self) -> int | None:
        """Whole cards."""
        return _whole(self.cards_exact)

    @property
    def card_tflops(self) -> float | None:
        """Nominal of one card, in TFLOPS."""
        return _card_tflops(self.part)

    @property
    def reaches(self) -> str | None:
        """The stage that the chain reaches; None where nothing says what is delivered."""
        return self.chain[-1].to if len(self.chain) > 1 else None

    @property
    def derate(self) -> float | None:
        """Delivered ÷ nominal."""
        return math.prod(link.value for link in self.chain) if self.reaches else None

    @property
    def delivered_eflops(self) -> float | None:
        """Nominal × every derate."""
        if self.derate is None or self.nominal_eflops is None:
            return None
        return self.nominal_eflops * self.derate

    @property
    def servers_exact(self) -> float | None:
        """Cards ÷ cards a server, with its fraction."""
        if self.price is None or self.cards_exact is None:
            return None
        return self.cards_exact / self.price.cards_per_server

    @property
    def servers(self) -> int | None:
        """Whole servers."""
        return _whole(self.servers_exact)

    @property
    def capex_rmb(self) -> float | None:
        """Price of the cards' share of servers, before rounding up to whole ones."""
        return None if self.price is None else _times(self.servers_exact, self.price.server_rmb)

    @property
    def capex_whole_servers_rmb(self) -> float | None:
        """Price of whole servers."""
        return None if self.price is None else _times(self.servers, self.price.server_rmb)

    @property
    def rmb_per_nominal_eflops(self) -> float | None:
        """Capex ÷ nominal EFLOPS."""
        return _quotient(self.capex_rmb, self.nominal_eflops)

    @property
    def rmb_per_delivered_eflops(self) -> float | None:
        """Capex ÷ delivered EFLOPS, as far as the chain reaches."""
        return _quotient(self.capex_rmb, self.delivered_eflops)

    @property
    def reason(self) -> str | None:
        """Why figures are null; None where none is."""
        return "; ".join(self.reasons) or None

    def as_json(self) -> dict[str, Any]:
        """The fleet as a JSON row; what isn't known is null."""
        return {
            "fleet": self.fleet,
            "name": self.name,
            "as_of": self.as_of,
            "part": self.part and self.part.id,
            "dtype": DTYPE,
            "nominal_tflops": self.card_tflops,
            "cards": self.cards,
            "cards_exact": self.cards_exact,
            "servers": self.servers,
            "servers_exact": self.servers_exact,
            "stated_cards": self.stated_cards,
            "stated_eflops": self.stated_eflops,
            "nominal_eflops": self.nominal_eflops,
            "delivered_eflops": self.delivered_eflops,
            "derate": self.derate,
            "reaches": self.reaches,
            "not_yet": list(links.not_yet(self.reaches)) if self.reaches else None,
            "capex_rmb": self.capex_rmb,
            "capex_whole_servers_rmb": self.capex_whole_servers_rmb,
            "rmb_per_nominal_eflops": self.rmb_per_nominal_eflops,
            "rmb_per_delivered_eflops": self.rmb_per_delivered_eflops,
            "price": self.price and self.price.model_dump(mode="json", exclude={"replaces"}),
            "chain": [link.as_json() for link in self.chain],
            "sentence": sentence(self),
            "reason": self.reason,
            "notes": list(self.notes),
            "run": self.run and {**vars(self.run), "parts": list(self.run.parts)},
            "source": self.source,
        }


def cost(
    fleets: str | Sequence[str] = (),
    *,
    run: Run | str | Path | None = None,
    results: str | Path = "runs",
    derate: str | Published | Sequence[str | Published] = (),
    eflops: float | None = None,
    part: str | None = None,
    catalogue: Catalogue | None = None,
    parts: Sequence[str | Path] = (),
) -> tuple[Cost, ...]:
    """What each fleet delivers and costs; all of the catalogue unless some are named.

    `eflops` nominal EFLOPS of `part` (1 where only `part` is given) are a fleet as well. A fleet takes the
    derates of `run` where that is of its part and its records are admitted; then those of `derate`, in their
    order; without either, the published one of its part. `parts` are files of parts beside the registry's.

    Raises InputError for an unknown fleet, part, run or derate, a size that isn't above 0, a run without an
    admitted record or of none of these parts, and a chain that counts a loss twice.
    """
    known = registry(parts)
    listed = shipped() if catalogue is None else catalogue
    names = (fleets,) if isinstance(fleets, str) else tuple(fleets)
    asked = _asked(names, eflops, part, listed, known)
    figures = _figures((derate,) if isinstance(derate, str | Published) else derate)
    held = {each.part.id: each.part for each in asked if each.part is not None}
    _check_derates(figures, held, named=bool(names) or len(asked) == 1)
    given = None if run is None else _given(run, Path(results), held)
    return tuple(_cost(each, figures, given, listed, known) for each in asked)


def frame(costs: Sequence[Cost]) -> pandas.DataFrame:
    """One row a fleet, with the columns of `--json`."""
    import pandas

    return pandas.DataFrame([each.as_json() for each in costs])


def cards_of(fleet: Fleet, known: Registry) -> int | None:
    """Whole cards of a fleet, as stated or by conversion; None for a mix of unknown shares."""
    ask = _ask(fleet, known)
    return _whole(_size(ask)[0])


@dataclass(frozen=True)
class _Ask:
    """A fleet of the catalogue with its part looked up, or one that was asked for by its size."""

    id: str
    name: str
    as_of: str | None
    part: Part | None
    cards: int | None
    eflops: float | None
    source: str


@dataclass(frozen=True)
class _Given:
    """A run, and the evidence it gives for each part that it may price."""

    run: Run
    figures: str
    unpriced: str | None
    parts: tuple[str, ...]
    evidence: Mapping[str, measured.Evidence]


def _asked(
    names: Sequence[str], eflops: float | None, part: str | None, listed: Catalogue, known: Registry
) -> list[_Ask]:
    asked = [_ask(fleet, known) for fleet in dict.fromkeys(map(listed.find, names))]
    if part is not None or eflops is not None:
        asked.append(_sized(eflops, part, known))
    return asked or [_ask(fleet, known) for fleet in listed.fleet]


def _ask(fleet: Fleet, known: Registry) -> _Ask:
    part = None
    if fleet.part is not None:
        part = known.parts.get(fleet.part)
        if part is None:
            raise InputError(
                "a fleet of an unknown part",
                where=fleet.id,
                got=fleet.part,
                expected="the id of a part in the registry (`bench specs` lists them)",
            )
    return _Ask(fleet.id, fleet.name, fleet.as_of, part, fleet.cards, fleet.eflops, fleet.source)


def _sized(eflops: float | None, part: str | None, known: Registry) -> _Ask:
    if part is None:
        raise InputError(
            "EFLOPS of what?", where="--eflops", got=eflops, expected="a part beside it (--part PART)"
        )
    if eflops is not None and not (0 < eflops < math.inf):
        raise InputError("not a size", where="--eflops", got=eflops, expected="EFLOPS above 0")
    found, _ = require(part, known)
    many = 1.0 if eflops is None else float(eflops)
    if _card_tflops(found) is None:
        raise InputError(
            f"no {DTYPE} nominal to count by", where="--part", got=found.id, expected="a part rated in it"
        )
    return _Ask(
        "given",
        f"{many:g} EFLOPS of {short(found.name)}",
        None,
        found,
        None,
        many,
        "given by --eflops and --part",
    )


def _figures(given: Sequence[str | Published]) -> list[Published]:
    found = [each if isinstance(each, Published) else _published(each) for each in given]
    for figure in found:
        links.from_published(figure)  # refuses what is no derate
    return found


def _published(name: str) -> Published:
    try:
        return find(name)
    except InputError:
        ids = [figure.id for figure in published() if figure.quantity == "derate"]
        near = difflib.get_close_matches(name, ids, n=3, cutoff=0.4) or ids[:3]
        raise InputError(
            "no such published derate",
            where="--derate",
            got=name,
            expected=f"an id of published.toml; the nearest are {', '.join(near)}",
        ) from None


def _check_derates(figures: Sequence[Published], held: Mapping[str, Part], *, named: bool) -> None:
    """A derate that was asked for serves a fleet that was asked for."""
    for figure in figures:
        if figure.part is None and not named:
            raise InputError(
                f"a derate of {figure.device}, which is no one part of the registry",
                where="--derate",
                got=figure.id,
                expected="the fleets that it's to price, by name",
            )
        if not any(_may_serve(figure, part) for part in held):
            raise InputError(
                f"a derate of {figure.part or figure.device}, and none of these fleets is counted in that",
                where="--derate",
                got=figure.id,
                expected=f"one of {' or '.join(held) or 'a part: these fleets are mixes'}",
            )


def _may_serve(figure: Published, part: str) -> bool:
    return figure.part is None or figure.serves(part)


def _given(run: Run | str | Path, results: Path, held: Mapping[str, Part]) -> _Given:
    """Read the run and take from it what these parts may be priced by."""
    read = run if isinstance(run, Run) else read_run(find_run(str(run), results))
    unpriced, parts = measured.unpriced(read), measured.parts_of(read)
    mine = [part for part in parts if part in held]
    if unpriced is None and not mine:
        raise InputError(
            "a run of a part that none of these fleets is counted in",
            where="--run",
            got=", ".join(parts) or f"no known part: {read.manifest.devices[0].evidence}",
            expected=f"a run of {' or '.join(held) or 'their parts, which are unknown'}; or --part beside it",
        )
    evidence = {} if unpriced else {part: measured.evidence(read, held[part]) for part in mine}
    return _Given(read, measured.own_figures(read), unpriced, parts, evidence)


def _cost(
    ask: _Ask, figures: Sequence[Published], given: _Given | None, listed: Catalogue, known: Registry
) -> Cost:
    cards, nominal = _size(ask)
    price = None if ask.part is None else listed.price_of(ask.part.id)
    derates, notes, reasons = _chain(ask, figures, given, known)
    return Cost(
        fleet=ask.id,
        name=ask.name,
        as_of=ask.as_of,
        source=ask.source,
        part=ask.part,
        stated_cards=ask.cards,
        stated_eflops=ask.eflops,
        cards_exact=cards,
        nominal_eflops=nominal,
        chain=derates,
        price=price,
        reasons=(*reasons, *_price_reasons(ask, price)),
        notes=(*_size_notes(ask, nominal), *notes),
        run=None if given is None else _use(ask, given),
    )


def _chain(
    ask: _Ask, figures: Sequence[Published], given: _Given | None, known: Registry
) -> tuple[tuple[Derate, ...], list[str], list[str]]:
    """The fleet's chain, what to know of it, and why there is none or none that says what is delivered."""
    part = ask.part
    if part is None:
        why = "a mix of parts in unknown shares: no one chain holds for it, so what it delivers isn't known"
        return (), [], [f"{why}, nor its cards"]
    if _card_tflops(part) is None or DTYPE not in part.datasheet:
        return (), [], [f"{part.name} has no {DTYPE} rating with a source"]
    evidence = given.evidence.get(part.id) if given else None
    asked = [figure for figure in figures if _may_serve(figure, part.id)]
    derates, notes = [links.rated(part)], []
    if given is not None and evidence is None:
        notes.append(f"run {given.run.id} doesn't price it: {given.unpriced or 'it is of another part'}")
    if evidence is not None:
        derates += evidence.derates
        notes += evidence.notes
    if figures and not asked:
        notes.append(f"{', '.join(each.id for each in figures)}: of another part, not used")
    default = unasked_for(part.id) if evidence is None and not asked else None
    if default is not None:
        notes.append(f"by the published derate {default.id}: no run of {short(part.name)} was given")
    for figure in asked or ([default] if default else []):
        derates.append(links.from_published(figure))
        notes += _published_notes(figure, ask, known)
    if len(derates) == 1:
        why = f"no derate of {part.id} is published for use unasked, and no run of it was given"
        return tuple(derates), notes, [f"delivered isn't known: {why} (--run RUN or --derate ID)"]
    problem = next(filter(None, (links.unserved(part, each.dtype) for each in derates)), None)
    if problem:
        raise InputError(
            problem, where=part.id, got=derates[-1].dtype, expected=f"a derate of {DTYPE} or bf16"
        )
    notes += dict.fromkeys(filter(None, (links.served(part, each.dtype) for each in derates)))
    return links.join(derates), notes, []


def _published_notes(figure: Published, ask: _Ask, known: Registry) -> list[str]:
    """What a published derate doesn't say of this fleet, each beginning with the derate's id."""
    notes = ["a point figure: no interval is known"]
    if ask.part is not None and figure.part != ask.part.id:
        stands = "the same silicon" if figure.part else "which is no one part of the registry"
        notes.append(f"measured on {figure.device}, {stands}; stands in for {ask.part.name}")
        theirs, mine = _link_gb_s(known.parts.get(figure.part or "")), _link_gb_s(ask.part)
        if figure.to == "scaled" and theirs and mine and theirs != mine:
            notes.append(f"measured over links of {theirs:g} GB/s, here they are {mine:g}: that isn't in it")
    cards = _whole(_size(ask)[0])
    if figure.to == "scaled" and figure.n_to is not None and cards is not None and cards > figure.n_to:
        notes.append(f"measured on {figure.n_to:,} devices: what more of them lose together isn't in it")
    if figure.note:
        notes.append(figure.note)
    return [f"{figure.id}: {note}" for note in notes]


def _size_notes(ask: _Ask, nominal: float | None) -> list[str]:
    notes = []
    if ask.cards is not None and ask.eflops is not None and nominal is not None:
        implied, card = ask.eflops * TFLOPS_PER_EFLOPS / ask.cards, _card_tflops(ask.part)
        if card is not None and not math.isclose(implied, card):
            notes.append(
                f"stated as {ask.eflops:g} EFLOPS, {implied:,.0f} TFLOPS a card; nominal by the registry's "
                f"{card:g} is {nominal:.2f}"
            )
    return notes


def _price_reasons(ask: _Ask, price: Price | None) -> list[str]:
    if ask.part is None:
        return ["a price is of one part, so its cost isn't known either"]
    if price is None:
        return [f"no price of a server of {ask.part.id} is known: give one in a file (--fleets FILE)"]
    return []


def _use(ask: _Ask, given: _Given) -> RunUse:
    used = ask.part is not None and ask.part.id in given.evidence
    reason = None if used else given.unpriced or "not used: this fleet isn't counted in the run's part"
    return RunUse(given.run.id, given.parts, used, given.figures, reason)


def _size(ask: _Ask) -> tuple[float | None, float | None]:
    """Cards (with their fraction) and nominal EFLOPS; as stated where there is nothing to convert by."""
    card = _card_tflops(ask.part)
    if card is None:
        return ask.cards, ask.eflops
    if ask.cards is not None:
        return ask.cards, ask.cards * card / TFLOPS_PER_EFLOPS
    stated = ask.eflops or 0.0  # a fleet has one of the two
    return stated * TFLOPS_PER_EFLOPS / card, stated


def _card_tflops(part: Part | None) -> float | None:
    rated = None if part is None else part.nominal.get(DTYPE)
    return None if rated is None else rated.value


def _link_gb_s(part: Part | None) -> float | None:
    return None if part is None or part.link_gb_s is None else part.link_gb_s.value


def _whole(count: float | None) -> int | None:
    """Up to the next whole one; what division leaves of a whole one in floating point is none."""
    return None if count is None else math.ceil(round(count, 6))


def _times(count: float | None, each: float) -> float | None:
    return None if count is None else count * each


def _quotient(money: float | None, eflops: float | None) -> float | None:
    return None if money is None or not eflops else money / eflops
