"""Fleets as DataFrames, there and back."""

import pandas as pd
import pytest

from nameplate.base.errors import InputError
from nameplate.fleet import Catalogue, catalogue, cost, frame, from_frame, validate

A800 = "nvidia-a800-sxm4-80gb"
MINE = {"name": "Mine", "as_of": "2026-11", "part": A800, "cards": 128, "source": "counted"}


def test_a_frame_of_fleets_comes_back_as_it_was():
    table = frame(catalogue())
    assert list(table["id"]) == [fleet.id for fleet in catalogue().fleet]
    assert from_frame(table, catalogue=Catalogue()).fleet == catalogue().fleet


def test_rows_are_fleets_beside_the_shipped_ones():
    table = pd.DataFrame([MINE | {"id": "mine-1"}, MINE | {"id": "mine-2", "cards": None, "eflops": 0.5}])
    listed = from_frame(table)
    assert [fleet.id for fleet in listed.fleet][-2:] == ["mine-1", "mine-2"]
    first, second = cost(["mine-1", "mine-2"], catalogue=listed, draws=1000)
    assert (first.size.cards, second.size.cards) == (128, 1563)
    assert list(frame([first, second])["nominal_eflops"]) == [0.04096, 0.5]


def test_the_index_names_fleets_without_an_id_and_other_columns_are_left_alone():
    listed = from_frame(pd.DataFrame([MINE | {"rack": "B7"}], index=["mine-2026-11"]))
    assert listed.find("mine").cards == 128


def test_checks_have_a_frame_too():
    assert list(frame(validate())["passed"]) == [True] * 10


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"cards": -1},
            "the frame, row 'mine': the value of cards can't be used; got -1; expected greater than 0",
        ),
        ({"cards": 1.5}, "the value of cards can't be used; got 1.5"),
        ({"source": None}, "the value of source can't be used; got 'nothing'; expected a value: the key"),
        ({"cards": None}, "the value of fleet can't be used; .* expected a fleet with cards or eflops"),
        ({"part": "nvidia-a801"}, r"the frame: the value of fleet\[mine\].part can't be used"),
        ({"id": "nio-2024-10"}, "an id that no other fleet has"),
    ],
)
def test_a_row_that_is_no_fleet_is_one_sentence(row, said):
    with pytest.raises(InputError, match=said) as refused:
        from_frame(pd.DataFrame([MINE | row], index=["mine"]))
    assert "\n" not in str(refused.value)
