"""What is compared: each case's result in each run or file; and how a run's records become results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from nameplate.base.messages import Message, message
from nameplate.chain.power_limits import LimitedProduct, find_limited_products
from nameplate.device.identity import CpuIdentity, CudaIdentity, Identity, evidence_of
from nameplate.device.libraries import parse_build
from nameplate.engine.run_to_run import NORMALIZED, TIME, basis_of
from nameplate.record import Record
from nameplate.specs.cpu_evidence import name_by_instructions
from nameplate.stats.between import NO_SCATTER, RunToRun, Scatter, stated_by
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, parse_time

# achieved: throughput or bandwidth. normalized: achieved ÷ a measure of the conditions at that time.
# efficiency: achieved ÷ nominal.
Metric = Literal["achieved", "normalized", "efficiency"]
# unreadable: of a file of others, an entry that can't be used.
State = Literal["ok", "wrong", "unreadable", "failed", "skipped", "missing"]
HELD_CLOCK = "held clock"  # what a GPU's normalized figure is divided by
PYTEST_BENCHMARK = "pytest-benchmark"
# The probe is a matrix product of the same library. Where one of these settings differs, the probe's own
# speed may differ too, and normalized figures of the two runs can't be compared.
_PROBE_SETTINGS = ("blas", "onednn", "instruction_set", "threads", "interop_threads", "usable_cores")


@dataclass(frozen=True)
class MetricValue:
    """One metric of one case, larger is better, with its 95 % interval and its unit.

    `run_to_run` is the variance of its logarithm from run to run, as the run's own processes show it; None
    where one process measured it, which can't.
    """

    interval: Interval
    unit: str
    run_to_run: Scatter | None = None


@dataclass(frozen=True)
class CaseResult:
    """The result of one case on one device in one run.

    `reason` says why there is no figure. `work` describes what one launch does; figures of different work
    are never compared. `normalized_by` identifies what the normalized figure is divided by. `clock_mhz` is
    the clock a GPU held. `doubts` are the verdicts against the record; empty for a trusted record. `kernel`
    decides the figure: of a product the longest kernel, of other work the backend of its attention. `began`
    is when its run began; None where that isn't known.
    """

    case: str
    device: str
    kind: str
    part: str
    state: State = "ok"
    reason: Message | None = None
    work: str = ""
    metrics: Mapping[Metric, MetricValue] = field(default_factory=dict)
    normalized_by: str | None = None
    clock_mhz: float | None = None
    doubts: tuple[str, ...] = ()
    kernel: str | None = None
    began: datetime | None = None


@dataclass(frozen=True)
class RunResults:
    """The results of one run or one file.

    `method` is how times were taken: runs of different methods are never compared. `facts` are the software,
    host and settings that the figures depend on, by name.
    """

    name: str
    method: str
    cases: tuple[CaseResult, ...]
    facts: Mapping[str, str]
    problems: tuple[Message, ...] = ()
    simulated: tuple[str, ...] = ()  # the names of the GPUs that twins stand for; none: it was measured
    limited_products: tuple[LimitedProduct, ...] = ()  # its devices' best, at the power limits they had

    @property
    def identity(self) -> object:
        """What two copies of one run or file have in common, whatever their names: all their figures."""
        figures = ((case.case, case.device, case.state, tuple(case.metrics.items())) for case in self.cases)
        return self.method, tuple(figures)


@dataclass(frozen=True)
class Side:
    """One side of a comparison (base or new): its runs, in order; `unread` says what was left out."""

    name: str
    runs: tuple[RunResults, ...]
    unread: tuple[Message, ...] = ()

    def facts(self) -> dict[str, str]:
        """Return the facts of all runs by name; where runs differ, every value, separated by commas."""
        found: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for name, value in run.facts.items():
                found.setdefault(name, {})[value] = None
        return {name: ", ".join(values) for name, values in found.items()}

    @property
    def results(self) -> list[CaseResult]:
        """The results of all runs, in order."""
        return [result for run in self.runs for result in run.cases]

    @property
    def problems(self) -> list[Message]:
        """What could not be read: of the side, and of each run, with its name."""
        of_runs = (
            message("run_problem", run=run.name, problem=problem)
            for run in self.runs
            for problem in run.problems
        )
        return [*self.unread, *of_runs]


def name_method(number: int) -> str:
    """Return the name of a run's measuring method, as `RunResults` has it."""
    return f"method {number}"


def results_of_run(run: Run) -> RunResults:
    """Return the results of a run; cases without a record have the state `missing`."""
    missing = [
        CaseResult(each.case, each.device, *_kind_and_part(run, each.device), "missing", run.why_missing)
        for each in run.missing
    ]
    return RunResults(
        run.id,
        name_method(run.manifest.method),
        (*(_result_of_record(run, record) for record in run.records), *missing),
        _facts_of_run(run),
        run.problems,
        () if run.manifest.measured else tuple(entry.identity.name for entry in run.manifest.devices),
        tuple(find_limited_products(run)),
    )


def _result_of_record(run: Run, record: Record) -> CaseResult:
    state: State = record.status
    reason = record.reason
    if record.is_wrong and state == "ok":
        state = "wrong"
        contradiction = next((each for each in record.warnings if each.code == "contradicts_itself"), None)
        reason = contradiction or message("wrong_result")
    return CaseResult(
        record.case,
        record.device,
        *_kind_and_part(run, record.device),
        state,
        reason,
        _describe_work(record),
        _read_metrics(record) if state == "ok" else {},
        _identify_divisor(run, record),
        _read_positive_condition(record, "gpu_sm_clock_mhz"),
        () if record.trusted else record.verdicts,
        _name_deciding_kernel(record),
        parse_time(run.manifest.created),
    )


def _name_deciding_kernel(record: Record) -> str | None:
    # In a block the order of products by time may change from run to run; none of them alone decides.
    if record.workload == "matmul":
        return record.kernels[0] if record.kernels else None
    return record.attention


def _kind_and_part(run: Run, device: str) -> tuple[str, str]:
    entry = run.manifest.entry(device)
    return entry.identity.kind, entry.part or _name_unknown(entry.identity)


def _name_unknown(identity: Identity) -> str:
    """Name a device whose part isn't known, so that two such devices differ by what was seen of them."""
    if isinstance(identity, CpuIdentity):
        return name_by_instructions(evidence_of(identity), identity.architecture).id
    return identity.name or " ".join(map(str, identity.fingerprint()))


def _describe_work(record: Record) -> str:
    """`2MNK: 2,147,483,648 FLOP, 6,291,456 B a launch`."""
    convention = f"{record.convention}: " if record.convention else ""
    flops = f"{record.flops:,} FLOP, " if record.flops is not None else ""
    return f"{convention}{flops}{record.bytes or 0:,} B a launch"


def _read_metrics(record: Record) -> dict[Metric, MetricValue]:
    tflops, bandwidth = record.interval("tflops"), record.interval("bandwidth_gb_s")
    efficiency = record.interval("efficiency")
    found: dict[Metric, MetricValue] = {}
    if tflops is not None:
        found["achieved"] = MetricValue(tflops, "TFLOPS", _run_to_run(record, TIME, tflops))
    elif bandwidth is not None:
        found["achieved"] = MetricValue(bandwidth, "GB/s", _run_to_run(record, TIME, bandwidth))
    normalized = None if tflops is None else _normalize(record, tflops)
    if normalized is not None:
        found["normalized"] = normalized
    if efficiency is not None:
        found["efficiency"] = MetricValue(efficiency, "of nominal", _run_to_run(record, TIME, efficiency))
    return found


def _run_to_run(record: Record, figure: str, interval: Interval) -> Scatter | None:
    """Return the variance that a run-to-run interval states; `figure` is whose spread it follows from."""
    spread = record.spreads.get(figure)
    if record.interval_kind != "run_to_run" or spread is None:
        return None
    return stated_by(interval.log_half_width, basis_of(spread).freedom)


def _normalize(record: Record, tflops: Interval) -> MetricValue | None:
    """Divide throughput by the CPU's probe or by the clock that the GPU held; None where neither is known."""
    probe_tflops = _read_positive_condition(record, "probe_tflops")
    clock_mhz = _read_positive_condition(record, "gpu_sm_clock_mhz")
    if probe_tflops is not None:
        half = _log_half_width_over_probe(record)
        if half is None:
            return None
        interval = Interval.from_log_half_width(tflops.value / probe_tflops, half)
        basis = _basis_over_probe(record)
        spread = None if basis is None else Scatter(basis.variance, basis.freedom)
        return MetricValue(interval, "of the probe", spread)
    if clock_mhz is None:
        return None
    interval = tflops.scaled(1000 / clock_mhz)
    return MetricValue(interval, "TFLOPS/GHz", _run_to_run(record, TIME, interval))


def _log_half_width_over_probe(record: Record) -> float | None:
    """Half-width, on a log scale, of throughput ÷ probe.

    It is that of normalized efficiency. Up to method 7 that also held the error of a calibration, by which
    the probe was related to a ceiling; a ratio of two runs needs none, so it is taken out again.
    """
    basis = _basis_over_probe(record)
    if basis is not None:
        return basis.log_half_width
    efficiency = record.interval("normalized_efficiency")
    if efficiency is None:
        return None
    names = ("calibration_ratio", "calibration_ratio_low", "calibration_ratio_high")
    calibration = [value for name in names if (value := _read_positive_condition(record, name)) is not None]
    calibration_half = Interval(*calibration).log_half_width if len(calibration) == len(names) else 0.0
    return math.sqrt(max(efficiency.log_half_width**2 - calibration_half**2, 0.0))


def _basis_over_probe(record: Record) -> RunToRun | None:
    """What the run-to-run interval of throughput ÷ probe follows from; None of a single process."""
    spread = record.spreads.get(NORMALIZED)
    if record.interval_kind != "run_to_run" or spread is None or len(spread.by_process) < 2:
        return None
    return replace(basis_of(spread), shared=NO_SCATTER)


def _read_positive_condition(record: Record, name: str) -> float | None:
    """Return a condition that is a number above 0; None where it isn't known."""
    value = record.conditions.get(name)
    return value if isinstance(value, int | float) and value > 0 else None


def _identify_divisor(run: Run, record: Record) -> str | None:
    """Identify what the normalized figure is divided by; None where there is no normalized figure."""
    probe = record.conditions.get("probe")
    if probe is None:
        return HELD_CLOCK if _read_positive_condition(record, "gpu_sm_clock_mhz") else None
    identity = run.manifest.entry(record.device).identity
    settings = [str(getattr(identity, name, None)) for name in _PROBE_SETTINGS]
    thread_settings = sorted(getattr(identity, "thread_settings", {}).items())
    torch = run.manifest.software.get("torch")
    return f"probe {probe} on torch {torch}, {', '.join(settings)}, {thread_settings}"


def _facts_of_run(run: Run) -> dict[str, str]:
    manifest = run.manifest
    found = {name: str(version) for name, version in manifest.software.items() if version}
    found = _library_versions_of(manifest.devices) | found
    found["host"] = manifest.hostname
    of_devices: dict[str, dict[str, None]] = {}
    for entry in manifest.devices:
        for name, value in _facts_of_device(entry).items():
            of_devices.setdefault(name, {})[value] = None
    return found | {name: ", ".join(values) for name, values in of_devices.items()}


def _library_versions_of(devices: Iterable[DeviceEntry]) -> dict[str, str]:
    """Return the versions that a CPU's identity names; before schema 4 they stood there alone."""
    named = (each.identity for each in devices if isinstance(each.identity, CpuIdentity))
    found = [parse_build(f"{identity.blas}\n{identity.onednn}\n") for identity in named]
    return {name: version for each in found for name, version in each.items() if version}


def _facts_of_device(entry: DeviceEntry) -> dict[str, str]:
    identity = entry.identity
    found = {"device": identity.name, "part": entry.part or "no known part"}
    if isinstance(identity, CpuIdentity):
        settings = ", ".join(f"{name}={value}" for name, value in sorted(identity.thread_settings.items()))
        return found | {
            "cores": f"{identity.usable_cores:g}",
            "threads": str(identity.threads),
            "libraries": f"{identity.blas}; {identity.onednn}; {identity.instruction_set}",
            "thread settings": settings or "none",
        }
    if isinstance(identity, CudaIdentity):
        limit_w = identity.power_limit_w
        return found | {
            "driver": str(identity.driver),
            "CUDA": str(identity.cuda),
            "power limit": "unknown" if limit_w is None else f"{limit_w:g} W",
            "card": str(identity.uuid),
        }
    return found
