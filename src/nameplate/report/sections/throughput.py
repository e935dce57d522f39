"""Tables of measured throughput: by case, by shape, of blocks, and across devices."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from nameplate.base.formatting import (
    UNKNOWN,
    figure,
    percent,
    percent_with_half_width,
    throughput_unit,
    with_half_width,
)
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.from_run import REAL_FILL
from nameplate.record import Record
from nameplate.report.charts.data import (
    MOST_BARS,
    Bar,
    Bars,
    Cell,
    Chart,
    Grid,
    title_of_first,
)
from nameplate.report.labels import Labels
from nameplate.report.sections.intervals import chart_title
from nameplate.report.view import Column, Field, Table, table_of
from nameplate.store.folder import Run

# One shape is a row that the throughput table has already.
_FEWEST_SHAPES = 2


def throughput_table(records: Sequence[Record], labels: Labels) -> Table:
    """Compute cases: achieved beside nominal, the efficiencies with their intervals, the verdict."""
    computed = with_tflops(records)
    fields = [
        _case(labels),
        _ACHIEVED,
        Field[Record]("median", lambda r: figure(r.tflops_median), is_number=True, drop_priority=1),
        Field[Record]("nominal", lambda r: figure(r.nominal_tflops), is_number=True, drop_priority=2),
        _EFFICIENCY,
    ]
    if any(record.normalized_efficiency is not None for record in computed):
        fields += [
            Field[Record]("normalized", _normalized_text, is_number=True, drop_priority=5),
            Field[Record]("lost to", lambda r: plain(render(r.loss or UNKNOWN)), drop_priority=3),
        ]
    if any(record.datasheet_tflops != record.nominal_tflops for record in computed):
        fields += [
            Field[Record]("datasheet", lambda r: figure(r.datasheet_tflops), is_number=True, drop_priority=0),
            Field[Record](
                "of datasheet", lambda r: percent(r.datasheet_efficiency), is_number=True, drop_priority=4
            ),
        ]
    heading = _("Achieved, in TFLOPS")
    if any(throughput_unit(record.dtype) != "TFLOPS" for record in computed):
        heading = _("Achieved, in TFLOPS (of integers TOPS)")
    return table_of(heading, [*fields, _VERDICT], computed, charts=_throughput_bars(computed, labels))


def measured_records(run: Run) -> list[Record]:
    """Return the run's records that hold a figure: those that were neither skipped nor failed."""
    return [record for record in run.records if record.status == "ok"]


def with_tflops(records: Sequence[Record]) -> list[Record]:
    """Return the records of arithmetic: those that have TFLOPS."""
    return [record for record in records if record.tflops is not None]


def tflops_text(record: Record) -> str:
    """Return the record's TFLOPS with the half-width of their interval."""
    return with_half_width(record.interval("tflops"))


def milliseconds_text(record: Record) -> str:
    """Return the mean time of a launch in ms."""
    return figure(None if record.time_s is None else record.time_s * 1e3)


def _efficiency_text(record: Record) -> str:
    return percent_with_half_width(record.interval("efficiency"))


def _normalized_text(record: Record) -> str:
    return percent_with_half_width(record.interval("normalized_efficiency"))


def _case(labels: Labels) -> Field[Record]:
    return Field("case", lambda record: labels.row(record.device, record.case))


_ACHIEVED = Field[Record]("achieved", tflops_text, is_number=True)
_EFFICIENCY = Field[Record]("efficiency", _efficiency_text, is_number=True)
_VERDICT = Field[Record]("verdict", lambda record: " ".join(record.verdicts))


def _throughput_bars(records: Sequence[Record], labels: Labels) -> list[Chart]:
    """Chart achieved ÷ nominal by case; TFLOPS where no nominal figure is known."""
    rated = [record for record in records if record.efficiency is not None]
    shown = rated or records
    if not shown:
        return []
    trusted, doubted = _("trusted"), _("in doubt")
    bars = []
    for record in shown:
        # Records without efficiency have TFLOPS: one of the two intervals is known.
        reached = record.interval("efficiency" if rated else "tflops")
        assert reached is not None
        kind = trusted if record.trusted else doubted
        label = labels.row(record.device, record.case)
        bars.append(Bar(label, reached.value, reached.low, reached.high, kind))
    axis = _("achieved ÷ nominal") if rated else _("achieved, TFLOPS")
    title = title_of_first(MOST_BARS, bars, chart_title(axis, shown))
    formatter = percent if rated else figure
    low, high = min(bars, key=lambda bar: bar.value), max(bars, key=lambda bar: bar.value)
    alt = _(
        "Bars for {count} cases, from {low} ({lowest}) to {high} ({highest}).",
        count=len(bars),
        low=formatter(low.value),
        lowest=low.label,
        high=formatter(high.value),
        highest=high.label,
    )
    return [Bars("efficiency", title, alt, axis, tuple(bars), (trusted, doubted), is_share=bool(rated))]


def shapes_table(records: Sequence[Record]) -> Table:
    """Matrix products by shape and dtype, of nominal where that is known; empty for fewer than two shapes.

    Where several records have one shape and dtype (phases, devices), a sustained one is shown, and of several
    sustained ones the slowest. Unverified results and inputs other than normal ones are left out.
    """
    found = _by_shape_and_dtype(records)
    shapes = list(dict.fromkeys(shape for shape, _dtype in found))
    dtypes = list(dict.fromkeys(dtype for _shape, dtype in found))
    if len(shapes) < _FEWEST_SHAPES:
        return Table("", (), ())
    rated = all(record.efficiency is not None for record in found.values())
    values = {key: (each.efficiency if rated else each.tflops) or 0.0 for key, each in found.items()}
    formatter = percent if rated else figure
    rows = tuple(
        (plain(shape), *(formatter(values.get((shape, dtype))) for dtype in dtypes)) for shape in shapes
    )
    heading = (
        _("Matrix products by shape and dtype, of nominal")
        if rated
        else _("Matrix products by shape and dtype, in TFLOPS")
    )
    grid = Grid(
        "shapes",
        title_of_first(MOST_BARS, shapes, heading),
        _("A grid of {rows} shapes by {columns} dtypes.", rows=len(shapes), columns=len(dtypes)),
        tuple(map(plain, shapes)),
        tuple(dtypes),
        tuple(Cell(plain(shape), dtype, each, formatter(each)) for (shape, dtype), each in values.items()),
        1.0 if rated else None,
    )
    columns = (Column("shape"), *(Column(dtype, is_number=True) for dtype in dtypes))
    return Table(heading, columns, rows, charts=(grid,))


def _by_shape_and_dtype(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    alike: dict[tuple[str, str], list[Record]] = {}
    for record in with_tflops(records):
        if record.workload == "matmul" and record.fill == REAL_FILL and not record.is_wrong:
            alike.setdefault((record.shape, record.dtype), []).append(record)
    return {
        key: min(each, key=lambda record: (record.phase != "sustained", record.tflops))
        for key, each in alike.items()
    }


def contended_table(records: Sequence[Record], labels: Labels) -> Table:
    """Contended cases: throughput by wall-clock time, and by the CPU time that other processes left."""
    fields = [
        _case(labels),
        _ACHIEVED,
        Field[Record]("by CPU time", lambda r: figure(r.cpu_time_tflops), is_number=True),
        Field[Record]("others had", lambda r: _condition(r, "foreign_cpu_share"), is_number=True),
        Field[Record]("stolen", lambda r: _condition(r, "steal_share"), is_number=True),
    ]
    contended = [
        r for r in with_tflops(records) if "contended" in r.verdicts and r.cpu_time_tflops is not None
    ]
    return table_of(_("While others used the cores, in TFLOPS"), fields, contended)


def _condition(record: Record, name: str) -> str:
    share = record.conditions.get(name)
    return percent(share) if isinstance(share, float | int) else UNKNOWN


def graph_table(records: Sequence[Record], labels: Labels) -> Table:
    """Cases that were also replayed as a CUDA graph, which leaves the host's launch overhead out."""
    fields = [
        _case(labels),
        _ACHIEVED,
        Field[Record]("as a graph", lambda r: figure(r.graph_tflops), is_number=True),
        _VERDICT,
    ]
    replayed = [record for record in with_tflops(records) if record.graph_tflops is not None]
    return table_of(_("Without the host between launches, in TFLOPS"), fields, replayed)


def block_table(records: Sequence[Record], labels: Labels) -> Table:
    """Transformer blocks: one layer of the model that each stands for, by pass."""
    blocks = [record for record in with_tflops(records) if record.workload == "transformer_block"]
    fields = [
        _case(labels),
        Field[Record]("layer of", lambda record: plain(record.represents or UNKNOWN), drop_priority=0),
        Field[Record]("ms a pass", milliseconds_text, is_number=True, drop_priority=1),
        Field[Record]("tokens a second", _tokens_per_second, is_number=True),
        _ACHIEVED,
        _EFFICIENCY,
        _VERDICT,
    ]
    return table_of(_("The transformer block"), fields, blocks, lead=_block_lead(blocks) if blocks else "")


def _block_lead(blocks: Sequence[Record]) -> str:
    """Name the model of which a block is one layer (narrow screens lack that column), and the convention."""
    models = plain(_(", ").join(dict.fromkeys(each.represents for each in blocks if each.represents)))
    counted = plain(", ".join(dict.fromkeys(each.convention or UNKNOWN for each in blocks)))
    if not models:
        return _("One layer; FLOPs as {conventions} counts them.", conventions=counted)
    return _("One layer of {models}; FLOPs as {conventions} counts them.", models=models, conventions=counted)


def _tokens_per_second(record: Record) -> str:
    """Divide the tokens of one launch by its mean time: tokens a second through this one layer."""
    batch, tokens = record.size("batch"), record.size("tokens")
    if batch is None or tokens is None or not record.time_s:
        return UNKNOWN
    return figure(batch * tokens / record.time_s)


def devices_table(records: Sequence[Record], labels: Labels) -> Table:
    """The same case on every device of the run: the spread, and what one synchronous job on all would get."""
    by_case: dict[str, list[Record]] = {}
    for record in with_tflops(records):
        by_case.setdefault(record.case, []).append(record)
    rows = tuple(_devices_row(labels, each) for each in by_case.values() if len(each) > 1)
    columns = (
        Column("case"),
        Column("devices", is_number=True),
        Column("median", is_number=True),
        Column("slowest", is_number=True),
        Column("on"),
        Column("spread", is_number=True),
        Column("as one job", is_number=True),
    )
    return Table(_("Across devices, in TFLOPS"), columns, rows)


def _devices_row(labels: Labels, records: Sequence[Record]) -> tuple[str, ...]:
    reached = [record.tflops or 0.0 for record in records]
    slowest = min(records, key=lambda record: record.tflops or 0.0)
    middle = median(reached)
    return (
        labels.case(slowest.case),
        str(len(records)),
        figure(middle),
        figure(slowest.tflops),
        plain(slowest.device),
        percent((max(reached) - min(reached)) / middle),
        # A synchronous job runs every device at the slowest one's pace.
        figure(len(records) * min(reached)),
    )
