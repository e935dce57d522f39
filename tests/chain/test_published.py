"""The published figures that ship: copied by hand from their sources, each with date and how it was read."""

import pytest

from nameplate.chain.published import find_best_gemm, find_figure, load_published

# From the sources: stage, devices, value.
BY_HAND = {
    # mamf-finder's best products last seconds at most: they aren't sustained.
    "a100-sxm-80gb-gemm-burst": ("gemm_burst", 1, 0.869),
    "h100-sxm-gemm-burst": ("gemm_burst", 1, 0.803),
    "b200-gemm-burst": ("gemm_burst", 1, 0.776),
    # Products that ran on and on.
    "a100-sxm-80gb-gemm-sustained": ("gemm_sustained", 1, 0.865),
    "h100-sxm-gemm-sustained": ("gemm_sustained", 1, 0.738),
    "gb200-gemm-sustained": ("gemm_sustained", 1, 0.62),
    "h100-sxm-gemm-sustained-fp8": ("gemm_sustained", 1, 0.773),
    "gb200-gemm-sustained-fp8": ("gemm_sustained", 1, 0.549),
    # Megatron-LM's README: 41 % is its smallest model's, 47 to 48 % its largest's, on up to 6,144 GPUs.
    "h100-sxm-scaled-2b": ("scaled", None, 0.41),
    "h100-sxm-scaled-462b-x6144": ("scaled", 6144, 0.475),
    "a100-sxm-80gb-scaled-175b": ("scaled", 64, 0.514),
    # MegaScale's table 2, with Megatron-LM beside.
    "ampere-scaled-175b-x256": ("scaled", 256, 0.653),
    "ampere-scaled-175b-x1024": ("scaled", 1024, 0.590),
    "ampere-scaled-175b-x12288": ("scaled", 12_288, 0.552),
    "ampere-megatron-lm-scaled-175b-x256": ("scaled", 256, 0.530),
    "ampere-megatron-lm-scaled-175b-x1024": ("scaled", 1024, 0.447),
    "ampere-megatron-lm-scaled-175b-x12288": ("scaled", 12_288, 0.412),
}
# TFLOPS of the best BF16 product, and of the datasheet.
PRODUCTS = {
    "a800-sxm4-80gb-gemm-burst": (266.48, 312),
    "h20-96gb-gemm-burst": (142.25, 148),
    "h200-sxm-gemm-burst": (790.29, 989),
    "h800-pcie-gemm-burst": (503.83, 756),
    "l20-gemm-burst": (114.14, 119.5),
    "rtx-5090-d-gemm-burst": (234.39, 209.5),
    "rtx-pro-6000-server-gemm-burst": (409.42, 500),
    "ascend-910b2-gemm-burst": (315.36, 353.9),
    "gb10-gemm-burst": (92.3, 118.8),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_derate_is_that_of_its_source(name):
    figure = find_figure(name)
    assert (figure.to, figure.n_to, figure.value) == BY_HAND[name]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_measured_product_is_its_tflops_of_its_datasheet(name):
    figure, (measured, rated) = find_figure(name), PRODUCTS[name]
    assert (figure.numerator_tflops, figure.denominator_tflops) == (measured, rated)
    assert figure.value == pytest.approx(measured / rated, abs=5e-4)


def test_every_ratio_of_two_figures_is_their_quotient():
    for figure in load_published():
        is_of_another = "over the registry datasheet" in (figure.note or "")
        if figure.numerator_tflops and figure.denominator_tflops and not is_of_another:
            quotient = figure.numerator_tflops / figure.denominator_tflops
            assert figure.value == pytest.approx(quotient, abs=1e-3), figure.id


def test_no_short_product_is_called_sustained():
    for figure in load_published():
        assert not ("mamf" in figure.source and figure.to == "gemm_sustained"), figure.id


def test_a_healthy_card_is_held_against_the_best_product_whether_short_or_kept_up():
    assert find_best_gemm("nvidia-a100-sxm4-80gb", "bf16").id == "a100-sxm-80gb-gemm-burst"
    assert find_best_gemm("nvidia-h20-96gb", "bf16").value == 0.961


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster-fabric-price-factor", 1.235),  # Epoch's present code
        ("cluster-fabric-price-factor-semianalysis", 1.32),
        ("gpu-server-server-price-over-gpu-price", 1.66),
        ("node-slowest-over-median-x8", 0.975),
    ],
)
def test_a_figure_of_money_or_spread_is_that_of_its_source(name, value):
    assert find_figure(name).value == value
