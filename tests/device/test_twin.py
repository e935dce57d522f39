"""A simulated GPU as a device: its names, its identity, and the engine's measurement of it."""

import math

import pytest
import torch

from nameplate.base.errors import InputError
from nameplate.device import survey, twin
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group, measure_in_processes
from nameplate.engine.pilot import Pilots
from nameplate.engine.runner import InThisProcess
from nameplate.run.job import target_of
from nameplate.suite import Case, find_suite, make_groups
from nameplate_kernels import Attention, Matmul, TransformerBlock

NODE = """
schema = 1
name = "pair"
base = "h200"
[environment]
gpus = 2
"""


@pytest.fixture
def node(tmp_path):
    file = tmp_path / "pair.toml"
    file.write_text(NODE, encoding="utf-8")
    return f"twin:{file}"


def test_a_twin_is_described_as_the_card_it_stands_for():
    seen = survey.describe("twin:h200")
    assert (seen.name, seen.kind, seen.measured) == ("twin:h200", "cuda", False)
    assert seen.rating.part == "nvidia-h200-sxm-141gb"
    assert seen.identity.name == "NVIDIA H200"
    assert seen.identity.multiprocessors == 132
    assert seen.identity.power_limit_w == 700
    assert seen.identity.highest_clock_mhz == 1980
    assert seen.identity.uuid == survey.describe("twin:h200").identity.uuid


def test_a_twin_that_is_a_node_names_all_its_gpus_and_each_by_its_number(node):
    assert twin.find_twin_names(node) == [f"{node}:0", f"{node}:1"]
    assert twin.find_twin_names(f"{node}:1") == [f"{node}:1"]
    first, second = (survey.describe(name) for name in twin.find_twin_names(node))
    assert (first.name, second.name) == ("twin:pair:0", "twin:pair:1")
    assert first.identity.uuid != second.identity.uuid
    with pytest.raises(InputError, match=r"no such GPU.*one of the 2 GPUs of the twin pair"):
        twin.find_twin_names(f"{node}:2")


def test_a_run_goes_on_without_the_file_that_its_twin_came_from(node, tmp_path):
    begun = survey.describe(f"{node}:1").identity
    (tmp_path / "pair.toml").unlink()
    again = survey.open_device("twin:pair:1", begun)
    assert again.name == "twin:pair:1"
    assert again.identity.is_same_device(begun)
    with pytest.raises(InputError, match="no such twin"):
        survey.open_device("twin:pair:1")


def test_an_unknown_twin_is_one_sentence():
    with pytest.raises(InputError, match=r"no such twin.*'b200'.*twin:h200"):
        survey.choose_devices("twin:b200")


def test_a_dtype_without_figures_is_skipped_with_the_reason(tmp_path):
    device = survey.open_device("twin:h200")
    assert device.why_unsupported(Matmul(64, 64, 64, "tf32")) is None
    card = device._twin.card
    few = {name: each for name, each in card.compute.items() if name == "bf16"}
    device._twin.card = card.model_copy(update={"compute": few})
    assert device.why_unsupported(Matmul(64, 64, 64, "fp64")) == "the twin h200 has no figures of fp64"


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (Attention(1, 64, 4, 2, 16, True, "bf16", "forward", "cudnn"), "no model of cudnn attention"),
        (
            TransformerBlock(1, 64, 64, 4, 2, 96, "bf16", "forward", execution="graph"),
            "no model of a graph launch",
        ),
        (TransformerBlock(1, 64, 64, 4, 2, 96, "tf32", "forward"), None),
    ],
    ids=["attention", "graph", "tf32"],
)
def test_a_twin_tries_nothing_on_a_gpu_of_this_machine(work, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was asked"))
    device = survey.open_device("twin:h200")
    assert device.why_unsupported(work) == (said and f"the twin has {said}")


def measure(device, *cases, seconds):
    allowance = Allowance(seconds, 2 * seconds)
    return measure_group(cases, device, Pilots(device, 1), allowance, ProbeChoice(device, 1))


def test_the_engine_finds_what_the_card_was_made_to_deliver():
    device = survey.open_device("twin:h200")
    work = Matmul(8192, 8192, 8192, "bf16")
    (burst,) = measure(device, Case(work, phase="burst", cache="rotating"), seconds=10.0)
    assert not burst.measured
    assert burst.verdicts == ("clean",)
    # Zeros gave 894 TFLOPS at the highest clock; a normal fill takes as long while nothing limits it.
    assert burst.tflops == pytest.approx(892, rel=0.01)
    assert burst.verification.passed
    assert burst.kernels == ("twin_gemm_bf16_128x256",)
    device.idle(60.0)
    (steady,) = measure(device, Case(work, phase="sustained", cache="rotating"), seconds=60.0)
    assert steady.verdicts == ("power_capped",)
    assert steady.trusted
    assert 769 <= steady.tflops <= 798
    assert steady.power_w == pytest.approx(700, rel=0.01)
    clock_mhz = steady.conditions["gpu_sm_clock_mhz"]
    held_mhz = steady.tflops / burst.tflops * 1980
    assert clock_mhz == pytest.approx(held_mhz, rel=0.01)
    assert steady.normalized_efficiency == pytest.approx(burst.normalized_efficiency, rel=0.01)


def test_a_flush_takes_the_time_of_writing_the_cache():
    device = survey.open_device("twin:h200")
    prepared = device.prepare(Matmul(1024, 1024, 1024, "bf16"), fill="normal", seed=1)
    device.time_batch(prepared.launches, samples=5000, per_sample=1)  # the clock climbs
    plain = device.time_batch(prepared.launches, samples=20, per_sample=1)
    flushed = device.time_batch(prepared.launches, samples=20, per_sample=1, flush=True)
    assert flushed.end_s - flushed.start_s > 2 * (plain.end_s - plain.start_s)
    assert 0 < device.time_empty_launch() < 20e-6
    assert math.isclose(device.clock(), device._twin.clock())


def test_a_case_that_takes_turns_is_measured_at_its_own_clock_not_its_neighbour_s():
    device = survey.open_device("twin:h200")
    strong, weak = Matmul(8192, 8192, 8192, "bf16"), Matmul(4096, 4096, 4096, "fp32")
    device.idle(30.0)
    (alone,) = measure(device, Case(strong, phase="sustained", cache="rotating"), seconds=30.0)
    in_turn, other = measure(
        device,
        *(Case(work, phase="sustained", cache="rotating") for work in (strong, weak)),
        seconds=30.0,
    )
    assert in_turn.tflops == pytest.approx(alone.tflops, rel=0.01)
    assert in_turn.trusted
    # The weak one leaves the power limit alone: it runs at the highest clock.
    assert other.tflops == pytest.approx(51.9, rel=0.01)


def test_parts_of_a_run_in_one_process_find_the_memory_free():
    device = survey.open_device("twin:h200")
    free = device._twin.mem_get_info()[0]
    prepared = device.prepare(Matmul(8192, 8192, 8192, "bf16"), fill="normal", seed=1)
    assert device._twin.mem_get_info()[0] < free
    device.begin_process()  # though something, a traceback for example, still holds it
    assert device._twin.mem_get_info()[0] == free
    del prepared
    assert device._twin.mem_get_info()[0] == free


# ---- the shipped suites ----

_AT_LIMIT, _BELOW = ("power_capped",), ("clean",)


def measure_suite(name, suite, seconds):
    device = survey.open_device(name)
    runner = InThisProcess(device, Pilots(device, 1), ProbeChoice(device, 1))
    found, begin_s = [], device.clock()
    groups = make_groups(find_suite(suite).cases(target_of(device)))
    left = sum(case.weight for _, group in groups for case in group)
    for label, group in groups:
        spent_s = device.clock() - begin_s
        weight = sum(case.weight for case in group)
        allowance = Allowance((seconds - spent_s) * weight / left, 3 * seconds - spent_s)
        found += measure_in_processes(group, runner, allowance, label, spent_s, processes=5)
        left -= weight
    assert device.clock() - begin_s < seconds + 6  # the profiler starts in each group, after its time
    return found


@pytest.mark.long  # some eight seconds of computing
def test_every_case_of_quick_gets_its_due_verdict_on_a_card_that_settles_at_its_power_limit():
    records = {record.case: record for record in measure_suite("twin:h200", "quick", 60.0)}
    for case, record in records.items():
        is_limited = "sustained" in case and "fp32" not in case and "fp64" not in case
        assert record.verdicts == (_AT_LIMIT if is_limited else _BELOW), (case, record.verdicts)
        assert record.trusted
        assert record.conditions["gpu_sm_clock_mhz"]
        assert [each.code for each in record.warnings] == (["clock_held_by_power"] if is_limited else [])
    # What each delivers when it is measured alone for a minute, within an interval that isn't wide.
    for case, tflops in (
        ("matmul/bf16/8192x8192x8192/normal/rotating/sustained/torch", 792.5),
        ("transformer_block/bf16/1x4096x4096-forward_backward/normal/warm/sustained/torch", 609.8),
        ("transformer_block/bf16/1x4096x4096-forward/normal/warm/sustained/torch", 682.8),
        ("matmul/tf32/4096x4096x4096/normal/rotating/sustained/torch", 401.8),
    ):
        record = records[case]
        assert record.tflops_low <= tflops <= record.tflops_high
        # Digests between batches are pauses, up to 4 % of the block's time, and the interval reaches as far.
        assert record.tflops_high < 1.06 * record.tflops_low


@pytest.mark.long
@pytest.mark.parametrize("seconds", [30.0, 45.0])
def test_a_product_alone_is_seen_settled_by_each_process_that_shares_its_time(seconds):
    device = survey.open_device("twin:h200")
    case = Case(Matmul(8192, 8192, 8192, "bf16"), phase="sustained", cache="rotating")
    allowance = Allowance(seconds, 3 * seconds)
    (record,) = measure_group([case], device, Pilots(device, 1), allowance, processes=5)
    assert record.processes > 1
    assert record.verdicts == _AT_LIMIT
    assert record.tflops == pytest.approx(790, rel=0.01)


@pytest.mark.long
def test_smoke_has_the_burst_of_a_large_product_and_what_leaves_the_power_limit_alone():
    records = measure_suite("twin:h200", "smoke", 10.0)
    assert [record.verdicts for record in records] == [_BELOW, _BELOW, _BELOW, ("launch_bound",), _BELOW]
    assert records[0].phase == "burst"
    assert records[0].tflops == pytest.approx(892.6, rel=0.001)
