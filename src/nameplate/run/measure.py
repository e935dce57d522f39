"""One run: which cases, how much time each, and the record of each on disk the moment it is known."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from nameplate.base.errors import InputError, NameplateError, OutputError, RunIncomplete
from nameplate.base.messages import Message, message
from nameplate.device.find import describe, device_names, open_device
from nameplate.device.interface import Described, Device
from nameplate.device.threads import chosen_threads
from nameplate.engine.ceiling import Ceilings
from nameplate.engine.measure import Allowance, measure_group, unmeasured
from nameplate.engine.pilot import Pilots
from nameplate.record import DTYPES, METHOD, Record
from nameplate.run.pool import Outcome, Share, Watch, measure_together
from nameplate.store import folder as store
from nameplate.store.find import MEASURED, find_unfinished
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Expected, Manifest, Options
from nameplate.suite import Case, Suite, Target, find, groups

DEFAULT_RESULTS = Path(MEASURED)
SEED = 2024
# Without --budget a suite's own time is an aim, not a promise: a slow machine gets its figures, up to this
# many times the aim.
_PATIENCE = 3.0
_PACKAGES = ("nameplate", "torch", "numpy", "nvidia-ml-py")


class Observer(Watch, Protocol):
    """What may watch a run: the command line's progress, a notebook's, a test's."""

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None:
        """Called when the manifest is written and before the first case; `todo` cases have no record yet."""


class _Silent:
    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None: ...

    def group_started(self, cases: Sequence[str]) -> None: ...

    def case_finished(self, record: Record) -> None: ...


@dataclass(frozen=True)
class _Budget:
    """`aim_s` is shared out by weight; `limit_s` is never planned past. Both from the device's clock at 0."""

    aim_s: float
    limit_s: float

    def allowance(self, now_s: float, weight: float, weight_left: float) -> Allowance:
        """The time of a group that has `weight` of the `weight_left` still to come, itself included."""
        share = max(self.aim_s - now_s, 0.0) * weight / weight_left
        return Allowance(share, self.limit_s - now_s)


def measure(
    suite: str | None = None,
    *,
    device: str = "auto",
    only: str | None = None,
    budget: float | None = None,
    nominal: Mapping[str, float] | None = None,
    results: str | Path | None = None,
    resume: str | None = None,
    seed: int = SEED,
    observer: Observer | None = None,
) -> Run:
    """Measure a suite on a device and return the run; the words are those of `bench run` and its flags.

    `suite` names an installed suite (default `quick`). `only` is a glob over case ids. `budget` is in
    seconds: what can't fit is recorded as skipped. `nominal` gives ratings in TFLOPS per dtype. `resume`
    names a run to go on with (`latest`: the latest unfinished one): its own suite, device and options are
    kept, and only cases without a record are measured (a finished run returns as it is). A run is kept in
    `results`, by default `runs`.

    Raises InputError for anything that can't be used; a case that can't run or breaks is a record, never an
    exception. KeyboardInterrupt passes through with every finished record on disk.
    """
    called, watch = time.monotonic(), observer or _Silent()
    check_budget(budget)
    _check_nominal(nominal or {})
    flags = Options(device=device, only=only, budget_s=budget, nominal=nominal or {})
    with chosen_threads():
        if resume is not None:
            return _resume(find_unfinished(resume, results), suite, flags, watch, called)
        return _begin(find(suite or "quick"), flags, Path(results or DEFAULT_RESULTS), seed, watch, called)


@dataclass(frozen=True)
class _Lot:
    """A device of the run, as it was described before any process opened it, and its cases."""

    device: Described
    cases: Sequence[Case]


def _begin(suite: Suite, options: Options, results: Path, seed: int, watch: Observer, called: float) -> Run:
    """Write down what is to be measured on which devices, and measure it."""
    lots = [_first_lot(name, suite, options) for name in device_names(options.device)]
    expected = [Expected(case=case.id, device=lot.device.name) for lot in lots for case in lot.cases]
    manifest = _manifest(
        suite,
        [_entry(lot.device) for lot in lots],
        options,
        expected if len(lots) > 1 else [each.case for each in expected],
        seed,
    )
    return _measure(store.create(results, manifest), manifest, lots, watch, called)


def _first_lot(name: str, suite: Suite, options: Options) -> _Lot:
    seen = describe(name)
    cases = suite.cases(target_of(seen), options.only)  # by the device's own rating, not by a label
    seen.rating = seen.rating.with_nominal(options.nominal)
    _check_dtypes(options.nominal, cases)
    return _Lot(seen, cases)


def _measure(where: Path, manifest: Manifest, lots: Sequence[_Lot], watch: Observer, called: float) -> Run:
    """Measure what is missing, each device in a process of its own, all at the same time."""
    by_device = {lot.device.name: lot for lot in lots}
    budget_s = manifest.options.budget_s

    def again(share: Share, outcome: Outcome) -> Share | None:
        return _go_on(share, outcome, by_device[share.device], watch)

    with store.claimed(where):
        begun = store.read_run(where)
        watch.run_started(where, manifest, _budget(find(manifest.suite), budget_s).aim_s, len(begun.missing))
        shares = [Share(where, device, budget_s, called) for device in by_device]
        outcomes = measure_together(shares, watch, again)
        run = _finish(store.read_run(where))
        return _with_reasons(run, outcomes, got_further=len(run.missing) < len(begun.missing))


def _go_on(share: Share, outcome: Outcome, lot: _Lot, watch: Watch) -> Share | None:
    """What is measured in another process where one died at work; None where that would come no further.

    The group that it died in is measured again case by case; a case that it died of alone is lost.
    """
    if not outcome.died:
        return None
    missing = {each.case for each in store.read_run(share.folder).missing if each.device == share.device}
    lost = [case for case in lot.cases if case.id in outcome.in_flight and case.id in missing]
    if len(outcome.in_flight) == 1:
        for case in lost:
            _record_lost(share, outcome, lot.device, case, watch)
            missing.remove(case.id)
    if not missing or not (lost or outcome.records):
        return None
    return replace(share, alone=(*share.alone, *(case.id for case in lost)))


def _record_lost(share: Share, outcome: Outcome, device: Described, case: Case, watch: Watch) -> None:
    record = unmeasured(case, device, message("process_died", how=outcome.how), "failed")
    with store.RecordWriter(share.folder, f"{_file_name(share.device)}-lost") as writer:
        writer.append(record)
    watch.case_finished(record)


def _with_reasons(run: Run, outcomes: Mapping[str, Outcome], *, got_further: bool) -> Run:
    """The run, with why a device measured no more of it; raises that where it is all there is to say."""
    refusals = [outcome for outcome in outcomes.values() if outcome.refusal is not None]
    if refusals and len(refusals) == len(outcomes) and not got_further:
        raise _error(refusals[0])
    missing = {each.device for each in run.missing}
    reasons = [_why_missing(device, outcome) for device, outcome in outcomes.items() if device in missing]
    return replace(run, problems=(*run.problems, *reasons))


def _why_missing(device: str, outcome: Outcome) -> Message:
    """Why a device's process measured no more; a refusal stays the sentence that it said."""
    if outcome.refusal:
        return message("device_refused", device=device, why=outcome.refusal)
    return message("device_died", device=device, how=outcome.how)


def _error(outcome: Outcome) -> NameplateError:
    """What a process refused with, as the error it was there."""
    kinds: dict[int, type[NameplateError]] = {each.exit_status: each for each in (InputError, OutputError)}
    return kinds.get(outcome.status, RunIncomplete)(outcome.refusal or "")


def _finish(run: Run) -> Run:
    """Mark a run done when nothing is missing, and return it as it now stands on disk."""
    if not run.missing:
        store.mark_done(run.folder)
    return store.read_run(run.folder)


def measure_share(share: Share, watch: Watch, ready: Callable[[], None]) -> None:
    """Measure what is missing of a run on one of its devices; `ready` returns when it may begin.

    Raises InputError where that device, or torch, isn't the one the run was begun with.
    """
    run = store.read_run(share.folder)
    suite, opened = find(run.manifest.suite), open_device(share.device)
    missing = {each.case for each in run.missing if each.device == share.device}
    sittings = _sittings(_made_again(run, suite, opened), missing, share.alone)
    ready()
    manifest = _with_budget(run.manifest, share.budget_s)
    _measure_here(share, manifest, suite, opened, sittings, watch)


def _resume(where: Path, suite: str | None, flags: Options, watch: Observer, called: float) -> Run:
    run = store.read_run(where)
    _refuse_other_flags(run, suite, flags)
    if not run.missing:
        return _finish(run)
    manifest = _with_budget(run.manifest, flags.budget_s)
    names = list(dict.fromkeys(each.device for each in run.missing))
    if flags.device not in ("auto", "all"):
        names = device_names(flags.device)
    lots = [_lot_again(run, find(manifest.suite), name) for name in names]
    return _measure(where, manifest, lots, watch, called)


def _with_budget(manifest: Manifest, budget_s: float | None) -> Manifest:
    options = manifest.options.model_copy(update={"budget_s": budget_s or manifest.options.budget_s})
    return manifest.model_copy(update={"options": options})


def _lot_again(run: Run, suite: Suite, name: str) -> _Lot:
    seen = describe(name)
    return _Lot(seen, _made_again(run, suite, seen))


def _made_again(run: Run, suite: Suite, opened: Described) -> list[Case]:
    """The cases of a run that its suite makes again for this device; its rating becomes the run's."""
    _refuse_other_device(run, opened)
    made = suite.cases(target_of(opened), run.manifest.options.only)
    # A measured clock differs a little from one start to the next; one run has one nominal.
    opened.rating = run.manifest.entry(opened.name).rating
    known = {case.id for case in made}
    lost = [each.case for each in run.missing if each.device == opened.name and each.case not in known]
    if lost:
        raise InputError(f"suite {suite.name} no longer has the case", where=str(run.folder), got=lost[0])
    return made


def _sittings(
    made: Iterable[Case], missing: Collection[str], alone: Collection[str]
) -> list[tuple[str, list[Case]]]:
    """What is missing, in the groups that the whole run has, each with a name that no other records share.

    What is left of a group isn't measured in turn with what has been, so it has another name; a group with a
    case of `alone` is measured case by case.
    """
    found: list[tuple[str, list[Case]]] = []
    for name, group in groups(made):
        left = [case for case in group if case.id in missing]
        if any(case.id in alone for case in left):
            found += [(case.id, [case]) for case in left]
        elif left:
            found.append((name if len(left) == len(group) else f"{name} from {left[0].id}", left))
    return found


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


def _refuse_other_device(run: Run, opened: Described) -> None:
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
    share: Share,
    manifest: Manifest,
    suite: Suite,
    opened: Device,
    sittings: Sequence[tuple[str, Sequence[Case]]],
    watch: Watch,
) -> None:
    """Measure group by group in this process, a group's records on disk before the next begins."""
    budget = _budget(suite, manifest.options.budget_s)
    pilots, ceilings = Pilots(opened, manifest.seed), Ceilings(opened, manifest.seed)
    # A user's budget began with the command: loading torch and reading the machine are spent already.
    at_work = opened.clock()
    begin = at_work - (time.monotonic() - share.called)
    weight_left = sum(case.weight for _, group in sittings for case in group)
    with store.RecordWriter(share.folder, _file_name(share.device)) as writer:
        for name, group in sittings:
            watch.group_started([case.id for case in group])
            weight = sum(case.weight for case in group)
            allowance = budget.allowance(opened.clock() - begin, weight, weight_left)
            weight_left -= weight
            if allowance.limit_s > 0:
                busy_s = opened.clock() - at_work
                records = measure_group(group, opened, pilots, allowance, ceilings, name, busy_s)
            else:
                spent = message("budget_spent", budget_s=budget.limit_s)
                records = [unmeasured(case, opened, spent) for case in group]
            for record in records:
                writer.append(record)
                watch.case_finished(record)


def _file_name(device: str) -> str:
    return device.replace(":", "")


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
        rated_clock_mhz=rating.rated_clock_mhz,
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
