"""What a run offers a fleet: derates of its part from records that may be believed, or why it offers none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nameplate.base.errors import InputError
from nameplate.base.formatting import figure, percent, stated
from nameplate.base.language import _
from nameplate.base.messages import Message, Reason, message
from nameplate.chain.from_run import (
    Link,
    Stages,
    admitted,
    fastest_product,
    furthest,
    left,
    links,
    slowest,
    stages,
)
from nameplate.chain.stage import Stage
from nameplate.fleet.links import Derate, device_peaks, from_run
from nameplate.record import Record
from nameplate.specs.part import Part
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry


class NotPriced(InputError):
    """A run that may not price a fleet. `why` and `found` say it without a command's flags, for a report."""

    def __init__(self, why: Message, *, where: str, found: Reason, expected: str) -> None:
        """Build the sentence, in English, from its parts."""
        super().__init__(str(why), where=where, got=str(found), expected=expected)
        self.why, self.found = why, found


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
    entry = run.manifest.devices[0]
    device = f"{entry.identity.name or entry.name} ({entry.part or 'no known part'})"
    best = fastest_product(run.records)
    if best is None:
        return f"{device}: no product was measured"
    share, rated = percent(best.efficiency), figure(best.nominal_tflops)
    of = "" if best.efficiency is None else f", {share} of nominal {rated}"
    phase = "" if best.phase is None else f", {best.phase},"
    return (
        f"{device}: best product{phase} {figure(best.tflops)} TFLOPS in {best.dtype}{of} "
        f"({' '.join(best.verdicts)})"
    )


def evidence(run: Run, part: Part) -> Evidence:
    """The run's derates of `part`, from its slowest device: a training job goes at that one's pace.

    Raises NotPriced where no admitted record makes a link, with what to run, and where the run was
    measured against another datasheet figure than the registry's.
    """
    entries = [entry for entry in run.manifest.devices if entry.part == part.id]
    records = [record for entry in entries for record in _records_of(entry, run.records)]
    chains = [
        each
        for each in stages([record for record in records if admitted(record)])
        if each.stages[1].stage is Stage.DATASHEET  # the registry's own figure stands before it
    ]
    pace = slowest(chains)
    if pace is None:
        raise _none_admitted(run, records)
    mine = [record for record in records if record.device == pace.device]
    after_datasheet = links(pace)[1:]
    _check_datasheet(run, part, mine, after_datasheet)
    derates = tuple(
        from_run(link, run.id, _convention(mine, link.source.split(", "))) for link in after_datasheet
    )
    return Evidence(derates, tuple(_notes(run, entries, chains, pace, records)))


def _records_of(entry: DeviceEntry, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.device == entry.name and record.part == entry.part]


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
        raise NotPriced(
            message("other_datasheet", dtype=dtype),
            where=f"run {run.id}",
            found=", ".join(stated(each) for each in theirs if each is not None),
            expected="no figure" if ours is None else f"{stated(ours)} TFLOPS",
        )


def _none_admitted(run: Run, records: Sequence[Record]) -> NotPriced:
    found = _verdicts(record for record in records if not admitted(record))
    device = run.manifest.options.device
    again = f"bench run {run.manifest.suite}" + (f" --device {device}" if device != "auto" else "")
    return NotPriced(
        message("no_product_admitted"),
        where=f"run {run.id}",
        found=found or message("no_product_recorded"),
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
    chains: Sequence[Stages],
    pace: Stages,
    records: Sequence[Record],
) -> list[str]:
    notes = []
    reaching = len(furthest(chains))
    if len(entries) > 1 and reaching > 1:
        notes.append(
            f"by {pace.device}, the slowest of {reaching} devices of run {run.id} that reach this far (of "
            f"{len(entries)} of this part): a training job goes at its pace"
        )
    elif len(entries) > 1:
        notes.append(
            f"by {pace.device}, the only one of {len(entries)} devices of this part in run {run.id} that "
            "reaches this far"
        )
    notes += _explain_other_device(run, pace, records)
    left_out = _verdicts(
        record for record in records if record.device == pace.device and not admitted(record)
    )
    if left_out:
        notes.append(f"records of run {run.id} that weren't admitted: {left_out}")
    if run.missing:
        notes.append(f"run {run.id} isn't finished: {len(run.missing)} expected records are missing")
    return [*notes, *map(str, run.problems)]


def _explain_other_device(run: Run, pace: Stages, records: Sequence[Record]) -> Iterator[str]:
    """Which device is the slowest by all records, as in a report, where another one prices; and why."""
    shown = slowest(stages(records))
    if shown is None or shown.device == pace.device:
        return
    behind = {case for stage in shown.stages for case in stage.source.split(", ")}
    verdicts = _verdicts(
        record
        for record in records
        if record.device == shown.device and record.case in behind and not admitted(record)
    )
    last = shown.stages[-1]
    why = (
        f"records behind that figure weren't admitted: {verdicts}"
        if verdicts
        else "it has no datasheet figure"
    )
    yield (
        f"not by {shown.device}, the slowest device of run {run.id} by all of its records "
        f"({percent(left(last, shown.stages[0]).value)} of nominal in {last.stage.label}): {why}"
    )
