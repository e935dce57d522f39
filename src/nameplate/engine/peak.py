"""The peak: the throughput that a device can't exceed, by its ratings. What is above it is a mistake.

A card boosts past the clock that its datasheet is rated at, as far as its highest clock. There it can reach
datasheet × highest clock ÷ the dtype's rated clock: an RTX 4090 is rated at 2,520 MHz and may run at 3,105.
"""

from __future__ import annotations

from dataclasses import dataclass

from nameplate.base.messages import Message, message
from nameplate.specs.rating import Rating


@dataclass(frozen=True)
class Peak:
    """A throughput in TFLOPS that nothing may lie above, and what it was computed from."""

    tflops: float
    source: Message


def find_peak(rating: Rating, dtype: str, highest_mhz: float | None) -> Peak | None:
    """Return the peak of a dtype on a device whose clock reaches `highest_mhz`; None without a rating.

    The datasheet's figure itself where a clock isn't known, or where the highest isn't above the rated one.
    Where there is no datasheet, the user's own rating is the peak.
    """
    datasheet, rated_mhz = rating.datasheet_for(dtype).tflops, rating.rated_clock_mhz.get(dtype)
    if datasheet is None:
        nominal = rating.nominal_for(dtype).tflops
        return None if nominal is None else Peak(nominal, message("peak_is_nominal"))
    if rated_mhz is None or highest_mhz is None:
        return Peak(datasheet, message("peak_is_datasheet"))
    if highest_mhz <= rated_mhz:
        return Peak(datasheet, message("peak_clock_is_rated", highest_mhz=highest_mhz, rated_mhz=rated_mhz))
    return Peak(
        datasheet * highest_mhz / rated_mhz,
        message("peak_at_highest_clock", datasheet=datasheet, highest_mhz=highest_mhz, rated_mhz=rated_mhz),
    )
