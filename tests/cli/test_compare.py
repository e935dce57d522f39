"""`bench compare`: word and exit status for recorded pairs, what it prints where, which flags it takes."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

import nameplate.compare.interleaving
from nameplate.base.errors import RunIncomplete
from nameplate.compare import compare

RECORDED = Path(__file__).parents[1] / "data" / "compare"
PRODUCT = "matmul/bf16/1024x1024x1024/normal/warm/-/torch"
BLOCK = "transformer_block/bf16/1x128x512-forward_backward/normal/warm/-/torch"


@pytest.fixture
def bench(bench, monkeypatch):
    """Run `bench compare …` on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(bench, "compare")


def recorded(base, new):
    return RECORDED / base, RECORDED / new


@pytest.mark.parametrize(
    ("pair", "status", "words"),
    [
        (("base", "same"), 0, {"same": 3}),
        (("base", "slower"), 1, {"slower": 1, "same": 2}),
        (("base", "faster"), 0, {"faster": 1, "same": 2}),
        (("noisy-base", "noisy-new"), 0, {"ambiguous": 3}),
        (("base", "broken"), 3, {"missing": 1, "same": 2}),
        (("base", "wrong"), 3, {"incomparable": 1, "same": 2}),
        (("base", "convention"), 0, {"incomparable": 1, "same": 2}),
        (("pytest-benchmark/base.json", "pytest-benchmark/slower.json"), 1, {"slower": 1, "ambiguous": 1}),
    ],
)
def test_recorded_pairs_get_the_right_outcome_and_exit_status(bench, pair, status, words):
    result = bench(*recorded(*pair), "--json")
    assert result.status == status
    summary = json.loads(result.out)["summary"]
    assert {word: count for word, count in summary.items() if word in words} == words
    assert summary["exit_status"] == status
    assert sum(words.values()) == len(json.loads(result.out)["rows"])


@pytest.mark.parametrize("new", ["other-part", "other-kind", "other-method", "pytest-benchmark/base.json"])
def test_what_can_not_be_compared_is_2_with_one_sentence(bench, new):
    result = bench(*recorded("base", new), "--json")
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("bench: bench compare: ")
    assert "; got '" in line
    assert "; expected one" in line


def test_a_regression_is_named_on_standard_error(bench):
    result = bench(*recorded("base", "slower"))
    (line,) = result.err.splitlines()
    assert re.fullmatch(rf"bench: slower by more than 1\.5%: {re.escape(PRODUCT)} \(-[23]\.\d%\)", line)


def test_what_is_broken_is_named_on_standard_error(bench):
    (line,) = bench(*recorded("base", "broken")).err.splitlines()
    said = "bench: cases of base failed, are missing or have a wrong result in new: "
    assert line == f"{said}{BLOCK} (failed: RuntimeError: no memory)"


def test_an_ambiguous_pass_is_said_and_fails_where_that_is_asked_for(bench):
    result = bench(*recorded("noisy-base", "noisy-new"))
    assert result.status == 0
    assert "ambiguous: no regression is shown, and none ruled out" in result.err
    strict = bench(*recorded("noisy-base", "noisy-new"), "--fail-on", "ambiguous")
    assert strict.status == 3
    assert "are ambiguous, and so not known to pass" in strict.err
    document = json.loads(bench(*recorded("noisy-base", "noisy-new"), "--fail-on", "ambiguous", "--json").out)
    assert document["summary"]["exit_status"] == 3
    assert bench(*recorded("base", "slower"), "--fail-on", "ambiguous").status == 1
    assert bench(*recorded("base", "same"), "--fail-on", "ambiguous").status == 0
    assert bench(*recorded("base", "same"), "--fail-on", "slow").status == 2


def test_the_screen_has_the_sentence_and_a_row_a_case(bench):
    result = bench(*recorded("base", "slower"))
    assert "1 slower, 2 same of 3 cases; the worst is matmul bf16 1024x1024x1024: new is 1.0" in result.out
    assert re.search(r"matmul bf16 1024x1024x1024 +slower +-[23]\.\d%", result.out)


def test_markdown_is_for_a_jobs_summary(bench):
    result = bench(*recorded("base", "slower"), "--markdown")
    assert result.status == 1
    assert result.out.startswith("# ")
    assert "| matmul bf16 1024x1024x1024 | slower |" in result.out


def test_json_is_one_document_with_null_where_nothing_is_known(bench):
    document = json.loads(bench(*recorded("base", "broken"), "--json").out)
    (row,) = [row for row in document["rows"] if row["word"] == "missing"]
    assert row["ratio"] is row["ratio_low"] is row["base"] is row["basis"] is None
    assert row["broken"] is True
    assert document["threshold"] == 0.015


def test_runs_are_found_by_their_id(bench):
    results = ("--results", RECORDED / "base")
    result = bench("20261122T120000-base-0000", "20261122T120001-base-0001", *results)
    assert result.status == 0
    assert "of 3 cases" in result.out


def test_the_flags_are_the_parameters_of_the_function(bench):
    pair = recorded("base", "slower")
    flags = ("--threshold", 0.05, "--by", "achieved", "--only", "mat*", "--restart-spread", 0.02)
    mine = json.loads(bench(*pair, *flags, "--json").out)
    same = compare(*pair, threshold=0.05, by="achieved", only="mat*", restart_spread=0.02).as_json()
    assert mine == json.loads(json.dumps(same))
    assert bench(*recorded("base", "other-part"), "--across-parts", "--by", "achieved").status in (0, 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--json", "--markdown"), "two formats at once"),
        (("--threshold", "3"), "--threshold: not a fraction; got 3.0; expected between 0 and 1, and no less"),
        (
            ("--suite", "quick"),
            "--suite: has an effect with --interleave only; got 'quick'; expected --interleave",
        ),
        (("--pairs", "9"), "--pairs: has an effect with --interleave only"),
        (("--budget", "9"), "--budget: has an effect with --interleave only"),
        (("--device", "cpu"), "--device: has an effect with --interleave only"),
        (("--at-least", "9"), "--at-least: has an effect with --interleave only"),
        (("--interleave", "--across-parts"), "--across-parts: has no effect with --interleave"),
        (("--interleave", "--across-libraries"), "--across-libraries: has no effect with --interleave"),
        (("--interleave", "--restart-spread", "0.1"), "--restart-spread: has no effect with --interleave"),
        (("--lang", "xx"), "--lang: no such language"),
    ],
)
def test_a_flag_that_can_not_be_used_is_refused(bench, flags, said):
    result = bench(*recorded("base", "same"), *flags)
    assert (result.status, result.out) == (2, "")
    assert said in result.err


# ---- interleaved ----


@pytest.fixture
def interleaved(monkeypatch):
    """Have `interleave` answer with recorded pairs, or raise; returns what it was asked."""
    asked = []

    def answer(with_what):
        def interleave(a, b, *, watch, **flags):
            asked.append((a, b, flags))
            watch("what is measured is kept in runs/x")
            if isinstance(with_what, BaseException):
                raise with_what
            return compare(*recorded("base", with_what))

        monkeypatch.setattr(nameplate.compare.interleaving, "interleave", interleave)
        return asked

    return answer


def test_interleave_hands_its_flags_on_and_reports_progress_on_standard_error(bench, interleaved):
    asked = interleaved("slower")
    flags = ("--suite", "quick", "--device", "cpu", "--budget", 9, "--pairs", 30, "--at-least", 8)
    result = bench("HEAD~1", ".", "--interleave", *flags, "--only", "x*", "--threshold", 0.02, "--json")
    assert asked == [
        (
            "HEAD~1",
            ".",
            {
                "results": None,
                "threshold": 0.02,
                "only": "x*",
                "suite": "quick",
                "device": "cpu",
                "budget": 9.0,
                "pairs": 30,
                "at_least": 8,
            },
        )
    ]
    assert result.status == 1
    assert json.loads(result.out)["summary"]["slower"] == 1
    assert result.err.splitlines()[0] == "what is measured is kept in runs/x"


def test_an_unknown_language_is_refused_before_anything_is_measured(bench, interleaved):
    asked = interleaved("same")
    assert bench("HEAD~1", ".", "--interleave", "--lang", "xx").status == 2
    assert asked == []


def test_an_interrupt_is_130_and_says_where_the_runs_are(bench, interleaved):
    interleaved(KeyboardInterrupt())
    result = bench("HEAD~1", ".", "--interleave")
    assert (result.status, result.out) == (130, "")
    assert result.err.splitlines()[-1] == "bench: interrupted; what is measured is kept in runs/x"


def test_a_run_that_breaks_is_3_with_its_sentence(bench, interleaved):
    interleaved(RunIncomplete("b: its run ended with exit status 139: Segmentation fault"))
    result = bench("a", "b", "--interleave")
    assert (result.status, result.out) == (3, "")
    assert result.err.splitlines()[-1] == "bench: b: its run ended with exit status 139: Segmentation fault"


# ---- light ----


@pytest.mark.process
def test_comparing_needs_no_torch_and_no_pandas(modules_after):
    found = modules_after(("compare", *recorded("base", "same")))
    assert "scipy" in found
    assert not {"torch", "pandas", "altair"} & found
