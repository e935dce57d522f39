"""The links that a run gives a fleet, from its trusted records, or why it gives none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.formatting import count, figure, percent, stated
from nameplate.base.language import _
from nameplate.base.messages import Message, Reason, message
from nameplate.chain.from_run import (
    DeviceChain,
    find_chains,
    find_fastest_product,
    find_furthest,
    find_slowest,
)
from nameplate.chain.link import Chain, Link
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.specs.part import Part
from nameplate.specs.rating import rate_part
from nameplate.store.find import Results, find_run
from nameplate.store.folder import Run, read_run
from nameplate.store.manifest import DeviceEntry


class NotPriced(InputError):
    """A run that may not price a fleet. `why` and `found` say it without a command's flags, for a report."""

    def __init__(self, why: Message, *, where: str, found: Reason, expected: str) -> None:
        """Build the sentence, in English, from its parts."""
        super().__init__(str(why), where=where, got=str(found), expected=expected)
        self.why, self.found = why, found


@dataclass(frozen=True)
class RunUse:
    """Whether a given run prices these fleets: its own figures in one line, and the reason if it doesn't."""

    run: str
    parts: tuple[str, ...]
    used: bool
    figures: str
    reason: str | None = None


@dataclass(frozen=True)
class GivenRun:
    """A run, and the evidence it gives for each part that it may price."""

    run: Run
    evidence: Mapping[str, Chain]  # part → its links from datasheet on

    def use_for(self, parts: Sequence[Part]) -> RunUse:
        """Whether it prices a fleet of these parts, and why not."""
        used, reason = any(part.id in self.evidence for part in parts), None
        if not used:
            reason = explain_unpriced(self.run) or _("not used: this fleet is of another part")
        return RunUse(self.run.id, parts_of_run(self.run), used, describe_run(self.run), reason)


def read_given_run(run: Run | str | Path, results: Results, parts: Mapping[str, Part]) -> GivenRun:
    """Read the run and find its evidence for these parts.

    Raises NotPriced if it is of none of them, and as `find_evidence` does.
    """
    given = run if isinstance(run, Run) else read_run(find_run(str(run), results))
    if explain_unpriced(given) is not None:
        return GivenRun(given, {})
    theirs = parts_of_run(given)
    if not parts.keys() & set(theirs):
        evidence_of = given.manifest.devices[0].evidence
        raise NotPriced(
            message("run_of_other_part"),
            where="--run",
            found=", ".join(theirs) or message("no_known_part", evidence=evidence_of),
            expected=f"a run of {' or '.join(parts) or 'their parts, which are unknown'}, or --part too",
        )
    return GivenRun(given, {part: find_evidence(given, parts[part]) for part in theirs if part in parts})


def explain_unpriced(run: Run) -> str | None:
    """Why no device of this run can price a fleet, whatever its records; None if one can."""
    kinds = {entry.identity.kind for entry in run.manifest.devices}
    if kinds == {"cpu"}:
        return _("not priced: the run is of a CPU, and every fleet here is of accelerators")
    if "simulated" in kinds or not run.measured:
        return _("not priced: a simulated device is no evidence")
    return None


def parts_of_run(run: Run) -> tuple[str, ...]:
    """The ids of the parts of the run's devices, without CPUs."""
    entries = [entry for entry in run.manifest.devices if entry.identity.kind != "cpu"]
    return tuple(dict.fromkeys(entry.part for entry in entries if entry.part is not None))


def describe_run(run: Run) -> str:
    """What the run measured, in one line: its best matrix product, with its efficiency and verdicts."""
    entry = run.manifest.devices[0]
    device = f"{entry.identity.name or entry.name} ({entry.part or 'no known part'})"
    best = find_fastest_product(run.records)
    if best is None:
        return f"{device}: no product was measured"
    share, rated = percent(best.efficiency), figure(best.nominal_tflops)
    of = "" if best.efficiency is None else f", {share} of nominal {rated}"
    phase = "" if best.phase is None else f", {best.phase},"
    return (
        f"{device}: best product{phase} {figure(best.tflops)} TFLOPS in {best.dtype}{of} "
        f"({' '.join(best.verdicts)})"
    )


def find_evidence(run: Run, part: Part) -> Chain:
    """The links of `part` from datasheet on: those of the slowest device, at whose pace a job runs.

    Raises NotPriced, with what to run, if no trusted record makes a link, and if the run was measured against
    another datasheet figure than the registry's.
    """
    entries = [entry for entry in run.manifest.devices if entry.part == part.id]
    records = [record for entry in entries for record in _records_of(entry, run.records)]
    chains = [
        chain
        for chain in find_chains([record for record in records if record.trusted])
        if chain.stages[1].stage is Stage.DATASHEET  # a fleet's own first link is nominal → datasheet
    ]
    slowest = find_slowest(chains)
    if slowest is None:
        raise _refuse_untrusted(run, records)
    mine = [record for record in records if record.device == slowest.device]
    _check_datasheet(run, part, mine, slowest.dtype)
    links = tuple(replace(link, run=run.id, scope=_count_devices(link)) for link in slowest.links()[1:])
    return Chain(links, tuple(_note_run(run, entries, chains, slowest, records)))


def _count_devices(link: Link) -> str:
    return _("1 device") if link.n_to == 1 else _("{count} devices", count=count(link.n_to))


def _records_of(entry: DeviceEntry, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.device == entry.name and record.part == entry.part]


def _check_datasheet(run: Run, part: Part, records: Sequence[Record], dtype: str) -> None:
    # Of one device: an MI250X card is two devices.
    ours = rate_part(part, "").datasheet_for(dtype).tflops
    theirs = {record.datasheet_tflops for record in records if record.dtype == dtype} - {None}
    if ours is None or any(not math.isclose(each or 0.0, ours) for each in theirs):
        raise NotPriced(
            message("other_datasheet", dtype=dtype),
            where=f"run {run.id}",
            found=", ".join(stated(each) for each in theirs if each is not None),
            expected="no figure" if ours is None else f"{stated(ours)} TFLOPS",
        )


def _refuse_untrusted(run: Run, records: Sequence[Record]) -> NotPriced:
    found = _count_verdicts(record for record in records if not record.trusted)
    return NotPriced(
        message("no_product_admitted"),
        where=f"run {run.id}",
        found=found or message("no_product_recorded"),
        expected=f"records that are clean, or power-capped but no burst: `{run.manifest.command}` "
        "again on an idle machine, or no --run, which takes the published derate",
    )


def _count_verdicts(records: Iterable[Record]) -> str:
    counts = Counter(record.verdict if record.status == "ok" else record.status for record in records)
    return _(", ").join(
        _("{count} {verdict}", count=count, verdict=_(verdict)) for verdict, count in counts.most_common()
    )


def _note_run(
    run: Run,
    entries: Sequence[DeviceEntry],
    chains: Sequence[DeviceChain],
    slowest: DeviceChain,
    records: Sequence[Record],
) -> list[str]:
    notes = []
    reaching = len(find_furthest(chains))
    if len(entries) > 1 and reaching > 1:
        notes.append(
            f"by {slowest.device}, the slowest of the {reaching} devices of run {run.id} that reach this far "
            f"({len(entries)} devices are of this part): a training job runs at its pace"
        )
    elif len(entries) > 1:
        notes.append(
            f"by {slowest.device}, the only one of {len(entries)} devices of this part in run {run.id} that "
            "reaches this far"
        )
    if slowest.set_aside is not None:
        notes.append(
            f"run {run.id} has a training step of one device too, which isn't used: what several devices "
            "reach together was measured of the block"
        )
    notes += _explain_other_device(run, slowest, records)
    left_out = _count_verdicts(
        record for record in records if record.device == slowest.device and not record.trusted
    )
    if left_out:
        notes.append(f"records of run {run.id} that aren't trusted: {left_out}")
    if run.missing:
        notes.append(f"run {run.id} isn't finished: {len(run.missing)} expected records are missing")
    return [*notes, *map(str, run.problems)]


def _explain_other_device(run: Run, slowest: DeviceChain, records: Sequence[Record]) -> Iterator[str]:
    """Which device is the slowest by all records, as a report shows it, if another one prices; and why."""
    shown = find_slowest(find_chains(records))
    if shown is None or shown.device == slowest.device:
        return
    cases = {record.case for stage in shown.stages for record in stage.records}
    verdicts = _count_verdicts(
        record
        for record in records
        if record.device == shown.device and record.case in cases and not record.trusted
    )
    last = shown.stages[-1]
    why = (
        f"records behind that figure aren't trusted: {verdicts}" if verdicts else "it has no datasheet figure"
    )
    yield (
        f"not by {shown.device}, the slowest device of run {run.id} by all of its records "
        f"({percent(shown.share_of_nominal(last).value)} of nominal in {last.stage.label}): {why}"
    )
