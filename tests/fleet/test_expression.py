"""Formulas as trees: every one translates, computes what its function does, and nothing else gets through."""

import json
import math
import operator

import pytest

from nameplate.fleet.expression import translate
from nameplate.fleet.outputs import OUTPUTS
from nameplate.report import whatif
from nameplate.report.whatif import formulas, product

TWICE = 2
NAME = "two"


def _exp(power):
    return math.exp(power)


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
    translated = formulas()
    assert {each["name"] for each in translated} == OUTPUTS.keys()
    for each in translated:
        output = OUTPUTS[each["name"]]
        assert (each["unit"], tuple(each["needs"])) == (output.unit, output.needs)
        known = {need: 1.3 + 0.7 * place for place, need in enumerate(output.needs)}
        assert evaluate(each["tree"], known) == pytest.approx(output.formula(*known.values()), rel=1e-15)


def test_the_trees_survive_json_and_what_they_need_comes_before():
    translated = json.loads(json.dumps(formulas(), allow_nan=False))
    found = set()
    for each in translated:
        assert set(each["needs"]) & OUTPUTS.keys() <= found
        found.add(each["name"])


def test_formulas_of_a_fleet_come_last_as_they_do_in_python():
    kinds = [OUTPUTS[each["name"]].of_fleet for each in formulas()]
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
    broken = type(output)("broken", "RMB", "", ("a",), power, False, False)
    monkeypatch.setitem(whatif.OUTPUTS, "broken", broken)
    with pytest.raises(ValueError, match="has no counterpart"):
        formulas()


def test_a_product_multiplies_from_the_left_as_math_prod_does():
    factors = [0.975, 0.642, 0.8617, 1.1]
    assert product(["a"]) == "a"
    assert product(["a", "b", 2.0]) == ["*", ["*", "a", "b"], 2.0]
    assert evaluate(product(factors), {}) == math.prod(factors)
