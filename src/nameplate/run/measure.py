"""One run, seen from the process that was called: which cases on which devices, and the run folder.

The cases themselves are measured in other processes (`worker.py`), each record on disk the moment it is
known.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nameplate import suite as suites
from nameplate.base.errors import InputError, NameplateError, OutputError, RunIncomplete
from nameplate.device.driver import find_gpu_faults, why_no_gpu
from nameplate.device.host import read_boot, set_default_threads
from nameplate.device.protocol import DeviceDescription
from nameplate.device.survey import DeviceChoice, choose_devices, describe
from nameplate.engine.largest_batch import has_batch
from nameplate.record import DTYPES, METHOD
from nameplate.run.deadlines import Deadlines
from nameplate.run.job import (
    TOGETHER,
    Budget,
    WorkerJob,
    cases_of_run,
    read_software_versions,
    target_of,
)
from nameplate.run.observer import GuardedObserver, Observer
from nameplate.run.pool import WorkerResult, run_workers
from nameplate.run.rescue import rescue_records
from nameplate.run.restarts import Restarts
from nameplate.specs.registry import parts_known
from nameplate.store import folder as store
from nameplate.store.find import MEASURED, find_unfinished
from nameplate.store.folder import Run
from nameplate.store.history import find_earlier_runs
from nameplate.store.launch import Launch, read_launch
from nameplate.store.manifest import DeviceEntry, Expected, Manifest, Options
from nameplate.suite import CUSTOM, NO_AXES, Axes, Case, Suite

DEFAULT_RESULTS = Path(MEASURED)
SEED = 2024
_MOST_SEED = 2**63 - 1
# Of a rating by --nominal, in TFLOPS: far beyond any device, and no ratio to it is refused by a record.
_LEAST_NOMINAL, _MOST_NOMINAL = 1e-6, 1e9


@dataclass(frozen=True)
class _DeviceCases:
    """A device of the run, described without opening it, and its cases."""

    device: DeviceDescription
    cases: Sequence[Case]


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
    axes: Axes | None = None,
    history: bool = True,
    trace: bool = False,
    largest_batch: bool = False,
    parts: str | Path | Sequence[str | Path] = (),
    observer: Observer | None = None,
) -> Run:
    """Measure a suite on a device and return the run; the parameters are the flags of `bench run`.

    `suite` names an installed suite (default `quick`; with `axes`, the shapes or the model to measure,
    `custom`). `only` is a glob over case ids. `budget` is in
    seconds from when the devices are ready: what can't fit is recorded as skipped. `nominal` gives ratings in
    TFLOPS per dtype. `resume` names a run to go on with (`latest`: the latest unfinished one): its own suite,
    device and options are kept, and only cases without a record are measured (a finished run returns as it
    is). A run is kept in `results`, by default `runs`. With `history`, earlier runs there say how much
    figures vary; they are no part of the figures themselves. With `trace`, each case is launched once more at
    the end, under a profiler, and its trace is kept in the run's folder. With `largest_batch`, the largest
    batch that fits the memory is looked for first. `parts` are files of parts, known beside the shipped ones.

    Raises InputError for anything that can't be used; a case that can't run or breaks is a record, never an
    exception, and an observer that raises is told nothing more. KeyboardInterrupt passes through with every
    finished record on disk.
    """
    guarded = GuardedObserver(observer)
    check_budget(budget)
    _check_nominal(nominal or {})
    _check_seed(seed)
    Deadlines.from_environment()  # a bad one is told before anything is written
    for flag, given in (("--results", results), ("--only", only), ("--device", device), ("--resume", resume)):
        _require_text(flag, given)
    axes = axes or NO_AXES
    flags = Options(
        device=device,
        only=only,
        budget_s=budget,
        nominal=nominal or {},
        axes=axes,
        history=history,
        trace=trace,
        largest_batch=largest_batch,
    )
    with parts_known(parts), set_default_threads():
        if resume is not None:
            return _resume(find_unfinished(resume, results), suite, flags, guarded)
        begun = suites.find_suite(_choose_suite(suite, axes))
        return _begin(begun, flags, Path(results or DEFAULT_RESULTS), seed, guarded)


def _require_text(flag: str, given: str | Path | None) -> None:
    """Raise InputError for bytes that are no text: whoever measures is told it as JSON."""
    try:
        str(given or "").encode()
    except UnicodeEncodeError:
        raise InputError("not text in UTF-8", where=flag, got=str(given), expected="a name that is") from None


def _choose_suite(suite: str | None, axes: Axes) -> str:
    """Return the suite's name.

    Raises InputError for one that would leave the axes out without a word, or that no process alone measures.
    """
    if axes and suite not in (None, CUSTOM):
        raise InputError(
            "a suite has its own shapes",
            where="bench run",
            got=f"suite {suite} with --shape, --shapes, --model, --tokens, --dtype or --layout",
            expected="one of the two",
        )
    if suite in TOGETHER:
        raise InputError(
            "measured by all processes of a job together",
            where=f"suite {suite}",
            expected=f"a launcher: torchrun --nproc-per-node 2 --no-python bench run {suite}",
        )
    return CUSTOM if axes else "quick" if suite is None else suite


def _begin(suite: Suite, options: Options, results: Path, seed: int, observer: GuardedObserver) -> Run:
    """Write the manifest of a new run, and measure it."""
    launch = read_launch()
    chosen = choose_own_device(choose_devices(options.device), options.device, launch)
    devices = [_cases_of_new_run(name, suite, options) for name in chosen.names]
    expected = [Expected(case=case.id, device=each.device.name) for each in devices for case in each.cases]
    manifest = Manifest(
        run=store.new_run_id(suite.name, alone=launch is None or launch.world_size == 1),
        suite=suite.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        devices=tuple(entry_of(each.device) for each in devices),
        software=read_software_versions(),
        options=options,
        seed=seed,
        nvml=None if chosen.driver is None else why_no_gpu(chosen.driver),
        incidents=find_gpu_faults(each.device for each in devices),
        measured=all(each.device.measured for each in devices),
        launch=launch,
        boot=read_boot(),
        cases=tuple(expected) if len(devices) > 1 else tuple(each.case for each in expected),
    )
    if options.history:
        usual_s = _find_budget(suite, manifest, None).aim_s
        earlier = find_earlier_runs(results, manifest, options.budget_s or usual_s, usual_s)
        manifest = manifest.model_copy(update={"history": earlier})
    folder = store.create(results, manifest)
    try:
        return _measure(folder, manifest, devices, observer)
    except NameplateError:  # every device refused, or the disk took no record
        store.discard(folder)
        raise


def choose_own_device(chosen: DeviceChoice, flag: str, launch: Launch | None) -> DeviceChoice:
    """Return the devices that this one of a node's processes measures.

    Each has its own where a launcher started several: the GPU of its local rank; where it sees one alone,
    that one. Raises InputError where there are fewer GPUs than processes.
    """
    if launch is None or launch.local_world_size == 1 or flag not in ("auto", "all", "cuda"):
        return chosen
    gpus = choose_devices("all").names
    if gpus == ["cpu"] or len(gpus) == 1:
        return chosen
    if launch.local_rank >= len(gpus):
        raise InputError(
            "fewer GPUs than processes on this node",
            where="LOCAL_RANK",
            got=launch.local_rank,
            expected=f"one of the {len(gpus)} GPUs here",
        )
    return DeviceChoice([gpus[launch.local_rank]], chosen.driver)


def _cases_of_new_run(name: str, suite: Suite, options: Options) -> _DeviceCases:
    device = describe(name)
    cases = suite.cases(
        target_of(device, options.axes), options.only
    )  # before --nominal, which changes no case
    device.rating = device.rating.with_nominal(options.nominal)
    _check_dtypes(options.nominal, cases)
    if options.largest_batch and not any(map(has_batch, cases)):
        raise InputError(
            "no case has a batch that could be larger",
            where="--largest-batch",
            got=f"suite {suite.name}",
            expected="suite block or step, or --model, with a pass that trains, run by torch",
        )
    return _DeviceCases(device, cases)


def entry_of(device: DeviceDescription) -> DeviceEntry:
    """Return what a manifest keeps of a device."""
    rating = device.rating
    return DeviceEntry(
        name=device.name,
        part=rating.part,
        evidence=rating.evidence,
        nominal=rating.nominal,
        datasheet=rating.datasheet,
        missing=rating.missing,
        notes=rating.notes,
        rated_clock_mhz=rating.rated_clock_mhz,
        memory_gb_s=rating.memory_gb_s,
        identity=device.identity,
    )


def _resume(folder: Path, suite: str | None, flags: Options, observer: GuardedObserver) -> Run:
    """Measure what a run lacks; a finished run is returned as it is."""
    run = store.read_run(folder)
    _check_same_flags(run, suite, flags)
    if not run.missing:
        return _finish(run)
    if run.manifest.suite in TOGETHER:
        raise InputError(
            "the processes of a job measured it together, and can't go on with it",
            where=str(run.folder),
            got=f"suite {run.manifest.suite}",
            expected="the whole job to be started again",
        )
    options = run.manifest.options
    options = options.model_copy(update={"budget_s": flags.budget_s or options.budget_s})
    manifest = run.manifest.model_copy(update={"options": options})
    names = list(dict.fromkeys(each.device for each in run.missing))
    if flags.device not in ("auto", "all"):
        names = choose_devices(flags.device).names
    begun = {entry.name: entry.identity for entry in run.manifest.devices}
    described = [describe(name, begun.get(name)) for name in names]
    devices = [_DeviceCases(device, cases_of_run(run, device)) for device in described]
    return _measure(folder, manifest, devices, observer)


def _check_same_flags(run: Run, suite: str | None, flags: Options) -> None:
    """Raise InputError for a flag of a resumed run that differs: it would be ignored without a word."""
    begun = run.manifest.options
    for what, got, expected in (
        ("the run is of another suite", suite, run.manifest.suite),
        ("the run was begun with another --only", flags.only, begun.only),
        ("the run was begun with another --nominal", dict(flags.nominal) or None, dict(begun.nominal)),
        ("the run was begun with other shapes", flags.axes or None, begun.axes),
        ("the run was begun without --trace", flags.trace or None, begun.trace),
        ("the run was begun without --largest-batch", flags.largest_batch or None, begun.largest_batch),
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


def _find_budget(suite: Suite, manifest: Manifest, budget_s: float | None) -> Budget:
    """Return the time of a run: without a budget the longest that the suite takes on one of its devices."""
    kinds = {entry.identity.kind for entry in manifest.devices}
    return max((Budget.of_run(suite, budget_s, kind) for kind in kinds), key=lambda each: each.aim_s)


def _measure(
    folder: Path,
    manifest: Manifest,
    devices: Sequence[_DeviceCases],
    observer: GuardedObserver,
) -> Run:
    """Measure what is missing, each device in a process of its own, all at the same time."""
    names = [each.device.name for each in devices]
    budget_s = manifest.options.budget_s
    with store.claim(folder) as claim:
        before = store.read_run(folder)
        budget = _find_budget(suites.find_suite(manifest.suite), manifest, budget_s)
        deadlines = Deadlines.from_environment().within_budget(budget.aim_s)
        observer.run_started(folder, manifest, budget.aim_s, len(before.missing))
        restarts = {each.device.name: Restarts(each.device, each.cases, claim, observer) for each in devices}
        jobs = [WorkerJob(folder=folder, device=name, budget_s=budget_s) for name in names]

        def next_job(job: WorkerJob, result: WorkerResult) -> WorkerJob | None:
            return restarts[job.device].next_job(job, result)

        try:
            results = run_workers(jobs, observer, next_job, deadlines=deadlines)
            run = _finish(store.read_run(folder))
            found = _with_reasons(
                run, results, restarts, claim, measured_some=len(run.missing) < len(before.missing)
            )
        except NameplateError as error:
            rescue_records(folder, manifest, [*before.records, *observer.records], error)
            raise
        rescue_records(folder, manifest, [*before.records, *observer.records])
        return found


def _finish(run: Run) -> Run:
    """Mark a run done when nothing is missing, and return it as it now stands on disk."""
    if not run.missing:
        store.mark_done(run.folder)
    return store.read_run(run.folder)


def _with_reasons(
    run: Run,
    results: Mapping[str, WorkerResult],
    restarts: Mapping[str, Restarts],
    claim: store.Claim,
    *,
    measured_some: bool,
) -> Run:
    """Return the run with the reason why each device's measuring ended early, which its manifest keeps.

    Raises the first device's error where every device refused and nothing new was measured.
    """
    refusals = [result for result in results.values() if result.refusal is not None]
    if refusals and len(refusals) == len(results) and not measured_some:
        raise _error_of(refusals[0])
    missing = {each.device for each in run.missing}
    reasons = [
        restarts[device].why_missing(result) for device, result in results.items() if device in missing
    ]
    new = [reason for reason in reasons if reason not in run.problems]
    for reason in new:
        claim.add_incident(reason)
    run = store.read_run(run.folder)
    # A disk that takes no more has lost them; the reader of this screen gets them all the same.
    return replace(run, problems=(*run.problems, *(each for each in new if each not in run.problems)))


def _error_of(result: WorkerResult) -> NameplateError:
    """Make the error that a process ended with; its class follows from the exit status."""
    kinds: dict[int, type[NameplateError]] = {each.exit_status: each for each in (InputError, OutputError)}
    return kinds.get(result.status, RunIncomplete)(result.refusal or "")


def check_budget(budget: float | None) -> None:
    """Raise InputError for a budget that is no number of seconds in range; None (no budget) is fine."""
    if budget is not None and not suites.SHORTEST_BUDGET_S <= budget <= suites.LONGEST_BUDGET_S:
        raise InputError(
            "not a time to measure in",
            where="--budget",
            got=budget,
            expected=f"seconds from {suites.SHORTEST_BUDGET_S:g} to {suites.LONGEST_BUDGET_S:g}",
        )


def _check_nominal(given: Mapping[str, float]) -> None:
    for dtype, tflops in given.items():
        if not _LEAST_NOMINAL <= tflops <= _MOST_NOMINAL:
            raise InputError(
                "not a rating",
                where=f"--nominal {dtype}",
                got=tflops,
                expected=f"TFLOPS from {_LEAST_NOMINAL:g} to {_MOST_NOMINAL:g}",
            )


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= _MOST_SEED:
        raise InputError("not a seed", where="seed", got=seed, expected=f"an integer from 0 to {_MOST_SEED}")


def _check_dtypes(given: Mapping[str, float], cases: Sequence[Case]) -> None:
    """Raise InputError for a dtype that is unknown: a misspelt one would replace no rating."""
    measured = {case.workload.dtype for case in cases}
    for dtype in given:
        if dtype not in DTYPES | measured:
            raise InputError(
                "no such dtype", where="--nominal", got=dtype, expected=" or ".join(sorted(measured))
            )
