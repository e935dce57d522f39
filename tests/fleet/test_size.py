"""Sizes: cards, nominal EFLOPS, and the slowest of many cards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nameplate.fleet import catalogue
from nameplate.fleet.outputs import z_of_slowest
from nameplate.fleet.size import round_up, size_of_fleet, size_of_part
from nameplate.specs.registry import load_registry

A800 = "nvidia-a800-sxm4-80gb"


def size(fleet):
    return size_of_fleet(catalogue().find(fleet), load_registry())


def test_cards_and_eflops_follow_from_one_another_by_the_registrys_nominal():
    assert (size("nio").cards, size("nio").nominal_eflops) == (4375, 1.4)
    assert size("tesla").nominal_eflops == 67_500 * 989 / 1e6
    assert size("suppliers").cards == 1000
    assert size("suppliers").nominal_eflops is None


def test_a_mix_has_parts_and_no_cards():
    assert [part.id for part in size("huawei").parts] == [A800, "huawei-ascend-910b"]
    assert size("huawei").cards is None


@given(eflops=st.floats(1e-3, 1e3))
def test_eflops_of_a_part_are_cards_of_it(eflops):
    asked = size_of_part(eflops, A800, load_registry())
    assert asked.cards_exact * 320 / 1e6 == pytest.approx(eflops)
    assert asked.cards >= asked.cards_exact - 1e-6


@pytest.mark.parametrize(("count", "found"), [(2.0, 2), (2.1, 3), (2 + 1e-9, 2), (None, None), (0.3, 1)])
def test_a_whole_count(count, found):
    assert round_up(count) == found


@pytest.mark.parametrize("cards", [2, 8, 100, 2000])
def test_the_slowest_of_many_is_where_draws_have_it(cards):
    draws = np.random.default_rng(1).standard_normal((4000, cards)).min(axis=1)
    assert z_of_slowest(cards) == pytest.approx(-draws.mean(), abs=0.04)


def test_one_card_is_the_middle_one_and_more_are_never_faster():
    assert z_of_slowest(1) == pytest.approx(0, abs=1e-12)
    counts = [1, 2, 8, 64, 1000, 16_384, 100_000]
    assert [z_of_slowest(n) for n in counts] == sorted(z_of_slowest(n) for n in counts)
