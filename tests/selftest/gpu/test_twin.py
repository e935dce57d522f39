"""The looks of `bench selftest --on` at twins, whose truth is known: seen, judged, and made a twin again."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace

import pytest

from nameplate.selftest.gpu import prove
from nameplate.selftest.gpu.check import Outcome
from nameplate.selftest.gpu.checks import check, check_block, check_digests
from nameplate.selftest.gpu.child import LOOKS, look
from nameplate.selftest.gpu.looks import (
    look_at_blocks,
    look_at_costs,
    look_at_digests,
    look_at_load,
    look_at_queue,
)
from nameplate.selftest.gpu.seen import Seen
from nameplate.selftest.gpu.subject import open_subject
from nameplate.selftest.gpu.twin_file import make_twin_file
from nameplate.twin.card import parse_card, read_card

NONSENSE = '[[fault]]\nkind = "nonsense"\nfigure = "{}"\nvalue = {}\n'
pytestmark = pytest.mark.nightly  # torch's tensors without contents take seconds to import, a load as long
H200 = read_card("h200")


@pytest.fixture
def twin(tmp_path):
    """Open a twin of the H200 that differs in these lines of its file."""

    numbers = count()

    def make(text=""):
        file = tmp_path / f"other-{next(numbers)}.toml"
        file.write_text(f'schema = 1\nname = "other"\nbase = "h200"\n{text}', encoding="utf-8")
        return f"twin:{file}"

    return make


def seen_of(name):
    """Everything that is seen of a twin, in this process."""
    subject = open_subject(name)
    found = {look: take(subject) for look, take in LOOKS.items()}
    known = {"device": subject.device.name, "identity": subject.device.identity, "made": "2026-11-29T12:00"}
    return Seen(measured=False, **known, **found)


@pytest.mark.parametrize("places", [300, 1000, 2000])
def test_the_queue_that_a_twin_has_is_found(twin, places):
    lines = f'[launch]\nqueue_kernels = {{ value = {places}, source = "assumed", note = "to be found" }}\n'
    seen = look_at_queue(open_subject(twin(lines)))
    assert seen.depth == pytest.approx(places, abs=3)
    assert seen.host_s == pytest.approx(H200.launch.host_s.value, rel=0.01)


def test_what_launches_cost_on_a_twin_is_found():
    seen = look_at_costs(open_subject("twin:h200"))
    assert seen.host_s == pytest.approx(H200.launch.host_s.value, rel=0.01)
    assert seen.product_host_s == pytest.approx(H200.launch.product_host_s.value, rel=0.01)
    assert seen.event_host_s == pytest.approx(H200.launch.event_host_s.value, rel=0.01)
    assert seen.event_step_s >= H200.launch.event_step_s.value
    assert seen.copy_gb_s == pytest.approx(H200.memory.gb_s.value, rel=0.01)
    assert seen.zeros_tflops == pytest.approx(894, rel=0.01)


def test_a_twin_that_corrupts_fails_by_its_digests_and_its_block(twin):
    name = twin('[[fault]]\nkind = "corrupts"\n')
    found = check_digests(look_at_digests(open_subject(twin())))
    assert found.outcome is Outcome.PASSED
    (wrong, *_) = look_at_blocks(open_subject(name)).passes
    assert check_block(wrong).outcome is Outcome.FAILED
    # A process has its context after one second.
    late = twin('[[fault]]\nkind = "corrupts"\nfrom_s = 1.05\n')
    assert check_digests(look_at_digests(open_subject(late))).outcome is Outcome.FAILED


class Told:
    """A parent that keeps what it is sent."""

    def __init__(self):
        self.messages = []

    def send(self, message):
        self.messages.append(json.loads(json.dumps(message)))


def test_a_look_that_raises_is_told_and_the_next_is_taken(monkeypatch):
    def broken(subject):
        raise RuntimeError("out of memory\nand a trace")

    monkeypatch.setitem(LOOKS, "digests", broken)
    parent = Told()
    look(open_subject("twin:h200"), ["digests", "queue"], parent)
    begun, failed, _, seen = parent.messages
    assert begun == {"begin": "digests"}
    assert failed == {"look": "digests", "failed": "RuntimeError: out of memory"}
    assert seen["seen"]["depth"] == pytest.approx(1000, abs=3)


def test_a_context_that_a_look_breaks_ends_the_process_after_its_answer(twin, monkeypatch):
    ended = []

    def end(status):
        ended.append(status)
        raise SystemExit(status)

    monkeypatch.setattr("nameplate.selftest.gpu.child.os", SimpleNamespace(_exit=end))
    parent = Told()
    subject = open_subject(twin('[[fault]]\nkind = "poisoned"\nfrom_s = 1.2\n'))
    with pytest.raises(SystemExit):
        look(subject, ["queue", "digests"], parent)
    assert ended == [3]
    assert parent.messages[-1]["look"] == "queue"
    assert "illegal memory access" in parent.messages[-1]["failed"]


def test_a_twins_twin_has_its_figures_and_everything_passes():
    seen = seen_of("twin:h200")
    outcomes = {each.name: each.outcome for each in check(seen)}
    assert {name for name, each in outcomes.items() if each is Outcome.LEFT_OUT} == {
        *("context", "product by do_bench", "telemetry's cost")
    }
    assert set(outcomes.values()) == {Outcome.PASSED, Outcome.LEFT_OUT}
    text = make_twin_file(seen, "a1b2c3")
    assert "simulated, not a measurement" in text
    again = parse_card(text, "its twin")
    for table, figure in (
        *(("clock", each) for each in ("idle_mhz", "maximum_mhz", "memory_mhz")),
        *(("power", each) for each in ("limit_w", "default_limit_w", "idle_w")),
        *(("launch", each) for each in ("host_s", "product_host_s", "event_host_s", "queue_kernels")),
        ("memory", "gb_s"),
        ("telemetry", "energy_step_s"),
    ):
        first, second = (getattr(getattr(card, table), figure) for card in (H200, again))
        assert second.value == pytest.approx(first.value, rel=0.02), (table, figure)
        assert second.source == "this-card", (table, figure)
    assert again.clock.ramp_s.value == pytest.approx(H200.clock.ramp_s.value, rel=0.2)
    assert again.power.window_s.value == pytest.approx(H200.power.window_s.value, rel=0.2)
    assert again.launch.latency_s.value == pytest.approx(H200.launch.latency_s.value, rel=0.2)
    product, before = again.compute["bf16"], H200.compute["bf16"]
    assert product.efficiency.value == pytest.approx(before.efficiency.value, rel=0.01)
    assert product.power_w.value == pytest.approx(before.power_w.value, rel=0.02)


@pytest.mark.parametrize(
    ("name", "lines", "failed"),
    [
        (
            "a nonsense clock",
            '[[fault]]\nkind = "nonsense"\nfigure = "sm_clock"\nvalue = 2400\n',
            "driver's figures",
        ),
        (
            "half its energy",
            '[[fault]]\nkind = "nonsense"\nfigure = "energy"\nvalue = 1000\n',
            "driver's figures",
        ),
        (
            "a slow ramp",
            '[clock]\nramp_s = { value = 1.5, source = "assumed", note = "too slow" }\n',
            "clock ramp",
        ),
    ],
    ids=lambda each: each if "\n" not in str(each) else "",
)
def test_a_twin_with_a_fault_fails_the_check_that_it_must(twin, name, lines, failed):
    subject = open_subject(twin(lines))
    seen = Seen(
        device="twin:other",
        identity=subject.device.identity,
        measured=False,
        made="2026-11-29",
        load=look_at_load(subject),
    )
    outcomes = {each.name: each.outcome for each in check(seen)}
    assert outcomes[failed] is Outcome.FAILED, name


# ---- the command, by processes ----


@pytest.mark.process
def test_the_command_on_a_twin_says_first_that_nothing_is_measured(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    ended = bench("selftest", "--on", "twin:h200", "--twin", tmp_path / "again.toml")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[0] == "simulated: a twin of NVIDIA H200, not a measurement"
    assert "FAIL" not in ended.out
    assert read_card(str(tmp_path / "again.toml")).identity.name == "NVIDIA H200"


@pytest.mark.process
def test_a_kernel_that_never_ends_costs_looks_and_not_the_command(bench, tmp_path, twin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(prove, "_LOOK_S", 8.0)
    ended = bench("selftest", "--on", twin('[[fault]]\nkind = "endless"\nfrom_s = 2.0\n'), "--json")
    assert ended.status == 3
    document = json.loads(ended.out)
    assert "no answer within 8.0 s" in document["seen"]["unseen"]["load"]
    outcomes = {each["name"]: each["outcome"] for each in document["checks"]}
    assert outcomes["clock ramp"] == "unknown"
    assert document["measured"] is False
