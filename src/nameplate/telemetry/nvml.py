"""NVML from the outside: a process of its own behind a deadline, so that nothing it does can stop a run.

    with NvmlClient() as nvml:
        for gpu in nvml.gpus():
            before = nvml.reading(gpu.uuid)
            nvml.watch(gpu.uuid)
            …
            during = nvml.watched(gpu.uuid)

Nothing here raises for what a driver lacks or does. Where NVML is missing, refuses, hangs or dies, `absent`
says why, and from then on every reading is one without figures, for that reason. There is no second attempt:
what hung once hangs again, and each attempt would cost a deadline amid a measurement. A new client may try.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from nameplate.base.messages import Reason, message
from nameplate.telemetry.gpu import GpuFacts, GpuProcess, GpuReading
from nameplate.telemetry.process import Gone, NoAnswer, Process

# Starting attaches every card, and one that isn't kept initialized takes 1 to 3 s ("Driver Persistence",
# docs.nvidia.com): eight of them without persistence mode are slow, not hung.
START_S = 30.0
REQUEST_S = 2.0
_WORKER = "nameplate.telemetry.nvml_worker"
_HANGS = message("driver_hangs")
_NOT_WATCHED = message("not_read_while_watching")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux's proc_ns.h

_FACTS = TypeAdapter(tuple[GpuFacts, ...])
_READINGS = TypeAdapter(list[GpuReading])
_ABSENT = TypeAdapter(dict[str, Reason])
_MAY_LACK = {name for name, field in GpuReading.model_fields.items() if field.default is None} - {"uuid"}


class NvmlClient:
    """Asks the NVML process, which starts with the client and ends with it.

    `absent` is why NVML tells nothing at all, None while it does. `driver`, `cuda_driver` and `count` are
    what it said when it started; a count of None isn't a count of 0. `dropped` is how many readings of
    watching came to nothing so far because nobody took them for twenty minutes. Threads may share a client.
    """

    def __init__(self, *, deadline_s: float = REQUEST_S, start_s: float = START_S) -> None:
        """Start the process and wait, `start_s` at most, for what NVML says first."""
        self.absent: Reason | None = None
        self.driver: str | None = None
        self.cuda_driver: str | None = None
        self.count: int | None = None
        self.dropped = 0
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._process: Process | None = None
        try:
            self._process = Process(_WORKER, "NVML", limit_s=max(start_s, deadline_s), hangs=_HANGS)
            hello = self._process.answer(start_s)
        except (OSError, Gone) as error:
            self._give_up(_reason(error))
            return
        self.driver, self.cuda_driver, self.count = hello["driver"], hello["cuda_driver"], hello["count"]

    def __enter__(self) -> Self:
        """Use as a context manager, so that the process ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; readings are without figures from here on."""
        with self._lock:
            self._give_up(message("nvml_closed"))

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
            except NoAnswer as error:
                if "uuid" not in request:
                    self._give_up(error.reason)
                return ()
            except (Gone, ValidationError) as error:
                self._give_up(_reason(error))
                return ()

    def reading(self, uuid: str, own_pids: Collection[int] | None = None) -> GpuReading:
        """Read one GPU or MIG slice, named by UUID, leaving out `own_pids` (this process alone unless given).

        Where NVML has no such GPU the reading is without figures, and the next one may have some.
        """
        own = {os.getpid()} if own_pids is None else set(own_pids)
        with self._lock:
            try:
                return _as_reading(self._ask({"ask": "reading", "uuid": uuid}), own)
            except NoAnswer as error:
                reason = error.reason
            except (Gone, ValidationError) as error:
                reason = _reason(error)
                self._give_up(reason)
            return GpuReading.nothing(uuid, reason, time.perf_counter())

    def watch(self, uuid: str, period_s: float = 0.1) -> None:
        """Have the process read one GPU by itself from now on, every `period_s`, beside what it is asked.

        Of the readings it keeps twenty minutes' worth. A GPU that is being watched stays so, at the period it
        has; one that NVML hasn't got isn't watched.
        """
        with self._lock:
            try:
                self._ask({"ask": "watch", "uuid": uuid, "period_s": period_s})
            except NoAnswer:
                return
            except Gone as error:
                self._give_up(error.reason)

    def watched(self, uuid: str) -> tuple[GpuReading, ...]:
        """Return the readings taken since the last call, or since `watch`, oldest first.

        They are light ones: what moves within a case, without processes and memory errors. There are none of
        a GPU that isn't watched or where NVML has gone. The call takes no longer than the deadline; what it
        couldn't fetch by then comes with the next.
        """
        found: list[GpuReading] = []
        with self._lock:
            try:
                for chunk in self._running().drain({"ask": "watched", "uuid": uuid}, self._deadline_s):
                    self.dropped += chunk["dropped"]
                    found += _as_watched(chunk)
            except NoAnswer:
                pass
            except (Gone, ValidationError) as error:
                self._give_up(_reason(error))
        return tuple(found)

    def _ask(self, request: dict[str, Any]) -> Any:
        return self._running().ask(request, self._deadline_s)

    def _running(self) -> Process:
        if self._process is None:
            raise Gone(self.absent or "")
        return self._process

    def _give_up(self, reason: Reason) -> None:
        """End the process for good; the first reason stays."""
        if self.absent is None:
            self.absent = reason
        process, self._process = self._process, None
        if process is not None:
            process.end()


def _reason(error: Exception) -> Reason:
    """Why the process is given up: its own reason, or an error's text."""
    return error.reason if isinstance(error, Gone) else str(error)


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


def _as_watched(chunk: dict[str, Any]) -> list[GpuReading]:
    """Make readings of rows, each of its figures and which of the reasons are its own."""
    columns = chunk["columns"]
    reasons = [
        {**dict.fromkeys(_MAY_LACK - {*columns}, _NOT_WATCHED), **_ABSENT.validate_python(why)}
        for why in chunk["reasons"]
    ]
    return _READINGS.validate_python(
        [
            {"uuid": chunk["uuid"], "absent": reasons[which], **dict(zip(columns, figures, strict=True))}
            for *figures, which in chunk["rows"]
        ]
    )


def pids_match(link: Path = Path("/proc/self/ns/pid")) -> bool | None:
    """Whether process ids here are the machine's own, as NVML gives them; None where the system doesn't tell.

    The machine's own PID namespace has a fixed number (proc_ns.h); any other is a container's.
    """
    try:
        return os.readlink(link) == _INITIAL_PID_NAMESPACE
    except OSError:
        return None
