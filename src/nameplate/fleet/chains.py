"""The chain of a fleet: which links it takes, with notes on them.

A chain begins with the ratio of the part's two ratings. Then come the links of a run of that part, and then
those that were asked for. With neither, it takes the default derate of the part.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, ratio, stated
from nameplate.base.language import N_, _
from nameplate.chain.link import Chain, Link, Provenance, assume_link, join_links
from nameplate.chain.published import Published, find_default_derate, load_published
from nameplate.chain.stage import Stage
from nameplate.fleet.catalogues import LEAST_DERATE, MOST_DERATE, AssumedDerate, Catalogue
from nameplate.fleet.evidence import GivenRun, read_given_run, why_unpriced
from nameplate.fleet.goodput import make_goodput_link
from nameplate.fleet.size import DTYPE, Size, card_tflops
from nameplate.specs.part import Part
from nameplate.specs.registry import Registry
from nameplate.stats.uncertain import read_uncertain
from nameplate.store.find import Results
from nameplate.store.folder import Run

Asked = str | Published | Link


@dataclass(frozen=True)
class LinkChoice:
    """The links that fleets may take: those that were asked for, in their order, and a run's evidence."""

    asked: tuple[Link, ...]
    given: GivenRun | None
    listed: Catalogue
    known: Registry
    goodput: bool = False

    def chain(self, part: Part, cards: int | None) -> Chain:
        """The chain of a fleet of so many cards of a part; only goodput depends on their number.

        Raises InputError where it would count a loss twice, or leave one out.
        """
        is_rated = card_tflops(part) is not None and DTYPE in part.datasheet
        if not is_rated and self.listed.default_derate(part.id) is None:
            unrated = _("{part} has no {dtype} rating with a source", part=part.name, dtype=DTYPE)
            return Chain((), reasons=(unrated,))
        evidence = self.given.evidence.get(part.id) if self.given else None
        asked = [link for link in self.asked if link.may_serve(part.id)]
        notes = [*(evidence.notes if evidence else ()), *self._note_unused(evidence, asked)]
        if not asked and evidence is None:
            asked = self._find_default(part)
            notes += [_note_default(link, part) for link in asked]
        first = link_ratings(part) if is_rated else link_conflicting_ratings(part)
        links = (first, *(evidence.links if evidence else ()), *asked)
        if len(links) == 1:
            reason = N_(
                "delivered EFLOPS aren't known: {part} has no default derate, and neither a run nor a "
                "derate of it was given (--run RUN or --derate ID)"
            )
            return Chain(links, tuple(notes), (_(reason, part=part.id),))
        if self.goodput and cards is not None:
            links = (*links, make_goodput_link(cards))
        notes += dict.fromkeys(filter(None, (_check_dtype(part, link.dtype) for link in links)))
        joined = join_links(links)
        notes += [note for link in asked for note in _note_link(link, part, cards, self.known)]
        return Chain(joined, tuple(notes))

    def _note_unused(self, evidence: Chain | None, asked: Sequence[Link]) -> Iterator[str]:
        """What was given or asked for and isn't taken."""
        if self.given is not None and evidence is None:
            why = why_unpriced(self.given.run) or _("it is of another part")
            yield _("run {run} doesn't price it: {why}", run=self.given.run.id, why=why)
        if self.asked and not asked:
            ids = _(", ").join(str(each.id) for each in self.asked)
            yield _("{derates}: of another part, not used", derates=ids)

    def _find_default(self, part: Part) -> list[Link]:
        """The link that a part has by default: one of the catalogue before a published one."""
        assumed, published = self.listed.default_derate(part.id), find_default_derate(part.id)
        if assumed is not None:
            return [_link_assumed(assumed)]
        return [] if published is None else [published.as_link()]


def choose_links(
    asked: Asked | Sequence[Asked],
    run: Run | str | Path | None,
    results: Results,
    sizes: Sequence[Size],
    listed: Catalogue,
    known: Registry,
    *,
    named: bool,
    goodput: bool = False,
) -> LinkChoice:
    """The links that these fleets may take; `named`: they were asked for by name.

    Raises InputError for an unknown derate or run, for one that serves none of these parts, and for a run
    without a trusted record.
    """
    parts = {part.id: part for size in sizes for part in size.parts}
    several = (asked,) if isinstance(asked, str | Published | Link) else tuple(asked)
    links = tuple(_read_link(each, listed) for each in several)
    _check_parts(links, parts, named=named)
    given = None if run is None else read_given_run(run, results, parts)
    return LinkChoice(links, given, listed, known, goodput)


def link_ratings(part: Part, dtype: str = DTYPE) -> Link:
    """The first link, nominal → datasheet: the ratio of two ratings. KeyError if the part lacks one."""
    nominal, datasheet = part.nominal[dtype], part.datasheet[dtype]
    source = _("nominal {tflops}: {source}", tflops=stated(nominal.value), source=nominal.source)
    if datasheet is not nominal:
        said = N_("datasheet {tflops}: {source}")
        more = _(said, tflops=stated(datasheet.value), source=datasheet.source)
        source = _("; ").join((source, more))
    return _make_first_link(datasheet.value / nominal.value, dtype, "published", source, part)


def link_conflicting_ratings(part: Part) -> Link:
    """The first link of a part whose ratings conflict: a fleet of it is counted by its datasheet's figure."""
    why = _("assumed: {part} is counted by its datasheet, whose figures conflict", part=part.name)
    return _make_first_link(1.0, DTYPE, "assumed", why, part)


def _make_first_link(ratio: float, dtype: str, provenance: Provenance, source: str, part: Part) -> Link:
    return Link(
        Stage.NOMINAL,
        Stage.DATASHEET,
        ratio,
        dtype,
        provenance,
        source,
        low=ratio,
        high=ratio,
        device=part.name,
    )


def _note_default(link: Link, part: Part) -> str:
    return _(
        "by the {how} derate {derate}: no run of {part} was given",
        how=_(link.provenance),
        derate=link.id,
        part=part.short_name,
    )


def _read_link(asked: Asked, listed: Catalogue) -> Link:
    """A link as it is, by the id of a derate, or as `FROM:TO=RATIO`. InputError for an unknown one."""
    if isinstance(asked, Link):
        return asked
    if isinstance(asked, Published):
        return asked.as_link()
    if "=" in asked:
        return _read_assumed(asked)
    entries = {each.id: each for each in listed.derate}
    figures = {figure.id: figure for figure in load_published()}
    if asked in entries:
        return _link_assumed(entries[asked])
    if asked in figures:
        return figures[asked].as_link()
    ids = [*entries, *(figure.id for figure in figures.values() if figure.quantity == "derate")]
    near = difflib.get_close_matches(asked, ids, n=3, cutoff=0.4) or ids[:3]
    raise InputError(
        "no such published derate",
        where="--derate",
        got=asked,
        expected=f"an id of published.toml; the nearest are {', '.join(near)}",
    )


def _read_assumed(written: str) -> Link:
    """`block:step=0.9..0.95`."""
    span, _equals, ratio = written.partition("=")
    from_, _colon, to = span.partition(":")
    if not {from_, to} <= set(Stage):
        raise InputError(
            "no derate", where="--derate", got=written, expected=f"FROM:TO=RATIO, of {', '.join(Stage)}"
        )
    number = read_uncertain(ratio, "--derate")
    if number.low < LEAST_DERATE or number.high > MOST_DERATE:
        expected = f"a ratio above 0, from {LEAST_DERATE:g} to {MOST_DERATE:g}"
        raise InputError("no derate", where="--derate", got=number.value, expected=expected)
    return assume_link(from_, to, number, _("assumed: given by --derate"))


def _link_assumed(entry: AssumedDerate) -> Link:
    """A derate that a file of fleets assumes, as a link."""
    return assume_link(
        entry.from_,
        entry.to,
        entry.uncertain,
        _("assumed: {source} ({date})", source=entry.source, date=entry.as_of),
        dtype=entry.dtype,
        id=entry.id,
        n_from=entry.n_from,
        n_to=entry.n_to,
        parts=entry.parts or None,
        note=entry.note,
    )


def _check_parts(asked: Sequence[Link], parts: Mapping[str, Part], *, named: bool) -> None:
    """InputError for a link that serves no part of these fleets."""
    for link in asked:
        if link.parts == () and not named:
            raise InputError(
                f"a derate of {link.device}, which isn't one part of the registry",
                where="--derate",
                got=link.id,
                expected="the names of the fleets to price by it",
            )
        if not any(link.may_serve(part) for part in parts):
            raise InputError(
                f"a derate of {link.part or link.device}, but none of these fleets is of that part",
                where="--derate",
                got=link.id,
                expected=f"one of {' or '.join(parts) or 'a part: these fleets are of none that is known'}",
            )


def _check_dtype(part: Part, dtype: str) -> str | None:
    """The note that a link of another dtype serves this part's fp16; None if there is nothing to note.

    Raises InputError if the link can't serve it: only bf16 can, if the part is rated alike in both.
    """
    if dtype in (DTYPE, "any") or DTYPE not in part.datasheet:
        return None
    problem = None
    mine, theirs = (part.datasheet.get(each) for each in (DTYPE, dtype))
    if dtype != "bf16":
        problem = f"a derate of {dtype} says nothing of {DTYPE}"
    elif mine is None or theirs is None or mine.value != theirs.value:
        problem = (
            f"{part.name} isn't rated alike in {dtype} and {DTYPE}: one's derate doesn't serve the other"
        )
    if problem is not None:
        raise InputError(problem, where=part.id, got=dtype, expected=f"a derate of {DTYPE} or bf16")
    return _(
        "the {dtype} derate serves {served}: both are rated {tflops} TFLOPS on {part}",
        dtype=dtype,
        served=DTYPE,
        tflops=stated(part.datasheet[DTYPE].value),
        part=part.name,
    )


def _note_link(link: Link, part: Part, cards: int | None, known: Registry) -> list[str]:
    notes = []
    if link.law == "exact":
        notes.append(_("a point figure: no interval is known"))
    elif link.provenance == "published":
        counted = (
            N_(
                "it isn't known how its FLOPs were counted; by Megatron's convention it lies between "
                "{low} and {high}"
            )
            if link.convention == "unknown"
            else N_(
                "its FLOPs were counted by another convention; by Megatron's it lies between {low} and {high}"
            )
        )
        notes.append(_(counted, low=ratio(link.low), high=ratio(link.high)))
    if link.provenance == "published" and link.part != part.id:
        stands = (
            N_("measured on {device}, the same silicon; stands in for {part}")
            if link.part
            else N_("measured on {device}, which isn't one part of the registry; stands in for {part}")
        )
        notes.append(_(stands, device=link.device, part=part.name))
        theirs, mine = _interconnect_gb_s(known.parts.get(link.part or "")), _interconnect_gb_s(part)
        if link.to is Stage.SCALED and theirs and mine and theirs != mine:
            over = N_("measured over links of {theirs} GB/s; the effect of {mine} here isn't included")
            notes.append(_(over, theirs=stated(theirs), mine=stated(mine)))
    if link.to is Stage.SCALED and link.n_to is not None and cards is not None and cards > link.n_to:
        fewer = N_("measured on {count} devices; the further loss on more devices isn't included")
        notes.append(_(fewer, count=count(link.n_to)))
    if link.note:
        notes.append(link.note)
    return [_("{name}: {said}", name=link.id or link.span, said=note) for note in notes]


def _interconnect_gb_s(part: Part | None) -> float | None:
    return None if part is None or part.link_gb_s is None else part.link_gb_s.value
