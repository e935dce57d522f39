"""The progress of a run: a bar on a terminal that counts down, and few lines in a log."""

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from nameplate.base.messages import message
from nameplate.report.media.progress import LiveProgress

CASES = [
    f"transformer_block/bf16/1x{n}x4096-forward_backward/normal/rotating/sustained/torch"
    for n in range(1, 41)
]


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def followed(make_record, make_manifest):
    """Follow a run of 40 cases, ten seconds each; gives what was printed, and the bar at each case."""

    def follow(terminal, failing=()):
        out, clock = io.StringIO(), Clock()
        console = Console(file=out, width=80, force_terminal=terminal, color_system=None, _environ={})
        live, bars = LiveProgress(console, clock), []
        live.run_started(Path("runs/x"), make_manifest(CASES), 400.0, len(CASES))
        for number, case in enumerate(CASES):
            live.group_started([case, "other"])
            clock.now += 10.0
            bar = Console(file=io.StringIO(), width=80, _environ={})
            bar.print(live._bar.get_renderable())
            bars.append(bar.file.getvalue())
            status = {"status": "failed", "reason": message("no_rating")} if number in failing else {}
            live.case_finished(make_record(case=case, **status))
        return out.getvalue().splitlines(), bars

    return follow


def test_the_bar_fits_80_columns_names_the_case_and_counts_down(followed):
    lines, bars = followed(terminal=True)
    assert all(cell_len(line.rstrip()) <= 80 for bar in bars for line in bar.splitlines())
    assert [bar.split()[-2:] for bar in bars[:2]] == [["6:30", "left"], ["6:20", "left"]]
    assert bars[-1].split()[-2:] == ["about", "done"]
    assert "1/40" in bars[1]
    assert bars[0].startswith("transformer_block bf16 1x1x4096-forward_backward rotating sustained")
    words = {word for case in CASES for word in case.replace("/", " ").replace(":", "").split()}
    said = [line for line in lines if "4096" in line]
    assert len(said) == len(CASES)  # a line each, which no terminal would break within a word
    assert all(cell_len(line) <= 80 for line in said)
    assert {word.rstrip(":") for line in said for word in line.split() if "4096" in word} <= words


def test_a_log_gets_few_plain_lines_and_every_failure(followed):
    lines, _bars = followed(terminal=False, failing=(3, 30))
    assert 10 < len(lines) < 35  # 400 seconds
    assert sum("failed: " in line for line in lines) == 2
    assert "40 of 40 cases: last transformer_block bf16 1x40x4096" in lines[-1]
    assert "0 of 40 cases, about 6.7 min left: measuring transformer_block" in " ".join(lines)
    assert not any("\x1b" in line for line in lines)


def test_devices_of_one_kind_are_counted(make_manifest):
    (one,) = make_manifest().devices
    others = [one.model_copy(update={"name": f"cuda:{index}", "part": "nvidia-a800"}) for index in range(8)]
    out = io.StringIO()
    manifest = make_manifest(CASES, devices=(*others, one))
    LiveProgress(Console(file=out, width=200, _environ={}), Clock()).run_started(Path("x"), manifest, 9.0, 3)
    assert (
        "3 cases on 8 × a simulated device (nvidia-a800), a simulated device (amd-zen4) → x" in out.getvalue()
    )
