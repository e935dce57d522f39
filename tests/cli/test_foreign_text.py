"""Error text of others stays as it is on every screen, in any language; what programs read is English."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nameplate.compare.results import results_of_run
from nameplate.store.folder import create, read_run

COMPARED = Path(__file__).parents[1] / "data" / "compare"
# Each word of these is in the Chinese catalogue, and none may be translated here.
ERRORS = (
    "RuntimeError: CUDA error: out of memory; power",
    "RuntimeError: thermal, power, contention 9%",
    "OSError: signal SIGSEGV",
)


def line(of, **changes):
    """A record line of that record as another program could write it, in schema 2."""
    fields = json.loads(of.model_dump_json()) | {"schema_version": 2} | changes
    return json.dumps(fields) + "\n"


@pytest.fixture(params=ERRORS)
def error(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # wide enough for a table not to break it
    return request.param


@pytest.fixture
def run(make_record, make_manifest, tmp_path, error):
    """A run on disk with the error in a reason and a warning, and a line that can't be read."""
    broken = make_record(status="failed", case="matmul/int8/8x8x8/normal/warm/-/torch")
    good = make_record()
    folder = create(tmp_path, make_manifest([good.case, broken.case]))
    text = line(good, warnings=[error]) + line(broken, reason=error) + line(good, verdict=error)
    (folder / "records-cpu-0.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_screen_shows_it_verbatim(bench, run, error):
    """The answer has the reason; the details have it there, among the unmeasured and with the warnings."""
    for details, times in (((), 1), (("--details",), 4)):
        shown = bench("show", run, *details, "--lang", "zh")
        assert shown.status == 0
        assert shown.out.count(error) == times


@pytest.mark.usefixtures("one_library")
def test_a_page_and_markdown_show_it_verbatim(bench, run, tmp_path, error):
    pytest.importorskip("jinja2")
    for name in ("report.md", "report.html"):
        assert bench("report", run, "--lang", "zh", "-o", tmp_path / name).status == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count(error) >= 2


def test_a_comparison_shows_it_verbatim(bench, tmp_path, error):
    """The new side's block failed with it, in a run of schema 2."""
    (source,) = (COMPARED / "broken").glob("*-0000")
    folder = tmp_path / source.name
    folder.mkdir()
    for path in source.iterdir():
        text = path.read_text(encoding="utf-8").replace("RuntimeError: no memory", error)
        (folder / path.name).write_text(text, encoding="utf-8")
    compared = bench("compare", COMPARED / "base", folder, "--lang", "zh")
    assert compared.status == 3
    assert error in compared.out


def test_what_a_program_reads_is_english_in_any_language(bench, run, error):
    english, chinese = (bench("show", run, "--json", "--lang", each) for each in ("en", "zh"))
    assert chinese.out == english.out
    good, broken = json.loads(english.out)["records"]
    assert good["warnings"] == [error]
    assert (broken["reason"], broken["reason_code"]) == (error, "text")


def test_a_problem_keeps_what_the_system_said(run):
    (problem,) = read_run(run).problems
    assert (problem.code, problem.values["line"]) == ("line_unreadable", 3)
    assert results_of_run(read_run(run)).problems == (problem,)
