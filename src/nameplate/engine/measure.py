"""Measures one case: pilot, set-up, warm-up, batches, verification, verdict; returns its record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nameplate.device.interface import Device, Timing
from nameplate.engine.conditions import Conditions, GpuConditions, between
from nameplate.engine.gpu_warnings import gpu_warnings
from nameplate.engine.pilot import Pilots, Prediction
from nameplate.engine.sampler import SHORTEST_WINDOW_S, Sampler
from nameplate.engine.verdict import Observation, judge, thresholds
from nameplate.errors import Unsupported
from nameplate.record import Batch, Record, Status, Verdict, Verification
from nameplate.specs.rating import Rating
from nameplate.stats import BATCHES, FEWEST_BATCHES, Interval
from nameplate.suite import Case
from nameplate.workload import Check, Workload

_WARM_UP_SHARE = 0.1
_LONGEST_WARM_UP_S = 1.0
_MEMORY_SHARE = 0.8
# Over a shorter window the driver's energy counter, which moves in steps of its own, and its power readings
# tell two things (187 J against 327 J were seen): neither is then a figure, and the record has none.
SHORTEST_ENERGY_S = 5.0


@dataclass(frozen=True)
class Allowance:
    """Seconds a case may take: `share_s` is its fair part, `limit_s` what can't be exceeded at all."""

    share_s: float
    limit_s: float


def measure_case(case: Case, device: Device, pilots: Pilots, allowance: Allowance) -> Record:
    """Measure `case` on `device` and return its record, whatever happens.

    A case that can't run here, or doesn't fit the allowance, is `skipped` with the reason; one that breaks is
    `failed` with its error. KeyboardInterrupt passes through, with no record.
    """
    begin = device.clock()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        facts = _facts(case, device) | {"started": started}
        result = _measured(case, device, pilots, allowance)
        return Record.model_validate(facts | result | {"cost_s": device.clock() - begin})
    except Unsupported as reason:
        record = unmeasured(case, device, str(reason))
    except Exception as error:  # a workload or driver may fail in any way; the run and its records go on
        record = unmeasured(case, device, _sentence(error), "failed")
    return record.model_copy(update={"started": started, "cost_s": device.clock() - begin})


def unmeasured(case: Case, device: Device, reason: str, status: Status = "skipped") -> Record:
    """The record of a case without figures: skipped before anything was tried, or broken off."""
    result = {"status": status, "reason": reason, **_verdicts(("unknown",))}
    try:
        return Record.model_validate(_facts(case, device) | result)
    except ValueError as error:  # the declaration itself is what can't be recorded
        declared: dict[str, Any] = {"dimensions": {}, "flops": None, "bytes": None, "convention": None}
        result |= {"status": "failed", "reason": f"its declaration can't be recorded: {_sentence(error)}"}
        return Record.model_validate(_facts(case, device) | declared | result)


def _sentence(error: Exception) -> str:
    # An error may quote a file name that isn't text; a record is.
    text = str(error).encode("utf-8", "backslashreplace").decode().strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _facts(case: Case, device: Device) -> dict[str, Any]:
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


def _measured(case: Case, device: Device, pilots: Pilots, allowance: Allowance) -> dict[str, Any]:
    begin = device.clock()

    def left_s() -> float:
        return allowance.limit_s - (device.clock() - begin)

    copies = buffer_sets(case, device)
    _refuse_impossible(case.workload, device, copies)
    predicted = pilots.predict(case.workload, case.fill)
    _refuse_too_long(predicted, left_s())
    prepared = case.workload.prepare(device.torch_device, fill=case.fill, seed=pilots.seed, copies=copies)
    with prepared.numerics():
        prepared.compute_reference()
        device.synchronize()
        sampler = Sampler(device, prepared.launches, flush=case.cache == "flushed")
        cost_s = sampler.first_launches(left_s(), None if predicted is None else predicted.launch_s)
        _refuse_too_long(Prediction(0.0, cost_s), left_s(), FEWEST_BATCHES)
        warm_up_s = min(_WARM_UP_SHARE * allowance.share_s, _LONGEST_WARM_UP_S)
        if cost_s < warm_up_s:  # a longer one has warmed everything up by itself
            sampler.warm_up(warm_up_s)
        window_s = _window(allowance, device.clock() - begin)
        sampler.size(window_s)
        before = device.counters()
        sampler.fill_window(window_s)
        conditions = between(before, device.counters(), device.cores)
        device.synchronize()
        check = prepared.check()
    return _columns(case.workload, device, sampler, conditions, check)


def _window(allowance: Allowance, spent_s: float) -> float:
    """Seconds to draw batches for: what is left of the share, but enough to judge contention by."""
    return min(max(allowance.share_s - spent_s, SHORTEST_WINDOW_S), max(allowance.limit_s - spent_s, 0.0))


def buffer_sets(case: Case, device: Device) -> int:
    """How many to allocate: 1, or for `rotating` enough that together they are twice the cache.

    Raises Unsupported where the cache state needs the cache's size and it isn't known.
    """
    if case.cache == "warm":
        return 1
    if device.cache_bytes is None:
        raise Unsupported(
            f"cache={case.cache} needs the size of the last-level cache, which isn't known here"
        )
    if case.cache == "flushed":
        return 1
    return max(2, math.ceil(2 * device.cache_bytes / case.workload.bytes))


def _refuse_impossible(workload: Workload, device: Device, copies: int) -> None:
    reason = workload.unsupported(device.torch_device)
    if reason is not None:
        raise Unsupported(reason)
    needed = workload.resident_bytes * copies
    if device.memory_bytes is not None and needed > _MEMORY_SHARE * device.memory_bytes:
        raise Unsupported(
            f"needs about {needed / 1e9:.1f} GB; this device has {device.memory_bytes / 1e9:.1f} GB"
        )


def _refuse_too_long(predicted: Prediction | None, left_s: float, launches: int = FEWEST_BATCHES + 1) -> None:
    """Raise Unsupported where the fewest launches that carry an interval, and the first, don't fit."""
    if predicted is None:
        return
    needed_s = predicted.setup_s + launches * predicted.launch_s
    if needed_s > left_s:
        raise Unsupported(
            f"needs about {needed_s:.1f} s ({predicted.launch_s:.3g} s a launch); "
            f"{max(left_s, 0.0):.1f} s of the budget are left; try a larger --budget"
        )


def _columns(
    work: Workload, device: Device, sampler: Sampler, conditions: Conditions, check: Check
) -> dict[str, Any]:
    """Divide: every figure of an `ok` record from its batches."""
    time_s = sampler.interval()
    median_s = float(np.median(np.concatenate([batch.sample_s for batch in sampler.batches])))
    columns: dict[str, Any] = {
        "status": "ok",
        "time_s": time_s.value,
        "launches": sum(batch.launches for batch in sampler.batches),
        "verification": _verification(check),
        "conditions": conditions.as_columns(),
        "batches": _batches(sampler.batches),
        "warnings": (
            *_warnings(time_s, len(sampler.batches)),
            *_cpu_warnings(work, device, conditions),
            *gpu_warnings(conditions.gpu),
        ),
        **_energy(conditions.gpu),
    }
    columns |= _named("bandwidth_gb_s", "bandwidth_{}_gb_s", time_s.inverted(work.bytes / 1e9))
    peak_efficiency = None
    if work.flops is not None:
        achieved = time_s.inverted(work.flops / 1e12)
        columns |= _against_ratings(achieved, device.rating, work.dtype)
        columns["tflops_median"] = work.flops / 1e12 / (median_s / sampler.per_sample)
        power_w = columns["power_w"]
        if power_w and not sampler.flush:  # the power of a flushed window is the flushes' too
            columns["tflops_per_w"] = achieved.value / power_w
        # A rating that the user gave has no datasheet beside it, and is a peak all the same.
        peak = device.rating.datasheet_for(work.dtype).tflops or device.rating.nominal_for(work.dtype).tflops
        peak_efficiency = achieved.scaled(1 / peak) if peak else None
    seen = Observation(
        device.kind,
        check,
        time_s,
        _halves(sampler.batches),
        peak_efficiency,
        conditions,
        _enqueue_share(sampler.batches),
    )
    return columns | _verdicts(judge(seen))


def _against_ratings(achieved: Interval, rating: Rating, dtype: str) -> dict[str, float]:
    """Throughput, and what it is of nominal and of datasheet, where those are known."""
    columns = _named("tflops", "tflops_{}", achieved)
    nominal, datasheet = rating.nominal_for(dtype).tflops, rating.datasheet_for(dtype).tflops
    if nominal is not None:
        columns |= _named("efficiency", "efficiency_{}", achieved.scaled(1 / nominal))
    if datasheet is not None:
        columns["datasheet_efficiency"] = achieved.value / datasheet
    return columns


def _energy(gpu: GpuConditions | None) -> dict[str, float | None]:
    """Energy and mean power of the window by the driver's counter; None where it isn't to be believed."""
    if gpu is None or gpu.change.elapsed_s < SHORTEST_ENERGY_S:
        return {"energy_j": None, "power_w": None}
    return {"energy_j": gpu.change.energy_j, "power_w": gpu.change.mean_power_w}


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


def _batches(timings: Sequence[Timing]) -> tuple[Batch, ...]:
    origin = timings[0].start_s
    return tuple(
        Batch(start_s=timing.start_s - origin, elapsed_s=timing.elapsed_s, launches=timing.launches)
        for timing in timings
    )


def _halves(timings: Sequence[Timing]) -> tuple[float, float]:
    """Seconds a launch in the first and the second half of the window."""
    middle = len(timings) // 2
    first, second = (
        sum(timing.elapsed_s for timing in half) / sum(timing.launches for timing in half)
        for half in (timings[:middle], timings[middle:])
    )
    return first, second


def _enqueue_share(timings: Sequence[Timing]) -> float | None:
    enqueued = [timing.enqueue_s for timing in timings if timing.enqueue_s is not None]
    return sum(enqueued) / sum(timing.elapsed_s for timing in timings) if enqueued else None


def _warnings(time_s: Interval, batches: int) -> Iterator[str]:
    """What a reader should know of the sampling, in one sentence with its numbers and a next step."""
    found = []
    if batches < BATCHES:
        found.append(f"{batches} batches, fewer than {BATCHES}: the interval is Student's")
    if time_s.relative_half_width > thresholds().unstable.half_width:
        found.append(f"the interval is ±{time_s.relative_half_width:.1%} of the figure")
    if found:
        yield f"{'; '.join(found)}; try a larger --budget"


def _cpu_warnings(work: Workload, device: Device, conditions: Conditions) -> Iterator[str]:
    limits = thresholds().contended
    share, resolution = conditions.parallel_share, conditions.resolution
    if share is not None and share < limits.parallel_share:
        yield f"the cores ran at {share:.2f} of their usual speed side by side: run again in a quieter hour"
    if resolution is not None and resolution > limits.steal_share:
        yield (
            f"a window of {conditions.elapsed_s:.2f} s is too short to judge contention by "
            f"({SHORTEST_WINDOW_S:g} s would do); try a larger --budget"
        )
    bound_by_memory = (work.flops or 0) < work.bytes
    if bound_by_memory and device.cache_bytes is not None and work.bytes < 2 * device.cache_bytes:
        yield (
            f"its {work.bytes >> 20} MiB may stay in a last-level cache of {device.cache_bytes >> 20} MiB: "
            "not the memory's bandwidth alone; standard has larger ones"
        )
