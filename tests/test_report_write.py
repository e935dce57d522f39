"""`bench report`: a Markdown file and its picture, whole or refused in one sentence."""

import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from nameplate.errors import InputError
from nameplate.report.chart import efficiency_svg
from nameplate.report.write import write_report

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def smoke(make_record):
    """The compute cases of a smoke run, two of which differ in their last word only."""
    names = (
        "matmul/fp32/1024x1024x1024",
        "matmul/bf16/1024x1024x1024",
        "transformer_block/bf16/1x128x512-forward_backward",
        "transformer_block/bf16/1x128x512-forward",
    )
    records = []
    for name in names:
        workload, dtype, shape = name.split("/")
        case = f"{name}/normal/warm/-/torch"
        records.append(make_record(case=case, workload=workload, dtype=dtype, shape=shape))
    return records


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def bars(svg):
    """What each bar says of itself to a screen reader."""
    nodes = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return [node.get("aria-label") for node in nodes if node.get("aria-roledescription") == "bar"]


def test_the_picture_is_well_formed_and_names_every_case(make_run, smoke):
    svg = efficiency_svg(make_run(*smoke))
    words = texts(svg)
    for record in smoke:
        assert f"{record.workload} {record.dtype} {record.shape}" in words


def test_the_picture_loads_nothing_and_runs_nothing(make_run, smoke):
    svg = efficiency_svg(make_run(*smoke))
    assert "<script" not in svg
    assert not re.search(r"(href|src)\s*=|url\((?!#)", svg)


def test_a_hostile_name_stays_text_in_the_picture(make_run, make_record):
    text = "<img src=x onerror=alert(1)>&\x1b\u202e"
    svg = efficiency_svg(make_run(make_record(shape=text)))
    kinds = {node.tag for node in ElementTree.fromstring(svg).iter()}
    assert not any(kind.endswith(("img", "script", "image")) for kind in kinds)
    assert "\u202e" not in svg


def test_each_case_has_a_bar_of_its_own(make_run, make_record):
    """Two that differ in their fill only aren't piled on each other."""
    zeros = make_record(case="matmul/bf16/1024x1024x1024/zeros/warm/-/torch", fill="zeros")
    labels = bars(efficiency_svg(make_run(make_record(), zeros)))
    assert len(labels) == 2
    assert len({re.search(r"case: ([^;]*)", label)[1] for label in labels}) == 2


def test_without_a_rating_the_picture_is_of_throughput(make_run, make_record):
    nothing = dict.fromkeys(("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high"))
    words = texts(efficiency_svg(make_run(make_record(**nothing))))
    assert "achieved, TFLOPS" in words
    assert "achieved ÷ nominal" not in words


def test_nothing_measured_draws_nothing(make_run, make_record):
    assert efficiency_svg(make_run(make_record(status="skipped"))) is None


def test_a_report_is_two_files_that_belong_together(make_run, smoke, tmp_path):
    written = write_report(make_run(*smoke), tmp_path / "report.md")
    assert written == [tmp_path / "report.md", tmp_path / "report.svg"]
    assert sorted(tmp_path.iterdir()) == written
    text = written[0].read_text()
    assert "](report.svg)" in text
    for record in smoke:
        assert record.shape.replace("_", r"\_") in text


def test_a_report_of_nothing_measured_has_no_picture(make_run, make_record, tmp_path):
    written = write_report(make_run(make_record(status="skipped")), tmp_path / "report.md")
    assert written == [tmp_path / "report.md"]
    assert "![" not in written[0].read_text()


@pytest.mark.parametrize("name", ["report.md", "my report.md", "run (2).md", "a&b.md"])
def test_the_picture_is_found_whatever_the_report_is_called(make_run, make_record, tmp_path, name):
    text = write_report(make_run(make_record()), tmp_path / name)[0].read_text()
    tokens = [child for token in MarkdownIt("commonmark").parse(text) for child in token.children or ()]
    images = [token.attrGet("src") for token in tokens if token.type == "image"]
    assert len(images) == 1
    from urllib.parse import unquote

    assert (tmp_path / unquote(images[0])).is_file()


@pytest.mark.parametrize("name", ["report.html", "report", "report.pdf"])
def test_another_format_is_refused(make_run, make_record, tmp_path, name):
    with pytest.raises(
        InputError, match=rf"--output: no such format; got '.*{name}'; expected a name ending in \.md"
    ):
        write_report(make_run(make_record()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_sentence(make_run, make_record, tmp_path):
    with pytest.raises(
        InputError, match=r"--output: can't write the report: No such file or directory; got "
    ):
        write_report(make_run(make_record()), tmp_path / "nowhere" / "report.md")


def test_a_report_is_written_over_an_older_one(make_run, make_record, tmp_path):
    write_report(make_run(make_record(), hostname="before"), tmp_path / "report.md")
    write_report(make_run(make_record(), hostname="after"), tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "after" in text
    assert "before" not in text
