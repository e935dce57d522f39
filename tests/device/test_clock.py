"""The native loops: what their bytes do, what is made of their times, and where they give up."""

from __future__ import annotations

import itertools
import mmap
import os
import platform
import shutil
import subprocess

import pytest

from nameplate.device import clock

runs_here = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "memfd_create"),
    reason="the chain is x86-64 code for Linux",
)
CHAIN = clock._loop_code(clock._ADD_RAX_RDX * clock._STEPS)
MULTIPLICATIONS = clock._loop_code(clock._MULTIPLY * (clock._STEPS // 4))
ADD, DECREMENT, JUMP_IF_NOT_ZERO, RETURN = b"\x48\x01\xd0", b"\x48\xff\xcf", b"\x0f\x85", b"\xc3"


def execute(code, repeats):
    """Run the few instructions the chain is made of; return how many of each were met."""
    at, met = 0, {ADD: 0, DECREMENT: 0, JUMP_IF_NOT_ZERO: 0}
    while code[at : at + 1] != RETURN:
        assert 0 <= at < len(code)
        word = next(each for each in met if code.startswith(each, at))
        met[word] += 1
        at += len(word)
        repeats -= word == DECREMENT
        if word == JUMP_IF_NOT_ZERO:
            offset = int.from_bytes(code[at : at + 4], "little", signed=True)
            at += 4 + (offset if repeats else 0)
    assert at == len(code) - 1
    return met


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_code_adds_a_hundred_times_a_repeat(repeats):
    met = execute(CHAIN, repeats)
    assert met == {ADD: 100 * repeats, DECREMENT: repeats, JUMP_IF_NOT_ZERO: repeats}


@pytest.mark.process
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize(
    ("code", "body"),
    [
        (CHAIN, ["add rax,rdx"] * 100),
        # Four that don't wait for each other: enough to fill a multiplier that takes three cycles each.
        (MULTIPLICATIONS, ["imul rax,rdx", "imul rcx,rdx", "imul r8,rdx", "imul r9,rdx"] * 25),
    ],
    ids=["adds", "multiplications"],
)
def test_a_disassembler_reads_the_same(tmp_path, code, body):
    raw = tmp_path / "chain"
    raw.write_bytes(code)
    command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this objdump doesn't know x86-64")
    words = [
        " ".join(line.split("\t")[2].split()) for line in done.stdout.splitlines() if line.count("\t") > 1
    ]
    assert words[:100] == body
    assert words[100:] == ["dec rdi", "jne 0x0", "ret"]


@runs_here
def test_the_shortest_chain_decides(monkeypatch):
    now, times = itertools.count(0.0, 1e-3), itertools.cycle([5e-4, 1e-4, 3e-4])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(clock, "_time", lambda loop, repeats: next(times))
    assert clock.measure_mhz() == pytest.approx(100 * clock._REPEATS / 1e-4 / 1e6)


@runs_here
def test_this_machine_runs_at_a_plausible_clock():
    measured = clock.measure_mhz()
    if measured is None:
        pytest.skip("executable memory is forbidden here")
    assert 500 < measured < 7000


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "riscv64", "i686", ""])
def test_a_foreign_processor_is_never_given_the_code(monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(os, "memfd_create", lambda *_: pytest.fail("made x86-64 code"), raising=False)
    assert clock.measure_mhz() is None
    assert clock.measure_parallel_speed(2) is None


def test_a_system_without_memory_files_has_no_measured_clock(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert clock.measure_mhz() is None


@runs_here
@pytest.mark.parametrize("error", [PermissionError(1, "not permitted"), OSError(38, "not implemented")])
@pytest.mark.parametrize(("where", "name"), [(mmap, "mmap"), (os, "memfd_create")])
def test_a_hardened_system_has_no_measured_clock_and_leaks_no_file(monkeypatch, error, where, name):
    def refuse(*args, **kwargs):
        raise error

    opened = []
    if name == "mmap":
        create = os.memfd_create
        monkeypatch.setattr(os, "memfd_create", lambda *a: opened.append(create(*a)) or opened[-1])
    monkeypatch.setattr(where, name, refuse)
    assert clock.measure_mhz() is None
    for descriptor in opened:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(descriptor)


@runs_here
def test_cores_of_their_own_and_threads_of_one_core_are_told_apart(monkeypatch):
    monkeypatch.setattr(clock, "_time", lambda loop, repeats: 1e-3)
    slowest = iter([3e-3, 1.02e-3, 1.5e-3, 2e-3, 1.1e-3, 1.0e-3, 1.2e-3, 1.0e-3, 1.1e-3])
    monkeypatch.setattr(clock, "_slowest_s", lambda loop, threads: next(slowest))
    assert clock.measure_parallel_speed(2) == pytest.approx(1 / 1.1)  # the median: neither lucky nor unlucky
    monkeypatch.setattr(clock, "_slowest_s", lambda loop, threads: 2e-3)
    assert clock.measure_parallel_speed(2) == pytest.approx(0.5)
    monkeypatch.setattr(clock, "_slowest_s", lambda loop, threads: 0.9e-3)  # the clock rose in between
    assert clock.measure_parallel_speed(2) == 1.0


def test_one_thread_has_nobody_to_share_with():
    assert clock.measure_parallel_speed(1) is None


@runs_here
def test_this_machine_runs_its_threads_at_a_share_of_their_speed():
    speed = clock.measure_parallel_speed(2)
    if speed is None:
        pytest.skip("executable memory is forbidden here")
    assert 0.0 < speed <= 1.0
