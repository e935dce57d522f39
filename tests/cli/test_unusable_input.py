"""Input that a command can't use: exit status 2, one sentence, and nothing begun or written."""

from __future__ import annotations

import pytest

from nameplate.suite import list_suite_names

UNUSABLE = {
    "an unknown suite": (
        ["run", "nope"],
        f"unknown suite; got 'nope'; expected {' or '.join(list_suite_names())}",
    ),
    "a bad device": (
        ["run", "smoke", "--device", "tpu"],
        "--device: unknown device; got 'tpu'; expected auto, cpu",
    ),
    "a bad device to look at": (["devices", "--device", "cuda:x"], "--device: unknown device; got 'cuda:x'"),
    "nominal without a figure": (
        ["run", "--nominal", "fp16"],
        "--nominal: not a rating; got 'fp16'; expected such as",
    ),
    "nominal without a dtype": (
        ["run", "--nominal", "=320"],
        "--nominal: not a rating; got '=320'; expected such as",
    ),
    "nominal that is no number": (
        ["run", "--nominal", "fp16=fast"],
        "--nominal: not a rating; got 'fp16=fast'",
    ),
    "nominal below zero": (
        ["run", "--nominal", "fp16=-3"],
        "--nominal fp16: not a rating; got -3.0; expected TFLOPS",
    ),
    "nominal that isn't finite": (["run", "--nominal", "fp16=nan"], "--nominal fp16: not a rating; got nan"),
    "a negative budget": (
        ["run", "--budget", "-5"],
        "--budget: not a time to measure in; got -5.0; expected seconds",
    ),
    "no budget at all": (
        ["run", "--budget", "0"],
        "--budget: not a time to measure in; got 0.0; expected seconds",
    ),
    "a budget that isn't finite": (["run", "--budget", "nan"], "--budget: not a time to measure in; got nan"),
    "an endless budget": (["run", "--budget", "inf"], "--budget: not a time to measure in; got inf"),
    "a nominal beyond any device": (
        ["run", "smoke", "--nominal", "fp16=1e308"],
        "--nominal fp16: not a rating; got 1e+308; expected TFLOPS from 1e-06 to 1e+09",
    ),
    "a nominal that no quantity is": (
        ["run", "smoke", "--nominal", "bf16=1e-300"],
        "--nominal bf16: not a rating; got 1e-300; expected TFLOPS from",
    ),
    "a budget beyond any wait": (
        ["run", "smoke", "--budget", "1e308"],
        "--budget: not a time to measure in; got 1e+308; expected seconds from 1e-06 to 1e+06",
    ),
    "a budget of no time": (
        ["selftest", "--bare", "--budget", "1e-300"],
        "--budget: not a time to measure in; got 1e-300; expected seconds from",
    ),
    "more simulated runs than can be": (
        ["selftest", "--runs", "9" * 29],
        "--runs: not a number of runs; got",
    ),
    "a run that isn't there": (
        ["run", "--resume", "gone"],
        "no such run; got 'gone'; expected a run folder, or the id",
    ),
    "showing a run that isn't there": (["show", "gone"], "no such run; got 'gone'; expected a run folder"),
    "reporting a run that isn't there": (["report", "gone", "-o", "x.md"], "no such run; got 'gone'"),
    "publishing a run that isn't there": (["publish", "gone"], "no such run; got 'gone'"),
    "two self-tests at once": (
        ["selftest", "--bare", "--repeat", "3"],
        "bench selftest: two tests at once; expected --bare, --collectives, --search, --check, --repeat",
    ),
}


def began(*_):
    pytest.fail("a run was begun")


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_input_is_2_and_one_sentence(bench, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nameplate.store.folder.create", began)
    arguments, sentence = UNUSABLE[kind]
    result = bench(*arguments)
    assert result.status == 2
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("bench: ")
    assert sentence in line
    assert list(tmp_path.iterdir()) == []


def test_json_leaves_standard_output_empty_where_there_is_nothing_to_print(bench, tmp_path):
    result = bench("show", "gone", "--results", tmp_path, "--json")
    assert (result.status, result.out) == (2, "")


@pytest.mark.parametrize(
    "arguments", [["run", "--budget", "soon"], ["run", "--bogus"], ["frobnicate"], ["publish"]]
)
def test_what_the_parser_refuses_is_2_as_well(bench, arguments):
    result = bench(*arguments)
    assert result.status == 2
    assert result.out == ""
