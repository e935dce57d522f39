"""The peak: the throughput that a device can't exceed, by its ratings. What is above it is a mistake.

A card boosts past the clock that its datasheet is rated at, as far as its highest clock. There it can reach
datasheet × highest clock ÷ the dtype's rated clock: an RTX 4090 is rated at 2,520 MHz and may run at 3,105.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nameplate.base.messages import Message, message
from nameplate.specs.rating import GIVEN, MEASURED, TABLE, Rating
from nameplate.workload import Workload


@dataclass(frozen=True)
class Peak:
    """A throughput in TFLOPS that nothing may lie above, and what it was computed from.

    `low` and `high` are the ends of its 95 % interval where it was measured; None: it is exact. `is_silicon`:
    it is a GPU's own limit, at the highest clock it has, and not merely a rating.
    """

    tflops: float
    source: Message
    low: float | None = None
    high: float | None = None
    is_silicon: bool = False


def rate_work(rating: Rating, work: Workload) -> Rating:
    """Return the rating that a workload is held to: where it computes in several dtypes, weighted by time."""
    flops: Mapping[str, int] | None = getattr(work, "flops_by_dtype", None)
    return rating if flops is None else rating.with_mix(work.dtype, flops)


def find_peak(rating: Rating, dtype: str, highest_mhz: float | None) -> Peak | None:
    """Return the peak of a dtype on a device whose clock reaches `highest_mhz`; None without a rating.

    The datasheet's figure itself where a clock isn't known, or where the highest isn't above the rated one.
    A rating of the user's (--nominal) is the peak where there is no datasheet, and on a CPU, whose own figure
    follows from evidence that the user may know better.
    """
    rated, rated_mhz = rating.datasheet_for(dtype), rating.rated_clock_mhz.get(dtype)
    nominal, datasheet = rating.nominal_for(dtype), rated.tflops
    if datasheet is None:
        return None if nominal.tflops is None else Peak(nominal.tflops, message("peak_is_nominal"))
    if rated.basis in (MEASURED, TABLE):  # a CPU's
        if nominal.basis == GIVEN and nominal.tflops is not None:
            return Peak(nominal.tflops, message("peak_is_given"))
        said = message("peak_is_measured") if rated.basis == MEASURED else message("peak_is_table")
        return Peak(datasheet, said, rated.low, rated.high)
    if rated_mhz is None or highest_mhz is None:
        return Peak(datasheet, message("peak_is_datasheet"))
    if highest_mhz <= rated_mhz:
        source = message("peak_clock_is_rated", highest_mhz=highest_mhz, rated_mhz=rated_mhz)
        return Peak(datasheet, source, is_silicon=True)
    source = message(
        "peak_at_highest_clock", datasheet=datasheet, highest_mhz=highest_mhz, rated_mhz=rated_mhz
    )
    return Peak(datasheet * highest_mhz / rated_mhz, source, is_silicon=True)
