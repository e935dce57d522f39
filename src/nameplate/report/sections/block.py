"""The transformer block: how long a pass takes, how many tokens a second that is, how near its products."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure, percent_with_half_width, with_half_width
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, table_of


def block_table(records: Sequence[Record], labels: Labels) -> Table:
    """Every block that was measured: one layer of the model that it stands for, by pass."""
    blocks = [each for each in records if each.workload == "transformer_block" and each.tflops is not None]
    fields = [
        Field[Record]("case", lambda each: labels.row(each.device, each.case)),
        Field[Record]("layer of", lambda each: plain(each.represents or "–"), goes=0),
        Field[Record]("ms a pass", lambda each: figure((each.time_s or 0.0) * 1e3), is_number=True, goes=1),
        Field[Record]("tokens a second", _tokens_a_second, is_number=True),
        Field[Record]("achieved", _achieved, is_number=True),
        Field[Record]("efficiency", _efficiency, is_number=True),
        Field[Record]("verdict", lambda each: " ".join(each.verdicts)),
    ]
    return table_of(_("The transformer block"), fields, blocks, lead=_lead(blocks) if blocks else "")


def _lead(blocks: Sequence[Record]) -> str:
    """Of which model it is one layer, for a screen without that column; and how FLOPs were counted."""
    models = plain(_(", ").join(dict.fromkeys(each.represents for each in blocks if each.represents)))
    counted = _conventions(blocks)
    if not models:
        return _("One layer; FLOPs as {conventions} counts them.", conventions=counted)
    return _("One layer of {models}; FLOPs as {conventions} counts them.", models=models, conventions=counted)


def _tokens_a_second(record: Record) -> str:
    """Tokens of one launch ÷ its mean time: through this one layer."""
    sizes = [record.dimensions.get(name) for name in ("batch", "tokens")]
    batch, tokens = (each if isinstance(each, int) else None for each in sizes)
    if batch is None or tokens is None or not record.time_s:
        return "–"
    return figure(batch * tokens / record.time_s)


def _achieved(record: Record) -> str:
    return with_half_width(record.tflops, record.tflops_low, record.tflops_high)


def _efficiency(record: Record) -> str:
    return percent_with_half_width(record.efficiency, record.efficiency_low, record.efficiency_high)


def _conventions(records: Sequence[Record]) -> str:
    return plain(", ".join(dict.fromkeys(each.convention or "–" for each in records)))
