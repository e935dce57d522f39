"""The pictures of a run as SVG: efficiency per case, and the course from idle. Needs the `report` extra."""

from __future__ import annotations

from typing import Any

from nameplate.derate.chain import admitted
from nameplate.errors import InputError
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.onset import begun_from_idle, product
from nameplate.report.work import computed
from nameplate.store.folder import Run

_VERDICT_COLOURS = {"believed": "#2f6f9f", "not believed": "#c0712f"}
_WIDTH = 520
# What a moment of a course may tell, the throughput first: its title, and the height of its panel.
_PANELS = {
    "tflops": ("TFLOPS", 220),
    "sm_clock_mhz": ("SM clock, MHz", 80),
    "power_w": ("power, W", 80),
    "temperature_c": ("temperature, °C", 80),
}


def efficiency_svg(run: Run) -> str | None:
    """Draw achieved ÷ nominal per case (achieved TFLOPS where nominal isn't known) as an SVG document.

    None where no case has a throughput. Raises InputError where the chart libraries aren't installed.
    """
    records = computed(run.records)
    if not records:
        return None
    rated = [record for record in records if record.efficiency is not None]
    labels = Labels.of(run)
    rows = [_row(record, labels, bool(rated)) for record in rated or records]
    return _draw_bars(rows, "achieved ÷ nominal" if rated else "achieved, TFLOPS", bool(rated))


def _row(record: Record, labels: Labels, rated: bool) -> dict[str, Any]:
    names = (
        ("efficiency", "efficiency_low", "efficiency_high")
        if rated
        else ("tflops", "tflops_low", "tflops_high")
    )
    value, low, high = (getattr(record, name) for name in names)
    return {
        "case": labels.row(record.device, record.case),
        "value": value,
        "low": low,
        "high": high,
        "verdict": "believed" if admitted(record) else "not believed",
    }


def _draw_bars(rows: list[dict[str, Any]], axis: str, rated: bool) -> str:
    alt = _altair()
    order = [row["case"] for row in rows]
    verdicts = alt.Color(
        "verdict:N",
        title="verdict",
        scale=alt.Scale(domain=list(_VERDICT_COLOURS), range=list(_VERDICT_COLOURS.values())),
    )
    across = alt.X("value:Q", title=axis, axis=alt.Axis(format="%" if rated else "~g"))
    base = alt.Chart({"values": rows}).encode(
        y=alt.Y("case:N", title=None, sort=order, axis=alt.Axis(labelLimit=0))
    )
    bars = base.mark_bar(height=14).encode(x=across, color=verdicts)
    ends = base.mark_rule(strokeWidth=2, color="#222").encode(x="low:Q", x2="high:Q")
    layers: list[Any] = [bars, ends]
    if rated:
        nominal = alt.Chart({"values": [{"one": 1}]}).mark_rule(strokeDash=[4, 3], color="#222")
        layers.append(nominal.encode(x="one:Q"))
    return _svg(alt.layer(*layers).properties(width=_WIDTH, background="white"))


def onset_svg(run: Run) -> str | None:
    """Draw throughput over the time from idle, with clock, power and temperature beneath where known.

    Time is logarithmic: what the first second, minute and ten minutes take stands side by side. A dashed line
    marks where a course has settled. None where no record has a course. Raises InputError where the chart
    libraries aren't installed.
    """
    labels = Labels.of(run)
    bursts = begun_from_idle([record for record in run.records if record.status == "ok"])
    if not bursts:
        return None
    rows = [
        {"case": product(labels, burst), **moment.model_dump()} for burst in bursts for moment in burst.course
    ]
    settled = [
        {"case": product(labels, burst), "at_s": burst.settled_s} for burst in bursts if burst.settled_s
    ]
    return _draw_courses(rows, settled)


def _draw_courses(rows: list[dict[str, Any]], settled: list[dict[str, Any]]) -> str:
    alt = _altair()
    known = [name for name in _PANELS if any(row[name] is not None for row in rows)]
    times = [row["at_s"] for row in rows]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    colours = alt.Color("case:N", title=None, sort=cases, legend=alt.Legend(orient="top", labelLimit=0))
    title = "seconds after the onset from idle (log scale)"
    mark = alt.Chart({"values": settled}).encode(x="at_s:Q", color=colours)
    panels = []
    for name in known:
        first, last = name == known[0], name == known[-1]
        across = alt.X(
            "at_s:Q",
            title=title if last else None,
            scale=alt.Scale(type="log", domain=[min(times), max(times)], nice=False),
            axis=alt.Axis(format="~g", labels=last, tickCount=8),
        )
        words, height = _PANELS[name]
        up = alt.Y(f"{name}:Q", title=words, scale=alt.Scale(zero=False))
        values = [row for row in rows if row[name] is not None]
        layers = [
            alt.Chart({"values": values}).mark_line(strokeWidth=1.5).encode(x=across, y=up, color=colours),
            mark.mark_rule(strokeDash=[4, 3], clip=True),
        ]
        if first and settled:
            text = alt.Chart({"values": [min(settled, key=lambda row: row["at_s"])]}).encode(x="at_s:Q")
            layers.append(text.mark_text(text="settled", align="right", dx=-4).encode(y=alt.value(8)))
        panels.append(alt.layer(*layers).properties(width=_WIDTH, height=height))
    return _svg(alt.vconcat(*panels, background="white", spacing=8))


def _altair() -> Any:
    """The chart library, imported only where a chart is drawn."""
    try:
        import altair
        import vl_convert  # noqa: F401 - both are needed, and both come with the extra
    except ImportError as error:
        raise InputError(
            f"a chart needs {error.name}", where="bench report", expected="pip install 'nameplate[report]'"
        ) from error
    return altair


def _svg(chart: Any) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
