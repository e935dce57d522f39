"""A screen at each width: which columns go, and what a terminal may call its width."""

import io
import re

import pytest
from rich.console import Console

from nameplate.report.media import terminal
from nameplate.report.view import Answer, View, text_table
from run_views import NORMALIZED, printed

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


def test_what_a_narrow_terminal_leaves_out_is_named_below_its_table(crowded):
    def named(width):
        said = " ".join(printed(crowded, width).split())
        return re.findall(r"not shown at this width: ((?:lost to|\w+)(?:, (?:lost to|\w+))*)", said)

    assert named(130) == []
    assert "median, nominal" in named(105)
    assert "median, nominal, normalized, lost to" in named(80)


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


@pytest.mark.parametrize("width", [60, 80])
def test_each_item_of_a_list_hangs_under_its_own_text(width):
    answer = Answer("best product", "88.3% ± 1.9", "clean", f"of nominal: {LONG}")
    view = View(
        title="", answers=(answer,), advice=(LONG,), problems=(LONG,), summary=(("model", LONG),), footer=()
    )
    out = io.StringIO()
    terminal.show(view, Console(file=out, width=width, force_terminal=False))
    lines = out.getvalue().splitlines()
    for first, hang in (("   88.3% ± 1.9  best", 16), ("  • one", 4), ("! one", 2), ("model  one", 7)):
        (number,) = (n for n, line in enumerate(lines) if line.startswith(first))
        following = lines[number + 1]
        assert len(following) - len(following.lstrip()) == hang, following


def test_the_items_of_a_short_answer_hang_too():
    view = View(title="A title", advice=(f"{LONG} {LONG}",))
    first, *others = terminal.summary_text(view, 60).splitlines()[1:]
    assert first.startswith("• one")
    assert all(line.startswith("  ") for line in others)
