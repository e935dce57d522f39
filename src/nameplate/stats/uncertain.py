"""An uncertain number: its value, the ends of its range, and the probability law between them.

    exact                no spread
    uniform, triangular  from `low` to `high`; the mode of triangular is `value`
    normal, lognormal    `low` and `high` are the 95 % interval; `value` is the mean, or the median
    logitnormal          the same of a share between 0 and 1: ln(share ÷ (1 − share)) is normal

Draws of every law come from uniform draws through its quantile function. So another law or spread changes an
input's draws and keeps their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from nameplate.base.errors import InputError

Draws = NDArray[np.floating[Any]]
Number = float | Draws  # a plain number, or draws of it
Law = Literal["exact", "uniform", "triangular", "normal", "lognormal", "logitnormal"]
LAWS: tuple[Law, ...] = get_args(Law)
# Half-width of the 95 % interval of a normal law, in standard deviations.
_HALF_95 = 1.959963984540054
# In standard deviations; none of 2^24 draws falls farther out.
_FARTHEST = 5.5
_GRAMMAR = "a number above 0, LOW..HIGH (uniform) or LOW..VALUE..HIGH (triangular)"


@dataclass(frozen=True)
class Uncertain:
    """A number and its spread. ValueError, with what is expected, if they don't fit together."""

    value: float
    low: float
    high: float
    law: Law

    def __post_init__(self) -> None:
        expected = self._find_fault()
        if expected:
            raise ValueError(expected)

    def _find_fault(self) -> str | None:
        """What is expected instead; None if the number is valid."""
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            return "finite numbers"
        if not self.low <= self.value <= self.high:
            return "low ≤ value ≤ high"
        if self.law == "exact":
            return None if self.low == self.high else "another law than exact where low and high differ"
        if self.low == self.high:
            return "the law exact where low and high are the same"
        if self.law == "lognormal" and self.low <= 0:
            return "a low end above 0 for a lognormal law"
        if self.law == "logitnormal" and not 0 < self.low < self.high < 1:
            return "ends between 0 and 1 for a logitnormal law"
        if self.law == "normal" and self.value <= _FARTHEST * self._deviation:
            return "a normal law that doesn't reach 0; use lognormal"
        return None

    @property
    def _deviation(self) -> float:
        return (self.high - self.low) / (2 * _HALF_95)

    def quantiles(self, u: Draws) -> Number:
        """The law's quantiles at the probabilities `u`; the value itself if it is exact."""
        low, value, high = self.low, self.value, self.high
        if self.law == "exact":
            return value
        if self.law == "uniform":
            return low + u * (high - low)
        if self.law == "triangular":
            mode = (value - low) / (high - low)
            rising = np.sqrt(np.minimum(u, mode) * ((high - low) * (value - low)))
            falling = np.sqrt((1 - np.maximum(u, mode)) * ((high - low) * (high - value)))
            return rising - falling + (low + high - value)
        normal: Draws = ndtri(u)
        if self.law == "normal":
            return value + normal * self._deviation
        if self.law == "logitnormal":
            spread = (logit(high) - logit(low)) / (2 * _HALF_95)
            share: Draws = expit(logit(value) + normal * np.float32(spread)).astype(u.dtype)
            return share
        drawn: Draws = value * np.exp(normal * (math.log(high / low) / (2 * _HALF_95)))
        return drawn

    def as_json(self) -> dict[str, float | str]:
        """Value, ends and law."""
        return {"value": self.value, "low": self.low, "high": self.high, "law": self.law}


def exact(value: float) -> Uncertain:
    """A number without spread."""
    return Uncertain(value, value, value, "exact")


def with_spread(value: float, low: float | None, high: float | None, law: Law | None) -> Uncertain:
    """A number with the spread that a file states, or without one.

    ValueError, with what is expected, if only a part of a spread is stated or it doesn't fit the value.
    """
    if law in (None, "exact") and low in (None, value) and high in (None, value):
        return exact(value)
    if low is None or high is None or law is None:
        raise ValueError(f"low, high and law together, or none of them; the laws are {', '.join(LAWS)}")
    return Uncertain(value, low, high, law)


Written = float | str | Sequence[float] | Uncertain


def read_uncertain(written: Written, where: str) -> Uncertain:
    """Read a number from a flag or a caller: `1.2`, `1.1..1.4`, `1.1..1.2..1.4`, or a pair or triple.

    Two numbers mean a uniform law with their mean as its value, three a triangular one. Raises InputError,
    with `where`, for anything else and for a number below 0.
    """
    if isinstance(written, Uncertain):
        return written
    try:
        numbers = _numbers(written)
        low, high = numbers[0], numbers[-1]
        if not 1 <= len(numbers) <= 3 or low < 0:
            raise ValueError(_GRAMMAR)
        if len(numbers) == 1 or low == high:
            return exact(low)
        if len(numbers) == 2:
            return Uncertain((low + high) / 2, low, high, "uniform")
        return Uncertain(numbers[1], low, high, "triangular")
    except (TypeError, ValueError, OverflowError):  # an int of 400 digits overflows
        raise InputError(
            "not a number, nor a range of them", where=where, got=written, expected=_GRAMMAR
        ) from None


def _numbers(written: float | str | Sequence[float]) -> list[float]:
    if isinstance(written, str):
        return [float(each) for each in written.split("..")]
    if isinstance(written, bool):
        raise TypeError
    return [float(written)] if isinstance(written, int | float) else [float(each) for each in written]
