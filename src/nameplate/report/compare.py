"""The screen of `bench compare`: the outcome of each case, how sure it is, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import UNKNOWN, change, factor, figure, interval, percent
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.compare.comparison import Comparison
from nameplate.compare.results import PYTEST_BENCHMARK
from nameplate.compare.rows import Outcome, Row
from nameplate.report.labels import Labels, describe_twins
from nameplate.report.media.markdown import escape, table_lines
from nameplate.report.sections.power_limits import power_limits_table
from nameplate.report.view import Field, Table, View, table_of, text_table

_COUNTED: dict[str, str] = {
    "slower": N_("{count} slower"),
    "faster": N_("{count} faster"),
    "same": N_("{count} same"),
    "ambiguous": N_("{count} ambiguous"),
    "incomparable": N_("{count} incomparable"),
    "missing": N_("{count} missing"),
    "added": N_("{count} added"),
}
# Of a summary: what needs no line of its own, the order of the others, and how many have one.
_NO_NEWS: tuple[Outcome, ...] = ("same", "added")
_SUMMARY_ORDER: tuple[Outcome, ...] = ("slower", "missing", "incomparable", "ambiguous", "faster")
_SUMMARY_ROWS = 3
_COMPARED: tuple[Outcome, ...] = ("slower", "faster", "same", "ambiguous")
_LABELS = Labels({})


def compare_view(found: Comparison) -> View:
    """Everything there is to say of a comparison."""
    facts = text_table(_("What this rests on"), ("", ""), _list_facts(found))
    curves = power_limits_table(found.power_limits, _LABELS)
    tables = (_compared_table(found), _other_table(found), curves, facts)
    return View(
        notice=describe_twins(_list_twins(found)),
        title=plain(_("{new} against {base}", new=found.new.name, base=found.base.name)),
        tables=tuple(table for table in tables if table.rows),
        meaning=plain(_summarise(found)),
        advice=tuple(_give_advice(found)),
        problems=tuple(plain(render(each)) for each in found.problems),
    )


def render_summary(found: Comparison) -> str:
    """Return at most ten lines of Markdown for the page of a CI job: the outcome, and the cases behind it.

    A blank line follows, for a job appends one summary after the other.
    """
    rows = sorted((row for row in found.rows if row.outcome not in _NO_NEWS), key=_rank_for_summary)
    title = _(
        "{outcome}: {new} against {base}", outcome=_outcome(found), new=found.new.name, base=found.base.name
    )
    view = compare_view(found)
    said = join_sentences([*filter(None, (view.notice,)), view.meaning, *view.advice, *view.problems])
    lines = [f"### {escape(plain(title))}", "", escape(said)]
    if rows:
        shown = [
            [
                escape(cell)
                for cell in (_case_text(found, row), _(row.outcome), _change_text(row), _interval_text(row))
            ]
            for row in rows[:_SUMMARY_ROWS]
        ]
        if len(rows) > _SUMMARY_ROWS:
            more = _("{count} more cases", count=len(rows) - _SUMMARY_ROWS)
            shown.append([escape(more), "", "", ""])
        names = [_(name) for name in ("case", "new is", "change", "interval")]
        lines += ["", *table_lines(names, (False, False, True, False), shown)]
    return "\n".join(lines) + "\n\n"


def _rank_for_summary(row: Row) -> tuple[int, float]:
    """Slower cases first, the worst of them at the top; then those that are broken, then ambiguous ones."""
    return _SUMMARY_ORDER.index(row.outcome), 1.0 if row.ratio is None else row.ratio.value


def _outcome(found: Comparison) -> str:
    if found.slower:
        return _("Slower than base")
    if found.broken:
        return _("Incomplete")
    return _("Not known to be as fast as base") if found.counts["ambiguous"] else _("Not slower than base")


def _list_twins(found: Comparison) -> Iterator[str]:
    """The names of the GPUs that the twins of both sides stand for, each once."""
    names = (name for side in (found.new, found.base) for run in side.runs for name in run.simulated)
    return iter(dict.fromkeys(names))


def _summarise(found: Comparison) -> str:
    """Count the cases by outcome, and name the worst regression that the intervals support."""
    counts = [_(_COUNTED[outcome], count=count) for outcome, count in found.counts.items() if count]
    said = _("{counts} of {all} cases", counts=_(", ").join(counts), all=len(found.rows))
    if not found.slower:
        return _("{said}.", said=said)
    worst = found.slower[0]
    if worst.ratio is None:
        return _("{said}.", said=said)
    times, low, high = (
        1 / end if end else math.inf for end in (worst.ratio.value, worst.ratio.high, worst.ratio.low)
    )
    return _(
        "{said}; the worst is {case}: new is {times} ({ends}) slower than base.",
        said=said,
        case=_case_text(found, worst),
        times=factor(times),
        ends=interval(lambda value: factor(value).removesuffix(" ×"), low, high),
    )


def _is_pytest(found: Comparison) -> bool:
    return found.base.runs[0].method == PYTEST_BENCHMARK


def _case_text(found: Comparison, row: Row) -> str:
    """Return a case's label; the names of pytest-benchmark are left as they are."""
    return plain(row.case) if _is_pytest(found) else _LABELS.case(row.case)


def _change_text(row: Row) -> str:
    return change(None if row.ratio is None else row.ratio.value - 1)


def _interval_text(row: Row) -> str:
    """Return the ends of a ratio's interval as relative changes: `-3.6% … -2.5%`."""
    if row.ratio is None:
        return UNKNOWN
    return interval(lambda value: change(value - 1), row.ratio.low, row.ratio.high)


def _first_fields(found: Comparison, rows: Sequence[Row]) -> list[Field[Row]]:
    """Return the columns case, device (where there are several) and outcome."""
    several_devices = len({row.device for row in rows}) > 1
    return [
        Field[Row]("case", lambda row: _case_text(found, row), unbroken=_is_pytest(found)),
        *([Field[Row]("device", lambda row: plain(row.device))] if several_devices else []),
        Field[Row]("new is", lambda row: _(row.outcome)),
    ]


_REASON = Field[Row]("reason", lambda row: plain(render(row.reason or "")))


def _compared_table(found: Comparison) -> Table:
    rows = [row for row in found.rows if row.outcome in _COMPARED]
    fields = [
        *_first_fields(found, rows),
        Field[Row]("change", _change_text, is_number=True),
        Field[Row]("interval", _interval_text),
        Field[Row]("base", lambda row: figure(row.base), is_number=True, drop_priority=3),
        Field[Row]("new", lambda row: figure(row.new), is_number=True, drop_priority=2),
        Field[Row]("unit", lambda row: _(row.unit) if row.unit else UNKNOWN, drop_priority=1),
        Field[Row]("runs", _runs_text, is_number=True, drop_priority=0),
        _REASON,
    ]
    return table_of(_("Compared"), fields, rows)


def _runs_text(row: Row) -> str:
    return str(row.base_runs) if row.base_runs == row.new_runs else f"{row.base_runs} : {row.new_runs}"


def _other_table(found: Comparison) -> Table:
    rows = [row for row in found.rows if row.outcome not in _COMPARED]
    return table_of(_("Not compared"), [*_first_fields(found, rows), _REASON], rows)


def _list_facts(found: Comparison) -> Iterator[tuple[str, str]]:
    yield _("base"), _name_runs([run.name for run in found.base.runs])
    yield _("new"), _name_runs([run.name for run in found.new.runs])
    yield _("threshold"), f"±{percent(found.options.threshold)}"
    yield (
        _("intervals"),
        _(
            "{confidence} each, run-to-run, so that all of them hold together in 95 of 100 comparisons",
            confidence=percent(found.confidence),
        ),
    )
    yield _("scatter"), _describe_scatter(found)
    for each in found.differences:
        yield _(each.what), _("{base} in base, {new} in new", base=each.base, new=each.new)


def _name_runs(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return _("{count} runs, {first} to {last}", count=len(names), first=names[0], last=names[-1])


def _describe_scatter(found: Comparison) -> str:
    """Say how it is known how much runs of the same code differ."""
    if found.in_pairs:
        return _("measured in {count} pairs", count=len(found.base.runs))
    known = dict.fromkeys(row.scatter for row in found.rows if row.scatter is not None)
    if "allowed for" not in known:
        by_processes = _("the processes of each run show it")
        return _("; ").join(
            by_processes if each == "processes" else _("measured in these runs") for each in known
        ) or _("measured in these runs")
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


def _give_advice(found: Comparison) -> Iterator[str]:
    if found.broken:
        yield _(
            "Cases of base that are missing in new, failed there or gave a wrong result: {count}.",
            count=len(found.broken),
        )
    on_cpus = any(result.kind not in ("cuda", PYTEST_BENCHMARK) for result in found.base.results)
    if on_cpus and not found.in_pairs and any(row.metric == "achieved" for row in found.slower):
        yield _(
            "A CPU's throughput depends on what else ran on its machine at the time: measure both in turn "
            "with `bench compare --interleave A B` before you look for a cause."
        )
    ambiguous = [row for row in found.rows if row.outcome == "ambiguous"]
    if ambiguous:
        helps = any(row.runs_needed is None or math.isfinite(row.runs_needed) for row in ambiguous)
        measured = "pairs" if found.in_pairs else "files" if _is_pytest(found) else "runs"
        yield _(_ADVICE_IF_AMBIGUOUS[measured, helps])


# By what there could be more of, and whether more of it would decide a case.
_ADVICE_IF_AMBIGUOUS = {
    ("pairs", True): N_(
        "Ambiguous is neither a pass nor a failure: give more --pairs, or a larger --budget."
    ),
    ("pairs", False): N_(
        "Ambiguous is neither a pass nor a failure, and more --pairs wouldn't decide: give a larger "
        "--budget, or a quieter machine."
    ),
    ("files", True): N_("Ambiguous is neither a pass nor a failure: give folders of several files."),
    ("files", False): N_(
        "Ambiguous is neither a pass nor a failure, and more files wouldn't decide: measure both in turn on "
        "a quieter machine."
    ),
    ("runs", True): N_(
        "Ambiguous is neither a pass nor a failure: give folders of several runs, or have both measured in "
        "turn with `bench compare --interleave A B`."
    ),
    ("runs", False): N_(
        "Ambiguous is neither a pass nor a failure, and more runs wouldn't decide: have both measured in "
        "turn with `bench compare --interleave A B`."
    ),
}
