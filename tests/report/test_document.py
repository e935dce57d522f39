"""What `--json` promises of a run."""

import json
import math

import pytest

from nameplate.chain.from_run import find_links
from nameplate.cli.output import print_json
from nameplate.report.run import run_document
from run_views import BLOCK, memory

# What `--json` promises.
PROMISED = (
    "case workload dtype device part phase backend tflops tflops_low tflops_high nominal_tflops efficiency "
    "datasheet_tflops datasheet_efficiency ceiling_tflops normalized_efficiency tflops_median bandwidth_gb_s "
    "convention time_s launches power_w energy_j tflops_per_w verdict verdicts status reason"
)


def test_the_document_is_run_records_and_chain(make_run, a800, make_record):
    run = make_run(a800(250.0), memory(make_record), missing=[BLOCK], problems=("one problem",))
    found = json.loads(json.dumps(run_document(run)))
    assert list(found) == ["run", "records", "health", "chain"]
    assert (found["run"]["run"], found["run"]["hostname"]) == (run.id, "node17")
    assert (found["run"]["finished"], found["run"]["missing"]) == (False, [{"case": BLOCK, "device": "cpu"}])
    assert found["run"]["problems"] == ["one problem"]
    product, copy = found["records"]
    assert [name for name in PROMISED.split() if name not in product] == []
    assert all(not isinstance(value, dict) for value in product.values())
    assert product["verdicts"] == ["clean"]
    assert (product["phase"], product["power_w"], product["reason"]) == (None, None, None)
    assert (copy["tflops"], copy["efficiency"]) == (None, None)
    first, second = found["chain"]
    assert (first["from"], first["to"], first["value"]) == ("nominal", "datasheet", 312 / 320)
    assert (second["from"], second["to"], second["provenance"]) == ("datasheet", "gemm", "measured")


def test_what_is_no_column_stands_in_the_run(make_run, phases, states):
    run = json.loads(json.dumps(run_document(make_run(*phases(), *states))))["run"]
    (course,) = run["courses"]
    assert (course["case"].split("/")[-2], course["device"]) == ("burst", "cpu")
    assert course["course"][0] == {
        "at_s": 0.1,
        "tflops": 280.0,
        "sm_clock_mhz": None,
        "power_w": None,
        "temperature_c": None,
    }
    assert [each["at_s"] for each in course["derates"]] == [1.0, 10.0, 60.0, 600.0]
    assert [effect["value"] for effect in run["effects"]] == pytest.approx([1.25, 0.8])


def test_a_document_keeps_every_letter(make_run, make_record):
    text = json.dumps(run_document(make_run(make_record(), hostname="нода-17")))
    assert json.loads(text)["run"]["hostname"] == "нода-17"
    assert text.isascii()  # whatever the terminal's encoding


def test_neither_nan_nor_infinity_leaves(capsys):
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"tflops": float("nan")})
    print_json({"ends": [{"low": 1.0, "high": math.inf}, (-math.inf, "∞")]})
    assert json.loads(capsys.readouterr().out) == {"ends": [{"low": 1.0, "high": None}, [None, "∞"]]}


def test_an_interval_without_an_upper_end_is_shown_as_such(make_record, make_run):
    """The low end of a throughput is 0 where its times can't be told from endless ones."""
    found = {"seen": 3, "shapes": 3, "cost_s": 1.0, "grid_s": 1.0}
    open_ended = {"tflops_low": 0.0, "search": found, "group": "1"}
    one = make_record(**open_ended)
    other = make_record(**open_ended, case="another", backend="numpy")
    more = make_record(**open_ended, case="flushed", cache="flushed")
    run = make_run(one, other, more)
    assert "± ∞" in run._repr_html_()
    print_json(run_document(run))


def test_intervals_that_reach_a_time_of_zero_are_still_a_document(make_run, make_record):
    """Five very noisy batches give such an interval; a record then ends it at 1e9 times the value."""
    wide = {"tflops": 1.0, "tflops_low": 0.2, "tflops_high": 1e9}
    layer = []
    for outputs, inputs, times in ((6144, 4096, 1), (4096, 4096, 1), (14336, 4096, 2), (4096, 14336, 1)):
        dimensions = {"m": 128, "n": outputs, "k": inputs, "layout": "nt", "times": times}
        flops = 2 * 128 * outputs * inputs
        case = f"matmul/bf16/128x{outputs}x{inputs}-nt/normal/warm/-/torch"
        layer.append(
            make_record(case=case, dimensions=dimensions, flops=flops, represents="Llama-3-8B", **wide)
        )
    forward = sum(record.flops * record.dimensions["times"] for record in layer) + 2 * 128**2 * 32 * 128
    block = make_record(
        case="transformer_block/bf16/1x128x4096-forward_backward/normal/warm/-/torch",
        workload="transformer_block",
        represents="Llama-3-8B",
        dimensions={"batch": 1, "tokens": 128, "heads": 32, "head_dim": 128, "pass": "forward_backward"},
        flops=3 * forward,
        **wide,
    )
    run = make_run(make_record(), *layer, block)
    assert "gemm_model" in {link.to for link in find_links(run.records)}
    assert json.loads(json.dumps(run_document(run), allow_nan=False))["chain"]
