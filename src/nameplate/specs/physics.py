"""The load-time check of a part: figures that its SMs and clock can't give, or that contradict one another.

A sparse peak entered as dense fails it, and so does a figure of another part. Each figure is held to SMs ×
FLOP per clock × the clock that it is rated at, within 1 %, and to what the highest clock gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from nameplate.base.messages import Message, message, own_text
from nameplate.base.toml import bad_value
from nameplate.specs.figure import OTHER, Dtype, Quantity, format_figure
from nameplate.specs.part import Part

# Rounding in datasheets: L40S's FP8 is 2.025 × its FP16; peaks are rounded to three digits.
_RATIO_TOLERANCE = 0.015
# Figures are printed with two to four digits: V100's 7 TFLOPS are 7.07, A30's 5.2 are 5.16. Where rounding is
# coarser than this (H100's 34 for 33.45), the entry says what was rounded. A800's 320 is 2.6 % above: it
# doesn't pass.
_CLOCK_TOLERANCE = 0.01
_ROUNDING_TOLERANCE = 0.03
# No rated peak here is below 0.92 of what the maximum clock gives; half of it is another part's rate.
_LEAST_OF_CLOCK = 0.85
_NOMINAL_TOLERANCE = 0.1

# dtype, what it is compared with (the first the part has), and the ratios that hardware has.
_RATIOS: tuple[tuple[str, tuple[str, ...], float, float], ...] = (
    ("fp16", ("bf16",), 1, 1),
    ("tf32", ("bf16", "fp16"), 0.5, 0.5),
    ("fp16_acc16", ("fp16",), 1, 2),
    ("fp8_e4m3", ("bf16", "fp16"), 2, 2),
    ("fp8_e4m3_acc16", ("fp8_e4m3",), 1, 2),
    ("int8", ("fp16_acc16", "bf16", "fp16"), 2, 2),
    ("fp4", ("fp8_e4m3",), 1, 4),
    ("fp64_tensor", ("fp64",), 1, 2),
    ("fp32_tensor", ("fp32",), 1, 2),
)


@dataclass(frozen=True)
class Violation:
    """A figure that can't be right given the part's other figures."""

    key: str
    got: float
    expected: str
    problem: Message  # what is wrong, to be read after the key


def check(part: Part) -> None:
    """Raise InputError for a violation that no flag names, and for a flag that names no violation."""
    flagged = {key for flag in part.flags for key in flag.figures}
    found = list(find_violations(part))
    for violation in found:
        if violation.key not in flagged:
            raise bad_value(part.file, f"part[{part.id}].{violation.key}", violation.got, violation.expected)
    for key in flagged - {violation.key for violation in found}:
        raise bad_value(part.file, f"part[{part.id}].flag", key, "a figure that fails the load-time check")


def describe_flags(part: Part) -> tuple[Message, ...]:
    """Return a message for each flag and problem, naming the figures that have this problem in common."""
    said = []
    found = list(find_violations(part))
    for flag in part.flags:
        keys_of: dict[Message, list[str]] = {}
        for violation in found:
            if violation.key in flag.figures:
                keys_of.setdefault(violation.problem, []).append(violation.key)
        why = own_text(flag.why) if part.is_shipped else flag.why
        said += [
            message("flagged", figures=keys, problem=problem, why=why) for problem, keys in keys_of.items()
        ]
    return tuple(said)


def find_violations(part: Part) -> Iterator[Violation]:
    """Yield every figure of the part that can't be right given its others, flagged or not."""
    yield from _against_rounding(part)
    yield from _against_clock(part)
    yield from _against_rated_clock(part)
    yield from _against_each_other(part)
    yield from _against_datasheet(part)


def _against_clock(part: Part) -> Iterator[Violation]:
    """Figures above what the highest clock gives, and peaks far below it."""
    for key, dtype, quantity in _throughputs(part):
        most = _tflops_at(part, dtype, part.maximum_mhz)
        if most is None:
            continue
        if quantity.exact > most * (1 + _CLOCK_TOLERANCE):
            yield _above(part, key, quantity.value, most)
        elif (
            dtype in ("fp16", "bf16")
            and not part.rate_limit(dtype)
            and quantity.value < _LEAST_OF_CLOCK * most
        ):
            expected = f"at least {_LEAST_OF_CLOCK:g} of the {most:.4g} at the maximum clock, or rate_limited"
            problem = message("far_below_clock", value=quantity.value, most=most)
            yield Violation(key, quantity.value, expected, problem)


def _against_rated_clock(part: Part) -> Iterator[Violation]:
    """Figures of the datasheet that their rated clock doesn't give, and rated clocks above the highest."""
    for dtype, quantity in part.datasheet.items():
        clock = part.rated_mhz.get(cast("Dtype", dtype)) or part.rated_mhz.get(OTHER)
        expected = None if part.rate_limit(dtype) else _tflops_at(part, dtype, clock)
        if clock is None or expected is None or abs(quantity.exact / expected - 1) <= _CLOCK_TOLERANCE:
            continue
        said = (
            f"{expected:.4g} ({_factors(part, dtype, clock)}; dense, not sparse), or a flag with the reason"
        )
        problem = message("off_rated_clock", value=quantity.value, rated_mhz=clock.value, expected=expected)
        yield Violation(f"dense_tflops.{dtype}", quantity.value, said, problem)
    highest = part.maximum_mhz
    for dtype, clock in part.rated_mhz.items():
        if highest and clock.value > highest.value * (1 + _CLOCK_TOLERANCE):
            said = f"at most maximum_mhz, {format_figure(highest.value)}, or a flag with the reason"
            problem = message("above_maximum_clock", value=clock.value, maximum_mhz=highest.value)
            yield Violation(f"rated_mhz.{dtype}", clock.value, said, problem)


def _against_rounding(part: Part) -> Iterator[Violation]:
    """Figures that no rounding makes of what they were rounded from."""
    for key, _dtype, quantity in _throughputs(part):
        if abs(quantity.exact / quantity.value - 1) > _ROUNDING_TOLERANCE:
            expected = f"within {_ROUNDING_TOLERANCE:.0%} of its unrounded {format_figure(quantity.exact)}"
            problem = message("not_rounded_from", value=quantity.value, unrounded=quantity.exact)
            yield Violation(key, quantity.value, expected, problem)


def _throughputs(part: Part) -> Iterator[tuple[str, str, Quantity]]:
    """Yield key, dtype and figure of everything that is a throughput."""
    for key, quantity in part.figures():
        table, _, dtype = key.partition(".")
        if table in ("dense_tflops", "nominal_tflops"):
            yield key, dtype, quantity


def _above(part: Part, key: str, value: float, most: float) -> Violation:
    dtype = key.partition(".")[2]
    clock = part.maximum_mhz
    assert clock, "the maximum is computed from the clock"
    expected = (
        f"at most {most:.4g} ({_factors(part, dtype, clock)}; dense, not sparse), or a flag with the reason"
    )
    needed_mhz = part.clock_for(dtype, value)
    problem = message("above_clock", value=value, needed_mhz=needed_mhz, maximum_mhz=clock.value, most=most)
    return Violation(key, value, expected, problem)


def _factors(part: Part, dtype: str, clock: Quantity) -> str:
    """What a figure is the product of, as a sentence shows it."""
    units = format_figure(part.multiprocessors.value) if part.multiprocessors else "?"
    return f"{units} {part.unit} x {format_figure(clock.value)} MHz x {part.flop_per_clock[dtype]}"


def _tflops_at(part: Part, dtype: str, clock: Quantity | None) -> float | None:
    """TFLOPS at a clock; None where SMs, clock or FLOP per clock aren't known."""
    rate = part.flop_per_clock.get(dtype)
    if rate is None or part.multiprocessors is None or clock is None:
        return None
    return part.multiprocessors.value * clock.value * rate / 1e6


def _against_each_other(part: Part) -> Iterator[Violation]:
    datasheet = part.datasheet
    for dtype, bases, low, high in _RATIOS:
        base = next((name for name in bases if name in datasheet), None)
        if base is None or dtype not in datasheet:
            continue
        value, against = datasheet[dtype].value, datasheet[base].value
        if low * (1 - _RATIO_TOLERANCE) <= value / against <= high * (1 + _RATIO_TOLERANCE):
            continue
        times = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        expected = (
            f"{times} times {base}, which is {format_figure(against)} (both dense), or a flag with the reason"
        )
        problem = message("ratio_off", value=value, times=value / against, base=base)
        yield Violation(f"dense_tflops.{dtype}", value, expected, problem)


def _against_datasheet(part: Part) -> Iterator[Violation]:
    for dtype, quantity in part.nominal.items():
        own = part.datasheet.get(dtype)
        if own and abs(quantity.value / own.value - 1) > _NOMINAL_TOLERANCE:
            figure = format_figure(own.value)
            expected = f"within {_NOMINAL_TOLERANCE:.0%} of the datasheet's {figure}, or a flag"
            problem = message("not_the_datasheets", value=quantity.value, datasheet=own.value)
            yield Violation(f"nominal_tflops.{dtype}", quantity.value, expected, problem)
