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
from statistics import median

from nameplate.derate.chain import Link, chain
from nameplate.derate.published import best_gemm
from nameplate.device.identity import CpuIdentity
from nameplate.record import Record
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry
from nameplate.text import plain


@dataclass(frozen=True)
class Table:
    """A heading, column names, and rows of strings; columns in `numbers` are aligned right.

    A narrow medium may leave out the columns in `secondary`.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    secondary: frozenset[int] = frozenset()


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
    links = chain(run.records)
    tables = [
        _work_table(run),
        _memory_table(run),
        _across_table(run),
        _chain_table(links),
        _unmeasured_table(run),
        _warnings_table(run),
    ]
    return View(
        title=plain(f"{run.manifest.suite} on {_all_words(run.manifest.devices)}"),
        facts=tuple((name, plain(value)) for name, value in _facts(run)),
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


def _facts(run: Run) -> list[tuple[str, str]]:
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
    return facts


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


_DEFAULT_AXES = "/normal/warm/-/torch"
_WORK = ("case", "achieved", "median", "nominal", "efficiency", "verdict")


def _work_table(run: Run) -> Table:
    """Compute cases: achieved beside nominal, the efficiency with its interval, the verdict."""
    records = [r for r in _measured(run) if r.tflops is not None and r.workload != "memory"]
    table = Table(
        "Achieved, in TFLOPS",
        _WORK,
        tuple(_work_row(run, record) for record in records),
        frozenset({1, 2, 3, 4}),
        frozenset({2}),
    )
    if all(record.datasheet_tflops == record.nominal_tflops for record in records):
        return table
    return _with_datasheet(table, records)


def _work_row(run: Run, record: Record) -> tuple[str, ...]:
    return (
        _name(run, record.device, record.case),
        _with_half_width(record.tflops, record.tflops_low, record.tflops_high),
        figure(record.tflops_median),
        figure(record.nominal_tflops),
        _efficiency(record),
        " ".join(record.verdicts),
    )


def _with_datasheet(table: Table, records: Sequence[Record]) -> Table:
    """Add the datasheet's figure and the efficiency against it, where they differ from nominal's."""
    rows = tuple(
        (*row[:-1], figure(record.datasheet_tflops), _percent(record.datasheet_efficiency), row[-1])
        for row, record in zip(table.rows, records, strict=True)
    )
    columns = (*table.columns[:-1], "datasheet", "of datasheet", table.columns[-1])
    return Table(table.heading, columns, rows, table.numbers | {5, 6}, table.secondary)


def _with_half_width(value: float | None, low: float | None, high: float | None) -> str:
    """A figure and half its 95 % interval, both with the figure's digits: `0.145 ± 0.002`."""
    if value is None or low is None or high is None:
        return "–"
    digits = _digits(value)
    return f"{value:,.{digits}f} ± {(high - low) / 2:,.{digits}f}"


def label(case: str) -> str:
    """The id without its end where that is the default, in words that a narrow column can break."""
    return plain(case.removesuffix(_DEFAULT_AXES).replace("/", " "))


def _efficiency(record: Record) -> str:
    if record.efficiency is None or record.efficiency_low is None or record.efficiency_high is None:
        return "–"
    half = (record.efficiency_high - record.efficiency_low) / 2
    return f"{record.efficiency:.1%} ± {100 * half:.1f}"


def figure(value: float | None) -> str:
    """Print a throughput with three significant digits and no exponent: 0.145, 2.31, 788."""
    return "–" if value is None else f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Decimals that leave three significant digits, after rounding to them: 9.999 is 10.0."""
    if value == 0:
        return 0
    exponent = int(f"{value:.2e}".split("e")[1])
    return max(0, 2 - exponent)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _memory_table(run: Run) -> Table:
    rows = tuple(
        (
            _name(run, record.device, record.case),
            _with_half_width(record.bandwidth_gb_s, record.bandwidth_low_gb_s, record.bandwidth_high_gb_s),
            " ".join(record.verdicts),
        )
        for record in _measured(run)
        if record.workload == "memory"
    )
    return Table("Memory, in GB/s", ("case", "achieved", "verdict"), rows, frozenset({1}))


def _across_table(run: Run) -> Table:
    """The same case on every device of the run: how far they spread, and what they reach as a gang, which
    goes at the pace of the slowest.
    """
    by_case: dict[str, list[Record]] = {}
    for record in _measured(run):
        if record.tflops is not None and record.workload != "memory":
            by_case.setdefault(record.case, []).append(record)
    rows = tuple(_across_row(case, records) for case, records in by_case.items() if len(records) > 1)
    columns = ("case", "devices", "median", "slowest", "on", "spread", "as a gang")
    return Table("Across devices, in TFLOPS", columns, rows, frozenset({1, 2, 3, 5, 6}))


def _across_row(case: str, records: Sequence[Record]) -> tuple[str, ...]:
    reached = [record.tflops or 0.0 for record in records]
    slowest = min(records, key=lambda record: record.tflops or 0.0)
    middle = median(reached)
    return (
        label(case),
        str(len(records)),
        figure(middle),
        figure(slowest.tflops),
        plain(slowest.device),
        f"{(max(reached) - min(reached)) / middle:.1%}",
        figure(len(records) * min(reached)),
    )


def _name(run: Run, device: str, case: str) -> str:
    """What a row is called: its case, and in a run of several devices the device too."""
    return label(case) if len(run.manifest.devices) == 1 else f"{plain(device)} {label(case)}"


def _chain_table(links: Sequence[Link]) -> Table:
    rows = tuple(
        (
            f"{link.from_} → {link.to}",
            link.device,
            link.dtype,
            f"{link.value:.3f}",
            f"{link.low:.3f} … {link.high:.3f}",
            link.provenance,
            link.verdict,
            plain(_source_words(link)),
        )
        for link in links
    )
    columns = ("link", "device", "dtype", "ratio", "95 % interval", "how", "verdict", "from")
    table = Table("The chain, as far as this run has measured it", columns, rows, frozenset({3}))
    several = len({link.device for link in links}) > 1
    return table if several else _without_column(table, 1)


def _without_column(table: Table, index: int) -> Table:
    """The table without a column that says the same in every row."""
    rows = tuple((*row[:index], *row[index + 1 :]) for row in table.rows)
    columns = (*table.columns[:index], *table.columns[index + 1 :])
    return Table(
        table.heading, columns, rows, frozenset(number - (number > index) for number in table.numbers)
    )


def _source_words(link: Link) -> str:
    return ", ".join(label(case) for case in link.source.split(", "))


def _unmeasured_table(run: Run) -> Table:
    rows: list[tuple[str, ...]] = [
        (_name(run, record.device, record.case), record.status, plain(record.reason))
        for record in run.records
        if record.status != "ok"
    ]
    rows += [
        (_name(run, each.device, each.case), "missing", "the run ended before it") for each in run.missing
    ]
    return Table("Not measured", ("case", "status", "reason"), tuple(rows), frozenset())


def _warnings_table(run: Run) -> Table:
    rows = tuple(
        (_name(run, record.device, record.case), plain(warning))
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
    if not links:
        best = max(products, key=lambda record: record.tflops or 0.0)
        return (
            f"The best product reached {figure(best.tflops)} TFLOPS ({best.dtype}); of what nominal can't be "
            f"said: {best.nominal_source}."
        )
    parts, delivered = [], 1.0
    # One chain: another device's derates are another product.
    links = [link for link in links if link.device == links[0].device]
    for link in links:
        delivered *= link.value
        if link.to in _STAGE_WORDS:
            parts.append(f"{delivered:.0%} {_STAGE_WORDS[link.to]}")
    doubt = {link.verdict for link in links} - {"clean"}
    caution = f" Don't rely on it yet: {', '.join(sorted(doubt))}." if doubt else ""
    rated = next(r.nominal_tflops for r in products if r.dtype == links[0].dtype and r.nominal_tflops)
    return (
        f"Nominal is {figure(rated)} TFLOPS in {links[0].dtype}; this device delivers {_and(parts)}.{caution}"
    )


_STAGE_WORDS = {
    "gemm": "of it in its best matrix product",
    "gemm_model": "in the model's own products",
    "block": "in a full-width transformer block, forward and backward",
}


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _advice(run: Run) -> list[str]:
    """What stood in the way of a clean figure, and what to do about it."""
    verdicts = {verdict for record in _measured(run) for verdict in record.verdicts}
    advice = [text for verdict, text in _ADVICE.items() if verdict in verdicts]
    skipped = sum(record.status == "skipped" and "budget" in (record.reason or "") for record in run.records)
    if skipped:
        advice.append(f"{skipped} cases didn't fit the budget: give a larger --budget.")
    if run.missing:
        advice.append(
            f"{len(run.missing)} cases have no record: go on with `bench run --resume {_quoted(run.folder)}`."
        )
    if any(record.workload == "transformer_block" and not record.represents for record in _measured(run)):
        advice.append(
            "The block was measured below full width: it stands for no model, and is no link above."
        )
    return advice


def _quoted(folder: Path) -> str:
    """The folder as a shell takes it, so that the command can be pasted."""
    return shlex.quote(str(folder))


_ADVICE = {
    "unverified": "A result was wrong beyond rounding: don't trust this device before that is explained.",
    "above_peak": "A figure is above the rated peak: the rating or its clock is wrong for this device.",
    "launch_bound": "The host couldn't launch fast enough: that figure is the host's, not the device's.",
    "contended": "Something else used the device or its cores meanwhile: run again on a quiet machine.",
    "throttled": "The clock was held down by heat or the power limit: a sustained figure, not a burst.",
    "unstable": "A figure drifted or spread by more than 5 %: run again with a larger --budget.",
    "unknown": "Some evidence could not be read, so a record can't be called clean.",
}
