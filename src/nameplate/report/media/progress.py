"""Live progress of a run on standard error: what is measured, each result, and the time that is left."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text

from nameplate.base.formatting import duration, figure, percent, throughput_unit
from nameplate.base.messages import Message
from nameplate.base.streams import BackgroundStream
from nameplate.base.text import plain
from nameplate.record import Record
from nameplate.report.labels import Labels, describe_simulated
from nameplate.report.media.terminal import open_console, wrap
from nameplate.store.manifest import Manifest

# How long the last lines of a run wait for a terminal that is held.
_LAST_LINES_S = 5.0
# A line of progress goes to a log at most so often.
_SELDOM_S = 15.0


class _TimeLeft(ProgressColumn):
    """What is left of the budget, counted down between the events of the run."""

    max_refresh = 0.5

    def __init__(self, left_s: Callable[[], float | None]) -> None:
        super().__init__()
        self._left_s = left_s

    def render(self, task: Task) -> Text:
        """Return the time left in whole seconds, `1:05 left`; nothing before the devices are ready."""
        left = self._left_s()
        if left is None:
            return Text()
        minutes, seconds = divmod(round(left), 60)
        return Text(f"{minutes}:{seconds:02} left" if left >= 1 else "about done")


class _Bar(Progress):
    """A bar below a line that says what is measured; what doesn't fit a line ends with "…" after a word."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the lines to draw."""
        for task in self.tasks:
            yield Text(_fit(task.description, self.console.width))
        yield self.make_tasks_table(self.tasks)


def _fit(line: str, width: int) -> str:
    """The line, or as many of its words as fit with an ellipsis."""
    if cell_len(line) <= width:
        return line
    words = line.split(" ")
    while len(words) > 1 and cell_len(" ".join(words)) + 2 > width:
        words.pop()
    fitting = " ".join(words)
    return f"{fitting} …" if cell_len(fitting) + 2 <= width else "…"


class LiveProgress:
    """An `Observer` that draws a bar on a terminal, below a line for each case that is done.

    Where there is no terminal, a log gets plain lines and few of them: the beginning, what failed, and now
    and then how far it is. What standard error doesn't take is lost: a closed or held one neither stops nor
    delays the measuring.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on `console`, by default standard error; `clock` is in seconds."""
        self._stream = BackgroundStream(sys.stderr)
        self._console = console or open_console(cast(TextIO, self._stream))
        # FORCE_COLOR makes any stream a terminal to rich; a bar needs one that is.
        self._draws = self._console.is_terminal and (console is not None or self._stream.isatty())
        self._clock = clock
        self._bar = _Bar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _TimeLeft(self._left_s),
            console=self._console,
            transient=True,
            refresh_per_second=2,  # drawing takes CPU time that a CPU measurement would miss
            disable=not self._draws,
        )
        self._task = self._bar.add_task("loading torch and looking at the machine")
        self._begin: float | None = None  # when the first group began; the budget counts from about then
        self._said: float = -_SELDOM_S  # when a log was last told how far it is
        self._budget_s = 0.0
        self._todo = self._done = 0
        self._several_devices = False
        self._labels = Labels({})
        self.folder: Path | None = None

    def _left_s(self) -> float | None:
        if self._begin is None:
            return None
        return max(self._budget_s - (self._clock() - self._begin), 0.0)

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
        self.folder, self._budget_s, self._todo = folder, budget_s, todo
        self._several_devices = len(manifest.devices) > 1
        self._labels = Labels({}, self._several_devices)
        if notice := describe_simulated([manifest]):
            self._print(notice)
        kinds = Counter(
            f"{entry.identity.name or entry.name} ({entry.part or 'no known part'})"
            for entry in manifest.devices
        )
        devices = ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in kinds.items())
        self._print(f"{manifest.run}: {todo} {'case' if todo == 1 else 'cases'} on {devices} → {folder}")
        what = "the devices are" if self._several_devices else "the device is"
        waiting = f"waiting until {what} ready; the {duration(budget_s)} to measure count from then"
        self._print(waiting)
        self._bar.update(self._task, total=todo, description=waiting)

    def group_started(self, cases: Sequence[str]) -> None:
        """Show what is being measured."""
        self._begin = self._clock() if self._begin is None else self._begin
        others = f" and {len(cases) - 1} in turn with it" if len(cases) > 1 else ""
        now = f"{self._labels.case(cases[0])}{others}"
        self._bar.update(self._task, description=now)
        self._tell_log(f"measuring {now}")

    def case_finished(self, record: Record) -> None:
        """Print the result of a case in one line; in a log only one that failed."""
        self._done += 1
        self._bar.advance(self._task)
        if self._draws or record.status == "failed":
            self._print(f"{self._labels.row(record.device, record.case)}: {_result_text(record)}")
        self._tell_log(f"last {self._labels.row(record.device, record.case)}")

    def _tell_log(self, what: str) -> None:
        """Tell a log how far the run is, seldom; a terminal has the bar."""
        now = self._clock()
        if self._draws or (now - self._said < _SELDOM_S and self._done < self._todo):
            return
        self._said = now
        left = self._left_s()
        time_left = "" if not left or self._done >= self._todo else f", about {duration(left)} left"
        self._print(f"{self._done} of {self._todo} cases{time_left}: {what}")

    def device_stopped(self, device: str, why: Message, goes_on: bool) -> None:
        """Print why a device's process ended, and whether another one goes on."""
        after = "another process goes on" if goes_on else "nothing more is measured on it"
        self._print(f"{device}: {why}; {after}")

    def _print(self, line: str) -> None:
        text = Text(plain(line))
        # A log's line is one line; a terminal would break a long one within a word.
        self._console.print(wrap(text, self._console.width) if self._draws else text, soft_wrap=True)


def _result_text(record: Record) -> str:
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    if record.tflops is None:
        return f"{figure(record.bandwidth_gb_s)} GB/s, {' '.join(record.verdicts)}"
    efficiency = "" if record.efficiency is None else f", {percent(record.efficiency)} of nominal"
    unit = throughput_unit(record.dtype)
    return f"{figure(record.tflops)} {unit}{efficiency}, {' '.join(record.verdicts)}"
