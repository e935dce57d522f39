"""What charts show, that it is what the tables say, and that every medium can draw it."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import altair
import jsonschema
import pytest

from nameplate.chain.from_run import find_chains, find_slowest
from nameplate.record import Moment
from nameplate.report.charts import textchart, vega
from nameplate.report.charts.data import (
    MOST_BARS,
    MOST_POINTS,
    Bars,
    Curve,
    Grid,
    Roofline,
    Step,
    TimeChart,
    TimeSeries,
    Waterfall,
)
from nameplate.report.charts.palette import COLOURS, GAIN, LOSS, SERIES, style_sheet
from nameplate.report.fleet.priced import price, priced_tables
from nameplate.report.labels import Labels
from nameplate.report.run import run_view
from nameplate.report.sections.roofline import roofline_table
from nameplate.report.sections.throughput import shapes_table, throughput_table
from nameplate.report.side_by_side import side_by_side_view

pytestmark = pytest.mark.usefixtures("few_draws")
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>]]>&\x1b[2J\u202e\"'"
KINDS = {
    "chain": Waterfall,
    "efficiency": Bars,
    "shapes": Grid,
    "roofline": Roofline,
    "from-idle": TimeChart,
    "fleets": Bars,
    "stages": Bars,
    "shared": Bars,
    "power-limits": Curve,
}


def charts_of(*tables):
    return {chart.name: chart for table in tables for chart in table.charts}


def limit_power(run, limit_w):
    """The same run on devices of that power limit."""
    entries = tuple(
        each.model_copy(update={"identity": each.identity.model_copy(update={"power_limit_w": limit_w})})
        for each in run.manifest.devices
    )
    return replace(run, manifest=run.manifest.model_copy(update={"devices": entries}))


def every_chart(a800_run, **changes):
    """Every chart of a run and of two side by side, by its name."""
    run, other = a800_run(**changes), a800_run(0.9, run="20261123T120000-standard-a801", **changes)
    run, other = limit_power(run, 400.0), limit_power(other, 300.0)
    return charts_of(
        *run_view(run).tables, *priced_tables(price(run)), *side_by_side_view([run, other]).tables
    )


@pytest.fixture(scope="module")
def charts(a800_run):
    return every_chart(a800_run)


@pytest.fixture(scope="module")
def hostile_charts(a800_run):
    return every_chart(a800_run, text=HOSTILE)


@pytest.fixture(scope="module")
def pictures(charts):
    """The picture of every chart, by its name."""
    return {name: vega.draw_svg_file(chart) for name, chart in charts.items()}


def work_charts(*records, of):
    return charts_of(throughput_table(records, Labels.of(of(*records))))


def rows(chart, name):
    return vega.make_spec(chart)["datasets"][name]


def nodes(svg, kind):
    """What the marks of a kind say of themselves to a screen reader."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return [node.get("aria-label") for node in found if node.get("aria-roledescription") == kind]


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_run_has_a_chart_of_each_kind(charts):
    assert {name: type(chart) for name, chart in charts.items()} == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_each_chart_has_a_title_and_a_description(charts, name):
    chart = charts[name]
    assert chart.title
    assert chart.alt.endswith(".")
    assert vega.make_spec(chart)["description"] == chart.alt


@pytest.mark.parametrize("name", KINDS)
def test_each_definition_is_valid_vega_lite(charts, name):
    altair.Chart.from_dict(vega.make_spec(charts[name]))


def test_the_check_above_can_fail(charts):
    spec = vega.make_spec(charts["shapes"])
    spec["layer"][0]["mark"]["type"] = "rectangle"
    with pytest.raises(jsonschema.ValidationError):
        altair.Chart.from_dict(spec)


@pytest.mark.parametrize("name", KINDS)
def test_each_picture_needs_no_other_file(charts, pictures, name):
    """Well-formed, with a title and a description, in both schemes; it loads nothing and runs nothing."""
    svg = pictures[name]
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title").text == charts[name].title
    assert root.find(f"{SVG}desc").text == charts[name].alt
    style = root.find(f"{SVG}style").text
    assert style == style_sheet()
    assert "@media screen and (prefers-color-scheme:dark)" in style
    tags = {node.tag.removeprefix(SVG) for node in root.iter()}
    assert not tags & {"script", "image", "foreignObject", "a", "use"}
    attributes = {name for node in root.iter() for name in node.attrib}
    assert not {each for each in attributes if each.startswith("on") or each.endswith(("href", "src"))}
    assert not re.search(r"url\((?!#)|@import|javascript:", svg)


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_has_its_own_background_and_the_palettes_colours(pictures, name):
    svg = pictures[name]
    ground = ElementTree.fromstring(svg).find(f"{SVG}rect")
    assert ground.get("fill") == "var(--paper, #ffffff)"
    painted = set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) - {"none", "transparent"}
    known = {f"var(--{name}, {light})" for name, (light, _dark) in COLOURS.items()}
    assert painted <= known | {each for each in painted if each.startswith("url(#")}


@pytest.mark.parametrize("name", KINDS)
def test_a_hostile_name_stays_text_in_a_picture(hostile_charts, pictures, name):
    svg = vega.draw_svg_file(hostile_charts[name])
    calm = ElementTree.fromstring(pictures[name])
    assert {node.tag for node in ElementTree.fromstring(svg).iter()} == {node.tag for node in calm.iter()}
    assert not re.search("[\x1b\u202e]", svg)


# Bars


def test_each_case_has_a_bar_of_its_own(make_run, make_record):
    """Two that differ in their fill only aren't piled on each other."""
    zeros = make_record(case="matmul/bf16/1024x1024x1024/zeros/warm/-/torch", fill="zeros")
    chart = work_charts(make_record(), zeros, of=make_run)["efficiency"]
    labels = [bar.label for bar in chart.bars]
    assert labels == ["matmul bf16 1024x1024x1024", "matmul bf16 1024x1024x1024 zeros"]
    assert len(nodes(vega.draw_svg(vega.make_spec(chart)), "bar")) == 2


def test_the_same_case_of_two_devices_has_two_bars(a800_run):
    chart = charts_of(*run_view(a800_run(1.0, 0.9)).tables)["efficiency"]
    first = [bar for bar in chart.bars if bar.label.endswith("matmul bf16 2048x2048x2048")]
    assert [bar.label.split()[0] for bar in first] == ["cuda:0", "cuda:1"]
    assert [bar.value for bar in first] == pytest.approx([185 / 320, 0.9 * 185 / 320])


def test_a_bar_is_the_share_of_nominal_with_its_interval_as_the_table_prints_it(charts):
    row = next(row for row in rows(charts["efficiency"], "bars") if row["label"].endswith("burst"))
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (275 / 320, 0.99 * 275 / 320, 1.01 * 275 / 320)
    )
    assert (row["said"], row["ends"]) == ("85.9%", "85.1% … 86.8%")


def test_without_a_rating_bars_are_of_throughput(make_run, make_record):
    nothing = dict.fromkeys(("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high"))
    chart = work_charts(make_record(tflops=1979.4, tflops_high=2000.0, **nothing), of=make_run)["efficiency"]
    assert not chart.is_share
    assert chart.axis == "achieved, TFLOPS"
    assert rows(chart, "bars")[0]["said"] == "1,979"  # neither an exponent nor another rounding
    words = texts(vega.draw_svg(vega.make_spec(chart)))
    assert "achieved, TFLOPS" in words
    assert not any("%" in word for word in words)


def test_an_unknown_interval_is_a_dash_when_hovered(charts, a800_run):
    nominal, delivered = rows(charts["fleets"], "bars")[:2]
    assert (nominal["kind"], nominal["ends"]) == ("nominal", "–")
    (table,) = priced_tables(price(a800_run()))
    (row,) = (row for row in table.rows if row[0] == delivered["label"])
    low, high = re.fullmatch(r"(\d+\.\d) … (\d+\.\d)", delivered["ends"]).groups()
    assert f"{low} … {delivered['said']} … {high}" in row  # as the table prints it
    assert rows(charts["chain"], "steps")[0]["ends"] == "–"


def test_intervals_of_fleets_are_not_called_95_percent(charts):
    def tips(name):
        return [each["title"] for each in vega.make_spec(charts[name])["layer"][0]["encoding"]["tooltip"]]

    assert tips("fleets") == ["fleet", "kind", "EFLOPS", "nine draws in ten"]
    assert tips("efficiency") == ["case", "kind", "achieved ÷ nominal", "95 % interval"]
    assert tips("stages") == ["stage", "kind", "of nominal", "95 % interval"]


def test_a_capped_sustained_figure_is_trusted_and_a_capped_burst_is_not(make_run, make_record):
    held = {"verdict": "power_capped", "verdicts": ("power_capped",)}
    made = [make_record(phase=phase, case=phase, **held) for phase in ("sustained", "burst")]
    kinds = [bar.kind for bar in work_charts(*made, of=make_run)["efficiency"].bars]
    assert kinds == ["trusted", "in doubt"]


def test_nothing_measured_draws_nothing(make_run, make_record):
    assert work_charts(make_record(status="skipped"), of=make_run) == {}
    assert charts_of(*run_view(make_run(make_record(status="skipped"))).tables) == {}


def many(make_record, count):
    return [
        make_record(
            case=f"matmul/bf16/{n}x8x8/normal/warm/-/torch",
            shape=f"{n}x8x8",
            efficiency=(n + 1) / count,
            efficiency_low=n / count,
            efficiency_high=(n + 2) / count,
        )
        for n in range(count)
    ]


def test_too_many_bars_are_cut_to_the_first_and_the_title_says_so(make_run, make_record):
    few, more = (work_charts(*many(make_record, n), of=make_run)["efficiency"] for n in (MOST_BARS, 2_000))
    assert "first" not in few.title
    assert more.title.endswith(": the first 40 of 2000")
    assert len(rows(few, "bars")) == len(rows(more, "bars")) == MOST_BARS
    assert len(nodes(vega.draw_svg(vega.make_spec(more)), "bar")) == MOST_BARS


# The waterfall


def test_steps_are_the_stages_figures_of_nominal(a800_run, charts):
    run = a800_run()
    (found,) = find_chains(run.records)
    steps = charts["chain"].steps
    nominal = found.stages[0].throughput.tflops.value
    assert nominal == 320.0
    assert [step.value for step in steps] == pytest.approx(
        [each.throughput.tflops.value / nominal for each in found.stages]
    )
    assert [step.label for step in steps] == [
        "nominal",
        "datasheet",
        "best product, burst",
        "best product, sustained",
        "the model's products",
        "transformer block",
    ]
    assert [step.value for step in steps][:4] == pytest.approx([1.0, 312 / 320, 275 / 320, 260 / 320])
    assert steps[5].value == pytest.approx(205 / 320)
    assert (steps[1].low, steps[1].high, steps[1].how) == (None, None, "published")
    assert (steps[5].low, steps[5].high) == pytest.approx((0.99 * 205 / 320, 1.01 * 205 / 320))


def test_of_several_devices_the_slowest_is_drawn_and_named(a800_run):
    chart = charts_of(*run_view(a800_run(1.0, 0.8, 0.9)).tables)["chain"]
    assert chart.title == "From nominal to delivered in bf16: cuda:1, the slowest of 3 devices"
    assert chart.steps[-1].value == pytest.approx(0.8 * 205 / 320)


def test_the_slowest_is_one_of_the_devices_that_reach_furthest(a800_run):
    """A device without a block has lost less so far, and one that is slower but stops early says nothing."""

    def without_block(records):
        return [each for each in records if not (each.device == "cuda:1" and each.group == "layer")]

    run = a800_run(1.0, 0.5, records=without_block)
    assert find_slowest(find_chains(run.records)).device == "cuda:0"
    assert find_slowest([]) is None


def waterfall(*values):
    made = tuple(Step(f"stage {n}", value, None, None, "measured") for n, value in enumerate(values))
    return Waterfall("chain", "a title", "what it shows.", made)


def test_a_ratio_above_1_draws_a_gain():
    found = rows(waterfall(1.0, 0.6, 0.9, 1.2), "steps")
    assert [row["change"] for row in found] == [None, "lost", "gained", "gained"]
    # A bar is what is kept; beside it what was lost, or over it what was gained.
    assert [row["kept"] for row in found] == [1.0, 0.6, 0.6, 0.9]
    assert [(row["before"], row["value"]) for row in found][1:] == [(1.0, 0.6), (0.6, 0.9), (0.9, 1.2)]
    svg = vega.draw_svg(vega.make_spec(waterfall(1.0, 0.6, 0.9)))
    assert svg.count(f'fill="{LOSS}"') == 2  # in its place, and in the legend
    assert svg.count(f'fill="{GAIN}"') == 2
    assert "90.0%" in texts(svg)


def test_a_chain_that_stays_the_same_draws_neither_loss_nor_gain():
    assert [row["change"] for row in rows(waterfall(1.0, 1.0), "steps")] == [None, None]


# The roofline


def memory_charts(run):
    records = [each for each in run.records if each.status == "ok"]
    return charts_of(roofline_table(records, Labels.of(run)))


def test_the_roofs_are_nominal_and_the_fastest_memory_measured(charts):
    roofs = {roof.label: (roof.tflops, roof.gb_s) for roof in charts["roofline"].roofs}
    triad = 0.28e12 / (1 << 31) * (12 << 30) / 1e9
    assert roofs == {
        "nominal bf16, fp16 320": (320.0, None),
        "nominal tf32 160": (160.0, None),
        "memory fp32 triad-4096MiB, 1,680 GB/s measured": (None, pytest.approx(triad)),
    }


def test_a_measured_peak_is_the_roof_in_place_of_nominal(a800_run):
    """The physical limit, not what a part is sold by; a dtype without one keeps its nominal."""
    run = a800_run()
    records = [
        record.model_copy(update={"silicon_tflops": 300.0}) if record.dtype == "bf16" else record
        for record in run.records
        if record.status == "ok"
    ]
    (chart,) = roofline_table(records, Labels.of(run)).charts
    roofs = {roof.label: roof.tflops for roof in chart.roofs if roof.tflops}
    assert roofs == {"silicon bf16 300": 300.0, "nominal fp16 320": 320.0, "nominal tf32 160": 160.0}


def test_memorys_roof_rises_by_its_bandwidth_up_to_the_highest_roof_of_compute(charts):
    chart = charts["roofline"]
    lines = {}
    for row in rows(chart, "roofs"):
        lines.setdefault(row["roof"], []).append((row["intensity"], row["tflops"]))
    by_memory = next(points for roof, points in lines.items() if "GB/s" in roof)
    for intensity, tflops in by_memory:
        assert tflops / intensity == pytest.approx(chart.roofs[-1].gb_s / 1e3)
    assert by_memory[-1][1] == 320.0
    (first, last) = lines["nominal tf32 160"]
    assert (first[1], last[1]) == (160.0, 160.0)
    intensities = [point.flop_per_byte for point in chart.points]
    assert first[0] < min(intensities) < max(intensities) < last[0]


def test_a_point_is_its_flops_a_byte_and_what_it_achieved(charts):
    points = {point.label: point for point in charts["roofline"].points}
    assert len(points) == 11  # every case that counts FLOPs: memory's aren't among them
    assert not any("memory" in label for label in points)
    square = points["matmul fp16 8192x8192x8192"]
    assert (square.tflops, square.kind) == (258.0, "fp16")
    assert square.flop_per_byte == pytest.approx(8192 / 3)


def test_without_memory_or_without_work_there_is_no_roofline(a800_run):
    assert memory_charts(a800_run())
    no_memory = a800_run(records=lambda found: [each for each in found if each.workload != "memory"])
    assert memory_charts(no_memory) == {}
    copy_alone = a800_run(records=lambda found: [each for each in found if "copy" in each.case])
    assert memory_charts(copy_alone) == {}
    (table,) = (each for each in run_view(copy_alone).tables if each.heading.startswith("Memory"))
    assert len(table.rows) == 1


def test_too_many_points_are_cut_to_the_first(a800_run, make_record):
    triad = [each for each in a800_run().records if "triad" in each.case]
    products = many(make_record, MOST_POINTS + 1)
    records = [*triad, *(each.model_copy(update={"device": triad[0].device}) for each in products)]
    run = a800_run(records=lambda found: records)
    chart = memory_charts(run)["roofline"]
    assert chart.title.endswith(": the first 1000 of 1001")
    assert len(rows(chart, "points")) == MOST_POINTS


# Products by shape and dtype


def grid(*records):
    return shapes_table(records)


def product(make_record, shape="8x8x8", tflops=0.4, **changes):
    share = tflops / 0.5
    fields = {"tflops": tflops, "tflops_low": tflops, "tflops_high": tflops, "efficiency": share}
    fields |= {"efficiency_low": share, "efficiency_high": share, "shape": shape}
    return make_record(**(fields | {"case": str((shape, *changes.values()))} | changes))


def test_of_burst_and_sustained_the_grid_shows_the_sustained_figure(make_record):
    settled, cool = product(make_record, phase="sustained"), product(make_record, tflops=0.3, phase="burst")
    other = product(make_record, "9x9x9")
    for records in ((settled, cool, other), (cool, settled, other)):
        assert grid(*records).rows == (("8x8x8", "80.0%"), ("9x9x9", "80.0%"))


def test_of_several_devices_the_grid_shows_the_slowest(make_record):
    made = [product(make_record, tflops=tflops, device=f"cuda:{tflops}") for tflops in (0.4, 0.2, 0.3)]
    assert grid(*made, product(make_record, "9x9x9")).rows[0] == ("8x8x8", "40.0%")


@pytest.mark.parametrize("what", [{"verdict": "unverified", "verdicts": ("unverified",)}, {"fill": "zeros"}])
def test_wrong_results_and_unreal_inputs_are_never_in_the_grid(make_record, what):
    records = [
        product(make_record, "8x8x8"),
        product(make_record, "9x9x9"),
        product(make_record, "7x7x7", **what),
    ]
    assert [row[0] for row in grid(*records).rows] == ["8x8x8", "9x9x9"]
    assert [cell.row for cell in grid(*records).charts[0].cells] == ["8x8x8", "9x9x9"]


def test_one_shape_makes_no_grid(make_record):
    assert grid(product(make_record), product(make_record, dtype="fp32")).rows == ()
    assert grid().charts == ()


def test_if_a_product_has_no_rating_the_grid_is_of_throughput(make_record):
    unrated = dict.fromkeys(("efficiency", "efficiency_low", "efficiency_high", "nominal_tflops"))
    table = grid(product(make_record), product(make_record, "9x9x9", dtype="fp32", **unrated))
    assert table.heading.endswith("in TFLOPS")
    assert table.column_names == ("shape", "bf16", "fp32")
    assert table.rows == (("8x8x8", "0.400", "–"), ("9x9x9", "–", "0.400"))
    assert table.charts[0].whole is None


def test_a_field_of_the_grid_agrees_with_the_table(charts):
    chart = charts["shapes"]
    assert (chart.rows[0], chart.columns) == ("8192x8192x8192", ("bf16", "fp16", "tf32"))
    fields = {(cell.row, cell.column): cell.text for cell in chart.cells}
    assert fields["8192x8192x8192", "tf32"] == "81.9%"
    assert ("2048x2048x2048", "tf32") not in fields
    assert chart.whole == 1.0


# Over time


def course(count, settled_s=2.0, label="a product", known=True):
    moments = [
        Moment(at_s=0.1 * 2**n, tflops=200.0 - n, power_w=300.0 + n if known else None) for n in range(count)
    ]
    return TimeSeries(label, tuple(moments), settled_s)


def courses(*found):
    return TimeChart("from-idle", "a title", "what it shows.", found)


def test_a_time_series_is_drawn_with_clock_power_and_temperature_below(charts):
    svg = vega.draw_svg(vega.make_spec(charts["from-idle"]))
    words = texts(svg)
    for title in ("TFLOPS", "SM clock, MHz", "power, W", "temperature, °C"):
        assert title in words
    assert words.count("seconds since idle (log scale)") == 1
    assert len(nodes(svg, "line mark")) == 4
    assert words.count("settled") == 1


def test_a_time_series_of_throughput_alone_has_one_panel():
    spec = vega.make_spec(courses(course(5, settled_s=None, known=False)))
    assert len(spec["vconcat"]) == 1
    assert "settled" not in texts(vega.draw_svg(spec))


def test_time_series_of_two_devices_have_two_colours(a800_run):
    svg = vega.draw_svg(vega.make_spec(charts_of(*run_view(a800_run(1.0, 0.9)).tables)["from-idle"]))
    assert len(nodes(svg, "line mark")) == 8
    assert {"cuda:0 matmul bf16 8192x8192x8192", "cuda:1 matmul bf16 8192x8192x8192"} <= set(texts(svg))
    assert svg.count(f'stroke="{SERIES[0]}"') == svg.count(f'stroke="{SERIES[1]}"')


def test_without_a_time_series_there_is_no_chart_of_one(make_run, make_record):
    assert "from-idle" not in charts_of(*run_view(make_run(make_record())).tables)


# On a terminal


def test_a_waterfall_is_a_bar_a_stage_against_the_whole(charts):
    lines = textchart.draw_lines(charts["chain"], 80)
    assert [line.split()[-1] for line in lines] == ["100.0%", "97.5%", "85.9%", "81.2%", "75.6%", "64.1%"]
    assert lines[0].startswith("nominal ")
    assert all(len(line) <= 80 for line in lines)
    full = lines[0].count("█")
    assert lines[5].count("█") == pytest.approx(full * 205 / 320, abs=1)
    assert ["·" in line for line in lines] == [False, True, True, True, True, True]


def test_a_gain_beyond_the_whole_is_the_longest_bar():
    lines = textchart.draw_lines(waterfall(1.0, 0.5, 1.25), 60)
    lengths = [line.count("█") for line in lines]
    assert lengths[2] > lengths[0] > lengths[1]


def test_a_terminal_too_narrow_for_bars_gets_none(charts):
    assert textchart.draw_lines(charts["chain"], 30) == []


@pytest.mark.parametrize("name", ["efficiency", "shapes", "roofline", "fleets"])
def test_a_terminal_draws_no_other_kind(charts, name):
    assert textchart.draw_lines(charts[name], 120) == []


def test_several_time_series_are_named_on_a_terminal():
    lines = textchart.draw_lines(courses(course(8), course(8, label="another")), 80)
    assert len(lines) == 4
    assert lines[1].startswith("a product: █ 200")
    assert lines[3].startswith("another: █ 200")
