"""`bench report`: a Markdown file and its picture, whole or refused in one sentence."""

import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from nameplate.errors import InputError
from nameplate.record import Moment
from nameplate.report.chart import efficiency_svg, onset_svg
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


@pytest.fixture
def burst(make_record):
    """A product from idle, on a card whose clock, power and heat are known for all but the last moment."""

    def make(device="cuda:0", known=True, **changes):
        course = [
            Moment(
                at_s=at_s,
                tflops=280.0 - 10 * n,
                sm_clock_mhz=1410.0 - 30 * n if known and n < 5 else None,
                power_w=300.0 + 20 * n if known and n < 5 else None,
                temperature_c=35.0 + 5 * n if known and n < 5 else None,
            )
            for n, at_s in enumerate((0.05, 0.5, 1.0, 5.0, 20.0, 60.0))
        ]
        case = "matmul/bf16/1024x1024x1024/normal/warm/burst/torch"
        fields = {"device": device, "case": case, "phase": "burst", "settled_s": 20.0, "course": course}
        return make_record(**(fields | changes))

    return make


def lines(svg):
    """What each line says of itself to a screen reader."""
    nodes = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return [node.get("aria-label") for node in nodes if node.get("aria-roledescription") == "line mark"]


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


def test_a_throttled_sustained_figure_is_believed(make_run, make_record):
    held = {"verdict": "throttled", "verdicts": ("throttled",)}
    (sustained,) = bars(efficiency_svg(make_run(make_record(phase="sustained", **held))))
    (burst,) = bars(efficiency_svg(make_run(make_record(phase="burst", **held))))
    assert sustained.endswith("verdict: believed")
    assert burst.endswith("verdict: not believed")


def test_the_same_case_of_two_devices_has_two_bars(make_run, make_manifest, make_record):
    run = two_devices(make_run, make_manifest, *(make_record(device=f"cuda:{n}") for n in (0, 1)))
    assert len({re.search(r"case: ([^;]*)", label)[1] for label in bars(efficiency_svg(run))}) == 2


def two_devices(make_run, make_manifest, *records):
    (entry,) = make_manifest().devices
    devices = tuple(entry.model_copy(update={"name": name}) for name in ("cuda:0", "cuda:1"))
    return make_run(*records, devices=devices)


def test_a_course_is_drawn_over_time_with_what_is_known_beneath(make_run, burst):
    svg = onset_svg(make_run(burst()))
    words = texts(svg)
    for title in ("TFLOPS", "SM clock, MHz", "power, W", "temperature, °C"):
        assert title in words
    assert words.count("seconds after the onset from idle (log scale)") == 1
    assert len(lines(svg)) == 4
    assert words.count("settled") == 1
    assert not re.search(r"(href|src)\s*=|url\((?!#)", svg)


def test_a_course_of_throughput_alone_has_one_panel(make_run, burst):
    words = texts(onset_svg(make_run(burst(known=False, settled_s=None))))
    assert "settled" not in words
    assert "TFLOPS" in words
    assert not {"SM clock, MHz", "power, W", "temperature, °C"} & set(words)


def test_courses_of_two_devices_are_two_lines(make_run, make_manifest, burst):
    run = two_devices(make_run, make_manifest, burst("cuda:0", known=False), burst("cuda:1", known=False))
    svg = onset_svg(run)
    assert len(lines(svg)) == 2
    assert "cuda:1 matmul bf16 1024x1024x1024" in texts(svg)


def test_without_a_course_there_is_no_picture_of_one(make_run, make_record):
    assert onset_svg(make_run(make_record())) is None


def test_a_report_of_a_course_has_a_second_picture(make_run, burst, tmp_path):
    written = write_report(make_run(burst()), tmp_path / "report.md")
    names = ["report.md", "report.svg", "report-from-idle.svg"]
    assert [path.name for path in written] == names
    text = written[0].read_text()
    assert "](report.svg)" in text
    assert "](report-from-idle.svg)" in text


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
