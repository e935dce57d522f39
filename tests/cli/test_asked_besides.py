"""What `bench run` does on asking besides timing: traces of launches, and the largest batch that fits."""

from __future__ import annotations

import gzip
import json

import pytest

from nameplate.store.publish import _anonymize_record
from nameplate_kernels import FP8

BLOCKS = "transformer_block/*/1x4096x4096-forward_backward/*/torch"


@pytest.mark.long
@pytest.mark.process
def test_on_a_twin_a_block_is_traced_by_kernels_and_its_largest_batch_is_found(bench, tmp_path):
    """Its linear layers in bf16, and in fp8."""
    flags = ("--device", "twin:h200", "--only", BLOCKS, "--trace", "--largest-batch", "--results", tmp_path)
    ended = bench("run", "block", *map(str, flags), "--budget", "40", "--json")
    assert ended.status == 0, ended.err
    document = json.loads(ended.out)
    run = document["run"]
    records = {record["dtype"]: record for record in document["records"]}
    assert set(records) == {"bf16", FP8}
    assert not [each for each in records.values() if "contradictory" in each["verdicts"]]
    fp8, bf16 = (records[dtype]["nominal_tflops"] for dtype in (FP8, "bf16"))
    assert bf16 < fp8 < 2 * bf16  # attention is in bf16, so the rating is that of both by time
    for each in run["kernels"]:
        assert sum(kernel["share"] for kernel in each["kernels"]) == pytest.approx(1)
        with gzip.open(f"{run['folder']}/{each['trace']}") as file:
            trace = json.load(file)
        assert trace["measured"] is False
        assert trace["traceEvents"][0]["args"]["name"] == "simulated: twin:h200"
        assert len(trace["traceEvents"]) - 1 == sum(kernel["calls"] for kernel in each["kernels"])
    gemms = [name for name in kernel_names(run, FP8) if name.startswith("twin_gemm_fp8")]
    assert gemms
    for each in run["largest_batches"]:
        largest = each["largest_batch"]
        assert (largest["is_launched"], largest["is_final"]) == (False, True)
        assert 50 < largest["batch"] < 200
        assert 0.95 * largest["limit_bytes"] < largest["peak_bytes"] <= largest["limit_bytes"] < 0.8 * 151e9
    shown = bench("show", run["folder"], "kernels", "largest")
    assert "twin_gemm_fp8" in shown.out
    assert "counting" in shown.out
    assert "traces" in bench("show", run["folder"]).out
    assert " --trace --largest-batch" in bench("show", run["folder"], "reproduce").out


def kernel_names(run, dtype):
    found = next(each for each in run["kernels"] if f"/{dtype}/" in each["case"])
    return [kernel["name"] for kernel in found["kernels"]]


def test_what_cant_be_larger_or_is_measured_by_a_whole_job_is_refused_in_a_sentence(bench):
    ended = bench("run", "memory", "--device", "twin:h200", "--largest-batch")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "--largest-batch: no case has a batch that could be larger; got 'suite memory'" in ended.err
    ended = bench("run", "collectives", "--trace")
    assert ended.status == 2
    assert "can't be used with collectives" in ended.err


def test_a_published_record_keeps_its_kernels_and_no_file(make_record):
    kernel = {"name": "gemm", "time_s": 1e-3, "calls": 1}
    record = make_record(profile={"trace": "traces/a.json.gz", "kernels": [kernel]})
    published = _anonymize_record(record, {})
    assert (published.profile.trace, published.profile.kernels) == (None, record.profile.kernels)
    assert _anonymize_record(make_record(), {}).profile is None
