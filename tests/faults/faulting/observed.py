"""A real `bench run` in a folder of its own: what it tells meanwhile, and every process that it starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

_MARK = "NAMEPLATE_FAULTS_MARK"
_WAIT_S = 600.0  # for an end: loading torch alone took half a minute where ten others did so on two cores
# Small, but with cases in turn, a block and a second group: seconds of measuring after loading torch.
SUITE = ("run", "smoke", "--device", "cpu", "--budget", "2.5")
WORKER = "nameplate.run.worker"


def _begin(before: Callable[[], None] | None) -> None:
    """Listen to signals again, which a campaign in the background (`nohup … &`) is started without."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if before is not None:
        before()


class ObservedRun:
    """One command. `lines` are those of its standard error, as they came.

    Its processes are found by a mark in their environment, which every process inherits whatever session,
    parent or number it has.
    """

    def __init__(
        self,
        place: Path,
        words: Sequence[str] = SUITE,
        *,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Start it. `stdout` and `stderr` replace its streams; `before` is called in it before it begins."""
        self.place, self.results, self.temporary = place, place / "runs", place / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.mark, self.lines = uuid.uuid4().hex, list[str]()
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nameplate", *words, "--results", str(self.results)],
            cwd=place,
            env={**os.environ, _MARK: self.mark, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
            preexec_fn=lambda: _begin(before),  # noqa: PLW1509  nothing else runs in this process's threads
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stderr is not None:
            for line in self.process.stderr:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    # ---- what it is doing ----

    @property
    def folder(self) -> Path | None:
        """Its run folder, once there is one."""
        return next((path.parent for path in self.results.glob("*/manifest.json")), None)

    def processes(self) -> list[psutil.Process]:
        """Every process of it that lives, the command itself included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children(self) -> list[psutil.Process]:
        """Every process but the command itself."""
        return [each for each in self.processes() if each.pid != self.process.pid]

    def measuring(self) -> list[psutil.Process]:
        """The devices' workers and the processes that measure for them."""
        return list(_list_workers(self.children()))

    def copies(self) -> list[psutil.Process]:
        """The processes that measure now: copies of the device's worker, which only waits for them."""
        with suppress(psutil.Error):
            workers = psutil.Process(self.process.pid).children()
            return list(_list_workers(each for worker in workers for each in worker.children()))
        return []

    def wait_until(self, holds: Callable[[], object], most_s: float = _WAIT_S) -> bool:
        """Wait until something holds, or the command has ended, which returns False."""
        end_s = time.monotonic() + most_s
        while time.monotonic() < end_s and self.process.poll() is None:
            if holds():
                return True
            time.sleep(0.02)
        return False

    def pause(self, seconds: float) -> bool:
        """Let it run for so long; returns whether it still does."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    # ---- its end ----

    def end(self) -> int:
        """Wait for its end, and return its status; one that doesn't end is killed, and counts as a hang."""
        try:
            status = self.process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = HUNG
        self._reader.join(1.0)
        return status

    def find_orphans(self, after_s: float = 1.0) -> list[str]:
        """The command lines of what still lives so long after the end; they are killed then."""
        end_s = time.monotonic() + after_s
        while (left := self.processes()) and time.monotonic() < end_s:
            time.sleep(0.05)
        said = []
        for process in left:
            with suppress(psutil.Error):
                said.append(" ".join(process.cmdline())[-120:])
                process.kill()
        return said


HUNG = -1000


def _list_workers(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with suppress(psutil.Error):
            if WORKER in " ".join(process.cmdline()):
                yield process


@contextmanager
def new_place() -> Iterator[Path]:
    """A folder for one run, removed in the end."""
    place = Path(tempfile.mkdtemp(prefix="nameplate-faults-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def signal_of(status: int) -> signal.Signals | None:
    """The signal that a process ended by, or says that it did."""
    number = -status if status < 0 else status - 128
    try:
        return signal.Signals(number)
    except ValueError:
        return None
