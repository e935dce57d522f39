"""Cases in, records out: where the engine is entered."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nameplate.device.protocol import Device
from nameplate.engine.case_run import MEMORY_SHARE, OnStep, memory_needed, tell_nobody
from nameplate.engine.ceiling import Ceilings
from nameplate.engine.group import Allowance
from nameplate.engine.pilot import Pilots
from nameplate.engine.rounds import Rounds
from nameplate.engine.soak import Soak, is_soak
from nameplate.record import Record
from nameplate.suite import Case


def measure_group(
    cases: Sequence[Case],
    device: Device,
    pilots: Pilots,
    allowance: Allowance,
    ceilings: Ceilings | None = None,
    name: str = "1",
    busy_s: float = 0.0,
    on_step: OnStep = tell_nobody,
) -> list[Record]:
    """Measure `cases` on `device`, in turn or as a soak, and return their records in order.

    There is a record for each case whatever happens: a case that can't run here or doesn't fit the allowance
    is `skipped` with the reason; one that raises an error is `failed`, and the others go on. Cases that don't
    fit the memory together are measured in several memory batches. A group with a case of phase `burst` is a
    soak. `busy_s` is how long the device has been at work before; `on_step` is told of every step.
    KeyboardInterrupt passes through.
    """
    ceilings = ceilings or Ceilings(device, pilots.seed)
    if is_soak(cases):
        return Soak(name, cases, device, pilots, ceilings, allowance, busy_s, on_step).measure()
    records: list[Record] = []
    begin_s, weight = device.clock(), sum(case.weight for case in cases)
    batches = _split_by_memory(cases, device)
    for number, batch in enumerate(batches, 1):
        batch_weight = sum(case.weight for case in batch)
        spent_s = device.clock() - begin_s
        share_s = max(allowance.share_s - spent_s, 0.0) * batch_weight / weight
        weight -= batch_weight
        label = name if len(batches) == 1 else f"{name}.{number}"
        rest = Allowance(share_s, allowance.limit_s - spent_s)
        busy = busy_s + spent_s
        records += Rounds(label, batch, device, pilots, ceilings, rest, busy, on_step).measure()
    return records


def _split_by_memory(cases: Sequence[Case], device: Device) -> list[list[Case]]:
    """Split into memory batches: consecutive cases that fit the memory together."""
    batches: list[list[Case]] = []
    room = 0.0
    for case in cases:
        needed = memory_needed(case, device)
        if not batches or needed > room:
            batches.append([])
            room = math.inf if device.memory_bytes is None else MEMORY_SHARE * device.memory_bytes
        batches[-1].append(case)
        room -= needed
    return batches
