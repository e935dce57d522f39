"""A twin's file of what was seen: it is a card, and says how each figure was seen; nothing else is in it."""

from __future__ import annotations

import tomllib

import pytest

from gpu_seen import BEGIN_S, IDENTITY, make_load, make_seen, reading
from nameplate.base.errors import InputError
from nameplate.selftest.gpu.seen import CostsSeen, QueueSeen
from nameplate.selftest.gpu.twin_file import default_path, find_base, make_twin_file, write_twin_file
from nameplate.twin.card import parse_card, read_card

H200 = read_card("h200")


def made(**changes):
    """The text of the file of a card that was seen with these changes, and the card."""
    text = make_twin_file(make_seen(**changes), "a1b2c3")
    return tomllib.loads(text), parse_card(text, "a test")


def test_what_was_seen_is_there_with_how_and_the_rest_is_the_shipped_twins():
    document, card = made()
    assert (document["base"], document["name"]) == ("h200", "nvidia-test-20261129t1200")
    assert document["clock"] == {
        "idle_mhz": {
            "value": 345,
            "source": "this-card",
            "note": "by the driver, after five seconds of rest",
        },
        "maximum_mhz": {"value": 1980, "source": "this-card", "note": "by the driver"},
        "ramp_s": {
            "value": pytest.approx(0.02, abs=0.012),
            "source": "this-card",
            "note": "from the first launch after rest to full speed",
        },
        "memory_mhz": {"value": 3201, "source": "this-card", "note": "by the driver, under load"},
    }
    assert document["memory"]["gb_s"]["value"] == 4300
    assert document["launch"]["queue_kernels"]["value"] == 1022
    assert document["identity"]["driver"] == "580.159.04"
    assert document["environment"] == {"container": False, "virtualization": "passthrough"}
    for table in ("clock", "power", "memory", "launch"):
        assert all(each["source"] == "this-card" and each["note"] for each in document[table].values())
    assert card.identity.memory_mib.value == 141 * 1024
    assert card.heat == H200.heat
    assert card.power.fill == H200.power.fill
    assert card.compute["fp64"] == H200.compute["fp64"]


def test_the_efficiency_is_what_makes_the_twin_as_fast_as_the_card_on_zeros():
    """894 TFLOPS at 1980 MHz is what the shipped twin was made of."""
    _, card = made()
    assert card.compute["bf16"].efficiency.value == pytest.approx(
        H200.compute["bf16"].efficiency.value, abs=2e-3
    )
    _, slower = made(costs=CostsSeen(zeros_tflops=447.0, zeros_mhz=1980.0))
    assert slower.compute["bf16"].efficiency.value == pytest.approx(
        card.compute["bf16"].efficiency.value / 2, rel=1e-3
    )
    document, _ = made(costs=CostsSeen(zeros_tflops=2000.0, zeros_mhz=1980.0))  # above what there is
    assert "efficiency" not in document["compute"]["bf16"]


def test_the_source_says_when_where_by_what_and_whether_it_was_measured():
    document, card = made(measured=True)
    source = document["sources"]["this-card"]
    assert source["date"] == "2026-11-29"
    for word in (
        "bench selftest --on cuda:0",
        "nameplate 0.",
        "torch 2.13.0",
        "cuda 13.0",
        "driver 580.159.04",
    ):
        assert word in source["text"]
    assert "host a1b2c3, 2026-11-29T12:00:00+00:00" in source["text"]
    assert "simulated" not in source["text"]
    simulated = make_twin_file(make_seen(measured=False), "a1b2c3")
    assert "simulated, not a measurement: " in tomllib.loads(simulated)["sources"]["this-card"]["text"]
    assert "# Simulated: " in simulated
    assert IDENTITY.uuid not in simulated
    assert set(card.sources) == {"this-card", *H200.sources}


def test_what_was_not_seen_is_not_there():
    document, card = made(load=None, costs=None, queue=QueueSeen(tried=4096, depth=None, host_s=5e-6))
    assert set(document["clock"]) == {"maximum_mhz"}
    assert set(document["power"]) == {"limit_w", "default_limit_w"}
    assert not {"memory", "launch", "telemetry", "compute"} & set(document)
    assert card.clock.idle_mhz == H200.clock.idle_mhz
    assert card.launch == H200.launch


def test_an_identity_without_the_driver_leaves_its_blanks_to_the_base():
    bare = dict.fromkeys(("driver", "pci_id", "max_sm_clock_mhz", "power_limit_w", "cuda_driver"))
    document, card = made(identity=IDENTITY.model_copy(update=bare))
    assert not {"driver", "pci_id", "cuda_driver"} & set(document["identity"])
    assert card.power.limit_w == find_base(IDENTITY.model_copy(update=bare)).power.limit_w
    assert "driver unknown" in document["sources"]["this-card"]["text"]


def test_a_hostile_name_of_a_card_stays_text():
    name = 'NVIDIA "X"\n[power]\x7f \\ 卡'
    _, card = made(identity=IDENTITY.model_copy(update={"name": name}))
    assert card.identity.name == name


def test_energys_steps_are_seen_by_readings_that_are_closer_than_they():
    def stepping(step_s):
        return make_load(column=lambda after_s: {"energy_j": 1000.0 + 700.0 * (after_s // step_s) * step_s})

    document, _ = made(load=stepping(0.8))
    assert document["telemetry"]["energy_step_s"]["value"] == pytest.approx(0.8, abs=0.11)
    assert "telemetry" not in made(load=stepping(0.01))[0]


def test_a_card_of_which_no_twin_is_shipped_builds_on_the_nearest():
    other = IDENTITY.model_copy(
        update={"name": "NVIDIA X", "pci_id": "10de:ffff", "compute_capability": "12.0"}
    )
    document, card = made(identity=other)
    assert document["base"] == find_base(other).name
    assert "compute" not in document  # another generation's FLOP a clock says nothing
    assert card.identity.pci_id == "10de:ffff"


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({}, "h200"),
        ({"mig_slice": True}, "h200-mig"),
        ({"pci_id": "10de:20f3"}, "a800"),  # not the node of eight
        ({"pci_id": None, "name": "NVIDIA GH200 480GB"}, "gh200"),
        ({"pci_id": None, "compute_capability": "8.9"}, "rtx4090"),
    ],
)
def test_the_base_is_the_twin_of_the_card_by_itself(changes, base):
    assert find_base(IDENTITY.model_copy(update=changes)).name == base


def test_in_a_container_the_twin_is_in_one():
    _, card = made(load=make_load(idle=reading(BEGIN_S - 0.1, pids_match=False)))
    assert card.environment.container


def test_it_is_written_where_it_was_asked_for_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = write_twin_file(make_seen(), tmp_path / "new" / "mine.toml")
    assert read_card(str(path)).identity.name == "NVIDIA Test"
    assert str(default_path(make_seen())) == "runs/twin-nvidia-test-20261129t1200.toml"
    with pytest.raises(InputError, match="--twin"):
        write_twin_file(make_seen(), tmp_path / "new" / "mine.toml" / "below.toml")
