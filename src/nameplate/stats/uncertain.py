"""An uncertain number: its value, the ends of its range, and the law between them.

    exact                no spread
    uniform, triangular  from `low` to `high`, triangular with its mode at `value`
    normal, lognormal    `low` and `high` are the 95 % interval; the mean, or the median, is `value`

Every law is drawn from one uniform draw by its quantile function, so that a change of law or of spread moves
an input's draws and leaves their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nameplate.base.errors import InputError

Draws = NDArray[np.floating[Any]]
Number = float | Draws  # a plain number, or draws of it
Law = Literal["exact", "uniform", "triangular", "normal", "lognormal"]
LAWS: tuple[Law, ...] = get_args(Law)
# Half the width of a 95 % interval of the normal law, in standard deviations.
_HALF_95 = 1.959963984540054
# Farther out than any of 2^24 draws falls, in standard deviations.
_FARTHEST = 5.5
_GRAMMAR = "a number above 0, LOW..HIGH (uniform) or LOW..VALUE..HIGH (triangular)"


@dataclass(frozen=True)
class Uncertain:
    """A number and what is known of its spread. ValueError, with what is expected, where they don't fit."""

    value: float
    low: float
    high: float
    law: Law

    def __post_init__(self) -> None:
        expected = self._expected()
        if expected:
            raise ValueError(expected)

    def _expected(self) -> str | None:
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
        if self.law == "normal" and self.value <= _FARTHEST * self._deviation:
            return "a normal law that doesn't reach 0; use lognormal"
        return None

    @property
    def _deviation(self) -> float:
        return (self.high - self.low) / (2 * _HALF_95)

    def quantiles(self, u: Draws) -> Number:
        """The law's quantiles at `u`, each between 0 and 1; the value alone where it is exact."""
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
        drawn: Draws = value * np.exp(normal * (math.log(high / low) / (2 * _HALF_95)))
        return drawn

    def as_json(self) -> dict[str, float | str]:
        """Value, ends and law."""
        return {"value": self.value, "low": self.low, "high": self.high, "law": self.law}


def exact(value: float) -> Uncertain:
    """A number without spread."""
    return Uncertain(value, value, value, "exact")


def spread(value: float, low: float | None, high: float | None, law: Law | None) -> Uncertain:
    """A number with the spread that a file states of it, or none.

    ValueError, with what is expected, where only a part of a spread is stated or it doesn't fit the value.
    """
    if law in (None, "exact") and low in (None, value) and high in (None, value):
        return exact(value)
    if low is None or high is None or law is None:
        raise ValueError(f"low, high and law together, or none of them; the laws are {', '.join(LAWS)}")
    return Uncertain(value, low, high, law)


Written = float | str | Sequence[float] | Uncertain


def read(written: Written, where: str) -> Uncertain:
    """A number as a flag or a caller gives it: `1.2`, `1.1..1.4`, `1.1..1.2..1.4`, or a pair or triple.

    Two ends alone are a uniform law around their middle, three numbers a triangular one. Raises InputError,
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
            return Uncertain(low, low, high, "exact")
        if len(numbers) == 2:
            return Uncertain((low + high) / 2, low, high, "uniform")
        return Uncertain(numbers[1], low, high, "triangular")
    except (TypeError, ValueError):
        raise InputError(
            "not a number, nor a range of them", where=where, got=written, expected=_GRAMMAR
        ) from None


def _numbers(written: float | str | Sequence[float]) -> list[float]:
    if isinstance(written, str):
        return [float(each) for each in written.split("..")]
    if isinstance(written, bool):
        raise TypeError
    return [float(written)] if isinstance(written, int | float) else [float(each) for each in written]
