"""Goodput for a reader: what jobs get out of their time, and the model beside published cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import change, count, duration, interval, percent, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.goodput import Goodput, GoodputFile, describe_origin, load_goodput_file
from nameplate.fleet.validation import GoodputCheck
from nameplate.report.view import Field, Table, View, table_of, text_table
from nameplate.stats.interval import Interval
from nameplate.stats.uncertain import Uncertain

_VERDICTS = {"holds": N_("yes"), "known_miss": N_("no, known"), "fails": N_("NO")}
_BY = {"default": N_("default"), "own": N_("its own")}


def goodput_view(jobs: Sequence[Goodput]) -> View:
    """What jobs of these sizes get out of their time, at which interval, and what each loss costs."""
    fields = [
        Field[Goodput]("cards", lambda job: count(job.cards), is_number=True),
        Field[Goodput]("nodes", lambda job: count(job.nodes), is_number=True, drop_priority=1),
        Field[Goodput]("goodput", lambda job: percent(job.goodput.value), is_number=True),
        Field[Goodput]("95 % interval", lambda job: _ends(job.goodput)),
        Field[Goodput]("between failures", lambda job: _of_hours(job.between_h), is_number=True),
        Field[Goodput]("between checkpoints", lambda job: _of_minutes(job.interval_min), is_number=True),
        Field[Goodput]("by Young", lambda job: _of_minutes(job.young_min), is_number=True, drop_priority=0),
    ]
    losses = [
        fields[0],
        Field[Goodput]("checkpoints", lambda job: percent(job.checkpoints.value), is_number=True),
        Field[Goodput]("lost work", lambda job: percent(job.lost_work.value), is_number=True),
        Field[Goodput]("restarts", lambda job: percent(job.restarts.value), is_number=True),
    ]
    return View(
        _("Goodput by failures, restarts and checkpoints"),
        tuple((name, plain(value)) for name, value in _inputs(jobs[0])),
        (
            table_of(_("Useful ÷ elapsed time, and the best time between checkpoints (Daly)"), fields, jobs),
            table_of(_("What each loss costs of elapsed time"), losses, jobs),
        ),
        _sentence(jobs[-1]),
        (
            _("A model's figures; `--validate` holds them against published cases."),
            _("Sources: {caveat}.", caveat=load_goodput_file().caveat),
        ),
        (),
    )


def _inputs(job: Goodput) -> Iterator[tuple[str, str]]:
    for name, used in job.inputs.items():
        yield _(name.replace("_", " ")), _("; ").join((_spread(used), describe_origin(name, used)["source"]))


def _spread(number: Uncertain) -> str:
    if number.law == "exact":
        return stated(number.value)
    return _(
        "{value} ({low} to {high}, {law})",
        value=stated(number.value),
        low=stated(number.low),
        high=stated(number.high),
        law=_(number.law),
    )


def _sentence(job: Goodput) -> str:
    return _(
        "A job of {cards} cards gets {goodput} ({range}) out of its time: with a failure each {failure} and "
        "a checkpoint each {checkpoint}, checkpoints cost {checkpoints}, lost work {lost} and restarts "
        "{restarts}.",
        cards=count(job.cards),
        goodput=percent(job.goodput.value),
        range=_ends(job.goodput),
        failure=_of_hours(job.between_h),
        checkpoint=_of_minutes(job.interval_min),
        checkpoints=percent(job.checkpoints.value),
        lost=percent(job.lost_work.value),
        restarts=percent(job.restarts.value),
    )


def validation_view(checks: Sequence[GoodputCheck], known: GoodputFile | None = None) -> View:
    """Every prediction beside what was published, its error, and why those that miss do."""
    known = known or load_goodput_file()
    fields = [
        Field[GoodputCheck]("case", lambda check: plain(check.case)),
        Field[GoodputCheck]("by", lambda check: _(_BY.get(check.by, check.by))),
        Field[GoodputCheck]("of", lambda check: _("goodput") if _is_goodput(check) else _("time between")),
        Field[GoodputCheck]("predicted", lambda check: _figure(check, check.predicted), is_number=True),
        Field[GoodputCheck](
            "95 % interval",
            lambda check: interval(lambda value: _figure(check, value), check.low, check.high),
            drop_priority=0,
        ),
        Field[GoodputCheck]("published", _published, is_number=True),
        Field[GoodputCheck]("error", _error, is_number=True),
        Field[GoodputCheck]("bound", _bound, is_number=True, drop_priority=1),
        Field[GoodputCheck]("within", lambda check: _(_VERDICTS[check.verdict])),
    ]
    heading = _(
        "Predicted beside published: time between interruptions (error relative), goodput (in points)"
    )
    return View(
        _("The goodput model against published cases"),
        (),
        tuple(
            table
            for table in (table_of(heading, fields, checks), _whys(checks), _sources(checks))
            if table.rows
        ),
        _count(checks),
        tuple(plain(each) for each in _notes(checks, known)),
        (),
    )


def failures(checks: Sequence[GoodputCheck]) -> list[str]:
    """A sentence for each prediction past its bound that nobody knew of."""
    return [
        plain(
            f"{check.case}, {check.quantity} by {_BY.get(check.by, check.by)}: predicted "
            f"{_figure(check, check.predicted)}, published {_published(check)}, bound {_bound(check)}"
        )
        for check in checks
        if check.verdict == "fails"
    ]


def _whys(checks: Sequence[GoodputCheck]) -> Table:
    """What a reader must know of a case, once each."""
    rows: dict[tuple[str, str], None] = {}
    for check in checks:
        for why in filter(None, (check.why, check.note)):
            rows[plain(check.case), plain(why)] = None
    return text_table(_("Why they miss, and what to know of them"), ("case", "reason"), rows)


def _sources(checks: Sequence[GoodputCheck]) -> Table:
    rows = dict.fromkeys(
        (
            plain(check.case),
            plain(
                _(
                    "{name}, {evidence}: {source}; confidence {confidence}",
                    name=check.name,
                    evidence=_(check.evidence),
                    source=check.source,
                    confidence=_(check.confidence),
                )
            ),
        )
        for check in checks
    )
    return text_table(_("Where from"), ("case", "from"), rows)


def _count(checks: Sequence[GoodputCheck]) -> str:
    found = Counter(check.verdict for check in checks)
    cases = len({check.case for check in checks})
    return _(
        "{count} predictions of {cases} cases: {holds} within the bound, {known} known to miss, {fails} "
        "failing.",
        count=len(checks),
        cases=cases,
        holds=found["holds"],
        known=found["known_miss"],
        fails=found["fails"],
    )


def _notes(checks: Sequence[GoodputCheck], known: GoodputFile) -> Iterator[str]:
    for kind, text in _BOUNDS.items():
        if any(check.evidence == kind for check in checks):
            bound = getattr(known.bound, kind)
            factor, points = stated(bound.interruption_factor), stated(100 * bound.goodput_points)
            yield _(text, factor=factor, points=points, why=bound.why)
    yield _("Sources: {caveat}.", caveat=known.caveat)
    for each in known.unchecked:
        yield _("Not checked: {name}; {why}.", name=each.name, why=each.why)


_BOUNDS = {
    "measured": N_(
        "What was measured is held to a factor of {factor} and {points} points of goodput: {why}."
    ),
    "projected": N_(
        "What was projected is held to a factor of {factor} and {points} points of goodput: {why}."
    ),
}


def _is_goodput(check: GoodputCheck) -> bool:
    return check.quantity == "goodput"


def _figure(check: GoodputCheck, value: float) -> str:
    return percent(value) if _is_goodput(check) else duration(3_600 * value)


def _published(check: GoodputCheck) -> str:
    published = _figure(check, check.published)
    return _("over {figure}", figure=published) if check.at_least else published


def _error(check: GoodputCheck) -> str:
    """Of goodput in points, of the time between interruptions relative."""
    return change(check.error).removesuffix("%") if _is_goodput(check) else change(check.error)


def _bound(check: GoodputCheck) -> str:
    return f"± {stated(100 * check.bound)}" if _is_goodput(check) else f"× {stated(check.bound)}"


def _ends(found: Interval) -> str:
    return interval(percent, found.low, found.high)


def _of_hours(found: Interval) -> str:
    return duration(3_600 * found.value)


def _of_minutes(found: Interval) -> str:
    return duration(60 * found.value)
