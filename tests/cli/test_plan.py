"""`bench fleet plan`: its screens, its documents, its exit statuses, and what it doesn't import."""

import csv
import io
import json
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from nameplate.fleet.training import load_training_inputs

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
DOCS = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
NEED = ("--eflops", 10, "--part", A800)
BUDGET = ("--budget-rmb", "1e9")
TRAIN = ("--parameters", "8e9", "--hours", 10000, "--every-days", 14)


@pytest.fixture
def bench(bench, monkeypatch):
    """Run `bench fleet plan …` on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(bench, "fleet", "plan")


def test_a_need_is_answered_in_its_first_sentence(bench):
    status, out, err = bench(*NEED)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert said.startswith("10 delivered EFLOPS take 49,925 cards of A800 (nine draws in ten: 50,")
    for text in (
        "6,241 servers, RMB 5,928 M (nine draws in ten: ",
        "MW",
        "delivered counts the chain up to `scaled`; goodput isn't counted yet",
        "a100-sxm-80gb-scaled-7b-x8",
        "The inputs of cost and power are in --json",
    ):
        assert text in said


def test_parts_stand_side_by_side_at_the_users_prices(bench):
    flags = ("--part", A800, "--part", H100, "--price", f"{H100}=2500000")
    said = " ".join(bench("--eflops", 10, *flags)[1].split())
    assert said.startswith(
        "10 delivered EFLOPS take 49,925 cards of A800 for RMB 5,928 M or 21,792 cards of H100"
    )
    a800, h100 = json.loads(bench("--eflops", 10, *flags, "--json")[1])
    assert (a800["cards"], h100["cards"]) == (49_925, 21_792)
    assert h100["price"]["source"] == "given by --price"


def test_a_budget_is_ranked_and_says_which_parts_have_no_price(bench):
    status, out, err = bench(*BUDGET)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert said.startswith(
        "RMB 1,000 M buys 1,052 servers of A800 (8,416 cards), delivering 1.69 EFLOPS (nine"
    )
    assert "The price of A100, H100 isn't known: give it" in said
    assert "no price of a server of nvidia-h100-sxm5-80gb is known" in said
    several = " ".join(bench(*BUDGET, "--price", f"{H100}=2000000")[1].split())
    assert several.startswith(
        "RMB 1,000 M delivers most with H100 (in 100.0% of the draws). EFLOPS, if it is all spent on servers"
    )
    assert "The price of A100 isn't known: give it" in several


def test_a_training_run_says_what_it_assumes_and_takes(bench):
    status, out, err = bench(*TRAIN, "--part", A800)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert said.startswith(
        "Training 8 billion parameters on 10,000 hours of clips every 14 days (9.68 × 10^21 FLOP)"
    )
    for text in (
        "takes 40 cards of A800",
        "each run costs the owner RMB",
        "tokens_per_frame 160 50 … 576",
        "2.02 × 10^11",
        "FLOPs are counted by 6N: attention over 8,192 tokens isn't counted; it would be 31.0% of 6N.",
        "Where the spread comes from",
        "no experiments, failed runs, labelling or simulation",
        "goodput isn't counted yet",
        "depreciation, electricity and operation",
    ):
        assert text in said


def test_a_training_run_on_fleets(bench):
    said = " ".join(bench(*TRAIN, "--fleet", "nio")[1].split())
    assert "h on NIO (nine draws in ten: " in said
    assert "; 40 of its cards would finish in time" in said
    rows = json.loads(bench(*TRAIN, "--fleet", "nio", "--fleet", "huawei", "--goodput", "--json")[1])
    assert [row["fleet"] for row in rows] == ["nio-2024-10", "huawei-2024-10"]
    assert rows[0]["not_yet"] == []
    assert rows[1]["days"] is None
    assert rows[1]["days_p5"] < rows[1]["days_p95"]
    several = bench(*TRAIN, "--fleet", "nio", "--fleet", "huawei", "--fleet", "world")[1]
    assert "for comparison only" in " ".join(several.split())


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--eflops", 10),
        (*BUDGET, "--price", f"{H100}=2000000..2600000"),
        (*TRAIN, "--part", A800),
        (*TRAIN, "--fleet", "nio", "--fleet", "tesla"),
    ],
)
def test_a_terminal_of_any_usual_width_loses_no_figure(bench, monkeypatch, width, arguments):
    monkeypatch.setenv("COLUMNS", str(width))
    out = bench(*arguments)[1]
    assert max(map(len, out.splitlines())) <= width
    assert "…" in out
    assert "Not known, and why" in out or arguments[0] == "--parameters"


@pytest.mark.parametrize("arguments", [NEED, BUDGET, TRAIN])
def test_csv_has_the_rows_of_json(bench, arguments):
    rows = json.loads(bench(*arguments, "--json")[1])
    table = list(csv.DictReader(io.StringIO(bench(*arguments, "--csv")[1])))
    assert [row["part"] for row in table] == [row["part"] for row in rows]
    for mine, row in zip(table, rows, strict=True):
        for name in mine:
            if isinstance(row[name], float):
                assert float(mine[name]) == row[name]
    assert table[0]["chain"].startswith("nominal → datasheet")


@pytest.mark.long
def test_seeds_repeat(bench):
    assert bench(*TRAIN, "--json", "--seed", 7)[1] == bench(*TRAIN, "--json", "--seed", 7)[1]
    assert bench(*NEED, "--json", "--seed", 7)[1] != bench(*NEED, "--json", "--seed", 8)[1]


def test_load_training_inputs_are_set_by_flag(bench):
    flags = {"--cameras": 11, "--frames-per-second": 10, "--tokens-per-frame": "50..100", "--epochs": 2}
    written = [str(each) for pair in flags.items() for each in pair]
    (row,) = json.loads(bench(*TRAIN, "--part", A800, *written, "--attention", "--json")[1])
    assert row["tokens"] == pytest.approx(10_000 * 3600 * 11 * 10 * 75 * 2)
    assert row["convention"] == "6N + 12LdT"
    assert row["run_inputs"]["cameras"]["basis"] == "given"


def test_the_help_has_the_shipped_load_training_inputs(bench):
    said = " ".join(bench("--help")[1].split())
    for name, each in load_training_inputs().items():
        assert f"--{name.replace('_', '-')}" in said
        spread = each.uncertain
        written = {
            "exact": f"{spread.value:g}",
            "uniform": f"{spread.low:g}..{spread.high:g}",
            "triangular": f"{spread.low:g}..{spread.value:g}..{spread.high:g}",
            "lognormal": f"{spread.value:g}, from {spread.low:g} to {spread.high:g}",
        }
        assert f"[default: {written[spread.law]}]" in said, name
    for flag in ("--run", "--derate", "--goodput", "--price", "--assume", "--fleets", "--json", "--csv"):
        assert flag in said


UNUSABLE = {
    "no question": (
        [],
        "nothing to plan; got 'nothing'; expected one of --eflops, --budget-rmb, --parameters",
    ),
    "two questions": (["--eflops", 1, *BUDGET], "several questions at once; got '--eflops, --budget-rmb'"),
    "a flag of another": (
        [*NEED, "--hours", 5],
        "an option of a training run; got '--hours with --eflops'; expected --par",
    ),
    "no time": (
        ["--parameters", "8e9", "--hours", 5],
        "--every-days: needed with --parameters; got 'nothing'; expected a number of days",
    ),
    "no data": (
        ["--parameters", "8e9", "--every-days", 5],
        "hours or clips?; got 'neither'",
    ),
    "no need": (
        ["--eflops", 0, "--part", A800],
        "--eflops: not an amount of EFLOPS; got 0.0; expected delivered EFLOPS above 0",
    ),
    "NaN": (["--eflops", "nan"], "--eflops: not an amount of EFLOPS; got nan"),
    "negative money": (["--budget-rmb", -5], "--budget-rmb: not a usable budget; got -5.0"),
    "an unknown part": (["--eflops", 1, "--part", "a801"], "isn't the name of a part in the registry"),
    "an unknown fleet": ([*TRAIN, "--fleet", "byd"], "no such fleet; got 'byd'"),
    "a negative price": ([*BUDGET, "--price", f"{A800}=-1"], f"--price {A800}: not a number"),
    "two formats": ([*NEED, "--json", "--csv"], "two formats at once"),
    "a loss twice": (
        [*NEED, "--derate", "a100-sxm-80gb-scaled-7b-x8", "--derate", "h100-scaled-8b-x128-from-x8"],
        "counts a loss twice",
    ),
    "a run that isn't there": ([*NEED, "--run", "gone"], "no such run; got 'gone'"),
    "too few draws": ([*NEED, "--draws", 3], "--draws: not a number of draws; got 3"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_input_is_2_and_one_sentence(bench, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, sentence = UNUSABLE[kind]
    status, out, err = bench(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("bench: ")
    assert sentence in line


def test_the_commands_of_the_docs_run(bench):
    commands = re.findall(r"^ *bench fleet plan (.*)$", DOCS, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        status, out, err = bench(*shlex.split(command.partition("#")[0]), "--draws", 1000)
        assert (status, err) == (0, ""), command
        assert out


def test_the_docs_have_the_load_training_inputs_of_the_data():
    for name, each in load_training_inputs().items():
        spread = each.uncertain
        ends = "exact" if spread.law == "exact" else f"{spread.low:,g} … {spread.high:,g}"
        assert f"| `--{name.replace('_', '-')}` | {spread.value:,g} | {ends} |" in DOCS


@pytest.mark.long
@pytest.mark.process
def test_it_imports_neither_torch_nor_pandas(modules_after):
    wanted = (NEED, (*BUDGET, "--csv"), (*TRAIN, "--json"))
    loaded = modules_after(*(("fleet", "plan", *arguments, "--draws", 1000) for arguments in wanted))
    assert "nameplate.fleet.training" in loaded
    assert not {"torch", "pandas"} & loaded
