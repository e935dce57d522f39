"""The kinds of fault: each starts a run, does something to it at a random moment, and verifies the rest."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from faulting.observed import WORKER, ObservedRun, signal_of
from faulting.verify import Try, remove, verify

INTERRUPTED = ("interrupted",)
# Where the budget was too short for any case, each has a record that says so.
ON_A_SLOW_MACHINE = frozenset({0, 3})
_RANDOM_KB = (2, 60)  # sizes at which a file takes no more: a manifest has some 8 kB, the records 40

_LATE_SHARE, _LATEST_RECORD = 2 / 3, 5
Kind = Callable[[Path, random.Random, float], Try]


def _random_moment(rng: random.Random, typical_s: float) -> float:
    return rng.uniform(0.02, 1.05) * typical_s


def run_undisturbed(place: Path, _rng: random.Random, _typical_s: float) -> Try:
    """Do nothing: the run with which the others are compared."""
    return verify(ObservedRun(place), Try("none", expected=ON_A_SLOW_MACHINE, whole=True))


def kill(number: signal.Signals, place: Path, rng: random.Random, typical_s: float) -> Try:
    """Send a signal to the command: what was finished is there. At times, measure the rest then.

    Two of three are sent after the first record, which comes late in so short a run.
    """
    run = ObservedRun(place)
    if rng.random() < _LATE_SHARE:
        records = rng.randint(1, _LATEST_RECORD)
        run.wait_until(lambda: _count_records(run) >= records)
        alive = run.pause(rng.uniform(0, 0.03) * typical_s)
    else:
        alive = run.pause(_random_moment(rng, typical_s))
    begun = run.folder is not None
    found = Try(f"kill {number.name}", after=_count_records(run) if alive else 0)
    found.fault = f"{number.name} after {time.monotonic() - run.began_s:.1f} s and {found.after} records"
    if alive:
        run.process.send_signal(number)
    # It may have ended of itself meanwhile, or be too young to handle a signal.
    found.expected = frozenset({0, 3, -number, 128 + number})
    found.torn, found.leaves = True, number == signal.SIGKILL  # a measuring process may have been writing
    verify(run, found)
    # One that is done already has nothing to tell, and may end by the signal itself.
    done = run.folder is not None and (run.folder / "DONE").exists()
    if alive and begun and not done and number != signal.SIGKILL and signal_of(found.status) == number:
        if not any(each in line for line in run.lines for each in INTERRUPTED):
            found.faults.append("untold: 'interrupted'")
        if found.status != 128 + number:
            found.faults.append(f"exit status {found.status}, not {128 + number}")
    if run.folder is not None and rng.random() < 0.1:
        _resume(place, run.folder, found)
    return found


def _resume(place: Path, folder: Path, found: Try) -> None:
    """Measure the rest: afterwards every case has one record."""
    again = Try("resume", expected=ON_A_SLOW_MACHINE, whole=True, torn=found.torn, leaves=True)
    run = ObservedRun(place, ("run", "--resume", str(folder)))
    verify(run, again)
    found.faults += [f"resumed: {fault}" for fault in again.faults]


def kill_child(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Kill one of the processes that a run has started: the run goes on, and says so."""
    run = ObservedRun(place)
    found = Try("kill a child", expected=frozenset({0, 3}), torn=True)
    if run.wait_until(lambda: run.folder is not None):
        run.pause(rng.uniform(0, 0.8) * typical_s / 2)
    victims = run.children()
    if victims:
        victim = rng.choice(victims)
        number = rng.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT))
        with suppress(psutil.Error):
            measuring = WORKER in " ".join(victim.cmdline())
            found.after = before = _count_records(run)
            victim.send_signal(number)
            what = "a measuring process" if measuring else "a process that samples"
            found.fault = f"{number.name} to {what} after {time.monotonic() - run.began_s:.1f} s"
            if measuring and before < 5:  # later it may have measured everything
                found.told = (number.name,)
    return verify(run, found)


def kill_between(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Kill a measuring process when there are records: they stay, and what was in hand is measured anew."""
    run = ObservedRun(place)
    records = rng.randint(1, _LATEST_RECORD - 1)
    run.wait_until(lambda: _count_records(run) >= records)
    run.pause(rng.uniform(0, 0.1) * typical_s)
    victims = run.measuring()
    return _kill_one(run, Try("kill between records"), rng, victims[: rng.randint(1, 2)])


def kill_of_several(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Kill one of the processes that measure the same cases one after the other, not the first of them."""
    run = ObservedRun(place)
    number, seen = rng.randint(2, 5), dict[int, psutil.Process]()

    def look() -> bool:
        seen.update({each.pid: each for each in run.copies()})
        return len(seen) >= number

    run.wait_until(look)
    run.pause(rng.uniform(0, 0.05) * typical_s)
    return _kill_one(run, Try("kill one of several"), rng, list(seen.values())[-1:])


def _kill_one(run: ObservedRun, found: Try, rng: random.Random, victims: Sequence[psutil.Process]) -> Try:
    """Kill one of these after the measuring began: every case has its record in the end, and none failed."""
    found.expected, found.torn, found.whole = ON_A_SLOW_MACHINE, True, True
    found.after = before = _count_records(run)
    number = rng.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT))
    for victim in [each for each in victims if each.is_running()][-1:]:
        with suppress(psutil.Error):
            victim.send_signal(number)
            found.fault = f"{number.name} after {time.monotonic() - run.began_s:.1f} s and {before} records"
            if _count_records(run) < _LATEST_RECORD:  # later it has measured everything
                found.told = (number.name,)
    return verify(run, found)


def _count_records(run: ObservedRun) -> int:
    return sum(path.read_bytes().count(b"\n") for path in run.results.glob("*/records-*.jsonl"))


def stop(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Ctrl-Z, and on again: no process holds the device meanwhile, and every case is measured."""
    run = ObservedRun(place)
    found = Try("stop (Ctrl-Z)", expected=ON_A_SLOW_MACHINE, whole=True)
    if run.wait_until(lambda: run.folder is not None):
        run.pause(rng.uniform(0, 0.8) * typical_s / 2)
    if run.process.poll() is None:
        process = psutil.Process(run.process.pid)
        found.after = _count_records(run)
        run.process.send_signal(signal.SIGTSTP)
        stopped = run.wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 20.0)
        found.fault = f"SIGTSTP after {time.monotonic() - run.began_s:.1f} s"
        measuring = run.measuring()
        if stopped and measuring:
            found.faults.append("a measuring process lives on while the run is stopped")
        time.sleep(rng.uniform(0.1, 1.0))
        run.process.send_signal(signal.SIGCONT)
    return verify(run, found)


def stop_child(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Stop a measuring process from outside for a while: what it had in hand is measured anew."""
    run = ObservedRun(place)
    found = Try("stop a child", expected=ON_A_SLOW_MACHINE, whole=True)
    if run.wait_until(lambda: run.folder is not None):
        run.pause(rng.uniform(0, 0.8) * typical_s / 2)
    measuring = run.measuring()
    for process in measuring[:1]:
        with suppress(psutil.Error):
            found.after = _count_records(run)
            process.suspend()
            time.sleep(rng.uniform(0.2, 1.5))
            process.resume()
            found.fault = f"SIGSTOP for a while, after {time.monotonic() - run.began_s:.1f} s"
    return verify(run, found)


def limit_files(place: Path, rng: random.Random, _typical_s: float) -> Try:
    """Let no file grow beyond a random size, as a quota does."""
    most = rng.randint(*_RANDOM_KB) << 10

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    found = Try(
        "full disk", f"no file beyond {most >> 10} kB", frozenset({0, 2, 3, 70}), torn=True, leaves=True
    )
    return _verify_starved(ObservedRun(place, before=limit), found)


def _verify_starved(run: ObservedRun, found: Try) -> Try:
    """Verify a run that had little room: where that was too little, a sentence says so."""
    verify(run, found)
    if found.status and not any(line.startswith("bench: ") for line in run.lines):
        found.faults.append("untold: 'bench: '")
    return found


def fill_disk(place: Path, rng: random.Random, _typical_s: float) -> Try:
    """Measure onto a small disk of its own (a tmpfs, where this user may mount one)."""
    size = rng.randint(*_RANDOM_KB)
    results = place / "runs"
    results.mkdir()
    found = Try("full disk", f"a disk of {size} kB", frozenset({0, 2, 3, 70}), torn=True, leaves=True)
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(results)],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not mounted:
        return limit_files(place, rng, _typical_s)
    try:
        return _verify_starved(ObservedRun(place), found)
    finally:
        subprocess.run(["umount", "-l", str(results)], capture_output=True, check=False)


def close_streams(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Close or fill a standard stream: errors never stop a run, and lost output costs no record."""
    kind = rng.choice(("stderr full", "stderr closed", "stderr left", "stdout full", "stdout closed"))
    found = Try("closed stream", kind, whole=True)
    found.expected = ON_A_SLOW_MACHINE
    if kind.startswith("stdout"):
        found.expected = frozenset({70})
    if kind == "stderr left":  # whoever read it goes after the first line
        reading, writing = os.pipe()
        run = ObservedRun(place, stderr=writing)
        os.close(writing)
        with open(reading, "rb") as first:
            first.readline()
        return verify(run, found)
    stream = kind.partition(" ")[0]
    if kind.endswith("full"):
        with open("/dev/full", "wb") as full:
            return verify(ObservedRun(place, **{stream: full}), found)
    return verify(ObservedRun(place, before=partial(os.close, 1 if stream == "stdout" else 2)), found)


def remove_folder(place: Path, rng: random.Random, typical_s: float) -> Try:
    """Remove the folder of results in mid-run: what is held is written elsewhere, and the end says where."""
    run = ObservedRun(place)
    found = Try("removed folder", expected=frozenset({0, 2, 3, 70}), torn=True, leaves=True)
    if run.wait_until(lambda: run.folder is not None):
        run.pause(rng.uniform(0, 0.8) * typical_s / 2)
    if run.process.poll() is None:
        remove(run)
        found.fault = f"removed after {time.monotonic() - run.began_s:.1f} s"
        found.expected = frozenset({2, 3, 70})
        found.told = ("bench: ",)
    verify(run, found)
    if run.process.returncode == 0 and not run.results.exists():
        found.faults.append("exit 0 without a folder")
    return found


KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
KINDS: Mapping[str, Kind] = {
    **{f"kill {number.name}": partial(kill, number) for number in KILLS},
    "kill a child": kill_child,
    "kill between records": kill_between,
    "kill one of several": kill_of_several,
    "stop (Ctrl-Z)": stop,
    "stop a child": stop_child,
    "file limit": limit_files,
    "full disk": fill_disk,
    "closed stream": close_streams,
    "removed folder": remove_folder,
}
