"""Live progress of a run on standard error: what is measured, each result, and the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from nameplate.base.formatting import duration, figure, percent
from nameplate.base.messages import Message
from nameplate.base.streams import BackgroundStream
from nameplate.base.text import plain
from nameplate.record import Record
from nameplate.report.media.terminal import open_console
from nameplate.report.notice import describe_simulated
from nameplate.store.manifest import Manifest

# How long the last lines of a run wait for a terminal that is held.
_LAST_LINES_S = 5.0


class _Bar(Progress):
    """A bar below a line that says what is measured; a line that is too long is left out."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the lines to draw."""
        for task in self.tasks:
            if cell_len(task.description) <= self.console.width:
                yield Text(task.description)
        yield self.make_tasks_table(self.tasks)


class LiveProgress:
    """An `Observer` that draws a bar on a terminal, and prints one line a case everywhere.

    What standard error doesn't take is lost: a closed or held one neither stops nor delays the measuring.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Draw on `console`, by default standard error."""
        self._stream = BackgroundStream(sys.stderr)
        self._console = console or open_console(cast(TextIO, self._stream))
        self._bar = _Bar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=2,  # drawing takes CPU time that a CPU measurement would miss
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("loading torch and looking at the machine", left="")
        self._begin: float | None = None  # when the first group began; the budget counts from about then
        self._budget_s = 0.0
        self._several_devices = False
        self.folder: Path | None = None

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and restore the terminal, if it still exists."""
        with suppress(OSError):
            self._bar.stop()
        self._stream.wait(_LAST_LINES_S)

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None:
        """Print the run, its devices and their parts, and its folder."""
        self.folder, self._budget_s = folder, budget_s
        self._several_devices = len(manifest.devices) > 1
        if notice := describe_simulated([manifest]):
            self._print(notice)
        devices = ", ".join(
            f"{entry.identity.name or entry.name} ({entry.part or 'no known part'})"
            for entry in manifest.devices
        )
        self._print(f"{manifest.run}: {todo} cases on {devices} → {folder}")
        what = "the devices are" if self._several_devices else "the device is"
        waiting = f"waiting until {what} ready; the {duration(budget_s)} to measure count from then"
        self._print(waiting)
        self._bar.update(self._task, total=todo, description=waiting)

    def group_started(self, cases: Sequence[str]) -> None:
        """Show what is being measured and about how much time is left."""
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        left = max(self._budget_s - (now - self._begin), 0.0)
        others = f" and {len(cases) - 1} in turn with it" if len(cases) > 1 else ""
        self._bar.update(
            self._task, description=f"{plain(cases[0])}{others}", left=f"about {duration(left)} left"
        )

    def case_finished(self, record: Record) -> None:
        """Print the result of a case in one line."""
        device = f"{record.device} " if self._several_devices else ""
        self._print(f"{device}{record.case}: {_result_text(record)}")
        self._bar.advance(self._task)

    def device_stopped(self, device: str, why: Message, goes_on: bool) -> None:
        """Print why a device's process ended, and whether another one goes on."""
        after = "another process goes on" if goes_on else "nothing more is measured on it"
        self._print(f"{device}: {why}; {after}")

    def _print(self, line: str) -> None:
        self._console.print(Text(plain(line)), soft_wrap=True)


def _result_text(record: Record) -> str:
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    if record.tflops is None:
        return f"{figure(record.bandwidth_gb_s)} GB/s, {' '.join(record.verdicts)}"
    efficiency = "" if record.efficiency is None else f", {percent(record.efficiency)} of nominal"
    return f"{figure(record.tflops)} TFLOPS{efficiency}, {' '.join(record.verdicts)}"
