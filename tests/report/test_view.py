"""What the one screen says, and that no value of anyone's can say it differently."""

import io
import json
import re
import shlex
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from nameplate.base.formatting import duration, figure
from nameplate.base.messages import message
from nameplate.base.text import plain
from nameplate.chain.from_run import find_links
from nameplate.cli.output import print_json
from nameplate.models.load import load_model
from nameplate.record import Batch, Derate, Moment
from nameplate.report.charts.data import TimeSeries
from nameplate.report.charts.textchart import draw_sparkline
from nameplate.report.media import markdown, terminal
from nameplate.report.run import run_document, run_view
from nameplate.report.sections.answers import describe_run
from nameplate.report.view import text_table
from nameplate.store.manifest import Options
from nameplate.suite import Axes

PICTURES = {"efficiency": "x.svg"}
BLOCK = "transformer_block/bf16/1x128x512-forward_backward/normal/warm/-/torch"
COPY = "memory/fp32/copy-64MiB/normal/warm/-/torch"


@pytest.fixture
def a800(make_record):
    """A product on a card that is counted by 320 and rated for 312."""

    def make(tflops=250.0, **changes):
        fields = {
            "tflops": tflops,
            "tflops_low": tflops - 5,
            "tflops_high": tflops + 5,
            "tflops_median": tflops + 1,
            "nominal_tflops": 320.0,
            "efficiency": tflops / 320,
            "efficiency_low": (tflops - 5) / 320,
            "efficiency_high": (tflops + 5) / 320,
            "datasheet_tflops": 312.0,
            "datasheet_efficiency": tflops / 312,
        }
        return make_record(**(fields | changes))

    return make


def unrated(make_record, **changes):
    nothing = ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops")
    fields = dict.fromkeys((*nothing, "datasheet_efficiency"))
    return make_record(**(fields | {"nominal_source": "the model isn't shown to this guest"} | changes))


def memory(make_record, **changes):
    record = unrated(make_record, case=COPY, workload="memory", dtype="fp32", **changes)
    return record.model_copy(update={"tflops": None, "tflops_low": None, "tflops_high": None})


def printed(run, width=200):
    """What rich prints where the output is no terminal: no control sequence of its own is in it."""
    out = io.StringIO()
    terminal.show(run_view(run), Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def facts_of(run):
    """What is said of the machine, by name."""
    return dict(run_view(run).facts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.145, "0.145"),
        (2.31, "2.31"),
        (788.0, "788"),
        (788.4, "788"),
        (0.00219, "0.00219"),
        (0.1, "0.100"),
        (10.0, "10.0"),
        (99.94, "99.9"),
        (1234.5, "1,234"),
        (9.999, "10.0"),
        (0.09999, "0.100"),
        (0.0, "0"),
        (None, "–"),
    ],
)
def test_a_figure_has_three_digits_and_no_exponent(value, text):
    assert figure(value) == text


def said(run):
    return describe_run(run)


def test_the_meaning_of_a_clean_run_is_what_is_delivered(make_run, a800):
    sentence = said(make_run(a800(240.0)))
    assert "75.0%" in sentence
    assert "bf16" in sentence
    assert "product" in sentence
    assert not re.search("clean|contended|unstable", sentence)


def test_the_meaning_of_what_is_not_clean_says_so(make_run, a800):
    sentence = said(make_run(a800(240.0, verdict="contended", verdicts=("contended", "unstable"))))
    assert "75.0%" in sentence
    assert "contended" in sentence


def test_the_meaning_without_a_rating_gives_the_figure_and_why_no_more(make_run, make_record):
    small = unrated(make_record, case="matmul/bf16/8x8x8/normal/warm/-/torch", tflops=0.395)
    sentence = said(make_run(small, unrated(make_record)))
    assert "0.400 TFLOPS (bf16)" in sentence
    assert "the model isn't shown to this guest" in sentence
    assert "%" not in sentence


@pytest.fixture
def phases(a800):
    """One product from cool and settled, in one run from idle, with the curve between the two."""

    def make(burst=280.0, sustained=240.0, settled_s=12.0, **changes):
        case = "matmul/bf16/1024x1024x1024/normal/warm/{}/torch"
        at_s = (0.1, 0.5, 1.0, 5.0, 10.0, 20.0)
        fall = [sustained + (burst - sustained) * share for share in (1.0, 0.97, 0.9, 0.4, 0.1, 0.0)]
        first = a800(
            burst,
            case=case.format("burst"),
            phase="burst",
            group="soak",
            settled_s=settled_s,
            course=tuple(Moment(at_s=at, tflops=each) for at, each in zip(at_s, fall, strict=True)),
            derates=tuple(
                Derate(at_s=at, tflops=each, efficiency=each / 320, of_burst=each / burst)
                for at, each in ((1.0, fall[2]), (10.0, fall[4]), (60.0, 239.0), (600.0, 238.0))
            ),
        )
        settled = {"case": case.format("sustained"), "phase": "sustained", "group": "soak"}
        return [first, a800(sustained, **(settled | changes))]

    return make


def test_the_meaning_of_a_run_with_phases_says_what_heat_and_power_leave(make_run, phases):
    sentence = said(make_run(*phases()))
    assert "87.5% of it in its best matrix product from cool and 75.0% once that has settled." in sentence
    alone = said(make_run(phases()[1]))
    assert "75.0% of it in its best matrix product once settled." in alone


def test_a_capped_sustained_figure_may_be_relied_on_and_a_capped_burst_not(make_run, phases):
    held = {"verdict": "power_capped", "verdicts": ("power_capped",)}
    burst, sustained = phases(**held)
    assert "Don't rely on it" not in said(make_run(burst, sustained))
    assert "Don't rely on it yet: power_capped." in said(make_run(burst.model_copy(update=held), sustained))


def test_a_card_at_its_power_limit_is_normal_and_a_hot_one_is_not(make_run, a800):
    """As smoke measures them: without phases."""
    assert "Don't rely on it" not in said(
        make_run(a800(240.0, verdict="power_capped", verdicts=("power_capped",)))
    )
    hot = a800(240.0, phase="sustained", verdict="throttled", verdicts=("throttled", "power_capped"))
    assert "Don't rely on it yet: throttled." in said(make_run(hot))


def test_the_meaning_names_the_ceiling_and_what_it_was_lost_to(make_run, phases):
    normalized = {"ceiling_tflops": 260.0, "normalized_efficiency": 240 / 260, "loss": "power limit 19%"}
    ends = {"normalized_efficiency_low": 0.9, "normalized_efficiency_high": 0.95}
    sentence = said(make_run(*phases(**normalized, **ends)))
    assert "its ceiling was 260 TFLOPS (lost to power limit 19%);" in sentence
    assert "that product reached 92.3% of it." in sentence


@pytest.mark.parametrize(
    ("ceiling", "low", "shown"),
    [
        (230.0, 0.9, "reached all of it, within the error of both"),
        (170.0, 0.9, "ceiling under the conditions measured isn't known"),
        (170.0, 1.1, None),
    ],
)
def test_a_ceiling_that_was_exceeded_is_not_stated_as_one(make_run, phases, ceiling, low, shown):
    """Beside other work a product "reached 139.7% of its ceiling"."""
    normalized = {"ceiling_tflops": ceiling, "normalized_efficiency": 240 / ceiling}
    ends = {"normalized_efficiency_low": low, "normalized_efficiency_high": 2.2}
    sentence = said(make_run(*phases(**normalized, **ends)))
    assert "product reached 1" not in sentence
    assert (shown in sentence) if shown else ("ceiling" not in sentence)


def test_inputs_that_no_work_has_make_no_promise(make_run, a800):
    zeros = a800(300.0, fill="zeros", case="matmul/bf16/1024x1024x1024/zeros/warm/-/torch")
    assert "on zeros inputs, which no real work has" in said(make_run(zeros))
    assert "75.0%" in said(make_run(zeros, a800(240.0)))


@pytest.mark.parametrize("what", ["nothing", "skipped", "failed", "memory", "wrong"])
def test_the_meaning_of_nothing_measured_claims_nothing(make_run, make_record, what):
    records = {
        "nothing": (),
        "skipped": (make_record(status="skipped"),),
        "failed": (make_record(status="failed"),),
        "memory": (memory(make_record),),
        "wrong": (make_record(verdict="unverified", verdicts=("unverified",)),),
    }
    assert "it isn't known what this device delivers" in said(make_run(*records[what]))


def test_the_meaning_of_two_devices_does_not_multiply_them(make_run, a800):
    """0.75 of one card and 0.75 of another aren't 0.56 of anything."""
    sentence = said(make_run(a800(240.0), a800(240.0, device="cuda:1")))
    assert "75.0%" in sentence
    assert "56%" not in sentence
    assert "55%" not in sentence


ADVICE = {
    "contended": "run again on an idle machine",
    "unstable": "larger --budget",
    "unverified": "wrong beyond rounding",
    "above_peak": "the rating is wrong",
    "launch_bound": "host",
    "contradictory": "contradict each other",
    "throttled": "a fault of the device",
    "power_capped": "normal for sustained work",
    "unknown": "could not be read",
}


@pytest.mark.parametrize("verdict", ADVICE)
def test_each_verdict_that_stood_in_the_way_has_its_advice(make_run, make_record, verdict):
    batches = [Batch(start_s=n, elapsed_s=1.0, launches=1, round=n) for n in range(5)]
    enough = {"batches": batches} if verdict == "unstable" else {}  # with less, a budget is named too
    record = make_record(verdict=verdict, verdicts=(verdict,), **enough)
    *of_health, advice = run_view(make_run(record)).advice
    assert ADVICE[verdict] in advice
    unfit = verdict == "throttled"
    assert [each.partition(":")[0] for each in of_health] == ["cpu"] * unfit


def test_a_sustained_figure_may_be_held_at_the_power_limit(make_run, make_record):
    held = {"verdict": "power_capped", "verdicts": ("power_capped",)}
    (advice,) = run_view(make_run(make_record(phase="sustained", **held))).advice
    assert "such figures count" in advice
    records = make_record(phase="sustained", **held), make_record(phase="burst", **held)
    both = run_view(make_run(*records)).advice
    assert ["such figures count" in each for each in both] == [True, False]


def test_unstable_cases_that_had_little_time_are_told_a_budget(make_run, make_record):
    def unstable(seconds, **changes):
        batches = [Batch(start_s=n, elapsed_s=seconds / 5, launches=1, round=n) for n in range(5)]
        return make_record(
            verdict="unstable", verdicts=("unstable",), batches=batches, cost_s=20.0, **changes
        )

    run = make_run(unstable(1.0), unstable(2.0, case=COPY), unstable(4.0, case=BLOCK))
    _verdict, budget, *_rest = run_view(run).advice
    assert "2 had less than 3.0 s" in budget
    assert "`--budget 180`" in budget  # 60 s × 3 s ÷ 1 s
    assert not [each for each in run_view(make_run(unstable(4.0))).advice if "--budget 1" in each]


def test_a_clean_run_needs_no_advice(make_run, make_record):
    assert run_view(make_run(make_record())).advice == ()


def test_advice_counts_what_was_skipped_and_what_is_missing(make_run, make_record):
    reason = message("budget_spent", budget_s=5.0)
    run = make_run(
        make_record(status="skipped", reason=reason),
        make_record(status="skipped", reason="tf32 is a mode of NVIDIA tensor cores", case=COPY),
        missing=[BLOCK],
    )
    missing, budget = run_view(run).advice
    assert budget.startswith("Cases that didn't fit the budget: 1.")
    assert "--budget" in budget
    assert missing.startswith("Cases without a record: 1.")
    assert f"bench run --resume {run.folder}" in missing


def test_a_small_block_is_said_to_stand_for_nothing(make_run, make_record):
    (advice,) = run_view(make_run(make_record(case=BLOCK, workload="transformer_block"))).advice
    assert "below full width" in advice


def cells(run, heading):
    (table,) = [table for table in run_view(run).tables if table.heading.startswith(heading)]
    return [dict(zip(table.column_names, row, strict=True)) for row in table.rows]


def test_a_row_carries_the_case_its_figures_and_all_verdicts(make_run, a800):
    (row,) = cells(make_run(a800(250.0, verdict="contended", verdicts=("contended", "unstable"))), "Achieved")
    assert row["case"] == "matmul bf16 1024x1024x1024"
    assert row["achieved"] == "250 ± 5"
    assert (row["median"], row["nominal"]) == ("251", "320")
    assert row["efficiency"] == "78.1% ± 1.6"
    assert row["verdict"] == "contended unstable"
    assert (row["datasheet"], row["of datasheet"]) == ("312", "80.1%")


def test_the_datasheet_is_left_out_where_it_is_nominal(make_run, make_record):
    (row,) = cells(make_run(make_record()), "Achieved")
    assert "datasheet" not in row


def test_axes_that_are_not_the_default_stay_in_the_name(make_run, make_record):
    record = make_record(case="matmul/bf16/8x8x8/zeros/flushed/-/torch", fill="zeros", cache="flushed")
    (row,) = cells(make_run(record), "Achieved")
    assert "zeros" in row["case"]
    assert "flushed" in row["case"]


def test_what_is_not_known_is_a_dash(make_run, make_record):
    (row,) = cells(make_run(unrated(make_record)), "Achieved")
    assert (row["nominal"], row["efficiency"]) == ("–", "–")


NORMALIZED = {
    "ceiling_tflops": 0.42,
    "normalized_efficiency": 0.4 / 0.42,
    "normalized_efficiency_low": 0.93,
    "normalized_efficiency_high": 0.97,
}


def test_normalized_efficiency_stands_beside_with_the_loss_between_them_named(make_run, make_record):
    record = make_record(**NORMALIZED, loss="library 12%, contention 4%")
    other = make_record(case="matmul/bf16/8x8x8/normal/warm/-/torch")
    row, without = cells(make_run(record, other), "Achieved")
    assert (row["efficiency"], row["normalized"]) == ("80.0% ± 2.0", "95.2% ± 2.0")
    assert row["lost to"] == "library 12%, contention 4%"
    assert (without["normalized"], without["lost to"]) == ("–", "–")


def test_without_a_ceiling_there_is_no_column_for_it(make_run, make_record):
    (row,) = cells(make_run(make_record()), "Achieved")
    assert not {"normalized", "lost to"} & set(row)


def named(make_record, *ids):
    return [
        make_record(case=f"{case}/torch", workload=case.split("/")[0], fill="normal", cache="warm")
        for case in ids
    ]


def test_what_most_cases_have_goes_unsaid_and_is_said_once(make_run, make_record):
    records = named(
        make_record,
        "matmul/bf16/8x8x8/normal/rotating/burst",
        "matmul/bf16/8x8x8/normal/rotating/sustained",
        "matmul/fp16/8x8x8/normal/rotating/sustained",
        "matmul/fp16/8x8x8/zeros/warm/sustained",
        "transformer_block/bf16/1x8x8-forward/normal/warm/sustained",
        "transformer_block/bf16/1x8x8-backward/normal/warm/sustained",
    )
    run = make_run(*records)
    assert [row["case"] for row in cells(run, "Achieved")] == [
        "matmul bf16 8x8x8 burst",
        "matmul bf16 8x8x8",
        "matmul fp16 8x8x8",
        "matmul fp16 8x8x8 zeros warm",
        "transformer_block bf16 1x8x8-forward",
        "transformer_block bf16 1x8x8-backward",
    ]
    said = facts_of(run)["cases"]
    assert said == "rotating (matmul), sustained (matmul, transformer_block), unless a row says otherwise"


def test_where_no_phase_is_usual_both_are_said(make_run, phases):
    assert [row["case"].split()[-1] for row in cells(make_run(*phases()), "Achieved")] == [
        "burst",
        "sustained",
    ]
    assert "cases" not in facts_of(make_run(*phases()))


def test_an_id_of_another_form_keeps_its_words(make_run, make_record):
    run = make_run(make_record(), missing=["lost/normal/warm/-/torch", "lost"])
    assert [row["case"] for row in cells(run, "Not measured")] == ["lost", "lost"]
    run = make_run(make_record(), missing=["mine/a/b/c/d/e"])
    assert [row["case"] for row in cells(run, "Not measured")] == ["mine a b c d e"]


def test_nominal_is_said_once_for_each_dtype(make_run, make_record):
    records = [make_record(), make_record(dtype="fp32", nominal_tflops=0.25), make_record()]
    assert facts_of(make_run(*records))["nominal"] == "bf16 0.500, fp32 0.250 TFLOPS"
    assert "nominal" not in facts_of(make_run(unrated(make_record)))


def test_a_cpu_that_was_measured_for_want_of_a_gpu_says_so(make_run, make_record):
    why = message("no_driver", why="NVML_ERROR_LIBRARY_NOT_FOUND: nvmlInit")
    facts = list(facts_of(make_run(make_record(), nvml=why)).items())
    assert ("note", str(why)) in facts
    assert "note" not in facts_of(make_run(make_record()))


def test_a_contended_case_shows_what_its_cpu_time_gave(make_run, make_record):
    conditions = {"foreign_cpu_share": 0.2, "steal_share": None}
    loud = {"verdict": "contended", "verdicts": ("contended",), "conditions": conditions}
    run = make_run(
        make_record(cpu_time_tflops=0.48, **loud),
        make_record(case="matmul/bf16/8x8x8/normal/warm/-/torch", cpu_time_tflops=0.41),
    )
    (row,) = cells(run, "While others used the cores")
    assert (row["case"], row["achieved"]) == ("matmul bf16 1024x1024x1024", "0.400 ± 0.010")
    assert (row["by CPU time"], row["others had"], row["stolen"]) == ("0.480", "20.0%", "–")


def test_a_quiet_run_has_no_table_of_load_or_launches(make_run, make_record):
    headings = [table.heading for table in run_view(make_run(make_record(cpu_time_tflops=0.41))).tables]
    assert not any("others" in heading or "host" in heading for heading in headings)


def test_a_replayed_case_shows_its_figure_without_the_host(make_run, make_record):
    bound = make_record(graph_tflops=0.9, verdict="launch_bound", verdicts=("launch_bound",))
    (row,) = cells(make_run(bound), "Without the host")
    assert (row["achieved"], row["as a graph"], row["verdict"]) == ("0.400 ± 0.010", "0.900", "launch_bound")


def test_a_course_shows_burst_the_moments_and_where_it_settled(make_run, phases):
    run = make_run(*phases())
    rows = cells(run, "From idle: matmul bf16 1024x1024x1024")
    assert [tuple(row.values()) for row in rows] == [
        ("burst", "280 ± 5", "100.0%", "87.5%"),
        ("after 1.0 s", "276", "98.6%", "86.2%"),
        ("after 10 s", "244", "87.1%", "76.2%"),
        ("after 1.0 min", "239", "85.4%", "74.7%"),
        ("after 10 min", "238", "85.0%", "74.4%"),
        ("sustained, from 12 s on", "240 ± 5", "85.7%", "75.0%"),
    ]


@pytest.mark.parametrize(
    ("settled_s", "words"),
    [(0.0, "sustained, from the start"), (None, "sustained, not known to have settled within 20 s")],
)
def test_a_course_says_whether_it_settled(make_run, phases, settled_s, words):
    assert cells(make_run(*phases(settled_s=settled_s)), "From idle")[-1]["when"] == words


def test_the_settled_figure_of_a_course_is_of_the_same_work(make_run, phases, a800):
    burst, sustained = phases()
    for other in (
        sustained.model_copy(update={"shape": "8x8x8"}),
        sustained.model_copy(update={"device": "cuda:1"}),
        sustained.model_copy(update={"verdict": "unverified", "verdicts": ("unverified",)}),
    ):
        assert cells(make_run(burst, other), "From idle")[-1]["TFLOPS"] == "–"
    elsewhere = sustained.model_copy(update={"group": "layer", "tflops": 238.0})
    assert cells(make_run(burst, elsewhere), "From idle")[-1]["TFLOPS"] == "238 ± 5"
    assert cells(make_run(burst, elsewhere, sustained), "From idle")[-1]["TFLOPS"] == "240 ± 5"


def test_courses_of_several_devices_are_told_apart(make_run, make_manifest, phases):
    (entry,) = make_manifest().devices
    devices = tuple(entry.model_copy(update={"name": name}) for name in ("cuda:0", "cuda:1"))
    records = [record.model_copy(update={"device": each.name}) for each in devices for record in phases()]
    run = make_run(*records, devices=devices)
    rows = cells(run, "From idle")
    assert [row["case"] for row in rows[::6]] == [f"cuda:{n} matmul bf16 1024x1024x1024" for n in (0, 1)]
    assert printed(run).count("TFLOPS; 0.1 s to 20 s") == 2


def course(*points):
    return TimeSeries("a course", tuple(Moment(at_s=at_s, tflops=tflops) for at_s, tflops in points))


def test_a_curve_is_one_line_with_its_scale_in_numbers(make_run, phases):
    out = printed(make_run(*phases()))
    (table,) = (each for each in run_view(make_run(*phases())).tables if each.heading.startswith("From idle"))
    line, scale = draw_sparkline(table.charts[0].series[0], 80)
    assert line == "██▇▅▄▁"
    assert scale == "█ 280, ▁ 242 TFLOPS; 0.1 s to 20 s since idle, log time"
    assert f"\n{line}\n{scale}\n" in re.sub(" +\n", "\n", out)
    assert line not in markdown.render(run_view(make_run(*phases())))  # a picture of it stands beside


def test_a_curve_of_noise_does_not_look_like_a_fall():
    line, scale = draw_sparkline(course(*((1.0 + n, 100.0 + n % 2) for n in range(40))), 80)
    assert set(line) <= set("▇█")
    assert "▁ 90.9" in scale


def test_a_curve_is_as_wide_as_the_terminal_at_most_and_has_no_holes():
    at_s = (0.1, *(float(n) for n in range(1, 600)))  # log time leaves early stretches without a point
    curve = course(*((at, 100.0 - 20.0 * min(at / 60, 1.0)) for at in at_s))
    for width, count in ((200, 64), (30, 30)):
        line, _ = draw_sparkline(curve, width)
        assert len(line) == count
        assert line[0] == "█"
        assert line[-1] == "▁"
        assert sorted(line, reverse=True) == list(line)
    assert draw_sparkline(course((2.0, 5.0)), 80)[0] == "█"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.18, "0.18 s"), (1.0, "1.0 s"), (9.94, "9.9 s"), (9.97, "10 s"), (12.4, "12 s"), (60, "1.0 min"),
     (90, "1.5 min"), (600, "10 min"), (601, "10 min")],
)  # fmt: skip
def test_a_duration_is_in_the_unit_people_say(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def states(make_record):
    """One product in two states, twelve rounds in turn."""
    made = []
    for fill, cache, speed in (("normal", "warm", 1.0), ("zeros", "warm", 1.25), ("normal", "flushed", 0.8)):
        batches = [
            Batch(start_s=n, elapsed_s=(1 + 0.05 * n) / speed, launches=100, round=n) for n in range(12)
        ]
        case = f"matmul/bf16/1024x1024x1024/{fill}/{cache}/-/torch"
        made.append(make_record(case=case, fill=fill, cache=cache, group="sensitivity", batches=batches))
    return made


def test_effects_of_fill_and_cache_are_ratios_to_the_usual_state(make_run, states):
    zeros, flushed = cells(make_run(*states), "What fill and cache change")
    assert (zeros["case"], zeros["ratio"]) == ("matmul bf16 1024x1024x1024 zeros", "1.250")
    assert (zeros["95 % within a process"], zeros["compared with"]) == ("1.250", "normal warm")
    assert (flushed["case"], flushed["ratio"]) == ("matmul bf16 1024x1024x1024 flushed", "0.800")
    assert flushed["verdict"] == "clean"


def test_memory_has_a_table_of_its_own(make_run, make_record):
    run = make_run(make_record(), memory(make_record, bandwidth_gb_s=1.17))
    (row,) = cells(run, "Memory")
    assert row["case"] == "memory fp32 copy-64MiB"
    assert row["achieved"].startswith("1.17 ± ")
    assert len(cells(run, "Achieved")) == 1


def test_every_case_that_was_not_measured_is_listed_with_its_reason(make_run, make_record):
    run = make_run(
        make_record(status="failed", reason="RuntimeError: no"),
        make_record(status="skipped", reason="no time", case=COPY),
        missing=[BLOCK],
    )
    rows = cells(run, "Not measured")
    assert [(row["status"], row["reason"]) for row in rows][:2] == [
        ("failed", "RuntimeError: no"),
        ("skipped", "no time"),
    ]
    assert rows[2]["status"] == "missing"


def test_a_report_adds_how_the_figures_were_taken(make_run, make_record):
    run = make_run(make_record(), make_record(status="failed", case=COPY))
    headings = [table.heading for table in run_view(run).tables]
    assert headings[-3:] == ["Method", "Every record", "How to reproduce"]


def test_every_record_stands_in_a_report_whatever_became_of_it(make_run, make_record):
    power = {"power_w": 391.4, "energy_j": 3910.0, "digest": "0123456789abcdef"}
    run = make_run(make_record(**power), make_record(status="failed", case=COPY))
    measured, failed = whole_cells(run, "Every record")
    assert (measured["case"], measured["status"]) == ("matmul bf16 1024x1024x1024", "ok")
    assert (measured["ms a launch"], measured["launches"], measured["s in all"]) == ("5.37", "200", "1.50")
    assert (measured["W"], measured["J"], measured["digest"]) == ("391", "3,910", "0123456789ab")
    assert measured["error of bound"] == "30.0%"
    assert (failed["status"], failed["verdict"]) == ("failed", "unknown")
    assert {failed[name] for name in ("ms a launch", "launches", "W", "J", "error of bound", "digest")} == {
        "–"
    }


def whole_cells(run, heading):
    (table,) = [table for table in run_view(run).tables if table.heading == heading]
    return [dict(zip(table.column_names, row, strict=True)) for row in table.rows]


def test_a_report_ends_with_the_commands_that_measure_it_again(make_run, make_record):
    options = Options(device="cuda:0", only="matmul/*", budget_s=90.0, nominal={"bf16": 320.0})
    run = make_run(make_record(), suite="quick", options=options)
    rows = {row["what"]: shlex.split(row["command"]) for row in whole_cells(run, "How to reproduce")}
    flags = ["--device", "cuda:0", "--only", "matmul/*", "--budget", "90", "--nominal", "bf16=320"]
    assert rows["measure it again"] == ["bench", "run", "quick", *flags]
    assert rows["read every figure"] == ["bench", "show", run.id, "--json"]
    assert all(run.id in command for what, command in rows.items() if what != "measure it again")


def test_a_command_that_quotes_a_name_is_still_one_command(make_run, make_record):
    run = make_run(make_record(), suite="a suite; rm -rf '*'")
    (again, *_) = whole_cells(run, "How to reproduce")
    assert shlex.split(again["command"]) == ["bench", "run", "a suite; rm -rf '*'"]


def test_the_method_says_how_flops_were_counted_and_by_what_results_were_checked(make_run, make_record):
    rows = {row["what"]: row["how"] for row in whole_cells(make_run(make_record()), "Method")}
    assert (rows["FLOPs by"], rows["verified against"]) == ("2MNK", "fp64")
    assert rows["inputs"].startswith("seed 7; ")


def test_a_block_says_how_many_tokens_a_second_go_through_it(a800_run):
    (row,) = cells(a800_run(), "The transformer block")
    block = next(each for each in a800_run().records if each.workload == "transformer_block")
    assert row["layer of"] == "Llama-3-8B"
    assert row["ms a pass"] == figure(1e3 * block.time_s)
    assert row["tokens a second"] == figure(4096 / block.time_s) == "145,464"
    assert (row["achieved"], row["efficiency"]) == ("205 ± 2", "64.1% ± 0.6")


def test_a_block_of_sizes_nobody_knows_has_no_tokens_a_second(make_run, make_record):
    block = make_record(case=BLOCK, workload="transformer_block", dimensions={"tokens": "many"})
    (row,) = cells(make_run(block), "The transformer block")
    assert (row["tokens a second"], row["layer of"]) == ("–", "–")


def test_the_answer_is_what_is_left_of_nominal_at_each_measured_stage(a800_run):
    assert [(each.label, each.value, each.verdict) for each in run_view(a800_run()).answers] == [
        ("best product, sustained", "81.2% ± 0.8", "power_capped"),
        ("the model's products", "75.6% ± 0.5", "clean"),
        ("transformer block", "64.1% ± 0.6", "clean"),
        ("training Llama-3-8B", "4,546 ± 45", "clean"),
    ]


def test_of_several_devices_the_answer_is_the_slowests(a800_run):
    assert run_view(a800_run(1.0, 0.9)).answers == run_view(a800_run(0.9)).answers


def test_without_a_rating_there_is_no_answer(make_run, make_record):
    assert run_view(make_run(unrated(make_record))).answers == ()


def test_a_device_of_no_known_part_is_said_to_be_one(make_run, make_record, make_manifest):
    (entry,) = make_manifest().devices
    entry = entry.model_copy(update={"part": None, "evidence": "no table holds family 99"})
    facts = facts_of(make_run(make_record(), devices=(entry,)))
    assert facts["recognised as"] == "no known part: no table holds family 99"


# What a host name, a driver's message or a file from elsewhere may hold.
HOSTILE = {
    "html": "<img src=x onerror=alert(1)>",
    "pipe": "a|b",
    "row": "x |\n| forged | 999 | 999 | 999 | 99% | clean",
    "escape": "\x1b[2J\x1b[31mred",
    "c1": "\x9b2Jgone",
    "bidi": "\u202e%99 fo",
    "zero width": "a\u200bb\u2066c",
    "rich": "[red]x[/red] [link=file:///etc/passwd]y[/link] [/nothing]",
    "link": "[click](https://evil.example) ![p](https://evil.example/x.png) <https://evil.example>",
    "emphasis": "**bold** _it_ `code` ~~no~~",
    "heading": "# Not a heading\n\n---\n\n- item\n> quote",
    "backslash": "C:\\x\\| y",
    "entity": "&lt;script&gt; &#x202e;",
    "carriage": "real\rfake",
}
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")


@pytest.fixture
def hostile_run(make_run, make_record, make_manifest):
    """A run in which every free text says this."""

    def make(text):
        (entry,) = make_manifest().devices
        identity = entry.identity.model_copy(update={"name": text})
        entry = entry.model_copy(
            update={"name": text, "evidence": text, "notes": (text,), "identity": identity}
        )
        product = make_record(
            case=f"matmul/bf16/{text}/normal/warm/-/torch",
            shape=text,
            nominal_source=text,
            datasheet_source=text,
        )
        copy = memory(make_record, shape=text)
        failed = make_record(status="failed", reason=text, case=f"conv/bf16/{text}/normal/warm/-/torch")
        return make_run(
            product,
            copy,
            failed,
            missing=[f"lost/{text}"],
            problems=(text,),
            suite=text,
            hostname=text,
            created=text,
            devices=(entry,),
            software={"nameplate": text, "torch": text},
        )

    return make


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_terminal_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    out = printed(hostile_run(text))
    assert _CONTROL.search(out) is None
    host = next(line for line in out.splitlines() if line.startswith("host"))
    assert plain(text) in host


def tokens(text):
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [each for token in parsed for each in (token, *(token.children or ()))]


@pytest.mark.parametrize("kind", HOSTILE)
def test_markdown_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    calm_report = markdown.render(run_view(hostile_run("calm")), PICTURES)
    calm = [token.type for token in tokens(calm_report)]
    report = markdown.render(run_view(hostile_run(text)), PICTURES)
    assert _CONTROL.search(report) is None
    parsed = tokens(report)
    assert [token.type for token in parsed if token.type != "text"] == [
        kind for kind in calm if kind != "text"
    ]
    cell = "".join(token.content for token in parsed if token.type == "text")
    assert plain(text).strip() in cell


def test_the_hostile_texts_would_do_harm_if_they_were_not_escaped():
    kinds = {token.type for token in tokens("\n\n".join(HOSTILE.values()))}
    assert {"html_block", "link_open", "image", "strong_open", "heading_open", "code_inline"} <= kinds


def test_plain_strips_what_moves_a_cursor_and_keeps_letters():
    assert plain("\x1b[2J\u202eabc\x00") == "[2Jabc"
    assert plain("a\tb\nc\rd") == "a b c d"
    assert plain("EPYC™ é 中 …") == "EPYC™ é 中 …"
    assert plain(None) == "None"


def test_problems_of_reading_are_shown(make_run, make_record):
    run = make_run(make_record(), problems=("records-x.jsonl: skipped a torn last line of 7 bytes",))
    assert "skipped a torn last line of 7 bytes" in printed(run)
    assert "skipped a torn last line of 7 bytes" in markdown.render(run_view(run))


# What `--json` promises.
PROMISED = (
    "case workload dtype device part phase backend tflops tflops_low tflops_high nominal_tflops efficiency "
    "datasheet_tflops datasheet_efficiency ceiling_tflops normalized_efficiency tflops_median bandwidth_gb_s "
    "convention time_s launches power_w energy_j tflops_per_w verdict verdicts status reason"
)


def test_the_document_is_run_records_and_chain(make_run, a800, make_record):
    run = make_run(a800(250.0), memory(make_record), missing=[BLOCK], problems=("one problem",))
    found = json.loads(json.dumps(run_document(run)))
    assert list(found) == ["run", "records", "health", "chain"]
    assert (found["run"]["run"], found["run"]["hostname"]) == (run.id, "node17")
    assert (found["run"]["finished"], found["run"]["missing"]) == (False, [{"case": BLOCK, "device": "cpu"}])
    assert found["run"]["problems"] == ["one problem"]
    product, copy = found["records"]
    assert [name for name in PROMISED.split() if name not in product] == []
    assert all(not isinstance(value, dict) for value in product.values())
    assert product["verdicts"] == ["clean"]
    assert (product["phase"], product["power_w"], product["reason"]) == (None, None, None)
    assert (copy["tflops"], copy["efficiency"]) == (None, None)
    first, second = found["chain"]
    assert (first["from"], first["to"], first["value"]) == ("nominal", "datasheet", 312 / 320)
    assert (second["from"], second["to"], second["provenance"]) == ("datasheet", "gemm", "measured")


def test_what_is_no_column_stands_in_the_run(make_run, phases, states):
    run = json.loads(json.dumps(run_document(make_run(*phases(), *states))))["run"]
    (course,) = run["courses"]
    assert (course["case"].split("/")[-2], course["device"]) == ("burst", "cpu")
    assert course["course"][0] == {
        "at_s": 0.1,
        "tflops": 280.0,
        "sm_clock_mhz": None,
        "power_w": None,
        "temperature_c": None,
    }
    assert [each["at_s"] for each in course["derates"]] == [1.0, 10.0, 60.0, 600.0]
    assert [effect["value"] for effect in run["effects"]] == pytest.approx([1.25, 0.8])


def test_a_document_keeps_every_letter(make_run, make_record):
    text = json.dumps(run_document(make_run(make_record(), hostname="нода-17")))
    assert json.loads(text)["run"]["hostname"] == "нода-17"
    assert text.isascii()  # whatever the terminal's encoding


def test_neither_nan_nor_infinity_leaves():
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"tflops": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"tflops": float("inf")})


def test_intervals_that_reach_a_time_of_zero_are_still_a_document(make_run, make_record):
    """Five very noisy batches give such an interval; a record then ends it at 1e9 times the value."""
    wide = {"tflops": 1.0, "tflops_low": 0.2, "tflops_high": 1e9}
    layer = []
    for outputs, inputs, times in ((6144, 4096, 1), (4096, 4096, 1), (14336, 4096, 2), (4096, 14336, 1)):
        dimensions = {"m": 128, "n": outputs, "k": inputs, "layout": "nt", "times": times}
        flops = 2 * 128 * outputs * inputs
        case = f"matmul/bf16/128x{outputs}x{inputs}-nt/normal/warm/-/torch"
        layer.append(
            make_record(case=case, dimensions=dimensions, flops=flops, represents="Llama-3-8B", **wide)
        )
    forward = sum(record.flops * record.dimensions["times"] for record in layer) + 2 * 128**2 * 32 * 128
    block = make_record(
        case="transformer_block/bf16/1x128x4096-forward_backward/normal/warm/-/torch",
        workload="transformer_block",
        represents="Llama-3-8B",
        dimensions={"batch": 1, "tokens": 128, "heads": 32, "head_dim": 128, "pass": "forward_backward"},
        flops=3 * forward,
        **wide,
    )
    run = make_run(make_record(), *layer, block)
    assert "gemm_model" in {link.to for link in find_links(run.records)}
    assert json.loads(json.dumps(run_document(run), allow_nan=False))["chain"]


def test_the_model_that_was_asked_for_gets_its_tokens_a_second(a800_run):
    run = a800_run()
    model = load_model("llama3-8b").model_copy(update={"name": "Llama-3-8B"})
    options = run.manifest.options.model_copy(update={"axes": Axes(model=model, tokens=(4096,))})
    asked = replace(run, manifest=run.manifest.model_copy(update={"options": options}))
    (block,) = (each for each in run.records if each.workload == "transformer_block")
    rate = 4096 / block.time_s / 32
    said = describe_run(asked)
    assert f"All 32 layers of Llama-3-8B would train on {figure(rate)} ± 45 tokens" in said
    assert "without embedding, logits, optimizer and communication" in said
    assert "All 32 layers" not in describe_run(run)
    assert asked.manifest.command == "bench run --model Llama-3-8B --tokens 4096"


def test_several_devices_show_their_spread_the_slowest_and_the_gang(make_run, make_manifest, a800):
    (entry,) = make_manifest().devices
    names = ("cuda:0", "cuda:1", "cuda:2")
    records = [a800(tflops, device=name) for tflops, name in zip((240.0, 200.0, 250.0), names, strict=True)]
    devices = tuple(entry.model_copy(update={"name": name}) for name in names)
    seen = run_view(make_run(*records, devices=devices))
    (across,) = (table for table in seen.tables if table.heading.startswith("Across devices"))
    (row,) = across.rows
    found = dict(zip(across.column_names, row, strict=True))
    assert found["case"] == "matmul bf16 1024x1024x1024"
    assert (found["devices"], found["median"], found["slowest"], found["on"]) == ("3", "240", "200", "cuda:1")
    assert found["spread"] == "20.8%"  # (250 − 200) ÷ 240
    assert found["as one job"] == "600"  # three at the pace of the slowest
    (work,) = (table for table in seen.tables if table.heading.startswith("Achieved"))
    assert [row[0].split()[0] for row in work.rows] == list(names)
    (chain,) = (table for table in seen.tables if table.heading.startswith("The chain"))
    assert {row[1] for row in chain.rows} == set(names)


# From what a column says to which go first when there is no room for all.
WIDE = {
    "verdict": "contended",
    "verdicts": ("contended", "unstable"),
    "loss": "library 12%, contention 4%",
    **NORMALIZED,
}


@pytest.fixture
def crowded(make_run, make_record):
    """A run whose rows hold all that they can."""
    block = make_record(
        case="transformer_block/bf16/1x128x4096-forward_backward/normal/warm/sustained/torch",
        workload="transformer_block",
        **WIDE,
    )
    burst = make_record(case="matmul/bf16/16384x16384x16384/normal/warm/burst/torch", **WIDE)
    return make_run(block, burst)


def header(run, width):
    lines = printed(run, width).splitlines()
    return lines[lines.index("Achieved, in TFLOPS") + 1].split()


@pytest.mark.parametrize("width", [60, 90, 100, 120, 160])
def test_a_screen_is_never_wider_than_the_terminal_and_breaks_no_figure(crowded, width):
    out = printed(crowded, width)
    assert all(len(line) <= width for line in out.splitlines())
    for whole in ("0.400 ± 0.010", "80.0% ± 2.0", "95.2% ± 2.0", "contended", "forward_backward"):
        assert whole in out


def test_the_secondary_columns_go_one_by_one(crowded):
    everything = [
        "case",
        "achieved",
        "median",
        "nominal",
        "efficiency",
        "normalized",
        "lost",
        "to",
        "verdict",
    ]
    assert header(crowded, 130) == everything
    gone = [set(everything) - set(header(crowded, width)) for width in (80, 94, 105, 116)]
    assert gone == [
        {"median", "nominal", "lost", "to", "normalized"},
        {"median", "nominal", "lost", "to"},
        {"median", "nominal"},
        {"median"},
    ]


def test_a_very_narrow_terminal_gets_a_block_a_row(crowded):
    out = printed(crowded, 60)
    assert "  normalized: 95.2% ± 2.0" in out
    assert "  lost to: library 12%, contention 4%" in out


@pytest.mark.parametrize("given", ["", "0", "1", "19", "-5", "abc", "1e3", "9" * 5000])
def test_a_width_that_no_terminal_has_means_the_default(monkeypatch, given):
    monkeypatch.delenv("COLUMNS", raising=False)
    default = terminal.open_console(io.StringIO()).width
    monkeypatch.setenv("COLUMNS", given)
    assert terminal.open_console(io.StringIO()).width == default > 0


@pytest.mark.parametrize("given", ["20", "132", "10000"])
def test_a_width_that_can_be_is_kept(monkeypatch, given):
    monkeypatch.setenv("COLUMNS", given)
    assert terminal.open_console(io.StringIO()).width == int(given)


def test_a_screen_is_printed_whatever_columns_says(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    terminal.show_tables([text_table("a heading", ("one", "two"), [("1", "2")])])
    assert "a heading" in capsys.readouterr().out
