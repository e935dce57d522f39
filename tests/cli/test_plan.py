"""`bench fleet plan`: its screens, its documents, its exit statuses, and what it doesn't import."""

import csv
import io
import json
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from nameplate.fleet.work import load_training_inputs

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
DOCS = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
NEED = ("--eflops", 10, "--part", A800)
BUDGET = ("--budget-rmb", "1e9")
FEW = ("--draws", 1000)  # where no figure is looked at
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
    assert re.match(
        r"10 delivered EFLOPS take 59,\d\d\d cards of A800 \(nine draws in ten: 49,\d+ to 75,", said
    )
    for text in (
        "7,473 servers, RMB 7,1",
        "MW",
        "(7B parameters, context 4,096, bf16, tuned, 2024)",
        "`--details`",
    ):
        assert text in said
    assert len(out.splitlines()) <= 12
    whole = " ".join(bench(*NEED, "--details")[1].split())
    for text in (
        "delivered counts the chain up to `scaled`; goodput isn't counted yet",
        "497 published runs in 26 families",
        "The inputs of cost and power are in --json",
    ):
        assert text in whole


def test_parts_stand_side_by_side_at_the_users_prices(bench):
    flags = ("--part", A800, "--part", H100, "--price", f"{H100}=2500000")
    said = " ".join(bench("--eflops", 10, *flags)[1].split())
    a800, h100 = json.loads(bench("--eflops", 10, *flags, "--json")[1])
    assert said.startswith(f"10 delivered EFLOPS take {a800['cards']:,} cards of A800 for RMB 7,1")
    assert f"or {h100['cards']:,} cards of H100 for RMB 8," in said
    stock = json.loads(bench("--eflops", 10, *flags, "--stack", "off-the-shelf", "--json")[1])
    assert [each["cards"] for each in stock] > [a800["cards"], h100["cards"]]
    assert h100["price"]["source"] == "given by --price"


def test_a_budget_is_ranked_and_says_which_parts_have_no_price(bench):
    status, out, err = bench(*BUDGET)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert said.startswith("RMB 1,000 M delivers most with GeForce RTX 5090 D")
    assert "No published run is of GeForce RTX 5090 D" in said
    assert re.search(r"'s generation; of cards with one, B200 2\.2\d is most\.", said)
    assert "The price of A100, GB200 (per GPU), GB300 (per GPU), A100 SXM4 40GB isn't known: give" in said
    one = " ".join(bench(*BUDGET, "--part", A800)[1].split())
    assert one.startswith(
        "RMB 1,000 M buys 1,052 servers of A800 (8,416 cards), delivering 1.43 EFLOPS (nine"
    )
    two = " ".join(bench(*BUDGET, "--part", A800, "--part", H100, "--price", f"{H100}=2000000")[1].split())
    assert re.match(r"RMB 1,000 M delivers most with H100 \(in \d\d\.\d% of the draws\)", two)


@pytest.mark.parametrize("asked", [("--eflops", 10), BUDGET, TRAIN])
def test_of_many_parts_the_best_are_shown_and_named(bench, asked):
    out = bench(*asked, *FEW)[1]
    said = " ".join(out.split())
    assert re.search(r"The best 10 of \d\d parts are shown; all: `--details`", said)
    assert (
        len([line for line in out.splitlines() if line.startswith(("GeForce", "B200", "A800", "A100"))]) == 4
    )
    # One training, whatever the number of devices: 8 of them aren't the 8 of a context of 8,192.
    assert said.count("By the MFU of published training runs at the fleet's size (") == 1
    assert "; the MFU of published" not in said
    assert said.count("With encoder, experiments") == 0
    if asked == TRAIN:
        assert re.search(r"takes \d+ cards of B200, \d+ cards of H200, ", said)
        assert "(8B parameters, context 8,192, bf16, tuned, 2024)" in said


def test_a_training_run_says_what_it_assumes_and_takes(bench):
    status, out, err = bench(*TRAIN, "--part", A800)
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    assert said.startswith("Training 8 billion parameters on 10,000 hours of clips every 14 days (1.2")
    for text in (
        "cards of A800 (nine draws in ten: ",
        "each run costs the owner RMB",
        "With encoder, experiments, data mining, simulation and 2 models it takes ",
        "FLOPs are counted by 6N + 6LdT: attention over 8,192 tokens is 15.5% of 6N.",
        "(8B parameters, context 8,192, bf16, tuned, 2024)",
    ):
        assert text in said
    whole = " ".join(bench(*TRAIN, "--part", A800, "--details")[1].split())
    for text in (
        "tokens_per_frame 160 50 … 576",
        "outside_final_run 0.37 0.1 … 0.82",
        "Where the spread comes from",
        "Time, cards and RMB are of one training run",
        "goodput isn't counted yet",
        "depreciation, electricity and operation",
    ):
        assert text in whole
    bare = " ".join(bench(*TRAIN, "--part", A800, "--no-attention")[1].split())
    assert "by 6N: attention over 8,192 tokens isn't counted; it would be 15.5% of 6N." in bare


def test_a_mix_is_planned_alone_too_and_what_cant_be_says_why_at_once(bench):
    said = " ".join(bench(*TRAIN, "--fleet", "huawei", *FEW).out.split())
    assert re.match(r"Training 8 billion parameters .* takes .+ … .+ on Huawei \(automated driving\)\.", said)
    said = " ".join(bench("--eflops", 1e9, "--part", A800, *FEW).out.split())
    assert said.startswith("This can't be planned with A800: ")


def test_one_figure_reads_alike_in_the_sentence_and_in_the_table(bench):
    for clips in ("10e6", "11e6", "12e6", "13e6"):
        flags = ("--parameters", "8e9", "--clips", clips, "--every-days", 14, "--fleet", "nio")
        out = bench(*flags, *FEW).out
        cards = re.search(r"models it takes ([\d,]+)\s+cards", out)[1]
        assert out.count(cards) >= 2, out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("--budget-rmb", "1e15", "--part", A800, "--goodput"),
            "--budget-rmb: what follows from it is",
        ),
        (("--parameters", 1, "--hours", 1, "--every-days", 14), "--parameters: not a training run; got 1.0"),
        (("--parameters", "1e15", "--tokens", "1e18", "--every-days", 14), "--parameters: what follows from"),
    ],
)
def test_an_error_names_the_flag_that_was_given(bench, given, said):
    result = bench(*given, *FEW)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"bench: {said}")


def test_experts_in_fp8_are_planned_from_the_command_line(bench):
    experts = ("--parameters", "671e9", "--active-params", "37e9", "--precision", "fp8", "--part", "H800")
    data = ("--tokens", "14.8e12", "--every-days", 54, "--context-tokens", 4096, "--year", 2024.9)
    (row,) = json.loads(bench(*experts, *data, "--draws", 1000, "--json")[1])
    assert row["card_hours"] == pytest.approx(2.664e6, rel=0.1)
    assert row["chain"][0]["value"] == pytest.approx(2, rel=1e-3)
    assert "fp8, tuned, 2024.9)" in " ".join(bench(*experts, *data, *FEW)[1].split())


def test_a_training_run_on_fleets(bench):
    said = " ".join(bench(*TRAIN, "--fleet", "nio")[1].split())
    assert "h on NIO (nine draws in ten: " in said
    assert re.search(r"; \d\d of its cards would finish in time", said)
    assert re.search(r"Of NIO's 4,375 cards the run is 1\.\d+% and the pipeline \d\d", said)
    rows = json.loads(bench(*TRAIN, "--fleet", "nio", "--fleet", "huawei", "--goodput", "--json")[1])
    assert [row["fleet"] for row in rows] == ["nio-2024-10", "huawei-2024-10"]
    assert rows[0]["not_yet"] == []
    assert rows[1]["days"] is None
    assert rows[1]["days_p5"] < rows[1]["days_p95"]
    several = bench(*TRAIN, "--fleet", "nio", "--fleet", "huawei", "--fleet", "world", "--details")[1]
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
    out = bench(*arguments, *FEW)[1]
    assert max(map(len, out.splitlines())) <= width
    assert "…" in out
    assert len(out.splitlines()) <= 40


@pytest.mark.parametrize("arguments", [NEED, BUDGET, TRAIN])
def test_csv_has_the_rows_of_json(bench, arguments):
    rows = json.loads(bench(*arguments, *FEW, "--json")[1])
    table = list(csv.DictReader(io.StringIO(bench(*arguments, *FEW, "--csv")[1])))
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
    assert row["convention"] == "6N + 6LdT"
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
        "nothing to plan; got 'nothing'; expected one of --eflops, --budget-rmb, --site-mw, --parameters",
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
        "not one amount of data; got 'none of them'; expected one of them",
    ),
    "two sizes": (
        [*TRAIN, "--params", "7e9"],
        "--params: given twice; got 7000000000.0; expected --parameters",
    ),
    "two contexts": ([*TRAIN, "--context", 9], "--context: given twice; got 9.0; expected --context-tokens"),
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
