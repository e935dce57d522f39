"""The loss named: factors that multiply to the whole, each with evidence, the rest unknown."""

import json
import math

import pytest

from nameplate.base.messages import message
from nameplate.chain.losses import WHAT, explain_losses
from nameplate.report.sections.losses import losses_table
from nameplate.store.folder import find_runs, read_run
from nameplate.twin.card import read_card

CLOCK = message("peak_at_highest_clock", datasheet=900.0, highest_mhz=2000, rated_mhz=1800)
TILES = {"m": 1280, "n": 2048, "k": 1024}  # 10 × 8 tiles of 128×256: 80 in one wave of 100


def product(
    make_record, tflops, *, flops=2 * 1280 * 2048 * 1024, conditions=(), shape="1280x2048x1024", **changes
):
    known = {
        "gpu_sm_clock_mhz": 1500.0,
        "gpu_multiprocessors": 100,
        "gpu_power_throttle_share": 0.8,
        "gpu_thermal_throttle_share": 0.0,
    }
    fields = {
        "case": f"matmul/bf16/{shape}/normal/rotating/sustained/torch",
        "dimensions": TILES,
        "flops": flops,
        "bytes": 1000,
        "time_s": flops / tflops / 1e12,
        "silicon_tflops": 1000.0,
        "silicon_tflops_low": 1000.0,
        "silicon_tflops_high": 1000.0,
        "nominal_tflops": 900.0,
        "peak_source": CLOCK,
        "kernels": ("twin_gemm_bf16_128x256",),
        "enqueue_share": 0.01,
        "device": "cuda:0",
    }
    ends = {"tflops": tflops, "tflops_low": tflops, "tflops_high": tflops}
    return make_record(**(fields | ends | {"conditions": known | dict(conditions)} | changes))


def memory(make_record, gb_s):
    nothing = dict.fromkeys(
        ("flops", "convention", "nominal_tflops", "silicon_tflops", "tflops", "tflops_median")
    )
    nothing |= dict.fromkeys(("efficiency", "efficiency_low", "efficiency_high", "tflops_low", "tflops_high"))
    ends = dict.fromkeys(("bandwidth_gb_s", "bandwidth_low_gb_s", "bandwidth_high_gb_s"), gb_s)
    case = "memory/fp32/copy-1MiB/normal/rotating/-/torch"
    return make_record(case=case, dimensions={"kind": "copy"}, device="cuda:0", **nothing, **ends)


def factors_of(records):
    (found,) = explain_losses(records)
    known = {each.name: each.value for each in found.factors}
    whole = math.prod(value for value in known.values() if value is not None)
    assert whole == pytest.approx(found.tflops / found.limit_tflops, rel=1e-12)
    assert found.limit_tflops == pytest.approx(1000.0)
    return known


def test_a_gpus_loss_is_its_clock_by_what_held_it_and_its_idle_multiprocessors(make_record):
    known = factors_of([product(make_record, 480.0), memory(make_record, 1e6)])
    assert known["power"] == pytest.approx(1500 / 2000)
    assert known["tiles"] == pytest.approx(0.8)
    assert (known["heat"], known["clock"], known["launch"], known["memory"]) == (1.0, 1.0, 1.0, 1.0)
    assert known["library"] is None  # nothing else shows it
    assert known["remainder"] == pytest.approx(0.8)
    assert set(known) <= set(WHAT)


def test_the_cause_is_heat_or_a_clock_setting_where_the_driver_says_so(make_record):
    hot = {"gpu_power_throttle_share": 0.1, "gpu_hardware_thermal_throttle_share": 0.9}
    assert factors_of([product(make_record, 480.0, conditions=hot)])["heat"] == pytest.approx(0.75)
    free = {"gpu_power_throttle_share": 0.0}
    assert factors_of([product(make_record, 480.0, conditions=free)])["clock"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("lost", "unknown"),
    [
        ({"conditions": {"gpu_sm_clock_mhz": None}}, {"power", "heat", "clock"}),
        ({"conditions": {"gpu_power_throttle_share": None}}, {"power", "heat"}),
        ({"kernels": ("sm90_gemm_128x256_splitK",)}, {"tiles"}),
        ({"kernels": ()}, {"tiles"}),
        ({"conditions": {"gpu_multiprocessors": None}}, {"tiles"}),
        ({"enqueue_share": None}, {"launch"}),
    ],
)
def test_what_has_no_evidence_is_unknown_and_goes_to_the_remainder(make_record, lost, unknown):
    known = factors_of([product(make_record, 480.0, **lost), memory(make_record, 1e6)])
    assert {name for name, value in known.items() if value is None} == {*unknown, "library"}


def test_a_library_names_its_tile_of_the_transpose(make_record):
    # 256×128 of the transpose is 128×256 of the product.
    known = factors_of([product(make_record, 480.0, kernels=("sm90_xmma_gemm_bf16bf16_tilesize256x128x64",))])
    assert known["tiles"] == pytest.approx(0.8)


def test_memory_bounds_a_thin_product_and_a_warm_one_only_where_it_can_be_told(make_record):
    flops = 2 * 1280 * 2048 * 1024
    moved = int(flops / 1e15 * 2 * 1e9)  # at 1 GB/s… of 1e9 B/s twice the time of the arithmetic's limit
    roof = memory(make_record, 1.0)
    assert factors_of([product(make_record, 300.0, bytes=moved), roof])["memory"] == pytest.approx(
        0.5, rel=1e-3
    )
    assert factors_of([product(make_record, 300.0, bytes=moved, cache="warm"), roof])["memory"] is None
    assert factors_of([product(make_record, 300.0)])["memory"] is None  # no memory was measured


def test_a_host_that_keeps_the_gpu_waiting_shows_by_its_graph(make_record):
    assert factors_of([product(make_record, 300.0, graph_tflops=400.0, enqueue_share=0.9)])["launch"] < 0.95


def test_a_models_products_lose_to_the_library_what_the_best_product_does(make_record):
    best = product(make_record, 540.0, shape="square")  # explained: 600 of 1000, so the library keeps 0.9
    parts = {"represents": "a model", "dimensions": {**TILES, "set_flops": 4 * best.flops, "times": 1}}
    first = product(make_record, 480.0, shape="a", **parts)
    second = product(
        make_record, 480.0, shape="b", **(parts | {"dimensions": parts["dimensions"] | {"times": 3}})
    )
    known = factors_of([best, first, second, memory(make_record, 1e6)])
    assert known["library"] == pytest.approx(0.9)
    assert known["remainder"] == pytest.approx(480 / 540)


def test_a_cpus_loss_is_its_librarys_and_what_others_took(make_record):
    probed = {"calibration_ratio": 2.0, "calibration_probe_tflops": 300.0, "probe_tflops": 270.0}
    record = product(make_record, 486.0, kernels=(), enqueue_share=None)
    known = factors_of([record.model_copy(update={"conditions": probed, "peak_source": None})])
    assert (known["library"], known["contention"]) == (pytest.approx(0.6), pytest.approx(0.9))
    assert known["remainder"] == pytest.approx(0.9)
    # Calibrated beside other work: the two can't be told apart.
    mixed = message("losses", each=[message("lost_to_library_or_contention", share=0.5)])
    record = record.model_copy(update={"conditions": probed, "peak_source": None, "loss": mixed})
    assert factors_of([record])["library"] is factors_of([record])["contention"] is None
    assert {name for name, value in known.items() if value is None} == {
        "memory", "power", "heat", "clock", "launch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tflops", "probe", "expected"),
    [
        # The probe is a tenth faster than at calibration, which therefore found too little.
        (594.0, 330.0, {"library": (0.66, 0.6), "contention": (1.0, 1.1), "remainder": (0.9, None)}),
        # The product is better than the calibrated one, and others took nothing that it doesn't have.
        (640.0, 270.0, {"library": (0.64, 0.6), "contention": (1.0, 0.9), "remainder": (1.0, None)}),
        # Nothing explains more than the limit.
        (1100.0, 300.0, {"library": (1.0, 0.6), "contention": (1.0, None), "remainder": (1.1, None)}),
    ],
)
def test_a_loss_is_never_negative_and_what_its_evidence_says_stands_beside_it(
    make_record, tflops, probe, expected
):
    probed = {"calibration_ratio": 2.0, "calibration_probe_tflops": 300.0, "probe_tflops": probe}
    record = product(make_record, tflops, kernels=(), enqueue_share=None)
    record = record.model_copy(update={"conditions": probed, "peak_source": None})
    known = factors_of([record])
    (found,) = explain_losses([record])
    beside = {each.name: each.by_evidence for each in found.factors}
    for name, (value, by_evidence) in expected.items():
        assert (name, known[name]) == (name, pytest.approx(value))
        assert (name, beside[name]) == (name, by_evidence and pytest.approx(by_evidence))
    table = losses_table([record])
    (chart,) = table.charts
    assert tflops / 1000 == pytest.approx(chart.steps[-1].value)
    shares = [step.value for step in chart.steps]
    assert tflops > 1000 or shares == sorted(shares, reverse=True)
    assert "by itself" in [column.name for column in table.columns]


def test_without_a_limit_nothing_is_explained(make_record):
    unlimited = dict.fromkeys(("silicon_tflops", "silicon_tflops_low", "silicon_tflops_high"))
    assert explain_losses([product(make_record, 480.0, **unlimited)]) == []


@pytest.mark.process
@pytest.mark.long
def test_a_twins_clock_and_power_are_what_the_waterfall_says(bench, tmp_path):
    """The card's own figures are the truth: what its clock held, its tiles, and what its library reaches."""
    asked = ("run", "--shapes", "taf-deepseek-v3", "--device", "twin:h200", "--budget", "40", "--json")
    done = bench(*asked, "--results", str(tmp_path))
    run = json.loads(done.out)
    (losses,) = run["run"]["losses"]
    known = {each["name"]: each["value"] for each in losses["factors"]}
    card = read_card("h200")
    (folder,) = find_runs(tmp_path)
    square = next(each for each in read_run(folder).records if each.shape == "8192x8192x8192")
    held = square.conditions["gpu_sm_clock_mhz"] / card.clock.maximum_mhz.value
    assert 0.8 < held < 0.95  # its power limit holds it
    assert known["heat"] == known["clock"] == 1.0
    # Of the set's own products those of 32 tokens are bound by memory, whose clock holds nothing up.
    assert held - 0.02 < known["power"] < held + 0.03
    assert known["library"] == pytest.approx(card.compute["bf16"].efficiency.value, abs=0.01)
    whole = math.prod(value for value in known.values() if value is not None)
    assert whole == pytest.approx(losses["tflops"] / losses["limit_tflops"], rel=1e-9)
