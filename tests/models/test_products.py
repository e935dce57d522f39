"""A model's products in all three passes, published sets, and the stage that they are measured as."""

from dataclasses import replace

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.from_run import find_chains
from nameplate.chain.stage import Stage
from nameplate.cli.axes import AxesFlags
from nameplate.models.load import load_model
from nameplate.models.products import find_products, load_shape_sets
from nameplate.report.models import model_document, model_view, set_document, set_view
from nameplate.suite import Target, find_suite

GPU = Target("cuda", None, 141 << 30, frozenset())


@pytest.mark.parametrize("name", ["llama3-8b", "llama3-405b", "qwen2.5-72b", "driving-8b", "mixtral-8x7b"])
def test_a_training_pass_has_six_flops_a_weight_and_token(name):
    model = load_model(name)
    found = find_products(model, 4096)
    assert found.flops == 6 * (model.shape.layer_weights + model.shape.logit_weights) * 4096
    forward = find_products(model, 4096, ("forward",))
    assert found.flops == 3 * forward.flops
    assert len({each.size for each in found.products}) == len(found.products)
    assert {each.layout for each in found.products} == {"nt", "nn", "tn"}


def test_the_gradients_of_a_layer_are_the_products_that_follow_from_its_forward_one():
    found = {(each.name, each.pass_): each for each in find_products(load_model("llama3-70b"), 512).products}
    assert found["down", "forward"].size[:4] == (512, 8192, 28672, "nt")
    assert found["down", "input_gradient"].size[:4] == (512, 28672, 8192, "nn")
    assert found["down", "weight_gradient"].size[:4] == (8192, 28672, 512, "tn")
    (expert,) = (
        each
        for each in find_products(load_model("mixtral-8x7b"), 4096, ("forward",)).products
        if "down" in each.name
    )
    assert (expert.groups, expert.m, expert.times, expert.shape) == (8, 1024, 32, "8of1024x4096x14336")


def test_taf_is_ten_products_of_which_those_of_32_768_tokens_count():
    found = load_shape_sets()["taf-deepseek-v3"].products
    sizes = {(each.n, each.k) for each in found.products}
    assert sizes == {(2112, 7168), (3072, 1536), (7168, 2048), (4608, 7168), (7168, 256)}
    assert {each.m for each in found.products} == {32, 32768}
    assert found.flops == 2 * (32 + 32768) * sum(n * k for n, k in sizes)


def test_a_set_that_was_measured_whole_is_the_stage_of_a_models_products(make_record):
    axes = AxesFlags(shapes="taf-deepseek-v3").read()
    assert axes.shape_set.name == "taf-deepseek-v3"
    cases = find_suite("custom").cases(replace(GPU, axes=axes))
    assert len(cases) == 12
    records = []
    for case in cases:
        work = case.workload
        if work.name == "memory":
            continue
        tflops = 100.0 if work.m == 32 else 600.0
        ends = {
            "tflops": tflops,
            "tflops_low": tflops,
            "tflops_high": tflops,
            "time_s": work.flops / tflops / 1e12,
        }
        shape = {"flops": work.flops, "bytes": work.bytes, "dimensions": dict(work.dimensions)}
        about = {"represents": work.represents, "group": case.group, "nominal_tflops": 989.4}
        records.append(make_record(case=case.id, **shape, **about, **ends))
    (chain,) = find_chains(records)
    stage = chain.stages[-1]
    assert stage.stage is Stage.GEMM_MODEL
    flops = {m: sum(r.flops for r in records if r.represents and r.dimensions["m"] == m) for m in (32, 32768)}
    mean = sum(flops.values()) / (flops[32] / 100.0 + flops[32768] / 600.0)
    assert stage.throughput.tflops.value == pytest.approx(mean)
    (incomplete,) = find_chains(records[:-1])
    assert incomplete.stages[-1].stage is not Stage.GEMM_MODEL


def test_shapes_names_a_set_or_a_model_and_not_both():
    axes = AxesFlags(tokens=["256"], shapes="mixtral-8x7b").read()
    assert axes.only_products
    cases = find_suite("custom").cases(replace(GPU, axes=axes))
    grouped = [case for case in cases if hasattr(case.workload, "groups")]
    assert {case.backend for case in grouped} <= {"loop", "grouped_mm"}
    assert len(grouped) >= 6
    total = sum(case.workload.flops * case.workload.times for case in cases if case.workload.represents)
    assert {case.workload.set_flops for case in cases if case.workload.represents} == {total}
    with pytest.raises(InputError, match="a model and a set of shapes"):
        AxesFlags(model="llama3-8b", shapes="taf-deepseek-v3").read()
    with pytest.raises(InputError, match="no such set of shapes or model"):
        AxesFlags(shapes="taf-deepseek-v4").read()


def test_a_product_of_the_backward_pass_is_shown_with_the_layout_that_measures_it():
    forward, backward = model_view(model_document(load_model("llama3-70b"), (512,), shapes=True)).tables[-2:]
    layouts = {row[0]: row[2] for row in (*forward.rows, *backward.rows)}
    assert layouts["down"] == "nt"
    assert (layouts["down: input"], layouts["down: weights"]) == ("nn", "tn")
    (published,) = set_view(set_document(load_shape_sets()["taf-deepseek-v3"].products)).tables
    assert {row[2] for row in published.rows} == {"nn"}
