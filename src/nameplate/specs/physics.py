"""What a part's figures can't be: above what SMs, clock and FLOP per clock give, or at odds with each other.

No tool that books a sparse peak as dense, or another part's rate, gets past both comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nameplate.base.messages import Message, message
from nameplate.specs.part import Part, format_figure

# Rounding in datasheets: L40S's FP8 is 2.025 × its FP16; peaks are rounded to three digits.
_RATIO_TOLERANCE = 0.015
# H100's FP64 is printed 34 where its clock gives 33.45. A800's 320 is 2.6 % above: it doesn't pass.
_CLOCK_TOLERANCE = 0.02
# No rated peak here is below 0.92 of what the maximum clock gives; half of it is another part's rate.
_LEAST_OF_CLOCK = 0.85
_NOMINAL_TOLERANCE = 0.1


@dataclass(frozen=True)
class Violation:
    """A figure that can't be right beside the part's other figures."""

    key: str
    got: float
    expected: str
    problem: Message  # what is wrong, to be read after the key


def violations(part: Part) -> Iterator[Violation]:
    """Every figure of the part that can't be right beside its others, flagged or not."""
    yield from _against_clock(part)
    yield from _against_each_other(part)
    yield from _against_datasheet(part)


def _against_clock(part: Part) -> Iterator[Violation]:
    for table, figures in (("dense_tflops", part.datasheet), ("nominal_tflops", part.nominal)):
        for dtype, quantity in figures.items():
            most = _at_maximum(part, dtype)
            if most is None or (table == "nominal_tflops" and quantity is part.datasheet.get(dtype)):
                continue
            key = f"{table}.{dtype}"
            if quantity.value > most * (1 + _CLOCK_TOLERANCE):
                yield _above(part, key, dtype, quantity.value, most)
            elif dtype in ("fp16", "bf16") and not part.rate_limited:
                yield from _below(key, quantity.value, most)


def _above(part: Part, key: str, dtype: str, value: float, most: float) -> Violation:
    expected = f"at most {most:.4g} ({_product(part, dtype)}; dense, not sparse), or a flag with the reason"
    needs = part.clock_for(dtype, value)
    maximum = part.maximum_mhz.value if part.maximum_mhz else 0
    problem = message("above_clock", value=value, needed_mhz=needs, maximum_mhz=maximum, most=most)
    return Violation(key, value, expected, problem)


def _below(key: str, value: float, most: float) -> Iterator[Violation]:
    if value < _LEAST_OF_CLOCK * most:
        expected = f"at least {_LEAST_OF_CLOCK:g} of the {most:.4g} at the maximum clock, or rate_limited"
        yield Violation(key, value, expected, message("far_below_clock", value=value, most=most))


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
)


def _against_each_other(part: Part) -> Iterator[Violation]:
    for dtype, bases, low, high in _RATIOS:
        base = next((name for name in bases if name in part.datasheet), None)
        if base is None or dtype not in part.datasheet:
            continue
        value, against = part.datasheet[dtype].value, part.datasheet[base].value
        if low * (1 - _RATIO_TOLERANCE) <= value / against <= high * (1 + _RATIO_TOLERANCE):
            continue
        times = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        key = f"dense_tflops.{dtype}"
        expected = (
            f"{times} times {base}, which is {format_figure(against)} (both dense), or a flag with the reason"
        )
        problem = message("ratio_off", value=value, times=value / against, base=base)
        yield Violation(key, value, expected, problem)


def _against_datasheet(part: Part) -> Iterator[Violation]:
    for dtype, quantity in part.nominal.items():
        own = part.datasheet.get(dtype)
        if own and abs(quantity.value / own.value - 1) > _NOMINAL_TOLERANCE:
            key = f"nominal_tflops.{dtype}"
            expected = (
                f"within {_NOMINAL_TOLERANCE:.0%} of the datasheet's {format_figure(own.value)}, or a flag"
            )
            problem = message("not_the_datasheets", value=quantity.value, datasheet=own.value)
            yield Violation(key, quantity.value, expected, problem)


def _at_maximum(part: Part, dtype: str) -> float | None:
    """TFLOPS at the maximum clock; None where SMs, clock or FLOP per clock aren't known."""
    rate = part.flop_per_clock.get(dtype)
    if rate is None or part.multiprocessors is None or part.maximum_mhz is None:
        return None
    return part.multiprocessors.value * part.maximum_mhz.value * rate / 1e6


def _product(part: Part, dtype: str) -> str:
    units, clock = part.multiprocessors, part.maximum_mhz
    if units is None or clock is None:
        return ""
    said = f"{format_figure(units.value)} {part.unit} x {format_figure(clock.value)} MHz"
    return f"{said} x {part.flop_per_clock[dtype]}"
