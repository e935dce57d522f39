"""The registry of parts: the shipped figures."""

from __future__ import annotations

import re

import pytest

from nameplate.specs.physics import describe_flags
from nameplate.specs.registry import load_shipped

PARTS = load_shipped().parts


# Copied by hand from the facts and the sources: dense TFLOPS, SMs, GB, GB/s, W, link GB/s.
FACTS = {
    "nvidia-a100-sxm4-80gb": (
        {"fp32": 19.5, "fp64": 9.7, "fp64_tensor": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
        (108, [(80, "HBM2e", 2039)], 400, 600),
    ),
    "nvidia-a100-pcie-40gb": (
        {"fp32": 19.5, "fp64": 9.7, "fp64_tensor": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
        (108, [(40, "HBM2", 1555)], 250, None),
    ),
    "nvidia-a800-sxm4-80gb": (
        {"fp32": 19.5, "fp64": 9.7, "fp64_tensor": 19.5, "tf32": 156, "fp16": 312, "bf16": 312, "int8": 624},
        (108, [(80, "HBM2e", 2039)], 400, 400),
    ),
    "nvidia-a800-pcie-80gb": (
        {
            "fp32": 19.49,
            "fp64": 9.75,
            "fp64_tensor": 19.49,
            "tf32": 155.94,
            "fp16": 311.87,
            "bf16": 311.87,
            "int8": 623.74,
        },
        (108, [(80, "HBM2e", None)], 300, None),
    ),
    "nvidia-h100-sxm5-80gb": (
        {
            "fp32": 67,
            "fp64": 34,
            "fp64_tensor": 67,
            "tf32": 494.5,
            "fp16": 989,
            "bf16": 989,
            "fp8_e4m3": 1979,
            "int8": 1979,
        },
        (132, [(80, "HBM3", 3350)], 700, 900),
    ),
    "nvidia-h20-96gb": (
        {"fp32": 44, "fp64": 1, "tf32": 74, "fp16": 148, "bf16": 148, "fp8_e4m3": 296, "int8": 296},
        (78, [(96, "HBM3", 4000)], 400, 900),
    ),
    "nvidia-gh200": (
        {
            "fp32": 67,
            "fp64": 34,
            "fp64_tensor": 67,
            "tf32": 494.5,
            "fp16": 989,
            "bf16": 989,
            "fp8_e4m3": 1979,
            "int8": 1979,
        },
        (132, [(96, "HBM3", 4000), (141, "HBM3e", 4800)], None, 900),
    ),
    "nvidia-b200": (
        {
            "fp32": 75,
            "fp64": 37,
            "fp64_tensor": 37,
            "tf32": 1125,
            "fp16": 2250,
            "bf16": 2250,
            "fp8_e4m3": 4500,
            "int8": 4500,
            "fp4": 9000,
        },
        (148, [(180, "HBM3e", 8000)], 1000, 1800),
    ),
    "nvidia-l4": (
        {
            "fp32": 30.3,
            "fp64": 0.473,
            "tf32": 60.5,
            "fp16": 121,
            "bf16": 121,
            "fp8_e4m3": 242.5,
            "int8": 242.5,
        },
        (58, [(24, "GDDR6", 300)], 72, None),
    ),
    "nvidia-l40": (
        {
            "fp32": 90.5,
            "fp64": 1.41,
            "tf32": 90.5,
            "fp16": 181.05,
            "bf16": 181.05,
            "fp8_e4m3": 362.1,
            "int8": 362,
        },
        (142, [(48, "GDDR6", 864)], 300, None),
    ),
    "nvidia-v100-sxm2": (
        {"fp32": 15.7, "fp64": 7.8, "fp16": 125},
        (80, [(16, "HBM2", 900), (32, "HBM2", 900)], 300, 300),
    ),
    "nvidia-t4": (
        {"fp32": 8.1, "fp64": 0.25, "fp16": 65, "int8": 130},
        (40, [(16, "GDDR6", 320)], 70, None),
    ),
    "nvidia-geforce-rtx-4090": (
        {
            "fp32": 82.6,
            "fp64": 1.29,
            "tf32": 82.6,
            "fp16": 165.2,
            "fp16_acc16": 330.3,
            "bf16": 165.2,
            "fp8_e4m3": 330.3,
            "fp8_e4m3_acc16": 660.6,
            "int8": 660.6,
        },
        (128, [(24, "GDDR6X", 1008)], 450, None),
    ),
    "nvidia-rtx-6000-ada": (
        {"fp32": 91.1, "fp64": 1.4, "fp16": 364, "bf16": 364, "fp8_e4m3": 728.5},
        (142, [(48, "GDDR6", 960)], 300, None),
    ),
    "nvidia-h20-141gb": (
        {"tf32": 74, "fp16": 148, "bf16": 148, "fp8_e4m3": 296, "int8": 296},
        (78, [(141, "HBM3e", None)], 400, 900),
    ),
    "nvidia-l20": (
        {
            "fp64": 0.927,
            "fp32": 59.35,
            "tf32": 59.8,
            "fp16": 119.5,
            "bf16": 119.5,
            "fp8_e4m3": 239,
            "int8": 239,
        },
        (92, [(48, "GDDR6", 864)], 275, None),
    ),
    "nvidia-b300": (
        {
            "fp64": 1.25,
            "fp32": 75,
            "tf32": 1125,
            "fp16": 2250,
            "bf16": 2250,
            "fp8_e4m3": 4500,
            "fp4": 13_500,
        },
        (None, [(262, "HBM3e", 8000)], 1000, 1800),
    ),
    "nvidia-geforce-rtx-5090-d": (
        {"fp32": 104.8, "fp16": 209.5, "bf16": 209.5, "fp4": 1187.5},
        (170, [(32, "GDDR7", 1792)], 575, None),
    ),
    "nvidia-geforce-rtx-5090-d-v2": (
        {"fp32": 104.8, "fp16": 209.5, "bf16": 209.5, "fp4": 1187.5},
        (170, [(24, "GDDR7", 1340)], 575, None),
    ),
    "nvidia-gb10": (
        {"fp32": 29.71, "fp16": 118.8, "bf16": 118.8, "fp4": 475.4},
        (48, [(128, "LPDDR5X", 273)], 140, None),
    ),
    "amd-mi308x": (
        {"fp16": 232, "bf16": 232, "fp8_e4m3": 465, "int8": 465},
        (80, [(192, "HBM3", 5300)], None, None),
    ),
    "huawei-ascend-910c": ({"fp16": 752, "bf16": 752}, (None, [(128, "HBM3", 3200)], 700, 784)),
    "huawei-ascend-950dt": (
        {"fp16": 486, "bf16": 486, "fp8_e4m3": 919, "fp4": 1783},
        (None, [(96, None, 4000)], None, 1680),
    ),
    "aws-trainium2": (
        {"fp32": 181, "tf32": 667, "fp16": 667, "bf16": 667, "fp8_e4m3": 1299},
        (8, [(96, "HBM3", 2900)], None, 1280),
    ),
    "cambricon-mlu590": (
        {"fp16": 314, "bf16": 314, "int8": 628},
        (None, [(96, "HBM2e", None), (80, "HBM2e", 2760)], None, None),
    ),
    "kunlunxin-p800": ({"fp16": 345, "bf16": 345}, (None, [(96, "HBM3", 2400)], 400, 200)),
    "amd-mi250x": (
        {"fp32": 47.9, "fp32_tensor": 95.7, "fp16": 383, "bf16": 383, "int8": 383},
        (220, [(128, "HBM2e", 3276)], 500, 700),
    ),
    "amd-mi355x": (
        {
            "fp32": 157.3,
            "fp64": 78.6,
            "fp16": 2500,
            "bf16": 2500,
            "fp8_e4m3": 5000,
            "int8": 5000,
            "fp4": 10100,
        },
        (256, [(288, "HBM3e", 8000)], 1400, 1071),
    ),
    "intel-gaudi3": (
        {"tf32": 459, "fp16": 459, "bf16": 1677, "fp8_e4m3": 1677},
        (8, [(128, "HBM2e", 3700)], 900, 1200),
    ),
    "huawei-ascend-910b": ({}, (None, [(64, "HBM2e", None)], None, 392)),
    "google-tpu-v6e": (
        {"bf16": 918, "fp8_e4m3": 918, "int8": 1836},
        (None, [(32, "HBM", 1638)], None, 800),
    ),
}


def value(quantity):
    return None if quantity is None else quantity.value


@pytest.mark.parametrize("part", FACTS)
def test_a_part_holds_the_facts(part):
    dense, (units, memory, tdp, link) = FACTS[part]
    found = PARTS[part]
    assert {dtype: one.value for dtype, one in found.datasheet.items()} == dense
    assert value(found.multiprocessors) == units
    assert [(one.gb.value, one.type, value(one.bandwidth_gb_s)) for one in found.memory] == memory
    assert (value(found.tdp_w), value(found.link_gb_s)) == (tdp, link)


def test_all_parts_of_the_facts_are_there():
    assert len(PARTS) == 68


def test_every_figure_has_a_source_and_a_date(subtests):
    for part, found in PARTS.items():
        with subtests.test(part=part):
            figures = dict(found.figures())
            assert figures
            for key, quantity in figures.items():
                assert quantity.sources, key
                assert re.fullmatch(r"20\d\d(-\d\d){0,2}", quantity.date), key
                assert all(len(source.text) >= 8 for source in quantity.sources), key
            for conflict in found.conflicts:
                assert all(source.text and source.date for source in (one.source for one in conflict.values))


# TFLOPS of FP16 and BF16: what the vendor states, with the vector units; and what the matrix units give.
ASCEND = {
    "huawei-ascend-910b1": (400, 373.9),
    "huawei-ascend-910b2": (376, 353.9),
    "huawei-ascend-910b3": (313, 294.9),
    "huawei-ascend-910b4": (280, 245.8),
}


def test_nominal_is_the_datasheet_s_but_for_the_a800_and_the_ascend_910b(subtests):
    for part, found in PARTS.items():
        with subtests.test(part=part):
            rated = found.nominal.items()
            own = {dtype: one.value for dtype, one in rated if one is not found.datasheet.get(dtype)}
            nominal = 320 if "a800" in part else ASCEND.get(part, (None,))[0]
            assert own == ({} if nominal is None else {"fp16": nominal, "bf16": nominal})


@pytest.mark.parametrize("part", ASCEND)
def test_an_ascend_910b_is_rated_with_its_vector_units_and_held_to_its_matrix_units(part):
    nominal, cube = ASCEND[part]
    for dtype in ("fp16", "bf16"):
        assert (PARTS[part].nominal[dtype].value, PARTS[part].datasheet[dtype].value) == (nominal, cube)
    assert any("with the vector units" in note for note in PARTS[part].notes)


def test_the_a800_s_nominal_names_the_article_and_is_flagged_with_the_clock_it_would_need():
    for part in ("nvidia-a800-sxm4-80gb", "nvidia-a800-pcie-80gb"):
        found = PARTS[part]
        assert "36Kr" in found.nominal["fp16"].source
        assert found.nominal["fp16"].date == "2024-10-30"
        (flag,) = map(str, describe_flags(found))
        for said in ("nominal_tflops.fp16", "nominal_tflops.bf16", "320", "1447 MHz", "1410 MHz", "311.9"):
            assert said in flag


def test_an_inferred_figure_says_so_and_a_conflict_keeps_every_value():
    found = PARTS["nvidia-a800-sxm4-80gb"]
    assert found.tdp_w.basis == "inferred"
    assert found.tdp_w.source.startswith("inferred")
    (tdp,) = PARTS["nvidia-a800-pcie-80gb"].conflicts
    assert [one.value for one in tdp.values] == [250, 300]
    assert tdp.used == 300
    fp16 = PARTS["huawei-ascend-910b"].conflicts[0]
    assert ({one.value for one in fp16.values}, fp16.used) == ({256, 320, 354}, None)


@pytest.mark.parametrize(
    ("part", "clocks"),
    [
        ("nvidia-a100-sxm4-80gb", {"bf16": 1410, "fp64": 1410, "fp32": 1410}),
        # NVIDIA rates Hopper's tensor cores at one clock and all else at another.
        ("nvidia-h100-sxm5-80gb", {"bf16": 1830, "fp8_e4m3": 1830, "fp32": 1980, "fp64": 1980}),
        ("nvidia-h100-pcie-80gb", {"bf16": 1620, "fp32": 1755, "fp64_tensor": 1755}),
        ("nvidia-h200-sxm-141gb", {"bf16": 1830, "fp64_tensor": 1980}),
        ("nvidia-gh200", {"bf16": 1830, "fp64": 1980}),
        ("nvidia-h800-sxm5-80gb", {"bf16": 1830, "fp32": 1980}),
        ("nvidia-b200", {"bf16": 1856, "fp32": 1980}),
        ("nvidia-a10", {"bf16": 1695}),
        ("nvidia-l4", {"bf16": 2040, "fp32": 2040}),
        ("nvidia-l40", {"bf16": 2490, "int8": 2490}),
        ("nvidia-l40s", {"bf16": 2490, "fp8_e4m3": 2520, "fp32": 2520}),
        ("nvidia-t4", {"fp16": 1590}),
        ("nvidia-v100-sxm2", {"fp16": 1530, "fp64": 1530}),
        ("nvidia-geforce-rtx-4090", {"bf16": 2520, "tf32": 2520, "fp64": 2520}),
        ("amd-mi300x", {"bf16": 2100, "fp32": 2100}),
        ("amd-mi355x", {"bf16": 2400, "fp4": 2400}),
    ],
)
def test_each_dtype_has_the_rated_clock_that_gives_its_figure(part, clocks):
    found = PARTS[part]
    assert {dtype: found.rated_clock_mhz(dtype) for dtype in clocks} == pytest.approx(clocks, abs=1.2)
    assert all(found.rated_clock_absent(dtype) is None for dtype in clocks)


@pytest.mark.parametrize(
    ("part", "dtype", "reason"),
    [
        ("nvidia-h20-96gb", "bf16", "rate-limited"),
        ("nvidia-h20-96gb", "fp32", "rate-limited"),
        ("nvidia-h800-sxm5-80gb", "fp64", "rate-limited: cut to 1 TFLOPS"),
        ("nvidia-b300", "bf16", "the number of SMs isn't known"),
        ("google-tpu-v5p", "bf16", "FLOP per clock isn't known"),
        ("nvidia-v100-pcie", "bf16", "FLOP per clock isn't known for bf16"),
        ("nvidia-h800-pcie-80gb", "fp64", "no fp64 figure"),
    ],
)
def test_a_rated_clock_that_can_t_be_had_says_why(part, dtype, reason):
    assert PARTS[part].rated_clock_mhz(dtype) is None
    assert reason in PARTS[part].rated_clock_absent(dtype)


def test_every_figure_is_its_multiprocessors_times_its_rated_clock(subtests):
    """Figures are held to SM × FLOP per clock × rated clock within 1 %, and most parts can be held to it."""
    held = 0
    for part, found in PARTS.items():
        for dtype, quantity in found.datasheet.items():
            clock = found.rated_clock_mhz(dtype)
            if clock is None:
                continue
            held += 1
            product = found.multiprocessors.value * found.flop_per_clock[dtype] * clock / 1e6
            with subtests.test(part=part, dtype=dtype):
                assert quantity.exact == pytest.approx(product, rel=0.01)
                assert quantity.value == pytest.approx(product, rel=0.025)  # as printed
    assert held > 200


VECTOR = {  # TFLOPS of the CUDA cores: FP32, FP64
    "nvidia-h100-sxm5-80gb": (67, 34),
    "nvidia-h200-sxm-141gb": (67, 34),
    "nvidia-gh200": (67, 34),
    "nvidia-h100-pcie-80gb": (51, 25.61),
    "nvidia-h100-nvl-94gb": (60, 30),
    "nvidia-h200-nvl-141gb": (60, 30),
    "nvidia-a100-sxm4-80gb": (19.5, 9.7),
    "nvidia-a100-sxm4-40gb": (19.5, 9.7),
    "nvidia-a800-sxm4-80gb": (19.5, 9.7),
    "nvidia-b200": (75, 37),
    "nvidia-geforce-rtx-4090": (82.6, 1.29),
    "nvidia-l40s": (91.6, 1.43),
    "nvidia-v100-sxm2": (15.7, 7.8),
    "nvidia-t4": (8.1, 0.25),
}


def test_every_nvidia_part_has_vector_figures_or_a_reason(subtests):
    for part, found in PARTS.items():
        if found.vendor != "NVIDIA":
            continue
        with subtests.test(part=part):
            assert "fp32" in found.datasheet or "dense_tflops.fp32" in found.blank
            assert "fp64" in found.datasheet or "dense_tflops.fp64" in found.blank
            # TF32 runs on the tensor cores and is never below the vectors' FP32, which is no TF32 figure.
            tf32 = found.datasheet.get("tf32")
            fp32 = found.datasheet.get("fp32")
            assert tf32 is None or fp32 is None or tf32.value >= 0.99 * fp32.value
    for part, (fp32, fp64) in VECTOR.items():
        assert (PARTS[part].datasheet["fp32"].value, PARTS[part].datasheet["fp64"].value) == (fp32, fp64)


def test_a_matrix_product_is_held_to_the_matrix_unit_where_there_is_one():
    a100, mi250x = PARTS["nvidia-a100-sxm4-80gb"], PARTS["amd-mi250x"]
    assert a100.gemm_figure("fp64") == "fp64_tensor"
    assert (a100.datasheet["fp64"].value, a100.datasheet["fp64_tensor"].value) == (9.7, 19.5)
    assert a100.gemm_figure("fp32") == "fp32"  # with TF32 off
    assert mi250x.gemm_figure("fp32") == "fp32_tensor"
    assert PARTS["nvidia-l4"].gemm_figure("fp64") == "fp64"


def test_sparse_figures_are_twice_the_dense_ones_where_the_hardware_has_them():
    h100 = PARTS["nvidia-h100-sxm5-80gb"].sparse_tflops
    assert (h100["bf16"], h100["fp8_e4m3"]) == (1978, 3958)
    assert not {"fp32", "fp64", "fp64_tensor"} & h100.keys()
    for part in ("nvidia-v100-sxm2", "nvidia-t4", "amd-mi250x", "intel-gaudi3", "google-tpu-v6e"):
        assert PARTS[part].sparse_tflops == {}, part


def test_no_two_parts_share_a_short_name():
    names = {part: found.short_name for part, found in PARTS.items()}
    assert len(set(names.values())) == len(names)
    assert names["nvidia-a100-sxm4-80gb"] == "A100"
    assert names["nvidia-a100-sxm4-40gb"] == "A100 SXM4 40GB"
    assert names["nvidia-a100-pcie-80gb"] == "A100 PCIe"
    assert names["nvidia-a100-pcie-40gb"] == "A100 PCIe 40GB"
    assert names["nvidia-a800-sxm4-80gb"] == "A800"
    assert names["nvidia-a800-sxm4-40gb"] == "A800 SXM4 40GB"
    assert names["nvidia-v100-sxm2"] == "V100"
