"""Sampling processes: when a sample is due, what is kept, and what a client makes of their ends."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest

from nameplate.telemetry import sampling
from nameplate.telemetry.sampling import KEPT_S, Absent, PeriodicSampler, SamplingClient

pytestmark = pytest.mark.process


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def sampler_of(clock, took_s, period_s=0.1, **changes):
    """A sampler whose samples take the times that it is given, in turn; the last for ever."""
    rest = list(took_s)

    def sample():
        at_s = clock.now_s
        clock.now_s += rest.pop(0) if len(rest) > 1 else rest[0]
        return (at_s,)

    return PeriodicSampler(sample, period_s, clock=clock, **changes)


def run(sampler, clock, until_s):
    """Take what is due up to a moment, as the loop does."""
    while sampler.due_s < until_s:
        clock.now_s = max(clock.now_s, sampler.due_s)
        sampler.take()
    return [at_s for (at_s,) in sampler.drain()["rows"]]


def test_samples_keep_their_pace_however_long_one_takes(clock):
    at_s = run(sampler_of(clock, [0.01, 0.04, 0.001]), clock, 100.95)
    assert at_s == pytest.approx([100.0 + 0.1 * beat for beat in range(10)])


def test_sampling_that_takes_longer_than_its_period_rests_as_long_as_it_took(clock):
    at_s = run(sampler_of(clock, [0.3]), clock, 102.7)
    assert at_s == pytest.approx([100.0, 100.6, 101.2, 101.8, 102.4])


def test_beats_that_were_missed_are_not_made_up_for(clock):
    at_s = run(sampler_of(clock, [0.01, 5.0, 0.01]), clock, 110.95)
    assert at_s[:3] == pytest.approx([100.0, 100.1, 110.1])
    assert at_s[3:] == pytest.approx([110.2 + 0.1 * beat for beat in range(8)])


def test_a_sampler_keeps_within_its_share(clock):
    at_s = run(sampler_of(clock, [0.001], most_share=0.002), clock, 104.9)
    assert at_s == pytest.approx([100.0 + 0.5 * beat for beat in range(10)])


@pytest.mark.parametrize("period_s", [0.0, -1.0, 1e-9])
def test_no_period_is_short_enough_for_a_busy_loop(clock, period_s):
    assert len(run(sampler_of(clock, [0.0], period_s), clock, 100.995)) == 100


def test_a_hastened_sampler_is_faster_for_a_while_and_then_as_before(clock):
    sampler = sampler_of(clock, [0.001])
    assert len(run(sampler, clock, 100.95)) == 10
    sampler.hasten(0.01, 0.5)
    at_s = run(sampler, clock, 102.0)
    begin_s = at_s[0]
    assert begin_s == pytest.approx(clock.now_s, abs=1.5)
    fast = [at for at in at_s if at < begin_s + 0.5]
    assert len(fast) == 50
    assert [after - before for before, after in pairwise(at_s[51:])] == pytest.approx([0.1] * len(at_s[52:]))
    assert sampler.drain()["dropped"] == 0


def test_a_hastened_sampler_keeps_within_its_share(clock):
    sampler = sampler_of(clock, [0.02])
    sampler.hasten(0.001, 10.0)
    at_s = run(sampler, clock, 101.0)
    assert [after - before for before, after in pairwise(at_s)] == pytest.approx([0.04] * (len(at_s) - 1))


def test_what_is_kept_has_an_end_and_what_is_dropped_is_counted(clock):
    sampler = sampler_of(clock, [0.0])
    for _ in range(12_345):
        sampler.take()
        clock.now_s += 0.1
    rows, chunks, dropped = [], 0, 0
    while True:
        chunk = sampler.drain()
        rows += chunk["rows"]
        dropped += chunk["dropped"]
        chunks += 1
        assert chunk["left"] == 12_000 - len(rows)
        if not chunk["left"]:
            break
    assert (len(rows), dropped, chunks) == (KEPT_S * 10, 345, 12)
    assert rows[0] == pytest.approx((134.5,))
    assert rows == sorted(rows)
    assert sampler.drain() == {"rows": [], "left": 0, "dropped": 0}


# ---- the process ----

_SERVICE = """
import sys, time
from nameplate.telemetry.sampling import Absent, PeriodicSampler, serve

class Service:
    def __init__(self):
        self.sampler = PeriodicSampler(lambda: (time.perf_counter(), "x" * 100), 0.01)
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
                return self.sampler.drain()
        return request
    def samplers(self):
        return (self.sampler,)

serve(Service)
"""


class Client(SamplingClient):
    module = "some_service"
    name = "the service"
    closed = "closed"
    hangs = ": because"

    def ask(self, **request):
        return self._ask(request)

    def rows(self):
        return [row for chunk in self._drain({"ask": "rows"}) for row in chunk["rows"]]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a client of that service."""
    (tmp_path / "some_service.py").write_text(_SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clients = []

    def start(deadline_s=20.0):
        clients.append(Client(start_s=20.0, deadline_s=deadline_s))
        assert clients[-1].hello == "hello"
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def test_answers_come_between_samples(start):
    client = start()
    assert client.ask(ask="echo", what="ü") == {"ask": "echo", "what": "ü"}
    rows = []
    for _ in range(30):
        assert client.ask(ask="echo") == {"ask": "echo"}
        rows += client.rows()
        time.sleep(0.01)
    assert len(rows) > 5
    assert rows == sorted(rows)


def test_no_answer_is_not_the_end(start):
    client = start()
    with pytest.raises(Absent, match="there is none"):
        client.ask(ask="absent")
    with pytest.raises(Absent, match="KeyError: 'nowhere'"):
        client.ask(ask="bug")
    assert client.absent is None
    assert client.ask(ask="echo") == {"ask": "echo"}


def test_an_answer_longer_than_a_pipe_comes_whole(start):
    assert len(start().ask(ask="long")) == 5_000_000


@pytest.mark.long
def test_what_keeps_python_from_running_is_ended_by_the_kernel(start, monkeypatch):
    monkeypatch.setattr(sampling, "_ALARM_SLACK_S", -18.5)
    client = start()
    client._child.send({"ask": "stuck"})
    client._deadline_s = 60.0  # later than the alarm
    with pytest.raises(Absent, match=r"the service was stuck for 1.5 s and ended: because"):
        client.ask(ask="echo")


@pytest.mark.long
def test_past_its_deadline_it_is_given_up(start):
    client = start(deadline_s=2.0)
    began_s = time.monotonic()
    with pytest.raises(Absent, match=r"the service gave no answer within 2.0 s and was given up: because"):
        client.ask(ask="stuck")
    assert time.monotonic() - began_s < 10
    assert str(client.absent).startswith("the service gave no answer")
    with pytest.raises(Absent, match=r"the service gave no answer"):
        client.ask(ask="echo")


def test_one_that_ended_is_told_by_its_status(start):
    client = start()
    psutil.Process(client._child.pid).kill()
    with pytest.raises(Absent, match=r"the service's process ended \(exit status -9\)"):
        client.ask(ask="echo")


def test_a_module_that_is_none(monkeypatch):
    monkeypatch.setattr(Client, "module", "nameplate.nowhere")
    client = Client(start_s=20.0, deadline_s=1.0)
    assert str(client.absent) == "the service's process ended (exit status 1)"


@pytest.mark.parametrize("module", ["host_worker", "nvml_worker"])
def test_it_imports_little(module):
    heavy = {"torch", "pandas", "numpy", "pydantic", "psutil", "subprocess", "asyncio", "multiprocessing"}
    code = f"import sys, nameplate.telemetry.{module}; print(sorted({heavy!r} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == "[]\n"
