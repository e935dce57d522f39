"""One slowest device of a run, in the report, the leaderboard and the price of a fleet."""

from dataclasses import replace

import pytest

from nameplate.chain.from_run import find_chains, find_furthest, find_slowest
from nameplate.fleet.price import cost
from nameplate.report.leaderboard import make_leaderboard
from nameplate.report.run import run_view
from nameplate.report.sections.answers import describe_run
from nameplate.report.sections.headline import list_answers
from nameplate.store.folder import RecordWriter, create

pytestmark = pytest.mark.usefixtures("made_up_figures")
A800 = "nvidia-a800-sxm4-80gb"


def without(device, *phases, group=None):
    """Leave out a device's products of these phases, or all of its records of a group."""

    def kept(records):
        return [
            each
            for each in records
            if each.device != device
            or not (each.group == group if group else each.workload == "matmul" and each.phase in phases)
        ]

    return kept


def doubted(device, **which):
    """Give a device's records of these fields the verdict `contended`."""
    loud = {"verdict": "contended", "verdicts": ("contended",)}

    def doubt(records):
        return [
            each.model_copy(update=loud)
            if each.device == device and all(getattr(each, name) == value for name, value in which.items())
            else each
            for each in records
        ]

    return doubt


def priced_by(run):
    (found,) = cost("nio", run=run, draws=1_000)
    return found


def test_a_device_without_a_burst_comes_as_far_and_is_the_slowest_everywhere(a800_run, tmp_path):
    """The slower device lacks one record: the report, the leaderboard and the price still go by it."""
    run = a800_run(1.0, 0.5, records=without("cuda:1", "burst"))
    assert find_slowest(find_chains(run.records)).device == "cuda:1"
    assert "cuda:1, the slowest of 2 devices, delivers 38.3% of it" in describe_run(run)
    assert list_answers(run)[-2].value == "32.0% ± 0.3"  # the last is of the whole model
    assert {link.device for link in priced_by(run).chain[1:] if link.run} == {"cuda:1"}
    assert not any("not by" in note for note in priced_by(run).notes)
    (row,) = published(run, tmp_path).results
    assert row.reached[-1].share.value == pytest.approx(0.5 * 205 / 320)


def published(run, root):
    """The leaderboard of this run alone."""
    manifest = run.manifest.model_copy(update={"published": True})
    folder = create(root, manifest)
    for device in {each.device for each in run.records}:
        with RecordWriter(folder, device.replace(":", "-")) as writer:
            for record in run.records:
                if record.device == device:
                    writer.append(record)
    (folder / "DONE").touch()
    return make_leaderboard(root)


@pytest.mark.parametrize(
    ("scales", "left_out", "said"),
    [
        ((1.0, 0.8, 0.9), None, "the slowest of 3 devices"),
        ((1.0, 0.8, 0.9), "cuda:1", "the slowest of the 2 of 3 devices that reach this far"),
        ((1.0, 0.5), "cuda:1", "the only one of 2 devices that reaches this far"),
    ],
)
def test_who_is_called_the_slowest_is_said_with_how_many_reach_as_far(
    scales, left_out, said, a800_run, tmp_path
):
    run = a800_run(*scales, records=without(left_out, group="layer"))
    shown = find_slowest(find_chains(run.records)).device
    assert f"TFLOPS in bf16; {shown}, {said}, delivers" in describe_run(run)
    tables = run_view(run).tables
    titles = [chart.title for table in tables for chart in table.charts]
    assert f"From nominal to delivered in bf16: {shown}, {said}" in titles
    board = published(run, tmp_path)
    assert f"| {said} |" in board.text
    assert (board.results[0].devices, board.results[0].reaching) == (
        len(scales),
        len(find_furthest(find_chains(run.records))),
    )


def test_a_device_without_any_chain_is_one_that_doesnt_reach_as_far(a800_run):
    run = a800_run(1.0, 0.5, records=lambda records: [each for each in records if each.device == "cuda:0"])
    assert "cuda:0, the only one of 2 devices that reaches this far, delivers" in describe_run(run)


def test_a_run_of_one_device_names_none(a800_run):
    assert "this device delivers" in describe_run(a800_run(0.9))


def test_of_equals_by_reach_the_least_share_counts_not_the_least_product(a800_run):
    run = a800_run(1.0, 0.8, 0.6, records=without("cuda:2", group="layer"))
    assert find_slowest(find_chains(run.records)).device == "cuda:1"
    assert list_answers(run)[-2].value == "51.3% ± 0.5"
    assert find_slowest([]) is None


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ({}, "contended"),
        ({"workload": "transformer_block"}, "1 contended"),
        ({"workload": "matmul"}, "contended"),
    ],
    ids=["all", "its block", "its products"],
)
def test_where_the_slowest_isnt_believed_the_price_says_who_it_is_and_why_another_prices(
    which, reason, a800_run
):
    run = a800_run(1.0, 0.5, records=doubted("cuda:1", **which))
    assert find_slowest(find_chains(run.records)).device == "cuda:1"
    priced = priced_by(run)
    assert {link.device for link in priced.chain[1:] if link.run} == {"cuda:0"}
    (note,) = (each for each in priced.notes if each.startswith("not by"))
    assert note.startswith(f"not by cuda:1, the slowest device of run {run.id} by all of its records (32.0%")
    assert "of nominal in transformer block): records behind that figure aren't trusted: " in note
    assert note.endswith(reason)
    only = f"by cuda:0, the only one of 2 devices of this part in run {run.id} that reaches this far"
    assert only in priced.notes


def test_another_parts_devices_are_no_part_of_it(a800_run):
    run = a800_run(1.0, 0.5)
    first, second = run.manifest.devices
    other = second.model_copy(update={"part": "nvidia-h100-sxm5-80gb"})
    records = tuple(
        each.model_copy(update={"part": other.part}) if each.device == "cuda:1" else each
        for each in run.records
    )
    mixed = replace(
        run, manifest=run.manifest.model_copy(update={"devices": (first, other)}), records=records
    )
    priced = priced_by(mixed)
    assert {link.device for link in priced.chain[1:] if link.run} == {"cuda:0"}
    assert not any("slowest" in note for note in priced.notes)
