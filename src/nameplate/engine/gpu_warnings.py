"""What a record says of what its GPU went through: each warning with a number and a next step."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.base.messages import Message, Reason, message
from nameplate.engine.conditions import GpuConditions
from nameplate.engine.verdict import Thresholds, thresholds
from nameplate.telemetry.gpu import POLICIES

_HELD = {
    "power": "clock_held_by_power",
    "thermal": "clock_held_by_thermal",
    "software_thermal": "clock_held_by_software_thermal",
    "hardware_thermal": "clock_held_by_hardware_thermal",
    "power_brake": "clock_held_by_power_brake",
}


def gpu_warnings(gpu: GpuConditions | None, limits: Thresholds | None = None) -> tuple[Message, ...]:
    """Warnings of one window: memory errors, company, throttling, and evidence that couldn't be read."""
    if gpu is None:
        return ()
    return (*_errors(gpu), *_company(gpu), *_throttling(gpu, limits or thresholds()), *_missing(gpu))


def _errors(gpu: GpuConditions) -> Iterator[Message]:
    if gpu.change.ecc_errors:
        yield message("memory_errors", count=gpu.change.ecc_errors)


def _company(gpu: GpuConditions) -> Iterator[Message]:
    if others := gpu.others():
        yield message("other_processes" if others > 1 else "other_process", count=others)


def _throttling(gpu: GpuConditions, limits: Thresholds) -> Iterator[Message]:
    for policy in POLICIES:
        share = gpu.share(policy)
        limit = limits.throttled.power_share if policy == "power" else limits.throttled.slowdown_share
        if share is not None and share > limit:
            yield message(_HELD[policy], share=min(share, 1.0))


def _missing(gpu: GpuConditions) -> Iterator[Message]:
    """Why a record can't be clean, where it is for want of evidence."""
    nothing = gpu.before.absent.get("*") or gpu.after.absent.get("*")
    if nothing:
        yield message("gpu_not_judged", why=nothing)
        return
    if gpu.change.other_processes is None:
        yield message("processes_unknown", why=gpu.why_absent("processes") or message("pids_differ"))
    if gpu.share("power") is None:
        yield message("power_throttling_uncounted", why=_why_uncounted(gpu, "power"))
    if None in gpu.heat_shares():
        yield message("thermal_throttling_uncounted", why=_why_uncounted(gpu, "thermal"))


def _why_uncounted(gpu: GpuConditions, policy: str) -> Reason:
    return gpu.change.absent.get(f"{policy}_throttle_s", message("empty_window"))
