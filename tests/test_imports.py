"""The command line starts light: what its help loads, and what it costs beside its own two libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
HEAVY = {"torch", "pandas", "numpy", "scipy", "pydantic", "altair", "vl_convert", "jinja2", "babel"}
BENCH = Path(sys.executable).with_name("bench")


def loaded_by(statements):
    """Which heavy modules a fresh interpreter holds after some statements."""
    program = f"import sys; {statements}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


def test_help_loads_nothing_heavy(modules_after):
    assert not HEAVY & modules_after(["--help"])


def test_a_commands_help_loads_nothing_heavy_either(modules_after):
    """Except what typer itself takes to read a command's options."""
    commands = ("run", "show", "report", "selftest", "compare")
    assert HEAVY & modules_after(*((command, "--help") for command in commands)) <= {"pydantic"}


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import nameplate") == set()


@pytest.mark.long
def test_the_check_above_can_fail(modules_after):
    """The same check on a command that measures its device does find torch."""
    assert "torch" in modules_after(("devices", "--device", "cpu", "--json"))


@pytest.mark.long
def test_the_check_above_can_fail_for_pandas_too():
    assert "pandas" in loaded_by("from nameplate.store.load import make_frame; make_frame([])")


def test_showing_a_run_needs_neither_torch_nor_what_draws(modules_after, tmp_path, make_record, store_run):
    """A laptop that only reads results shouldn't pay for torch, nor a node that measures for charts."""
    found = modules_after(("show", store_run(tmp_path, make_record(), done=False)))
    assert not found & {"torch", "altair", "vl_convert", "jinja2", "babel"}
    assert "numpy" in found  # it did more than look the run up


def cpu_seconds(*command):
    """CPU time of a child, all of its threads, as the system counted it; its waiting isn't in it."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.long
def test_help_costs_at_most_three_times_its_own_two_libraries():
    """A ratio of CPU times, the runs of both interleaved and the least of each taken."""
    libraries, bench = [], []
    for _ in range(5):
        libraries.append(cpu_seconds(sys.executable, "-c", "import typer, rich"))
        bench.append(cpu_seconds(BENCH, "--help"))
    assert min(bench) <= 3 * min(libraries), f"bench --help {bench} s, its libraries {libraries} s"
