"""Cases in, records out: in groups that take turns, or one case from idle for its burst figure."""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.device.protocol import Device
from nameplate.engine.case_run import MEMORY_SHARE, memory_needed
from nameplate.engine.ceiling import Ceilings
from nameplate.engine.group import Allowance, Group
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import record_without_figures
from nameplate.engine.soak import Soak, begins_from_idle
from nameplate.record import Record
from nameplate.suite import Case

__all__ = ["Allowance", "measure_case", "measure_group", "record_without_figures"]


def measure_case(case: Case, device: Device, pilots: Pilots, allowance: Allowance) -> Record:
    """Measure one case by itself; see `measure_group`."""
    return measure_group([case], device, pilots, allowance)[0]


def measure_group(
    cases: Sequence[Case],
    device: Device,
    pilots: Pilots,
    allowance: Allowance,
    ceilings: Ceilings | None = None,
    name: str = "1",
    busy_s: float = 0.0,
) -> list[Record]:
    """Measure `cases` in turn on `device` and return their records in order, whatever happens.

    A case that can't run here, or doesn't fit the allowance, is `skipped` with the reason; one that breaks is
    `failed` with its error, and the others go on. Cases that don't fit the memory together take several
    sittings. A group with a case of phase `burst` is measured continuously from idle: `onset`. `busy_s` is
    how long the device has been at work before. KeyboardInterrupt passes through, with no record.
    """
    ceilings = ceilings or Ceilings(device, pilots.seed)
    if begins_from_idle(cases):
        return Soak(name, cases, device, pilots, ceilings, allowance).measure()
    records: list[Record] = []
    begin, weight = device.clock(), sum(case.weight for case in cases)
    sittings = _sittings(cases, device)
    for number, sitting in enumerate(sittings):
        mine = sum(case.weight for case in sitting)
        spent_s = device.clock() - begin
        share_s = max(allowance.share_s - spent_s, 0.0) * mine / weight
        weight -= mine
        label = name if len(sittings) == 1 else f"{name}.{number + 1}"
        own = Allowance(share_s, allowance.limit_s - spent_s)
        at_work_s = busy_s + spent_s
        records += Group(label, sitting, device, pilots, ceilings, own, at_work_s).measure()
    return records


def _sittings(cases: Sequence[Case], device: Device) -> list[list[Case]]:
    """Consecutive cases that fit the memory together."""
    sittings: list[list[Case]] = []
    room = 0.0
    for case in cases:
        needed = memory_needed(case, device)
        if not sittings or needed > room:
            sittings.append([])
            room = float("inf") if device.memory_bytes is None else MEMORY_SHARE * device.memory_bytes
        sittings[-1].append(case)
        room -= needed
    return sittings
