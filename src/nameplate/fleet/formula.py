"""Formulas that claims are recomputed by: exact, over ranges, and safe to take from a user's file.

    li-august * eflops-unit / a800-fp16
    ceil(eflops-unit / part("nvidia-a800-sxm4-80gb").fp16.datasheet / 8)

A formula holds numbers, ids of claims, figures of parts, + - * /, `ceil(x)` and `between(x, y)`, which is
the range of both; nothing else is evaluated. A hyphen inside a word belongs to an id, so a minus stands
between spaces.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

GRAMMAR = (
    'numbers, ids of claims, part("ID").fp16.datasheet, + - * / (a minus between spaces), ceil(x), '
    "between(x, y)"
)
LONGEST = 300

_REFERENCE = re.compile(
    r'part\("(?P<part>[^"]*)"\)\.(?P<figure>\w+(?:\.\w+)*)'
    r"|(?<![\w.])(?P<claim>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)\b(?!\s*\()"
)
_SIGNS = (("*", "×"), ("/", "÷"), (" - ", " − "))


class Span(NamedTuple):
    """All values from `low` to `high`; a single value has both alike."""

    low: Fraction
    high: Fraction

    def nearest(self, other: Span) -> Fraction:
        """The value of this span that is nearest `other`; where they overlap, one that both hold."""
        return min(max(other.low, self.low), self.high)


def point(value: float | str | Fraction) -> Span:
    """A single value, exactly as it is written: 0.1 is a tenth."""
    exact = Fraction(str(value))
    return Span(exact, exact)


class PartFigure(NamedTuple):
    """A figure of a part of the registry: `fp16.datasheet` of `nvidia-a800-sxm4-80gb`."""

    part: str
    figure: str


_Term = Callable[[Mapping[str, Span]], Span]


@dataclass(frozen=True)
class Formula:
    """A formula, parsed; `claims` and `parts` are what it refers to, the latter under their own text."""

    text: str
    claims: tuple[str, ...]
    parts: Mapping[str, PartFigure]
    _term: _Term = field(repr=False, compare=False)

    def __call__(self, values: Mapping[str, Span]) -> Span:
        """The value, given that of each reference.

        A reference that occurs twice counts as two: the range is then wider than it has to be.
        Raises ZeroDivisionError.
        """
        return self._term(values)

    def worked(self, shown: Mapping[str, str]) -> str:
        """The formula with figures in the place of references, as a person writes it."""
        text = _REFERENCE.sub(lambda found: shown[found[0]], self.text)
        for sign, printed in _SIGNS:
            text = text.replace(sign, printed)
        return text


def parse(text: str) -> Formula:
    """Parse a formula. Raises ValueError, with what it may hold, for one that holds anything else."""
    if len(text) > LONGEST:
        raise ValueError(f"a formula of at most {LONGEST} characters")
    found = list(_REFERENCE.finditer(text))
    names = {each: f"ref{index}" for index, each in enumerate(dict.fromkeys(each[0] for each in found))}
    # Every lower-case word is a reference and gets a name of ours, so none of ours can be in the text.
    source = _REFERENCE.sub(lambda each: names[each[0]], text.strip())
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError):
        raise ValueError(f"a formula of {GRAMMAR}") from None
    return Formula(
        text,
        tuple(dict.fromkeys(each["claim"] for each in found if each["claim"])),
        {each[0]: PartFigure(each["part"], each["figure"]) for each in found if each["claim"] is None},
        _term(tree.body, {name: reference for reference, name in names.items()}),
    )


def _term(node: ast.expr, names: Mapping[str, str]) -> _Term:
    """The node as a function of the references' values. Raises ValueError for what isn't in the grammar."""
    match node:
        case ast.Constant(value=int() | float() as number) if _finite(number):
            constant = point(number)
            return lambda values: constant
        case ast.Name(id=name) if name in names:
            return operator.itemgetter(names[name])
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            calculate = _OPERATORS[type(sign)]
        case ast.Call(func=ast.Name(id="between"), args=[left, right], keywords=[]):
            calculate = _between
        case ast.Call(func=ast.Name(id="ceil"), args=[inner], keywords=[]):
            of = _term(inner, names)
            return lambda values: _ceil(of(values))
        case _:
            raise ValueError(f"a formula of {GRAMMAR}")
    first, second = _term(left, names), _term(right, names)
    return lambda values: calculate(first(values), second(values))


def _finite(number: float) -> bool:
    """`1e999` is infinite to Python, and True a number."""
    return not isinstance(number, bool) and math.isfinite(number)


def _on_ends(calculate: Callable[[Fraction, Fraction], Fraction]) -> Callable[[Span, Span], Span]:
    """A calculation on two numbers as one on two spans: its extremes are at their ends."""

    def on_spans(left: Span, right: Span) -> Span:
        ends = [calculate(one, other) for one in left for other in right]
        return Span(min(ends), max(ends))

    return on_spans


def _divide(left: Span, right: Span) -> Span:
    if right.low <= 0 <= right.high:
        raise ZeroDivisionError
    return _on_ends(operator.truediv)(left, right)


def _between(left: Span, right: Span) -> Span:
    return Span(min(left.low, right.low), max(left.high, right.high))


def _ceil(span: Span) -> Span:
    return Span(Fraction(math.ceil(span.low)), Fraction(math.ceil(span.high)))


_OPERATORS: Mapping[type[ast.operator], Callable[[Span, Span], Span]] = {
    ast.Add: _on_ends(operator.add),
    ast.Sub: _on_ends(operator.sub),
    ast.Mult: _on_ends(operator.mul),
    ast.Div: _divide,
}
