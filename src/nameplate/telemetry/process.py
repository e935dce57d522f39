"""A process that watches, from the outside: two pipes and a deadline, so that nothing it does can stop a run.

Its inside is worker.py. Rows it took by itself come in chunks, so that no answer is a long one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from nameplate.base.messages import Message, Reason, message

# How long a killed process is waited for; one stuck inside the kernel goes when the kernel lets it.
_KILL_S = 1.0
# The process's own alarm, past any deadline of this side's.
_ALARM_SLACK_S = 1.0


_REASON: TypeAdapter[Reason] = TypeAdapter(Reason)


class Gone(Exception):
    """The process doesn't answer any more; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason; as text it is English."""
        super().__init__(str(reason))
        self.reason = reason


class NoAnswer(Gone):
    """The process lives, and has no answer to this one question."""


class Process:
    """One process of `worker.main`, and what it says: lines of JSON."""

    def __init__(self, module: str, name: str, *, limit_s: float, hangs: Reason = "") -> None:
        """Start it; raises OSError. `limit_s` is the longest that this side will ever wait for it.

        `name` is what its end is told of, and `hangs` what it means where it gives no answer.
        """
        self._name, self._hangs = name, hangs
        self._limit_s = limit_s + _ALARM_SLACK_S
        # -P keeps a pynvml.py in the working directory from being taken for the library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid()), f"{self._limit_s:g}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._pending = b""

    def ask(self, request: dict[str, Any], deadline_s: float) -> Any:
        """Return the answer; raises Gone, or NoAnswer where this one question has none."""
        self._send(request)
        return self.answer(deadline_s)

    def answer(self, deadline_s: float) -> Any:
        """Return the next answer, the first being what it says once it has started; raises as `ask` does."""
        reply = self._receive(deadline_s)
        if "ok" not in reply:
            raise NoAnswer(_REASON.validate_python(reply.get("absent") or "it gave no reason"))
        return reply["ok"]

    def drain(self, request: dict[str, Any], deadline_s: float) -> Iterator[dict[str, Any]]:
        """Ask for rows, chunk by chunk, `deadline_s` in all; raises as `ask` does.

        Past half of it no further chunk is asked for, so that the last one has the other half: what is left
        then stays where it is until the next call.
        """
        begin_s = time.monotonic()
        elapsed_s = 0.0
        while elapsed_s <= deadline_s / 2:
            chunk = self.ask(request, deadline_s - elapsed_s)
            yield chunk
            if not chunk["left"]:
                return
            elapsed_s = time.monotonic() - begin_s

    def end(self) -> None:
        """Kill it and take its exit status, without waiting long for either."""
        self._process.kill()
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_S)

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
        except OSError:
            raise Gone(self._how_it_ended()) from None

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        """Read one line; raises Gone past the deadline, at the end, and for what isn't an answer."""
        end = time.monotonic() + deadline_s
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while b"\n" not in self._pending:
            left_s = end - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1e3):
                raise Gone(self._no_answer(deadline_s))
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                raise Gone(self._how_it_ended())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return self._as_reply(line)

    def _no_answer(self, deadline_s: float) -> Message:
        return message("no_answer", name=self._name, deadline_s=deadline_s, hangs=self._hangs)

    def _how_it_ended(self) -> Message:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_S)
        status = self._process.poll()
        if status == -signal.SIGALRM:
            return message("stuck", name=self._name, limit_s=self._limit_s, hangs=self._hangs)
        return message("watcher_ended", name=self._name, status=status)

    def _as_reply(self, line: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise Gone(message("not_an_answer", name=self._name, said=repr(line[:80])))
        return reply
