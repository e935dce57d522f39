"""The chain against published figures: predictions, errors and bounds."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.fleet.validation import ChainCase, load_chain_cases, validate

CASES = {case.id: case for case in load_chain_cases()}


def check(case, **changes):
    (found,) = validate(cases=[CASES[case].model_copy(update=changes)])
    return found


def test_a_prediction_is_a_product_of_figures_and_of_learnt_quotients():
    found = check("h100-7b-x8-from-its-gemm")
    # Both 7B's are counted by llm-foundry's convention: what converts them cancels.
    assert found.published == pytest.approx(0.4461, abs=1e-4)
    assert found.error == pytest.approx(0.738 * 0.642 / 0.865 / 0.464 - 1)


def test_the_shipped_cases_hold_their_bounds_and_no_bound_is_far_from_its_error():
    for found in validate():
        assert found.passed, found.id
    worst = {
        kind: max(abs(each.error) for each in validate() if each.kind == kind)
        for kind in ("transfer", "scaling")
    }
    assert worst["transfer"] == pytest.approx(0.238, abs=1e-3)
    assert worst["scaling"] == pytest.approx(0.200, abs=1e-3)


def test_conventions_that_both_sides_share_cancel():
    found = check("a100-30b-x8-from-7b")
    assert found.error_low == pytest.approx(found.error) == pytest.approx(found.error_high)


def test_conventions_are_converted_and_one_that_isnt_known_leaves_a_range():
    found = check("a100-175b-from-30b")  # llm-foundry's against Megatron's of 2022
    assert found.error_low == pytest.approx(found.error) == pytest.approx(found.error_high)
    assert found.published == pytest.approx(0.5071, abs=1e-4)
    unknown = check("ampere-175b-x12288-from-30b")
    assert unknown.error_low < unknown.error < unknown.error_high
    assert (1 + unknown.error_high) / (1 + unknown.error_low) == pytest.approx(1.0275, abs=1e-3)


def test_a_case_never_predicts_a_figure_from_itself():
    for case in CASES.values():
        used = {*case.predict, *(each for pair in case.learn for each in pair)}
        assert case.published not in used


def test_a_bound_of_ones_own_takes_the_place_of_every_cases():
    assert [each.id for each in validate(bound=0.2) if not each.passed] == ["h100-30b-x8-from-its-gemm"]
    assert not check("a100-175b-from-30b", bound=0.001).passed


@pytest.mark.parametrize("bound", [0, -1, math.nan, math.inf])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(InputError, match="--bound: not a bound"):
        validate(bound=bound)


def test_a_case_of_an_unknown_figure_is_refused():
    case = ChainCase(id="x", kind="scaling", predict=("gone",), published="hyperscale-pue", bound=1, says="-")
    with pytest.raises(InputError, match=r"but of pue|no such published figure"):
        validate(cases=[case])
    assert find_figure("h100-sxm-scaled-7b-x8").value == 0.464
