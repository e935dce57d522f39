"""Training runs: their tokens and FLOPs, the days on fleets, the cards that finish in time."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.base.errors import InputError
from nameplate.chain.published import find_figure
from nameplate.fleet import cost, frame, meet, train
from nameplate.fleet.goodput import estimate_goodput
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.montecarlo import MonteCarlo, Quantity
from nameplate.fleet.plan import NEED_FIGURES
from nameplate.fleet.work import compute_work, load_training_inputs

A100, A800, H100 = "nvidia-a100-sxm4-80gb", "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
FEW = {"draws": 1000}
# Every input exact, so that figures can be computed by hand.
EXACT = {"attention": False, "cameras": 7, "frames_per_second": 5, "tokens_per_frame": 160, "epochs": 1}
PUBLISHED = "a100-sxm-80gb-scaled-7b-x8"
RUN = {"hours": 10_000, "every_days": 14, "draws": 1000, "derate": PUBLISHED}
TOKENS = 10_000 * 3600 * 7 * 5 * 160
EFLOPS_DAY = 1e18 * 86_400
DERATE = 312 / 320 * find_figure(PUBLISHED).as_link().value


def trained(**options):
    (found,) = train(8e9, **({"part": A800} | RUN | options))
    return found


def test_tokens_and_flops_of_the_articles_run():
    found = trained(**EXACT)
    assert found.work.tokens.value == TOKENS == 2.016e11
    assert found.work.flop.value == pytest.approx(6 * 8e9 * TOKENS)
    assert found.work.convention == "6N"
    assert found.need.cards == 42
    assert found.need.servers == 6
    days = found.work.flop.value / (42 * 320e-6 * DERATE * EFLOPS_DAY)
    assert found.estimates["days"].value == pytest.approx(days)
    assert days <= 14


def test_the_assumptions_are_data_with_ends_and_source():
    for name, each in load_training_inputs().items():
        assert (each.uncertain.law == "exact") == (name == "epochs")
        assert each.source
        assert each.basis in ("cited", "assumed")
    row = trained().as_json()["run_inputs"]
    assert row["tokens_per_frame"]["value"] == 160
    assert row["parameters"]["source"] == "given by --parameters"
    assert "clip_seconds" not in row
    assert "context_tokens" not in trained(attention=False).as_json()["run_inputs"]


def test_attention_is_counted_unless_told_not_to():
    known = {**EXACT, "attention": True, "context_tokens": 8192, "width_over_layers": 128}
    without, with_ = trained(**EXACT), trained(**known)
    width = 128 * (8e9 / 12 / 128**2) ** (1 / 3)
    # A causal mask leaves half of the pairs, as the chain's convention counts.
    extra = 6 * width**2 / 128 * 8192
    assert with_.work.flop_per_token.value == pytest.approx(6 * 8e9 + extra)
    assert with_.work.convention == trained().work.convention == "6N + 6LdT"
    assert "isn't counted; it would be 15.5% of 6N" in without.work.note
    assert "over 8,192 tokens is 15.5% of 6N" in with_.work.note


# llm-foundry's 7B on 8 A100 80GB: context and tokens a second of a GPU, from its table.
FOUNDRY = {2048: 4641, 4096: 3684, 8192: 3206, 16384: 2453}


@pytest.mark.parametrize("context", FOUNDRY)
def test_tokens_a_second_are_those_of_the_run_whose_mfu_is_taken(context):
    derate = f"foundry-a100-7b-x8-t{context}"
    (found,) = train(
        6.659e9, tokens=1e11, every_days=14, part=A100, derate=derate, context_tokens=context, **FEW
    )
    assert found.estimates["tokens_per_card_second"].value == pytest.approx(FOUNDRY[context], rel=0.05)


def test_the_mfu_is_that_of_the_models_own_size_and_context():
    near, far = (train(8e9, tokens=1e11, every_days=9, part=A100, context_tokens=each, **FEW)[0]
                 for each in (8192, 65_536))  # fmt: skip
    (link,) = far.fleet.chain[1:]
    assert link.value == estimate_mfu(A100, far.need.cards, TrainingSetup(8e9, 65_536)).p50
    assert link.value < near.fleet.chain[1].value


def test_a_published_run_of_experts_in_fp8_took_the_card_hours_that_are_planned():
    """DeepSeek-V3: 671 billion parameters, 37 at work, 14.8T tokens, 2,664,000 H800 hours."""
    asked = TrainingSetup(active_parameters=37e9, parameters=671e9, precision="fp8", year=2024.9)
    run = {"tokens": 14.8e12, "every_days": 54, "context_tokens": 4096, "training": asked}
    (found,) = train(671e9, part="H800", **run, **FEW)
    hours = found.estimates["card_hours"]
    assert hours.p5 < 2.664e6 < hours.p95
    assert hours.value == pytest.approx(2.664e6, rel=0.1)
    assert hours.p95 / hours.p5 < 2.5


def test_the_pipeline_is_a_product_of_named_factors_and_a_share_of_the_fleet():
    factors = {"encoder": 0.1, "outside_final_run": 0.5, "data_mining": 0.2, "simulation": 0.3, "models": 3}
    (found,) = train(8e9, fleet="li-auto", **RUN, **EXACT, **factors)
    assert found.work.pipeline.value == pytest.approx(1.1 / 0.5 * 3 * 1.5)
    run, whole = found.estimates["share_of_fleet"], found.estimates["pipeline_share_of_fleet"]
    assert run.value == pytest.approx(41.5 / 16_844, rel=0.01)
    assert whole.value == pytest.approx(run.value * 9.9, rel=0.01)
    assert "Of Li Auto's 16,844 cards the run is 0.25% and the pipeline 2.4%." in found.pipeline_sentence
    alone = trained(**{**EXACT, **dict.fromkeys(factors, 0), "models": 1})
    assert alone.estimates["pipeline_cards"].value == pytest.approx(alone.need.estimates["cards_exact"].value)
    with pytest.raises(InputError, match=r"--outside-final-run: not an input.*from 0 to 0\.99"):
        trained(outside_final_run=1)


@pytest.mark.parametrize(
    ("counted", "times"),
    [({"attention": False}, 6.3), ({"context_tokens": 26 * 610}, 4.8)],
)
def test_a_published_run_took_several_times_one_pass(counted, times):
    """Wayve's GAIA-1: 6.5 billion parameters, 4,700 hours, 64 A100, 15 days; as the assumptions say."""
    frames = {"cameras": 1, "frames_per_second": 6.25, "tokens_per_frame": 610}
    run = {**RUN, "hours": 4700, "every_days": 15}
    (one,) = train(6.5e9, part=A100, **run, **frames, **counted)
    assert 64 / one.need.estimates["cards_exact"].value == pytest.approx(times, abs=0.5)
    note = load_training_inputs()["epochs"].note
    assert "about 6 times" in note
    assert "5 times with attention" in note


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
    assert nio.need.cards == 42
    (priced,) = cost("nio", derate=PUBLISHED, **FEW)
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
    assert lossy.estimates["days"].value == pytest.approx(plain.estimates["days"].value / share, rel=0.03)
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
        "Training 8 billion parameters on 10,000 hours of clips every 14 days (1.26 × 10^22 FLOP) takes 54 "
        "cards of A800 (nine draws in ten: "
    )
    assert "; each run costs the owner RMB " in found.sentence
    row = found.as_json()
    for name in ("tokens", "flop", "days", "gang_days", "refresh_rmb", "cards_exact", "power_mw"):
        assert row[f"{name}_p5"] <= row[f"{name}_p50"] <= row[f"{name}_p95"]
    (nio,) = train(8e9, fleet="nio", **RUN)
    assert " h on NIO (nine draws in ten: " in nio.sentence
    assert "; 54 of its cards would finish in time" in nio.sentence


def test_identical_seeds_give_identical_plans():
    assert trained(seed=3).as_json() == trained(seed=3).as_json()
    assert trained(seed=3).estimates != trained(seed=4).estimates


def test_plans_as_a_frame():
    table = frame([*meet(1, (A800, H100), **FEW)])
    assert list(table["cards"]) == [each.cards for each in meet(1, (A800, H100), **FEW)]
    assert frame(train(8e9, part=[A800], **RUN))["cards"].tolist() == [54]


@given(st.floats(0.1, 1000), st.floats(1, 1e6))
@settings(max_examples=25, deadline=None)
def test_half_the_time_takes_twice_the_cards(days, hours):
    whole, half = (trained(every_days=each, hours=hours) for each in (days, days / 2))
    for name in NEED_FIGURES:
        assert half.need.estimates[name].value == pytest.approx(2 * whole.need.estimates[name].value)
        assert half.need.estimates[name].p95 == pytest.approx(2 * whole.need.estimates[name].p95)
    assert half.estimates["refresh_rmb"].value == pytest.approx(whole.estimates["refresh_rmb"].value)


@given(st.floats(1e6, 1e12), st.floats(1, 1e6), st.floats(1, 30), st.floats(0.5, 30), st.floats(1, 5000))
@settings(max_examples=50, deadline=None)
def test_the_flops_are_the_product_of_what_they_follow_from(parameters, hours, cameras, frames, tokens):
    found = compute_work(
        MonteCarlo(1000),
        parameters,
        hours=hours,
        cameras=cameras,
        frames_per_second=frames,
        tokens_per_frame=tokens,
        epochs=1,
        attention=False,
    )
    product = 6 * parameters * hours * 3600 * cameras * frames * tokens
    assert found.flop == Quantity(pytest.approx(product), pytest.approx(product))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"hours": None},
            "--hours, --clips, --tokens: not one amount of data; got 'none of them'; expected one of them",
        ),
        ({"clips": 5}, "--hours, --clips, --tokens: not one amount of data; got '--hours and --clips'"),
        ({"hours": None, "tokens": 1e9, "cameras": 3}, "--cameras: has no effect; got 3; expected --hours"),
        ({"every_days": 0}, "--every-days: not a time between runs; got 0; expected days from 0.001"),
        ({"every_days": math.nan}, "--every-days: not a time between runs; got nan"),
        ({"hours": "nan"}, "--hours: not a number, nor a range of them; got 'nan'"),
        ({"hours": 0}, "--hours: not an input of a training run; got 0; expected a number from 1e-09 to"),
        ({"cameras": "-1"}, "--cameras: not a number"),
        ({"tokens_per_frame": 1e30}, "--tokens-per-frame: not an input of a training run"),
        ({"clip_seconds": 20}, "--clip-seconds: has no effect; got 20; expected --clips with it"),
        (
            {"context_tokens": 20, "attention": False},
            "--context-tokens: has no effect; got 20; expected --attention with it",
        ),
        ({"fleet": "nio"}, "a fleet and a part at once; got '--fleet nio and --part nvidia-a800-sxm4-80gb'"),
        ({"part": (), "fleet": "byd"}, "no such fleet; got 'byd'"),
        ({"part": "nvidia-a801"}, "isn't the name of a part in the registry"),
        ({"hours": 1e18, "cameras": 1e18}, "--eflops: not an amount of EFLOPS"),
    ],
)
def test_unusable_input_is_one_sentence(options, sentence):
    with pytest.raises(InputError) as refused:
        trained(**options)
    assert sentence in str(refused.value)
