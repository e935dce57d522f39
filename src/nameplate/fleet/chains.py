"""The chain of a fleet: which links it takes, with notes on them.

A chain begins with the ratio of the part's two ratings. Then come the links of a run of that part, and then
those that were requested. Where none were requested, a derate that a file assumes, else what the model of MFU
predicts of a training run on all cards of the fleet; behind a run's product, the rest of it.
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
from nameplate.chain.published import UNKNOWN_CONVENTION, Published, load_published
from nameplate.chain.scaling import extend_scaling
from nameplate.chain.stage import Stage
from nameplate.fleet.catalogues import LEAST_DERATE, MOST_DERATE, AssumedDerate, Catalogue
from nameplate.fleet.evidence import GivenRun, explain_unpriced, read_given_run
from nameplate.fleet.goodput import make_goodput_link
from nameplate.fleet.mfu import TrainingSetup
from nameplate.fleet.mfu_links import find_training_run, link_training_run, predict_link, predict_rest
from nameplate.fleet.mfu_runs import PEAK_DTYPES, load_training_runs
from nameplate.fleet.power import check_power_limit, explain_no_speed, limit_links
from nameplate.fleet.size import DTYPE, Size, card_tflops
from nameplate.specs.part import Part
from nameplate.specs.registry import Registry
from nameplate.stats.uncertain import read_uncertain
from nameplate.store.find import Results
from nameplate.store.folder import Run

RequestedDerate = str | Published | Link


@dataclass(frozen=True)
class LinkChoice:
    """The links that fleets may take: those that were requested, in their order, and a run's evidence.

    `training` is what a fleet trains where its MFU is predicted.
    """

    requested: tuple[Link, ...]
    given: GivenRun | None
    catalogue: Catalogue
    registry: Registry
    training: TrainingSetup
    goodput: bool = False
    power_limit: float | None = None  # W a card

    def make_chain(self, part: Part, cards: int | None) -> Chain:
        """The chain of a fleet of so many cards of a part; MFU and goodput depend on their number.

        Raises InputError where it would count a loss twice, or leave one out.
        """
        is_rated = card_tflops(part) is not None and DTYPE in part.datasheet
        if not is_rated and self.catalogue.default_derate(part.id) is None:
            unrated = _("{part} has no {dtype} rating with a source", part=part.name, dtype=DTYPE)
            return Chain((), reasons=(unrated,))
        evidence = self.given.evidence.get(part.id) if self.given else None
        requested = [link for link in self.requested if link.may_serve(part.id)]
        notes = [*(evidence.notes if evidence else ()), *self._note_unused(evidence, requested)]
        measured = evidence.links if evidence else ()
        links = [*measured, *requested] if requested else self._complete(part, cards, measured)
        notes += _note_default(links, measured, part) if not requested else []
        peak = _find_peak(links, part)
        first = link_ratings(part, peak=peak) if is_rated else link_conflicting_ratings(part)
        if not links:
            reason = N_(
                "delivered EFLOPS aren't known: {part} has no {precision} rating that an MFU could be a "
                "share of, and neither a run nor a derate of it was given (--run RUN or --derate ID)"
            )
            unknown = _(reason, part=part.id, precision=self.training.precision)
            return Chain((first,), tuple(notes), (unknown,))
        if self.power_limit is not None:
            unknown_speed = explain_no_speed(part, self.power_limit)
            if unknown_speed is not None:
                return Chain((first,), tuple(notes), (unknown_speed,))
            links = limit_links(links, part, self.power_limit)
        links = [first, *links]
        if self.goodput and cards is not None and links[-1].to is not Stage.GOODPUT:
            links.append(make_goodput_link(cards))
        served = {link.dtype for link in links[1:]} - {peak}
        notes += filter(None, (_check_dtype(part, dtype) for dtype in sorted(served)))
        joined = join_links(links)
        notes += [note for link in links[1:] for note in _note_link(link, part, cards, self.registry)]
        return Chain(joined, tuple(dict.fromkeys(notes)))

    def _complete(self, part: Part, cards: int | None, measured: Sequence[Link]) -> list[Link]:
        """The links of a part without a requested derate: a run's, and the stages after them."""
        if measured:
            scaled = extend_scaling(measured, cards)
            if scaled is not None:
                return scaled
            return predict_rest(part, cards, self.training, measured) or list(measured)
        assumed = self.catalogue.default_derate(part.id)
        if assumed is not None:
            return [_link_assumed(assumed)]
        predicted = predict_link(part, cards, self.training)
        return [] if predicted is None else [predicted]

    def _note_unused(self, evidence: Chain | None, requested: Sequence[Link]) -> Iterator[str]:
        """Note what was given or requested and isn't taken."""
        if self.given is not None and evidence is None:
            why = explain_unpriced(self.given.run) or _("it is of another part")
            yield _("run {run} doesn't price it: {why}", run=self.given.run.id, why=why)
        if self.requested and not requested:
            ids = _(", ").join(str(each.id) for each in self.requested)
            yield _("{derates}: of another part, not used", derates=ids)


def choose_links(
    requested: RequestedDerate | Sequence[RequestedDerate],
    run: Run | str | Path | None,
    results: Results,
    sizes: Sequence[Size],
    catalogue: Catalogue,
    registry: Registry,
    *,
    training: TrainingSetup,
    named: bool,
    goodput: bool = False,
    power_limit: float | None = None,
) -> LinkChoice:
    """The links that these fleets may take; `named`: they were asked for by name.

    Raises InputError for an unknown derate or run, for one that serves none of these parts, for a run
    without a trusted record, and for a power limit that no card can have.
    """
    check_power_limit(power_limit)
    parts = {part.id: part for size in sizes for part in size.parts}
    several = (requested,) if isinstance(requested, str | Published | Link) else tuple(requested)
    links = tuple(_read_link(each, catalogue, registry) for each in several)
    _check_parts(links, parts, named=named)
    given = None if run is None else read_given_run(run, results, parts)
    return LinkChoice(links, given, catalogue, registry, training, goodput, power_limit)


def link_ratings(part: Part, dtype: str = DTYPE, *, peak: str = DTYPE) -> Link:
    """The first link, nominal → datasheet: the ratio of two ratings. KeyError if the part lacks one.

    A fleet is counted by `dtype`. Work in another has its datasheet figure in that one (`peak`): 2 for fp8.
    """
    nominal, datasheet = part.nominal[dtype], part.datasheet[peak]
    source = _("nominal {tflops}: {source}", tflops=stated(nominal.value), source=nominal.source)
    if datasheet is not nominal:
        said = N_("datasheet {tflops}: {source}")
        more = _(said, tflops=stated(datasheet.value), source=datasheet.source)
        source = _("; ").join((source, more))
    return _make_first_link(datasheet.value / nominal.value, dtype, "published", source, part)


def _find_peak(links: Sequence[Link], part: Part) -> str:
    """The dtype of the datasheet's figure that these links go on from: that of training in another one."""
    for link in links:
        is_mfu = link.from_ is Stage.DATASHEET and link.to.reach >= Stage.STEP.reach
        rated = part.datasheet.get(link.dtype) if is_mfu and link.dtype in PEAK_DTYPES.values() else None
        if rated is not None and DTYPE in part.datasheet and rated.value != part.datasheet[DTYPE].value:
            return link.dtype
    return DTYPE


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


def _note_default(links: Sequence[Link], measured: Sequence[Link], part: Part) -> Iterator[str]:
    """Note what a chain without requested derates takes, and which of a run's links it leaves out."""
    left_out = [link for link in measured if link not in links]
    if left_out:
        yield _(
            "run {run} also measured {stages}, which isn't used: no published figure says what is usual "
            "there for {part}",
            run=left_out[0].run,
            stages=_(", ").join(link.span for link in left_out),
            part=part.short_name,
        )
    if not measured and links and links[-1].provenance == "assumed":
        said = N_("by the assumed derate {derate}: no run of {part} was given")
        yield _(said, derate=links[-1].id, part=part.short_name)


def _read_link(requested: RequestedDerate, catalogue: Catalogue, registry: Registry) -> Link:
    """A link as it is, by the id of a derate or of a published training run, or as `FROM:TO=RATIO`.

    Raises InputError for an unknown one.
    """
    if isinstance(requested, Link):
        return requested
    if isinstance(requested, Published):
        return requested.as_link()
    if "=" in requested:
        return _read_assumed(requested)
    entries = {each.id: each for each in catalogue.derate}
    figures = {figure.id: figure for figure in load_published()}
    if requested in entries:
        return _link_assumed(entries[requested])
    if requested in figures:
        return figures[requested].as_link()
    run = find_training_run(requested)
    if run is not None:
        return link_training_run(run, registry)
    ids = [*entries, *(figure.id for figure in figures.values() if figure.quantity == "derate")]
    ids += [each.id for each in load_training_runs()]
    near = difflib.get_close_matches(requested, ids, n=3, cutoff=0.4) or ids[:3]
    raise InputError(
        "no such published derate",
        where="--derate",
        got=requested,
        expected=f"an id of published.toml or training_runs.csv; the nearest are {', '.join(near)}",
    )


def _read_assumed(written: str) -> Link:
    """`block:step=0.9..0.95`."""
    span, _equals, ratio = written.partition("=")
    from_, _colon, to = span.partition(":")
    if not {from_, to} <= set(Stage):
        raise InputError(
            "not a derate", where="--derate", got=written, expected=f"FROM:TO=RATIO, of {', '.join(Stage)}"
        )
    number = read_uncertain(ratio, "--derate")
    if number.low < LEAST_DERATE or number.high > MOST_DERATE:
        expected = f"a ratio above 0, from {LEAST_DERATE:g} to {MOST_DERATE:g}"
        raise InputError("not a derate", where="--derate", got=number.value, expected=expected)
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


def _check_parts(requested: Sequence[Link], parts: Mapping[str, Part], *, named: bool) -> None:
    """InputError for a link that serves no part of these fleets."""
    for link in requested:
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


def _note_link(link: Link, part: Part, cards: int | None, registry: Registry) -> list[str]:
    notes = []
    if link.provenance == "measured":
        return [] if link.note is None else [link.note]
    if link.law == "exact":
        notes.append(_("a point figure: no interval is known"))
    elif link.convention == UNKNOWN_CONVENTION:
        counted = N_(
            "it isn't known how its FLOPs were counted; by this chain's convention it lies between {low} and "
            "{high}"
        )
        notes.append(_(counted, low=ratio(link.low), high=ratio(link.high)))
    if link.provenance == "published" and link.part != part.id:
        stands = (
            N_("measured on {device}, the same silicon; stands in for {part}")
            if link.part
            else N_("measured on {device}, which isn't one part of the registry; stands in for {part}")
        )
        notes.append(_(stands, device=link.device, part=part.name))
        theirs, mine = _interconnect_gb_s(registry.parts.get(link.part or "")), _interconnect_gb_s(part)
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
