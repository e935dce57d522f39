"""The chain: which records make its stages, and the ratios between them."""

import pytest

from nameplate.derate.chain import chain
from nameplate_kernels import TransformerBlock

MODEL = "Llama-3-8B"
# One Llama-3-8B layer by hand: outputs × inputs of each product, and how often the layer runs it.
LAYER = {"qkv": (6144, 4096, 1), "out": (4096, 4096, 1), "gate": (14336, 4096, 2), "down": (4096, 14336, 1)}


@pytest.fixture
def product(make_record):
    """A square product; `tflops` with an interval of ±2 %."""

    def make(
        tflops=250.0, *, dtype="bf16", edge=4096, nominal=320.0, datasheet=312.0, verdict="clean", **changes
    ):
        figures = {"tflops": tflops, "tflops_low": 0.98 * tflops, "tflops_high": 1.02 * tflops}
        fields = {
            "case": f"matmul/{dtype}/{edge}x{edge}x{edge}/normal/warm/-/torch",
            "dtype": dtype,
            "device": "cuda:0",
            "dimensions": {"m": edge, "n": edge, "k": edge, "layout": "nn", "times": 1},
            "flops": 2 * edge**3,
            "nominal_tflops": nominal,
            "nominal_source": "given by --nominal",
            "datasheet_tflops": datasheet,
            "datasheet_source": "NVIDIA's datasheet",
            "efficiency": None,
            "verdict": verdict,
            "verdicts": (verdict,),
        }
        return make_record(**(fields | figures | changes))

    return make


@pytest.fixture
def layer(product):
    """The four products of one layer at `tokens`, at these throughputs."""

    def make(tflops=(200.0, 160.0, 240.0, 220.0), tokens=128, represents=MODEL, **changes):
        made = []
        for each, (outputs, inputs, times) in zip(tflops, LAYER.values(), strict=True):
            fields = {
                "case": f"matmul/bf16/{tokens}x{outputs}x{inputs}-nt/normal/warm/-/torch",
                "dimensions": {"m": tokens, "n": outputs, "k": inputs, "layout": "nt", "times": times},
                "flops": 2 * tokens * outputs * inputs,
                "represents": represents,
            }
            made.append(product(each, **(fields | changes)))
        return made

    return make


@pytest.fixture
def block(product):
    """One layer, forward and backward, that stands for the model."""

    def make(tflops=180.0, *, tokens=128, pass_="forward_backward", represents=MODEL, **changes):
        declared = TransformerBlock.llama3_8b(tokens, "bf16", pass_)
        fields = {
            "case": f"transformer_block/bf16/1x{tokens}x4096-{pass_}/normal/warm/-/torch",
            "workload": "transformer_block",
            "dimensions": dict(declared.dimensions),
            "flops": declared.flops,
            "represents": represents,
        }
        return product(tflops, **(fields | changes))

    return make


def stages(links):
    return [f"{link.from_}→{link.to}" for link in links]


def test_an_a800_loses_its_first_part_before_anything_is_launched(product):
    first, second = chain([product(250.0)])
    assert (first.from_, first.to, first.dtype, first.device) == ("nominal", "datasheet", "bf16", "cuda:0")
    assert first.value == first.low == first.high == 312 / 320
    assert (first.provenance, first.source, first.verdict) == ("published", "NVIDIA's datasheet", "clean")
    assert (second.from_, second.to, second.provenance) == ("datasheet", "gemm", "measured")
    assert second.value == pytest.approx(250 / 312)
    assert second.source == product().case


def test_a_link_carries_the_interval_of_its_stages(product):
    _, link = chain([product(250.0)])
    assert (link.low, link.high) == pytest.approx((link.value * 0.98, link.value * 1.02), rel=1e-3)


def test_the_best_product_is_the_stage(product):
    records = [product(200.0, edge=1024), product(250.0, edge=4096), product(240.0, edge=8192)]
    link = chain(records)[-1]
    assert link.value == pytest.approx(250 / 312)
    assert "4096" in link.source


def test_the_whole_chain_multiplies_to_what_the_block_delivers(product, layer, block):
    links = chain([product(250.0), *layer(), block(180.0)])
    assert stages(links) == ["nominal→datasheet", "datasheet→gemm", "gemm→gemm_model", "gemm_model→block"]
    delivered = 1.0
    for link in links:
        delivered *= link.value
    assert delivered == pytest.approx(180 / 320)


def test_the_models_products_are_their_weighted_harmonic_mean(product, layer, block):
    links = chain([product(250.0), *layer(), block()])
    # Outputs × inputs × times, in units of 4096 × 1024: times and weights go by work, so gate counts twice.
    weights = {"qkv": 6, "out": 4, "gate": 2 * 14, "down": 14}
    speeds = {"qkv": 200, "out": 160, "gate": 240, "down": 220}
    mean = sum(weights.values()) / sum(weights[name] / speeds[name] for name in weights)
    assert mean == pytest.approx(220.99, abs=0.01)
    link = next(link for link in links if link.to == "gemm_model")
    assert link.value == pytest.approx(mean / 250)
    assert link.source.count("matmul/bf16/128x") == 4


@pytest.mark.parametrize("absent", range(4))
def test_the_models_products_are_a_stage_only_when_all_are_there(product, layer, block, absent):
    products = layer()
    del products[absent]
    links = chain([product(250.0), *products, block(180.0)])
    assert stages(links) == ["nominal→datasheet", "datasheet→gemm", "gemm→block"]
    assert links[-1].value == pytest.approx(180 / 250)


def test_products_of_another_model_or_length_or_dtype_are_not_the_blocks(product, layer, block):
    for others in (layer(represents="GPT-3"), layer(represents=None), layer(tokens=256), layer(dtype="fp32")):
        assert "gemm→block" in stages(chain([product(250.0), *others, block()]))


def test_a_wrong_product_is_no_product_of_the_model(product, layer, block):
    products = layer()
    products[2] = products[2].model_copy(update={"verdict": "unverified", "verdicts": ("unverified",)})
    assert "gemm→block" in stages(chain([product(250.0), *products, block()]))


def test_the_models_stage_carries_its_products_gravest_verdict(product, layer, block):
    products = layer()
    products[1] = products[1].model_copy(update={"verdict": "contended", "verdicts": ("contended",)})
    links = {link.to: link for link in chain([product(250.0), *products, block()])}
    assert links["gemm"].verdict == "clean"
    assert links["gemm_model"].verdict == "contended"
    assert links["block"].verdict == "contended"  # its denominator is in doubt


def test_the_longest_block_that_stands_for_a_model_is_the_stage(product, layer, block):
    records = [product(250.0), *layer(), *layer(tokens=512), block(180.0), block(190.0, tokens=512)]
    links = chain(records)
    assert "1x512x4096" in links[-1].source
    assert links[-2].source.count("/512x") == 4


@pytest.mark.parametrize("changes", [{"represents": None}, {"pass_": "forward"}])
def test_a_small_block_or_half_a_pass_makes_no_link(product, block, changes):
    assert stages(chain([product(250.0), block(**changes)])) == ["nominal→datasheet", "datasheet→gemm"]


def test_what_is_not_clean_stands_in_only_where_nothing_is(product):
    doubtful = product(290.0, edge=8192, verdict="contended")
    believed = chain([product(250.0), doubtful])[-1]
    assert (believed.value, believed.verdict) == (pytest.approx(250 / 312), "clean")
    alone = chain([doubtful, product(280.0, edge=1024, verdict="unstable")])[-1]
    assert (alone.value, alone.verdict) == (pytest.approx(290 / 312), "contended")


def test_a_clean_shorter_block_is_taken_before_a_doubtful_longer_one(product, block):
    links = chain([product(250.0), block(180.0), block(190.0, tokens=512, verdict="contended")])
    assert (links[-1].value, links[-1].verdict) == (pytest.approx(180 / 250), "clean")


def test_a_wrong_result_never_stands_in(product):
    wrong = product(300.0, verdicts=("unverified", "contended"), verdict="unverified")
    assert chain([wrong]) == []
    assert chain([wrong, product(200.0)])[-1].value == pytest.approx(200 / 312)


def test_a_ratio_above_one_is_printed(product, block):
    links = chain([product(330.0), block(345.0)])
    assert [link.value for link in links] == pytest.approx([312 / 320, 330 / 312, 345 / 330])
    assert links[1].low > 1


def test_each_device_has_its_own_chain(product):
    records = [product(250.0), product(156.0, device="cuda:1"), product(240.0, edge=1024)]
    links = chain(records)
    assert [link.device for link in links] == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert [link.value for link in links if link.to == "gemm"] == pytest.approx([250 / 312, 0.5])


def test_a_chain_is_of_one_dtype_and_bf16_comes_first(product):
    records = [
        product(150.0, dtype="tf32", nominal=156.0, datasheet=156.0),
        product(280.0, dtype="fp16"),
        product(),
    ]
    assert {link.dtype for link in chain(records)} == {"bf16"}
    assert {link.dtype for link in chain(records[:2])} == {"fp16"}
    assert {link.dtype for link in chain(records[:1])} == {"tf32"}


def test_an_unrated_bf16_does_not_hide_a_rated_dtype(product):
    records = [
        product(nominal=None, datasheet=None),
        product(150.0, dtype="fp32", nominal=156.0, datasheet=156.0),
    ]
    links = chain(records)
    assert {link.dtype for link in links} == {"fp32"}
    assert links[0].value == 1.0


def test_without_a_rating_there_is_no_chain(product, make_record):
    assert chain([]) == []
    assert chain([product(nominal=None, datasheet=None)]) == []
    assert chain([make_record(status="skipped"), make_record(status="failed")]) == []


@pytest.mark.parametrize("unrated_first", [True, False])
def test_one_unrated_product_among_rated_ones_breaks_nothing(product, unrated_first):
    records = [product(200.0, edge=1024, nominal=None, datasheet=None), product(250.0)]
    links = chain(records if unrated_first else records[::-1])
    assert [link.value for link in links] == pytest.approx([312 / 320, 250 / 312])


def test_a_block_without_a_product_of_its_dtype_has_no_chain(block):
    assert chain([block()]) == []


def test_a_link_in_json_has_the_words_of_the_chain(product):
    row = chain([product(250.0)])[0].as_json()
    assert row["from"] == "nominal"
    assert "from_" not in row
    assert set(row) == {
        "from",
        "to",
        "dtype",
        "value",
        "low",
        "high",
        "provenance",
        "source",
        "verdict",
        "device",
    }
