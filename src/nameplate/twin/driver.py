"""What the driver of a simulated card shows at one moment: figures as it rounds, averages and counts them.

Each driver generation numbers its slowdown counters in its own way. Power is a mean over a window, looked at
in steps, and the energy counter moves in steps. A MIG slice has neither; on a superchip energy is the whole
module's. Numbers of fields and bits are those of nvml.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import NAMESPACE_DNS, UUID, uuid5

from nameplate.telemetry.nvml_sources import slowdown_fields
from nameplate.twin.card import Card
from nameplate.twin.faults import Faults
from nameplate.twin.state import Past, Policy

POWER_INSTANT, POWER_AVERAGE = 186, 185
_POWER_HELD, _HEAT_HELD, _MEMORY_TEMPERATURE, _ENERGY = 74, 75, 82, 83
_ECC_DOUBLE, _PCIE_REPLAYS, _REMAPPED, _RECOVERY_ACTION = 4, 94, (142, 143, 144, 145), 230
# In the order of `slowdown_fields`; to other drivers these numbers are settings of power smoothing.
_SLOWDOWNS: Sequence[Policy] = ("software_thermal", "hardware_thermal", "power_brake")
_SLOWDOWN_NUMBERS, _SLOWDOWNS_SINCE = (251, 252, 253, 269, 270, 271), 575
_REASONS: Mapping[Policy, int] = {
    "power": 0x4,
    "software_thermal": 0x20,
    "hardware_thermal": 0x40 | 0x8,
    "power_brake": 0x80 | 0x8,
}
_IDLE = 0x1
_UTILIZATION_S = 1.0  # "between 1 second and 1/6 second", by the product
_GA100 = "8.0"  # has no average power: the one call gives what field 186 does
_CONTEXT_BYTES = 600 << 20  # what a process's context and its kernels take besides what it allocates


def driver_branch(version: str) -> int:
    """Return 580 of 580.159.04."""
    return int(version.split(".", maxsplit=1)[0])


@dataclass(eq=False)
class Driver:
    """The driver's view of one GPU, at the moment that `clock` shows.

    `allocated` returns the bytes that this process has allocated there.
    """

    card: Card
    past: Past
    clock: Callable[[], float]
    index: int = 0
    faults: Faults = field(default_factory=Faults)
    allocated: Callable[[], int] = lambda: 0

    def seen_at(self, clock: Callable[[], float]) -> Driver:
        """Return the same driver, asked by another clock."""
        return replace(self, clock=clock)

    @property
    def uuid(self) -> UUID:
        """Its UUID as torch has it: on a card in MIG mode that of the slice."""
        return self.card_uuid if self.card.environment.mig is None else self._make_uuid("slice")

    @property
    def card_uuid(self) -> UUID:
        """The card's own UUID."""
        return self._make_uuid("card")

    def _make_uuid(self, what: str) -> UUID:
        return uuid5(NAMESPACE_DNS, f"{what}.{self.index}.{self.card.name}.twin.invalid")

    def _correct(self, figure: str, value: int) -> int:
        """Return a figure, or what a driver that answers nonsense says in its place."""
        return self.faults.nonsense(self.clock()).get(figure, value)

    def sm_clock_mhz(self) -> int:
        """Return the clock of the multiprocessors."""
        return self._correct("sm_clock", round(self.past.at(self.clock()).sm_clock_mhz))

    def memory_clock_mhz(self) -> int:
        """Return the memory's clock."""
        return self._correct("memory_clock", round(self.card.clock.memory_mhz.value))

    def temperature_c(self) -> int:
        """Return the temperature of the multiprocessors."""
        return self._correct("temperature", round(self.past.at(self.clock()).temperature_c))

    def reasons(self) -> int:
        """Return the bits of the clock-event reasons."""
        now = self.past.at(self.clock())
        held = 0
        for policy in now.holds:
            held |= _REASONS[policy]
        return held or (0 if now.busy else _IDLE)

    def utilization(self) -> tuple[int, int]:
        """Return the percent of the last second in which a kernel ran, and in which one used the memory."""
        now_s = self.clock()
        begin_s = max(now_s - _UTILIZATION_S, 0.0)
        now, before = self.past.at(now_s), self.past.at(begin_s)
        spent_s = (now.busy_s - before.busy_s, now.memory_busy_s - before.memory_busy_s)
        busy, memory = (round(100 * min(each / max(now_s - begin_s, 1e-9), 1.0)) for each in spent_s)
        return self._correct("utilization", busy), memory

    def memory_used_bytes(self) -> int:
        """Return what every process together has in use: only this one is there."""
        return self.allocated() + _CONTEXT_BYTES

    def energy_mj(self) -> int:
        """Return the energy counter: the card's, on a superchip the whole module's."""
        step_s = self.card.telemetry.energy_step_s.value
        at_s = math.floor(self.clock() / step_s) * step_s
        beside_w = self.card.telemetry.beside_w
        beside_j = 0.0 if beside_w is None else beside_w.value * at_s
        return self._correct("energy", round((self.past.at(at_s).energy_j + beside_j) * 1e3))

    def power_mw(self) -> int:
        """Return power as the one call of older drivers has it: instant on a GA100, elsewhere the average."""
        fields = self.fields()
        return fields.get(POWER_AVERAGE, fields[POWER_INSTANT])

    def _mean_mw(self, window_s: float) -> int:
        """Return the mean power of the window before the last look."""
        step_s = self.card.telemetry.power_step_s.value
        looked_s = math.floor(self.clock() / step_s) * step_s
        begin_s = max(looked_s - window_s, 0.0)
        if looked_s <= begin_s:
            return round(self.card.power.idle_w.value * 1e3)
        drawn_j = self.past.at(looked_s).energy_j - self.past.at(begin_s).energy_j
        return round(drawn_j / (looked_s - begin_s) * 1e3)

    def memory_errors(self) -> int:
        """Return the uncorrected memory errors counted since the driver was loaded."""
        return self.faults.memory_errors(self.clock())

    def fields(self) -> dict[int, int]:
        """Return the value of every field that this driver has for the card, by number."""
        card, now = self.card, self.past.at(self.clock())
        branch = driver_branch(card.identity.driver)
        held_ns = {
            policy: self._correct("held", round(now.held_s.get(policy, 0.0) * 1e9)) for policy in _REASONS
        }
        found = {
            _POWER_HELD: held_ns["power"],
            _HEAT_HELD: max(held_ns["software_thermal"], held_ns["hardware_thermal"]),
            _ECC_DOUBLE: self.memory_errors(),
            _PCIE_REPLAYS: 0,
            **dict.fromkeys(_REMAPPED, 0),
        }
        if branch >= _SLOWDOWNS_SINCE:
            slowdowns, _ = slowdown_fields(card.identity.driver)
            found |= dict.fromkeys(_SLOWDOWN_NUMBERS, 0)
            found |= {number: held_ns[each] for number, each in zip(slowdowns, _SLOWDOWNS, strict=True)}
            found[_RECOVERY_ACTION] = 0
        if card.environment.mig is None:
            window_s = card.telemetry.power_window_s.value
            found[POWER_INSTANT] = self._correct("power", self._mean_mw(window_s))
            if card.identity.compute_capability != _GA100:
                found[POWER_AVERAGE] = self._correct("power", self._mean_mw(card.telemetry.average_s.value))
            found[_ENERGY] = self.energy_mj()
        if card.heat.memory_above_c.value:
            found[_MEMORY_TEMPERATURE] = round(now.memory_temperature_c)
        return found
