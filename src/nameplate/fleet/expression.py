"""Expressions as trees: the formulas of claims, and the formulas of `outputs` that a page computes by.

A tree is a number, a name, or a list of an operation and its trees: `["/", "capex_rmb", ["*", "cards", 2]]`.
Python's parser reads the text, and `_tree` accepts the operations of one grammar and refuses all else, so no
text is ever evaluated as code. Formulas of claims are computed here, exactly and over ranges; those of
`outputs` by the page's script, from the tree as JSON.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, TypeGuard

Tree = float | Fraction | str | list[Any]
# The operations of a grammar, as (sign or function, number of arguments), and what a tree calls them.
Grammar = Mapping[tuple[str, int], str]

_SIGNS: Mapping[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.USub: "-",
}
_OF_TWO: Grammar = {(sign, 2): sign for sign in "+-*/"}
_OF_CLAIMS: Grammar = {**_OF_TWO, ("ceil", 1): "ceil", ("between", 2): "between"}
_OF_OUTPUTS: Grammar = {**_OF_TWO, ("-", 1): "-", ("_exp", 1): "exp"}


def _tree(
    node: ast.expr, names: Mapping[str, Tree], grammar: Grammar, number: Callable[[float], Tree]
) -> Tree:
    """The node as a tree; `names` says what stands for a name, and `number` for a number.

    Raises ValueError, with the source of the node, for what is neither in `names` nor in the grammar.
    """
    match node:
        case ast.Constant(value=value) if _is_number(value):
            return number(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=op, operand=operand):
            called, arguments = _SIGNS.get(type(op), ""), [operand]
        case ast.BinOp(left=left, op=op, right=right):
            called, arguments = _SIGNS.get(type(op), ""), [left, right]
        case ast.Call(func=ast.Name(id=called), args=arguments, keywords=[]):
            pass
        case _:
            raise ValueError(ast.unparse(node))
    operation = grammar.get((called, len(arguments)))
    if operation is None:
        raise ValueError(ast.unparse(node))
    return [operation, *(_tree(each, names, grammar, number) for each in arguments)]


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number: True isn't one, and Python reads `1e999` as infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Formulas of outputs: functions of Python, for a page


def translate(function: Callable[..., Any]) -> Tree:
    """The tree of a function that returns one expression of its parameters.

    Raises ValueError for anything but numbers, the module's constants, + − × ÷ and `_exp`.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    returned = _returned(definition)
    if returned is None:
        raise ValueError(f"{function.__name__} isn't one expression, so no tree can stand for it")
    names: dict[str, Tree] = {
        **{name: float(value) for name, value in function.__globals__.items() if _is_number(value)},
        **{name: name for name in inspect.signature(function).parameters},
    }
    try:
        return _tree(returned, names, _OF_OUTPUTS, float)
    except ValueError as error:
        raise ValueError(f"`{error}` has no counterpart on a page: + − × ÷ and _exp alone have") from None


def _returned(definition: ast.stmt) -> ast.expr | None:
    """What a function returns, where nothing but a docstring stands before it."""
    if not isinstance(definition, ast.FunctionDef):
        return None
    *before, last = definition.body
    has_docstring = ast.get_docstring(definition) is not None
    return last.value if isinstance(last, ast.Return) and len(before) == has_docstring else None


# Formulas of claims: text of a file, computed over ranges. Two of the article's:
#
#     li-august * eflops-unit / a800-fp16
#     ceil(eflops-unit / part("nvidia-a800-sxm4-80gb").fp16.datasheet / 8)

GRAMMAR = (
    'numbers, ids of claims, part("ID").fp16.datasheet, + - * / (a minus between spaces), ceil(x), '
    "between(x, y)"
)
LONGEST = 300

# A hyphen inside a word belongs to an id, so a minus stands between spaces.
_REFERENCE = re.compile(
    r'part\("(?P<part>[^"]*)"\)\.(?P<figure>\w+(?:\.\w+)*)'
    r"|(?<![\w.])(?P<claim>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)\b(?!\s*\()"
)
_PRINTED_SIGNS = (("*", "×"), ("/", "÷"), (" - ", " − "))


class Span(NamedTuple):
    """All values from `low` to `high`; of a single value both are the same."""

    low: Fraction
    high: Fraction

    def nearest(self, other: Span) -> Fraction:
        """The value of this span that is nearest to `other`; where they overlap, one that both hold."""
        return min(max(other.low, self.low), self.high)


def point(value: float | str | Fraction) -> Span:
    """A single value, exactly as it is written: 0.1 is a tenth."""
    return Span(_exact(value), _exact(value))


def _exact(value: float | str | Fraction) -> Fraction:
    return Fraction(str(value))


class PartFigure(NamedTuple):
    """A figure of a part of the registry: `fp16.datasheet` of `nvidia-a800-sxm4-80gb`."""

    part: str
    figure: str


@dataclass(frozen=True)
class Formula:
    """A formula of a claim; `claims` and `parts` are what it refers to, the latter under their own text."""

    text: str
    claims: tuple[str, ...]
    parts: Mapping[str, PartFigure]
    tree: Tree = field(repr=False, compare=False)

    def evaluate(self, values: Mapping[str, Span]) -> Span:
        """The value, given that of each reference. Raises ZeroDivisionError.

        A reference that occurs twice counts as two: the range is then wider than it has to be.
        """
        return _evaluate(self.tree, values)

    def show_working(self, texts: Mapping[str, str]) -> str:
        """The formula as a person writes it, with the text of its figure for each reference."""
        text = _REFERENCE.sub(lambda found: texts[found[0]], self.text)
        for sign, printed in _PRINTED_SIGNS:
            text = text.replace(sign, printed)
        return text


def parse_formula(text: str) -> Formula:
    """Parse a formula. Raises ValueError, with what it may hold, for one that holds anything else."""
    if len(text) > LONGEST:
        raise ValueError(f"a formula of at most {LONGEST} characters")
    found = list(_REFERENCE.finditer(text))
    # An id isn't a name to Python, so each reference is parsed under a name of ours. No such name can be in
    # the text, since every lower-case word of it is a reference.
    names = {each: f"ref{index}" for index, each in enumerate(dict.fromkeys(each[0] for each in found))}
    source = _REFERENCE.sub(lambda each: names[each[0]], text.strip())
    try:
        expression = ast.parse(source, mode="eval").body
        tree = _tree(expression, {name: each for each, name in names.items()}, _OF_CLAIMS, _exact)
    except (SyntaxError, ValueError):
        raise ValueError(f"a formula of {GRAMMAR}") from None
    return Formula(
        text,
        tuple(dict.fromkeys(each["claim"] for each in found if each["claim"])),
        {each[0]: PartFigure(each["part"], each["figure"]) for each in found if each["claim"] is None},
        tree,
    )


def _evaluate(tree: Tree, values: Mapping[str, Span]) -> Span:
    if isinstance(tree, str):
        return values[tree]
    if isinstance(tree, list):
        operation, *arguments = tree
        return _ON_SPANS[operation](*(_evaluate(each, values) for each in arguments))
    return point(tree)


def _at_ends(calculate: Callable[[Fraction, Fraction], Fraction]) -> Callable[[Span, Span], Span]:
    """A calculation on two numbers as one on two spans: its extremes are at their ends."""

    def on_spans(left: Span, right: Span) -> Span:
        ends = [calculate(one, other) for one in left for other in right]
        return Span(min(ends), max(ends))

    return on_spans


def _divide(left: Span, right: Span) -> Span:
    if right.low <= 0 <= right.high:
        raise ZeroDivisionError
    return _at_ends(operator.truediv)(left, right)


_ON_SPANS: Mapping[str, Callable[..., Span]] = {
    "+": _at_ends(operator.add),
    "-": _at_ends(operator.sub),
    "*": _at_ends(operator.mul),
    "/": _divide,
    "ceil": lambda span: Span(*(Fraction(math.ceil(end)) for end in span)),
    "between": lambda left, right: Span(min(left.low, right.low), max(left.high, right.high)),
}
