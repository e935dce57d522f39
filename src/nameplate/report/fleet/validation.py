"""The screens of `bench fleet validate` and `bench fleet goodput --validate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import change, duration, interval, percent, ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.goodput import GoodputFile, load_goodput_file
from nameplate.fleet.mfu_study import MfuStudy
from nameplate.fleet.validation import ChainCheck, GoodputCheck
from nameplate.report.fleet.mfu import mfu_validation_view
from nameplate.report.view import Field, Table, View, table_of, text_table

_CARRIED = {
    "transfer": N_("{error} from one part to another"),
    "model": N_("{error} from one model to another"),
    "scaling": N_("{error} from 8 devices to thousands"),
}
_VERDICTS = {"holds": N_("yes"), "known_miss": N_("no, known"), "fails": N_("NO")}
_BY = {"default": N_("default"), "own": N_("its own")}
_BOUNDS = {
    "measured": N_(
        "Measured cases must agree within a factor of {factor} and {points} points of goodput: {why}."
    ),
    "projected": N_(
        "Projected cases must agree within a factor of {factor} and {points} points of goodput: {why}."
    ),
}


def validation_view(study: MfuStudy, checks: Sequence[ChainCheck], *, details: bool = False) -> View:
    """The model of MFU and the chain, each beside published figures.

    Without `details`, only the model's bounds, its errors family by family, and the cases past their bound.
    """
    mfu, chain = mfu_validation_view(study, details=details), chain_validation_view(checks)
    failed = [check for check in checks if not check.passed]
    brief = chain_validation_view(failed).tables if failed else ()
    more = _("Whole runs, the model's coefficients and each case of the chain: `--details`.")
    return View(
        title=mfu.title,
        tables=(*mfu.tables, *(chain.tables if details else brief)),
        meaning=f"{mfu.meaning}\n{chain.meaning}",
        advice=(*mfu.advice, *(chain.advice if details else (more,))),
    )


def chain_validation_view(checks: Sequence[ChainCheck]) -> View:
    """Each published throughput beside what the chain predicts of it, and how far that may be trusted."""
    fields = [
        Field[ChainCheck]("case", lambda check: f"{check.id}: {check.says}"),
        Field[ChainCheck]("predicted", lambda check: ratio(check.predicted), is_number=True),
        Field[ChainCheck]("published", lambda check: ratio(check.published), is_number=True),
        Field[ChainCheck]("error", lambda check: change(check.error), is_number=True),
        Field[ChainCheck](
            "by convention",
            lambda check: interval(change, check.error_low, check.error_high),
            drop_priority=0,
        ),
        Field[ChainCheck]("bound", lambda check: percent(check.bound), is_number=True, drop_priority=1),
        Field[ChainCheck]("within", lambda check: _("yes") if check.passed else _("NO")),
    ]
    heading = _("Delivered ÷ datasheet, predicted from other published figures")
    return View(
        title=_("The chain against published end-to-end figures"),
        tables=(table_of(heading, fields, checks),),
        meaning=_describe_errors(checks),
        advice=(
            _(
                "An error is predicted ÷ published − 1; {column}: with FLOPs counted alike on both sides.",
                column=_("by convention"),
            ),
            _("`bench fleet goodput --validate` compares the last link, goodput, with published cases."),
        ),
    )


def list_chain_failures(checks: Sequence[ChainCheck]) -> list[str]:
    """Return each case past its bound, in a few words."""
    return [
        f"{each.id} {change(each.error)} (bound {percent(each.bound)})" for each in checks if not each.passed
    ]


def _describe_errors(checks: Sequence[ChainCheck]) -> str:
    worst: dict[str, float] = {}
    for check in checks:
        worst[check.kind] = max(worst.get(check.kind, 0.0), abs(check.error))
    said = _(", ").join(_(_CARRIED[kind], error=percent(error)) for kind, error in worst.items())
    return _(
        "A figure carried over is off by up to {said}. Where a fleet's cost depends on it, measure the part "
        "and the job (`bench run`).",
        said=said,
    )


def goodput_validation_view(checks: Sequence[GoodputCheck], known: GoodputFile | None = None) -> View:
    """Every prediction beside what was published, its error, and why those that miss do."""
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
        "Predicted and published time between interruptions (relative error) and goodput (error in points)"
    )
    tables = (table_of(heading, fields, checks), _reasons_table(checks), _sources_table(checks))
    return View(
        title=_("The goodput model against published cases"),
        tables=tuple(table for table in tables if table.rows),
        meaning=_count_verdicts(checks),
        advice=tuple(plain(each) for each in _notes(checks, known or load_goodput_file())),
    )


def list_goodput_failures(checks: Sequence[GoodputCheck]) -> list[str]:
    """Return a sentence for each prediction past its bound that isn't a known miss."""
    return [
        plain(
            f"{check.case}, {check.quantity} by {_BY.get(check.by, check.by)}: predicted "
            f"{_figure(check, check.predicted)}, published {_published(check)}, bound {_bound(check)}"
        )
        for check in checks
        if check.verdict == "fails"
    ]


def _reasons_table(checks: Sequence[GoodputCheck]) -> Table:
    rows = dict.fromkeys(
        (plain(check.case), plain(why)) for check in checks for why in (check.why, check.note) if why
    )
    return text_table(_("Why predictions miss, and notes"), ("case", "reason"), rows)


def _sources_table(checks: Sequence[GoodputCheck]) -> Table:
    rows: dict[tuple[str, str], None] = {}
    for check in checks:
        said = _(
            "{name}, {evidence}: {source}; confidence {confidence}",
            name=check.name,
            evidence=_(check.evidence),
            source=check.source,
            confidence=_(check.confidence),
        )
        rows[plain(check.case), plain(said)] = None
    return text_table(_("Where from"), ("case", "from"), rows)


def _count_verdicts(checks: Sequence[GoodputCheck]) -> str:
    found = Counter(check.verdict for check in checks)
    return _(
        "{count} predictions of {cases} cases: {holds} within the bound, {known} known to miss, {fails} "
        "failing.",
        count=len(checks),
        cases=len({check.case for check in checks}),
        holds=found["holds"],
        known=found["known_miss"],
        fails=found["fails"],
    )


def _notes(checks: Sequence[GoodputCheck], known: GoodputFile) -> Iterator[str]:
    for kind, text in _BOUNDS.items():
        if any(check.evidence == kind for check in checks):
            bound = known.bound[kind]
            factor, points = stated(bound.interruption_factor), stated(100 * bound.goodput_points)
            yield _(text, factor=factor, points=points, why=bound.why)
    yield _("Sources: {caveat}.", caveat=known.caveat)
    for each in known.unchecked:
        yield _("Not checked: {name}; {why}.", name=each.name, why=each.why)


def _is_goodput(check: GoodputCheck) -> bool:
    return check.quantity == "goodput"


def _figure(check: GoodputCheck, value: float) -> str:
    return percent(value) if _is_goodput(check) else duration(3_600 * value)


def _published(check: GoodputCheck) -> str:
    published = _figure(check, check.published)
    return _("over {figure}", figure=published) if check.at_least else published


def _error(check: GoodputCheck) -> str:
    """Return the error of goodput in points, that of the time between interruptions in per cent."""
    return change(check.error).removesuffix("%") if _is_goodput(check) else change(check.error)


def _bound(check: GoodputCheck) -> str:
    return f"± {stated(100 * check.bound)}" if _is_goodput(check) else f"× {stated(check.bound)}"
