"""The processes that measure: one for each device of a run, all at the same time.

Each device is measured in a process of its own, a single one too: a case may take its process with it (a
driver's abort, the system's memory killer), and the caller's threads and loaded libraries are no part of what
is measured. The GPUs of a node run together, since its heat and power are part of what it delivers. They
aren't one process group of a launcher, which would end all when one dies.

A process says that it is ready and waits to be told to go. Then it sends one message for each group that it
starts and for each record that it has written to disk, or the sentence of the error it ends by.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from pydantic import ValidationError

from nameplate.base.messages import Message, message
from nameplate.base.processes import Child, ChildEnded, ChildError, ChildGarbled, ChildSilent, python_command
from nameplate.record import Record
from nameplate.run.job import GO, GROUP, READY, REFUSAL, CaseObserver, WorkerJob

_JOIN_S = 1.0


@dataclass(frozen=True)
class Deadlines:
    """How long a worker may be silent before it is killed, in seconds; None: without limit.

    `ready_s` is for getting ready. `message_s` is between two messages after that; for the first of them
    `ready_s` is added, since the worker waits until the others are ready too.
    """

    ready_s: float | None = None
    message_s: float | None = None

    @property
    def first_message_s(self) -> float | None:
        """The limit on the silence between getting ready and the first message after it."""
        if self.ready_s is None or self.message_s is None:
            return None
        return self.ready_s + self.message_s


@dataclass(frozen=True)
class WorkerResult:
    """How a device's process ended.

    `in_flight` are the cases of the group that it was measuring, `records` is how many it had written, and
    `refusal` the sentence of the error where it couldn't use its job. `silent_s` is the deadline that it
    missed and was killed for.
    """

    status: int
    in_flight: tuple[str, ...] = ()
    records: int = 0
    refusal: str | None = None
    silent_s: float | None = None

    @property
    def died(self) -> bool:
        """Whether it ended otherwise than by finishing, or by saying why it can't."""
        return self.status != 0 and self.refusal is None

    @property
    def how(self) -> Message:
        """`signal SIGSEGV`, its exit status, or that it was killed for its silence."""
        if self.silent_s is not None:
            return message("worker_silent", silent_s=self.silent_s)
        if self.status < 0:
            with suppress(ValueError):
                return message("signal", signal=signal.Signals(-self.status).name)
        return message("exit_status", status=self.status)


NextJob = Callable[[WorkerJob, WorkerResult], WorkerJob | None]


def worker_command(job: WorkerJob) -> Sequence[str]:
    """Return the command line of the process that does a job."""
    return python_command("nameplate.run.worker", job.model_dump_json())


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
    that dies before isn't waited for. `next_job` is called for each that has ended, and returns what another
    process is to measure on that device, or None. KeyboardInterrupt kills all and passes through.
    """
    pool = _Pool(observer, deadlines or Deadlines(), command)
    try:
        for job in jobs:
            pool.start(job)
        return pool.listen(next_job)
    except BaseException:
        pool.kill()
        raise


@dataclass
class _Worker:
    job: WorkerJob
    child: Child
    reader: threading.Thread | None = None
    ready: bool = False
    told_to_go: bool = False


class _Pool:
    """The processes of one run, by device, and what each has said so far."""

    def __init__(
        self,
        observer: CaseObserver,
        deadlines: Deadlines,
        command: Callable[[WorkerJob], Sequence[str]],
    ) -> None:
        self._observer, self._deadlines, self._command = observer, deadlines, command
        self._inbox: SimpleQueue[tuple[_Worker, dict[str, Any] | ChildError]] = SimpleQueue()
        self._running: dict[str, _Worker] = {}
        self._results: dict[str, WorkerResult] = {}

    def start(self, job: WorkerJob) -> None:
        worker = _Worker(job, Child(self._command(job)))
        self._running[job.device] = worker
        self._results[job.device] = WorkerResult(0)
        # A thread reads, so that a slow observer (a terminal that is held) never blocks a worker's pipe.
        worker.reader = threading.Thread(target=self._forward, args=(worker,), daemon=True)
        worker.reader.start()

    def _forward(self, worker: _Worker) -> None:
        """Put what a worker says into the inbox; its end, or its silence, comes last."""
        deadline_s, next_s = self._deadlines.ready_s, self._deadlines.first_message_s
        while True:
            try:
                said = worker.child.receive(deadline_s)
            except ChildGarbled:  # a library may print
                continue
            except ChildError as end:
                self._inbox.put((worker, end))
                return
            self._inbox.put((worker, said))
            deadline_s, next_s = next_s, self._deadlines.message_s

    def listen(self, next_job: NextJob) -> dict[str, WorkerResult]:
        """Pass on what the workers say until all have ended."""
        while self._running:
            worker, said = self._inbox.get()
            if isinstance(said, ChildError):
                self._finish(worker, said, next_job)
            elif READY in said:
                worker.ready = True
            else:
                self._take(worker.job.device, said)
            if all(each.ready for each in self._running.values()):
                self._go()
        return self._results

    def kill(self) -> None:
        """Kill all workers; none writes anything after this."""
        for worker in self._running.values():
            worker.child.kill()
        for worker in self._running.values():
            if worker.reader is not None:
                worker.reader.join(_JOIN_S)  # it must not read from a pipe that is closed
            worker.child.close()

    def _go(self) -> None:
        for worker in self._running.values():
            if not worker.told_to_go:
                worker.told_to_go = True
                with suppress(ChildEnded):  # it died between its last message and this one
                    worker.child.send({GO: True})

    def _finish(self, worker: _Worker, end: ChildError, next_job: NextJob) -> None:
        """Keep how a worker ended, and start what its device measures next."""
        device = worker.job.device
        del self._running[device]
        result = self._results[device]
        if isinstance(end, ChildSilent):
            result = replace(result, silent_s=end.deadline_s)
        else:
            worker.child.wait()  # it has closed its pipe, and may still have its device to free
        status = worker.child.close()
        result = replace(result, status=-signal.SIGKILL if status is None else status)
        self._results[device] = result
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
