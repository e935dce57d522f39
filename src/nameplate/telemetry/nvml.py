"""NVML, asked through a process of its own, so that nothing a driver does can stop a run.

    with NvmlClient() as nvml:
        for gpu in nvml.gpus():
            before = nvml.reading(gpu.uuid)
            nvml.start_sampling(gpu.uuid)
            …
            during = nvml.take_readings(gpu.uuid)

Nothing here raises for what a driver lacks or does. Where NVML is missing, refuses, hangs or dies, `absent`
says why, and from then on every reading is one without figures, for that reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nameplate.base.messages import Reason, message
from nameplate.telemetry.gpu import GpuFacts, GpuProcess, GpuReading
from nameplate.telemetry.sampling import Absent, SamplingClient

# Starting attaches every card, and one that isn't kept initialized takes 1 to 3 s ("Driver Persistence",
# docs.nvidia.com): eight of them without persistence mode are slow, not hung.
START_S = 30.0
REQUEST_S = 2.0
_NOT_SAMPLED = message("not_read_while_watching")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux's proc_ns.h

_FACTS = TypeAdapter(tuple[GpuFacts, ...])
_READINGS = TypeAdapter(list[GpuReading])
_ABSENT = TypeAdapter(dict[str, Reason])
_MAY_LACK = {name for name, field in GpuReading.model_fields.items() if field.default is None} - {"uuid"}


class NvmlClient(SamplingClient):
    """Asks the NVML process, which starts with the client and ends with it.

    `driver`, `cuda_driver` and `count` (of cards) are what NVML said when it started, None where it didn't.
    """

    module = "nameplate.telemetry.nvml_worker"
    name = "NVML"
    closed = message("nvml_closed")
    hangs = message("driver_hangs")

    def __init__(self, *, deadline_s: float = REQUEST_S, start_s: float = START_S) -> None:
        """Start the process and wait, `start_s` at most, for what NVML says first."""
        super().__init__(start_s=start_s, deadline_s=deadline_s)
        hello = self.hello or {}
        self.driver: str | None = hello.get("driver")
        self.cuda_driver: str | None = hello.get("cuda_driver")
        self.count: int | None = hello.get("count")

    def gpus(self) -> tuple[GpuFacts, ...]:
        """Return every card in NVML's order, each followed by its MIG slices; none without NVML.

        A card that can't be opened is there with its index and the reason.
        """
        try:
            return _FACTS.validate_python(self._ask({"ask": "facts"}))
        except Absent as error:
            self._give_up(error.reason)
        except ValidationError as error:
            self._give_up(str(error))
        return ()

    def facts(self, uuid: str) -> GpuFacts | None:
        """Return one GPU or MIG slice, whatever the state of the others; None where NVML has none such."""
        try:
            found = _FACTS.validate_python(self._ask({"ask": "facts", "uuid": uuid}))
            return next(iter(found), None)
        except Absent:
            pass
        except ValidationError as error:
            self._give_up(str(error))
        return None

    def reading(self, uuid: str, own_pids: Collection[int] | None = None) -> GpuReading:
        """Read one GPU or MIG slice, named by UUID, leaving out `own_pids` (this process alone unless given).

        Where NVML has no such GPU the reading is without figures, and the next one may have some.
        """
        own = {os.getpid()} if own_pids is None else set(own_pids)
        reason: Reason
        try:
            return _as_reading(self._ask({"ask": "reading", "uuid": uuid}), own)
        except Absent as error:
            reason = error.reason
        except ValidationError as error:
            reason = str(error)
            self._give_up(reason)
        return GpuReading.without_figures(uuid, reason, time.perf_counter())

    def start_sampling(self, uuid: str, period_s: float = 0.1) -> None:
        """Have the process read one GPU by itself from now on, every `period_s`, between requests.

        It keeps twenty minutes of readings. A GPU that is sampled already keeps its period; one that NVML
        hasn't got isn't sampled.
        """
        with suppress(Absent):
            self._ask({"ask": "sample", "uuid": uuid, "period_s": period_s})

    def take_readings(self, uuid: str) -> tuple[GpuReading, ...]:
        """Return the readings sampled since the last call, or since `start_sampling`, oldest first.

        They are light ones: what moves within a case, without processes and memory errors. There are none of
        a GPU that isn't sampled or where NVML has gone. The call takes no longer than the deadline; what it
        couldn't fetch by then comes with the next.
        """
        found: list[GpuReading] = []
        try:
            for chunk in self._drain({"ask": "drain", "uuid": uuid}):
                found += _as_readings(chunk)
        except Absent:
            pass
        except ValidationError as error:
            self._give_up(str(error))
        return tuple(found)


def _as_reading(found: dict[str, Any], own: set[int]) -> GpuReading:
    """Make a reading without the own processes, with how many those were and whether ids can match."""
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


def _as_readings(chunk: dict[str, Any]) -> list[GpuReading]:
    """Make readings of rows: the figures of `columns`, then the number of the reasons that are theirs."""
    columns = chunk["columns"]
    reasons = [
        {**dict.fromkeys(_MAY_LACK - {*columns}, _NOT_SAMPLED), **_ABSENT.validate_python(why)}
        for why in chunk["reasons"]
    ]
    return _READINGS.validate_python(
        [
            {"uuid": chunk["uuid"], "absent": reasons[which], **dict(zip(columns, figures, strict=True))}
            for *figures, which in chunk["rows"]
        ]
    )


def pids_match(link: Path = Path("/proc/self/ns/pid")) -> bool | None:
    """Return whether process ids here are the machine's own, as NVML's are; None where it can't be told.

    The machine's own PID namespace has a fixed number (proc_ns.h); any other is a container's.
    """
    try:
        return os.readlink(link) == _INITIAL_PID_NAMESPACE
    except OSError:
        return None
