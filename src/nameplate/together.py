"""Several devices measured at the same time, one process each; one that is lost costs only its own records.

The heat and power of a node are part of what it delivers, so its GPUs run together. They don't run in one
process group of a launcher: such a group ends every member when one dies.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from pydantic import ValidationError

from nameplate.record import Record

READY, GO = "ready", "go"
_Line = tuple[str, str | None]  # a device, and what its process said; None: it ended
Command = Callable[[Path, str, float | None], Sequence[str]]


def share_command(folder: Path, device: str, budget_s: float | None) -> Sequence[str]:
    """The process that measures one device's share of a run."""
    budget = () if budget_s is None else (str(budget_s),)
    return (sys.executable, "-m", "nameplate.share", str(folder), device, *budget)


def measure_together(
    folder: Path,
    devices: Sequence[str],
    finished: Callable[[Record], None],
    budget_s: float | None = None,
    command: Command = share_command,
) -> dict[str, int]:
    """Measure each device's share of the run in `folder`, all at once; return each process's exit status.

    Every process first makes itself ready (loads torch, opens its device) and waits, so that all start
    together; one that dies before is not waited for. `finished` is called, in this thread, with each record
    that a process reports. KeyboardInterrupt ends every process and passes through.
    """
    lines: SimpleQueue[_Line] = SimpleQueue()
    children = {device: _start(command(folder, device, budget_s), device, lines) for device in devices}
    try:
        _listen(children, lines, finished)
    except BaseException:
        for child in children.values():
            child.terminate()
        raise
    return {device: child.wait() for device, child in children.items()}


def _start(command: Sequence[str], device: str, lines: SimpleQueue[_Line]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    threading.Thread(target=_forward, args=(child, device, lines), daemon=True).start()
    return child


def _forward(child: subprocess.Popen[str], device: str, lines: SimpleQueue[_Line]) -> None:
    for line in child.stdout or ():
        lines.put((device, line.strip()))
    lines.put((device, None))


def _listen(
    children: dict[str, subprocess.Popen[str]], lines: SimpleQueue[_Line], finished: Callable[[Record], None]
) -> None:
    waiting, running = set(children), set(children)
    while running:
        device, line = lines.get()
        if line is None:
            running.discard(device)
        if line in (None, READY) and device in waiting:
            waiting.discard(device)
            if not waiting:
                _go(children[each] for each in running)
        elif line is not None:
            _report(line, finished)


def _go(children: Iterable[subprocess.Popen[str]]) -> None:
    for child in children:
        with suppress(OSError):  # it died between its last word and this one
            print(GO, file=child.stdin, flush=True)


def _report(line: str, finished: Callable[[Record], None]) -> None:
    """Pass a record on. The record is on disk already: what a library prints here is no loss."""
    with suppress(ValidationError):
        finished(Record.model_validate_json(line))
