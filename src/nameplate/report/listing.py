"""Lists: the runs of a library, and the suites that can be run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.formatting import UNKNOWN, duration, figure, percent
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.from_run import find_chains, find_fastest_product, find_slowest
from nameplate.record import GRAVITY, Record
from nameplate.report.labels import join_counted
from nameplate.report.sections.identity import device_name
from nameplate.report.view import Field, Table, View, table_of
from nameplate.store.find import Library
from nameplate.store.folder import Run, read_run
from nameplate.store.manifest import parse_time

_NOT_MEASURED = ("skipped", "failed")
# What the row of a run has of its best product.
_BEST_COLUMNS = (
    *("case", "device", "dtype"),
    *("tflops", "tflops_low", "tflops_high"),
    *("efficiency", "efficiency_low", "efficiency_high"),
    "verdict",
)


@dataclass(frozen=True)
class ListedDevice:
    """A device of a run: its name in the run, its own name, and the part it was taken for."""

    device: str
    name: str
    part: str | None


@dataclass(frozen=True)
class ListedRun:
    """A run as its row shows it.

    `best` is the record of the best matrix product on the run's own screen: of several devices the slowest's.
    `verdicts` counts the measured records by their gravest verdict, the gravest first, then those that were
    skipped or failed; `trusted` counts those that count by default. `source` is the folder of the library in
    which the run was found.
    """

    run: str
    created: str
    suite: str
    devices: tuple[ListedDevice, ...]
    recorded: int
    expected: int
    finished: bool
    best: Record | None
    verdicts: dict[str, int]
    trusted: int
    published: bool
    measured: bool
    folder: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """Return the row of `--json`; a figure that isn't known is null."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["devices"] = [asdict(device) for device in self.devices]
        row["best"] = self.best and {name: getattr(self.best, name) for name in _BEST_COLUMNS}
        return row


def list_runs(library: Library) -> tuple[list[ListedRun], list[Path]]:
    """Return every run of a library, the newest first, and the folders in which none can be read."""
    contents = library.read()
    listed, unreadable = [], list(contents.unreadable)
    for folder, _manifest in contents.runs:
        try:
            # One run after another: all their batches at once may not fit in memory.
            listed.append(_list_run(read_run(folder), library))
        except InputError:
            unreadable.append(folder)
    return listed, unreadable


def _list_run(run: Run, library: Library) -> ListedRun:
    manifest = run.manifest
    source = next(each for each in library.folders if run.folder.is_relative_to(each))
    chain = find_slowest(find_chains(run.records))
    best = chain.best_product if chain else find_fastest_product(run.records)
    outcomes = Counter[str](
        record.verdict if record.status == "ok" else record.status for record in run.records
    )
    return ListedRun(
        run=run.id,
        created=manifest.created,
        suite=manifest.suite,
        devices=tuple(ListedDevice(entry.name, device_name(entry), entry.part) for entry in manifest.devices),
        recorded=len(run.records),
        expected=len(manifest.expected),
        finished=run.finished,
        best=best,
        verdicts={name: outcomes[name] for name in (*GRAVITY, *_NOT_MEASURED) if outcomes[name]},
        trusted=sum(record.trusted for record in run.records),
        published=manifest.published,
        measured=run.measured,
        folder=str(run.folder),
        source=str(source),
    )


def list_table(runs: Sequence[ListedRun]) -> Table:
    """The runs, a row each. The columns that a narrow terminal keeps include the id, which tells the rest."""
    fields = [
        Field[ListedRun]("run", lambda run: run.run),
        Field[ListedRun]("begun, UTC", _begun, drop_priority=2),
        Field[ListedRun]("suite", lambda run: plain(run.suite), drop_priority=1),
        Field[ListedRun]("device", _devices, drop_priority=4),
        Field[ListedRun]("cases", lambda run: f"{run.recorded}/{run.expected}", is_number=True),
        Field[ListedRun]("finished", lambda run: _("yes") if run.finished else _("no"), drop_priority=3),
        Field[ListedRun]("TFLOPS", lambda run: figure(run.best.tflops if run.best else None), is_number=True),
        Field[ListedRun]("dtype", lambda run: run.best.dtype if run.best else UNKNOWN, drop_priority=5),
        Field[ListedRun](
            "of nominal", lambda run: percent(run.best.efficiency if run.best else None), is_number=True
        ),
        Field[ListedRun]("trusted", lambda run: str(run.trusted), is_number=True, drop_priority=6),
        Field[ListedRun]("gravest", _gravest),
        Field[ListedRun]("folder", lambda run: plain(run.source), drop_priority=0),
    ]
    lead = _(
        "Cases: recorded of expected. TFLOPS and of nominal: the best matrix product. Trusted: how many "
        "records are. Gravest: the gravest verdict of all records."
    )
    simulated = _(", ").join(run.run for run in runs if not run.measured)
    if simulated:
        said = _("Simulated, and no measurements: {runs}.", runs=simulated)
        lead = _("{first} {second}", first=said, second=lead)
    return table_of(_("Runs, the newest first"), fields, runs, lead=lead)


def _begun(run: ListedRun) -> str:
    begun = parse_time(run.created)
    return plain(run.created) if begun is None else f"{begun:%Y-%m-%d %H:%M}"


def _devices(run: ListedRun) -> str:
    """The parts of the devices, such as `8 × nvidia-a800-sxm4-80gb`; of no known part, their own names."""
    return join_counted(plain(each.part or each.name) for each in run.devices)


def _gravest(run: ListedRun) -> str:
    """The gravest verdict. A failed case is graver than any verdict, a skipped one less grave than all."""
    gravest = "failed" if "failed" in run.verdicts else next(iter(run.verdicts), None)
    return UNKNOWN if gravest is None else _(gravest)


def suites_view(suites: Sequence[Mapping[str, Any]]) -> View:
    """Each suite with the time that it takes and what it measures."""
    fields = [
        Field[Mapping[str, Any]]("suite", lambda suite: plain(suite["suite"])),
        Field[Mapping[str, Any]]("time", lambda suite: duration(suite["budget_s"]), is_number=True),
        Field[Mapping[str, Any]]("on a GPU", lambda suite: duration(suite["gpu_budget_s"]), is_number=True),
        Field[Mapping[str, Any]]("what", lambda suite: plain(_(suite["description"]))),
    ]
    table = table_of("", fields, suites)
    return View(title=_("What can be run here"), tables=(table,), meaning=_("Run one: `bench run SUITE`."))
