"""A training step: of small models predicted and measured, of whole models predicted."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import change, duration, percent, with_half_width
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.steps import StepFigure, find_steps
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.view import Column, Table


def step_table(records: Sequence[Record], labels: Labels) -> Table:
    """Steps by number of layers: what the pieces predict, what was measured, where the time goes."""
    return Table(
        _("The training step"),
        (
            Column(N_("model")),
            Column(N_("layers"), is_number=True),
            Column(N_("predicted"), is_number=True),
            Column(N_("measured"), is_number=True),
            Column(N_("residual"), is_number=True),
            Column(N_("in layers"), is_number=True, drop_priority=1),
            Column(N_("in embedding and logits"), is_number=True, drop_priority=0),
            Column(N_("in AdamW"), is_number=True, drop_priority=0),
            Column(N_("tokens a second"), is_number=True),
        ),
        tuple(_row(each, labels) for each in find_steps(records)),
        lead=_(
            "Predicted: layers × the layer forward and backward, embedding, logits and loss, and AdamW by "
            "the weights, each as measured alone. The residual is measured ÷ predicted − 1, of models of a "
            "few layers; it widens the interval of the whole one. A step is of one batch: tokens that are "
            "accumulated over several need AdamW once."
        ),
    )


def _row(each: StepFigure, labels: Labels) -> tuple[str, ...]:
    layers, ends, optimizer = each.pieces.shares(each.layers)
    layer = each.pieces.layer
    name = plain(each.model) if each.model else labels.row(layer.device, layer.case)
    return (
        name,
        str(each.layers),
        duration(each.predicted.value),
        "–" if each.measured is None or each.measured.time_s is None else duration(each.measured.time_s),
        change(each.residual),
        percent(layers),
        percent(ends),
        percent(optimizer),
        with_half_width(each.tokens_per_second),
    )
