"""Every column of a record: those known before a case is measured, and those that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nameplate.base.messages import Message, message, text
from nameplate.device.identity import CudaIdentity
from nameplate.device.kernels import name_attention
from nameplate.device.protocol import DeviceDescription, MeasuredDevice
from nameplate.engine.case_run import describe_error
from nameplate.engine.ceiling import Ceiling
from nameplate.engine.conditions import Conditions
from nameplate.engine.group_data import CaseData, Check, FailureReason
from nameplate.engine.peak import Peak, find_peak, rate_work
from nameplate.engine.run_to_run import NORMALIZED, TIME, as_spread
from nameplate.engine.verdict import Observation, judge
from nameplate.engine.warnings import find_warnings
from nameplate.engine.window import Window
from nameplate.record import INTERVALS, Batch, Ends, Record, Status, Verdict, Verification
from nameplate.specs.rating import Rating, rate_host_link
from nameplate.stats.between import Estimate
from nameplate.stats.interval import Interval, divide
from nameplate.suite import Case
from nameplate.workload import Workload

# Over a shorter window the driver's energy counter, which has a coarse step too, and its power readings
# disagree (187 J and 327 J were seen). The record then has neither.
SHORTEST_ENERGY_S = 5.0
# … and the same where the window consists of batches too short for ten readings a second.
SHORTEST_ENERGY_SPAN_S = 0.5
_HUGE = 1e9  # an upper end so many times the figure stands for none


@dataclass(frozen=True)
class Measurement:
    """Everything that the record of one measured case follows from.

    `found` is what all processes together found of it. `time` is its seconds per launch, `normalized` its
    share of the ceiling where that has a spread of its own.
    """

    case: Case
    device: MeasuredDevice
    found: CaseData
    conditions: Conditions
    group: str
    time: Estimate
    ceiling: Ceiling | None = None
    normalized: Estimate | None = None

    @property
    def window(self) -> Window:
        """The batches that its figure is taken from; a measured case has them."""
        assert self.found.window is not None
        return self.found.window

    @property
    def is_settled(self) -> bool | None:
        """Whether a sustained figure is of the settled state; True for other figures, None: can't be told.

        None too for a burst that can't be told from what is around it.
        """
        if not self.window.is_told:
            return None
        if self.case.phase != "sustained" or self.window.settling is None:
            return True
        return self.window.settling.is_settled


def record_without_figures(
    case: Case, device: DeviceDescription, reason: Message, status: Status = "skipped"
) -> Record:
    """Return the record of a case that was skipped before anything was tried, or that failed."""
    result = {"status": status, "reason": reason, **_verdict_columns(("unknown",))}
    try:
        return Record.model_validate(_declared_columns(case, device) | result)
    except ValueError as error:  # the declaration itself can't be recorded
        empty: dict[str, Any] = {"dimensions": {}, "flops": None, "bytes": None, "convention": None}
        result |= {"status": "failed", "reason": message("undeclarable", why=describe_error(error))}
        return Record.model_validate(_declared_columns(case, device) | empty | result)


def record_failure(
    case: Case, device: DeviceDescription, found: CaseData, group: str, failure: FailureReason | None = None
) -> Record:
    """Return the record of a case without a figure; `failure` is by default the one that was found."""
    failure = failure or found.failure
    assert failure is not None
    record = record_without_figures(case, device, failure.reason, failure.status)
    return record.model_copy(update={"started": found.started, "cost_s": found.cost_s, "group": group})


def record_of(measured: Measurement) -> Record:
    """Return the record of a measured case; a failed one where its declaration can't be divided by."""
    case, device, found = measured.case, measured.device, measured.found
    try:
        columns = _declared_columns(case, device) | _measured_columns(measured)
        columns |= {"started": found.started, "cost_s": found.cost_s, "group": measured.group}
        return Record.model_validate(columns)
    except Exception as error:
        broken = FailureReason("failed", text(describe_error(error)))
        return record_failure(case, device, found, measured.group, broken)


def _declared_columns(case: Case, device: DeviceDescription) -> dict[str, Any]:
    """Columns known before anything is measured."""
    work = case.workload
    columns: dict[str, Any] = {
        "case": case.id,
        "workload": work.name,
        "dtype": work.dtype,
        "shape": work.shape,
        "dimensions": dict(work.dimensions),
        "fill": case.fill,
        "cache": case.cache,
        "phase": case.phase,
        "backend": case.backend,
        "represents": work.represents,
        # A choice of cuBLAS alone; another package's workload needn't know of it.
        "reduction": getattr(work, "reduction", None) if device.kind == "cuda" else None,
        "device": device.name,
        "measured": device.measured,
        "part": device.rating.part,
        "flops": work.flops,
        "bytes": work.bytes,
        "convention": work.convention,
    }
    columns["nominal_gb_s"] = _rate_bytes(work, device)
    if work.flops is not None:  # a rating in FLOPS says nothing about work without FLOPs
        rating = rate_work(device.rating, work)
        nominal, datasheet = rating.nominal_for(work.dtype), rating.datasheet_for(work.dtype)
        columns |= {
            "nominal_tflops": nominal.tflops,
            "nominal_tflops_low": nominal.low,
            "nominal_tflops_high": nominal.high,
            "nominal_basis": nominal.basis,
            "nominal_source": nominal.source,
            "datasheet_tflops": datasheet.tflops,
            "datasheet_source": datasheet.source,
        }
        peak = find_peak(rating, work.dtype, device.identity.highest_clock_mhz)
        if peak is not None:
            columns |= {"peak_tflops": peak.tflops, "peak_source": peak.source}
        columns |= _silicon_columns(rating, work.dtype, peak)
    return columns


def _rate_bytes(work: Workload, device: DeviceDescription) -> float | None:
    """The rated bandwidth, in GB/s, of what memory work moves bytes of: main memory, or a GPU's link."""
    level, identity = work.dimensions.get("level"), device.identity
    if work.name != "memory":
        return None
    if level is None:
        return device.rating.memory_gb_s
    if level == "host link" and isinstance(identity, CudaIdentity):
        return rate_host_link(device.rating.part, identity.max_pcie_generation, identity.max_pcie_width)
    return None


def _silicon_columns(rating: Rating, dtype: str, limit: Peak | None) -> dict[str, Any]:
    """The physical limit and its source: a CPU's measured peak, or the reason for none; a GPU's by its clock.

    Nothing where neither is known.
    """
    if rating.silicon is None:
        if limit is None or not limit.is_silicon:
            return {}
        exact = Interval(limit.tflops, limit.tflops, limit.tflops)
        return {**_interval_columns("silicon_tflops", exact), "silicon_source": limit.source}
    peak = rating.silicon_for(dtype)
    figures = {} if peak is None else _interval_columns("silicon_tflops", peak.interval)
    return {**figures, "silicon_source": rating.silicon.describe(dtype)}


def _measured_columns(measured: Measurement) -> dict[str, Any]:
    """Columns that follow from the measurement."""
    case, device, found = measured.case, measured.device, measured.found
    work, time_s = case.workload, measured.time.interval
    columns = _found_columns(measured)
    nominal_gb_s = _rate_bytes(work, device)
    columns["bandwidth_efficiency"] = nominal_gb_s and columns["bandwidth_gb_s"] / nominal_gb_s
    peak_efficiency = None
    if work.flops is not None:
        achieved = time_s.inverted(work.flops / 1e12)
        columns |= _throughput_columns(measured, achieved, work.flops)
        if columns["power_w"] and not found.is_flushed:  # flushing the cache takes power too
            columns |= _interval_columns("tflops_per_w", achieved.scaled(1 / columns["power_w"]))
        peak = find_peak(rate_work(device.rating, work), work.dtype, device.identity.highest_clock_mhz)
        peak_efficiency = None if peak is None else _divide(achieved, peak.tflops, peak.low, peak.high)
    if measured.ceiling is not None:
        columns |= {"ceiling_tflops": measured.ceiling.tflops, "loss": measured.ceiling.loss}
        columns |= _interval_columns("normalized_efficiency", _normalized_of(measured, measured.ceiling))
    columns |= _spread_columns(measured)
    energies_j = columns["energy_j"], columns["energy_integrated_j"]
    of_this_run = measured.time.of_this_run
    columns["warnings"] = tuple(
        find_warnings(case, device, found, measured.conditions, of_this_run, measured.is_settled, *energies_j)
    )
    seen = _observe(measured, peak_efficiency, columns["enqueue_share"])
    return columns | _verdict_columns(judge(seen))


def _found_columns(measured: Measurement) -> dict[str, Any]:
    """What was timed and seen, before it is held to a rating."""
    found, window, time_s = measured.found, measured.window, measured.time.interval
    assert found.check is not None
    return {
        "status": "ok",
        "time_s": time_s.value,
        "launches": window.launches,
        "enqueue_share": None if found.host.enqueue_s is None else found.host.enqueue_s / time_s.value,
        "verification": _verification(found.check),
        "digest": found.digest,
        "compile_s": found.compile_s,
        "peak_memory_bytes": found.peak_bytes,
        "kernels": found.kernels,
        "attention": name_attention(found.kernels),
        "settled_s": window.settling.settled_s if window.settling else None,
        "batches": _batches(window),
        "course": found.course,
        "derates": found.derates,
        "parts": found.parts,
        "profile": found.profile,
        "conditions": _list_conditions(measured),
        **energy_columns(measured.conditions, window),
        **_interval_columns("bandwidth_gb_s", time_s.inverted(measured.case.workload.bytes / 1e9)),
    }


def _list_conditions(measured: Measurement) -> dict[str, float | str | None]:
    """What else went on, by name: on the host, on the device, and what the ceiling was computed from."""
    conditions, identity = measured.conditions.as_columns(), measured.device.identity
    if measured.window.system_share is not None:
        conditions["system_share"] = measured.window.system_share
    if isinstance(identity, CudaIdentity):
        conditions["gpu_multiprocessors"] = identity.multiprocessors
    return conditions if measured.ceiling is None else {**conditions, **measured.ceiling.conditions}


def _observe(
    measured: Measurement, peak_efficiency: Interval | None, enqueue_share: float | None
) -> Observation:
    """What the verdict's rules look at."""
    window, found = measured.window, measured.found
    assert found.check is not None
    return Observation(
        kind=measured.device.kind,
        check=found.check,
        changed_batch=found.changed_batch,
        time_s=measured.time.of_this_run,
        process=window.process,
        middle_s=window.middle_s,
        launch_s=window.launch_s,
        samples_s=window.samples_s,
        is_settled=measured.is_settled,
        peak_efficiency=peak_efficiency,
        conditions=measured.conditions,
        is_burst=measured.case.phase == "burst",
        enqueue_share=enqueue_share,
        graph_share=found.host.graph_ratio,
    )


def _throughput_columns(measured: Measurement, achieved: Interval, flops: int) -> dict[str, float | None]:
    window, device, host = measured.window, measured.device, measured.found.host
    work = measured.case.workload
    cpu_s = window.cpu_s
    return {
        **_rated_columns(achieved, rate_work(device.rating, work), work.dtype),
        "tflops_median": flops / 1e12 / window.median_s,
        "cpu_time_tflops": flops * window.launches / (cpu_s / device.cores) / 1e12 if cpu_s else None,
        # The window's own figure × the ratio of neighbours: the replays themselves ran at another clock.
        "graph_tflops": achieved.value / host.graph_ratio if host.graph_ratio else None,
    }


def _normalized_of(measured: Measurement, ceiling: Ceiling) -> Interval:
    """Achieved ÷ ceiling with the interval that is shown: its own, or that of achieved ÷ an exact ceiling."""
    if measured.normalized is not None:
        return measured.normalized.interval
    time_s = measured.time.interval
    return time_s.inverted(time_s.value * ceiling.normalized.value)


def _spread_columns(measured: Measurement) -> dict[str, Any]:
    """What the intervals hold, the other two of the main figure, and what they follow from."""
    time, work = measured.time, measured.case.workload
    figure, amount = (
        ("bandwidth_gb_s", work.bytes / 1e9) if work.flops is None else ("tflops", work.flops / 1e12)
    )
    basis = time.basis
    estimates = {TIME: time, **({} if measured.normalized is None else {NORMALIZED: measured.normalized})}
    return {
        "processes": basis.processes,
        "interval_kind": "run_to_run" if time.is_run_to_run else "within",
        "interval_freedom": basis.freedom if time.is_run_to_run else None,
        "interval_within": _ends(figure, time.within.inverted(amount)),
        "interval_next": None if time.next is None else _ends(figure, time.next.inverted(amount)),
        "between_processes": basis.own.deviation if time.is_run_to_run else None,
        "between_runs": None if basis.between_runs is None else basis.between_runs.deviation,
        "earlier_runs": time.earlier_runs,
        "spreads": {name: as_spread(each) for name, each in estimates.items()},
    }


def _rated_columns(achieved: Interval, rating: Rating, dtype: str) -> dict[str, float | None]:
    """Throughput, and its ratio to nominal and datasheet, where those are known."""
    columns: dict[str, float | None] = {**_interval_columns("tflops", achieved)}
    nominal, datasheet = rating.nominal_for(dtype), rating.datasheet_for(dtype).tflops
    if nominal.tflops is not None:
        efficiency = _divide(achieved, nominal.tflops, nominal.low, nominal.high)
        columns |= _interval_columns("efficiency", efficiency)
    if datasheet is not None:
        columns["datasheet_efficiency"] = achieved.value / datasheet
    return columns


def _divide(achieved: Interval, rated: float, low: float | None, high: float | None) -> Interval:
    """Return achieved ÷ rated, with the interval of both; `low` and `high` are None for an exact rating."""
    if low is None or high is None:
        return achieved.scaled(1 / rated)
    return divide(achieved, Interval(rated, low, high))


def energy_columns(conditions: Conditions, window: Window) -> dict[str, Any]:
    """Return energy and mean power of the batches, by counter where there is one, else by power readings.

    All are None where the window is too short to trust either.
    """
    nothing = dict.fromkeys(("energy_j", "power_w", "energy_integrated_j", "energy_method"))
    spans_s = sum(end - begin for begin, end in window.spans)
    if spans_s < SHORTEST_ENERGY_S or spans_s / conditions.stretches < SHORTEST_ENERGY_SPAN_S:
        return nothing
    telemetry = conditions.gpu.telemetry if conditions.gpu else None
    counted = telemetry.energy_j if telemetry else conditions.energy_j
    integrated = telemetry.energy_integrated_j if telemetry else None
    if counted is None and integrated is None:
        return nothing
    joules = counted if counted is not None else integrated
    return {
        "energy_j": joules,
        "power_w": (joules or 0.0) / spans_s,
        "energy_integrated_j": integrated,
        "energy_method": "counter" if counted is not None else "power readings",
    }


def _interval_columns(figure: str, interval: Interval) -> Mapping[str, float]:
    low, high = INTERVALS[figure]
    ends = _ends(figure, interval)
    return {figure: interval.value, low: ends.low, high: ends.high}


def _ends(figure: str, interval: Interval) -> Ends:
    # An interval of times that reaches 0 has no upper end as a throughput. The record holds a huge one; its
    # verdict is `unstable` anyway.
    return Ends(figure=figure, low=interval.low, high=min(interval.high, _HUGE * interval.value))


def _verdict_columns(verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    return {"verdict": verdicts[0], "verdicts": verdicts}


def _verification(check: Check) -> Verification:
    error = check.error if math.isfinite(check.error) else None
    return Verification(reference=check.reference, error=error, rule=check.rule, passed=check.passed)


def _batches(window: Window) -> tuple[Batch, ...]:
    origin_s = window.batches[0].timing.start_s
    return tuple(
        Batch(
            start_s=each.timing.start_s - origin_s,
            elapsed_s=each.timing.elapsed_s,
            launches=each.timing.launches,
            round=each.round,
            cpu_s=each.timing.cpu_s,
            process=each.process,
        )
        for each in window.batches
    )
