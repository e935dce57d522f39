"""The one picture of a run: efficiency per case with its interval, as an SVG. Needs the `report` extra."""

from __future__ import annotations

from typing import Any

from nameplate.errors import InputError
from nameplate.record import Record
from nameplate.report.view import label
from nameplate.store.folder import Run

_VERDICT_COLOURS = {"believed": "#2f6f9f", "not believed": "#c0712f"}


def efficiency_svg(run: Run) -> str | None:
    """Draw achieved ÷ nominal per case (achieved TFLOPS where nominal isn't known) as an SVG document.

    None where no case has a throughput. Raises InputError where the chart libraries aren't installed.
    """
    records = [record for record in run.records if record.tflops is not None and record.workload != "memory"]
    if not records:
        return None
    rated = [record for record in records if record.efficiency is not None]
    rows = [_row(record, bool(rated)) for record in rated or records]
    return _draw(rows, "achieved ÷ nominal" if rated else "achieved, TFLOPS", bool(rated))


def _row(record: Record, rated: bool) -> dict[str, Any]:
    names = (
        ("efficiency", "efficiency_low", "efficiency_high")
        if rated
        else ("tflops", "tflops_low", "tflops_high")
    )
    value, low, high = (getattr(record, name) for name in names)
    return {
        "case": label(record.case),
        "value": value,
        "low": low,
        "high": high,
        "verdict": "believed" if record.verdict == "clean" else "not believed",
    }


def _draw(rows: list[dict[str, Any]], axis: str, rated: bool) -> str:
    try:
        import altair as alt
        import vl_convert
    except ImportError as error:
        raise InputError(
            f"a chart needs {error.name}", where="bench report", expected="pip install 'nameplate[report]'"
        ) from error
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
    chart = alt.layer(*layers).properties(width=520, background="white")
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
