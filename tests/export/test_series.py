"""Prometheus, github-action-benchmark and pytest-benchmark: one figure a case, read back by their readers."""

import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from pytest_benchmark.stats import Stats

from nameplate.base.errors import InputError
from nameplate.device.identity import CudaIdentity
from nameplate.export import pytest_benchmark
from nameplate.export.fields import list_fields, make_entries
from nameplate.export.formats import FORMATS
from nameplate.export.prometheus import name_metric
from nameplate.record import Batch, Record
from nameplate.store.manifest import DeviceEntry

pytestmark = pytest.mark.usefixtures("made_up_figures")

HOSTILE = "<img src=x onerror=alert(1)>\"',;\n} 1\n\x1b[2J\u202eC:\\new\\"
PLAIN = "<img src=x onerror=alert(1)>\"',; } 1 [2JC:\\new\\"


@pytest.fixture
def written():
    """Write runs in a format; returns the text, how many records it holds, and what was left out."""

    def write(name, *runs):
        problems = []
        chosen = list(FORMATS[name].select(make_entries(runs), problems))
        file = io.BytesIO()
        FORMATS[name].write(chosen, file, problems)
        return file.getvalue().decode(), len(chosen), problems

    return write


@pytest.fixture
def mixture(make_record, make_run):
    """A run with a product, a copy without FLOPs, and a skipped case."""
    no_flops = {name: None for name in Record.model_fields if "tflops" in name or "efficiency" in name}
    return make_run(
        make_record(power_w=120.0, tflops_per_w=0.5, tflops_per_w_low=0.49, tflops_per_w_high=0.51),
        make_record(case="memory", workload="memory", flops=None, convention=None, **no_flops),
        make_record(case="other", status="skipped"),
    )


def gpu(name):
    return DeviceEntry(name=name, part=None, evidence="", identity=CudaIdentity(name="A800", index=0))


@pytest.fixture
def three_times(make_record, make_run):
    """One case in three runs, the newest in the middle; in the last its figure is another."""

    def run(day, **record):
        created = f"2026-11-{day}T12:00:00+00:00"
        return make_run(make_record(**record), run=f"run-{day}", created=created)

    return run(20), run(22), run(21, tflops=0.2, tflops_low=0.1, tflops_high=0.3)


def samples(text):
    """Every sample by name and labels, as Prometheus' own reader sees them; no series twice."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            assert sample.timestamp is None, "the textfile collector refuses timestamps"
            found[key] = sample.value
    return found


def value(found, name, **labels):
    (one,) = [
        value
        for (metric, given), value in found.items()
        if metric == name and labels.items() <= dict(given).items()
    ]
    return one


def test_prometheus_reads_every_known_figure_in_base_units(written, mixture):
    text, count, problems = written("prometheus", mixture)
    found = samples(text)
    assert (count, problems) == (3, [])
    case = mixture.records[0].case
    assert value(found, "nameplate_achieved_flops_per_second", case=case) == 0.4e12
    assert value(found, "nameplate_achieved_flops_per_joule", case=case) == 0.5e12
    assert value(found, "nameplate_efficiency_ratio", case=case) == 0.8
    assert value(found, "nameplate_bandwidth_bytes_per_second", case=case) == 1.171875e9
    assert value(found, "nameplate_time_seconds", case=case) == mixture.records[0].time_s
    assert value(found, "nameplate_power_watts", case=case) == 120.0
    assert value(found, "nameplate_launches", case=case) == 200
    began = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    assert value(found, "nameplate_run_timestamp_seconds", case=case) == began


def test_what_is_not_known_has_no_sample(written, mixture):
    found = samples(written("prometheus", mixture)[0])
    of_copy = {name for name, labels in found if ("case", "memory") in labels}
    assert "nameplate_bandwidth_bytes_per_second" in of_copy
    assert "nameplate_achieved_flops_per_second" not in of_copy
    of_skipped = {name for name, labels in found if ("case", "other") in labels}
    assert of_skipped == {
        *(
            "nameplate_record_verdict",
            "nameplate_record_trusted",
            "nameplate_record_measured",
            "nameplate_run_timestamp_seconds",
        ),
        *("nameplate_method", "nameplate_schema_version"),
    }


def test_the_verdict_is_a_sample_to_join_with_and_no_label_of_a_figure(written, mixture):
    found = samples(written("prometheus", mixture)[0])
    assert value(found, "nameplate_record_verdict", case="other", status="skipped", verdict="unknown") == 1
    verdicts = {frozenset(labels) for name, labels in found if name == "nameplate_record_verdict"}
    join = {"hostname", "device", "case"}
    for name, labels in found:
        assert join <= dict(labels).keys()
        assert name == "nameplate_record_verdict" or "verdict" not in dict(labels)
    assert len({tuple(dict(labels)[key] for key in sorted(join)) for labels in verdicts}) == len(verdicts)


def test_each_metric_is_explained_once_as_a_gauge(written, mixture):
    lines = written("prometheus", mixture)[0].splitlines()
    names = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
    assert sorted(line.split()[2] for line in lines if line.startswith("# HELP ")) == sorted(names)
    assert sorted(line[7:] for line in lines if line.startswith("# TYPE ")) == [
        f"{x} gauge" for x in sorted(names)
    ]


def test_every_column_has_a_metric_of_its_own_without_an_abbreviated_unit():
    names = [name_metric(field) for field in list_fields() if field.kind in ("whole", "real")]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"nameplate(_[a-z0-9]+)+", name)
        assert not {"s", "w", "j", "gb", "tflops"} & set(name.split("_")), "promtool's linter refuses them"


def test_hostile_text_is_one_label_value(written, make_record, make_run):
    record = make_record(device=HOSTILE, part=HOSTILE, case=HOSTILE, workload=HOSTILE)
    found = samples(written("prometheus", make_run(record, hostname=HOSTILE))[0])
    assert len({labels for name, labels in found if name != "nameplate_record_verdict"}) == 1
    for _, labels in found:
        label = dict(labels)
        assert [label[name] for name in ("hostname", "device", "part", "case", "workload")] == [PLAIN] * 5


def test_only_the_newest_run_of_a_case_is_written_and_the_rest_is_said(written, three_times):
    for name in ("prometheus", "github-action-benchmark", "pytest-benchmark"):
        text, count, problems = written(name, *three_times)
        assert count == 1
        assert "run-20" not in text
        assert problems == [
            f"run run-{day}: 1 record left out; of one machine, device and case the newest is written"
            for day in (20, 21)
        ]
    found = samples(written("prometheus", *three_times)[0])
    assert value(found, "nameplate_achieved_flops_per_second") == 0.4e12


def test_a_newer_skipped_case_leaves_no_older_figure(written, make_record, make_run):
    older = make_run(make_record(), make_record(case="other"), run="a", created="2026-11-20T12:00:00+00:00")
    newer = make_run(make_record(status="skipped"), run="b", created="2026-11-21T12:00:00+00:00")
    found = samples(written("prometheus", older, newer)[0])
    assert value(found, "nameplate_achieved_flops_per_second", case="other")
    assert {dict(labels)["case"] for name, labels in found if name == "nameplate_time_seconds"} == {"other"}
    (benchmark,) = json.loads(written("github-action-benchmark", older, newer)[0])
    assert benchmark["name"] == "other"


def test_one_case_on_two_machines_and_two_devices_makes_a_series_each(written, make_record, make_run):
    records = make_record(device="cuda:0"), make_record(device="cuda:1")
    runs = [
        make_run(*records, run=host, hostname=host, devices=(gpu("cuda:0"), gpu("cuda:1"))) for host in "ab"
    ]
    found = samples(written("prometheus", *runs)[0])
    assert sum(name == "nameplate_efficiency_ratio" for name, _ in found) == 4


def test_texts_that_differ_in_what_cannot_be_printed_are_one_series(written, make_record, make_run):
    runs = [make_run(make_record(), run=f"r{n}", hostname=host) for n, host in enumerate(("a", "a\x1b"))]
    text, count, problems = written("prometheus", *runs)
    assert samples(text)
    assert (count, len(problems)) == (1, 1)


@pytest.mark.parametrize("created", ["", "yesterday", "2026-13-40T99:00:00"])
def test_a_moment_that_is_none_has_no_sample_and_counts_as_oldest(written, make_record, make_run, created):
    odd = make_run(make_record(), run="odd", created=created)
    found = samples(written("prometheus", odd)[0])
    assert "nameplate_run_timestamp_seconds" not in {name for name, _ in found}
    assert written("prometheus", odd, make_run(make_record()))[2][0].startswith("run odd: ")


def test_a_moment_without_a_zone_is_utc(written, make_record, make_run):
    found = samples(written("prometheus", make_run(make_record(), created="1970-01-01T00:01:00"))[0])
    assert value(found, "nameplate_run_timestamp_seconds") == 60.0


# What github-action-benchmark's extractor for custom tools takes of each entry (BenchmarkResult in its
# extract.ts); an empty list fails the action.
_ACTION = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}


def test_github_action_benchmark_reads_the_figures(written, mixture):
    text, count, problems = written("github-action-benchmark", mixture)
    benchmarks = json.loads(text)
    Draft202012Validator(_ACTION).validate(benchmarks)
    assert (count, problems) == (2, [])
    assert benchmarks[0] == {
        "name": mixture.records[0].case,
        "unit": "TFLOPS",
        "value": 0.4,
        "range": "± 0.01",
        "extra": "efficiency: 80.0%\nnominal_tflops: 0.500\ninterval_kind: within\n"
        f"verdict: clean\ntrusted: True\nmeasured: True\npart: amd-zen4\nrun: {mixture.id}",
    }
    assert (benchmarks[1]["name"], benchmarks[1]["unit"]) == ("memory", "GB/s")
    assert benchmarks[1]["value"] == 1.171875


def test_the_range_is_one_that_the_action_can_scale(written, mixture):
    """It takes what follows ± as a number; JavaScript's knows the forms that Python prints."""
    for benchmark in json.loads(written("github-action-benchmark", mixture)[0]):
        assert float(re.fullmatch(r"± (\d.+)", benchmark["range"])[1]) > 0


def test_a_name_is_the_same_in_every_run(written, three_times):
    names = {json.loads(written("github-action-benchmark", run)[0])[0]["name"] for run in three_times}
    assert names == {three_times[0].records[0].case}


def test_a_name_has_machine_and_device_where_there_are_several(written, make_record, make_run):
    two_devices = make_run(
        make_record(case="c", device="cuda:0"), make_record(case="c", device="cuda:1"), run="a", hostname="m"
    )
    another = make_run(make_record(case="c", device="cuda:0"), run="b", hostname="n")

    def names(*runs):
        return [each["name"] for each in json.loads(written("github-action-benchmark", *runs)[0])]

    assert names(two_devices) == ["cuda:0 c", "cuda:1 c"]
    assert names(another) == ["c"]
    assert names(two_devices, another) == ["m cuda:0 c", "m cuda:1 c", "n cuda:0 c"]


def test_hostile_text_stays_in_its_string(written, make_record, make_run):
    run = make_run(make_record(case=HOSTILE, part=HOSTILE))
    text = written("github-action-benchmark", run)[0]
    (benchmark,) = json.loads(text)
    assert benchmark["name"] == PLAIN
    assert len(benchmark["extra"].splitlines()) == 8
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["github-action-benchmark", "pytest-benchmark"])
def test_runs_without_a_figure_are_refused(written, make_record, make_run, name):
    with pytest.raises(InputError) as caught:
        written(name, make_run(make_record(status="skipped")))
    assert str(caught.value) == "RUN: no record has a figure; expected at least one that was measured"


@pytest.mark.process
def test_pytest_benchmarks_own_compare_prints_the_rounds(written, mixture, tmp_path):
    (tmp_path / "new.json").write_text(written("pytest-benchmark", mixture)[0], encoding="utf-8")
    command = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run(
        [command, "compare", "new.json", "--columns=min,max,rounds,iterations", "--sort=name"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "benchmark 'matmul': 1 tests" in done.stdout
    assert "benchmark 'memory': 1 tests" in done.stdout
    row = re.search(rf"^{re.escape(mixture.records[0].case)}  +(.*)$", done.stdout, re.MULTILINE)[1]
    assert row.split() == ["5.3374", "5.4000", "2", "100"], "milliseconds a launch, of two batches of 100"


def test_a_benchmark_has_what_pytest_benchmark_saves(written, mixture):
    document = json.loads(written("pytest-benchmark", mixture)[0])
    assert document.keys() == {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
    assert document["machine_info"]["node"] == "node17"
    assert document["datetime"] == mixture.manifest.created
    first = document["benchmarks"][0]
    expected = {"group", "name", "fullname", "params", "param", "extra_info", "options", "stats"}
    assert first.keys() == expected
    assert first["stats"].keys() == {*Stats.fields, "data", "iterations"}
    assert first["stats"]["data"] == pytest.approx([0.0054, 0.00533741824])
    assert first["params"]["dtype"] == "bf16"
    info = first["extra_info"]
    assert info["measures"] == "seconds a launch; a round is the mean of one batch of back-to-back launches"
    assert (info["tflops"], info["verdict"], info["power_limit_w"]) == (0.4, "clean", None)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 30])
def test_the_statistics_are_those_that_pytest_benchmark_computes(written, make_record, make_run, count):
    times = [1e-3 * (1 + (7 * n % 11) / 10) for n in range(count - 1)] + [9e-3]
    batches = tuple(Batch(start_s=n, elapsed_s=10 * each, launches=10) for n, each in enumerate(times))
    document = json.loads(written("pytest-benchmark", make_run(make_record(batches=batches)))[0])
    stats = document["benchmarks"][0]["stats"]
    theirs = Stats()
    for each in stats["data"]:
        theirs.update(each)
    assert stats["data"] == pytest.approx(times)
    for name in Stats.fields:
        expected = getattr(theirs, name)
        assert stats[name] == (expected if isinstance(expected, str) else pytest.approx(expected)), name


def test_a_record_without_batches_is_no_benchmark(make_record, make_run):
    run = make_run(make_record(batches=()), make_record(case="other"))
    assert [entry.record.case for entry in pytest_benchmark.select(make_entries([run]), [])] == ["other"]
