"""A course from idle: its moments, where it settled, and its curve on a terminal."""

import re

import pytest

from nameplate.record import Moment
from nameplate.report.charts.data import TimeSeries
from nameplate.report.charts.textchart import draw_sparkline
from nameplate.report.media import markdown
from nameplate.report.run import run_view
from run_views import cells, printed


def test_a_course_shows_burst_the_moments_and_where_it_settled(make_run, phases):
    run = make_run(*phases())
    rows = cells(run, "From idle: matmul bf16 1024x1024x1024")
    assert [tuple(row.values()) for row in rows] == [
        ("burst", "280 ± 5", "100.0%", "87.5%"),
        ("after 1.0 s", "276", "98.6%", "86.2%"),
        ("after 10 s", "244", "87.1%", "76.2%"),
        ("after 1.0 min", "239", "85.4%", "74.7%"),
        ("after 10 min", "238", "85.0%", "74.4%"),
        ("sustained, from 12 s on", "240 ± 5", "85.7%", "75.0%"),
    ]


@pytest.mark.parametrize(
    ("settled_s", "words"),
    [(0.0, "sustained, from the start"), (None, "sustained, not known to have settled within 20 s")],
)
def test_a_course_says_whether_it_settled(make_run, phases, settled_s, words):
    assert cells(make_run(*phases(settled_s=settled_s)), "From idle")[-1]["when"] == words


def test_the_settled_figure_of_a_course_is_of_the_same_work(make_run, phases, a800):
    burst, sustained = phases()
    for other in (
        sustained.model_copy(update={"shape": "8x8x8"}),
        sustained.model_copy(update={"device": "cuda:1"}),
        sustained.model_copy(update={"verdict": "unverified", "verdicts": ("unverified",)}),
    ):
        assert cells(make_run(burst, other), "From idle")[-1]["TFLOPS"] == "–"
    elsewhere = sustained.model_copy(update={"group": "layer", "tflops": 238.0})
    assert cells(make_run(burst, elsewhere), "From idle")[-1]["TFLOPS"] == "238 ± 5"
    assert cells(make_run(burst, elsewhere, sustained), "From idle")[-1]["TFLOPS"] == "240 ± 5"


def test_courses_of_several_devices_are_told_apart(make_run, make_manifest, phases):
    (entry,) = make_manifest().devices
    devices = tuple(entry.model_copy(update={"name": name}) for name in ("cuda:0", "cuda:1"))
    records = [record.model_copy(update={"device": each.name}) for each in devices for record in phases()]
    run = make_run(*records, devices=devices)
    rows = cells(run, "From idle")
    assert [row["case"] for row in rows[::6]] == [f"cuda:{n} matmul bf16 1024x1024x1024" for n in (0, 1)]
    assert printed(run).count("TFLOPS; 0.1 s to 20 s") == 2


def course(*points):
    return TimeSeries("a course", tuple(Moment(at_s=at_s, tflops=tflops) for at_s, tflops in points))


def test_a_curve_is_one_line_with_its_scale_in_numbers(make_run, phases):
    out = printed(make_run(*phases()))
    (table,) = (each for each in run_view(make_run(*phases())).tables if each.heading.startswith("From idle"))
    line, scale = draw_sparkline(table.charts[0].series[0], 80)
    assert line == "██▇▅▄▁"
    assert scale == "█ 280, ▁ 242 TFLOPS; 0.1 s to 20 s since idle, log time"
    assert f"\n{line}\n{scale}\n" in re.sub(" +\n", "\n", out)
    assert line not in markdown.render(run_view(make_run(*phases())))  # a picture of it stands beside


def test_a_curve_of_noise_does_not_look_like_a_fall():
    line, scale = draw_sparkline(course(*((1.0 + n, 100.0 + n % 2) for n in range(40))), 80)
    assert set(line) <= set("▇█")
    assert "▁ 90.9" in scale


def test_a_curve_is_as_wide_as_the_terminal_at_most_and_has_no_holes():
    at_s = (0.1, *(float(n) for n in range(1, 600)))  # log time leaves early stretches without a point
    curve = course(*((at, 100.0 - 20.0 * min(at / 60, 1.0)) for at in at_s))
    for width, count in ((200, 64), (30, 30)):
        line, _ = draw_sparkline(curve, width)
        assert len(line) == count
        assert line[0] == "█"
        assert line[-1] == "▁"
        assert sorted(line, reverse=True) == list(line)
    assert draw_sparkline(course((2.0, 5.0)), 80)[0] == "█"
