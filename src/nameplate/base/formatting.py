"""Numbers as a person reads them: one rule for each kind of number, the same on every screen.

| kind | rule | printed |
|---|---|---|
| figure | measured or computed: three significant digits, whole numbers in full | `0.145`, `10.0`, `5,928` |
| stated | what was stated or given: its digits, eight at most | `0.65`, `989.4`, `950,000` |
| count | things: whole | `49,925` |
| ratio | a derate or another ratio of two figures: three decimals | `0.626`, `1.420` |
| percent | a share: one decimal, two below 1 % | `86.2%`, `0.45%`, `<0.01%` |
| change | a share with its sign | `+3.1%`, `-40.6%`, `∞` |
| duration | in the unit that people say it in: one decimal below ten, whole above | `0.8 s`, `1.5 h` |
| money | RMB, USD: three significant digits, millions from a million on | `65,300`, `7.50 M`, `5,928 M` |
| millions | a sum under a heading that says millions: three significant digits | `5,928`, `7.50`, `0.0653` |
| scientific | what is too large for any unit: three significant digits | `9.68 × 10^21` |
| interval | its ends, or one where both read alike | `0.745 … 0.807` |

An unknown value (None) is an en dash, never 0; zero is `0`. A number is rounded before its digits are chosen:
9.999 is `10.0`, and 59.96 seconds are `1.0 min`. NaN raises ValueError, and so does an infinity unless a rule
says otherwise. Numbers in `--json` and `--csv` are never rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from nameplate.base.language import N_, _

UNKNOWN = "–"
_DIGITS = 3
_STATED_DIGITS = 8
# Half an interval has at most so many decimals more than its figure.
_MOST_MORE_DECIMALS = 2
# A smaller share has no digit of the two decimals that a percentage below 1 has.
_LEAST_SHARE = 0.00005
_MILLION = 1e6
# Seconds in a unit, and from how many of it on the next one serves.
_UNITS = (
    (1e-6, 1000, N_("{value} µs")),
    (1e-3, 100, N_("{value} ms")),
    (1.0, 60, N_("{value} s")),
    (60.0, 60, N_("{value} min")),
    (3_600.0, 48, N_("{value} h")),
    (86_400.0, math.inf, N_("{value} days")),
)


def figure(value: float | None) -> str:
    """What was measured or computed, to three significant digits and without an exponent."""
    return UNKNOWN if value is None else _rounded(value, _decimals(value, _DIGITS))


def throughput_unit(dtype: str) -> str:
    """Return what 10^12 operations a second in a dtype are called: of integers they are no FLOPs."""
    return "TOPS" if dtype.startswith("int") else "TFLOPS"


class HasEnds(Protocol):
    """A value with the ends of its interval, such as `stats.interval.Interval`."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


def with_half_width(found: HasEnds | None) -> str:
    """A figure and half its interval, both with the figure's digits: `0.145 ± 0.002`.

    Half an interval that would read as none has up to two digits more: `0.145 ± 0.0002`, `0.145 ± <0.00001`.
    """
    if found is None:
        return UNKNOWN
    decimals = _decimals(found.value, _DIGITS)
    return f"{_rounded(found.value, decimals)} ± {_half((found.high - found.low) / 2, decimals)}"


def stated(value: float | None, digits: int = _STATED_DIGITS) -> str:
    """What was stated or given, with as many digits as it has; at most so many significant ones."""
    if value is None:
        return UNKNOWN
    text = _rounded(value, _decimals(value, digits))
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float | None) -> str:
    """How many things there are: `49,925`."""
    return UNKNOWN if value is None else _rounded(value, 0)


def ratio(value: float | None) -> str:
    """A ratio of two figures: `0.626`; one without an end is `∞`."""
    if value == math.inf:
        return "∞"
    return UNKNOWN if value is None else _rounded(value, 3 if value else 0)


def factor(value: float) -> str:
    """By how many times: `1.23 ×`; near 1 with a digit more, which a small change needs: `1.016 ×`."""
    if value == math.inf:
        return "∞"
    return f"{_rounded(value, 3 if value < 1.1 else max(_decimals(value, _DIGITS), 0))} ×"


def percent(value: float | None) -> str:
    """A share: `86.2%`, `0.45%`; one that would read as none is `<0.01%`."""
    return "<0.01%" if value is not None and 0 < value < _LEAST_SHARE else _percent(value)


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_rounded(100 * value, _percent_decimals(value))}%"


def percent_with_half_width(found: HasEnds | None) -> str:
    """A share and half its interval, in points: `86.2% ± 0.8`."""
    if found is None:
        return UNKNOWN
    decimals = _percent_decimals(found.value)
    return f"{_rounded(100 * found.value, decimals)}% ± {_half(50 * (found.high - found.low), decimals)}"


def change(value: float | None) -> str:
    """A relative change: `+3.1%`, `-40.6%`; one without an end is `∞`."""
    if value == math.inf:
        return "∞"
    text = _percent(value)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.%") else text


def duration(seconds: float | None) -> str:
    """A time in the unit that people say it in: `0.8 s`, `10 s`, `1.5 min`, `1.5 h`, `2.0 days`."""
    if seconds is None:
        return UNKNOWN
    if seconds == 0:
        return _("{value} s", value="0")
    said = ((_time(seconds / unit), most, text) for unit, most, text in _UNITS)
    # By what is printed, not by what is meant: 59.96 s would be "60 s", and are a minute.
    value, _most, text = next(each for each in said if abs(float(each[0].replace(",", ""))) < each[1])
    return _(text, value=value)


def money(amount: float | None) -> str:
    """A sum of money whose currency is stated elsewhere: `5,928 M`, `7.50 M`, `65,300`."""
    if amount is None:
        return UNKNOWN
    value, in_millions = _of_money(amount)
    return _("{value} M", value=value) if in_millions else value


def rmb(amount: float | None) -> str:
    """A sum in RMB: `RMB 5,928 M`, `RMB 65,300`."""
    if amount is None:
        return UNKNOWN
    value, in_millions = _of_money(amount)
    return _("RMB {value} M", value=value) if in_millions else _("RMB {value}", value=value)


def millions(amount: float | None) -> str:
    """A sum in a column whose heading says millions: `5,928`, `7.50`."""
    return figure(None if amount is None else amount / _MILLION)


def scientific(value: float | None) -> str:
    """What is too large for any unit: `9.68 × 10^21`."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    _check(value)
    mantissa, _mark, exponent = f"{value:.{_DIGITS - 1}e}".partition("e")
    return f"{mantissa} × 10^{int(exponent)}"


def interval(formatter: Callable[[float], str], *points: float | None) -> str:
    """The known points in a row, such as `0.745 … 0.807`; a single one where the ends read alike."""
    known = [formatter(each) for each in points if each is not None]
    if not known:
        return UNKNOWN
    return known[0] if known[0] == known[-1] else " … ".join(known)


def _check(value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that could be printed")


def _decimals(value: float, digits: int) -> int:
    """Decimals that leave so many significant digits, after rounding to them: 9.999 is 10.0."""
    if value == 0 or not math.isfinite(value):
        return 0
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def _percent_decimals(value: float) -> int:
    """One decimal; two below 1 %, after rounding to them; none for zero."""
    return 0 if value == 0 else 1 if abs(round(100 * value, 2)) >= 1 else 2


def _rounded(value: float, decimals: int) -> str:
    """With thousands separators; what rounds to zero has no sign."""
    _check(value)
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def _half(value: float, decimals: int) -> str:
    """Half an interval with its figure's digits; one that would read as none has a digit of its own.

    One that is smaller still is below the last of those digits: `<0.001`.
    One without a limit is `∞`.
    """
    if value == math.inf:
        return "∞"
    if value == 0 or round(value, decimals) != 0:
        return _rounded(value, decimals)
    most = decimals + _MOST_MORE_DECIMALS
    own = _decimals(value, 1)
    return _rounded(value, own) if own <= most else f"<{10.0**-most:.{most}f}"


def _time(value: float) -> str:
    if abs(round(value, 2)) <= 0.95:  # what is more is printed as 1.0
        return stated(value, 2)
    return _rounded(value, 1 if abs(value) < 9.95 else 0)


def _of_money(amount: float) -> tuple[str, bool]:
    """The number to print, and whether it counts millions."""
    rounded = float(f"{amount:.{_DIGITS}g}")
    if abs(rounded) >= _MILLION:
        return figure(amount / _MILLION), True
    return figure(rounded), False
