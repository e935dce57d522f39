"""How a command ends by a signal: Ctrl-C before it is there and after its end, SIGTERM, SIGHUP in a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import nameplate.run.measure

BENCH = Path(sys.executable).with_name("bench")
PATIENCE_S = 120
INTERRUPTS = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
WHILE_IT_LOADS = INTERRUPTS + "raise SystemExit(7)"  # of a process that goes on
AT_ITS_END = f"import atexit\natexit.register(lambda: exec({INTERRUPTS!r}))"


def start_interrupted(tmp_path, module, code, **options):
    """Run `bench --version` with a module of that name in the way, which interrupts it."""
    (tmp_path / f"{module}.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "nameplate", "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


@pytest.mark.process
def test_ctrl_c_while_it_loads_ends_it_silently(tmp_path):
    done = start_interrupted(tmp_path, "typer", WHILE_IT_LOADS)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.process
def test_ctrl_c_after_its_end_adds_nothing_to_what_it_said(tmp_path):
    done = start_interrupted(tmp_path, "sitecustomize", AT_ITS_END)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert done.stdout.startswith("nameplate ")


@pytest.mark.process
def test_an_interrupt_that_is_ignored_stays_so(tmp_path):
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    assert start_interrupted(tmp_path, "typer", WHILE_IT_LOADS, preexec_fn=ignore).returncode == 7


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_run_as_ctrl_c_does(bench, monkeypatch, number, status, tmp_path):
    def measure(*_, observer, **__):
        observer.folder = tmp_path
        os.kill(os.getpid(), number)
        time.sleep(PATIENCE_S)

    before = signal.getsignal(number)
    monkeypatch.setattr(nameplate.run.measure, "measure", measure)
    result = bench("run")
    assert (result.status, result.out) == (status, "")
    assert result.err == f"bench: interrupted; what was finished is kept: bench run --resume {tmp_path}\n"
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored(bench, monkeypatch, make_run, make_record):
    def measure(*_, **__):
        os.kill(os.getpid(), signal.SIGHUP)
        return make_run(make_record())

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(nameplate.run.measure, "measure", measure)
        assert bench("run", "--json").status == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.process
@pytest.mark.long
def test_a_real_run_that_is_terminated_ends_its_processes_first(tmp_path):
    """Only the command itself gets the signal, as from a job scheduler."""
    command = subprocess.Popen(
        [BENCH, "run", "smoke", "--device", "cpu", "--results", tmp_path, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        children = []
        while not children and time.monotonic() < deadline:
            time.sleep(0.05)
            found = psutil.Process(command.pid).children(recursive=True)
            children = [each for each in found if any(tmp_path.iterdir())]
        command.terminate()
        out, err = command.communicate(timeout=PATIENCE_S)
    finally:
        command.kill()
        command.wait()
    _, alive = psutil.wait_procs(children, timeout=20)  # a second is promised; the machine may be busy
    assert not alive
    (folder,) = tmp_path.iterdir()
    assert (command.returncode, out) == (143, "")
    assert err.splitlines()[-1] == (
        f"bench: interrupted; what was finished is kept: bench run --resume {folder}"
    )
    assert "Traceback" not in err
