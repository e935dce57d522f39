"""The processes that measure: one for each device of a run, all at the same time.

Each device is measured in a process of its own, a single one too: a case may take its process with it (a
driver's abort, the system's memory killer), and the caller's threads and loaded libraries are no part of what
is measured. The GPUs of a node run together, since its heat and power are part of what it delivers. They
aren't one process group of a launcher, which would end all when one dies.

A process says that it is ready and waits to be told to go. Then it sends one message for each group that it
starts and for each record that it has written to disk, or the sentence of the error it ends by.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from pydantic import ValidationError

from nameplate.base.environment import READY_VARIABLE
from nameplate.base.exit_status import find_default, signals_handled
from nameplate.base.messages import Message, message
from nameplate.base.processes import Child, ChildEnded, ChildError, ChildGarbled, heavy_command
from nameplate.base.shared_note import SharedNote
from nameplate.record import Record
from nameplate.run.deadlines import GRACE_VARIABLE, Deadlines, Step
from nameplate.run.job import GO, GROUP, READY, REFUSAL, CaseObserver, WorkerJob, WorkerStatus

_JOIN_S = 1.0


@dataclass(frozen=True)
class Missed:
    """A deadline that a process missed: `allowed_s` seconds for the case in hand, or for getting ready."""

    allowed_s: float
    case: str | None = None
    getting_ready: bool = False


@dataclass(frozen=True)
class WorkerResult:
    """How a device's process ended.

    `in_flight` are the cases of the group that it was measuring, `records` is how many it had written, and
    `refusal` the sentence of the error where it couldn't use its job. `missed` is the deadline that it was
    ended for. `stuck` tells that it couldn't be ended: it is in a call that the system doesn't break off.
    """

    status: int
    in_flight: tuple[str, ...] = ()
    records: int = 0
    refusal: str | None = None
    missed: Missed | None = None
    stuck: bool = False

    @property
    def was_stopped(self) -> bool:
        """Whether it, or the whole run, was stopped for a while: what it had in hand isn't kept."""
        return self.status == WorkerStatus.STOPPED

    @property
    def died(self) -> bool:
        """Whether it ended otherwise than by finishing, or by saying why it can't."""
        return self.status != 0 and self.refusal is None

    @property
    def how(self) -> Message:
        """`signal SIGSEGV`, its exit status, or the deadline that it was ended for."""
        if self.missed is not None:
            allowed_s = self.missed.allowed_s
            if self.stuck:
                return message("worker_stuck", allowed_s=allowed_s)
            if self.missed.getting_ready:
                return message("worker_never_ready", allowed_s=allowed_s, variable=READY_VARIABLE)
            return message("worker_hung", allowed_s=allowed_s, variable=GRACE_VARIABLE)
        if self.status < 0:
            with suppress(ValueError):
                return message("signal", signal=signal.Signals(-self.status).name)
        return message("exit_status", status=self.status)


def stop_this_process() -> None:
    """Stop as Ctrl-Z does, and return when somebody continues this process."""
    os.kill(os.getpid(), signal.SIGSTOP)


NextJob = Callable[[WorkerJob, WorkerResult], WorkerJob | None]


def worker_command(job: WorkerJob) -> Sequence[str]:
    """Return the command line of the process that does a job."""
    return heavy_command("nameplate.run.worker", job.model_dump_json())


def run_workers(
    jobs: Iterable[WorkerJob],
    observer: CaseObserver,
    next_job: NextJob,
    *,
    deadlines: Deadlines | None = None,
    command: Callable[[WorkerJob], Sequence[str]] = worker_command,
) -> dict[str, WorkerResult]:
    """Do the jobs of a run, each in a process, all at once; return how each device's last process ended.

    Every process first gets ready (loads torch, opens its device) and waits, so that all start together; one
    that dies before isn't waited for, and one that is slow only so long. A process that misses a deadline is
    ended. `next_job` is called for each that has ended, and returns what another process is to measure on
    that device, or None. KeyboardInterrupt kills all and passes through.

    Ctrl-Z (SIGTSTP) ends all processes, so that a stopped run holds no device, and stops this one; when it is
    continued, others begin anew what was in hand.
    """
    pool = _Pool(observer, deadlines or Deadlines(), command)
    try:
        with (
            signals_handled(lambda *_: pool.ask_to_pause(), find_default(signal.SIGTSTP)),
            signals_handled(lambda *_: pool.note_continuation(), find_default(signal.SIGCONT)),
        ):
            for job in jobs:
                pool.start(job)
            return pool.listen(next_job)
    except BaseException:
        pool.kill()
        raise


@dataclass
class _Worker:
    """A process. At `until_s` it is looked at: it goes on by its note, or it is ended, as `_ENDING` says."""

    job: WorkerJob
    child: Child
    note: SharedNote
    until_s: float
    allowed_s: float
    reader: threading.Thread | None = None
    ready: bool = False
    told_to_go: bool = False
    missed: Missed | None = None
    signals: int = 0  # how many of `_ENDING` it was sent
    group_s: float | None = None  # when it began the group that it measures

    def allow(self, seconds: float) -> None:
        """Let it go on for so long from now."""
        self.allowed_s, self.until_s = seconds, time.monotonic() + seconds


# How a process that missed its deadline is ended, and how long it has for that each time, in seconds. What
# SIGKILL doesn't end is in an uninterruptible call of a driver. A call that ends a kernel and frees a whole
# GPU's memory may take many seconds, and then the device can be measured further.
_ENDING: Sequence[tuple[Callable[[Child], None], float]] = ((Child.terminate, 2.0), (Child.kill, 20.0))


class _Pool:
    """The processes of one run, by device, and what each has said so far."""

    def __init__(
        self,
        observer: CaseObserver,
        deadlines: Deadlines,
        command: Callable[[WorkerJob], Sequence[str]],
    ) -> None:
        self._observer, self._deadlines, self._command = observer, deadlines, command
        # None: the run is to pause.
        self._inbox: SimpleQueue[tuple[_Worker, dict[str, Any] | ChildError] | None] = SimpleQueue()
        self._running: dict[str, _Worker] = {}
        self._results: dict[str, WorkerResult] = {}
        self._began_s: float | None = None  # when the measuring did: from then on nobody waits for another
        self._restored_s = 0.0  # up to when time lost to stops was added to the budget
        self._go_s = math.inf  # when it begins at the latest
        self._continued = False

    def start(self, job: WorkerJob) -> None:
        note, ready_s = SharedNote(), self._deadlines.ready_s
        job = job.model_copy(update={"note": note.descriptor, "grace_s": self._deadlines.grace_s})
        child = Child(self._command(job), keep=[note.descriptor])
        worker = _Worker(job, child, note, time.monotonic() + ready_s, ready_s)
        self._running[job.device] = worker
        self._results[job.device] = WorkerResult(0)
        # A thread reads, so that a slow observer (a terminal that is held) never blocks a worker's pipe.
        worker.reader = threading.Thread(target=self._forward, args=(worker,), daemon=True)
        worker.reader.start()

    def _forward(self, worker: _Worker) -> None:
        """Put what a worker says into the inbox, its end last."""
        while True:
            try:
                said = worker.child.receive()
            except ChildGarbled:  # a library may print
                continue
            except ChildError as end:
                worker.child.wait()  # it has closed its pipe, and may still have its device to free
                self._inbox.put((worker, end))
                return
            self._inbox.put((worker, said))

    def listen(self, next_job: NextJob) -> dict[str, WorkerResult]:
        """Pass on what the workers say until all have ended."""
        while self._running:
            with suppress(Empty):
                heard = self._inbox.get(timeout=self._next_look_s())
                if heard is None:
                    self._pause(next_job)
                    continue
                worker, said = heard
                if self._running.get(worker.job.device) is worker:  # not one that couldn't be ended
                    self._hear(worker, said, next_job)
            self._let_go()
            self._look_at_deadlines(next_job)
        return self._results

    def _next_look_s(self) -> float | None:
        """Seconds until something has to be looked at."""
        first_s = min([self._go_s, *(each.until_s for each in self._running.values())])
        return None if first_s == math.inf else max(first_s - time.monotonic(), 0.0)

    def _hear(self, worker: _Worker, said: dict[str, Any] | ChildError, next_job: NextJob) -> None:
        if isinstance(said, ChildError):
            self._finish(worker, next_job)
        elif worker.missed is not None:
            pass  # it is being ended: what it says now comes too late
        elif READY in said:
            worker.ready = True
            worker.until_s = math.inf  # it waits for the others
            if self._began_s is None:
                self._go_s = min(self._go_s, time.monotonic() + self._deadlines.together_s)
        else:
            worker.allow(self._deadlines.grace_s)
            if GROUP in said:
                worker.group_s = time.monotonic()
            self._take(worker.job.device, said)

    def kill(self) -> None:
        """Kill all workers; none writes anything after this."""
        for worker in self._running.values():
            worker.child.kill()
        for worker in self._running.values():
            if worker.reader is not None:
                worker.reader.join(_JOIN_S)
            if worker.reader is None or not worker.reader.is_alive():  # it must not read from a closed pipe
                worker.child.close()
            worker.note.close()

    def ask_to_pause(self) -> None:
        """Have `listen` pause; may be called by a signal handler (`SimpleQueue.put` is reentrant)."""
        self._inbox.put(None)

    def _pause(self, next_job: NextJob) -> None:
        """End the workers, stop this process until it is continued, and begin anew what they had in hand."""
        workers = list(self._running.values())
        self.kill()
        self._running.clear()
        stop_this_process()
        for worker in workers:
            self._go_on(
                worker, replace(self._results[worker.job.device], status=WorkerStatus.STOPPED), next_job
            )

    def note_continuation(self) -> None:
        """Have every worker looked at anew: its deadline passed while all were stopped."""
        self._continued = True

    def _let_go(self) -> None:
        """Tell the workers that are ready to go, once all are, or the slower ones have been waited for."""
        late = time.monotonic() >= self._go_s
        if self._began_s is None:
            if not (late or all(each.ready for each in self._running.values())):
                return
            self._began_s, self._go_s = time.monotonic(), math.inf
        for worker in self._running.values():
            if worker.ready and not worker.told_to_go:
                worker.told_to_go = True
                worker.allow(self._deadlines.grace_s)
                with suppress(ChildEnded):  # it died between its last message and this one
                    worker.child.send({GO: self._began_s})

    def _look_at_deadlines(self, next_job: NextJob) -> None:
        if self._continued:
            self._continued = False
            for worker in self._running.values():
                worker.allow(self._deadlines.grace_s if worker.ready else self._deadlines.ready_s)
        for worker in [each for each in self._running.values() if each.until_s <= time.monotonic()]:
            step = Step.read(worker.note)
            if worker.missed is None and step is not None and step.until_s > time.monotonic():
                worker.until_s, worker.allowed_s = step.until_s, step.until_s - step.since_s
            elif worker.signals < len(_ENDING):
                worker.missed = worker.missed or Missed(
                    worker.allowed_s, None if step is None else step.case, not worker.ready
                )
                end, seconds = _ENDING[worker.signals]
                worker.signals += 1
                worker.until_s = time.monotonic() + seconds
                end(worker.child)
            else:
                self._finish(worker, next_job, stuck=True)

    def _finish(self, worker: _Worker, next_job: NextJob, *, stuck: bool = False) -> None:
        """End a worker, and go on with its device."""
        device = worker.job.device
        del self._running[device]
        status = None
        if not stuck:  # its pipe stays open where a thread still reads from it
            status = worker.child.close()
            worker.note.close()
        result = replace(self._results[device], missed=worker.missed, stuck=stuck)
        result = replace(result, status=-signal.SIGKILL if status is None else status)
        self._go_on(worker, result, next_job)

    def _go_on(self, worker: _Worker, result: WorkerResult, next_job: NextJob) -> None:
        """Keep how a worker ended, and start what its device measures next."""
        self._results[worker.job.device] = result
        if result.was_stopped and self._began_s is not None and worker.group_s is not None:
            # The budget has neither the stop nor what was lost to it.
            self._began_s += time.monotonic() - max(worker.group_s, self._restored_s)
            self._restored_s = time.monotonic()
        further = next_job(worker.job, result)
        if further is not None:
            self.start(further)

    def _take(self, device: str, said: dict[str, Any]) -> None:
        """Pass a group or a record on. A record is on disk already, so one that can't be read is no loss."""
        result = self._results[device]
        if GROUP in said:
            self._results[device] = replace(result, in_flight=tuple(said[GROUP]))
            self._observer.group_started(said[GROUP])
        elif REFUSAL in said:
            self._results[device] = replace(result, refusal=said[REFUSAL])
        elif (record := _as_record(said)) is not None:
            self._results[device] = replace(result, records=result.records + 1)
            self._observer.case_finished(record)


def _as_record(said: dict[str, Any]) -> Record | None:
    try:
        return Record.model_validate(said)
    except ValidationError:
        return None
