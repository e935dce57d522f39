"""Call `bench` as anybody does, in a folder of its own; keep how it ended, what it said and what it wrote.

In this process a call takes milliseconds. What would measure this machine, or take minutes, is replaced by
something that ends at once; everything before and after is the real code. In a process of its own
(`call_process`) nothing is replaced.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

from fuzzing.inputs import Input

# Drawing a chart takes a hundred times as long as most commands: a report is drawn where its name says so.
CHARTED = "charted"
NOTEBOOK = "notebook"
KEPT = "what lies beside the working directory stays as it is"
_MEMORY = "/dev/shm/"  # where there is one, no call waits for a disk
_SIZE = {"COLUMNS": "100", "LINES": "40"}


@dataclass(frozen=True)
class Outcome:
    """How a call ended. `wrote` are the places outside the working directory that were opened for writing."""

    status: int
    out: str
    err: str
    seconds: float
    cpu_s: float = 0.0
    hung: bool = False
    traceback: str = ""
    wrote: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict, repr=False)  # text files that it left


class Hang(BaseException):
    """The time of a call is over."""


# ---- what is written where, and which processes are started ----

_OPENS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_OPENS_MORE = ("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.copyfile", "shutil.move")
_EVENTS = frozenset((*_OPENS, *_OPENS_MORE))
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_watched: list[tuple[tuple[str, ...], list[str]]] = []  # allowed folders, and what was written elsewhere
_hooks: list[str] = []  # what watches already; an audit hook can't be removed


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched:
        return
    if event in _STARTS and not (event == "subprocess.Popen" and list(arguments[1])[:1] == ["git"]):
        measure_nothing()  # whatever starts a process but git would measure, or take long
    if event not in _EVENTS:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
        return
    allowed, found = _watched[-1]
    pairs = 2 if event in ("os.rename", "os.link", "shutil.move") else 1
    for path in arguments[:pairs]:
        if not isinstance(path, str | bytes | os.PathLike):
            continue
        name = os.fsdecode(path)
        # A link itself is made or removed, and none is followed by what must make a new file.
        followed = event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_EXCL)
        place = os.path.realpath(name) if followed else _real_parent(name)
        is_device = place.startswith(("/dev/", "/proc/self/fd/")) and not place.startswith(_MEMORY)
        if not (is_device or place.startswith(allowed)) and "__pycache__" not in place:
            found.append(f"{event} {place}")


def _real_parent(name: str) -> str:
    folder, last = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(folder), last)


@contextmanager
def _writes_watched(*allowed: Path) -> Iterator[list[str]]:
    """Watch what this process opens for writing, makes, renames or removes outside these folders."""
    if not _hooks:
        sys.addaudithook(_watch)
        _hooks.append("_watch")
    found: list[str] = []
    _watched.append((tuple(os.path.realpath(each) + os.sep for each in allowed), found))
    try:
        yield found
    finally:
        _watched.pop()


# ---- a folder for each call ----


@dataclass(frozen=True)
class Place:
    """The folders of a call: it works in `here`, and may also write into `home` and `temporary`."""

    root: Path

    @property
    def here(self) -> Path:
        return self.root / "here"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        return self.root / "temporary"

    def environment(self, given: Input) -> dict[str, str]:
        """This process's variables, those by which a call finds its folders, and those of its input."""
        mine = {"HOME": self.home, "XDG_DATA_HOME": self.home, "TMPDIR": self.temporary}
        merged = dict(os.environ) | _SIZE | {name: str(path) for name, path in mine.items()}
        merged |= dict(given.variables)
        return {name: value for name, value in merged.items() if value is not None}

    def traceback(self) -> str:
        """The traceback that a command kept, if any."""
        kept = sorted(self.temporary.glob("nameplate-traceback-*"))
        return kept[0].read_text("utf-8", "replace") if kept else ""

    def changed_outside(self) -> tuple[str, ...]:
        """What was written beside the working directory."""
        found = sorted(path.name for path in self.outside.iterdir())
        intact = found == ["kept.txt"] and (self.outside / "kept.txt").read_text() == KEPT
        return () if intact else (f"{self.outside} holds {found}",)

    def new_texts(self, given: Input) -> dict[str, str]:
        """The text files that a command left in the working directory."""
        known = {entry.path for entry in given.entries}
        texts = {}
        for path in self.here.rglob("*"):
            name = str(path.relative_to(self.here))
            if name not in known and path.suffix in (".md", ".html", ".csv", ".svg") and path.is_file():
                texts[name] = path.read_text("utf-8", "replace")
        return texts


@contextmanager
def made(given: Input) -> Iterator[Place]:
    """Make the files of an input in a new place, and remove it in the end."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    place = Place(Path(tempfile.mkdtemp(prefix="nameplate-fuzz-", dir=memory)))
    try:
        for folder in (place.here, place.outside, place.home, place.temporary):
            folder.mkdir()
        (place.outside / "kept.txt").write_text(KEPT)
        for entry in given.entries:
            entry.make(place.here)
        yield place
    finally:
        shutil.rmtree(place.root, ignore_errors=True)


# ---- a call in this process ----


def call(given: Input, limit_s: float) -> Outcome:
    """Call the command in this process; past `limit_s` seconds of the clock it is broken off."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    hung: list[bool] = []

    def stop(*_: object) -> None:
        hung.append(True)
        raise Hang

    with made(given) as place, _writes_watched(place.here, place.home, place.temporary) as wrote:
        before, folder = dict(os.environ), os.getcwd()
        streams = sys.argv, sys.stdout, sys.stderr, tempfile.tempdir
        _set_environment(place.environment(given))
        os.chdir(place.here)
        sys.argv, sys.stdout, sys.stderr = ["bench", *given.words], out, err
        tempfile.tempdir = str(place.temporary)
        handler = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        status, began_s, began_cpu_s = 0, time.monotonic(), time.process_time()
        try:
            _run_command(given.words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Hang:
            status = -signal.SIGALRM
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
            sys.argv, sys.stdout, sys.stderr, tempfile.tempdir = streams
            os.chdir(folder)
            _set_environment(before)
        said = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
        written = (*wrote, *place.changed_outside())
        return Outcome(
            status, *said, seconds, cpu_s, bool(hung), place.traceback(), written, place.new_texts(given)
        )


def _run_command(words: tuple[str, ...]) -> None:
    """Run the command line; `notebook RUN [RUN]`, which is none, shows a run or a comparison as one does."""
    from nameplate.cli import exits, main

    if words[:1] == (NOTEBOOK,):
        sys.exit(exits.run(lambda: _show_in_notebook(*words[1:])))
    main()


def _show_in_notebook(run: str, other: str | None = None) -> None:
    from nameplate import find_run, load
    from nameplate.compare import compare
    from nameplate.store.folder import read_run

    shown = read_run(find_run(run)) if other is None else compare(run, other)
    print(shown._repr_html_())
    print(shown.summary(), file=sys.stderr)
    if other is None:
        load(run).to_dict()


def _set_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(set(variables.items()) - set(os.environ.items()))


def measure_nothing(*_: object, **__: object) -> NoReturn:
    """Raise what a run raises that measured nothing."""
    from nameplate.base.errors import RunIncomplete

    raise RunIncomplete("nothing is measured here")


def _where_charted(draw: Callable[[Any], Any], instead: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def drawn(given: Any) -> Any:
        return draw(given) if any(CHARTED in word for word in sys.argv) else instead(given)

    return drawn


@contextmanager
def nothing_measured() -> Iterator[None]:
    """Let commands end at once where they would measure this machine or a twin: `bench run` gets no record.

    No device can prepare a workload here, and a call that would start a process ends; what is named beside
    that would do it again and again, or in processes of multiprocessing, which no audit event tells of.
    What takes long and is the same each time (finding suites, typer's commands) is done once.
    """
    import nameplate.cli
    import nameplate.device.survey
    import nameplate.health.simulated_nodes
    import nameplate.report.charts.vega
    import nameplate.run.jobs
    import nameplate.run.measure
    import nameplate.selftest.again
    import nameplate.selftest.bare
    import nameplate.selftest.draws
    import nameplate.selftest.repeat
    import nameplate.selftest.search
    import nameplate.selftest.simulate
    import nameplate.suite
    from nameplate.device.cpu import CpuDevice
    from nameplate.device.identity import CpuIdentity
    from nameplate.device.twin import TwinDevice
    from nameplate.run.pool import WorkerResult

    entry_points = cache(lambda group: importlib.metadata.entry_points(group=group))
    vega = nameplate.report.charts.vega
    command = nameplate.cli.get_command(nameplate.cli.app)  # made for each call, it takes half of the time
    identity = CpuIdentity(
        name="A CPU", architecture="x86_64", logical_cpus=2, usable_cores=2, memory_bytes=1 << 30
    )

    def run_workers(jobs, *_: object, **__: object) -> dict[str, WorkerResult]:
        return {job.device: WorkerResult(0) for job in jobs}

    with (
        patch.object(nameplate.cli, "get_command", lambda _: command),
        patch.object(nameplate.suite, "entry_points", entry_points),
        patch.object(vega, "start_bundling_library", lambda: lambda: "// a library"),
        patch.object(vega, "make_spec", _where_charted(vega.make_spec, lambda chart: {"title": chart.title})),
        patch.object(vega, "draw_svg", _where_charted(vega.draw_svg, lambda _: "<svg></svg>")),
        patch.object(nameplate.run.measure, "run_workers", run_workers),
        patch.object(nameplate.device.survey, "measure_identity", lambda: identity),
        patch.object(nameplate.device.survey, "read_identity", lambda *_: identity),
        patch.object(nameplate.run.jobs, "Peers", SimpleNamespace(join=measure_nothing)),
        patch.object(CpuDevice, "prepare", measure_nothing),
        patch.object(TwinDevice, "prepare", measure_nothing),
        patch.object(nameplate.health.simulated_nodes, "simulate_checks", measure_nothing),
        patch.object(nameplate.selftest.again, "measure", measure_nothing),
        patch.object(nameplate.selftest.bare, "open_device", measure_nothing),
        patch.object(nameplate.selftest.repeat, "repeat", measure_nothing),
        patch.object(nameplate.selftest.search, "prove_search", measure_nothing),
        patch.object(nameplate.selftest.simulate, "run_tasks", measure_nothing),
        patch.object(nameplate.selftest.draws, "run_tasks", measure_nothing),
    ):
        yield


# ---- a call in a process of its own ----


def call_process(given: Input, limit_s: float) -> Outcome:
    """Call the command in a process of its own, as a shell does."""
    with made(given) as place:
        began_s, began_cpu_s = time.monotonic(), _children_cpu_s()
        words = [each.encode("utf-8", "surrogateescape") for each in given.words]
        child = subprocess.Popen(
            [sys.executable, "-m", "nameplate", *words],
            cwd=place.here,
            env=place.environment(given),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            said = child.communicate(timeout=limit_s)
            hung = False
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            said, hung = child.communicate(), True
        out, err = (each.decode("utf-8", "replace") for each in said)
        return Outcome(
            child.returncode,
            out,
            err,
            time.monotonic() - began_s,
            _children_cpu_s() - began_cpu_s,
            hung,
            place.traceback(),
            place.changed_outside(),
            place.new_texts(given),
        )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def can_be_called(given: Input) -> bool:
    """Whether a shell can pass these words on: no null character, no half character."""
    return not any("\0" in word or any("\ud800" <= char <= "\udfff" for char in word) for word in given.words)
