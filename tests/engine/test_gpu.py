"""A GPU's window: what two readings of its driver make of conditions, verdicts, warnings and energy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nameplate.base.messages import message
from nameplate.device.protocol import Counters, Timing
from nameplate.device.simulated import SimulatedDevice
from nameplate.engine.conditions import add_idle_readings, add_telemetry, conditions_between
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.engine.record_of import SHORTEST_ENERGY_S, energy_columns
from nameplate.engine.thresholds import Thresholds, thresholds
from nameplate.engine.verdict import Observation, judge
from nameplate.engine.warnings import gpu_warnings
from nameplate.engine.window import TimedBatch, Window
from nameplate.stats.interval import Interval
from nameplate.suite import Case
from nameplate.telemetry.gpu import POLICIES, GpuProcess, GpuReading
from nameplate_kernels.workload import CheckResult
from stand_ins import Work

LIMITS = thresholds().model_dump() | {
    "power_capped": {"share": 0.25, "reasons": ["sw_power_cap"]},
    "throttled": {
        "share": 0.125,
        "reasons": ["hw_thermal_slowdown", "hw_power_brake_slowdown"],
        "lasting_reasons": ["hw_slowdown"],
    },
}
UUID = "GPU-a8000000-0000-4000-8000-000000000000"
SECONDS = 8.0
IDLE = {
    **{f"{policy}_throttle_s": 100.0 for policy in POLICIES},
    "sm_clock_mhz": 1410,
    "memory_clock_mhz": 1593,
    "temperature_c": 34,
    "power_w": 61.5,
    "energy_j": 5000.0,
    "clock_event_reasons": ("gpu_idle",),
    "ecc_uncorrected": 7,
    "pcie_replays": 0,
    "processes": (),
    "pids_match": True,
}
NOT_COUNTED = dict.fromkeys((f"{policy}_throttle_s" for policy in POLICIES), None)
APART = ("software_thermal", "hardware_thermal", "power_brake")


def reading(at_s, **changes):
    return GpuReading(uuid=UUID, at_s=at_s, **{**IDLE, **changes})


def window(before=None, after=None, seconds=SECONDS):
    first = reading(10.0, **(before or {}))
    second = reading(10.0 + seconds, **{"energy_j": 5000.0 + 300 * seconds, **(after or {})})
    return conditions_between(Counters(10.0, gpu=first), Counters(10.0 + seconds, gpu=second), 1.0)


def held(policy, share, seconds=SECONDS):
    return {f"{policy}_throttle_s": 100.0 + share * seconds}


def verdicts(conditions, **changes):
    seen = Observation(
        kind="cuda",
        check=CheckResult("fp64", 0.5, "rounding"),
        time_s=Interval(1.0, 1.0, 1.0),
        middle_s=np.arange(20.0),
        launch_s=np.ones(20),
        samples_s=(),
        peak_efficiency=Interval(0.8, 0.8, 0.8),
        conditions=conditions,
        enqueue_share=0.1,
    )
    return judge(replace(seen, **changes), Thresholds.model_validate(LIMITS))


# ---- conditions ----


def test_conditions_follow_from_two_readings(make_record):
    now = window(after={"sm_clock_mhz": 1200, "temperature_c": 71, "power_w": 390.0, **held("power", 0.5)})
    columns = now.as_columns()
    expected = {
        "elapsed_s": 8.0,
        "own_cpu_share": None,
        "gpu_sm_clock_before_mhz": 1410,
        "gpu_sm_clock_after_mhz": 1200,
        "gpu_temperature_before_c": 34,
        "gpu_temperature_after_c": 71,
        "gpu_power_after_w": 390.0,
        "gpu_throttle_reasons": "none",
        "gpu_power_throttle_s": 4.0,
        "gpu_thermal_throttle_s": 0.0,
        "gpu_other_processes": 0,
        "gpu_ecc_errors": 0,
    }
    assert {name: columns[name] for name in expected} == expected
    assert make_record(conditions=columns).conditions["gpu_power_throttle_s"] == 4.0
    others = [name for name in columns if not name.startswith(("gpu_", "cpu_"))]
    assert others == ["elapsed_s", "own_cpu_share", "foreign_cpu_share", "steal_share", "parallel_share"]


def test_a_cpu_has_no_gpu_columns():
    columns = conditions_between(Counters(0.0), Counters(1.0), 1.0).as_columns()
    assert not [name for name in columns if name.startswith("gpu_")]


def test_reasons_of_both_ends_are_kept():
    now = window(
        before={"clock_event_reasons": ("sw_power_cap",)},
        after={"clock_event_reasons": ("gpu_idle", "hw_slowdown", "unknown_0x800")},
    )
    assert now.as_columns()["gpu_throttle_reasons"] == "sw_power_cap hw_slowdown unknown_0x800"


def test_a_reading_without_figures_leaves_nulls_and_never_zeros():
    lost = GpuReading.without_figures(UUID, "NVML gave no answer within 2 s", 18.0)
    now = conditions_between(Counters(10.0, gpu=reading(10.0)), Counters(18.0, gpu=lost), 1.0)
    columns = {name: value for name, value in now.as_columns().items() if name.startswith("gpu_")}
    known = {name for name, value in columns.items() if value is not None}
    assert known == {name for name in columns if "before" in name}
    assert verdicts(now) == ("unknown",)


# ---- verdicts ----


def test_a_gpu_of_its_own_at_its_own_clock_is_clean():
    assert verdicts(window()) == ("clean",)


@pytest.mark.parametrize(
    ("policy", "limit", "expected"),
    [("power", 0.25, "power_capped"), *((policy, 0.125, "throttled") for policy in ("thermal", *APART))],
)
def test_the_power_limit_caps_and_heat_or_a_brake_throttles_beyond_their_thresholds(policy, limit, expected):
    assert verdicts(window(after=held(policy, math.nextafter(limit, 0)))) == ("clean",)
    assert verdicts(window(after=held(policy, limit))) == ("clean",)
    assert verdicts(window(after=held(policy, limit + 0.001))) == (expected,)


def test_a_hot_card_at_its_power_limit_is_throttled_too():
    assert verdicts(window(after={**held("power", 0.5), **held("thermal", 0.5)})) == (
        "throttled",
        "power_capped",
    )


def test_throttling_before_the_window_does_not_count():
    assert verdicts(window(before={"thermal_throttle_s": 0.0}, after={"thermal_throttle_s": 0.5})) == (
        "clean",
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), ("hw_thermal_slowdown",), "throttled"),
        (("hw_power_brake_slowdown",), (), "throttled"),
        ((), ("hw_slowdown",), "clean"),  # "may be also reported during PState or clock change"
        (("hw_slowdown",), ("hw_slowdown",), "throttled"),
        ((), ("sw_power_cap",), "clean"),  # its time was counted, and is short
        (("applications_clocks_setting",), ("gpu_idle", "reliability"), "clean"),
    ],
)
def test_reasons_active_while_nothing_runs(before, after, expected):
    now = window({"clock_event_reasons": before}, {"clock_event_reasons": after})
    assert verdicts(now) == (expected,)


@pytest.mark.parametrize(
    ("absent", "after", "expected"),
    [
        (NOT_COUNTED, {}, "unknown"),
        ({"power_throttle_s": None}, {}, "clean"),  # capped or not, it counts
        ({"thermal_throttle_s": None}, {}, "clean"),  # counted apart
        ({"thermal_throttle_s": None, "hardware_thermal_throttle_s": None}, {}, "unknown"),
        (dict.fromkeys((f"{policy}_throttle_s" for policy in APART), None), {}, "clean"),  # counted in one
        (NOT_COUNTED, {"clock_event_reasons": ("hw_thermal_slowdown",)}, "throttled"),
        ({"power_throttle_s": None}, {"clock_event_reasons": ("sw_power_cap",)}, "power_capped"),
        ({**NOT_COUNTED, "clock_event_reasons": None}, {}, "unknown"),
        ({"power_throttle_s": None}, held("thermal", 0.5), "throttled"),
    ],
)
def test_missing_counters_are_unknown_unless_the_reasons_are_clear(absent, after, expected):
    assert verdicts(window(absent, {**absent, **after})) == (expected,)


def test_a_burst_whose_power_limit_was_not_counted_is_unknown():
    unread = {"power_throttle_s": None}
    assert verdicts(window(unread, unread), is_burst=True) == ("unknown",)
    assert verdicts(window(), is_burst=True) == ("clean",)


def test_a_counter_that_gains_more_than_the_time_is_ignored():
    assert verdicts(window(after={"power_throttle_s": 1e6}), is_burst=True) == ("unknown",)
    assert verdicts(window(after={"thermal_throttle_s": 1e6})) == ("clean",)  # the others tell
    assert verdicts(window(after=dict.fromkeys(NOT_COUNTED, 1e6))) == ("unknown",)


@pytest.mark.parametrize(
    ("ends", "others", "expected"),
    [
        ({"processes": (GpuProcess(pid=4242),)}, 1, "contended"),
        ({"processes": (), "pids_match": False}, None, "unknown"),  # all are hidden, and nothing else tells
        ({"processes": (GpuProcess(pid=1),), "pids_match": False}, None, "clean"),  # as many as our own
        ({"processes": (GpuProcess(pid=1), GpuProcess(pid=2)), "pids_match": False}, 2, "contended"),
        ({"processes": (), "pids_match": False, "own_processes_seen": 1}, 0, "clean"),
        ({"processes": None}, None, "unknown"),
    ],
)
def test_another_process_on_the_gpu(ends, others, expected):
    now = window(ends, ends)
    assert now.gpu.count_other_processes() == others
    assert verdicts(now) == (expected,)


GIB = 2**30
IN_A_CONTAINER = {"processes": (), "pids_match": False, "own_memory_bytes": 4 * GIB}


def in_a_container(held_gib=None, busy_percent=None, **changes):
    """A window in which the driver's process ids aren't ours and its list is empty."""
    used = None if held_gib is None else round((4 + held_gib) * GIB)
    ends = IN_A_CONTAINER | {"memory_used_bytes": used} | changes
    now = window(ends, ends)
    return add_idle_readings(now, [reading(20.0, **(ends | {"gpu_utilization_percent": busy_percent}))])


@pytest.mark.parametrize(
    ("held_gib", "busy_percent", "expected"),
    [
        (0.6, 0, "clean"),
        (2.0, 5, "clean"),
        (2.1, 0, "contended"),
        (0.6, 6, "contended"),
        (2.1, None, "contended"),
        (None, 6, "contended"),
        (0.6, None, "clean"),
        (None, 0, "clean"),
        (None, None, "unknown"),
    ],
)
def test_in_a_container_company_shows_by_memory_and_by_utilization_while_idle(
    held_gib, busy_percent, expected
):
    now = in_a_container(held_gib, busy_percent)
    assert verdicts(now) == (expected,)
    columns = now.as_columns()
    assert columns["gpu_foreign_memory_gib"] == pytest.approx(held_gib)
    assert columns["gpu_idle_utilization"] == (None if busy_percent is None else busy_percent / 100)
    (said,) = map(str, gpu_warnings(now.gpu))  # what isn't known is a warning
    assert {"clean": "other processes were looked for by", "unknown": "can't be detected"}.get(
        expected, "or wait"
    ) in said


def test_more_processes_than_our_own_are_company_whatever_their_ids():
    listed = (GpuProcess(pid=40001), GpuProcess(pid=40002))
    assert verdicts(in_a_container(0.6, 0, processes=listed)) == ("contended",)
    assert verdicts(in_a_container(0.6, 0, processes=listed, own_processes=2)) == ("clean",)
    one = in_a_container(0.6, 0, processes=listed[:1])
    assert verdicts(one) == ("clean",)
    assert "the number of processes" in str(*gpu_warnings(one.gpu))


def test_memory_of_a_neighbour_at_one_end_is_enough():
    now = window(
        IN_A_CONTAINER | {"memory_used_bytes": 5 * GIB}, IN_A_CONTAINER | {"memory_used_bytes": 25 * GIB}
    )
    assert verdicts(now) == ("contended",)
    assert "21.0 GiB of the GPU's memory are in use beyond this run's own" in str(*gpu_warnings(now.gpu))


def test_another_process_at_one_end_only_counts():
    assert verdicts(window(after={"processes": (GpuProcess(pid=4242),)})) == ("contended",)


@pytest.mark.parametrize(
    ("faults", "verdict", "said"),
    [
        (
            {"xid_errors": (31, 79)},
            "unverified",
            "Xid 31, 79 of this GPU during the window: the result",
        ),
        ({"xid_errors": (31,)}, "clean", "Xid 31 of this GPU during the window, an error of a program"),
        ({"remapped_rows_correctable": 1}, "clean", "remapped during the window (1)"),
        ({"nvlink_recoveries": 2}, "clean", "NVLink had 2 recoveries"),
    ],
)
def test_faults_during_the_window_are_recorded_and_named(faults, verdict, said):
    none = {"xid_errors": (), "nvlink_recoveries": 0, "nvlink_replays": 0, "nvlink_crc_errors": 0}
    rows = {"remapped_rows_correctable": 0, "remapped_rows_uncorrectable": 4}
    assert list(gpu_warnings(window(before=none | rows, after=none | rows).gpu)) == []
    now = window(before=none | rows, after=none | rows | faults)
    assert verdicts(now) == (verdict,)
    (warning,) = gpu_warnings(now.gpu)
    assert said in str(warning)
    columns = now.as_columns()
    shown = {name: columns[f"gpu_{name}"] for name in ("xid_errors", "remapped_rows", "nvlink_recoveries")}
    assert shown == {
        "xid_errors": " ".join(map(str, faults.get("xid_errors", ()))) or "none",
        "remapped_rows": faults.get("remapped_rows_correctable", 0),
        "nvlink_recoveries": faults.get("nvlink_recoveries", 0),
    }


def test_a_slice_that_was_held_down_is_told_that_it_may_have_been_another():
    heat = window(after=held("thermal", 0.5))
    said = " ".join(map(str, gpu_warnings(heat.gpu, is_slice=True)))
    assert "a MIG slice shares its card's clock and throttle counters" in said
    assert "MIG" not in " ".join(map(str, gpu_warnings(heat.gpu)))
    assert "MIG" not in " ".join(map(str, gpu_warnings(window().gpu, is_slice=True)))


def test_memory_errors_make_a_result_unverified():
    assert verdicts(window(after={"ecc_uncorrected": 8})) == ("unverified",)
    assert verdicts(window({"ecc_uncorrected": None}, {"ecc_uncorrected": None})) == ("clean",)


def test_a_window_in_which_every_clock_was_nonsense_is_unknown():
    def rows(clock_mhz, why):
        ticks = np.arange(10.0, 18.05, 0.1)
        return [
            Counters(at_s, gpu=reading(at_s, sm_clock_mhz=clock_mhz, absent={} if why is None else why))
            for at_s in ticks
        ]

    why = message("implausible", figure="sm_clock_mhz", found=4294967295, least=1, most=1440)
    lacking = {"sm_clock_mhz": "NVML_ERROR_NOT_SUPPORTED: nvmlDeviceGetClock"}
    spans = [(10.5, 17.5)]
    assert verdicts(add_telemetry(window(), rows(1410, None), spans)) == ("clean",)
    assert verdicts(add_telemetry(window(), rows(None, {"sm_clock_mhz": why}), spans)) == ("unknown",)
    assert verdicts(add_telemetry(window(), rows(None, lacking), spans)) == ("clean",)  # no nonsense


def test_the_shipped_thresholds_name_reasons_that_exist():
    shipped = thresholds().throttled
    assert thresholds().power_capped.reasons == {"sw_power_cap"}
    assert shipped.reasons == {"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
    assert shipped.lasting_reasons == {"hw_slowdown"}


# ---- warnings ----


def test_an_idle_window_has_no_warnings():
    assert list(gpu_warnings(window().gpu)) == []
    assert list(gpu_warnings(None)) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"ecc_uncorrected": 9}, ["2 uncorrectable memory errors", "nvidia-smi -q -d ECC"]),
        ({}, {"processes": (GpuProcess(pid=77),)}, ["1 other process used the GPU", "end it, or wait"]),
        ({}, held("power", 0.5), ["power limit for 50.0% of the window", "normal for sustained work"]),
        ({}, held("power_brake", 0.25), ["25.0% of the window (power brake)", "power supplies"]),
        ({"pids_match": False}, {"pids_match": False}, ["can't be detected", "--pid=host"]),
        (
            {"processes": None, "absent": {"processes": "function not found in this driver: x"}},
            {"processes": None},
            ["other processes on the GPU can't be detected", "function not found in this driver: x"],
        ),
        (
            {"power_throttle_s": None, "absent": {"power_throttle_s": "NVML_ERROR_NOT_SUPPORTED: field 74"}},
            {},
            ["throttling (power) wasn't counted", "field 74"],
        ),
    ],
)
def test_a_warning_has_a_number_or_reason_and_a_next_step(before, after, words):
    (said,) = map(str, gpu_warnings(window(before, after).gpu))
    for word in words:
        assert word in said


def test_an_absent_nvml_is_said_once():
    lost = GpuReading.without_figures(UUID, "NVML gave no answer within 2 s", 10.0)
    now = conditions_between(Counters(10.0, gpu=lost), Counters(18.0, gpu=lost), 1.0)
    assert tuple(map(str, gpu_warnings(now.gpu))) == (
        "throttling and other processes can't be judged: NVML gave no answer within 2 s",
    )


# ---- energy ----

NO_ENERGY = {"energy_j": None, "power_w": None, "energy_integrated_j": None, "energy_method": None}


def batches(*spans):
    """A window of one batch for each pair of begin and end."""
    timings = [Timing(begin, np.asarray([end - begin]), 1, end) for begin, end in spans]
    return Window([TimedBatch(number, timing, None) for number, timing in enumerate(timings)], 0.0)


def drawing(watts=300.0, told=300.0, first_s=0.0, last_s=40.0):
    """Rows ten times a second of a GPU that draws `watts` by its counter and `told` by its power readings."""
    ticks = np.arange(first_s, last_s + 0.05, 0.1)
    counted = [{} if watts is None else {"energy_j": 5000.0 + watts * at_s} for at_s in ticks]
    changes = [{"energy_j": None, "power_w": told, **each} for each in counted]
    return [Counters(at_s, gpu=reading(at_s, **each)) for at_s, each in zip(ticks, changes, strict=True)]


def spent(spans, rows):
    conditions = conditions_between(Counters(0.0, gpu=reading(0.0)), Counters(40.0, gpu=reading(40.0)), 1.0)
    return energy_columns(add_telemetry(conditions, rows, spans), batches(*spans))


def test_energy_is_by_counter_with_the_integrated_power_readings_as_a_second_figure():
    found = spent([(1.0, 4.0), (10.0, 13.0)], drawing())
    assert found == {
        "energy_j": pytest.approx(1800),
        "power_w": pytest.approx(300),
        "energy_integrated_j": pytest.approx(1800),
        "energy_method": "counter",
    }


@pytest.mark.parametrize("seconds", [SHORTEST_ENERGY_S - 0.01, 0.8])
def test_short_windows_have_no_energy(seconds):
    assert spent([(1.0, 1.0 + seconds)], drawing()) == NO_ENERGY
    assert spent([(1.0, 1.0 + SHORTEST_ENERGY_S)], drawing())["energy_j"] == pytest.approx(1500)


def test_batches_too_short_for_readings_ten_times_a_second_have_no_energy_however_many():
    turns = [(float(second), second + 0.4) for second in range(1, 31)]
    assert spent(turns, drawing()) == NO_ENERGY
    unbroken = [(1 + 0.4 * number, 1 + 0.4 * number + 0.4) for number in range(30)]
    assert spent(unbroken, drawing())["energy_j"] == pytest.approx(12 * 300)


def test_without_a_counter_energy_is_from_power_readings():
    found = spent([(1.0, 11.0)], drawing(watts=None, told=250.0))
    assert (found["energy_j"], found["power_w"]) == (pytest.approx(2500), pytest.approx(250))
    assert found["energy_method"] == "power readings"


def test_without_counter_and_readings_there_is_no_energy():
    assert spent([(1.0, 11.0)], drawing(watts=None, told=None)) == NO_ENERGY
    assert spent([(1.0, 11.0)], []) == NO_ENERGY


def test_cpu_packages_have_a_counter_and_no_power_readings():
    rows = [Counters(at_s / 10, energy_j=9.0 * at_s) for at_s in range(401)]
    conditions = add_telemetry(conditions_between(rows[0], rows[-1], 2.0), rows, [(1.0, 11.0)])
    assert energy_columns(conditions, batches((1.0, 11.0))) == {
        "energy_j": pytest.approx(900),
        "power_w": pytest.approx(90),
        "energy_integrated_j": None,
        "energy_method": "counter",
    }


# ---- through the engine ----


@dataclass
class Gpu(SimulatedDevice):
    """A simulated device with a driver of its own: 300 W (by its readings `told_w`), and a power limit that
    holds it for `capped` of the time; what it doesn't count is `absent`.
    """

    kind: str = "cuda"
    capped: float = 0.0
    ecc_per_s: float = 0.0
    told_w: float = 300.0
    clock_mhz: int = 1410
    reasons: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def counters(self):
        return self._row(self.clock())

    def timeline(self, since_s):
        ticks = np.arange(np.ceil(since_s * 10), np.floor(self.clock() * 10) + 1) / 10
        return tuple(self._row(float(at_s)) for at_s in ticks)

    def _row(self, at_s):
        told = {
            "energy_j": 5000.0 + 300 * at_s,
            "power_w": self.told_w,
            "power_throttle_s": 100.0 + self.capped * at_s,
            "ecc_uncorrected": int(self.ecc_per_s * at_s),
            "sm_clock_mhz": self.clock_mhz,
            "clock_event_reasons": self.reasons,
        }
        return Counters(at_s, gpu=reading(at_s, **(told | dict.fromkeys(self.absent))))


WORK = Work(name="nothing", dtype="fp32", shape="10x10")


def restless(_now_s, count, generator):
    """Launches so unlike each other that no interval is narrow before the window has passed."""
    return generator.gamma(4.0, 1e-3 / 4, count)


def measured(window_s, cache="warm", **changes):
    device = Gpu(restless, nominal_tflops=10.0, cache_bytes=1 << 20, **changes)
    case = Case(WORK, cache=cache)
    (record,) = measure_group([case], device, Pilots(device, seed=1), Allowance(window_s, 10 * window_s))
    return record


def test_a_record_of_a_long_window_has_its_power():
    record = measured(60.0)
    assert record.verdicts == ("clean",)
    assert record.power_w == pytest.approx(300)
    assert record.energy_j == pytest.approx(300 * sum(batch.elapsed_s for batch in record.batches))
    assert record.energy_integrated_j == pytest.approx(record.energy_j)
    assert record.energy_method == "counter"
    assert record.tflops_per_w == pytest.approx(record.tflops / 300)
    assert record.conditions["gpu_sm_clock_mhz"] == pytest.approx(1410)
    assert record.conditions["gpu_sm_clock_after_mhz"] == 1410
    assert not any("energy" in warning for warning in map(str, record.warnings))


def test_power_by_two_methods_that_disagree_is_flagged():
    record = measured(60.0, told_w=190.0)
    assert record.power_w == pytest.approx(300)
    assert record.energy_integrated_j == pytest.approx(record.energy_j * 190 / 300)
    (said,) = (warning for warning in map(str, record.warnings) if "energy" in warning)
    for word in (
        f"{record.energy_j:,.0f} J",
        f"{record.energy_integrated_j:,.0f} J",
        "57.9%",
        "don't rely on",
    ):
        assert word in said
    assert not any("energy" in warning for warning in measured(60.0, told_w=275.0).warnings)


def test_a_record_of_a_short_window_has_none():
    record = measured(2.0)
    assert (record.power_w, record.energy_j, record.tflops_per_w) == (None, None, None)
    assert record.verdicts == ("clean",)


def test_a_flushed_record_has_no_tflops_per_w():
    record = measured(60.0, cache="flushed")
    assert record.power_w == pytest.approx(300)
    assert record.tflops_per_w is None


def test_a_capped_record_is_power_capped_which_is_normal_and_trusted():
    record = measured(20.0, capped=0.4)
    assert record.verdicts == ("power_capped",)
    assert record.trusted
    assert any(
        "at its power limit for 40.0% of the window, which is normal" in warning
        for warning in map(str, record.warnings)
    )


def test_without_counters_the_reasons_tell_how_long_the_clock_was_held():
    policies = tuple(NOT_COUNTED)
    record = measured(20.0, reasons=("sw_power_cap",), absent=policies)
    assert record.verdicts == ("power_capped",)
    assert any(
        "at its power limit for 100.0% of the window" in warning for warning in map(str, record.warnings)
    )
    assert measured(20.0, absent=policies).verdicts == ("clean",)
    unread = measured(20.0, absent=(*policies, "clock_event_reasons"))
    assert unread.verdicts == ("unknown",)


def test_a_record_with_memory_errors_is_unverified_and_says_so():
    record = measured(20.0, ecc_per_s=1.0)
    assert record.verdict == "unverified"
    assert any("uncorrectable memory errors" in warning for warning in map(str, record.warnings))
