"""A comparison for a reader: the word for each case, what it rests on, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nameplate.base.formatting import change as relative_change
from nameplate.base.formatting import figure, interval, percent
from nameplate.base.language import N_, _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.compare.comparison import Comparison
from nameplate.compare.results import PYTEST_BENCHMARK
from nameplate.compare.rows import Outcome, Row
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, View, table_of
from nameplate.stats.interval import Interval

_COUNTED: dict[str, str] = {
    "slower": N_("{count} slower"),
    "faster": N_("{count} faster"),
    "same": N_("{count} same"),
    "ambiguous": N_("{count} ambiguous"),
    "incomparable": N_("{count} incomparable"),
    "missing": N_("{count} missing"),
    "added": N_("{count} added"),
}
_SPEED: tuple[Outcome, ...] = ("slower", "faster", "same", "ambiguous")
_USUAL = Labels({})


def compare_view(found: Comparison) -> View:
    """Everything there is to say of a comparison."""
    tables = (_compared(found), _others(found))
    return View(
        title=plain(_("{new} against {base}", new=found.new.name, base=found.base.name)),
        facts=tuple((name, plain(value)) for name, value in _facts(found)),
        tables=tuple(table for table in tables if table.rows),
        meaning=plain(meaning(found)),
        advice=tuple(_advice(found)),
        problems=tuple(plain(render(each)) for each in found.problems),
    )


def meaning(found: Comparison) -> str:
    """How many cases are what, and the worst regression that is sure."""
    counts = [_(_COUNTED[outcome], count=count) for outcome, count in found.counts.items() if count]
    said = _("{counts} of {all} cases", counts=_(", ").join(counts), all=len(found.rows))
    if not found.slower:
        return _("{said}.", said=said)
    worst = found.slower[0]
    return _(
        "{said}; the worst is {case}: {change}.", said=said, case=_case(found, worst), change=change(worst)
    )


def _case(found: Comparison, row: Row) -> str:
    """What a case is called; another tool's name is left as it is."""
    return plain(row.case) if _of_pytest(found) else _USUAL.case(row.case)


def _on_cpus(found: Comparison) -> bool:
    return any(result.kind not in ("cuda", PYTEST_BENCHMARK) for result in found.base.results)


def _of_pytest(found: Comparison) -> bool:
    return found.base.runs[0].method == PYTEST_BENCHMARK


def change(row: Row) -> str:
    """`-3.1% (-3.6% … -2.5%)`: of new against base, with the interval's ends."""
    if row.ratio is None:
        return "–"
    return _("{ratio} ({ends})", ratio=_percent(row.ratio.value), ends=_ends(row.ratio))


def _ends(ratio: Interval) -> str:
    return interval(_percent, ratio.low, ratio.high)


def _percent(ratio: float) -> str:
    """A ratio as the change it is."""
    return relative_change(ratio - 1)


def _compared(found: Comparison) -> Table:
    rows = [row for row in found.rows if row.outcome in _SPEED]
    fields = [
        Field[Row]("case", lambda row: _case(found, row), whole=_of_pytest(found)),
        *([Field[Row]("device", lambda row: plain(row.device))] if _several_devices(rows) else []),
        Field[Row]("new is", lambda row: _(row.outcome)),
        Field[Row](
            "change", lambda row: "–" if row.ratio is None else _percent(row.ratio.value), is_number=True
        ),
        Field[Row]("interval", lambda row: "–" if row.ratio is None else _ends(row.ratio)),
        Field[Row]("base", lambda row: figure(row.base), is_number=True, goes=3),
        Field[Row]("new", lambda row: figure(row.new), is_number=True, goes=2),
        Field[Row]("unit", lambda row: _(row.unit) if row.unit else "–", goes=1),
        Field[Row]("runs", _runs, is_number=True, goes=0),
        Field[Row]("reason", lambda row: plain(render(row.reason or ""))),
    ]
    return table_of(_("Compared"), fields, rows)


def _runs(row: Row) -> str:
    return str(row.base_runs) if row.base_runs == row.new_runs else f"{row.base_runs} : {row.new_runs}"


def _several_devices(rows: Sequence[Row]) -> bool:
    return len({row.device for row in rows}) > 1


def _others(found: Comparison) -> Table:
    rows = [row for row in found.rows if row.outcome not in _SPEED]
    fields = [
        Field[Row]("case", lambda row: _case(found, row), whole=_of_pytest(found)),
        *([Field[Row]("device", lambda row: plain(row.device))] if _several_devices(rows) else []),
        Field[Row]("new is", lambda row: _(row.outcome)),
        Field[Row]("reason", lambda row: plain(render(row.reason or ""))),
    ]
    return table_of(_("Not compared"), fields, rows)


def _facts(found: Comparison) -> Iterator[tuple[str, str]]:
    yield _("base"), _runs_of([run.name for run in found.base.runs])
    yield _("new"), _runs_of([run.name for run in found.new.runs])
    yield _("threshold"), f"±{percent(found.options.threshold)}"
    yield (
        _("intervals"),
        _(
            "each of {confidence}: together they hold in 95 of 100 comparisons",
            confidence=percent(found.confidence),
        ),
    )
    yield _("scatter"), _scatter(found)
    for each in found.differences:
        yield _(each.what), _("{base} in base, {new} in new", base=each.base, new=each.new)


def _runs_of(names: Sequence[str]) -> str:
    return (
        names[0]
        if len(names) == 1
        else _("{count} runs, {first} to {last}", count=len(names), first=names[0], last=names[-1])
    )


def _scatter(found: Comparison) -> str:
    if found.in_pairs:
        return _("as {count} pairs show it", count=len(found.base.runs))
    if all(row.scatter != "allowed for" for row in found.rows):
        return _("as the runs show it")
    if found.options.restart_spread is not None:
        return _("{spread} a run, as given", spread=percent(found.options.restart_spread))
    return _("; ").join(
        _(
            "{spread} a run allowed for, {basis} ({source}, {date})",
            spread=percent(each.value),
            basis=_(each.metric),
            source=_(each.source),
            date=each.date,
        )
        for each in found.restart_spreads
    )


def _advice(found: Comparison) -> Iterator[str]:
    if found.broken:
        yield _("Of what base has, new lacks, failed or got wrong: {count}.", count=len(found.broken))
    if not found.in_pairs and any(row.metric == "achieved" for row in found.slower) and _on_cpus(found):
        yield _(
            "Throughput of a CPU is what the machine delivered in that hour, neighbours included: measure "
            "both in turn with `bench compare --interleave A B` before you look for a cause."
        )
    if not found.counts["ambiguous"]:
        return
    if found.in_pairs:
        yield _("Ambiguous is neither a pass nor a failure: give more --pairs, or a larger --budget.")
    elif _of_pytest(found):
        yield _("Ambiguous is neither a pass nor a failure: give folders of several files.")
    else:
        yield _(
            "Ambiguous is neither a pass nor a failure: give folders of several runs, or have both measured "
            "in turn with `bench compare --interleave A B`."
        )
