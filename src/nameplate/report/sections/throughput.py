"""Tables of what was measured: achieved beside nominal, memory, what load or the host took of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from nameplate.base.formatting import figure, percent, percent_with_half_width, with_half_width
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.from_run import admitted
from nameplate.record import Record
from nameplate.report.charts.data import MOST_BARS, Bar, Bars, Chart, first
from nameplate.report.labels import Labels
from nameplate.report.sections.roofline import roofline
from nameplate.report.view import Field, Table, table_of


def work_table(records: Sequence[Record], labels: Labels) -> Table:
    """Compute cases: achieved beside nominal, both efficiencies with their intervals, the verdict."""
    records = computed(records)
    fields = [
        _case(labels),
        _achieved(),
        Field[Record]("median", lambda r: figure(r.tflops_median), is_number=True, goes=1),
        Field[Record]("nominal", lambda r: figure(r.nominal_tflops), is_number=True, goes=2),
        Field("efficiency", _efficiency, is_number=True),
    ]
    if any(record.normalized_efficiency is not None for record in records):
        fields += [
            Field("normalized", _normalized, is_number=True, goes=5),
            Field[Record]("lost to", lambda r: plain(render(r.loss or "–")), goes=3),
        ]
    if any(record.datasheet_tflops != record.nominal_tflops for record in records):
        fields += [
            Field[Record]("datasheet", lambda r: figure(r.datasheet_tflops), is_number=True, goes=0),
            Field[Record]("of datasheet", lambda r: percent(r.datasheet_efficiency), is_number=True, goes=4),
        ]
    heading = _("Achieved, in TFLOPS")
    return table_of(heading, [*fields, _verdict()], records, charts=_bars(records, labels))


def _bars(records: Sequence[Record], labels: Labels) -> list[Chart]:
    """Achieved ÷ nominal by case, or achieved where nominal isn't known."""
    rated = [record for record in records if record.efficiency is not None]
    shown = rated or records
    if not shown:
        return []
    believed, doubted = _("may be believed"), _("in doubt")
    bars = tuple(
        Bar(
            labels.row(each.device, each.case),
            *_ends(each, bool(rated)),
            believed if admitted(each) else doubted,
        )
        for each in shown
    )
    axis = _("achieved ÷ nominal") if rated else _("achieved, TFLOPS")
    cut = first(MOST_BARS, bars)
    title = _("{axis}, by case, with 95 % intervals", axis=axis)
    if cut is not None:
        title = _("{title}: the first {count} of {all}", title=title, count=cut, all=len(bars))
    form = percent if rated else figure
    low, high = min(bars, key=lambda bar: bar.value), max(bars, key=lambda bar: bar.value)
    alt = _(
        "Bars for {count} cases, from {low} ({lowest}) to {high} ({highest}).",
        count=len(bars),
        low=form(low.value),
        lowest=low.label,
        high=form(high.value),
        highest=high.label,
    )
    return [Bars("efficiency", title, alt, axis, bars, (believed, doubted), is_share=bool(rated))]


def _ends(record: Record, rated: bool) -> tuple[float, float | None, float | None]:
    if rated:
        return record.efficiency or 0.0, record.efficiency_low, record.efficiency_high
    return record.tflops or 0.0, record.tflops_low, record.tflops_high


def computed(records: Sequence[Record]) -> list[Record]:
    """Those whose throughput is of arithmetic."""
    return [record for record in records if record.tflops is not None]


def _case(labels: Labels) -> Field[Record]:
    return Field("case", lambda record: labels.row(record.device, record.case))


def _achieved() -> Field[Record]:
    return Field("achieved", achieved, is_number=True)


def _verdict() -> Field[Record]:
    return Field("verdict", lambda record: " ".join(record.verdicts))


def achieved(record: Record) -> str:
    """Throughput with half its interval."""
    return with_half_width(record.tflops, record.tflops_low, record.tflops_high)


def _efficiency(record: Record) -> str:
    return percent_with_half_width(record.efficiency, record.efficiency_low, record.efficiency_high)


def _normalized(record: Record) -> str:
    return percent_with_half_width(
        record.normalized_efficiency, record.normalized_efficiency_low, record.normalized_efficiency_high
    )


def load_table(records: Sequence[Record], labels: Labels) -> Table:
    """Contended cases by the clock on the wall, and by the CPU time that others left them."""
    fields = [
        _case(labels),
        _achieved(),
        Field[Record]("by CPU time", lambda r: figure(r.cpu_time_tflops), is_number=True),
        Field[Record]("others had", lambda r: _share(r, "foreign_cpu_share"), is_number=True),
        Field[Record]("stolen", lambda r: _share(r, "steal_share"), is_number=True),
    ]
    loaded = [r for r in computed(records) if "contended" in r.verdicts and r.cpu_time_tflops is not None]
    return table_of(_("While others used the cores, in TFLOPS"), fields, loaded)


def _share(record: Record, name: str) -> str:
    share = record.conditions.get(name)
    return percent(share) if isinstance(share, float | int) else "–"


def launch_table(records: Sequence[Record], labels: Labels) -> Table:
    """Cases whose launches were replayed as a graph too: what the device does without the host."""
    fields = [
        _case(labels),
        _achieved(),
        Field[Record]("as a graph", lambda r: figure(r.graph_tflops), is_number=True),
        _verdict(),
    ]
    replayed = [record for record in computed(records) if record.graph_tflops is not None]
    return table_of(_("Without the host between launches, in TFLOPS"), fields, replayed)


def memory_table(records: Sequence[Record], labels: Labels) -> Table:
    """What memory delivers, and every case under the roofs of compute and memory."""
    fields = [_case(labels), Field("achieved", _bandwidth, is_number=True), _verdict()]
    moved = [record for record in records if record.workload == "memory"]
    return table_of(_("Memory, in GB/s, and the roofline"), fields, moved, charts=roofline(records, labels))


def _bandwidth(record: Record) -> str:
    return with_half_width(record.bandwidth_gb_s, record.bandwidth_low_gb_s, record.bandwidth_high_gb_s)


def across_table(records: Sequence[Record], labels: Labels) -> Table:
    """The same case on every device of the run: how far they spread, and what they reach as a gang, which
    goes at the pace of the slowest.
    """
    by_case: dict[str, list[Record]] = {}
    for record in computed(records):
        by_case.setdefault(record.case, []).append(record)
    rows = tuple(_across_row(labels, each) for each in by_case.values() if len(each) > 1)
    columns = ("case", "devices", "median", "slowest", "on", "spread", "as a gang")
    return Table(_("Across devices, in TFLOPS"), columns, rows, frozenset({1, 2, 3, 5, 6}))


def _across_row(labels: Labels, records: Sequence[Record]) -> tuple[str, ...]:
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
        figure(len(records) * min(reached)),
    )
