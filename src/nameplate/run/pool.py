"""Devices measured in processes of their own, all at the same time; one that dies costs only what it was at.

A case may take its process with it (a driver's abort, the system's memory killer), and threads, spin settings
and loaded libraries of whoever called are no part of what is measured: so a single device has a process of
its own too. The heat and power of a node are part of what it delivers, so its GPUs run together; not in one
process group of a launcher, which ends every member when one dies.

A child says `ready`, waits for `go`, then writes a line of JSON for each group it starts and each record it
has on disk, or for the sentence by which it refuses.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from pydantic import ValidationError

from nameplate.base.messages import Message, message
from nameplate.record import Record

READY, GO = "ready", "go"
GROUP, REFUSAL = "group_started", "refusal"  # keys that no record has
_KILL_S = 1.0  # a killed process that is stuck inside the kernel goes when the kernel lets it
_Line = tuple[str, str | None]  # a device, and what its process said; None: it ended


class Watch(Protocol):
    """Who is told of groups and records as they come, in the caller's thread."""

    def group_started(self, cases: Sequence[str]) -> None:
        """Called before each group: cases that are measured in turn."""

    def case_finished(self, record: Record) -> None:
        """Called when the record is on disk."""


@dataclass(frozen=True)
class Outcome:
    """How a device's process ended.

    `in_flight` are the cases of the group it was at, `records` how many it had written, and `refusal` its
    sentence where it couldn't use what it was given.
    """

    status: int
    in_flight: tuple[str, ...] = ()
    records: int = 0
    refusal: str | None = None

    @property
    def died(self) -> bool:
        """Whether it ended otherwise than by finishing, or by saying why it can't."""
        return self.status != 0 and self.refusal is None

    @property
    def how(self) -> Message:
        """`signal SIGSEGV`, or its exit status."""
        if self.status < 0:
            with suppress(ValueError):
                return message("signal", signal=signal.Signals(-self.status).name)
        return message("exit_status", status=self.status)


@dataclass(frozen=True)
class Share:
    """What a child is told: the run, its device, the budget, when the command began.

    The group that a case of `alone` is in is measured case by case.
    """

    folder: Path
    device: str
    budget_s: float | None
    called: float  # on time.monotonic, which processes of one host share
    alone: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """As the child's command line."""
        budget = "" if self.budget_s is None else repr(self.budget_s)
        return [str(self.folder), self.device, budget, repr(self.called), *self.alone]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Share:
        """Read what `arguments` wrote."""
        folder, device, budget, called, *alone = arguments
        return cls(Path(folder), device, float(budget) if budget else None, float(called), tuple(alone))


Again = Callable[[Share, Outcome], Share | None]
Command = Callable[[Share], Sequence[str]]


def share_command(share: Share) -> Sequence[str]:
    """The process that measures one device's share of a run."""
    # -P: a torch.py in the working directory is nobody's torch.
    return (sys.executable, "-P", "-m", "nameplate.run.worker", *share.arguments())


def measure_together(
    shares: Sequence[Share], watch: Watch, again: Again, *, command: Command = share_command
) -> dict[str, Outcome]:
    """Measure the shares of a run, each in a process, all at once; return how each device's last one ended.

    Every process first makes itself ready (loads torch, opens its device) and waits, so that all start
    together; one that dies before is not waited for. `again` is asked of each that has ended, and returns
    what another process is to measure, or None. KeyboardInterrupt ends all of them and passes through.
    """
    children = _Children(watch, command)
    try:
        for share in shares:
            children.start(share)
        return children.listen(again)
    except BaseException:
        children.end()
        raise


class _Children:
    """The processes of one run, by device, and what each has said so far."""

    def __init__(self, watch: Watch, command: Command) -> None:
        self._watch, self._command = watch, command
        self._lines: SimpleQueue[_Line] = SimpleQueue()
        self._running: dict[str, tuple[Share, subprocess.Popen[str]]] = {}
        self._starting: set[str] = set()
        self._ready: set[str] = set()
        self._seen: dict[str, Outcome] = {}

    def start(self, share: Share) -> None:
        """Start the process of a share."""
        process = subprocess.Popen(
            self._command(share),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._running[share.device] = share, process
        self._starting.add(share.device)
        self._seen[share.device] = Outcome(0)
        threading.Thread(target=self._forward, args=(share.device, process), daemon=True).start()

    def _forward(self, device: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._lines.put((device, line.strip()))
        self._lines.put((device, None))

    def listen(self, again: Again) -> dict[str, Outcome]:
        """Pass on what the processes say until all have ended."""
        while self._running:
            device, line = self._lines.get()
            if line is None:
                self._end_of(device, again)
            elif line == READY and device in self._starting:
                self._starting.remove(device)
                self._ready.add(device)
            else:
                self._take(device, line)
            if not self._starting:
                self._go()
        return self._seen

    def end(self) -> None:
        """End them all; none writes anything after this."""
        processes = [process for _, process in self._running.values()]
        for process in processes:
            process.kill()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_S)

    def _go(self) -> None:
        for device in self._ready & self._running.keys():
            with suppress(OSError):  # it died between its last word and this one
                print(GO, file=self._running[device][1].stdin, flush=True)
        self._ready.clear()

    def _end_of(self, device: str, again: Again) -> None:
        share, process = self._running.pop(device)
        self._starting.discard(device)
        with suppress(OSError), process:  # closes its pipes, and waits
            pass
        self._seen[device] = replace(self._seen[device], status=process.returncode)
        further = again(share, self._seen[device])
        if further is not None:
            self.start(further)

    def _take(self, device: str, line: str) -> None:
        """Pass a group or a record on; a record is on disk already, and what a library prints is no loss."""
        seen, said = self._seen[device], _parse(line)
        if GROUP in said:
            self._seen[device] = replace(seen, in_flight=tuple(said[GROUP]))
            self._watch.group_started(said[GROUP])
        elif REFUSAL in said:
            self._seen[device] = replace(seen, refusal=said[REFUSAL])
        elif (record := _record(said)) is not None:
            self._seen[device] = replace(seen, records=seen.records + 1)
            self._watch.case_finished(record)


def _record(said: dict[str, Any]) -> Record | None:
    try:
        return Record.model_validate(said)
    except ValidationError:
        return None


def _parse(line: str) -> dict[str, Any]:
    """The object that a line of JSON is; an empty one for any other line."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
