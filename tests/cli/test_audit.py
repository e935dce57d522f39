"""`bench fleet audit`: its screen, its documents, its exit statuses, and what it doesn't import."""

import csv
import io
import json
from functools import partial

import pytest

from nameplate.fleet.claims import read_shipped_claims

COLUMNS = ("id", "stated", "recomputed", "unit", "relative_error", "verdict", "why")
HOLDS = """
source = "\\u001b[2J[red]counted"
[[claim]]
id = "cards"
words = "cards"
figure = 100
unit = "cards"
cannot_check = "[bold]an asset list\\u001b[2J"
[[claim]]
id = "servers"
words = "servers"
figure = 13
unit = "servers"
formula = "ceil(cards / 8)"
"""


@pytest.fixture
def bench(bench, monkeypatch):
    """Run `bench fleet audit …` on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(bench, "fleet", "audit")


@pytest.fixture
def mine(tmp_path):
    """Write a file of claims; its path."""

    def write(text):
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return write


def test_the_screen_begins_with_the_count_and_what_is_contradicted_and_has_the_rest_in_detail(bench):
    brief = bench()[1]
    assert brief.startswith("15 of the 18 claims that can be checked hold")
    assert "Contradicted" in brief
    assert "Hold, rounded" not in brief
    assert len(brief.splitlines()) <= 40
    status, out, err = bench("--details")
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    headings = ("Contradicted", "Hold, rounded", "Hold, as stated", "Can't be checked")
    assert [said.index(each) for each in headings] == sorted(said.index(each) for each in headings)
    for text in (
        "li-stock about 10,000 cards 16,843.75 cards -40.6%",
        "xpeng-spend about RMB 3.7 billion RMB 2.7713 billion +33.5%",
        "only a lower bound, which doesn't contradict what is stated",
        "a800-fp16 320 TFLOPS 312 TFLOPS +2.6%",
        "four-share about 3.5 % 3.4146 % +2.5%",
        "eflops-cost/whole ceil(1,000,000 ÷ 320 ÷ 8) × 950,000 = 371.45 million: in whole servers",
        "li-spend over RMB 1 billion RMB 1.1063 billion – ",  # what a bound leaves isn't an error
        "suppliers on the order of 1,000 cards which suppliers, and their own counts",
        "15 of the 18 claims that can be checked hold, 3 of them rounded; contradicted: a800-fp16, ",
        "li-stock, xpeng-spend, and in another reading a800-fp16/silicon, china-fp16/plain, ",
        "four-share/before, four-share/plain; 41 can't be checked.",
    ):
        assert text in said


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_of_any_usual_width_loses_no_figure(bench, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = bench("--details")[1]
    assert max(map(len, out.splitlines())) <= width
    for text in (
        "16,843.75 cards",
        "41,667 … 83,333 hours",
        "RMB 371.09375 million",
        "on the order of RMB 100 million",
    ):
        assert text in out


def test_json_is_one_row_a_claim_or_reading(bench):
    rows = json.loads(bench("--json")[1])
    assert all(tuple(row)[: len(COLUMNS)] == COLUMNS for row in rows)
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows) == 77
    assert by_id["tesla-eflops"]["recomputed"] == pytest.approx(66.7575)
    assert by_id["tesla-eflops"]["builds_on"] == ["tesla-h100", "eflops-unit"]
    assert by_id["market"]["stated"] is None


def test_csv_has_the_rows_of_json(bench):
    table = list(csv.DictReader(io.StringIO(bench("--csv")[1])))
    rows = json.loads(bench("--json")[1])
    assert list(table[0]) == list(rows[0])
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    nio = next(row for row in table if row["id"] == "nio-cards")
    assert (nio["recomputed"], nio["builds_on"]) == ("4375.0", "nio-now eflops-unit a800-fp16")
    assert next(row for row in table if row["id"] == "market")["recomputed"] == ""


def test_strict_is_1_on_a_contradiction_and_names_it(bench, mine):
    status, out, err = bench("--strict", "--json")
    assert status == 1
    assert json.loads(out)
    assert err == (
        "bench: --strict: contradicted are a800-fp16, a800-fp16/silicon, li-stock, "
        "xpeng-spend, china-fp16/plain, four-share/before, four-share/plain\n"
    )
    assert bench("--strict", "--claims", mine(HOLDS))[0] == 0
    assert bench("--strict", "--claims", mine(HOLDS.replace("13", "12")))[0] == 1


def test_an_altered_copy_has_another_verdict(bench, mine):
    copy = mine(
        read_shipped_claims().replace(
            'figure = "10,000"\nunit = "cards"', 'figure = 16_800\nunit = "cards"', 1
        )
    )
    verdicts = {row["id"]: row["verdict"] for row in json.loads(bench("--claims", copy, "--json")[1])}
    assert verdicts["li-stock"] == "holds"


def test_what_a_file_says_moves_no_cursor(bench, mine):
    file = mine(HOLDS)
    for flags in ((), ("--csv",), ("--json",)):
        out = bench("--claims", file, *flags)[1]
        assert "\x1b" not in out
        assert "[red]" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--claims", "gone.toml"], "gone.toml: a file of claims can't be read; got 'No such file"),
        (
            ["--claims", "bad.toml"],
            "bad.toml: the value of claim[servers].unit can't be used; got 'racks'; exp",
        ),
        (["--parts", "gone.toml"], "gone.toml: a file of parts can't be read"),
        (["--json", "--csv"], "two formats at once; got '--json and --csv'; expected one of the two"),
    ],
)
def test_unusable_input_is_2_and_one_sentence(bench, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(HOLDS.replace('"servers"\nf', '"racks"\nf'))
    status, out, err = bench(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("bench: ")
    assert sentence in line


def test_help_names_every_flag(bench):
    out = bench("--help")[1]
    for flag in ("--strict", "--claims", "--parts", "--json", "--csv"):
        assert flag in out


@pytest.mark.long
@pytest.mark.process
def test_it_imports_neither_torch_nor_pandas(modules_after, mine):
    loaded = modules_after(
        *(("fleet", "audit", *flags) for flags in (["--json"], ["--csv"], ["--claims", mine(HOLDS)]))
    )
    assert "nameplate.fleet.audit" in loaded
    assert not {"torch", "pandas"} & loaded
