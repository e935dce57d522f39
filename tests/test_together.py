"""Several devices at the same time: who waits for whom, and what a lost one costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from nameplate.device.find import open_device
from nameplate.run import SEED, measure, measure_share
from nameplate.store import folder as store
from nameplate.store.manifest import Expected
from nameplate.suite import find
from nameplate.together import measure_together, share_command

BODY = """
import os, sys, time
folder, device = sys.argv[1:3]
mark = lambda name: open(os.path.join(folder, name), "w").close()
there = lambda name: os.path.exists(os.path.join(folder, name))
"""


def children(scripts):
    """A command that runs each device's own script."""

    def command(folder, device, budget_s):
        return (sys.executable, "-c", BODY + textwrap.dedent(scripts[device]), str(folder), device)

    return command


WORKS = """
print("ready", flush=True)
assert sys.stdin.readline() == "go\\n"
print(open(os.path.join(folder, device)).read(), flush=True)
"""


@pytest.fixture
def line(tmp_path, make_record):
    """Put a device's record where its script finds it."""

    def put(device):
        record = make_record(device=device)
        (tmp_path / device).write_text(record.model_dump_json())
        return record

    return put


def test_all_start_together_and_each_record_is_reported(tmp_path, line):
    expected = {device: line(device) for device in ("a", "b")}
    late = 'time.sleep(0.3); mark("b is ready")' + WORKS
    early = """
        print("ready", flush=True)
        sys.stdin.readline()
        sys.exit(0 if there("b is ready") else 9)
    """
    seen = []
    scripts = {"a": early, "b": late}
    assert measure_together(tmp_path, ["a", "b"], seen.append, command=children(scripts)) == {"a": 0, "b": 0}
    assert seen == [expected["b"]]


@pytest.mark.parametrize(
    "dies",
    [
        "sys.exit(5)",
        'print("ready", flush=True); os._exit(5)',
        'print("ready", flush=True); sys.stdin.readline(); os._exit(5)',
    ],
    ids=["before it is ready", "while it waits", "at work"],
)
def test_one_that_dies_costs_only_its_own_records(tmp_path, line, dies):
    expected = line("b")
    seen = []
    scripts = {"a": dies, "b": WORKS}
    statuses = measure_together(tmp_path, ["a", "b"], seen.append, command=children(scripts))
    assert statuses == {"a": 5, "b": 0}
    assert seen == [expected]


def test_what_a_library_prints_is_no_record(tmp_path, line):
    expected = line("a")
    noisy = 'print("hello"); print("{}");' + WORKS
    seen = []
    measure_together(tmp_path, ["a"], seen.append, command=children({"a": noisy}))
    assert seen == [expected]


def test_an_interrupt_ends_every_process(tmp_path, line):
    line("a")
    line("b")
    scripts = {"a": WORKS, "b": "print('ready', flush=True); time.sleep(60)"}

    def interrupt(_record):
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measure_together(tmp_path, ["a", "b"], interrupt, command=children(scripts))
    assert time.monotonic() - begin < 50  # not the sixty seconds that the second would sleep


@pytest.fixture
def begun(tmp_path):
    """A real run of this CPU, begun and without a record."""
    only = "memory/fp32/copy-*"

    class Stop:
        def run_started(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("smoke", device="cpu", only=only, budget=20, results=tmp_path, observer=Stop())
    (folder,) = store.find_runs(tmp_path)
    return folder


def test_a_share_is_measured_in_a_process_of_its_own(begun):
    seen = []
    assert measure_together(begun, ["cpu"], seen.append, 20.0) == {"cpu": 0}
    run = store.read_run(begun)
    assert run.missing == ()
    assert seen == list(run.records)
    assert [record.status for record in run.records] == ["ok"]


def test_a_share_of_a_device_that_the_run_does_not_have_is_refused(begun, capfd):
    assert measure_together(begun, ["cuda:7"], print) == {"cuda:7": 2}
    assert "bench: cuda:7: --device: no such GPU" in capfd.readouterr().err


def test_a_share_ends_within_a_second_of_its_parent(begun):
    code = (
        "import subprocess, sys, time; "
        f"child = subprocess.Popen({list(share_command(begun, 'cpu', None))!r}, stdin=subprocess.PIPE); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20  # generous: the machine may be busy
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)
    assert list(begun.glob("records-*")) == []


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_a_run_of_several_devices_expects_each_case_of_each(begun, make_manifest):
    manifest = store.read_run(begun).manifest
    (entry,) = manifest.devices
    cases = [case.id for case in find("smoke").cases(_target())]
    both = manifest.model_copy(
        update={
            "devices": (entry, entry.model_copy(update={"name": "cpu:other"})),
            "cases": tuple(
                Expected(case=case, device=name) for name in ("cpu", "cpu:other") for case in cases
            ),
        }
    )
    read = type(manifest).model_validate_json(both.model_dump_json())
    assert len(read.expected) == 2 * len(cases)
    assert {each.device for each in read.expected} == {"cpu", "cpu:other"}


def _target():
    from nameplate.run import target_of

    return target_of(open_device("cpu"))


def test_a_share_waits_until_it_may_begin(begun):
    order = []

    class Watch:
        def run_started(self, *_):
            order.append("started")

        def case_started(self, case):
            order.append("case")

        def case_finished(self, record):
            order.append("record")

    measure_share(begun, "cpu", 20.0, Watch(), lambda: order.append("ready"))
    assert order == ["ready", "started", "case", "record"]
    assert store.read_run(begun).manifest.seed == SEED
