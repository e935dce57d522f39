"""The record: frozen, refused where it contradicts itself, the same after a trip through JSON."""

from __future__ import annotations

import json
import math
import re

import pytest
from pydantic import ValidationError

from nameplate.record import GRAVITY, INTERVALS, Column, Record, columns, sort_by_gravity
from nameplate.stats.interval import Interval

# The columns that `--json` promises, from the design's command-line contract.
PROMISED = {
    *("case", "workload", "dtype", "device", "part", "phase", "backend", "convention", "status", "reason"),
    *("tflops", "tflops_low", "tflops_high", "tflops_median", "nominal_tflops", "efficiency"),
    *("datasheet_tflops", "datasheet_efficiency", "ceiling_tflops", "normalized_efficiency"),
    *("bandwidth_gb_s", "time_s", "launches", "power_w", "energy_j", "tflops_per_w"),
    *("verdict", "verdicts"),
}


def test_a_block_has_its_figure_by_every_convention_and_other_work_none(make_record):
    sizes = {"batch": 1, "tokens": 8, "d_model": 32, "heads": 4, "ffn": 64, "pass": "forward"}
    flops = 2 * 8 * (4 * 32 * 32 + 3 * 32 * 64) + 2 * 8 * 8 * 32
    record = make_record(dimensions=sizes, flops=flops, convention="megatron")
    counted, reached = record.flops_by_convention, record.tflops_by_convention
    assert counted["megatron"] == flops
    assert reached["megatron"] == record.tflops
    assert reached["6n"] == pytest.approx(record.tflops * counted["6n"] / flops)
    assert counted["megatron_2022"] > counted["megatron"] > counted["6n"]
    assert record.flatten()["tflops_by_convention"] == reached
    assert make_record().flops_by_convention is make_record().tflops_by_convention is None
    skipped = make_record(dimensions=sizes, flops=flops, status="skipped")
    assert (skipped.flops_by_convention, skipped.tflops_by_convention) == (counted, None)


def test_is_frozen_and_an_edit_is_a_new_one(make_record):
    record = make_record()
    with pytest.raises(ValidationError, match="frozen"):
        record.tflops = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        record.batches[0].elapsed_s = 1.0
    assert make_record(device="cuda:0") != record


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"time_s": None}, "needs a time above 0"),
        ({"time_s": 0.0}, "needs a time above 0"),
        ({"time_s": -1.0}, "needs a time above 0"),
        ({"launches": None}, "at least one launch"),
        ({"launches": 0}, "at least one launch"),
        ({"launches": -3}, "at least one launch"),
        ({"tflops": 0.42}, "interval 0.39..0.41 doesn't hold its value 0.42"),
        ({"tflops": 0.38}, "doesn't hold its value 0.38"),
        ({"tflops_low": None}, "interval None..0.41 doesn't hold"),
        ({"efficiency_high": None}, "doesn't hold its value 0.8"),
        ({"efficiency": 0.9}, "interval 0.78..0.82 doesn't hold its value 0.9"),
        ({"bandwidth_gb_s": 2.0}, "doesn't hold its value 2.0"),
        ({"verdict": "clean", "verdicts": ("contended", "unstable")}, "gravest .* is 'contended'"),
        ({"verdict": "unstable", "verdicts": ("contended", "unstable")}, "gravest .* is 'contended'"),
        ({"verdict": "clean", "verdicts": ()}, "the gravest of"),
        ({"verdict": "unstable", "verdicts": ("unstable", "clean")}, "clean can.t stand with"),
        ({"tflops": math.nan}, "finite"),
        ({"tflops_high": math.inf}, "finite"),
        ({"verdict": "fine"}, "verdict"),
        ({"status": "done"}, "status"),
        ({"tflop": 1.0}, "tflop\n.*[Ee]xtra"),
    ],
)
def test_refuses_a_measured_record_that_contradicts_itself(make_record, changes, sentence):
    with pytest.raises(ValidationError, match=re.compile(sentence, re.DOTALL)):
        make_record(**changes)


@pytest.mark.parametrize("status", ["skipped", "failed"])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reason": None}, "needs a reason"),
        ({"reason": ""}, "needs a reason"),
        ({"verdict": "clean", "verdicts": ("clean",)}, "can't be clean"),
    ],
)
def test_an_unmeasured_record_says_why_and_is_never_clean(make_record, status, changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        make_record(status=status, **changes)


@pytest.mark.parametrize(
    "figures",
    [
        {"time_s": 0.1},
        {"tflops": 1.0, "tflops_low": 0.9, "tflops_high": 1.1},
        {"bandwidth_gb_s": 1.0},
        {"efficiency": 0.5, "efficiency_low": 0.4, "efficiency_high": 0.6},
        {"tflops_median": 1.0},
        {"datasheet_efficiency": 0.5},
        {"normalized_efficiency": 0.5},
        {"launches": 3},
        {"energy_j": 5.0},
    ],
    ids=lambda figures: next(iter(figures)),
)
def test_an_unmeasured_record_carries_no_figure(make_record, figures):
    with pytest.raises(ValidationError, match="can't have figures"):
        make_record(status="skipped", **figures)


def test_an_unmeasured_record_keeps_what_was_declared_and_rated(make_record):
    record = make_record(status="skipped", nominal_tflops=0.5, flops=10, cost_s=0.2)
    assert (record.nominal_tflops, record.flops, record.tflops) == (0.5, 10, None)


def test_work_without_flops_is_measured_by_its_bandwidth(make_record):
    of_flops = [name for name in Record.model_fields if "tflops" in name or "efficiency" in name]
    none = dict.fromkeys([*of_flops, "flops", "convention"])
    flat = make_record(workload="copy", **none).flatten()
    assert flat["tflops"] is None
    assert flat["efficiency"] is None
    assert flat["bandwidth_gb_s"] == 1.171875


@pytest.mark.parametrize("status", ["ok", "skipped", "failed"])
def test_a_record_read_back_from_json_is_equal(make_record, status):
    record = make_record(status=status, reason=None if status == "ok" else "torch said “no” – ½\n")
    text = record.model_dump_json()
    assert "\n" not in text
    assert Record.model_validate_json(text) == record
    assert Record.model_validate(json.loads(text)).batches == record.batches


def test_a_line_with_nan_is_refused_when_read(make_record):
    text = make_record().model_dump_json().replace('"tflops":0.4,', '"tflops":NaN,')
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


def test_holds_every_promised_column(make_record):
    assert columns().keys() >= PROMISED
    assert make_record(status="skipped").flatten().keys() >= PROMISED


def test_flattened_columns_are_plain_json_in_declared_order(make_record):
    flat = make_record(verdict="contended", verdicts=("contended", "unstable"), warnings=("w",)).flatten()
    assert list(flat) == list(columns())
    assert flat["verdicts"] == ["contended", "unstable"]
    assert flat["warnings"] == ["w"]
    assert flat["power_w"] is None
    assert flat["ceiling_tflops"] is None
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert not {"batches", "verification", "conditions", "dimensions"} & flat.keys()


def test_every_measured_column_states_its_unit():
    for name, column in columns().items():
        if name.endswith(("tflops", "tflops_low", "tflops_high")):
            assert column.unit == "TFLOPS", name
        for ending, unit in {"_s": "s", "_w": "W", "_j": "J", "_gb_s": "GB/s"}.items():
            longer = [other for other in ("_gb_s",) if ending != other and name.endswith(other)]
            if name.endswith(ending) and not longer and name != "tflops_per_w":
                assert column.unit == unit, name


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column("x", "TFLOPS", 3), None, "–"),
        (Column("x", "ratio"), None, "–"),
        (Column("x", "ratio"), 0.8125, "81.2%"),
        (Column("x", "ratio"), 0.0, "0.0%"),
        (Column("x", "TFLOPS", 3), 1234.56789, "1,234.568"),
        (Column("x", "W", 0), 0.0, "0"),
        (Column("x"), "bf16", "bf16"),
        (Column("x"), 12, "12"),
    ],
)
def test_formats_a_value_by_its_column(column, value, text):
    assert column.format(value) == text


def test_orders_verdicts_gravest_first():
    assert sort_by_gravity(set()) == ("clean",)
    assert sort_by_gravity({"clean"}) == ("clean",)
    assert sort_by_gravity({"unstable", "clean", "contended"}) == ("contended", "unstable")
    assert sort_by_gravity(set(GRAVITY)) == GRAVITY[:-1]
    assert sort_by_gravity({"unknown", "unverified"})[0] == "unverified"


@pytest.mark.parametrize("verdict", GRAVITY)
def test_every_verdict_alone_makes_a_record(make_record, verdict):
    assert make_record(verdict=verdict, verdicts=(verdict,)).verdict == verdict


def test_a_figure_comes_with_its_interval(make_record):
    record = make_record()
    assert record.interval("tflops") == Interval(0.4, 0.39, 0.41)
    assert record.interval("bandwidth_gb_s") == Interval(1.171875, 1.142578125, 1.201171875)
    assert record.interval("normalized_efficiency") is None
    for figure, ends in INTERVALS.items():
        assert {figure, *ends} <= columns().keys()
        assert record.model_copy(update={ends[0]: None}).interval(figure) is None
