"""The answer in words: what a run says that its device delivers, and what it advises."""

import re
from dataclasses import replace

import pytest

from nameplate.base.formatting import figure
from nameplate.base.messages import message
from nameplate.models.load import load_model
from nameplate.record import Batch
from nameplate.report.run import run_view
from nameplate.report.sections.answers import describe_run
from nameplate.suite import Axes
from run_views import BLOCK, COPY, memory, unrated


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
    short = unstable(1.0).model_copy(
        update={
            "verdict": "unknown",
            "verdicts": ("unknown",),
            "warnings": (message("sampling", found=[message("settling_unknown")]),),
        }
    )
    assert any("`--budget 60`" in each for each in run_view(make_run(short)).advice)  # 20 s × 3 s ÷ 1 s
    assert not [each for each in run_view(make_run(unstable(4.0))).advice if "--budget 1" in each]


def test_a_case_that_was_still_settling_is_told_the_budget_that_would_do(make_run, make_record):
    """Its group had the run's 60 s and lacked 45 s."""

    def advised(said):
        warnings = (message("sampling", found=[said]),)
        record = make_record(verdict="unstable", verdicts=("unstable",), cost_s=30.0, warnings=warnings)
        advice = run_view(make_run(record, make_record(case=COPY, cost_s=30.0))).advice
        return [each for each in advice if each.startswith("Cases that hadn't settled")]

    (said,) = advised(message("still_settling", lacking_s=45.0))
    assert "`--budget 120`" in said
    assert advised(message("not_settled")) == []  # as older records have it


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
