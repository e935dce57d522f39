"""The conditions around a window: load, clocks, temperature and throttling, from counters and telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nameplate.base.messages import Reason
from nameplate.device.protocol import Counters
from nameplate.telemetry.gpu import POLICIES, GpuDifference, GpuReading, subtract_readings
from nameplate.telemetry.timeline import Spans, gain_within, integrate_within, mean_within

# The clock-event reasons of each policy that NVML counts, for drivers without the counters.
_REASONS = {
    "power": {"sw_power_cap"},
    "thermal": {"sw_thermal_slowdown", "hw_thermal_slowdown"},
    "software_thermal": {"sw_thermal_slowdown"},
    "hardware_thermal": {"hw_thermal_slowdown"},
    "power_brake": {"hw_power_brake_slowdown"},
}
_FEWEST_READINGS = 5  # within the batches; a share of fewer means nothing
# Where a counter gains more than the batches' time, its unit isn't the documented one.
_COUNTER_SLACK, _COUNTER_SLACK_S = 1.1, 0.1


@dataclass(frozen=True)
class GpuTelemetry:
    """A GPU during the batches of one case, from readings at about 10 Hz."""

    spans_s: float  # seconds of batches
    readings: int  # within them
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    power_w: float | None
    energy_j: float | None  # by the driver's counter
    energy_integrated_j: float | None  # by its power readings
    throttle_s: Mapping[str, float | None]  # by policy, by counter
    reason_share: Mapping[str, float | None]  # by policy: share of the time, by the reasons in the readings

    def share(self, policy: str) -> float | None:
        """The share of the time for which a policy held the clock down, by counter, else by readings."""
        held_s = self.throttle_s[policy]
        most_s = _COUNTER_SLACK * self.spans_s + _COUNTER_SLACK_S
        if held_s is not None and self.spans_s > 0 and held_s <= most_s:
            return min(held_s / self.spans_s, 1.0)
        return self.reason_share[policy]


def summarize_gpu(rows: Sequence[Counters], spans: Spans) -> GpuTelemetry | None:
    """Summarize the GPU's readings within the spans; None where no row has a reading."""
    readings = [row.gpu for row in rows if row.gpu is not None]
    if not readings:
        return None

    def summarize(figure: str, how: Callable[..., float | None]) -> float | None:
        return _summarize(readings, figure, how, spans)

    return GpuTelemetry(
        sum(end - begin for begin, end in spans),
        len(_within(readings, spans)),
        summarize("sm_clock_mhz", mean_within),
        summarize("memory_clock_mhz", mean_within),
        summarize("temperature_c", mean_within),
        summarize("power_w", mean_within),
        summarize("energy_j", gain_within) or None,  # a counter that stood still under load counts nothing
        summarize("power_w", integrate_within),
        {policy: summarize(f"{policy}_throttle_s", gain_within) for policy in POLICIES},
        {policy: _reason_share(readings, spans, policy) for policy in POLICIES},
    )


def _summarize(
    rows: Sequence[Any], figure: str, how: Callable[..., float | None], spans: Spans
) -> float | None:
    """Apply a function of `telemetry.timeline` to the rows that have the figure."""
    known = [(row.at_s, float(value)) for row in rows if (value := getattr(row, figure)) is not None]
    return how([at for at, _ in known], [value for _, value in known], spans)


def _within(readings: Sequence[GpuReading], spans: Spans) -> list[GpuReading]:
    return [each for each in readings if any(begin <= each.at_s <= end for begin, end in spans)]


def _reason_share(readings: Sequence[GpuReading], spans: Spans, policy: str) -> float | None:
    known = [each for each in readings if each.clock_event_reasons is not None]
    if len(_within(known, spans)) < _FEWEST_READINGS:
        return None
    shown = [float(bool(_REASONS[policy] & set(each.clock_event_reasons or ()))) for each in known]
    return mean_within([each.at_s for each in known], shown, spans)


@dataclass(frozen=True)
class GpuConditions:
    """A GPU before and after the window, and the difference of its driver's counters.

    Both readings are taken while nothing runs. A reason in them was still active then; others may have been
    active during the batches. `telemetry` covers those; without telemetry the counters do.
    """

    before: GpuReading
    after: GpuReading
    change: GpuDifference
    telemetry: GpuTelemetry | None = None

    def share(self, policy: str) -> float | None:
        """The share of the window for which a policy held the clock down; None: not counted here."""
        if self.telemetry is not None and (share := self.telemetry.share(policy)) is not None:
            return share
        held_s = self.change.throttle_s[policy]
        if held_s is None or self.change.elapsed_s <= 0:
            return None
        return held_s / self.change.elapsed_s

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
        """Return the most processes of others seen at either end; None where that can't be told."""
        if not self.change.other_processes:
            return None if self.change.other_processes is None else 0
        readings = [one for one in (self.before, self.after) if one.other_processes]
        return max(len(one.processes or ()) for one in readings)

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
            "gpu_other_processes": self.count_other_processes(),
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


def add_telemetry(conditions: Conditions, rows: Sequence[Counters], spans: Spans) -> Conditions:
    """Add what the device's timeline shows of one case's batches to the conditions of its group.

    The shares of the cores stay the group's: their counters have steps too coarse for single batches.
    """
    return replace(
        conditions,
        mhz=_summarize(rows, "mhz", mean_within, spans),
        temperature_c=_summarize(rows, "temperature_c", mean_within, spans),
        energy_j=_summarize(rows, "energy_j", gain_within, spans),
        gpu=conditions.gpu and replace(conditions.gpu, telemetry=summarize_gpu(rows, spans)),
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
