"""One run: which cases, how much time each, and the record of each on disk the moment it is known."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from nameplate.device.find import describe, device_names, open_device
from nameplate.device.interface import Described, Device
from nameplate.engine.measure import Allowance, measure_case, unmeasured
from nameplate.engine.pilot import Pilots
from nameplate.errors import InputError
from nameplate.record import DTYPES, METHOD, Record
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Expected, Manifest, Options
from nameplate.suite import Case, Suite, Target, find
from nameplate.together import measure_together

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
    names = device_names(device)
    if len(names) > 1:
        return _measure_all(names, chosen, options, Path(results), seed, watch)
    opened = open_device(names[0])
    cases = chosen.cases(target_of(opened), only)  # by the device's own rating: a label moves no workload
    opened.rating = opened.rating.with_nominal(options.nominal)
    _check_dtypes(options.nominal, cases)
    manifest = _manifest(chosen, [_entry(opened)], options, [case.id for case in cases], seed)
    where = store.create(Path(results), manifest)
    with store.claimed(where):
        return _finish(_measure_here(where, manifest, chosen, opened, cases, watch, called))


def _measure_all(
    names: Sequence[str], suite: Suite, options: Options, results: Path, seed: int, watch: Observer
) -> Run:
    """Measure every device of the machine at the same time, a process each, into one run."""
    entries, expected = [], []
    for name in names:
        seen = describe(name)
        cases = suite.cases(target_of(seen), options.only)
        seen.rating = seen.rating.with_nominal(options.nominal)
        _check_dtypes(options.nominal, cases)
        entries.append(_entry(seen))
        expected += [Expected(case=case.id, device=name) for case in cases]
    manifest = _manifest(suite, entries, options, expected, seed)
    where = store.create(results, manifest)
    return _together(where, manifest, names, options.budget_s, watch)


def _together(
    where: Path, manifest: Manifest, names: Sequence[str], budget_s: float | None, watch: Observer
) -> Run:
    run = store.read_run(where)
    aim_s = _budget(find(manifest.suite), manifest.options.budget_s).aim_s
    watch.run_started(where, manifest, aim_s, len(run.missing))
    with store.claimed(where):
        measure_together(where, names, watch.case_finished, budget_s)
        return _finish(store.read_run(where))


def _finish(run: Run) -> Run:
    """Mark a run done when nothing is missing, and return it as it now stands on disk."""
    if not run.missing:
        store.mark_done(run.folder)
    return store.read_run(run.folder)


def measure_share(
    where: Path, device: str, budget_s: float | None, watch: Observer, ready: Callable[[], None]
) -> None:
    """Measure what is missing of the run in `where` on one of its devices; `ready` returns when it may begin.

    Raises InputError where that device, or torch, isn't the one the run was begun with.
    """
    run = store.read_run(where)
    suite, opened = find(run.manifest.suite), open_device(device)
    cases = _missing_cases(run, suite, opened)
    ready()
    manifest = _with_budget(run.manifest, budget_s)
    _measure_here(where, manifest, suite, opened, cases, watch, time.monotonic())


def _resume(where: Path, suite: str | None, flags: Options, watch: Observer, called: float) -> Run:
    run = store.read_run(where)
    _refuse_other_flags(run, suite, flags)
    if not run.missing:
        return _finish(run)
    check_budget(flags.budget_s)
    manifest = _with_budget(run.manifest, flags.budget_s)
    names = list(dict.fromkeys(each.device for each in run.missing))
    if len(manifest.devices) > 1:
        return _together(where, manifest, names, flags.budget_s, watch)
    wanted = manifest.options.device if flags.device == "auto" else flags.device
    chosen, opened = find(manifest.suite), open_device(wanted)
    cases = _missing_cases(run, chosen, opened)
    with store.claimed(where):
        return _finish(_measure_here(where, manifest, chosen, opened, cases, watch, called))


def _with_budget(manifest: Manifest, budget_s: float | None) -> Manifest:
    options = manifest.options.model_copy(update={"budget_s": budget_s or manifest.options.budget_s})
    return manifest.model_copy(update={"options": options})


def _missing_cases(run: Run, suite: Suite, opened: Device) -> list[Case]:
    """The cases of a run that its suite must make again for this device; its rating becomes the run's."""
    _refuse_other_device(run, opened)
    made = {case.id: case for case in suite.cases(target_of(opened), run.manifest.options.only)}
    # A measured clock differs a little from one start to the next; one run has one nominal.
    opened.rating = run.manifest.entry(opened.name).rating
    wanted = [each.case for each in run.missing if each.device == opened.name]
    lost = [case for case in wanted if case not in made]
    if lost:
        raise InputError(f"suite {suite.name} no longer has the case", where=str(run.folder), got=lost[0])
    return [made[case] for case in wanted]


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
    begun = {entry.name: entry.identity for entry in run.manifest.devices}
    then = begun.get(opened.name)
    if then is None or then.fingerprint() != opened.identity.fingerprint():
        expected = " or ".join(f"{name} ({identity.name})" for name, identity in begun.items())
        raise InputError(
            "this isn't the device the run was begun on",
            where=str(run.folder),
            got=f"{opened.name} ({opened.identity.name})",
            expected=f"{expected} with the same model, features, cores and thread settings",
        )
    torch_then, torch_now = run.manifest.software.get("torch"), software()["torch"]
    if torch_then != torch_now:
        raise InputError("the run was begun with another torch", got=torch_now, expected=str(torch_then))


def _budget(suite: Suite, budget_s: float | None) -> _Budget:
    return _Budget(budget_s or suite.budget_s, budget_s or _PATIENCE * suite.budget_s)


def _measure_here(
    where: Path,
    manifest: Manifest,
    suite: Suite,
    opened: Device,
    cases: Sequence[Case],
    watch: Observer,
    called: float,
) -> Run:
    """Measure `cases` in order in this process, each record on disk before the next case begins."""
    budget = _budget(suite, manifest.options.budget_s)
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
    return store.read_run(where)


def _entry(opened: Described) -> DeviceEntry:
    rating = opened.rating
    return DeviceEntry(
        name=opened.name,
        part=rating.part,
        evidence=rating.evidence,
        nominal=rating.nominal,
        datasheet=rating.datasheet,
        missing=rating.missing,
        notes=rating.notes,
        identity=opened.identity,
    )


def _manifest(
    suite: Suite,
    devices: Sequence[DeviceEntry],
    options: Options,
    cases: Sequence[str | Expected],
    seed: int,
) -> Manifest:
    return Manifest(
        run=store.new_run_id(suite.name),
        suite=suite.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        devices=tuple(devices),
        software=software(),
        options=options,
        seed=seed,
        cases=tuple(cases),
    )


def target_of(opened: Described) -> Target:
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
