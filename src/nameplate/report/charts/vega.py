"""Charts as Vega-Lite: one definition a kind gives the interactive chart of the page and the SVG.

Colours are the page's own (CSS variables), each with the value it has where no page defines it: so a chart
follows the reader's colour scheme wherever it stands. Needs the `report` extra.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import escape

from nameplate.base.errors import InputError
from nameplate.base.formatting import figure, percent
from nameplate.base.language import _
from nameplate.report.charts.data import (
    MOST_BARS,
    MOST_POINTS,
    Bars,
    Chart,
    Courses,
    Grid,
    Roofline,
    Waterfall,
)
from nameplate.report.charts.palette import GAIN, INK, LINE, LOSS, MUTED, PAPER, SERIES, style_sheet

_WIDTH = 560
_BAR_PX = 18
# What a moment of a course may tell, the throughput first: the height of its panel.
_PANELS = {"tflops": 220, "sm_clock_mhz": 80, "power_w": 80, "temperature_c": 80}
# Each family more that isn't here costs the library that measures words as long again.
_FONT = "system-ui, sans-serif"

Spec = dict[str, Any]


def spec(chart: Chart) -> Spec:
    """The chart as a Vega-Lite document. Raises InputError where the chart library isn't installed."""
    drawn = _draw(chart)
    return {
        **drawn,
        "description": chart.alt,
        "background": "transparent",
        "config": _config(),
    }


def svg(drawn: Spec) -> str:
    """A spec as SVG that loads nothing and runs nothing, without a ground. InputError as `spec`."""
    try:
        import vl_convert
    except ImportError as error:
        raise _missing(error) from error
    return str(vl_convert.vegalite_to_svg(drawn))


def svg_file(chart: Chart) -> str:
    """The chart as an SVG document of its own, light or dark as its reader's system asks for."""
    drawn = svg(spec(chart))
    opened = drawn.index(">") + 1
    own = (
        f"<title>{escape(chart.title)}</title><desc>{escape(chart.alt)}</desc><style>{style_sheet()}</style>"
    )
    ground = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return f"{drawn[:opened]}{own}{ground}{drawn[opened:]}"


def library() -> Callable[[], str]:
    """Begin to bundle the library that draws specs in a page, as one script that loads nothing.

    Bundling takes seconds and always the same ones, so it goes on in a process of its own; what is returned
    waits for it. InputError as `spec`.
    """
    try:
        import vl_convert  # noqa: F401 - the other process would only say the same later
    except ImportError as error:
        raise _missing(error) from error
    bundling = subprocess.Popen([sys.executable, "-c", _BUNDLE], stdout=subprocess.PIPE, encoding="utf-8")

    def bundled() -> str:
        script, _nothing = bundling.communicate()
        if bundling.returncode:
            raise subprocess.CalledProcessError(bundling.returncode, bundling.args)
        return script

    return bundled


_BUNDLE = """
import sys, vl_convert
sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.write(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
"""


def _draw(chart: Chart) -> Spec:
    match chart:
        case Bars():
            return _bars(chart)
        case Waterfall():
            return _waterfall(chart)
        case Grid():
            return _grid(chart)
        case Roofline():
            return _roofline(chart)
        case Courses():
            return _courses(chart)


def _config() -> Spec:
    words = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    lines = {"gridColor": LINE, "domainColor": LINE, "tickColor": LINE}
    return {
        "font": _FONT,
        "axis": {**words, **lines, "titleFontWeight": "normal"},
        "axisY": {"labelLimit": 400},
        "legend": {**words, "orient": "top", "labelLimit": 0, "titleFontWeight": "normal"},
        "text": {"color": INK, "fontSize": 12},
        "rule": {"color": INK},
        "view": {"stroke": None},
    }


def _with_data(chart: Any, **rows: Sequence[Spec]) -> Spec:
    """A chart of named data; altair would check every value of what stands in the chart itself."""
    found: Spec = chart.to_dict()
    return {**found, "datasets": {name: list(each) for name, each in rows.items()}}


def _colours(alt: Any, field: str, kinds: Sequence[str], title: str | None = None) -> Any:
    """One colour a kind, in the order given; no legend for one alone."""
    colours = [SERIES[n % len(SERIES)] for n in range(len(kinds))]
    legend = alt.Legend() if len(kinds) > 1 else None
    scale = alt.Scale(domain=list(kinds), range=colours)
    return alt.Color(f"{field}:N", title=title, scale=scale, legend=legend)


def _bars(chart: Bars) -> Spec:
    alt = _altair()
    say = percent if chart.is_share else figure
    rows = [
        {
            "label": each.label,
            "kind": each.kind,
            "value": each.value,
            "low": each.low,
            "high": each.high,
            "said": say(each.value),
            "ends": _ends(each.low, each.high, say),
        }
        for each in chart.bars[:MOST_BARS]
    ]
    order = list(dict.fromkeys(row["label"] for row in rows))
    base = alt.Chart(alt.NamedData("bars")).encode(
        y=alt.Y("label:N", title=None, sort=order),
        tooltip=_tips(alt, label=_(chart.of), kind=_("kind"), said=chart.axis, ends=_(chart.ends)),
    )
    across = alt.X(
        "value:Q",
        title=chart.axis,
        axis=alt.Axis(format="%" if chart.is_share else ",~f", tickCount=6),
        # Bars without anything known still have a scale: from nothing to the whole.
        scale=alt.Scale(zero=True),
    )
    beside = {"yOffset": alt.YOffset("kind:N", sort=list(chart.kinds))} if chart.side_by_side else {}
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=across, color=_colours(alt, "kind", chart.kinds), **beside
    )
    ends = (
        base.transform_filter("datum.low !== null")
        .mark_rule(strokeWidth=1.5, aria=False)
        .encode(x="low:Q", x2="high:Q", **beside)
    )
    layers: list[Any] = [bars, ends]
    if chart.is_share:
        whole = alt.Chart(alt.NamedData("whole")).mark_rule(strokeDash=[4, 3], color=MUTED, aria=False)
        layers.append(whole.encode(x="one:Q"))
    high = _BAR_PX * len(order) * (max(len(chart.kinds), 1) * 0.7 if chart.side_by_side else 1)
    drawn = alt.layer(*layers).properties(width=_WIDTH, height=max(high, _BAR_PX))
    return _with_data(drawn, bars=rows, **({"whole": [{"one": 1}]} if chart.is_share else {}))


def _waterfall(chart: Waterfall) -> Spec:
    alt = _altair()
    rows, before = [], chart.steps[0].value
    for step in chart.steps:
        lost = step.value < before
        rows.append(
            {
                "label": step.label,
                "value": step.value,
                "before": before,
                "kept": min(step.value, before),
                "change": None if step.value == before else _("lost") if lost else _("gained"),
                "low": step.low,
                "high": step.high,
                "how": step.how,
                "said": percent(step.value),
                "ends": _ends(step.low, step.high, percent),
                "end": max(step.value, before, step.high or 0.0),
            }
        )
        before = step.value
    changes = [_("lost"), _("gained")]
    base = alt.Chart(alt.NamedData("steps")).encode(
        y=alt.Y("label:N", title=None, sort=[step.label for step in chart.steps]),
        tooltip=_tips(alt, label=_("stage"), said=_("of nominal"), ends=_("95 % interval"), how=_("how")),
    )
    axis = alt.Axis(format="%", tickCount=6)
    kept = base.mark_bar(color=SERIES[0], cornerRadiusEnd=2).encode(
        x=alt.X("kept:Q", title=_("of nominal"), axis=axis, scale=alt.Scale(zero=True))
    )
    change = (
        base.transform_filter("datum.change !== null")
        .mark_bar(opacity=0.55, aria=False)
        .encode(
            x="before:Q",
            x2="value:Q",
            color=alt.Color("change:N", title=None, scale=alt.Scale(domain=changes, range=[LOSS, GAIN])),
        )
    )
    ends = base.transform_filter("datum.low !== null").mark_rule(strokeWidth=1.5, aria=False).encode(
        x="low:Q", x2="high:Q"
    )  # fmt: skip
    text = base.mark_text(align="left", dx=6, aria=False).encode(x="end:Q", text="said:N")
    drawn = alt.layer(kept, change, ends, text).properties(width=_WIDTH, height=26 * len(rows))
    return _with_data(drawn, steps=rows)


def _grid(chart: Grid) -> Spec:
    alt = _altair()
    shown = chart.rows[:MOST_BARS]
    rows = [
        {"row": each.row, "column": each.column, "value": each.value, "text": each.text}
        for each in chart.cells
        if each.row in shown
    ]
    most = chart.whole or max((each.value for each in chart.cells), default=1.0)
    base = alt.Chart(alt.NamedData("cells")).encode(
        x=alt.X(
            "column:N",
            title=None,
            sort=list(chart.columns),
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y("row:N", title=None, sort=list(shown), axis=alt.Axis(ticks=False, domain=False)),
        tooltip=_tips(alt, row=_("shape"), column=_("dtype"), text=_("achieved")),
    )
    # A shade is one colour more or less opaque: the text on it stays readable in either colour scheme.
    opacity = alt.FillOpacity(
        "value:Q", scale=alt.Scale(domain=[0, most], range=[0.04, 0.6], clamp=True), legend=None
    )
    fields = base.mark_rect(fill=SERIES[0], stroke=PAPER, strokeWidth=2).encode(fillOpacity=opacity)
    drawn = alt.layer(fields, base.mark_text(aria=False).encode(text="text:N"))
    return _with_data(drawn.properties(width=_WIDTH, height=26 * len(shown)), cells=rows)


def _roofline(chart: Roofline) -> Spec:
    alt = _altair()
    rows = [
        {
            "label": each.label,
            "kind": each.kind,
            "intensity": each.flop_per_byte,
            "tflops": each.tflops,
            "said": figure(each.tflops),
            "said_intensity": figure(each.flop_per_byte),
        }
        for each in chart.points[:MOST_POINTS]
    ]
    lines = _roof_lines(chart)
    across = alt.X(
        "intensity:Q",
        title=_("arithmetic intensity, FLOP a byte (log scale)"),
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format="~g", tickCount=6, grid=False),
    )
    up = alt.Y(
        "tflops:Q",
        title="TFLOPS",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format="~g", tickCount=5, grid=False),
    )
    roofs = alt.Chart(alt.NamedData("roofs")).encode(x=across, y=up)
    drawn = roofs.mark_line(color=MUTED, strokeWidth=1.5).encode(detail="roof:N")
    names = (
        roofs.transform_filter("datum.named")
        .mark_text(align="right", dx=-4, dy=-7, color=MUTED, fontSize=11)
        .encode(text="roof:N")
    )
    points = (
        alt.Chart(alt.NamedData("points"))
        .mark_point(filled=True, size=60, opacity=0.85)
        .encode(
            x=across,
            y=up,
            color=_colours(alt, "kind", chart.kinds),
            shape=alt.Shape("kind:N", sort=list(chart.kinds), legend=None),
            tooltip=_tips(
                alt, label=_("case"), kind=_("dtype"), said="TFLOPS", said_intensity=_("FLOP a byte")
            ),
        )
    )  # fmt: skip
    whole = alt.layer(drawn, names, points).properties(width=_WIDTH, height=320)
    return _with_data(whole, points=rows, roofs=lines)


def _roof_lines(chart: Roofline) -> list[Spec]:
    """Each roof as a line of points, memory's up to where it meets the highest roof of compute."""
    intensities = [each.flop_per_byte for each in chart.points]
    least, most = min(intensities) / 3, max(intensities) * 3
    highest = max(
        [each.tflops for each in chart.roofs if each.tflops] + [each.tflops for each in chart.points]
    )
    found: list[Spec] = []
    for roof in chart.roofs:
        if roof.tflops is not None:
            ends = [(least, roof.tflops), (most, roof.tflops)]
        else:
            per_byte = (roof.gb_s or 0.0) / 1e3  # TFLOPS at one FLOP a byte
            ends = [(least, least * per_byte), (highest / per_byte, highest)]
        found += [
            {"roof": roof.label, "intensity": at, "tflops": tflops, "named": n == 1}
            for n, (at, tflops) in enumerate(ends)
        ]
    return found


def _courses(chart: Courses) -> Spec:
    """Time is logarithmic: what the first second, minute and ten minutes take stands side by side. A dashed
    line marks where a course has settled.
    """
    alt = _altair()
    rows = [
        {"case": course.label, **moment.model_dump()} for course in chart.courses for moment in course.moments
    ]
    settled = [
        {"case": course.label, "at_s": course.settled_s} for course in chart.courses if course.settled_s
    ]
    known = [name for name in _PANELS if any(row[name] is not None for row in rows)]
    times = [row["at_s"] for row in rows]
    colours = _colours(alt, "case", [course.label for course in chart.courses])
    panels = []
    for name in known:
        first, last = name == known[0], name == known[-1]
        across = alt.X(
            "at_s:Q",
            title=_("seconds after the onset from idle (log scale)") if last else None,
            scale=alt.Scale(type="log", domain=[min(times), max(times)], nice=False),
            axis=alt.Axis(format="~g", labels=last, tickCount=8),
        )
        up = alt.Y(f"{name}:Q", title=_panel_words(name), scale=alt.Scale(zero=False))
        line = alt.Chart(alt.NamedData("moments")).transform_filter(f"datum.{name} !== null")
        mark = alt.Chart(alt.NamedData("settled")).encode(x="at_s:Q")
        layers = [
            # A line tells nothing of its own; the moments on it do, unseen.
            line.mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(opacity=0, size=60, aria=False)).encode(
                x=across,
                y=up,
                color=colours,
                tooltip=[
                    *_tips(alt, case=_("case")),
                    alt.Tooltip("at_s:Q", title=_("seconds"), format=",.3~r"),
                    alt.Tooltip(f"{name}:Q", title=_panel_words(name), format=",.4~r"),
                ],
            ),
            mark.mark_rule(strokeDash=[4, 3], clip=True).encode(color=colours),
        ]
        if first and settled:
            text = alt.Chart(alt.NamedData("first_settled")).encode(x="at_s:Q")
            layers.append(text.mark_text(text=_("settled"), align="right", dx=-4).encode(y=alt.value(8)))
        panels.append(alt.layer(*layers).properties(width=_WIDTH, height=_PANELS[name]))
    first_settled = [min(settled, key=lambda row: float(str(row["at_s"])))] if settled else []
    data = {"moments": rows, "settled": settled, "first_settled": first_settled}
    return _with_data(alt.vconcat(*panels, spacing=8), **data)


def _panel_words(name: str) -> str:
    return {
        "tflops": "TFLOPS",
        "sm_clock_mhz": _("SM clock, MHz"),
        "power_w": _("power, W"),
        "temperature_c": _("temperature, °C"),
    }[name]


def _tips(alt: Any, **fields: str) -> list[Any]:
    """What hovering tells: texts of a row, each with what it is."""
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in fields.items()]


def _ends(low: float | None, high: float | None, say: Callable[[float | None], str]) -> str:
    return "–" if low is None or high is None else f"{say(low)} … {say(high)}"


def _altair() -> Any:
    """The chart library, imported only where a chart is drawn."""
    try:
        import altair
    except ImportError as error:
        raise _missing(error) from error
    return altair


def _missing(error: ImportError) -> InputError:
    return InputError(
        f"a chart needs {error.name}", where="bench report", expected="pip install 'nameplate[report]'"
    )
