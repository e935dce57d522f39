"""A part named without its form: the SXM one's figures in every command, and a line that says so."""

from __future__ import annotations

import json

import pytest

PART = "nvidia-a800-sxm4-80gb"
NOTE = (
    "{} is taken as nvidia-a800-sxm4-80gb; name another form, such as nvidia-a800-pcie-80gb, to change that"
)
FEW = ("--draws", "1000")
ASKED = {
    "a fleet of it": ("fleet", "cost", "--part"),
    "a need": ("fleet", "plan", "--eflops", "10", "--part"),
    "a budget": ("fleet", "plan", "--budget-rmb", "1e9", "--part"),
    "a training run": (
        "fleet",
        "plan",
        "--parameters",
        "8e9",
        "--hours",
        "1000",
        "--every-days",
        "14",
        "--part",
    ),
}


@pytest.mark.parametrize("what", ASKED)
def test_figures_are_those_of_the_whole_id_and_the_notes_say_what_was_taken(bench, what):
    (short,), (whole,) = (
        json.loads(bench(*ASKED[what], name, *FEW, "--json").out) for name in ("a800", PART)
    )
    assert short.pop("notes") == [NOTE.format("a800"), *whole.pop("notes")]
    assert short == whole


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("what", ASKED)
def test_the_screen_says_so_once_with_both_ids_whole(bench, what, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = bench(*ASKED[what], "A800", *FEW, "--details").out
    assert " ".join(text.split()).count(NOTE.format("A800")) == 1
    for part in (PART, "nvidia-a800-pcie-80gb"):
        assert any(part in line for line in text.splitlines())


def test_a_price_is_of_the_part_that_its_name_is_taken_for(bench):
    (row,) = json.loads(bench("fleet", "cost", "--part", PART, "--price", "A800=1e6", *FEW, "--json").out)
    assert (row["price"]["part"], row["price"]["server_rmb"]) == (PART, 1_000_000)
    assert row["price"]["note"] == NOTE.format("A800")
    assert row["notes"]
    assert not any("is taken as" in note for note in row["notes"])  # the fleet's own part was named whole


def test_two_prices_of_one_part_are_refused(bench):
    result = bench("fleet", "cost", "--part", "A800", "--price", "A800=1e6", "--price", f"{PART}=2e6")
    assert result.status == 2
    assert f"--price: two prices of one part; got 'A800 and {PART}, both {PART}'" in result.err


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_specs_say_it_under_the_name_with_the_ids_whole(bench, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    _name, confidence, *lines = bench("specs", "A800").out.partition("\n\n")[0].splitlines()
    assert confidence.strip() == "Confidence: medium."
    assert " ".join(" ".join(lines).split()) == f"note {NOTE.format('A800')}"
    assert max(len(line) for line in lines if not line.startswith("  ")) <= columns
    for part in (PART, "nvidia-a800-pcie-80gb"):
        assert any(part in line for line in lines)


def test_specs_say_it_first_in_the_notes_of_json(bench):
    short, whole = (json.loads(bench("specs", name, "--json").out) for name in ("A800", PART))
    assert short.pop("notes") == [NOTE.format("A800"), *whole.pop("notes")]
    assert short == whole


@pytest.mark.parametrize("command", [("fleet", "cost", "--part"), ("specs",)])
def test_an_unknown_part_is_2_with_the_nearest(bench, command):
    result = bench(*command, "A801")
    assert (result.status, result.out) == (2, "")
    assert "'A801' isn't the name of a part in the registry" in result.err
    assert "the nearest are nvidia-a800-" in result.err
