"""The table of searches: for each case called `best`, which shape won and what may have been missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nameplate.base.formatting import (
    UNKNOWN,
    change,
    count,
    figure,
    percent,
    percent_with_half_width,
    throughput_unit,
)
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.record import Record, SearchSummary
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, table_of
from nameplate.stats.interval import ratio

_Searched = tuple[Record, SearchSummary]


def search_results_table(records: Sequence[Record], labels: Labels) -> Table:
    """One row a searched case: its shape, how many shapes were timed of how many, the bound on the others.

    `of silicon` is achieved ÷ the physical limit, where that is known; `of torch's` is achieved ÷ what torch
    reached at its own best shape of the same dtype. Where several libraries were tried, the lead says which
    one the ceiling is of.
    """
    found = [(record, record.search) for record in records if record.search is not None]
    fields = [
        Field[_Searched](N_("case"), lambda each: labels.row(each[0].device, each[0].case)),
        Field[_Searched](N_("best shape"), _shape_text, unbroken=True),
        Field[_Searched](N_("of silicon"), _silicon_text, is_number=True),
        *_fields_against_torch(records),
        Field[_Searched](N_("timed"), _timed_text, is_number=True),
        Field[_Searched](N_("another may be faster by"), _gain_text, is_number=True),
    ]
    lead = " ".join(_name_best_backends(records))
    return table_of(_("The best shapes found"), fields, found, lead=lead)


def _kind_of(record: Record) -> tuple[str, ...]:
    """What is compared: the same work on the same device, by whichever library."""
    return (record.device, record.dtype, record.shape, record.fill, record.cache, record.phase or "")


def _find_rivals(records: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Return the searched records of each kind of which there are several, fastest first."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.search is not None and record.tflops is not None:
            found.setdefault(_kind_of(record), []).append(record)
    ranked = {kind: sorted(each, key=lambda r: -(r.tflops or 0.0)) for kind, each in found.items()}
    return {kind: each for kind, each in ranked.items() if len(each) > 1}


def _fields_against_torch(records: Sequence[Record]) -> list[Field[_Searched]]:
    rivals = _find_rivals(records)
    if not rivals:
        return []

    def text(each: _Searched) -> str:
        torch = _find_torch(rivals.get(_kind_of(each[0]), ()))
        return UNKNOWN if torch is None else _ratio_text(each[0], torch)

    return [Field[_Searched](N_("of torch's"), text, is_number=True)]


def _find_torch(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.backend == "torch"), None)


def _ratio_text(record: Record, torch: Record) -> str:
    """Achieved ÷ torch's, with the half-width of its interval, as of two independent figures."""
    own, other = record.interval("tflops"), torch.interval("tflops")
    if record is torch or own is None or other is None:
        return UNKNOWN
    return percent_with_half_width(ratio(own, other))


def _name_best_backends(records: Sequence[Record]) -> Iterator[str]:
    """Yield, for each kind that several libraries were measured of, whose the ceiling is and by how much."""
    for ranked in _find_rivals(records).values():
        best, torch = ranked[0], _find_torch(ranked)
        if torch is None:
            continue
        reached = {"dtype": best.dtype, "unit": throughput_unit(best.dtype), "tflops": figure(best.tflops)}
        if best is torch:
            yield _("{dtype}: the ceiling is torch's, {tflops} {unit}.", **reached)
            continue
        said = _ratio_text(best, torch)
        yield _(
            "{dtype}: the ceiling is {backend}'s, {tflops} {unit}, {share} of torch's.",
            backend=plain(best.backend),
            share=said,
            **reached,
        )


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
