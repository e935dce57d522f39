"""A group's records, from what its processes found together; conditions and ceiling of each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nameplate.device.protocol import MeasuredDevice
from nameplate.engine.case_run import is_compute_bound
from nameplate.engine.ceiling import Ceiling, ceiling_by_clock, ceiling_by_probe, is_bound_by_memory
from nameplate.engine.conditions import Conditions, add_telemetry
from nameplate.engine.group_data import CaseData, GroupData
from nameplate.engine.peak import rate_work
from nameplate.engine.record_of import Measurement, record_failure, record_of
from nameplate.engine.run_to_run import (
    NORMALIZED,
    TIME,
    History,
    Measured,
    estimate_group,
    measure_normalized,
    measure_time,
)
from nameplate.engine.verdict import is_contended
from nameplate.engine.window import Window
from nameplate.record import Record
from nameplate.suite import Case


def make_records(
    name: str,
    cases: Sequence[Case],
    device: MeasuredDevice,
    group: GroupData,
    history: History | None = None,
) -> list[Record]:
    """Return the record of each case of the group `name`, in order; `group` is of all its processes.

    `history` is what is known of the figures' spread; what the group shows is added to it.
    """
    history = History() if history is None else history
    both = [(case, group.cases[case.id]) for case in cases]
    seen = [_see(case, device, group, found) for case, found in both]
    times = estimate_group(TIME, [_time_of(each) for each in seen], history)
    normalized = estimate_group(NORMALIZED, [_normalized_of(each) for each in seen], history)
    records = [
        record_failure(case, device, found, name)
        if each is None or time is None
        else record_of(Measurement(case, device, found, each.conditions, name, time, each.ceiling, share))
        for (case, found), each, time, share in zip(both, seen, times, normalized, strict=True)
    ]
    history.learn(records)
    return records


@dataclass(frozen=True)
class _Seen:
    """A measured case with its conditions and its ceiling."""

    case: Case
    window: Window
    conditions: Conditions
    ceiling: Ceiling | None


def _time_of(seen: _Seen | None) -> Measured | None:
    return None if seen is None else measure_time(seen.case, seen.window)


def _normalized_of(seen: _Seen | None) -> Measured | None:
    return None if seen is None else measure_normalized(seen.case, seen.ceiling)


def _see(case: Case, device: MeasuredDevice, group: GroupData, found: CaseData) -> _Seen | None:
    """Find a measured case's conditions and ceiling; None for one without a figure."""
    if found.window is None or group.conditions is None:
        return None
    before = _without_last_reasons(group.conditions) if case.phase == "burst" else group.conditions
    spans, turns = found.window.spans, found.takes_turns
    conditions = add_telemetry(
        before, group.rows, spans, found.other_spans, takes_turns=turns, led_s=found.led_s
    )
    return _Seen(case, found.window, conditions, _find_ceiling(case, device, group, found, conditions))


def _without_last_reasons(conditions: Conditions) -> Conditions:
    """Ignore the clock-event reasons at the end of the run: a burst was over long before."""
    gpu = conditions.gpu
    if gpu is None:
        return conditions
    after = gpu.after.model_copy(update={"clock_event_reasons": gpu.before.clock_event_reasons})
    return replace(conditions, gpu=replace(gpu, after=after))


def _find_ceiling(
    case: Case, device: MeasuredDevice, group: GroupData, found: CaseData, conditions: Conditions
) -> Ceiling | None:
    """Return the ceiling by the probe of the case's dtype, where there is one, else by the clock.

    None where it isn't known, and for work that the memory bounds.
    """
    work, window = case.workload, found.window
    if work.flops is None or window is None:
        return None
    rating = rate_work(device.rating, work)
    if work.dtype in group.probes and is_compute_bound(work):
        nominal, silicon = rating.nominal_for(work.dtype).tflops, rating.silicon_for(work.dtype)
        probe, idle = group.probes[work.dtype], is_contended(conditions) is False
        return ceiling_by_probe(window, work.flops, probe, nominal, silicon, idle=idle)
    if is_bound_by_memory(work, rating):
        return None
    achieved = window.interval().inverted(work.flops / 1e12)
    return ceiling_by_clock(achieved, rating, work.dtype, conditions.gpu)
