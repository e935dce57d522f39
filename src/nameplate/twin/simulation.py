"""How a simulated card runs: its clock, power and heat over time, by the figures of its model.

Time goes in steps of `STEP_S`, within which the clock doesn't change. After each step, what was done in it
gives power, power gives heat, and both give the clock of the next:

    power   = active_w·(1 + leakage·(T − reference)) + memory's part + arithmetic's part·(f ÷ f_max)^exponent
    dT/dt   = (ambient + c_per_w·power − T) ÷ time constant
    f       = the least of: the ramp from idle; what the power limit leaves; what heat and a brake leave

The power limit looks at the mean of power over `window_s` (an exponential one), so it is felt about 1.3
windows after a product begins that needs 1.4 times as much as it may have. Then the clock swings about what
the limit leaves, with a fixed period. Whatever the clock is, it is one of the card's steps of some 15 MHz.

The past is kept for half an hour, because a driver is asked later about moments that have passed.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nameplate.twin.card import Card
from nameplate.twin.faults import Faults
from nameplate.twin.state import Policy, State

STEP_S = 0.002
# An idle card needs no such steps: nothing happens in it for long.
_IDLE_STEP_S = 0.1
_KEPT_S = 30 * 60.0
_PRUNE_ROWS = 100_000
_POLICIES: tuple[Policy, ...] = ("power", "software_thermal", "power_brake")
_LEAST_SHARE = 0.15  # of the highest clock: no policy lowers it further
_COLUMNS = (
    "at_s",
    "mhz",
    "celsius",
    "joules",
    "busy_s",
    "memory_s",
    *(f"held_{each}_s" for each in _POLICIES),
)


@dataclass(frozen=True)
class Cost:
    """What a piece of work costs at one clock: its seconds, and the joules of arithmetic and of memory.

    `memory_s` is how much of the time the memory works.
    """

    seconds: float
    compute_j: float
    memory_j: float
    memory_s: float


class Work(Protocol):
    """Work for the card, such as a kernel or a graph of them."""

    def at(self, mhz: float) -> Cost:
        """Return its cost at this clock."""


class Simulation:
    """One card from `begin_s` on, which has been idle for long."""

    def __init__(self, card: Card, begin_s: float = 0.0, faults: Faults | None = None) -> None:
        """Begin idle, at the temperature that an idle card settles at."""
        self.card, self.faults = card, faults or Faults()
        clock, power, heat = card.clock, card.power, card.heat
        self._idle_mhz, self._highest_mhz = clock.idle_mhz.value, clock.maximum_mhz.value
        self._step_mhz, self._limit_w = clock.step_mhz.value, power.limit_w.value
        self._exponent, self._idle_w = power.exponent.value, power.idle_w.value
        self.mhz = self._idle_mhz
        self._ramp_mhz = self._idle_mhz  # how far the clock has come from idle
        self._celsius = heat.ambient_c.value + heat.c_per_w.value * power.idle_w.value
        self._joules = self._busy_total_s = self._memory_total_s = 0.0
        self._held_s = dict.fromkeys(_POLICIES, 0.0)
        self._holds: frozenset[Policy] = frozenset()
        self._capped_s: float | None = None  # since when the power limit has held the clock down
        self._compute_w = self._memory_w = 0.0  # means over the window, of arithmetic at the highest clock
        self._last_work_s = -math.inf
        self._speed = self.faults.speed(begin_s)
        # of the step under way
        self._begin_s, self._end_s = begin_s, begin_s + STEP_S
        self._busy_s = self._compute_j = self._memory_j = self._memory_s = 0.0
        self._past = {name: array("d") for name in _COLUMNS}
        self._keep_row()

    def run(self, begin_s: float, work: Work) -> float:
        """Run work from `begin_s` on, or from the end of what came before; return when it ends."""
        now_s = begin_s
        if now_s >= self._end_s:
            self._pass_idle(now_s)
        left = 1.0
        while True:
            cost = work.at(self.mhz)
            seconds = cost.seconds / self._speed
            end_s = now_s + left * seconds
            share = left if end_s <= self._end_s else (self._end_s - now_s) / seconds
            self._busy_s += share * seconds
            self._compute_j += share * cost.compute_j
            self._memory_j += share * cost.memory_j
            self._memory_s += share * cost.memory_s
            if end_s <= self._end_s:
                self._last_work_s = end_s
                return end_s
            left -= share
            now_s = self._last_work_s = self._end_s
            self._finish_step()

    def at(self, seconds: float) -> State:
        """Return what the card was like then; a later time passes idle first."""
        if seconds >= self._end_s:
            self._pass_idle(seconds)
        past = self._past
        after = min(bisect_right(past["at_s"], seconds), len(past["at_s"]) - 1)
        before = max(after - 1, 0)
        span_s = past["at_s"][after] - past["at_s"][before]
        share = min(max((seconds - past["at_s"][before]) / span_s, 0.0), 1.0) if span_s > 0 else 0.0

        def between(name: str) -> float:
            first = past[name][before]
            return first + share * (past[name][after] - first)

        held = {each: between(f"held_{each}_s") for each in _POLICIES}
        holds = {each for each in _POLICIES if past[f"held_{each}_s"][after] > past[f"held_{each}_s"][before]}
        celsius = between("celsius")
        return State(
            at_s=seconds,
            sm_clock_mhz=past["mhz"][after],
            temperature_c=celsius,
            memory_temperature_c=celsius + self.card.heat.memory_above_c.value,
            energy_j=between("joules"),
            busy_s=between("busy_s"),
            memory_busy_s=between("memory_s"),
            holds=frozenset(holds),
            held_s=held,
            busy=past["busy_s"][after] > past["busy_s"][before],
        )

    # ---- steps ----

    def _pass_idle(self, until_s: float) -> None:
        """Pass time without work, up to the step that `until_s` lies in."""
        while self._end_s <= until_s:
            self._finish_step()
            if self.mhz <= self._idle_mhz:
                self._end_s = max(self._end_s, min(self._begin_s + _IDLE_STEP_S, until_s))

    def _finish_step(self) -> None:
        """Make power, heat and the next clock of what was done since the last step."""
        passed_s = self._end_s - self._begin_s
        if passed_s > 0:
            self._account(passed_s)
            self._choose_clock(passed_s)
        self._begin_s, self._end_s = self._end_s, self._end_s + STEP_S
        self._busy_s = self._compute_j = self._memory_j = self._memory_s = 0.0
        self._speed = self.faults.speed(self._begin_s)

    def _account(self, passed_s: float) -> None:
        compute_w, memory_w = self._compute_j / passed_s, self._memory_j / passed_s
        power_w = self._resting_w() + compute_w + memory_w
        heat = self.card.heat
        settles_at = heat.ambient_c.value + heat.c_per_w.value * self.faults.heating(self._end_s) * power_w
        fallen = math.exp(-passed_s / heat.time_constant_s.value)
        self._celsius = settles_at + (self._celsius - settles_at) * fallen
        self._joules += power_w * passed_s
        self._busy_total_s += min(self._busy_s, passed_s)
        self._memory_total_s += min(self._memory_s, passed_s)
        for policy in self._holds:
            self._held_s[policy] += passed_s
        weight = -math.expm1(-passed_s / self.card.power.window_s.value)
        at_highest_w = compute_w / (self.mhz / self._highest_mhz) ** self._exponent
        self._compute_w += weight * (at_highest_w - self._compute_w)
        self._memory_w += weight * (memory_w - self._memory_w)
        self._keep_row()

    def _resting_w(self) -> float:
        """Power of a card that computes nothing: idle, or awake and as hot as it is."""
        if self.mhz <= self._idle_mhz:
            return self._idle_w
        heat = self.card.heat
        leaked = 1 + heat.leakage_per_c.value * (self._celsius - heat.reference_c.value)
        return self.card.power.active_w.value * max(leaked, 0.0)

    def _choose_clock(self, passed_s: float) -> None:
        now_s, clock = self._end_s, self.card.clock
        if now_s - self._last_work_s > clock.idle_after_s.value:
            self.mhz = self._ramp_mhz = self._idle_mhz
            self._holds, self._capped_s = frozenset(), None
            return
        climbing = self._busy_s > 0
        if climbing and self._ramp_mhz < self._highest_mhz:
            climbed = (self._highest_mhz - self._idle_mhz) * passed_s / max(clock.ramp_s.value, passed_s)
            self._ramp_mhz = min(self._ramp_mhz + climbed, self._highest_mhz)
        limits: Mapping[Policy, float | None] = {
            "power": self._by_power(now_s),
            "software_thermal": self._by_heat(),
            "power_brake": self._by_brake(now_s),
        }
        least = max(_LEAST_SHARE * self._highest_mhz, self._idle_mhz)
        chosen = min([self._ramp_mhz, *(max(each, least) for each in limits.values() if each is not None)])
        self.mhz = self._round(chosen)
        self._holds = frozenset(
            policy
            for policy, limit in limits.items()
            if limit is not None and self._round(max(limit, least)) <= self.mhz < self._highest_mhz
        )

    def _by_power(self, now_s: float) -> float | None:
        """The clock that the power limit leaves; None where it leaves the highest."""
        left_w = self._limit_w - self._resting_w() - self._memory_w
        if self._compute_w <= max(left_w, 0.0):
            self._capped_s = None
            return None
        if self._capped_s is None:
            self._capped_s = now_s
        power = self.card.power
        held_mhz: float = self._highest_mhz * (max(left_w, 0.0) / self._compute_w) ** (1 / self._exponent)
        turns = (now_s - self._capped_s) / power.swing_s.value
        return held_mhz + power.swing_mhz.value * math.sin(2 * math.pi * turns)

    def _by_heat(self) -> float | None:
        heat = self.card.heat
        above_c = self._celsius - heat.slowdown_c.value
        return None if above_c <= 0 else self._highest_mhz - heat.slowdown_mhz_per_c.value * above_c

    def _by_brake(self, now_s: float) -> float | None:
        share = self.faults.brake(now_s)
        return None if share is None else share * self._highest_mhz

    def _round(self, mhz: float) -> float:
        """The nearest of the card's clocks."""
        steps = round((self._highest_mhz - mhz) / self._step_mhz)
        return max(self._highest_mhz - steps * self._step_mhz, self._idle_mhz)

    def _keep_row(self) -> None:
        past, held = self._past, self._held_s
        past["at_s"].append(self._end_s if past["at_s"] else self._begin_s)
        past["mhz"].append(self.mhz)
        past["celsius"].append(self._celsius)
        past["joules"].append(self._joules)
        past["busy_s"].append(self._busy_total_s)
        past["memory_s"].append(self._memory_total_s)
        for policy in _POLICIES:
            past[f"held_{policy}_s"].append(held[policy])
        rows = len(past["at_s"])
        if rows % _PRUNE_ROWS == 0:
            old = bisect_right(past["at_s"], past["at_s"][-1] - _KEPT_S)
            for column in past.values():
                del column[: max(old - 1, 0)]
