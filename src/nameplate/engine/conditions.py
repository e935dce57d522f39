"""What went on around a window, from counters before and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nameplate.base.messages import Reason
from nameplate.device.protocol import Counters
from nameplate.telemetry.gpu import POLICIES, GpuDifference, GpuReading, subtract_readings
from nameplate.telemetry.timeline import Spans, gained, integrated, mean_within

# Clock-event reasons by the policy that NVML's counters name; for drivers whose counters are absent.
_REASONS = {
    "power": {"sw_power_cap"},
    "thermal": {"sw_thermal_slowdown", "hw_thermal_slowdown"},
    "software_thermal": {"sw_thermal_slowdown"},
    "hardware_thermal": {"hw_thermal_slowdown"},
    "power_brake": {"hw_power_brake_slowdown"},
}
_FEWEST_LOOKS = 5  # readings within the batches, below which a share of them says nothing
# Where a driver counts longer than the batches ran, the counter isn't in the unit taken for it.
_COUNTER_SLACK, _COUNTER_SLACK_S = 1.1, 0.1


@dataclass(frozen=True)
class GpuCourse:
    """A GPU while the batches of one case ran: readings at about 10 Hz, counters between them."""

    spans_s: float  # seconds of batches
    readings: int  # that fell within them
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    power_w: float | None
    energy_j: float | None  # by the driver's counter
    energy_integrated_j: float | None  # by its power readings
    throttle_s: Mapping[str, float | None]
    reason_share: Mapping[str, float | None]  # of the time, by the readings that show a policy's reason

    def share(self, policy: str) -> float | None:
        """The share of that time for which a policy held the clock down, by counter, else by readings."""
        held_s = self.throttle_s[policy]
        most_s = _COUNTER_SLACK * self.spans_s + _COUNTER_SLACK_S
        if held_s is not None and self.spans_s > 0 and held_s <= most_s:
            return min(held_s / self.spans_s, 1.0)
        return self.reason_share[policy]


def gpu_course(rows: Sequence[Counters], spans: Spans) -> GpuCourse | None:
    """What the rows tell of the spans; None where no row has a GPU's reading."""
    readings = [row.gpu for row in rows if row.gpu is not None]
    if not readings:
        return None

    def ask(figure: str, how: Callable[..., float | None]) -> float | None:
        known = [
            (each.at_s, float(value)) for each in readings if (value := getattr(each, figure)) is not None
        ]
        return how([at for at, _ in known], [value for _, value in known], spans)

    return GpuCourse(
        sum(end - begin for begin, end in spans),
        len(_inside(readings, spans)),
        ask("sm_clock_mhz", mean_within),
        ask("memory_clock_mhz", mean_within),
        ask("temperature_c", mean_within),
        ask("power_w", mean_within),
        ask("energy_j", gained),
        ask("power_w", integrated),
        {policy: ask(f"{policy}_throttle_s", gained) for policy in POLICIES},
        {policy: _reason_share(readings, spans, policy) for policy in POLICIES},
    )


def _inside(readings: Sequence[GpuReading], spans: Spans) -> list[GpuReading]:
    return [each for each in readings if any(begin <= each.at_s <= end for begin, end in spans)]


def _reason_share(readings: Sequence[GpuReading], spans: Spans, policy: str) -> float | None:
    known = [each for each in readings if each.clock_event_reasons is not None]
    if len(_inside(known, spans)) < _FEWEST_LOOKS:
        return None
    shown = [float(bool(_REASONS[policy] & set(each.clock_event_reasons or ()))) for each in known]
    return mean_within([each.at_s for each in known], shown, spans)


@dataclass(frozen=True)
class GpuConditions:
    """A GPU before and after the window, and what its driver counted meanwhile.

    Both readings are taken while nothing runs: a reason seen in them was still there, one that isn't may
    have been; what held during the batches their course tells, and where there is none the counters.
    """

    before: GpuReading
    after: GpuReading
    change: GpuDifference
    course: GpuCourse | None = None

    def share(self, policy: str) -> float | None:
        """The share of the window that a policy held the clock down for; None: not counted here."""
        if self.course is not None and (share := self.course.share(policy)) is not None:
            return share
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

    def why_absent(self, figure: str) -> Reason | None:
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
            **({} if self.course is None else _course_columns(self.course)),
        }


def _course_columns(course: GpuCourse) -> dict[str, float | str | None]:
    return {
        "gpu_readings": course.readings,
        "gpu_sm_clock_mhz": course.sm_clock_mhz,
        "gpu_memory_clock_mhz": course.memory_clock_mhz,
        "gpu_temperature_c": course.temperature_c,
        "gpu_power_w": course.power_w,
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
    mhz: float | None = None
    temperature_c: float | None = None
    energy_j: float | None = None
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
            "cpu_mhz": self.mhz,
            "cpu_temperature_c": self.temperature_c,
            **({} if self.gpu is None else self.gpu.as_columns()),
        }


def conditions_between(before: Counters, after: Counters, cores: float) -> Conditions:
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
        gpu=gpu,
    )


def of_batches(conditions: Conditions, rows: Sequence[Counters], spans: Spans) -> Conditions:
    """Add to a group's conditions what the rows of its timeline tell of one case's batches.

    Shares of the cores stay the group's: their counters move in steps too coarse for single batches.
    """

    def ask(figure: str, how: Callable[..., float | None]) -> float | None:
        known = [(row.at_s, float(value)) for row in rows if (value := getattr(row, figure)) is not None]
        return how([at for at, _ in known], [value for _, value in known], spans)

    gpu = conditions.gpu and replace(conditions.gpu, course=gpu_course(rows, spans))
    return replace(
        conditions,
        mhz=ask("mhz", mean_within),
        temperature_c=ask("temperature_c", mean_within),
        energy_j=ask("energy_j", gained),
        gpu=gpu,
    )


def _gpu(before: GpuReading | None, after: GpuReading | None) -> GpuConditions | None:
    if before is None or after is None:
        return None
    return GpuConditions(before, after, subtract_readings(before, after))


def _lower(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else min(before, after)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
