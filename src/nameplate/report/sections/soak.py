"""The table and the time series of cases that ran from idle: burst, what was left later, sustained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nameplate.base.formatting import UNKNOWN, duration, figure, percent
from nameplate.base.language import _
from nameplate.record import Record
from nameplate.report.charts.data import Chart, TimeChart, TimeSeries
from nameplate.report.labels import Labels
from nameplate.report.sections.throughput import tflops_text
from nameplate.report.view import Field, Table, table_of


@dataclass(frozen=True)
class _Row:
    """What was delivered at one time: TFLOPS as text, and as a share of burst and of nominal."""

    record: Record
    when: str
    tflops: str
    of_burst: float | None
    of_nominal: float | None


def soak_table(records: Sequence[Record], labels: Labels) -> Table:
    """Every record with a time series: burst, what was left at fixed times, and the sustained figure."""
    bursts = [record for record in records if record.course and record.tflops is not None]
    fields = [
        Field[_Row]("when", lambda row: row.when),
        Field[_Row]("TFLOPS", lambda row: row.tflops, is_number=True),
        Field[_Row]("of burst", lambda row: percent(row.of_burst), is_number=True),
        Field[_Row]("of nominal", lambda row: percent(row.of_nominal), is_number=True),
    ]
    if len(bursts) == 1:
        heading = _("From idle: {case}", case=_label(bursts[0], labels))
    else:
        heading = _("From idle")
        fields.insert(0, Field("case", lambda row: _label(row.record, labels)))
    rows = [row for burst in bursts for row in _rows(burst, _sustained(burst, records))]
    return table_of(heading, fields, rows, charts=_time_series(bursts, labels))


def _label(burst: Record, labels: Labels) -> str:
    """Return the case's label without its phase: the table shows both phases."""
    return labels.row(burst.device, burst.case).removesuffix(" burst")


def _sustained(burst: Record, records: Sequence[Record]) -> Record | None:
    """Find the sustained record of the same work; one of the same group is preferred."""
    same = [
        record
        for record in records
        if record.phase == "sustained"
        and record.tflops is not None
        and not record.is_wrong
        and _work(record) == _work(burst)
    ]
    return next((record for record in same if record.group == burst.group), same[0] if same else None)


def _work(record: Record) -> tuple[str, ...]:
    return (
        *(record.device, record.workload, record.dtype, record.shape),
        *(record.fill, record.cache, record.backend),
    )


def _rows(burst: Record, sustained: Record | None) -> Iterator[_Row]:
    yield _Row(burst, _("burst"), tflops_text(burst), 1.0, burst.efficiency)
    for each in burst.derates:
        when = _("after {time}", time=duration(each.at_s))
        yield _Row(burst, when, figure(each.tflops), each.of_burst, each.efficiency)
    when = _("sustained, {when}", when=_settled_when(burst))
    if sustained is None or not burst.tflops:
        yield _Row(burst, when, UNKNOWN, None, None)
    else:
        of_burst = (sustained.tflops or 0.0) / burst.tflops
        yield _Row(burst, when, tflops_text(sustained), of_burst, sustained.efficiency)


def _settled_when(burst: Record) -> str:
    """Say from when on the record's own time series was settled."""
    if burst.settled_s is None:
        return _("not known to have settled within {time}", time=duration(burst.course[-1].at_s))
    if burst.settled_s:
        return _("from {time} on", time=duration(burst.settled_s))
    return _("from the start")


def _time_series(bursts: Sequence[Record], labels: Labels) -> list[Chart]:
    if not bursts:
        return []
    series = tuple(TimeSeries(_label(each, labels), each.course, each.settled_s) for each in bursts)
    said = _("; ").join(
        _(
            "{case} from {first} to {last} TFLOPS within {time}",
            case=course.label,
            first=figure(course.moments[0].tflops),
            last=figure(course.moments[-1].tflops),
            time=duration(course.moments[-1].at_s),
        )
        for course in series
    )
    return [TimeChart("from-idle", _("Throughput over time, from idle"), _("{said}.", said=said), series)]
