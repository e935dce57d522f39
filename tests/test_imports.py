"""The command line starts light: what its help loads, and what it costs beside its own two libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nameplate.store.folder import RecordWriter, create

pytestmark = pytest.mark.process
HEAVY = {"torch", "pandas", "numpy", "scipy", "pydantic", "altair", "vl_convert", "jinja2", "babel"}
BENCH = Path(sys.executable).with_name("bench")

# Runs one command in this process and prints, after its own output, which of the heavy modules it loaded.
_COMMAND = """
import sys
sys.argv = ["bench", *sys.argv[1:]]
from nameplate.cli import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
print("loaded:", *sorted(set(sys.modules)))
"""


def loaded_by(program, *arguments):
    """Which heavy modules a fresh interpreter holds after a program."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.rpartition("loaded:")[2].split())


def test_help_loads_nothing_heavy():
    assert loaded_by(_COMMAND, "--help") == set()


@pytest.mark.parametrize("command", ["run", "show", "report", "selftest"])
def test_a_commands_help_loads_nothing_heavy_either(command):
    """Except what typer itself takes to read a command's options."""
    assert loaded_by(_COMMAND, command, "--help") <= {"pydantic"}


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import sys, nameplate; print('loaded:', *sorted(sys.modules))") == set()


def test_the_check_above_can_fail():
    """The same check on a command that measures its device does find torch."""
    assert "torch" in loaded_by(_COMMAND, "devices", "--device", "cpu", "--json")


def test_the_check_above_can_fail_for_pandas_too():
    program = "import sys; from nameplate.store.load import frame; frame([]); print('loaded:', *sys.modules)"
    assert "pandas" in loaded_by(program)


def test_showing_a_run_needs_neither_torch_nor_what_draws(tmp_path, make_record, make_manifest):
    """A laptop that only reads results shouldn't pay for torch, nor a node that measures for charts."""
    record = make_record()
    folder = create(tmp_path, make_manifest([record.case]))
    with RecordWriter(folder, "cpu") as writer:
        writer.append(record)
    found = loaded_by(_COMMAND, "show", str(folder))
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
