"""What a fleet delivers and costs: the article's figures, the derate of a run, and what is refused."""

import math

import pytest

from nameplate.derate.published import find
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.errors import InputError
from nameplate.fleet import catalogue, cost, frame
from nameplate.fleet.words import sentence, short, whole_servers
from nameplate.store.manifest import DeviceEntry, Options

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
SENTENCE = (
    "One nominal EFLOPS of A800 (3,125 cards at 320) delivers 0.626 EFLOPS in published 8-GPU training of a "
    "7B model (A100: 0.642 of 312); at RMB 950,000 per 8-card server that is RMB 593 M per delivered EFLOPS."
)


def one(*fleets, **options):
    (priced,) = cost(*fleets, **options)
    return priced


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
    priced = one(part=A800)
    assert (priced.cards, priced.card_tflops) == (3125, 320)
    assert (priced.servers_exact, priced.servers) == (390.625, 391)
    assert priced.capex_rmb == 371_093_750
    assert priced.capex_whole_servers_rmb == 371_450_000
    assert priced.delivered_eflops == pytest.approx(0.642 * 312 / 320)
    assert priced.rmb_per_nominal_eflops == 371_093_750
    assert priced.rmb_per_delivered_eflops == pytest.approx(371_093_750 / 0.62595)
    assert sentence(priced) == SENTENCE
    assert whole_servers(priced) == (
        "That EFLOPS is 390.6 servers, RMB 371.1 M; in whole ones 391, RMB 371.45 M."
    )


@pytest.mark.parametrize(
    ("fleet", "cards", "servers", "nominal", "delivered"),
    [
        ("li-auto", 16_844, 2_106, 5.39, 5.39 * 0.62595),
        ("xpeng", 7_844, 981, 2.51, 2.51 * 0.62595),
        ("nio", 4_375, 547, 1.4, 1.4 * 0.62595),
        ("tesla", 67_500, None, 66.7575, 66.7575 * 0.464),
    ],
)
def test_the_articles_fleets(fleet, cards, servers, nominal, delivered):
    priced = one(fleet)
    assert (priced.cards, priced.servers) == (cards, servers)
    assert priced.nominal_eflops == pytest.approx(nominal)
    assert priced.delivered_eflops == pytest.approx(delivered)
    if servers:
        assert priced.capex_whole_servers_rmb == servers * 950_000
        assert priced.capex_rmb == pytest.approx(nominal * 371_093_750)
        assert priced.rmb_per_nominal_eflops == pytest.approx(371_093_750)
        assert sentence(priced) == SENTENCE


def test_all_five_unless_some_are_named():
    assert [priced.name.split(" ")[0] for priced in cost()] == ["Tesla", "Li", "XPeng", "Huawei", "NIO"]
    assert [priced.fleet for priced in cost(["nio", "li-auto", "nio"])] == ["nio-2024-10", "li-auto-2024-08"]


def test_tesla_is_delivered_but_not_priced_and_the_card_it_implies_is_noted():
    tesla = one("tesla")
    assert tesla.capex_rmb is tesla.rmb_per_delivered_eflops is tesla.servers is None
    assert tesla.reason == f"no price of a server of {H100} is known: give one in a file (--fleets FILE)"
    assert any("stated as 67.5 EFLOPS, 1,000 TFLOPS a card; nominal by the registry's 989 is 66.76" in note
               for note in tesla.notes)  # fmt: skip
    assert tesla.stated_eflops == 67.5
    assert sentence(tesla).endswith("(H100: 0.464 of 989); no price of a server of it is known.")


def test_a_mix_of_unknown_shares_is_never_guessed():
    huawei = one("huawei")
    assert huawei.nominal_eflops == huawei.stated_eflops == 7.5
    assert huawei.cards is huawei.delivered_eflops is huawei.capex_rmb is sentence(huawei) is None
    assert huawei.chain == ()
    assert "a mix of parts in unknown shares" in huawei.reason
    assert "its cost isn't known either" in huawei.reason


def test_a_part_that_nothing_is_published_of_has_its_reason():
    h20 = one(part="nvidia-h20-96gb")
    assert h20.nominal_eflops == 1
    assert h20.delivered_eflops is None
    assert "no derate of nvidia-h20-96gb is published for use unasked" in h20.reason


def test_the_chain_says_where_each_link_comes_from_and_how_far_it_reaches():
    priced = one("nio")
    first, second = priced.chain
    assert (first.span, first.value) == ("nominal → datasheet", 0.975)
    assert (second.id, second.value, second.provenance) == ("a100-sxm-80gb-scaled-7b-x8", 0.642, "published")
    assert priced.reaches == "scaled"
    notes = "\n".join(priced.notes)
    assert "by the published derate a100-sxm-80gb-scaled-7b-x8: no run of A800 was given" in notes
    assert "a point figure: no interval is known" in notes
    assert "measured on A100 SXM 80GB, the same silicon; stands in for NVIDIA A800 SXM4 80GB" in notes
    assert "over links of 600 GB/s, here they are 400" in notes
    assert "measured on 8 devices" in notes
    assert "the bf16 derate serves fp16: both are rated 312" in notes


def test_a_json_row_has_null_and_never_0_for_what_isnt_known():
    for priced in cost():
        row = priced.as_json()
        assert all(value != 0 for value in row.values() if isinstance(value, float))
        assert (row["reason"] is not None) == (None in (row["delivered_eflops"], row["capex_rmb"]))
        for link in row["chain"]:
            assert link["low"] is link["high"] is None
            assert link["provenance"] == "published"
            assert link["source"]
    row = one("nio").as_json()
    assert row["not_yet"] == ["goodput"]
    assert row["dtype"] == "fp16"
    assert row["sentence"] == SENTENCE


def test_another_price_changes_the_cost_in_proportion():
    known = catalogue()
    dearer = known.model_copy(
        update={"price": tuple(price.model_copy(update={"server_rmb": 1_900_000.0}) for price in known.price)}
    )
    assert one("nio", catalogue=dearer).capex_rmb == pytest.approx(2 * one("nio").capex_rmb)
    assert one("nio", catalogue=dearer).delivered_eflops == one("nio").delivered_eflops


def test_another_derate_changes_what_is_delivered_and_not_the_capex():
    altered = find("a100-sxm-80gb-scaled-7b-x8").model_copy(update={"value": 0.321})
    half = one("nio", derate=altered)
    assert half.delivered_eflops == pytest.approx(one("nio").delivered_eflops / 2)
    assert half.rmb_per_delivered_eflops == pytest.approx(2 * one("nio").rmb_per_delivered_eflops)
    assert half.capex_rmb == one("nio").capex_rmb


@pytest.mark.parametrize(
    ("derates", "per_delivered"),
    [
        ("a100-sxm-80gb-gemm-sustained", 438.0e6),
        (["ampere-scaled-175b-x12288", "h100-goodput-405b-x16384"], 766.1e6),
    ],
)
def test_published_derates_by_name(derates, per_delivered):
    assert one(part=A800, derate=derates).rmb_per_delivered_eflops == pytest.approx(per_delivered, rel=2e-4)


def test_a_chain_that_reaches_goodput_lacks_nothing():
    priced = one("nio", derate=["a100-sxm-80gb-scaled-7b-x8", "h100-goodput-405b-x16384"])
    assert priced.reaches == "goodput"
    assert priced.as_json()["not_yet"] == []
    assert "(A100: 0.642, then 16384 H100: 0.900; together 0.578 of 312)" in sentence(priced)


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
    assert tesla.chain[-1].id == "h100-sxm-scaled-7b-x8"
    assert "a100-sxm-80gb-scaled-13b-x8: of another part, not used" in tesla.notes
    with pytest.raises(InputError, match=f"--derate: a derate of nvidia-a100.*expected one of {H100}"):
        cost("tesla", derate="a100-sxm-80gb-scaled-13b-x8")


def test_a_derate_of_no_one_part_needs_a_fleet_by_name():
    with pytest.raises(InputError, match="--derate: a derate of Ampere, which is no one part"):
        cost(derate="ampere-scaled-175b-x12288")
    notes = one("nio", derate="ampere-scaled-175b-x12288").notes
    assert any("measured on Ampere, which is no one part of the registry" in note for note in notes)


def test_a_derate_of_another_dtype_is_refused():
    with pytest.raises(InputError, match="a derate of fp8 says nothing of fp16"):
        cost("tesla", derate="h100-sxm-gemm-sustained-fp8")


def test_a_run_of_the_part_prices_it_and_the_others_keep_the_published_one(gpu_run, product):
    run = gpu_run(product(250.0), product(200.0, edge=1024))
    tesla, li_auto, *_ = cost(run=run)
    assert li_auto.derate == pytest.approx(250 / 320)
    _, gemm = li_auto.chain
    assert (gemm.span, gemm.provenance, gemm.run) == ("datasheet → gemm", "measured", run.id)
    assert gemm.low == pytest.approx(0.98 * 250 / 312, rel=1e-3)
    assert gemm.convention == "2MNK"
    assert li_auto.reaches == "gemm"
    assert li_auto.run.used
    assert f"in its best matrix product, measured (run {run.id}: 0.801 of 312)" in sentence(li_auto)
    assert tesla.chain[-1].id == "h100-sxm-scaled-7b-x8"
    assert not tesla.run.used
    assert f"run {run.id} doesn't price it: it is of another part" in tesla.notes


def test_the_first_link_is_the_registrys_whatever_nominal_the_run_was_given(gpu_run, product):
    """Numerator, denominator and price on one nominal: the user's --nominal isn't one of them."""
    run = gpu_run(product(250.0, nominal_tflops=1000.0))
    assert one("nio", run=run).derate == pytest.approx(250 / 320)


def test_a_run_against_another_datasheet_figure_is_refused(gpu_run, product):
    with pytest.raises(InputError, match="another bf16 datasheet figure than the registry's; got '300'"):
        cost("nio", run=gpu_run(product(datasheet=300.0)))


@pytest.mark.parametrize(
    "verdict", ["contended", "unstable", "throttled", "unknown", "unverified", "above_peak"]
)
def test_a_run_of_records_that_arent_admitted_is_refused_with_what_to_run(gpu_run, product, verdict):
    run = gpu_run(product(verdicts=(verdict,)), options=Options(device="cuda:0"))
    with pytest.raises(InputError) as refused:
        cost("nio", run=run)
    for piece in (f"run {run.id}: ", f"got '1 {verdict}'", "`bench run fake --device cuda:0` again"):
        assert piece in str(refused.value)


def test_throttled_is_admitted_for_a_sustained_figure_and_only_alone(gpu_run, product):
    sustained = product(verdicts=("throttled",), phase="sustained")
    assert one("nio", run=gpu_run(sustained)).run.used
    both = product(verdicts=("contended", "throttled"), phase="sustained")
    with pytest.raises(InputError, match="got '1 contended'"):
        cost("nio", run=gpu_run(both))


def test_a_record_that_isnt_admitted_beside_one_that_is_counts_for_nothing_and_is_named(gpu_run, product):
    run = gpu_run(product(250.0), product(300.0, edge=8192, verdicts=("contended",)))
    priced = one("nio", run=run)
    assert priced.derate == pytest.approx(250 / 320)
    assert f"records of run {run.id} that weren't admitted: 1 contended" in priced.notes


def test_an_unfinished_run_says_so(gpu_run, product):
    run = gpu_run(product(), missing=["matmul/bf16/2x2x2/normal/warm/-/torch"])
    assert f"run {run.id} isn't finished: 1 expected records are missing" in one("nio", run=run).notes


def test_of_several_devices_the_slowest_sets_the_pace(gpu_run, product, make_manifest):
    records = [product(250.0), product(240.0, device="cuda:1"), product(260.0, device="cuda:2")]
    devices = tuple(entry(name) for name in ("cuda:0", "cuda:1", "cuda:2"))
    priced = one("nio", run=gpu_run(*records, devices=devices))
    assert priced.derate == pytest.approx(240 / 320)
    assert priced.chain[1].device == "cuda:1"
    assert any("by cuda:1, the slowest of 3 devices" in note for note in priced.notes)


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
            == "AMD EPYC (amd-zen4): best product 0.4 TFLOPS in bf16, 80.0% of nominal 0.5 (clean)"
        )
        assert "a CPU's derate never prices a GPU" in priced.run.reason
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
        ({"part": "NVIDIA A800"}, "alone doesn't say which part"),
        ({"fleets": "byd"}, "no such fleet; got 'byd'"),
        (
            {"derate": "a100-scaled-7b"},
            "no such published derate; got 'a100-scaled-7b'; .*a100-sxm-80gb-scaled-7b-x8",
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
    unit, priced = one(part=A800), one(part=A800, eflops=scale)
    assert priced.cards_exact == pytest.approx(scale * unit.cards_exact)
    assert priced.cards == math.ceil(round(scale * 3125, 6))
    assert priced.rmb_per_delivered_eflops == pytest.approx(unit.rmb_per_delivered_eflops)
    assert sentence(priced) == SENTENCE


def test_a_frame_has_a_row_a_fleet():
    table = frame(cost())
    assert list(table["fleet"]) == [fleet.id for fleet in catalogue().fleet]
    assert table["capex_rmb"].isna().sum() == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [("NVIDIA A800 SXM4 80GB", "A800"), ("A100 SXM 80GB", "A100"), ("NVIDIA A800 PCIe 80GB", "A800 PCIe"),
     ("AMD MI300X", "MI300X"), ("NVIDIA GH200 (Hopper GPU)", "GH200 (Hopper GPU)")],
)  # fmt: skip
def test_short_names(name, said):
    assert short(name) == said
