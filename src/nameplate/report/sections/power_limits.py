"""The best product by power limit, over the devices and runs whose owner had set different ones."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

from nameplate.base.formatting import change, count, figure, percent, ratio, stated, with_half_width
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.text import plain
from nameplate.chain.power_limits import LimitCurve, LimitPoint
from nameplate.report.charts.data import Curve, CurvePoint
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, table_of

_Row = tuple[LimitCurve, LimitPoint]
_MEANING = N_("Limits are those that the driver named when each run began; none was set here.")


def power_limits_table(curves: Sequence[LimitCurve], labels: Labels) -> Table:
    """A row a limit of each curve, the lowest first, and a chart each; empty where there is no curve.

    `speed` is relative to the highest limit; where others published a curve of the part, theirs stands beside
    it: of training, which a limit slows differently from a product alone.
    """
    if not curves:
        return Table("", (), ())
    several = len({(each.part, each.case) for each in curves}) > 1
    fields = [Field[_Row]("part", lambda row: plain(row[0].part), unbroken=True)] if several else []
    fields += [Field[_Row]("case", lambda row: labels.case(row[0].case))] if several else []
    fields += [
        Field[_Row](N_("limit, W"), lambda row: stated(row[1].limit_w), is_number=True),
        Field[_Row]("TFLOPS", _tflops_text, is_number=True),
        Field[_Row](N_("drew, W"), lambda row: figure(row[1].power_w), is_number=True),
        Field[_Row]("TFLOPS/W", lambda row: figure(row[1].tflops_per_w), is_number=True),
        Field[_Row](N_("speed"), lambda row: ratio(row[0].speed_at(row[1])), is_number=True),
    ]
    rows = [(each, point) for each in curves for point in each.points]
    if any(_find_published(*row) is not None for row in rows):
        fields.append(
            Field[_Row](
                N_("published"), lambda row: ratio(_find_published(*row)), is_number=True, drop_priority=0
            )
        )
    fields.append(Field[_Row](N_("devices"), lambda row: count(len(row[1].products)), is_number=True))
    lead = join_sentences([*(_describe(each, labels) for each in curves), _(_MEANING)])
    charts = tuple(_draw(each, labels) for each in curves)
    return table_of(_("By power limit"), fields, rows, charts=charts, lead=lead)


def _tflops_text(row: _Row) -> str:
    return with_half_width(row[1].tflops) + ("" if row[1].trusted else " ?")


def _find_published(curve: LimitCurve, point: LimitPoint) -> float | None:
    """The published speed of the part at a limit ÷ that at the curve's highest; None where it isn't known."""
    from nameplate.fleet.power import find_published_curve

    published, usual = find_published_curve(curve.part), curve.points[-1].limit_w
    if published is None or not published.least <= point.limit_w <= usual <= published.most:
        return None
    return geometric_mean(published.speeds(point.limit_w, usual))


def _describe(curve: LimitCurve, labels: Labels) -> str:
    """What the lowest limit leaves, in a sentence."""
    lowest, highest = curve.points[0], curve.points[-1]
    said = {
        "case": labels.case(curve.case),
        "low": stated(lowest.limit_w),
        "high": stated(highest.limit_w),
        "speed": percent(curve.speed_at(lowest)),
    }
    if lowest.tflops_per_w is None or highest.tflops_per_w is None:
        return _("At {low} W {case} does {speed} of what it does at {high} W.", **said)
    return _(
        "At {low} W {case} does {speed} of what it does at {high} W; TFLOPS/W change by {more}.",
        more=change(lowest.tflops_per_w / highest.tflops_per_w - 1),
        **said,
    )


def _draw(curve: LimitCurve, labels: Labels) -> Curve:
    points = tuple(
        CurvePoint(
            _("{limit} W", limit=stated(each.limit_w)),
            each.limit_w,
            each.tflops.value,
            each.tflops.low,
            each.tflops.high,
            each.tflops_per_w,
        )
        for each in curve.points
    )
    name = f"{plain(curve.part)} {labels.case(curve.case)}"
    alt = _(
        "{name} at {limits}: {tflops} TFLOPS.",
        name=name,
        limits=_(", ").join(point.label for point in points),
        tflops=_(", ").join(figure(point.value) for point in points),
    )
    title = _("{name} by power limit", name=name)
    return Curve("power-limits", title, alt, _("power limit, W"), ("TFLOPS", "TFLOPS/W"), points)
