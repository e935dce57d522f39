"""What more than one test file needs: a record, a manifest, a run; and the skip of tests that need a GPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from nameplate.device.identity import SimulatedIdentity
from nameplate.errors import NameplateError
from nameplate.record import Batch, Record, Verification
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest

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
    "bandwidth_gb_s": 1.17,
    "bandwidth_low_gb_s": 1.15,
    "bandwidth_high_gb_s": 1.2,
    "time_s": 2 * 1024**3 / 0.4e12,
    "launches": 200,
    "started": "2026-11-22T12:00:00+00:00",
    "cost_s": 1.5,
    "verification": Verification(reference="fp64", error=0.3, rule="rounding", passed=True),
    "conditions": {"elapsed_s": 1.2, "own_cpu_share": 0.99, "steal_share": None},
    "batches": (
        Batch(start_s=0.0, elapsed_s=0.54, launches=100),
        Batch(start_s=0.6, elapsed_s=0.53, launches=100),
    ),
}
_DECLARED = (
    *("case", "workload", "dtype", "shape", "dimensions", "fill", "cache", "phase", "backend"),
    *("represents", "device", "part"),
)


@pytest.fixture
def make_record():
    """Build a record: measured and clean unless told otherwise; `status="skipped"` starts without figures."""

    def make(**changes):
        fields = dict(_MEASURED)
        if changes.get("status", "ok") != "ok":
            fields = {name: _MEASURED[name] for name in _DECLARED}
            fields |= {"reason": "no such thing here", "verdict": "unknown", "verdicts": ("unknown",)}
        return Record(**(fields | changes))

    return make


@pytest.fixture
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


@pytest.fixture
def make_run(make_manifest):
    """Build a finished run of these records; it is nowhere on disk."""

    def make(*records, problems=(), missing=(), **changes):
        manifest = make_manifest([*(record.case for record in records), *missing], **changes)
        return Run(Path("runs") / manifest.run, manifest, records, tuple(problems), not missing)

    return make


class Listener:
    """A `Watch` between a share and whoever watches its run; counts what a real process would report."""

    def __init__(self, watch):
        self.watch, self.in_flight, self.records = watch, (), 0

    def group_started(self, cases):
        self.in_flight = tuple(cases)
        self.watch.group_started(cases)

    def case_finished(self, record):
        self.records += 1
        self.watch.case_finished(record)


@pytest.fixture
def simulate(monkeypatch):
    """Let a run measure simulated devices in this process, instead of the machine's in ones of their own.

    SystemExit is how such a process ends: SystemExit(-11) is signal 11. Returns the shares that are measured.
    """
    import nameplate.run
    from nameplate.run import measure_share
    from nameplate.together import Outcome

    def process(share, watch):
        listener = Listener(watch)
        status, refusal = 0, None
        try:
            measure_share(share, listener, lambda: None)
        except SystemExit as end:
            status = end.code
        except NameplateError as error:
            status, refusal = error.exit_status, str(error)
        return Outcome(status, listener.in_flight, listener.records, refusal)

    def use(*devices):
        by_name = {device.name: device for device in devices}
        measured = []

        def in_process(shares, watch, again):
            outcomes, todo = {}, list(shares)
            for share in todo:
                measured.append(share)
                outcomes[share.device] = process(share, watch)
                further = again(share, outcomes[share.device])
                todo += [further] if further is not None else []
            return outcomes

        monkeypatch.setattr(nameplate.run, "device_names", lambda flag: list(by_name))
        monkeypatch.setattr(nameplate.run, "describe", by_name.__getitem__)
        monkeypatch.setattr(nameplate.run, "open_device", by_name.__getitem__)
        monkeypatch.setattr(nameplate.run, "measure_together", in_process)
        return measured

    return use


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory):
    """The builder of the stand-in for NVML, and a function that builds it once for each set left out."""
    path = Path(__file__).parent / "nvml_stub" / "build.py"
    spec = importlib.util.spec_from_file_location("nvml_stub_builder", path)
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    if sys.platform != "linux" or builder.compiler() is None:
        pytest.skip("no C compiler (cc, gcc or $CC) on Linux to build the stand-in for NVML with")
    built = {}

    def get(missing):
        if missing not in built:
            built[missing] = builder.build(tmp_path_factory.mktemp("nvml"), missing)
        return built[missing]

    return builder, get


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


def pytest_collection_modifyitems(items):
    """Skip what is marked `gpu` where torch finds none; torch is imported only if there is such a test."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch finds no NVIDIA GPU"))
