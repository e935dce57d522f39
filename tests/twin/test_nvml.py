"""The driver of a simulated card, read by the code that reads a real one, on virtual time."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from nameplate.base.errors import InputError
from nameplate.telemetry.gpu import subtract_readings
from nameplate.telemetry.nvml import REQUEST_S, START_S
from nameplate.telemetry.nvml_sources import MOVING
from nameplate.twin import card as cards
from nameplate.twin.driver import Driver
from nameplate.twin.faults import Faults
from nameplate.twin.nvml_process import connect_driver
from nameplate.twin.state import State

ENERGY_STEP_S, POWER_STEP_S = 0.1, 0.1


class Host:
    """The host's time, which passes when told to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


class Past:
    """A card that idles at 100 W, works at 700 W from 2 s on, and is held by its power limit from 3 s on."""

    def at(self, seconds):
        worked_s, held_s = max(seconds - 2.0, 0.0), max(seconds - 3.0, 0.0)
        return State(
            at_s=seconds,
            sm_clock_mhz=1745 if held_s else 1980 if worked_s else 345,
            temperature_c=min(30 + 5 * worked_s, 65),
            memory_temperature_c=70,
            energy_j=100 * min(seconds, 2.0) + 700 * worked_s,
            busy_s=worked_s,
            memory_busy_s=0.25 * worked_s,
            holds=frozenset({"power"}) if held_s else frozenset(),
            held_s={"power": held_s},
            busy=bool(worked_s),
        )


def card_of(*, base="h200", **tables):
    """A card like a shipped one, with other values in some tables."""
    shipped = cards.read_card(base)
    changed = {name: getattr(shipped, name).model_copy(update=values) for name, values in tables.items()}
    return shipped.model_copy(update=changed)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def connect(host):
    """Start the client of a node of such cards; `faults` are TOML."""

    def connect(card=None, faults="", gpus=1, **deadlines):
        card = card or card_of()
        found = cards.parse_card(f"schema = 1\nname = 'sick'\nbase = 'h200'\n{faults}", "sick.toml").fault
        drivers = [
            Driver(card, Past(), host, index, Faults.of_gpu(found, index), lambda: 4 << 30)
            for index in range(gpus)
        ]
        return drivers, connect_driver(drivers, host, host.wait, **deadlines)

    return connect


def sampled(client, host, uuid, until_s):
    client.start_sampling(uuid)
    host.now_s = until_s
    return client.take_readings(uuid)


def test_a_card_is_described_as_its_driver_would(connect):
    (driver,), client = connect()
    (facts,) = client.gpus()
    assert (client.driver, client.cuda_driver, client.count) == ("580.159.04", "13.0", 1)
    assert facts.uuid == f"GPU-{driver.uuid}"
    expected = {
        "name": "NVIDIA H200",
        "pci_id": "10de:2335",
        "memory_bytes": 143771 << 20,
        "cores": 132 * 128,
        "max_sm_clock_mhz": 1980,
        "max_memory_clock_mhz": 3201,
        "power_limit_w": 700.0,
        "mig_mode": False,
        "ecc_mode": True,
        "virtualization_mode": "passthrough",
        "pcie_generation": 5,
    }
    assert {name: getattr(facts, name) for name in expected} == expected
    assert set(facts.absent) == {"serial", "vbios"}


def test_every_figure_of_a_light_reading_is_there(connect, host):
    (driver,), client = connect()
    rows = sampled(client, host, str(driver.uuid), 5.0)
    lacking = {name for name in MOVING if getattr(rows[-1], name) is None}
    assert lacking == set()
    assert rows[-1].clock_event_reasons == ("sw_power_cap",)
    assert rows[0].clock_event_reasons == ("gpu_idle",)


def test_rows_come_ten_times_a_second_of_virtual_time(connect, host):
    (driver,), client = connect()
    rows = sampled(client, host, str(driver.uuid), 60.0)
    gaps_s = [after.at_s - before.at_s for before, after in pairwise(rows)]
    assert len(rows) == pytest.approx(600, abs=3)
    assert gaps_s[1:] == pytest.approx([0.1] * len(gaps_s[1:]), abs=1e-6)  # the first one asks more


def test_hastened_rows_come_as_fast_as_calls_into_the_driver_allow(connect, host):
    (driver,), client = connect(card_of(telemetry={"call_s": cards.Figure(value=1e-3, source="seen")}))
    client.start_sampling(str(driver.uuid))
    client.hasten_sampling(str(driver.uuid), 2.0)
    host.now_s = 2.0
    gaps_s = [after.at_s - before.at_s for before, after in pairwise(client.take_readings(str(driver.uuid)))]
    calls = gaps_s[3] / 2 / 1e-3  # half of the process's time goes into reading
    assert 5 <= round(calls) == pytest.approx(calls)


def test_a_reading_takes_the_asking_host_the_time_of_its_calls(connect, host):
    (driver,), client = connect()
    client.reading(str(driver.uuid))
    begin_s = host.now_s
    client.reading(str(driver.uuid))
    assert 10 * 1e-4 < host.now_s - begin_s < 80 * 1e-4


def test_energy_moves_in_steps_and_power_is_looked_at_in_steps(connect, host):
    (driver,), client = connect()
    client.start_sampling(str(driver.uuid))
    client.hasten_sampling(str(driver.uuid), 3.0)
    host.now_s = 3.0
    rows = client.take_readings(str(driver.uuid))
    assert len(rows) > 250
    for row in rows:
        counted_s = row.at_s // ENERGY_STEP_S * ENERGY_STEP_S
        # The figure is read a few calls after the time that the row bears.
        expected = {Past().at(counted_s).energy_j, Past().at(counted_s + ENERGY_STEP_S).energy_j}
        assert any(row.energy_j == pytest.approx(each, abs=1e-3) for each in expected)
    looked = [row for row in rows if row.at_s > POWER_STEP_S]
    instants = {row.power_w for row in looked}
    averages = {row.power_average_w for row in looked}
    assert min(instants) == min(averages) == pytest.approx(100)
    assert instants <= {100.0, 700.0}  # the 25 ms before a look are of one kind of work here
    assert 400 < max(averages) < 700  # a second's mean lags behind


def test_throttling_is_counted_by_the_numbers_of_each_driver_generation(connect, host):
    for driver_version, expected in (
        ("550.90.07", None),
        ("575.51.03", 0.0),
        ("580.65.06", 0.0),
        ("580.82.07", 0.0),
        ("590.48.01", 0.0),
    ):
        host.now_s = 0.0
        (driver,), client = connect(card_of(identity={"driver": driver_version}))
        before = client.reading(str(driver.uuid))
        host.now_s = 5.0
        change = subtract_readings(before, client.reading(str(driver.uuid)))
        assert change.throttle_s["power"] == pytest.approx(2.0, abs=0.02)
        assert change.throttle_s["thermal"] == 0.0
        assert change.throttle_s["power_brake"] == expected
        if expected is None:
            assert "575" in str(change.absent["power_brake_throttle_s"])


def test_an_old_driver_lacks_functions_and_the_older_ones_answer(connect, host):
    (driver,), client = connect(card_of(identity={"driver": "525.60.13"}))
    host.now_s = 5.0
    reading = client.reading(str(driver.uuid))
    assert (reading.temperature_c, reading.clock_event_reasons) == (45, ("sw_power_cap",))


def test_a_ga100_has_no_average_power(connect, host):
    (driver,), client = connect(card_of(identity={"compute_capability": "8.0"}))
    host.now_s = 5.0
    reading = client.reading(str(driver.uuid))
    assert (reading.power_w, reading.power_source, reading.power_average_w) == (700.0, "instant", None)
    assert "NOT_SUPPORTED" in str(reading.why_absent("power_average_w"))


def test_in_a_container_process_ids_tell_nothing(connect, host):
    (driver,), client = connect(card_of(environment={"container": True}))
    reading = client.reading(str(driver.uuid))
    assert (reading.processes, reading.pids_match, reading.other_processes) == ((), False, None)


def test_on_a_node_of_ones_own_this_process_is_the_only_one(connect):
    (driver,), client = connect()
    reading = client.reading(str(driver.uuid), {os.getpid()})
    assert (reading.processes, reading.own_processes_seen, reading.other_processes) == ((), 1, False)
    assert reading.memory_used_bytes == (4 << 30) + (600 << 20)


def test_a_slice_has_its_cards_clock_and_no_power(connect, host):
    (driver,), client = connect(card_of(environment={"mig": "3g.71gb"}))
    card, piece = client.gpus()
    assert (card.name, card.mig_mode, card.is_mig_slice) == ("NVIDIA H200", True, False)
    assert (piece.name, piece.parent_uuid) == ("NVIDIA H200 MIG 3g.71gb", card.uuid)
    assert piece.uuid == f"MIG-{driver.uuid}"
    host.now_s = 5.0
    reading = client.reading(str(driver.uuid))
    assert reading.sm_clock_mhz == 1745
    for figure in ("power_w", "power_average_w", "energy_j", "gpu_utilization_percent"):
        assert getattr(reading, figure) is None
        assert reading.why_absent(figure) is not None


def test_a_superchips_energy_is_the_modules_and_its_memory_is_managed_elsewhere(connect, host):
    beside = cards.Figure(value=150, source="seen")
    (driver,), client = connect(card_of(telemetry={"beside_w": beside}))
    host.now_s = 2.0
    assert driver.energy_mj() == pytest.approx(2.0 * (100 + 150) * 1e3, rel=0.06)
    found = client.reading(str(driver.uuid))
    # So it is no energy of this GPU; its power is its own.
    assert found.energy_j is None
    assert "whole module's" in str(found.why_absent("energy_j"))
    assert found.power_w == pytest.approx(100)
    assert found.memory_used_bytes is None


# ---- sick ones ----


def test_a_lost_card_has_no_figure_and_its_xid_is_reported(connect, host):
    drivers, client = connect(faults="[[fault]]\nkind = 'lost'\nfrom_s = 3.0\ngpu = 1\n", gpus=2)
    for driver in drivers:
        client.start_sampling(str(driver.uuid))
    host.now_s = 5.0
    healthy, lost = (client.take_readings(str(driver.uuid)) for driver in drivers)
    assert all(row.sm_clock_mhz for row in healthy)
    assert [row.lost for row in lost] == [row.at_s >= 3.0 for row in lost]
    assert client.reading(str(drivers[0].uuid)).xid_errors == ()
    assert client.reading(str(drivers[1].uuid)).lost


def test_an_xid_is_reported_once_and_one_from_before_never(connect, host):
    (driver,), client = connect(faults="[[fault]]\nkind = 'poisoned'\nfrom_s = 3.0\n")
    assert client.reading(str(driver.uuid)).xid_errors == ()
    host.now_s = 4.0
    assert client.reading(str(driver.uuid)).xid_errors == (31,)
    assert client.reading(str(driver.uuid)).xid_errors == (31,)
    client.close()
    _, later = connect(faults="[[fault]]\nkind = 'poisoned'\nfrom_s = 3.0\n")
    assert later.reading(str(driver.uuid)).xid_errors == ()


def test_counted_memory_errors_and_their_xid(connect, host):
    (driver,), client = connect(faults="[[fault]]\nkind = 'corrupts'\nfrom_s = 3\ncounted = 2\n")
    before = client.reading(str(driver.uuid))
    host.now_s = 4.0
    change = subtract_readings(before, client.reading(str(driver.uuid)))
    assert (change.ecc_errors, change.card_xids) == (2, (95,))


def test_a_silent_driver_costs_its_card_a_deadline_and_no_other(connect, host):
    drivers, client = connect(faults="[[fault]]\nkind = 'silent'\nfrom_s = 3\ngpu = 0\n", gpus=2)
    host.now_s = 2.0
    assert all(client.reading(str(driver.uuid)).sm_clock_mhz for driver in drivers)
    host.now_s = begin_s = 3.5
    stuck = client.reading(str(drivers[0].uuid))
    assert "no answer within 2.0 s" in str(stuck.why_absent("sm_clock_mhz"))
    assert host.now_s - begin_s == pytest.approx(REQUEST_S, abs=0.01)
    assert client.reading(str(drivers[1].uuid)).sm_clock_mhz
    assert client.reading(str(drivers[0].uuid)).sm_clock_mhz is None


def test_a_sampler_that_is_stuck_for_long_is_ended_by_its_own_alarm(connect, host):
    (driver,), client = connect(faults="[[fault]]\nkind = 'silent'\nfrom_s = 3\n")
    client.start_sampling(str(driver.uuid))
    host.now_s = 3.0 + START_S + 2.0
    assert client.take_readings(str(driver.uuid)) == ()
    assert "was stuck" in str(client.why_unread(str(driver.uuid)))


@pytest.mark.parametrize(
    ("figure", "value", "lacking"),
    [
        ("sm_clock", 4294967295, "sm_clock_mhz"),
        ("sm_clock", 0, "sm_clock_mhz"),
        ("memory_clock", 4294967295, "memory_clock_mhz"),
        ("temperature", 255, "temperature_c"),
        ("power", 4294967295, "power_w"),
        ("energy", 2**63, "energy_j"),
        ("utilization", 4294967295, "gpu_utilization_percent"),
    ],
)
def test_nonsense_is_absent_with_a_reason_that_quotes_it(connect, host, figure, value, lacking):
    faults = (
        f"[[fault]]\nkind = 'nonsense'\nfrom_s = 3\nfigure = '{figure}'\nvalue = {min(value, 2**63 - 1)}\n"
    )
    (driver,), client = connect(faults=faults)
    rows = sampled(client, host, str(driver.uuid), 5.0)
    assert [getattr(row, lacking) is None for row in rows] == [row.at_s >= 2.99 for row in rows]
    assert rows[-1].absent[lacking].code == "implausible"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("kind = 'melts'", ["fault", "melts"]),
        ("kind = 'cooler'", ["factor", "required"]),
        ("kind = 'slow'\nspeed = 2", ["speed", "2"]),
        ("kind = 'lost'\nfrom_s = -1", ["from_s", "-1"]),
        ("kind = 'lost'\nsince = 1", ["since", "no such key"]),
        ("kind = 'nonsense'\nfigure = 'mood'\nvalue = 1", ["figure", "mood"]),
    ],
)
def test_a_wrong_fault_is_one_sentence(fault, said):
    with pytest.raises(InputError) as raised:
        cards.parse_card(f"schema = 1\nname = 'sick'\nbase = 'h200'\n[[fault]]\n{fault}\n", "sick.toml")
    for part in said:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)
