"""One run: which cases, how much time each, and the record of each on disk the moment it is known."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from nameplate.device.find import open_device
from nameplate.device.interface import Device
from nameplate.engine.measure import Allowance, measure_case, unmeasured
from nameplate.engine.pilot import Pilots
from nameplate.errors import InputError
from nameplate.record import DTYPES, METHOD, Record
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest, Options
from nameplate.suite import Case, Suite, Target, find

DEFAULT_RESULTS = Path("runs")
SEED = 2024
# Without --budget a suite's own time is an aim, not a promise: a slow machine gets its figures, up to this
# many times the aim.
_PATIENCE = 3.0
_PACKAGES = ("nameplate", "torch", "numpy", "nvidia-ml-py")


class Observer(Protocol):
    """What may watch a run: the command line's progress, a notebook's, a test's."""

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None:
        """Called when the manifest is written and before the first case; `todo` cases have no record yet."""

    def case_started(self, case: str) -> None:
        """Called before each case."""

    def case_finished(self, record: Record) -> None:
        """Called when the record is on disk."""


class _Silent:
    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None: ...

    def case_started(self, case: str) -> None: ...

    def case_finished(self, record: Record) -> None: ...


@dataclass(frozen=True)
class _Budget:
    """`aim_s` is shared out by weight; `limit_s` is never planned past. Both from the device's clock at 0."""

    aim_s: float
    limit_s: float

    def allowance(self, now_s: float, weight: float, weight_left: float) -> Allowance:
        """The time of a case that has `weight` of the `weight_left` still to come, itself included."""
        share = max(self.aim_s - now_s, 0.0) * weight / weight_left
        return Allowance(share, self.limit_s - now_s)


def measure(
    suite: str | None = None,
    *,
    device: str = "auto",
    only: str | None = None,
    budget: float | None = None,
    nominal: Mapping[str, float] | None = None,
    results: str | Path = DEFAULT_RESULTS,
    resume: str | None = None,
    seed: int = SEED,
    observer: Observer | None = None,
) -> Run:
    """Measure a suite on a device and return the run; the words are those of `bench run` and its flags.

    `suite` names an installed suite (default `quick`). `only` is a glob over case ids. `budget` is in
    seconds: what can't fit is recorded as skipped. `nominal` gives ratings in TFLOPS per dtype. `resume`
    names a run to go on with: its own suite, device and options are kept, and only cases without a record
    are measured (a finished run returns as it is).

    Raises InputError for anything that can't be used; a case that can't run or breaks is a record, never an
    exception. KeyboardInterrupt passes through with every finished record on disk.
    """
    called, watch = time.monotonic(), observer or _Silent()
    if resume is not None:
        flags = Options(device=device, only=only, budget_s=budget, nominal=nominal or {})
        return _resume(store.find_run(resume, Path(results)), suite, flags, watch, called)
    check_budget(budget)
    _check_nominal(nominal or {})
    options = Options(device=device, only=only, budget_s=budget, nominal=nominal or {})
    chosen = find(suite or "quick")
    opened = open_device(device)
    opened.rating = opened.rating.with_nominal(options.nominal)
    cases = chosen.cases(target_of(opened), only)
    _check_dtypes(options.nominal, cases)
    manifest = _manifest(chosen, opened, options, cases, seed)
    where = store.create(Path(results), manifest)
    return _go(where, manifest, chosen, opened, cases, watch, called)


def _resume(
    where: Path,
    suite: str | None,
    flags: Options,
    watch: Observer,
    called: float,
) -> Run:
    run = store.read_run(where)
    _refuse_other_flags(run, suite, flags)
    if not run.missing:
        store.mark_done(where)
        return store.read_run(where)
    check_budget(flags.budget_s)
    options = run.manifest.options.model_copy(
        update={"budget_s": flags.budget_s or run.manifest.options.budget_s}
    )
    wanted = options.device if flags.device == "auto" else flags.device
    chosen, opened = find(run.manifest.suite), open_device(wanted)
    _refuse_other_device(run, opened)
    # A measured clock differs a little from one start to the next; one run has one nominal.
    opened.rating = run.manifest.devices[0].rating
    cases = {case.id: case for case in chosen.cases(target_of(opened), options.only)}
    lost = [case for case in run.missing if case not in cases]
    if lost:
        raise InputError(f"suite {chosen.name} no longer has the case", where=str(where), got=lost[0])
    manifest = run.manifest.model_copy(update={"options": options})
    return _go(where, manifest, chosen, opened, [cases[case] for case in run.missing], watch, called)


def _refuse_other_flags(run: Run, suite: str | None, flags: Options) -> None:
    """A resumed run keeps what it was begun with; a flag that says otherwise would be ignored in silence."""
    begun = run.manifest.options
    for what, got, expected in (
        ("the run is of another suite", suite, run.manifest.suite),
        ("the run was begun with another --only", flags.only, begun.only),
        ("the run was begun with another --nominal", dict(flags.nominal) or None, dict(begun.nominal)),
    ):
        if got is not None and got != expected:
            raise InputError(what, where="--resume", got=got, expected=str(expected))
    if run.missing and run.manifest.method != METHOD:
        raise InputError(
            "the run was measured by another method",
            where=str(run.folder),
            got=run.manifest.method,
            expected=str(METHOD),
        )


def _refuse_other_device(run: Run, opened: Device) -> None:
    """Records of two devices in one run would be compared as one."""
    entry = run.manifest.devices[0]
    if entry.identity.fingerprint() != opened.identity.fingerprint():
        raise InputError(
            "this isn't the device the run was begun on",
            where=str(run.folder),
            got=f"{opened.name} ({opened.identity.name})",
            expected=f"{entry.name} ({entry.identity.name}) with the same model, features and cores",
        )
    torch_then, torch_now = run.manifest.software.get("torch"), software()["torch"]
    if torch_then != torch_now:
        raise InputError("the run was begun with another torch", got=torch_now, expected=str(torch_then))


def _go(
    where: Path,
    manifest: Manifest,
    suite: Suite,
    opened: Device,
    cases: Sequence[Case],
    watch: Observer,
    called: float,
) -> Run:
    """Measure `cases` in order, each record on disk before the next case begins."""
    budget_s = manifest.options.budget_s
    budget = _Budget(budget_s or suite.budget_s, budget_s or _PATIENCE * suite.budget_s)
    watch.run_started(where, manifest, budget.aim_s, len(cases))
    pilots = Pilots(opened, manifest.seed)
    # A user's budget began with the command: loading torch and reading the machine are spent already.
    begin = opened.clock() - (time.monotonic() - called)
    weight_left = sum(case.weight for case in cases)
    with store.RecordWriter(where, opened.name.replace(":", "")) as writer:
        for case in cases:
            watch.case_started(case.id)
            allowance = budget.allowance(opened.clock() - begin, case.weight, weight_left)
            weight_left -= case.weight
            if allowance.limit_s > 0:
                record = measure_case(case, opened, pilots, allowance)
            else:
                record = unmeasured(case, opened, f"the budget of {budget.limit_s:g} s was spent before it")
            writer.append(record)
            watch.case_finished(record)
    store.mark_done(where)
    return store.read_run(where)


def _manifest(suite: Suite, opened: Device, options: Options, cases: Sequence[Case], seed: int) -> Manifest:
    entry = DeviceEntry(
        name=opened.name,
        part=opened.rating.part,
        evidence=opened.rating.evidence,
        nominal=opened.rating.nominal,
        datasheet=opened.rating.datasheet,
        missing=opened.rating.missing,
        notes=opened.rating.notes,
        identity=opened.identity,
    )
    return Manifest(
        run=store.new_run_id(suite.name),
        suite=suite.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        devices=(entry,),
        software=software(),
        options=options,
        seed=seed,
        cases=tuple(case.id for case in cases),
    )


def target_of(opened: Device) -> Target:
    """What a suite may know of the device."""
    return Target(opened.kind, opened.rating.part, opened.memory_bytes, opened.rating.rated_dtypes)


def software() -> dict[str, str | None]:
    """Versions of what a figure depends on."""
    found: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def check_budget(budget: float | None) -> None:
    """Raise InputError for a budget that isn't a time; None is none."""
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError("no time to measure in", where="--budget", got=budget, expected="seconds above 0")


def _check_nominal(given: Mapping[str, float]) -> None:
    for dtype, tflops in given.items():
        if not 0 < tflops < float("inf"):
            raise InputError(
                "not a rating", where=f"--nominal {dtype}", got=tflops, expected="TFLOPS above 0"
            )


def _check_dtypes(given: Mapping[str, float], cases: Sequence[Case]) -> None:
    """A misspelt dtype would leave the rating it was meant to replace."""
    measured = {case.workload.dtype for case in cases}
    for dtype in given:
        if dtype not in DTYPES | measured:
            raise InputError(
                "no such dtype", where="--nominal", got=dtype, expected=" or ".join(sorted(measured))
            )
