"""What more than one test file needs: a record, a manifest, a run; and the skip of tests that need a GPU."""

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

from nameplate.base.errors import NameplateError
from nameplate.base.messages import message, text, to_message
from nameplate.base.templates import TEMPLATES
from nameplate.device.identity import CudaIdentity, SimulatedIdentity
from nameplate.record import Batch, Derate, Moment, Record, Verification
from nameplate.silicon.peak import Peak, Silicon
from nameplate.store.folder import RecordWriter, Run, create, mark_done
from nameplate.store.manifest import DeviceEntry, Expected, Manifest


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


_MEASURED = {
    "case": "matmul/bf16/1024x1024x1024/normal/warm/-/torch",
    "workload": "matmul",
    "dtype": "bf16",
    "shape": "1024x1024x1024",
    "dimensions": {"m": 1024, "n": 1024, "k": 1024, "layout": "nn", "times": 1},
    "fill": "normal",
    "cache": "warm",
    "phase": None,
    "backend": "torch",
    "represents": None,
    "device": "cpu",
    "part": "amd-zen4",
    "status": "ok",
    "verdict": "clean",
    "verdicts": ("clean",),
    "flops": 2 * 1024**3,
    "bytes": 3 * 2 * 1024**2,
    "convention": "2MNK",
    "tflops": 0.4,
    "tflops_low": 0.39,
    "tflops_high": 0.41,
    "tflops_median": 0.405,
    "nominal_tflops": 0.5,
    "nominal_source": "64 FLOP per cycle per core × 2 cores",
    "efficiency": 0.8,
    "efficiency_low": 0.78,
    "efficiency_high": 0.82,
    "datasheet_tflops": 0.5,
    "datasheet_source": "64 FLOP per cycle per core × 2 cores",
    "datasheet_efficiency": 0.8,
    "bandwidth_gb_s": 1.171875,
    "bandwidth_low_gb_s": 1.142578125,
    "bandwidth_high_gb_s": 1.201171875,
    "time_s": 2 * 1024**3 / 0.4e12,
    "launches": 200,
    "processes": 1,
    "interval_kind": "within",
    "started": "2026-11-22T12:00:00+00:00",
    "cost_s": 1.5,
    "verification": Verification(reference="fp64", error=0.3, rule="rounding", passed=True),
    "conditions": {"elapsed_s": 1.2, "own_cpu_share": 0.99, "steal_share": None},
    "batches": (
        Batch(start_s=0.0, elapsed_s=0.54, launches=100),
        Batch(start_s=0.6, elapsed_s=0.533741824, launches=100),
    ),
}
_AXES = ("workload", "dtype", "shape", "fill", "cache", "phase", "backend")
_DECLARED = (
    *("case", "workload", "dtype", "shape", "dimensions", "fill", "cache", "phase", "backend"),
    *("represents", "device", "part"),
)


def with_messages(fields):
    """Make a message of each plain text that stands where a record has one."""
    found = dict(fields)
    for name in {"reason", "loss"} & found.keys():
        found[name] = None if found[name] is None else to_message(found[name])
    if "warnings" in found:
        found["warnings"] = tuple(map(to_message, found["warnings"]))
    return found


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
    """Build a record: measured and clean unless told otherwise; `status="skipped"` starts without figures.

    Plain text for a reason, a loss or a warning is a message of code `text`. A whole case id sets its axes.
    """

    def make(**changes):
        axes = changes.get("case", "").split("/")
        if len(axes) == len(_AXES):
            changes = dict(zip(_AXES, axes, strict=True)) | {"phase": axes[5].strip("-") or None} | changes
        fields = dict(_MEASURED)
        if changes.get("status", "ok") != "ok":
            fields = {name: _MEASURED[name] for name in _DECLARED}
            fields |= {"reason": "no such thing here", "verdict": "unknown", "verdicts": ("unknown",)}
        return Record(**with_messages(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_manifest():
    """Build a manifest of one simulated device that expects the cases it is given."""

    def make(cases=(), **changes):
        identity = SimulatedIdentity(name="a simulated device")
        entry = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
        fields = {
            "run": "20261122T120000-fake-0001",
            "suite": "fake",
            "created": "2026-11-22T12:00:00+00:00",
            "hostname": "node17",
            "devices": (entry,),
            "software": {"nameplate": "0.1.0", "torch": "2.13.0"},
            "seed": 7,
            "cases": tuple(cases),
        }
        return Manifest(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_run(make_manifest):
    """Build a finished run of these records; it is nowhere on disk."""

    def make(*records, problems=(), missing=(), **changes):
        manifest = make_manifest([*(record.case for record in records), *missing], **changes)
        told = tuple(map(to_message, problems))
        return Run(Path("runs") / manifest.run, manifest, records, told, not missing)

    return make


@pytest.fixture(scope="session")
def store_run(make_manifest):
    """Write a run of these records to disk, finished unless told otherwise; returns its folder."""

    def store(results, *records, done=True, **changes):
        folder = create(results, make_manifest([record.case for record in records], **changes))
        with RecordWriter(folder, "cpu") as writer:
            for record in records:
                writer.append(record)
        if done:
            mark_done(folder)
        return folder

    return store


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


A800 = "nvidia-a800-sxm4-80gb"
# TFLOPS that a made-up A800 reaches: dtype, edge of a square product, TFLOPS, nominal, datasheet.
_SQUARES = (
    ("bf16", 2048, 185.0, 320.0, 312.0),
    ("fp16", 8192, 258.0, 320.0, 312.0),
    ("fp16", 2048, 180.0, 320.0, 312.0),
    ("tf32", 8192, 131.0, 160.0, 156.0),
)
# The products of a layer, by outputs and inputs: TFLOPS, and how often the layer runs it.
_LAYER = {
    (6144, 4096): (238.0, 1),
    (4096, 4096): (232.0, 1),
    (14336, 4096): (245.0, 2),
    (4096, 14336): (241.0, 1),
}
_RATED = ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops")
_OF_FLOPS = ("flops", "tflops", "tflops_low", "tflops_high", "tflops_median", "convention")


class _A800:
    """The records of one made-up A800; `text` stands in every free text of them."""

    def __init__(self, device, scale, text):
        self.device, self.scale, self.text = device, scale, text

    def records(self):
        """Something for every section: from idle and settled, a layer, its block, memory, a skip."""
        yield self.square("bf16", 8192, 275.0, 320.0, 312.0, phase="burst", group="8192", **self.onset())
        held = {
            "verdict": "power_capped",
            "verdicts": ("power_capped",),
            "loss": f"power limit 9%{self.text}",
        }
        held |= {"ceiling_tflops": self.scale * 285, "normalized_efficiency": 260 / 285}
        held |= {"normalized_efficiency_low": 0.90, "normalized_efficiency_high": 0.93, "power_w": 390.0}
        yield self.square("bf16", 8192, 260.0, 320.0, 312.0, group="8192", **held)
        for square in _SQUARES:
            yield self.square(*square, warnings=(f"it spread by 3 %{self.text}",))
        yield from self.layer(4096)
        yield from self.memory()
        declared = {name: _MEASURED[name] for name in _DECLARED} | {"device": self.device, "part": A800}
        skipped = {"status": "skipped", "reason": to_message(f"no such tensor core{self.text}")}
        unknown = {"verdict": "unknown", "verdicts": ("unknown",), "dtype": "fp8_e4m3", "shape": "8x8x8"}
        yield Record(**(declared | skipped | unknown | {"case": "matmul/fp8_e4m3/8x8x8/normal/warm/-/torch"}))

    def onset(self):
        moments = [
            Moment(
                at_s=0.1 * 2**n,
                tflops=self.scale * (275 - 2 * n),
                sm_clock_mhz=1410.0 - 9 * n,
                power_w=400.0 - n,
                temperature_c=40.0 + 2 * n,
            )
            for n in range(10)
        ]
        tflops = self.scale * 262
        derate = Derate(at_s=10.0, tflops=tflops, efficiency=tflops / 320, of_burst=262 / 275)
        return {"settled_s": 24.0, "course": moments, "derates": (derate,)}

    def square(self, dtype, edge, tflops, *rated, phase="sustained", **fields):
        reached = self.reached(tflops, 2 * edge**3, 6 * edge**2, *rated)
        size = {"dimensions": {"m": edge, "n": edge, "k": edge}}
        shape = f"{edge}x{edge}x{edge}{self.text}"
        return self.record(f"matmul/{dtype}", shape, phase, **(reached | size | fields))

    def layer(self, tokens):
        """The products of a model's layer and its block, forward and backward, drawn in turn."""
        same = {"group": "layer", "represents": f"Llama-3-8B{self.text}"}
        forward = 2 * tokens**2 * 32 * 128
        for (outputs, inputs), (tflops, times) in _LAYER.items():
            flops = 2 * tokens * outputs * inputs
            forward += times * flops
            moved = 2 * (tokens * inputs + inputs * outputs + tokens * outputs)
            size = {"dimensions": {"m": tokens, "n": outputs, "k": inputs, "times": times}}
            reached = self.reached(tflops, flops, moved, 320.0, 312.0)
            yield self.record("matmul/bf16", f"{tokens}x{outputs}x{inputs}-nt", **(reached | size | same))
        size = {"batch": 1, "tokens": tokens, "heads": 32, "head_dim": 128, "pass": "forward_backward"}
        reached = self.reached(205.0, 3 * forward, 1 << 30, 320.0, 312.0)
        reached |= {"dimensions": size, "convention": f"Megatron{self.text}"}
        shape = f"1x{tokens}x4096-forward_backward"
        yield self.record("transformer_block/bf16", shape, **(reached | same))

    def memory(self):
        unrated = dict.fromkeys((*_RATED, "datasheet_efficiency"))
        triad = self.reached(0.28, 1 << 31, 12 << 30, 1.0, 1.0) | unrated | dict.fromkeys(_OF_FLOPS)
        yield self.record("memory/fp32", "triad-4096MiB", **triad)
        copy = {"time_s": triad["time_s"] * 2 / 3, "bytes": 8 << 30}
        yield self.record("memory/fp32", "copy-4096MiB", **(triad | copy))

    def record(self, work, shape, phase="sustained", **fields):
        workload, dtype = work.split("/")
        axes = {"workload": workload, "dtype": dtype, "shape": shape, "cache": "rotating", "phase": phase}
        axes |= {"case": f"{work}/{shape}/normal/rotating/{phase}/torch", "device": self.device, "part": A800}
        sources = dict.fromkeys(("nominal_source", "datasheet_source"), f"counted{self.text}")
        elapsed_s = fields["time_s"] * _MEASURED["launches"] / 2
        halves = [Batch(start_s=n * elapsed_s, elapsed_s=elapsed_s, launches=100) for n in range(2)]
        return Record(**with_messages(_MEASURED | axes | sources | {"batches": tuple(halves)} | fields))

    def reached(self, tflops, flops, moved, nominal, datasheet):
        """What a record holds of work that reached this; every interval is 1 % to either side."""
        tflops *= self.scale
        time_s = flops / tflops / 1e12
        values = {
            "tflops{}": tflops,
            "efficiency{}": tflops / nominal,
            "bandwidth{}_gb_s": moved / time_s / 1e9,
        }
        ends = {"": 1.0, "_low": 0.99, "_high": 1.01}
        return {
            **{name.format(end): value * of for name, value in values.items() for end, of in ends.items()},
            "flops": flops,
            "bytes": moved,
            "time_s": time_s,
            "tflops_median": tflops,
            "nominal_tflops": nominal,
            "datasheet_tflops": datasheet,
            "datasheet_efficiency": tflops / datasheet,
        }


@pytest.fixture(scope="session")
def a800_run():
    """Build a finished run as A800s may have it, with something for every section; it is nowhere on disk.

    `scales` has a number for each device, by which its figures are multiplied; `text` stands in every free
    text; `records` takes the records and gives those to keep.
    """

    def make(*scales, text="", records=tuple, **changes):
        names = {f"cuda:{n}": scale for n, scale in enumerate(scales or (1.0,))}
        kept = tuple(
            records([each for name, scale in names.items() for each in _A800(name, scale, text).records()])
        )
        identity = CudaIdentity(name=f"NVIDIA A800-SXM4-80GB{text}", index=0)
        notes = (to_message(text),) if text else ()
        entry = DeviceEntry(name="", part=A800, evidence=f"its name{text}", notes=notes, identity=identity)
        fields = {
            "run": "20261122T120000-standard-a800",
            "suite": f"standard{text}",
            "created": f"2026-11-22T12:00:00+00:00{text}",
            "hostname": f"node17{text}",
            "devices": tuple(entry.model_copy(update={"name": name}) for name in names),
            "software": {"nameplate": f"0.1.0{text}", "torch": f"2.13.0{text}"},
            "seed": 7,
            "cases": tuple(Expected(case=each.case, device=each.device) for each in kept),
        }
        manifest = Manifest(**(fields | changes))
        return Run(Path("runs") / manifest.run, manifest, kept, notes, True)

    return make


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
