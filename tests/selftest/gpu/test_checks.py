"""Each check of a GPU: a healthy card passes, one with a fault fails, one that says nothing isn't told."""

from __future__ import annotations

import pytest

from gpu_seen import (
    BEGIN_S,
    IDENTITY,
    NEVER,
    make_block,
    make_context,
    make_load,
    make_product,
    make_seen,
    make_telemetry,
    reading,
)
from nameplate.base.messages import message
from nameplate.selftest.gpu.check import Outcome
from nameplate.selftest.gpu.checks import (
    check,
    check_block,
    check_context,
    check_digests,
    check_product,
    check_queue,
    check_telemetry,
)
from nameplate.selftest.gpu.driver_checks import (
    check_energy,
    check_figures,
    check_limit,
    check_ramp,
    find_limit_s,
    find_ramp_s,
    settled_clock_mhz,
)
from nameplate.selftest.gpu.seen import (
    DO_BENCH,
    EVENTS,
    GRAPH,
    HARNESS_COLD,
    WALL_CLOCK,
    WAYS,
    BlocksSeen,
    DigestsSeen,
    QueueSeen,
    Seen,
)

PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN


def test_a_healthy_card_passes_every_check():
    checks = check(make_seen())
    assert {each.name: each.outcome for each in checks if each.outcome is not PASSED} == {}
    assert [each.name for each in checks] == [
        *("context", "driver's figures", "clock ramp", "power limit", "energy", "queue"),
        *(f"product by {way}" for way in ("events", "wall clock", "graph", "do_bench")),
        *("digests", "block", "block", "telemetry's cost"),
    ]
    assert all(each.figure and each.bound and not each.why for each in checks)


def test_what_was_not_seen_cannot_be_told_and_says_why():
    empty = Seen(
        device="cuda:0",
        identity=IDENTITY,
        measured=True,
        made="now",
        unseen={"load": "no answer within 2 min"},
    )
    checks = check(empty)
    assert {each.outcome for each in checks} == {UNKNOWN}
    assert len(checks) == 6 + len(WAYS) + 3
    why = {each.name: each.why for each in checks}
    assert why["clock ramp"] == why["energy"] == "no answer within 2 min"
    assert why["queue"] == "it wasn't looked at"


# ---- context ----


@pytest.mark.parametrize("parent", [False, True])
@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ({}, "child seen by its process id"),
        ({"pids_match": False}, "1, {} processes"),
        ({"pids_match": False, "listed": False}, "MiB by the parent"),
    ],
    ids=["ids", "numbers", "memory"],
)
def test_a_context_of_the_parent_is_found_whatever_the_driver_shows(parent, ways, said):
    found = check_context(make_context(parent=parent, **ways))
    assert found.outcome is (FAILED if parent else PASSED)
    assert said.format("2, 3" if parent else "1, 2") in found.figure
    assert bool(found.why) is parent


@pytest.mark.parametrize(
    "ways",
    [
        {"child": False},  # a list on which not even the child is shows nothing of the parent
        {"pids_match": False, "listed": False, "memory": False},
        {"pids_match": False, "child": False, "memory": False},
    ],
)
def test_where_not_even_the_child_is_seen_nothing_is_told(ways):
    assert check_context(make_context(**ways)).outcome is UNKNOWN


# ---- the driver's figures ----


@pytest.mark.parametrize(
    ("figure", "of_row"),
    [
        ("sm_clock_mhz", lambda _: 2400),  # above the highest it has
        ("sm_clock_mhz", lambda _: 0),
        ("sm_clock_mhz", lambda _: 300),  # below the idle one: another card's
        ("memory_clock_mhz", lambda _: 6402),
        ("power_w", lambda _: 70.0),  # less than idle
        ("power_w", lambda _: 1400.0),
        ("power_average_w", lambda _: 0.7),  # watts for milliwatts
        ("temperature_c", lambda _: 0),
        ("temperature_c", lambda _: 255),
        ("memory_temperature_c", lambda _: 0),
        ("energy_j", lambda _: 1000.0),  # stands still
        ("energy_j", lambda after_s: 1000.0 - after_s),
        ("gpu_utilization_percent", lambda _: 3),
        ("memory_used_bytes", lambda _: 1000),
        ("memory_used_bytes", lambda _: 200 << 30),
        ("power_throttle_s", lambda after_s: 50.0 + 1000 * after_s),  # microseconds for nanoseconds
        ("power_throttle_s", lambda after_s: 50.0 - after_s),
        ("thermal_throttle_s", lambda after_s: 5 * after_s),
        # Gains without its reason: another counter's number.
        ("software_thermal_throttle_s", lambda after_s: after_s),
        ("power_brake_throttle_s", lambda after_s: 0.9 * after_s),
    ],
)
def test_a_figure_that_cannot_be_true_fails_by_its_name(figure, of_row):
    found = check_figures(make_load(column=lambda after_s: {figure: of_row(after_s)}), IDENTITY)
    assert found.outcome is FAILED
    assert f"not sensible: {figure} (" in found.why
    assert found.figure in ("13 of 14 sensible", "12 of 14 sensible")  # average power is held against power


def test_power_may_exceed_its_limit_until_that_takes_effect_and_not_for_long():
    def drawn(after_s):
        return {"power_w": 1000.0 if after_s < 0.3 else 700.0}

    assert check_figures(make_load(column=drawn), IDENTITY).outcome is PASSED
    for_long = make_load(column=lambda after_s: {"power_w": 1000.0 if after_s < 4 else 700.0})
    assert "power_w" in check_figures(for_long, IDENTITY).why


def test_a_counter_that_stands_still_while_its_reason_is_shown_fails():
    """As the old number of a renumbered field does: a setting stands there now."""
    hot = make_load(column=lambda _: {"clock_event_reasons": ("sw_thermal_slowdown",)})
    assert "software_thermal_throttle_s" in check_figures(hot, IDENTITY).why
    counts = make_load(
        column=lambda after_s: {
            "clock_event_reasons": ("sw_thermal_slowdown",),
            "software_thermal_throttle_s": after_s,
        }
    )
    assert check_figures(counts, IDENTITY).outcome is PASSED


def test_a_reason_counts_by_its_time_and_not_by_its_rows():
    """Rows come ten times as fast in the first second and a half; heat comes in the second half."""

    def hot(after_s):
        if after_s < 4.0:
            return {}
        return {"clock_event_reasons": ("hw_thermal_slowdown",), "hardware_thermal_throttle_s": after_s - 4.0}

    load = make_load(column=hot)
    fast = [each for each in make_load().rows if each.at_s < BEGIN_S + 1.5]
    crowd = [row.model_copy(update={"at_s": row.at_s + step / 100}) for row in fast for step in range(10)]
    rows = (*crowd, *(each for each in load.rows if each.at_s >= BEGIN_S + 1.5))
    assert check_figures(load.model_copy(update={"rows": rows}), IDENTITY).outcome is PASSED


def without(*names, load=None):
    load = load or make_load()
    blank = dict.fromkeys(names)
    return load.model_copy(
        update={
            "rows": tuple(each.model_copy(update=blank) for each in load.rows),
            "loaded": load.loaded.model_copy(update=blank),
        }
    )


def test_what_this_card_has_not_is_named_and_what_every_card_needs_is_missed():
    a100 = check_figures(without("power_average_w", "thermal_throttle_s"), IDENTITY)
    assert a100.outcome is PASSED
    assert a100.figure == "12 of 12 sensible; not given: power_average_w, thermal_throttle_s"
    slice_ = check_figures(without("power_w", "energy_j"), IDENTITY)
    assert slice_.outcome is UNKNOWN
    assert slice_.why == "needed and not given: power_w, energy_j"


def test_a_figure_that_the_harness_refused_fails():
    refused = message("implausible", figure="temperature_c", found=255.0, least=0.0, most=150.0)
    nonsense = reading(BEGIN_S, temperature_c=None).model_copy(update={"absent": {"temperature_c": refused}})
    found = check_figures(make_load(idle=nonsense), IDENTITY)
    assert found.outcome is FAILED
    assert "temperature_c (implausible)" in found.why


# ---- ramp, limit, energy ----


@pytest.mark.parametrize("ramp_s", [0.005, 0.02, 0.05, 0.3])
def test_the_ramp_is_read_off_the_launches(ramp_s):
    load = make_load(ramp_s=ramp_s, held_s=0.8)
    assert find_ramp_s(load) == pytest.approx(ramp_s, abs=0.012)
    found = check_ramp(load)
    assert found.outcome is PASSED
    assert found.figure.startswith("345 → 1,980 MHz; full speed after ")


def test_a_ramp_that_outlasts_the_harness_fails():
    found = check_ramp(make_load(ramp_s=1.2, held_s=NEVER))
    assert found.outcome is FAILED
    assert found.bound == "full speed within 0.500 s"


def test_a_clock_that_was_high_already_has_no_ramp():
    found = check_ramp(make_load(ramp_s=0.0, idle=reading(BEGIN_S - 0.1, sm_clock_mhz=1980)))
    assert found.outcome is PASSED
    assert "no climb: 1,980 MHz when idle" in found.figure


def test_without_a_clock_the_ramp_is_not_told():
    assert check_ramp(without("sm_clock_mhz")).outcome is UNKNOWN


def test_the_limit_is_seen_with_its_onset_and_its_clock():
    load = make_load()
    assert find_limit_s(load) == pytest.approx(0.25)
    assert settled_clock_mhz(load) == pytest.approx(1745)
    found = check_limit(load, IDENTITY)
    assert found.outcome is PASSED
    assert found.figure == "held for 100.0% of the time, from 0.250 s on; 700 of 700 W at 1,745 MHz"


def test_a_card_below_its_limit_needn_t_be_held():
    load = make_load(held_s=NEVER, drawn_w=420.0)
    found = check_limit(load, IDENTITY)
    assert found.outcome is PASSED
    assert "held for 0" in found.figure
    assert "420 of 700 W at 1,980 MHz" in found.figure


def test_a_card_at_its_limit_of_which_nobody_says_so_fails():
    found = check_limit(make_load(held_s=NEVER, drawn_w=698.0), IDENTITY)
    assert found.outcome is FAILED
    assert "didn't say" in found.why


@pytest.mark.parametrize(
    "column",
    [
        lambda _: {"power_throttle_s": 50.0},  # reasons alone
        lambda _: {"clock_event_reasons": ()},  # the counter alone
        lambda after_s: {"power_throttle_s": 50.0 + 1e-3 * after_s},
    ],
)
def test_a_counter_and_reasons_that_differ_fail(column):
    found = check_limit(make_load(column=column), IDENTITY)
    assert found.outcome is FAILED
    assert "by the counter" in found.why


def test_either_of_counter_and_reasons_is_enough():
    for name in ("power_throttle_s", "clock_event_reasons"):
        assert check_limit(without(name), IDENTITY).outcome is PASSED
    assert check_limit(without("power_throttle_s", "clock_event_reasons"), IDENTITY).outcome is UNKNOWN
    unlimited = IDENTITY.model_copy(update={"power_limit_w": None})
    assert check_limit(make_load(), unlimited).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, PASSED), (1.08, PASSED), (1.2, FAILED), (0.57, FAILED)]
)
def test_energy_by_counter_and_by_power_must_agree(factor, outcome):
    load = make_load(column=lambda after_s: {"energy_j": 1000.0 + factor * 700.0 * after_s})
    found = check_energy(load)
    assert found.outcome is outcome
    assert "J counted, 4,760 J by power" in found.figure


def test_energy_in_coarse_steps_is_compared_from_step_to_step():
    load = make_load(column=lambda after_s: {"energy_j": 1000.0 + 700.0 * (after_s // 0.8) * 0.8})
    assert check_energy(load).outcome is PASSED
    assert "-" not in check_energy(load).figure.split(":")[1]


def test_energy_of_a_short_load_or_of_none_is_not_told():
    short = make_load()
    short = short.model_copy(update={"rows": short.rows[:40], "end_s": BEGIN_S + 4.0})
    assert check_energy(short).outcome is UNKNOWN
    assert check_energy(without("energy_j")).outcome is UNKNOWN
    assert check_energy(without("power_w")).outcome is UNKNOWN


def test_a_superchip_has_no_energy_of_its_gpu_alone_and_that_is_no_failure():
    load = without("energy_j")
    module = load.loaded.model_copy(update={"absent": {"energy_j": message("energy_is_the_modules")}})
    superchip = load.model_copy(update={"loaded": module})
    assert check_energy(superchip).outcome is Outcome.LEFT_OUT
    assert check_figures(superchip, IDENTITY).outcome is PASSED
    assert check_figures(load, IDENTITY).outcome is UNKNOWN


# ---- launches ----


@pytest.mark.parametrize(
    ("depth", "kernels", "outcome"),
    [(1022, 118, PASSED), (590, 118, PASSED), (589, 118, FAILED), (1022, 250, FAILED), (None, 118, PASSED)],
)
def test_the_queue_takes_five_launches_of_the_block(depth, kernels, outcome):
    found = check_queue(QueueSeen(tried=4096, depth=depth, host_s=5e-6), kernels)
    assert found.outcome is outcome
    assert "5.00 µs of host time" in found.figure
    assert ("more than 4,096" in found.figure) is (depth is None)


def test_the_queues_bound_is_by_the_kernels_that_were_counted():
    seen = make_seen(blocks=BlocksSeen(passes=(make_block(kernels=205),)))
    queue = next(each for each in check(seen) if each.name == "queue")
    assert queue.outcome is FAILED
    assert "205 kernels" in queue.bound


# ---- turns ----


@pytest.mark.parametrize("way", [EVENTS, WALL_CLOCK, GRAPH])
@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, PASSED), (1.005, PASSED), (1.02, FAILED), (0.98, FAILED)]
)
def test_the_harness_and_another_loop_agree_within_a_hundredth(way, factor, outcome):
    seen = make_product(**{way: factor})
    assert check_product(seen, way).outcome is outcome
    assert all(check_product(seen, other).outcome is PASSED for other in WAYS if other != way)


def test_do_bench_is_compared_with_flushed_launches():
    """With warm ones it differs by what emptying the caches changes, and would fail."""
    assert check_product(make_product(), DO_BENCH).outcome is PASSED
    assert check_product(make_product(**{HARNESS_COLD: 1.0}), DO_BENCH).outcome is FAILED


def test_an_interval_that_holds_the_bound_is_not_told():
    noisy = check_product(make_product(noise=0.03, rounds=10), EVENTS)
    assert noisy.outcome is UNKNOWN
    assert "too few rounds" in noisy.why
    few = check_product(make_product(rounds=4), EVENTS)
    assert few.outcome is UNKNOWN
    assert "fewer than 5 rounds" in few.why


def test_a_way_that_was_left_out_is_neither_passed_nor_failed():
    seen = make_product(left_out={DO_BENCH: "Triton isn't installed"})
    found = check_product(seen, DO_BENCH)
    assert (found.outcome, found.why) == (Outcome.LEFT_OUT, "Triton isn't installed")


@pytest.mark.parametrize(
    ("cost", "outcome"), [(0.0, PASSED), (0.001, PASSED), (0.0035, FAILED), (-0.001, PASSED)]
)
def test_telemetry_costs_less_than_two_thousandths(cost, outcome):
    found = check_telemetry(make_telemetry(cost))
    assert found.outcome is outcome
    assert "at 10.0 rows a second" in found.figure


def test_telemetry_that_gave_nothing_or_too_noisy_turns_are_not_told():
    assert check_telemetry(make_telemetry(rows_per_s=0.0)).outcome is UNKNOWN
    assert check_telemetry(make_telemetry(rows_per_s=None)).outcome is UNKNOWN
    assert check_telemetry(make_telemetry(noise=0.01)).outcome is UNKNOWN
    assert check_telemetry(make_telemetry(rounds=3)).outcome is UNKNOWN


# ---- results ----


def test_one_launch_with_other_bits_fails_by_the_products_name():
    seen = DigestsSeen(digests={"bf16 8x8x8": {"00": 60}, "fp64 8x8x8": {"00": 59, "01": 1}})
    found = check_digests(seen)
    assert found.outcome is FAILED
    assert found.figure == "120 launches of 2 products, 1 differ"
    assert found.why == "several digests: fp64 8x8x8"
    assert check_digests(DigestsSeen(digests={"bf16 8x8x8": {}})).outcome is UNKNOWN
    assert check_digests(DigestsSeen(digests={})).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, PASSED),
        ({"error": 1.5, "passed": False}, FAILED),
        ({"error": None, "passed": False}, FAILED),
        ({"kernels": 0}, UNKNOWN),
    ],
)
def test_the_block_must_be_right_and_its_kernels_counted(changes, outcome):
    found = check_block(make_block(**changes))
    assert found.outcome is outcome
    assert "1x4096x4096-forward_backward" in found.figure
