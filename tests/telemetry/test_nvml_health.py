"""Differences of readings, obstacles in plain sentences, and numbers that can't be."""

from __future__ import annotations

import time
import weakref
from types import SimpleNamespace

import pytest

from nameplate.telemetry.gpu import (
    POLICIES,
    GpuFacts,
    GpuProcess,
    GpuReading,
    decode_clock_event_reasons,
    describe_problems,
    subtract_readings,
)
from nameplate.telemetry.nvml import NvmlClient
from nameplate.telemetry.nvml_faults import LinkErrors, XidLog
from nameplate.telemetry.sampling import Absent
from nvml_clients import FIRST, UUID, read_first

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("no_process_left")]


# ---- differences and health ----


def test_throttling_is_told_by_bits_and_by_growing_times(use_nvml):
    use_nvml(
        "eight_a800",
        "gpu.0.clock_event_reasons = 0x2024\ngpu.0.field.74 = 5000000000 +1000000\n"
        "gpu.0.pcie_replays = 3 +2\ngpu.0.ecc_uncorrected = 1 +1",
    )
    with NvmlClient() as nvml:
        before, after = nvml.reading(FIRST), nvml.reading(FIRST)
    between = subtract_readings(before, after)
    assert after.clock_event_reasons == ("sw_power_cap", "sw_thermal_slowdown", "unknown_0x2000")
    assert between.throttle_reasons == after.throttle_reasons
    assert between.throttle_s["power"] == pytest.approx(0.001)
    assert between.throttle_s["thermal"] == 0.0
    assert between.throttle_s["power_brake"] is None
    assert between.throttled_s == pytest.approx(0.001)
    assert between.energy_j == pytest.approx(30.0)
    assert between.mean_power_w == pytest.approx(30.0 / (after.at_s - before.at_s))
    assert (between.pcie_replays, between.ecc_errors) == (2, 1)
    assert between.other_processes is False
    assert set(between.throttle_s) == set(POLICIES)


def test_a_card_at_its_power_limit_is_no_problem_and_a_hot_one_is():
    def problems(*reasons):
        reading = GpuReading(uuid=FIRST, at_s=1.0, sm_clock_mhz=1200, clock_event_reasons=reasons)
        return describe_problems(GpuFacts(index=0), reading)

    assert problems("sw_power_cap") == []
    (said,) = problems("sw_power_cap", "sw_thermal_slowdown")
    assert "is throttled now at 1200 MHz (sw_power_cap, sw_thermal_slowdown)" in said


def test_xid_errors_remapped_rows_and_link_errors_since_the_last_reading(use_nvml):
    links = "gpu.*.links = 12\ngpu.*.nvlink.0 = 1 +3\ngpu.*.nvlink.1 = 0\ngpu.*.nvlink.2 ="
    use_nvml("eight_a800", links, "gpu.0.xids = 31\ngpu.1.xids = 48")
    with NvmlClient() as nvml:
        facts = nvml.facts(FIRST)
        before = nvml.reading(FIRST)
        assert before.xid_errors == ()  # what came before it was watched isn't told
        nvml.start_sampling(FIRST)
        rows = "gpu.*.field.142 = 1\ngpu.*.field.143 = 2"
        use_nvml("eight_a800", links, rows, "gpu.0.xids = 31 79 94\ngpu.1.xids = 48 63")
        after = nvml.reading(FIRST)
    assert facts is not None
    between = subtract_readings(before, after)
    assert (between.xid_errors, between.card_xids) == ((79, 94), (79, 94))
    assert between.remapped_rows == 3
    # Each of 12 links reads 1, 4, 7, … in turn: 3 more for each of the 12 reads that lie between.
    assert (between.nvlink_replays, between.nvlink_recoveries) == (12 * 12 * 3, 0)
    assert between.nvlink_crc_errors is None
    assert "NVML_ERROR_NOT_SUPPORTED" in str(after.why_absent("nvlink_crc_errors"))
    assert between.has_link_faults
    said = " ".join(describe_problems(facts, after))
    assert "GPU 0 has just reported Xid 79, 94" in said
    assert f"has had 0 recoveries, {after.nvlink_replays} replays and unknown CRC errors" in said


def test_what_a_card_refused_once_keeps_nothing_of_who_asked_alive():
    class Asker:
        """Asks, and fails as often as it asks."""

        def ask(self, log, links):
            for read in (log.read, lambda: links.read("nvlink_replays")) * 3:
                with pytest.raises(Absent, match="no events"):
                    read()

    def refuse(*_call):
        raise Absent("no events")

    library = SimpleNamespace(call=refuse)
    asker = Asker()
    log, links = XidLog(library, None), LinkErrors(library, None)
    asker.ask(log, links)
    gone = weakref.ref(asker)
    del asker
    assert gone() is None


def test_a_card_without_nvlink_or_events_says_why(use_nvml):
    use_nvml("eight_a800", "call.nvmlDeviceRegisterEvents = error 3")
    facts, reading = read_first()
    assert (reading.xid_errors, reading.nvlink_recoveries) == (None, None)
    assert str(reading.why_absent("xid_errors")) == "NVML_ERROR_NOT_SUPPORTED: nvmlDeviceRegisterEvents"
    assert "nvmlDeviceGetNvLinkState" in str(reading.why_absent("nvlink_recoveries"))
    assert describe_problems(facts, reading) == []


def test_a_slice_has_the_xid_errors_of_its_card(use_nvml):
    use_nvml("eight_a800", "mig", "gpu.0.xids = ")
    with NvmlClient() as nvml:
        uuid = str(next(gpu.uuid for gpu in nvml.gpus() if gpu.is_mig_slice))
        use_nvml("eight_a800", "mig", "gpu.0.xids = 95")
        assert nvml.reading(uuid).xid_errors == (95,)


def test_what_isnt_known_of_faults_is_none():
    known = {"xid_errors": (79,), "nvlink_crc_errors": 5, "remapped_rows_correctable": 1}
    between = subtract_readings(_at(0.0), _at(1.0, **known))
    assert (between.xid_errors, between.remapped_rows, between.nvlink_crc_errors) == (None, None, None)
    assert not between.has_link_faults
    # Another process watched since: its list isn't the first one's continuation.
    assert subtract_readings(_at(0.0, xid_errors=(13, 79)), _at(1.0, xid_errors=(48,))).xid_errors is None


@pytest.mark.parametrize(("crc_errors", "is_fault"), [(0, False), (999, False), (1001, True)])
def test_crc_errors_of_a_link_count_from_a_hundred_a_second(crc_errors: int, is_fault: bool):
    between = subtract_readings(_at(0.0, nvlink_crc_errors=7), _at(10.0, nvlink_crc_errors=7 + crc_errors))
    assert between.has_link_faults is is_fault


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0, ()),
        (0x1, ("gpu_idle",)),
        (0x48, ("hw_slowdown", "hw_thermal_slowdown")),
        (0x600, ("board_limit", "reliability")),
        (1 << 40 | 0x80, ("hw_power_brake_slowdown", "unknown_0x10000000000")),
    ],
)
def test_reasons_are_decoded_by_bit(mask: int, names: tuple[str, ...]):
    assert decode_clock_event_reasons(mask) == names


def _at(at_s: float, **figures) -> GpuReading:
    return GpuReading(uuid=FIRST, at_s=at_s, **figures)


def test_a_counter_that_falls_or_runs_ahead_of_the_clock_gives_no_difference():
    before = _at(10.0, energy_j=500.0, power_throttle_s=1.0, thermal_throttle_s=1.0)
    after = _at(20.0, energy_j=20.0, power_throttle_s=900.0, thermal_throttle_s=11.0)
    between = subtract_readings(before, after)
    assert between.energy_j is None
    assert between.mean_power_w is None
    assert str(between.absent["energy_j"]) == "the counter fell from 500 to 20: the driver was reloaded"
    assert between.throttle_s["power"] is None
    assert str(between.absent["power_throttle_s"]) == "the driver counted 15 min in 10 s"
    assert between.throttle_s["thermal"] == 10.0


def test_readings_of_two_gpus_are_not_subtracted():
    with pytest.raises(ValueError, match=r"two GPUs.*000.*001"):
        subtract_readings(_at(0.0), GpuReading(uuid=UUID.format(1), at_s=1.0))


def test_what_is_unknown_at_one_end_is_unknown_between():
    known = _at(0.0, clock_event_reasons=0, processes=(), pids_match=True)
    unknown = GpuReading.without_figures(FIRST, "gone", 1.0)
    between = subtract_readings(known, unknown)
    assert between.other_processes is None
    assert between.throttle_reasons is None
    assert between.throttled_s is None
    assert str(between.absent["energy_j"]) == "not read"
    assert subtract_readings(known.model_copy(update={"energy_j": 1.0}), unknown).absent["energy_j"] == "gone"


_WELL = {"index": 2, "uuid": FIRST, "max_pcie_width": 16, "max_pcie_generation": 4}


@pytest.mark.parametrize(
    ("facts", "reading", "said"),
    [
        ({"persistence_mode": False}, {}, ("persistence mode is off on GPU 2", "nvidia-smi -i 2 -pm 1")),
        ({"compute_mode": "prohibited"}, {}, ("prohibited", "nvidia-smi -i 2 -c DEFAULT")),
        ({"virtualization_mode": "vgpu"}, {}, ("virtual", "bare metal")),
        (
            {"power_limit_w": 300.0, "default_power_limit_w": 400.0},
            {},
            ("300 W, 25.0% below its default", "nvidia-smi -i 2 -pl 400"),
        ),
        ({}, {"ecc_uncorrected": 7}, ("7 uncorrectable memory errors", "nvidia-smi -i 2 -q -d ECC")),
        (
            {},
            {"remapping_pending": True, "remapped_rows_uncorrectable": 3},
            ("3 remapped", "nvidia-smi -i 2 -r"),
        ),
        (
            {},
            {"remapping_failed": True, "remapped_rows_uncorrectable": 8},
            ("(8 remapped so far)", "replaced"),
        ),
        ({}, {"recovery_action": "node_reboot"}, ("asks for node_reboot", "first")),
        (
            {},
            {"clock_event_reasons": 0x40, "sm_clock_mhz": 705, "temperature_c": 91},
            ("throttled now at 705 MHz, 91 °C (hw_thermal_slowdown)", "airflow"),
        ),
        ({}, {"clock_event_reasons": 0x2, "sm_clock_mhz": 1095}, ("held by a setting (1095 MHz", "-rgc")),
        (
            {},
            {"processes": (GpuProcess(pid=77),), "pids_match": True},
            ("1 other process is on GPU 2 (pid 77)", "wait"),
        ),
        ({}, {"pcie_width": 8}, ("x8 of x16", "reseat")),
        (
            {},
            {"pcie_generation": 3, "gpu_utilization_percent": 97},
            ("generation 3 of 4 under load", "BIOS"),
        ),
    ],
)
def test_each_obstacle_is_one_sentence_with_a_number_and_a_next_step(facts, reading, said):
    (sentence,) = describe_problems(GpuFacts(**{**_WELL, **facts}), _at(0.0, **reading))
    assert all(part in sentence for part in said)


def test_what_is_no_obstacle_is_not_mentioned():
    idle = _at(0.0, pcie_generation=1, pcie_width=16, gpu_utilization_percent=0, clock_event_reasons=0x1)
    limits = {"power_limit_w": 399.6, "default_power_limit_w": 400.0}
    assert describe_problems(GpuFacts(**_WELL, **limits), idle) == []


def test_a_gpu_that_tells_nothing_is_an_obstacle():
    facts = GpuFacts(index=2, absent={"*": "NVML_ERROR_UNKNOWN: why"})
    assert describe_problems(facts) == [
        "NVML gives no information about GPU 2 (NVML_ERROR_UNKNOWN: why): see what nvidia-smi says"
    ]
    assert (
        "can't be read (gone)"
        in describe_problems(GpuFacts(**_WELL), GpuReading.without_figures(FIRST, "gone", 0.0))[0]
    )


def test_a_capped_power_limit(use_nvml):
    use_nvml("eight_a800", "gpu.0.power_limit_mw = 250000")
    facts, reading = read_first()
    assert describe_problems(facts, reading) == [
        "the power limit of GPU 0 is 250 W, 37.5% below its default: nvidia-smi -i 0 -pl 400"
    ]


# ---- nonsense, reported as a success ----


@pytest.mark.parametrize(
    ("line", "figure"),
    [
        ("gpu.0.sm_clock_mhz = 4294967295", "sm_clock_mhz"),
        ("gpu.0.sm_clock_mhz = 1900", "sm_clock_mhz"),  # above this card's own maximum, 1410
        ("gpu.0.sm_clock_mhz = 0", "sm_clock_mhz"),
        ("gpu.0.memory_clock_mhz = 4294967295", "memory_clock_mhz"),
        ("gpu.0.temperature_c = 255", "temperature_c"),
        ("gpu.0.field.82 = 4294967295", "memory_temperature_c"),
        ("gpu.0.gpu_utilization = 4294967295", "gpu_utilization_percent"),
        ("gpu.0.pcie_width = 4294967295", "pcie_width"),
        ("gpu.0.field.74 = 18446744073709551615", "power_throttle_s"),
    ],
)
def test_a_number_that_cannot_be_is_absent_and_the_card_is_named(use_nvml, line: str, figure: str):
    use_nvml("eight_a800", line)
    facts, reading = read_first()
    assert getattr(reading, figure) is None
    assert f"for {figure}, which can only be" in str(reading.why_absent(figure))
    (problem,) = describe_problems(facts, reading)
    assert problem.startswith("GPU 0 reports what can't be true")
    assert figure in problem


def test_power_that_cannot_be_is_read_another_way(use_nvml):
    use_nvml("eight_a800", "gpu.0.field.186 = 4294967295")
    _, reading = read_first()
    assert reading.power_w == 61.0  # by the call, which older drivers have too
    use_nvml("eight_a800", "gpu.0.field.186 = 4294967295", "gpu.0.power_mw = 4294967295")
    _, reading = read_first()
    assert reading.power_w is None


def test_a_maximum_that_cannot_be_is_absent_and_bounds_nothing(use_nvml):
    use_nvml("eight_a800", "gpu.0.max_sm_clock_mhz = 4294967295")
    facts, reading = read_first()
    assert facts.max_sm_clock_mhz is None
    assert reading.sm_clock_mhz == 1410


def test_sampled_rows_hold_no_number_that_cannot_be(use_nvml):
    use_nvml("eight_a800", "gpu.0.sm_clock_mhz = 4294967295")
    with NvmlClient() as nvml:
        nvml.start_sampling(FIRST)
        deadline = time.monotonic() + 10
        rows: list[GpuReading] = []
        while not rows and time.monotonic() < deadline:
            rows += nvml.take_readings(FIRST)
    assert rows
    assert all(row.sm_clock_mhz is None and row.temperature_c == 34 for row in rows)


def test_an_energy_counter_that_stands_still_counts_nothing():
    still = subtract_readings(_at(0.0, energy_j=5000.0), _at(2.0, energy_j=5000.0))
    assert (still.energy_j, still.mean_power_w) == (None, None)
    assert str(still.absent["energy_j"]) == "the counter stood still for 2.0 s"
    # Within its step a counter may not have moved yet.
    assert subtract_readings(_at(0.0, energy_j=5000.0), _at(0.05, energy_j=5000.0)).energy_j == 0.0
