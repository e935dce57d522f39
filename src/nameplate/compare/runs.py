"""The looks of a run folder's records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nameplate.base.messages import message
from nameplate.chain.from_run import admitted
from nameplate.compare.looks import HELD_CLOCK, Basis, Figure, Look, State, Taken
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.record import Record
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Expected

# A probe is a product of the same library: where one of these differs, it's another yardstick.
_PROBE_RUNS_ON = ("blas", "onednn", "instruction_set", "threads", "interop_threads", "usable_cores")


def taken(run: Run) -> Taken:
    """What a run tells, finished or not."""
    looks = [_look(run, record) for record in run.records]
    return Taken(
        run.id,
        f"method {run.manifest.method}",
        (*looks, *(_missing(run, each) for each in run.missing)),
        _facts(run),
        run.problems,
    )


def _look(run: Run, record: Record) -> Look:
    entry = run.manifest.entry(record.device)
    state: State = record.status
    reason = record.reason
    if "unverified" in record.verdicts and state == "ok":
        state, reason = "wrong", message("wrong_result")
    return Look(
        record.case,
        record.device,
        entry.identity.kind,
        _part(entry),
        state,
        reason,
        _work(record),
        _figures(record) if state == "ok" else {},
        _yardstick(record, entry, run.manifest.software),
        _number(record, "gpu_sm_clock_mhz"),
        () if admitted(record) else record.verdicts,
    )


def _missing(run: Run, each: Expected) -> Look:
    entry = run.manifest.entry(each.device)
    kind, part = entry.identity.kind, _part(entry)
    return Look(each.case, each.device, kind, part, "missing", message("run_ended"))


def _part(entry: DeviceEntry) -> str:
    return entry.part or entry.identity.name


def _work(record: Record) -> str:
    """`2MNK: 2,147,483,648 FLOP, 6,291,456 B a launch`."""
    counted = f"{record.flops:,} FLOP, " if record.flops is not None else ""
    convention = f"{record.convention}: " if record.convention else ""
    return f"{convention}{counted}{record.bytes or 0:,} B a launch"


def _figures(record: Record) -> dict[Basis, Figure]:
    found: dict[Basis, Figure] = {}
    achieved = _achieved(record)
    if achieved is not None:
        found["achieved"] = achieved
    normalized = _normalized(record)
    if normalized is not None:
        found["normalized"] = normalized
    efficiency = _interval(record.efficiency, record.efficiency_low, record.efficiency_high)
    if efficiency is not None:
        found["efficiency"] = Figure(efficiency, "of nominal")
    return found


def _achieved(record: Record) -> Figure | None:
    tflops = _interval(record.tflops, record.tflops_low, record.tflops_high)
    if tflops is not None:
        return Figure(tflops, "TFLOPS")
    bandwidth = _interval(record.bandwidth_gb_s, record.bandwidth_low_gb_s, record.bandwidth_high_gb_s)
    return None if bandwidth is None else Figure(bandwidth, "GB/s")


def _normalized(record: Record) -> Figure | None:
    """Achieved ÷ what tells of the conditions meanwhile: a CPU's probe, a GPU's held clock.

    The record's `normalized_efficiency` also holds what relates that to a ceiling (a calibration, made anew
    in each run; a datasheet). In a ratio of two runs that would cancel, if it had no error of its own: it is
    taken out, and its error with it.
    """
    tflops = _interval(record.tflops, record.tflops_low, record.tflops_high)
    probe_tflops, clock_mhz = _number(record, "probe_tflops"), _number(record, "gpu_sm_clock_mhz")
    if tflops is None:
        return None
    if probe_tflops is not None:
        half = _half_width_beside_probe(record)
        value = tflops.value / probe_tflops
        return None if half is None else Figure(_around(value, half), "of the probe")
    return Figure(tflops.scaled(1000 / clock_mhz), "TFLOPS/GHz") if clock_mhz else None


def _half_width_beside_probe(record: Record) -> float | None:
    """The half-width of achieved ÷ probe on a log scale: the normalized one's without the calibration's."""
    whole = _interval(
        record.normalized_efficiency, record.normalized_efficiency_low, record.normalized_efficiency_high
    )
    names = ("calibration_ratio", "calibration_ratio_low", "calibration_ratio_high")
    calibration = _interval(*(_number(record, name) for name in names))
    if whole is None or calibration is None:
        return None
    return math.sqrt(max(_half_width(whole) ** 2 - _half_width(calibration) ** 2, 0.0))


def _half_width(interval: Interval) -> float:
    return math.log(interval.high / interval.low) / 2 if interval.low > 0 else math.inf


def _around(value: float, half: float) -> Interval:
    return Interval(value, value * math.exp(-half), value * math.exp(half))


def _interval(value: float | None, low: float | None, high: float | None) -> Interval | None:
    if value is None or low is None or high is None or value <= 0:
        return None
    return Interval(value, low, high)


def _number(record: Record, name: str) -> float | None:
    """A condition that is a number above 0; None where it isn't known."""
    value = record.conditions.get(name)
    return value if isinstance(value, int | float) and value > 0 else None


def _yardstick(record: Record, entry: DeviceEntry, software: Mapping[str, str | None]) -> str | None:
    """What the normalized figure is normalized by; None: there is none."""
    probe = record.conditions.get("probe")
    if probe is None:
        return HELD_CLOCK if _number(record, "gpu_sm_clock_mhz") else None
    identity = entry.identity
    runs_on = [str(getattr(identity, name, None)) for name in _PROBE_RUNS_ON]
    settings = sorted(getattr(identity, "thread_settings", {}).items())
    return f"probe {probe} on torch {software.get('torch')}, {', '.join(runs_on)}, {settings}"


def _facts(run: Run) -> dict[str, str]:
    """What figures depend on, beside the case: software, host, driver, settings."""
    manifest = run.manifest
    found = {name: str(version) for name, version in manifest.software.items() if version}
    found["host"] = manifest.hostname
    for name, values in _identities(manifest.devices).items():
        found[name] = ", ".join(dict.fromkeys(values))
    return found


def _identities(entries: Sequence[DeviceEntry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        told = {"device": entry.identity.name, "part": entry.part or "no known part"}
        if isinstance(entry.identity, CpuIdentity):
            told |= _of_cpu(entry.identity)
        if isinstance(entry.identity, CudaIdentity):
            told |= _of_gpu(entry.identity)
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    return found


def _of_cpu(identity: CpuIdentity) -> dict[str, str]:
    settings = ", ".join(f"{name}={value}" for name, value in sorted(identity.thread_settings.items()))
    return {
        "cores": f"{identity.usable_cores:g}",
        "threads": str(identity.threads),
        "libraries": f"{identity.blas}; {identity.onednn}; {identity.instruction_set}",
        "thread settings": settings or "none",
    }


def _of_gpu(identity: CudaIdentity) -> dict[str, str]:
    limit = "unknown" if identity.power_limit_w is None else f"{identity.power_limit_w:g} W"
    return {
        "driver": str(identity.driver),
        "CUDA": str(identity.cuda),
        "power limit": limit,
        "card": str(identity.uuid),
    }
