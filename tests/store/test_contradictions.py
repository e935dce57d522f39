"""A record that contradicts itself is noticed: it isn't ranked, priced, compared or published."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nameplate.chain.from_run import find_chains
from nameplate.compare.results import results_of_run
from nameplate.record import MAIN_MEMORY, METHOD, Batch, Ends, Spread
from nameplate.specs.rating import Figure, Rating
from nameplate.stats.between import estimate_run_to_run, predict_next, widen
from nameplate.stats.interval import Interval, divide
from nameplate.store.contradictions import find_contradictions
from nameplate.store.folder import find_runs, read_run

ROOT = Path(__file__).parents[2]
DATA = [*find_runs(ROOT / "results"), *find_runs(ROOT / "tests" / "data")]


@pytest.mark.parametrize("folder", DATA, ids=lambda folder: folder.name)
def test_no_committed_record_contradicts_itself(folder):
    run = read_run(folder)
    assert not [record.case for record in run.records if "contradictory" in record.verdicts]
    assert not [problem for problem in run.problems if problem.code == "contradictory_record"]


def times(*names, by=1000):
    def change(fields):
        fields.update({name: fields[name] * by for name in names})

    return change


def setting(**changes):
    return lambda fields: fields.update(changes)


def batches(**changes):
    return lambda fields: fields["batches"][0].update(changes)


TFLOPS = ("tflops", "tflops_low", "tflops_high")
EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high")
BANDWIDTH = ("bandwidth_gb_s", "bandwidth_low_gb_s", "bandwidth_high_gb_s")
FORGED = {
    "tflops × 1000": (times(*TFLOPS), "tflops is 400"),
    "all that is tflops × 1.01": (times(*TFLOPS, *EFFICIENCY, "datasheet_efficiency", by=1.01), "tflops is"),
    "efficiency of 0.99": (setting(efficiency=0.99, efficiency_high=0.995), "efficiency is 0.99"),
    "an interval of its own": (setting(efficiency_low=0.1), "efficiency_low is 0.1"),
    "datasheet_efficiency": (setting(datasheet_efficiency=0.99), "datasheet_efficiency is 0.99"),
    "a smaller nominal": (
        times("nominal_tflops", *(), by=0.5),
        "efficiency is 0.8, but tflops ÷ nominal_tflops gives 1.6",
    ),
    "a smaller nominal than the run's": (
        lambda fields: [
            times("nominal_tflops", by=0.9)(fields),
            times(*EFFICIENCY, by=1 / 0.9)(fields),
        ],
        "nominal_tflops is 0.45, but the manifest gives 0.5",
    ),
    "bandwidth": (times(*BANDWIDTH), "bandwidth_gb_s is 1171.875"),
    "a share of memory's rating": (
        setting(nominal_gb_s=10.0, bandwidth_efficiency=0.99),
        "bandwidth_efficiency is 0.99, but bandwidth_gb_s ÷ nominal_gb_s gives 0.117",
    ),
    "a share of no rating": (setting(bandwidth_efficiency=0.99), "bandwidth_efficiency is 0.99"),
    "more shapes seen than there are": (
        setting(search={"shapes": 3, "seen": 4, "cost_s": 1.0, "grid_s": 1.0}),
        "search.seen is 4, but search.shapes gives 3",
    ),
    "a shorter time": (times("time_s", by=0.5), "time_s is"),
    "more launches": (setting(launches=2000), "launches is 2000, but its batches gives 200"),
    "a batch of another length": (batches(elapsed_s=0.1), "time_s is"),
    "a batch of other launches": (batches(launches=50), "launches is 200, but its batches gives 150"),
    "FLOPs of another product": (times("flops", *TFLOPS, *EFFICIENCY, "datasheet_efficiency"), "2·m·n·k"),
    "a median of its own": (times("tflops_median"), "tflops_median is 405"),
    "a wrong result that is clean": (
        lambda fields: fields["verification"].update(passed=False),
        "the verdict unverified is missing",
    ),
    "no check": (setting(verification=None), "the verdict unverified is missing"),
    "memory errors that are clean": (
        lambda fields: fields["conditions"].update(gpu_ecc_errors=3),
        "the verdict unverified is missing",
    ),
    "another's process that is clean": (
        lambda fields: fields["conditions"].update(gpu_other_processes=2),
        "the verdict contended is missing, though gpu_other_processes requires it",
    ),
    "a host that held it up and is clean": (
        setting(enqueue_share=0.99),
        "the verdict launch_bound is missing",
    ),
    "a wide interval that is clean": (
        setting(tflops_low=0.2, efficiency_low=0.4, bandwidth_low_gb_s=1.171875 / 2),
        "the verdict unstable is missing",
    ),
    "another case": (
        setting(dtype="fp16"),
        "case is 'matmul/bf16/1024x1024x1024/normal/warm/-/torch', but its axes says 'matmul/fp16/",
    ),
    "another method": (setting(method=METHOD - 1), f"method is '{METHOD - 1}', but the manifest says"),
    "another part": (setting(part="nvidia-h200-sxm-141gb"), "part is 'nvidia-h200-sxm-141gb', but"),
}


# What is changed in a record of three processes with a run-to-run interval.
FORGED_SPREAD = {
    "a narrower interval": (
        lambda fields: [fields.update(tflops_low=0.399, tflops_high=0.401), _as_narrow(fields)],
        "tflops_low is 0.399, but spreads gives",
    ),
    "another name for it": (setting(interval_kind="within"), "interval_kind is 'within'"),
    "no name for it": (setting(interval_kind=None), "interval_kind is 'None'"),
    "more processes": (setting(processes=5), "processes is 5, but its batches gives 3"),
    "processes that agree": (
        lambda fields: fields["spreads"]["time_s"].update(by_process=[fields["time_s"]] * 3),
        "spreads is",
    ),
    "a prior of its own": (
        lambda fields: fields["spreads"]["time_s"].update(prior=0.0001, prior_freedom=1000.0),
        "but spreads gives",
    ),
    "nothing to follow from": (setting(spreads={}), "spreads is missing, from which the run-to-run interval"),
    "no interval within": (setting(interval_within=None), "interval_within is missing"),
    "a next run of its own": (
        lambda fields: fields["interval_next"].update(low=0.399),
        "interval_next is 0.399, but spreads gives",
    ),
}


def _as_narrow(fields):
    """Make the intervals that follow from that of TFLOPS as narrow."""
    for figure, low, high in (EFFICIENCY, BANDWIDTH):
        fields[low], fields[high] = (
            fields[figure] * fields[end] / 0.4 for end in ("tflops_low", "tflops_high")
        )


@pytest.fixture
def of_processes(make_record):
    """A record of three processes, as the engine makes it."""
    means_s = [0.0052, 0.0054, 0.0055]
    batches = tuple(
        Batch(start_s=n, elapsed_s=100 * each, launches=100, process=n + 1) for n, each in enumerate(means_s)
    )
    time_s = sum(means_s) / 3
    flops, moved = make_record().flops, make_record().bytes
    found = estimate_run_to_run(means_s)
    within = Interval.from_log_half_width(flops / time_s / 1e12, 0.001)
    shown = widen(within, found.log_half_width)
    following = predict_next(shown)
    ends = {}
    for (figure, low, high), factor in (
        (TFLOPS, 1.0),
        (EFFICIENCY, 1 / 0.5),
        (BANDWIDTH, moved / flops * 1e3),
    ):
        ends |= {figure: shown.value * factor, low: shown.low * factor, high: shown.high * factor}
    return make_record(
        **ends,
        datasheet_efficiency=shown.value / 0.5,
        tflops_median=shown.value,
        time_s=time_s,
        launches=300,
        batches=batches,
        processes=3,
        interval_kind="run_to_run",
        interval_within=Ends(figure="tflops", low=within.low, high=within.high),
        interval_next=Ends(figure="tflops", low=following.low, high=following.high),
        spreads={"time_s": Spread(by_process=means_s)},
        verdict="unstable",
        verdicts=("unstable",),
    )


@pytest.fixture
def forge(make_record, make_manifest, store_run, tmp_path):
    """A finished run of two records with that change to the fields of the first; returns its folder."""

    def store(change, record=None):
        rated = {"bf16": {"tflops": 0.5, "source": "64 FLOP per cycle per core × 2 cores"}}
        (entry,) = make_manifest().devices
        entry = entry.model_validate(entry.model_dump() | {"nominal": rated, "datasheet": rated})
        other = make_record(case="matmul/bf16/512x512x512/normal/warm/-/torch")
        folder = store_run(tmp_path / "runs", record or make_record(), other, devices=(entry,))
        (file,) = folder.glob("records-*.jsonl")
        first, second = file.read_text(encoding="utf-8").splitlines()
        fields = json.loads(first)
        change(fields)
        file.write_text(f"{json.dumps(fields)}\n{second}\n", encoding="utf-8")
        return folder

    return store


def test_what_agrees_is_left_as_it_is(forge, make_record):
    run = read_run(forge(lambda _fields: None))
    assert (run.records[0], run.problems) == (make_record(), ())


def test_the_silicon_and_the_memory_are_those_of_the_runs_device():
    run = read_run(ROOT / "results" / "amd-zen4" / "20261129T174623-standard-36d7")
    entry = run.manifest.devices[0].model_copy(update={"memory_gb_s": 50.0})
    product = next(each for each in run.records if each.silicon_tflops is not None)
    copy = next(each for each in run.records if each.memory_level == MAIN_MEMORY)
    for record, changes in (
        (product, {"silicon_tflops": 2 * product.silicon_tflops}),
        (copy, {"nominal_gb_s": 100.0, "bandwidth_efficiency": copy.bandwidth_gb_s / 100}),
    ):
        assert find_contradictions(record, entry, run.manifest.method) == ()
        (found,) = find_contradictions(record.model_copy(update=changes), entry, run.manifest.method)
        assert f"{next(iter(changes))} is " in str(found)


def test_the_interval_of_a_measured_nominal_is_part_of_the_efficiencys(forge):
    def measured_nominal(fields):
        nominal = fields["nominal_tflops"]
        rated = Interval(nominal, 0.95 * nominal, 1.04 * nominal)
        achieved = Interval(*(fields[name] for name in TFLOPS))
        efficiency = divide(achieved, rated)
        fields |= {"nominal_tflops_low": rated.low, "nominal_tflops_high": rated.high}
        fields |= {"efficiency_low": efficiency.low, "efficiency_high": efficiency.high}

    run = read_run(forge(measured_nominal))
    assert run.problems == ()
    assert "contradictory" not in run.records[0].verdicts


@pytest.mark.parametrize("kind", FORGED)
def test_what_contradicts_what_is_said_and_the_record_is_contradictory(forge, kind):
    change, said = FORGED[kind]
    run = read_run(forge(change))
    forged, other = run.records
    assert (forged.verdict, other.verdict) == ("contradictory", "clean")
    assert said in str(forged.warnings[-1])
    assert [problem.code for problem in run.problems] == ["contradictory_record"]
    assert not forged.trusted


def test_a_fast_forged_record_is_neither_in_the_chain_nor_compared(forge):
    run = read_run(forge(times(*TFLOPS)))
    (chain,) = find_chains(run.records)
    assert [record.case for stage in chain.stages for record in stage.records] == [run.records[1].case]
    forged, other = results_of_run(run).cases
    assert (forged.state, forged.metrics, other.state) == ("wrong", {}, "ok")


def test_a_gate_ends_with_3_and_says_why(bench, forge):
    folder = forge(times(*TFLOPS))
    result = bench("compare", folder, folder)
    assert result.status == 3
    assert "the record contradicts itself: tflops is 400" in result.err


def test_tools_that_compare_dont_get_it(bench, forge):
    folder = forge(times(*TFLOPS))
    for format in ("github-action-benchmark", "pytest-benchmark"):
        result = bench("export", folder, "--format", format)
        assert result.status == 0
        assert "1024x1024x1024" not in result.out
        assert "512x512x512" in result.out
        assert "contradicts itself" in result.err


def test_it_is_shown_and_in_json_and_not_published(bench, forge, tmp_path):
    folder = forge(times(*TFLOPS))
    record = json.loads(bench("show", folder, "--json").out)["records"][0]
    assert (record["verdict"], record["trusted"]) == ("contradictory", False)
    shown = bench("show", folder).out
    assert "Figures of a record contradict each other" in " ".join(shown.split())
    result = bench("publish", folder, "--to", tmp_path / "published")
    assert (result.status, result.out) == (2, "")
    assert "contradicts itself" in result.err
    assert not (tmp_path / "published").exists()


def test_two_different_records_of_a_case_leave_neither_believed(make_record, store_run, tmp_path):
    folder = store_run(tmp_path, make_record())
    (file,) = folder.glob("records-*.jsonl")
    line = file.read_text(encoding="utf-8")
    file.write_text(line + line, encoding="utf-8")
    run = read_run(folder)
    assert (run.records, [each.code for each in run.problems]) == ((make_record(),), ["second_record"])
    file.write_text(
        line + line.replace('"started":"2026-11-22T12', '"started":"2026-11-22T13'), encoding="utf-8"
    )
    run = read_run(folder)
    assert [record.verdict for record in run.records] == ["contradictory"]
    assert [each.code for each in run.problems] == ["second_record", "contradictory_record"]


def test_an_interval_of_processes_follows_from_them(forge, of_processes):
    run = read_run(forge(lambda _fields: None, of_processes))
    assert (run.records[0], run.problems) == (of_processes, ())


@pytest.mark.parametrize("name", FORGED_SPREAD)
def test_an_interval_that_does_not_is_noticed(forge, of_processes, name):
    change, said = FORGED_SPREAD[name]
    record = read_run(forge(change, of_processes)).records[0]
    assert record.verdict == "contradictory"
    assert said in str(record.warnings[-1])


def test_the_nominal_of_work_in_two_dtypes_is_that_of_both_by_time(make_record):
    nominal = {"fp8_e4m3": Figure(2000.0, "a"), "bf16": Figure(1000.0, "b")}
    rating = Rating("x", "made up", nominal=nominal, datasheet=nominal)

    def check(**fields):
        case = "transformer_block/fp8_e4m3/1x8x8-forward/normal/warm/-/torch"
        axes = {"workload": "transformer_block", "dtype": "fp8_e4m3", "shape": "1x8x8-forward"}
        reason = {"code": "text", "values": {"text": "x"}}
        record = make_record(case=case, status="skipped", reason=reason, flops=100, **axes, **fields)
        entry = SimpleNamespace(part=record.part, rating=rating, memory_gb_s=None)
        return [str(each) for each in find_contradictions(record, entry, record.method)]

    mixed = 100 / (80 / 2000 + 20 / 1000)
    rated = {"nominal_tflops": mixed, "datasheet_tflops": mixed}
    assert check(dimensions={"bf16_flops": 20}, **rated) == []
    for dimensions in ({}, {"bf16_flops": 100}, {"bf16_flops": -3}, {"bf16_flops": 60, "fp32_flops": 60}):
        assert len(check(dimensions=dimensions, **rated)) == 2, dimensions
