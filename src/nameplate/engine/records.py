"""A group's records, from what its processes found together; conditions and ceiling of each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nameplate.device.protocol import MeasuredDevice
from nameplate.engine.case_run import is_compute_bound
from nameplate.engine.ceiling import Ceiling, ceiling_by_clock, ceiling_by_probe, is_bound_by_memory
from nameplate.engine.conditions import Conditions, add_telemetry
from nameplate.engine.group_data import CaseData, GroupData
from nameplate.engine.record_of import Measurement, record_failure, record_of
from nameplate.record import Record
from nameplate.suite import Case


def make_records(name: str, cases: Sequence[Case], device: MeasuredDevice, group: GroupData) -> list[Record]:
    """Return the record of each case of the group `name`, in order; `group` is of all its processes."""
    return [
        _make_record(name, case, device, group, found) for case, found in zip(cases, group.cases, strict=True)
    ]


def _make_record(name: str, case: Case, device: MeasuredDevice, group: GroupData, found: CaseData) -> Record:
    if found.window is None or group.conditions is None:
        return record_failure(case, device, found, name)
    before = _without_last_reasons(group.conditions) if case.phase == "burst" else group.conditions
    spans, turns = found.window.spans, found.takes_turns
    conditions = add_telemetry(before, group.rows, spans, found.other_spans, takes_turns=turns)
    ceiling = _find_ceiling(case, device, group, found, conditions)
    return record_of(Measurement(case, device, found, conditions, name, ceiling))


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
    if work.dtype in group.probes and is_compute_bound(work):
        nominal, silicon = device.rating.nominal_for(work.dtype).tflops, device.rating.silicon_for(work.dtype)
        return ceiling_by_probe(window, work.flops, group.probes[work.dtype], nominal, silicon)
    if is_bound_by_memory(work, device.rating):
        return None
    achieved = window.interval().inverted(work.flops / 1e12)
    return ceiling_by_clock(achieved, device.rating, work.dtype, conditions.gpu)
