"""`bench report`: a page, or Markdown and its pictures; whole, or refused in one sentence."""

import sys
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from nameplate.base.errors import InputError
from nameplate.report.media.write import write_report
from nameplate.report.run import make_report

pytestmark = pytest.mark.usefixtures("few_draws", "one_library")
PICTURES = ("chain", "efficiency", "shapes", "roofline", "from-idle", "fleets")


def parsed(text):
    return [
        each
        for token in MarkdownIt("commonmark").enable("table").parse(text)
        for each in (token, *(token.children or ()))
    ]


def images(text):
    return [unquote(token.attrGet("src")) for token in parsed(text) if token.type == "image"]


def test_a_markdown_report_is_a_file_and_a_picture_for_each_chart(a800_run, tmp_path):
    written = write_report(a800_run(), tmp_path / "report.md")
    assert written == [tmp_path / "report.md", *(tmp_path / f"report-{name}.svg" for name in PICTURES)]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    text = written[0].read_text()
    assert images(text) == [path.name for path in written[1:]]
    for record in a800_run().records:
        assert record.shape.replace("_", r"\_") in text


def test_a_page_is_one_file(a800_run, tmp_path):
    assert write_report(a800_run(), tmp_path / "report.html") == [tmp_path / "report.html"]
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_a_report_of_nothing_measured_has_only_the_picture_of_fleets(make_run, make_record, tmp_path):
    run = make_run(make_record(status="skipped"))
    assert write_report(run, tmp_path / "none.md") == [tmp_path / "none.md"]
    written = write_report(run, tmp_path / "report.md", fleets=True)
    assert written == [tmp_path / "report.md", tmp_path / "report-fleets.svg"]
    assert images(written[0].read_text()) == ["report-fleets.svg"]


@pytest.mark.long
def test_several_runs_are_side_by_side_first_and_then_each_by_itself(a800_run, tmp_path):
    runs = [a800_run(), a800_run(0.9, run="20261123T120000-standard-a801")]
    written = write_report(runs, tmp_path / "both.md")
    text = written[0].read_text()
    titles = [line for line in text.splitlines() if line.startswith("# ")]
    assert titles == ["# 2 runs side by side", *["# standard on NVIDIA A800-SXM4-80GB"] * 2]
    first, second = (PICTURES, PICTURES)
    assert [path.name for path in written[1:]] == [
        "both-stages.svg",
        "both-shared.svg",
        *(f"both-1-{name}.svg" for name in first),
        *(f"both-2-{name}.svg" for name in second),
    ]
    assert images(text) == [path.name for path in written[1:]]
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_fleets_are_shown_once_where_no_run_prices_them(make_run, make_record, a800_run):
    other = make_run(make_record(), run="20261123T120000-fake-0002")
    fleets = [
        "Fleets" in " ".join(table.heading for table in each.tables)
        for each in whole(make_run(make_record()), other, fleets=True)
    ]
    assert fleets == [False, True, False]
    fleets = [
        "Fleets" in " ".join(table.heading for table in each.tables) for each in whole(other, a800_run())
    ]
    assert fleets == [False, False, True]


def whole(*runs, fleets=None):
    return make_report(runs, fleets=fleets).views


@pytest.mark.parametrize("name", ["report.md", "my report.md", "run (2).md", "a&b.md"])
def test_links_to_pictures_work_whatever_the_reports_name(make_run, make_record, tmp_path, name):
    text = write_report(make_run(make_record()), tmp_path / name)[0].read_text()
    assert len(images(text)) == 2
    assert all((tmp_path / image).is_file() for image in images(text))


@pytest.mark.parametrize("name", ["report.htm", "report", "report.pdf", "report.HTML"])
def test_another_format_is_refused(make_run, make_record, tmp_path, name):
    refusal = rf"--output: no such format; got '.*{name}'; expected a name ending in \.html or \.md"
    with pytest.raises(InputError, match=refusal):
        write_report(make_run(make_record()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_another_language_is_refused_before_anything_is_written(make_run, make_record, tmp_path):
    with pytest.raises(InputError, match="--lang: no such language; got 'tlh'; expected en or zh"):
        write_report(make_run(make_record()), tmp_path / "report.md", "tlh")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_missing_folder_is_refused_in_one_sentence(make_run, make_record, tmp_path, name):
    refusal = r"--output: can't write the report: No such file or directory; got '.*'; expected a folder"
    with pytest.raises(InputError, match=refusal):
        write_report(make_run(make_record()), tmp_path / "nowhere" / name)


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_report_is_written_over_an_older_one(make_run, make_record, tmp_path, name):
    write_report(make_run(make_record(), hostname="first-host"), tmp_path / name)
    write_report(make_run(make_record(), hostname="second-host"), tmp_path / name)
    text = (tmp_path / name).read_text()
    assert "second-host" in text
    assert "first-host" not in text


LACKING = {
    "altair": ("report.md", "a chart needs altair"),
    "vl_convert": ("report.md", "a chart needs vl_convert"),
    "jinja2": ("report.html", "a page needs jinja2"),
}


@pytest.mark.parametrize("library", LACKING)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    make_run, make_record, tmp_path, monkeypatch, library
):
    name, what = LACKING[library]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        InputError, match=rf"bench report: {what}; expected pip install 'nameplate\[report\]'"
    ):
        write_report(make_run(make_record()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_given_twice_is_refused(make_run, make_record, tmp_path):
    run = make_run(make_record())
    with pytest.raises(InputError, match=rf"the same run twice; got '{run.id}'; expected runs that differ"):
        write_report([run, run], tmp_path / "report.md")
    assert list(tmp_path.iterdir()) == []
