"""`bench specs`: one part, all parts, and what an unknown or ambiguous name is told."""

from __future__ import annotations

import json
from functools import partial

import pytest

from nameplate.specs.registry import load_shipped


@pytest.fixture
def bench(bench):
    """Run `bench specs …`."""
    return partial(bench, "specs")


def test_one_part_as_json(bench):
    result = bench("NVIDIA A800-SXM4-80GB", "--json")
    assert result.status == 0
    one = json.loads(result.out)
    assert one["part"] == "nvidia-a800-sxm4-80gb"
    assert one["name"] == "NVIDIA A800 SXM4 80GB"
    assert one["nominal_tflops"]["fp16"] == one["nominal_tflops"]["bf16"] == 320
    assert one["datasheet_tflops"]["fp16"] == one["datasheet_tflops"]["bf16"] == 312
    assert one["nominal_tflops"]["tf32"] == one["datasheet_tflops"]["tf32"] == 156
    assert one["memory_gb"] == 80
    assert one["rated_clock_mhz"] == dict.fromkeys(one["datasheet_tflops"], 1410)
    assert one["rated_clock_absent"] == {}
    assert one["gemm_peak"]["fp64"] == "fp64_tensor"
    assert one["sparse_tflops"]["fp16"] == 624
    assert "1447 MHz" in one["flags"][0]
    assert "36Kr" in one["sources"]["nominal_tflops.fp16"]["source"]
    assert one["sources"]["tdp_w"]["basis"] == "inferred"


@pytest.mark.parametrize("name", ["nvidia-a800-sxm4-80gb", "NVIDIA A800 SXM4 80GB", "A800-SXM4-80GB"])
def test_an_id_a_table_name_and_a_driver_name_give_the_same_part(bench, name):
    assert json.loads(bench(name, "--json").out)["part"] == "nvidia-a800-sxm4-80gb"


def test_conflicts_keep_what_each_source_says(bench):
    one = json.loads(bench("nvidia-a800-pcie-80gb", "--json").out)
    (conflict,) = one["conflicts"]
    assert conflict["of"] == "tdp_w"
    assert [value["value"] for value in conflict["values"]] == [250, 300]
    assert all(value["source"] and value["date"] for value in conflict["values"])
    assert conflict["used"] == one["tdp_w"] == 300
    assert conflict["why"]


def test_all_parts_as_json_each_figure_with_a_source_and_a_date(bench):
    parts = json.loads(bench("--json").out)
    assert [one["part"] for one in parts] == list(load_shipped().parts)
    for one in parts:
        for dtype, figure in one["datasheet_tflops"].items():
            assert one["sources"][f"dense_tflops.{dtype}"]["value"] == figure
        for dtype, figure in one["nominal_tflops"].items():
            key = f"nominal_tflops.{dtype}"
            origin = one["sources"].get(key) or one["sources"][f"dense_tflops.{dtype}"]
            assert origin["value"] == figure
        for name in ("multiprocessors", "maximum_mhz", "tdp_w", "link_gb_s"):
            assert (name in one["sources"]) == (one[name] is not None)
        assert all(origin["source"] and origin["date"] for origin in one["sources"].values())
        assert (
            one["rated_clock_mhz"].keys() | one["rated_clock_absent"].keys() == one["datasheet_tflops"].keys()
        )
        assert not one["rated_clock_mhz"].keys() & one["rated_clock_absent"].keys()
        for dtype, mhz in one["rated_clock_mhz"].items():
            exact = one["unrounded_tflops"].get(dtype, one["datasheet_tflops"][dtype])
            product = one["multiprocessors"] * one["flop_per_clock"][dtype] * mhz / 1e6
            assert exact == pytest.approx(product, rel=0.01), (one["part"], dtype)


def test_a_part_of_several_sizes_has_one_memory_only_when_the_name_says_which(bench):
    assert json.loads(bench("nvidia-v100-sxm2", "--json").out)["memory_gb"] is None
    one = json.loads(bench("Tesla V100-SXM2-32GB", "--json").out)
    assert (one["memory_gb"], [size["gb"] for size in one["memory"]]) == (32, [16, 32])


def test_the_screen_shows_figures_flags_conflicts_and_what_is_missing(bench):
    text = bench("nvidia-a800-pcie-80gb").out
    for said in ("311.87", "320", "36Kr", "flag", "1447 MHz", "conflict", "hmc-tech", "blank", "note"):
        assert said in text
    assert "rate-limited" in bench("nvidia-h20-96gb").out
    h100 = " ".join(bench("nvidia-h100-sxm5-80gb").out.split())
    assert "a matrix product in fp64 is compared with fp64_tensor" in h100
    assert "1,830 tf32, fp16, bf16, fp8_e4m3, int8" in h100
    assert "1,980 fp32, fp64, fp64_tensor" in h100
    assert "2 devices" in bench("amd-mi250x").out


def test_the_table_has_a_line_for_each_part(bench):
    lines = bench().out.splitlines()
    first_words = [line.partition(" ")[0] for line in lines]
    assert [word for word in first_words if word in load_shipped().parts] == list(load_shipped().parts)
    (line,) = [line.rstrip() for line in lines if line.startswith("nvidia-a800-sxm4-80gb")]
    assert "320" in line
    assert line.endswith("!")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NVIDIA GeForce RTX 4090 E", ["nvidia-geforce-rtx-4090", "isn't the name of a part"]),
        ("AMD Instinct MI250X / MI250", ["amd-mi250x", "to settle it"]),
        ("A800 48GB", ["isn't the name of a part", "the nearest are nvidia-a800-"]),
        ("sapphire rapid", ["isn't the name of a part", "the nearest are intel-sapphire-rapids"]),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", ["MIG slice"]),
        ("", ["no name"]),
    ],
)
def test_an_unknown_or_ambiguous_name_is_exit_2_with_what_would_settle_it(bench, name, said):
    result = bench(name)
    assert (result.status, result.out) == (2, "")
    for one in said:
        assert one in result.err


def test_parts_of_one_s_own(bench, tmp_path):
    files = []
    for number in (1, 2):
        files.append(tmp_path / f"mine{number}.toml")
        files[-1].write_text(
            'schema = 1\n[sources]\nme = { text = "my own reading", date = "2026-11" }\n[[part]]\n'
            f'id = "acme-x{number}"\nname = "ACME X{number}"\nvendor = "ACME"\nsources = ["me"]\n'
            "dense_tflops = { bf16 = 100 }\n"
        )
    options = ("--parts", files[0], "--parts", files[1], "--json")
    assert json.loads(bench("ACME X2", *options).out)["nominal_tflops"] == {"bf16": 100}
    assert len(json.loads(bench(*options).out)) == len(load_shipped().parts) + 2
    files[1].write_text(files[0].read_text().replace("bf16 = 100", "bf16 = -1"))
    result = bench("ACME X1", "--parts", files[1])
    assert result.status == 2
    for said in ("mine2.toml", "part[acme-x1].dense_tflops.bf16", "got -1", "a number above 0"):
        assert said in result.err


@pytest.mark.parametrize(
    ("name", "part", "dtype", "figure"),
    [
        ("amd-zen4", "amd-zen4", "bf16", 64),
        ("AMD Zen 4", "amd-zen4", "fp32", 32),
        ("Intel(R) Xeon(R) Platinum 8480+", "intel-sapphire-rapids", "bf16", 1024),
        ("arm-cortex-a55", "arm-cortex-a55", "fp32", 8),
    ],
)
def test_a_cpu_is_known_by_the_id_that_runs_print_and_by_its_model(bench, name, part, dtype, figure):
    one = json.loads(bench(name, "--json").out)
    assert one["part"] == part
    assert one["flop_per_cycle"][dtype] == figure
    assert all(origin["source"] and origin["date"] for origin in one["sources"].values())
    assert any(
        key.startswith(f"flop_per_cycle.{dtype} ") and origin["value"] == figure
        for key, origin in one["sources"].items()
    )
    for model, mhz in one["max_boost_mhz"].items():
        assert one["sources"][f"max_boost_mhz.{model}"]["value"] == mhz
    text = bench(name).out
    assert part in text
    assert f"{figure:,}" in text


def test_an_id_of_a_cpu_in_no_table_says_what_it_stands_for(bench):
    one = json.loads(bench("x86-64-amx-1a2b3c4d", "--json").out)
    assert (one["part"], one["name"]) == ("x86-64-amx-1a2b3c4d", "x86-64 with AMX (Sapphire Rapids or later)")
    assert one["flop_per_cycle"] == {}
    assert "rated by loops" in one["notes"][0]
    for other in ("x86-64-amx", "x86-64-amx-1a2b", "gpu-1a2b3c4d", "amd-zen9"):
        assert bench(other).status == 2


def test_the_table_has_a_line_for_each_cpu_part(bench):
    lines = [line for line in bench().out.splitlines() if line.startswith("amd-zen4 ")]
    assert len(lines) == 1
    assert "128" in lines[0]


def test_a_models_flops_a_token_by_convention_without_measuring(bench):
    """Llama-3-8B's GFLOP by Megatron's convention at 2k, 32k and 128k, and at 8k from its sizes."""
    contexts = (2048, 8192, 32768, 131072)
    flags = ("--model", "llama3-8b", "--tokens", ",".join(map(str, contexts)), "--json")
    by = {each["tokens"]: each for each in json.loads(bench(*flags).out)["contexts"]}
    layer = 4096 * (4096 + 2 * 1024) + 4096**2 + 3 * 4096 * 14336
    at_8k = (6 * (32 * layer + 4096 * 128256) + 6 * 32 * 8192 * 4096) / 1e9
    for tokens, gigaflops in zip(contexts, (46.6, at_8k, 70.8, 148.1), strict=True):
        assert by[tokens]["gflop_per_token"]["megatron"] == pytest.approx(gigaflops, rel=0.005)
    ratios_of = {2048: (1.03, 1.10, 1.47), 32768: (1.36, 1.41, 1.88), 131072: (1.70, 1.72, 2.29)}
    for tokens, ratios in ratios_of.items():
        found = by[tokens]["of_megatron"]
        assert [found[name] for name in ("torchtitan", "nanogpt", "llm_foundry_hfu")] == pytest.approx(
            ratios, rel=0.005
        )
