"""A comparison as a reader sees it: the sentence first, a row a case, what it rests on, what to do."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nameplate.compare import compare
from nameplate.compare.comparison import compare_sides
from nameplate.compare.results import CaseResult, MetricValue, RunResults, Side
from nameplate.compare.validate import CompareOptions
from nameplate.report.compare import compare_view, render_summary
from nameplate.report.media.markdown import render
from nameplate.stats.interval import Interval

RECORDED = Path(__file__).parents[1] / "data" / "compare"
PYTEST = RECORDED / "pytest-benchmark"


def view(base, new, **flags):
    return compare_view(compare(RECORDED / base, RECORDED / new, **flags))


def facts_of(found):
    """What the comparison rests on: the last table, below the cases."""
    return dict(found.tables[-1].rows)


def rows(table):
    return [dict(zip(table.column_names, row, strict=True)) for row in table.rows]


def made(*figures, runs=3, name="a run", doubts=((), ()), in_pairs=False):
    """A comparison of made-up sides: a (base, new) figure a case; `doubts` are each side's."""

    def side(which):
        looks = [
            CaseResult(
                f"case-{n}",
                "cpu",
                "cpu",
                "a part",
                work="one",
                metrics={"achieved": MetricValue(Interval(each[which], each[which], each[which]), "TFLOPS")},
                doubts=doubts[which],
            )
            for n, each in enumerate(figures)
        ]
        return Side(name, tuple(RunResults(f"{name} {n}", "method 2", tuple(looks), {}) for n in range(runs)))

    return compare_sides(side(0), side(1), CompareOptions(), in_pairs=in_pairs)


def test_the_sentence_counts_the_words_and_names_the_worst():
    assert re.fullmatch(
        r"1 slower, 2 same of 3 cases; the worst is matmul bf16 1024x1024x1024: "
        r"new is 1\.0[23]\d × \(1\.0[12]\d … 1\.03\d\) slower than base\.",
        view("base", "slower").meaning,
    )
    assert view("base", "same").meaning == "3 same of 3 cases."


def test_of_several_regressions_the_worst_is_named():
    said = compare_view(made((1.0, 0.9), (1.0, 0.7), (1.0, 2.0))).meaning
    assert (
        said == "2 slower, 1 faster of 3 cases; the worst is case-1: new is 1.43 × (1.43) slower than base."
    )


def test_a_row_says_what_new_is_by_how_much_and_how_sure():
    compared, _ = view("base", "slower").tables
    assert compared.column_names == (
        "case",
        "new is",
        "change",
        "interval",
        "base",
        "new",
        "unit",
        "runs",
        "reason",
    )
    product, _, copy = rows(compared)
    assert product["case"] == "matmul bf16 1024x1024x1024"
    assert product["new is"] == "slower"
    assert (product["unit"], copy["unit"], product["runs"]) == ("of the probe", "GB/s", "5")
    assert re.fullmatch(r"-[23]\.\d%", product["change"])


def test_what_is_not_compared_stands_apart_with_its_reason():
    _, others, _ = view("base", "broken").tables
    assert rows(others) == [
        {
            "case": "transformer_block bf16 1x128x512-forward_backward",
            "new is": "missing",
            "reason": "failed: RuntimeError: no memory",
        }
    ]
    assert (
        "Cases of base that are missing in new, failed there or gave a wrong result: 1."
        in view("base", "broken").advice
    )


def test_the_facts_say_what_the_words_rest_on_and_what_differs():
    facts = facts_of(view("base", "other-torch"))
    assert facts["base"] == "5 runs, 20261122T120000-base-0000 to 20261122T120004-base-0004"
    assert facts["threshold"] == "±1.5%"
    assert (
        facts["intervals"]
        == "98.3% each, run-to-run, so that all of them hold together in 95 of 100 comparisons"
    )
    assert facts["scatter"] == "measured in these runs"
    assert facts["torch"] == "2.13.0 in base, 2.14.0 in new"


def test_what_was_allowed_for_is_said_with_source_and_date():
    facts = facts_of(view("quiet-base", "quiet-new"))
    assert facts["scatter"].startswith("1.1% a run allowed for, normalized (bench selftest --repeat 30: ")
    assert facts["scatter"].endswith("15.8 %, upper 90 % limit, 2026-11-22)")
    assert facts["base"] == "20261122T120000-quiet-base-0000"
    given = facts_of(view("quiet-base", "quiet-new", restart_spread=0.004))
    assert given["scatter"] == "0.40% a run, as given"
    assert facts_of(compare_view(made((1.0, 1.0), in_pairs=True)))["scatter"] == "measured in 3 pairs"


def ambiguous_row(needed):
    """A comparison whose one case is ambiguous, and would be decided by so many runs."""
    found = made((1.0, 1.0))
    (row,) = found.rows
    return compare_view(replace(found, rows=(replace(row, outcome="ambiguous", runs_needed=needed),)))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: view("noisy-base", "noisy-new"), "`bench compare --interleave A B`"),
        (lambda: ambiguous_row(5), "give folders of several runs"),
        (lambda: ambiguous_row(math.inf), "more runs wouldn't decide: have both measured in turn"),
        (lambda: view(PYTEST / "base.json", PYTEST / "slower.json"), "more files wouldn't decide"),
        (lambda: compare_view(made((1.0, 1.016), runs=1, in_pairs=True)), "give more --pairs"),
    ],
)
def test_ambiguous_is_neither_and_comes_with_a_next_step(found, said):
    (advice,) = found().advice
    assert advice.startswith("Ambiguous is neither a pass nor a failure")
    assert said in advice


@pytest.mark.parametrize(
    ("doubts", "reason"),
    [
        ((("above_peak",), ("above_peak",)), None),
        ((("above_peak",), ()), "base is above_peak: fewer than 3 runs can't decide"),
        ((("above_peak",), ("above_peak", "contended")), "new is contended: fewer than 3 runs can't decide"),
    ],
)
def test_a_rating_that_is_wrong_on_both_sides_says_nothing_about_their_ratio(doubts, reason):
    (row,) = made((1.0, 0.5), runs=1, doubts=doubts).rows
    assert row.outcome == ("slower" if reason is None else "ambiguous")
    assert (row.reason and str(row.reason)) == reason


def test_a_cpu_that_is_slower_by_throughput_alone_may_only_have_had_a_worse_hour():
    (advice,) = compare_view(made((1.0, 0.9))).advice
    assert advice.startswith("A CPU's throughput depends on what else ran on its machine")
    assert compare_view(made((1.0, 0.9), in_pairs=True)).advice == ()
    assert view("base", "slower").advice == ()


def test_no_value_from_outside_moves_a_cursor_or_opens_mark_up():
    hostile = made((1.0, 1.0), name="\x1b[2J\u202e<b>")
    found = compare_view(hostile)
    said = [found.title, found.meaning, *facts_of(found).values()]
    assert not re.search("[\x1b\u202e]", "".join(said))
    assert "<b>" not in render(found)


def test_it_renders_as_markdown():
    text = render(view("base", "slower"))
    assert text.startswith("# ")
    assert "**1 slower, 2 same of 3 cases; the worst is matmul bf16 1024x1024x1024: new is 1.0" in text
    assert "| matmul bf16 1024x1024x1024 | slower |" in text


def test_an_interval_without_ends_is_printed_as_that():
    compared, _ = compare_view(made((1.0, 1.1), runs=1, in_pairs=True)).tables
    (row,) = rows(compared)
    assert (row["change"], row["interval"]) == ("+10.0%", "-100.0% … ∞")
    assert row["reason"] == "too few pairs for an interval"


def test_a_summary_has_ten_lines_at_most_and_the_worst_case_first():
    def lines(base, new):
        return render_summary(compare(RECORDED / base, RECORDED / new)).splitlines()

    assert lines("base", "same")[0].startswith("### Not slower than base: ")
    title, _, said, *table = lines("base", "slower")
    assert title.startswith("### Slower than base: ")
    assert "slower than base" in said
    assert [row.split(" | ")[1] for row in table[3:-1]] == ["slower"]
    assert lines("noisy-base", "noisy-new")[0].startswith("### Not known to be as fast as base: ")
    assert lines("base", "broken")[0].startswith("### Incomplete: ")
    # Of many cases three are shown: the worst regression first, then what is broken.
    found = compare(RECORDED / "base", RECORDED / "slower")
    slower, same, _ = found.rows
    worse = replace(slower, case="worse", ratio=Interval(0.5, 0.4, 0.6))
    rows = (
        replace(same, outcome="ambiguous"),
        replace(same, outcome="missing", ratio=None),
        slower,
        worse,
        same,
    )
    summary = render_summary(replace(found, rows=(*rows, replace(same, outcome="ambiguous"))))
    assert len(summary.splitlines()) <= 11
    assert summary.endswith("\n\n")
    shown = [row.split(" | ")[:2] for row in summary.splitlines()[6:]]
    assert shown[0] == ["| worse", "slower"]
    assert [row[1] for row in shown[:3]] == ["slower", "slower", "missing"]
    assert shown[3][0] == "| 2 more cases"
