"""Processes that sample a device beside a measurement: the loop in such a process, and its parent's client.

The process sends one message when it has started or can't, then answers each request with one message:
`{"ok": …}`, or `{"absent": reason}`, a reason being text or a message as an object. Between requests it takes
the samples that are due, in the same thread: a request waits for the sample under way, and after each sample
a waiting request comes first. So nothing that a driver does (hang, crash, hold Python's lock) can delay or
stop what is measured.

The process's part imports only the standard library, and modules that import no more.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, Self

from nameplate.base.messages import Message, Reason, message
from nameplate.base.processes import (
    Child,
    ChildEnded,
    ChildError,
    ChildGarbled,
    ChildSilent,
    connect_to_parent,
    kernel_alarm,
    python_command,
)

# How much of the past a sampler keeps for a client that comes late.
KEPT_S = 20 * 60.0
_SHORTEST_PERIOD_S = 0.01
_ROWS_A_CHUNK = 1000  # about a hundred kilobytes: a few milliseconds away from sampling
_ALARM_SLACK_S = 1.0  # the process's own alarm comes after any deadline of its client

Row = Sequence[Any]
Clock = Callable[[], float]  # seconds, only forward: time.perf_counter, or a virtual one


class Absent(Exception):
    """Something isn't available here; `reason` says why: a message, or a library's own text."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason; as text it is English."""
        super().__init__(str(reason))
        self.reason = reason


# ---- in the process that samples ----


class PeriodicSampler:
    """Takes samples when they are due and keeps them until they are drained, at most `KEPT_S` of them."""

    def __init__(
        self,
        sample: Callable[[], Row],
        period_s: float,
        *,
        most_share: float = 0.5,
        clock: Clock = time.perf_counter,
        cost_clock: Clock | None = None,
    ) -> None:
        """Be due at once, then every `period_s` by the `clock`, or less often where that takes too much time.

        `most_share` is the largest share of the time since the last sample that taking one may cost, and
        `cost_clock` measures that cost, in seconds (default: the same clock).
        """
        self._sample, self._most_share = sample, most_share
        self._clock, self._cost_clock = clock, cost_clock or clock
        self._period_s = max(period_s, _SHORTEST_PERIOD_S)
        self._fast_s, self._fast_until_s = self._period_s, -math.inf
        self._rows: deque[Row] = deque(maxlen=math.ceil(KEPT_S / self._period_s))
        self._dropped = 0
        self.due_s = clock()

    def hasten(self, period_s: float, seconds: float) -> None:
        """Be due at once, and every `period_s` for so many seconds from now; after that as before.

        `most_share` holds all the same, and so does the number of samples that are kept.
        """
        now_s = self._clock()
        self._fast_s, self._fast_until_s = max(period_s, _SHORTEST_PERIOD_S), now_s + seconds
        self.due_s = now_s

    def take(self) -> None:
        """Take one sample, and set when the next is due. Missed samples are not made up for."""
        begun_s = self._cost_clock()
        row = self._sample()
        rest_s = (self._cost_clock() - begun_s) * (1 / self._most_share - 1)
        self._dropped += len(self._rows) == self._rows.maxlen
        self._rows.append(row)
        now_s = self._clock()
        period_s = self._fast_s if now_s < self._fast_until_s else self._period_s
        self.due_s = max(self.due_s + period_s, now_s + rest_s)

    def drain(self) -> dict[str, Any]:
        """Return the oldest rows, how many are left for the next call, and how many were dropped."""
        rows = [self._rows.popleft() for _ in range(min(_ROWS_A_CHUNK, len(self._rows)))]
        dropped, self._dropped = self._dropped, 0
        return {"rows": rows, "left": len(self._rows), "dropped": dropped}


class Service(Protocol):
    """What a process does: it answers requests, and it may sample."""

    def hello(self) -> Any:
        """Return what is sent once it has started."""

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the answer to one request; raises Absent with the reason where there is none."""

    def samplers(self) -> Iterable[PeriodicSampler]:
        """Return the samplers that run now."""


def serve(start: Callable[[], Service]) -> None:
    """Serve the parent until it goes. The first argument on the command line limits each call, in seconds.

    A call that takes longer, also one that keeps Python from running, ends this process.
    """
    parent = connect_to_parent()
    limit_s = float(sys.argv[1])
    try:
        with kernel_alarm(limit_s):
            service = start()
            hello = service.hello()
    except Absent as error:
        parent.send({"absent": error.reason})
        return
    parent.send({"ok": hello})
    while not parent.gone:
        sampler = next_due(service)
        wait_s = None if sampler is None else max(0.0, sampler.due_s - time.perf_counter())
        request = parent.receive(wait_s)
        if request is not None:
            with kernel_alarm(limit_s):
                reply = answer_request(service, request)
            parent.send(reply)
        if sampler is not None and time.perf_counter() >= sampler.due_s:
            with kernel_alarm(limit_s):
                sampler.take()


def next_due(service: Service) -> PeriodicSampler | None:
    """Return the sampler that is due first; None where nothing is sampled."""
    return min(service.samplers(), key=lambda each: each.due_s, default=None)


def answer_request(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """Return the message that answers a request, whatever the service raises."""
    try:
        return {"ok": service.answer(request)}
    except Absent as error:
        return {"absent": error.reason}
    except Exception as error:  # whatever it is, the next request deserves an answer too
        return {"absent": f"{type(error).__name__}: {error}"}


# ---- in its parent ----


class Connection(Protocol):
    """What a client talks to: a child process (`Child`), or one that is simulated.

    `receive` and `ask` raise ChildError, as those of `Child` do.
    """

    def receive(self, deadline_s: float | None = None, /) -> dict[str, Any]:
        """Return the next message, waited for `deadline_s` at most."""

    def ask(self, request: dict[str, Any], deadline_s: float | None = None, /) -> dict[str, Any]:
        """Send a request and return its answer, waited for `deadline_s` at most."""

    def close(self) -> object:
        """End it."""


class SamplingClient:
    """Asks one sampling process, which starts with the client and ends with it. Threads may share a client.

    `absent` is why nothing can be asked any more, None while something can. A process that was lost (it
    hangs, died, or could not start) isn't started again, unless a subclass says otherwise in `_drop`: what
    hung once hangs again, and each attempt would cost a deadline in the middle of a measurement.
    `dropped` counts the samples that were lost because nobody
    took them for twenty minutes. `hello` is what the process sent when it had started.
    """

    module: ClassVar[str]  # what runs in the process
    name: ClassVar[str]  # how messages call the process
    closed: ClassVar[Reason]  # why there is nothing to ask after `close`
    hangs: ClassVar[Reason] = ""  # what it means where the process doesn't answer

    def __init__(
        self, *, start_s: float, deadline_s: float, connect: Callable[[], Connection] | None = None
    ) -> None:
        """Start the process and wait `start_s` at most for what it sends first.

        `deadline_s` limits every later call, in seconds. `connect` starts something else than the process.
        """
        self.absent: Reason | None = None
        self.dropped = 0
        self.hello: Any = None
        self._start_s, self._deadline_s = start_s, deadline_s
        self._limit_s = max(start_s, deadline_s) + _ALARM_SLACK_S
        self._lock = threading.RLock()
        self._connect = connect or self._start_process
        self._child: Connection | None = None
        self._start()

    def _start(self) -> None:
        """Start the process, and give up where that can't be."""
        try:
            self._child = self._connect()
            self.hello = _unwrap(self._child.receive(self._start_s))
        except ChildError as error:
            self._give_up(self._why_lost(error))
        except Absent as error:
            self._give_up(error.reason)
        except OSError as error:
            self._give_up(str(error))

    def _start_process(self) -> Connection:
        """Start the process of `module`; raises OSError."""
        return Child(python_command(self.module, f"{self._limit_s:g}"), quiet=True)

    def __enter__(self) -> Self:
        """Use as a context manager, so that the process ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; nothing can be asked from here on."""
        self._give_up(self.closed)

    def _ask(self, request: dict[str, Any], deadline_s: float | None = None) -> Any:
        """Return the answer to one request.

        Raises Absent where there is none, also where the process is lost.
        """
        with self._lock:
            while self._child is None and self.absent is None:
                self._restart()
            if self._child is None:
                raise Absent(self.absent or "")
            try:
                return _unwrap(self._child.ask(request, deadline_s or self._deadline_s))
            except ChildError as error:
                reason = self._why_lost(error)
                self._drop(reason)
                raise Absent(reason) from None

    def _drain(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Ask for the kept samples, chunk by chunk, within one deadline; raises as `_ask` does.

        Past half of the deadline no further chunk is asked for, so that the last one has the other half; what
        is left comes with the next call.
        """
        with self._lock:
            begun_s = time.monotonic()
            spent_s = 0.0
            while spent_s <= self._deadline_s / 2:
                chunk = self._ask(request, self._deadline_s - spent_s)
                self.dropped += chunk["dropped"]
                yield chunk
                if not chunk["left"]:
                    return
                spent_s = time.monotonic() - begun_s

    def _give_up(self, reason: Reason) -> None:
        """End the process for good; the first reason stays."""
        with self._lock:
            if self.absent is None:
                self.absent = reason
            self._end_process()

    def _drop(self, reason: Reason) -> None:
        """Do without a process that was lost."""
        self._give_up(reason)

    def _restart(self) -> None:
        """Start the process again where `_drop` left that open."""
        self._start()

    def _end_process(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _why_lost(self, error: ChildError) -> Message:
        match error:
            case ChildSilent(deadline_s=deadline_s):
                return message("no_answer", name=self.name, deadline_s=deadline_s, hangs=self.hangs)
            case ChildEnded(status=status) if status == -signal.SIGALRM:
                return message("stuck", name=self.name, limit_s=self._limit_s, hangs=self.hangs)
            case ChildEnded(status=status):
                return message("watcher_ended", name=self.name, status=status)
            case ChildGarbled(line=line):
                return message("not_an_answer", name=self.name, said=repr(line[:80]))
        raise error


def _unwrap(reply: dict[str, Any]) -> Any:
    if "ok" not in reply:
        raise Absent(_as_reason(reply.get("absent") or "it gave no reason"))
    return reply["ok"]


def _as_reason(found: Any) -> Reason:
    """Make a reason of what the process sent; raises pydantic's ValidationError."""
    from pydantic import TypeAdapter  # here, for the process imports this module too

    reason: Reason = TypeAdapter[Reason](Reason).validate_python(found)
    return reason
