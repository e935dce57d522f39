"""What more than one test file needs, as fixtures; what is left out and skipped, told at the end."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import pytest
from filelock import FileLock

import made_up_runs
from nameplate.base.errors import NameplateError
from nameplate.base.messages import message, text
from nameplate.base.templates import TEMPLATES
from nameplate.silicon.peak import Peak, Silicon


def pytest_configure(config):
    """Give an editable install the suites that pyproject.toml declares now.

    It keeps the entry points of when it was made, so that a suite added since isn't found.
    """
    del config
    gc.disable()  # until all tests are collected: what that makes stays
    named = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    declared = {"console_scripts": named["scripts"], **named["entry-points"]}
    for path in distribution("nameplate").files or ():
        if path.name == "entry_points.txt":
            lines = [
                line
                for group, entries in declared.items()
                for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), "")
            ]
            file, text = Path(str(path.locate())), "\n".join(lines)
            if sorted(file.read_text(encoding="utf-8").split()) != sorted(text.split()):
                file.write_text(text, encoding="utf-8")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    """Leave what was imported and collected out of every later garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_silicon():
    """Tests depend on no machine's arithmetic peak, and lose no time with it; processes of theirs measure."""
    with pytest.MonkeyPatch.context() as patch:
        absent = Silicon(absent=text("not measured in tests"))
        patch.setattr("nameplate.device.cpu.measure_silicon", lambda *_: absent)
        yield


@pytest.fixture(scope="session")
def make_silicon():
    """Build the measured peak of two cores in one dtype; keyword arguments are `Peak`'s."""

    def make(tflops=0.2, dtype="fp32", **changes):
        fields = {
            "loop": f"{dtype}-avx2",
            "instruction": "VFMADD231PS ymm",
            "dtypes": (dtype,),
            "tflops": tflops,
            "tflops_low": 0.99 * tflops,
            "tflops_high": 1.01 * tflops,
            "clock_mhz": 3500.0,
            "core_gflops": 500 * tflops,
            "core_clock_mhz": 3500.0,
            "flop_per_cycle": 32.0,
            "parallel_share": 1.0,
        }
        return Silicon(cores=2.0, peaks=(Peak(**(fields | changes)),))

    return make


@pytest.fixture(scope="session")
def every_message():
    """A message of every code, with made-up values that its template can hold."""
    return {code: message(code, **_values(template)) for code, template in TEMPLATES.items()}


def _values(template):
    found = {}
    for _before, name, form, how in Formatter().parse(template):
        if name is None:
            continue
        is_number = form and (form[-1] in "fg%" or form in ("duration", "figure", "percent"))
        found[name] = 0.25 if is_number else "x-1" if how or not form else ("x-1", message("no_rating"))
    return found


@pytest.fixture(scope="session")
def make_record():
    """Build a record: measured and clean unless told otherwise."""
    return made_up_runs.make_record


@pytest.fixture(scope="session")
def make_manifest():
    """Build a manifest of one simulated device that expects the cases it is given."""
    return made_up_runs.make_manifest


@pytest.fixture(scope="session")
def make_run():
    """Build a finished run of records; it is nowhere on disk."""
    return made_up_runs.make_run


@pytest.fixture(scope="session")
def store_run():
    """Write a run of records to disk, finished unless told otherwise."""
    return made_up_runs.store_run


@pytest.fixture(scope="session")
def a800_run():
    """Build a finished run as A800s may have it, with something for every section; it is nowhere on disk."""
    return made_up_runs.make_a800_run


@pytest.fixture
def made_up_figures(monkeypatch):
    """Let records that are read contradict themselves; tests/store/test_contradictions.py is about that."""
    monkeypatch.setattr("nameplate.store.folder.find_contradictions", lambda *_: ())


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def bench(monkeypatch, capsys):
    """Run `bench …` as its entry point does, in this process."""
    from nameplate.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(status, captured.out, captured.err)

    return run


_COMMANDS = """
import json, sys
from nameplate.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["bench", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
print("loaded:", *sys.modules)
"""


@pytest.fixture(scope="session")
def modules_after():
    """Run commands one after the other in a fresh interpreter; returns the modules that it then holds."""

    def run(*commands):
        told = json.dumps([[str(argument) for argument in command] for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", _COMMANDS, told], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.rpartition("loaded:")[2].split())

    return run


class Listener:
    """Between a job and the observer of its run; counts what a real process would report."""

    def __init__(self, observer):
        self.observer, self.in_flight, self.records = observer, (), 0

    def group_started(self, cases):
        self.in_flight = tuple(cases)
        self.observer.group_started(cases)

    def case_finished(self, record):
        self.records += 1
        self.observer.case_finished(record)


@pytest.fixture
def simulate(monkeypatch):
    """Let a run measure simulated devices in this process, instead of the machine's in ones of their own.

    SystemExit is how such a process ends: SystemExit(-11) is signal 11; with an attribute `missed` it was
    ended for that deadline. Returns the jobs that are done.
    """
    import nameplate.run.measure
    import nameplate.run.worker
    from nameplate.device.survey import DeviceChoice
    from nameplate.run.pool import WorkerResult

    def process(job, observer):
        listener = Listener(observer)
        status, refusal, missed = 0, None, None
        try:
            nameplate.run.worker.do_job(job, listener, nameplate.run.worker.time.monotonic)
        except SystemExit as end:
            status, missed = end.code, getattr(end, "missed", None)
        except NameplateError as error:
            status, refusal = error.exit_status, str(error)
        return WorkerResult(status, listener.in_flight, listener.records, refusal, missed)

    def use(*devices):
        by_name = {device.name: device for device in devices}
        done = []

        def in_process(jobs, observer, next_job, deadlines):
            results, todo = {}, list(jobs)
            for job in todo:
                done.append(job)
                results[job.device] = process(job, observer)
                further = next_job(job, results[job.device])
                todo += [further] if further is not None else []
            return results

        monkeypatch.setattr(nameplate.run.measure, "choose_devices", lambda flag: DeviceChoice(list(by_name)))

        def find(name, begun=None):
            return by_name[name]

        monkeypatch.setattr(nameplate.run.measure, "describe", find)
        monkeypatch.setattr(nameplate.run.worker, "open_device", find)
        monkeypatch.setattr(nameplate.run.measure, "run_workers", in_process)
        return done

    return use


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Make a folder once for all workers of this run: `once(name, fill)` fills it, or finds it filled."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def get(name, fill):
        folder = root / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                draft = folder.with_suffix(".draft")
                draft.mkdir(exist_ok=True)
                fill(draft)
                draft.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def nvml_library(once):
    """The builder of the stand-in for NVML, and a function that builds it once for each set left out."""
    path = Path(__file__).parent / "nvml_stub" / "build.py"
    spec = importlib.util.spec_from_file_location("nvml_stub_builder", path)
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    if sys.platform != "linux" or builder.compiler() is None:
        pytest.skip("no C compiler (cc, gcc or $CC) on Linux to build the stand-in for NVML with")

    def get(missing):
        name = hashlib.sha256(" ".join(missing).encode()).hexdigest()[:8]
        return once(f"nvml-{name}", lambda folder: builder.build(folder, missing))

    return builder, get


@pytest.fixture(scope="session")
def screens():
    """The builders of every screen for a person (screens.py)."""
    spec = importlib.util.spec_from_file_location("screens", Path(__file__).parent / "screens.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def use_nvml(nvml_library, tmp_path, monkeypatch):
    """Have NVML answer from a scenario, here and in processes started here; called again, from another."""
    builder, get = nvml_library

    def use(*parts, missing=()):
        monkeypatch.setenv("LD_LIBRARY_PATH", str(get(missing)))
        path = builder.write_scenario(tmp_path / "nvml_scenario.txt", *parts)
        monkeypatch.setenv(builder.SCENARIO, str(path))

    use.old_driver = builder.OLD_DRIVER
    use.library = builder.LIBRARY
    return use


KINDS = ("browser", "gpu", "process", "stat")
LEFT_OUT = pytest.StashKey()


def pytest_deselected(items):
    """Count what `-m "not …"` leaves out, in all and by kind."""
    options = items[0].config.option
    if options.markexpr.startswith("not ") and not options.keyword:
        counts = Counter(kind for item in items for kind in KINDS if item.get_closest_marker(kind))
        _keep_left_out(items[0].config, len(items), counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take a worker's count: with pytest-xdist the workers collect, and each of them all tests."""
    _keep_left_out(node.config, *getattr(node, "workeroutput", {}).get("left_out", (0, {})))


def _keep_left_out(config, number, counts):
    config.stash[LEFT_OUT] = number, counts
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = number, dict(counts)


def pytest_terminal_summary(terminalreporter, config):
    """Say how many tests were left out, what runs them, and how many this machine skipped."""
    number, counts = config.stash.get(LEFT_OUT, (0, {}))
    if number:
        terminalreporter.write_line(
            f"left out: {number} tests ({_listed(counts)}): `make test-all` runs them"
        )
    skipped = terminalreporter.stats.get("skipped", [])
    counts = Counter(kind for report in skipped for kind in KINDS if kind in report.keywords)
    if counts:
        terminalreporter.write_line(f"skipped on this machine: {_listed(counts)}; pytest's -rs says why")


def _listed(counts):
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Skip what is marked `gpu` where torch finds none; torch is imported only if there is such a test."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch finds no NVIDIA GPU"))


@pytest.fixture(scope="session")
def browser():
    """A Chromium that asks the network for nothing of its own; one for all tests that look at a page.

    Where NAMEPLATE_BROWSER is `required`, as in CI, one that is missing is a failure.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(found, None)
    if path is None:
        missing = "no browser: none of chromium, chromium-browser and google-chrome is on the path"
        if os.environ.get("NAMEPLATE_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    quiet = ("background-networking", "component-update", "sync")
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{each}" for each in quiet)]
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=path, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def library(once):
    """The library that draws the charts of a page; to bundle it takes seconds, so one does for all pages."""
    from nameplate.report.charts import vega

    folder = once(
        "library", lambda folder: (folder / "library.js").write_text(vega.start_bundling_library()(), "utf-8")
    )
    return (folder / "library.js").read_text("utf-8")


@pytest.fixture(scope="module")
def few_draws():
    """Price fleets by few draws where nobody says how many: for files that hold no figure of theirs."""
    from nameplate.report.fleet import priced

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nameplate.fleet.montecarlo.DRAWS", 1_000)
        priced._price_by_published.cache_clear()
        yield
    priced._price_by_published.cache_clear()


@pytest.fixture
def one_library(library, monkeypatch):
    """Have every page that is rendered hold that one."""
    monkeypatch.setattr("nameplate.report.charts.vega.start_bundling_library", lambda: lambda: library)


@pytest.fixture(scope="session")
def page_of(library, tmp_path_factory):
    """Write the page of some runs as `bench report` does, and say where it is."""
    from nameplate.report.media.write import write_report

    def write(*runs, lang="en"):
        output = tmp_path_factory.mktemp("report") / "report.html"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nameplate.report.charts.vega.start_bundling_library", lambda: lambda: library)
            write_report(runs, output, lang)
        return output

    return write
