"""Collecting what processes saw of a GPU: one that hangs or dies costs its look alone; and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nameplate.selftest.gpu.prove
from gpu_seen import IDENTITY, make_context, make_load, make_seen
from nameplate.base.errors import InputError
from nameplate.base.processes import ChildEnded, ChildSilent
from nameplate.selftest.gpu.checks import check
from nameplate.selftest.gpu.child import LOOKS
from nameplate.selftest.gpu.looks import measure_queue
from nameplate.selftest.gpu.prove import Proof, collect
from nameplate.selftest.gpu.seen import Seen
from nameplate.twin.card import read_card

EMPTY = Seen(device="cuda:0", identity=IDENTITY, measured=True, made="now")
FOUND = make_seen()


def answer(look):
    return {"look": look, "seen": getattr(FOUND, look).model_dump(mode="json")}


class Looking:
    """A process that says these things in turn; an error is raised."""

    pid = 11

    def __init__(self, *said):
        self.said, self.closed = list(said), False

    def send(self, message):
        assert message == {"go": True}

    def receive(self, deadline_s=None):
        if not self.said:
            raise ChildEnded(1)
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def close(self):
        self.closed = True


def run(*processes, observer=lambda _: None):
    """Collect from these processes; returns what was seen, and the looks that each was started for."""
    started, left = [], list(processes)

    def start(looks):
        started.append(looks)
        return left.pop(0)

    seen = collect(EMPTY, start, lambda pid: make_context(), observer)
    assert all(each.closed for each in processes[: len(started)])
    return seen, started


def whole(*looks):
    return [{"ready": True}, *(said for look in looks for said in ({"begin": look}, answer(look)))]


def test_all_looks_of_one_process_are_collected():
    begun = []
    seen, started = run(Looking(*whole(*LOOKS)), observer=begun.append)
    assert started == [list(LOOKS)]
    assert begun == list(LOOKS)
    assert seen.unseen == {}
    assert seen == FOUND.model_copy(update={"measured": True, "made": "now", "versions": {}})
    assert check(seen) == check(FOUND)


def test_a_look_that_fails_costs_itself_alone():
    said = whole(*LOOKS)
    place = said.index({"begin": "digests"}) + 1
    said[place] = {"look": "digests", "failed": "RuntimeError: out of memory"}
    seen, started = run(Looking(*said))
    assert len(started) == 1
    assert seen.unseen == {"digests": "RuntimeError: out of memory"}
    assert seen.digests is None
    assert seen.telemetry == FOUND.telemetry


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ChildSilent(120.0), "no answer within 2.0 min"),
        (ChildEnded(-11), "by signal 11"),
        (ChildEnded(70), "with status 70"),
    ],
)
def test_a_look_that_hangs_or_dies_is_left_out_and_another_process_takes_the_rest(error, why):
    first = Looking(*whole("load", "queue"), {"begin": "product"}, error)
    seen, started = run(first, Looking(*whole("digests", "telemetry", "costs", "blocks")))
    assert started == [list(LOOKS), ["digests", "telemetry", "costs", "blocks"]]
    assert list(seen.unseen) == ["product"]
    assert why in seen.unseen["product"]
    assert seen.load == FOUND.load
    assert seen.costs == FOUND.costs


def test_a_process_that_ends_after_its_answer_costs_nothing_more():
    broken = {"look": "load", "failed": "RuntimeError: an illegal memory access"}
    first = Looking({"ready": True}, {"begin": "load"}, broken, ChildEnded(3))
    rest = list(LOOKS)[1:]
    seen, started = run(first, Looking(*whole(*rest)))
    assert started == [list(LOOKS), rest]
    assert list(seen.unseen) == ["load"]


def test_a_process_that_cannot_begin_leaves_everything_unseen_and_nothing_is_tried_again():
    seen, started = run(Looking(ChildSilent(120.0)))
    assert len(started) == 1
    assert set(seen.unseen) == {*LOOKS, "context"}
    assert {each.outcome.name for each in check(seen)} == {"UNKNOWN"}


def test_processes_that_die_again_and_again_come_to_an_end():
    dying = [Looking({"ready": True}, ChildEnded(-9)) for _ in range(9)]
    seen, started = run(*dying)
    assert len(started) == 4
    assert set(seen.unseen) == set(LOOKS)


def test_a_device_that_cannot_be_opened_is_refused():
    with pytest.raises(InputError, match="is in use"):
        run(Looking({"refused": "--device: the GPU is in use"}))


def test_nonsense_in_place_of_an_observation_costs_itself_alone():
    said = [
        ({**each, "seen": {"depth": "deep"}} if each.get("look") == "queue" else each)
        for each in whole(*LOOKS)
    ]
    seen, _ = run(Looking(*said))
    assert "can't be used" in seen.unseen["queue"]
    assert seen.queue is None
    assert seen.load == FOUND.load


def test_an_observation_comes_back_from_json_as_it_was():
    text = json.dumps(FOUND.model_dump(mode="json"))
    assert Seen.model_validate_json(text) == FOUND


# ---- the queue, from times ----


def enqueue(queue, ahead, launch_s, host_s=5e-6, tried=4096, hiccup=None):
    """Times of small launches behind `ahead` large ones, by a host that waits where the queue is full."""
    now_s, ends = 0.0, [launch_s * (number + 1) for number in range(ahead)]
    at_s = [now_s]
    for number in range(tried):
        now_s += host_s + (2e-3 if number == hiccup else 0.0)
        waiting = [end for end in ends if end > now_s]
        if len(waiting) + number >= queue:
            now_s = max(now_s, sorted(ends)[len(ends) - len(waiting) + len(waiting) + number - queue])
        at_s.append(now_s)
        if now_s > ends[-1] - 3 * launch_s:
            break
    return at_s


@pytest.mark.parametrize("queue", [300, 1000, 1022])
@pytest.mark.parametrize("launch_s", [0.7e-3, 1.4e-3, 7e-3])
def test_the_depth_of_a_queue_is_found_from_when_the_host_begins_to_wait(queue, launch_s):
    ahead = min(200, int(np.ceil(0.3 / launch_s)))
    seen = measure_queue(enqueue(queue, ahead, launch_s), 0.0, ahead, launch_s)
    assert seen.depth == pytest.approx(queue, abs=4)
    assert seen.host_s == pytest.approx(5e-6)


def test_a_queue_that_makes_room_for_several_at_once_is_found_too():
    # Full after 1,000, it lets sixteen in whenever sixteen of the large ones have ended.
    spent_s = np.full(4096, 5e-6)
    spent_s[800 : 800 + 200 * 16 : 16] = 16 * 1.4e-3
    seen = measure_queue(np.concatenate(([0.0], np.cumsum(spent_s))), 0.0, 200, 1.4e-3)
    assert seen.depth == pytest.approx(1000, abs=4)
    assert seen.host_s == pytest.approx(5e-6)


def test_a_queue_that_never_fills_has_no_depth_and_one_hiccup_is_no_full_queue():
    at_s = np.arange(4097) * 5e-6
    seen = measure_queue(at_s, 0.0, 200, 1.4e-3)
    assert (seen.tried, seen.depth) == (4096, None)
    at_s[2000:] += 2e-3
    assert measure_queue(at_s, 0.0, 200, 1.4e-3).depth is None


# ---- the command ----


@pytest.fixture
def proven(monkeypatch, bench, tmp_path):
    """Run the command on what was seen, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(seen, *flags):
        def prove(device, observer):
            observer("load")
            return Proof(seen, check(seen))

        monkeypatch.setattr(nameplate.selftest.gpu.prove, "prove", prove)
        return bench("selftest", "--on", "cuda", *flags)

    return run


def test_a_healthy_card_ends_with_0_and_a_line_a_check(proven):
    ended = proven(make_seen())
    assert ended.status == 0
    text = " ".join(ended.out.split())
    for word in ("NVIDIA Test", "context", "power limit", "held for", "queue", "1,022 wait", "118 kernels"):
        assert word in text
    assert "FAIL" not in ended.out


def test_a_failed_check_ends_with_1_and_its_figure(proven):
    hot = make_load(ramp_s=1.2, held_s=1e9)
    ended = proven(make_seen(load=hot, unseen={"queue": "RuntimeError: no"}, queue=None))
    assert ended.status == 1
    assert "FAIL: clock ramp: " in ended.out
    assert "not told: queue: RuntimeError: no" in ended.out


def test_what_could_not_be_told_ends_with_3(proven):
    ended = proven(make_seen(queue=None, unseen={"queue": "RuntimeError: no"}))
    assert ended.status == 3
    assert "1 of 14 checks could not be told" in ended.err
    assert "not told: queue: RuntimeError: no" in ended.out


def test_as_json_it_has_every_check_and_all_that_was_seen(proven):
    seen = make_seen()
    document = json.loads(proven(seen, "--json").out)
    assert (document["failed"], document["untold"], document["measured"]) == (False, False, False)
    assert {each["outcome"] for each in document["checks"]} == {"passed"}
    assert Seen.model_validate(document["seen"]) == seen


def test_what_was_seen_is_written_as_a_twin_beside_the_runs_or_where_it_was_asked_for(proven, tmp_path):
    ended = proven(make_seen())
    (written,) = (tmp_path / "runs").iterdir()
    assert str(written.relative_to(tmp_path)) in ended.err
    assert read_card(str(written)).identity.name == "NVIDIA Test"
    proven(make_seen(), "--twin", tmp_path / "mine.toml")
    assert read_card(str(tmp_path / "mine.toml")).clock.idle_mhz.value == 345


def test_a_cpu_has_no_twin(bench, tmp_path):
    for flags in (["--on", "cpu"], []):
        ended = bench("selftest", *flags, "--twin", tmp_path / "mine.toml")
        assert ended.status == 2
        assert "only a GPU has a twin" in ended.err


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_without_a_gpu_it_is_one_sentence(bench, monkeypatch, device):
    monkeypatch.setattr("nameplate.device.survey._count_torch_gpus", lambda: 0)
    monkeypatch.setattr("nameplate.device.cuda.share_nvml", NoDriver)
    ended = bench("selftest", "--on", device)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert f"--on: no such GPU; got '{device}'" in ended.err


class NoDriver:
    def gpus(self):
        return ()


@pytest.mark.parametrize("device", ["tpu", "cudas", "cuda:x", "all", ""])
def test_another_device_is_refused(bench, device):
    ended = bench("selftest", "--on", device)
    assert ended.status == 2
    assert "expected cpu, cuda, cuda:N or twin:NAME" in ended.err
