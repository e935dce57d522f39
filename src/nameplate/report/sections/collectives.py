"""The section of a run of collectives, and its answer: bandwidth of large messages, time of small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nameplate.base.formatting import duration, figure, percent, stated, with_half_width
from nameplate.base.language import N_, _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.record import Record
from nameplate.report.view import Column, Fact, Table, translate_verdicts

WORKLOAD = "collective"
_MEGABYTE = 1_000_000  # from here on the links count more than what it takes to begin


def list_collectives(records: Sequence[Record]) -> Iterator[Fact]:
    """Name and text of each line of the answer: bandwidth, latency. Nothing where none was measured."""
    done = [each for each in records if each.workload == WORKLOAD and each.bandwidth_gb_s is not None]
    right = [each for each in done if not each.is_wrong]
    large = [each for each in right if _message_bytes(each) >= _MEGABYTE]
    small = [each for each in right if _message_bytes(each) < _MEGABYTE]
    if large:
        best = max(large, key=lambda each: (each.trusted, _is_reduce(each), each.bandwidth_gb_s or 0.0))
        said = _(
            "{gb_s} GB/s bus bandwidth in {what}{of_link}{doubt}",
            gb_s=with_half_width(best.interval("bandwidth_gb_s")),
            what=_name(best),
            of_link=_of_link(best),
            doubt=_doubt(best),
        )
        yield _("links"), said
    if small:
        least = min(small, key=lambda each: (not each.trusted, not _is_reduce(each), _message_bytes(each)))
        said = _(
            "{time} a launch in {what}{doubt}",
            time=duration(least.time_s or 0.0),
            what=_name(least),
            doubt=_doubt(least),
        )
        yield _("latency"), said


def collectives_table(records: Sequence[Record]) -> Table:
    """Every collective by message: time, algorithm bandwidth, bus bandwidth, and its share of the link."""
    done = [each for each in records if each.workload == WORKLOAD]
    link = next((plain(render(each.nominal_source)) for each in done if each.nominal_source is not None), "")
    return Table(
        _("Collectives"),
        (
            Column(N_("collective")),
            Column(N_("message"), is_number=True),
            Column(N_("time"), is_number=True),
            Column(N_("algbw"), is_number=True, drop_priority=1),
            Column(N_("busbw"), is_number=True),
            Column(N_("of link"), is_number=True),
            Column(N_("verdict"), drop_priority=0),
        ),
        tuple(
            (
                plain(str(each.dimensions.get("kind"))),
                _size(_message_bytes(each)),
                duration(each.time_s or 0.0),
                figure(_message_bytes(each) / (each.time_s or 1.0) / 1e9),
                with_half_width(each.interval("bandwidth_gb_s")),
                "–" if each.efficiency is None else percent(each.efficiency),
                translate_verdicts(each.verdict),
            )
            for each in done
        ),
        lead=_("GB/s, as nccl-tests counts them; ± is within this run. The link: {link}.", link=link or "–"),
    )


def _message_bytes(record: Record) -> int:
    return record.size("message_bytes") or 0


def _is_reduce(record: Record) -> bool:
    """Whether it is the collective by which fabrics are compared."""
    return record.dimensions.get("kind") == "all_reduce"


def _name(record: Record) -> str:
    dimensions = record.dimensions
    return _(
        "{kind} of {size} among {count}",
        kind=plain(str(dimensions.get("kind"))),
        size=_size(_message_bytes(record)),
        count=dimensions.get("world_size"),
    )


def _size(amount: int) -> str:
    """A message as it is asked for: in powers of 1024."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{stated(value, 3)} {unit}"
        value /= 1024
    return f"{stated(value, 3)} GiB"


def _of_link(record: Record) -> str:
    link = record.dimensions.get("link_gb_s")
    if record.efficiency is None or not isinstance(link, float):
        return ""
    return _(", {share} of a link's {rated}", share=percent(record.efficiency), rated=figure(link))


def _doubt(record: Record) -> str:
    return "" if record.trusted else _(" (in doubt: {verdict})", verdict=translate_verdicts(record.verdict))
