"""One run as a reader should see it, independent of the medium: plain strings, in the order they are read.

Terminal and Markdown print this; neither decides what is said. Values from a device, a host name, a label
or a file come through `plain`, so that none can move a cursor; each medium escapes its own mark-up on top.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nameplate.derate.chain import REAL_FILL, Link, chain
from nameplate.derate.effects import effects
from nameplate.derate.published import best_gemm
from nameplate.device.identity import CpuIdentity
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.onset import onset_table
from nameplate.report.ratios import chain_table, effects_table
from nameplate.report.table import Table, figure
from nameplate.report.work import across_table, computed, launch_table, load_table, memory_table, work_table
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry
from nameplate.text import plain

__all__ = ["Table", "View", "figure", "meaning", "view"]


@dataclass(frozen=True)
class View:
    """Everything the one screen says."""

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    meaning: str
    advice: tuple[str, ...]
    problems: tuple[str, ...]


def view(run: Run) -> View:
    """Build the view of a run, finished or not."""
    links, labels, measured = chain(run.records), Labels.of(run), _measured(run)
    tables = [
        work_table(measured, labels),
        load_table(measured, labels),
        launch_table(measured, labels),
        onset_table(measured, labels),
        effects_table(effects(measured), labels),
        memory_table(measured, labels),
        across_table(measured, labels),
        chain_table(links, labels),
        _unmeasured_table(run, labels),
        _warnings_table(run, labels),
    ]
    return View(
        title=plain(f"{run.manifest.suite} on {_all_words(run.manifest.devices)}"),
        facts=tuple((name, plain(value)) for name, value in _facts(run, labels)),
        tables=tuple(table for table in tables if table.rows),
        meaning=plain(meaning(run, links)),
        advice=tuple(plain(each) for each in _advice(run)),
        problems=tuple(plain(each) for each in run.problems),
    )


def _device_words(entry: DeviceEntry) -> str:
    return entry.identity.name or entry.name


def _all_words(entries: Sequence[DeviceEntry]) -> str:
    """`8 × NVIDIA A800-SXM4-80GB`, or each kind by itself."""
    counts = Counter(_device_words(entry) for entry in entries)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


def _facts(run: Run, labels: Labels) -> list[tuple[str, str]]:
    manifest = run.manifest
    facts = [("run", manifest.run), ("host", manifest.hostname), ("begun", manifest.created)]
    for entry in manifest.devices:
        taken = f"{entry.part}, by {entry.evidence}" if entry.part else f"no known part: {entry.evidence}"
        facts += [("device", f"{entry.name}: {_device_words(entry)}"), ("taken for", taken)]
        if isinstance(entry.identity, CpuIdentity):
            facts += _cpu_facts(entry.identity)
        facts += [("published", line) for line in _published(entry)]
        facts += [("note", note) for note in entry.notes]
    software = manifest.software
    facts.append(("software", f"nameplate {software.get('nameplate')}, torch {software.get('torch')}"))
    nominal, unsaid = _nominal(run), labels.unsaid()
    facts += [("nominal", nominal)] if nominal else []
    return facts + ([("cases", unsaid)] if unsaid else [])


def _nominal(run: Run) -> str | None:
    """What the figures are counted by, by dtype: a narrow table leaves that column out."""
    rated = {(r.dtype, r.nominal_tflops): None for r in computed(_measured(run)) if r.nominal_tflops}
    return f"{', '.join(f'{dtype} {figure(tflops)}' for dtype, tflops in rated)} TFLOPS" if rated else None


def _published(entry: DeviceEntry) -> Iterator[str]:
    """The best product others published for this part: what a healthy one should come near."""
    for dtype in ("bf16", "fp8"):
        best = best_gemm(entry.part, dtype) if entry.part else None
        if best is not None:
            where = f"{best.device}, {best.scope}; {best.source}, {best.date}"
            yield f"{best.value:.3f} of datasheet in {dtype} ({where})"


def _cpu_facts(identity: CpuIdentity) -> list[tuple[str, str]]:
    clock = f"{identity.measured_mhz:,.0f} MHz measured" if identity.measured_mhz else "the model's boost"
    reported = f", {identity.reported_mhz:,.0f} MHz reported" if identity.reported_mhz else ""
    settings = ", ".join(f"{name}={value}" for name, value in identity.thread_settings.items())
    return [
        (
            "cores",
            f"{identity.usable_cores:g} usable of {identity.logical_cpus}; {identity.threads} threads",
        ),
        ("clock", clock + reported),
        ("libraries", f"{identity.blas}; {identity.onednn}; {identity.instruction_set}"),
        *([("settings", settings)] if settings else []),
    ]


def _measured(run: Run) -> list[Record]:
    return [record for record in run.records if record.status == "ok"]


def _unmeasured_table(run: Run, labels: Labels) -> Table:
    rows: list[tuple[str, ...]] = [
        (labels.row(record.device, record.case), record.status, plain(record.reason))
        for record in run.records
        if record.status != "ok"
    ]
    rows += [
        (labels.row(each.device, each.case), "missing", "the run ended before it") for each in run.missing
    ]
    return Table("Not measured", ("case", "status", "reason"), tuple(rows), frozenset())


def _warnings_table(run: Run, labels: Labels) -> Table:
    rows = tuple(
        (labels.row(record.device, record.case), plain(warning))
        for record in run.records
        for warning in record.warnings
    )
    return Table("Worth knowing", ("case", "warning"), rows, frozenset())


def meaning(run: Run, links: Sequence[Link]) -> str:
    """Say in one sentence what the run means for someone who has to decide by it."""
    products = [
        record
        for record in _measured(run)
        if record.workload == "matmul" and record.tflops is not None and "unverified" not in record.verdicts
    ]
    if not products:
        return "No product was measured, so nothing can be said of what this device delivers."
    # One chain: another device's derates are another product.
    links = [link for link in links if link.device == links[0].device]
    return _delivers(products, links) if links else _best_alone(products)


def _best_alone(products: Sequence[Record]) -> str:
    """What can be said where there is no chain."""
    real = [record for record in products if record.fill == REAL_FILL]
    best = max(real or products, key=lambda record: record.tflops or 0.0)
    reached = f"The best product reached {figure(best.tflops)} TFLOPS ({best.dtype})"
    if best.efficiency is None:
        return f"{reached}; of what nominal can't be said: {best.nominal_source}."
    fill = "" if best.fill == REAL_FILL else f", on {best.fill} inputs, which no real work has"
    return f"{reached}, {best.efficiency:.0%} of nominal{fill}."


def _delivers(products: Sequence[Record], links: Sequence[Link]) -> str:
    """What is left of nominal, stage by stage; whether to rely on it; and what held the best product down."""
    first, delivered, parts = links[0], 1.0, list[str]()
    for link in links:
        delivered *= link.value
        if link.to in _STAGE_WORDS:
            too = (link.from_, link.to) == ("gemm_burst", "gemm_sustained")
            words = _SETTLED_TOO if too else _STAGE_WORDS[link.to]
            parts.append(f"{delivered:.0%} {'' if parts else 'of it '}{words}")
    mine = [record for record in products if (record.device, record.dtype) == (first.device, first.dtype)]
    rated = next(record.nominal_tflops for record in mine if record.nominal_tflops)
    doubt = _doubt(links)
    said = [
        f"Nominal is {figure(rated)} TFLOPS in {first.dtype}; this device delivers {_and(parts)}.",
        *_conditions(mine, links),
        *([f"Don't rely on it yet: {', '.join(doubt)}."] if doubt else []),
    ]
    return " ".join(said)


_STAGE_WORDS = {
    "gemm": "in its best matrix product",
    "gemm_burst": "in its best matrix product from cool",
    "gemm_sustained": "in its best matrix product once settled",
    "gemm_model": "in the model's own products",
    "block": "in a full-width transformer block, forward and backward",
}
_SETTLED_TOO = "once that has settled"


def _doubt(links: Sequence[Link]) -> list[str]:
    """The verdicts that stand against the chain; from gemm_sustained on `throttled` isn't one of them."""
    found, settled = set[str](), False
    for link in links:
        settled = settled or link.to == "gemm_sustained"
        found |= {link.verdict} - ({"clean", "throttled"} if settled else {"clean"})
    return sorted(found)


def _conditions(products: Sequence[Record], links: Sequence[Link]) -> Iterator[str]:
    """What the device could have done in the conditions of its best product, and how near that one came."""
    sources = [link.source for link in links if link.to in ("gemm", "gemm_burst", "gemm_sustained")]
    best = next((record for record in products if sources and record.case == sources[-1]), None)
    if best is not None and best.ceiling_tflops is not None and best.normalized_efficiency is not None:
        lost = f" (lost to {best.loss})" if best.loss else ""
        yield (
            f"In the conditions it held it could do {figure(best.ceiling_tflops)} TFLOPS{lost}, and that "
            f"product reached {best.normalized_efficiency:.0%} of it."
        )


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _advice(run: Run) -> list[str]:
    """What stood in the way of a clean figure, and what to do about it."""
    measured = _measured(run)
    verdicts = {verdict for record in measured for verdict in record.verdicts}
    advice = [text for verdict, text in _ADVICE.items() if verdict in verdicts]
    advice += _throttled({record.phase for record in measured if "throttled" in record.verdicts})
    skipped = sum(record.status == "skipped" and "budget" in (record.reason or "") for record in run.records)
    if skipped:
        advice.append(f"{skipped} cases didn't fit the budget: give a larger --budget.")
    if run.missing:
        advice.append(
            f"{len(run.missing)} cases have no record: go on with `bench run --resume {_quoted(run.folder)}`."
        )
    if any(record.workload == "transformer_block" and not record.represents for record in measured):
        advice.append(
            "The block was measured below full width: it stands for no model, and is no link above."
        )
    return advice


def _throttled(phases: set[str | None]) -> Iterator[str]:
    """The clock was held down by heat or the power limit: for a settled figure that is as it should be."""
    if "sustained" in phases:
        yield (
            "Heat or the power limit held the clock down once settled: that is what a sustained figure "
            "shows, and such a figure counts."
        )
    if phases - {"sustained"}:
        yield (
            "Heat or the power limit held the clock down in a figure that isn't a sustained one: it counts "
            "for neither burst nor sustained; let the device cool, and run quick or soak."
        )


def _quoted(folder: Path) -> str:
    """The folder as a shell takes it, so that the command can be pasted."""
    return shlex.quote(str(folder))


_ADVICE = {
    "unverified": "A result was wrong beyond rounding, or changed between launches: don't trust this device "
    "before that is explained.",
    "above_peak": "A figure is above the rated peak: the rating or its clock is wrong for this device.",
    "launch_bound": "The host couldn't launch fast enough: that figure is the host's, not the device's.",
    "contended": "Something else used the device or its cores meanwhile: run again on a quiet machine.",
    "unstable": "A figure spread by more than 5 %, drifted, kept to two levels or hadn't settled: run again "
    "with a larger --budget.",
    "unknown": "Some evidence could not be read, so a record can't be called clean.",
}
