"""Draws: streams by name, quantiles, and the share of each input in an output's variance."""

from typing import NamedTuple

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.fleet.montecarlo import Estimate, MonteCarlo, Quantity, SensitivityIndex
from nameplate.stats.uncertain import Uncertain, exact

UNIT = Uncertain(0.5, 0.0, 1.0, "uniform")


def test_a_name_has_draws_of_its_own_by_the_seed_alone():
    one, again, other = MonteCarlo(1000, 1), MonteCarlo(1000, 1), MonteCarlo(1000, 2)
    one.draw("first", UNIT)
    assert np.array_equal(one.draw("second", UNIT), again.draw("second", UNIT))
    assert not np.array_equal(again.draw("second", UNIT), other.draw("second", UNIT))
    assert abs(np.corrcoef(one.draw("first", UNIT), one.draw("second", UNIT))[0, 1]) < 0.1


def test_draws_of_one_name_keep_their_order_whatever_the_law():
    drawn = MonteCarlo(1000)
    wide = drawn.draw("a", Uncertain(2.0, 1.0, 5.0, "triangular"))
    assert np.array_equal(np.argsort(drawn.draw("a", UNIT)), np.argsort(wide))


def test_what_is_exact_isnt_drawn():
    assert MonteCarlo(1000).draw("a", exact(2.0)) == 2.0


def test_draws_are_of_32_bits():
    for law in ("uniform", "triangular", "lognormal"):
        assert MonteCarlo(1000).draw("a", Uncertain(2.0, 1.0, 4.0, law)).dtype == np.float32


def test_an_estimate_is_three_draws_and_states_the_middle_one():
    drawn = np.arange(1, 101, dtype=np.float32)[::-1]
    assert Quantity(7.0, drawn).estimate == Estimate(5.0, 50.0, 95.0)
    assert Quantity(7.0, drawn).estimate.value == 50.0
    # Between the two middle draws, the value is as good a median as either.
    assert Quantity(50.25, drawn).estimate == Estimate(5.0, 50.25, 95.0)
    assert Quantity(7.0, 7.0).estimate == Estimate(7.0, 7.0, 7.0)


def test_draws_are_stratified_so_that_few_of_them_have_the_laws_quantiles():
    drawn = Quantity(0.5, MonteCarlo(1000).draw("a", UNIT)).estimate
    assert (drawn.p5, drawn.p50, drawn.p95) == pytest.approx((0.05, 0.5, 0.95), abs=1e-3)
    assert sorted(MonteCarlo(1000).draw("a", UNIT)) == pytest.approx([(n + 0.5) / 1000 for n in range(1000)])


def test_an_estimate_scales_and_keeps_what_isnt_known():
    assert Estimate(1.0, 2.0, 3.0).scaled(2.0) == Estimate(2.0, 4.0, 6.0)
    assert Estimate(1.0, None, 3.0).scaled(2.0) == Estimate(2.0, None, 6.0)


class Input(NamedTuple):
    draws_name: str
    label: str
    uncertain: Uncertain = UNIT


def shares(output, *names, draws=65_536):
    drawn = MonteCarlo(draws)
    inputs = [Input(name, name) for name in names]
    return drawn.rank_inputs(output(*(drawn.draw(name, UNIT) for name in names)), inputs)


def test_an_input_goes_by_its_label_and_an_exact_one_has_no_index():
    drawn = MonteCarlo(1000)
    inputs = [Input("a", "the first"), Input("b", "exact", exact(1.0))]
    assert [each.input for each in drawn.rank_inputs(drawn.draw("a", UNIT), inputs)] == ["the first"]


def test_shares_of_a_sum_are_those_of_its_variance():
    found = {share.input: share.share for share in shares(lambda a, b, c: 3 * a + b + 0 * c, "a", "b", "c")}
    assert found == {
        "a": pytest.approx(0.9, abs=0.01),
        "b": pytest.approx(0.1, abs=0.01),
        "c": pytest.approx(0, abs=0.01),
    }


def test_the_largest_share_comes_first():
    assert [share.input for share in shares(lambda a, b: a + 5 * b, "a", "b")] == ["b", "a"]


def test_a_share_is_found_where_no_correlation_is():
    """(a − ½)² doesn't correlate with a, and comes from nothing else."""
    (found,) = shares(lambda a: (a - 0.5) ** 2, "a")
    assert found == SensitivityIndex("a", pytest.approx(1.0, abs=0.01))


def test_what_two_inputs_bring_only_together_is_neithers():
    """(a − ½)(b − ½): its first-order indices are 0 (Saltelli 2008)."""
    assert all(share.share < 0.01 for share in shares(lambda a, b: (a - 0.5) * (b - 0.5), "a", "b"))


def test_few_draws_will_do():
    first, second = shares(lambda a, b: 3 * a + b, "a", "b", draws=1000)
    assert (first.input, second.input) == ("a", "b")
    assert first.share == pytest.approx(0.9, abs=0.05)


def test_an_output_without_spread_has_no_shares():
    assert MonteCarlo(1000).rank_inputs(3.0, [Input("a", "a")]) == ()
    assert MonteCarlo(1000).rank_inputs(np.full(1000, 3.0, np.float32), [Input("a", "a")]) == ()


@pytest.mark.parametrize("given", [{"draws": 999}, {"draws": True}, {"seed": -1}, {"draws": 10**8}])
def test_a_number_of_draws_or_a_seed_that_cant_be_is_refused(given):
    with pytest.raises(InputError, match=r"not a number of draws|not a seed"):
        MonteCarlo(**given)
