"""What a record says in words of what its GPU went through: each with a number and a next step."""

from __future__ import annotations

from collections.abc import Iterator

from nameplate.engine.conditions import GpuConditions
from nameplate.engine.verdict import Thresholds, thresholds
from nameplate.telemetry.gpu import POLICIES

_NEXT = {
    "power": "this figure is a sustained one, at the power limit",
    "thermal": "check its airflow and its neighbours' heat",
    "software_thermal": "check its airflow and its neighbours' heat",
    "hardware_thermal": "check its cooler: this is the last protection before it shuts down",
    "power_brake": "check the server's power supplies and its power cap",
}


def gpu_warnings(gpu: GpuConditions | None, limits: Thresholds | None = None) -> tuple[str, ...]:
    """Warnings of one window: memory errors, company, throttling, and evidence that couldn't be read."""
    if gpu is None:
        return ()
    return (*_errors(gpu), *_company(gpu), *_throttling(gpu, limits or thresholds()), *_missing(gpu))


def _errors(gpu: GpuConditions) -> Iterator[str]:
    if gpu.change.ecc_errors:
        yield (
            f"{gpu.change.ecc_errors} uncorrectable memory errors during the window: the result can't be "
            "trusted; see nvidia-smi -q -d ECC, and reset the GPU"
        )


def _company(gpu: GpuConditions) -> Iterator[str]:
    if others := gpu.others():
        yield f"{others} other process{'es' if others > 1 else ''} on the GPU meanwhile: end them, or wait"


def _throttling(gpu: GpuConditions, limits: Thresholds) -> Iterator[str]:
    for policy in POLICIES:
        share = gpu.share(policy)
        limit = limits.throttled.power_share if policy == "power" else limits.throttled.slowdown_share
        if share is not None and share > limit:
            yield (
                f"the clock was held down for {min(share, 1.0):.0%} of the window "
                f"({policy.replace('_', ' ')}): {_NEXT[policy]}"
            )


def _missing(gpu: GpuConditions) -> Iterator[str]:
    """Why a record can't be clean, where it is for want of evidence."""
    nothing = gpu.before.absent.get("*") or gpu.after.absent.get("*")
    if nothing:
        yield f"throttling and other processes can't be judged: {nothing}"
        return
    if gpu.change.other_processes is None:
        reason = gpu.why_absent("processes") or (
            "process ids here aren't the driver's own; in a container, share the host's (--pid=host)"
        )
        yield f"other processes on the GPU can't be told: {reason}"
    for policy, shares in (("power", (gpu.share("power"),)), ("thermal", gpu.heat_shares())):
        if None in shares:
            reason = gpu.change.absent.get(f"{policy}_throttle_s", "the window has no length")
            yield f"throttling ({policy}) wasn't counted: {reason}"
