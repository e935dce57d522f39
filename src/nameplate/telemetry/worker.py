"""What the processes that watch have in common: requests, samples between them, and an end.

Such a process is `python -m MODULE PARENT LIMIT`. It writes one line of JSON when it has started or refused
to, then answers each one-line JSON request on standard input with one line on standard output: `{"ok": …}`,
or `{"absent": reason}`, a reason being text, or a message as an object. Between requests it takes the samples
that are due. One thread does both, in turn: a request waits for the sample under way, and after each sample a
request that waits comes first.

It outlives nobody. A second thread ends the process within half a second of its parent's death, also while a
call hangs (ctypes lets other threads run meanwhile); and where a hang keeps Python itself from running, the
kernel's alarm ends it after LIMIT seconds. Only the standard library is imported, and what imports no more.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TextIO

from nameplate.base.messages import Reason

_WATCH_S = 0.4
# How much of the past a watch keeps for whoever comes late.
KEPT_S = 20 * 60.0
_SHORTEST_PERIOD_S = 0.01
# Rows to one answer: a hundred kilobytes or so, a few milliseconds away from sampling.
_CHUNK = 1000
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2

Row = Sequence[Any]


class Absent(Exception):
    """Something that isn't given here; `reason` says why: a message, or a library's own text."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason; as text it is English."""
        super().__init__(str(reason))
        self.reason = reason


class Watch:
    """Samples of one thing: taken when due, kept until drained, the oldest dropped after `KEPT_S`."""

    def __init__(
        self,
        sample: Callable[[], Row],
        period_s: float,
        *,
        share: float = 0.5,
        spent: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Be due at once, then every `period_s`, less often where sampling would take more than `share`.

        `share` is of the time since the sample before, and `spent` the clock, in seconds, of what one takes.
        """
        self._sample, self._share, self._spent = sample, share, spent
        self._period_s = max(period_s, _SHORTEST_PERIOD_S)
        self._rows: deque[Row] = deque(maxlen=math.ceil(KEPT_S / self._period_s))
        self._dropped = 0
        self.due_s = time.perf_counter()

    def take(self) -> None:
        """Take one sample, and say when the next is due: beats that were missed are not made up for."""
        began = self._spent()
        row = self._sample()
        rest_s = (self._spent() - began) * (1 / self._share - 1)
        self._dropped += len(self._rows) == self._rows.maxlen
        self._rows.append(row)
        self.due_s = max(self.due_s + self._period_s, time.perf_counter() + rest_s)

    def drain(self) -> dict[str, Any]:
        """Hand over the oldest rows, how many are left for the next call, and how many were dropped."""
        rows = [self._rows.popleft() for _ in range(min(_CHUNK, len(self._rows)))]
        dropped, self._dropped = self._dropped, 0
        return {"rows": rows, "left": len(self._rows), "dropped": dropped}


class Service(Protocol):
    """What a process does: it answers, and it may watch."""

    def hello(self) -> Any:
        """What there is to say once it has started."""

    def answer(self, request: dict[str, Any]) -> Any:
        """What one request asks for; raises Absent, with the reason, where that isn't to be had."""

    def watches(self) -> Iterable[Watch]:
        """What is being watched."""


def main(start: Callable[[], Service]) -> None:
    """Serve the parent named on the command line until it goes, or closes standard input."""
    parent, limit_s = int(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, last reading included
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # A driver library may print; standard output is for answers alone.
    output = os.fdopen(os.dup(_OUTPUT), "w", encoding="utf-8")
    os.dup2(_ERRORS, _OUTPUT)
    try:
        _serve(start, _Requests(_INPUT), output, limit_s)
    except BrokenPipeError:  # nobody is left to answer
        os._exit(0)


def _serve(start: Callable[[], Service], requests: _Requests, output: TextIO, limit_s: float) -> None:
    try:
        with _alarm(limit_s):
            service = start()
            first = service.hello()
    except Absent as error:
        _say(output, {"absent": error.reason})
        return
    _say(output, {"ok": first})
    while not requests.ended:
        watch = min(service.watches(), key=lambda one: one.due_s, default=None)
        for line in requests.until(None if watch is None else watch.due_s):
            with _alarm(limit_s):
                reply = _reply(service, line)
            _say(output, reply)
        if watch is not None and time.perf_counter() >= watch.due_s:
            with _alarm(limit_s):
                watch.take()


def _reply(service: Service, line: bytes) -> dict[str, Any]:
    try:
        return {"ok": service.answer(json.loads(line))}
    except Absent as error:
        return {"absent": error.reason}
    except Exception as error:  # whatever it is, the next request deserves an answer too
        return {"absent": f"{type(error).__name__}: {error}"}


class _Requests:
    """The lines of a pipe, waited for no longer than may be."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._pending = b""
        self.ended = False

    def until(self, end_s: float | None) -> list[bytes]:
        """Return the lines that have come, or come first, up to a moment of perf_counter (None: wait on)."""
        left_ms = None if end_s is None else max(0, math.ceil((end_s - time.perf_counter()) * 1e3))
        if not self._poll.poll(left_ms):
            return []
        chunk = os.read(self._pipe, 1 << 16)
        self.ended = not chunk
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return lines


class _alarm:  # noqa: N801 - reads as a function
    """The kernel ends this process where a call keeps Python from running for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _say(output: TextIO, reply: dict[str, Any]) -> None:
    output.write(json.dumps(reply, separators=(",", ":"), default=asdict) + "\n")  # a message as an object
    output.flush()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(0)
