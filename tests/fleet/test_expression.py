"""Expressions as trees: outputs translated for the page, formulas of claims over ranges, all else refused."""

import json
import math
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nameplate.fleet.expression import Span, parse_formula, point, translate
from nameplate.fleet.outputs import OUTPUTS
from nameplate.report import whatif
from nameplate.report.whatif import multiply, translate_outputs

TWICE = 2
NAME = "two"


def _exp(power):
    return math.exp(power)


# Formulas of outputs


def evaluate(tree, known):
    """What a page does with a tree."""
    if isinstance(tree, str):
        return known[tree]
    if not isinstance(tree, list):
        return tree
    name, *parts = tree
    values = [evaluate(part, known) for part in parts]
    if name == "-" and len(values) == 1:
        return -values[0]
    of_two = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
    return math.exp(*values) if name == "exp" else of_two[name](*values)


def test_every_output_translates_and_its_tree_computes_what_its_formula_does():
    translated = translate_outputs()
    assert {each["name"] for each in translated} == OUTPUTS.keys()
    for each in translated:
        output = OUTPUTS[each["name"]]
        assert (each["unit"], tuple(each["needs"])) == (output.unit, output.needs)
        known = {need: 1.3 + 0.7 * place for place, need in enumerate(output.needs)}
        assert evaluate(each["tree"], known) == pytest.approx(output.formula(*known.values()), rel=1e-15)


def test_the_trees_survive_json_and_what_they_need_comes_before():
    translated = json.loads(json.dumps(translate_outputs(), allow_nan=False))
    found = set()
    for each in translated:
        assert set(each["needs"]) & OUTPUTS.keys() <= found
        found.add(each["name"])


def test_formulas_of_a_fleet_come_last_as_they_do_in_python():
    kinds = [OUTPUTS[each["name"]].of_fleet for each in translate_outputs()]
    assert kinds == sorted(kinds)


def test_constants_are_numbers_and_precedence_is_pythons():
    def formula(a, b, c):
        """A docstring isn't part of it."""
        return -a * TWICE - (b - c) / (b * 3.5) + _exp(a - b)

    tree = translate(formula)
    left = ["-", ["*", ["-", "a"], 2.0], ["/", ["-", "b", "c"], ["*", "b", 3.5]]]
    assert tree == ["+", left, ["exp", ["-", "a", "b"]]]
    assert evaluate(tree, {"a": 0.3, "b": 0.7, "c": 0.2}) == formula(0.3, 0.7, 0.2)


def power(a):
    return a**2


def call(a):
    return max(a, 1)


def choice(a):
    return a if a > 1 else 1


def attribute(a):
    return a.real


def unknown(a):
    return a * nowhere  # noqa: F821


def text(a):
    return a * NAME


def truth(a):
    return a * True


def named_argument(a):
    return _exp(power=a)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (power, "`a ** 2`"),
        (call, "`max(a, 1)`"),
        (choice, "`a if a > 1 else 1`"),
        (attribute, "`a.real`"),
        (unknown, "`nowhere`"),
        (text, "`NAME`"),
        (truth, "`True`"),
        (named_argument, "`_exp(power=a)`"),
    ],
)
def test_anything_else_is_refused_and_named(formula, said):
    with pytest.raises(
        ValueError, match="has no counterpart on a page: \\+ − × ÷ and _exp alone have"
    ) as error:
        translate(formula)
    assert str(error.value).startswith(said)


def test_more_than_one_expression_is_refused():
    def steps(a):
        half = a / 2
        return half * half

    def silent(a):
        """Returns nothing."""

    for formula in (steps, silent):
        with pytest.raises(ValueError, match=f"{formula.__name__} isn't one expression"):
            translate(formula)


def test_an_output_that_cant_be_translated_stops_the_page_rather_than_missing_from_it(monkeypatch):
    output = next(iter(OUTPUTS.values()))
    broken = type(output)("broken", "RMB", ("a",), power, False, False)
    monkeypatch.setitem(whatif.OUTPUTS, "broken", broken)
    with pytest.raises(ValueError, match="has no counterpart"):
        translate_outputs()


def test_a_product_multiplies_from_the_left_as_math_prod_does():
    factors = [0.975, 0.642, 0.8617, 1.1]
    assert multiply(["a"]) == "a"
    assert multiply(["a", "b", 2.0]) == ["*", ["*", "a", "b"], 2.0]
    assert evaluate(multiply(factors), {}) == math.prod(factors)


# Formulas of claims


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a-1 - b", 5),
        ("a-1 / b * 3 + 1", Fraction(23, 2)),
        ("ceil(a-1 / 3)", 3),
        ("(a-1 + b) / 1e1", Fraction(9, 10)),
        ('part("x y").fp16.datasheet * 0.1', 10),
    ],
)
def test_a_formula_is_evaluated_exactly(text, value):
    values = {"a-1": point(7), "b": point(2), 'part("x y").fp16.datasheet': point(100)}
    assert parse_formula(text).evaluate(values) == point(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1 +", "a ** b", "-a", "a // b", "a, b", "[a]", "a if b else a", "a.b", "A", "_a", "ref0()"),
        *('__import__("os")', "ceil(a, b)", "ceil(x=a)", "between(a)", "max(a, b)", "'a'", "1e999", "True"),
        *("a == b", "lambda: a", 'part("x")', "part(x).fp16.datasheet", "(" * 250, "a\0b", "1j"),
    ],
)
def test_nothing_else_is_a_formula(text):
    with pytest.raises(ValueError, match=r"a formula of numbers, ids of claims"):
        parse_formula(text)
    with pytest.raises(ValueError, match="at most 300 characters"):
        parse_formula("1 + " * 100 + "1")


positive = st.fractions(min_value=Fraction(1, 1000), max_value=1000)


@given(positive, positive, positive, st.fractions(min_value=0, max_value=1))
def test_a_range_holds_every_value_that_its_inputs_allow(low, width, other, share):
    each = parse_formula("between(a, b) * a / (b + 2) - ceil(a)")
    wide = each.evaluate({"a": Span(low, low + width), "b": point(other)})
    inside = low + share * width
    single = each.evaluate({"a": point(inside), "b": point(other)})
    assert wide.low <= single.low <= single.high <= wide.high
