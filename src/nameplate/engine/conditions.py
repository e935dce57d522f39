"""The conditions around a window: load, clocks, temperature and throttling, from counters and telemetry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nameplate.base.messages import Reason
from nameplate.device.protocol import Counters
from nameplate.engine.case_telemetry import GpuTelemetry, mean_of, pace_of, summarize_gpu
from nameplate.telemetry.gpu import POLICIES, GpuDifference, GpuReading, subtract_readings
from nameplate.telemetry.timeline import Spans, find_stretches

# From this share of the time between two readings on, what they count is the batches' own.
_WHOLE = 0.8
_SAME_SHARE = 0.01


@dataclass(frozen=True)
class GpuConditions:
    """A GPU before and after the window, and the difference of its driver's counters.

    Both readings are taken while nothing runs. A reason in them was still active then; others may have been
    active during the batches. `telemetry` covers those; without telemetry the counters do. Where the case's
    batches are `batches_s` seconds, a part of the window (None: all), they may not tell in whose time.
    """

    before: GpuReading
    after: GpuReading
    change: GpuDifference
    telemetry: GpuTelemetry | None = None
    batches_s: float | None = None
    idle: tuple[GpuReading, ...] = ()  # taken after this process had left the GPU idle for a second
    between: tuple[GpuReading, ...] = ()  # before and after the processes in between, where there are several

    @property
    def readings(self) -> tuple[GpuReading, ...]:
        """Every reading around the batches, in order."""
        return (self.before, *self.between, self.after)

    def share(self, policy: str) -> float | None:
        """The share of the case's time for which a policy held the clock down; None: not known."""
        if self.telemetry is not None and (share := self.telemetry.share(policy)) is not None:
            return share
        held_s, elapsed_s = self.change.throttle_s[policy], self.change.elapsed_s
        if held_s is None or elapsed_s <= 0:
            return None
        own_s = elapsed_s if self.batches_s is None else min(self.batches_s, elapsed_s)
        if own_s >= _WHOLE * elapsed_s:
            return held_s / elapsed_s
        # Between all of it in the time of others and all of it in the case's own.
        least = max(held_s - (elapsed_s - own_s), 0.0) / own_s if own_s else 0.0
        most = min(held_s / own_s, 1.0) if own_s else 1.0
        return most if most - least <= _SAME_SHARE else None

    def why_no_share(self, policy: str) -> Reason | None:
        """Why that share isn't known, by the readings during the batches, else by those around them."""
        figure = f"{policy}_throttle_s"
        during = None if self.telemetry is None else self.telemetry.absent.get(figure)
        return self.change.absent.get(figure) or during

    def heat_shares(self) -> tuple[float | None, ...]:
        """The shares for which heat or a power brake held the clock down; None among them: not all counted.

        Newer drivers count software, hardware and power brake separately, older ones all heat in one counter.
        """
        whole, parts = self.share("thermal"), (self.share("software_thermal"), self.share("hardware_thermal"))
        known = tuple(each for each in (whole, *parts, self.share("power_brake")) if each is not None)
        return known if whole is not None or None not in parts else (*known, None)

    def reasons_at_ends(self) -> tuple[set[str], set[str]]:
        """The reasons that held the clock down in the reading before and in the one after."""
        return set(self.before.throttle_reasons or ()), set(self.after.throttle_reasons or ())

    def count_other_processes(self) -> int | None:
        """Return the most processes of others in one reading; None where that can't be told."""
        if not self.change.other_processes:
            return None if self.change.other_processes is None else 0
        readings = [one for one in self.readings if one.other_processes]
        return max(len(one.processes or ()) for one in readings)

    @property
    def foreign_memory_gib(self) -> float | None:
        """The most memory in use beyond what torch has allocated here, this run's own context included."""
        seen = (*self.readings, *self.idle)
        known = [
            one.memory_used_bytes - one.own_memory_bytes
            for one in seen
            if one.memory_used_bytes is not None and one.own_memory_bytes is not None
        ]
        return max(known) / 2**30 if known else None

    @property
    def idle_utilization(self) -> float | None:
        """The highest utilization while this run was idle, as a share; None: not known."""
        known = [one.gpu_utilization_percent for one in self.idle if one.gpu_utilization_percent is not None]
        return max(known) / 100 if known else None

    @property
    def is_own_process_listed(self) -> bool:
        """Whether the driver listed as many processes as are our own, under ids that aren't ours."""
        return all(len(one.processes or ()) == one.own_processes for one in self.readings)

    def why_absent(self, figure: str) -> Reason | None:
        """Why a figure is missing from one reading at least; None where it is in both."""
        return self.before.why_absent(figure) or self.after.why_absent(figure)

    def as_columns(self) -> dict[str, float | str | None]:
        """The figures by name; `gpu_throttle_reasons` is `none`, or names separated by spaces.

        `gpu_xid_errors` is `none`, or numbers separated by spaces.
        """
        reasons, xids, columns = self.change.throttle_reasons, self.change.xid_errors, {}
        if self.telemetry is not None:
            columns = {
                "gpu_readings": self.telemetry.readings,
                "gpu_sm_clock_mhz": self.telemetry.sm_clock_mhz,
                "gpu_memory_clock_mhz": self.telemetry.memory_clock_mhz,
                "gpu_temperature_c": self.telemetry.temperature_c,
                "gpu_power_w": self.telemetry.power_w,
            }
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
            **{f"gpu_{policy}_throttle_share": self.share(policy) for policy in POLICIES},
            "gpu_other_processes": self.count_other_processes(),
            "gpu_foreign_memory_gib": self.foreign_memory_gib,
            "gpu_idle_utilization": self.idle_utilization,
            "gpu_ecc_errors": self.change.ecc_errors,
            "gpu_pcie_replays": self.change.pcie_replays,
            "gpu_remapped_rows": self.change.remapped_rows,
            "gpu_xid_errors": None if xids is None else " ".join(map(str, xids)) or "none",
            "gpu_nvlink_replays": self.change.nvlink_replays,
            "gpu_nvlink_recoveries": self.change.nvlink_recoveries,
            "gpu_nvlink_crc_errors": self.change.nvlink_crc_errors,
            "gpu_pcie_generation_after": self.after.pcie_generation,
            "gpu_pcie_width_after": self.after.pcie_width,
            **columns,
        }


@dataclass(frozen=True)
class Conditions:
    """Load over the window, as shares of the cores this device may use. None: the system doesn't tell.

    `resolution` is the smallest share that the kernel's counting steps can show in this window.
    `parallel_share` is the lower one of before and after. `gpu` is None on a device that isn't a GPU.
    """

    elapsed_s: float
    own_share: float | None = None
    foreign_share: float | None = None
    steal_share: float | None = None
    resolution: float | None = None
    parallel_share: float | None = None
    mhz: float | None = None
    temperature_c: float | None = None
    energy_j: float | None = None
    gpu: GpuConditions | None = None
    stretches: int = 1  # periods without a pause, or other work, that the batches form

    def as_columns(self) -> dict[str, float | str | None]:
        """The figures by name, as a record holds them."""
        return {
            "elapsed_s": self.elapsed_s,
            "own_cpu_share": self.own_share,
            "foreign_cpu_share": self.foreign_share,
            "steal_share": self.steal_share,
            "cpu_share_resolution": self.resolution,
            "parallel_share": self.parallel_share,
            "cpu_mhz": self.mhz,
            "cpu_temperature_c": self.temperature_c,
            **({} if self.gpu is None else self.gpu.as_columns()),
        }


def conditions_between(before: Counters, after: Counters, cores: float) -> Conditions:
    """Return the conditions between two readings of a device's counters, as shares of its `cores`."""
    elapsed_s = after.at_s - before.at_s
    gpu = None
    if before.gpu is not None and after.gpu is not None:
        gpu = GpuConditions(before.gpu, after.gpu, subtract_readings(before.gpu, after.gpu))
    if elapsed_s <= 0:
        return Conditions(elapsed_s, gpu=gpu)
    available_s = elapsed_s * cores
    own_s = _difference(before.process_cpu_s, after.process_cpu_s)
    busy_s = _difference(before.busy_cpu_s, after.busy_cpu_s)
    steal_s = _difference(before.steal_s, after.steal_s)
    foreign_s = None if own_s is None or busy_s is None else max(busy_s - own_s, 0.0)
    parallel = (before.parallel_share, after.parallel_share)
    return Conditions(
        elapsed_s,
        None if own_s is None else own_s / available_s,
        None if foreign_s is None else foreign_s / available_s,
        None if steal_s is None else steal_s / available_s,
        # Each core's total may be one step off at either end.
        None if after.tick_s is None else 2 * after.tick_s * cores / available_s,
        None if parallel[0] is None or parallel[1] is None else min(parallel[0], parallel[1]),
        gpu=gpu,
    )


def merge_conditions(found: Sequence[Conditions]) -> Conditions:
    """Return the conditions of several processes' windows together, in the order they ran.

    Shares are of the windows' own time. A GPU's counters are those of the whole time, set-ups included: they
    are read at both ends. Each window's counting steps are off independently, so their squares add up.
    """
    elapsed_s = sum(each.elapsed_s for each in found)

    def share(name: str) -> float | None:
        shares: list[float | None] = [getattr(each, name) for each in found]
        known = [part * each.elapsed_s for part, each in zip(shares, found, strict=True) if part is not None]
        return sum(known) / elapsed_s if len(known) == len(found) and elapsed_s > 0 else None

    steps_s = [each.resolution * each.elapsed_s for each in found if each.resolution is not None]
    parallel = [each.parallel_share for each in found if each.parallel_share is not None]
    return Conditions(
        elapsed_s,
        share("own_share"),
        share("foreign_share"),
        share("steal_share"),
        math.hypot(*steps_s) / elapsed_s if len(steps_s) == len(found) and elapsed_s > 0 else None,
        min(parallel) if len(parallel) == len(found) else None,
        gpu=_merge_gpus([each.gpu for each in found if each.gpu is not None]),
    )


def _merge_gpus(found: Sequence[GpuConditions]) -> GpuConditions | None:
    if not found:
        return None
    ends = [reading for each in found for reading in (each.before, each.after)]
    change = subtract_readings(ends[0], ends[-1])
    company = [each.change.other_processes for each in found]
    others = True if True in company else None if None in company else False
    return GpuConditions(
        ends[0],
        ends[-1],
        change.model_copy(update={"other_processes": others}),
        idle=tuple(reading for each in found for reading in each.idle),
        between=tuple(ends[1:-1]),
    )


def add_telemetry(
    conditions: Conditions,
    rows: Sequence[Counters],
    spans: Spans,
    others: Spans = (),
    *,
    takes_turns: bool = False,
    led_s: float = 0.0,
) -> Conditions:
    """Add what the device's timeline shows of one case's batches (`spans`) to the conditions of its group.

    Only rows count that lie in a stretch in which none of `others` ran, the batches of the other cases;
    `takes_turns` and `led_s` are as for `summarize_gpu`. The shares of the cores stay the group's: their
    counters have steps too coarse for single batches.
    """
    stretches = find_stretches(spans, others)
    batches_s = sum(end_s - begin_s for begin_s, end_s in spans)
    power_w, gpu = pace_of(rows, "energy_j", stretches), conditions.gpu
    if gpu is not None:
        telemetry = summarize_gpu(rows, stretches, takes_turns=takes_turns, led_s=led_s, batches_s=batches_s)
        gpu = replace(gpu, telemetry=telemetry, batches_s=batches_s)
    return replace(
        conditions,
        stretches=len(stretches),
        mhz=mean_of(rows, "mhz", stretches),
        temperature_c=mean_of(rows, "temperature_c", stretches),
        energy_j=None if power_w is None else power_w * batches_s,
        gpu=gpu,
    )


def add_idle_readings(conditions: Conditions, idle: Sequence[GpuReading]) -> Conditions:
    """Add readings of a GPU that this process had left idle to the conditions of a group."""
    gpu = conditions.gpu
    return conditions if gpu is None else replace(conditions, gpu=replace(gpu, idle=tuple(idle)))


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
