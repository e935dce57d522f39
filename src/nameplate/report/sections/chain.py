"""Tables of ratios: the chain's links with what they leave of nominal, and what fill and cache change."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import interval, percent, ratio
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.effects import Effect
from nameplate.chain.from_run import Link, ReachedStage, Stages, furthest, left, slowest
from nameplate.report.charts.data import Chart, Step, Waterfall
from nameplate.report.labels import Labels, slowest_words, stage_words
from nameplate.report.view import Field, Table, table_of


def chain_table(links: Sequence[Link], labels: Labels, stages: Sequence[Stages], count: int) -> Table:
    """The chain, link by link; device and dtype stand in each row only where there are several.

    `stages` are those of the devices that have a chain, of `count` devices in all.
    """
    devices, dtypes = {link.device for link in links}, {link.dtype for link in links}
    fields = [
        Field[Link]("link", lambda link: f"{link.from_} → {link.to}"),
        *([Field[Link]("device", lambda link: plain(link.device))] if len(devices) > 1 else []),
        *([Field[Link]("dtype", lambda link: link.dtype)] if len(dtypes) > 1 else []),
        Field[Link]("ratio", lambda link: ratio(link.value), is_number=True),
        Field[Link]("95 % interval", lambda link: interval(ratio, link.low, link.high)),
        Field[Link]("how", lambda link: _(link.provenance), goes=1),
        Field[Link]("verdict", lambda link: link.verdict),
        Field[Link]("from", lambda link: _source(link, labels)),
    ]
    heading = (
        _("The chain in {dtype}, as far as this run has measured it", dtype=next(iter(dtypes)))
        if len(dtypes) == 1
        else _("The chain, as far as this run has measured it")
    )
    return table_of(heading, fields, links, charts=_waterfalls(stages, count))


def _waterfalls(stages: Sequence[Stages], count: int) -> list[Chart]:
    """What is left of nominal; of several devices the slowest, at whose pace a job on all of them goes."""
    shown = slowest(stages)
    if shown is None:
        return []
    steps = tuple(_step(stage, shown.stages[0]) for stage in shown.stages)
    title = _("From nominal to delivered in {dtype}", dtype=shown.dtype)
    if count > 1:
        which = slowest_words(len(furthest(stages)), count)
        title = _("{title}: {device}, {slowest}", title=title, device=plain(shown.device), slowest=which)
    said = _(", ").join(f"{step.label} {percent(step.value)}" for step in steps)
    return [
        Waterfall("chain", title, _("What is left of nominal after each stage: {steps}.", steps=said), steps)
    ]


def _source(link: Link, labels: Labels) -> str:
    """The cases behind a measured link, or where a rating comes from."""
    if link.provenance != "measured":
        return plain(link.source)
    return ", ".join(map(labels.case, link.source.split(", ")))


def effects_table(effects: Sequence[Effect], labels: Labels) -> Table:
    """Each state of inputs and caches against the usual one of the same product."""
    fields = [
        Field[Effect]("case", lambda effect: labels.row(effect.device, effect.case)),
        Field[Effect]("ratio", lambda effect: ratio(effect.value), is_number=True),
        Field[Effect]("95 % interval", lambda effect: interval(ratio, effect.low, effect.high)),
        Field[Effect]("beside", lambda effect: _state(effect.beside)),
        Field[Effect]("verdict", lambda effect: " ".join(effect.verdicts)),
    ]
    return table_of(_("What fill and cache change"), fields, effects)


def _state(case: str) -> str:
    """The fill and the cache state of an id, such as `normal warm`."""
    return plain(" ".join(case.rsplit("/", 4)[1:3]))


def _step(stage: ReachedStage, nominal: ReachedStage) -> Step:
    share = left(stage, nominal)
    known = share.low < share.high
    return Step(
        stage_words(stage.stage),
        share.value,
        share.low if known else None,
        share.high if known else None,
        _(stage.provenance),
    )
