"""A training step predicted from its pieces, from made-up records."""

import pytest

from nameplate.chain.from_run import find_chains
from nameplate.chain.steps import find_steps, find_whole_step
from nameplate.report.labels import Labels
from nameplate.report.sections.chain import chain_table

B, T, D, V = 1, 128, 4096, 128_256
SIZES = {"batch": B, "tokens": T, "d_model": D, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336}
LAYER, ENDS = 218_112_000, 2 * V * D + D  # weights
LAYER_S, ENDS_S, ADAMW_S, WHOLE_S = 1.0, 2.0, 0.25, 4.4


@pytest.fixture
def pieces(make_record):
    """The records of Llama-3-8B's pieces, and of a model of two of its layers."""

    def timed(shape, pass_, time_s, parameters, workload="training_step", **fields):
        backend = fields.get("backend", "torch")
        dimensions = SIZES | {"pass": pass_, "parameters": parameters} | fields.pop("more", {})
        flops = None if pass_ == "adamw" else 10**12
        figures = {} if flops is None else dict.fromkeys(("tflops", "tflops_median"), 1 / time_s)
        if flops:
            figures |= {"tflops_low": 0.9 / time_s, "tflops_high": 1.1 / time_s}
        else:
            figures |= {"tflops": None, "tflops_low": None, "tflops_high": None, "tflops_median": None}
            figures |= {"bandwidth_gb_s": 10.0, "bandwidth_low_gb_s": 9.0, "bandwidth_high_gb_s": 12.5}
        return make_record(
            case=f"{workload}/bf16/{shape}/normal/warm/sustained/{backend}",
            workload=workload,
            flops=flops,
            time_s=time_s,
            dimensions=dimensions,
            **{**figures, "represents": "Llama-3-8B", "group": "layer", **fields},
        )

    def make(**whole):
        return [
            timed("layer", "forward_backward", LAYER_S, LAYER, "transformer_block"),
            timed("ends", "embedding_head", ENDS_S, ENDS, more={"vocabulary": V, "layers": 0}),
            timed("adamw", "adamw", ADAMW_S, LAYER, more={"vocabulary": 64, "layers": 1}),
            timed("whole", "step", WHOLE_S, 0, more={"vocabulary": V, "layers": 2}, **whole),
        ]

    return make


def seconds(layers):
    return layers * LAYER_S + ENDS_S + (layers * LAYER + ENDS) / LAYER * ADAMW_S


def test_a_step_is_the_sum_of_its_pieces_and_the_residual_widens_it(pieces):
    small, whole = find_steps(pieces())
    assert (small.layers, small.model) == (2, None)
    assert small.predicted.value == pytest.approx(seconds(2))
    assert small.residual == pytest.approx(WHOLE_S / seconds(2) - 1)
    assert small.residual < -0.1
    assert (whole.layers, whole.model, whole.measured, whole.residual) == (32, "Llama-3-8B", None, None)
    assert whole.predicted.value == pytest.approx(seconds(32))
    # The ends of the pieces' intervals add up, and the low one lies further out by the residual.
    adamw_s = (32 * LAYER + ENDS) / LAYER * ADAMW_S
    low = (32 * LAYER_S + ENDS_S) / 1.1 + adamw_s * 10 / 12.5
    assert whole.predicted.low == pytest.approx(low * (1 + small.residual))
    assert whole.predicted.high == pytest.approx((32 * LAYER_S + ENDS_S) / 0.9 + adamw_s * 10 / 9)
    assert whole.tokens_per_second.value == pytest.approx(T / seconds(32))
    assert sum(whole.pieces.shares(32)) == pytest.approx(1)
    assert whole.as_json()["predicted_s"] == whole.predicted.value
    assert small.as_json()["measured_s"] == WHOLE_S


def test_the_chain_goes_on_to_the_step(pieces, make_record):
    product = make_record(case="matmul/bf16/2048x2048x2048/normal/warm/sustained/torch", group="layer")
    (chain,) = find_chains([product, *pieces()])
    link = chain.links()[-1]
    assert (link.from_, link.to, link.provenance) == ("block", "step", "modelled")
    assert link.value == pytest.approx(33 / seconds(32) / (1 / LAYER_S))  # all pieces count 1 TFLOP
    assert link.low < link.value < link.high
    without = [each for each in pieces() if each.dimensions.get("pass") != "adamw"]
    (chain,) = find_chains([product, *without])
    assert chain.links()[-1].to == "block"


def test_pieces_of_another_vocabulary_model_or_backend_predict_nothing(pieces):
    records = pieces(backend="compiled")
    assert [each.measured for each in find_steps(records)] == [None]  # no layer ran as the small model did
    fewer = records[1].dimensions | {"vocabulary": 64}
    assert find_steps([records[0], records[1].model_copy(update={"dimensions": fewer}), *records[2:]]) == []
    narrow = [each.model_copy(update={"represents": None}) for each in pieces()]
    assert [each.model for each in find_steps(narrow)] == [None]
    assert find_whole_step(narrow, narrow[0]) is None
    assert find_whole_step(pieces(), pieces()[0]).layers == 32


def test_what_several_devices_reach_starts_from_the_block_and_says_so(pieces, make_record):
    product = make_record(case="matmul/bf16/2048x2048x2048/normal/warm/sustained/torch", group="layer")
    shape = "layer-data_parallel-x8"
    together = make_record(
        case=f"scaled_block/bf16/{shape}/normal/warm/sustained/torch",
        workload="scaled_block",
        shape=shape,
        flops=10**12,
        dimensions={"world_size": 8, "nodes": 1},
        represents="Llama-3-8B",
        group="layer",
        time_s=LAYER_S / 0.9,
        **dict.fromkeys(("tflops", "tflops_median"), 0.9),
        tflops_low=0.89,
        tflops_high=0.91,
    )
    (alone,), (chain,) = find_chains([product, *pieces()]), find_chains([product, *pieces(), together])
    link = chain.links()[-1]
    assert (link.from_, link.to, link.n_to) == ("block", "scaled", 8)
    assert link.value == pytest.approx(0.9)
    assert chain.set_aside == alone.stages[-1]
    assert alone.set_aside is None
    tables = [chain_table(each.links(), Labels({}), [each], 1) for each in (alone, chain)]
    assert tables[0].lead == ""
    assert tables[1].lead.startswith("The last link starts from the block")
