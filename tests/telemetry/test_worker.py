"""What the processes that watch have in common: when a sample is due, what is kept, and how they end."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from nameplate.telemetry import worker
from nameplate.telemetry.process import Gone, NoAnswer, Process
from nameplate.telemetry.worker import KEPT_S, Watch

pytestmark = pytest.mark.process


class Clock:
    """A time module whose time passes when told to."""

    def __init__(self):
        self.now_s = 100.0

    def perf_counter(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    return clock


def watch_of(clock, took_s, period_s=0.1, **changes):
    """A watch whose samples take the times that it is given, in turn; the last for ever."""
    rest = list(took_s)

    def sample():
        at_s = clock.now_s
        clock.now_s += rest.pop(0) if len(rest) > 1 else rest[0]
        return (at_s,)

    return Watch(sample, period_s, spent=clock.perf_counter, **changes)


def run(watch, clock, until_s):
    """Take what is due up to a moment, as the loop does."""
    while watch.due_s < until_s:
        clock.now_s = max(clock.now_s, watch.due_s)
        watch.take()
    return [at_s for (at_s,) in watch.drain()["rows"]]


def test_samples_keep_their_pace_however_long_one_takes(clock):
    at_s = run(watch_of(clock, [0.01, 0.04, 0.001]), clock, 100.95)
    assert at_s == pytest.approx([100.0 + 0.1 * beat for beat in range(10)])


def test_sampling_that_takes_longer_than_its_period_rests_as_long_as_it_took(clock):
    at_s = run(watch_of(clock, [0.3]), clock, 102.7)
    assert at_s == pytest.approx([100.0, 100.6, 101.2, 101.8, 102.4])


def test_beats_that_were_missed_are_not_made_up_for(clock):
    at_s = run(watch_of(clock, [0.01, 5.0, 0.01]), clock, 110.95)
    assert at_s[:3] == pytest.approx([100.0, 100.1, 110.1])
    assert at_s[3:] == pytest.approx([110.2 + 0.1 * beat for beat in range(8)])


def test_a_sampler_keeps_within_its_share(clock):
    at_s = run(watch_of(clock, [0.001], share=0.002), clock, 104.9)
    assert at_s == pytest.approx([100.0 + 0.5 * beat for beat in range(10)])


@pytest.mark.parametrize("period_s", [0.0, -1.0, 1e-9])
def test_no_period_is_short_enough_for_a_busy_loop(clock, period_s):
    assert len(run(watch_of(clock, [0.0], period_s), clock, 100.995)) == 100


def test_what_is_kept_has_an_end_and_what_is_dropped_is_counted(clock):
    watch = watch_of(clock, [0.0])
    for _ in range(12_345):
        watch.take()
        clock.now_s += 0.1
    rows, chunks, dropped = [], 0, 0
    while True:
        chunk = watch.drain()
        rows += chunk["rows"]
        dropped += chunk["dropped"]
        chunks += 1
        assert chunk["left"] == 12_000 - len(rows)
        if not chunk["left"]:
            break
    assert (len(rows), dropped, chunks) == (KEPT_S * 10, 345, 12)
    assert rows[0] == pytest.approx((134.5,))
    assert rows == sorted(rows)
    assert watch.drain() == {"rows": [], "left": 0, "dropped": 0}


# ---- the process ----

_SERVICE = """
import sys, time
from nameplate.telemetry.worker import Absent, Watch, main

class Service:
    def __init__(self):
        self.watch = Watch(lambda: (time.perf_counter(), "x" * 100), 0.01)
    def hello(self):
        return "hello"
    def answer(self, request):
        match request["ask"]:
            case "absent":
                raise Absent("there is none")
            case "bug":
                return {}["nowhere"]
            case "long":
                return "x" * 5_000_000
            case "stuck":
                # As a library that is loaded does: without ever letting Python run another thread.
                sys.setswitchinterval(1e6)
                while True: pass
            case "rows":
                return self.watch.drain()
        return request
    def watches(self):
        return (self.watch,)

main(Service)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    (tmp_path / "some_service.py").write_text(_SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = Process("some_service", "the service", limit_s=0.5, hangs=": because")
    assert process.answer(20) == "hello"
    yield process
    process.end()


def test_answers_come_between_samples(process):
    assert process.ask({"ask": "echo", "what": "ü"}, 5) == {"ask": "echo", "what": "ü"}
    rows = []
    for _ in range(30):
        assert process.ask({"ask": "echo"}, 5) == {"ask": "echo"}
        for chunk in process.drain({"ask": "rows"}, 5):
            rows += chunk["rows"]
        time.sleep(0.01)
    assert len(rows) > 5
    assert rows == sorted(rows)


def test_no_answer_is_not_the_end(process):
    with pytest.raises(NoAnswer, match="there is none"):
        process.ask({"ask": "absent"}, 5)
    with pytest.raises(NoAnswer, match="KeyError: 'nowhere'"):
        process.ask({"ask": "bug"}, 5)
    assert process.ask({"ask": "echo"}, 5) == {"ask": "echo"}


def test_an_answer_longer_than_a_pipe_comes_whole(process):
    assert len(process.ask({"ask": "long"}, 20)) == 5_000_000


def test_what_keeps_python_from_running_is_ended_by_the_kernel(process):
    with pytest.raises(Gone, match=r"the service was stuck for 1.5 s and ended: because"):
        process.ask({"ask": "stuck"}, 20)


def test_past_its_deadline_it_is_given_up(process):
    began_s = time.monotonic()
    with pytest.raises(Gone, match=r"the service gave no answer within 0.3 s and was given up: because"):
        process.ask({"ask": "stuck"}, 0.3)
    assert time.monotonic() - began_s < 5


def test_one_that_ended_is_told_by_its_status(process):
    (child,) = [one for one in psutil.Process().children() if "some_service" in " ".join(one.cmdline())]
    child.kill()
    with pytest.raises(Gone, match=r"the service's process ended \(exit status -9\)"):
        process.ask({"ask": "echo"}, 5)


def test_a_module_that_is_none():
    process = Process("nameplate.nowhere", "nothing", limit_s=1)
    with pytest.raises(Gone, match=r"nothing's process ended \(exit status 1\)"):
        process.answer(20)
    process.end()


_PARENT = """
import sys, time
from nameplate.telemetry.process import Process
process = Process(sys.argv[1], "it", limit_s=60)
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("module", ["nameplate.telemetry.host_worker", "nameplate.telemetry.nvml_worker"])
def test_it_does_not_outlive_a_killed_parent(module, use_nvml):
    use_nvml("eight_a800")
    with subprocess.Popen([sys.executable, "-c", _PARENT, module], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        (child,) = psutil.Process(parent.pid).children()
        time.sleep(0.5)  # into waiting for requests
        parent.kill()
    _gone, alive = psutil.wait_procs([child], timeout=5)
    assert alive == []


@pytest.mark.parametrize("module", ["host_worker", "nvml_worker"])
def test_it_imports_little(module):
    heavy = {"torch", "pandas", "numpy", "pydantic", "psutil", "subprocess", "asyncio", "multiprocessing"}
    code = f"import sys, nameplate.telemetry.{module}; print(sorted({heavy!r} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == "[]\n"
