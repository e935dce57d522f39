"""The runs of a library, a row each: which they are, whether they are whole, and what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.formatting import UNKNOWN, duration, figure, percent
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.from_run import find_chains, find_fastest_product, find_slowest
from nameplate.chain.stage import Stage
from nameplate.record import GRAVITY, Record
from nameplate.report.sections.identity import device_name
from nameplate.report.view import Field, Table, View, table_of
from nameplate.store.find import Library
from nameplate.store.folder import Run, read_run
from nameplate.store.manifest import moment

_PRODUCTS = (Stage.GEMM, Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
_UNMEASURED = ("skipped", "failed")


@dataclass(frozen=True)
class ListedDevice:
    """A device of a run: what the run calls it, what it calls itself, and the part it was taken for."""

    device: str
    name: str
    part: str | None


@dataclass(frozen=True)
class Best:
    """The product that the run's screen calls the best: of several devices the slowest's.

    `efficiency` is of nominal; None where the device has none in this dtype.
    """

    case: str
    device: str
    dtype: str
    tflops: float
    tflops_low: float | None
    tflops_high: float | None
    efficiency: float | None
    efficiency_low: float | None
    efficiency_high: float | None
    verdict: str


@dataclass(frozen=True)
class Listed:
    """One run of a list.

    `verdicts` counts its measured records by their gravest verdict, the gravest first, and then those that
    were skipped or failed. `source` is the folder in which it was found.
    """

    run: str
    created: str
    suite: str
    devices: tuple[ListedDevice, ...]
    recorded: int
    expected: int
    finished: bool
    best: Best | None
    verdicts: dict[str, int]
    published: bool
    folder: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """The run as a JSON row; a figure that isn't known is null."""
        return asdict(self)


def list_runs(library: Library) -> tuple[list[Listed], list[Path]]:
    """Every run of a library, the newest first, and the folders in which none can be read."""
    contents = library.contents()
    found, unreadable = [], list(contents.unreadable)
    for folder, _manifest in contents.runs:
        try:
            # One after the other: hundreds of runs with all their batches needn't be held at a time.
            found.append(_listed(read_run(folder), library))
        except InputError:
            unreadable.append(folder)
    return found, unreadable


def list_table(runs: Sequence[Listed]) -> Table:
    """The runs as a table; on a narrow terminal an id still says when a run began, and its suite."""
    fields = [
        Field[Listed]("run", lambda run: run.run),
        Field[Listed]("begun, UTC", _begun, drop_priority=2),
        Field[Listed]("suite", lambda run: plain(run.suite), drop_priority=1),
        Field[Listed]("device", _device, drop_priority=4),
        Field[Listed]("cases", lambda run: f"{run.recorded}/{run.expected}", is_number=True),
        Field[Listed]("finished", lambda run: _("yes") if run.finished else _("no"), drop_priority=3),
        Field[Listed]("TFLOPS", lambda run: figure(run.best.tflops) if run.best else "–", is_number=True),
        Field[Listed]("dtype", lambda run: run.best.dtype if run.best else "–", drop_priority=5),
        Field[Listed](
            "of nominal", lambda run: percent(run.best.efficiency if run.best else None), is_number=True
        ),
        Field[Listed](
            "clean", lambda run: str(run.verdicts.get("clean", 0)), is_number=True, drop_priority=6
        ),
        Field[Listed]("gravest", _gravest),
        Field[Listed]("folder", lambda run: plain(run.source), drop_priority=0),
    ]
    lead = _(
        "Cases recorded of those expected, and the best product, in TFLOPS and of nominal; how many records "
        "are clean, and the gravest verdict of all."
    )
    return table_of(_("Runs, the newest first"), fields, runs, lead=lead)


def _listed(run: Run, library: Library) -> Listed:
    manifest = run.manifest
    place = next(each for each in library.folders if run.folder.is_relative_to(each))
    return Listed(
        run=run.id,
        created=manifest.created,
        suite=manifest.suite,
        devices=tuple(ListedDevice(entry.name, device_name(entry), entry.part) for entry in manifest.devices),
        recorded=len(run.records),
        expected=len(manifest.expected),
        finished=run.finished,
        best=_best(run),
        verdicts=_counts(run.records),
        published=manifest.published,
        folder=str(run.folder),
        source=str(place),
    )


def _best(run: Run) -> Best | None:
    record = _best_of_chain(run) or find_fastest_product(run.records)
    if record is None or record.tflops is None:
        return None
    return Best(
        record.case,
        record.device,
        record.dtype,
        record.tflops,
        record.tflops_low,
        record.tflops_high,
        record.efficiency,
        record.efficiency_low,
        record.efficiency_high,
        record.verdict,
    )


def _best_of_chain(run: Run) -> Record | None:
    """The product of the run's chain, settled where that was measured; None without a rated product."""
    shown = find_slowest(find_chains(run.records))
    if shown is None:
        return None
    cases = [each.source for each in shown.stages if each.stage in _PRODUCTS]
    records = {(record.device, record.case): record for record in run.records}
    return records.get((shown.device, cases[-1])) if cases else None


def _counts(records: Sequence[Record]) -> dict[str, int]:
    found: Counter[str] = Counter(
        record.verdict if record.status == "ok" else record.status for record in records
    )
    return {name: found[name] for name in (*GRAVITY, *_UNMEASURED) if found[name]}


def _begun(run: Listed) -> str:
    begun = moment(run.created)
    return plain(run.created) if begun is None else f"{begun:%Y-%m-%d %H:%M}"


def _device(run: Listed) -> str:
    """`8 × nvidia-a800-sxm4-80gb`; by its own name where it is of no known part."""
    counts = Counter(plain(each.part or each.name) for each in run.devices)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


def _gravest(run: Listed) -> str:
    """The gravest verdict; a case that failed is graver than any, and one that was skipped than none."""
    gravest = "failed" if "failed" in run.verdicts else next(iter(run.verdicts), None)
    return UNKNOWN if gravest is None else _(gravest)


_Suite = Mapping[str, Any]


def suites_view(rows: Sequence[_Suite]) -> View:
    """Each suite with the time that it takes and what it measures."""
    fields = [
        Field[_Suite]("suite", lambda row: plain(row["suite"])),
        Field[_Suite]("time", lambda row: duration(row["budget_s"]), is_number=True),
        Field[_Suite]("what", lambda row: plain(_(row["description"]))),
    ]
    return View(
        _("What can be run here"),
        (),
        (table_of("", fields, rows),),
        _("Run one: `bench run SUITE`."),
        (),
        (),
    )
