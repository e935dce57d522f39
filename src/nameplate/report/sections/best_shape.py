"""The table of searches: for each case called `best`, which shape won and what may have been missed."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import UNKNOWN, change, count, percent
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.record import Record, SearchSummary
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, table_of


def search_results_table(records: Sequence[Record], labels: Labels) -> Table:
    """One row a searched case: its shape, how many shapes were timed of how many, the bound on the others.

    `of silicon` is achieved ÷ the physical limit, where that is known.
    """
    found = [(record, record.search) for record in records if record.search is not None]
    fields = [
        Field[_Searched](N_("case"), lambda each: labels.row(each[0].device, each[0].case)),
        Field[_Searched](N_("best shape"), _shape_text, unbroken=True),
        Field[_Searched](N_("of silicon"), _silicon_text, is_number=True),
        Field[_Searched](N_("timed"), _timed_text, is_number=True),
        Field[_Searched](N_("another may be faster by"), _gain_text, is_number=True),
    ]
    return table_of(_("The best shapes found"), fields, found)


_Searched = tuple[Record, SearchSummary]


def _shape_text(each: _Searched) -> str:
    sizes = each[0].dimensions
    axes = "x".join(str(sizes.get(axis, "?")) for axis in ("m", "n", "k"))
    return plain(f"{axes} {sizes.get('layout', '')}".strip())


def _silicon_text(each: _Searched) -> str:
    record = each[0]
    if record.tflops is None or record.silicon_tflops is None:
        return UNKNOWN
    return percent(record.tflops / record.silicon_tflops)


def _timed_text(each: _Searched) -> str:
    return _("{seen} of {shapes}", seen=count(each[1].seen), shapes=count(each[1].shapes))


def _gain_text(each: _Searched) -> str:
    """The bound on shapes that weren't timed, but never above the physical limit."""
    record, found = each
    if found.unseen_gain is None:
        return UNKNOWN
    room = found.unseen_gain
    if record.tflops is not None and record.silicon_tflops is not None:
        room = min(room, max(record.silicon_tflops / record.tflops - 1, 0.0))
    return _("at most {gain}", gain=change(room))
