"""What a simulated card is like at one moment, for whatever shows it: its driver, its launches, its faults.

Whoever simulates a card keeps its past, so that it can be read at any time up to now: a process that watches
it asks later about the moments at which it would have read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

# What holds a clock down, as NVML counts it.
Policy = Literal["power", "software_thermal", "hardware_thermal", "power_brake"]


@dataclass(frozen=True)
class State:
    """A card at one moment; what ends in `_s` or `_j` is a running total since the beginning of time.

    `holds` are the policies that hold the clock down now, `held_s` for how long each has.
    """

    at_s: float
    sm_clock_mhz: float
    temperature_c: float
    memory_temperature_c: float
    energy_j: float
    busy_s: float = 0.0  # with a kernel running
    memory_busy_s: float = 0.0  # … that reads or writes memory
    holds: frozenset[Policy] = frozenset()
    held_s: Mapping[Policy, float] = field(default_factory=dict)
    busy: bool = False


class Past(Protocol):
    """A card's past."""

    def at(self, seconds: float) -> State:
        """Return what the card was like then, on the virtual clock; for a later time what it is like now."""
