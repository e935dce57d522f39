"""Child processes: messages, deadlines, and that none outlives its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from nameplate.base import processes
from nameplate.base.processes import (
    Child,
    ChildEnded,
    ChildGarbled,
    ChildSilent,
    heavy_command,
    python_command,
    run_to_end,
)
from nameplate.run.job import WorkerJob
from nameplate.run.pool import worker_command

pytestmark = pytest.mark.process

_ECHO = """
import os, sys, time
from nameplate.base.processes import connect_to_parent, kernel_alarm

parent = connect_to_parent()
parent.send({"arguments": sys.argv[1:]})
while not parent.gone:
    match parent.receive():
        case {"say": words}:
            print("a library's words")
            parent.send({"said": words})
        case {"print": words}:
            os.write(parent._output.fileno(), words.encode() + b"\\n")
        case {"exit": status}:
            sys.exit(status)
        case {"hang": "with Python's lock"}:
            sys.setswitchinterval(1e6)
            parent.send({})
            while True: pass
        case {"alarm": seconds}:
            with kernel_alarm(seconds):
                time.sleep(60)
"""


def command(*arguments):
    return (sys.executable, "-c", _ECHO, *arguments)


@pytest.fixture
def child():
    child = Child(command("some", "arguments"), quiet=True)
    assert child.receive(60) == {"arguments": ["some", "arguments"]}
    yield child
    child.close()


def test_messages_go_both_ways_and_what_a_library_prints_is_none(child):
    assert child.ask({"say": "ü"}, 60) == {"said": "ü"}
    long = "x" * 3_000_000
    assert child.ask({"say": long}, 60) == {"said": long}


def test_a_library_that_prints_where_nobody_reads_does_no_harm():
    """As in a run whose standard error was `| head`: neither an error in the case nor another exit status."""
    code = _ECHO.replace("print(", "print('no more', flush=True); print(")
    reading, writing = os.pipe()
    before = os.dup(2)
    os.dup2(writing, 2)
    try:
        child = Child((sys.executable, "-c", code))
    finally:
        os.dup2(before, 2)
        for descriptor in (reading, writing, before):
            os.close(descriptor)
    child.receive(60)
    assert child.ask({"say": 1}, 60) == {"said": 1}
    child.send({"exit": 0})
    assert child.wait(60) == 0
    child.close()


@pytest.mark.parametrize("line", ["hello", "[1]", "1", ""])
def test_a_line_that_is_no_object_is_told(child, line):
    with pytest.raises(ChildGarbled) as caught:
        child.ask({"print": line}, 60)
    assert caught.value.line == line.encode()
    assert child.ask({"say": 1}, 60) == {"said": 1}


def test_silence_past_the_deadline_is_told_and_the_child_goes_on(child):
    with pytest.raises(ChildSilent) as caught:
        child.receive(0.2)
    assert caught.value.deadline_s == 0.2
    assert child.ask({"say": 1}, 60) == {"said": 1}


def test_an_end_is_told_with_its_status(child):
    with pytest.raises(ChildEnded) as caught:
        child.ask({"exit": 7}, 60)
    assert caught.value.status == 7
    with pytest.raises(ChildEnded):
        child.ask({"say": 1}, 60)


def test_the_kernel_ends_what_takes_longer_than_its_alarm(child):
    with pytest.raises(ChildEnded) as caught:
        child.ask({"alarm": 0.2}, 60)
    assert caught.value.status == -14


def test_closing_kills_a_child_that_hangs(child):
    child.ask({"hang": "with Python's lock"}, 60)
    began_s = time.monotonic()
    assert child.close() == -9
    assert time.monotonic() - began_s < 10
    assert child.close() == -9


def test_a_child_whose_parent_closed_the_pipe_ends():
    child = Child(command())
    child.receive(60)
    child._stdin.close()
    assert child.wait(60) == 0
    child.close()


_PARENT = """
import sys, threading, time
from nameplate.base.processes import Child

def start():
    child = Child(sys.argv[2:])
    child.receive(60)
    child.ask({"hang": "with Python's lock"}, 60) if sys.argv[1] == "hangs" else None
    print(child.pid, flush=True)
    time.sleep(600)

thread = threading.Thread(target=start)
thread.start() if sys.argv[1] == "thread" else start()
"""


@pytest.mark.parametrize("how", ["waits", "thread", pytest.param("hangs", id="hangs with Python's lock")])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child that holds Python's lock")
def test_a_child_does_not_outlive_a_killed_parent(how):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, how, *command()], stdout=subprocess.PIPE)
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _gone, alive = psutil.wait_procs([child], timeout=10)
    assert alive == []


def test_a_child_outlives_the_thread_that_started_it():
    children = []
    thread = threading.Thread(target=lambda: children.append(Child(command())))
    thread.start()
    thread.join()
    (child,) = children
    child.receive(60)
    time.sleep(0.3)
    assert child.ask({"say": 1}, 60) == {"said": 1}
    child.close()


# ---- a program that runs once ----


def test_a_program_s_output_errors_and_status_are_kept():
    done = run_to_end((sys.executable, "-c", "import sys; print('ü'); sys.exit('no')"), env={**os.environ})
    assert (done.returncode, done.stdout, done.stderr) == (1, "ü\n", "no\n")


def test_past_its_deadline_a_program_is_killed_with_what_it_started():
    # The grandchild holds the pipe, so waiting for the end of output would wait for it too.
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    began_s = time.monotonic()
    with pytest.raises(ChildSilent) as caught:
        run_to_end((sys.executable, "-c", code), deadline_s=0.5)
    assert caught.value.deadline_s == 0.5
    assert time.monotonic() - began_s < 60


@pytest.mark.long
def test_a_program_that_sigkill_does_not_end_is_waited_for_no_longer(tmp_path, monkeypatch):
    # As one in an uninterruptible call of a driver.
    monkeypatch.setattr(processes.os, "killpg", lambda *_: None)
    note = tmp_path / "pid"
    code = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(20)"
    with pytest.raises(ChildSilent):
        run_to_end((sys.executable, "-S", "-c", code), deadline_s=1.0)
    process = psutil.Process(int(note.read_text()))
    assert process.is_running()
    process.kill()


@pytest.mark.long
def test_a_process_that_a_program_leaves_behind_does_not_hold_its_output(tmp_path):
    left = "[sys.executable, '-S', '-c', 'import time; time.sleep(20)'], start_new_session=True"
    code = f"import subprocess, sys; print(subprocess.Popen({left}).pid); print('why', file=sys.stderr)"
    done = run_to_end((sys.executable, "-c", code), deadline_s=60)
    assert (done.returncode, done.stderr) == (0, "why\n")
    process = psutil.Process(int(done.stdout))
    assert process.status() != psutil.STATUS_ZOMBIE  # it still runs
    process.kill()


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_no_program_can_be_given_is_an_error_of_the_system(text):
    with pytest.raises(OSError, match="no program can be given such a text"):
        run_to_end((sys.executable, "-c", "pass", text))


def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        run_to_end(("/nowhere/program",))


def test_the_working_directory_holds_no_library(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    said = run_to_end(python_command("json.tool", "/dev/null"))
    assert "working directory" not in said.stderr


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel can't be asked")
def test_a_module_that_loads_for_long_ends_with_its_parent_also_meanwhile(tmp_path, monkeypatch):
    """Asked by the module itself, the kernel would know seconds later, and a killed run leave its worker."""
    get = "ctypes.CDLL(None).prctl(2, ctypes.byref(found))"  # PR_GET_PDEATHSIG
    said = "print(json.dumps({'signal': found.value, 'arguments': sys.argv[1:-2]}))"
    code = f"import ctypes, json, sys\nfound = ctypes.c_int()\n{get}\n{said}\n"
    (tmp_path / "loads_for_long.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    child = Child(heavy_command("loads_for_long", "job"))
    try:
        assert child.receive(60) == {"signal": 9, "arguments": ["job"]}
    finally:
        child.close()


def test_what_measures_is_started_so(tmp_path):
    job = WorkerJob(folder=tmp_path, device="cpu", budget_s=1.0)
    assert worker_command(job)[-3:-1] == ("nameplate.base.start", "nameplate.run.worker")
