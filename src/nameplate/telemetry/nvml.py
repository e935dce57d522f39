"""NVML, asked through a process of its own, so that nothing a driver does can stop a run.

    with NvmlClient() as nvml:
        for gpu in nvml.gpus():
            before = nvml.reading(gpu.uuid)
            nvml.start_sampling(gpu.uuid)
            …
            during = nvml.take_readings(gpu.uuid)

Nothing here raises for what a driver lacks or does. Where NVML is missing or refuses to start, `absent` says
why, and every reading is one without figures, for that reason. A GPU whose handle or reading hangs or crashes
costs itself alone: its readings have no figures from then on, and the process is started again for others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nameplate.base.messages import Reason, message
from nameplate.telemetry.gpu import GpuFacts, GpuProcess, GpuReading
from nameplate.telemetry.nvml_handles import is_not_found
from nameplate.telemetry.nvml_library import plain_uuid
from nameplate.telemetry.sampling import Absent, Clock, Connection, SamplingClient

# For starting NVML, and for opening a card, which is when NVML initialises it (nvml.h): one that isn't kept
# initialised takes 1 to 3 s ("Driver Persistence", docs.nvidia.com), and eight of them are slow, not hung.
START_S = 30.0
REQUEST_S = 2.0
# … and for each of several that are opened to find one of them, after its UUID cost the time above.
_SCAN_S = 10.0
_NOT_SAMPLED = message("not_read_while_watching")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux's proc_ns.h

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

    def __init__(
        self,
        *,
        deadline_s: float = REQUEST_S,
        start_s: float = START_S,
        connect: Callable[[], Connection] | None = None,
        clock: Clock = time.perf_counter,
        ids_match: bool | None = None,
    ) -> None:
        """Start the process and wait, `start_s` at most, for what NVML says first.

        A simulated driver replaces the process (`connect`), the `clock` of readings, and whether process ids
        here are the driver's (`ids_match`; None: as `pids_match` finds).
        """
        self._clock, self._ids_match = clock, ids_match
        self._opened: set[str] = set()
        self._lost: dict[str, Reason] = {}
        self._unread: dict[str, Reason] = {}  # why the last question what a GPU is had no answer
        self._last_loss: Reason | None = None
        self._sampled: dict[str, float] = {}
        self._resuming = False
        super().__init__(start_s=start_s, deadline_s=deadline_s, connect=connect)
        hello = self.hello or {}
        self.driver: str | None = hello.get("driver")
        self.cuda_driver: str | None = hello.get("cuda_driver")
        self.count: int | None = hello.get("count")

    def gpus(self) -> tuple[GpuFacts, ...]:
        """Return every card in NVML's order, each followed by its MIG slices; none without NVML.

        A card that can't be opened or read is there with its index and the reason.
        """
        return tuple(facts for index in range(self.count or 0) for facts in self._card(index))

    def _card(self, index: int) -> list[GpuFacts]:
        """Return a card and its slices."""
        try:
            uuids = self._open_card(index)
        except Absent as error:
            return [GpuFacts(index=index, absent={"*": error.reason})]
        found = []
        for uuid in uuids:
            facts = self.facts(uuid)
            found.append(facts or GpuFacts(index=index, uuid=uuid, absent={"*": self.why_unread(uuid) or ""}))
        return found

    def facts(self, uuid: str) -> GpuFacts | None:
        """Return one GPU or MIG slice, whatever the state of the others; None where NVML has none such.

        None also where it can't be opened or read; `why_unread` has the reason.
        """
        try:
            return self._read_facts(uuid)
        except Absent as error:
            self._unread[plain_uuid(uuid)] = error.reason
        except ValidationError as error:
            self._give_up(str(error))
        return None

    def why_unread(self, uuid: str) -> Reason | None:
        """Return why a GPU can't be read: there is no NVML, or what it said of this GPU; None: it can."""
        plain = plain_uuid(uuid)
        return self.absent or self._lost.get(plain) or self._unread.get(plain)

    @property
    def lost(self) -> Mapping[str, Reason]:
        """The GPUs that cost the process its life, by UUID or `GPU <index>`, and how."""
        return self._lost

    def reading(self, uuid: str, own_pids: Collection[int] | None = None) -> GpuReading:
        """Read one GPU or MIG slice, named by UUID, leaving out `own_pids` (this process alone unless given).

        Where NVML has no such GPU the reading is without figures, and the next one may have some.
        """
        own = {os.getpid()} if own_pids is None else set(own_pids)
        reason: Reason
        try:
            match = pids_match() if self._ids_match is None else self._ids_match
            return _as_reading(self._ask_gpu(uuid, "reading"), own, match)
        except Absent as error:
            reason = error.reason
        except ValidationError as error:
            reason = str(error)
            self._give_up(reason)
        return GpuReading.without_figures(uuid, reason, self._clock())

    def start_sampling(self, uuid: str, period_s: float = 0.1) -> None:
        """Have the process read one GPU by itself from now on, every `period_s`, between requests.

        It keeps twenty minutes of readings. A GPU that is sampled already keeps its period; one that NVML
        hasn't got isn't sampled.
        """
        with suppress(Absent):
            self._ask_gpu(uuid, "sample", period_s=period_s)
            self._sampled.setdefault(plain_uuid(uuid), period_s)

    def hasten_sampling(self, uuid: str, seconds: float, period_s: float = 0.01) -> None:
        """Have a GPU that is sampled read every `period_s` for so many seconds, as far as NVML is that fast.

        Half of the process's time at most goes into reading.
        """
        with suppress(Absent), self._blaming(plain_uuid(uuid)):
            self._ask({"ask": "hasten", "uuid": uuid, "seconds": seconds, "period_s": period_s})

    def take_readings(self, uuid: str) -> tuple[GpuReading, ...]:
        """Return the readings sampled since the last call, or since `start_sampling`, oldest first.

        They are light ones: what moves within a case, without processes and memory errors. There are none of
        a GPU that isn't sampled or where NVML has gone. The call takes no longer than the deadline; what it
        couldn't fetch by then comes with the next.
        """
        found: list[GpuReading] = []
        try:
            with self._blaming(plain_uuid(uuid)):
                for chunk in self._drain({"ask": "drain", "uuid": uuid}):
                    found += _as_readings(chunk)
        except Absent:
            pass
        except ValidationError as error:
            self._give_up(str(error))
        return tuple(found)

    # ---- one card's fault is no other's ----

    def _read_facts(self, uuid: str) -> GpuFacts:
        return GpuFacts.model_validate(self._ask_gpu(uuid, "facts"))

    def _ask_gpu(self, uuid: str, what: str, **values: Any) -> Any:
        """Ask about one GPU, opened first where it isn't open; raises Absent."""
        with self._blaming(plain_uuid(uuid)):
            self._open_gpu(uuid)
            return self._ask({"ask": what, "uuid": uuid, **values})

    def _open_gpu(self, uuid: str) -> None:
        """Open a GPU by its UUID, and where NVML doesn't find it so, by opening one card after the other.

        The latter also where the process is lost: NVML may initialise other cards as it looks for a UUID
        (nvml.h), so the card that hangs may be another one.
        """
        wanted = plain_uuid(uuid)
        if wanted in self._opened:
            return
        try:
            self._opened.update(map(plain_uuid, self._ask({"ask": "open", "uuid": uuid}, self._start_s)))
        except Absent as error:
            cost_process = error.reason is self._last_loss
            if self.absent is not None or not (cost_process or is_not_found(error.reason)):
                raise
            for index in range(self.count or 0):
                if wanted in self._opened:
                    return
                with suppress(Absent):  # another card's fault
                    self._open_card(index, min(self._start_s, _SCAN_S))
            if cost_process and wanted not in self._opened:
                self._lost[wanted] = error.reason
                raise

    def _open_card(self, index: int, deadline_s: float | None = None) -> list[str]:
        """Open a card by index, and return its UUID and those of its slices; raises Absent."""
        with self._blaming(f"GPU {index}"):
            found: list[str] = self._ask({"ask": "open", "index": index}, deadline_s or self._start_s)
            self._opened.update(map(plain_uuid, found))
            return found

    @contextmanager
    def _blaming(self, gpu: str) -> Iterator[None]:
        """Remember a GPU that the process is lost to inside; raises Absent with the reason from then on."""
        with self._lock:
            if gpu in self._lost:
                raise Absent(self._lost[gpu])
            try:
                yield
            except Absent as error:
                if error.reason is self._last_loss:
                    self._lost[gpu] = error.reason
                raise

    def _drop(self, reason: Reason) -> None:
        """Do without the process until another GPU is asked about: that one may answer.

        A GPU that cost a process isn't asked again, so each costs two at most: by UUID and by index.
        """
        self._last_loss = reason
        self._opened.clear()
        self._end_process()

    def _restart(self) -> None:
        """Start the process again, and have it sample what the lost one did.

        A GPU may cost this process its life as well, when it is opened again. The next process is then only
        started here, from inside: the loop that is under way has it sample the GPUs that are left.
        """
        self._start()
        if self._resuming:
            return
        self._resuming = True
        try:
            for _ in list(self._sampled):  # each GPU can cost a process, and what that one sampled
                process = self._child
                for uuid, period_s in list(self._sampled.items()):
                    self.start_sampling(uuid, period_s)
                if self._child is process:
                    return
        finally:
            self._resuming = False


def _as_reading(found: dict[str, Any], own: set[int], ids_match: bool | None) -> GpuReading:
    """Make a reading without the own processes, with how many those were and whether ids can match."""
    figures = dict(found)
    listed = figures.pop("processes")
    others = None if listed is None else tuple(GpuProcess(**one) for one in listed if one["pid"] not in own)
    return GpuReading(
        **figures,
        processes=others,
        own_processes_seen=None if others is None else len(listed) - len(others),
        own_processes=len(own),
        pids_match=ids_match,
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
