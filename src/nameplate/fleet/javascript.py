"""The formulas of `outputs` for a page: each as a tree that a script computes, translated from its source.

So a formula stands once, in Python, and a page can't drift from it. A tree is a number, a name, or a list of
an operation and its trees: `["/", "capex_rmb", ["*", "delivered_eflops", 2]]`. A script walks it without
evaluating any text as code.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeGuard

from nameplate.fleet.outputs import OUTPUTS, Output

Tree = float | str | list[Any]

_OPERATIONS: Mapping[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.USub: "-",
}
_FUNCTIONS = {"_exp": "exp"}


def formulas() -> list[dict[str, Any]]:
    """Every output's name, unit, needs and tree, in an order in which all needs come before."""
    ordered = sorted(OUTPUTS.values(), key=lambda output: output.of_fleet)
    return [_formula(output) for output in ordered]


def translate(formula: Callable[..., Any]) -> Tree:
    """The tree of a function that returns one expression of its parameters.

    ValueError for anything but numbers, the module's constants, + − × ÷ and `_exp`.
    """
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(formula))).body
    returned = _returned(function)
    if returned is None:
        raise ValueError(f"{formula.__name__} isn't one expression, so no tree can stand for it")
    names = set(inspect.signature(formula).parameters)
    return _tree(returned, names, formula.__globals__)


def product(factors: Sequence[Tree]) -> Tree:
    """Factors multiplied from the left, as `math.prod` does it."""
    return reduce(lambda before, factor: ["*", before, factor], factors)


def _formula(output: Output) -> dict[str, Any]:
    tree = translate(output.formula)
    return {"name": output.name, "unit": output.unit, "needs": list(output.needs), "tree": tree}


def _returned(function: ast.stmt) -> ast.expr | None:
    """What a function returns, where a docstring is all that stands before it."""
    if not isinstance(function, ast.FunctionDef):
        return None
    *before, last = function.body
    said = ast.get_docstring(function) is not None
    return last.value if isinstance(last, ast.Return) and len(before) == said else None


def _tree(node: ast.expr, names: set[str], constants: Mapping[str, Any]) -> Tree:
    match node:
        case ast.Name(id=name) if name in names:
            return name
        case ast.Name(id=name) if _is_number(constants.get(name)):
            return float(constants[name])
        case ast.Constant(value=value) if _is_number(value):
            return float(value)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
            return [_OPERATIONS[type(op)], _tree(operand, names, constants)]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            sides = (_tree(each, names, constants) for each in (left, right))
            return [_OPERATIONS[type(op)], *sides]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return [_FUNCTIONS[name], _tree(argument, names, constants)]
    raise ValueError(f"`{ast.unparse(node)}` has no counterpart on a page: + − × ÷ and _exp alone have")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
