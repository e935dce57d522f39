"""The chain: which records make its stages, and the ratios between them."""

import math

import pytest

from nameplate.chain.from_run import find_chains, find_links
from nameplate.record import Batch
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
            "shape": f"{edge}x{edge}x{edge}",
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
    first, second = find_links([product(250.0)])
    assert (first.from_, first.to, first.dtype, first.device) == ("nominal", "datasheet", "bf16", "cuda:0")
    assert first.value == first.low == first.high == 312 / 320
    assert (first.provenance, first.source, first.verdict) == ("published", "NVIDIA's datasheet", "clean")
    assert (second.from_, second.to, second.provenance) == ("datasheet", "gemm", "measured")
    assert second.value == pytest.approx(250 / 312)
    assert second.source == product().case


def test_a_link_carries_the_interval_of_its_stages(product):
    _, link = find_links([product(250.0)])
    assert (link.low, link.high) == pytest.approx((link.value * 0.98, link.value * 1.02), rel=1e-3)


def test_the_best_product_is_the_stage(product):
    records = [product(200.0, edge=1024), product(250.0, edge=4096), product(240.0, edge=8192)]
    link = find_links(records)[-1]
    assert link.value == pytest.approx(250 / 312)
    assert "4096" in link.source


def test_the_whole_chain_multiplies_to_what_the_block_delivers(product, layer, block):
    links = find_links([product(250.0), *layer(), block(180.0)])
    assert stages(links) == ["nominal→datasheet", "datasheet→gemm", "gemm→gemm_model", "gemm_model→block"]
    delivered = 1.0
    for link in links:
        delivered *= link.value
    assert delivered == pytest.approx(180 / 320)


def test_the_models_products_are_their_weighted_harmonic_mean(product, layer, block):
    links = find_links([product(250.0), *layer(), block()])
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
    links = find_links([product(250.0), *products, block(180.0)])
    assert stages(links) == ["nominal→datasheet", "datasheet→gemm", "gemm→block"]
    assert links[-1].value == pytest.approx(180 / 250)


def test_products_of_another_model_or_length_or_dtype_are_not_the_blocks(product, layer, block):
    for others in (layer(represents="GPT-3"), layer(represents=None), layer(tokens=256), layer(dtype="fp32")):
        assert "gemm→block" in stages(find_links([product(250.0), *others, block()]))


def test_a_wrong_product_is_no_product_of_the_model(product, layer, block):
    products = layer()
    products[2] = products[2].model_copy(update={"verdict": "unverified", "verdicts": ("unverified",)})
    assert "gemm→block" in stages(find_links([product(250.0), *products, block()]))


def test_the_models_stage_carries_its_products_gravest_verdict(product, layer, block):
    products = layer()
    products[1] = products[1].model_copy(update={"verdict": "contended", "verdicts": ("contended",)})
    links = {link.to: link for link in find_links([product(250.0), *products, block()])}
    assert links["gemm"].verdict == "clean"
    assert links["gemm_model"].verdict == "contended"
    assert links["block"].verdict == "contended"  # its denominator is in doubt


def test_the_longest_block_that_stands_for_a_model_is_the_stage(product, layer, block):
    records = [product(250.0), *layer(), *layer(tokens=512), block(180.0), block(190.0, tokens=512)]
    links = find_links(records)
    assert "1x512x4096" in links[-1].source
    assert links[-2].source.count("/512x") == 4


@pytest.mark.parametrize("changes", [{"represents": None}, {"pass_": "forward"}])
def test_a_small_block_or_half_a_pass_makes_no_link(product, block, changes):
    assert stages(find_links([product(250.0), block(**changes)])) == ["nominal→datasheet", "datasheet→gemm"]


def test_what_is_not_clean_stands_in_only_where_nothing_is(product):
    doubtful = product(290.0, edge=8192, verdict="contended")
    believed = find_links([product(250.0), doubtful])[-1]
    assert (believed.value, believed.verdict) == (pytest.approx(250 / 312), "clean")
    alone = find_links([doubtful, product(280.0, edge=1024, verdict="unstable")])[-1]
    assert (alone.value, alone.verdict) == (pytest.approx(290 / 312), "contended")


def test_a_clean_shorter_block_is_taken_before_a_doubtful_longer_one(product, block):
    links = find_links([product(250.0), block(180.0), block(190.0, tokens=512, verdict="contended")])
    assert (links[-1].value, links[-1].verdict) == (pytest.approx(180 / 250), "clean")


def test_a_wrong_result_never_stands_in(product):
    wrong = product(300.0, verdicts=("unverified", "contended"), verdict="unverified")
    assert find_links([wrong]) == []
    assert find_links([wrong, product(200.0)])[-1].value == pytest.approx(200 / 312)


def test_a_ratio_above_one_is_printed(product, block):
    links = find_links([product(330.0), block(345.0)])
    assert [link.value for link in links] == pytest.approx([312 / 320, 330 / 312, 345 / 330])
    assert links[1].low > 1


def test_each_device_has_its_own_chain(product):
    records = [product(250.0), product(156.0, device="cuda:1"), product(240.0, edge=1024)]
    links = find_links(records)
    assert [link.device for link in links] == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert [link.value for link in links if link.to == "gemm"] == pytest.approx([250 / 312, 0.5])


def test_a_chain_is_of_one_dtype_and_bf16_comes_first(product):
    records = [
        product(150.0, dtype="tf32", nominal=156.0, datasheet=156.0),
        product(280.0, dtype="fp16"),
        product(),
    ]
    assert {link.dtype for link in find_links(records)} == {"bf16"}
    assert {link.dtype for link in find_links(records[:2])} == {"fp16"}
    assert {link.dtype for link in find_links(records[:1])} == {"tf32"}


def test_an_unrated_bf16_does_not_hide_a_rated_dtype(product):
    records = [
        product(nominal=None, datasheet=None),
        product(150.0, dtype="fp32", nominal=156.0, datasheet=156.0),
    ]
    links = find_links(records)
    assert {link.dtype for link in links} == {"fp32"}
    assert links[0].value == 1.0


def test_without_a_rating_there_is_no_chain(product, make_record):
    assert find_links([]) == []
    assert find_links([product(nominal=None, datasheet=None)]) == []
    assert find_links([make_record(status="skipped"), make_record(status="failed")]) == []


@pytest.mark.parametrize("unrated_first", [True, False])
def test_one_unrated_product_among_rated_ones_breaks_nothing(product, unrated_first):
    records = [product(200.0, edge=1024, nominal=None, datasheet=None), product(250.0)]
    links = find_links(records if unrated_first else records[::-1])
    assert [link.value for link in links] == pytest.approx([312 / 320, 250 / 312])


def test_a_block_without_a_product_of_its_dtype_has_no_chain(block):
    assert find_links([block()]) == []


def test_a_link_in_json_has_the_words_of_the_chain(product):
    row = find_links([product(250.0)])[0].as_run_row()
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


BURST_CHAIN = [
    "nominal→datasheet",
    "datasheet→gemm_burst",
    "gemm_burst→gemm_sustained",
    "gemm_sustained→gemm_model",
    "gemm_model→block",
]


def phased(record, phase, **changes):
    """The record as it would be from cool, or settled."""
    return record.model_copy(
        update={"phase": phase, "case": record.case.replace("/-/", f"/{phase}/"), **changes}
    )


@pytest.fixture
def phases(product, layer, block):
    """A run with phases: the product from cool, then beside the block and its products, settled."""

    def make(burst=270.0, sustained=250.0, models=(200.0, 160.0, 240.0, 220.0), whole=180.0, **changes):
        settled = [product(sustained), *layer(models), block(whole)]
        return [
            phased(product(burst), "burst", group="1"),
            *(phased(record, "sustained", group="layer", **changes) for record in settled),
        ]

    return make


def in_turn(records, speeds=None):
    """Give records batches in common rounds, in which everything slows down alike by half."""
    speeds = speeds or [record.tflops for record in records]
    return [
        record.model_copy(
            update={
                "batches": tuple(
                    Batch(
                        start_s=number,
                        elapsed_s=(1 + number / 20) * record.flops / (speed * 1e12),
                        launches=1,
                        round=number,
                    )
                    for number in range(10)
                )
            }
        )
        for record, speed in zip(records, speeds, strict=True)
    ]


def test_a_run_with_phases_has_both_products_and_multiplies_to_what_its_block_delivers(phases):
    links = find_links(phases())
    assert stages(links) == BURST_CHAIN
    assert links[1].value == pytest.approx(270 / 312)
    assert links[2].value == pytest.approx(250 / 270)
    delivered = 1.0
    for link in links:
        delivered *= link.value
    assert delivered == pytest.approx(180 / 320)


def test_what_was_drawn_in_turn_is_paired_and_the_rest_is_a_quotient(phases):
    burst, *settled = phases()
    links = find_links([*in_turn([burst]), *in_turn(settled)])
    quotients, paired = links[1:3], links[3:]
    assert all(link.high / link.low > 1.03 for link in quotients)
    assert all(link.high - link.low < 1e-9 for link in paired)  # the drift was everyone's
    assert [link.value for link in paired] == pytest.approx([link.value for link in find_links(phases())[3:]])


def test_a_paired_link_is_of_the_rounds_not_of_the_windows(phases):
    """Two figures of one group whose windows differ: what both did in the same rounds is compared."""
    burst, *settled = phases()
    speeds = [record.tflops for record in settled]
    speeds[-1] = 0.5 * speeds[-1]
    links = {link.to: link for link in find_links([burst, *in_turn(settled, speeds)])}
    mean = links["gemm_sustained"].value * links["gemm_model"].value * 270
    assert links["block"].value == pytest.approx(0.5 * 180 / mean, rel=1e-3)


def test_the_model_and_the_block_are_compared_with_the_product_beside_them(phases, product):
    faster = phased(product(260.0), "sustained", group="elsewhere", case="the same product, at another time")
    links = {link.to: link for link in find_links([*phases(), faster])}
    assert links["gemm_sustained"].value == pytest.approx(250 / 270)


def test_sustained_is_the_product_of_the_burst_even_where_another_is_faster(phases, product):
    faster = phased(product(265.0, edge=16384), "sustained", group="layer")
    links = {link.to: link for link in find_links([*phases(), faster])}
    assert "4096x4096x4096" in links["gemm_sustained"].source
    assert links["gemm_sustained"].value == pytest.approx(250 / 270)


def test_a_burst_whose_product_was_never_measured_settled_is_left_out(product):
    burst = phased(product(270.0, edge=8192), "burst")
    links = find_links([burst, phased(product(250.0), "sustained")])
    assert stages(links) == ["nominal→datasheet", "datasheet→gemm_sustained"]
    assert stages(find_links([burst])) == ["nominal→datasheet", "datasheet→gemm_burst"]


def test_a_product_that_gains_once_settled_is_printed(phases):
    assert find_links(phases(burst=240.0))[2].value == pytest.approx(250 / 240)


def test_power_capped_is_what_sustained_means_and_no_burst(phases, product):
    held = {"verdict": "power_capped", "verdicts": ("power_capped",)}
    assert [link.verdict for link in find_links(phases(**held))[1:]] == ["clean", *["power_capped"] * 3]
    quiet = phased(product(200.0), "sustained", group="layer", shape="1024x1024x1024")
    capped = phased(product(250.0, **held), "sustained", group="layer")
    assert find_links([quiet, capped])[-1].value == pytest.approx(250 / 312)  # as good as a clean one
    also = {"verdict": "throttled", "verdicts": ("throttled", "power_capped")}
    assert find_links([quiet, capped.model_copy(update=also)])[-1].value == pytest.approx(200 / 312)
    burst = phased(product(270.0, **held), "burst")
    other_burst = phased(product(240.0, edge=1024), "burst")
    assert find_links([burst, other_burst])[-1].value == pytest.approx(240 / 312)


@pytest.mark.parametrize(
    ("phase", "verdicts", "believed"),
    [
        (None, ("clean",), True),
        ("burst", ("clean",), True),
        (None, ("power_capped",), True),
        ("burst", ("power_capped",), False),
        ("sustained", ("power_capped",), True),
        ("sustained", ("unstable", "power_capped"), False),
        *((phase, ("throttled",), False) for phase in (None, "burst", "sustained")),
        ("sustained", ("throttled", "power_capped"), False),
        ("sustained", ("unverified", "power_capped"), False),
        ("sustained", ("contradictory",), False),
    ],
)
def test_what_may_be_believed_unasked(product, phase, verdicts, believed):
    assert product(phase=phase, verdict=verdicts[0], verdicts=verdicts).trusted is believed


def test_a_skipped_record_is_never_believed(make_record):
    assert not make_record(status="skipped").trusted


@pytest.mark.parametrize("verdict", ["contradictory", "unverified"])
def test_a_wrong_record_makes_no_stage_and_another_untrusted_one_does_if_need_be(product, verdict):
    wrong = product(300.0, verdict=verdict, verdicts=(verdict,))
    assert find_links([wrong]) == []
    hot = product(200.0, edge=1024, verdict="throttled", verdicts=("throttled",))
    assert find_links([wrong, hot])[-1].value == pytest.approx(200 / 312)


def test_inputs_that_no_model_has_make_no_stage(product):
    zeros = product(300.0, fill="zeros")
    assert find_links([zeros]) == []
    assert find_links([zeros, product(250.0)])[-1].value == pytest.approx(250 / 312)


def test_the_same_product_settled_in_another_cache_state_is_another_one(product):
    records = [
        phased(product(270.0, cache="rotating"), "burst"),
        phased(product(260.0, cache="warm"), "sustained"),
        phased(product(250.0, cache="rotating"), "sustained"),
    ]
    assert find_links(records)[-1].value == pytest.approx(250 / 270)


def test_the_interval_of_a_measured_nominal_counts_once(product):
    """A CPU that is in no table is rated by measured loops: what they leave open is part of its shares."""
    rated = {
        "nominal_tflops_low": 0.49,
        "nominal_tflops_high": 0.51,
        "nominal_basis": "measured",
    }
    exact = dict.fromkeys(rated) | {"nominal_basis": "table"}
    (chain,), (plain,) = (
        find_chains([product(0.4, nominal=0.5, datasheet=0.5, **each)]) for each in (rated, exact)
    )
    first, gemm = chain.links()
    assert (first.value, first.low, first.high, first.provenance) == (1.0, 1.0, 1.0, "measured")
    published, narrow = plain.links()
    assert published.provenance == "published"
    assert gemm.value == pytest.approx(narrow.value)
    half = math.log(gemm.high / gemm.low) / 2
    of_product = math.log(narrow.high / narrow.low) / 2
    assert half == pytest.approx(math.hypot(of_product, math.log(0.51 / 0.49) / 2))
    for stages, expected in ((chain, gemm), (plain, narrow)):
        share = stages.share_of_nominal(stages.stages[-1])
        assert (share.low, share.high) == (
            pytest.approx(expected.low, rel=1e-3),
            pytest.approx(expected.high, rel=1e-3),
        )
