"""The loss named: from the silicon's limit to the products that were measured, as tables and waterfalls."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure, percent, ratio
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.text import plain
from nameplate.chain.losses import WHAT, Factor, Losses, explain_losses
from nameplate.record import Record
from nameplate.report.charts.data import Step, Waterfall
from nameplate.report.labels import name_stage
from nameplate.report.view import Field, Table, table_of

_Row = tuple[Losses, Factor, float]  # … and TFLOPS left after it


def losses_table(records: Sequence[Record]) -> Table:
    """A row a factor of each device, with what is left after it, and a waterfall each; empty where no limit
    is known.
    """
    found = explain_losses(records)
    if not found:
        return Table("", (), ())
    several, cut = len(found) > 1, _fields_of_cut_steps(found)
    fields = [Field[_Row]("device", lambda row: plain(row[0].device))] if several else []
    fields += [
        Field[_Row](N_("loss"), lambda row: _(WHAT[row[1].name])),
        Field[_Row](N_("keeps"), _kept_text, is_number=True),
        *cut,
        Field[_Row](N_("left"), lambda row: figure(row[2]), is_number=True),
        Field[_Row](N_("evidence"), lambda row: _(", ").join(row[1].evidence), drop_priority=0),
    ]
    lead = _(
        "From {limit} TFLOPS, the limit of the silicon, to {reached} in {stage}: the known factors multiply "
        "to {share}. What has no evidence is unknown, and what it lost is in the remainder.",
        limit=figure(found[0].limit_tflops),
        reached=figure(found[0].tflops),
        stage=name_stage(found[0].stage),
        share=percent(found[0].tflops / found[0].limit_tflops),
    )
    if cut:
        more = _(
            "No step can take more than was lost: where its evidence says more, the step is cut to that, and "
            "what the evidence alone says stands beside it."
        )
        lead = join_sentences([lead, more])
    charts = tuple(_chart(each) for each in found)
    return table_of(_("The loss named"), fields, _rows(found), charts=charts, lead=lead)


def _fields_of_cut_steps(found: Sequence[Losses]) -> list[Field[_Row]]:
    """What its evidence alone says of a step that was cut to what was lost; nothing where none was."""
    if not any(factor.by_evidence is not None for each in found for factor in each.factors):
        return []

    def text(row: _Row) -> str:
        return "" if row[1].by_evidence is None else ratio(row[1].by_evidence)

    return [Field[_Row](N_("by itself"), text, is_number=True)]


def _rows(found: Sequence[Losses]) -> list[_Row]:
    rows = []
    for each in found:
        left = each.limit_tflops
        for factor in each.factors:
            left *= 1.0 if factor.value is None else factor.value
            rows.append((each, factor, left))
    return rows


def _kept_text(row: _Row) -> str:
    value = row[1].value
    return _("unknown") if value is None else ratio(value)


def _chart(losses: Losses) -> Waterfall:
    steps = [Step(_("silicon"), 1.0, None, None, _("measured or rated"))]
    for each, factor, left in _rows([losses]):
        if factor.value is not None:
            share = left / each.limit_tflops
            steps.append(Step(_(WHAT[factor.name]), share, None, None, _(", ").join(factor.evidence)))
    title = _("From silicon to {stage} in {dtype}", stage=name_stage(losses.stage), dtype=losses.dtype)
    alt = _(
        "What is left of the silicon's limit after each loss: {steps}.",
        steps=_(", ").join(f"{step.label} {percent(step.value)}" for step in steps),
    )
    return Waterfall("losses", title, alt, tuple(steps), N_("of silicon"), N_("loss"))
