"""Every case under the roofs of compute and memory (Williams, Waterman and Patterson, CACM 52(4), 2009)."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure
from nameplate.base.language import _
from nameplate.record import Record
from nameplate.report.charts.data import MOST_POINTS, Chart, Point, Roof, Roofline, first
from nameplate.report.labels import Labels


def roofline(records: Sequence[Record], labels: Labels) -> list[Chart]:
    """Achieved TFLOPS over FLOP a byte, of every case that counts both, under what bounds it.

    A roof of compute is the nominal figure of a dtype; memory's roof is the fastest copy or triad of the run,
    measured and so no nominal figure. Nothing where no case counts both, or no memory was measured.
    """
    moved = [each for each in records if each.workload == "memory" and each.bandwidth_gb_s is not None]
    worked = [each for each in records if each.tflops is not None and each.flops and each.bytes]
    if not moved or not worked:
        return []
    points = tuple(
        Point(
            labels.row(each.device, each.case),
            (each.flops or 0) / (each.bytes or 1),
            each.tflops or 0.0,
            each.dtype,
        )
        for each in worked
    )
    fastest = max(moved, key=lambda each: each.bandwidth_gb_s or 0.0)
    roofs = (*_nominal(worked), _memory(fastest, labels))
    title = _("Roofline: achieved TFLOPS over FLOP a byte")
    cut = first(MOST_POINTS, points)
    if cut is not None:
        title = _("{title}: the first {count} of {all}", title=title, count=cut, all=len(points))
    alt = _(
        "{count} cases under the roofs of {roofs}.",
        count=len(points),
        roofs=_(", ").join(roof.label for roof in roofs),
    )
    return [Roofline("roofline", title, alt, points, tuple(dict.fromkeys(p.kind for p in points)), roofs)]


def _nominal(worked: Sequence[Record]) -> list[Roof]:
    rated = {(each.dtype, each.nominal_tflops): None for each in worked if each.nominal_tflops}
    by_tflops: dict[float, list[str]] = {}
    for dtype, tflops in rated:
        by_tflops.setdefault(tflops or 0.0, []).append(dtype)
    return [
        Roof(
            _("nominal {dtypes} {tflops}", dtypes=_(", ").join(dtypes), tflops=figure(tflops)), tflops=tflops
        )
        for tflops, dtypes in by_tflops.items()
    ]


def _memory(fastest: Record, labels: Labels) -> Roof:
    reached = fastest.bandwidth_gb_s or 0.0
    case = labels.row(fastest.device, fastest.case)
    return Roof(_("{case}, {gb_s} GB/s measured", case=case, gb_s=figure(reached)), gb_s=reached)
