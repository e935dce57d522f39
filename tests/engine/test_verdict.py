"""What went on around a window, and each rule of the verdict on both sides of its threshold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nameplate.device.protocol import Counters
from nameplate.engine.conditions import Conditions, GpuConditions, conditions_between
from nameplate.engine.thresholds import Thresholds, thresholds
from nameplate.engine.verdict import Observation, judge
from nameplate.stats.interval import Interval
from nameplate.telemetry.gpu import GpuReading, subtract_readings
from nameplate_kernels.workload import CheckResult

# Fractions that a float holds exactly, so that "at the threshold" is meant literally.
LIMITS = Thresholds.model_validate(
    {
        "above_peak": {"margin": 0.25},
        "contended": {
            "foreign_share": 0.125,
            "steal_share": 0.0625,
            "parallel_share": 0.75,
            "foreign_memory_gib": 2.0,
            "idle_utilization": 0.0625,
        },
        "launch_bound": {"enqueue_share": 0.75, "graph_share": 0.875},
        "power_capped": {"share": 0.25, "reasons": ["sw_power_cap"]},
        "throttled": {
            "share": 0.125,
            "reasons": ["hw_thermal_slowdown"],
            "lasting_reasons": ["hw_slowdown"],
        },
        "unstable": {"half_width": 0.125, "drift": 0.25, "levels": 0.125},
    }
)
IDLE = Conditions(2.0, own_share=0.99, foreign_share=0.0, steal_share=0.0, resolution=0.0)
CLEAN = Observation(
    kind="cpu",
    check=CheckResult("fp64", 0.5, "rounding"),
    time_s=Interval(1.0, 1.0, 1.0),
    middle_s=np.arange(20.0),
    launch_s=np.ones(20),
    samples_s=(),
    peak_efficiency=Interval(0.8, 0.8, 0.8),
    conditions=IDLE,
    enqueue_share=None,
)


def above(value):
    return math.nextafter(value, math.inf)


def below(value):
    return math.nextafter(value, -math.inf)


def verdicts(**changes):
    return judge(replace(CLEAN, **changes), LIMITS)


def efficiency(low):
    return {"peak_efficiency": Interval(low + 1, low, low + 2)}


def around(**changes):
    return {"conditions": replace(IDLE, **changes)}


def half_width(relative):
    return {"time_s": Interval(1.0, 1 - relative, 1 + relative)}


def drift(change):
    """Batches along a straight line that changes by so much of their mean over the window, which reaches half
    a batch beyond the first and the last.
    """
    return {"launch_s": 1 + change * (np.arange(20) - 9.5) / 20}


def levels(apart):
    """Batches that dwell at two levels so far apart; no line goes through that."""
    return {"launch_s": 1 + apart / 2 * np.repeat([1, -1, -1, 1], 5)}


def test_nothing_wrong_is_clean():
    assert judge(CLEAN, LIMITS) == ("clean",)
    assert judge(CLEAN) == ("clean",)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"check": CheckResult("fp64", 1.0, "")}, "clean"),
        ({"check": CheckResult("fp64", above(1.0), "")}, "unverified"),
        ({"check": CheckResult("fp64", math.inf, "")}, "unverified"),
        ({"check": CheckResult("fp64", math.nan, "")}, "unverified"),
        ({"check": None}, "unverified"),
        (efficiency(below(1.25)), "clean"),
        (efficiency(1.25), "clean"),
        (efficiency(above(1.25)), "above_peak"),
        ({"peak_efficiency": None}, "clean"),
        ({"enqueue_share": below(0.75)}, "clean"),
        ({"enqueue_share": 0.75}, "launch_bound"),
        ({"enqueue_share": above(0.75)}, "launch_bound"),
        (around(foreign_share=below(0.125)), "clean"),
        (around(foreign_share=0.125), "clean"),
        (around(foreign_share=above(0.125)), "contended"),
        (around(steal_share=below(0.0625)), "clean"),
        (around(parallel_share=0.75), "clean"),
        (around(parallel_share=below(0.75)), "contended"),
        (around(parallel_share=None), "clean"),  # one core, or no probe: the counters decide
        (around(steal_share=0.0625), "clean"),
        (around(steal_share=above(0.0625)), "contended"),
        (half_width(0.12), "clean"),
        (half_width(0.125), "clean"),
        (half_width(0.13), "unstable"),
        ({"graph_share": None}, "clean"),
        ({"graph_share": above(0.875)}, "clean"),
        ({"graph_share": 0.875}, "clean"),
        ({"graph_share": below(0.875)}, "launch_bound"),
        ({"changed_batch": None}, "clean"),
        ({"changed_batch": 7}, "unverified"),
        ({"is_settled": None}, "unknown"),
        ({"is_settled": True}, "clean"),
        ({"is_settled": False}, "unstable"),
        (drift(0.24), "clean"),
        (drift(0.26), "unstable"),
        (drift(-0.24), "clean"),
        (drift(-0.26), "unstable"),
        (levels(0.12), "clean"),
        (levels(0.13), "unstable"),
    ],
)
def test_each_rule_at_its_threshold(changes, verdict):
    assert verdicts(**changes) == (verdict,)


def test_an_efficiency_whose_interval_reaches_the_peak_is_not_above_it():
    assert verdicts(peak_efficiency=Interval(1.5, 1.1, 1.9)) == ("clean",)


def test_a_drift_within_the_noise_is_not_significant():
    noise = np.random.default_rng(1).standard_normal(20)
    assert verdicts(**drift(0.4)) == ("unstable",)
    assert verdicts(launch_s=drift(0.4)["launch_s"] + 0.01 * noise) == ("unstable",)
    assert verdicts(launch_s=drift(0.4)["launch_s"] + 0.3 * noise) == ("clean",)


def test_a_clock_that_swings_with_a_period_is_no_chance_and_one_that_switches_is():
    at_s = np.arange(0, 45, 0.5)
    swinging = 1 + 0.15 * np.sin(2 * np.pi * at_s / 3.7)
    switching = 1 + 0.15 * np.sign(np.sin(np.cumsum(np.random.default_rng(5).uniform(0, 0.8, at_s.size))))
    reading = GpuReading(uuid="GPU-1", at_s=0.0)
    limited = GpuConditions(reading, reading, subtract_readings(reading, reading))
    gpu = {"middle_s": at_s, "conditions": replace(IDLE, gpu=limited)}
    assert "unstable" not in verdicts(launch_s=swinging, **gpu)
    assert "unstable" in verdicts(launch_s=switching, **gpu)
    # Only a clock at its power limit is known to swing so: of another device two levels are two levels.
    assert verdicts(middle_s=at_s, launch_s=swinging) == ("unstable",)


def test_a_corruption_counts_where_the_check_passes_and_a_wrong_result_where_the_bits_agree():
    passed, wrong = CheckResult("fp64", 0.5, ""), CheckResult("fp64", 2.0, "")
    assert verdicts(check=passed, changed_batch=1) == ("unverified",)
    assert verdicts(check=wrong, changed_batch=None) == ("unverified",)


def test_a_graph_can_show_launch_bound_where_the_enqueue_share_does_not():
    # A part of the host's work lies behind the call that enqueues; without it the launches are faster.
    assert verdicts(enqueue_share=0.4, graph_share=0.5) == ("launch_bound",)
    assert verdicts(enqueue_share=0.4, graph_share=1.02) == ("clean",)


def test_a_graph_that_is_no_faster_shows_that_a_busy_host_held_nothing_up():
    assert verdicts(enqueue_share=0.8, graph_share=1.0) == ("clean",)
    assert verdicts(enqueue_share=1.0, graph_share=1.0) == ("clean",)


def test_one_counting_step_is_not_load():
    assert verdicts(**around(foreign_share=0.1875, resolution=0.0625)) == ("clean",)
    assert verdicts(**around(foreign_share=above(0.1875), resolution=0.0625)) == ("contended",)
    assert verdicts(**around(steal_share=0.125, resolution=0.0625)) == ("clean",)
    assert verdicts(**around(steal_share=above(0.125), resolution=0.0625)) == ("contended",)


def test_a_window_too_short_for_the_counters_is_unknown_unless_load_is_clear():
    assert verdicts(**around(resolution=0.0625)) == ("clean",)
    assert verdicts(**around(resolution=above(0.0625))) == ("unknown",)
    assert verdicts(**around(resolution=0.5, foreign_share=0.9)) == ("contended",)


@pytest.mark.parametrize(
    "changes",
    [
        around(foreign_share=None),
        around(steal_share=None),
        around(resolution=None),
        {"conditions": Conditions(2.0)},
        {"kind": "cuda"},
    ],
)
def test_missing_evidence_is_unknown_and_never_clean(changes):
    assert verdicts(**changes) == ("unknown",)


def test_several_verdicts_are_listed_gravest_first():
    everything = {
        "check": None,
        **efficiency(2.0),
        "enqueue_share": 1.0,
        **around(foreign_share=0.5),
        **drift(0.5),
    }
    expected = ("unverified", "above_peak", "launch_bound", "contended", "unstable")
    assert verdicts(**everything) == expected
    # The host's cores aren't what a GPU shares; whom it shares itself with wasn't read here.
    assert verdicts(**everything, kind="cuda") == (
        *(verdict for verdict in expected if verdict != "contended"),
        "unknown",
    )


def test_unknown_and_a_fault_are_both_listed():
    assert verdicts(kind="cuda", enqueue_share=0.9) == ("launch_bound", "unknown")


def test_the_shipped_thresholds_can_be_passed_and_missed():
    shipped = thresholds()
    assert 0 < shipped.above_peak.margin < 0.1
    assert 0 < shipped.contended.steal_share <= shipped.contended.foreign_share < 0.5
    assert 0.5 < shipped.launch_bound.enqueue_share < 1
    assert 0.5 < shipped.launch_bound.graph_share < 1
    assert 0 < shipped.throttled.share <= shipped.power_capped.share < 0.5
    assert 0 < shipped.unstable.half_width < 0.5
    assert 0 < shipped.unstable.drift < 0.5
    assert 0 < shipped.unstable.levels < 0.5


def shipped_rules():
    """Each rule of verdicts.toml that a CPU's window can break, its threshold, and which way is worse."""
    now = thresholds()
    return [
        ("above_peak", efficiency, 1 + now.above_peak.margin, +1),
        ("contended", lambda share: around(foreign_share=share), now.contended.foreign_share, +1),
        ("contended", lambda share: around(steal_share=share), now.contended.steal_share, +1),
        ("contended", lambda share: around(parallel_share=share), now.contended.parallel_share, -1),
        ("launch_bound", lambda share: {"enqueue_share": share}, now.launch_bound.enqueue_share, +1),
        ("launch_bound", lambda share: {"graph_share": share}, now.launch_bound.graph_share, -1),
        ("unstable", half_width, now.unstable.half_width, +1),
        ("unstable", drift, now.unstable.drift, +1),
        ("unstable", levels, now.unstable.levels, +1),
    ]


@pytest.mark.parametrize(("verdict", "changes", "limit", "worse"), shipped_rules())
def test_each_shipped_threshold_is_the_one_that_judges(verdict, changes, limit, worse):
    assert judge(replace(CLEAN, **changes(limit - worse * 0.001))) == ("clean",)
    assert judge(replace(CLEAN, **changes(limit + worse * 0.001))) == (verdict,)


def test_an_unused_threshold_is_refused():
    given = thresholds().model_dump() | {"overheated": {"share": 0.1}}
    with pytest.raises(ValueError, match="overheated"):
        Thresholds.model_validate(given)


def test_shares_are_of_the_cores_that_may_be_used():
    before = Counters(10.0, process_cpu_s=1.0, busy_cpu_s=100.0, steal_s=3.0, tick_s=0.01)
    after = Counters(14.0, process_cpu_s=8.0, busy_cpu_s=108.0, steal_s=3.4, tick_s=0.01)
    now = conditions_between(before, after, cores=2.0)
    assert now.elapsed_s == 4.0
    assert now.own_share == pytest.approx(7 / 8)
    assert now.foreign_share == pytest.approx(1 / 8)
    assert now.steal_share == pytest.approx(0.4 / 8)
    assert now.resolution == pytest.approx(2 * 0.01 / 4)  # a step at either end, on each core


def test_shares_of_half_a_core():
    before, after = (Counters(t, t / 2, t, 0.0, 0.01) for t in (0.0, 1.0))
    now = conditions_between(before, after, cores=0.5)
    assert (now.own_share, now.foreign_share) == (1.0, 1.0)


def test_own_time_ahead_of_the_kernels_ticks_is_not_negative_load():
    now = conditions_between(Counters(0.0, 0.0, 0.0, 0.0, 0.01), Counters(1.0, 1.0, 0.99, 0.0, 0.01), 1.0)
    assert now.foreign_share == 0.0


@pytest.mark.parametrize(
    ("lost", "unknown"),
    [
        ("process_cpu_s", {"own_share", "foreign_share"}),
        ("busy_cpu_s", {"foreign_share"}),
        ("steal_s", {"steal_share"}),
        ("tick_s", {"resolution"}),
    ],
)
def test_figures_that_the_system_does_not_count_are_unknown(lost, unknown):
    before, after = (replace(Counters(t, t, t, t, 0.01), **{lost: None}) for t in (0.0, 1.0))
    now = conditions_between(before, after, 1.0)
    shares = ("own_share", "foreign_share", "steal_share", "resolution")
    assert {share for share in shares if getattr(now, share) is None} == unknown


@pytest.mark.parametrize("passed", [0.0, -1.0])
def test_a_window_of_no_time_has_no_shares(passed):
    now = conditions_between(
        Counters(5.0, 1.0, 1.0, 1.0, 0.01), Counters(5.0 + passed, 2.0, 2.0, 2.0, 0.01), 1.0
    )
    assert now == Conditions(passed)


def test_conditions_by_name_are_what_a_record_holds(make_record):
    columns = Conditions(2.0, 0.9, None, 0.01, 0.005).as_columns()
    record = make_record(conditions=columns)
    assert record.conditions["own_cpu_share"] == 0.9
    assert record.conditions["foreign_cpu_share"] is None
