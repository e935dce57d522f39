"""Charts as Vega-Lite: one specification a chart, for the interactive page and for SVG files.

Colours are CSS variables of the page, each with its light value as the fallback: a chart follows the reader's
colour scheme, and is readable where no page defines the variables. Needs the `report` extra.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import escape

from nameplate.base.errors import InputError
from nameplate.base.formatting import UNKNOWN, figure, percent
from nameplate.base.language import _
from nameplate.report.charts.data import (
    MOST_BARS,
    MOST_POINTS,
    Bars,
    Chart,
    Curve,
    Grid,
    Roofline,
    TimeChart,
    Waterfall,
)
from nameplate.report.charts.palette import GAIN, INK, LINE, LOSS, MUTED, PAPER, SERIES, style_sheet

_WIDTH = 560
_BAR_PX = 18
_ROW_PX = 26
# The panels of a time series, by the field that each draws, with their heights.
_PANELS_PX = {"tflops": 220, "sm_clock_mhz": 80, "power_w": 80, "temperature_c": 80}
_CURVE_PX = (200, 120)
# vl-convert takes as long again to measure text for each further family that isn't installed.
_FONT = "system-ui, sans-serif"
_DASHED = [4, 3]
# A second process runs this: bundling takes seconds, and vl-convert does one thing at a time.
_BUNDLE_LIBRARY = """
import sys, vl_convert
sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.write(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
"""

Spec = dict[str, Any]


def make_spec(chart: Chart) -> Spec:
    """Return the chart as a Vega-Lite document. Raises InputError where altair isn't installed."""
    try:
        import altair as alt
    except ImportError as error:
        raise _not_installed(error) from error
    match chart:
        case Bars():
            drawn, datasets = _draw_bars(alt, chart)
        case Waterfall():
            drawn, datasets = _draw_waterfall(alt, chart)
        case Grid():
            drawn, datasets = _draw_grid(alt, chart)
        case Roofline():
            drawn, datasets = _draw_roofline(alt, chart)
        case TimeChart():
            drawn, datasets = _draw_time_series(alt, chart)
        case Curve():
            drawn, datasets = _draw_curve(alt, chart)
    # Data are added here: altair would validate each value of data that it is given.
    own = {"datasets": datasets, "description": chart.alt, "background": "transparent", "config": _CONFIG}
    return {**drawn.to_dict(), **own}


def draw_svg(spec: Spec) -> str:
    """Return a specification as SVG without scripts, external files or a background.

    Raises InputError where vl-convert isn't installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise _not_installed(error) from error
    return str(vl_convert.vegalite_to_svg(spec))


def draw_svg_file(chart: Chart) -> str:
    """Return the chart as a complete SVG document in light or dark colours, as the reader's system asks.

    Raises InputError as `make_spec` and `draw_svg` do.
    """
    drawn = draw_svg(make_spec(chart))
    start = drawn.index(">") + 1
    title = f"<title>{escape(chart.title)}</title><desc>{escape(chart.alt)}</desc>"
    background = f'<style>{style_sheet()}</style><rect width="100%" height="100%" fill="{PAPER}"/>'
    return f"{drawn[:start]}{title}{background}{drawn[start:]}"


def start_bundling_library() -> Callable[[], str]:
    """Start to bundle Vega as one script that loads nothing; call the result to wait for the script.

    Raises InputError where vl-convert isn't installed.
    """
    try:
        import vl_convert  # noqa: F401 - tried here, since the other process would fail only later
    except ImportError as error:
        raise _not_installed(error) from error
    command = [sys.executable, "-c", _BUNDLE_LIBRARY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")

    def wait_for_script() -> str:
        script, _no_errors = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return script

    return wait_for_script


_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
_LINES = {"gridColor": LINE, "domainColor": LINE, "tickColor": LINE}
_CONFIG: Spec = {
    "font": _FONT,
    "axis": {**_TEXT, **_LINES, "titleFontWeight": "normal"},
    "axisY": {"labelLimit": 400},
    "legend": {**_TEXT, "orient": "top", "labelLimit": 0, "titleFontWeight": "normal"},
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": INK},
    "view": {"stroke": None},
}

_Drawn = tuple[Any, dict[str, list[Spec]]]  # an altair chart, and the rows of each data set that it names


def _draw_bars(alt: Any, chart: Bars) -> _Drawn:
    printed = percent if chart.is_share else figure
    rows = [
        {
            "label": bar.label,
            "kind": bar.kind,
            "value": bar.value,
            "low": bar.low,
            "high": bar.high,
            "said": printed(bar.value),
            "ends": _interval_text(bar.low, bar.high, printed),
        }
        for bar in chart.bars[:MOST_BARS]
    ]
    datasets: dict[str, list[Spec]] = {"bars": rows}
    labels = list(dict.fromkeys(bar.label for bar in chart.bars[:MOST_BARS]))
    across = alt.X(
        "value:Q",
        title=chart.axis,
        axis=alt.Axis(format="%" if chart.is_share else ",~f", tickCount=6),
        scale=alt.Scale(zero=True),  # so that bars without any known value have a scale too
    )
    offset = {"yOffset": alt.YOffset("kind:N", sort=list(chart.kinds))} if chart.side_by_side else {}
    label_title, interval_title = _(chart.label_title), _(chart.interval_title)
    base = alt.Chart(alt.NamedData("bars")).encode(
        y=alt.Y("label:N", title=None, sort=labels),
        tooltip=_tooltip(alt, label=label_title, kind=_("kind"), said=chart.axis, ends=interval_title),
    )
    colour = _colour_by(alt, "kind", chart.kinds)
    layers = [
        base.mark_bar(cornerRadiusEnd=2).encode(x=across, color=colour, **offset),
        _interval_lines(base).encode(**offset),
    ]
    if chart.is_share:
        datasets["whole"] = [{"one": 1}]
        whole = alt.Chart(alt.NamedData("whole")).mark_rule(strokeDash=_DASHED, color=MUTED, aria=False)
        layers.append(whole.encode(x="one:Q"))
    bars_a_label = max(len(chart.kinds), 1) * 0.7 if chart.side_by_side else 1
    height = max(_BAR_PX * len(labels) * bars_a_label, _BAR_PX)
    return alt.layer(*layers).properties(width=_WIDTH, height=height), datasets


def _draw_waterfall(alt: Any, chart: Waterfall) -> _Drawn:
    rows: list[Spec] = []
    before = chart.steps[0].value
    for step in chart.steps:
        change = _("lost") if step.value < before else _("gained")
        rows.append(
            {
                "label": step.label,
                "value": step.value,
                "before": before,
                "kept": min(step.value, before),
                "change": None if step.value == before else change,
                "low": step.low,
                "high": step.high,
                "how": step.how,
                "said": percent(step.value),
                "ends": _interval_text(step.low, step.high, percent),
                "end": max(step.value, before, step.high or 0.0),
            }
        )
        before = step.value
    base = alt.Chart(alt.NamedData("steps")).encode(
        y=alt.Y("label:N", title=None, sort=[step.label for step in chart.steps]),
        tooltip=_tooltip(
            alt, label=_(chart.step_title), said=_(chart.whole), ends=_("95 % interval"), how=_("how")
        ),
    )
    across = alt.X(
        "kept:Q",
        title=_(chart.whole),
        axis=alt.Axis(format="%", tickCount=6),
        scale=alt.Scale(zero=True),
    )
    change_scale = alt.Scale(domain=[_("lost"), _("gained")], range=[LOSS, GAIN])
    changes = base.transform_filter("datum.change !== null").mark_bar(opacity=0.55, aria=False)
    drawn = alt.layer(
        base.mark_bar(color=SERIES[0], cornerRadiusEnd=2).encode(x=across),
        changes.encode(
            x="before:Q", x2="value:Q", color=alt.Color("change:N", title=None, scale=change_scale)
        ),
        _interval_lines(base),
        base.mark_text(align="left", dx=6, aria=False).encode(x="end:Q", text="said:N"),
    )
    return drawn.properties(width=_WIDTH, height=_ROW_PX * len(rows)), {"steps": rows}


def _draw_grid(alt: Any, chart: Grid) -> _Drawn:
    shown = chart.rows[:MOST_BARS]
    rows = [
        {"row": cell.row, "column": cell.column, "value": cell.value, "text": cell.text}
        for cell in chart.cells
        if cell.row in shown
    ]
    most = chart.whole or max((cell.value for cell in chart.cells), default=1.0)
    top = alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)
    base = alt.Chart(alt.NamedData("cells")).encode(
        x=alt.X("column:N", title=None, sort=list(chart.columns), axis=top),
        y=alt.Y("row:N", title=None, sort=list(shown), axis=alt.Axis(ticks=False, domain=False)),
        tooltip=_tooltip(alt, row=_("shape"), column=_("dtype"), text=_("achieved")),
    )
    # The shade is the opacity of one colour, so that text on it is readable in the light and the dark scheme.
    shade = alt.Scale(domain=[0, most], range=[0.04, 0.6], clamp=True)
    fields = base.mark_rect(fill=SERIES[0], stroke=PAPER, strokeWidth=2)
    drawn = alt.layer(
        fields.encode(fillOpacity=alt.FillOpacity("value:Q", scale=shade, legend=None)),
        base.mark_text(aria=False).encode(text="text:N"),
    )
    return drawn.properties(width=_WIDTH, height=_ROW_PX * len(shown)), {"cells": rows}


def _draw_roofline(alt: Any, chart: Roofline) -> _Drawn:
    rows = [
        {
            "label": point.label,
            "kind": point.kind,
            "intensity": point.flop_per_byte,
            "tflops": point.tflops,
            "said": figure(point.tflops),
            "said_intensity": figure(point.flop_per_byte),
            "of_roof": point.said,
        }
        for point in chart.points[:MOST_POINTS]
    ]
    log_scale = alt.Scale(type="log", nice=False)
    across = alt.X(
        "intensity:Q",
        title=_("arithmetic intensity, FLOP a byte (log scale)"),
        scale=log_scale,
        axis=alt.Axis(format="~g", tickCount=6, grid=False),
    )
    up = alt.Y(
        "tflops:Q", title="TFLOPS", scale=log_scale, axis=alt.Axis(format="~g", tickCount=5, grid=False)
    )
    roofs = alt.Chart(alt.NamedData("roofs")).encode(x=across, y=up)
    names = roofs.transform_filter("datum.named").mark_text(
        align="right", dx=-4, dy=-7, color=MUTED, fontSize=11
    )
    points = alt.Chart(alt.NamedData("points")).mark_point(filled=True, size=60, opacity=0.85)
    tooltip = _tooltip(
        alt,
        label=_("case"),
        kind=_("dtype"),
        said="TFLOPS",
        said_intensity=_("FLOP a byte"),
        of_roof=_("of roof"),
    )
    drawn = alt.layer(
        roofs.mark_line(color=MUTED, strokeWidth=1.5).encode(detail="roof:N"),
        names.encode(text="roof:N"),
        points.encode(
            x=across,
            y=up,
            color=_colour_by(alt, "kind", chart.kinds),
            shape=alt.Shape("kind:N", sort=list(chart.kinds), legend=None),
            tooltip=tooltip,
        ),
    )
    return drawn.properties(width=_WIDTH, height=320), {"points": rows, "roofs": _roof_lines(chart)}


def _roof_lines(chart: Roofline) -> list[Spec]:
    """Return the two ends of each roof's line; memory's ends where it meets the highest roof of compute."""
    intensities = [point.flop_per_byte for point in chart.points]
    least, most = min(intensities) / 3, max(intensities) * 3
    highest = max(
        [roof.tflops for roof in chart.roofs if roof.tflops] + [point.tflops for point in chart.points]
    )
    ends: list[Spec] = []
    for roof in chart.roofs:
        if roof.tflops is not None:
            start, end = (least, roof.tflops), (most, roof.tflops)
        else:
            tflop_per_flop_a_byte = (roof.gb_s or 0.0) / 1e3
            start, end = (
                (least, least * tflop_per_flop_a_byte),
                (highest / tflop_per_flop_a_byte, highest),
            )
        for (intensity, tflops), named in ((start, False), (end, True)):
            ends.append({"roof": roof.label, "intensity": intensity, "tflops": tflops, "named": named})
    return ends


def _draw_time_series(alt: Any, chart: TimeChart) -> _Drawn:
    """One panel above another for each known field; a dashed line marks where a case has settled."""
    rows: list[Spec] = [
        {"case": series.label, **moment.model_dump()} for series in chart.series for moment in series.moments
    ]
    settled: list[Spec] = [
        {"case": series.label, "at_s": series.settled_s} for series in chart.series if series.settled_s
    ]
    first_settled = sorted(settled, key=lambda row: float(row["at_s"]))[:1]
    titles = {
        "tflops": "TFLOPS",
        "sm_clock_mhz": _("SM clock, MHz"),
        "power_w": _("power, W"),
        "temperature_c": _("temperature, °C"),
    }
    known = [name for name in _PANELS_PX if any(row[name] is not None for row in rows)]
    times = [row["at_s"] for row in rows]
    colour = _colour_by(alt, "case", [series.label for series in chart.series])
    panels = []
    for name in known:
        is_last = name == known[-1]
        across = alt.X(
            "at_s:Q",
            title=_("seconds since idle (log scale)") if is_last else None,
            # Logarithmic, so that the first second takes as much room as the minutes after it.
            scale=alt.Scale(type="log", domain=[min(times), max(times)], nice=False),
            axis=alt.Axis(format="~g", labels=is_last, tickCount=8),
        )
        tooltip = [
            *_tooltip(alt, case=_("case")),
            alt.Tooltip("at_s:Q", title=_("seconds"), format=",.3~r"),
            alt.Tooltip(f"{name}:Q", title=titles[name], format=",.4~r"),
        ]
        moments = alt.Chart(alt.NamedData("moments")).transform_filter(f"datum.{name} !== null")
        # The tooltip belongs to invisible points, since a line can only show one value.
        points = alt.OverlayMarkDef(opacity=0, size=60, aria=False)
        settled_lines = alt.Chart(alt.NamedData("settled")).mark_rule(strokeDash=_DASHED, clip=True)
        layers = [
            moments.mark_line(strokeWidth=1.5, point=points).encode(
                x=across,
                y=alt.Y(f"{name}:Q", title=titles[name], scale=alt.Scale(zero=False)),
                color=colour,
                tooltip=tooltip,
            ),
            settled_lines.encode(x="at_s:Q", color=colour),
        ]
        if settled and name == known[0]:
            text = alt.Chart(alt.NamedData("first_settled")).mark_text(
                text=_("settled"), align="right", dx=-4
            )
            layers.append(text.encode(x="at_s:Q", y=alt.value(8)))
        panels.append(alt.layer(*layers).properties(width=_WIDTH, height=_PANELS_PX[name]))
    datasets = {"moments": rows, "settled": settled, "first_settled": first_settled}
    return alt.vconcat(*panels, spacing=8), datasets


def _draw_curve(alt: Any, chart: Curve) -> _Drawn:
    """One panel below the other for each figure; the first has its intervals."""
    panels, datasets = [], dict[str, list[Spec]]()
    for number, (name, values) in enumerate(chart.panels):
        is_first, is_last = number == 0, number == len(chart.panels) - 1
        datasets[f"panel{number}"] = [
            {
                "label": point.label,
                "at": point.at,
                "value": value,
                "low": point.low if is_first else None,
                "high": point.high if is_first else None,
                "said": figure(value),
                "ends": _interval_text(point.low, point.high, figure) if is_first else UNKNOWN,
            }
            for point, value in zip(chart.points, values, strict=True)
        ]
        across = alt.X(
            "at:Q",
            title=chart.axis if is_last else None,
            scale=alt.Scale(zero=False),
            axis=alt.Axis(labels=is_last, tickCount=8),
        )
        base = alt.Chart(alt.NamedData(f"panel{number}")).encode(
            x=across,
            tooltip=_tooltip(alt, label=chart.axis, said=name, ends=_("95 % interval")),
        )
        colour = SERIES[number]
        line = base.mark_line(color=colour, strokeWidth=1.5, point=alt.OverlayMarkDef(color=colour, size=40))
        layers = [line.encode(y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=True)))]
        if is_first:
            ends = base.mark_rule(strokeWidth=1.5, aria=False)
            layers.append(ends.encode(y=alt.Y("low:Q", title=name), y2="high:Q"))
        panels.append(alt.layer(*layers).properties(width=_WIDTH, height=_CURVE_PX[number]))
    return alt.vconcat(*panels, spacing=8), datasets


def _colour_by(alt: Any, field: str, kinds: Sequence[str]) -> Any:
    """Return one colour a kind, in the order given; a single kind has no legend."""
    colours = [SERIES[n % len(SERIES)] for n in range(len(kinds))]
    legend = alt.Legend() if len(kinds) > 1 else None
    return alt.Color(
        f"{field}:N", title=None, scale=alt.Scale(domain=list(kinds), range=colours), legend=legend
    )


def _interval_lines(base: Any) -> Any:
    """Return a line from `low` to `high` over each bar whose interval is known."""
    return (
        base.transform_filter("datum.low !== null")
        .mark_rule(strokeWidth=1.5, aria=False)
        .encode(x="low:Q", x2="high:Q")
    )


def _tooltip(alt: Any, **titles: str) -> list[Any]:
    """Return what hovering tells: fields that hold text, each with its title."""
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]


def _interval_text(low: float | None, high: float | None, printed: Callable[[float | None], str]) -> str:
    return UNKNOWN if low is None or high is None else f"{printed(low)} … {printed(high)}"


def _not_installed(error: ImportError) -> InputError:
    return InputError(
        f"a chart needs {error.name}", where="bench report", expected="pip install 'nameplate[report]'"
    )
