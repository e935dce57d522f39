"""Both ends of NVML's process without one: its client over a stand-in, and the rows that it samples."""

from __future__ import annotations

import pytest

from nameplate.base.messages import message
from nameplate.base.processes import ChildSilent
from nameplate.telemetry import sampling
from nameplate.telemetry.nvml import NvmlClient
from nameplate.telemetry.nvml_library import Answer, plain_uuid
from nameplate.telemetry.nvml_worker import _SampledGpu

UUIDS = tuple(f"a8000000-0000-4000-8000-00000000000{number}" for number in range(3))
FIRST = UUIDS[0]


class StandIn:
    """A process for three GPUs, which hangs at the requests that `hangs` lists: (what, which GPU)."""

    hangs: set[tuple[str, str]]
    started: list[StandIn]

    def __init__(self, command, *, quiet):
        self.sampled = set()
        self.started.append(self)

    def receive(self, _timeout_s):
        return {"ok": {"driver": "590.48.01", "cuda_driver": "13.1", "count": 3}}

    def ask(self, request, deadline_s):
        what = request["ask"]
        uuid = plain_uuid(request.get("uuid") or UUIDS[request["index"]])
        if (what, uuid) in self.hangs:
            raise ChildSilent(deadline_s)
        if what == "sample":
            self.sampled.add(uuid)  # again is nothing new to it
        if what == "drain":
            return {"ok": {"uuid": uuid, "columns": [], "reasons": [], "rows": [], "left": 0, "dropped": 0}}
        return {"ok": [uuid] if what == "open" else None}

    def close(self):
        pass


@pytest.fixture
def nvml(monkeypatch):
    """A client of such processes, each of which is kept."""
    monkeypatch.setattr(StandIn, "hangs", set(), raising=False)
    monkeypatch.setattr(StandIn, "started", [], raising=False)
    monkeypatch.setattr(sampling, "Child", StandIn)
    with NvmlClient() as client:
        yield client


def test_a_gpu_that_is_lost_is_not_hastened_by_a_new_process(nvml):
    nvml.start_sampling(FIRST)
    StandIn.hangs = {("drain", FIRST)}
    assert nvml.take_readings(FIRST) == ()
    nvml.hasten_sampling(FIRST, 3.0)
    assert len(StandIn.started) == 1


def test_a_gpu_that_is_lost_while_it_is_hastened_is_lost_from_then_on(nvml):
    nvml.start_sampling(FIRST)
    StandIn.hangs = {("hasten", FIRST)}
    nvml.hasten_sampling(FIRST, 3.0)
    assert "no answer within 2.0 s" in str(nvml.why_unread(FIRST))
    assert nvml.reading(FIRST).why_absent("power_w") == nvml.why_unread(FIRST)
    assert len(StandIn.started) == 1


@pytest.mark.parametrize("sick", UUIDS[1:])
def test_a_sampled_gpu_that_hangs_when_it_is_opened_again_costs_no_other_its_samples(nvml, sick):
    for uuid in UUIDS:
        nvml.start_sampling(uuid)
    StandIn.hangs = {("drain", FIRST), ("open", sick)}
    nvml.take_readings(FIRST)
    (healthy,) = {*UUIDS[1:]} - {sick}
    nvml.take_readings(healthy)
    assert StandIn.started[-1].sampled == {healthy}
    assert nvml.why_unread(healthy) is None
    assert "no answer" in str(nvml.why_unread(sick))
    assert len(StandIn.started) <= 5  # the first, and two for each of the two that are lost


def sampled(reasons):
    """A GPU after one sample for each of these reasons why its clock is absent."""
    left = iter(reasons)
    gpu = _SampledGpu("GPU-full", lambda: Answer({"at_s": 1.0}, {"sm_clock_mhz": next(left)}), 0.1)
    for _ in reasons:
        gpu.sampler.take()
    return gpu


def implausible(mhz):
    return message("implausible", figure="sm_clock_mhz", found=mhz, least=1.0, most=1410.0)


def test_nonsense_that_differs_each_time_is_one_reason():
    chunk = sampled([implausible(4_000_000_000 + taken) for taken in range(300)]).drain()
    assert chunk["reasons"] == [{"sm_clock_mhz": implausible(4_000_000_000)}]
    assert {which for *_, which in chunk["rows"]} == {0}


def test_a_chunk_has_the_reasons_of_its_rows_and_no_others():
    texts = [f"NVML_ERROR_UNKNOWN: {taken % 250 if taken < 1000 else 'again'}" for taken in range(1500)]
    gpu = sampled([*texts, implausible(0)])
    chunks = [gpu.drain(), gpu.drain()]
    told = [chunk["reasons"][which]["sm_clock_mhz"] for chunk in chunks for *_, which in chunk["rows"]]
    assert told == [*texts, implausible(0)]
    assert chunks[1]["reasons"] == [{"sm_clock_mhz": texts[-1]}, {"sm_clock_mhz": implausible(0)}]
    assert chunks[1]["left"] == 0
