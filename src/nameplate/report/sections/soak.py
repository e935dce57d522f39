"""The table and the curve of a case that began from idle: burst, what was left when, where it settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nameplate.base.formatting import duration, figure, percent
from nameplate.base.language import _
from nameplate.record import Derate, Record
from nameplate.report.charts.data import Chart, Course, Courses
from nameplate.report.labels import Labels
from nameplate.report.sections.throughput import achieved
from nameplate.report.view import Field, Table, table_of


@dataclass(frozen=True)
class _Moment:
    """A row: what was delivered when, as it is printed, of the burst figure and of nominal."""

    record: Record
    when: str
    tflops: str
    of_burst: float | None
    of_nominal: float | None


def onset_table(records: Sequence[Record], labels: Labels) -> Table:
    """Every record with a course: burst, what is left at the moments people quote, and once it settled."""
    bursts = begun_from_idle(records)
    moments = [moment for burst in bursts for moment in _moments(burst, _settled(burst, records))]
    fields = [
        Field[_Moment]("when", lambda m: m.when),
        Field[_Moment]("TFLOPS", lambda m: m.tflops, is_number=True),
        Field[_Moment]("of burst", lambda m: percent(m.of_burst), is_number=True),
        Field[_Moment]("of nominal", lambda m: percent(m.of_nominal), is_number=True),
    ]
    if len(bursts) == 1:
        heading = _("From idle: {case}", case=product(labels, bursts[0]))
    else:
        heading = _("From idle")
        fields.insert(0, Field("case", lambda m: product(labels, m.record)))
    return table_of(heading, fields, moments, charts=_courses(labels, bursts))


def _courses(labels: Labels, bursts: Sequence[Record]) -> list[Chart]:
    if not bursts:
        return []
    courses = tuple(Course(product(labels, each), each.course, each.settled_s) for each in bursts)
    said = _("; ").join(
        _(
            "{case} from {first} to {last} TFLOPS within {time}",
            case=course.label,
            first=figure(course.moments[0].tflops),
            last=figure(course.moments[-1].tflops),
            time=duration(course.moments[-1].at_s),
        )
        for course in courses
    )
    return [Courses("from-idle", _("Throughput after the onset from idle"), _("{said}.", said=said), courses)]


def begun_from_idle(records: Sequence[Record]) -> list[Record]:
    """The records that hold the course of a run from idle."""
    return [record for record in records if record.course and record.tflops is not None]


def product(labels: Labels, burst: Record) -> str:
    """What began from idle; its phases are what the table is about."""
    return labels.row(burst.device, burst.case).removesuffix(" burst")


def _settled(burst: Record, records: Sequence[Record]) -> Record | None:
    """The settled figure of the same work, of the same unbroken run where there is one."""
    same = [
        record
        for record in records
        if record.phase == "sustained" and record.tflops is not None and "unverified" not in record.verdicts
        if _work(record) == _work(burst)
    ]
    return next((record for record in same if record.group == burst.group), same[0] if same else None)


def _work(record: Record) -> tuple[str, ...]:
    return (
        *(record.device, record.workload, record.dtype, record.shape),
        *(record.fill, record.cache, record.backend),
    )


def _moments(burst: Record, settled: Record | None) -> Iterator[_Moment]:
    yield _Moment(burst, _("burst"), achieved(burst), 1.0, burst.efficiency)
    for each in burst.derates:
        yield _of(burst, each)
    if settled is not None and burst.tflops:
        of_burst = (settled.tflops or 0.0) / burst.tflops
        yield _Moment(
            burst, _("sustained, {when}", when=_when(burst)), achieved(settled), of_burst, settled.efficiency
        )
    else:
        yield _Moment(burst, _("sustained, {when}", when=_when(burst)), "–", None, None)


def _of(burst: Record, derate: Derate) -> _Moment:
    return _Moment(
        burst,
        _("after {time}", time=duration(derate.at_s)),
        figure(derate.tflops),
        derate.of_burst,
        derate.efficiency,
    )


def _when(burst: Record) -> str:
    """From when on it was settled, as its own course shows."""
    if burst.settled_s is None:
        return _("whether settled can't be told from {time}", time=duration(burst.course[-1].at_s))
    if burst.settled_s:
        return _("from {time} on", time=duration(burst.settled_s))
    return _("from the start")
