"""The screen of `bench fleet audit`: contradicted claims first, each figure with how it was recomputed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nameplate.base.formatting import change, interval, percent
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.audit import TOLERANCE, AuditRow, Verdict, format_figure
from nameplate.report.view import Field, Table, View, table_of

# In the order in which they are printed.
_HEADINGS: Mapping[Verdict, str] = {
    "contradicted": N_(
        "Contradicted: off by more than {tolerance}, or an exact figure that rounding doesn't explain"
    ),
    "holds_rounded": N_("Hold, rounded: within {tolerance}"),
    "holds": N_("Hold, as stated"),
    "cannot_check": N_("Can't be checked, because something is missing"),
}


def audit_view(rows: Sequence[AuditRow], *, details: bool = False) -> View:
    """What is contradicted, and with `details` every row, by verdict.

    The sentence counts claims, and readings apart.
    """
    claimed = _(
        "What is claimed, recomputed ({sources})",
        sources=_(", ").join(dict.fromkeys(row.source for row in rows)),
    )
    contradicted = _with("contradicted", rows)
    more = _("What holds, and what can't be checked and why: `--details`.")
    return View(
        title=plain(_describe(rows)),
        tables=tuple(_tables(rows if details or not contradicted else contradicted)),
        meaning=plain(_("{said}.", said=claimed)),
        advice=(
            _("A formula takes other claims as stated, and parts with the figures of their datasheets."),
            _("claim/reading is another way to read a claim; it has a row and a verdict of its own."),
            *(() if details or not contradicted else (more,)),
        ),
    )


def _describe(rows: Sequence[AuditRow]) -> str:
    """Count the verdicts in one sentence: `17 of the 19 claims that can be checked hold …`."""
    claims = [row for row in rows if not row.is_reading]
    contradicted = _with("contradicted", claims)
    unchecked = len(_with("cannot_check", claims))
    checked, rounded = len(claims) - unchecked, len(_with("holds_rounded", claims))
    said = _(
        "{count} of the {checked} claims that can be checked hold",
        count=checked - len(contradicted),
        checked=checked,
    )
    if rounded:
        said = _("{said}, {count} of them rounded", said=said, count=rounded)
    said = _("{said}; contradicted: {claims}", said=said, claims=_join_ids(contradicted))
    if readings := [row for row in _with("contradicted", rows) if row.is_reading]:
        said = _("{said}, and in another reading {claims}", said=said, claims=_join_ids(readings))
    return _("{said}; {count} can't be checked.", said=said, count=unchecked)


def _with(verdict: Verdict, rows: Sequence[AuditRow]) -> list[AuditRow]:
    return [row for row in rows if row.verdict == verdict]


def _join_ids(rows: Sequence[AuditRow]) -> str:
    return _(", ").join(row.id for row in rows) or _("none")


def _tables(rows: Sequence[AuditRow]) -> Iterator[Table]:
    tolerance = percent(float(TOLERANCE))
    for verdict, text in _HEADINGS.items():
        alike, heading = _with(verdict, rows), _(text, tolerance=tolerance)
        if not alike:
            continue
        if verdict == "cannot_check":
            yield table_of(heading, (_CLAIM, _STATED, _REASON), alike)
        else:
            yield table_of(heading, (_CLAIM, _STATED, _RECOMPUTED, _OFF), alike)
            yield table_of(_("How they were recomputed"), (_CLAIM, _REASON), alike)


def _stated(row: AuditRow) -> str:
    """Return the figure as stated, with its qualifier: `about RMB 370 million`, `over 6`."""
    if row.figure is None:
        return "–"
    figure = _with_unit(row.figure, row)
    return figure if row.qualifier == "exact" else _(_QUALIFIED[row.qualifier], figure=figure)


_QUALIFIED = {
    "about": N_("about {figure}"),
    "nearly": N_("nearly {figure}"),
    "over": N_("over {figure}"),
    "on the order of": N_("on the order of {figure}"),
}


def _recomputed(row: AuditRow) -> str:
    if row.recomputed_low is None or row.recomputed_high is None:
        return "–"
    ends = interval(lambda value: _figure(value, row), row.recomputed_low, row.recomputed_high)
    return _with_unit(ends, row)


def _figure(value: float, row: AuditRow) -> str:
    """Return a figure; a share that is stated in per cent also in per cent."""
    return (
        f"{format_figure(100 * value)} %" if row.figure and row.figure.endswith("%") else format_figure(value)
    )


def _with_unit(figure: str, row: AuditRow) -> str:
    if row.unit == "RMB":
        return f"RMB {figure}"
    return figure if row.unit in (None, "ratio") else f"{figure} {row.unit}"


def _off(row: AuditRow) -> str:
    # A bound that holds, or an order of magnitude, isn't off by what lies between it and the figure.
    if row.verdict == "holds" and row.qualifier in ("over", "on the order of"):
        return "–"
    return change(row.relative_error)


_CLAIM = Field[AuditRow]("claim", lambda row: plain(row.id))
_STATED = Field[AuditRow]("stated", lambda row: plain(_stated(row)), is_number=True)
_RECOMPUTED = Field[AuditRow]("recomputed", _recomputed, is_number=True)
_OFF = Field[AuditRow]("off by", _off, is_number=True)
_REASON = Field[AuditRow]("reason", lambda row: plain(row.why))
