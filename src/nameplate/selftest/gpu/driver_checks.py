"""What must hold of a driver's figures: they are sensible, agree with one another, and show the load.

Each check takes the product under load (`LoadSeen`): an idle reading, the rows of telemetry, a reading under
load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nameplate.base.formatting import change, count, figure, percent
from nameplate.base.language import N_, _
from nameplate.base.messages import Message, render
from nameplate.device.identity import CudaIdentity
from nameplate.engine.warnings import ENERGY_DISAGREEMENT
from nameplate.selftest.gpu.check import Check, Outcome
from nameplate.selftest.gpu.seen import LoadSeen
from nameplate.telemetry.gpu import COUNTER_SLACK, COUNTER_SLACK_S, POLICIES, GpuReading

FIGURES, RAMP = N_("driver's figures"), N_("clock ramp")
LIMIT, ENERGY = N_("power limit"), N_("energy")
# A clock climbs within 5 to 50 ms; the harness looks for its end for half a second: stats/onset.py.
LONGEST_RAMP_S = 0.5
# A counter of time, and the share of rows that show its reason: two views of one thing, in ten rows a second.
SHARES_DIFFER = 0.25
# A card that draws this share of its limit is at it, and the driver must say so.
_AT_LIMIT = 0.97
# Until the limit takes effect a product may draw what it likes, and readings are means of some 25 ms: half
# more than the limit has been seen. Once it has settled, the mean over seconds is what the limit holds.
_OVERSHOOT, _SETTLED_OVERSHOOT = 1.6, 1.1
_LOADED_PERCENT = 90
_FULL_SPEED, _FASTEST = 0.05, 0.05  # so near to the speed of so large a share of the launches
_IDLE_CLOCK = 0.95  # of the highest seen: above it an idle card has nothing to climb
_SETTLED_S = 1.0  # from the beginning of the load on: what is compared lies after ramp and onset
_SHORTEST_S = 5.0  # over less, the steps of the energy counter and of power are visible
_RATED_SLACK = 1.02

# Throttle counters and the reasons for which they count (nvml.h, nvmlClocksEventReason…).
_REASON_OF = {
    "software_thermal": "sw_thermal_slowdown",
    "hardware_thermal": "hw_thermal_slowdown",
    "power_brake": "hw_power_brake_slowdown",
}
# Figures that not every card or driver has: GA100 has no averaged power, older drivers fewer counters.
_OPTIONAL = (
    *("power_average_w", "memory_temperature_c", "thermal_throttle_s", "memory_clock_mhz"),
    *(f"{policy}_throttle_s" for policy in _REASON_OF),
)


# ---- every figure by itself ----


@dataclass(frozen=True)
class _Figures:
    """A load's figures by name: the series of its rows, and both whole readings."""

    load: LoadSeen
    identity: CudaIdentity

    def series(self, name: str) -> list[float]:
        """The values that rows and the reading under load have, in order of time."""
        readings = (*self.load.rows, self.load.loaded)
        return [value for each in readings if (value := getattr(each, name)) is not None]

    @property
    def elapsed_s(self) -> float:
        rows = (*self.load.rows, self.load.loaded)
        return rows[-1].at_s - rows[0].at_s


_Judge = Callable[[_Figures, Sequence[float]], bool]


def check_figures(load: LoadSeen, identity: CudaIdentity) -> Check:
    """Hold each figure that the driver gives against what it can be, and against the load that was made."""
    figures = _Figures(load, identity)
    wrong, missing, sensible = [], [], 0
    for name, judge in _JUDGES.items():
        series = figures.series(name)
        if not series:
            missing.append(name)
        elif judge(figures, series):
            sensible += 1
        else:
            wrong.append(f"{name} ({_range(series)})")
    wrong += [f"{name} ({_('implausible')})" for name in _implausible(load)]
    optional = {*_OPTIONAL, *(("energy_j",) if _why_energy_is_the_modules(load) else ())}
    required = [name for name in missing if name not in optional]
    said = _("{count} of {all} sensible", count=sensible, all=len(_JUDGES) - len(missing))
    if missing:
        said = _("{said}; not given: {names}", said=said, names=", ".join(missing))
    why = ""
    if wrong:
        why = _("not sensible: {names}", names=", ".join(wrong))
    elif required:
        why = _("needed and not given: {names}", names=", ".join(required))
    passed = False if wrong else None if required else True
    return Check(FIGURES, said, _("every one that is given"), Outcome.of(passed), why)


def _implausible(load: LoadSeen) -> list[str]:
    """The figures that the harness has refused as impossible."""
    return list(
        dict.fromkeys(
            name
            for each in (load.idle, *load.rows, load.loaded)
            for name, reason in each.absent.items()
            if isinstance(reason, Message) and reason.code == "implausible"
        )
    )


def _range(series: Sequence[float]) -> str:
    ends = (min(series), max(series))
    return " … ".join(figure(each) for each in dict.fromkeys(ends))


def _rises(series: Sequence[float]) -> bool:
    return all(first <= second for first, second in pairwise(series))


def _is_clock(figures: _Figures, series: Sequence[float]) -> bool:
    most = figures.identity.max_sm_clock_mhz
    idle = figures.load.idle.sm_clock_mhz
    within = min(series) > 0 and (most is None or max(series) <= _RATED_SLACK * most)
    return within and (idle is None or max(series) >= idle)


def _is_memory_clock(figures: _Figures, series: Sequence[float]) -> bool:
    most = figures.identity.max_memory_clock_mhz
    return min(series) > 0 and (most is None or max(series) <= _RATED_SLACK * most)


def _is_power(figures: _Figures, series: Sequence[float]) -> bool:
    limit, idle = figures.identity.power_limit_w, figures.load.idle.power_w
    if not (idle is None or float(np.mean(series)) > idle > 0):
        return False
    settled = [each.power_w for each in _settled_rows(figures.load) if each.power_w is not None]
    mean_w = float(np.mean(settled)) if settled else 0.0
    return limit is None or (max(series) <= _OVERSHOOT * limit and mean_w <= _SETTLED_OVERSHOOT * limit)


def _is_average_power(figures: _Figures, series: Sequence[float]) -> bool:
    instant = figures.series("power_w")
    return not instant or 0.5 <= series[-1] / float(np.mean(instant)) <= 1.5


def _is_temperature(figures: _Figures, series: Sequence[float]) -> bool:
    idle = figures.load.idle.temperature_c
    return min(series) >= 5 and max(series) <= 110 and (idle is None or max(series) >= idle)


def _is_memory_temperature(_figures: _Figures, series: Sequence[float]) -> bool:
    return min(series) >= 5 and max(series) <= 115


def _is_energy(_figures: _Figures, series: Sequence[float]) -> bool:
    return _rises(series) and series[-1] > series[0]


def _is_busy(_figures: _Figures, series: Sequence[float]) -> bool:
    return max(series) >= _LOADED_PERCENT


def _is_memory_in_use(figures: _Figures, series: Sequence[float]) -> bool:
    own, all_ = figures.load.loaded.own_memory_bytes, figures.identity.memory_bytes
    return max(series) >= (own or 1) and (all_ is None or max(series) <= _RATED_SLACK * all_)


def _is_time_held(figures: _Figures, series: Sequence[float]) -> bool:
    """A counter in seconds only rises, and by no more than the time that has passed."""
    gained = series[-1] - series[0]
    return _rises(series) and gained <= COUNTER_SLACK * figures.elapsed_s + COUNTER_SLACK_S


def _counts_its_reason(policy: str) -> _Judge:
    """A counter gains where its reason is shown, and only there.

    So a field that holds another number is found: drivers have renumbered these, and what stands in their old
    places are settings, which never move.
    """

    def judge(figures: _Figures, series: Sequence[float]) -> bool:
        shown = _share_of_rows(figures.load.rows, _REASON_OF[policy])
        gained = (series[-1] - series[0]) / figures.elapsed_s
        return _is_time_held(figures, series) and (shown is None or abs(gained - shown) <= SHARES_DIFFER)

    return judge


_JUDGES: dict[str, _Judge] = {
    "sm_clock_mhz": _is_clock,
    "memory_clock_mhz": _is_memory_clock,
    "power_w": _is_power,
    "power_average_w": _is_average_power,
    "temperature_c": _is_temperature,
    "memory_temperature_c": _is_memory_temperature,
    "energy_j": _is_energy,
    "gpu_utilization_percent": _is_busy,
    "memory_used_bytes": _is_memory_in_use,
    **{f"{policy}_throttle_s": _is_time_held for policy in POLICIES if policy not in _REASON_OF},
    **{f"{policy}_throttle_s": _counts_its_reason(policy) for policy in _REASON_OF},
}


# ---- the ramp, the limit, energy ----


def find_ramp_s(load: LoadSeen) -> float:
    """Seconds from the first launch to the first of three in a row at full speed, the fastest of the load.

    Not by `stats.onset`, which looks for the end of a climb in the first half second alone: whether it is
    over by then is the question here.
    """
    launch_s = np.asarray([each.launch_s for each in load.products])
    full = launch_s <= (1 + _FULL_SPEED) * np.quantile(launch_s, _FASTEST)
    first = next((place for place in range(full.size) if full[place : place + 3].all()), full.size - 1)
    return load.products[first].at_s - load.begin_s


def check_ramp(load: LoadSeen) -> Check:
    """The clock climbs from idle, and full speed is reached in the time that the harness allows."""
    bound = _("full speed within {seconds} s", seconds=figure(LONGEST_RAMP_S))
    clocks = [each.sm_clock_mhz for each in load.rows if each.sm_clock_mhz]
    idle = load.idle.sm_clock_mhz
    if idle is None or not clocks:
        why = _("the driver gives no clock")
        return Check(RAMP, _("not seen"), bound, Outcome.UNKNOWN, why)
    ramp_s = find_ramp_s(load)
    text = (
        N_("no climb: {idle} MHz when idle; full speed after {seconds} s")
        if idle >= _IDLE_CLOCK * max(clocks)
        else N_("{idle} → {highest} MHz; full speed after {seconds} s")
    )
    said = _(text, idle=count(idle), highest=count(max(clocks)), seconds=figure(ramp_s))
    return Check(RAMP, said, bound, Outcome.of(ramp_s <= LONGEST_RAMP_S))


def check_limit(load: LoadSeen, identity: CudaIdentity) -> Check:
    """A card that draws its limit is said to be held at it, by the reasons and by the counter alike."""
    bound = _("at the limit: said so; counter and reasons within {share}", share=percent(SHARES_DIFFER))
    rows = _settled_rows(load)
    drawn = [each.power_w for each in rows if each.power_w is not None]
    limit = identity.power_limit_w
    shown = _share_of_rows(rows, "sw_power_cap")
    counted = _share_counted(rows)
    if not drawn or limit is None or (shown is None and counted is None):
        why = _("the driver doesn't give power, its limit, and the time or the reason of being held")
        return Check(LIMIT, _("not seen"), bound, Outcome.UNKNOWN, why)
    mean_w = float(np.mean(drawn))
    held = max(share for share in (shown, counted) if share is not None)
    clocks = [each.sm_clock_mhz for each in rows if each.sm_clock_mhz is not None]
    said = _(
        "held for {share} of the time, from {seconds} s on; {drawn} of {limit} W at {clock} MHz",
        share=percent(held),
        seconds=figure(find_limit_s(load)),
        drawn=count(mean_w),
        limit=count(limit),
        clock=count(float(np.mean(clocks)) if clocks else None),
    )
    if shown is not None and counted is not None and abs(shown - counted) > SHARES_DIFFER:
        why = _(
            "held for {counted} of the time by the counter, for {shown} by the reasons",
            counted=percent(counted),
            shown=percent(shown),
        )
        return Check(LIMIT, said, bound, Outcome.FAILED, why)
    if mean_w >= _AT_LIMIT * limit and held <= SHARES_DIFFER:
        why = _("the card drew its limit, and the driver didn't say that it was held")
        return Check(LIMIT, said, bound, Outcome.FAILED, why)
    return Check(LIMIT, said, bound, Outcome.PASSED)


def find_limit_s(load: LoadSeen) -> float | None:
    """Seconds from the first launch to the first row that shows the power limit; None: none does."""
    for each in load.rows:
        if each.at_s >= load.begin_s and "sw_power_cap" in (each.clock_event_reasons or ()):
            return each.at_s - load.begin_s
    return None


def check_energy(load: LoadSeen) -> Check:
    """The energy counter and the integral of power agree over the settled part of the load."""
    bound = _("within {share}", share=percent(ENERGY_DISAGREEMENT))
    if (why_none := _why_energy_is_the_modules(load)) is not None:
        return Check(ENERGY, _("not seen"), bound, Outcome.LEFT_OUT, render(why_none))
    counted, integrated, seconds = measure_energy(load)
    if counted is None or integrated is None:
        why = _("the driver doesn't give both energy and power")
        return Check(ENERGY, _("not seen"), bound, Outcome.UNKNOWN, why)
    if seconds < _SHORTEST_S or integrated <= 0:
        why = _("{got} s of readings, {needed} s are needed", got=figure(seconds), needed=figure(_SHORTEST_S))
        return Check(ENERGY, _("not seen"), bound, Outcome.UNKNOWN, why)
    apart = counted / integrated - 1
    said = _(
        "{counted} J counted, {integrated} J by power: {apart} in {seconds} s",
        counted=count(counted),
        integrated=count(integrated),
        apart=change(apart),
        seconds=figure(seconds),
    )
    return Check(ENERGY, said, bound, Outcome.of(abs(apart) <= ENERGY_DISAGREEMENT))


def _why_energy_is_the_modules(load: LoadSeen) -> Message | None:
    """Why a superchip has no energy of its GPU alone; None on any other card."""
    why = load.loaded.why_absent("energy_j")
    return why if isinstance(why, Message) and why.code == "energy_is_the_modules" else None


def measure_energy(load: LoadSeen) -> tuple[float | None, float | None, float]:
    """Joules by the counter and by integrated power, and the seconds between two steps of the counter."""
    rows = [each for each in _settled_rows(load) if each.energy_j is not None]
    steps = [second for first, second in pairwise(rows) if second.energy_j != first.energy_j]
    if len(steps) < 2:
        return None, None, 0.0
    first, last = steps[0], steps[-1]
    powers = [
        (each.at_s, each.power_w)
        for each in rows
        if first.at_s <= each.at_s <= last.at_s and each.power_w is not None
    ]
    if len(powers) < 2 or first.energy_j is None or last.energy_j is None:
        return None, None, 0.0
    at_s, watts = zip(*powers, strict=True)
    return last.energy_j - first.energy_j, float(np.trapezoid(watts, at_s)), last.at_s - first.at_s


def _settled_rows(load: LoadSeen) -> list[GpuReading]:
    return [each for each in load.rows if load.begin_s + _SETTLED_S <= each.at_s <= load.end_s]


def _share_of_rows(rows: Sequence[GpuReading], reason: str) -> float | None:
    """The share of the time for which rows show a clock-event reason; None where none says anything.

    Each row stands for the time up to the next: they come faster at the beginning of a load.
    """
    told = [(each.at_s, each.clock_event_reasons) for each in rows if each.clock_event_reasons is not None]
    if not told:
        return None
    at_s, shown = [each for each, _reasons in told], [reason in reasons for _at, reasons in told]
    spans_s = np.diff([*at_s, 2 * at_s[-1] - at_s[-2]]) if len(told) > 1 else np.ones(1)
    return float(np.average(shown, weights=spans_s))


def _share_counted(rows: Sequence[GpuReading]) -> float | None:
    """The share of the time for which the power limit held the clock, by its counter."""
    counted = [(each.at_s, each.power_throttle_s) for each in rows if each.power_throttle_s is not None]
    if len(counted) < 2 or counted[-1][0] <= counted[0][0]:
        return None
    (from_s, first), (to_s, last) = counted[0], counted[-1]
    return float(np.clip((last - first) / (to_s - from_s), 0.0, 1.0))


def settled_clock_mhz(load: LoadSeen) -> float | None:
    """The mean clock that the card held once it had settled."""
    clocks = [each.sm_clock_mhz for each in _settled_rows(load) if each.sm_clock_mhz is not None]
    return float(np.mean(clocks)) if clocks else None
