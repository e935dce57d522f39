"""Plans: what a need takes, what a budget buys, what a training run takes; and what holds of them all."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.base.errors import InputError
from nameplate.device.identity import CudaIdentity
from nameplate.fleet import afford, catalogue, cost, frame, meet, need, train
from nameplate.fleet import training as module
from nameplate.fleet.goodput import estimate_goodput
from nameplate.fleet.montecarlo import MonteCarlo, Quantity
from nameplate.fleet.plan import TAKES
from nameplate.store.manifest import DeviceEntry

A100, A800 = "nvidia-a100-sxm4-80gb", "nvidia-a800-sxm4-80gb"
H100, ASCEND = "nvidia-h100-sxm5-80gb", "huawei-ascend-910b"
PRICES = {H100: 2_500_000}
FEW = {"draws": 1000}
# Every input exact, so that figures can be computed by hand.
EXACT = {"cameras": 7, "frames_per_second": 5, "tokens_per_frame": 160, "epochs": 1}
RUN = {"hours": 10_000, "every_days": 14, "draws": 1000}
TOKENS = 10_000 * 3600 * 7 * 5 * 160
EFLOPS_DAY = 1e18 * 86_400
DERATE = 312 / 320 * 0.642


def trained(**options):
    (found,) = train(8e9, **({"part": A800} | RUN | options))
    return found


def bought(budget, *parts, **options):
    return afford(budget, parts or (A800,), **(FEW | options))


# What a need takes


def test_parts_side_by_side_share_one_run_and_draws():
    found = meet(10, (A800, H100), price=PRICES, **FEW)
    assert [each.fleet.size.part.id for each in found] == [A800, H100]
    assert [each.cards for each in found] == [49_925, math.ceil(10e6 / 989 / 0.464)]
    (alone,) = meet(10, (H100,), price=PRICES, **FEW)
    assert alone.estimates == found[1].estimates
    by_name = meet(10, ("NVIDIA A800-SXM4-80GB", A800), **FEW)
    assert len(by_name) == 1


def test_a_derate_of_one_part_leaves_the_other_its_own():
    a800, h100 = meet(1, (A800, H100), derate="a100-sxm-80gb-gemm-sustained", **FEW)
    assert a800.cards == 3689
    assert h100.fleet.chain[-1].id == "h100-sxm-scaled-7b-x8"


def test_a_run_of_one_part_prices_it_and_the_others_keep_the_published_derate(make_run, make_record):
    device = DeviceEntry(
        name="cuda:0",
        part=A800,
        evidence="its name",
        identity=CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=0),
    )
    product = make_record(
        device="cuda:0", part=A800, tflops=250.0, tflops_low=245.0, tflops_high=255.0, nominal_tflops=320.0,
        datasheet_tflops=312.0, efficiency=250 / 320, efficiency_low=245 / 320, efficiency_high=255 / 320,
    )  # fmt: skip
    run = make_run(product, devices=(device,))
    a800, h100 = meet(1, (A800, H100), run=run, **FEW)
    assert a800.cards == 4000
    assert a800.fleet.chain[-1].provenance == "measured"
    assert a800.fleet.reaches == "gemm"
    assert h100.fleet.chain[-1].provenance == "published"
    with pytest.raises(InputError, match="a chain that leaves a loss out"):
        meet(1, (A800,), run=run, goodput=True, **FEW)


def test_without_parts_those_that_something_is_known_of():
    listed = catalogue()
    assert {each.fleet.size.part.id for each in meet(1, **FEW)} == {A100, A800, H100}
    mine = {"nvidia-h20-96gb": 1_000_000}
    found = {each.fleet.size.part.id: each for each in meet(1, price=mine, catalogue=listed, **FEW)}
    assert "has no default derate" in found["nvidia-h20-96gb"].reason


def test_the_fleet_that_meets_a_need_delivers_it_in_whole_cards():
    (found,) = meet(10, (A800,), **FEW)
    assert found.fleet.size.cards == found.cards == 49_925
    assert 10 <= found.fleet.delivered_eflops < 10 + 320e-6
    assert found.capex_whole_servers_rmb == found.servers * 950_000


def test_a_part_without_a_rating_of_its_cards_has_nominal_eflops_alone():
    found = need(2, ASCEND, **FEW)
    assert found.cards is found.servers is found.sentence is None
    assert found.estimates["nominal_eflops"].value == pytest.approx(2 / 0.40)
    assert "so the number of cards isn't known" in found.reason


def test_goodput_is_that_of_the_cards_it_takes():
    found = need(1, A800, goodput=True, **FEW)
    share = estimate_goodput(found.cards).goodput.value
    assert found.fleet.reaches == "goodput"
    assert found.cards == pytest.approx(1e6 / 320 / DERATE / share, abs=1)
    assert found.fleet.delivered_eflops == pytest.approx(1, rel=1e-3)
    assert found.cards > need(1, A800, **FEW).cards


def test_one_job_can_be_too_large_for_any_number_of_cards():
    found = need(500, A800, goodput=True, **FEW)
    assert found.cards is None
    assert "failures take what more cards add" in found.reason
    assert need(500, A800, **FEW).cards > 2_000_000


def test_a_need_in_a_sentence_and_as_a_row():
    found = need(10, A800, draws=10_000)
    assert found.sentence.startswith("10 delivered EFLOPS take 49,925 cards of A800 (nine draws in ten: 50,")
    assert "6,241 servers, RMB 5,928 M (nine draws in ten: " in found.sentence
    row = found.as_json()
    assert {f"{name}{end}" for name in TAKES for end in ("", "_p5", "_p50", "_p95")} <= row.keys()
    assert (row["reaches"], row["not_yet"], row["draws"], row["seed"]) == ("scaled", ["goodput"], 10_000, 0)
    assert [link["value"] for link in row["chain"]] == [0.975, 0.642]
    assert need(10, H100, **FEW).sentence.endswith("the price of its servers isn't known.")


# What money buys


def test_a_budget_buys_whole_servers_alone_and_with_what_belongs_to_them():
    (found,) = bought(1e9)
    assert (found.servers, found.cards) == (1052, 8416)
    assert found.full_servers == math.floor(1e9 / (950_000 * 1.2 * 1.075))
    assert found.estimates["delivered_eflops"].value == pytest.approx(8416 * 320e-6 * DERATE)
    assert found.estimates["delivered_eflops"].p5 < found.estimates["delivered_eflops"].value
    assert found.fleet.size.cards == 8416
    assert found.sentence.startswith("RMB 1,000 M buys 1,052 servers of A800 (8,416 cards), delivering 1.69 ")


def test_the_part_that_delivers_most_comes_first_and_those_without_a_price_last():
    found = bought(1e9, A800, A100, H100, price={H100: 2_000_000})
    assert [each.fleet.size.part.id for each in found] == [H100, A800, A100]
    assert [each.rank for each in found] == [1, 2, None]
    assert found[0].first_in + found[1].first_in == 1
    assert found[2].estimates == {}
    assert "no price of a server of nvidia-a100-sxm4-80gb is known" in found[2].reason


def test_prices_that_overlap_leave_the_first_rank_unsure():
    dear = bought(1e9, A800, H100, price={H100: "1500000..4500000"})
    assert 0 < dear[0].first_in < 1


def test_a_budget_below_one_server_buys_none():
    (found,) = bought(500_000)
    assert (found.servers, found.estimates["delivered_eflops"].value) == (0, 0)
    assert found.reason == "RMB 500,000 is less than one server costs"


def test_exact_prices_of_whole_servers_are_spent_whole():
    exact = {"fabric_price_factor": 1.2, "spare_nodes": 0.05}
    (found,) = bought(1000 * 950_000, price={A800: 950_000}, assume=exact)
    assert (found.servers, found.estimates["power_mw"].value > 0) == (1000, True)
    assert found.full_servers == math.floor(1000 / 1.2 / 1.05)


# What a training run takes


def test_tokens_and_flops_of_the_articles_run():
    found = trained(**EXACT)
    assert found.work.tokens.value == TOKENS == 2.016e11
    assert found.work.flop.value == pytest.approx(6 * 8e9 * TOKENS)
    assert found.work.convention == "6N"
    assert found.need.cards == 40
    assert found.need.servers == 5
    days = found.work.flop.value / (40 * 320e-6 * DERATE * EFLOPS_DAY)
    assert found.estimates["days"].value == pytest.approx(days)
    assert days <= 14


def test_the_assumptions_are_data_with_ends_and_source():
    for name, each in module.load_training_inputs().items():
        assert (each.uncertain.law == "exact") == (name == "epochs")
        assert each.source
        assert each.basis in ("cited", "assumed")
    row = trained().as_json()["run_inputs"]
    assert row["tokens_per_frame"]["value"] == 160
    assert row["parameters"]["source"] == "given by --parameters"
    assert {"clip_seconds", "context_tokens"}.isdisjoint(row)


def test_attention_is_counted_on_request_and_named_otherwise():
    without, with_ = (
        trained(**EXACT),
        trained(attention=True, context_tokens=8192, width_over_layers=128, **EXACT),
    )
    width = 128 * (8e9 / 12 / 128**2) ** (1 / 3)
    extra = 12 * width**2 / 128 * 8192
    assert with_.work.flop_per_token.value == pytest.approx(6 * 8e9 + extra)
    assert with_.work.convention == "6N + 12LdT"
    assert "isn't counted; it would be 31.0% of 6N" in without.work.note
    assert "over 8,192 tokens is 31.0% of 6N" in with_.work.note


@pytest.mark.parametrize(
    ("counted", "times"), [({}, 7), ({"attention": True, "context_tokens": 26 * 610}, 4)]
)
def test_a_published_run_took_several_times_one_pass(counted, times):
    """Wayve's GAIA-1: 6.5 billion parameters, 4,700 hours, 64 A100, 15 days; as the assumptions say."""
    frames = {"cameras": 1, "frames_per_second": 6.25, "tokens_per_frame": 610}
    (one,) = train(6.5e9, hours=4700, every_days=15, part=A100, **frames, **counted, **FEW)
    assert 64 / one.need.estimates["cards_exact"].value == pytest.approx(times, abs=0.5)
    note = module.load_training_inputs()["epochs"].note
    assert "about 7 times" in note
    assert "4 times with attention" in note


def test_clips_may_be_given_instead_of_hours():
    clips = trained(hours=None, clips=1_000_000, **EXACT)
    assert clips.work.tokens.value == pytest.approx(1e6 * 22.5 * 7 * 5 * 160)
    ends = clips.work.tokens.estimate
    assert ends.p5 / ends.value == pytest.approx(15.75 / 22.5, rel=0.01)
    ten = trained(hours=None, clips=10_000_000, clip_seconds=22.5, **EXACT)
    assert ten.work.flop.value == pytest.approx(10 * clips.work.flop.value)


def test_a_fleet_has_days_and_the_cards_of_its_part_that_would_do():
    (nio,) = train(8e9, fleet="nio", **RUN, **EXACT)
    days = 6 * 8e9 * TOKENS / (1.4 * DERATE * EFLOPS_DAY)
    assert nio.given
    assert nio.estimates["days"].value == pytest.approx(days)
    assert nio.estimates["gang_days"].value > days
    assert nio.need.cards == 40
    (priced,) = cost("nio", **FEW)
    year = priced.value("ownership_rmb_per_year")
    assert nio.estimates["refresh_rmb"].value == pytest.approx(year * days / 365)


def test_a_refresh_costs_the_same_on_any_fleet_of_the_part_without_goodput():
    (nio,) = train(8e9, fleet="nio", **RUN)
    part = trained()
    assert nio.estimates["refresh_rmb"] == part.estimates["refresh_rmb"]


def test_goodput_lengthens_a_run_by_the_fleet_it_is_on():
    (plain,) = train(8e9, fleet="nio", **RUN)
    (lossy,) = train(8e9, fleet="nio", goodput=True, **RUN)
    share = estimate_goodput(4375).goodput.value
    assert lossy.estimates["days"].value == pytest.approx(plain.estimates["days"].value / share)
    assert lossy.as_json()["not_yet"] == []


def test_a_mix_has_a_range_of_days_and_a_fleet_of_no_known_part_a_reason():
    huawei, world = train(8e9, fleet=["huawei", "world-2023"], **RUN)
    days = huawei.estimates["days"]
    assert days.value is None
    assert 0 < days.p5 < days.p95
    assert huawei.need is None
    assert world.estimates == {}
    assert "for comparison only" in world.reason
    assert world.as_json()["days"] is world.as_json()["cards"] is None


def test_the_spread_is_traced_to_what_it_follows_from():
    shares = trained(draws=10_000).sensitivity
    assert shares["days"][0].input == "tokens_per_frame"
    assert {share.input for share in shares["refresh_rmb"]} >= {"cameras", "depreciation_years"}
    known = trained(draws=10_000, tokens_per_frame=160).sensitivity
    assert "tokens_per_frame" not in {share.input for share in known["days"]}


def test_a_run_in_a_sentence_and_as_a_row():
    found = trained()
    assert found.sentence.startswith(
        "Training 8 billion parameters on 10,000 hours of clips every 14 days (9.68 × 10^21 FLOP) takes 40 "
        "cards of A800 (nine draws in ten: "
    )
    assert "; each run costs the owner RMB " in found.sentence
    row = found.as_json()
    for name in ("tokens", "flop", "days", "gang_days", "refresh_rmb", "cards_exact", "power_mw"):
        assert row[f"{name}_p5"] <= row[f"{name}_p50"] <= row[f"{name}_p95"]
    (nio,) = train(8e9, fleet="nio", **RUN)
    assert " h on NIO (nine draws in ten: " in nio.sentence
    assert "; 40 of its cards would finish in time" in nio.sentence


def test_identical_seeds_give_identical_plans():
    assert trained(seed=3).as_json() == trained(seed=3).as_json()
    assert trained(seed=3).estimates != trained(seed=4).estimates


def test_plans_as_a_frame():
    table = frame([*meet(1, (A800, H100), **FEW)])
    assert list(table["cards"]) == [4993, 2180]
    assert frame(train(8e9, part=[A800], **RUN))["cards"].tolist() == [40]


# What holds of them all

EFLOPS = st.floats(1e-4, 1000)


@given(EFLOPS, EFLOPS)
@settings(max_examples=25, deadline=None)
def test_more_delivered_never_needs_fewer_cards(one, other):
    less, more = (need(each, A800, **FEW) for each in sorted((one, other)))
    assert less.cards <= more.cards
    assert all(less.estimates[name].p95 <= more.estimates[name].p95 for name in TAKES)


@given(EFLOPS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_meets_a_need_delivers_it_within_a_card(much, lossy):
    found = need(min(much, 5) if lossy else much, A800, goodput=lossy, **FEW)
    size = found.cards * 320e-6
    (priced,) = cost(part=A800, eflops=size, goodput=lossy, **FEW)
    card = priced.delivered_eflops / found.cards
    assert found.asked.value * (1 - 1e-6) <= priced.delivered_eflops
    # With goodput, whole nodes fail: up to a node's cards may be left over.
    assert priced.delivered_eflops <= found.asked.value + (9 if lossy else 1) * card * (1 + 1e-6)


@given(st.floats(0.1, 1000), st.floats(1, 1e6))
@settings(max_examples=25, deadline=None)
def test_half_the_time_takes_twice_the_cards(days, hours):
    whole, half = (trained(every_days=each, hours=hours) for each in (days, days / 2))
    for name in TAKES:
        assert half.need.estimates[name].value == pytest.approx(2 * whole.need.estimates[name].value)
        assert half.need.estimates[name].p95 == pytest.approx(2 * whole.need.estimates[name].p95)
    assert half.estimates["refresh_rmb"].value == pytest.approx(whole.estimates["refresh_rmb"].value)


@given(st.floats(1e6, 1e11), st.floats(1e6, 1e11))
@settings(max_examples=25, deadline=None)
def test_a_bigger_budget_never_delivers_less(one, other):
    (less,), (more,) = (bought(each) for each in sorted((one, other)))
    for name, each in less.estimates.items():
        assert each.value <= more.estimates[name].value
        assert each.p5 <= more.estimates[name].p5
    assert less.servers * 950_000 <= one * (1 + 1e-9) or less.servers * 950_000 <= other * (1 + 1e-9)


@given(st.floats(1e6, 1e12), st.floats(1, 1e6), st.floats(1, 30), st.floats(0.5, 30), st.floats(1, 5000))
@settings(max_examples=50, deadline=None)
def test_the_flops_are_the_product_of_what_they_follow_from(parameters, hours, cameras, frames, tokens):
    found = module.compute_work(
        MonteCarlo(1000),
        parameters,
        hours=hours,
        cameras=cameras,
        frames_per_second=frames,
        tokens_per_frame=tokens,
        epochs=1,
    )
    product = 6 * parameters * hours * 3600 * cameras * frames * tokens
    assert found.flop == Quantity(pytest.approx(product), pytest.approx(product))


# What is refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hours": None}, "--hours, --clips: how much data?; got 'neither'; expected one of the two"),
        ({"clips": 5}, "--hours, --clips: how much data?; got 'both'"),
        ({"every_days": 0}, "--every-days: not a time between runs; got 0; expected days from 0.001"),
        ({"every_days": math.nan}, "--every-days: not a time between runs; got nan"),
        ({"hours": "nan"}, "--hours: not a number, nor a range of them; got 'nan'"),
        ({"hours": 0}, "--hours: not an input of a training run; got 0; expected a number above 0, from"),
        ({"cameras": "-1"}, "--cameras: not a number"),
        ({"tokens_per_frame": 1e30}, "--tokens-per-frame: not an input of a training run"),
        ({"clip_seconds": 20}, "--clip-seconds: has no effect; got 20; expected --clips with it"),
        ({"context_tokens": 20}, "--context-tokens: has no effect; got 20; expected --attention with it"),
        ({"fleet": "nio"}, "a fleet and a part at once; got '--fleet nio and --part nvidia-a800-sxm4-80gb'"),
        ({"part": (), "fleet": "byd"}, "no such fleet; got 'byd'"),
        ({"part": "nvidia-a801"}, "isn't the name of a part in the registry"),
        ({"hours": 1e18, "cameras": 1e18}, "--eflops: not a need"),
    ],
)
def test_unusable_input_is_one_sentence(options, sentence):
    with pytest.raises(InputError) as refused:
        trained(**options)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("budget", [0, -1, math.nan, math.inf, True, 1e20])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(InputError, match=r"--budget-rmb: not a budget; got .*; expected RMB above 0"):
        bought(budget)
