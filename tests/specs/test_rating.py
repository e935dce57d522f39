"""Ratings that a user gives: a figure with 2:4 sparsity is refused in words."""

from __future__ import annotations

import re

import pytest

from nameplate.base.errors import InputError
from nameplate.specs.rating import rate_evidence
from nameplate.specs.recognition import Evidence
from nameplate.specs.registry import extend, load_shipped

SPARSE = [
    # name, dtype, what is printed with sparsity, the dense figures
    ("NVIDIA A100-SXM4-80GB", "fp16", 624, "312"),
    ("NVIDIA A800-SXM4-80GB", "bf16", 624, "320 or 312"),
    ("NVIDIA A800-SXM4-80GB", "bf16", 640, "320 or 312"),  # twice the nominal that fleets are counted by
    ("NVIDIA A100-SXM4-80GB", "tf32", 312, "156"),
    ("NVIDIA H100 80GB HBM3", "bf16", 1979, "989"),
    ("NVIDIA H100 80GB HBM3", "fp8_e4m3", 3958, "1979"),
    ("NVIDIA H200 NVL", "bf16", 1671, "835.5"),
    ("NVIDIA B200", "fp8_e4m3", 9000, "4500"),
    ("NVIDIA L4", "fp16", 242, "121"),
    ("NVIDIA RTX A6000", "fp16", 309.7, "154.85"),
    ("AMD Instinct MI300X", "fp16", 2614.9, "1307.4"),
    ("AMD Instinct MI355X", "fp16", 5000, "2500"),
]


@pytest.mark.parametrize(("name", "dtype", "given", "dense"), SPARSE)
def test_a_sparse_figure_given_as_a_rating_is_refused_in_words(name, dtype, given, dense):
    rating = rate_evidence(Evidence(name))
    with pytest.raises(InputError) as caught:
        rating.with_nominal({dtype: given})
    assert str(caught.value) == (
        f"--nominal: a figure with 2:4 sparsity, twice the dense one; no dense {dtype} product reaches it; "
        f"got '{dtype}={given:g}'; expected the dense figure of {rating.part}, {dense}"
    )
    assert caught.value.exit_status == 2


def test_a_figure_that_is_sparse_and_dense_at_once_says_which_is_which():
    rating = rate_evidence(Evidence("NVIDIA GeForce RTX 4090"))
    with pytest.raises(InputError, match=re.escape("330.3 is also the dense fp16_acc16)")):
        rating.with_nominal({"fp16": 330.3})
    assert rating.with_nominal({"fp16_acc16": 330.3}).nominal_for("fp16_acc16").tflops == 330.3


@pytest.mark.parametrize(
    ("name", "dtype", "given"),
    [
        ("NVIDIA A800-SXM4-80GB", "fp16", 320),
        ("NVIDIA H100 80GB HBM3", "bf16", 1000),
        ("NVIDIA H100 80GB HBM3", "fp8_e4m3", 1979),  # dense here, sparse in bf16
        ("NVIDIA H100 80GB HBM3", "fp32", 134),  # no part runs sparse FP32: odd, but no sparse figure
        ("Tesla V100-SXM2-32GB", "fp16", 250),  # has no 2:4 sparsity
        ("AMD Instinct MI250X", "fp16", 383),  # of the whole card, twice a device's
        ("NVIDIA Something New", "fp16", 624),  # nothing is known of it
    ],
)
def test_any_other_rating_is_taken(name, dtype, given):
    assert rate_evidence(Evidence(name)).with_nominal({dtype: given}).nominal_for(dtype).tflops == given


MINE = """schema = 1
[sources]
me = { text = "my own reading", date = "2026-11" }
[[part]]
id = "my-h100"
name = "My H100"
vendor = "NVIDIA"
replaces = "nvidia-h100-sxm5-80gb"
sources = ["me"]
driver_names = ["NVIDIA H100 80GB HBM3"]
dense_tflops = { bf16 = 1979 }
"""


def test_a_part_of_one_s_own_can_t_have_the_sparse_figure_of_the_one_it_replaces():
    with pytest.raises(InputError) as caught:
        extend(load_shipped(), MINE, "mine.toml")
    assert str(caught.value) == (
        "mine.toml: the value of part[my-h100].dense_tflops.bf16 can't be used; got '1979'; expected the "
        "dense figure: this is nvidia-h100-sxm5-80gb's with 2:4 sparsity, twice its 989"
    )
    mine = extend(load_shipped(), MINE.replace("1979", "1000"), "mine.toml").parts["my-h100"]
    assert mine.datasheet["bf16"].value == 1000
