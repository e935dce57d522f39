"""Child processes that exchange JSON lines with their parent over pipes, and end with it.

The parent's end of the pipes is `Child`, the child's end is `connect_to_parent`:

    child = Child(python_command("some.module"))         # parent
    parent = connect_to_parent()                         # child, first thing
    parent.send({"ready": True})
    child.receive(deadline_s=10)                         # {"ready": True}

Every wait can have a deadline. A child lives in a session of its own, so Ctrl-C reaches only the parent,
which decides what happens to its children. A child never outlives its parent, even while it hangs:
`end_with_parent` says how. A program that is not ours and runs once for its output (git, pytest, another
Python) is run by `run_to_end`, which kills it with all it started past a deadline.

The child's end imports little: it also runs in small processes that sample beside a measurement.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from nameplate.base.exit_status import ExitStatus
from nameplate.base.streams import TolerantStream

if TYPE_CHECKING:
    import subprocess  # at run time it is imported where a process is started: a child has no use for it

# How long a killed process is waited for. One that is stuck inside the kernel goes when the kernel lets it.
_KILL_S = 1.0
# How long the output of a program that has ended is read: a process that it left behind may hold the pipe.
_LAST_OUTPUT_S = 1.0
PARENT_POLL_S = 0.4  # how often a child looks for its parent where the kernel doesn't tell
_READ_BYTES = 1 << 16
_INPUT, _OUTPUT, _ERRORS = 0, 1, 2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildError(Exception):
    """A child gave no usable answer."""


@dataclass(eq=False)
class ChildSilent(ChildError):
    """The child said nothing within `deadline_s`; it may still run."""

    deadline_s: float


@dataclass(eq=False)
class ChildEnded(ChildError):
    """The child closed its end of the pipe.

    `status` is its exit status as subprocess has it (below 0: the number of a signal), None where it still
    runs.
    """

    status: int | None


@dataclass(eq=False)
class ChildGarbled(ChildError):
    """The child printed a line that isn't a JSON object."""

    line: bytes


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs a module with this Python."""
    # -P: a torch.py or pynvml.py in the working directory must not be taken for the library.
    return (sys.executable, "-P", "-m", module, *arguments)


class _LineReader:
    """Whole lines of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._pending = b""
        self.ended = False

    def read(self, timeout_s: float | None) -> list[bytes]:
        """Return the lines that come first within `timeout_s` (None: without limit), often none.

        Returns as soon as anything comes, a part of a line included; `ended` is then true at the pipe's end.
        """
        if not self._poll.poll(None if timeout_s is None else max(0, math.ceil(timeout_s * 1e3))):
            return []
        chunk = os.read(self._descriptor, _READ_BYTES)
        self.ended = not chunk
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return lines


def usable_cpus() -> frozenset[int]:
    """Return the CPUs that this process, and so its children, may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def heavy_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a child that loads for long, and ends with its parent also meanwhile.

    The last two arguments, which `Child` adds, are the parent and the signal.
    """
    return python_command("nameplate.base.start", module, *arguments)


# ---- the parent's end ----


class Child:
    """A child process and what it says. Not for several threads at once, but for `kill`."""

    def __init__(self, command: Sequence[str], *, quiet: bool = False, keep: Sequence[int] = ()) -> None:
        """Start it; raises OSError. `quiet` discards its standard error; `keep` are descriptors it shares.

        Two arguments are added to the command, for `connect_to_parent` to take away again.
        """
        import subprocess

        # The kernel's signal comes when the *thread* that started the child ends, so it is asked for only
        # where that is the main thread, which ends with the process (prctl(2), PR_SET_PDEATHSIG).
        in_main_thread = threading.current_thread() is threading.main_thread()
        death_signal = int(signal.SIGKILL) if in_main_thread else 0
        self._process = subprocess.Popen(
            [*command, str(os.getpid()), str(death_signal)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
            pass_fds=tuple(keep),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._reader = _LineReader(self._stdout.fileno())
        self._lines: deque[bytes] = deque()
        self._started_by = os.getpid()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; raises ChildEnded."""
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()
        except OSError:
            raise ChildEnded(self.wait(_KILL_S)) from None

    def receive(self, deadline_s: float | None = None) -> dict[str, Any]:
        """Return the next message, waited for `deadline_s` at most; raises ChildError."""
        end_s = math.inf if deadline_s is None else time.monotonic() + deadline_s
        while not self._lines:
            if self._reader.ended:
                raise ChildEnded(self.wait(_KILL_S))
            left_s = end_s - time.monotonic()
            if deadline_s is not None and left_s <= 0:
                raise ChildSilent(deadline_s)
            self._lines += self._reader.read(None if deadline_s is None else left_s)
        return _parse(self._lines.popleft())

    def ask(self, request: Mapping[str, Any], deadline_s: float | None = None) -> dict[str, Any]:
        """Send one message and return the next; raises ChildError."""
        self.send(request)
        return self.receive(deadline_s)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return its exit status; None where it still runs after `timeout_s` (None: without limit).

        None too in a copy (fork) of the process that started it: only that one can know.
        """
        import subprocess

        if os.getpid() != self._started_by:
            return None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode

    def kill(self) -> None:
        """Kill it, and whatever it started in its own session; returns at once."""
        self._send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and whatever it started in its own session; returns at once."""
        self._send_signal(signal.SIGTERM)

    def _send_signal(self, number: signal.Signals) -> None:
        # In a copy (fork) of the process that started it, `poll` would take it for one that has ended.
        if os.getpid() != self._started_by or self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def close(self) -> int | None:
        """Kill it where it still runs, close its pipes and return its exit status, without waiting long."""
        self.kill()
        status = self.wait(_KILL_S)
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()
        return status


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ChildGarbled(line)
    return message


# Asks the kernel for SIGKILL when the parent ends, and becomes the program; execve keeps the request, so the
# program needs no code for it. The parent may have ended before it was asked.
_END_WITH_PARENT = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, ctypes.c_ulong(signal.SIGKILL))
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def run_to_end(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
    ends_with_parent: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its exit status and what it printed, as text.

    `env` is its whole environment (None: this process's). It has no standard input, and a session of its own:
    past `deadline_s` seconds (None: no limit), or when this call is interrupted, the program is killed with
    all that it started there. With `ends_with_parent` Linux kills the program, but not what it started, also
    where this process is killed; a command that can't be started then is exit status 1. Once the program has
    ended, a process that it left behind and that still holds its output is waited for a second, no longer.
    Raises ChildSilent past the deadline, OSError where it can't be started.
    """
    import subprocess

    before: Sequence[str] = ()
    if ends_with_parent and sys.platform == "linux":
        before = (sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid()))
    # Not Popen's own `with` and `communicate`: after a kill they wait without limit, and a program in an
    # uninterruptible call of a driver doesn't end. Threads wait, since Popen's waits with a limit poll.
    try:
        process = subprocess.Popen(
            [*before, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except ValueError as error:  # a null character, or half of one
        raise OSError(errno.EINVAL, "no program can be given such a text") from error
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = _PipeText(process.stdout), _PipeText(process.stderr)
    end = threading.Thread(target=process.wait, daemon=True)
    end.start()
    try:
        end.join(deadline_s)
        if end.is_alive():
            assert deadline_s is not None
            raise ChildSilent(deadline_s)
        return subprocess.CompletedProcess(command, process.returncode, output.read(), errors.read())
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        end.join(_KILL_S)
        raise


class _PipeText:
    """What comes through a pipe, read by a thread, which closes the pipe at its end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._chunks = pipe, list[bytes]()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), _READ_BYTES):
                self._chunks.append(chunk)

    def read(self) -> str:
        """Return the text up to the pipe's end, or what has come a second from now."""
        self._thread.join(_LAST_OUTPUT_S)
        text = b"".join(self._chunks).decode("utf-8", "replace")
        return text.replace("\r\n", "\n").replace("\r", "\n")


# ---- the child's end ----


class Parent:
    """The parent, as seen by a child: messages to it and requests from it. `connect_to_parent` makes it."""

    def __init__(self, pid: int) -> None:
        """Keep standard output for messages; what a library prints goes to standard error from here on."""
        self._pid = pid
        self._output = os.fdopen(os.dup(_OUTPUT), "w", encoding="utf-8")
        os.dup2(_ERRORS, _OUTPUT)
        # A library that prints must not fail where nobody reads standard error any more.
        sys.stdout, sys.stderr = TolerantStream(sys.stdout), TolerantStream(sys.stderr)
        self._reader = _LineReader(_INPUT)
        self._lines: deque[bytes] = deque()

    @property
    def gone(self) -> bool:
        """Whether the parent has closed its end of the pipe."""
        return self._reader.ended

    def end_if_orphaned(self) -> None:
        """End this process where its parent has ended."""
        if os.getppid() != self._pid:
            os._exit(ExitStatus.HANGUP)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; dataclasses in it go as objects."""
        self.send_json(json.dumps(message, separators=(",", ":"), default=asdict))

    def send_json(self, line: str) -> None:
        """Send a message that is one line of JSON already; end this process where nobody is left to read."""
        try:
            print(line, file=self._output, flush=True)
        except BrokenPipeError:
            os._exit(ExitStatus.CLOSED_PIPE)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Return the parent's next message, waited for `timeout_s` at most (None: without limit).

        Returns None where none came in time, and where the parent closed the pipe (`gone`).
        """
        while not self._lines and not self.gone:
            self._lines += self._reader.read(timeout_s)
            if timeout_s is not None:  # a part of a line, or nothing: the caller has other work to do
                break
        return json.loads(self._lines.popleft()) if self._lines else None


def connect_to_parent(*, threads: bool = True) -> Parent:
    """Return the parent of a process that `Child` started, and end with it from here on.

    Takes the two arguments that `Child` added off `sys.argv`. `threads` as for `end_with_parent`.
    """
    parent, death_signal = (int(argument) for argument in sys.argv[-2:])
    del sys.argv[-2:]
    end_with_parent(parent, death_signal, threads=threads)
    return Parent(parent)


def end_with_parent(parent: int, death_signal: int = 0, *, threads: bool = True) -> None:
    """End this process when its parent, process `parent`, has ended.

    On Linux the kernel sends `death_signal` (0: none): that also ends a process in which a library call keeps
    Python from running. Everywhere, a thread looks for the parent every 0.4 s, which also works while a call
    through ctypes hangs. A process that forks starts no thread (`threads` is False): it calls
    `Parent.end_if_orphaned` where it waits.
    """
    if death_signal and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(death_signal))
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(ExitStatus.HANGUP)
    if threads:
        threading.Thread(target=_exit_when_orphaned, args=(parent,), daemon=True).start()


def _exit_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os._exit(ExitStatus.HANGUP)


@contextmanager
def kernel_alarm(seconds: float) -> Iterator[None]:
    """Have the kernel end this process (SIGALRM) where the block takes longer than `seconds`.

    That needs no running Python, so it also ends a library call that never returns and holds Python's lock.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever this process inherited
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
