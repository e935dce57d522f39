"""Uncertain numbers: their laws, how they are written, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nameplate.base.errors import InputError
from nameplate.stats.uncertain import LAWS, Uncertain, exact, read_uncertain, with_spread

U = (np.arange(100_000, dtype=np.float32) + 0.5) / 100_000


@pytest.mark.parametrize(
    ("law", "mean", "low", "high"),
    [
        # The ends are the range of the first two, and the 95 % interval of the others.
        ("uniform", 5.0, (0.0, 2.0), (1.0, 8.0)),
        ("triangular", (2 + 3 + 8) / 3, (0.0, 2.0), (1.0, 8.0)),
        ("normal", 5.0, (0.025, 4.0), (0.975, 6.0)),
        ("lognormal", None, (0.025, 4.0), (0.975, 6.25)),
    ],
)
def test_a_law_has_the_ends_and_the_mean_it_is_stated_with(law, mean, low, high):
    value = {"triangular": 3.0}.get(law, 5.0)
    drawn = Uncertain(value, low[1], high[1], law).quantiles(U)
    for share, end in (low, high):
        assert float(np.quantile(drawn, share)) == pytest.approx(end, rel=5e-3)
    assert float(np.median(drawn) if mean is None else drawn.mean()) == pytest.approx(mean or 5.0, rel=1e-3)


def test_a_triangular_law_rises_to_its_mode():
    drawn = Uncertain(3.0, 2.0, 8.0, "triangular").quantiles(U)
    assert (drawn < 3.0).mean() == pytest.approx(1 / 6, abs=1e-3)


@given(
    law=st.sampled_from([law for law in LAWS if law != "exact"]),
    ends=st.tuples(*[st.floats(0.7, 0.95)] * 3).map(sorted).filter(lambda x: x[0] < x[2]),
)
def test_every_laws_quantiles_rise_and_stay_finite(law, ends):
    low, value, high = ends
    drawn = Uncertain(value, low, high, law).quantiles(U[::500])
    assert np.isfinite(drawn).all()
    # Rounding in 32 bits may turn a step around.
    assert (np.diff(drawn) >= -1e-6).all()


def test_an_exact_number_is_its_value_and_has_no_draws():
    assert exact(3.0).quantiles(U) == 3.0


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ((1, 2, 3, "uniform"), "low ≤ value ≤ high"),
        ((1, 0, float("nan"), "uniform"), "finite numbers"),
        ((1, 0, 2, "exact"), "another law than exact"),
        ((1, 1, 1, "uniform"), "the law exact"),
        ((1, 0, 2, "lognormal"), "a low end above 0"),
        ((1, -0.5, 2.5, "normal"), "use lognormal"),
    ],
)
def test_a_spread_that_doesnt_fit_says_what_would(number, expected):
    with pytest.raises(ValueError, match=expected):
        Uncertain(*number)


def test_a_part_of_a_spread_is_refused():
    assert with_spread(1.0, None, None, None) == with_spread(1.0, 1.0, 1.0, "exact") == exact(1.0)
    with pytest.raises(ValueError, match="low, high and law together"):
        with_spread(1.0, 0.5, None, "uniform")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1.25", (1.25, 1.25, 1.25, "exact")),
        (1.25, (1.25, 1.25, 1.25, "exact")),
        ("1.1..1.5", (1.3, 1.1, 1.5, "uniform")),
        ((1.1, 1.5), (1.3, 1.1, 1.5, "uniform")),
        ("1.1..1.2..1.5", (1.2, 1.1, 1.5, "triangular")),
        ("1.2..1.2", (1.2, 1.2, 1.2, "exact")),
    ],
)
def test_a_number_is_written_alone_as_a_range_or_with_its_mode(written, number):
    assert read_uncertain(written, "--assume pue") == Uncertain(*number)
    assert read_uncertain(Uncertain(*number), "anywhere") == Uncertain(*number)


@pytest.mark.parametrize(
    "written", ["", "x", "1..", "2..1", "1..2..3..4", "nan", "-1", "1-2", True, "1..inf"]
)
def test_what_is_no_number_is_one_sentence(written):
    with pytest.raises(
        InputError, match=r"--assume pue: not a number, nor a range of them; got .*; expected a number"
    ):
        read_uncertain(written, "--assume pue")


def test_a_share_stays_between_0_and_1_around_its_median_with_the_ends_as_its_95_percent_interval():
    share = Uncertain(0.5, 0.3, 0.7, "logitnormal")
    drawn = share.quantiles(np.array([0.025, 0.5, 0.975, 1 - 2.0**-24], dtype=np.float32))
    assert drawn[:3] == pytest.approx([0.3, 0.5, 0.7], abs=1e-5)
    assert drawn[3] < 1
    with pytest.raises(ValueError, match="ends between 0 and 1"):
        Uncertain(0.9, 0.8, 1.0, "logitnormal")
