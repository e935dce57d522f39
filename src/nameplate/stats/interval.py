"""A value with its 95 % confidence interval, and the arithmetic of such values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_WIDEST = 700.0  # of which e to the power is still a number


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % confidence interval, all in one unit."""

    value: float
    low: float
    high: float

    @classmethod
    def from_log_half_width(cls, value: float, log_half_width: float) -> Interval:
        """Return the interval that is symmetric about `value` on a log scale, from 0 where it is too wide."""
        if log_half_width > _WIDEST:
            return cls(value, 0.0, math.inf)
        return cls(value, value * math.exp(-log_half_width), value * math.exp(log_half_width))

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width as a fraction of the value."""
        return (self.high - self.low) / 2 / self.value if self.value else math.inf

    @property
    def log_half_width(self) -> float:
        """Half the interval's width on a log scale; infinite where the low end isn't above 0."""
        return (math.log(self.high) - math.log(self.low)) / 2 if self.low > 0 else math.inf

    def scaled(self, factor: float) -> Interval:
        """Multiply value and ends by an exact factor above 0."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def widened(self, factor: float) -> Interval:
        """Multiply the distance of both ends from the value, on a log scale; 0 to infinity where too wide."""
        if not (self.low > 0 and math.isfinite(self.high)):
            return Interval(self.value, 0.0, math.inf)
        value = math.log(self.value)
        below, above = factor * (value - math.log(self.low)), factor * (math.log(self.high) - value)
        if max(below, above) > _WIDEST:
            return Interval(self.value, 0.0, math.inf)
        return Interval(self.value, self.value * math.exp(-below), self.value * math.exp(above))

    def inverted(self, numerator: float) -> Interval:
        """Divide `numerator` by this interval, which swaps its ends. A low end of 0 becomes an infinite high
        end.
        """
        high = numerator / self.low if self.low > 0 else math.inf
        return Interval(numerator / self.value, numerator / self.high, high)


def find_low_end(time: float, half: float) -> float:
    """Return the low end of a time's interval: `time` − `half`, and never below time² ÷ (time + 2·half).

    The two meet where `half` is half the time. Beyond, a difference would soon be 0 or less, which no time
    is, and its inverse, a throughput's high end, would have no limit; so it is value × (1 + 2·half ÷ time).
    """
    return time - half if half <= time / 2 else time / (1 + 2 * half / time)


def divide(numerator: Interval, denominator: Interval) -> Interval:
    """Return the quotient of two independent figures, with each of its ends for itself.

    An end's distances from the value, on a log scale, add in quadrature: those of the numerator's low and the
    denominator's high end make the low end. So a one-sided interval stays one-sided, and one of no width
    changes nothing. Values must be above 0; where a part has no low end above 0, nothing bounds the quotient.
    """
    value = numerator.value / denominator.value
    if not (min(numerator.low, denominator.low) > 0 and math.isfinite(max(numerator.high, denominator.high))):
        return Interval(value, 0.0, math.inf)
    below = math.hypot(
        math.log(numerator.value / numerator.low), math.log(denominator.high / denominator.value)
    )
    above = math.hypot(
        math.log(numerator.high / numerator.value), math.log(denominator.value / denominator.low)
    )
    return Interval(value, value * math.exp(-below), value * math.exp(above))


def ratio(numerator: Interval, denominator: Interval) -> Interval:
    """Return the quotient of two independent figures; their half-widths on a log scale add in quadrature.

    Raises ValueError when either value isn't above 0.
    """
    if numerator.value <= 0 or denominator.value <= 0:
        raise ValueError(f"a ratio needs two figures above 0; got {numerator.value} and {denominator.value}")
    half = math.hypot(numerator.log_half_width, denominator.log_half_width)
    return Interval.from_log_half_width(numerator.value / denominator.value, half)


def harmonic_mean(figures: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """Return the weighted harmonic mean of throughputs: that of several parts of a work, weighted by FLOPs.

    Times add up, so the mean is Σw ÷ Σ(w ÷ throughput). The parts are independent, so the half-widths of
    their times add in quadrature; the low end is at least the sum of theirs. Raises ValueError for no
    figures.
    """
    if not figures:
        raise ValueError("a mean needs at least one figure")
    total = sum(weights)
    times = [figure.inverted(weight) for figure, weight in zip(figures, weights, strict=True)]
    time = sum(each.value for each in times)
    half = math.sqrt(sum(((each.high - each.low) / 2) ** 2 for each in times))
    return Interval(time, max(time - half, sum(each.low for each in times)), time + half).inverted(total)
