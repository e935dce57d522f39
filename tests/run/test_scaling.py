"""Scaling from one device to a job's: a known one of twins is recovered, and shared cores give none."""

from __future__ import annotations

import math

import pytest

from nameplate.chain.from_run import find_chains
from nameplate.chain.link import Link
from nameplate.chain.scaling import extend_scaling, extrapolate
from nameplate.chain.stage import Stage
from nameplate.run.scaling import find_shared, measure_in_turn
from nameplate.suite import Target
from nameplate_kernels import ScaledBlock, TransformerBlock
from nameplate_suites.scaled import SUITE
from twin_peers import TwinPeers

WORLD = 8


@pytest.fixture(scope="module")
def measured():
    """The cases of the suite on eight twins, one of them 3 % slower, and how their truth is reckoned."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "WORLD_SIZE": str(WORLD)}.items():
            patch.setenv(name, value)
        factors = [1.0] * (WORLD - 1) + [1.03]
        peers = TwinPeers(world=WORLD, busbw_gb_s=40.0, factors=factors)
        cases = SUITE.cases(Target("cuda", "nvidia-h200-sxm-141gb", 141 << 30, frozenset({"bf16"})))
        return peers, cases, measure_in_turn(peers, cases, 8.0)


@pytest.mark.long
def test_every_way_of_scaling_is_measured_and_the_known_loss_is_recovered(measured):
    peers, cases, records = measured
    assert [record.status for record in records] == ["ok"] * 6
    block = next(record for record in records if record.workload == "transformer_block")
    alone_s = block.time_s / (sum(peers.factors) / WORLD)
    for case, record in zip(cases[2:], records[2:], strict=True):
        exchange_s = case.workload.link_bytes / peers.busbw_gb_s / 1e9
        truth_s = max(alone_s, exchange_s) if case.workload.overlapped else alone_s + exchange_s
        assert record.time_s == pytest.approx(truth_s * 1.03, rel=0.01)
        assert record.flops == block.flops
        assert record.dimensions["world_size"] == WORLD
    (chain,) = find_chains(records)
    link = chain.links()[-1]
    assert (link.from_, link.to, link.n_from, link.n_to) == (Stage.BLOCK, Stage.SCALED, 1, WORLD)
    best = min(records[2:], key=lambda record: record.time_s)
    assert link.source == best.case
    assert link.low <= block.time_s / best.time_s <= link.high
    assert 0 < (link.high - link.low) / link.value < 0.05


def test_processes_that_share_a_device_are_found():
    assert find_shared(TwinPeers(world=WORLD)) is None
    assert str(find_shared(TwinPeers(world=WORLD, shared=True))).startswith("ranks 0 and 1 share a GPU")


@pytest.mark.long
def test_processes_that_share_a_device_give_no_scaling(measured):
    _peers, cases, _records = measured
    records = measure_in_turn(TwinPeers(world=WORLD, shared=True), cases[:3], 2.0)
    refused = [record for record in records if record.workload == "scaled_block"]
    assert {record.status for record in refused} == {"skipped"}
    assert "ranks 0 and 1 share a GPU" in str(refused[0].reason)
    assert find_chains(records)[0].stages[-1].stage is Stage.BLOCK


def test_what_is_exchanged_is_the_gradients_of_the_block():
    block = TransformerBlock.llama3_8b(4096, "bf16", "forward_backward")
    work = ScaledBlock(block, "data_parallel", False, 8)
    assert work.message_bytes == math.ceil(block.parameters / 8) * 8 * 2
    assert work.link_bytes == work.message_bytes * 2 * 7 // 8
    sharded = ScaledBlock(block, "sharded", True, 8)
    assert sharded.link_bytes == work.message_bytes * 3 * 7 // 8
    assert sharded.shape.endswith("-sharded+overlapped-x8")
    assert "needs a job of 8" in work.unsupported(None)
    for wrong in (("gossip", 8), ("sharded", 1)):
        with pytest.raises(ValueError, match="scaled_block"):
            ScaledBlock(block, wrong[0], False, wrong[1])
    with pytest.raises(ValueError, match="gradients"):
        ScaledBlock(TransformerBlock.llama3_8b(4096, "bf16", "forward"), "sharded", False, 8)


def make_link(nodes, value=0.9):
    return Link(
        Stage.BLOCK,
        Stage.SCALED,
        value,
        "bf16",
        "measured",
        "a case",
        low=value - 0.01,
        high=value + 0.01,
        law="lognormal",
        n_from=1,
        n_to=16,
        nodes=nodes,
    )


def test_a_link_is_carried_on_within_its_fabric_by_a_stated_model():
    link = make_link(nodes=2)
    assert extend_scaling([link], 8) == [link]
    assert extend_scaling([link], None) == [link]
    (more,) = extend_scaling([link], 1024)
    assert more.n_to == 1024
    ring, doubling = (1023 / 1024) / (15 / 16), math.log(1024) / math.log(16)
    assert more.high == pytest.approx(1 / (1 + (1 / 0.91 - 1) * ring))
    assert more.low == pytest.approx(1 / (1 + (1 / 0.89 - 1) * doubling))
    assert more.value == pytest.approx(1 / (1 + (1 / 0.9 - 1) * math.sqrt(ring * doubling)))
    assert "carried on to 1,024" in more.note
    # From one node nothing follows for several; what isn't a scaling isn't one.
    assert extend_scaling([make_link(nodes=1)], 1024) is None
    assert extend_scaling([make_link(nodes=1)], 16) is not None
    assert extend_scaling([], 1024) is None
    free = extrapolate(make_link(nodes=2, value=1.05), 64)
    assert (free.value, free.high) == (1.0, 1.0)


def test_the_suite_needs_a_job(bench, tmp_path):
    ended = bench("run", "scaled", "--results", tmp_path)
    assert ended.status == 2
    assert "torchrun --nproc-per-node 2 --no-python bench run scaled" in ended.err
