"""What the readings of a timeline tell of one case: only those taken while nothing but that case ran.

Readings come some ten times a second. Batches of 20 ms between those of other cases hold none or one of them,
and a figure filled in from the readings around would be the neighbours' own. So a figure needs enough
readings inside the case's own stretches; otherwise it is None, and `absent` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.device.protocol import Counters
from nameplate.telemetry.gpu import COUNTER_SLACK, COUNTER_SLACK_S, POLICIES, GpuReading
from nameplate.telemetry.timeline import Samples, Spans, samples_inside

FEWEST_READINGS = 3
# A share of fewer means nothing: of five, one that shows a reason is already 20 %.
_FEWEST_FOR_SHARE = 5
# The least share of a case's time that its readings must stand for.
LEAST_COVERED = 0.6
# … and that must lie between two values of a counter: ten a second leave 0.4 s of a stretch of 0.6 s.
LEAST_OBSERVED = 0.3
# After other work, a clock takes some 20 to 50 ms to follow, and the power limit's loop about as long.
LEAD_S = 0.1
# `nvmlDeviceGetPowerUsage` is a second's mean on most parts (nvml.h): the second before isn't this case's.
POWER_MEAN_S = 1.0
# Where readings show a reason in more than this share of the time, its counter must have moved.
_MOST_STILL = 0.2
# The clock-event reasons of each policy that NVML counts, for drivers without the counters.
_REASONS = {
    "power": {"sw_power_cap"},
    "thermal": {"sw_thermal_slowdown", "hw_thermal_slowdown"},
    "software_thermal": {"sw_thermal_slowdown"},
    "hardware_thermal": {"hw_thermal_slowdown"},
    "power_brake": {"hw_power_brake_slowdown"},
}


@dataclass(frozen=True)
class GpuTelemetry:
    """A GPU during the batches of one case; a figure that can't be credited to the case is None.

    Shares are of the case's time, by policy: by the driver's counters, and by the reasons in the readings.
    """

    spans_s: float  # seconds of batches
    readings: int  # inside them
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    power_w: float | None
    energy_j: float | None  # by the driver's counter
    energy_integrated_j: float | None  # by its power readings
    counted_share: Mapping[str, float | None]
    reason_share: Mapping[str, float | None]
    absent: Mapping[str, Reason] = field(default_factory=dict)

    def share(self, policy: str) -> float | None:
        """The share of the time for which a policy held the clock down, by counter, else by readings.

        A counter that stands still while the readings show its reason isn't counting.
        """
        counted, shown = self.counted_share[policy], self.reason_share[policy]
        if counted is None or (counted == 0 and shown is not None and shown > _MOST_STILL):
            return shown
        return counted

    @property
    def has_impossible_clock(self) -> bool:
        """Whether there is no clock because the driver reported ones that the card can't have."""
        why = self.absent.get("sm_clock_mhz")
        return isinstance(why, Message) and why.code == "implausible"


def summarize_gpu(
    rows: Sequence[Counters],
    stretches: Spans,
    *,
    takes_turns: bool = False,
    led_s: float = 0.0,
    batches_s: float | None = None,
) -> GpuTelemetry | None:
    """Summarize a GPU's readings in the stretches of one case; None where no row has a reading.

    Where the case `takes_turns` with other work, what comes within LEAD_S of that work is left out; before
    each stretch the case's own launches had run for `led_s` already. Energy is that of the `batches_s`
    seconds of its batches, by default of the stretches.
    """
    readings = [row.gpu for row in rows if row.gpu is not None]
    if not readings:
        return None
    mine = _CaseReadings(readings, stretches, max(LEAD_S - led_s, 0.0) if takes_turns else 0.0)
    batches_s = mine.length_s if batches_s is None else batches_s
    is_mean_power = any(reading.power_source == "usage" for reading in readings)
    power_lead_s = max(POWER_MEAN_S - led_s, 0.0) if takes_turns and is_mean_power else None
    power_w = mine.mean("power_w", lead_s=power_lead_s)
    # A counter that stood still under load counts nothing.
    energy_w = mine.pace("energy_j") or None
    return GpuTelemetry(
        spans_s=batches_s,
        readings=mine.count,
        sm_clock_mhz=mine.mean("sm_clock_mhz"),
        memory_clock_mhz=mine.mean("memory_clock_mhz"),
        temperature_c=mine.mean("temperature_c"),
        power_w=power_w,
        energy_j=None if energy_w is None else energy_w * batches_s,
        energy_integrated_j=None if power_w is None else power_w * batches_s,
        counted_share={policy: mine.counted_share(policy) for policy in POLICIES},
        reason_share={policy: mine.reason_share(policy) for policy in POLICIES},
        absent=mine.absent,
    )


class _CaseReadings:
    """The readings of a GPU inside the stretches of one case; `absent` collects why figures aren't known."""

    def __init__(self, readings: Sequence[GpuReading], stretches: Spans, lead_s: float) -> None:
        self._readings, self._stretches, self._lead_s = readings, stretches, lead_s
        self.length_s = sum(end_s - begin_s for begin_s, end_s in stretches)
        self.absent: dict[str, Reason] = {}

    @property
    def count(self) -> int:
        """How many readings with a figure lie inside the stretches."""
        return sum("*" not in reading.absent for reading in self._inside())

    def mean(self, figure: str, lead_s: float | None = None) -> float | None:
        """Return the mean of a gauge, leaving `lead_s` out at the beginning of each stretch."""
        samples = self._sample(figure, lead_s)
        return samples.mean() if self._has(figure, samples) else None

    def pace(self, figure: str) -> float | None:
        """Return what a counter gained a second."""
        samples = self._sample(figure)
        return samples.pace() if self._has(figure, samples, is_counter=True) else None

    def counted_share(self, policy: str) -> float | None:
        """Return the share of the time by a policy's counter; None too where that ran faster than time."""
        figure = f"{policy}_throttle_s"
        share, samples = self.pace(figure), self._sample(figure)
        passed_s = samples.observed * samples.length_s
        if share is not None and share * passed_s > COUNTER_SLACK * passed_s + COUNTER_SLACK_S:
            self.absent[figure] = message("counter_outran", counted_s=share * passed_s, elapsed_s=passed_s)
            return None
        return None if share is None else min(share, 1.0)

    def reason_share(self, policy: str) -> float | None:
        """Return the share of the time by the reasons in the readings."""
        known = [each for each in self._readings if each.clock_event_reasons is not None]
        shown = [float(bool(_REASONS[policy] & set(each.clock_event_reasons or ()))) for each in known]
        samples = samples_inside([each.at_s for each in known], shown, self._spans())
        return samples.mean() if self._is_enough(samples, fewest=_FEWEST_FOR_SHARE) else None

    def _sample(self, figure: str, lead_s: float | None = None) -> Samples:
        return _sample(self._readings, figure, self._spans(lead_s))

    def _spans(self, lead_s: float | None = None) -> Spans:
        lead_s = self._lead_s if lead_s is None else lead_s
        return [(begin_s + lead_s, end_s) for begin_s, end_s in self._stretches if end_s - begin_s > lead_s]

    def _has(self, figure: str, samples: Samples, *, is_counter: bool = False) -> bool:
        """Whether a figure can be credited to the case; if not, `absent` says why."""
        enough = self._is_enough(samples, is_counter=is_counter)
        if not enough:
            self.absent[figure] = self._find_reason(figure) or self._describe_few(figure, samples)
        return enough

    def _is_enough(
        self, samples: Samples, *, fewest: int = FEWEST_READINGS, is_counter: bool = False
    ) -> bool:
        of_all = self._share_sampled(samples)
        observed = samples.observed * of_all if is_counter else 1.0
        return _is_enough(samples, fewest, of_all) and observed >= LEAST_OBSERVED

    def _share_sampled(self, samples: Samples) -> float:
        """Return the share of the stretches that the sampled spans make up."""
        return samples.length_s / self.length_s if self.length_s else 0.0

    def _describe_few(self, figure: str, samples: Samples) -> Message:
        if all(getattr(reading, figure) is None for reading in self._readings):
            return message("not_read")
        covered = samples.covered * self._share_sampled(samples)
        return message("too_few_readings", count=samples.count, covered=covered)

    def _find_reason(self, figure: str) -> Reason | None:
        """Return the reason that most of the readings inside give for the lack of a figure."""
        reasons = Counter(
            why for reading in self._inside() if (why := reading.why_absent(figure)) is not None
        )
        return next((why for why, _ in reasons.most_common(1)), None)

    def _inside(self) -> list[GpuReading]:
        return [
            reading
            for reading in self._readings
            if any(begin_s <= reading.at_s <= end_s for begin_s, end_s in self._stretches)
        ]


def mean_of(rows: Sequence[Counters], figure: str, stretches: Spans) -> float | None:
    """Return the mean of a host's gauge in the stretches; None with too few rows inside."""
    samples = _sample(rows, figure, stretches)
    return samples.mean() if _is_enough(samples) else None


def pace_of(rows: Sequence[Counters], figure: str, stretches: Spans) -> float | None:
    """Return what a host's counter gained a second in the stretches; None with too few rows inside."""
    samples = _sample(rows, figure, stretches)
    return samples.pace() if _is_enough(samples) and samples.observed >= LEAST_OBSERVED else None


def _is_enough(samples: Samples, fewest: int = FEWEST_READINGS, of: float = 1.0) -> bool:
    """Whether there are enough samples; `of` is the share of the stretches that was sampled at all."""
    return samples.count >= fewest and samples.covered * of >= LEAST_COVERED


def _sample(rows: Sequence[Any], figure: str, spans: Spans) -> Samples:
    return samples_inside([row.at_s for row in rows], [getattr(row, figure) for row in rows], spans)
