"""Fleets priced by a run's own derate: which runs and records are taken, and which are refused."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.fleet.describe import describe_delivered
from nameplate.store.manifest import DeviceEntry, Options
from prices import A800, H100, cost, one


def up_to_run(priced):
    """Delivered ÷ nominal as far as a run measured it."""
    return math.prod(link.value for link in priced.chain if link.provenance != "modelled")


def entry(name="cuda:0", part=A800):
    identity = CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=int(name[-1]))
    return DeviceEntry(name=name, part=part, evidence="its name", identity=identity)


@pytest.fixture
def product(make_record):
    """A square product on an A800."""

    def make(tflops=250.0, *, edge=4096, dtype="bf16", datasheet=312.0, verdicts=("clean",), **changes):
        fields = {
            "case": f"matmul/{dtype}/{edge}x{edge}x{edge}/normal/warm/-/torch",
            "dtype": dtype,
            "device": "cuda:0",
            "part": A800,
            "tflops": tflops,
            "tflops_low": 0.98 * tflops,
            "tflops_high": 1.02 * tflops,
            "nominal_tflops": 320.0,
            "datasheet_tflops": datasheet,
            "efficiency": tflops / 320,
            "efficiency_low": 0.98 * tflops / 320,
            "efficiency_high": 1.02 * tflops / 320,
            "verdict": verdicts[0],
            "verdicts": verdicts,
        }
        return make_record(**(fields | changes))

    return make


@pytest.fixture
def gpu_run(make_run):
    """A run on one A800, or on the devices it is given."""
    return lambda *records, devices=None, **more: make_run(*records, devices=devices or (entry(),), **more)


@pytest.fixture
def cpu_run(make_run, make_record):
    identity = CpuIdentity(
        name="AMD EPYC", architecture="x86_64", logical_cpus=4, usable_cores=2.0, memory_bytes=1 << 34
    )
    device = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
    return make_run(make_record(), devices=(device,))


def test_a_runs_product_replaces_the_loss_that_it_measured_and_no_other(gpu_run, product):
    slow, usual = (one("nio", run=gpu_run(product(each))) for each in (200.0, 270.0))
    for priced in (slow, usual):
        assert [link.span for link in priced.chain[1:]] == ["datasheet → gemm", "gemm → scaled"]
        assert [link.provenance for link in priced.chain[1:]] == ["measured", "modelled"]
    assert slow.delivered_eflops / usual.delivered_eflops == pytest.approx(200 / 270, rel=0.01)
    # A card as good as the published one delivers what the model of MFU says.
    assert usual.delivered_eflops == pytest.approx(one("nio").delivered_eflops, rel=0.01)
    assert "a100-sxm-80gb-gemm-sustained" in usual.chain[-1].source


def test_the_guard_against_a_loss_counted_twice(gpu_run, product):
    with pytest.raises(
        InputError, match=r"counts a loss twice; got 'datasheet → scaled .* and step → scaled"
    ):
        cost("nio", derate=["a100-sxm-80gb-scaled-7b-x8", "h100-scaled-8b-x128-from-x8"])
    with pytest.raises(
        InputError, match=r"counts a loss twice; got 'datasheet → gemm .* and datasheet → scaled"
    ):
        cost("nio", run=gpu_run(product()), derate="a100-sxm-80gb-scaled-7b-x8")
    with pytest.raises(
        InputError, match=r"leaves a loss out; got 'nominal → datasheet .* and scaled → goodput"
    ):
        cost("nio", derate="h100-goodput-405b-x16384")


def test_a_run_of_the_part_prices_it_and_the_others_keep_the_published_one(gpu_run, product):
    run = gpu_run(product(250.0), product(200.0, edge=1024))
    tesla, li_auto, *_ = cost(run=run)
    assert up_to_run(li_auto) == pytest.approx(250 / 320)
    _, gemm, _rest = li_auto.chain
    assert (gemm.span, gemm.provenance, gemm.run) == ("datasheet → gemm", "measured", run.id)
    assert gemm.low == pytest.approx(0.98 * 250 / 312, rel=1e-3)
    assert gemm.convention == "2MNK"
    assert li_auto.reaches == "scaled"
    assert li_auto.run.used
    assert f"(run {run.id}: 0.801, then model of MFU: 0." in describe_delivered(li_auto)
    assert tesla.chain[-1].id == "mfu-hopper"
    assert not tesla.run.used
    assert f"run {run.id} doesn't price it: it is of another part" in tesla.notes


def test_the_first_link_is_the_registrys_whatever_nominal_the_run_was_given(gpu_run, product):
    """Numerator, denominator and price on one nominal: the user's --nominal isn't one of them."""
    run = gpu_run(product(250.0, nominal_tflops=1000.0))
    assert up_to_run(one("nio", run=run)) == pytest.approx(250 / 320)


def test_a_run_against_another_datasheet_figure_is_refused(gpu_run, product):
    with pytest.raises(InputError, match="another bf16 datasheet figure than the registry's; got '300'"):
        cost("nio", run=gpu_run(product(datasheet=300.0)))


@pytest.mark.parametrize(
    "verdict",
    ["contended", "unstable", "throttled", "unknown", "unverified", "above_peak", "contradictory"],
)
def test_a_run_of_records_that_arent_admitted_is_refused_with_what_to_run(gpu_run, product, verdict):
    run = gpu_run(product(verdicts=(verdict,)), options=Options(device="cuda:0"))
    with pytest.raises(InputError) as refused:
        cost("nio", run=run)
    for piece in (f"run {run.id}: ", f"got '1 {verdict}'", "`bench run fake --device cuda:0` again"):
        assert piece in str(refused.value)


@pytest.mark.parametrize("phase", [None, "sustained"])
def test_a_card_at_its_power_limit_prices_and_a_hot_one_never(gpu_run, product, phase):
    assert one("nio", run=gpu_run(product(verdicts=("power_capped",), phase=phase))).run.used
    for verdicts in (("contended", "power_capped"), ("throttled",), ("throttled", "power_capped")):
        with pytest.raises(InputError, match=f"got '1 {verdicts[0]}'"):
            cost("nio", run=gpu_run(product(verdicts=verdicts, phase=phase)))


@pytest.fixture
def phases(product):
    """One product from cool, and settled at its power limit."""

    def make(burst=280.0, sustained=240.0, held=("clean",), **changes):
        case = "matmul/bf16/4096x4096x4096/normal/warm/{}/torch"
        return [
            product(burst, case=case.format("burst"), phase="burst", verdicts=held, **changes),
            product(
                sustained,
                case=case.format("sustained"),
                phase="sustained",
                verdicts=("power_capped",),
                **changes,
            ),
        ]

    return make


def test_a_run_with_phases_prices_by_what_is_left_once_settled(gpu_run, phases):
    run = gpu_run(*phases())
    priced = one("nio", run=run)
    spans = ["nominal → datasheet", "datasheet → gemm_burst", "gemm_burst → gemm_sustained"]
    assert [link.span for link in priced.chain] == [*spans, "gemm_sustained → scaled"]
    assert up_to_run(priced) == pytest.approx(240 / 320)
    assert "best product, burst, 280 TFLOPS in bf16" in priced.run.figures


@pytest.mark.parametrize("held", ["throttled", "power_capped"])
def test_a_burst_that_was_held_down_is_left_out_and_the_settled_figure_stays(gpu_run, phases, held):
    run = gpu_run(*phases(held=(held,)))
    priced = one("nio", run=run)
    assert [link.span for link in priced.chain[:2]] == ["nominal → datasheet", "datasheet → gemm_sustained"]
    assert up_to_run(priced) == pytest.approx(240 / 320)
    assert f"records of run {run.id} that aren't trusted: 1 {held}" in priced.notes


def test_a_run_with_phases_and_a_derate_that_spans_them_are_refused(gpu_run, phases):
    with pytest.raises(InputError, match="counts a loss twice"):
        one("nio", run=gpu_run(*phases()), derate="a100-sxm-80gb-scaled-7b-x8")


def test_the_slowest_of_devices_is_the_slowest_even_without_a_burst_of_its_own(gpu_run, phases):
    """A device whose burst isn't admitted has a link less in its chain, and comes as far."""
    slow = phases(sustained=200.0, held=("throttled",), device="cuda:1")
    run = gpu_run(*phases(), *slow, devices=(entry("cuda:0"), entry("cuda:1")))
    priced = one("nio", run=run)
    assert up_to_run(priced) == pytest.approx(200 / 320)
    assert any(note.startswith("by cuda:1, the slowest of the 2 devices") for note in priced.notes)


def test_zeros_price_nothing(gpu_run, product):
    zeros = product(300.0, fill="zeros", case="matmul/bf16/4096x4096x4096/zeros/warm/-/torch")
    assert up_to_run(one("nio", run=gpu_run(zeros, product(250.0)))) == pytest.approx(250 / 320)


def test_a_record_that_isnt_admitted_beside_one_that_is_counts_for_nothing_and_is_named(gpu_run, product):
    run = gpu_run(product(250.0), product(300.0, edge=8192, verdicts=("contended",)))
    priced = one("nio", run=run)
    assert up_to_run(priced) == pytest.approx(250 / 320)
    assert f"records of run {run.id} that aren't trusted: 1 contended" in priced.notes


def test_an_unfinished_run_says_so(gpu_run, product):
    run = gpu_run(product(), missing=["matmul/bf16/2x2x2/normal/warm/-/torch"])
    assert f"run {run.id} isn't finished: 1 expected records are missing" in one("nio", run=run).notes


def test_of_several_devices_the_slowest_sets_the_pace(gpu_run, product, make_manifest):
    records = [product(250.0), product(240.0, device="cuda:1"), product(260.0, device="cuda:2")]
    devices = tuple(entry(name) for name in ("cuda:0", "cuda:1", "cuda:2"))
    priced = one("nio", run=gpu_run(*records, devices=devices))
    assert up_to_run(priced) == pytest.approx(240 / 320)
    assert priced.chain[1].device == "cuda:1"
    assert any("by cuda:1, the slowest of the 3 devices" in note for note in priced.notes)


def test_a_run_in_fp32_says_nothing_of_fp16(gpu_run, product):
    run = gpu_run(product(15.0, dtype="tf32", nominal_tflops=156.0, datasheet=156.0))
    with pytest.raises(InputError, match="a derate of tf32 says nothing of fp16"):
        cost("nio", run=run)


def test_a_run_of_another_gpu_is_refused(gpu_run, product):
    with pytest.raises(
        InputError, match=f"--run: a run of a part that none.*got '{A800}'; expected a run of {H100}"
    ):
        cost("tesla", run=gpu_run(product()))


def test_a_run_of_no_known_part_is_refused_with_its_evidence(gpu_run, product):
    with pytest.raises(InputError, match="got 'no known part: its name'"):
        cost("nio", run=gpu_run(product(part=None), devices=(entry(part=None),)))


def test_a_cpus_derate_never_prices_a_gpu(cpu_run):
    for priced in cost(run=cpu_run):
        assert not priced.run.used
        assert (
            priced.run.figures
            == "AMD EPYC (amd-zen4): best product 0.400 TFLOPS in bf16, 80.0% of nominal 0.500 (clean)"
        )
        assert "the run is of a CPU" in priced.run.reason
    assert [priced.derate for priced in cost(run=cpu_run)] == [priced.derate for priced in cost()]


def test_a_simulated_device_is_no_evidence(make_run, product):
    run = make_run(product(device="cpu"))
    assert "a simulated device is no evidence" in one("nio", run=run).run.reason


def test_an_assumed_derate_follows_one_that_was_measured(gpu_run, product):
    priced = one("nio", run=gpu_run(product(250.0)), derate="gemm:scaled=0.7..0.8")
    assert priced.chain[-1].provenance == "assumed"
    assert priced.reaches == "scaled"
    assert priced.derate == pytest.approx(250 / 320 * 0.75)
    assert "training on several devices, assumed (run" in describe_delivered(priced)


def test_a_measured_link_brings_its_interval(gpu_run, product):
    exact = {"derate": "gemm:scaled=1", "draws": 20_000}
    found = one("nio", run=gpu_run(product(250.0)), **exact).estimates["delivered_eflops"]
    assert found.value == pytest.approx(1.4 * 250 / 320)
    # 2 % either way is the 95 % interval: nine in ten are within 1.645 ÷ 1.960 of that.
    assert found.p95 / found.value - 1 == pytest.approx(0.02 * 1.645 / 1.960, rel=0.06)
