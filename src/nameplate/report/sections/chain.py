"""Tables of ratios: the links of the chain, and the effect of inputs and caches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nameplate.base.formatting import interval, percent, ratio
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.effects import Effect
from nameplate.chain.from_run import DeviceChain, ReachedStage, find_furthest, find_slowest
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.charts.data import Chart, Step, Waterfall
from nameplate.report.labels import Labels, describe_slowest, name_stage
from nameplate.report.sections.intervals import interval_heading
from nameplate.report.view import Field, Table, table_of
from nameplate.stats.interval import Interval


def chain_table(links: Sequence[Link], labels: Labels, stages: Sequence[DeviceChain], count: int) -> Table:
    """The chain, link by link; the columns device and dtype appear where there are several of them.

    `stages` are those of the devices that have a chain, of `count` devices in all.
    """
    devices, dtypes = {link.device for link in links}, {link.dtype for link in links}
    fields = [
        Field[Link]("link", lambda link: f"{link.from_} → {link.to}"),
        *([Field[Link]("device", lambda link: plain(link.device))] if len(devices) > 1 else []),
        *([Field[Link]("dtype", lambda link: link.dtype)] if len(dtypes) > 1 else []),
        Field[Link]("ratio", lambda link: ratio(link.value), is_number=True),
        Field[Link](interval_heading(_records_of(stages)), lambda link: interval(ratio, link.low, link.high)),
        Field[Link]("how", lambda link: _(link.provenance), drop_priority=1),
        Field[Link]("verdict", lambda link: link.verdict or ""),
        Field[Link]("from", lambda link: _source(link, labels)),
    ]
    heading = (
        _("The chain in {dtype}, as far as this run has measured it", dtype=next(iter(dtypes)))
        if len(dtypes) == 1
        else _("The chain, as far as this run has measured it")
    )
    lead = ""
    if any(chain.set_aside is not None for chain in stages):
        lead = _(
            "The last link starts from the block, whose gradients were exchanged: the training step was "
            "measured on one device alone, and isn't part of this chain."
        )
    return table_of(heading, fields, links, charts=_waterfalls(stages, count), lead=lead)


def _records_of(chains: Sequence[DeviceChain]) -> list[Record]:
    return [record for chain in chains for stage in chain.stages for record in stage.records]


def _source(link: Link, labels: Labels) -> str:
    """Return the cases behind a link that was measured or follows from them, or the source of a rating."""
    if link.provenance not in ("measured", "modelled") or link.to is Stage.DATASHEET:
        return plain(link.source)
    return ", ".join(map(labels.case, link.source.split(", ")))


def _waterfalls(stages: Sequence[DeviceChain], count: int) -> list[Chart]:
    """Chart what is left of nominal after each stage; of several devices for the slowest.

    A synchronous job on all devices runs at the slowest one's pace.
    """
    shown = find_slowest(stages)
    if shown is None:
        return []
    steps = tuple(_step(stage, shown.share_of_nominal(stage)) for stage in shown.stages)
    title = _("From nominal to delivered in {dtype}", dtype=shown.dtype)
    if count > 1:
        which = describe_slowest(len(find_furthest(stages)), count)
        title = _("{title}: {device}, {slowest}", title=title, device=plain(shown.device), slowest=which)
    said = _(", ").join(f"{step.label} {percent(step.value)}" for step in steps)
    return [
        Waterfall("chain", title, _("What is left of nominal after each stage: {steps}.", steps=said), steps)
    ]


def _step(stage: ReachedStage, share: Interval) -> Step:
    has_spread = share.low < share.high and math.isfinite(share.high)
    low, high = (share.low, share.high) if has_spread else (None, None)
    return Step(name_stage(stage.stage), share.value, low, high, _(stage.provenance))


def effects_table(effects: Sequence[Effect], labels: Labels, records: Sequence[Record]) -> Table:
    """Each fill and cache state, as a ratio to the usual one of the same product; `records` are the run's."""
    fields = [
        Field[Effect]("case", lambda effect: labels.row(effect.device, effect.case)),
        Field[Effect]("ratio", lambda effect: ratio(effect.value), is_number=True),
        Field[Effect](interval_heading(records), lambda effect: interval(ratio, effect.low, effect.high)),
        Field[Effect]("compared with", lambda effect: _fill_and_cache(effect.beside)),
        Field[Effect]("verdict", lambda effect: " ".join(effect.verdicts)),
    ]
    return table_of(_("What fill and cache change"), fields, effects)


def _fill_and_cache(case: str) -> str:
    """Return the fill and the cache state of a case id, such as `normal warm`."""
    return plain(" ".join(case.rsplit("/", 4)[1:3]))
