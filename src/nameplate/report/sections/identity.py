"""What a run was measured on and how: the machine, the method, every record, the commands to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import count, figure, percent, stated
from nameplate.base.language import N_, _
from nameplate.base.messages import Message, render
from nameplate.base.text import plain
from nameplate.chain.published import find_best_gemm
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.record import Record
from nameplate.report.labels import Labels
from nameplate.report.sections.intervals import describe_intervals
from nameplate.report.sections.throughput import measured_records, milliseconds_text, with_tflops
from nameplate.report.view import Column, Fact, Field, Table, table_of, text_table
from nameplate.specs.cpu import find_boost
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry

_BY_INSTRUCTIONS = "cpu_named_by_instructions"  # the evidence for a CPU that is in no table
# The libraries of a GPU's figures, and their keys in the manifest's software. A CPU's are with its device.
_GPU_LIBRARIES = (("cuBLAS", "cublas"), ("cuBLASLt", "cublaslt"), ("cuDNN", "cudnn"))


def device_name(entry: DeviceEntry) -> str:
    """Return the name that the device reports, such as `NVIDIA A800-SXM4-80GB`, else its name in the run."""
    return entry.identity.name or entry.name


def list_facts(run: Run, labels: Labels) -> list[Fact]:
    """Return what a reader must know of a run before its figures, as name and value."""
    manifest = run.manifest
    found = [(_("run"), manifest.run), (_("host"), manifest.hostname), (_("begun"), manifest.created)]
    for entry in manifest.devices:
        found += _device(entry)
    if manifest.nvml is not None:
        found.append((_("note"), render(manifest.nvml)))
    software = manifest.software
    versions = [f"nameplate {software.get('nameplate')}", f"torch {software.get('torch')}"]
    if any(isinstance(entry.identity, CudaIdentity) for entry in manifest.devices):
        known = ((name, software.get(key)) for name, key in _GPU_LIBRARIES)
        versions += [f"{name} {version}" for name, version in known if version]
    found.append((_("software"), ", ".join(versions)))
    if nominal := _nominal(run):
        found.append((_("nominal"), nominal))
    if intervals := describe_intervals(measured_records(run)):
        found.append((_("intervals"), intervals))
    if omitted := labels.describe_omitted():
        found.append((_("cases"), omitted))
    return found


def _device(entry: DeviceEntry) -> Iterator[Fact]:
    yield _("device"), f"{entry.name}: {device_name(entry)}"
    if entry.part:
        said = {"part": entry.part, "evidence": render(entry.evidence)}
        by_instructions = isinstance(entry.evidence, Message) and entry.evidence.code == _BY_INSTRUCTIONS
        text = N_("{part}: {evidence}") if by_instructions else N_("{part}, by {evidence}")
        yield _("recognised as"), _(text, **said)
    else:
        yield _("recognised as"), _("no known part: {evidence}", evidence=render(entry.evidence))
    if isinstance(entry.identity, CpuIdentity):
        yield from _cpu(entry.identity)
    for line in _published(entry):
        yield _("published"), line
    for note in entry.notes:
        yield _("note"), render(note)


def _nominal(run: Run) -> str | None:
    """Return the nominal TFLOPS by dtype; None where none is known."""
    # A narrow table leaves its column of nominal figures out, so they stand here too.
    measured = with_tflops(measured_records(run))
    rated = {(r.dtype, r.nominal_tflops): None for r in measured if r.nominal_tflops}
    if not rated:
        return None
    return ", ".join(f"{dtype} {figure(tflops)}" for dtype, tflops in rated) + " TFLOPS"


def _published(entry: DeviceEntry) -> Iterator[str]:
    """Yield the best published matrix product of this part: a healthy device should come near it."""
    for dtype in ("bf16", "fp8"):
        best = find_best_gemm(entry.part, dtype) if entry.part else None
        if best is not None:
            yield _(
                "{value} of datasheet in {dtype} ({where})",
                value=percent(best.value),
                dtype=dtype,
                where=f"{best.device}, {best.scope}; {best.source}, {best.date}",
            )


def _cpu(identity: CpuIdentity) -> Iterator[Fact]:
    yield (
        _("cores"),
        _(
            "{usable} usable of {all}; {threads} threads",
            usable=stated(identity.usable_cores),
            all=identity.logical_cpus,
            threads=identity.threads,
        ),
    )
    clock = _clock(identity)
    if identity.reported_mhz:
        clock = _("{clock}, {mhz} MHz reported", clock=clock, mhz=figure(identity.reported_mhz))
    yield _("clock"), clock
    if identity.product:
        yield _("machine"), identity.product
    yield _("libraries"), f"{identity.blas}; {identity.onednn}; {identity.instruction_set}"
    settings = ", ".join(f"{name}={value}" for name, value in identity.thread_settings.items())
    if settings:
        yield _("settings"), settings


def _clock(identity: CpuIdentity) -> str:
    if identity.measured_mhz:
        return _("{mhz} MHz measured", mhz=figure(identity.measured_mhz))
    if find_boost(identity.name) is None and identity.maximum_mhz:
        return _("{mhz} MHz at most", mhz=figure(identity.maximum_mhz))
    return _("the model's boost") if find_boost(identity.name) else _("not known")


def method_table(run: Run) -> Table:
    """How the figures were measured."""
    manifest, measured = run.manifest, measured_records(run)
    conventions = dict.fromkeys(r.convention for r in measured if r.convention)
    references = dict.fromkeys(r.verification.reference for r in measured if r.verification)
    rows = [
        (_("method"), _("number {method}; docs/method.md says what each changed", method=manifest.method)),
        (_("achieved"), _("FLOPs ÷ time of the whole measured window; not the median, not the best batch")),
        (_("interval"), _describe_method_of_intervals(measured)),
        (_("FLOPs by"), ", ".join(conventions) or "–"),
        (_("verified against"), ", ".join(references) or "–"),
        (_("inputs"), _("seed {seed}; normal unless a case says otherwise", seed=manifest.seed)),
        (_("verdicts"), _("a clean record is trusted, and a power-capped one unless it is a burst")),
    ]
    return text_table(_("Method"), ("what", "how"), ((plain(what), plain(how)) for what, how in rows))


def _describe_method_of_intervals(measured: Sequence[Record]) -> str:
    within = _("95 %, from batches of back-to-back launches; drift isn't counted as noise")
    if not any(record.interval_kind == "run_to_run" for record in measured):
        return within
    return _(
        "95 % run-to-run, by Student's law from the means of the processes; never narrower than that within "
        "them, from batches"
    )


def records_table(records: Sequence[Record], labels: Labels) -> Table:
    """Every record with the columns that the other tables leave out; skipped and failed ones too."""
    fields = [
        Field[Record]("case", lambda r: labels.row(r.device, r.case)),
        Field[Record]("status", lambda r: _(r.status)),
        Field[Record]("ms a launch", milliseconds_text, is_number=True),
        Field[Record]("launches", lambda r: count(r.launches), is_number=True),
        Field[Record]("s in all", lambda r: figure(r.cost_s), is_number=True, drop_priority=1),
        Field[Record]("W", lambda r: figure(r.power_w), is_number=True, drop_priority=2),
        Field[Record]("J", lambda r: figure(r.energy_j), is_number=True, drop_priority=2),
        Field[Record]("error of bound", _error, is_number=True, drop_priority=3),
        Field[Record]("digest", lambda r: plain((r.digest or "–")[:12]), drop_priority=0),
        Field[Record]("verdict", lambda r: " ".join(r.verdicts)),
    ]  # fmt: skip
    return table_of(_("Every record"), fields, records)


def _error(record: Record) -> str:
    return "–" if record.verification is None else percent(record.verification.error)


def reproduce_table(run: Run) -> Table:
    """The commands that repeat the run, compare the two, and read the figures."""
    name = shlex.quote(run.id)
    rows = [
        (_("measure it again"), run.manifest.command),
        (_("compare the two"), f"bench compare {name} NEW"),
        (_("read every figure"), f"bench show {name} --json"),
        (_("as a table"), f"bench export {name} -o run.csv"),
    ]
    lead = _(
        "With nameplate {nameplate} and torch {torch}, on the device's own settings.",
        nameplate=plain(run.manifest.software.get("nameplate")),
        torch=plain(run.manifest.software.get("torch")),
    )
    cells = tuple((what, plain(command)) for what, command in rows)
    columns = Column("what"), Column("command", unbroken=True)
    return Table(_("How to reproduce"), columns, cells, lead=lead)
