"""What a run offers a fleet: derates of its part from records that may be believed, or why it offers none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nameplate.derate.chain import REAL_FILL, Link, admitted, chain
from nameplate.errors import InputError
from nameplate.fleet.links import Derate, device_peaks, from_run, not_yet
from nameplate.language import _
from nameplate.record import Record
from nameplate.specs.part import Part
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry


@dataclass(frozen=True)
class Evidence:
    """The links of one device of a run, from datasheet on, and what a reader must know of them."""

    derates: tuple[Derate, ...]
    notes: tuple[str, ...]


def unpriced(run: Run) -> str | None:
    """Why no device of this run can price a fleet, whatever its records; None where one can."""
    kinds = {entry.identity.kind for entry in run.manifest.devices}
    if kinds == {"cpu"}:
        return _("not priced: a CPU's derate never prices a GPU, and no fleet here is of CPUs")
    if "simulated" in kinds:
        return _("not priced: a simulated device is no evidence")
    return None


def parts_of(run: Run) -> tuple[str, ...]:
    """The parts that the run's devices were taken for, CPUs left out."""
    entries = [entry for entry in run.manifest.devices if entry.identity.kind != "cpu"]
    return tuple(dict.fromkeys(entry.part for entry in entries if entry.part is not None))


def own_figures(run: Run) -> str:
    """What the run measured, in one line: its best product, with its efficiency and verdict."""
    products = [
        record
        for record in run.records
        if record.status == "ok" and record.workload == "matmul" and record.tflops is not None
        if record.fill == REAL_FILL and "unverified" not in record.verdicts
    ]
    entry = run.manifest.devices[0]
    device = f"{entry.identity.name or entry.name} ({entry.part or 'no known part'})"
    believed = [record for record in products if admitted(record)] or products
    best = max(believed, key=lambda record: record.tflops or 0.0, default=None)
    if best is None:
        return f"{device}: no product was measured"
    of = "" if best.efficiency is None else f", {best.efficiency:.1%} of nominal {best.nominal_tflops:.3g}"
    phase = "" if best.phase is None else f", {best.phase},"
    return (
        f"{device}: best product{phase} {best.tflops:.3g} TFLOPS in {best.dtype}{of} "
        f"({' '.join(best.verdicts)})"
    )


def evidence(run: Run, part: Part) -> Evidence:
    """The run's derates of `part`, from its slowest device: a training job goes at that one's pace.

    Raises InputError where no admitted record makes a link, with what to run, and where the run was
    measured against another datasheet figure than the registry's.
    """
    entries = [entry for entry in run.manifest.devices if entry.part == part.id]
    mine = {entry.name: _records_of(entry, run.records) for entry in entries}
    chains = {name: _after_datasheet(records) for name, records in mine.items()}
    chains = {name: links for name, links in chains.items() if links}
    if not chains:
        raise _none_admitted(run, [record for records in mine.values() for record in records])
    # By the stage reached: a device without an admitted burst figure has a link less and comes as far.
    fewest = min(_stages_left(links) for links in chains.values())
    reach = {name: links for name, links in chains.items() if _stages_left(links) == fewest}
    slowest = min(reach, key=lambda name: math.prod(link.value for link in reach[name]))
    _check_datasheet(run, part, mine[slowest], reach[slowest])
    derates = tuple(
        from_run(link, run.id, _convention(mine[slowest], link.source.split(", "))) for link in reach[slowest]
    )
    return Evidence(derates, tuple(_notes(run, entries, reach, slowest, mine)))


def _stages_left(links: Sequence[Link]) -> int:
    return len(not_yet(links[-1].to))


def _records_of(entry: DeviceEntry, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.device == entry.name and record.part == entry.part]


def _after_datasheet(records: Sequence[Record]) -> list[Link]:
    """The chain of the admitted records, without its first link: that one is the registry's.

    Empty where nothing of it follows from the datasheet's figure.
    """
    links = chain([record for record in records if admitted(record)])
    rest = [link for link in links if link.from_ != "nominal"]
    return rest if rest and rest[0].from_ == "datasheet" else []


def _convention(records: Sequence[Record], cases: Sequence[str]) -> str | None:
    said = dict.fromkeys(
        record.convention for record in records if record.case in cases and record.convention
    )
    return "; ".join(said) or None


def _check_datasheet(run: Run, part: Part, records: Sequence[Record], links: Sequence[Link]) -> None:
    dtype = links[0].dtype
    ours = device_peaks(part, dtype)
    theirs = {record.datasheet_tflops for record in records if record.dtype == dtype} - {None}
    if ours is None or any(not math.isclose(each or 0.0, ours) for each in theirs):
        raise InputError(
            f"measured against another {dtype} datasheet figure than the registry's",
            where=f"run {run.id}",
            got=", ".join(f"{each:g}" for each in theirs if each is not None),
            expected="no figure" if ours is None else f"{ours:g} TFLOPS",
        )


def _none_admitted(run: Run, records: Sequence[Record]) -> InputError:
    found = _verdicts(record for record in records if not admitted(record)) or "no record of a product"
    device = run.manifest.options.device
    again = f"bench run {run.manifest.suite}" + (f" --device {device}" if device != "auto" else "")
    return InputError(
        "no product of this run may price a fleet",
        where=f"run {run.id}",
        got=found,
        expected=f"clean records (for sustained also throttled): `{again}` again on a quiet machine, or no "
        "--run for the published derate",
    )


def _verdicts(records: Iterable[Record]) -> str:
    counts = Counter(record.verdict if record.status == "ok" else record.status for record in records)
    return _(", ").join(
        _("{count} {verdict}", count=count, verdict=_(verdict)) for verdict, count in counts.most_common()
    )


def _notes(
    run: Run,
    entries: Sequence[DeviceEntry],
    reach: dict[str, list[Link]],
    slowest: str,
    mine: dict[str, list[Record]],
) -> list[str]:
    notes = []
    if len(entries) > 1:
        notes.append(
            f"by {slowest}, the slowest of {len(reach)} devices of run {run.id} that reach this far (of "
            f"{len(entries)} of this part): a training job goes at its pace"
        )
    left_out = _verdicts(record for record in mine[slowest] if not admitted(record))
    if left_out:
        notes.append(f"records of run {run.id} that weren't admitted: {left_out}")
    if run.missing:
        notes.append(f"run {run.id} isn't finished: {len(run.missing)} expected records are missing")
    return [*notes, *run.problems]
