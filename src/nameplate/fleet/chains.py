"""Which derates a fleet takes: those of a run of its part, those that were asked for, or the unasked one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.messages import message
from nameplate.chain.published import Published, published, unasked_for
from nameplate.chain.stage import Stage
from nameplate.fleet import links, measured
from nameplate.fleet.catalogues import Catalogue
from nameplate.fleet.goodput import make_goodput_link
from nameplate.fleet.links import DTYPE, Derate
from nameplate.fleet.size import Size, card_tflops
from nameplate.fleet.uncertain import read
from nameplate.specs.part import Part, short
from nameplate.specs.parts import Registry
from nameplate.store.find import Results, find_run
from nameplate.store.folder import Run, read_run

Asked = str | Published | Derate


@dataclass(frozen=True)
class RunUse:
    """What became of a run that was given: its own figures in one line, and why they price nothing here."""

    run: str
    parts: tuple[str, ...]
    used: bool
    figures: str
    reason: str | None = None


@dataclass(frozen=True)
class Given:
    """A run, and the evidence it gives for each part that it may price."""

    run: Run
    figures: str
    unpriced: str | None
    parts: tuple[str, ...]
    evidence: Mapping[str, measured.Evidence]

    def use(self, parts: Sequence[Part]) -> RunUse:
        """What became of it for a fleet of these parts."""
        used = any(part.id in self.evidence for part in parts)
        reason = None if used else self.unpriced or _("not used: this fleet isn't counted in the run's part")
        return RunUse(self.run.id, self.parts, used, self.figures, reason)


@dataclass(frozen=True)
class Chain:
    """A part's links from nominal on, what to know of them, and why none says what is delivered."""

    links: tuple[Derate, ...]
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    asked: tuple[Derate, ...] = field(default=(), repr=False)  # those of them that others state

    @property
    def delivers(self) -> bool:
        """Whether it says what is delivered: a rating alone doesn't."""
        return len(self.links) > 1

    @property
    def devices(self) -> int | None:
        """On how many devices that worked together the chain was measured; None: that isn't known."""
        for link in reversed(self.links):
            if link.to is Stage.SCALED:
                return link.n_to
        return 1


@dataclass(frozen=True)
class Derates:
    """What may be taken: the derates that were asked for, in their order, and a run's evidence."""

    asked: tuple[Derate, ...]
    given: Given | None
    listed: Catalogue
    goodput: bool = False

    def chain(self, part: Part, cards: int | None) -> Chain:
        """The chain of a fleet of so many cards of a part; goodput alone depends on their number.

        Raises InputError where it would count a loss twice, or leave one out.
        """
        rated = card_tflops(part) is not None and DTYPE in part.datasheet
        if not rated and self.listed.default_derate(part.id) is None:
            unrated = _("{part} has no {dtype} rating with a source", part=part.name, dtype=DTYPE)
            return Chain((), reasons=(unrated,))
        evidence = self.given.evidence.get(part.id) if self.given else None
        asked = [each for each in self.asked if each.may_serve(part.id)]
        notes = [*(evidence.notes if evidence else ()), *self._declined(evidence, asked)]
        if not asked and evidence is None:
            asked = self._unasked(part)
            notes += [_by_default(each, part) for each in asked]
        first = links.rated(part) if rated else links.unrated(part)
        found = (first, *(evidence.derates if evidence else ()), *asked)
        if len(found) == 1:
            reason = N_(
                "delivered isn't known: no derate of {part} is published for use unasked, and no run of it "
                "was given (--run RUN or --derate ID)"
            )
            return Chain(found, tuple(notes), (_(reason, part=part.id),))
        if self.goodput and cards is not None:
            found = (*found, make_goodput_link(cards))
        notes += _serving(part, found)
        return Chain(links.join(found), tuple(notes), asked=tuple(asked))

    def _declined(self, evidence: measured.Evidence | None, asked: Sequence[Derate]) -> Iterator[str]:
        """What was given or asked for and isn't taken."""
        if self.given is not None and evidence is None:
            why = self.given.unpriced or _("it is of another part")
            yield _("run {run} doesn't price it: {why}", run=self.given.run.id, why=why)
        if self.asked and not asked:
            ids = _(", ").join(str(each.id) for each in self.asked)
            yield _("{derates}: of another part, not used", derates=ids)

    def _unasked(self, part: Part) -> list[Derate]:
        """The derate taken where nothing is asked for: one of the catalogue before a published one."""
        assumed, default = self.listed.default_derate(part.id), unasked_for(part.id)
        if assumed is not None:
            return [links.from_assumption(assumed)]
        return [] if default is None else [links.from_published(default)]


def _by_default(link: Derate, part: Part) -> str:
    """Which derate is taken unasked."""
    return _(
        "by the {how} derate {derate}: no run of {part} was given",
        how=_(link.provenance),
        derate=link.id,
        part=short(part.name),
    )


def derates(
    asked: Asked | Sequence[Asked],
    run: Run | str | Path | None,
    results: Results,
    sizes: Sequence[Size],
    listed: Catalogue,
    *,
    named: bool,
    goodput: bool = False,
) -> Derates:
    """What these fleets may take; `named` says that they were asked for by name.

    Raises InputError for an unknown derate or run, one of none of these parts, or a run without an admitted
    record.
    """
    held = {part.id: part for size in sizes for part in size.parts}
    several = (asked,) if isinstance(asked, str | Published | Derate) else tuple(asked)
    found = tuple(_derate(each, listed) for each in several)
    _check(found, held, named=named)
    return Derates(found, None if run is None else _given(run, results, held), listed, goodput)


def notes(chain: Chain, part: Part, cards: int | None, known: Registry) -> list[str]:
    """What derates of others don't say of a fleet of so many cards, each beginning with the derate's id."""
    return [note for link in chain.asked for note in _notes(link, part, cards, known)]


def _derate(asked: Asked, listed: Catalogue) -> Derate:
    if isinstance(asked, Derate):
        return asked
    if isinstance(asked, Published):
        return links.from_published(asked)
    if "=" in asked:
        return _assumed(asked)
    mine = {each.id: each for each in listed.derate}
    figures = {figure.id: figure for figure in published()}
    if asked in mine:
        return links.from_assumption(mine[asked])
    if asked in figures:
        return links.from_published(figures[asked])
    ids = [*mine, *(figure.id for figure in figures.values() if figure.quantity == "derate")]
    near = difflib.get_close_matches(asked, ids, n=3, cutoff=0.4) or ids[:3]
    raise InputError(
        "no such published derate",
        where="--derate",
        got=asked,
        expected=f"an id of published.toml; the nearest are {', '.join(near)}",
    )


def _assumed(written: str) -> Derate:
    """`block:step=0.9..0.95`."""
    span, _equals, ratio = written.partition("=")
    from_, _colon, to = span.partition(":")
    if not {from_, to} <= set(Stage):
        raise InputError(
            "no derate", where="--derate", got=written, expected=f"FROM:TO=RATIO, of {', '.join(Stage)}"
        )
    return links.assumed(from_, to, read(ratio, "--derate"), _("assumed: given by --derate"))


def _check(asked: Sequence[Derate], held: Mapping[str, Part], *, named: bool) -> None:
    """A derate that was asked for serves a fleet that was asked for."""
    for each in asked:
        if each.parts == () and not named:
            raise InputError(
                f"a derate of {each.device}, which is no one part of the registry",
                where="--derate",
                got=each.id,
                expected="the fleets that it's to price, by name",
            )
        if not any(each.may_serve(part) for part in held):
            raise InputError(
                f"a derate of {each.part or each.device}, and none of these fleets is counted in that",
                where="--derate",
                got=each.id,
                expected=f"one of {' or '.join(held) or 'a part: these fleets are of none that is known'}",
            )


def _given(run: Run | str | Path, results: Results, held: Mapping[str, Part]) -> Given:
    """Read the run and take from it what these parts may be priced by."""
    read = run if isinstance(run, Run) else read_run(find_run(str(run), results))
    unpriced, parts = measured.unpriced(read), measured.parts_of(read)
    mine = [part for part in parts if part in held]
    if unpriced is None and not mine:
        evidence_of = read.manifest.devices[0].evidence
        raise measured.NotPriced(
            message("run_of_other_part"),
            where="--run",
            found=", ".join(parts) or message("no_known_part", evidence=evidence_of),
            expected=f"a run of {' or '.join(held) or 'their parts, which are unknown'}; or --part beside it",
        )
    evidence = {} if unpriced else {part: measured.evidence(read, held[part]) for part in mine}
    return Given(read, measured.own_figures(read), unpriced, parts, evidence)


def _serving(part: Part, found: Sequence[Derate]) -> list[str]:
    """That a derate of another dtype serves. InputError where it can't."""
    if DTYPE not in part.datasheet:
        return []
    problem = next(filter(None, (links.unserved(part, each.dtype) for each in found)), None)
    if problem:
        raise InputError(problem, where=part.id, got=found[-1].dtype, expected=f"a derate of {DTYPE} or bf16")
    return list(dict.fromkeys(filter(None, (links.served(part, each.dtype) for each in found))))


def _notes(link: Derate, part: Part, cards: int | None, known: Registry) -> list[str]:
    said = []
    if link.law == "exact":
        said.append(_("a point figure: no interval is known"))
    elif link.provenance == "published":
        counted = (
            N_("how its FLOPs were counted isn't known: by Megatron's it's from {low} to {high}")
            if link.convention == "unknown"
            else N_("counted by another convention: by Megatron's it's from {low} to {high}")
        )
        said.append(_(counted, low=ratio(link.low), high=ratio(link.high)))
    if link.provenance == "published" and link.part != part.id:
        stands = (
            N_("measured on {device}, the same silicon; stands in for {part}")
            if link.part
            else N_("measured on {device}, which is no one part of the registry; stands in for {part}")
        )
        said.append(_(stands, device=link.device, part=part.name))
        theirs, mine = _link_gb_s(known.parts.get(link.part or "")), _link_gb_s(part)
        if link.to is Stage.SCALED and theirs and mine and theirs != mine:
            over = N_("measured over links of {theirs} GB/s, here they are {mine}: that isn't in it")
            said.append(_(over, theirs=stated(theirs), mine=stated(mine)))
    if link.to is Stage.SCALED and link.n_to is not None and cards is not None and cards > link.n_to:
        fewer = N_("measured on {count} devices: what more of them lose together isn't in it")
        said.append(_(fewer, count=count(link.n_to)))
    if link.note:
        said.append(link.note)
    return [_("{name}: {said}", name=link.id or link.span, said=note) for note in said]


def _link_gb_s(part: Part | None) -> float | None:
    return None if part is None or part.link_gb_s is None else part.link_gb_s.value
