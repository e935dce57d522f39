"""The roofline: every case with its FLOPs a byte, what binds it, and its share of the roof; as table and
chart.
"""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import figure, percent
from nameplate.base.language import N_, _
from nameplate.chain.roofline import MemoryRoof, Placed, place_cases
from nameplate.record import Record
from nameplate.report.charts.data import MOST_POINTS, Point, Roof, Roofline, title_of_first
from nameplate.report.labels import Labels
from nameplate.report.view import Field, Table, table_of

_BOUNDS = {"memory": N_("memory"), "compute": N_("compute")}


def roofline_table(records: Sequence[Record], labels: Labels) -> Table:
    """A row a case that has both roofs, with the chart of them; empty where none has."""
    placed = place_cases(records)
    fields = [
        Field[Placed]("case", lambda each: labels.row(each.record.device, each.record.case)),
        Field[Placed]("FLOP a byte", lambda each: figure(each.flop_per_byte), is_number=True),
        Field[Placed]("bound by", lambda each: _(_BOUNDS[each.bound])),
        Field[Placed]("roof", lambda each: figure(each.roof_tflops), is_number=True, drop_priority=0),
        Field[Placed]("achieved", lambda each: figure(each.record.tflops), is_number=True),
        Field[Placed]("of roof", lambda each: percent(each.share), is_number=True),
    ]
    if not placed:
        return Table("", (), ())
    lead = _(
        "Roofs: {memory}; the arithmetic of each dtype. Bytes are the least that a launch must move: work "
        "whose operands stay in a cache may lie above the memory's roof.",
        memory=_(", ").join(_name_memory(each, labels) for each in _find_memories(placed)),
    )
    charts = (_chart(placed, labels),)
    return table_of(_("The roofline, in TFLOPS"), fields, placed, charts=charts, lead=lead)


def _find_memories(placed: Sequence[Placed]) -> list[tuple[str, MemoryRoof]]:
    """The memory of each device."""
    return list({each.record.device: each.memory for each in placed}.items())


def _name_memory(of: tuple[str, MemoryRoof], labels: Labels) -> str:
    device, roof = of
    if roof.case is None:
        return _("memory {gb_s} GB/s rated", gb_s=figure(roof.gb_s))
    return _("{case}, {gb_s} GB/s measured", case=labels.row(device, roof.case), gb_s=figure(roof.gb_s))


def _chart(placed: Sequence[Placed], labels: Labels) -> Roofline:
    points = tuple(
        Point(
            labels.row(each.record.device, each.record.case),
            each.flop_per_byte,
            each.record.tflops or 0.0,
            each.record.dtype,
            _("{share} of the roof, bound by {what}", share=percent(each.share), what=_(_BOUNDS[each.bound])),
        )
        for each in placed
    )
    memories = [Roof(_name_memory(each, labels), gb_s=each[1].gb_s) for each in _find_memories(placed)]
    roofs = (*_compute_roofs(placed), *memories)
    title = title_of_first(MOST_POINTS, points, _("Roofline: achieved TFLOPS over FLOP a byte"))
    alt = _(
        "{count} cases under the roofs of {roofs}.",
        count=len(points),
        roofs=_(", ").join(roof.label for roof in roofs),
    )
    return Roofline("roofline", title, alt, points, tuple(dict.fromkeys(p.kind for p in points)), roofs)


def _compute_roofs(placed: Sequence[Placed]) -> list[Roof]:
    """Return one roof for each limit of the arithmetic, named after the dtypes that have it."""
    dtypes: dict[tuple[bool, float], dict[str, None]] = {}
    for each in placed:
        dtypes.setdefault((each.is_silicon, each.compute_tflops), {})[each.record.dtype] = None
    return [
        Roof(
            _(
                N_("silicon {dtypes} {tflops}") if is_silicon else N_("nominal {dtypes} {tflops}"),
                dtypes=_(", ").join(names),
                tflops=figure(tflops),
            ),
            tflops=tflops,
        )
        for (is_silicon, tflops), names in dtypes.items()
    ]
