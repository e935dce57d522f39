"""What the one screen says, and that no value of anyone's can say it differently."""

import shlex

import pytest

from nameplate.base.formatting import duration, figure
from nameplate.base.messages import message
from nameplate.report.media import markdown
from nameplate.report.run import run_view
from nameplate.store.manifest import Options
from run_views import BLOCK, COPY, NORMALIZED, cells, facts_of, memory, printed, unrated


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.18, "0.18 s"), (1.0, "1.0 s"), (9.94, "9.9 s"), (9.97, "10 s"), (12.4, "12 s"), (60, "1.0 min"),
     (90, "1.5 min"), (600, "10 min"), (601, "10 min")],
)  # fmt: skip
def test_a_duration_is_in_the_unit_people_say(seconds, text):
    assert duration(seconds) == text


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


def test_problems_of_reading_are_shown(make_run, make_record):
    run = make_run(make_record(), problems=("records-x.jsonl: skipped a torn last line of 7 bytes",))
    assert "skipped a torn last line of 7 bytes" in printed(run)
    assert "skipped a torn last line of 7 bytes" in markdown.render(run_view(run))


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
