"""NVML from the outside: a process of its own behind a deadline, so that nothing it does can stop a run.

    with NvmlClient() as nvml:
        for gpu in nvml.gpus():
            before = nvml.reading(gpu.uuid)

Nothing here raises for what a driver lacks or does. Where NVML is missing, refuses, hangs or dies, `absent`
says why, and from then on every reading is one without figures, for that reason. There is no second attempt:
what hung once hangs again, and each attempt would cost a deadline amid a measurement. A new client may try.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from nameplate.telemetry.gpu import GpuFacts, GpuProcess, GpuReading

# Starting attaches every card, and one that isn't kept initialized takes 1 to 3 s ("Driver Persistence",
# docs.nvidia.com): eight of them without persistence mode are slow, not hung.
START_S = 30.0
REQUEST_S = 2.0
# How long a killed process is waited for; one stuck inside the kernel goes when the kernel lets it.
_KILL_S = 1.0
# The worker's own alarm, past any deadline of this side's.
_ALARM_SLACK_S = 1.0
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux's proc_ns.h

_FACTS = TypeAdapter(tuple[GpuFacts, ...])


class _Gone(Exception):
    """The process doesn't answer any more; the text is why."""


class _NoAnswer(_Gone):
    """The process lives, and has no answer to this one question."""


class _Worker:
    """The process and its two pipes: lines of JSON."""

    def __init__(self, limit_s: float) -> None:
        """Start it. -P keeps a pynvml.py in the working directory from being taken for the library."""
        module = "nameplate.telemetry.nvml_worker"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid()), f"{limit_s:g}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._pending = b""

    def send(self, request: dict[str, Any]) -> None:
        """Write one line; raises _Gone where nobody reads it."""
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
        except OSError:
            raise _Gone(self._how_it_ended()) from None

    def receive(self, deadline_s: float) -> dict[str, Any]:
        """Read one line; raises _Gone past the deadline, at the end, and for what isn't an answer."""
        end = time.monotonic() + deadline_s
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while b"\n" not in self._pending:
            left_s = end - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1e3):
                raise _Gone(
                    f"NVML gave no answer within {deadline_s:g} s and was given up: its driver hangs "
                    "(dmesg may hold an Xid)"
                )
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                raise _Gone(self._how_it_ended())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return _as_reply(line)

    def end(self) -> None:
        """Kill it and take its exit status, without waiting long for either."""
        self._process.kill()
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_S)

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_S)
        return f"NVML's process ended (exit status {self._process.poll()})"


def _as_reply(line: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(line)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise _Gone(f"NVML's process said {line[:80]!r}, which is no answer")
    return reply


class NvmlClient:
    """Asks the NVML process, which starts with the client and ends with it.

    `absent` is why NVML tells nothing at all, None while it does. `driver`, `cuda_driver` and `count` are
    what it said when it started; a count of None isn't a count of 0. Threads may share a client.
    """

    def __init__(self, *, deadline_s: float = REQUEST_S, start_s: float = START_S) -> None:
        """Start the process and wait, `start_s` at most, for what NVML says first."""
        self.absent: str | None = None
        self.driver: str | None = None
        self.cuda_driver: str | None = None
        self.count: int | None = None
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        try:
            self._worker = _Worker(max(start_s, deadline_s) + _ALARM_SLACK_S)
            hello = self._worker.receive(start_s)
        except (OSError, _Gone) as error:
            self._give_up(str(error))
            return
        if "ok" not in hello:
            self._give_up(str(hello.get("absent")))
            return
        self.driver, self.cuda_driver = hello["ok"]["driver"], hello["ok"]["cuda_driver"]
        self.count = hello["ok"]["count"]

    def __enter__(self) -> Self:
        """Use as a context manager, so that the process ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; readings are without figures from here on."""
        with self._lock:
            self._give_up("the NVML client is closed")

    def gpus(self) -> tuple[GpuFacts, ...]:
        """Every card in NVML's order, each followed by its MIG slices; none where NVML tells nothing.

        A card that can't be opened is there with its index and the reason.
        """
        return self._facts({"ask": "facts"})

    def facts(self, uuid: str) -> GpuFacts | None:
        """One GPU or MIG slice, whatever the state of the others; None where NVML has none of that UUID."""
        return next(iter(self._facts({"ask": "facts", "uuid": uuid})), None)

    def _facts(self, request: dict[str, Any]) -> tuple[GpuFacts, ...]:
        with self._lock:
            try:
                return _FACTS.validate_python(self._ask(request))
            except _NoAnswer as error:
                if "uuid" not in request:
                    self._give_up(str(error))
                return ()
            except (_Gone, ValidationError) as error:
                self._give_up(str(error))
                return ()

    def reading(self, uuid: str, own_pids: Collection[int] | None = None) -> GpuReading:
        """Read one GPU or MIG slice, named by UUID, leaving out `own_pids` (this process alone unless given).

        Where NVML has no such GPU the reading is without figures, and the next one may have some.
        """
        own = {os.getpid()} if own_pids is None else set(own_pids)
        with self._lock:
            try:
                return _as_reading(self._ask({"ask": "reading", "uuid": uuid}), own)
            except _NoAnswer as error:
                reason = str(error)
            except (_Gone, ValidationError) as error:
                reason = str(error)
                self._give_up(reason)
            return GpuReading.nothing(uuid, reason, time.perf_counter())

    def _ask(self, request: dict[str, Any]) -> Any:
        """Return the answer; raises _Gone, or _NoAnswer where this one question has none."""
        if self._worker is None:
            raise _Gone(self.absent)
        self._worker.send(request)
        reply = self._worker.receive(self._deadline_s)
        if "ok" not in reply:
            raise _NoAnswer(reply.get("absent"))
        return reply["ok"]

    def _give_up(self, reason: str) -> None:
        """End the process for good; the first reason stays."""
        if self.absent is None:
            self.absent = reason
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


def _as_reading(found: dict[str, Any], own: set[int]) -> GpuReading:
    """Leave the own processes out, and keep how many they were and whether their numbers can match at all."""
    figures = dict(found)
    listed = figures.pop("processes")
    others = None if listed is None else tuple(GpuProcess(**one) for one in listed if one["pid"] not in own)
    return GpuReading(
        **figures,
        processes=others,
        own_processes_seen=None if others is None else len(listed) - len(others),
        own_processes=len(own),
        pids_match=pids_match(),
    )


def pids_match(link: Path = Path("/proc/self/ns/pid")) -> bool | None:
    """Whether process ids here are the machine's own, as NVML gives them; None where the system doesn't tell.

    The machine's own PID namespace has a fixed number (proc_ns.h); any other is a container's.
    """
    try:
        return os.readlink(link) == _INITIAL_PID_NAMESPACE
    except OSError:
        return None
