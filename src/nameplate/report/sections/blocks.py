"""Sections of a run with blocks or attention: backends beside torch's choice, conventions, parts, kernels,
and the largest batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import change, count, duration, factor, figure, percent
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.chain.blocks import (
    BlockInPlace,
    BlockParts,
    ProfiledLaunch,
    explain_blocks,
    find_choices,
    find_parts_in_place,
    find_profiles,
)
from nameplate.record import LargestBatch, Record
from nameplate.report.labels import Labels
from nameplate.report.view import Column, Table

_MOST_KERNELS = 12  # of a case; --json has all


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
            Column(N_("in the kernel"), is_number=True, drop_priority=1),
            Column(N_("block tax"), is_number=True, drop_priority=0),
        ),
        tuple(_parts_row(each, labels) for each in explain_blocks(records)),
        lead=_(
            "Products and attention as measured alone, elementwise work by bytes at the speed of a copy. The "
            "residual is measured ÷ their sum, less 1; the tax measured ÷ the block's FLOPs at the best "
            "product's speed. In the kernel: of the CPU time in the block's launches, for pages of memory "
            "that is allocated anew."
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


def kernels_table(records: Sequence[Record], labels: Labels) -> Table:
    """Kernels of each launch that was traced, by their share of its time."""
    rows = [row for each in find_profiles(records) for row in _kernel_rows(each, labels)]
    return Table(
        _("Kernels by their share"),
        (
            Column(N_("case")),
            Column(N_("kernel")),
            Column(N_("share"), is_number=True),
            Column(N_("time"), is_number=True),
            Column(N_("calls"), is_number=True, drop_priority=0),
            Column(N_("TFLOPS"), is_number=True, drop_priority=1),
        ),
        tuple(rows),
        lead=_(
            "From one launch under a profiler, which slows it down, after all timing. On a CPU these are "
            "torch's operators, each without those that it calls. FLOPs are known of products alone."
        ),
    )


def _kernel_rows(each: ProfiledLaunch, labels: Labels) -> list[tuple[str, ...]]:
    case = labels.row(each.device, each.case)
    shown, others = each.kernels[:_MOST_KERNELS], each.kernels[_MOST_KERNELS:]
    rows: list[tuple[str, ...]] = [
        (
            case,
            plain(kernel.name),
            percent(kernel.share),
            duration(kernel.time_s),
            count(kernel.calls),
            figure(kernel.tflops),
        )
        for kernel in shown
    ]
    if others:
        rows.append(
            (
                case,
                _("{count} others", count=count(len(others))),
                percent(sum(kernel.share for kernel in others)),
                duration(sum(kernel.time_s for kernel in others)),
                count(sum(kernel.calls for kernel in others)),
                "",
            )
        )
    return rows


def largest_table(records: Sequence[Record], labels: Labels) -> Table:
    """The largest batch of each layer or step that fits the device's memory."""
    found = [(each, each.largest_batch) for each in records if each.largest_batch is not None]
    return Table(
        _("The largest batch that fits"),
        (
            Column(N_("case")),
            Column(N_("batch"), is_number=True),
            Column(N_("its peak"), is_number=True),
            Column(N_("limit"), is_number=True),
            Column(N_("peak of 1"), is_number=True, drop_priority=1),
            Column(N_("found by"), drop_priority=0),
        ),
        tuple(_largest_row(record, largest, labels) for record, largest in found),
        lead=_(
            "By bisection. Launched: until the memory ran out. Counted: the tensors that a launch holds, "
            "held to a limit; workspaces of libraries aren't among them. At least: the time was over before "
            "a batch was found that doesn't fit."
        ),
    )


def _largest_row(record: Record, largest: LargestBatch, labels: Labels) -> tuple[str, ...]:
    first = largest.tries[0].peak_bytes if largest.tries else None
    batch = _("none") if largest.batch is None else count(largest.batch)
    return (
        labels.row(record.device, record.case),
        batch if largest.is_final else _("at least {batch}", batch=batch),
        _gigabytes(largest.peak_bytes),
        _gigabytes(largest.limit_bytes),
        _gigabytes(first),
        _("launching") if largest.is_launched else _("counting"),
    )


def _gigabytes(size: int | None) -> str:
    return "–" if size is None else f"{figure(size / 1e9)} GB"


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
        percent(each.system_share),
        "–" if each.tax is None else factor(each.tax),
    )
