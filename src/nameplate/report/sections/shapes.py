"""Matrix products by shape and dtype: one figure a field, so that a row reads across formats."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure, percent
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.from_run import REAL_FILL
from nameplate.record import Record
from nameplate.report.charts.data import MOST_BARS, Cell, Chart, Grid, first
from nameplate.report.view import Table

_FEWEST = 2


def shapes_table(records: Sequence[Record]) -> Table:
    """Products by shape and dtype, of nominal where that is known; nothing where there is but one of either.

    Of several records of a field (phases, devices) the settled one stands in it, and of several of those the
    slowest; a wrong result stands nowhere, nor does one of inputs that no model has.
    """
    found = _fields(records)
    shapes = list(dict.fromkeys(shape for shape, _dtype in found))
    dtypes = list(dict.fromkeys(dtype for _shape, dtype in found))
    rated = all(record.efficiency is not None for record in found.values())
    if len(shapes) < _FEWEST or not dtypes:
        return Table("", (), (), frozenset())
    rows = tuple(
        (plain(shape), *(_text(found.get((shape, dtype)), rated) for dtype in dtypes)) for shape in shapes
    )
    heading = (
        _("Matrix products by shape and dtype, of nominal")
        if rated
        else _("Matrix products by shape and dtype, in TFLOPS")
    )
    columns = ("shape", *dtypes)
    numbers = frozenset(range(1, len(columns)))
    charts = _grid(heading, shapes, dtypes, found, rated)
    return Table(heading, columns, rows, numbers, charts=charts)


def _fields(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    found: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.workload != "matmul" or record.tflops is None or record.fill != REAL_FILL:
            continue
        if "unverified" in record.verdicts:
            continue
        key = record.shape, record.dtype
        if key not in found or _goes_before(record, found[key]):
            found[key] = record
    return found


def _goes_before(one: Record, other: Record) -> bool:
    if (one.phase == "sustained") != (other.phase == "sustained"):
        return one.phase == "sustained"
    return (one.tflops or 0.0) < (other.tflops or 0.0)


def _text(record: Record | None, rated: bool) -> str:
    if record is None:
        return "–"
    return percent(record.efficiency) if rated else figure(record.tflops)


def _grid(
    title: str,
    shapes: Sequence[str],
    dtypes: Sequence[str],
    found: dict[tuple[str, str], Record],
    rated: bool,
) -> tuple[Chart, ...]:
    cells = tuple(
        Cell(plain(shape), dtype, _value(record, rated), _text(record, rated))
        for (shape, dtype), record in found.items()
    )
    cut = first(MOST_BARS, shapes)
    if cut is not None:
        title = _("{title}: the first {count} of {all}", title=title, count=cut, all=len(shapes))
    alt = _("A grid of {rows} shapes by {columns} dtypes.", rows=len(shapes), columns=len(dtypes))
    return (
        Grid("shapes", title, alt, tuple(map(plain, shapes)), tuple(dtypes), cells, 1.0 if rated else None),
    )


def _value(record: Record, rated: bool) -> float:
    return (record.efficiency if rated else record.tflops) or 0.0
