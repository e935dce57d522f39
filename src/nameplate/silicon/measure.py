"""Measures a CPU's arithmetic peak: each instruction path in a process of its own, one at a time.

Every path is measured on one core alone and on every usable core at once, in several visits with the other
paths in between, so that a clock that moves meanwhile shows. All of it takes about 0.1 s a path; where other
work keeps disturbing a path, some visits more.
"""

from __future__ import annotations

import platform
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nameplate.base.messages import Message, message
from nameplate.base.processes import Child, ChildEnded, ChildError, ChildSilent
from nameplate.silicon.estimate import Visit, estimate, is_supported
from nameplate.silicon.loops import Loop, find_loops
from nameplate.silicon.peak import Peak, Silicon

# A stretch is some hundred thousand steps of the counter, and a scheduler's slice holds several of them.
_STRETCH_S = 0.001
_CHAIN_S = 0.00004
_ROUNDS_ALONE, _ROUNDS_TOGETHER = 20, 25
_VISITS, _MOST_VISITS = 2, 6
# No visit begins later than this where a path is still disturbed.
_PATIENCE_S = 2.5
_FIRST_TURNS, _FIRST_CHAIN = 2000, 500
# Every request takes some hundredths of a second; a machine with other work at hand takes longer.
_DEADLINE_S = 5.0
_CHILD = Path(__file__).with_name("child.py")


class LoopProcess(Protocol):
    """The process that runs one loop, as `measure_silicon` uses it; a test may give recorded answers."""

    def ask(self, request: Mapping[str, Any], deadline_s: float | None = None) -> dict[str, Any]:
        """Send a request and return the answer; raises ChildError."""

    def close(self) -> int | None:
        """End the process."""


def start_process() -> LoopProcess:
    """Start a bare interpreter for one loop. Raises OSError."""
    # -I -S: no site packages and nothing of the working directory; it needs the standard library alone.
    return Child((sys.executable, "-I", "-S", str(_CHILD)), quiet=True)


def measure_silicon(
    flags: Collection[str],
    cpus: Sequence[int],
    cores: float,
    *,
    system: str | None = None,
    architecture: str | None = None,
    start: Callable[[], LoopProcess] = start_process,
) -> Silicon:
    """Measure the peak of every instruction path that `flags` (of /proc/cpuinfo) show.

    `cpus` are the CPUs to use, one for each usable physical core, at least one; `cores` is how many of them a
    quota leaves, a fraction where it is one. Takes a second or two, all CPUs busy. A path that can't run is
    in `failed`, with what happened.
    """
    if (system or platform.system()) != "Linux":
        return Silicon(absent=message("silicon_system", system=system or platform.system()))
    loops = find_loops(architecture or platform.machine(), flags)
    if not loops:
        return Silicon(absent=message("silicon_no_flags"))
    running = [_Path(loop, list(cpus)) for loop in loops]
    end_s = time.monotonic() + _PATIENCE_S
    try:
        for path in running:
            path.begin(start)
        for path in running:
            path.load()
        for number in range(_MOST_VISITS):
            for path in running:
                if number < _VISITS or (not path.is_supported and time.monotonic() < end_s):
                    path.visit(number)
    finally:
        for path in running:
            path.close()
    return _result(running, cores)


def _result(paths: Sequence[_Path], cores: float) -> Silicon:
    failed = {path.loop.name: path.failure for path in paths if path.failure is not None}
    peaks = tuple(path.estimate(cores) for path in paths if path.failure is None)
    if peaks:
        return Silicon(cores=cores, peaks=peaks, failed=failed)
    return Silicon(cores=cores, failed=failed, absent=next(iter(failed.values())))


@dataclass
class _Path:
    """One loop and its process; a path that failed does nothing more."""

    loop: Loop
    cpus: list[int]
    failure: Message | None = None
    _process: LoopProcess | None = None
    _turns: int = 0
    _chain: int = 0
    _alone: list[Visit] = field(default_factory=list)
    _together: list[Visit] = field(default_factory=list)

    def begin(self, start: Callable[[], LoopProcess]) -> None:
        try:
            self._process = start()
        except OSError as error:
            self.failure = message("silicon_process", why=str(error))

    def load(self) -> None:
        """Map the code, and calibrate how many turns of the loop take one stretch."""
        asked = {"code": self.loop.code, "operands": self.loop.operands, "tiles": self.loop.tiles}
        told = self._ask({"load": asked})
        if "refused" in told:
            self.failure = _describe_refusal(str(told["call"]), str(told["refused"]))
        turns, chain = _FIRST_TURNS, _FIRST_CHAIN
        for _ in range(2):  # the first also lets the core wake up and its clock rise
            told = self._ask({"time": {"cpu": self.cpus[0], "turns": turns, "chain": chain}})
            if self.failure is None:
                turns = max(1, round(turns * _STRETCH_S / told["loop_s"]))
                chain = max(1, round(chain * _CHAIN_S / told["chain_s"]))
        self._turns, self._chain = turns, chain

    def visit(self, number: int) -> None:
        """Run on one core alone, another one at each visit, then on all cores at once."""
        one = self.cpus[-number % len(self.cpus)]
        for cpus, rounds, found in (
            ([one], _ROUNDS_ALONE, self._alone),
            (self.cpus, _ROUNDS_TOGETHER, self._together),
        ):
            told = self._ask(
                {"run": {"cpus": cpus, "turns": self._turns, "chain": self._chain, "rounds": rounds}}
            )
            if self.failure is None:
                found.append(Visit.of_answer(self._turns, self._chain, told))

    @property
    def is_supported(self) -> bool:
        """Whether no further visit is needed: undisturbed stretches were seen, or it failed."""
        return self.failure is not None or is_supported(self.loop, self._alone, self._together)

    def estimate(self, cores: float) -> Peak:
        return estimate(self.loop, self._alone, self._together, cores)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer; where there is none, an empty one, with `failure` set."""
        if self.failure is not None or self._process is None:
            return {}
        try:
            return self._process.ask(request, _DEADLINE_S)
        except ChildError as error:
            self.failure = _describe_failure(error)
            self.close()
            return {}


def _describe_refusal(call: str, why: str) -> Message:
    if call == "arch_prctl":
        return message("silicon_tiles", why=why)
    return message("silicon_refused", call=call, why=why)


def _describe_failure(error: ChildError) -> Message:
    if isinstance(error, ChildSilent):
        return message("silicon_silent", seconds=error.deadline_s)
    if not isinstance(error, ChildEnded) or error.status is None:
        return message("silicon_garbled")
    if error.status == -signal.SIGILL:
        return message("silicon_illegal")
    if error.status < 0:
        return message("silicon_signal", signal=signal.Signals(-error.status).name)
    return message("silicon_broke", status=error.status)
