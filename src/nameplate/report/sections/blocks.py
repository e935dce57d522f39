"""Sections of a run with blocks or attention: the backends beside torch's choice, conventions, and parts."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import change, duration, factor, figure, percent
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.blocks import BlockInPlace, BlockParts, explain_blocks, find_choices, find_parts_in_place
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.view import Column, Table


def backends_table(records: Sequence[Record], labels: Labels) -> Table:
    """Each piece of work that several backends ran: torch's own choice, and the fastest."""
    return Table(
        _("Backends"),
        (
            Column(N_("case")),
            Column(N_("torch's choice"), is_number=True),
            Column(N_("which ran"), drop_priority=0),
            Column(N_("best"), is_number=True),
            Column(N_("backend")),
            Column(N_("÷ torch's choice"), is_number=True),
        ),
        tuple(
            (
                labels.row(each.device, each.work),
                figure(each.default_tflops),
                plain(each.default_ran or "–"),
                figure(each.best_tflops),
                plain(each.best_backend),
                factor(each.ratio),
            )
            for each in find_choices(records)
        ),
        lead=_("TFLOPS. After a plus stands the attention that was asked for; the record says which ran."),
    )


def conventions_table(records: Sequence[Record], labels: Labels) -> Table:
    """Training passes of whole layers, one timing counted by every convention."""
    blocks = [
        each
        for each in records
        if each.represents is not None
        and each.dimensions.get("pass") == "forward_backward"
        and each.backend == "torch"
        and each.tflops_by_convention is not None
    ]
    conventions = list(blocks[0].tflops_by_convention or ()) if blocks else []
    return Table(
        _("One timing by every convention"),
        (Column(N_("case")), *(Column(name, is_number=True) for name in conventions)),
        tuple(
            (
                labels.row(each.device, each.case),
                *(figure(tflops) for tflops in (each.tflops_by_convention or {}).values()),
            )
            for each in blocks
        ),
        lead=_("TFLOPS. Compare only what one convention counts."),
    )


def parts_table(records: Sequence[Record], labels: Labels) -> Table:
    """Where a block's time went: its parts measured alone, their sum, and what it leaves."""
    return Table(
        _("Where the time of a block went"),
        (
            Column(N_("case")),
            Column(N_("measured"), is_number=True),
            Column(N_("products"), is_number=True),
            Column(N_("attention"), is_number=True),
            Column(N_("elementwise"), is_number=True),
            Column(N_("residual"), is_number=True),
            Column(N_("block tax"), is_number=True, drop_priority=0),
        ),
        tuple(_parts_row(each, labels) for each in explain_blocks(records)),
        lead=_(
            "Products and attention as measured alone, elementwise work by bytes at the speed of a copy. The "
            "residual is measured ÷ their sum, less 1; the tax measured ÷ the block's FLOPs at the best "
            "product's speed."
        ),
    )


def places_table(records: Sequence[Record], labels: Labels) -> Table:
    """Where a block's time went, part by part: each timed where it stands in a launch."""
    rows = [row for each in find_parts_in_place(records) for row in _place_rows(each, labels)]
    return Table(
        _("The parts of a block in place"),
        (
            Column(N_("case")),
            Column(N_("operation")),
            Column(N_("forward"), is_number=True),
            Column(N_("alone"), is_number=True, drop_priority=0),
            Column(N_("backward"), is_number=True),
            Column(N_("share"), is_number=True),
        ),
        tuple(rows),
        lead=_(
            "Each part is timed after those before it, on what they left in the caches. Alone: the forward "
            "pass of the same products, measured by themselves. All parts: what they take together beside a "
            "launch, the overhead of timing them apart."
        ),
    )


def _place_rows(each: BlockInPlace, labels: Labels) -> list[tuple[str, ...]]:
    case = labels.row(each.device, each.case)
    rows = [
        (
            case,
            _(part.name),
            duration(part.forward_s),
            "–" if part.alone_s is None else duration(part.alone_s),
            "–" if part.backward_s is None else duration(part.backward_s),
            percent(part.share),
        )
        for part in each.parts
    ]
    return [*rows, (case, _("all parts ÷ launch − 1"), "", "", "", change(each.overhead))]


def _parts_row(each: BlockParts, labels: Labels) -> tuple[str, ...]:
    return (
        labels.row(each.device, each.case),
        duration(each.measured_s),
        percent(each.products_s / each.measured_s),
        percent(each.attention_s / each.measured_s),
        percent(None if each.elementwise_s is None else each.elementwise_s / each.measured_s),
        change(each.residual),
        "–" if each.tax is None else factor(each.tax),
    )
