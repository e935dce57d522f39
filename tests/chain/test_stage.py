"""The stages' order, and what `gemm` is among them."""

import json

import pytest

from nameplate.chain.stage import Stage


def test_the_order_is_the_chains():
    ratings, products = ["nominal", "datasheet"], ["gemm_burst", "gemm_sustained", "gemm_model"]
    chain = [*ratings, *products, "block", "step", "scaled", "goodput"]
    assert [stage for stage in Stage if stage is not Stage.GEMM] == chain
    reaches = [Stage(name).reach for name in chain]
    assert reaches == sorted(set(reaches))


def test_gemm_comes_as_far_as_the_settled_product_whose_place_it_takes():
    assert Stage.GEMM.reach == Stage.GEMM_SUSTAINED.reach > Stage.GEMM_BURST.reach
    assert Stage.GEMM.following == Stage.GEMM_SUSTAINED.following
    assert Stage.GEMM.following == ("gemm_model", "block", "step", "scaled", "goodput")
    assert Stage.DATASHEET.following[:2] == ("gemm_burst", "gemm_sustained")
    assert (Stage.SCALED.following, Stage.GOODPUT.following) == (("goodput",), ())


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_is_its_name_in_files_and_has_its_texts(stage):
    assert json.loads(json.dumps({"to": stage})) == {"to": stage.value} == {"to": str(stage)}
    assert stage.label
    assert bool(stage.work) is (stage.reach > Stage.DATASHEET.reach)
    is_measured = Stage.DATASHEET.reach < stage.reach <= Stage.SCALED.reach
    assert bool(stage.reached) is is_measured
