"""The warnings of a record: what a reader should know, each with a number and a next step."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nameplate.base.messages import Message, Reason, message
from nameplate.device.protocol import MeasuredDevice
from nameplate.engine.case_telemetry import GpuTelemetry
from nameplate.engine.conditions import Conditions, GpuConditions
from nameplate.engine.group_data import CaseData
from nameplate.engine.thresholds import Thresholds, thresholds
from nameplate.engine.verdict import has_company
from nameplate.engine.window import SHORTEST_WINDOW_S, Window
from nameplate.stats.estimate import BATCHES, FEWEST_BATCHES
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.telemetry.gpu import POLICIES, GpuDifference
from nameplate.workload import Workload

ENERGY_DISAGREEMENT = 0.1
# Figures of a case that the readings during its batches give, and why they may not.
_CREDITED = ("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_w")
_OUR_REASONS = ("too_few_readings", "implausible")
# No product can do more than the arithmetic peak; what lies above its interval by more has a wrong peak.
ABOVE_SILICON = 1.02
_HELD_BY = {
    "thermal": "clock_held_by_thermal",
    "software_thermal": "clock_held_by_software_thermal",
    "hardware_thermal": "clock_held_by_hardware_thermal",
    "power_brake": "clock_held_by_power_brake",
}


def find_warnings(
    case: Case,
    device: MeasuredDevice,
    found: CaseData,
    conditions: Conditions,
    time_s: Interval,
    is_settled: bool | None,
    energy_j: float | None,
    energy_integrated_j: float | None,
) -> Iterator[Message]:
    """Return every warning of a measured case, in the order a record holds them."""
    window = found.window
    assert window is not None
    if found.changed_batch is not None:
        yield message("bits_changed", batch=found.changed_batch, count=len(found.digests))
    if not window.is_told:
        yield message("burst_not_told", count=FEWEST_BATCHES)
    yield from _sampling_warnings(window, time_s, is_settled)
    yield from _cpu_warnings(case, device, conditions)
    yield from _silicon_warnings(case.workload, device, window)
    if found.host.no_graph is not None:
        yield found.host.no_graph
    is_slice = bool(getattr(device.identity, "mig_slice", None))
    yield from gpu_warnings(conditions.gpu, is_burst=case.phase == "burst", is_slice=is_slice)
    yield from _energy_warnings(energy_j, energy_integrated_j)


def _sampling_warnings(window: Window, time_s: Interval, is_settled: bool | None) -> Iterator[Message]:
    """Everything about the sampling, in one message; `time_s` is without what runs differ by."""
    half_width = time_s.relative_half_width
    found = []
    # Of several processes, what they differ by counts, and not how many batches they have.
    if len(window.batches) < BATCHES and len(set(window.process)) == 1:
        found.append(message("few_batches", count=len(window.batches), least=BATCHES))
    if half_width > thresholds().unstable.half_width:
        # As it is shown: of a figure, which is the inverse of a time.
        inverse, processes = time_s.inverted(1.0), len(set(window.process))
        shown = inverse.relative_half_width if math.isfinite(inverse.high) else half_width
        if processes == 1:
            found.append(message("wide_interval", half_width=shown))
        else:
            found.append(message("wide_by_processes", count=processes, half_width=shown))
    if is_settled is False:
        lacking_s = None if window.settling is None else window.settling.lacking_s
        found.append(
            message("not_settled") if lacking_s is None else message("still_settling", lacking_s=lacking_s)
        )
    if is_settled is None and window.is_told:
        found.append(message("settling_unknown"))
    if found:
        yield message("sampling", found=found)


def _cpu_warnings(case: Case, device: MeasuredDevice, conditions: Conditions) -> Iterator[Message]:
    limits = thresholds().contended
    share, resolution = conditions.parallel_share, conditions.resolution
    if share is not None and share < limits.parallel_share:
        yield message("cores_slowed", speed=share)
    if resolution is not None and resolution > limits.steal_share:
        yield message("window_too_short", elapsed_s=conditions.elapsed_s, enough_s=SHORTEST_WINDOW_S)
    work, cache_bytes = case.workload, device.cache_bytes
    # What is to lie in a cache has named it.
    reuses_memory = case.cache == "warm" and (work.flops or 0) < work.bytes and "level" not in work.dimensions
    if reuses_memory and cache_bytes is not None and work.bytes < 2 * cache_bytes:
        yield message("fits_cache", size_mib=work.bytes >> 20, cache_mib=cache_bytes >> 20)


def _silicon_warnings(work: Workload, device: MeasuredDevice, window: Window) -> Iterator[Message]:
    peak = device.rating.silicon_for(work.dtype)
    if peak is None or work.flops is None:
        return
    tflops = work.flops * window.launches / window.elapsed_s / 1e12
    if tflops > ABOVE_SILICON * peak.tflops_high:
        yield message("above_silicon", share=tflops / peak.tflops - 1, tflops=peak.tflops)


def gpu_warnings(
    gpu: GpuConditions | None,
    limits: Thresholds | None = None,
    *,
    is_burst: bool = False,
    is_slice: bool = False,
) -> Iterator[Message]:
    """Return warnings of memory errors, other processes, throttling, and telemetry that is missing.

    `is_slice`: the readings are those of a MIG slice.
    """
    if gpu is None:
        return
    if gpu.change.ecc_errors:
        yield message("memory_errors", count=gpu.change.ecc_errors)
    yield from _fault_warnings(gpu.change)
    limits, held = limits or thresholds(), False
    yield from _company_warnings(gpu, limits)
    for policy in POLICIES:
        share = gpu.share(policy)
        limit = limits.power_capped.share if policy == "power" else limits.throttled.share
        if share is not None and share > limit:
            held = True
            yield message(_name_held_by(policy, is_burst=is_burst), share=min(share, 1.0))
    if held and is_slice:
        yield message("slice_counters_shared")
    yield from _missing_telemetry(gpu)


def _fault_warnings(change: GpuDifference) -> Iterator[Message]:
    if change.xid_errors:
        code = "xid_errors" if change.card_xids else "program_xid_errors"
        yield message(code, xids=", ".join(map(str, dict.fromkeys(change.xid_errors))))
    if change.remapped_rows:
        yield message("rows_remapped", count=change.remapped_rows)
    if change.has_link_faults:
        recoveries, replays = change.nvlink_recoveries, change.nvlink_replays
        yield message("nvlink_errors", recoveries=recoveries, replays=replays, crc=change.nvlink_crc_errors)


def _company_warnings(gpu: GpuConditions, limits: Thresholds) -> Iterator[Message]:
    """Say who else used the GPU, or by what that was judged where process ids don't tell."""
    if others := gpu.count_other_processes():
        yield message("other_processes" if others > 1 else "other_process", count=others)
    if gpu.change.other_processes is not None or "*" in gpu.before.absent or "*" in gpu.after.absent:
        return
    held_gib, busy, limit = gpu.foreign_memory_gib, gpu.idle_utilization, limits.contended
    if held_gib is not None and held_gib > limit.foreign_memory_gib:
        yield message("memory_of_others", gib=held_gib)
    if busy is not None and busy > limit.idle_utilization:
        yield message("busy_while_idle", share=busy)
    if has_company(gpu, limits) is None:
        yield message("processes_unknown", why=gpu.why_absent("processes") or message("pids_differ"))
    elif not has_company(gpu, limits):
        by = [
            None if held_gib is None else message("by_memory", gib=held_gib),
            None if busy is None else message("by_utilization", share=busy),
            message("by_count") if gpu.is_own_process_listed else None,
        ]
        yield message("company_judged", by=[each for each in by if each is not None])


def _name_held_by(policy: str, *, is_burst: bool) -> str:
    if policy == "power":
        return "burst_held_by_power" if is_burst else "clock_held_by_power"
    return _HELD_BY[policy]


def _missing_telemetry(gpu: GpuConditions) -> Iterator[Message]:
    """Why a record can't be clean, where telemetry is missing."""
    all_missing = gpu.before.absent.get("*") or gpu.after.absent.get("*")
    if all_missing:
        yield message("gpu_not_judged", why=all_missing)
        return
    yield from _uncredited_telemetry(gpu.telemetry)
    if gpu.share("power") is None:
        yield message("power_throttling_uncounted", why=_why_uncounted(gpu, "power"))
    if None in gpu.heat_shares():
        yield message("thermal_throttling_uncounted", why=_why_uncounted(gpu, "thermal"))


def _uncredited_telemetry(telemetry: GpuTelemetry | None) -> Iterator[Message]:
    """Which figures of the readings the case lacks, for a reason of ours: once a reason.

    Not those that the driver doesn't have: `bench devices` lists them.
    """
    if telemetry is None:
        return
    figures: dict[Message, list[str]] = {}
    for figure, why in telemetry.absent.items():
        if figure in _CREDITED and isinstance(why, Message) and why.code in _OUR_REASONS:
            figures.setdefault(why, []).append(figure)
    for why, named in figures.items():
        yield message("not_credited", figures=", ".join(named), why=why)


def _why_uncounted(gpu: GpuConditions, policy: str) -> Reason:
    return gpu.why_no_share(policy) or message("empty_window")


def _energy_warnings(energy_j: float | None, integrated_j: float | None) -> Iterator[Message]:
    if energy_j is not None and integrated_j:
        apart = abs(energy_j / integrated_j - 1)
        if apart > ENERGY_DISAGREEMENT:
            yield message("energy_disagrees", counted_j=energy_j, integrated_j=integrated_j, apart=apart)
