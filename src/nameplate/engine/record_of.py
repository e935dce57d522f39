"""Every column of a record: what is known before anything is measured, and what follows from the evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nameplate.base.messages import Message, message, text
from nameplate.device.protocol import Described
from nameplate.engine.case_run import CaseRun, FailureReason, sentence
from nameplate.engine.ceiling import Ceiling
from nameplate.engine.conditions import Conditions
from nameplate.engine.gpu_warnings import gpu_warnings
from nameplate.engine.verdict import Observation, judge, thresholds
from nameplate.engine.window import Window
from nameplate.record import Batch, Derate, Moment, Record, Status, Verdict, Verification
from nameplate.specs.rating import Rating
from nameplate.stats.estimate import BATCHES
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.workload import Check

# What a window must time to be judged: the kernel counts CPU time in steps of 10 ms, and contention of 5 % of
# two cores needs a window of this length to show above that.
SHORTEST_WINDOW_S = 0.8
# Over a shorter window the driver's energy counter, which moves in steps of its own, and its power readings
# tell two things (187 J against 327 J were seen): neither is then a figure, and the record has none.
SHORTEST_ENERGY_S = 5.0
# … nor where that time is made up of batches too short for readings ten times a second.
SHORTEST_ENERGY_SPAN_S = 0.5
ENERGY_DISAGREEMENT = 0.1


@dataclass(frozen=True)
class Measurement:
    """What one measured case left behind."""

    trial: CaseRun
    window: Window
    conditions: Conditions
    group: str
    ceiling: Ceiling | None = None
    settled: bool | None = True  # also where that wasn't asked; None: can't be told
    course: tuple[Moment, ...] = ()
    derates: tuple[Derate, ...] = ()


def record_without_figures(
    case: Case, device: Described, reason: Message, status: Status = "skipped"
) -> Record:
    """The record of a case without figures: skipped before anything was tried, or broken off."""
    result = {"status": status, "reason": reason, **_verdicts(("unknown",))}
    try:
        return Record.model_validate(_facts(case, device) | result)
    except ValueError as error:  # the declaration itself is what can't be recorded
        declared: dict[str, Any] = {"dimensions": {}, "flops": None, "bytes": None, "convention": None}
        result |= {"status": "failed", "reason": message("undeclarable", why=sentence(error))}
        return Record.model_validate(_facts(case, device) | declared | result)


def record_failure(trial: CaseRun, ending: FailureReason, group: str) -> Record:
    """The record of a case that came to no figure."""
    record = record_without_figures(trial.case, trial.device, ending.reason, ending.status)
    return record.model_copy(update={"started": trial.started, "cost_s": trial.cost_s, "group": group})


def record_of(evidence: Measurement, cost_s: float) -> Record:
    """The record of a case that was measured; `cost_s` is what it took of the run."""
    trial = evidence.trial
    try:
        facts = _facts(trial.case, trial.device)
        done = {"started": trial.started, "cost_s": cost_s, "group": evidence.group}
        return Record.model_validate(facts | _result(evidence) | done)
    except Exception as error:  # a declaration of someone's that doesn't divide
        return record_failure(trial, FailureReason("failed", text(sentence(error))), evidence.group)


def _facts(case: Case, device: Described) -> dict[str, Any]:
    """The columns that are known before anything is measured."""
    work = case.workload
    nominal, datasheet = device.rating.nominal_for(work.dtype), device.rating.datasheet_for(work.dtype)
    facts: dict[str, Any] = {
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
        "device": device.name,
        "part": device.rating.part,
        "flops": work.flops,
        "bytes": work.bytes,
        "convention": work.convention,
    }
    if work.flops is not None:  # a rating in FLOPS says nothing of work without FLOPs
        facts |= {
            "nominal_tflops": nominal.tflops,
            "nominal_source": nominal.source,
            "datasheet_tflops": datasheet.tflops,
            "datasheet_source": datasheet.source,
        }
    return facts


def _result(evidence: Measurement) -> dict[str, Any]:
    """Divide: every figure of an `ok` record from its window."""
    trial, window, conditions = evidence.trial, evidence.window, evidence.conditions
    work, device, check = trial.case.workload, trial.device, trial.check
    assert check is not None
    time_s = window.interval()
    columns: dict[str, Any] = {
        "status": "ok",
        "time_s": time_s.value,
        "launches": window.launches,
        "verification": _verification(check),
        "digest": trial.digest,
        "kernels": trial.kernels,
        "settled_s": window.settling.settled_s if window.settling else None,
        "batches": _batches(window),
        "course": evidence.course,
        "derates": evidence.derates,
        **energy(conditions, window),
        **_named("bandwidth_gb_s", "bandwidth_{}_gb_s", time_s.inverted(work.bytes / 1e9)),
    }
    columns["conditions"] = conditions.as_columns()
    peak_efficiency = None
    if work.flops is not None:
        achieved = time_s.inverted(work.flops / 1e12)
        columns |= _throughput(evidence, achieved, work.flops)
        if columns["power_w"] and not trial.sampler.flush:  # a flushed window's power is the flushes' too
            columns["tflops_per_w"] = achieved.value / columns["power_w"]
        # A rating that the user gave has no datasheet beside it, and is a peak all the same.
        peak = device.rating.datasheet_for(work.dtype).tflops or device.rating.nominal_for(work.dtype).tflops
        peak_efficiency = achieved.scaled(1 / peak) if peak else None
    if evidence.ceiling is not None:
        columns |= _ceiling(evidence.ceiling)
        columns["conditions"] |= evidence.ceiling.conditions
    seen = Observation(
        kind=device.kind,
        check=check,
        changed_batch=trial.changed_batch,
        time_s=time_s,
        middle_s=window.middle_s,
        launch_s=window.launch_s,
        samples_s=window.samples_s,
        settled=evidence.settled,
        peak_efficiency=peak_efficiency,
        conditions=conditions,
        enqueue_share=window.enqueue_share,
        graph_share=None if trial.graph_s is None else trial.graph_s / time_s.value,
    )
    columns["warnings"] = (
        *_corruption(trial),
        *_warnings(time_s, window, evidence.settled),
        *_cpu_warnings(trial.case, device.cache_bytes, conditions),
        *gpu_warnings(conditions.gpu),
        *_energy_warnings(columns),
    )
    return columns | _verdicts(judge(seen))


def _throughput(evidence: Measurement, achieved: Interval, flops: int) -> dict[str, float | None]:
    window, trial = evidence.window, evidence.trial
    spent_s = window.cpu_s
    return {
        **_against_ratings(achieved, trial.device.rating, trial.case.workload.dtype),
        "tflops_median": flops / 1e12 / window.median_s,
        "cpu_time_tflops": flops * window.launches / (spent_s / trial.device.cores) / 1e12
        if spent_s
        else None,
        "graph_tflops": flops / trial.graph_s / 1e12 if trial.graph_s else None,
    }


def _against_ratings(achieved: Interval, rating: Rating, dtype: str) -> dict[str, float]:
    """Throughput, and what it is of nominal and of datasheet, where those are known."""
    columns = _named("tflops", "tflops_{}", achieved)
    nominal, datasheet = rating.nominal_for(dtype).tflops, rating.datasheet_for(dtype).tflops
    if nominal is not None:
        columns |= _named("efficiency", "efficiency_{}", achieved.scaled(1 / nominal))
    if datasheet is not None:
        columns["datasheet_efficiency"] = achieved.value / datasheet
    return columns


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    named = _named("normalized_efficiency", "normalized_efficiency_{}", ceiling.normalized)
    return {"ceiling_tflops": ceiling.tflops, "loss": ceiling.loss, **named}


def energy(conditions: Conditions, window: Window) -> dict[str, Any]:
    """Energy and mean power of the batches, by counter where there is one, else by power readings.

    None where the time is too short for either to be believed.
    """
    nothing = {"energy_j": None, "power_w": None, "energy_integrated_j": None, "energy_method": None}
    spans_s = sum(end - begin for begin, end in window.spans)
    if spans_s < SHORTEST_ENERGY_S or spans_s / _stretches(window) < SHORTEST_ENERGY_SPAN_S:
        return nothing
    course = conditions.gpu.course if conditions.gpu else None
    counted = course.energy_j if course else conditions.energy_j
    integrated = course.energy_integrated_j if course else None
    if counted is None and integrated is None:
        return nothing
    joules = counted if counted is not None else integrated
    return {
        "energy_j": joules,
        "power_w": (joules or 0.0) / spans_s,
        "energy_integrated_j": integrated,
        "energy_method": "counter" if counted is not None else "power readings",
    }


def _stretches(window: Window) -> int:
    """How many stretches without a gap the batches make up."""
    gaps = (after[0] - before[1] for before, after in zip(window.spans, window.spans[1:], strict=False))
    return 1 + sum(gap > SHORTEST_ENERGY_SPAN_S / 10 for gap in gaps)


def _named(value: str, end: str, interval: Interval) -> dict[str, float]:
    return {
        value: interval.value,
        end.format("low"): interval.low,
        # An interval that reaches a time of 0 has no upper end to its throughput; the record says the largest
        # it can hold, and the verdict is `unstable` long before.
        end.format("high"): min(interval.high, 1e9 * interval.value),
    }


def _verdicts(verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    return {"verdict": verdicts[0], "verdicts": verdicts}


def _verification(check: Check) -> Verification:
    error = check.error if math.isfinite(check.error) else None
    return Verification(reference=check.reference, error=error, rule=check.rule, passed=check.passed)


def _batches(window: Window) -> tuple[Batch, ...]:
    origin = window.drawn[0].timing.start_s
    return tuple(
        Batch(
            start_s=each.timing.start_s - origin,
            elapsed_s=each.timing.elapsed_s,
            launches=each.timing.launches,
            round=each.round,
            cpu_s=each.timing.cpu_s,
        )
        for each in window.drawn
    )


def _corruption(trial: CaseRun) -> Iterator[Message]:
    if trial.changed_batch is not None:
        yield message("bits_changed", batch=trial.changed_batch, count=len(trial.drawn))


def _warnings(time_s: Interval, window: Window, settled: bool | None) -> Iterator[Message]:
    """What a reader should know of the sampling, in one message with its numbers and a next step."""
    found = []
    if len(window.drawn) < BATCHES:
        found.append(message("few_batches", count=len(window.drawn), least=BATCHES))
    if time_s.relative_half_width > thresholds().unstable.half_width:
        found.append(message("wide_interval", half_width=time_s.relative_half_width))
    if settled is False:
        found.append(message("not_settled"))
    if settled is None:
        found.append(message("settling_unknown"))
    if found:
        yield message("sampling", found=found)


def _energy_warnings(columns: dict[str, Any]) -> Iterator[Message]:
    counted, integrated = columns["energy_j"], columns["energy_integrated_j"]
    if columns["energy_method"] == "counter" and integrated:
        apart = abs(counted / integrated - 1)
        if apart > ENERGY_DISAGREEMENT:
            yield message("energy_disagrees", counted_j=counted, integrated_j=integrated, apart=apart)


def _cpu_warnings(case: Case, cache_bytes: int | None, conditions: Conditions) -> Iterator[Message]:
    limits = thresholds().contended
    share, resolution = conditions.parallel_share, conditions.resolution
    if share is not None and share < limits.parallel_share:
        yield message("cores_slowed", speed=share)
    if resolution is not None and resolution > limits.steal_share:
        yield message("window_too_short", elapsed_s=conditions.elapsed_s, enough_s=SHORTEST_WINDOW_S)
    work = case.workload
    in_one_set = case.cache == "warm" and (work.flops or 0) < work.bytes
    if in_one_set and cache_bytes is not None and work.bytes < 2 * cache_bytes:
        yield message("fits_cache", size_mib=work.bytes >> 20, cache_mib=cache_bytes >> 20)
