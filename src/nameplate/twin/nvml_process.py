"""The process that asks NVML, simulated: the same service, on virtual time, inside the process that measures.

A real one runs beside the measurement. This one catches up when it is asked: it takes every sample that was
due meanwhile, each at its own moment, then answers. What that answer takes passes for the asking host too.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameplate.base.processes import ChildEnded, ChildSilent
from nameplate.telemetry.nvml import REQUEST_S, START_S, NvmlClient
from nameplate.telemetry.nvml_worker import NvmlService, start_service
from nameplate.telemetry.sampling import Absent, Clock, answer_request, next_due
from nameplate.twin.driver import Driver
from nameplate.twin.nvml import DriverHangs, TwinNvml

# The process's own alarm ends it where a call takes longer (`telemetry/sampling.py`).
_LIMIT_S = START_S + 1.0


@dataclass
class _OwnClock:
    """The moment that the process has come to."""

    now_s: float

    def __call__(self) -> float:
        """Return it."""
        return self.now_s

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class SimulatedProcess:
    """One such process, which starts when it is made. It raises what `Child` raises."""

    def __init__(self, drivers: Sequence[Driver], clock: Clock, wait: Callable[[float], None]) -> None:
        """Start at the moment of the host's `clock`; `wait` lets its time pass by so many seconds."""
        self._clock, self._wait = clock, wait
        self._own = _OwnClock(clock())
        self._nvml = TwinNvml([each.seen_at(self._own) for each in drivers], self._own, self._own.spend)
        self._service: NvmlService | None = None
        self._stuck_s: float | None = None  # since when a call hasn't returned

    def receive(self, deadline_s: float | None = None, /) -> dict[str, Any]:
        """Return what it sends when it has started."""

        def start() -> dict[str, Any]:
            try:
                self._service = start_service(self._nvml, self._own)
            except Absent as error:
                return {"absent": error.reason}
            return {"ok": self._service.hello()}

        return self._reply(start, deadline_s)

    def ask(self, request: dict[str, Any], deadline_s: float | None = None, /) -> dict[str, Any]:
        """Answer a request, after the samples that were due before it."""
        service = self._service
        assert service is not None

        def answer() -> dict[str, Any]:
            self._catch_up(service)
            return answer_request(service, request)

        return self._reply(answer, deadline_s)

    def close(self) -> None:
        """Do nothing: there is nothing to end."""

    def _catch_up(self, service: NvmlService) -> None:
        """Take the samples that were due by now."""
        now_s = self._clock()
        while (sampler := next_due(service)) is not None and sampler.due_s <= now_s:
            self._own.now_s = max(self._own.now_s, sampler.due_s)
            sampler.take()
        self._own.now_s = max(self._own.now_s, now_s)

    def _reply(self, make: Callable[[], dict[str, Any]], deadline_s: float | None) -> dict[str, Any]:
        """Return a reply as it comes through a pipe; raises ChildError past the deadline."""
        asked_s = self._clock()
        if self._stuck_s is None:
            try:
                reply = make()
            except DriverHangs:
                self._stuck_s = self._own()
            else:
                took_s = self._own() - asked_s
                if deadline_s is not None and took_s > deadline_s:
                    self._wait(deadline_s)
                    raise ChildSilent(deadline_s)
                self._wait(max(took_s, 0.0))
                found: dict[str, Any] = json.loads(json.dumps(reply, default=asdict))
                return found
        # Stuck: silent until its own alarm ends it.
        assert self._stuck_s is not None
        left_s = self._stuck_s + _LIMIT_S - asked_s
        if deadline_s is not None and deadline_s < left_s:
            self._wait(deadline_s)
            raise ChildSilent(deadline_s)
        self._wait(max(left_s, 0.0))
        raise ChildEnded(-signal.SIGALRM)


def connect_driver(
    drivers: Sequence[Driver],
    clock: Clock,
    wait: Callable[[float], None],
    *,
    deadline_s: float = REQUEST_S,
    start_s: float = START_S,
) -> NvmlClient:
    """Return the client of a simulated node's driver; each process that it starts is simulated too."""
    return NvmlClient(
        deadline_s=deadline_s,
        start_s=start_s,
        connect=lambda: SimulatedProcess(drivers, clock, wait),
        clock=clock,
        ids_match=not any(each.card.environment.container for each in drivers),
    )
