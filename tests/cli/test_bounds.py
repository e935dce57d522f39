"""Files and figures that can't be: exit 2 and one sentence, with the file or the range that is allowed."""

from __future__ import annotations

import os
import tempfile

import pytest

from nameplate.base.errors import InputError
from nameplate.cli.options import use_parts
from nameplate.specs.registry import ENVIRONMENT, load_registry

A800 = "nvidia-a800-sxm4-80gb"
FLEET = 'schema = 1\n[[fleet]]\nid = "x"\nname = "x"\nas_of = "2024"\nsource = "s"\n'
FILES = {
    "nested deep": "a = " + "[" * 3000 + "]" * 3000,
    "nested deep by a dotted key": "a" + ".a" * 3000 + " = 1",
    "nested deep in a key that is known": FLEET + "part" + ".a" * 3000 + " = 1",
    "a number of 5,000 digits": "a = " + "7" * 5000,
    "a number of 4,000 digits": FLEET + "cards = " + "7" * 4000,
    "a byte order mark": "\ufeffschema = 1",
    "an overflow": FLEET + f'part = "{A800}"\neflops = 1e308',
    "a denormal number": FLEET + f'part = "{A800}"\neflops = 1e-320',
    "more cards than can be": FLEET + f'part = "{A800}"\ncards = 1000000000000',
    "a key that is there twice": "schema = 1\nschema = 1",
}
COMMANDS = (["specs", "--parts"], ["fleet", "list", "--fleets"], ["fleet", "audit", "--claims"])


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_that_cant_be_used_is_one_sentence_that_names_it(bench, tmp_path, text):
    file = tmp_path / "file.toml"
    file.write_text(text, encoding="utf-8")
    for words in COMMANDS:
        result = bench(*words, file)
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
        assert str(file) in result.err
        assert len(result.err) < 600


def test_a_byte_order_mark_is_named(bench, tmp_path):
    (tmp_path / "file.toml").write_bytes(b"\xef\xbb\xbfschema = 1\n")
    assert "byte order mark (BOM)" in bench("fleet", "list", "--fleets", tmp_path / "file.toml").err


def test_no_pipe_device_loop_or_folder_is_read(bench, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xff")
    for name in ("pipe", "zero", "loop", "folder", "latin", "n" * 300, "gone"):
        for words in COMMANDS:
            result = bench(*words, tmp_path / name)
            assert (result.status, result.err.count("\n")) == (2, 1)


# Each with a place for the number, and what is said of the range.
FIGURES = {
    "eflops": (["fleet", "cost", "--part", A800, "--eflops", "{}"], "from 1e-09 to 1e+09"),
    "planned eflops": (["fleet", "plan", "--part", A800, "--eflops", "{}"], "from 1e-09 to 1e+09"),
    "budget": (["fleet", "plan", "--part", A800, "--budget-rmb", "{}"], "from 0.01 to 1e+15"),
    "price": (["fleet", "cost", "--part", A800, "--price", A800 + "={}"], "RMB from 0.01 to 1e+15"),
    "assumption": (["fleet", "cost", "--part", A800, "--assume", "pue={}"], "from 1 to 5"),
    "parameters": (
        ["fleet", "plan", "--hours", "9", "--every-days", "9", "--parameters", "{}"],
        "parameters from 1,000,000 to",
    ),
    "derate": (["fleet", "cost", "--part", A800, "--derate", "datasheet:goodput={}"], "--derate"),
    "failures": (["fleet", "goodput", "--failures-per-node-day", "{}"], "--failures-per-node-day"),
    "years": (["fleet", "own", "--part", A800, "--years", "{}"], "from 0.1 to 30"),
}


@pytest.mark.parametrize("number", ["1e308", "1e300", "1e-300", "1e-320"])
@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_that_no_fleet_can_have_is_refused_with_the_range(bench, kind, number):
    words, allowed = FIGURES[kind]
    result = bench(*(word.format(number) for word in words))
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert allowed in result.err


def test_a_whole_number_of_400_digits_is_refused_with_the_range(bench):
    many = "9" * 400
    for words in (
        ["fleet", "derate", "--part", A800, "--devices", many],
        ["fleet", "goodput", "--cards", many],
        ["fleet", "goodput", "--cards-per-node", many],
        ["fleet", "cost", "--part", A800, "--draws", many],
        ["selftest", "--again", many],
        ["selftest", "--runs", many],
    ):
        result = bench(*words)
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1), words
        assert words[-2] in result.err


def test_what_was_given_is_quoted_up_to_a_length(bench):
    result = bench("run", "--nominal", "w" * 5000)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "w…; expected" in result.err
    assert len(result.err) < 1000


def test_a_bound_that_nothing_could_miss_is_refused(bench):
    assert bench("fleet", "validate", "--bound", "1e308").status == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", ""],
        ["leaderboard", ""],
        ["publish", "latest", "--to", ""],
        ["list", "--results", ""],
        ["specs", "--parts", ""],
        ["fleet", "list", "--fleets", ""],
        ["fleet", "audit", "--claims", ""],
        ["selftest", "--repeat", "0"],
        ["selftest", "--repeat", "-1"],
        ["selftest", "--again", "3", "--results", ""],
        ["selftest", "--on", "cuda", "--twin", ""],
        ["compare", "", ""],
    ],
)
def test_nothing_for_a_name_and_no_restarts_are_refused_and_touch_nothing(
    bench, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine\n")
    result = bench(*words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine\n"


def test_what_is_no_text_is_told_to_no_process_that_measures(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for flag in ("--results", "--only", "--device", "--resume"):
        result = bench("run", "smoke", flag, os.fsdecode(b"[!\xff]*"))
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
        assert f"{flag}: not text in UTF-8" in result.err
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_folder_is_bad_input(bench, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    result = bench("selftest", "--again", "3")
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert "TMPDIR: no temporary folder can be made: No such file or directory" in result.err


def test_a_size_that_a_terminal_cant_have_is_left_out(bench, monkeypatch):
    for size in ("²", "٣", "-5", "0", "x", "9" * 5000):
        monkeypatch.setenv("COLUMNS", size)
        monkeypatch.setenv("LINES", size)
        assert bench("suites").status == 0


def test_parts_by_a_link_to_itself_are_named_when_they_are_read(monkeypatch, tmp_path):
    monkeypatch.setenv(ENVIRONMENT, "")
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    use_parts([loop])
    with pytest.raises(InputError, match=r"loop\.toml: a file of parts can't be read"):
        load_registry()
