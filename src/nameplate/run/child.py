"""A process that measures one task of a device's group: it opens the device, measures, says what it found.

It is a copy of the worker that forked it (`forks.py`), or, where that can't fork, a new Python (`anew.py`).
It sends that the device is open, waits for its task, and sends what it found; or why the device refuses, or
lost its context. Any other end of it is the worker's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Self

from nameplate.base.errors import NameplateError
from nameplate.base.exit_status import ExitStatus, report_unforeseen
from nameplate.base.messages import Message, Reason
from nameplate.base.shared_note import SharedNote
from nameplate.device.identity import Identity
from nameplate.device.protocol import Device
from nameplate.device.survey import open_device
from nameplate.engine.best_case import choose, find_best
from nameplate.engine.case_run import ContextLost
from nameplate.engine.ceiling import ChosenProbes, ProbeChoice
from nameplate.engine.group_data import GroupData
from nameplate.engine.largest_batch import find_largest_batch
from nameplate.engine.pilot import Pilots, Predictions
from nameplate.engine.runner import GroupTask, make_group
from nameplate.record import LargestBatch
from nameplate.run.deadlines import GroupNote, StepNotes
from nameplate.run.job import WorkerJob, WorkerStatus, cases_of_run, find_traces_folder
from nameplate.search.space import Point
from nameplate.specs.rating import Rating
from nameplate.store.folder import Run


@dataclass
class OpenedDevice:
    """What a process that opened a device knows of it; see `device.protocol.MeasuredDevice`."""

    name: str
    kind: str
    identity: Identity
    rating: Rating
    memory_bytes: int | None
    measured: bool
    cores: float
    cache_bytes: int | None
    telemetry_lost: Reason | None = None

    @classmethod
    def of(cls, device: Device) -> Self:
        """Copy what is known of an open device."""
        return cls(
            device.name,
            device.kind,
            device.identity,
            device.rating,
            device.memory_bytes,
            device.measured,
            device.cores,
            device.cache_bytes,
            device.telemetry_lost,
        )


@dataclass(frozen=True)
class Learned:
    """What one process found that the next needn't find again: pilots' times, and the probes."""

    predictions: Predictions
    probes: ChosenProbes


@dataclass(frozen=True)
class Order:
    """A task, its cases by id, with what was learned before and the deadline of its group."""

    task: GroupTask
    cases: tuple[str, ...]
    learned: Learned
    group: GroupNote
    points: Mapping[str, Point]  # what searches have found, by case


@dataclass(frozen=True)
class SearchOrder:
    """A case whose workload is to be found, in so many seconds, and the deadline of its group; `to_beat` is
    the throughput, in TFLOPS, that it must reach to be of use.
    """

    case: str
    budget_s: float
    group: GroupNote
    to_beat: float = 0.0


@dataclass(frozen=True)
class SizeOrder:
    """A case whose largest batch is to be found, in so many seconds, and the deadline of its group."""

    case: str
    budget_s: float
    group: GroupNote


@dataclass(frozen=True)
class FoundSize:
    """The largest batch of a case; None where none can be told."""

    largest: LargestBatch | None


@dataclass(frozen=True)
class Found:
    """What was found of a task, what was learned by it, and why telemetry ended (None: it goes on)."""

    data: GroupData
    learned: Learned
    telemetry_lost: Reason | None


@dataclass(frozen=True)
class Refused:
    """Why the device can't be measured: one sentence, and the exit status that belongs to it."""

    sentence: str
    status: ExitStatus


@dataclass(frozen=True)
class BrokenContext:
    """The device's context was lost in this case."""

    case: str
    reason: Message


def serve(
    connection: Connection, job: WorkerJob, run: Run, started_s: float, known: Identity | None = None
) -> None:
    """Open the job's device and do one task.

    `started_s` is when this process was started, on time.perf_counter. `known` is what another process has
    identified the device as, a moment ago.
    """
    try:
        begun = {entry.name: entry.identity for entry in run.manifest.devices}.get(job.device)
        device = open_device(job.device, begun, known)
        cases = {case.id: case for case in cases_of_run(run, device)}
        opened_s = time.perf_counter() - started_s
        connection.send(OpenedDevice.of(device))
        order: Order | SearchOrder | SizeOrder = connection.recv()
        notes = StepNotes(None if job.note is None else SharedNote(job.note), job.grace_s)
        notes.enter(order.group)
        if isinstance(order, SearchOrder):
            case = cases[order.case]
            seed, budget_s = run.manifest.seed, order.budget_s
            connection.send(find_best(case, device, seed, budget_s, notes, order.to_beat))
            return
        if isinstance(order, SizeOrder):
            sized = find_largest_batch(cases[order.case], device, run.manifest.seed, order.budget_s, notes)
            connection.send(FoundSize(sized))
            return
        cases |= {case: choose(cases[case], point) for case, point in order.points.items()}
        pilots = Pilots(device, run.manifest.seed, order.learned.predictions)
        probe_choice = ProbeChoice(device, run.manifest.seed, order.learned.probes)
        task = replace(order.task, cases=[cases[each] for each in order.cases])
        traces = find_traces_folder(run)
        data = make_group(task, device, pilots, probe_choice, notes, opened_s, traces).measure()
        learned = Learned(pilots.seen, probe_choice.chosen)
        connection.send(Found(data, learned, device.telemetry_lost))
    except NameplateError as error:
        connection.send(Refused(str(error), error.exit_status))
    except ContextLost as lost:
        connection.send(BrokenContext(lost.case, lost.reason))


def end_after(work: Callable[[], None]) -> None:
    """Do the work and end this process at once: what a library does at Python's end may hang."""
    status: Any = ExitStatus.DONE
    try:
        work()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else ExitStatus.UNFORESEEN
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    except EOFError:  # the worker has ended
        status = ExitStatus.HANGUP
    except BaseException as error:
        status = report_unforeseen(error)
    sys.stderr.flush()
    os._exit(status)


def end_after_stop(_number: int, _frame: FrameType | None) -> None:
    """End at once: what was being timed while this process was stopped (SIGSTOP) is no figure."""
    os._exit(WorkerStatus.STOPPED)
