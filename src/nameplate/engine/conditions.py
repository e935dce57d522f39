"""What went on around a window, from counters before and after it."""

from __future__ import annotations

from dataclasses import dataclass

from nameplate.device.interface import Counters
from nameplate.telemetry.gpu import POLICIES, GpuDifference, GpuReading, difference


@dataclass(frozen=True)
class GpuConditions:
    """A GPU before and after the window, and what its driver counted meanwhile.

    Both readings are taken while nothing runs: a reason seen in them was still there, one that isn't may
    have been; what held during the window only the counters tell.
    """

    before: GpuReading
    after: GpuReading
    change: GpuDifference

    def share(self, policy: str) -> float | None:
        """The share of the window that a policy held the clock down for; None: not counted here."""
        held_s = self.change.throttle_s[policy]
        if held_s is None or self.change.elapsed_s <= 0:
            return None
        return held_s / self.change.elapsed_s

    def heat_shares(self) -> tuple[float | None, ...]:
        """Shares held by what slows a clock beside the power limit; None among them: heat wasn't counted.

        Newer drivers count software, hardware and power brake apart, older ones heat alone and in one.
        """
        whole, apart = self.share("thermal"), (self.share("software_thermal"), self.share("hardware_thermal"))
        known = tuple(each for each in (whole, *apart, self.share("power_brake")) if each is not None)
        return known if whole is not None or None not in apart else (*known, None)

    def others(self) -> int | None:
        """The most processes of others seen at either end; None where none may have been, or some."""
        if not self.change.other_processes:
            return None if self.change.other_processes is None else 0
        accused = [one for one in (self.before, self.after) if one.other_processes]
        return max(len(one.processes or ()) for one in accused)

    def why_absent(self, figure: str) -> str | None:
        """Why a figure of the readings is missing at one end at least; None where it isn't."""
        return self.before.why_absent(figure) or self.after.why_absent(figure)

    def as_columns(self) -> dict[str, float | str | None]:
        """The figures by name; `gpu_throttle_reasons` is `none`, or names with spaces between them."""
        reasons = self.change.throttle_reasons
        return {
            "gpu_sm_clock_before_mhz": self.before.sm_clock_mhz,
            "gpu_sm_clock_after_mhz": self.after.sm_clock_mhz,
            "gpu_memory_clock_after_mhz": self.after.memory_clock_mhz,
            "gpu_temperature_before_c": self.before.temperature_c,
            "gpu_temperature_after_c": self.after.temperature_c,
            "gpu_memory_temperature_after_c": self.after.memory_temperature_c,
            "gpu_power_before_w": self.before.power_w,
            "gpu_power_after_w": self.after.power_w,
            "gpu_throttle_reasons": None if reasons is None else " ".join(reasons) or "none",
            **{f"gpu_{policy}_throttle_s": self.change.throttle_s[policy] for policy in POLICIES},
            "gpu_other_processes": self.others(),
            "gpu_ecc_errors": self.change.ecc_errors,
            "gpu_pcie_replays": self.change.pcie_replays,
            "gpu_pcie_generation_after": self.after.pcie_generation,
            "gpu_pcie_width_after": self.after.pcie_width,
        }


@dataclass(frozen=True)
class Conditions:
    """Shares of the cores this device may use, over the window. None: the system doesn't tell.

    `resolution` is the least share that the kernel's counting steps let one see in this window.
    `parallel_share` is the lower one of before and after. `gpu` is None on a device that isn't one.
    """

    elapsed_s: float
    own_share: float | None = None
    foreign_share: float | None = None
    steal_share: float | None = None
    resolution: float | None = None
    parallel_share: float | None = None
    gpu: GpuConditions | None = None

    def as_columns(self) -> dict[str, float | str | None]:
        """The figures by name, as a record keeps them."""
        return {
            "elapsed_s": self.elapsed_s,
            "own_cpu_share": self.own_share,
            "foreign_cpu_share": self.foreign_share,
            "steal_share": self.steal_share,
            "cpu_share_resolution": self.resolution,
            "parallel_share": self.parallel_share,
            **({} if self.gpu is None else self.gpu.as_columns()),
        }


def between(before: Counters, after: Counters, cores: float) -> Conditions:
    """Turn two readings into shares of `cores` over the time between them."""
    elapsed_s = after.at_s - before.at_s
    gpu = _gpu(before.gpu, after.gpu)
    if elapsed_s <= 0:
        return Conditions(elapsed_s, gpu=gpu)
    room = elapsed_s * cores
    own = _difference(before.process_cpu_s, after.process_cpu_s)
    busy = _difference(before.busy_cpu_s, after.busy_cpu_s)
    steal = _difference(before.steal_s, after.steal_s)
    foreign = None if own is None or busy is None else max(busy - own, 0.0)
    return Conditions(
        elapsed_s,
        None if own is None else own / room,
        None if foreign is None else foreign / room,
        None if steal is None else steal / room,
        # Each core's total may be a step off at either end.
        None if after.tick_s is None else 2 * after.tick_s * cores / room,
        _lower(before.parallel_share, after.parallel_share),
        gpu,
    )


def _gpu(before: GpuReading | None, after: GpuReading | None) -> GpuConditions | None:
    if before is None or after is None:
        return None
    return GpuConditions(before, after, difference(before, after))


def _lower(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else min(before, after)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
