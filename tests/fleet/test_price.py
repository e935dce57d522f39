"""What a fleet delivers and costs: the article's figures, the derate of a run, and what is refused."""

import math

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.fleet import Fleet, catalogue, frame
from nameplate.fleet import cost as cost_of
from nameplate.fleet.describe import describe_delivered, describe_servers
from nameplate.fleet.goodput import make_goodput_link
from nameplate.fleet.mfu import Training, estimate_mfu
from nameplate.fleet.montecarlo import MonteCarlo
from nameplate.fleet.outputs import z_of_slowest
from nameplate.fleet.rows import cost_row
from nameplate.specs.part import shorten
from nameplate.store.manifest import DeviceEntry, Options

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
# 0.642 by llm-foundry's convention is 0.617 by that of the chain.
PUBLISHED, SHARE = "a100-sxm-80gb-scaled-7b-x8", find_figure("a100-sxm-80gb-scaled-7b-x8").as_link().value
SENTENCE = (
    "One nominal EFLOPS of A800 (3,125 cards at 320) delivers 0.602 EFLOPS in published 8-GPU training of a "
    "7B model (A100: 0.617 of 312); at RMB 950,000 per 8-card server that is RMB 617 M (nine draws in ten: "
    "594 M to 639 M) per delivered EFLOPS."
)


def cost(*fleets, **options):
    """The costs with few draws: most tests are of figures at their inputs' values."""
    return cost_of(*fleets, **({"draws": 1000} | options))


def one(*fleets, **options):
    (priced,) = cost(*fleets, **options)
    return priced


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


def test_one_eflops_of_a800_is_the_articles_arithmetic():
    priced = one(part=A800, derate=PUBLISHED)
    assert (priced.size.cards, priced.size.card_tflops) == (3125, 320)
    assert (priced.value("servers_exact"), priced.servers) == (390.625, 391)
    assert priced.value("capex_rmb") == pytest.approx(371_093_750, rel=1e-12)
    assert priced.capex_whole_servers_rmb == 371_450_000
    assert pytest.approx(0.617, abs=5e-4) == SHARE
    assert priced.delivered_eflops == pytest.approx(SHARE * 312 / 320)
    assert priced.value("rmb_per_nominal_eflops") == pytest.approx(371_093_750, rel=1e-12)
    assert priced.rmb_per_delivered_eflops == pytest.approx(371_093_750 / (SHARE * 0.975))
    assert describe_delivered(priced) == SENTENCE
    assert describe_servers(priced) == (
        "One nominal EFLOPS takes 390.625 servers (RMB 371.09375 M), or 391 whole servers (RMB 371.45 M)."
    )


@pytest.mark.parametrize(
    ("fleet", "cards", "servers", "nominal", "delivered"),
    [
        ("li-auto", 16_844, 2_106, 5.39, 5.39 * SHARE * 0.975),
        ("xpeng", 7_844, 981, 2.51, 2.51 * SHARE * 0.975),
        ("nio", 4_375, 547, 1.4, 1.4 * SHARE * 0.975),
        ("tesla", 67_500, None, 66.7575, 66.7575 * find_figure("h100-sxm-scaled-7b-x8").as_link().value),
    ],
)
def test_the_articles_fleets(fleet, cards, servers, nominal, delivered):
    priced = one(fleet, derate=PUBLISHED if servers else "h100-sxm-scaled-7b-x8")
    assert (priced.size.cards, priced.servers) == (cards, servers)
    assert priced.size.nominal_eflops == pytest.approx(nominal)
    assert priced.delivered_eflops == pytest.approx(delivered)
    if servers:
        assert priced.capex_whole_servers_rmb == servers * 950_000
        assert priced.value("capex_rmb") == pytest.approx(nominal * 371_093_750)
        assert priced.value("rmb_per_nominal_eflops") == pytest.approx(371_093_750)
        assert describe_delivered(priced) == SENTENCE


def test_every_fleet_unless_some_are_named():
    assert [priced.size.id for priced in cost()] == [fleet.id for fleet in catalogue().fleet]
    names = [priced.size.name.split(" ")[0] for priced in cost()][:5]
    assert names == ["Tesla", "Li", "XPeng", "Huawei", "NIO"]
    assert [priced.size.id for priced in cost(["nio", "li-auto", "nio"])] == [
        "nio-2024-10",
        "li-auto-2024-08",
    ]


def test_tesla_is_delivered_but_not_priced_and_the_card_it_implies_is_noted():
    tesla = one("tesla", derate="h100-sxm-scaled-7b-x8")
    assert tesla.value("capex_rmb") is tesla.rmb_per_delivered_eflops is tesla.servers is None
    assert tesla.reason == (
        f"no price of a server of {H100} is known: give a dated quotation, as --price {H100}=RMB or in a file"
        " (--fleets FILE)"
    )
    said = (
        "stated as 67.5 EFLOPS, which is 1,000 TFLOPS a card; at the registry's 989 a card, nominal is 66.8"
    )
    assert any(said in note for note in tesla.notes)
    assert tesla.size.stated_eflops == 67.5
    assert describe_delivered(tesla).endswith("(H100: 0.446 of 989); the price of its servers isn't known.")


def test_a_mix_is_an_interval_over_every_mix_and_never_a_guess_of_its_shares():
    huawei = one("huawei")
    assert huawei.size.nominal_eflops == huawei.size.stated_eflops == 7.5
    assert (
        huawei.size.cards
        is huawei.delivered_eflops
        is huawei.value("capex_rmb")
        is describe_delivered(huawei)
        is None
    )
    assert huawei.chain == ()
    assert "a mix of parts in unknown shares" in huawei.reason
    assert "its cost isn't known either" in huawei.reason
    a800, ascend = huawei.mix
    assert (a800.size.part.id, ascend.size.part.id) == (A800, "huawei-ascend-910b")
    delivered = huawei.estimates["delivered_eflops"]
    assert (delivered.value, delivered.p50) == (None, None)
    assert delivered.p5 == min(each.estimates["delivered_eflops"].p5 for each in huawei.mix)
    assert delivered.p95 == max(each.estimates["delivered_eflops"].p95 for each in huawei.mix)
    assert [link.id for link in a800.chain] == [None, "mfu-ampere-ga100"]
    assert [link.provenance for link in ascend.chain] == ["assumed", "assumed"]
    row = cost_row(huawei)
    assert row["parts"] == [A800, "huawei-ascend-910b"]
    assert row["delivered_eflops"] is None
    assert 0 < row["delivered_eflops_p5"] < row["delivered_eflops_p95"] < 7.5


def test_a_mix_is_priced_between_its_parts_where_all_their_prices_are_known():
    mixed = Fleet(id="mixed-2026", name="Mixed", as_of="2026", mix=(A800, H100), mix_source="told",
                  eflops=2.0, source="told")  # fmt: skip
    listed = catalogue().model_copy(update={"fleet": (mixed,)})
    (priced,) = cost(catalogue=listed, price={H100: 2_500_000})
    ends = sorted(part.value("capex_rmb") for part in priced.mix)
    found = priced.estimates["capex_rmb"]
    assert found.p5 == pytest.approx(ends[0], rel=0.06)
    assert found.p95 == pytest.approx(ends[1], rel=0.06)
    assert "its cost" not in priced.reason


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        ("world", "for comparison only, in a precision that isn't stated"),
        ("china", "for comparison only, in fp32"),
        ("suppliers", "its part isn't known"),
        ("tesla-dojo-1", "other hardware, counted in H100"),
    ],
)
def test_what_is_of_no_known_part_is_neither_delivered_nor_priced(fleet, why):
    priced = one(fleet)
    assert priced.delivered_eflops is priced.value("capex_rmb") is priced.value("power_mw") is None
    assert why in priced.reason


def test_what_stands_for_scale_has_nominal_eflops_in_fp16_alone():
    assert [one(name).size.nominal_eflops for name in ("world", "china", "china-fp16")] == [None, None, 492]


def test_a_part_without_a_rating_of_its_training_has_its_reason():
    v100 = one(part="nvidia-v100-sxm2")
    assert v100.size.nominal_eflops == 1
    assert v100.delivered_eflops is None
    assert "nvidia-v100-sxm2 has no bf16 rating that an MFU could be a share of" in v100.reason


# What published runs say of a fleet's own size


def test_a_fleet_takes_the_mfu_of_its_own_size_with_its_interval():
    small, large = one(part=A800, eflops=0.1), one(part=A800, eflops=5)
    for priced in (small, large):
        said = estimate_mfu(A800, priced.size.cards)
        link, delivered = priced.chain[-1], priced.estimates["delivered_eflops"]
        assert (link.value, link.provenance, link.law) == (said.p50, "modelled", "logitnormal")
        for share in ("p5", "p50", "p95"):
            found = getattr(delivered, share) / priced.size.nominal_eflops / 0.975
            assert found == pytest.approx(getattr(said, share), rel=5e-3)
        assert priced.delivered_eflops == delivered.p50
    assert large.chain[-1].value < small.chain[-1].value
    assert "training of 7B parameters, context 4,096, 15,625 devices" in describe_delivered(large)
    assert any("no published run is of A800: 123 runs" in note for note in large.notes)


def test_what_is_trained_changes_what_is_delivered():
    def delivered(**training):
        return one("nio", training=Training(**training)).delivered_eflops

    base = delivered()
    assert delivered(stack="off-the-shelf") < base
    assert delivered(context=131_072) < base
    assert delivered(parameters=671e9, active_parameters=37e9) < base


def test_fp8_is_counted_from_the_fp8_rating():
    bf16, fp8 = (one("tesla", training=Training(precision=each)) for each in ("bf16", "fp8"))
    assert fp8.chain[0].value == pytest.approx(2, rel=1e-3)
    assert fp8.chain[1].value < bf16.chain[1].value
    assert bf16.delivered_eflops < fp8.delivered_eflops < 2 * bf16.delivered_eflops
    assert "of 1,979" in describe_delivered(fp8)
    assert "has no fp8 rating" in one("nio", training=Training(precision="fp8")).reason


def test_one_published_training_run_can_be_chosen():
    small, whole = (one("nio", derate=name) for name in ("foundry-a100-7b-x8-t8192", "llama2-7b-hours"))
    assert small.chain[-1].value == pytest.approx(0.476, abs=1e-3)
    assert (small.chain[-1].law, small.chain[-1].n_to, small.reaches) == ("exact", 8, "scaled")
    assert whole.reaches == "goodput"  # interruptions are in it
    deepseek = one(part="H800", derate="deepseek-v3-hours")
    assert deepseek.chain[0].value == pytest.approx(2, rel=1e-3)
    unknown = one("nio", derate="megascale-175b-x12288")
    assert unknown.chain[-1].low < 0.552 < unknown.chain[-1].high
    with pytest.raises(InputError, match="the nearest are foundry-a100-7b"):
        cost("nio", derate="foundry-a100-7b-x8")


def test_a_runs_product_replaces_the_loss_that_it_measured_and_no_other(gpu_run, product):
    slow, usual = (one("nio", run=gpu_run(product(each))) for each in (200.0, 270.0))
    for priced in (slow, usual):
        assert [link.span for link in priced.chain[1:]] == ["datasheet → gemm", "gemm → scaled"]
        assert [link.provenance for link in priced.chain[1:]] == ["measured", "modelled"]
    assert slow.delivered_eflops / usual.delivered_eflops == pytest.approx(200 / 270, rel=0.01)
    # A card as good as the published one delivers what the model of MFU says.
    assert usual.delivered_eflops == pytest.approx(one("nio").delivered_eflops, rel=0.01)
    assert "a100-sxm-80gb-gemm-sustained" in usual.chain[-1].source


def test_parts_have_a_studys_part_of_the_spread_in_common():
    drawn = MonteCarlo(20_000)
    choice = {name: one(part=name).chain[-1] for name in (A800, "A100", H100)}
    a800, a100, h100 = (drawn.draw_link(link) for link in choice.values())
    assert np.corrcoef(a800, a100)[0, 1] > 0.999
    common = choice[A800].in_common.variance
    assert 0.2 < common < 0.6
    assert np.corrcoef(a800, h100)[0, 1] == pytest.approx(common, abs=0.03)


def test_the_chain_says_where_each_link_comes_from_and_how_far_it_reaches():
    priced = one("nio", derate=PUBLISHED)
    first, second = priced.chain
    assert (first.span, first.value) == ("nominal → datasheet", 0.975)
    assert (second.id, second.value, second.provenance) == (PUBLISHED, SHARE, "published")
    assert priced.reaches == "scaled"
    notes = "\n".join(priced.notes)
    assert "measured on A100 SXM 80GB, the same silicon; stands in for NVIDIA A800 SXM4 80GB" in notes
    assert "over links of 600 GB/s; the effect of 400 here" in notes
    assert "measured on 8 devices" in notes
    assert "the bf16 derate serves fp16: both are rated 312" in notes


def test_a_json_row_has_null_and_never_0_for_what_isnt_known():
    for priced in cost():
        row = cost_row(priced)
        assert all(value != 0 for value in row.values() if isinstance(value, float))
        assert (row["reason"] is not None) == (None in (row["delivered_eflops"], row["capex_rmb"]))
        for link in row["chain"]:
            assert link["provenance"] in ("published", "modelled")
            assert link["source"]
    row = cost_row(one("nio", derate=PUBLISHED))
    assert row["not_yet"] == ["goodput"]
    assert row["dtype"] == "fp16"
    assert row["sentence"] == SENTENCE


def test_another_price_changes_the_cost_in_proportion():
    known = catalogue()
    changes = {"server_rmb": 1_900_000.0, "low": None, "high": None, "law": None}
    price = known.price_of(A800)
    dearer = known.model_copy(update={"price": (price.model_copy(update=changes),)})
    assert one("nio", catalogue=dearer).value("capex_rmb") == pytest.approx(2 * one("nio").value("capex_rmb"))
    assert one("nio", price={A800: 1_900_000}).value("capex_rmb") == pytest.approx(
        2 * one("nio").value("capex_rmb")
    )
    assert one("nio", catalogue=dearer).delivered_eflops == one("nio").delivered_eflops


def test_another_derate_changes_what_is_delivered_and_not_the_capex():
    figure = find_figure(PUBLISHED)
    whole, half = (
        one("nio", derate=figure.model_copy(update={"value": each})) for each in (figure.value, 0.321)
    )
    assert half.delivered_eflops == pytest.approx(whole.delivered_eflops / 2)
    assert half.rmb_per_delivered_eflops == pytest.approx(2 * whole.rmb_per_delivered_eflops)
    assert half.value("capex_rmb") == whole.value("capex_rmb")


@pytest.mark.parametrize(
    ("derates", "per_delivered"),
    [
        ("a100-sxm-80gb-gemm-burst", 438.0e6),
        (["ampere-scaled-175b-x12288", "h100-goodput-405b-x16384"], 766.0e6),
    ],
)
def test_published_derates_by_name(derates, per_delivered):
    assert one(part=A800, derate=derates).rmb_per_delivered_eflops == pytest.approx(per_delivered, rel=2e-4)


def test_a_chain_that_reaches_goodput_lacks_nothing():
    priced = one("nio", derate=["a100-sxm-80gb-scaled-7b-x8", "h100-goodput-405b-x16384"])
    assert priced.reaches == "goodput"
    assert cost_row(priced)["not_yet"] == []
    assert "(A100: 0.617, then 16384 H100: 0.900; together 0.556 of 312)" in describe_delivered(priced)


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


def test_a_derate_of_another_part_is_not_used_and_that_is_said():
    tesla, *_ = cost(derate="a100-sxm-80gb-scaled-13b-x8")
    assert tesla.chain[-1].id == "mfu-hopper"
    assert "a100-sxm-80gb-scaled-13b-x8: of another part, not used" in tesla.notes
    with pytest.raises(InputError, match=f"--derate: a derate of nvidia-a100.*expected one of {H100}"):
        cost("tesla", derate="a100-sxm-80gb-scaled-13b-x8")


def test_a_derate_of_no_one_part_needs_a_fleet_by_name():
    with pytest.raises(InputError, match="--derate: a derate of Ampere, which isn't one part"):
        cost(derate="ampere-scaled-175b-x12288")
    notes = one("nio", derate="ampere-scaled-175b-x12288").notes
    assert any("measured on Ampere, which isn't one part of the registry" in note for note in notes)


def test_a_derate_of_another_dtype_is_refused():
    with pytest.raises(InputError, match="a derate of fp8 says nothing of fp16"):
        cost("tesla", derate="h100-sxm-gemm-sustained-fp8")


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


@pytest.mark.parametrize("size", [math.nan, math.inf, -1.0, 0.0])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match=r"--eflops: not a size; got .*; expected EFLOPS above 0"):
        cost(eflops=size, part=A800)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"eflops": 2.0}, "--eflops: EFLOPS of what"),
        ({"part": "nvidia-a801"}, "isn't the name of a part"),
        ({"part": "AMD Instinct MI250X / MI250"}, "alone doesn't say which part"),
        ({"fleets": "byd"}, "no such fleet; got 'byd'"),
        (
            {"derate": "a100-sxm-scaled-7b"},
            "no such published derate; got 'a100-sxm-scaled-7b'; .*the nearest are h100-sxm-scaled-2b",
        ),
        ({"derate": "hyperscale-pue"}, "a published figure, but of pue"),
        ({"run": "gone"}, "no such run; got 'gone'"),
    ],
)
def test_bad_input_is_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        cost(**given)


@pytest.mark.parametrize("scale", [0.001, 0.32, 3.0, 88.5])
def test_scaling_a_fleet_scales_its_cards_and_leaves_its_unit_prices(scale):
    unit, priced = one(part=A800, derate=PUBLISHED), one(part=A800, eflops=scale, derate=PUBLISHED)
    assert priced.size.cards_exact == pytest.approx(scale * unit.size.cards_exact)
    assert priced.size.cards == math.ceil(round(scale * 3125, 6))
    assert priced.rmb_per_delivered_eflops == pytest.approx(unit.rmb_per_delivered_eflops)
    assert describe_delivered(priced) == SENTENCE


def test_a_frame_has_a_row_a_fleet():
    table = frame(cost())
    assert list(table["fleet"]) == [fleet.id for fleet in catalogue().fleet]
    priced = table[table["capex_rmb"].notna()]
    assert set(priced["part"]) == {A800}
    assert {"delivered_eflops_p5", "delivered_eflops_p50", "delivered_eflops_p95"} <= set(table.columns)


@pytest.mark.parametrize(
    ("name", "said"),
    [("NVIDIA A800 SXM4 80GB", "A800"), ("A100 SXM 80GB", "A100"), ("NVIDIA A800 PCIe 80GB", "A800 PCIe"),
     ("AMD MI300X", "MI300X"), ("NVIDIA GH200 (Hopper GPU)", "GH200 (Hopper GPU)")],
)  # fmt: skip
def test_short_names(name, said):
    assert shorten(name) == said


# What the issue asks of one EFLOPS on 950,000 a server, before fabric and power


@pytest.mark.parametrize(
    ("derates", "stage", "cards", "rmb_m", "servers", "whole_m"),
    [
        ((), "nominal", 3125, 371.1, 391, 371.45),
        ((), "datasheet", 3206, 380.6, 401, 380.95),
        (["a100-sxm-80gb-gemm-burst"], "gemm_burst", 3689, 438.0, 462, 438.9),
        (["a100-sxm-80gb-gemm-sustained"], "gemm_sustained", 3706, 440.0, 464, 440.8),
        (["ampere-scaled-175b-x12288", "h100-goodput-405b-x16384"], "goodput", 6451, 766.0, 807, 766.65),
    ],
)
def test_one_delivered_eflops_by_how_far_the_chain_is_followed(
    derates, stage, cards, rmb_m, servers, whole_m
):
    rung = next(each for each in one(part=A800, derate=derates).ladder if each.stage == stage)
    assert (rung.cards, rung.servers) == (cards, servers)
    assert round(rung.rmb / 1e6, 1) == rmb_m
    assert rung.whole_servers_rmb / 1e6 == whole_m


def test_the_last_rung_is_what_the_fleet_is_priced_by():
    priced = one("nio", derate=PUBLISHED)
    assert priced.ladder[-1].rmb == pytest.approx(priced.rmb_per_delivered_eflops)
    assert priced.ladder[-1].derate == pytest.approx(priced.derate)


def test_the_full_view_stands_beside_the_bare_one():
    nio = one("nio")
    assert nio.servers_with_spares == math.ceil(546.875 * 1.075)
    assert nio.full_capex_whole_servers_rmb == pytest.approx(588 * 950_000 * 1.235)
    points = nio.points()
    assert points["full_capex_rmb"] == pytest.approx(points["capex_rmb"] * 1.235 * 1.075)
    assert points["power_mw"] == pytest.approx(4375 * 400 * 2.03 * 0.75 * 1.25 / 1e6)
    year = points["full_capex_rmb"] * (1 / 5 + 0.05) + points["power_mw"] * 1000 * 8760 * 0.65
    delivered = points["delivered_eflops"]
    assert points["ownership_rmb_per_year"] == pytest.approx(year)
    assert points["rmb_per_delivered_eflops_year"] == pytest.approx(year / delivered)
    assert points["rmb_per_pflop_day"] == pytest.approx(year / delivered / 365_000)
    assert points["usd_per_pflop_day"] == pytest.approx(points["rmb_per_pflop_day"] / 7.1)
    # What is stated are the middles of the draws, near these.
    for name, found in points.items():
        assert nio.value(name) == pytest.approx(found, rel=0.1), name


def test_power_is_known_without_a_price():
    tesla = one("tesla")
    assert tesla.points()["power_mw"] == pytest.approx(67_500 * 700 * 1.82 * 0.75 * 1.25 / 1e6)
    assert tesla.value("ownership_rmb_per_year") is None


def test_assumptions_are_set_by_name_and_said_where_they_come_from():
    nio = one("nio", assume={"pue": 1.1, "electricity_rmb_per_kwh": "0.4..0.6"})
    assert nio.points()["power_mw"] == pytest.approx(4375 * 400 * 2.03 * 0.75 * 1.1 / 1e6)
    used = cost_row(nio)["inputs"]
    assert used["pue"]["source"].startswith("given by --assume")
    assert (used["electricity_rmb_per_kwh"]["value"], used["electricity_rmb_per_kwh"]["law"]) == (
        0.5,
        "uniform",
    )


def test_a_value_for_every_part_takes_the_place_of_those_for_some():
    given = one("nio", assume={"server_power_over_gpu_power": 2})
    assert given.points()["power_mw"] == pytest.approx(4375 * 400 * 2 * 0.75 * 1.25 / 1e6)


def test_an_assumed_derate_follows_one_that_was_measured(gpu_run, product):
    priced = one("nio", run=gpu_run(product(250.0)), derate="gemm:scaled=0.7..0.8")
    assert priced.chain[-1].provenance == "assumed"
    assert priced.reaches == "scaled"
    assert priced.derate == pytest.approx(250 / 320 * 0.75)
    assert "training on several devices, assumed (run" in describe_delivered(priced)


def test_goodput_may_be_modelled_for_one_job_on_all_cards():
    priced = one("nio", goodput=True)
    assert [link.to for link in priced.chain[1:]] == ["scaled", "goodput"]
    assert priced.chain[-1].provenance == "modelled"
    assert priced.chain[-1].value == make_goodput_link(4375).value
    assert 0.8 < priced.chain[-1].value < 1
    scaled = one("nio")
    assert priced.delivered_eflops == pytest.approx(
        scaled.delivered_eflops * priced.chain[-1].value, rel=0.03
    )
    small, large = cost(["nio", "xpeng-target"], goodput=True)
    assert small.chain[-1].value > large.chain[-1].value
    by_hand, asked = (
        one("nio", derate=[PUBLISHED, make_goodput_link(4375)]),
        one("nio", derate=PUBLISHED, goodput=True),
    )
    assert by_hand.derate == asked.derate
    # One that is in the chain already isn't counted again.
    given = one("nio", derate=[PUBLISHED, "h100-goodput-405b-x16384"], goodput=True)
    assert given.chain[-1].id == "h100-goodput-405b-x16384"


# Uncertainty


def test_identical_seeds_give_identical_figures_and_others_other_ones():
    again = [frame(cost(seed=seed)).drop(columns=["chain", "seed"]).to_json() for seed in (3, 3, 4)]
    assert again[0] == again[1] != again[2]


def test_an_input_more_changes_no_other_inputs_draws():
    alone, both = (one("nio", assume=given) for given in ({"pue": 1.2}, {"pue": "1.1..1.3"}))
    assert alone.estimates["rmb_per_delivered_eflops"] == both.estimates["rmb_per_delivered_eflops"]
    assert alone.estimates["power_mw"] != both.estimates["power_mw"]


def test_a_published_mfu_spreads_over_the_conventions_that_its_source_may_have_used():
    delivered = one("nio", derate="ampere-scaled-175b-x12288", draws=20_000).estimates["delivered_eflops"]
    low, high = (1.4 * 0.975 * each for each in find_figure("ampere-scaled-175b-x12288").ends)
    for share, found in ((0.05, delivered.p5), (0.5, delivered.p50), (0.95, delivered.p95)):
        assert found == pytest.approx(low + share * (high - low), rel=1e-4)


def test_an_mfu_of_a_known_convention_is_a_point():
    delivered = one("nio", derate="a100-sxm-80gb-scaled-175b").estimates["delivered_eflops"]
    # 0.514 with all of attention, which the chain counts half of.
    assert delivered.p5 == delivered.value == delivered.p95 == pytest.approx(1.4 * 0.975 * 0.5071, rel=1e-4)


def test_a_measured_link_brings_its_interval(gpu_run, product):
    exact = {"derate": "gemm:scaled=1", "draws": 20_000}
    found = one("nio", run=gpu_run(product(250.0)), **exact).estimates["delivered_eflops"]
    assert found.value == pytest.approx(1.4 * 250 / 320)
    # 2 % either way is the 95 % interval: nine in ten are within 1.645 ÷ 1.960 of that.
    assert found.p95 / found.value - 1 == pytest.approx(0.02 * 1.645 / 1.960, rel=0.06)


def test_what_two_fleets_share_is_drawn_together():
    """Both train on A800: their ratio is sure but for their size, though neither figure is."""
    nio, xpeng = cost(["nio", "xpeng"])
    ratios = [
        getattr(xpeng.estimates["delivered_eflops"], end) / getattr(nio.estimates["delivered_eflops"], end)
        for end in ("p5", "p50", "p95")
    ]
    assert ratios == pytest.approx([2.51 / 1.4] * 3, rel=0.01)


def ranking(**options):
    return [
        share["input"] for share in cost_row(one("nio", draws=20_000, **options))["sensitivity"]["power_mw"]
    ]


def test_the_ranking_changes_with_an_inputs_spread():
    assert ranking() == ["average_draw_over_tdp", "pue", "server_power_over_gpu_power"]
    assert ranking(assume={"pue": "1.1..2.5"})[0] == "pue"
    assert ranking(assume={"average_draw_over_tdp": 0.75}) == ["pue", "server_power_over_gpu_power"]


def test_shares_of_an_outputs_variance_are_of_what_it_follows_from_and_at_most_one():
    row = cost_row(one("nio", draws=20_000))["sensitivity"]
    for shares in row.values():
        assert 0.9 < sum(share["share"] for share in shares) < 1.02
    assert [share["input"] for share in row["delivered_eflops"]] == ["mfu-ampere-ga100"]


def test_a_gang_goes_at_its_slowest_card_and_a_card_alone_at_the_mean():
    nio = one("nio", derate=PUBLISHED, assume={"card_sd": 0.0135}, price={A800: 950_000})
    gang, single = nio.value("gang_eflops"), nio.value("independent_eflops")
    assert gang < nio.delivered_eflops < single
    assert gang == pytest.approx(
        nio.delivered_eflops * math.exp(0.0135 * (z_of_slowest(8) - z_of_slowest(4375)))
    )
    assert nio.value("gang_rmb_per_delivered_eflops") == pytest.approx(nio.value("capex_rmb") / gang)
    assert nio.value("independent_rmb_per_delivered_eflops") == pytest.approx(nio.value("capex_rmb") / single)


def test_cards_that_are_all_alike_leave_no_gang_to_wait_for():
    nio = one("nio", assume={"card_sd": 0})
    assert nio.value("gang_eflops") == nio.value("independent_eflops") == nio.delivered_eflops


def test_an_mfu_of_the_fleets_own_size_has_its_slowest_card_in_it():
    nio = one("nio", assume={"card_sd": 0.0135})
    assert nio.value("gang_eflops") == pytest.approx(nio.delivered_eflops)
    assert nio.value("independent_eflops") > nio.delivered_eflops


def test_a_gang_needs_to_know_on_how_many_devices_the_chain_was_measured():
    priced = one("tesla", derate="h100-sxm-scaled-2b")
    assert priced.value("gang_eflops") is priced.value("independent_eflops") is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"assume": {"pu": 1}},
            "--assume: a value that can't be used; got 'pu=1'; expected a name among fabric",
        ),
        ({"assume": {"pue": 0.9}}, "expected pue .ratio. from 1 to 5"),
        ({"assume": {"pue": "1.1…1.2"}}, "--assume pue: not a number, nor a range of them; got '1.1…1.2'"),
        ({"assume": {"pue": math.nan}}, "--assume pue: not a number"),
        ({"assume": {"pue": "1.3..1.1"}}, "--assume pue: not a number"),
        ({"assume": {"electricity_rmb_per_kwh": -1}}, "--assume electricity_rmb_per_kwh: not a number"),
        (
            {"price": {A800: 0}},
            f"--price: a value that can't be used; got '{A800}=0'; expected greater than 0",
        ),
        ({"price": {A800: -1}}, f"--price {A800}: not a number"),
        ({"price": {"nvidia-a801": 1}}, "isn't the name of a part"),
        ({"draws": 10}, "--draws: not a number of draws; got 10; expected 1,000 to 10,000,000"),
        ({"seed": -1}, "--seed: not a seed; got -1"),
        (
            {"derate": "scaled:datasheet=0.5"},
            "no derate; got 'scaled → datasheet'; expected a later stage after an earlier one",
        ),
        ({"derate": "scaled:gone=0.5"}, "--derate: no derate; got 'scaled:gone=0.5'"),
        ({"derate": "datasheet:scaled=0"}, "no derate; got 0.0; expected a ratio above 0"),
        ({"derate": "datasheet:scaled=x"}, "--derate: not a number"),
    ],
)
def test_an_input_that_cant_be_is_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        cost("nio", **given)
