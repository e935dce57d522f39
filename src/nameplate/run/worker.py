"""The process that measures one device's part of a run; `pool.py` starts it.

    python -m nameplate.run.worker JOB …

JOB is a `WorkerJob` as JSON. It sends `{"ready": true}`, waits for a message to go, then sends a message for
each group it starts, each record once it is on the disk, and the sentence of the error it ends by. It ends
with its parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from nameplate import suite as suites
from nameplate.base.errors import NameplateError
from nameplate.base.exit_status import ExitStatus, report_unforeseen
from nameplate.base.messages import Message, message
from nameplate.base.processes import Parent, connect_to_parent
from nameplate.base.shared_note import SharedNote
from nameplate.device.numa import bind_to_gpu
from nameplate.device.protocol import MeasuredDevice
from nameplate.device.survey import open_device
from nameplate.engine.case_run import ContextLost
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.measure import measure_in_processes, stays_settled
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.run_to_run import History
from nameplate.engine.runner import InThisProcess, Runner
from nameplate.engine.usual_spread import find_usual_spreads
from nameplate.record import Record
from nameplate.run.child import end_after_stop
from nameplate.run.deadlines import StepNotes
from nameplate.run.forks import InFreshProcesses
from nameplate.run.job import (
    GO,
    GROUP,
    READY,
    REFUSAL,
    Budget,
    CaseObserver,
    WorkerJob,
    WorkerStatus,
    cases_of_run,
    find_traces_folder,
    records_name_of,
)
from nameplate.store.folder import RecordWriter, Run, read_run
from nameplate.store.history import read_earlier
from nameplate.suite import Case, make_groups

_Group = tuple[str, list[Case]]  # its name, and its cases that have no record yet
# Names of devices that other processes find as this one does. A simulated one has a clock of its own in each.
_REAL = ("cpu", "cuda:")
_MakeRunner = Callable[[WorkerJob, Run, StepNotes], Runner]


def measure_here(job: WorkerJob, run: Run, notes: StepNotes) -> Runner:
    """Open the job's device in this process, which then measures all of it: a simulated one, for example."""
    begun = {entry.name: entry.identity for entry in run.manifest.devices}.get(job.device)
    device, seed = open_device(job.device, begun), run.manifest.seed
    pilots, probes = Pilots(device, seed), ProbeChoice(device, seed)
    return InThisProcess(device, pilots, probes, notes, find_traces_folder(run))


def do_job(
    job: WorkerJob,
    observer: CaseObserver,
    wait_for_start: Callable[[], float],
    make_runner: _MakeRunner = measure_here,
) -> None:
    """Measure what a run lacks on one of its devices, in the processes that `make_runner` measures in.

    `wait_for_start` returns when it may begin: with the time, on time.monotonic, at which the run's measuring
    began, earlier where this process replaces another. The budget counts from there.

    Raises InputError where that device, or torch, isn't the one the run was begun with, and SystemExit of
    CONTEXT_LOST, every finished record written, where the device can't be used in this process any more.
    """
    run = read_run(job.folder)
    identities = {entry.name: entry.identity for entry in run.manifest.devices}
    numa_node = bind_to_gpu(identities.get(job.device), list(identities.values()))
    notes = StepNotes(None if job.note is None else SharedNote(job.note), job.grace_s)
    runner = make_runner(job, run, notes)
    missing = {each.case for each in run.missing if each.device == job.device}
    pending = _pending_groups(cases_of_run(run, runner.device), missing, job.one_by_one)
    _measure_groups(job, run, runner, notes, pending, observer, numa_node, wait_for_start())


def _pending_groups(
    cases: Iterable[Case], missing: Collection[str], one_by_one: Collection[str]
) -> list[_Group]:
    """Return the missing cases in the groups of the whole run, each with a name no other records share.

    What is left of a group isn't measured in turn with what has been, so it has another name; a group with a
    case of `one_by_one` is measured case by case.
    """
    found: list[_Group] = []
    for name, group in make_groups(cases):
        left = [case for case in group if case.id in missing]
        if any(case.id in one_by_one for case in left):
            found += [(case.id, [case]) for case in left]
        elif left:
            found.append((name if len(left) == len(group) else f"{name} from {left[0].id}", left))
    return found


def _measure_groups(
    job: WorkerJob,
    run: Run,
    runner: Runner,
    notes: StepNotes,
    pending: Sequence[_Group],
    observer: CaseObserver,
    numa_node: int | None,
    began_s: float,
) -> None:
    """Measure group by group, a group's records on disk before the next begins."""
    suite, device = suites.find_suite(run.manifest.suite), runner.device
    budget = Budget.of_run(suite, job.budget_s or run.manifest.options.budget_s, device.kind)
    begin = runner.clock() - find_spent_s(job.device, run.records, began_s)
    history = _read_history(run, device)
    at_work, has_settled = None, False  # since when the device has been at work, and whether it has settled
    weight_left = sum(case.weight for _, group in pending for case in group)
    with RecordWriter(job.folder, records_name_of(job.device)) as writer:
        for name, group in pending:
            writer.check_kept()
            ids = [case.id for case in group]
            observer.group_started(ids)
            weight = sum(case.weight for case in group)
            allowance = budget.allowance(runner.clock() - begin, weight, weight_left)
            weight_left -= weight
            notes.begin_group(ids, allowance.limit_s)
            lost = None
            if allowance.limit_s > 0:
                now = runner.clock()
                at_work = now if at_work is None else at_work
                busy_s = now - at_work  # 0.0 exactly for the first group, which finds the device idle
                try:
                    records = measure_in_processes(
                        *(group, runner, allowance, name, busy_s, suite.processes, history),
                        has_settled=has_settled,
                        largest_batch=run.manifest.options.largest_batch,
                    )
                    has_settled = has_settled or stays_settled(records, device)
                except ContextLost as error:  # the rest of the group is measured by another process
                    lost = next(case for case in group if case.id == error.case)
                    records = [record_without_figures(lost, device, error.reason, "failed")]
            else:
                spent = message("budget_spent", budget_s=budget.limit_s)
                records = [record_without_figures(case, device, spent) for case in group]
            for each in records:
                warnings = (*each.warnings, *_warn_of_process(each, job, device))
                record = each.model_copy(update={"numa_node": numa_node, "warnings": warnings})
                try:
                    writer.append(record)
                finally:  # one that can't be kept here is kept by the parent
                    observer.case_finished(record)
            if lost is not None:
                sys.exit(WorkerStatus.CONTEXT_LOST)


def find_spent_s(device: str, records: Iterable[Record], began_s: float) -> float:
    """Return the seconds of a run's budget that are spent as this process begins, on the device's clock.

    `began_s` is when the run's measuring began, on time.monotonic; earlier where another process measured
    before this one. A device with a clock of its own, on which no time passes while a process starts, begins
    it anew in each: there only what the records since then cost is spent.
    """
    passed_s = time.monotonic() - began_s
    if device.startswith(_REAL):
        return passed_s
    # A record has whole seconds.
    since = datetime.now(UTC) - timedelta(seconds=passed_s + 1.0)
    return sum(
        record.cost_s or 0.0
        for record in records
        if record.device == device and record.started and datetime.fromisoformat(record.started) >= since
    )


def _read_history(run: Run, device: MeasuredDevice) -> History:
    """Return what earlier runs, and the records that this one has already, say of how much figures vary."""
    earlier = read_earlier(run.folder.parent, run.manifest.history, run.manifest.entry(device.name))
    history = History(earlier, find_usual_spreads(device))
    history.learn(record for record in run.records if record.device == device.name)
    return history


def _warn_of_process(record: Record, job: WorkerJob, device: MeasuredDevice) -> Iterator[Message]:
    """Yield what befell the process, or one before it, that a figure suffers from."""
    if record.status != "ok":
        return
    if record.case in job.one_by_one:
        yield message("measured_alone")
    if device.telemetry_lost is not None:
        yield message("telemetry_lost", why=device.telemetry_lost)


class _ParentObserver:
    """Sends each group and record to the parent."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    def group_started(self, cases: Sequence[str]) -> None:
        self._parent.send({GROUP: list(cases)})

    def case_finished(self, record: Record) -> None:
        self._parent.send_json(record.model_dump_json())


def main() -> None:
    """Do the job that the command line names; ends with an `ExitStatus` or a `WorkerStatus`."""
    parent = connect_to_parent(threads=sys.platform != "linux")  # elsewhere nothing is forked
    signal.signal(signal.SIGCONT, end_after_stop)

    def wait_for_start() -> float:
        parent.send({READY: True})
        said = parent.receive()
        if said is None:  # it went, or closed the pipe
            sys.exit(ExitStatus.INTERRUPTED)
        return float(said[GO])

    def make_runner(job: WorkerJob, run: Run, notes: StepNotes) -> Runner:
        if not job.device.startswith(_REAL):
            return measure_here(job, run, notes)
        return InFreshProcesses(job, run, notes, parent.end_if_orphaned)

    try:
        (text,) = sys.argv[1:]
        job = WorkerJob.model_validate_json(text)
        do_job(job, _ParentObserver(parent), wait_for_start, make_runner)
    except NameplateError as error:
        parent.send({REFUSAL: str(error)})
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    except SystemExit as end:
        if end.code == WorkerStatus.CONTEXT_LOST:
            os._exit(WorkerStatus.CONTEXT_LOST)  # Python's own end would free GPU memory, which may hang now
        raise
    except Exception as error:
        sys.exit(report_unforeseen(error))


if __name__ == "__main__":
    main()
