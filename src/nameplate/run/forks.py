"""Measures each task of a worker in a fresh process: a copy of the worker, which has loaded torch already.

A fork takes milliseconds, where a new Python takes a second or two to load torch. But threads aren't copied,
and a CUDA context can't be used in a copy. So a worker that forks has started neither, which is looked at
before each fork: it opens no device, computes nothing, and only waits while another process measures. Where
it can't fork, a new Python does the task, and the time that this takes counts like any other set-up.

Telemetry belongs to the worker: its processes sample through all tasks, and the processes that measure ask
them over the pipes that they inherit, one at a time.

How a measuring process ends, its worker ends, so that `pool.py` sees what it would see of one process.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn

from nameplate import suite as suites
from nameplate.base.errors import InputError, NameplateError, OutputError
from nameplate.base.exit_status import ExitStatus
from nameplate.base.processes import PARENT_POLL_S, end_with_parent, heavy_command
from nameplate.device.identity import Identity
from nameplate.device.survey import prepare_copies
from nameplate.engine.best_case import SearchData
from nameplate.engine.case_run import ContextLost
from nameplate.engine.group_data import GroupData
from nameplate.engine.runner import GroupTask
from nameplate.record import LargestBatch
from nameplate.run.child import (
    BrokenContext,
    Found,
    FoundSize,
    Learned,
    OpenedDevice,
    Order,
    Refused,
    SearchOrder,
    SizeOrder,
    end_after,
    serve,
)
from nameplate.run.deadlines import StepNotes
from nameplate.run.job import WorkerJob
from nameplate.search.space import Point
from nameplate.store.folder import Run
from nameplate.suite import Case

_THREADS = "/proc/self/task"
_DESCRIPTORS = "/proc/self/fd"
# Files that a process has open once CUDA has started in it.
_CUDA_FILES = ("/dev/nvidia", "/dev/dxg")


def why_not_fork() -> str | None:
    """Return why a copy of this process couldn't measure; None where it can.

    A copy has none of the threads, and locks that they held stay locked. A copy of a process in which CUDA
    has started can't use the GPU (CUDA's programming guide).
    """
    try:
        threads, descriptors = len(os.listdir(_THREADS)), os.listdir(_DESCRIPTORS)
    except OSError:
        return "threads can be counted on Linux alone"
    if threads > 1:
        return f"{threads} threads run"
    for each in descriptors:
        with suppress(OSError):  # the one that the listing itself had open
            if os.readlink(f"{_DESCRIPTORS}/{each}").startswith(_CUDA_FILES):
                return "CUDA has started"
    return None


@dataclass
class _Process:
    """A process that measures: its id, and this end of the connection to it."""

    pid: int
    connection: Connection


class InFreshProcesses:
    """Measures each task in a process of its own; the first has opened the device when this returns.

    Raises InputError, or OutputError, where that can't be.
    """

    device: OpenedDevice

    def __init__(
        self, job: WorkerJob, run: Run, notes: StepNotes, while_waiting: Callable[[], object]
    ) -> None:
        """Start the first process. `while_waiting` is called some times a second; it may end this process."""
        self._job, self._run, self._notes, self._while_waiting = job, run, notes, while_waiting
        self._learned, self._points = Learned({}, {}), dict[str, Point]()
        suites.find_suite(run.manifest.suite)  # loads what it computes with, torch, once for all copies
        begun = {entry.name: entry.identity for entry in run.manifest.devices}.get(job.device)
        prepare_copies(job.device, begun)
        self._waiting: _Process | None = self._start(None)

    def clock(self) -> float:
        """Return seconds on the host's monotonic clock, which the measuring processes share."""
        return time.perf_counter()

    def measure(self, task: GroupTask) -> GroupData:
        """Measure one task in the process that waits for it, or in another one.

        Raises ContextLost. Ends this process where that one died, and as it died.
        """
        cases = tuple(case.id for case in task.cases)
        group = self._notes.group
        found = self._ask(Order(replace(task, cases=()), cases, self._learned, group, self._points))
        match found:
            case Found(data, learned, lost):
                self._learned = learned
                self.device.telemetry_lost = self.device.telemetry_lost or lost
                return data
            case BrokenContext(case, reason):
                raise ContextLost(case, reason)
            case Refused():
                raise _as_error(found)
        raise TypeError(f"a measuring process sent {type(found).__name__}")

    def search(self, case: Case, budget_s: float, to_beat: float = 0.0) -> SearchData:
        """Search in a process of its own; those that measure the case are told what was found."""
        found = self._ask(SearchOrder(case.id, budget_s, self._notes.group, to_beat))
        match found:
            case SearchData():
                if found.point is not None:
                    self._points[case.id] = found.point
                return found
            case BrokenContext(broken, reason):
                raise ContextLost(broken, reason)
            case Refused():
                raise _as_error(found)
        raise TypeError(f"a searching process sent {type(found).__name__}")

    def find_largest_batch(self, case: Case, budget_s: float) -> LargestBatch | None:
        """Search in a process of its own, where nothing else holds memory."""
        found = self._ask(SizeOrder(case.id, budget_s, self._notes.group))
        match found:
            case FoundSize(largest):
                return largest
            case BrokenContext(broken, reason):
                raise ContextLost(broken, reason)
            case Refused():
                raise _as_error(found)
        raise TypeError(f"a searching process sent {type(found).__name__}")

    def adopt(self, case: Case, point: Point) -> None:
        """Tell those that measure the case of a point that another case's search has found."""
        self._points[case.id] = point

    def _ask(self, order: Order | SearchOrder | SizeOrder) -> object:
        """Send an order to the process that waits for it, or to another one; return what that sends back."""
        process, self._waiting = self._waiting or self._start(self.device.identity), None
        with suppress(OSError):  # it has died, and its end says how
            process.connection.send(order)
        found = self._receive(process)
        self._wait_for_end(process)
        return found

    def _start(self, known: Identity | None) -> _Process:
        """Start a process and wait until it has opened the device."""
        self._notes(None, 0.0)
        mine, its = Pipe()
        started_s = time.perf_counter()
        if why_not_fork() is None:
            pid = self._fork(its, mine, started_s, known)
        else:
            pid = self._start_anew(its, started_s)
        process = _Process(pid, mine)
        its.close()
        opened = self._receive(process)
        if isinstance(opened, Refused):
            self._wait_for_end(process)
            raise _as_error(opened)
        if known is None:
            assert isinstance(opened, OpenedDevice)
            self.device = opened
        return process

    def _fork(self, its: Connection, mine: Connection, started_s: float, known: Identity | None) -> int:
        worker = os.getpid()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            end_with_parent(worker, int(signal.SIGKILL))
            mine.close()  # else this process would never see that the worker has closed it
            end_after(lambda: serve(its, self._job, self._run, started_s, known))
        return pid

    def _start_anew(self, its: Connection, started_s: float) -> int:
        """Start a new Python, which identifies the device by itself."""
        job, descriptor = self._job.model_dump_json(), its.fileno()
        parent = (str(os.getpid()), str(int(signal.SIGKILL)))
        command = heavy_command("nameplate.run.anew", job, str(descriptor), repr(started_s), *parent)
        notes = () if self._job.note is None else (self._job.note,)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor, *notes)).pid

    def _receive(self, process: _Process) -> object:
        """Return what the process says next; where it died, this process ends as it did."""
        while not process.connection.poll(PARENT_POLL_S):
            self._while_waiting()
        with suppress(EOFError, OSError):
            return process.connection.recv()
        self._wait_for_end(process)
        # It ended without a word, and as if all were well: a library that it measured with ended it.
        return _end(ExitStatus.UNFORESEEN)

    def _wait_for_end(self, process: _Process) -> None:
        """Wait until the process has ended, and its device is free; end as it did where it failed."""
        _, status = os.waitpid(process.pid, 0)
        process.connection.close()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            _die_of(-code)
        if code > 0:
            _end(code)


def _as_error(refused: Refused) -> NameplateError:
    """Return the error that the other process raised, as far as its sentence and exit status go."""
    kind = InputError if refused.status == ExitStatus.BAD_INPUT else OutputError
    return kind(refused.sentence)


def _end(status: int) -> NoReturn:
    os._exit(status)


def _die_of(number: int) -> None:
    """End this process by a signal, without a core of its own: the one of interest is the other process's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # SIGKILL has no handler to replace
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)
