"""The model of MFU: its data, its fit, what it predicts of runs that it hasn't seen, and its errors."""

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.mfu_fit import fit, leave_families_out, observe, observe_all
from nameplate.fleet.mfu_model import FEATURES, load_mfu_model
from nameplate.fleet.mfu_runs import load_training_runs, parse_training_runs
from nameplate.models.conventions import flops_per_token
from nameplate.models.published import load_published_models
from nameplate.specs.registry import load_registry


def run(name):
    return next(each for each in load_training_runs() if each.id == name)


def published(name):
    one = run(name)
    return one.mfu_by(load_published_models()[one.model].shape, load_registry().parts[one.part])


# The data


def test_every_run_has_a_source_how_it_was_read_and_a_part_of_the_registry():
    runs, parts = load_training_runs(), load_registry().parts
    assert len(runs) > 500
    assert all(each.source and each.read and each.part in parts for each in runs)
    assert {each.model for each in runs} <= set(load_published_models())


@pytest.mark.parametrize("name", [name for name, each in load_published_models().items() if each.layers])
def test_a_models_sizes_give_the_parameters_that_are_stated(name):
    one = load_published_models()[name]
    assert one.shape.total_parameters == pytest.approx(one.stated_parameters, rel=0.05)


@pytest.mark.parametrize(
    ("name", "mfu"),
    [
        ("megatron2022-175b", 0.507),  # 51.4 % with full attention
        ("foundry-a100-7b-x8-t2048", 0.6423 / 1.0403),  # 64.23 % by llm-foundry
        ("dgxc2502-llama3-405b-x2304", 0.5168),
        ("mt-nlg-530b-x2240", 0.2999),
        # 2,045 tokens a second × 6 × (12.69 + 0.16 billion weights + 40 × 5,120 × 4,096) ÷ 312 TFLOPS
        ("skywork-llama-2-13b-dp256-pp2", 0.5384),
        ("deepseek-v3-x2048", 0.3894 / 2),  # its authors' own figure with a causal mask, of the bf16 peak
    ],
)
def test_runs_are_brought_to_one_convention(name, mfu):
    low, high = published(name)
    assert low == high == pytest.approx(mfu, abs=1e-3)


def test_a_run_of_an_unknown_convention_is_an_interval():
    low, high = published("megascale-175b-x12288")
    assert low < 0.552 < high
    assert high / low == pytest.approx(1.0275, abs=1e-3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,f,mpt-7b,nvidia-h100-sxm5-80gb,8,2048,bf16,tuned,2024,,,,,,,s,at the source,", "one of tokens"),
        ("a,f,mpt-7b,nvidia-h100-sxm5-80gb,8,2048,bf16,tuned,2024,1,,,palm,,,s,at the source,", "convention"),
        ("a,f,mpt-7b,nvidia-h100-sxm5-80gb,,2048,bf16,tuned,2024,1,,,,,,s,at the source,", "devices"),
        ("a,f,gpt-9,nvidia-h100-sxm5-80gb,8,2048,bf16,tuned,2024,1,,,,,,s,at the source,", "models.toml"),
    ],
)
def test_a_row_that_cant_be_used_is_refused_with_its_id(line, said):
    head = ",".join(type(run("bloom-176b-x384")).model_fields)
    with pytest.raises(InputError, match=rf"mine\.csv.*\ba\b.*{said}"):
        parse_training_runs(f"{head}\n{line}\n", "mine.csv")


# The model


def test_the_shipped_coefficients_are_those_of_the_shipped_runs():
    again, shipped = fit(observe_all()), load_mfu_model()
    assert (again.n_runs, again.n_families) == (shipped.n_runs, shipped.n_families)
    for seen in observe_all()[::40]:
        one, other = again.predict(seen.situation), shipped.predict(seen.situation)
        assert (one.p5, one.p50, one.p95) == pytest.approx((other.p5, other.p50, other.p95), abs=1e-3)


def test_families_left_out_are_predicted_within_the_goals():
    left_out = leave_families_out(observe_all())
    assert np.median([abs(each.error) for each in left_out]) <= 0.10
    assert np.mean([each.is_inside for each in left_out]) >= 0.80
    assert np.median([each.width for each in left_out]) <= 0.60


def test_a_left_out_family_is_predicted_without_its_own_runs():
    # Figures of one family that are all wrong don't help to predict it, so its error is seen.
    seen = observe_all()
    wrong = [
        type(each)(each.run, each.situation, 0.9, 0.9) if each.run.family == "internevo" else each
        for each in seen
    ]
    mine = [each for each in leave_families_out(wrong) if each.observation.run.family == "internevo"]
    assert all(each.error < -0.3 and not each.is_inside for each in mine)


def test_the_fit_finds_coefficients_that_are_known():
    rng = np.random.default_rng(1)
    true = dict(zip(FEATURES, (0.1, -0.3, 0.05, -1.5, -0.6, -0.4, 0.2, -0.7), strict=True))
    seen = []
    for each in observe_all():
        logit = each.situation.features() @ list(true.values()) + rng.normal(0, 0.02)
        share = 1 / (1 + np.exp(-logit))
        seen.append(type(each)(each.run, each.situation, share, share))
    found = fit(seen)
    for name in ("devices", "parameters", "attention", "fp8", "off_the_shelf", "experts"):
        assert found.coefficients[name] == pytest.approx(true[name], abs=0.06), name
    assert found.sd_run == pytest.approx(0.02, rel=0.2)


def test_whole_runs_are_not_fitted_and_goodput_stays_apart():
    assert not any(each.run.whole_run for each in observe_all())
    # DeepSeek-V3's whole run, which had few stoppages: 2,664K H800 hours for 14.8T tokens.
    low, high = published("deepseek-v3-hours")
    one = estimate_mfu("H800", 2048, TrainingSetup(671e9, 4096, 37e9, "fp8", year=2024.9))
    assert one.p5 < low == high < one.p95


# Estimates


def test_megascale_is_within_the_tuned_interval_and_megatron_on_its_cluster_within_the_other():
    tuned = estimate_mfu("A800", 58_064)
    stock = estimate_mfu("A800", 77_794, TrainingSetup(stack="off-the-shelf"))
    assert tuned.p5 < 0.552 < tuned.p95
    assert stock.p5 < 0.412 < stock.p95
    assert stock.p50 < tuned.p50


def test_more_devices_longer_contexts_fp8_and_stock_kernels_lower_it_and_later_years_raise_it():
    def p50(devices=1024, part="H100", **given):
        return estimate_mfu(part, devices, TrainingSetup(**given)).p50

    base = p50()
    assert p50(devices=16_384) < base < p50(devices=8)
    assert p50(context=131_072) < base
    assert p50(precision="fp8") < base
    assert p50(stack="off-the-shelf") < base
    assert p50(parameters=671e9, active_parameters=37e9) < base
    assert p50(year=2026) > base
    # No run says that the model goes on getting better after the last of them.
    assert p50(year=2027) == p50(year=2035)


def test_another_convention_changes_the_figure_by_the_ratio_of_flops():
    by = {name: estimate_mfu("A800", 8, convention=name) for name in ("megatron", "megatron_2022", "6n")}
    shape = TrainingSetup().shape
    ratio = flops_per_token(shape, 4096, "megatron_2022") / flops_per_token(shape, 4096)
    assert by["megatron_2022"].p50 / by["megatron"].p50 == pytest.approx(ratio)
    assert by["6n"].p50 < by["megatron"].p50 < by["megatron_2022"].p50


def test_a_generation_without_runs_has_a_wide_interval_and_says_so():
    known, unknown = estimate_mfu("A100", 512), estimate_mfu("MI300X", 512)
    assert unknown.p95 - unknown.p5 > 1.5 * (known.p95 - known.p5)
    assert unknown.runs_of_generation == 0
    assert "no published run is of MI300X" in unknown.notes[0]
    assert "no published run is of A800 PCIe: " in estimate_mfu("A800 PCIe", 512).notes[0]
    # Runs that don't say which 910B they were on count for every variant, and not for another chip.
    assert estimate_mfu("A800", 512).notes == ()
    assert [estimate_mfu(part, 512).runs_of_generation for part in ("910B3", "910B1", "910C")] == [3, 3, 0]


def test_a_card_with_a_limited_rate_isnt_predicted_by_its_siblings():
    assert estimate_mfu("H20", 512).runs_of_generation == 0
    assert estimate_mfu("H800", 512).runs_of_generation > 100


def test_beyond_the_runs_it_says_so():
    notes = " ".join(estimate_mfu("H100", 60_000, TrainingSetup(2e13, 1_000_000)).notes)
    for said in ("16,384 devices", "parameters that work on a token", "131,072 tokens"):
        assert said in notes


@pytest.mark.parametrize("name", ["llama3-405b-x16384", "tinyllama-1b-x16", "bloom-176b-x384"])
def test_what_it_says_of_a_run_it_was_fitted_to_is_near_it(name):
    seen = observe(run(name))
    one = load_mfu_model().predict(seen.situation)
    assert one.p5 < seen.mfu < one.p95


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: estimate_mfu("A800", 0), "--devices.*0.*from 1"),
        (lambda: estimate_mfu("A800", float("nan")), "--devices.*nan"),
        (lambda: TrainingSetup(-7e9), "--params.*-7"),
        (lambda: TrainingSetup(7e9, 0), "--context"),
        (lambda: TrainingSetup(7e9, year=1999), "--year.*1999"),
        (lambda: TrainingSetup(7e9, active_parameters=8e9), "--active-params"),
        (lambda: TrainingSetup(stack="best"), "--stack.*tuned or off-the-shelf"),
        (lambda: TrainingSetup(precision="int4"), "--precision.*bf16 or fp8"),
        (lambda: estimate_mfu("A800", 8, TrainingSetup(precision="fp8")), "no fp8 rating"),
        (lambda: estimate_mfu("A801", 8), "A801"),
        (lambda: estimate_mfu("A800", 8, convention="mine"), "--convention.*mine"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(asked, said):
    with pytest.raises(InputError, match=said):
        asked()
