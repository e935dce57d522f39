"""Which numbers a GPU's figures can be: a driver may report nonsense as a success, such as 4294967295 MHz.

A number outside its range is absent, with a reason that quotes it, so that no ceiling, energy or verdict
follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from nameplate.base.messages import message
from nameplate.telemetry.sampling import Absent

_CLOCK_MHZ = (1.0, 30_000.0)  # GDDR7 is reported as 14,001 MHz; a clock of 0 is a card that doesn't answer
_POWER_W = (0.0, 10_000.0)  # a superchip's module draws 2,700 W
_TEMPERATURE_C = (-20.0, 150.0)
_PERCENT = (0.0, 100.0)
_SECONDS = (0.0, 3e9)  # a century
# Wide enough for any card; a card's own facts narrow some of them (`card_bounds`).
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("sm_clock_mhz", "memory_clock_mhz"), _CLOCK_MHZ),
    **dict.fromkeys(("max_sm_clock_mhz", "max_memory_clock_mhz"), _CLOCK_MHZ),
    **dict.fromkeys(("power_w", "power_average_w", "power_limit_w", "default_power_limit_w"), _POWER_W),
    **dict.fromkeys(("temperature_c", "memory_temperature_c"), _TEMPERATURE_C),
    **dict.fromkeys(("gpu_utilization_percent", "memory_utilization_percent"), _PERCENT),
    **dict.fromkeys(("power_throttle_s", "thermal_throttle_s"), _SECONDS),
    **dict.fromkeys(("software_thermal_throttle_s", "hardware_thermal_throttle_s"), _SECONDS),
    "power_brake_throttle_s": _SECONDS,
    "energy_j": (0.0, 1e13),  # 10 kW for thirty years
    "memory_bytes": (1.0, 1e13),
    "memory_used_bytes": (0.0, 1e13),
    **dict.fromkeys(("pcie_generation", "max_pcie_generation"), (1.0, 16.0)),
    **dict.fromkeys(("pcie_width", "max_pcie_width"), (1.0, 64.0)),
}
_ROUNDING = 1.02
# Power exceeds the limit for milliseconds: readings of 1.5 times the limit are seen.
_POWER_PEAK = 2.5
# The facts that bound a card's readings.
_POWER_LIMITS = ("power_limit_w", "default_power_limit_w")
BOUNDING_FACTS = ("max_sm_clock_mhz", "max_memory_clock_mhz", *_POWER_LIMITS)


def card_bounds(facts: Mapping[str, float | None]) -> dict[str, float]:
    """Return the most that figures of one card can be, by those of its BOUNDING_FACTS that are known."""
    limits_w = [limit for name in _POWER_LIMITS if (limit := facts.get(name)) is not None]
    most_w = _POWER_PEAK * max(limits_w) if limits_w else None
    bounds = {
        "sm_clock_mhz": _scale(facts.get("max_sm_clock_mhz"), _ROUNDING),
        "memory_clock_mhz": _scale(facts.get("max_memory_clock_mhz"), _ROUNDING),
        "power_w": most_w,
        "power_average_w": most_w,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def require_plausible(name: str, found: object, bounds: Mapping[str, float] | None = None) -> None:
    """Raise Absent for a number that the figure of that name can't be; `bounds` are those of its card."""
    if name not in _RANGES or isinstance(found, bool) or not isinstance(found, int | float):
        return
    least, most = _RANGES[name]
    most = min(most, (bounds or {}).get(name, most))
    if not least <= found <= most:
        raise Absent(message("implausible", figure=name, found=found, least=least, most=most))
