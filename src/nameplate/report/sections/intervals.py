"""Which interval a figure's ± and its ends are of: run-to-run, or within one process."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import count, interval, percent
from nameplate.base.language import N_, _
from nameplate.record import Record, Spread

# The heading of a column and the title of a chart, by the kind of interval that all records have, if they do.
_HEADINGS = {
    "run_to_run": N_("95 % run-to-run"),
    "within": N_("95 % within a process"),
    "": N_("95 % interval"),
}
_TITLES = {
    "run_to_run": N_("{axis}, by case, with 95 % run-to-run intervals"),
    "within": N_("{axis}, by case, with 95 % intervals within a process"),
    "": N_("{axis}, by case, with 95 % intervals"),
}


def describe_intervals(records: Sequence[Record]) -> str:
    """Say which interval ± is half of; empty where no record has one.

    `95 %, run-to-run: the machine's mean over fresh processes (5 a case), with 12 earlier runs`.
    """
    across = [record for record in records if record.interval_kind == "run_to_run"]
    within = [record for record in records if record.interval_kind == "within"]
    said = []
    if across:
        processes = [record.processes or 1 for record in across]
        earlier = max(record.earlier_runs or 0 for record in across)
        usual = [spread.between_runs or 0.0 for record in across if (spread := _usual_of(record)) is not None]
        if usual:
            shares = interval(percent, min(usual), max(usual))
            known = _("without enough earlier runs; on such machines they differ by {shares}", shares=shares)
        elif earlier:
            known = _("with {count} earlier runs", count=count(earlier))
        else:
            known = _("without earlier runs")
        each = interval(count, min(processes), max(processes))
        said.append(
            _(
                "95 %, run-to-run: the machine's mean over fresh processes ({processes} a case), {known}",
                processes=each,
                known=known,
            )
        )
    if within and across:
        said.append(_("of cases in a single process, within it"))
    elif within:
        said.append(_("95 %, within the one process that measured: other processes may differ by more"))
    return _("; ").join(said)


def _usual_of(record: Record) -> Spread | None:
    """Return the main figure's spread where what runs differ by is taken from other machines of the kind."""
    spread = record.spreads.get("time_s")
    return spread if spread is not None and spread.is_usual else None


def interval_heading(records: Sequence[Record]) -> str:
    """Return the heading of a column of intervals, which the medium translates."""
    return _HEADINGS[_kind_of(records)]


def chart_title(axis: str, records: Sequence[Record]) -> str:
    """Return the title of a chart of figures with their intervals."""
    return _(_TITLES[_kind_of(records)], axis=axis)


def _kind_of(records: Sequence[Record]) -> str:
    kinds = {record.interval_kind for record in records if record.interval_kind is not None}
    return str(kinds.pop()) if len(kinds) == 1 else ""
