"""Bandwidth by level of memory: the answer in two lines, and the table of all cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nameplate.base.formatting import figure, percent, with_half_width
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.roofline import find_memory_roof, kind_of
from nameplate.record import MAIN_MEMORY, Record
from nameplate.report.labels import Labels
from nameplate.report.view import Fact, Field, Table, table_of

_LEVELS = {MAIN_MEMORY: N_("main memory"), "host link": N_("link to the host")}


def memory_table(records: Sequence[Record], labels: Labels) -> Table:
    """Every case that moves bytes: its level, bandwidth, and the share of the rated figure where there is
    one.
    """
    moved = [record for record in records if record.workload == "memory"]
    fields = [
        Field[Record]("case", lambda record: labels.row(record.device, record.case)),
        Field[Record]("level", _level_text, drop_priority=0),
        Field[Record](
            "achieved", lambda record: with_half_width(record.interval("bandwidth_gb_s")), is_number=True
        ),
    ]
    if any(record.nominal_gb_s is not None for record in moved):
        fields += [
            Field[Record]("nominal", lambda record: figure(record.nominal_gb_s), is_number=True),
            Field[Record]("of nominal", lambda record: percent(record.bandwidth_efficiency), is_number=True),
        ]
    fields.append(Field("verdict", lambda record: " ".join(record.verdicts)))
    lead = _(
        "Bytes as STREAM counts them: those that the program reads and writes. A write first reads the line "
        "that it overwrites on most CPUs; that isn't counted."
    )
    return table_of(_("Memory, in GB/s"), fields, moved, lead=lead if moved else "")


def _level_text(record: Record) -> str:
    level = record.memory_level or ""
    return plain(_(_LEVELS[level]) if level in _LEVELS else level)


def list_memory(records: Sequence[Record]) -> Iterator[Fact]:
    """Main memory of each device by STREAM's fastest kind, and the other levels by theirs; nothing where the
    memory alone wasn't what a run was about, which the caller decides.
    """
    for device in dict.fromkeys(record.device for record in records):
        mine = [each for each in records if each.device == device and each.bandwidth_gb_s is not None]
        roof = find_memory_roof(mine, device)
        if roof is not None and roof.case is not None:
            best = next(each for each in mine if each.case == roof.case)
            yield _("memory"), _describe_main(best)
        others = _find_best_by_level([each for each in mine if not each.is_wrong])
        if others:
            yield (
                _("levels"),
                _(
                    "{levels} GB/s, the fastest kind of each",
                    levels=_(", ").join(map(_describe_level, others)),
                ),
            )


def _describe_main(best: Record) -> str:
    said = _(
        "{gb_s} GB/s in {kind}",
        gb_s=with_half_width(best.interval("bandwidth_gb_s")),
        kind=plain(kind_of(best)),
    )
    if best.nominal_gb_s is None:
        return _("{said}; the rated bandwidth isn't known", said=said)
    return _(
        "{said}, {share} of {nominal} nominal",
        said=said,
        share=percent(best.bandwidth_efficiency),
        nominal=figure(best.nominal_gb_s),
    )


def _find_best_by_level(records: Sequence[Record]) -> list[Record]:
    found: dict[str, Record] = {}
    for record in records:
        level = record.memory_level
        if level is None or level == MAIN_MEMORY:
            continue
        other = found.get(level)
        rank = (record.trusted, record.bandwidth_gb_s or 0.0)
        if other is None or rank > (other.trusted, other.bandwidth_gb_s or 0.0):
            found[level] = record
    return list(found.values())


def _describe_level(record: Record) -> str:
    return _("{level} {gb_s}", level=_level_text(record), gb_s=figure(record.bandwidth_gb_s))
